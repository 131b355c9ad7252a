package ticket

import (
	"time"

	"ticketbridge/handler/callout"
)

// Rules choose tickets and judge them.
type Rules struct{}

// BuiltIn returns the rules that apply without a tickets file.
func BuiltIn() *Rules { return &Rules{} }

// Choose returns the tickets that the callout needs.
func (r *Rules) Choose(c *callout.Callout, deadline time.Time) (Choice, error) { panic("being written") }

// Judge returns what a ticket's fields say.
func (r *Rules) Judge(rule, table string, fields map[string]string) Verdict { panic("being written") }

// Columns returns the columns to read to judge a ticket of the table.
func (r *Rules) Columns(table string) []string { panic("being written") }
