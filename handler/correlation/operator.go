package correlation

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"ticketbridge/handler/fault"
)

// An Order is what a person wants done with a correlation: who, why and when. It goes on the timeline with what was done.
type Order struct {
	By  string // the person: one line of at most 200 characters
	Why string // the reason: one line of at most 1000 characters, without personal data
	At  time.Time
}

// Decisions that a person may make in Entra's stead, as Correlation.ResumeWith has them.
const (
	ByHandResume = "resume"
	ByHandDeny   = "deny"
)

// The moves of an operator. Each returns whether it changed anything: what is so already is no error, and writes nothing. Their errors are
// fault.Invalid for an order without a person or a reason; fault.Conflict, with After, while somebody is acting on an intent, who must not be
// disturbed; fault.Refused for a move that the state does not allow. An error changes nothing.
//
//	            retry                     hold      resume, deny
//	received    is tried now              held      refused: it would have to be held first
//	opening     is tried now              held      refused, likewise
//	open        its tickets are read now  held      resuming
//	closed      is tried now              held      resuming
//	resuming    is tried now              held      already, or refused when it is the other
//	held        where it was held in      already   resuming
//	failed      where it failed in        held      resuming
//	an end      refused                   refused   already, or refused

// RetryBy makes the handler try again: one that failed or is held goes back to the state where it was, with its attempts forgotten; one that waits
// for its next attempt may be tried now. One that is held for what its tickets came to goes back to Open, where those of them that were not
// fulfilled are read anew. What Opening and Resuming have tried before they look for before they act.
func (c *Correlation) RetryBy(o Order) (changed bool, err error) {
	const op = "retry by hand"
	if err := c.takes(op, o); err != nil {
		return false, err
	}
	to, anew := c.State, false
	if c.State.NeedsPerson() {
		to = c.stoppedIn()
		if anew = c.State == Held && to == Closed && c.Outcome != Fulfilled; anew {
			to = Open
		}
	}
	c.letSettle()
	next := time.Time{}
	if to == Opening {
		next = c.Settles
	}
	switch {
	case to != c.State:
		c.enter(to, o.At, o.event("to be tried again by hand, in "+string(to)))
	case c.Attempts > 0 || !c.NextAttempt.Equal(next):
		what := "to be tried now, by hand"
		if c.Attempts > 0 { // none when nobody was served, and so nothing was tried
			what += fmt.Sprintf(", after failed attempt %d", c.Attempts)
		}
		c.enter(to, o.At, o.event(what))
	default:
		return false, nil
	}
	c.NextAttempt = next
	if anew {
		c.Outcome = ""
		for i := range c.Tickets {
			if c.Tickets[i].Outcome != Fulfilled {
				c.Tickets[i].Outcome = Pending
			}
		}
	}
	return true, nil
}

// HoldBy keeps the handler from doing anything until an operator says retry, resume or deny. What becomes of the request in Entra ends it all the same.
func (c *Correlation) HoldBy(o Order) (changed bool, err error) {
	if err := c.takes("hold by hand", o); err != nil {
		return false, err
	}
	if c.State == Held {
		return false, nil
	}
	c.letSettle()
	c.enter(Held, o.At, o.event("held by hand"))
	c.Advice = "Nothing is done with it until somebody says retry, resume or deny."
	return true, nil
}

