// Package ticket decides which ServiceNow tickets a callout needs, what stands in them, and what a ticket's fields say about the work:
// open, done, not done, or something that nobody mapped. It does no I/O.
package ticket

import "ticketbridge/handler/correlation"

// A Draft is a ticket to be created. Fields are ServiceNow column names with their values; correlation_id is set by the workflow.
type Draft struct {
	Entry  string // the name of the rule's entry, unique in the rule
	Table  string
	Fields map[string]string

	// Users are the columns that refer to a user, as requested_for does, with the person. The workflow looks the person up and puts the user's
	// sys_id into Fields; a column whose person is not found stays empty.
	Users map[string]Person
}

// A Person is what ServiceNow's users can be searched for; either may be "".
type Person struct {
	PrincipalName string // ServiceNow's user_name, where users come from Entra
	Email         string
}

// A Record is a ticket as ServiceNow has it. Fields holds the values (not the display values) of the columns that were asked for;
// a reference is its sys_id.
type Record struct {
	Table         string
	SysID         string
	Number        string
	CorrelationID string
	Link          string // for people, into the instance's own pages
	Fields        map[string]string
}

// A Choice is what the rules say about one callout.
type Choice struct {
	Rule       string  // the name of the rule that matched
	Drafts     []Draft // in order; the first carries the key itself as correlation_id
	OnRejected string  // OnRejectedDeny, OnRejectedCancel or OnRejectedHold
}

// What to do with the paused request when a ticket was closed and the work was not done. Never: grant it.
const (
	OnRejectedDeny   = "deny"
	OnRejectedCancel = "cancel"
	OnRejectedHold   = "hold"
)

// A Verdict is what a ticket's fields mean.
type Verdict struct {
	Outcome correlation.Outcome
	State   string // the fields that decided, as in "request_state=closed_complete", for the timeline
}

// ValidTable says whether s can be the name of a ServiceNow table.
func ValidTable(s string) bool {
	if s == "" || len(s) > 80 || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}
