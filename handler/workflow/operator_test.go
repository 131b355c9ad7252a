package workflow_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/misbehave"
	"ticketbridge/handler/simulator/servicenow"
	"ticketbridge/handler/ticket"
	"ticketbridge/handler/workflow"
)

// The operator of these tests, and what he says.
const kim, because = "kim@example.com", "the storm is over"

// operator is a person with the commands on the same storage, on whose calls the tap is not.
func (w *world) operator() workflow.Operator {
	return workflow.Operator{Store: w.store, Queue: w.queue}
}

// An order is a move of the operator.
type order struct {
	name string
	give func(workflow.Operator, context.Context, correlation.Key) (workflow.Ordered, error)
}

var (
	retry = order{"retry", func(o workflow.Operator, ctx context.Context, key correlation.Key) (workflow.Ordered, error) {
		return o.Retry(ctx, key, kim, because)
	}}
	hold = order{"hold", func(o workflow.Operator, ctx context.Context, key correlation.Key) (workflow.Ordered, error) {
		return o.Hold(ctx, key, kim, because)
	}}
	resume = order{"resume", func(o workflow.Operator, ctx context.Context, key correlation.Key) (workflow.Ordered, error) {
		return o.Decide(ctx, key, workflow.Resume, kim, because)
	}}
	deny = order{"deny", func(o workflow.Operator, ctx context.Context, key correlation.Key) (workflow.Ordered, error) {
		return o.Decide(ctx, key, workflow.Deny, kim, because)
	}}
)

// orders gives the order, which must be one that changes something.
func (w *world) orders(o order, key correlation.Key) {
	w.Helper()
	if r, err := o.give(w.operator(), w.ctx, key); err != nil || !r.Changed {
		w.Fatalf("%s: %v, changed %v\n%s", o.name, err, r.Changed, w.timeline(key))
	}
}

// failed submits a request whose ticket ServiceNow refuses to create, once.
func (w *world) failed() correlation.Key {
	w.Helper()
	w.now.Faults.Add(misbehave.Fault{Match: "POST", Times: 1, Status: 403})
	key := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
	w.until(key, correlation.Failed)
	return key
}

// held submits a request whose ticket is closed in a way that nobody mapped.
func (w *world) held() correlation.Key {
	w.Helper()
	key := w.opened()
	w.close(key, servicenow.Closing{Fields: map[string]string{"request_state": "closed_somehow", "active": "false"}})
	w.until(key, correlation.Held)
	return key
}

func TestAPersonsDecisionReachesGraphFromWhereverItMayBeMade(t *testing.T) {
	for from, begin := range map[string]func(w *world) correlation.Key{
		"open": (*world).opened, "failed": (*world).failed, "held": (*world).held,
		"held by hand while open":      func(w *world) correlation.Key { key := w.opened(); w.orders(hold, key); return key },
		"held by hand after it failed": func(w *world) correlation.Key { key := w.failed(); w.orders(hold, key); return key },
		"open for long":                func(w *world) correlation.Key { key := w.opened(); w.pass(25 * time.Minute); return key },
	} {
		for o, end := range map[*order]correlation.State{&resume: correlation.Resumed, &deny: correlation.Denied} {
			t.Run(o.name+" "+from, func(t *testing.T) {
				t.Parallel()
				inWorld(t, nil, func(w *world) {
					key := begin(w)
					wasOpen := len(w.now.ByCorrelation(key.String())) == 1 && correlation.Judge(w.load(key).Tickets) == correlation.Pending
					start := time.Now()
					w.orders(*o, key)
					w.until(key, end)
					if took := time.Since(start); took > 30*time.Second {
						t.Errorf("it took %s", took)
					}
					w.check(key)
					w.says(key, "Graph is to be told to "+o.name+", by hand: "+because)
					events, err := w.store.Timeline(w.ctx, key)
					if err != nil {
						t.Fatal(err)
					}
					who := 0
					for _, e := range events {
						if e.Kind == correlation.EventOperator && e.By == kim {
							who++
						} else if e.Kind == correlation.EventOperator || e.By != "ticketbridge" {
							t.Errorf("%+v", e)
						}
					}
					if wanted := strings.Count(from, "by hand") + 1; who != wanted {
						t.Errorf("%d events are by the operator, not %d", who, wanted)
					}
					if open, ended := w.lists(key); open || !ended {
						t.Errorf("on the list of open ones %v, of ended ones %v", open, ended)
					}
					if wasOpen {
						if notes := w.notes(key); len(notes) != 1 || !strings.Contains(notes[0], "no longer waits for this ticket ("+string(end)+")") {
							t.Errorf("the open ticket's notes: %q", notes)
						}
					} else {
						for _, note := range w.allNotes(key) {
							if strings.Contains(note, "no longer waits") {
								t.Errorf("a ticket that was closed is told that nobody waits: %q", note)
							}
						}
					}
					if strings.Contains(w.log.String(), kim) || strings.Contains(w.log.String(), because) {
						t.Error("the log says who, or why")
					}
					// The same order again is so already; the ticket, closed now, changes nothing.
					w.tap.reset(nil)
					r, err := o.give(w.operator(), w.ctx, key)
					if err != nil || r.Changed || r.Sent {
						t.Errorf("again: %v, changed %v", err, r.Changed)
					}
					if wasOpen {
						w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
					}
					w.pass(time.Hour)
					w.check(key)
					if calls := w.tap.calls(); calls["answer"]+calls["save"] > 0 {
						t.Errorf("it goes on: %v", calls)
					}
				})
			})
		}
	}
}