// DecideBy puts a person's decision, ByHandResume or ByHandDeny, on record as the intent to tell Graph, whatever the tickets came to.
func (c *Correlation) DecideBy(o Order, decision string) (changed bool, err error) {
	op := decision + " by hand"
	if decision != ByHandResume && decision != ByHandDeny {
		return false, &fault.Error{Op: "decide by hand", Reason: fault.Invalid, Field: "decision", Detail: fmt.Sprintf("%q is neither resume nor deny", clip(decision, 20))}
	}
	if err := o.check(op); err != nil {
		return false, err
	}
	if c.State == Resuming && c.ResumeWith == decision || c.State == Resumed && decision == ByHandResume || c.State == Denied && decision == ByHandDeny {
		return false, nil
	}
	if err := c.takes(op, o); err != nil {
		return false, err
	}
	if !c.Waits && !c.MayWait {
		return false, &fault.Error{Op: op, Reason: fault.Refused, Detail: "nothing waits in Entra at this stage, so there is nothing to " + decision}
	}
	switch c.State {
	case Open, Closed, Held, Failed:
	default:
		return false, &fault.Error{
			Op: op, Reason: fault.Refused, Detail: fmt.Sprintf("it is %s, and the handler is at work on it", c.State), Advice: "Hold it first; then " + decision + " it.",
		}
	}
	if c.State.NeedsPerson() && c.stoppedIn() == Resuming && c.ResumeWith != decision {
		c.Earlier = c.ResumeWith
	}
	c.ResumeWith = decision
	c.enter(Resuming, o.At, o.event("Graph is to be told to "+decision+", by hand"))
	return true, nil
}

// takes says whether an operator may move c at all.
func (c *Correlation) takes(op string, o Order) error {
	if err := o.check(op); err != nil {
		return err
	}
	if c.State.Ended() {
		return &fault.Error{Op: op, Reason: fault.Refused, Detail: fmt.Sprintf("it has ended: %s since %s", c.State, c.Since.UTC().Format(time.RFC3339))}
	}
	if c.Schema > SchemaVersion || !c.State.Known() {
		return &fault.Error{
			Op: op, Reason: fault.Refused, Detail: fmt.Sprintf("a newer version wrote it, in state %s", clip(string(c.State), 40)), Advice: "Use that version's commands.",
		}
	}
	if left := c.LeasedBy("", o.At); left > 0 {
		what := "its tickets are being created"
		switch {
		case c.State == Resuming:
			what = "Graph is being told"
		case c.State != Opening:
			what = "work notes are being written on its tickets"
		}
		left = (left + time.Second - 1).Truncate(time.Second)
		return &fault.Error{
			Op: op, Reason: fault.Conflict, After: left, Detail: fmt.Sprintf("%s this moment, which takes at most %s more", what, left),
			Advice: fmt.Sprintf("Try again in %s.", left),
		}
	}
	return nil
}

// letSettle keeps the end of a lease under which tickets were created: it ended by the operator's clock, which may be ahead of the handler's.
func (c *Correlation) letSettle() {
	if c.State == Opening && c.LeaseOwner != "" && c.LeaseUntil.After(c.Settles) {
		c.Settles = c.LeaseUntil
	}
}

// stoppedIn returns the state in which c failed or was held. Versions that did not store it left enough to see it.
func (c *Correlation) stoppedIn() State {
	switch {
	case c.From != "":
		return c.From
	case len(c.Tickets) == 0:
		return Received
	case slices.ContainsFunc(c.Tickets, func(t Ticket) bool { return t.SysID == "" }):
		return Opening
	case c.ResumeWith != "":
		return Resuming
	case Judge(c.Tickets) == Pending:
		return Open
	default:
		return Closed
	}
}

// event is the line of the timeline for what was done.
func (o Order) event(what string) Event {
	return Event{At: o.At, Kind: EventOperator, By: o.By, Text: what + ": " + o.Why}
}

func (o Order) check(op string) error {
	bad := func(field, detail string) error {
		return &fault.Error{Op: op, Reason: fault.Invalid, Field: field, Detail: detail}
	}
	line := func(field, s string, most int) error {
		switch {
		case strings.TrimSpace(s) == "":
			return bad(field, "is missing: it goes on the timeline")
		case utf8.RuneCountInString(s) > most:
			return bad(field, fmt.Sprintf("has more than %d characters", most))
		case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
			return bad(field, "is not one line of text")
		}
		return nil
	}
	if err := line("by", o.By, 200); err != nil {
		return err
	}
	if strings.EqualFold(strings.TrimSpace(o.By), byHandler) {
		return bad("by", "is what the handler itself goes by")
	}
	return line("reason", o.Why, 1000)
}
