package simulation

import (
	"fmt"
	"time"

	"ticketbridge/handler/callout"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/ticket"
)

// rules read from the package's name how many tickets there are to be, and what to do when the work was not done.
type rules struct{ builtIn *ticket.Rules }

var tables = []string{"sc_request", "incident", "sc_task"}

func (r rules) Choose(c *callout.Callout, _ time.Time) (ticket.Choice, error) {
	var n int
	var onRejected string
	if _, err := fmt.Sscanf(c.Package.Name, "Package %d %s", &n, &onRejected); err != nil {
		return ticket.Choice{}, &fault.Error{Op: "choose", Reason: fault.Misconfigured, Detail: "no rule matches"}
	}
	out := ticket.Choice{Rule: fmt.Sprintf("%d-%s", n, onRejected), OnRejected: onRejected}
	for i := range n {
		d := ticket.Draft{
			Entry: fmt.Sprintf("entry-%d", i+1), Table: tables[(i+n)%len(tables)],
			Fields: map[string]string{"short_description": "for " + c.Assigned.Target.Name + ": " + c.Answers[0].Value},
		}
		if i == 0 {
			d.Users = map[string]ticket.Person{"requested_for": {PrincipalName: c.Assigned.Target.PrincipalName, Email: c.Assigned.Target.Email}}
		}
		out.Drafts = append(out.Drafts, d)
	}
	return out, nil
}

func (r rules) Judge(_, table string, fields map[string]string) ticket.Verdict {
	return r.builtIn.Judge("", table, fields)
}

func (r rules) Aftercare(string) ticket.Aftercare { return ticket.Aftercare{} }