func TestAHeldOneIsLeftAloneUntilSomebodySaysOtherwise(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		key := w.opened()
		w.orders(hold, key)
		if r, err := w.operator().Hold(w.ctx, key, kim, because); err != nil || r.Changed || r.Sent {
			t.Errorf("held again: %v, %+v", err, r)
		}
		w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
		before := w.load(key)
		w.tap.reset(nil)
		w.pass(24 * time.Hour)
		c := w.load(key)
		if calls := w.tap.calls(); c.State != correlation.Held || c.Events != before.Events || calls["read ticket"]+calls["answer"]+calls["save"] > 0 {
			t.Errorf("it is %s after %v\n%s", c.State, calls, w.timeline(key))
		}
		if !strings.Contains(c.Reason, because) || c.Advice == "" {
			t.Errorf("held because %q, advice %q", c.Reason, c.Advice)
		}
		w.orders(retry, key)
		w.until(key, correlation.Resumed)
		w.check(key)
	})
}

func TestAHeldOneEndsWithItsRequestInEntra(t *testing.T) {
	inWorld(t, func(s *setup) { s.extension.Wait = 3 * time.Hour }, func(w *world) {
		withdrawn, expired := w.opened(), w.opened()
		w.orders(hold, withdrawn)
		w.orders(hold, expired)
		if err := w.entra.Withdraw(withdrawn.Request); err != nil {
			t.Fatal(err)
		}
		w.until(withdrawn, correlation.Withdrawn)
		w.until(expired, correlation.Expired)
		for _, key := range []correlation.Key{withdrawn, expired} {
			w.check(key)
			if len(w.notes(key)) != 1 {
				t.Errorf("notes %q", w.notes(key))
			}
		}
	})
}

func TestARetryOfAHeldOneReadsItsTicketsAnew(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		key := w.held()
		w.orders(retry, key)
		w.until(key, correlation.Held) // as unclear as it was
		if n := strings.Count(w.timeline(key), "nobody mapped"); n != 2 {
			t.Errorf("held %d times:\n%s", n, w.timeline(key))
		}
		w.now.HoldNotifications()
		w.close(key, servicenow.Closing{Outcome: servicenow.Complete, Fields: map[string]string{"request_state": "closed_complete"}})
		w.orders(retry, key)
		w.until(key, correlation.Resumed)
		w.check(key)
	})
}

func TestARetryOfAFailedOneGoesOnWhereItFailedAndCreatesOnce(t *testing.T) {
	for name, f := range map[string]misbehave.Fault{
		"refused":                     {Match: "POST", Times: 1, Status: 403},
		"created, and said not to be": {Match: "POST", Times: 1, Status: 403, TakeEffect: true},
	} {
		inWorld(t, nil, func(w *world) {
			w.now.Faults.Add(f)
			key := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
			c := w.until(key, correlation.Failed)
			if c.From != correlation.Opening {
				t.Errorf("%s: it failed in %s", name, c.From)
			}
			start := time.Now()
			w.orders(retry, key)
			w.until(key, correlation.Open)
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("%s: it took %s", name, took)
			}
			w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
			w.until(key, correlation.Resumed)
			w.check(key)
		})
	}
}

