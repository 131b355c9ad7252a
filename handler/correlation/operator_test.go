package correlation

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ticketbridge/handler/fault"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// order is what the operators of these tests say.
func order(at time.Time) Order { return Order{By: "kim", Why: "the storm is over", At: at} }

// in makes a correlation that waits in Entra, with one ticket, in the given state, as the handler gets it there.
func in(t testing.TB, state State, stopped State, change func(*Correlation)) *Correlation {
	t.Helper()
	k, err := NewKey(request, stage)
	if err != nil {
		t.Fatal(err)
	}
	c := New(k, noon, "received", "i")
	c.Waits = true
	path := map[State][]State{
		Received: {}, Opening: {Opening}, Open: {Opening, Open}, Closed: {Opening, Open, Closed}, Resuming: {Opening, Open, Closed, Resuming},
		Resumed: {Opening, Open, Closed, Resuming, Resumed}, Denied: {Opening, Open, Closed, Resuming, Denied}, Done: {Done}, Expired: {Expired}, Withdrawn: {Withdrawn},
	}
	last := state
	if state.NeedsPerson() {
		last = stopped
	}
	for _, s := range path[last] {
		switch s {
		case Opening:
			c.Tickets = []Ticket{{Entry: "ticket", Table: "sc_request", Fields: map[string]string{"short_description": "x"}}}
		case Open:
			c.Tickets = []Ticket{{Entry: "ticket", Table: "sc_request", SysID: "1", Number: "REQ1", Outcome: Pending}}
		case Closed:
			c.Tickets[0].Outcome, c.Outcome = Fulfilled, Fulfilled
		case Resuming:
			c.ResumeWith = "resume"
			if last == Denied {
				c.ResumeWith = "deny"
			}
		}
		if err := c.Move(s, noon, "moved", "i"); err != nil {
			t.Fatal(err)
		}
	}
	switch state {
	case Failed:
		err = c.Fail(noon, "it did not work", "mend it", fault.Forbidden, "i")
	case Held:
		_, err = c.HoldBy(Order{By: "robin", Why: "wait", At: noon})
	}
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(c)
	}
	c.Flushed("1")
	return c
}

