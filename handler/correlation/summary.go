package correlation

import (
	"strings"
	"time"

	"ticketbridge/handler/fault"
)

// A Summary is what a list shows of a correlation, and what the index of open ones keeps: enough to answer "what is waiting, and why"
// without reading the correlation itself.
type Summary struct {
	Key         Key
	State       State
	Since       time.Time // when the state was entered
	Created     time.Time
	Deadline    time.Time // zero when nothing waits
	Due         time.Time // when the sweep should look at it
	Stage       string
	RequestType string
	PackageName string
	CatalogName string
	TargetName  string // shown in the console, never logged
	Tickets     string // numbers, separated by ", "
	Reason      string
	Advice      string
	Attempts    int
	LastReason  fault.Reason
}

// Summary returns c's line in a list.
func (c *Correlation) Summary() Summary {
	var numbers []string
	for _, t := range c.Tickets {
		if t.Number != "" {
			numbers = append(numbers, t.Number)
		}
	}
	reason := c.Reason
	if reason == "" {
		reason = c.LastError
	}
	return Summary{
		Key: c.Key, State: c.State, Since: c.Since, Created: c.Created, Deadline: c.Deadline, Due: c.Due, Stage: c.Stage,
		RequestType: c.RequestType, PackageName: c.PackageName, CatalogName: c.CatalogName, TargetName: c.TargetName,
		Tickets: strings.Join(numbers, ", "), Reason: reason, Advice: c.Advice, Attempts: c.Attempts, LastReason: c.LastReason,
	}
}
