package correlation

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ticketbridge/handler/fault"
)

// documented are the moves that docs/architecture.md lists for the handler by itself, written down here once more: the test holds the code to the document.
var documented = map[State][]State{
	"received":  {"opening", "done", "failed", "expired", "withdrawn"},
	"opening":   {"open", "failed", "expired", "withdrawn"},
	"open":      {"closed", "held", "failed", "expired", "withdrawn"},
	"closed":    {"resuming", "done", "held", "failed", "expired", "withdrawn"},
	"resuming":  {"resumed", "denied", "held", "failed", "expired", "withdrawn"},
	"resumed":   {},
	"denied":    {},
	"done":      {},
	"expired":   {},
	"withdrawn": {},
	"held":      {"expired", "withdrawn"},
	"failed":    {"expired", "withdrawn"},
}

var documentedEnds = []State{"resumed", "denied", "done", "expired", "withdrawn"}

// A model is a correlation as the documents have it, in the plainest way: what can be seen of it, and nothing else.
type model struct {
	state, stopped State // stopped is where it was when it was held or failed
	since          time.Time
	attempts       int
	deaths         int // of workers that had the lease
	next           time.Time
	owner          string
	until          time.Time
	settles        time.Time
	trouble        fault.Reason // of the last attempt
	reason, advice bool         // whether there is one
	waits          bool
	outcomes       []Outcome
	together       Outcome
	decision       string
	earlier        string
	timeline       []line
}

// A line is an event of the timeline as far as the model says it.
type line struct {
	kind     string
	from, to State
	by       string
}

func (m *model) ended() bool       { return slices.Contains(documentedEnds, m.state) }
func (m *model) needsPerson() bool { return m.state == "held" || m.state == "failed" }

func (m *model) write(kind string, to State, by string) {
	m.timeline = append(m.timeline, line{kind, m.state, to, by})
}

// enter is what every move does: whatever belonged to the step before is forgotten.
func (m *model) enter(kind string, to State, by string, now time.Time) {
	m.write(kind, to, by)
	if to == "held" || to == "failed" {
		if !m.needsPerson() {
			m.stopped = m.state
		}
	} else {
		m.stopped = ""
	}
	if to != m.state {
		m.since = now
	}
	m.state, m.attempts, m.deaths, m.next, m.trouble, m.owner, m.until = to, 0, 0, time.Time{}, "", "", time.Time{}
	m.reason, m.advice = m.ended() || m.needsPerson(), false
}

// order says what becomes of a person's order before the state is asked; "" lets it through.
func (m *model) order(o Order, now time.Time) fault.Reason {
	switch {
	case o.By == "" || o.Why == "":
		return fault.Invalid
	case m.ended():
		return fault.Refused
	case m.owner != "" && now.Before(m.until):
		return fault.Conflict
	}
	return ""
}

func (m *model) letSettle() {
	if m.state == "opening" && m.owner != "" && m.until.After(m.settles) {
		m.settles = m.until
	}
}

func (m *model) retry(o Order, now time.Time) (changed bool, refusal fault.Reason) {
	if r := m.order(o, now); r != "" {
		return false, r
	}
	to, anew := m.state, false
	if m.needsPerson() {
		to = m.stopped
		if m.state == "held" && to == "closed" && m.together != "fulfilled" {
			to, anew = "open", true
		}
	}
	m.letSettle()
	var next time.Time
	if to == "opening" {
		next = m.settles
	}
	if to == m.state && m.attempts == 0 && m.next.Equal(next) {
		return false, ""
	}
	m.enter("operator", to, o.By, now)
	m.next = next
	if anew {
		m.together = ""
		for i, o := range m.outcomes {
			if o != "fulfilled" {
				m.outcomes[i] = "pending"
			}
		}
	}
	return true, ""
}

func (m *model) hold(o Order, now time.Time) (changed bool, refusal fault.Reason) {
	if r := m.order(o, now); r != "" {
		return false, r
	}
	if m.state == "held" {
		return false, ""
	}
	m.letSettle()
	m.enter("operator", "held", o.By, now)
	m.advice = true
	return true, ""
}

func (m *model) decide(o Order, decision string, now time.Time) (changed bool, refusal fault.Reason) {
	if o.By == "" || o.Why == "" {
		return false, fault.Invalid
	}
	if m.state == "resuming" && m.decision == decision || m.state == "resumed" && decision == "resume" || m.state == "denied" && decision == "deny" {
		return false, ""
	}
	if r := m.order(o, now); r != "" {
		return false, r
	}
	if !m.waits || !slices.Contains([]State{"open", "closed", "held", "failed"}, m.state) {
		return false, fault.Refused
	}
	if m.needsPerson() && m.stopped == "resuming" && m.decision != decision {
		m.earlier = m.decision
	}
	m.decision = decision
	m.enter("operator", "resuming", o.By, now)
	return true, ""
}

// The state machine does what the documents say, whatever it is asked to do and in which order.
func TestTheStateMachineDoesWhatItsDocumentsSayWhateverIsAskedOfIt(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		for range rapid.IntRange(1, 50).Draw(t, "lives") {
			live(t)
		}
	})
}

