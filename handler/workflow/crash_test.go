package workflow_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/misbehave"
	"ticketbridge/handler/simulator/servicenow"
	"ticketbridge/handler/ticket"
	"ticketbridge/handler/workflow"
)

// lives are whole lives of a request, each to its end.
var lives = map[string]struct {
	play func(w *world, key correlation.Key) // from the open ticket on
	end  correlation.State
	note bool     // the ticket is told of the end
	uses []string // the calls it takes beside those that all take
}{
	"granted": {func(w *world, key correlation.Key) { w.close(key, servicenow.Closing{Outcome: servicenow.Complete}) }, correlation.Resumed, false, []string{"read ticket", "answer"}},
	"denied":  {func(w *world, key correlation.Key) { w.close(key, servicenow.Closing{Outcome: servicenow.Rejected}) }, correlation.Denied, false, []string{"read ticket", "answer"}},
	"withdrawn": {func(w *world, key correlation.Key) {
		if err := w.entra.Withdraw(key.Request); err != nil {
			w.Error(err)
		}
	}, correlation.Withdrawn, true, []string{"due", "postpone", "read ticket", "ask", "note"}},
	"expired": {func(w *world, key correlation.Key) {
		if err := w.entra.Expire(key.Request); err != nil {
			w.Error(err)
		}
	}, correlation.Expired, true, []string{"due", "postpone", "read ticket", "ask", "note"}},
}

// Whatever call of a life goes wrong, and however: one ticket, one answer, and the end that it should have.
func TestWhereverALifeIsCutItGoesOnToTheSameEnd(t *testing.T) {
	for name, life := range lives {
		for _, f := range []fate{killedBefore, killedAfter, refused, lost} {
			t.Run(name+", "+string(f), func(t *testing.T) {
				t.Parallel()
				inWorld(t, nil, func(w *world) {
					var keys []correlation.Key
					cut := map[string]bool{}
					for n := 1; ; n++ {
						hit := ""
						w.swept = time.Now() // so that the sweep does not shift the count
						w.tap.reset(func(i int, op string) fate {
							if i != n {
								return passes
							}
							hit = op
							return f
						})
						start := time.Now()
						key := w.opened()
						life.play(w, key)
						w.until(key, life.end)
						w.check(key)
						w.tap.reset(nil)
						if took := time.Since(start); took > 35*time.Minute {
							t.Errorf("cut at call %d (%s): took %s\n%s", n, hit, took, w.timeline(key))
						}
						if life.note && len(w.notes(key)) == 0 {
							t.Errorf("cut at call %d (%s): the ticket was not told", n, hit)
						}
						if t.Failed() {
							t.Fatalf("cut at call %d (%s)", n, hit)
						}
						w.pass(11 * time.Minute) // what was put twice, or lay in the queue for a dead process
						keys = append(keys, key)
						if hit == "" {
							break
						}
						cut[hit] = true
					}
					w.pass(time.Hour)
					for _, key := range keys {
						w.check(key)
						if open, ended := w.lists(key); open || !ended {
							t.Errorf("%s: on the list of open ones %v, of ended ones %v", key, open, ended)
						}
					}
					if len(w.poisoned) > 0 {
						t.Errorf("poison: %q", w.poisoned)
					}
					for _, op := range append(life.uses, "store create", "put", "load", "callout", "find user", "save", "create ticket", "index", "index ended") {
						if !cut[op] {
							t.Errorf("never cut at %q", op)
						}
					}
				})
			})
		}
	}
}

