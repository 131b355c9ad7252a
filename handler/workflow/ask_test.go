package workflow_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/simulator/misbehave"
	"ticketbridge/handler/simulator/servicenow"
)

const asked = "GET /v1.0/identityGovernance/entitlementManagement/assignmentRequests/*"

// The sweep asks for all that wait in a few calls; only whoever no longer waits is asked about by himself.
func TestTheSweepAsksGraphInBatchesAndFindsWhoeverLeft(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		var keys []correlation.Key
		for range 45 {
			keys = append(keys, w.opened())
		}
		gone, late := keys[7], keys[33]
		if err := w.entra.Withdraw(gone.Request); err != nil {
			t.Fatal(err)
		}
		if err := w.entra.Expire(late.Request); err != nil {
			t.Fatal(err)
		}
		w.pass(9 * time.Minute)
		w.tap.reset(nil)
		w.swept = time.Now()
		time.Sleep(2 * time.Minute)
		w.sweep()
		w.swept = time.Now()
		w.until(gone, correlation.Withdrawn)
		w.until(late, correlation.Expired)
		w.run(30*time.Second, func() bool { return w.called("read ticket") >= len(keys) })
		if calls := w.tap.calls(); calls["ask many"] != 3 || calls["ask"] != 2 || calls["read ticket"] < len(keys) {
			t.Errorf("calls: %v", calls)
		}
		for _, key := range []correlation.Key{gone, late} {
			w.run(time.Minute, func() bool { return len(w.notes(key)) > 0 })
			if len(w.notes(key)) == 0 {
				t.Error("the ticket was not told")
			}
			w.check(key)
		}
		for i, key := range keys {
			if c := w.load(key); i != 7 && i != 33 && c.State != correlation.Open {
				t.Errorf("one that waits is %s", c.State)
			}
		}
	})
}

// Where a batch does not work each asks for himself, as if there were none.
func TestWhenTheBatchFailsEachAsksForHimself(t *testing.T) {
	for name, f := range map[string]misbehave.Fault{
		"down":       {Match: "POST /v1.0/$batch", Times: 1, Status: 503},
		"throttled":  {Match: "POST /v1.0/$batch", Times: 1, Status: 429},
		"not JSON":   {Match: "POST /v1.0/$batch", Times: 1, Status: 200, Body: "<html>"},
		"no answers": {Match: "POST /v1.0/$batch", Times: 1, Status: 200, Body: `{"responses":[]}`, ContentType: "application/json"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, nil, func(w *world) {
				key := w.opened()
				if err := w.entra.Withdraw(key.Request); err != nil {
					t.Fatal(err)
				}
				w.entra.GraphFaults.Add(f)
				time.Sleep(11 * time.Minute)
				w.swept = time.Now()
				w.sweep()
				w.until(key, correlation.Withdrawn)
				if w.called("ask many") != 1 || w.called("ask") != 1 {
					t.Errorf("calls: %v", w.tap.calls())
				}
				w.check(key)
			})
		})
	}
}

// What the sweep heard is good for the look that follows it, not for one that comes much later.
func TestThatARequestWaitsIsBelievedForAShortWhile(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.silent = true
		key := w.opened()
		time.Sleep(11 * time.Minute)
		if _, err := w.first.Sweep(w.ctx); err != nil {
			t.Fatal(err)
		}
		if err := w.entra.Withdraw(key.Request); err != nil {
			t.Fatal(err)
		}
		time.Sleep(11 * time.Minute) // the message lies in the queue
		w.tap.reset(nil)
		w.poll()
		if c := w.load(key); c.State != correlation.Withdrawn || w.called("ask") != 1 {
			t.Errorf("it is %s; calls: %v", c.State, w.tap.calls())
		}
	})
}

// anonymous makes the stand-in's callouts say nothing of a person but the ids and the name, as some of Microsoft's samples do.
func anonymous(body []byte) []byte {
	var m map[string]any
	if err := json.Unmarshal(body, &m); err != nil {
		panic(err)
	}
	for _, p := range []any{m["Requestor"], m["Assignment"].(map[string]any)["Target"]} {
		delete(p.(map[string]any), "Email")
		delete(p.(map[string]any), "PrincipalName")
	}
	out, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return out
}

func TestAPersonOfWhomTheCalloutSaysNothingIsLookedUpInGraph(t *testing.T) {
	inWorld(t, func(s *setup) { s.callout = anonymous }, func(w *world) {
		key := w.opened()
		if got := w.ticket(key).Fields["requested_for"]; got == "" {
			t.Errorf("requested_for is empty\n%s", w.timeline(key))
		}
		if w.called("people") != 1 {
			t.Errorf("calls: %v", w.tap.calls())
		}
		if strings.Contains(w.timeline(key), "@") {
			t.Errorf("the timeline names people:\n%s", w.timeline(key))
		}
	})
	inWorld(t, nil, func(w *world) {
		w.opened()
		if w.called("people") != 0 {
			t.Error("looked up, though the callout says it all")
		}
	})
	inWorld(t, func(s *setup) { s.callout, s.noLookUp = anonymous, true }, func(w *world) {
		key := w.opened()
		if w.called("people") != 0 || w.ticket(key).Fields["requested_for"] != "" {
			t.Errorf("looked up all the same: %v", w.tap.calls())
		}
	})
}

// Without what Graph would have said the ticket is opened all the same, and the timeline says so.
func TestALookUpThatDoesNotWorkKeepsNoTicketFromBeingOpened(t *testing.T) {
	for name, c := range map[string]struct {
		fault misbehave.Fault
		calls int
		says  string
	}{
		"no right":    {misbehave.Fault{Match: asked, Status: 403, Body: `{"error":{"code":"Forbidden","message":""}}`}, 1, "Graph could not be asked"},
		"down":        {misbehave.Fault{Match: asked, Status: 503}, 3, "Graph could not be asked"},
		"not a word":  {misbehave.Fault{Match: asked, Status: 200, Body: `{"id":"x"}`, ContentType: "application/json"}, 1, "has an e-mail address"},
		"down awhile": {misbehave.Fault{Match: asked, Status: 503, Times: 3}, 2, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(s *setup) { s.callout = anonymous }, func(w *world) {
				w.entra.GraphFaults.Add(c.fault)
				key := w.opened()
				if n := w.called("people"); n < c.calls {
					t.Errorf("asked %d times", n)
				}
				if found := w.ticket(key).Fields["requested_for"] != ""; found != (c.says == "") {
					t.Errorf("requested_for is there: %t\n%s", found, w.timeline(key))
				}
				if c.says != "" {
					w.says(key, c.says)
				}
				w.entra.GraphFaults.Clear()
				w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
				w.until(key, correlation.Resumed)
				w.check(key)
			})
		})
	}
}