// lateTickets answer no create in a way that says what became of it. The first comes to nothing; each further one to a ticket, forty seconds later.
type lateTickets struct {
	workflow.Tickets
	creates atomic.Int32
}

func (l *lateTickets) Create(ctx context.Context, d ticket.Draft, id string) (ticket.Record, error) {
	if l.creates.Add(1) > 1 {
		go func() {
			time.Sleep(40 * time.Second)
			_, _ = l.Tickets.Create(context.WithoutCancel(ctx), d, id)
		}()
	}
	return ticket.Record{}, &fault.Error{Op: "create ticket", Reason: fault.Unclear, Detail: "no answer"}
}

func TestARetryWaitsForACreateThatMayStillComeToSomething(t *testing.T) {
	for name, orders := range map[string][]order{"retried": {retry}, "held and retried": {hold, retry}} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(s *setup) { s.policy.Backoff = []time.Duration{5 * time.Second} }, func(w *world) {
				late := &lateTickets{Tickets: w.first.Tickets}
				w.first.Tickets = late
				key := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
				w.until(key, correlation.Failed)
				for _, o := range orders {
					w.orders(o, key)
				}
				start := time.Now()
				w.until(key, correlation.Open)
				if took, creates := time.Since(start), late.creates.Load(); creates != 2 || took > 2*time.Minute {
					t.Errorf("%d creates were sent; it took %s", creates, took)
				}
				w.check(key)
			})
		})
	}
}

func TestAnOperatorWaitsForWhoeverIsAtWork(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.now.Faults.Add(misbehave.Fault{Match: "POST", Times: 1, DelayAnswer: 20 * time.Second})
		key := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
		done := make(chan struct{})
		go func() { w.poll(); close(done) }()
		time.Sleep(5 * time.Second)
		for _, o := range []order{retry, hold, deny} {
			_, err := o.give(w.operator(), w.ctx, key)
			e, ok := errors.AsType[*fault.Error](err)
			if !ok || e.Reason != fault.Conflict || e.After <= 0 || e.After > 2*time.Minute {
				t.Errorf("%s: %v", o.name, err)
			}
		}
		<-done
		if c := w.load(key); c.State != correlation.Open || strings.Contains(w.timeline(key), because) {
			t.Errorf("it is %s\n%s", c.State, w.timeline(key))
		}
		w.orders(hold, key)
		w.check(key)
	})
}

// The operator acts at each moment of a life: between any two calls that the handler makes.
func TestAnOperatorAtTheSameMomentAsTheHandler(t *testing.T) {
	for _, o := range []order{retry, hold, deny, resume} {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, nil, func(w *world) {
				given, refusals := 0, 0
				for n := 1; ; n++ {
					key := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
					w.swept = time.Now()
					var r workflow.Ordered
					var err error
					hit := ""
					w.tap.reset(func(i int, op string) fate {
						if i == n {
							hit = op
							r, err = o.give(w.operator(), w.ctx, key)
						}
						return passes
					})
					c := w.until(key, correlation.Open, correlation.Held, correlation.Denied, correlation.Resumed)
					if c.State == correlation.Open {
						w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
						w.until(key, correlation.Held, correlation.Denied, correlation.Resumed)
					}
					w.pass(time.Minute)
					if hit == "" {
						break
					}
					want := correlation.Resumed
					switch {
					case err != nil && !fault.Is(err, fault.Refused) && fault.After(err) == 0:
						t.Errorf("%s at call %d (%s): %v", o.name, n, hit, err)
					case err != nil:
						refusals++
					case r.Changed && o.name == hold.name:
						want = correlation.Held
						given++
					case r.Changed && o.name == deny.name:
						want = correlation.Denied
						given++
					case r.Changed || r.Sent:
						given++
					}
					if c = w.load(key); c.State != want {
						t.Errorf("%s at call %d (%s): changed %v, %v; it is %s", o.name, n, hit, r.Changed, err, c.State)
					}
					if _, told := w.granted(key); want == correlation.Held && told > 0 {
						t.Errorf("held at call %d (%s), and Graph was told", n, hit)
					}
					w.check(key)
					if want == correlation.Held {
						w.tap.reset(nil)
						w.orders(retry, key)
						if w.until(key, correlation.Open, correlation.Resumed).State == correlation.Open && w.ticket(key).Fields["active"] == "true" {
							w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
						}
						w.until(key, correlation.Resumed)
						w.check(key)
					}
					if t.Failed() {
						t.Log(w.timeline(key))
						return
					}
				}
				if given == 0 || refusals == 0 && o.name != retry.name {
					t.Errorf("%d orders were taken, %d refused", given, refusals)
				}
			})
		})
	}
}

