package workflow_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/servicenow"
	"ticketbridge/handler/workflow"
)

func TestTheSweepFindsATicketThatClosedWithoutAWord(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		key := w.opened()
		w.close(key, servicenow.Closing{Outcome: servicenow.Complete, Silent: true})
		start := time.Now()
		w.until(key, correlation.Resumed)
		if took := time.Since(start); took > 12*time.Minute {
			t.Errorf("found after %s", took)
		}
		w.check(key)
	})
}

func TestTheSweepFindsWhatIsStuckAtEachStep(t *testing.T) {
	for name, c := range map[string]struct {
		op    string // the process dies at this call
		fate  fate
		state correlation.State
		end   correlation.State
		limit time.Duration
	}{
		"a lost message":                     {"load", killedBefore, correlation.Received, correlation.Open, 3 * time.Minute},
		"an intent to create, nothing done":  {"create ticket", killedBefore, correlation.Opening, correlation.Open, 5 * time.Minute},
		"an intent to create, ticket there":  {"create ticket", killedAfter, correlation.Opening, correlation.Open, 5 * time.Minute},
		"an intent to resume, nothing done":  {"answer", killedBefore, correlation.Resuming, correlation.Resumed, 5 * time.Minute},
		"an intent to resume, Graph told":    {"answer", killedAfter, correlation.Resuming, correlation.Resumed, 5 * time.Minute},
		"an ending that the lists lack":      {"index ended", killedBefore, correlation.Resumed, correlation.Resumed, 12 * time.Minute},
		"a ticket that is not told":          {"note", killedBefore, correlation.Withdrawn, correlation.Withdrawn, 12 * time.Minute},
		"a retry whose message was not sent": {"put", killedBefore, correlation.Opening, correlation.Open, 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, nil, func(w *world) {
				died, die := first(c.op, c.fate)
				var key correlation.Key
				switch {
				case c.op == "put":
					w.now.Faults.Add(servicenow.SemaphoresExhausted("POST", 1))
					key = w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
					w.tap.reset(die)
				case c.end == correlation.Open:
					w.tap.reset(die)
					key = w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
				default:
					key = w.opened()
					w.tap.reset(die)
					if c.end == correlation.Withdrawn {
						if err := w.entra.Withdraw(key.Request); err != nil {
							t.Fatal(err)
						}
					} else {
						w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
					}
				}
				if !w.run(15*time.Minute, func() bool { return *died }) {
					t.Fatal("nobody died")
				}
				if got := w.load(key); got.State != c.state {
					t.Fatalf("it is %s", got.State)
				}
				start := time.Now()
				if c.end.Ended() {
					if !w.run(time.Hour, func() bool { open, ended := w.lists(key); return !open && ended }) {
						t.Error("it stays on the list of open ones")
					}
				}
				w.until(key, c.end)
				if took := time.Since(start); took > c.limit {
					t.Errorf("found after %s\n%s", took, w.timeline(key))
				}
				w.check(key)
			})
		})
	}
}

// Listed and never stored: the callout was not acknowledged, so nobody is owed anything.
func TestTheSweepForgetsAListingWhoseCalloutWasNeverStored(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		key, err := correlation.NewKey("7d1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a11", "7d1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a12")
		if err != nil {
			t.Fatal(err)
		}
		c := correlation.New(key, time.Now(), "x", "")
		c.Due = time.Now()
		if err := w.store.Index(w.ctx, c); err != nil {
			t.Fatal(err)
		}
		w.pass(2 * time.Minute)
		if page, _, err := w.store.Open(w.ctx, "", 10); err != nil || len(page) > 0 {
			t.Errorf("%+v, %v", page, err)
		}
		w.tap.reset(nil)
		w.pass(time.Hour)
		if calls := w.tap.calls(); calls["load"] != 0 {
			t.Errorf("it comes back: %v", calls)
		}
	})
}

// What is over costs nothing any more: the sweep reads one page of what is open, and sends for what is due.
func TestTheSweepReadsOnlyWhatIsOpen(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		for range 20 {
			key := w.opened()
			w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
			w.until(key, correlation.Resumed)
		}
		open := w.opened()
		w.pass(time.Minute)
		w.tap.reset(nil)
		w.pass(10 * time.Minute)
		calls := w.tap.calls()
		if calls["due"] != 10 || calls["postpone"] != 1 || calls["put"] != 1 || calls["load"] != 1 || calls["read ticket"] != 1 || calls["ask many"] != 1 || calls["index"] != 1 || w.tap.total() != 16 {
			t.Errorf("ten minutes of one open and twenty ended: %v", calls)
		}
		w.check(open)
	})
}

func TestASweepThatIsCutGoesOnAtTheNext(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.silent = true
		var keys []correlation.Key
		for range 30 {
			keys = append(keys, w.opened())
		}
		for _, key := range keys {
			w.close(key, servicenow.Closing{Outcome: servicenow.Complete, Silent: true})
		}
		time.Sleep(time.Hour)
		w.tap.reset(func(_ int, op string) fate {
			if op == "put" {
				time.Sleep(time.Second) // a slow queue
			}
			return passes
		})
		var sent []int
		for range 10 {
			ctx, cancel := context.WithTimeout(w.ctx, 15*time.Second)
			s, err := w.first.Sweep(ctx)
			cancel()
			if err != nil {
				t.Fatal(err)
			}
			sent = append(sent, s.Sent)
			if !s.Cut {
				break
			}
		}
		if len(sent) != 3 || sent[0]+sent[1]+sent[2] != 30 {
			t.Errorf("sent %v", sent)
		}
		w.tap.reset(nil)
		w.run(time.Minute, func() bool { return len(w.entra.Resumes("")) == 30 })
		for _, key := range keys {
			w.until(key, correlation.Resumed)
			w.check(key)
		}
	})
}

// More than one page of open ones.
func TestTheSweepReachesTheLastOfMany(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		const many = 450
		for range many {
			w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
		}
		w.run(time.Hour, func() bool { return len(w.now.Tickets("sc_request")) == many })
		synctest.Wait()
		time.Sleep(time.Hour)
		s, err := w.first.Sweep(w.ctx)
		if err != nil || s != (workflow.Swept{Sent: many}) {
			t.Errorf("%+v, %v", s, err)
		}
		if s, err := w.first.Sweep(w.ctx); err != nil || s.Sent != 0 {
			t.Errorf("at once again: %+v, %v", s, err)
		}
	})
}
