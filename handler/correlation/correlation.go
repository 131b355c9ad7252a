// Package correlation is the domain: one stage instance of an access package assignment request that Entra has paused (or has only told
// us about), the tickets opened for it, the states it goes through, the moves that are legal, and its timeline. It does no I/O.
package correlation

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"ticketbridge/handler/fault"
)

// A State is where a correlation is in its life.
type State string

// The states. Who moves a correlation in and out of each:
const (
	// Received: the callout is remembered; no ticket yet. In: Accept. Out: Advance, when it has chosen the tickets.
	Received State = "received"
	// Opening: an intent to create tickets is on record, so a retry looks for them before it creates. In and out: Advance.
	Opening State = "opening"
	// Open: every ticket exists, and not all are closed. In: Advance. Out: Advance, told by a close notification or by the sweep.
	Open State = "open"
	// Closed: every ticket was seen closed and the outcome is known. In and out: Advance.
	Closed State = "closed"
	// Resuming: an intent to resume or to deny is on record, so a retry asks Graph first. In and out: Advance.
	Resuming State = "resuming"

	Resumed   State = "resumed"   // Graph was told to go on. An end.
	Denied    State = "denied"    // Graph was told to deny or cancel. An end.
	Done      State = "done"      // launch and continue: the tickets were opened and have closed; nothing to resume. An end.
	Expired   State = "expired"   // the deadline passed first. An end.
	Withdrawn State = "withdrawn" // the request no longer waits in Entra. An end.

	// Held: a person has to decide (an outcome that nobody mapped, a deleted ticket, a denial that Graph refused, an operator who said so).
	// In: Advance, an operator. Out: an operator.
	Held State = "held"
	// Failed: retries are used up, or the error is permanent. In: Advance. Out: an operator.
	Failed State = "failed"
)

// States lists all states in the order of a life.
var States = []State{Received, Opening, Open, Closed, Resuming, Resumed, Denied, Done, Expired, Withdrawn, Held, Failed}

// moves are the legal ones that the handler makes by itself. Any state that is not an end may also become Failed (a permanent error), Expired or
// Withdrawn (what is true in Entra does not ask how far we are). What an operator may do is in operator.go.
var moves = map[State][]State{
	Received: {Opening, Done},
	Opening:  {Open},
	Open:     {Closed, Held},
	Closed:   {Resuming, Done, Held},
	Resuming: {Resumed, Denied, Held},
}

// Ended says whether s is one of the five ends: nothing happens to the correlation any more.
func (s State) Ended() bool {
	switch s {
	case Resumed, Denied, Done, Expired, Withdrawn:
		return true
	default:
		return false
	}
}

// NeedsPerson says whether the correlation waits for an operator.
func (s State) NeedsPerson() bool { return s == Held || s == Failed }

// Known says whether s is a state of this version.
func (s State) Known() bool {
	return slices.Contains(States, s)
}

// MayBecome says whether the handler by itself may move a correlation from s to next.
func (s State) MayBecome(next State) bool {
	if s.Ended() || s.NeedsPerson() {
		return s.NeedsPerson() && (next == Expired || next == Withdrawn)
	}
	if next == Failed || next == Expired || next == Withdrawn {
		return true
	}
	return slices.Contains(moves[s], next)
}

// An Outcome is what a ticket, or all of them together, came to.
type Outcome string

// The outcomes. Only Fulfilled ever resumes a request as granted.
const (
	Pending   Outcome = "pending"   // the ticket is open
	Fulfilled Outcome = "fulfilled" // closed, and the work was done
	Rejected  Outcome = "rejected"  // closed, and the work was not done
	Unknown   Outcome = "unknown"   // closed, deleted or inactive in a way that nobody mapped: a person decides
)

