package workflow_test

import (
	"context"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/servicenow"
	"ticketbridge/handler/workflow"
)

// poison puts a text on the poison queue, as the host does with a message that failed five times.
func (w *world) poison(wire string) {
	w.Helper()
	queues, name := w.queue.Queues(), w.queue.Name()+"-poison"
	if err := queues.Create(w.ctx, name); err != nil {
		w.Fatal(err)
	}
	if err := queues.Put(w.ctx, name, wire, 0); err != nil {
		w.Fatal(err)
	}
}

func coded(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// left is how many messages lie in the poison queue, hidden ones too.
func (w *world) left() int {
	w.Helper()
	time.Sleep(time.Hour)
	messages, err := w.queue.Queues().Get(w.ctx, w.queue.Name()+"-poison", 32, time.Second)
	if err != nil {
		w.Fatal(err)
	}
	return len(messages)
}

func TestAPoisonedMessageFailsItsCorrelationForAPersonToSee(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		key := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
		time.Sleep(time.Second)
		w.poison(coded(workflow.Message{Key: key, Why: workflow.WhyCallout}.Text()))
		s, err := w.first.Sweep(w.ctx)
		if err != nil || s.Poisoned != 1 || s.Unreadable != 0 {
			t.Fatalf("%+v, %v", s, err)
		}
		c := w.load(key)
		if c.State != correlation.Failed || !strings.Contains(c.Reason, "it failed five times, or the process died over it") || !strings.Contains(c.Advice, "retry the request") || c.LastReason != fault.Internal {
			t.Errorf("%s because %q (%s), advice %q", c.State, c.Reason, c.LastReason, c.Advice)
		}
		if open, _ := w.lists(key); !open {
			t.Error("it is not on the list of what waits")
		}
		w.check(key)
		if n := w.left(); n > 0 {
			t.Errorf("%d messages are left in the poison queue", n)
		}
	})
}

func TestAPoisonedMessageWhoseCorrelationWentOnChangesNothing(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		open := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
		w.poison(coded(workflow.Message{Key: open, Why: workflow.WhyCallout}.Text()))
		time.Sleep(time.Second)
		w.until(open, correlation.Open)
		ended := w.opened()
		w.close(ended, servicenow.Closing{Outcome: servicenow.Complete})
		w.until(ended, correlation.Resumed)
		time.Sleep(time.Hour)
		for _, m := range []workflow.Message{
			{Key: ended, Why: workflow.WhySweep},
			{Key: correlation.Key{Request: ended.Request, Stage: "7d1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a12"}, Why: workflow.WhySweep},
			{Table: "sc_request", SysID: strings.Repeat("a", 32), Why: workflow.WhyClosed},
		} {
			w.poison(coded(m.Text()))
		}
		before := []int{w.load(open).Events, w.load(ended).Events}
		s, err := w.first.Sweep(w.ctx)
		if err != nil || s.Poisoned != 0 || s.Unreadable != 0 {
			t.Fatalf("%+v, %v", s, err)
		}
		if after := []int{w.load(open).Events, w.load(ended).Events}; after[0] != before[0] || after[1] != before[1] {
			t.Errorf("events before %d, after %d", before, after)
		}
		if n := w.left(); n > 0 {
			t.Errorf("%d messages are left in the poison queue", n)
		}
	})
}

// Somebody may be at work on it, after all: then it is looked at again later.
func TestAPoisonedMessageIsLeftWhileSomebodyHasTheLease(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.silent = true
		key := w.planned("deny", "sc_request")
		c := w.load(key)
		c.Lease("somebody", time.Now().Add(2*time.Minute))
		if err := w.store.Save(w.ctx, c); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		w.poison(coded(workflow.Message{Key: key, Why: workflow.WhyRetry}.Text()))
		if s, err := w.first.Sweep(w.ctx); err != nil || s.Poisoned != 0 {
			t.Fatalf("%+v, %v", s, err)
		}
		if c := w.load(key); c.State != correlation.Opening {
			t.Errorf("it is %s", c.State)
		}
		time.Sleep(time.Hour) // the lease has ended, and the message is seen again
		if s, err := w.first.Sweep(w.ctx); err != nil || s.Poisoned != 1 {
			t.Fatalf("%+v, %v", s, err)
		}
		if c := w.load(key); c.State != correlation.Failed {
			t.Errorf("it is %s", c.State)
		}
	})
}

