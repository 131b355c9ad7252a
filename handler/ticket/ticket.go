// Package ticket decides which ServiceNow tickets a callout needs, what stands in them, and what a ticket's fields say about the work:
// open, done, not done, or something that nobody mapped. But for reading the rules file it does no I/O.
package ticket

import (
	"strings"
	"time"

	"ticketbridge/handler/correlation"
)

// A Draft is a ticket to be created. Fields are ServiceNow column names with their values; correlation_id is set by the workflow.
type Draft struct {
	Entry  string // the name of the rule's entry, unique in the rule
	Table  string
	Fields map[string]string

	// Users are the columns that refer to a user, as requested_for does, with the person. The workflow looks the person up and puts the user's
	// sys_id into Fields; a column whose person is not found stays empty.
	Users map[string]Person

	// Groups are the columns that refer to a group, as assignment_group does, with its name. They are looked up as users are.
	Groups map[string]string

	// Item is what to order from the Service Catalog; nil for a record of Table. What is ordered is a requested item: Table is then "sc_req_item",
	// and Fields are set on it after it was ordered.
	Item *Item
}

// An Item is an order from the Service Catalog, as the plan keeps it.
type Item = correlation.Item

// A Person is whom an item, or a column, is for, as the plan keeps him.
type Person = correlation.Person

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

// Aftercare is what is written back for the tickets of a rule. The zero value is what a rule has that says nothing of it.
type Aftercare struct {
	// Detail is shown to approvers in Entra with the answer, in place of ticketbridge's own words; nil for these. It is given the tickets as they were read.
	Detail func(tickets []correlation.Ticket, outcome correlation.Outcome) (string, error)

	// NoOutcomeNote leaves out the work note with what became of the request, which a closed ticket gets.
	NoOutcomeNote bool

	// Cancel are the fields that close a ticket of the table when its request was withdrawn or has expired; nil for a work note only.
	Cancel func(table string) map[string]string

	// Remind is how long before the deadline an open ticket gets a work note that says so; 0 for none.
	Remind time.Duration
}

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

// ValidSysID says whether s is 32 hexadecimal digits, as a ServiceNow sys_id is.
func ValidSysID(s string) bool {
	return len(s) == 32 && strings.Trim(s, "0123456789abcdefABCDEF") == ""
}
