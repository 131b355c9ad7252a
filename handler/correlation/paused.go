package correlation

import (
	"time"

	"ticketbridge/handler/fault"
)

// Paused records that the current step was not tried, since the other side serves nobody at the moment, and when it will be looked at again. It
// is no attempt. The timeline gets a line only when the one before does not say the same.
func (c *Correlation) Paused(now, next time.Time, err error, invocation string) {
	known := c.LastReason == fault.Paused
	c.NextAttempt = next
	c.LastReason, c.LastError = fault.ReasonOf(err), err.Error()
	c.advise(fault.Advice(err))
	c.Release()
	if !known {
		c.add(Event{At: now, Kind: EventAttempt, From: c.State, To: c.State, Reason: c.LastReason, Invocation: invocation, Text: "waits: " + err.Error()})
	}
}