// The same with everything at once: calls that fail by chance, processes that die, callouts and notifications that come twice or in another order.
func TestInAStormNothingIsLostAndNothingHappensTwice(t *testing.T) {
	for seed := range uint64(16) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			inWorld(t, nil, func(w *world) {
				w.another()
				chance := rand.New(rand.NewPCG(seed, 1))
				storm := func(_ int, op string) fate {
					if op == "store create" || chance.IntN(6) > 0 { // what was not remembered was not acknowledged
						return passes
					}
					return []fate{killedBefore, killedAfter, refused, lost}[chance.IntN(4)]
				}
				w.tap.reset(storm)
				type played struct {
					key correlation.Key
					end correlation.State
				}
				var all []played
				names := slices.Sorted(func(yield func(string) bool) {
					for name := range lives {
						if !yield(name) {
							return
						}
					}
				})
				for i := range 24 {
					life := lives[names[i%len(names)]]
					key := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
					if r, _ := w.entra.Request(key.Request); r.Over {
						continue // neither call was acknowledged, so Entra has given up
					}
					if _, err := w.entra.RepeatCallout(key.Stage); err != nil {
						t.Error(err)
					}
					w.until(key, correlation.Open)
					w.now.MisdeliverNext(servicenow.Misdelivery{Copies: chance.IntN(3), Lose: chance.IntN(3) == 0, Delay: time.Duration(chance.IntN(90)) * time.Second})
					life.play(w, key)
					all = append(all, played{key, life.end})
				}
				w.pass(30 * time.Minute)
				w.tap.reset(nil)
				for _, p := range all {
					w.until(p.key, p.end)
					w.check(p.key)
				}
				if len(all) < 12 {
					t.Errorf("only %d requests got through the storm", len(all))
				}
			})
		})
	}
}

// Each call to ServiceNow and to Graph goes wrong in each way that the wire knows.
func TestEachWayACallCanFailIsGotOver(t *testing.T) {
	faults := map[string]misbehave.Fault{
		"connection cut":           {DropCall: true},
		"answer lost":              {LoseAnswer: true},
		"late":                     {Delay: 40 * time.Second},
		"late answer":              {DelayAnswer: 40 * time.Second},
		"500":                      {Status: 500},
		"500 and done":             {Status: 500, TakeEffect: true},
		"502 from a gateway":       {Status: 502, Body: "<html>bad gateway</html>", ContentType: "text/html"},
		"504 and done":             {Status: 504, Body: "<html>gave up</html>", ContentType: "text/html", TakeEffect: true},
		"503 and Retry-After":      {Status: 503, RetryAfter: "30"},
		"408":                      {Status: 408},
		"429":                      {Status: 429},
		"429 and Retry-After":      {Status: 429, RetryAfter: "120"},
		"401":                      {Status: 401},
		"a page instead of answer": {Status: 200, Body: "<html>hibernating</html>", ContentType: "text/html"},
	}
	calls := map[string]struct {
		graph bool
		match string
	}{
		"look-up of the user": {false, "GET /api/now/v2/table/sys_user"},
		"create":              {false, "POST /api/now/v2/table/sc_request"},
		"read":                {false, "GET /api/now/v2/table/sc_request/*"},
		"resume":              {true, "POST /v1.0/*/resume"},
	}
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, nil, func(w *world) {
				for what, c := range calls {
					for times := 1; times <= 3; times++ {
						desk := w.now.Faults
						if c.graph {
							desk = w.entra.GraphFaults
						}
						f := f
						f.Match, f.Times = c.match, times
						hits := desk.Hits()
						desk.Add(f)
						key := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
						w.until(key, correlation.Open)
						w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
						w.until(key, correlation.Resumed)
						w.check(key)
						if what == "read" && times == 1 && desk.Hits() == hits || what == "create" && desk.Hits() == hits {
							t.Errorf("%s: no call was hit", what)
						}
						desk.Clear()
						w.pass(20 * time.Minute) // what ServiceNow's users are remembered to be is forgotten
						w.check(key)
						if t.Failed() {
							t.Fatalf("%s, %d times", what, times)
						}
					}
				}
			})
		})
	}
}

// The answer of a create is lost, and the table's list is out of order for a while after it: nobody creates before he has looked.
func TestAnUnclearCreateIsLookedForBeforeAnotherIsSent(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.now.Faults.Add(misbehave.Fault{Match: "POST /api/now/v2/table/sc_request", Times: 1, LoseAnswer: true})
		w.now.Faults.Add(misbehave.Fault{Match: "GET /api/now/v2/table/sc_request", Times: 4, Status: 500})
		w.tap.reset(nil)
		key := w.opened()
		if calls := w.tap.calls(); calls["create ticket"] != 1 || calls["find ticket"] != 5 {
			t.Errorf("calls: %v\n%s", calls, w.timeline(key))
		}
		w.says(key, "found the ticket that an earlier attempt had created: REQ0010001")
		w.check(key)
	})
}