func live(t *rapid.T) {
	now := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	key, err := NewKey(request, stage)
	if err != nil {
		t.Fatal(err)
	}
	c := New(key, now, "received", "i")
	m := &model{state: "received", since: now, timeline: []line{{"move", "", "received", "ticketbridge"}}}
	m.waits = rapid.Bool().Draw(t, "waits")
	c.Waits = m.waits
	if m.waits && rapid.Bool().Draw(t, "does not say so") {
		c.Waits, c.MayWait = false, true
	}
	var stored []Event
	for range rapid.IntRange(1, 40).Draw(t, "steps") {
		now = now.Add(rapid.SampledFrom([]time.Duration{0, time.Second, time.Minute, 3 * time.Minute}).Draw(t, "time passes"))
		step(t, c, m, now, &stored)
		agree(t, c, m, now, stored)
	}
}

// step does one thing to both.
func step(t *rapid.T, c *Correlation, m *model, now time.Time, stored *[]Event) {
	trouble := &fault.Error{Reason: rapid.SampledFrom([]fault.Reason{fault.Unreachable, fault.Throttled, fault.Unclear}).Draw(t, "reason"), Advice: "do something"}
	o := Order{By: rapid.SampledFrom([]string{"kim", "kim", "kim", ""}).Draw(t, "by"), Why: "because", At: now}
	ordered := func(changed bool, err error, should bool, refusal fault.Reason) {
		if changed != should || fault.ReasonOf(err) != refusal {
			t.Fatalf("an order changed it: %t (%v), and should: %t (%s)", changed, err, should, refusal)
		}
		if e, ok := errors.AsType[*fault.Error](err); ok && refusal == fault.Conflict && e.After <= 0 {
			t.Fatalf("%v does not say when to come again", err)
		}
	}
	switch what := rapid.SampledFrom([]string{
		"move", "move", "move", "move on", "move on", "move on", "hold", "fail", "note", "attempt", "pause", "recover", "lease", "lease", "lease", "death", "death", "release", "outcomes", "settle", "store",
		"retry by hand", "hold by hand", "decide by hand",
	}).Draw(t, "what"); what {
	case "move", "move on", "hold", "fail":
		to := rapid.SampledFrom(States).Draw(t, "to")
		if way := documented[m.state]; what == "move on" && len(way) > 0 {
			to = way[0]
		}
		var err error
		switch what {
		case "hold":
			to = "held"
			err = c.Hold(now, "why", "what to do", "i")
		case "fail":
			to = "failed"
			err = c.Fail(now, "why", "what to do", trouble.Reason, "i")
		default:
			err = c.Move(to, now, "moved", "i")
		}
		legal := slices.Contains(documented[m.state], to)
		if legal != (err == nil) || !legal && !fault.Is(err, fault.Internal) {
			t.Fatalf("%s to %s, which is legal: %t; %v", m.state, to, legal, err)
		}
		if !legal {
			return
		}
		m.enter("move", to, "ticketbridge", now)
		m.advice = what == "hold" || what == "fail"
		if what == "fail" {
			m.trouble = trouble.Reason
		}
		if to == "resuming" {
			m.decision = rapid.SampledFrom([]string{"resume", "deny", "cancel"}).Draw(t, "decision")
			c.ResumeWith = m.decision
		}
	case "note":
		c.Note(now, "seen", "i")
		m.write("seen", m.state, "ticketbridge")
	case "attempt":
		next := now.Add(rapid.SampledFrom([]time.Duration{time.Second, time.Hour}).Draw(t, "next"))
		c.Attempted(now, next, trouble, "i")
		m.attempts++
		m.deaths = 0
		m.next, m.trouble, m.advice, m.owner, m.until = next, trouble.Reason, m.advice || !m.needsPerson(), "", time.Time{}
		m.write("attempt", m.state, "ticketbridge")
	case "pause":
		c.Paused(now, now.Add(time.Minute), &fault.Error{Reason: fault.Paused, Detail: "nobody is served"}, "i")
		if m.trouble != fault.Paused {
			m.write("attempt", m.state, "ticketbridge")
		}
		m.next, m.trouble, m.advice, m.owner, m.until = now.Add(time.Minute), fault.Paused, m.advice && m.needsPerson(), "", time.Time{}
	case "recover":
		c.Recovered(now, "i")
		if m.attempts > 0 || m.trouble != "" {
			m.write("seen", m.state, "ticketbridge")
			m.attempts, m.deaths, m.next, m.trouble, m.advice = 0, 0, time.Time{}, "", m.advice && m.needsPerson()
		}
	case "lease":
		who := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "who")
		until := now.Add(rapid.SampledFrom([]time.Duration{time.Second, 2 * time.Minute}).Draw(t, "for"))
		c.Lease(who, until)
		m.owner, m.until = who, until
	case "death": // somebody finds that the lease has run out
		abandoned := m.owner == "b" && !now.Before(m.until)
		if c.Abandoned("a", now) != abandoned {
			t.Fatalf("abandoned: %t; the lease is %q's until %s, and it is %s", !abandoned, m.owner, m.until, now)
		}
		if abandoned {
			c.Died(now, "i")
			m.deaths++
			m.owner, m.until = "", time.Time{}
			m.write("attempt", m.state, "ticketbridge")
		}
	case "release":
		c.Release()
		m.owner, m.until = "", time.Time{}
	case "outcomes": // what was read of the tickets
		m.outcomes = rapid.SliceOfN(rapid.SampledFrom([]Outcome{"pending", "fulfilled", "rejected", "unknown"}), 0, 3).Draw(t, "outcomes")
		c.Tickets = nil
		for i, o := range m.outcomes {
			c.Tickets = append(c.Tickets, Ticket{SysID: fmt.Sprint(i), Outcome: o})
		}
		m.together = Judge(c.Tickets)
		c.Outcome = m.together
	case "settle": // an unclear create
		c.Settles = now.Add(time.Minute)
		m.settles = c.Settles
	case "store":
		*stored = append(*stored, c.Pending()...)
		c.Flushed("v")
	case "retry by hand":
		should, refusal := m.retry(o, now)
		changed, err := c.RetryBy(o)
		ordered(changed, err, should, refusal)
	case "hold by hand":
		should, refusal := m.hold(o, now)
		changed, err := c.HoldBy(o)
		ordered(changed, err, should, refusal)
	case "decide by hand":
		d := rapid.SampledFrom([]string{"resume", "deny"}).Draw(t, "by hand")
		should, refusal := m.decide(o, d, now)
		changed, err := c.DecideBy(o, d)
		ordered(changed, err, should, refusal)
	}
}