// A Ticket is one ticket of a correlation: first a plan, then a record in ServiceNow.
type Ticket struct {
	Entry  string            `json:"entry"`            // the name of the rule's entry it comes from
	Table  string            `json:"table"`            // ServiceNow table
	Fields map[string]string `json:"fields,omitempty"` // the fields to create it with, as planned; kept until it exists
	Item   *Item             `json:"item,omitempty"`   // what to order, where it comes from the Service Catalog; kept until it exists

	SysID      string  `json:"sysId,omitempty"` // "" until it exists
	Number     string  `json:"number,omitempty"`
	Link       string  `json:"link,omitempty"`       // for people
	State      string  `json:"state,omitempty"`      // what was last read, as in "request_state=closed_complete"
	Outcome    Outcome `json:"outcome,omitempty"`    // what that means
	CloseNotes string  `json:"closeNotes,omitempty"` // what was read there when it had closed, cut, where the rule's detail for approvers may use it

	// What was written back.
	Told     bool  `json:"told,omitempty"`     // it was left open, and the ending is on it, or cannot be put there
	Owed     bool  `json:"owed,omitempty"`     // it has closed, and is to get a work note with what became of the request
	Noted    State `json:"noted,omitempty"`    // the state that the last such note was about, whether or not it could be put there
	Reminded bool  `json:"reminded,omitempty"` // it was told of the deadline, or cannot be
	Reminds  int   `json:"reminds,omitempty"`  // reminders of which nobody knows whether they are there

	Newer map[string]json.RawMessage `json:"-"` // what a newer version wrote about it, by name: it is stored again as it is
}

// An Item is an order from the Service Catalog, as planned.
type Item struct {
	Item         string            `json:"item"`                   // the catalog item: its sys_id, or its name
	Quantity     int               `json:"quantity"`               // 1 or more
	Variables    map[string]string `json:"variables,omitempty"`    // by name
	RequestedFor *Person           `json:"requestedFor,omitempty"` // whom it is for; nil for the integration user itself. One who is not found is not named in the order

	// Reference is the name of the variable that carries the correlation_id: with it an order is found again of which nobody heard the answer, before
	// the requested item has its correlation_id.
	Reference string `json:"reference,omitempty"`
}

// A Person is what ServiceNow's users can be searched for; either may be "".
type Person struct {
	PrincipalName string `json:"principalName,omitempty"` // ServiceNow's user_name, where users come from Entra
	Email         string `json:"email,omitempty"`
}

// An Event is one line of the timeline: a move, an attempt, an answer or an operator's action. It is never changed.
type Event struct {
	Seq        int       // place in the timeline, from 1, without gaps
	At         time.Time // by the clock of the instance that wrote it
	Kind       string    // one of the Event kinds
	From, To   State     // of a move; equal otherwise
	By         string    // "ticketbridge", or the operator
	Text       string    // one sentence; ids, ticket numbers and reasons, no personal data
	Reason     fault.Reason
	Invocation string // the host's invocation id, to find the logs
}

// Event kinds.
const (
	EventMove     = "move"     // the state changed
	EventAttempt  = "attempt"  // something was tried and did not work; it will be tried again
	EventSeen     = "seen"     // something was learnt: a ticket's state, a notification, a repeated call
	EventOperator = "operator" // a person did something
)

// byHandler is who events are by unless a person is.
const byHandler = "ticketbridge"

// SchemaVersion is written on each stored correlation, so that a binary can tell a newer one's.
const SchemaVersion = 1

// A Correlation is the state of one stage instance. It is changed by its methods only, which also write the timeline; whoever stores it
// stores Pending() in the same transaction.
type Correlation struct {
	Key     Key
	State   State
	Since   time.Time // when the state was entered
	Reason  string    // why it is held or failed, or what it waits for: one sentence for people
	Advice  string    // what the operator can do; may be empty
	Created time.Time
	Version string // the storage's ETag; "" before it was stored
	Schema  int

	// From the callout.
	Stage       string
	RequestType string
	Waits       bool      // the callout said that the request waits for a resume
	MayWait     bool      // it did not say so, and the stage can wait: Graph is asked before anything is resumed
	Deadline    time.Time // when Entra gives up waiting; zero when nothing waits
	PackageID   string
	PackageName string
	CatalogID   string
	CatalogName string
	TargetName  string // shown in the console, never logged

	// What was opened and how it came out.
	Rule        string // the rule that chose the tickets
	OnRejected  string // what to do when the work was not done: deny, cancel or hold
	Tickets     []Ticket
	Outcome     Outcome
	ResumeWith  string // while Resuming: "resume", "deny" or "cancel"
	Earlier     string // what ResumeWith was before an operator decided otherwise: it may have reached Graph
	CalloutHash string // SHA-256 of the callout's body, to tell a repeated call from a changed one

	// The step in work.
	Attempts    int       // failed attempts of the current step
	Deaths      int       // of workers in a row that took the lease and never said what came of it
	NextAttempt time.Time // not before; zero when the step may be tried now
	LeaseOwner  string    // the invocation that works on the intent
	LeaseUntil  time.Time
	LastError   string
	LastReason  fault.Reason
	From        State     // while Failed or Held: the state in which that happened
	Settles     time.Time // until then ServiceNow may be finishing a create whose answer was unclear: nobody looks for the ticket before

	Due    time.Time // when the sweep should look at it
	Events int       // events ever written; the next gets Events+1

	pending []Event
}

