package workflow_test

import (
	"testing"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/misbehave"
	"ticketbridge/handler/simulator/servicenow"
	"ticketbridge/handler/workflow"
)

func TestAnOutageOfServiceNowThatHealsLosesNothing(t *testing.T) {
	for name, f := range map[string]misbehave.Fault{
		"maintenance":          servicenow.Maintenance(0),
		"hibernating":          servicenow.Hibernating(),
		"connections cut":      {DropCall: true},
		"semaphores exhausted": servicenow.SemaphoresExhausted("", 0),
		"nobody answers":       {Delay: time.Hour},
		"password expired":     {Status: 401},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, nil, func(w *world) {
				var keys []correlation.Key
				for range 3 {
					keys = append(keys, w.opened()) // people close these during the outage, or after it
				}
				w.now.Faults.Add(f)
				for range 3 {
					keys = append(keys, w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy}))
				}
				w.close(keys[0], servicenow.Closing{Outcome: servicenow.Complete})
				w.close(keys[1], servicenow.Closing{Outcome: servicenow.Complete, Silent: true})
				w.pass(4 * time.Hour)
				for i, key := range keys {
					c := w.load(key)
					if want := i < 3; want != (c.State == correlation.Open) || c.State.NeedsPerson() || c.State.Ended() {
						t.Errorf("%d is %s\n%s", i, c.State, w.timeline(key))
					}
					if i != 2 && (c.LastError == "" || c.Attempts == 0 && c.LastReason != fault.Paused) {
						t.Errorf("%d does not say what it waits for: %+v", i, c.Summary())
					}
					if open, _ := w.lists(key); !open {
						t.Errorf("%d is not on the list of open ones", i)
					}
				}
				w.now.Faults.Clear()
				for _, key := range keys[3:] {
					w.until(key, correlation.Open)
					w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
				}
				w.close(keys[2], servicenow.Closing{Outcome: servicenow.Complete})
				for _, key := range keys {
					w.until(key, correlation.Resumed)
					w.check(key)
				}
				if len(w.poisoned) > 0 {
					t.Errorf("poison: %q", w.poisoned)
				}
			})
		})
	}
}

func TestAnOutageOfGraphThatHealsLosesNothing(t *testing.T) {
	for name, f := range map[string]misbehave.Fault{
		"503":             {Status: 503},
		"connections cut": {DropCall: true},
		"answers lost":    {LoseAnswer: true},
		"throttled":       entra.GraphThrottle(0, 0),
		"nobody answers":  {Delay: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, nil, func(w *world) {
				granted, denied := w.opened(), w.opened()
				w.entra.GraphFaults.Add(f)
				w.close(granted, servicenow.Closing{Outcome: servicenow.Complete})
				w.close(denied, servicenow.Closing{Outcome: servicenow.Rejected})
				w.pass(3 * time.Hour)
				for _, key := range []correlation.Key{granted, denied} {
					if c := w.load(key); c.State != correlation.Resuming || c.Attempts == 0 {
						t.Errorf("it is %s\n%s", c.State, w.timeline(key))
					}
				}
				w.entra.GraphFaults.Clear()
				w.until(granted, correlation.Resumed)
				w.until(denied, correlation.Denied)
				w.check(granted)
				w.check(denied)
			})
		})
	}
}

func TestAnOutageDuringWhichTheDeadlinePassesEndsAsExpired(t *testing.T) {
	inWorld(t, func(s *setup) { s.extension.Wait = time.Hour }, func(w *world) {
		closed, open := w.opened(), w.opened()
		w.entra.GraphFaults.Add(misbehave.Fault{Status: 503})
		w.close(closed, servicenow.Closing{Outcome: servicenow.Complete})
		w.pass(2 * time.Hour)
		w.entra.GraphFaults.Clear()
		w.until(closed, correlation.Expired)
		w.until(open, correlation.Expired)
		w.check(closed)
		w.check(open)
		if told := w.entra.Resumes(""); len(told) > 0 || len(w.notes(closed)) != 0 || len(w.notes(open)) != 1 {
			t.Errorf("Graph was told %+v; notes %q and %q", told, w.notes(closed), w.notes(open))
		}
	})
}