// What becomes of each state at each move of an operator.
func TestEachMoveOfAnOperatorDoesInEachStateWhatItsTableSays(t *testing.T) {
	t.Parallel()
	const refused, already = "refused", "already"
	for _, row := range []struct {
		state, stopped              State
		retry, hold, resume, denies string
	}{
		{Received, "", already, "held", refused, refused},
		{Opening, "", already, "held", refused, refused},
		{Open, "", already, "held", "resuming", "resuming"},
		{Closed, "", already, "held", "resuming", "resuming"},
		{Resuming, "", already, "held", already, refused},
		{Resumed, "", refused, refused, already, refused},
		{Denied, "", refused, refused, refused, already},
		{Done, "", refused, refused, refused, refused},
		{Expired, "", refused, refused, refused, refused},
		{Withdrawn, "", refused, refused, refused, refused},
		{Held, Received, "received", already, "resuming", "resuming"},
		{Held, Opening, "opening", already, "resuming", "resuming"},
		{Held, Open, "open", already, "resuming", "resuming"},
		{Held, Closed, "closed", already, "resuming", "resuming"},
		{Held, Resuming, "resuming", already, "resuming", "resuming"},
		{Failed, Received, "received", "held", "resuming", "resuming"},
		{Failed, Opening, "opening", "held", "resuming", "resuming"},
		{Failed, Open, "open", "held", "resuming", "resuming"},
		{Failed, Closed, "closed", "held", "resuming", "resuming"},
		{Failed, Resuming, "resuming", "held", "resuming", "resuming"},
	} {
		for _, m := range []struct {
			name string
			want string
			do   func(*Correlation, Order) (bool, error)
		}{
			{"retry", row.retry, (*Correlation).RetryBy},
			{"hold", row.hold, (*Correlation).HoldBy},
			{"resume", row.resume, func(c *Correlation, o Order) (bool, error) { return c.DecideBy(o, ByHandResume) }},
			{"deny", row.denies, func(c *Correlation, o Order) (bool, error) { return c.DecideBy(o, ByHandDeny) }},
		} {
			t.Run(fmt.Sprintf("%s %s %s", m.name, row.state, row.stopped), func(t *testing.T) {
				t.Parallel()
				c := in(t, row.state, row.stopped, nil)
				before := *c
				at := noon.Add(time.Hour)
				changed, err := m.do(c, order(at))
				events := c.Pending()
				switch m.want {
				case refused:
					if !fault.Is(err, fault.Refused) || changed || !reflect.DeepEqual(*c, before) {
						t.Errorf("changed %v, %v; it is %s", changed, err, c.State)
					}
				case already:
					if err != nil || changed || !reflect.DeepEqual(*c, before) {
						t.Errorf("changed %v, %v; it is %s", changed, err, c.State)
					}
				default:
					if err != nil || !changed || c.State != State(m.want) || !c.Since.Equal(at) || c.Attempts != 0 || c.LastReason != "" {
						t.Fatalf("changed %v, %v; it is %s", changed, err, c.State)
					}
					if len(events) != 1 || events[0].Kind != EventOperator || events[0].By != "kim" || !strings.HasSuffix(events[0].Text, ": the storm is over") ||
						events[0].From != row.state || events[0].To != c.State || !events[0].At.Equal(at) || events[0].Seq != before.Events+1 {
						t.Errorf("the timeline says %+v", events)
					}
					if c.State == Resuming && m.name != "retry" && c.ResumeWith != m.name {
						t.Errorf("Graph is to be told to %q", c.ResumeWith)
					}
					if c.State == Held && (c.Reason != "held by hand: the storm is over" || c.Advice == "") {
						t.Errorf("it says %q, %q", c.Reason, c.Advice)
					}
				}
			})
		}
	}
}

func TestAnOperatorsRetryForgetsAttemptsAndWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	for _, s := range []State{Received, Opening, Open, Closed, Resuming} {
		c := in(t, s, "", func(c *Correlation) {
			c.Attempted(noon, noon.Add(4*time.Hour), &fault.Error{Reason: fault.Unreachable}, "i")
		})
		changed, err := c.RetryBy(order(noon.Add(time.Second)))
		if err != nil || !changed || c.State != s || c.Attempts != 0 || !c.NextAttempt.IsZero() || c.LastReason != "" || !c.Since.Equal(noon) {
			t.Errorf("%s: %v, %v; %d attempts, next %s", s, changed, err, c.Attempts, c.NextAttempt)
		}
		if changed, err := c.RetryBy(order(noon.Add(2 * time.Second))); changed || err != nil {
			t.Errorf("%s again: %v, %v", s, changed, err)
		}
	}
}

// A create whose answer was unclear may still be going on in ServiceNow: looked for too early the ticket is not there, and a second one would be made.
func TestNoOperatorBringsAnUnclearCreateToBeRepeatedTooEarly(t *testing.T) {
	t.Parallel()
	settles := noon.Add(65 * time.Second)
	at := func(n int) Order { return order(noon.Add(time.Duration(n) * time.Second)) }
	unclear := func(c *Correlation) {
		c.Settles = settles
		c.Attempted(noon, noon.Add(2*time.Hour), &fault.Error{Reason: fault.Unclear}, "i")
	}
	for name, begin := range map[string]func() *Correlation{
		"one that waits":             func() *Correlation { return in(t, Opening, "", unclear) },
		"one that failed":            func() *Correlation { return in(t, Failed, Opening, func(c *Correlation) { c.Settles = settles }) },
		"one that was held meantime": func() *Correlation { c := in(t, Opening, "", unclear); _, _ = c.HoldBy(at(1)); return c },
		"one that failed and was held": func() *Correlation {
			c := in(t, Failed, Opening, func(c *Correlation) { c.Settles = settles })
			_, _ = c.HoldBy(at(1))
			return c
		},
		"one whose worker's lease ended by the operator's clock alone": func() *Correlation {
			c := in(t, Opening, "", func(c *Correlation) { c.Lease("w", settles) })
			if _, err := c.HoldBy(order(settles)); err != nil {
				t.Error(err)
			}
			return c
		},
	} {
		c := begin()
		if changed, err := c.RetryBy(at(70)); err != nil || !changed || c.State != Opening || !c.NextAttempt.Equal(settles) {
			t.Errorf("%s: %v, %v; it is %s, next %s", name, changed, err, c.State, c.NextAttempt)
		}
		if changed, err := c.RetryBy(at(71)); err != nil || changed || !c.NextAttempt.Equal(settles) {
			t.Errorf("%s, again: %v, %v; next %s", name, changed, err, c.NextAttempt)
		}
	}
}

