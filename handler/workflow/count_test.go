package workflow_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/servicenow"
	"ticketbridge/handler/ticket"
	"ticketbridge/handler/workflow"
)

// What a life costs is fixed, and small. docs/performance.md has these numbers.
func TestTheCallsOfALifeAreThese(t *testing.T) {
	opening := map[string]int{
		"store create": 1, "put": 1, // the callout
		"load": 1, "callout": 1, "find user": 1, "save": 2, "create ticket": 1, "index": 1, // its message
	}
	for name, c := range map[string]struct {
		policy  string
		rules   workflow.Rules // nil for the built-in ones
		play    func(w *world, key correlation.Key)
		end     correlation.State
		closing map[string]int // what comes after the opening
		storage int            // operations of Table and Queue Storage that a whole life takes, without the host's own on the queue
		now     map[string]int
		graph   map[string]int
	}{
		"granted": {
			ledger, nil, func(w *world, key correlation.Key) { w.close(key, servicenow.Closing{Outcome: servicenow.Complete}) }, correlation.Resumed,
			map[string]int{"put": 1, "load": 1, "read ticket": 1, "postpone": 2, "save": 3, "answer": 1, "note": 1, "index ended": 1},
			17,
			map[string]int{"GET sys_user": 1, "POST sc_request": 1, "GET sc_request/{sys_id}": 1, "PATCH sc_request/{sys_id}": 1},
			map[string]int{"POST resume": 1},
		},
		"denied": {
			ledger, nil, func(w *world, key correlation.Key) { w.close(key, servicenow.Closing{Outcome: servicenow.Rejected}) }, correlation.Denied,
			map[string]int{"put": 1, "load": 1, "read ticket": 1, "postpone": 2, "save": 3, "answer": 1, "note": 1, "index ended": 1},
			17,
			map[string]int{"GET sys_user": 1, "POST sc_request": 1, "GET sc_request/{sys_id}": 1, "PATCH sc_request/{sys_id}": 1},
			map[string]int{"POST resume": 1},
		},
		"launch and continue": {
			badge, nil, func(w *world, key correlation.Key) { w.close(key, servicenow.Closing{Outcome: servicenow.Complete}) }, correlation.Done,
			map[string]int{"put": 1, "postpone": 1, "load": 1, "read ticket": 1, "save": 2, "ask": 1, "note": 1, "index ended": 1},
			15,
			map[string]int{"GET sys_user": 1, "POST sc_request": 1, "GET sc_request/{sys_id}": 1, "PATCH sc_request/{sys_id}": 1},
			map[string]int{"GET": 1},
		},
		"a ticket without a state anybody mapped": {
			ledger, nil, func(w *world, key correlation.Key) {
				w.close(key, servicenow.Closing{Fields: map[string]string{"request_state": "closed_somehow", "active": "false"}})
			}, correlation.Held,
			map[string]int{"put": 1, "postpone": 1, "load": 1, "read ticket": 1, "save": 2, "note": 1, "index": 1},
			14,
			map[string]int{"GET sys_user": 1, "POST sc_request": 1, "GET sc_request/{sys_id}": 1, "PATCH sc_request/{sys_id}": 1},
			nil,
		},
		"granted, and no note": {
			ledger,
			several{Rules: builtIn(), tickets: 1, after: ticket.Aftercare{NoOutcomeNote: true}},
			func(w *world, key correlation.Key) { w.close(key, servicenow.Closing{Outcome: servicenow.Complete}) }, correlation.Resumed,
			map[string]int{"put": 1, "load": 1, "read ticket": 1, "postpone": 2, "save": 2, "answer": 1, "index ended": 1},
			16,
			map[string]int{"GET sys_user": 1, "POST sc_request": 1, "GET sc_request/{sys_id}": 1},
			map[string]int{"POST resume": 1},
		},
		"withdrawn, and the ticket closed with it": {
			ledger,
			several{Rules: builtIn(), tickets: 1, after: ticket.Aftercare{Cancel: cancelling}},
			func(w *world, key correlation.Key) {
				w.now.MisdeliverNext(servicenow.Misdelivery{Lose: true})
				if err := w.entra.Withdraw(key.Request); err != nil {
					w.Error(err)
				}
				time.Sleep(10 * time.Minute)
				w.sweep()
			}, correlation.Withdrawn,
			map[string]int{"due": 1, "postpone": 1, "put": 1, "load": 1, "read ticket": 3, "ask many": 1, "ask": 1, "save": 2, "update": 1, "index ended": 1},
			16,
			map[string]int{"GET sys_user": 1, "POST sc_request": 1, "GET sc_request/{sys_id}": 3, "PATCH sc_request/{sys_id}": 1},
			map[string]int{"GET": 2},
		},
		"reminded of the deadline": {
			ledger,
			several{Rules: builtIn(), tickets: 1, after: ticket.Aftercare{Remind: 30 * 24 * time.Hour}},
			func(w *world, _ correlation.Key) {
				time.Sleep(10 * time.Minute)
				w.sweep()
				w.pass(time.Minute)
			}, correlation.Open,
			map[string]int{"due": 1, "postpone": 1, "put": 1, "load": 1, "read ticket": 1, "ask many": 1, "save": 2, "note": 1, "index": 1},
			15,
			map[string]int{"GET sys_user": 1, "POST sc_request": 1, "GET sc_request/{sys_id}": 1, "PATCH sc_request/{sys_id}": 1},
			map[string]int{"GET": 1},
		},
		"withdrawn": { // found by a sweep
			ledger, nil, func(w *world, key correlation.Key) {
				if err := w.entra.Withdraw(key.Request); err != nil {
					w.Error(err)
				}
				time.Sleep(10 * time.Minute)
				w.sweep()
			}, correlation.Withdrawn,
			map[string]int{"due": 1, "postpone": 1, "put": 1, "load": 1, "read ticket": 1, "ask many": 1, "ask": 1, "save": 2, "note": 1, "index ended": 1},
			16,
			map[string]int{"GET sys_user": 1, "POST sc_request": 1, "GET sc_request/{sys_id}": 1, "PATCH sc_request/{sys_id}": 1},
			map[string]int{"GET": 2},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(s *setup) { s.rules = c.rules }, func(w *world) {
				w.silent = true
				key := w.submit(entra.NewRequest{Policy: w.policy(c.policy)})
				w.until(key, correlation.Open)
				if diff := cmp.Diff(opening, w.tap.calls()); diff != "" {
					t.Errorf("until the ticket is open (-want +got):\n%s", diff)
				}
				want := maps.Clone(opening)
				for op, n := range c.closing {
					want[op] += n
				}
				c.play(w, key)
				w.until(key, c.end)
				w.pass(time.Hour)
				if diff := cmp.Diff(want, w.tap.calls()); diff != "" {
					t.Errorf("in all (-want +got):\n%s", diff)
				}
				cost := map[string]int{
					"store create": 2, "load": 1, "callout": 1, "save": 1, "index": 1, "index ended": 2, "unlist": 1, "postpone": 1, "due": 1, "put": 1, // as package storage documents
				}
				storage := 0
				for op, n := range w.tap.calls() {
					storage += n * cost[op]
				}
				if storage != c.storage {
					t.Errorf("%d storage operations, want %d", storage, c.storage)
				}
				now := map[string]int{}
				for call, n := range w.now.Calls() {
					now[strings.Replace(call, "/api/now/v2/table/", "", 1)] = n
				}
				if diff := cmp.Diff(c.now, now); diff != "" {
					t.Errorf("calls of ServiceNow (-want +got):\n%s", diff)
				}
				var graph map[string]int
				for call, n := range w.entra.Calls() {
					method, path, _ := strings.Cut(call, " ")
					if strings.Contains(path, "/assignmentRequests/{id}") {
						if graph == nil {
							graph = map[string]int{}
						}
						_, action, _ := strings.Cut(path, "/assignmentRequests/{id}")
						graph[strings.TrimSpace(method+" "+strings.TrimPrefix(action, "/"))] = n
					}
				}
				if diff := cmp.Diff(c.graph, graph); diff != "" {
					t.Errorf("calls of Graph (-want +got):\n%s", diff)
				}
			})
		})
	}
}