func TestAPoisonedMessageThatNobodyCanReadIsKept(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		texts := []string{"not base64 at all!", coded("not JSON"), coded(`{"id":1}`), coded(`{"ticketbridge":{"request":"x","stage":"y"}}`), coded("\xff\xfe\x00")}
		for _, text := range texts {
			w.poison(text)
		}
		s, err := w.first.Sweep(w.ctx)
		if err != nil || s.Unreadable != len(texts) {
			t.Fatalf("%+v, %v", s, err)
		}
		kept, err := w.store.Unreadable(w.ctx)
		if err != nil || len(kept) != len(texts) {
			t.Fatalf("%d kept, %v", len(kept), err)
		}
		for _, u := range kept {
			if u.Reason == "" || u.ID == "" || u.InsertedOn.IsZero() {
				t.Errorf("kept %+v", u)
			}
		}
		if n := w.left(); n > 0 {
			t.Errorf("%d messages are left in the poison queue", n)
		}
		if !strings.Contains(w.log.String(), "a message that names no correlation is kept") {
			t.Error("the log says nothing")
		}
	})
}

// The host runs everything else when the schedule's setting is missing: then a message now and then is enough to find what is due.
func TestWithoutATimerAMessageSweepsWhenNoneHasRunForLong(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		forgotten := w.opened()
		w.pass(2 * time.Minute) // the timer has run
		w.silent = true         // and does no longer
		w.close(forgotten, servicenow.Closing{Outcome: servicenow.Complete, Silent: true})
		w.pass(time.Hour)
		if c := w.load(forgotten); c.State != correlation.Open {
			t.Fatalf("it is %s with nobody to see to it", c.State)
		}
		w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
		w.until(forgotten, correlation.Resumed)
		if n := strings.Count(w.log.String(), `"event":"sweepOverdue"`); n != 1 {
			t.Errorf("the log says so %d times", n)
		}
		for range 20 { // the next is due when the sweep is
			w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
			w.pass(10 * time.Second)
		}
		if n := strings.Count(w.log.String(), `"event":"sweepOverdue"`); n != 1 {
			t.Errorf("the log says so %d times", n)
		}
	})
}

// Two sweeps must not undo what one of them has remembered; and a mark that cannot be read stops nothing but this sweep.
func TestASweepRemembersWhereItStoppedAcrossProcesses(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.silent = true
		const many = 500
		for range many {
			w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
		}
		w.run(time.Hour, func() bool { return len(w.now.Tickets("sc_request")) == many })
		time.Sleep(time.Hour)
		var cursors []string
		w.tap.reset(func(_ int, op string) fate {
			if op == "put" {
				time.Sleep(50 * time.Millisecond)
			}
			return passes
		})
		sent := 0
		for range 10 {
			w.another()
			ctx, cancel := context.WithTimeout(w.ctx, 17*time.Second) // 12 s of it are used: 240 messages
			s, err := w.all[len(w.all)-1].Sweep(ctx)
			cancel()
			if err != nil {
				t.Fatal(err)
			}
			sent += s.Sent
			mark, err := w.store.Mark(w.ctx)
			if err != nil {
				t.Fatal(err)
			}
			cursors = append(cursors, mark.Cursor)
			if s.Cut != (mark.Cursor != "") || !s.Cut && mark.Ended.IsZero() {
				t.Errorf("%+v, and the mark is %+v", s, mark)
			}
			if !s.Cut {
				break
			}
		}
		if len(cursors) != 3 || cursors[0] == "" || cursors[1] <= cursors[0] || cursors[2] != "" || sent != many {
			t.Errorf("sent %d, stopped at %q", sent, cursors)
		}
	})
}

func TestWhatEndedLongAgoIsRemovedAndNothingElse(t *testing.T) {
	inWorld(t, func(s *setup) { s.policy.Retention = 90 * 24 * time.Hour }, func(w *world) {
		ended := w.opened()
		w.close(ended, servicenow.Closing{Outcome: servicenow.Complete})
		w.until(ended, correlation.Resumed)
		held := w.opened()
		w.close(held, servicenow.Closing{Outcome: servicenow.Complete, Fields: map[string]string{"approval": "rejected"}})
		w.until(held, correlation.Held)
		goesOn := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy, Shape: entra.Shape{NoCallback: true}})
		w.until(goesOn, correlation.Open)
		w.silent = true
		time.Sleep(89 * 24 * time.Hour)
		sweep := func() int {
			s, err := w.first.Sweep(w.ctx)
			if err != nil {
				t.Fatal(err)
			}
			return s.Purged
		}
		if n := sweep(); n != 0 || w.load(ended) == nil {
			t.Errorf("%d removed after 89 days", n)
		}
		time.Sleep(3 * 24 * time.Hour)
		if n := sweep(); n != 1 || w.load(ended) != nil {
			t.Errorf("%d removed after 92 days", n)
		}
		if events, err := w.store.Timeline(w.ctx, ended); err != nil || len(events) > 0 {
			t.Errorf("its timeline is left: %d events, %v", len(events), err)
		}
		time.Sleep(1000 * 24 * time.Hour)
		if n := sweep(); n != 0 || w.load(held) == nil || w.load(goesOn) == nil {
			t.Errorf("%d removed that had not ended", n)
		}
		w.check(held)
	})
}