// New makes a correlation in state Received, with its first event.
func New(key Key, now time.Time, text, invocation string) *Correlation {
	c := &Correlation{Key: key, State: Received, Since: now, Created: now, Schema: SchemaVersion}
	c.add(Event{At: now, Kind: EventMove, To: Received, Text: text, Invocation: invocation})
	return c
}

// Pending returns the events that were added since the correlation was loaded or Flushed.
func (c *Correlation) Pending() []Event { return c.pending }

// Flushed tells the correlation that it is stored, its pending events with it, under the given version.
func (c *Correlation) Flushed(version string) {
	c.Version = version
	c.pending = nil
}

func (c *Correlation) add(e Event) {
	c.Events++
	e.Seq = c.Events
	if e.By == "" {
		e.By = byHandler
	}
	c.pending = append(c.pending, e)
}

// Move changes the state, clears what belonged to the step before, and writes the timeline. A move that is not legal is fault.Internal
// and changes nothing.
func (c *Correlation) Move(to State, now time.Time, text, invocation string) error {
	if !c.State.MayBecome(to) {
		return &fault.Error{Op: "move " + c.Key.String(), Reason: fault.Internal, Detail: fmt.Sprintf("from %s to %s is not a legal move", c.State, to)}
	}
	c.enter(to, now, Event{At: now, Kind: EventMove, Text: text, Invocation: invocation})
	return nil
}

func (c *Correlation) enter(to State, now time.Time, e Event) {
	e.From, e.To = c.State, to
	switch {
	case !to.NeedsPerson():
		c.From = ""
	case !c.State.NeedsPerson():
		c.From = c.State
	}
	if to != c.State {
		c.State, c.Since = to, now
	}
	c.Attempts, c.Deaths, c.NextAttempt = 0, 0, time.Time{}
	c.LastError, c.LastReason = "", ""
	c.Reason, c.Advice = "", ""
	c.Release()
	if to.Ended() || to == Held || to == Failed {
		c.Reason = e.Text
	}
	c.add(e)
}

// Note adds to the timeline that something was learnt.
func (c *Correlation) Note(now time.Time, text, invocation string) {
	c.add(Event{At: now, Kind: EventSeen, From: c.State, To: c.State, Text: text, Invocation: invocation})
}

// Attempted records a failed attempt of the current step and when the next may be made.
func (c *Correlation) Attempted(now, next time.Time, err error, invocation string) {
	c.Attempts++
	c.Deaths = 0
	c.NextAttempt = next
	c.LastReason, c.LastError = fault.ReasonOf(err), err.Error()
	c.advise(fault.Advice(err))
	c.Release()
	c.add(Event{
		At: now, Kind: EventAttempt, From: c.State, To: c.State, Reason: c.LastReason, Invocation: invocation,
		Text: fmt.Sprintf("attempt %d did not work: %s; next not before %s", c.Attempts, err, next.UTC().Format(time.RFC3339)),
	})
}

// Recovered records that what did not work works again.
func (c *Correlation) Recovered(now time.Time, invocation string) {
	if c.Attempts == 0 && c.LastReason == "" {
		return
	}
	text := "works again"
	if c.Attempts > 0 {
		text = fmt.Sprintf("works again after %d failed attempts", c.Attempts)
	}
	c.add(Event{At: now, Kind: EventSeen, From: c.State, To: c.State, Invocation: invocation, Text: text})
	c.Forget()
}

// Forget forgets the attempts of the current step: it is done, or given up.
func (c *Correlation) Forget() {
	c.Attempts, c.Deaths, c.NextAttempt, c.LastError, c.LastReason = 0, 0, time.Time{}, "", ""
	c.advise("")
}

// advise says what the operator can do about the last attempt. Where a person has to decide, the advice is about that.
func (c *Correlation) advise(text string) {
	if !c.State.NeedsPerson() {
		c.Advice = text
	}
}