// The operator's process dies, or the storage fails him, at each of his calls.
func TestAnOrderThatIsOnRecordIsCarriedOutWhateverBecameOfItsMessage(t *testing.T) {
	for _, f := range []fate{killedBefore, killedAfter, refused, lost} {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			inWorld(t, nil, func(w *world) {
				stored := 0
				for n := 1; ; n++ {
					key := w.failed()
					hit := ""
					w.tap.reset(func(i int, op string) fate {
						if i != n {
							return passes
						}
						hit = op
						return f
					})
					r, err := func() (r workflow.Ordered, err error) {
						defer func() {
							if p := recover(); p == (killed{}) {
								err = errors.New("killed")
							} else if p != nil {
								panic(p)
							}
						}()
						return workflow.Operator{Store: w.first.Store, Queue: w.first.Queue}.Retry(w.ctx, key, kim, because)
					}()
					w.tap.reset(nil)
					if hit == "" {
						if err != nil || !r.Changed || n != 6 {
							t.Errorf("untouched, after %d calls: %v, %+v", n-1, err, r)
						}
						break
					}
					if err == nil {
						t.Errorf("%s at %s: nobody noticed", f, hit)
					}
					if w.load(key).State == correlation.Failed {
						w.orders(retry, key)
					} else {
						stored++
					}
					start := time.Now()
					w.until(key, correlation.Open)
					if took := time.Since(start); took > 3*time.Minute {
						t.Errorf("%s at %s: it took %s", f, hit, took)
					}
					if open, _ := w.lists(key); !open {
						t.Errorf("%s at %s: it is not on the list", f, hit)
					}
					w.check(key)
					if n := strings.Count(w.timeline(key), because); n != 1 {
						t.Errorf("%s at %s: the order stands %d times on the timeline", f, hit, n)
					}
				}
				if stored == 0 {
					t.Error("no order was on record")
				}
			})
		})
	}
}

// Whoever gives his order a second time, since nothing came of it, need not wait for the sweep.
func TestTheSameOrderAgainSendsTheMessageThatWasLost(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.silent = true
		key := w.failed()
		w.tap.reset(func(_ int, op string) fate {
			if op == "put" {
				return refused
			}
			return passes
		})
		r, err := workflow.Operator{Store: w.first.Store, Queue: w.first.Queue}.Retry(w.ctx, key, kim, because)
		if err == nil || !r.Changed || !strings.Contains(err.Error(), "it is on record, and the sweep will see to it") {
			t.Errorf("%v, %+v", err, r)
		}
		w.tap.reset(nil)
		if r, err := w.operator().Retry(w.ctx, key, kim, because); err != nil || r.Changed || !r.Sent || r.Correlation.State != correlation.Opening {
			t.Errorf("%v, %+v", err, r)
		}
		if !w.run(10*time.Second, func() bool { return w.load(key).State == correlation.Open }) {
			t.Errorf("it is %s", w.load(key).State)
		}
		w.check(key)
	})
}

func TestADenialByHandThatGraphRefusesIsHeldAndMayBeTriedAgain(t *testing.T) {
	inWorld(t, func(s *setup) { s.entra.RefuseDenialAt = []string{entra.StageApproved} }, func(w *world) {
		key := w.opened()
		w.orders(deny, key)
		for n := 1; n <= 2; n++ {
			c := w.until(key, correlation.Held)
			if !strings.Contains(c.Reason, "Graph refused to deny") || len(w.entra.Resumes("")) != n {
				t.Errorf("held because %q; Graph was told %d times", c.Reason, len(w.entra.Resumes("")))
			}
			w.check(key)
			if n == 1 {
				w.orders(retry, key)
				w.pass(time.Minute)
			}
		}
		w.orders(resume, key)
		w.until(key, correlation.Resumed)
		w.check(key)
	})
}