// late is a ServiceNow whose first create comes about a minute after the call, when its caller has long gone: as long as its transactions can take.
type late struct {
	workflow.Tickets
	begun *atomic.Bool
}

func (l late) Create(ctx context.Context, d ticket.Draft, id string) (ticket.Record, error) {
	if l.begun.Swap(true) {
		return l.Tickets.Create(ctx, d, id)
	}
	go func() {
		time.Sleep(time.Minute)
		_, _ = l.Tickets.Create(context.WithoutCancel(ctx), d, id)
	}()
	<-ctx.Done()
	return ticket.Record{}, &fault.Error{Op: "create ticket", Reason: fault.Unclear, Detail: "no answer in time"}
}

func TestACreateThatServiceNowFinishesLateIsWaitedFor(t *testing.T) {
	for _, dies := range []bool{false, true} {
		inWorld(t, nil, func(w *world) {
			w.first.Tickets = late{w.first.Tickets, &atomic.Bool{}}
			if dies {
				w.tap.reset(func(_ int, op string) fate { // the process that gave up waiting, before it writes so down
					if op == "save" && w.tap.calls()["save"] == 2 {
						return killedBefore
					}
					return passes
				})
			}
			key := w.opened()
			w.pass(time.Hour)
			w.check(key)
			w.says(key, "found the ticket")
			w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
			w.until(key, correlation.Resumed)
			w.check(key)
		})
	}
}

func TestAnAnswerThatWasLostIsAskedForAndNotGivenTwice(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		key := w.opened()
		w.entra.GraphFaults.Add(misbehave.Fault{Match: "POST", Times: 1, LoseAnswer: true})
		w.tap.reset(nil)
		w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
		w.until(key, correlation.Resumed)
		w.says(key, "the answer to our call was lost; Graph says that the request was answered")
		if calls := w.tap.calls(); calls["answer"] != 1 || calls["ask"] != 1 {
			t.Errorf("calls: %v", calls)
		}
		w.check(key)
	})
}

func TestATicketThatClosedWhileItsCreationWasUnclearIsReadAtOnce(t *testing.T) {
	inWorld(t, func(s *setup) { s.now.Notifications = nil }, func(w *world) {
		w.now.Faults.Add(misbehave.Fault{Match: "POST /api/now/v2/table/sc_request", Times: 1, LoseAnswer: true})
		key := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
		w.run(10*time.Second, func() bool { return len(w.now.ByCorrelation(key.String())) > 0 })
		start := time.Now()
		w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
		w.until(key, correlation.Resumed)
		if took := time.Since(start); took > 3*time.Minute {
			t.Errorf("resumed after %s\n%s", took, w.timeline(key))
		}
		w.check(key)
	})
}

func TestTheSameCalloutFiftyTimesAtOnceIsOneTicketAndOneResume(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.another()
		w.now.Faults.Add(misbehave.Fault{Match: "POST", Delay: 3 * time.Second})
		key := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
		r, _ := w.entra.Request(key.Request)
		answers := make(chan string, 50)
		for range 50 {
			go func() {
				receipt, err := w.first.Accept(w.invocation(), r.Callouts[0].Body)
				answers <- fmt.Sprint(receipt.Duplicate, receipt.State, err)
			}()
		}
		for range 50 {
			if a := <-answers; a != "truereceived<nil>" && a != "true received <nil>" {
				t.Errorf("answer %q", a)
			}
		}
		w.until(key, correlation.Open)
		w.pass(5 * time.Minute)
		w.check(key)
		if n := w.called("read ticket"); n != 0 {
			t.Errorf("the ticket was read %d times for callouts", n)
		}
		w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
		for range 50 {
			go func() {
				if err := w.first.TicketClosed(w.invocation(), closedAs(w, key)); err != nil {
					t.Error(err)
				}
			}()
		}
		synctest.Wait()
		w.until(key, correlation.Resumed)
		w.pass(time.Hour)
		w.check(key)
		if len(w.failures) > 0 {
			t.Errorf("that somebody else was quicker is an error to the host: %v", w.failures)
		}
	})
}