func TestNobodyDisturbsWhoeverActsOnAnIntent(t *testing.T) {
	t.Parallel()
	for _, s := range []State{Opening, Resuming} {
		for name, do := range map[string]func(*Correlation, Order) (bool, error){
			"retry": (*Correlation).RetryBy, "hold": (*Correlation).HoldBy,
			"deny": func(c *Correlation, o Order) (bool, error) { return c.DecideBy(o, ByHandDeny) },
		} {
			c := in(t, s, "", func(c *Correlation) { c.Lease("w", noon.Add(90*time.Second+time.Millisecond)) })
			before := *c
			_, err := do(c, order(noon))
			e, ok := errors.AsType[*fault.Error](err)
			if !ok || e.Reason != fault.Conflict || e.After != 91*time.Second || e.Advice != "Try again in 1m31s." || !reflect.DeepEqual(*c, before) {
				t.Errorf("%s %s: %v", name, s, err)
			}
		}
		c := in(t, s, "", func(c *Correlation) { c.Lease("w", noon.Add(time.Minute)) })
		if changed, err := c.HoldBy(order(noon.Add(time.Minute))); !changed || err != nil || c.LeaseOwner != "" {
			t.Errorf("%s after the lease: %v, %v", s, changed, err)
		}
	}
	// The same decision a second time is so already, whoever is telling Graph.
	c := in(t, Resuming, "", func(c *Correlation) { c.Lease("w", noon.Add(time.Minute)) })
	if changed, err := c.DecideBy(order(noon), ByHandResume); changed || err != nil {
		t.Errorf("resume again: %v, %v", changed, err)
	}
}

func TestARetryOfWhatNobodyMappedReadsTheTicketsAnew(t *testing.T) {
	t.Parallel()
	for outcome, want := range map[Outcome][]Outcome{
		Unknown:   {Fulfilled, Pending, Pending},
		Rejected:  {Fulfilled, Pending, Pending},
		Fulfilled: {Fulfilled, Rejected, Unknown},
	} {
		c := in(t, Closed, "", func(c *Correlation) {
			c.Tickets = []Ticket{{SysID: "1", Outcome: Fulfilled}, {SysID: "2", Outcome: Rejected}, {SysID: "3", Outcome: Unknown}}
			c.Outcome = outcome
			if err := c.Hold(noon, "who knows", "look", "i"); err != nil {
				t.Fatal(err)
			}
		})
		if _, err := c.RetryBy(order(noon)); err != nil {
			t.Fatal(err)
		}
		state := Open
		if outcome == Fulfilled {
			state = Closed
		}
		for i, o := range want {
			if c.State != state || c.Tickets[i].Outcome != o {
				t.Errorf("%s: it is %s, ticket %d is %s, not %s", outcome, c.State, i, c.Tickets[i].Outcome, o)
			}
		}
		if c.State == Open && (c.Outcome != "" || Judge(c.Tickets) != Pending) {
			t.Errorf("%s: together they are %q", outcome, c.Outcome)
		}
	}
}