// Our resume reached Graph and its answer was lost; before we could look, somebody held the request and denied it. It was resumed, and we say so.
func TestADecisionThatCameAfterTheOneThatReachedGraphDoesNotHideIt(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		key := w.opened()
		w.entra.GraphFaults.Add(misbehave.Fault{Match: "POST", Times: 1, LoseAnswer: true})
		outage := w.entra.GraphFaults.Add(misbehave.Fault{Match: "GET", Status: 503})
		w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
		if !w.run(time.Minute, func() bool { return w.load(key).State == correlation.Resuming && w.load(key).Attempts > 0 }) {
			t.Fatalf("it is %s", w.load(key).State)
		}
		if _, err := w.operator().Decide(w.ctx, key, workflow.Deny, kim, because); !fault.Is(err, fault.Refused) || !strings.Contains(fault.Advice(err), "Hold it first") {
			t.Errorf("denied while it is being resumed: %v", err)
		}
		w.orders(hold, key)
		w.orders(deny, key)
		outage()
		w.until(key, correlation.Resumed)
		w.check(key)
		w.says(key, "before somebody decided to deny it by hand")
	})
}

func TestADecisionOnARequestThatIsOverInEntraEndsAsEntraSays(t *testing.T) {
	for _, o := range []order{resume, deny} {
		inWorld(t, nil, func(w *world) {
			key := w.opened()
			if err := w.entra.Withdraw(key.Request); err != nil {
				t.Fatal(err)
			}
			w.orders(o, key)
			w.until(key, correlation.Withdrawn)
			w.check(key)
			if len(w.entra.Resumes("")) > 0 || len(w.notes(key)) != 1 {
				t.Errorf("%s: Graph was told %+v, the ticket %q", o.name, w.entra.Resumes(""), w.notes(key))
			}
		})
	}
}

func TestNobodyDecidesWhereNothingWaitsOrAboutWhatNobodyKnows(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		granted := w.opened()
		w.close(granted, servicenow.Closing{Outcome: servicenow.Complete})
		w.until(granted, correlation.Resumed)
		instance, err := w.entra.WarnExpiring(granted.Request, entra.StageOneDay)
		if err != nil {
			t.Fatal(err)
		}
		warning := correlation.Key{Request: granted.Request, Stage: instance}
		w.until(warning, correlation.Open)
		for _, c := range []struct {
			o      order
			key    correlation.Key
			reason fault.Reason
			says   string
		}{
			{resume, warning, fault.Refused, "nothing waits in Entra"},
			{deny, warning, fault.Refused, "nothing waits in Entra"},
			{deny, granted, fault.Refused, "it has ended: resumed"},
			{hold, granted, fault.Refused, "it has ended: resumed"},
			{retry, granted, fault.Refused, "it has ended: resumed"},
			{retry, correlation.Key{Request: granted.Request, Stage: granted.Request}, fault.NotFound, ""},
		} {
			if _, err := c.o.give(w.operator(), w.ctx, c.key); !fault.Is(err, c.reason) || !strings.Contains(fmt.Sprint(err), c.says) {
				t.Errorf("%s: %v", c.o.name, err)
			}
		}
		w.orders(hold, warning)
		w.close(warning, servicenow.Closing{Outcome: servicenow.Complete})
		w.pass(time.Hour)
		w.orders(retry, warning)
		w.until(warning, correlation.Done)
		w.check(warning)
	})
}

// Somebody else changes it each time between the operator's reading and his writing.
func TestAnOrderThatNeverGetsItsTurnSaysSo(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		key := w.opened()
		saves := 0
		w.tap.reset(func(_ int, op string) fate {
			if op == "save" {
				saves++
				c := w.load(key)
				c.Note(time.Now(), "somebody else", "")
				if err := w.store.Save(context.Background(), c); err != nil {
					t.Error(err)
				}
			}
			return passes
		})
		_, err := workflow.Operator{Store: w.first.Store, Queue: w.first.Queue}.Hold(w.ctx, key, kim, because)
		if !fault.Is(err, fault.Unreachable) || saves != 8 || w.load(key).State != correlation.Open {
			t.Errorf("%v after %d tries", err, saves)
		}
	})
}
