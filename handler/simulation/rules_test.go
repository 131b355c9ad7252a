package simulation

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"ticketbridge/handler/callout"
	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/ticket"
)

// rules read from the package's name how many tickets there are to be, what to do when the work was not done, and what to write back.
type rules struct{ builtIn *ticket.Rules }

var tables = []string{"sc_request", "incident", "sc_task"}

// What is written back.
const (
	plain = "plain" // what the built-in rules write
	quiet = "quiet" // no outcome
	full  = "full"  // everything that there is; the first ticket is ordered from the catalog
)

const (
	remind    = 4 * time.Hour
	badge     = "Badge"
	reference = "reference"
	desk      = "Service Desk"
)

func (r rules) Choose(c *callout.Callout, _ time.Time) (ticket.Choice, error) {
	var n int
	var onRejected, after string
	if _, err := fmt.Sscanf(c.Package.Name, "Package %d %s %s", &n, &onRejected, &after); err != nil {
		return ticket.Choice{}, &fault.Error{Op: "choose", Reason: fault.Misconfigured, Detail: "no rule matches"}
	}
	out := ticket.Choice{Rule: fmt.Sprintf("%d-%s-%s", n, onRejected, after), OnRejected: onRejected}
	for i := range n {
		d := ticket.Draft{
			Entry: fmt.Sprintf("entry-%d", i+1), Table: tables[(i+n)%len(tables)],
			Fields: map[string]string{"short_description": "for " + c.Assigned.Target.Name + ": " + c.Answers[0].Value},
		}
		person := ticket.Person{PrincipalName: c.Assigned.Target.PrincipalName, Email: c.Assigned.Target.Email}
		if i == 0 {
			d.Users = map[string]ticket.Person{"requested_for": person}
		}
		if i == 0 && after == full {
			d.Table, d.Groups = "sc_req_item", map[string]string{"assignment_group": desk, "u_other_group": "No Such Desk"}
			d.Item = &ticket.Item{Item: badge, Quantity: n, Variables: map[string]string{"why": c.Answers[0].Value}, RequestedFor: &person, Reference: reference}
		}
		out.Drafts = append(out.Drafts, d)
	}
	return out, nil
}

func (r rules) Judge(_, table string, fields map[string]string) ticket.Verdict {
	return r.builtIn.Judge("", table, fields)
}

func (r rules) Aftercare(rule string) ticket.Aftercare {
	switch {
	case strings.HasSuffix(rule, quiet):
		return ticket.Aftercare{NoOutcomeNote: true}
	case strings.HasSuffix(rule, full):
		return ticket.Aftercare{Detail: ofRule, Cancel: cancelled, Remind: remind}
	default:
		return ticket.Aftercare{}
	}
}

// ofRule is the detail of a rule that has not thought of work which was not done.
func ofRule(tickets []correlation.Ticket, outcome correlation.Outcome) (string, error) {
	if outcome == correlation.Rejected {
		return "", errors.New("the template fails")
	}
	return fmt.Sprintf("%d by the rule", len(tickets)), nil
}

// cancelled are the columns that close a ticket.
func cancelled(table string) map[string]string {
	switch table {
	case "sc_request":
		return map[string]string{"request_state": "closed_cancelled", "active": "false"}
	case "incident":
		return map[string]string{"state": "8", "active": "false"}
	default:
		return map[string]string{"state": "4", "active": "false"}
	}
}