// Until Retry-After ends nobody calls, whatever message comes; and then it goes on by itself.
func TestRetryAfterIsHonoured(t *testing.T) {
	const wait = 20 * time.Minute
	throttle := misbehave.Fault{Times: 1, Status: 429, RetryAfter: "1200"}
	for name, c := range map[string]struct {
		match string
		graph bool
		op    string
		state correlation.State
	}{
		"look-up of the user": {"GET /api/now/v2/table/sys_user", false, "find user", correlation.Received},
		"create":              {"POST /api/now", false, "create ticket", correlation.Opening},
		"read":                {"GET /api/now/v2/table/sc_request", false, "read ticket", correlation.Open},
		"resume":              {"POST", true, "answer", correlation.Resuming},
		"asking if it waits":  {"GET", true, "ask", correlation.Closed},
		"the work note":       {"PATCH", false, "note", correlation.Withdrawn},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, nil, func(w *world) {
				f := throttle
				f.Match = c.match
				desk := w.now.Faults
				if c.graph {
					desk = w.entra.GraphFaults
				}
				var at []time.Time
				watch := func(_ int, op string) fate {
					if op == c.op {
						at = append(at, time.Now())
					}
					return passes
				}
				w.tap.reset(watch)
				key := correlation.Key{}
				if c.op == "find user" || c.op == "create ticket" {
					desk.Add(f)
					key = w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
				} else {
					key = w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy, Shape: entra.Shape{NoCallback: c.op == "ask"}})
					w.until(key, correlation.Open)
					desk.Add(f)
					if c.op == "note" {
						if err := w.entra.Withdraw(key.Request); err != nil {
							t.Fatal(err)
						}
					} else {
						w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
					}
				}
				if !w.run(15*time.Minute, func() bool { return desk.Hits() == 1 && w.load(key).Attempts == 1 }) {
					t.Fatalf("not throttled\n%s", w.timeline(key))
				}
				if got := w.load(key); got.State != c.state || got.LastReason != fault.Throttled {
					t.Errorf("it is %s, %s", got.State, got.LastReason)
				}
				// Hints come all the while, and close together about the time when it ends.
				for w.called(c.op) == 1 && time.Since(at[0]) < 2*wait {
					if err := w.first.TicketClosed(w.invocation(), closedAs(t, key)); err != nil {
						t.Fatal(err)
					}
					if time.Since(at[0]) < wait-30*time.Second {
						w.pass(20 * time.Second)
					} else {
						w.poll()
						time.Sleep(300 * time.Millisecond)
					}
				}
				if len(at) != 2 || at[1].Sub(at[0]) < wait || at[1].Sub(at[0]) > wait+10*time.Second {
					t.Errorf("called at %s\n%s", at, w.timeline(key))
				}
				w.check(key)
			})
		})
	}
}

func TestWithoutRetryAfterTheDelaysGrow(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.now.Faults.Add(servicenow.SemaphoresExhausted("POST /api/now", 9))
		var at []time.Time
		w.now.Faults.Add(misbehave.Fault{Match: "PATCH"}) // matches nothing here
		w.tap.reset(func(_ int, op string) fate {
			if op == "create ticket" {
				at = append(at, time.Now())
			}
			return passes
		})
		key := w.opened()
		w.check(key)
		if len(at) != 10 {
			t.Fatalf("%d attempts", len(at))
		}
		for i := 2; i < len(at); i++ {
			if now, before := at[i].Sub(at[i-1]), at[i-1].Sub(at[i-2]); now < before/2 || i > 4 && now < time.Minute/2 {
				t.Errorf("attempt %d after %s, the one before after %s", i+1, now, before)
			}
		}
	})
}

// A rate rule is hourly: with more requests than it lets through, each gets its ticket in the end, and one only.
func TestAnHourlyLimitSlowsDownAndBreaksNothing(t *testing.T) {
	inWorld(t, func(s *setup) {
		s.now.RateRules = []servicenow.RateRule{{Method: "POST", Path: "/api/now/v2/table/sc_request", PerHour: 10}}
	}, func(w *world) {
		var keys []correlation.Key
		for range 25 {
			keys = append(keys, w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy}))
		}
		start := time.Now()
		for _, key := range keys {
			w.until(key, correlation.Open)
			w.check(key)
		}
		if took := time.Since(start); took < 2*time.Hour || took > 5*time.Hour {
			t.Errorf("took %s", took)
		}
	})
}

// A ticket that we may not read for a while, whatever the reason, is still there: it is never given up.
func TestATicketThatCannotBeReadStaysOpenUntilItCan(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		key := w.opened()
		w.now.Faults.Add(misbehave.Fault{Match: "GET", Status: 403, Body: `{"error":{"message":"Operation Failed","detail":"ACL Exception Query Failed due to security constraints"},"status":"failure"}`})
		w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
		w.pass(time.Hour)
		c := w.load(key)
		if c.State != correlation.Open || c.LastReason != fault.Forbidden || c.Advice == "" || c.Attempts != 1 {
			t.Errorf("%s, %s, %d attempts, advice %q\n%s", c.State, c.LastReason, c.Attempts, c.Advice, w.timeline(key))
		}
		w.tap.reset(nil)
		w.pass(24 * time.Hour)
		if calls := w.tap.calls(); calls["save"] != 0 || calls["read ticket"] < 100 {
			t.Errorf("calls in a day: %v", calls)
		}
		w.now.Faults.Clear()
		w.until(key, correlation.Resumed)
		w.check(key)
	})
}

func TestAStoreThatDoesNotServeIsAnErrorSoThatTheMessageComesAgain(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		key := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
		w.tap.reset(func(int, string) fate { return refused })
		if err := w.first.Advance(w.ctx, workflow.Message{Key: key, Why: workflow.WhyCallout}); !fault.Is(err, fault.Unreachable) {
			t.Errorf("%v", err)
		}
		r, _ := w.entra.Request(key.Request)
		if _, err := w.first.Accept(w.ctx, r.Callouts[0].Body); !fault.Is(err, fault.Unreachable) || fault.Status(err) != 503 {
			t.Errorf("%v", err)
		}
		if err := w.first.TicketClosed(w.ctx, closedAs(t, key)); !fault.Is(err, fault.Unreachable) {
			t.Errorf("%v", err)
		}
		if _, err := w.first.Sweep(w.ctx); !fault.Is(err, fault.Unreachable) {
			t.Errorf("%v", err)
		}
	})
}