func TestWhereNothingWaitsInEntraNobodyDecides(t *testing.T) {
	t.Parallel()
	for _, s := range []State{Open, Closed, Held, Failed} {
		for _, decision := range []string{ByHandResume, ByHandDeny} {
			c := in(t, s, Closed, func(c *Correlation) { c.Waits = false })
			if _, err := c.DecideBy(order(noon), decision); !fault.Is(err, fault.Refused) || !strings.Contains(err.Error(), "nothing waits in Entra") {
				t.Errorf("%s %s: %v", decision, s, err)
			}
			c.MayWait = true
			if changed, err := c.DecideBy(order(noon), decision); !changed || err != nil {
				t.Errorf("%s %s, which may wait: %v, %v", decision, s, changed, err)
			}
		}
	}
}

func TestADecisionRemembersTheOneBeforeThatMayHaveReachedGraph(t *testing.T) {
	t.Parallel()
	c := in(t, Held, Resuming, nil)
	if _, err := c.DecideBy(order(noon), ByHandDeny); err != nil || c.Earlier != ByHandResume {
		t.Errorf("%v, earlier %q", err, c.Earlier)
	}
	c = in(t, Failed, Resuming, nil)
	if _, err := c.DecideBy(order(noon), ByHandResume); err != nil || c.Earlier != "" {
		t.Errorf("the same again: %v, earlier %q", err, c.Earlier)
	}
	c = in(t, Open, "", nil)
	if _, err := c.DecideBy(order(noon), ByHandDeny); err != nil || c.Earlier != "" {
		t.Errorf("the first: %v, earlier %q", err, c.Earlier)
	}
}

func TestAnOrderNamesItsPersonAndItsReason(t *testing.T) {
	t.Parallel()
	for _, o := range []Order{
		{Why: "x"},
		{By: " ", Why: "x"},
		{By: "kim"},
		{By: "kim", Why: "\t"},
		{By: "ki\nm", Why: "x"},
		{By: "kim", Why: "a\nb"},
		{By: "Ticketbridge ", Why: "x"},
		{By: strings.Repeat("k", 201), Why: "x"},
		{By: "kim", Why: strings.Repeat("x", 1001)},
		{By: "kim", Why: "\xff"},
		{By: "k\x1b[31m", Why: "x"},
	} {
		for name, do := range map[string]func(*Correlation, Order) (bool, error){
			"retry": (*Correlation).RetryBy, "hold": (*Correlation).HoldBy,
			"resume": func(c *Correlation, o Order) (bool, error) { return c.DecideBy(o, ByHandResume) },
		} {
			c := in(t, Failed, Closed, nil)
			if changed, err := do(c, o); changed || !fault.Is(err, fault.Invalid) || c.State != Failed {
				t.Errorf("%s by %q for %q: %v, %v", name, o.By, o.Why, changed, err)
			}
		}
	}
	if _, err := in(t, Open, "", nil).DecideBy(order(noon), "cancel"); !fault.Is(err, fault.Invalid) {
		t.Errorf("cancel: %v", err)
	}
}

func TestWhatANewerVersionWroteIsLeftToItsOperators(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Correlation){
		"schema": func(c *Correlation) { c.Schema = SchemaVersion + 1 },
		"state":  func(c *Correlation) { c.State = "pondering" },
	} {
		for _, do := range []func(*Correlation, Order) (bool, error){
			(*Correlation).RetryBy, (*Correlation).HoldBy, func(c *Correlation, o Order) (bool, error) { return c.DecideBy(o, ByHandDeny) },
		} {
			c := in(t, Failed, Open, change)
			before := *c
			if changed, err := do(c, order(noon)); changed || !fault.Is(err, fault.Refused) || !strings.Contains(err.Error(), "a newer version wrote it") || !reflect.DeepEqual(*c, before) {
				t.Errorf("%s: %v, %v", name, changed, err)
			}
		}
	}
}