// Fail moves to Failed, saying why and what to do.
func (c *Correlation) Fail(now time.Time, text, advice string, reason fault.Reason, invocation string) error {
	if !c.State.MayBecome(Failed) {
		return &fault.Error{Op: "move " + c.Key.String(), Reason: fault.Internal, Detail: fmt.Sprintf("from %s to %s is not a legal move", c.State, Failed)}
	}
	c.enter(Failed, now, Event{At: now, Kind: EventMove, Text: text, Reason: reason, Invocation: invocation})
	c.Advice, c.LastReason = advice, reason
	return nil
}

// Hold moves to Held, saying what a person has to decide.
func (c *Correlation) Hold(now time.Time, text, advice, invocation string) error {
	if err := c.Move(Held, now, text, invocation); err != nil {
		return err
	}
	c.Advice = advice
	return nil
}

// Lease takes the right to act on the current intent until the given time. Whoever stores it with the ETag it was read with has it.
func (c *Correlation) Lease(owner string, until time.Time) {
	c.LeaseOwner, c.LeaseUntil = owner, until
}

// Release gives the lease back.
func (c *Correlation) Release() { c.LeaseOwner, c.LeaseUntil = "", time.Time{} }

// Abandoned says whether somebody else than owner had the lease, and let it run out without a word.
func (c *Correlation) Abandoned(owner string, now time.Time) bool {
	return c.LeaseOwner != "" && c.LeaseOwner != owner && !now.Before(c.LeaseUntil)
}

// Died records that a worker took the lease and never said what came of it: as a rule, its process ended. It forgets the lease.
func (c *Correlation) Died(now time.Time, invocation string) {
	c.Deaths++
	c.Release()
	c.add(Event{
		At: now, Kind: EventAttempt, From: c.State, To: c.State, Reason: fault.Internal, Invocation: invocation,
		Text: fmt.Sprintf("whoever was at work on it ended without a word (time %d in a row)", c.Deaths),
	})
}

// LeasedBy returns for how much longer somebody else than owner has the lease; 0 when nobody has.
func (c *Correlation) LeasedBy(owner string, now time.Time) time.Duration {
	if c.LeaseOwner == "" || c.LeaseOwner == owner || !now.Before(c.LeaseUntil) {
		return 0
	}
	return c.LeaseUntil.Sub(now)
}

// Untold returns the places of the tickets that exist, were still open when the correlation ended without them (it expired, was withdrawn, or
// a person decided), and do not know it yet.
func (c *Correlation) Untold() []int {
	if !c.State.Ended() || c.State == Done {
		return nil
	}
	var out []int
	for i, t := range c.Tickets {
		if t.SysID != "" && !t.Told && (t.Outcome == Pending || t.Outcome == "") {
			out = append(out, i)
		}
	}
	return out
}

// Owe puts on record that the tickets which have closed are to get a work note with what the current state says of the request: those that exist, and
// have none about this state yet.
func (c *Correlation) Owe() {
	for i := range c.Tickets {
		t := &c.Tickets[i]
		t.Owed = t.SysID != "" && t.Outcome != Pending && t.Outcome != "" && t.Noted != c.State
	}
}

// Owing returns the places of the tickets that are to get such a note now. While it is on the way to another state they wait for that.
func (c *Correlation) Owing() []int {
	if !c.State.Ended() && c.State != Held {
		return nil
	}
	var out []int
	for i, t := range c.Tickets {
		if t.Owed {
			out = append(out, i)
		}
	}
	return out
}

// Forgive forgets what is owed.
func (c *Correlation) Forgive() {
	for i := range c.Tickets {
		c.Tickets[i].Owed = false
	}
}

// Settled says whether nothing is left to do: the correlation ended, and its tickets know it.
func (c *Correlation) Settled() bool {
	return c.State.Ended() && len(c.Untold()) == 0 && len(c.Owing()) == 0
}

// Judge returns what the tickets came to together: Unknown when one is unknown and none is open, Rejected when one was rejected,
// Fulfilled when all were fulfilled, Pending while one is open or not yet created. No tickets is Unknown: nothing was done.
func Judge(tickets []Ticket) Outcome {
	if len(tickets) == 0 {
		return Unknown
	}
	out := Fulfilled
	for _, t := range tickets {
		switch t.Outcome {
		case Fulfilled:
		case Rejected:
			if out == Fulfilled {
				out = Rejected
			}
		case Unknown:
			out = Unknown
		default:
			return Pending
		}
	}
	return out
}