func TestTwoInstancesOnOneStorageDoNothingTwice(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.another()
		for _, slow := range []string{"POST /api/now", "GET /api/now"} {
			w.now.Faults.Add(misbehave.Fault{Match: slow, DelayAnswer: 2 * time.Second})
		}
		w.entra.GraphFaults.Add(misbehave.Fault{Match: "POST", DelayAnswer: 2 * time.Second})
		var keys []correlation.Key
		for range 8 {
			keys = append(keys, w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy}))
		}
		twice := func() { // each message reaches both instances
			for _, key := range keys {
				if err := w.first.TicketClosed(w.invocation(), closedAs(w, key)); err != nil {
					t.Error(err)
				}
			}
		}
		twice()
		w.run(time.Hour, func() bool {
			return !slices.ContainsFunc(keys, func(k correlation.Key) bool { return w.load(k).State != correlation.Open })
		})
		for _, key := range keys {
			w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
		}
		twice()
		for _, key := range keys {
			w.until(key, correlation.Resumed)
			w.check(key)
		}
	})
}

// Several find an intent whose owner died, at the same time: one of them takes it over.
func TestAnIntentIsTakenOverByOneOnly(t *testing.T) {
	for _, c := range []struct {
		op, why string
		left    fate // what becomes of the first attempt: its worker dies with the lease, or gives it back
	}{
		{"create ticket", workflow.WhyCallout, killedBefore},
		{"create ticket", workflow.WhyCallout, refused},
		{"answer", workflow.WhyClosed, killedBefore},
		{"answer", workflow.WhyClosed, refused},
	} {
		inWorld(t, nil, func(w *world) {
			op := c.op
			w.silent = true
			died, decide := first(op, c.left)
			w.tap.reset(decide)
			key := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
			if op == "answer" {
				w.until(key, correlation.Open)
				w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
			}
			w.run(time.Minute, func() bool { return *died })
			time.Sleep(5 * time.Minute) // the lease ends
			w.tap.reset(func(int, string) fate {
				time.Sleep(time.Second) // each call takes its time, so that all are at the same point
				return passes
			})
			var all sync.WaitGroup
			for range 5 {
				all.Go(func() {
					if err := w.first.Advance(w.invocation(), workflow.Message{Key: key, Why: c.why}); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if n := w.called(op); n != 1 {
				t.Errorf("%s, the first %s: %d times", op, c.left, n)
			}
			w.check(key)
		})
	}
}

func TestWithoutALeaseOnRecordNobodyActs(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		key := w.planned(ticket.OnRejectedDeny, "sc_request")
		w.tap.reset(func(_ int, op string) fate {
			if op == "save" {
				return refused
			}
			return passes
		})
		if err := w.first.Advance(w.ctx, workflow.Message{Key: key, Why: workflow.WhyRetry}); err != nil {
			t.Error(err)
		}
		if calls := w.tap.calls(); calls["save"] != 1 || calls["find ticket"]+calls["create ticket"] > 0 {
			t.Errorf("calls: %v", calls)
		}
	})
}

// A worker that is slow, not dead, must not meet the one who takes over from him.
func TestAnIntentUnderALeaseIsLeftToItsOwner(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.now.Faults.Add(misbehave.Fault{Match: "POST /api/now/v2/table/sc_request", Times: 1, Delay: 25 * time.Second})
		key := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
		for range 5 {
			if err := w.first.TicketClosed(w.invocation(), closedAs(w, key)); err != nil {
				t.Fatal(err)
			}
		}
		done := make(chan struct{})
		go func() { w.poll(); close(done) }()
		time.Sleep(10 * time.Second)
		for range 3 {
			w.poll()
			time.Sleep(time.Second)
		}
		<-done
		w.until(key, correlation.Open)
		w.check(key)
		if n := w.now.Calls()["GET /api/now/v2/table/sc_request"]; n != 0 {
			t.Errorf("somebody looked %d times for a ticket that was being created", n)
		}
		if strings.Contains(w.timeline(key), "found the ticket") {
			t.Errorf("somebody else took over:\n%s", w.timeline(key))
		}
	})
}