// agree holds that the correlation is as the model is.
func agree(t *rapid.T, c *Correlation, m *model, now time.Time, stored []Event) {
	var outcomes []Outcome
	for _, ticket := range c.Tickets {
		outcomes = append(outcomes, ticket.Outcome)
	}
	switch {
	case c.State != m.state || !c.Since.Equal(m.since):
		t.Fatalf("it is %s since %s, and should be %s since %s", c.State, c.Since, m.state, m.since)
	case c.State.Ended() != m.ended() || c.State.NeedsPerson() != m.needsPerson():
		t.Fatalf("%s has ended: %t; needs a person: %t", c.State, c.State.Ended(), c.State.NeedsPerson())
	case c.From != m.stopped:
		t.Fatalf("it was stopped in %q, and should have been in %q", c.From, m.stopped)
	case c.Attempts != m.attempts || !c.NextAttempt.Equal(m.next) || c.LastReason != m.trouble:
		t.Fatalf("%d attempts, %q, next %s; should be %d, %q, %s", c.Attempts, c.LastReason, c.NextAttempt, m.attempts, m.trouble, m.next)
	case c.Deaths != m.deaths:
		t.Fatalf("%d deaths; should be %d", c.Deaths, m.deaths)
	case (c.LastError != "") != (m.trouble != "") && c.State != Failed:
		t.Fatalf("the last error is %q, of reason %q", c.LastError, c.LastReason)
	case c.LeaseOwner != m.owner || !c.LeaseUntil.Equal(m.until):
		t.Fatalf("the lease is %s's until %s, and should be %q's until %s", c.LeaseOwner, c.LeaseUntil, m.owner, m.until)
	case (c.LeasedBy("a", now) > 0) != (m.owner == "b" && now.Before(m.until)):
		t.Fatalf("somebody else than a has the lease for %s; it is %q's until %s", c.LeasedBy("a", now), m.owner, m.until)
	case !c.Settles.Equal(m.settles):
		t.Fatalf("it settles at %s, and should at %s", c.Settles, m.settles)
	case (c.Reason != "") != m.reason || (c.Advice != "") != m.advice:
		t.Fatalf("%s: reason %q, advice %q; should be there: %t, %t", c.State, c.Reason, c.Advice, m.reason, m.advice)
	case c.ResumeWith != m.decision || c.Earlier != m.earlier:
		t.Fatalf("to be told: %q, before that %q; should be %q and %q", c.ResumeWith, c.Earlier, m.decision, m.earlier)
	case !slices.Equal(outcomes, m.outcomes) || c.Outcome != m.together:
		t.Fatalf("outcomes %v, together %q; should be %v, %q", outcomes, c.Outcome, m.outcomes, m.together)
	}
	events := slices.Concat(stored, c.Pending())
	if len(events) != len(m.timeline) || c.Events != len(events) {
		t.Fatalf("%d events, counted %d; should be %d", len(events), c.Events, len(m.timeline))
	}
	for i, e := range events {
		if should := m.timeline[i]; e.Seq != i+1 || e.Kind != should.kind || e.From != should.from || e.To != should.to || e.By != should.by || e.Text == "" {
			t.Fatalf("event %d is %+v, and should be %+v", i+1, e, should)
		}
	}
}
