package workflow_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/misbehave"
	"ticketbridge/handler/simulator/servicenow"
)

// An outage of hours, with many requests waiting: the caller is paused, not each request. ServiceNow hears little of us while it is down, most requests
// have made no attempt, and when it is back they do not all come at once.
func TestAWideOutageBurnsNobodysAttemptsAndEndsWithoutAStampede(t *testing.T) {
	inWorld(t, func(s *setup) { s.now.Notifications = nil }, func(w *world) {
		const many = 80
		w.now.Faults.Add(misbehave.Fault{Status: 503})
		var keys []correlation.Key
		for range many {
			keys = append(keys, w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy}))
		}
		var calls []time.Time
		w.tap.reset(func(_ int, op string) fate {
			if slices.Contains([]string{"find user", "find ticket", "create ticket", "read ticket", "note"}, op) {
				calls = append(calls, time.Now())
			}
			return passes
		})
		start := time.Now()
		const down = 4 * time.Hour
		w.pass(down)
		attempts, most, tried := 0, 0, 0
		for _, key := range keys {
			c := w.load(key)
			attempts += c.Attempts
			most = max(most, c.Attempts)
			if c.Attempts > 0 {
				tried++
			}
			if c.State.NeedsPerson() || c.LastError == "" {
				t.Errorf("%s: %s, because %q", key, c.State, c.LastError)
			}
		}
		// One trial every five minutes, and those before the gate shut: of the first sixteen at once, some three times.
		if n := len(calls); n > int(down/(5*time.Minute))+60 {
			t.Errorf("ServiceNow was called %d times while it was down", n)
		}
		if attempts > len(calls) || most > 20 {
			t.Errorf("%d attempts by %d of %d requests, one of them %d", attempts, tried, many, most)
		}
		calls = nil
		w.polls = 2 * time.Second // as host.json says
		w.now.Faults.Clear()
		back := time.Now()
		for _, key := range keys {
			w.until(key, correlation.Open)
			w.check(key)
		}
		took := time.Since(back)
		if took > 20*time.Minute {
			t.Errorf("the last got its ticket %s after ServiceNow was back", took)
		}
		busiest := 0
		for i, j := 0, 0; i < len(calls); i++ {
			for calls[i].Sub(calls[j]) > 10*time.Second {
				j++
			}
			busiest = max(busiest, i-j+1)
		}
		if busiest > (10+2)*4*3 { // four requests a second, of three calls each
			t.Errorf("%d of %d calls within ten seconds", busiest, len(calls))
		}
		t.Logf("counts: %d requests, down for %s: %d calls, %d attempts, at most %d by one; back within %s, at most %d of %d calls in 10 s",
			many, back.Sub(start), attempts, attempts, most, took, busiest, len(calls))
	})
}

// One request that ServiceNow never serves does not hold the others up, and fails by itself in the end.
func TestOneRequestThatIsNeverServedHoldsNobodyUp(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		bad := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
		w.tap.never = bad
		for i := range 20 {
			key := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
			start := time.Now()
			w.until(key, correlation.Open)
			if took := time.Since(start); took > 30*time.Second {
				t.Errorf("its ticket took %s", took)
			}
			w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
			w.until(key, correlation.Resumed)
			w.pass(min(5*time.Second<<i, 20*time.Minute)) // never three attempts of the bad one in a row: that could not be told from an outage
		}
		c := w.until(bad, correlation.Failed)
		if !strings.Contains(c.Reason, "retries used up") || c.Advice == "" || c.LastReason != fault.Unreachable {
			t.Errorf("%q, %q, %s", c.Reason, c.Advice, c.LastReason)
		}
		w.check(bad)
	})
}

// Creating is limited apart from reading: a limit on the one does not stop the other.
func TestALimitOnCreatingDoesNotStopTheReadingOfTickets(t *testing.T) {
	inWorld(t, func(s *setup) { s.now.Notifications = nil }, func(w *world) {
		open := w.opened()
		w.now.Faults.Add(misbehave.Fault{Match: "POST /api/now", Status: 429, RetryAfter: "3600"})
		var late []correlation.Key
		for range 5 {
			late = append(late, w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy}))
		}
		w.pass(time.Minute)
		w.tap.reset(nil)
		start := time.Now()
		w.close(open, servicenow.Closing{Outcome: servicenow.Complete})
		w.until(open, correlation.Resumed)
		if took := time.Since(start); took > 15*time.Minute {
			t.Errorf("it took %s to see that a ticket had closed", took)
		}
		if n := w.called("create ticket"); n > 0 {
			t.Errorf("%d were created against the wish of ServiceNow", n)
		}
		w.now.Faults.Clear()
		for _, key := range late {
			w.until(key, correlation.Open)
			w.check(key)
		}
	})
}

// A cut connection or two are not worth a line on the timeline, as long as nothing is changed by the call.
func TestAReadThatFailsQuicklyIsRepeatedAtOnce(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.now.Faults.Add(misbehave.Fault{Match: "GET /api/now/v2/table/sys_user", Times: 2, DropCall: true})
		start := time.Now()
		key := w.opened()
		if c := w.load(key); strings.Contains(w.timeline(key), "attempt") || time.Since(start) > 5*time.Second || c.State != correlation.Open {
			t.Errorf("after %s:\n%s", time.Since(start), w.timeline(key))
		}
		w.now.Faults.Add(misbehave.Fault{Match: "POST", Times: 1, DropCall: true}) // what changes something is sent once
		w.tap.reset(nil)
		second := w.opened()
		if calls := w.tap.calls(); calls["create ticket"] != 2 || calls["find ticket"] != 1 {
			t.Errorf("calls: %v\n%s", calls, w.timeline(second))
		}
		if c := w.load(second); !strings.Contains(w.timeline(second), "attempt 1 did not work") || c.State != correlation.Open {
			t.Errorf("%s\n%s", c.State, w.timeline(second))
		}
	})
}
