package workflow_test

import (
	"strings"
	"testing"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/servicenow"
	"ticketbridge/handler/ticket"
	"ticketbridge/handler/workflow"
)

// dies makes the process die at each call of the given name, and counts.
func (w *world) dies(op string) *int {
	times := 0
	w.tap.reset(func(_ int, what string) fate {
		if what != op {
			return passes
		}
		times++
		return killedBefore
	})
	return &times
}

// Whoever finds the lease of a dead worker puts the message off, and so the host never takes it for poison: we have to count ourselves.
func TestAStepThatKillsOneWorkerAfterTheOtherFailsVisibly(t *testing.T) {
	for op, state := range map[string]correlation.State{"create ticket": correlation.Opening, "answer": correlation.Resuming} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			inWorld(t, nil, func(w *world) {
				var times *int
				var key correlation.Key
				if state == correlation.Opening {
					times = w.dies(op)
					key = w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
				} else {
					key = w.opened()
					times = w.dies(op)
					w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
				}
				start := time.Now()
				c := w.until(key, correlation.Failed)
				if took := time.Since(start); *times != 10 || took > time.Hour {
					t.Errorf("%d died over it, within %s", *times, took)
				}
				if c.From != state || c.LastReason != fault.Internal || !strings.Contains(c.Reason, "10 times in a row") || !strings.Contains(c.Advice, "retry the request") {
					t.Errorf("from %s because %q (%s), advice %q", c.From, c.Reason, c.LastReason, c.Advice)
				}
				if timeline := w.timeline(key); strings.Count(timeline, "ended without a word") != 10 {
					t.Errorf("the timeline:\n%s", timeline)
				}
				w.tap.reset(nil)
				w.pass(12 * time.Minute)
				w.check(key)
			})
		})
	}
}

// One that went on between two deaths begins to count anew: machines are replaced every day.
func TestDeathsThatAreNotInARowFailNobody(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		died, refusals := 0, 0
		w.tap.reset(func(_ int, op string) fate {
			if op != "create ticket" || died == 18 {
				return passes
			}
			if died == 9 && refusals == 0 {
				refusals++
				return refused
			}
			died++
			return killedBefore
		})
		key := w.opened()
		if died != 18 || refusals != 1 {
			t.Errorf("%d died, %d were refused", died, refusals)
		}
		w.check(key)
	})
}

// What is written back is worth less than the request: a note that kills the process is given up, and the request stays ended.
func TestANoteThatKillsOneWorkerAfterTheOtherIsGivenUp(t *testing.T) {
	for name, end := range map[string]func(w *world, key correlation.Key) correlation.State{
		"the outcome": func(w *world, key correlation.Key) correlation.State {
			w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
			return correlation.Resumed
		},
		"the ending": func(w *world, key correlation.Key) correlation.State {
			if err := w.entra.Withdraw(key.Request); err != nil {
				w.Error(err)
			}
			return correlation.Withdrawn
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, nil, func(w *world) {
				key := w.opened()
				times := w.dies("note")
				state := end(w, key)
				if !w.run(2*time.Hour, func() bool { _, ended := w.lists(key); return ended }) {
					t.Errorf("it is not settled:\n%s", w.timeline(key))
				}
				if c := w.load(key); c.State != state || *times != 10 {
					t.Errorf("%s; %d died over it\n%s", c.State, *times, w.timeline(key))
				}
				w.says(key, "could not be told")
			})
		})
	}
}

func TestAReminderThatKillsOneWorkerAfterTheOtherIsGivenUp(t *testing.T) {
	inWorld(t, func(s *setup) {
		s.rules = several{Rules: builtIn(), tickets: 1, after: ticket.Aftercare{Remind: 30 * 24 * time.Hour}}
	}, func(w *world) {
		key := w.opened()
		times := w.dies("note")
		w.pass(5 * time.Hour)
		if c := w.load(key); c.State != correlation.Open || *times != 10 {
			t.Errorf("%s; %d died over it\n%s", c.State, *times, w.timeline(key))
		}
		w.says(key, "nobody is reminded of the deadline")
		w.tap.reset(nil)
		w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
		w.until(key, correlation.Resumed)
		w.check(key)
	})
}

// A worker that was suspended between taking the lease and telling Graph leaves it to whoever came after.
func TestNobodyTellsGraphWhenTheLeaseIsRunningOut(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		key := w.opened()
		saves := 0
		w.tap.reset(func(_ int, op string) fate {
			if op == "save" {
				if saves++; saves == 1 { // the intent to resume is on record; then the machine sleeps
					time.Sleep(80 * time.Second)
				}
			}
			return passes
		})
		w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
		w.until(key, correlation.Resumed)
		w.says(key, "the lease on the intent is running out")
		if granted, told := w.granted(key); granted != 1 || told != 1 {
			t.Errorf("granted %d times, told %d times", granted, told)
		}
		w.check(key)
	})
}

// The sweep is quicker than the host, which brings a message back ten minutes after whoever had it died.
func TestACloseMessageWhoseProcessDiedIsNotWaitedFor(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		key := w.opened()
		died, decide := first("read ticket", killedBefore)
		w.tap.reset(decide)
		w.swept = time.Now()
		start := time.Now()
		w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
		w.until(key, correlation.Resumed)
		if took := time.Since(start); !*died || took > 3*time.Minute {
			t.Errorf("died: %t; resumed after %s", *died, took)
		}
		w.check(key)
	})
}

// The host may move a message to the poison queue long after its correlation went on without it.
func TestAMessageThatIsPoisonLongAfterItsCorrelationWentOnFailsNobody(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.silent = true
		key := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
		message := workflow.Message{Key: key, Why: workflow.WhyCallout, Sent: time.Now()}
		time.Sleep(time.Second)
		c := w.until(key, correlation.Open)
		time.Sleep(time.Minute)
		w.poison(coded(message.Text()))
		if s, err := w.first.Sweep(w.ctx); err != nil || s.Poisoned != 0 {
			t.Fatalf("%+v, %v", s, err)
		}
		// One that was sent since is another matter.
		message.Sent = time.Now()
		time.Sleep(time.Second)
		w.poison(coded(message.Text()))
		if s, err := w.first.Sweep(w.ctx); err != nil || s.Poisoned != 1 {
			t.Fatalf("%+v, %v", s, err)
		}
		if now := w.load(key); c.State != correlation.Open || now.State != correlation.Failed {
			t.Errorf("%s, then %s", c.State, now.State)
		}
	})
}
