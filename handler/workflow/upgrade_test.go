package workflow_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"ticketbridge/handler/callout"
	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/servicenow"
	"ticketbridge/handler/ticket"
	"ticketbridge/handler/workflow"
)

// During an upgrade an old and a new binary work on one storage. What the new one wrote in a way that the old one does not know is left to it.
func TestWhatANewerVersionWroteIsLeftToIt(t *testing.T) {
	for name, change := range map[string]func(*correlation.Correlation){
		"a newer schema":   func(c *correlation.Correlation) { c.Schema = correlation.SchemaVersion + 1 },
		"an unknown state": func(c *correlation.Correlation) { c.State = "approving" },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, nil, func(w *world) {
				key := w.opened()
				was := *w.load(key)
				newer := was
				change(&newer)
				if err := w.store.Save(w.ctx, &newer); err != nil {
					t.Fatal(err)
				}
				w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
				w.tap.reset(nil)
				w.pass(26 * time.Hour)
				if calls := w.tap.calls(); calls["save"]+calls["read ticket"]+calls["answer"] > 0 {
					t.Errorf("it was worked on: %v", calls)
				}
				if len(w.failures)+len(w.poisoned) > 0 {
					t.Errorf("failures %v, poison %q", w.failures, w.poisoned)
				}
				if open, _ := w.lists(key); !open {
					t.Error("it is no longer on the list")
				}
				c := w.load(key) // the newer binary is done with it
				c.Schema, c.State = was.Schema, was.State
				if err := w.store.Save(w.ctx, c); err != nil {
					t.Fatal(err)
				}
				w.until(key, correlation.Resumed)
			})
		})
	}
}

// bulky are rules that plan a ticket too large for the storage.
type bulky struct{ *ticket.Rules }

func (b bulky) Choose(c *callout.Callout, deadline time.Time) (ticket.Choice, error) {
	choice, err := b.Rules.Choose(c, deadline)
	if err == nil {
		choice.Drafts[0].Fields["description"] = strings.Repeat("long ", 1<<18)
	}
	return choice, err
}

func TestWhatTheStorageCannotKeepFailsWithTheReason(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.first.Rules = bulky{ticket.BuiltIn()}
		key := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
		c := w.until(key, correlation.Failed)
		if c.LastReason != fault.Invalid || c.Advice == "" || len(w.failures) > 0 {
			t.Errorf("%s: %q, advice %q; failures %v", c.LastReason, c.Reason, c.Advice, w.failures)
		}
		w.check(key)
		if n := len(w.now.ByCorrelation(key.String())); n > 0 {
			t.Errorf("%d tickets", n)
		}
	})
}

// A request that has waited for long because ServiceNow was away may not be wanted any more: then no ticket is opened.
func TestAfterALongOutageNoTicketIsOpenedForARequestThatIsGone(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.now.Faults.Add(servicenow.Maintenance(0))
		gone, wanted := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy}), w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
		w.pass(3 * time.Hour)
		if err := w.entra.Withdraw(gone.Request); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Hour)
		w.now.Faults.Clear()
		w.until(wanted, correlation.Open)
		w.until(gone, correlation.Withdrawn)
		if n := len(w.now.ByCorrelation(gone.String())); n > 0 {
			t.Errorf("%d tickets for a request that nobody wants", n)
		}
		w.check(gone)
		w.check(wanted)
	})
}

// Tables may fail while the queue serves: the message is put off, and not delivered again at once until it is poison.
func TestTablesThatDoNotServePoisonNoMessage(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		key := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
		w.silent = true
		w.tap.reset(func(_ int, op string) fate {
			if op == "load" {
				return refused
			}
			return passes
		})
		w.pass(20 * time.Minute)
		if n := w.called("load"); n > 15 || n < 5 {
			t.Errorf("tried %d times in 20 minutes", n)
		}
		if len(w.failures)+len(w.poisoned) > 0 {
			t.Errorf("failures %v, poison %q", w.failures, w.poisoned)
		}
		w.tap.reset(nil)
		start := time.Now()
		w.until(key, correlation.Open)
		if took := time.Since(start); took > 6*time.Minute {
			t.Errorf("took %s to go on", took)
		}
		if err := w.first.Advance(context.Background(), workflow.Message{Key: key, Why: workflow.WhyRetry}); err != nil {
			t.Error(err)
		}
		w.check(key)
	})
}
