package workflow_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/misbehave"
	"ticketbridge/handler/workflow"
)

func TestTheCallsOfAnInvocationAreCountedWithThoseThatWereNotServed(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		key := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
		w.until(key, correlation.Open)
		var counts []*workflow.Calls
		look := func() (serviceNow, graph workflow.Made) {
			ctx, calls := workflow.WithCalls(w.ctx)
			counts = append(counts, calls)
			if err := w.instance(0).Advance(ctx, workflow.Message{Key: key, Why: workflow.WhySweep}); err != nil {
				t.Fatal(err)
			}
			return calls.Of(workflow.ServiceNow), calls.Of(workflow.Graph)
		}
		if now, graph := look(); now.Calls != 1 || now.Failed != 0 || graph.Calls != 1 || graph.Failed != 0 {
			t.Errorf("a look at a ticket and at its request: %+v of ServiceNow, %+v of Graph", now, graph)
		}
		w.now.Faults.Add(misbehave.Fault{Match: "GET /api/now", Delay: 300 * time.Millisecond, Status: 500})
		now, graph := look()
		if now.Calls != 3 || now.Failed != 3 || now.Took != 900*time.Millisecond || graph.Calls != 0 {
			t.Errorf("three tries of 300 ms that were not served: %+v of ServiceNow, %+v of Graph", now, graph)
		}
		if again := counts[0].Of(workflow.ServiceNow); again.Calls != 1 {
			t.Errorf("the invocation before has %+v by now", again)
		}
	})
}

func TestAnOutageIsSaidAgainAtEachTrial(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.timed()
		w.now.Faults.Add(misbehave.Fault{Status: 503})
		for range 3 {
			w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
		}
		w.pass(time.Hour)
		var last time.Time
		for _, l := range w.events("paused") {
			at, longest := l.time(t), 6*time.Minute // a trial every five, and messages that come a little later
			if !last.IsZero() && at.Sub(last) > longest {
				t.Errorf("nothing was said from %s to %s", last, at)
			}
			last = at
		}
		if time.Since(last) > 6*time.Minute {
			t.Errorf("the last word was %s ago", time.Since(last))
		}
	})
}

func TestASweepSaysWhichDeadlineIsTheNearest(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.timed()
		first := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
		w.until(first, correlation.Open)
		w.pass(24 * time.Hour)
		second := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
		w.until(second, correlation.Open)
		w.pass(time.Hour)
		said := w.events("nearest")
		l := said[len(said)-1]
		left := w.load(first).Deadline.Sub(l.time(t))
		if l.Request != first.Request || (time.Duration(l.Left*float64(time.Millisecond))-left).Abs() > time.Second || l.State != "open" {
			t.Errorf("it says %+v, and %s has %s left", l, first, left)
		}
	})
}

// entry is a line of the log, as far as it is looked at here.
type entry struct {
	Event   string
	Time    string
	Request string `json:"requestId"`
	State   string
	Left    float64
}

func (e entry) time(t *testing.T) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, e.Time)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// timed puts the time on each line of the log, as the program does.
func (w *world) timed() {
	w.ctx = zerolog.Ctx(w.ctx).Hook(zerolog.HookFunc(func(e *zerolog.Event, _ zerolog.Level, _ string) {
		e.Str("time", time.Now().UTC().Format(time.RFC3339Nano))
	})).WithContext(w.ctx)
}

func (w *world) events(name string) (all []entry) {
	w.Helper()
	for line := range strings.Lines(w.log.String()) {
		var e entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			w.Fatal(err)
		}
		if e.Event == name {
			all = append(all, e)
		}
	}
	if len(all) == 0 {
		w.Fatalf("no line says %s", name)
	}
	return all
}