// What an older version stored does not say where it stopped; the rest of it does.
func TestWhereAnOlderVersionsRecordStoppedIsSeenFromIt(t *testing.T) {
	t.Parallel()
	for _, s := range []State{Received, Opening, Open, Closed, Resuming} {
		for _, stopped := range []State{Held, Failed} {
			c := in(t, stopped, s, func(c *Correlation) { c.From = "" })
			if _, err := c.RetryBy(order(noon)); err != nil || c.State != s {
				t.Errorf("%s in %s goes on in %s, %v", stopped, s, c.State, err)
			}
		}
	}
}

// Whatever operators do between whatever the handler does: no gaps, no way out of an end, nobody disturbed, no retry that tells Graph what was never to be
// told, and the place where it stopped is known exactly while it is stopped.
func TestOperatorsKeepTheTimelineWholeAndLeaveEndsAlone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := noon
		k, _ := NewKey(request, stage)
		c := New(k, now, "received", "i")
		c.Waits = rapid.Bool().Draw(t, "waits")
		all := append([]Event(nil), c.Pending()...)
		c.Flushed("v")
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "later")) * time.Second)
			before := *c
			var changed bool
			var err error
			o := order(now)
			what := rapid.SampledFrom([]string{"retry", "hold", "resume", "deny", "move", "attempt", "lease", "fail"}).Draw(t, "what")
			switch what {
			case "retry":
				changed, err = c.RetryBy(o)
			case "hold":
				changed, err = c.HoldBy(o)
			case "resume", "deny":
				changed, err = c.DecideBy(o, what)
			case "move":
				_ = c.Move(rapid.SampledFrom(States).Draw(t, "to"), now, "moved", "i")
			case "attempt":
				if !c.State.Ended() && !c.State.NeedsPerson() {
					c.Attempted(now, now.Add(time.Minute), &fault.Error{Reason: fault.Unreachable}, "i")
				}
			case "lease":
				if c.State == Opening || c.State == Resuming {
					c.Lease("w", now.Add(time.Minute))
				}
			case "fail":
				_ = c.Fail(now, "failed", "", fault.Refused, "i")
			}
			events := c.Pending()
			if err != nil && (changed || len(events) > 0 || !reflect.DeepEqual(*c, before)) {
				t.Fatalf("%s of %s was refused and did something: %v", what, before.State, err)
			}
			if changed {
				e := events[len(events)-1]
				if len(events) != 1 || e.Kind != EventOperator || e.By != "kim" || !strings.Contains(e.Text, o.Why) {
					t.Fatalf("%s of %s: the timeline says %+v", what, before.State, events)
				}
				if before.State.Ended() || before.LeasedBy("", now) > 0 {
					t.Fatalf("%s of %s, leased for %s", what, before.State, before.LeasedBy("", now))
				}
				if c.LeaseOwner != "" || c.Attempts != 0 {
					t.Fatalf("%s kept the lease or the attempts", what)
				}
				if c.State == Resuming && before.State != Resuming && what == "retry" && before.stoppedIn() != Resuming {
					t.Fatalf("a retry of %s brought it to tell Graph", before.State)
				}
			}
			if (c.From != "") != c.State.NeedsPerson() {
				t.Fatalf("it is %s, and stopped in %q", c.State, c.From)
			}
			if c.From.NeedsPerson() || c.From.Ended() && c.From != "" {
				t.Fatalf("it stopped in %s", c.From)
			}
			all = append(all, events...)
			c.Flushed("v")
		}
		state := State("")
		for i, e := range all {
			if e.Seq != i+1 || e.From != state {
				t.Fatalf("event %d: %+v, after %s", i+1, e, state)
			}
			state = e.To
		}
		if len(all) != c.Events || state != c.State {
			t.Fatalf("%d events ending in %s; it says %d and %s", len(all), state, c.Events, c.State)
		}
	})
}
