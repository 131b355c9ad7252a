package workflow_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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

// ruled has the world open as many tickets, with that said to be done afterwards.
func ruled(tickets int, after ticket.Aftercare) func(*setup) {
	return func(s *setup) {
		s.rules = several{Rules: builtIn(), tickets: tickets, onRejected: ticket.OnRejectedDeny, after: after}
	}
}

// notesOn returns the work notes of the ticket in that place, the oldest first.
func (w *world) notesOn(key correlation.Key, i int) []string {
	w.Helper()
	list := w.now.ByCorrelation(key.TicketID(i))
	if len(list) != 1 {
		w.Fatalf("%d tickets with the correlation_id %s", len(list), key.TicketID(i))
	}
	return workNotes(list[0])
}

// untilTold plays until the correlation is in that state, and its tickets know it.
func (w *world) untilTold(key correlation.Key, state correlation.State) *correlation.Correlation {
	w.Helper()
	w.until(key, state)
	if !w.run(30*24*time.Hour, func() bool { return len(w.load(key).Owing()) == 0 }) {
		w.Errorf("its tickets are never told\n%s", w.timeline(key))
	}
	return w.load(key)
}

func TestTheGroupOfATicketIsFoundByItsName(t *testing.T) {
	for name, c := range map[string]struct {
		group   string
		change  func(w *world)
		found   bool
		says    string
		patient bool
	}{
		"there": {"Service Desk", nil, true, "", false},
		"there, at the second": {"Service Desk", func(w *world) {
			w.now.Faults.Add(misbehave.Fault{Match: "GET /api/now/v2/table/sys_user_group", Times: 3, Status: 503})
		}, true, "attempt 1 did not work: find group", true},
		"not there": {"Nobody's Desk", nil, false, `assignment_group stays empty: ServiceNow has no active group named "Nobody's Desk"`, false},
		"not to be seen": {"Service Desk", func(w *world) {
			w.now.SetDenied("bridge", servicenow.Denial{Table: "sys_user_group", Operation: servicenow.Read})
		}, false, "assignment_group stays empty: ", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(s *setup) {
				s.now.Groups = []string{"Service Desk"}
				s.rules = several{Rules: builtIn(), tickets: 2, change: func(drafts []ticket.Draft) {
					drafts[1].Groups = map[string]string{"assignment_group": c.group}
					drafts[1].Fields = nil // a draft may have none of its own
				}}
			}, func(w *world) {
				if c.change != nil {
					c.change(w)
				}
				start := time.Now()
				key := w.opened()
				if took := time.Since(start); took > 2*time.Minute || !c.patient && took > 5*time.Second {
					t.Errorf("it took %s", took)
				}
				got := w.now.ByCorrelation(key.TicketID(1))[0].Fields["assignment_group"]
				if (got != "") != c.found {
					t.Errorf("the group is %q\n%s", got, w.timeline(key))
				}
				w.says(key, c.says)
				if strings.Contains(w.timeline(key), "stays empty") == c.found {
					t.Errorf("timeline:\n%s", w.timeline(key))
				}
				if !c.found {
					w.says(key, "(ticket ticket-2)")
				}
				w.check(key)
			})
		})
	}
}

func TestAnItemIsOrderedFromTheCatalogAndItsRequestedItemIsTheTicket(t *testing.T) {
	inWorld(t, func(s *setup) {
		s.now.Groups, s.now.Catalog = []string{desk}, []servicenow.CatalogItem{badgeItem}
		s.rules = several{Rules: builtIn(), tickets: 2, onRejected: ticket.OnRejectedDeny, change: orderFirst}
	}, func(w *world) {
		w.tap.reset(func(_ int, op string) fate { // what is planned is on record before anything is ordered
			if op == "create ticket" && w.called(op) == 1 {
				plan := w.load(w.last(w.entra.Requests()[0].ID)).Tickets[0]
				if plan.Item == nil || plan.Item.Item != badgeItem.Name || plan.Item.Quantity != 2 || plan.Item.Variables["zone"] != "north" || plan.Item.Reference != "reference" ||
					plan.Item.RequestedFor == nil || plan.Item.RequestedFor.PrincipalName != "robin.marsh@example.com" {
					t.Errorf("the plan is %+v", plan.Item)
				}
			}
			return passes
		})
		key := w.opened()
		c := w.load(key)
		list := w.now.Tickets("sc_req_item")
		if len(list) != 1 || list[0].CorrelationID != key.String() || c.Tickets[0].SysID != list[0].SysID || c.Tickets[0].Item != nil || list[0].Fields["assignment_group"] == "" {
			t.Fatalf("%+v; %+v", c.Tickets, list)
		}
		if v := w.now.Variables(list[0].SysID); v["reference"] != key.String() || v["zone"] != "north" {
			t.Errorf("variables %v", v)
		}
		w.closeOne(key, 0, servicenow.Closing{Outcome: servicenow.Complete})
		w.closeOne(key, 1, servicenow.Closing{Outcome: servicenow.Complete})
		w.until(key, correlation.Resumed)
		w.check(key)
	})
}

// The order is made, and nothing else of it: the next attempt finds it by its variable, and finishes it.
func TestAnOrderOfWhichNobodyHeardIsFoundAndFinished(t *testing.T) {
	for _, refused := range []bool{false, true} {
		t.Run(fmt.Sprintf("columns refused %t", refused), func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(s *setup) {
				s.now.Groups, s.now.Catalog = []string{desk}, []servicenow.CatalogItem{badgeItem}
				s.rules = several{Rules: builtIn(), tickets: 1, onRejected: ticket.OnRejectedDeny, change: orderFirst}
			}, func(w *world) {
				w.now.Faults.Add(misbehave.Fault{Match: "POST /api/sn_sc/*", Times: 1, LoseAnswer: true})
				w.tap.reset(func(_ int, op string) fate {
					if op == "update" && refused {
						w.now.SetPolicies(servicenow.Policy{Table: "sc_req_item", Operation: servicenow.Write, Abort: "Nobody touches this"})
					}
					return passes
				})
				key := w.opened()
				list := w.now.Tickets("sc_req_item")
				if len(list) != 1 || list[0].CorrelationID != key.String() || (list[0].Fields["assignment_group"] == "") != refused {
					t.Fatalf("%+v\n%s", list, w.timeline(key))
				}
				w.says(key, "found the ticket that an earlier attempt had created: "+list[0].Number)
				if strings.Contains(w.timeline(key), "the columns of "+list[0].Number+" could not be set: ") != refused {
					t.Errorf("timeline:\n%s", w.timeline(key))
				}
				w.check(key)
			})
		})
	}
}

func TestAClosedTicketGetsAWorkNoteWithWhatBecameOfItsRequest(t *testing.T) {
	for name, c := range map[string]struct {
		policy     string
		onRejected string
		how        servicenow.Closing
		setup      func(*setup)
		end        correlation.State
		note       string
	}{
		"resumed": {ledger, "", servicenow.Closing{Outcome: servicenow.Complete}, nil, correlation.Resumed, "Microsoft Entra was told: the request goes on."},
		"denied":  {ledger, ticket.OnRejectedDeny, servicenow.Closing{Outcome: servicenow.Cancelled}, nil, correlation.Denied, "Microsoft Entra was told: the request is denied."},
		"canceled": {
			ledger, ticket.OnRejectedCancel, servicenow.Closing{Outcome: servicenow.Cancelled}, nil, correlation.Denied, "Microsoft Entra was told: the request is canceled.",
		},
		"done": {badge, "", servicenow.Closing{Outcome: servicenow.Complete}, nil, correlation.Done, "That this ticket is closed is on record. Nothing waited for it in Microsoft Entra."},
		"held, since the work was not done": {
			ledger, ticket.OnRejectedHold,
			servicenow.Closing{Outcome: servicenow.Cancelled},
			nil, correlation.Held,
			"A person has to look at the request: the work was not done: REQ0010001 request_state=closed_complete, INC0010001 state=8. Until then it stays paused in Microsoft Entra.",
		},
		"held, and nothing waits": {
			badge, "",
			servicenow.Closing{Outcome: servicenow.Complete, Fields: map[string]string{"approval": "rejected"}},
			nil, correlation.Held,
			"A person has to look at the request: a ticket was closed in a way that nobody mapped: REQ0010001 request_state=closed_complete, INC0010001 state=6, approval=rejected.",
		},
		"held, since the denial was refused": {
			ledger, ticket.OnRejectedDeny,
			servicenow.Closing{Outcome: servicenow.Cancelled},
			func(s *setup) { s.entra.RefuseDenialAt = []string{entra.StageApproved} }, correlation.Held,
			"A person has to look at the request: Graph refused to deny the request: ",
		},
	} {
		for _, without := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, without %t", name, without), func(t *testing.T) {
				t.Parallel()
				inWorld(t, func(s *setup) {
					s.rules = several{Rules: builtIn(), tickets: 2, onRejected: c.onRejected, after: ticket.Aftercare{NoOutcomeNote: without}}
					if c.setup != nil {
						c.setup(s)
					}
				}, func(w *world) {
					key := w.submit(entra.NewRequest{Policy: w.policy(c.policy)})
					w.until(key, correlation.Open)
					w.closeOne(key, 0, servicenow.Closing{Outcome: servicenow.Complete})
					w.pass(time.Minute)
					w.closeOne(key, 1, c.how)
					w.until(key, c.end)
					w.pass(26 * time.Minute)
					w.check(key)
					for i := range 2 {
						notes := w.notesOn(key, i)
						if without && len(notes) > 0 || !without && (len(notes) != 1 || !strings.HasPrefix(notes[0], c.note)) {
							t.Errorf("ticket %d says %q\n%s", i+1, notes, w.timeline(key))
						}
					}
					if got := w.load(key); c.end == correlation.Held && (got.Reason == "" || !strings.Contains(got.Advice, "by hand") || got.LastReason != "") {
						t.Errorf("%q, %q, %s", got.Reason, got.Advice, got.LastReason)
					}
				})
			})
		}
	}
}

func TestWhatAPersonDecidesOfAHeldRequestIsSaidOnItsTicketToo(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		key := w.opened()
		w.close(key, servicenow.Closing{Fields: map[string]string{"request_state": "closed_somehow", "active": "false"}})
		w.untilTold(key, correlation.Held)
		operator := workflow.Operator{Store: w.store, Queue: w.queue}
		if _, err := operator.Retry(w.ctx, key, "Pat", "look again"); err != nil { // it comes to the same, and that need not be said twice
			t.Fatal(err)
		}
		w.pass(time.Minute)
		w.untilTold(key, correlation.Held)
		if notes := w.notes(key); len(notes) != 1 {
			t.Errorf("notes %q", notes)
		}
		if _, err := operator.Decide(w.ctx, key, workflow.Resume, "Pat", "the work was done"); err != nil {
			t.Fatal(err)
		}
		w.until(key, correlation.Resumed)
		w.check(key)
		notes := w.notes(key)
		if len(notes) != 2 || !strings.HasPrefix(notes[0], "A person has to look at the request") || notes[1] != "Microsoft Entra was told: the request goes on." {
			t.Errorf("notes %q", notes)
		}
	})
}

// Whatever becomes of the note: the request goes on at once, and the note ends by itself.
func TestANoteOfTheOutcomeThatDoesNotWorkHurtsNobody(t *testing.T) {
	for name, c := range map[string]struct {
		fault     misbehave.Fault
		limit     time.Duration // until nothing is left to do
		notes     []int         // how many there may be
		mostCalls int
		says      string
	}{
		"refused":              {misbehave.Fault{Status: 403}, time.Minute, []int{0}, 1, "could not be told"},
		"unserved, and mended": {misbehave.Fault{Status: 503, Times: 4}, time.Hour, []int{1}, 5, "works again"},
		"unserved for ever":    {misbehave.Fault{Status: 503}, 4 * time.Hour, []int{0}, 9, "could not be told"},
		"throttled for ever":   {misbehave.Fault{Status: 429, RetryAfter: "3600"}, 12 * time.Hour, []int{0}, 9, "could not be told"},
		"answer lost":          {misbehave.Fault{LoseAnswer: true, Times: 1}, 5 * time.Minute, []int{2}, 2, "works again"},
		"answer always lost":   {misbehave.Fault{LoseAnswer: true}, 4 * time.Hour, []int{9}, 9, "could not be told"},
		"no answer":            {misbehave.Fault{Delay: 40 * time.Second}, 4 * time.Hour, []int{0, 9}, 9, "could not be told"},
	} {
		for _, held := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, held %t", name, held), func(t *testing.T) {
				t.Parallel()
				inWorld(t, nil, func(w *world) {
					c.fault.Match = "PATCH /api/now"
					w.now.Faults.Add(c.fault)
					key, end := w.opened(), correlation.Resumed
					how := servicenow.Closing{Outcome: servicenow.Complete}
					if held {
						end, how = correlation.Held, servicenow.Closing{Fields: map[string]string{"request_state": "closed_somehow", "active": "false"}}
					}
					w.tap.reset(nil)
					w.close(key, how)
					if !w.run(30*time.Second, func() bool { return w.load(key).State == end }) {
						t.Fatalf("it is %s\n%s", w.load(key).State, w.timeline(key))
					}
					start, was := time.Now(), w.load(key)
					w.untilTold(key, end)
					if took := time.Since(start); took > c.limit {
						t.Errorf("it took %s\n%s", took, w.timeline(key))
					}
					w.pass(26 * time.Hour)
					w.check(key)
					w.says(key, c.says)
					if n := w.called("note"); n > c.mostCalls {
						t.Errorf("%d calls", n)
					}
					if n := len(w.notes(key)); !slices.Contains(c.notes, n) {
						t.Errorf("%d notes", n)
					}
					got := w.load(key)
					if got.State != end || got.Reason != was.Reason || held && (got.Advice != was.Advice || got.Advice == "") || got.Attempts != 0 || got.LastReason != "" {
						t.Errorf("%s: %q, %q, attempts %d, %s", got.State, got.Reason, got.Advice, got.Attempts, got.LastReason)
					}
					if open, ended := w.lists(key); open != held || ended == held {
						t.Errorf("on the list of open ones %v, of ended ones %v", open, ended)
					}
				})
			})
		}
	}
}

// A version without these notes may have ended it, or the storage may have been away: days later nobody needs the note.
func TestANoteThatComesDaysTooLateIsLeftOut(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.silent = true
		w.tap.reset(func(_ int, op string) fate {
			if op == "note" {
				return killedBefore
			}
			return passes
		})
		key := w.opened()
		w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
		w.run(time.Minute, func() bool { return w.load(key).State == correlation.Resumed })
		time.Sleep(4 * 24 * time.Hour)
		w.tap.reset(nil)
		w.silent = false
		w.until(key, correlation.Resumed)
		w.check(key)
		if notes := w.notes(key); len(notes) > 0 {
			t.Errorf("notes %q", notes)
		}
		w.says(key, "is no longer told what became of the request")
	})
}

func cancelling(table string) map[string]string {
	return map[string]map[string]string{
		"sc_request":     {"request_state": "closed_cancelled", "active": "false"},
		"incident":       {"state": "8", "active": "false"},
		"change_request": {"state": "4", "active": "false"},
		"sc_req_item":    {"state": "4", "active": "false"},
	}[table]
}

func TestOpenTicketsOfARequestThatNobodyNeedsAnyMoreAreClosedWhereTheRuleSaysHow(t *testing.T) {
	for _, expires := range []bool{false, true} {
		end := correlation.Withdrawn
		if expires {
			end = correlation.Expired
		}
		t.Run(string(end), func(t *testing.T) {
			t.Parallel()
			inWorld(t, ruled(4, ticket.Aftercare{Cancel: cancelling}), func(w *world) {
				key := w.opened() // the fourth is of a table for which the rule says nothing
				w.closeOne(key, 1, servicenow.Closing{Outcome: servicenow.Complete})
				w.pass(time.Minute)
				var err error
				if expires {
					err = w.entra.Expire(key.Request)
				} else {
					err = w.entra.Withdraw(key.Request)
				}
				if err != nil {
					t.Fatal(err)
				}
				w.tap.reset(nil)
				w.until(key, end)
				w.pass(time.Hour)
				w.check(key)
				for i, want := range []struct {
					active bool
					note   string
				}{{false, "It is closed for that."}, {true, ""}, {false, "It is closed for that."}, {true, "Closing it changes nothing in Entra."}} {
					got, notes := w.now.ByCorrelation(key.TicketID(i))[0], w.notesOn(key, i)
					said := len(notes) == 1 && strings.Contains(notes[0], "no longer waits for this ticket ("+string(end)+")") && strings.Contains(notes[0], want.note)
					if got.Active != want.active || want.note == "" && len(notes) > 0 || want.note != "" && !said {
						t.Errorf("ticket %d: active %t, %q\n%s", i+1, got.Active, notes, w.timeline(key))
					}
				}
				if got := w.now.ByCorrelation(key.TicketID(1))[0].Fields["state"]; got != "6" {
					t.Errorf("the ticket that was done is in state %s", got)
				}
				if calls := w.tap.calls(); calls["update"] != 2 || calls["note"] != 1 {
					t.Errorf("calls: %v", calls)
				}
			})
		})
	}
}

// What somebody else does with the ticket, or ServiceNow, in the moment in which it is to be closed.
func TestATicketThatCannotBeClosedIsToldOrLeftAlone(t *testing.T) {
	const patch = "PATCH /api/now/v2/table/sc_request/*"
	for name, c := range map[string]struct {
		change func(w *world, key correlation.Key)
		state  string // of the ticket
		notes  int
		says   string
	}{
		"closed meanwhile": {func(w *world, key correlation.Key) {
			w.entra.GraphFaults.Add(misbehave.Fault{Match: "GET", Times: 1, OnHit: func() {
				if err := w.now.Close(w.ticket(key).SysID, servicenow.Closing{Outcome: servicenow.Complete, Silent: true}); err != nil {
					w.Error(err)
				}
			}})
		}, "closed_complete", 0, "is closed, and is left as it is: request_state=closed_complete"},
		"deleted meanwhile": {func(w *world, key correlation.Key) {
			w.entra.GraphFaults.Add(misbehave.Fault{Match: "GET", Times: 1, OnHit: func() {
				if err := w.now.Delete(w.ticket(key).SysID); err != nil {
					w.Error(err)
				}
			}})
		}, "", 0, "is closed, and is left as it is: deleted"},
		"refused": {func(w *world, _ correlation.Key) {
			w.now.Faults.Add(misbehave.Fault{Match: patch, Times: 1, Status: 403})
		}, "requested", 1, "cannot be closed, and gets a work note only"},
		"refused, and the note as well": {func(w *world, _ correlation.Key) {
			w.now.SetPolicies(servicenow.Policy{Table: "sc_request", Operation: servicenow.Write, Abort: "Nobody touches this"})
		}, "requested", 0, "could not be told"},
		"not to be read": {func(w *world, _ correlation.Key) {
			w.entra.GraphFaults.Add(misbehave.Fault{Match: "GET", Times: 1, OnHit: func() {
				w.now.Faults.Add(misbehave.Fault{Match: "GET /api/now/v2/table/sc_request/*", Status: 403, Times: 1})
			}})
		}, "requested", 1, "cannot be closed, and gets a work note only"},
		"the columns may not be written": {func(w *world, _ correlation.Key) {
			w.now.SetDenied("bridge", servicenow.Denial{Table: "sc_request", Field: "request_state", Operation: servicenow.Write},
				servicenow.Denial{Table: "sc_request", Field: "active", Operation: servicenow.Write})
		}, "requested", 1, "is still open"},
		"the answer is lost": {func(w *world, _ correlation.Key) {
			w.now.Faults.Add(misbehave.Fault{Match: patch, Times: 1, LoseAnswer: true})
		}, "closed_cancelled", 1, "is closed, and is left as it is: request_state=closed_cancelled"},
		"ServiceNow is away": {func(w *world, _ correlation.Key) {
			w.now.Faults.Add(misbehave.Fault{Match: patch, Times: 5, Status: 503})
		}, "closed_cancelled", 1, "which nobody needs any more: request_state=closed_cancelled"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, ruled(1, ticket.Aftercare{Cancel: cancelling}), func(w *world) {
				key := w.opened()
				id := w.ticket(key).SysID
				if c.state == "requested" {
					if err := w.now.Close(id, servicenow.Closing{Fields: map[string]string{"request_state": "requested"}}); err != nil {
						t.Fatal(err)
					}
				}
				w.pass(time.Minute)
				time.Sleep(20 * time.Minute)
				if err := w.entra.Withdraw(key.Request); err != nil {
					t.Fatal(err)
				}
				c.change(w, key)
				got := w.until(key, correlation.Withdrawn)
				w.pass(time.Hour)
				w.says(key, c.says)
				if again := w.load(key); again.State != correlation.Withdrawn || again.Reason != got.Reason {
					t.Errorf("it is %s: %s", again.State, again.Reason)
				}
				if c.state == "" {
					return
				}
				w.check(key)
				if tk, notes := w.ticket(key), w.notes(key); tk.Fields["request_state"] != c.state || len(notes) != c.notes {
					t.Errorf("the ticket is %s, with %q\n%s", tk.Fields["request_state"], notes, w.timeline(key))
				}
			})
		})
	}
}

func TestATicketOfARuleThatIsGoneIsToldAndNotClosed(t *testing.T) {
	inWorld(t, ruled(1, ticket.Aftercare{Cancel: cancelling, Remind: time.Hour}), func(w *world) {
		key := w.opened()
		w.first.Rules = builtIn()
		if err := w.entra.Withdraw(key.Request); err != nil {
			t.Fatal(err)
		}
		w.until(key, correlation.Withdrawn)
		w.check(key)
		if notes := w.notes(key); !w.ticket(key).Active || len(notes) != 1 || !strings.Contains(notes[0], "Closing it changes nothing in Entra.") {
			t.Errorf("active %t, notes %q", w.ticket(key).Active, notes)
		}
	})
}

func TestOpenTicketsAreRemindedOnceBeforeTheDeadline(t *testing.T) {
	for name, c := range map[string]struct {
		wait, before time.Duration
		from, to     time.Duration // after the opening: when the reminder comes
	}{
		"an hour before":              {3*time.Hour + 7*time.Minute, time.Hour, 2*time.Hour + 7*time.Minute, 2*time.Hour + 9*time.Minute},
		"before the next look":        {15 * time.Minute, 12 * time.Minute, 3 * time.Minute, 5 * time.Minute},
		"longer before than it waits": {2 * time.Hour, 24 * time.Hour, 0, 11 * time.Minute},
		"days before, of fourteen":    {14 * 24 * time.Hour, 3 * 24 * time.Hour, 11 * 24 * time.Hour, 11*24*time.Hour + 2*time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(s *setup) {
				ruled(3, ticket.Aftercare{Remind: c.before})(s)
				s.extension.Wait = c.wait
			}, func(w *world) {
				key := w.opened()
				opened := time.Now()
				w.closeOne(key, 1, servicenow.Closing{Outcome: servicenow.Complete})
				if !w.run(15*24*time.Hour, func() bool { return len(w.notesOn(key, 0)) > 0 }) {
					t.Fatalf("there is no note\n%s", w.timeline(key))
				}
				if at := time.Since(opened); at < c.from-time.Minute || at > c.to {
					t.Errorf("reminded after %s", at)
				}
				w.pass(2 * time.Minute)
				want := "Microsoft Entra stops waiting for this ticket on " + w.load(key).Deadline.Format("2006-01-02 15:04 UTC") + ". Unless it is closed by then, the request fails."
				for i, n := range []int{1, 0, 1} {
					if notes := w.notesOn(key, i); len(notes) != n || n > 0 && notes[0] != want {
						t.Errorf("ticket %d says %q, want %q", i+1, notes, want)
					}
				}
				w.says(key, "reminded ticket REQ0010001 of the deadline")
				w.until(key, correlation.Expired)
				w.check(key)
				if notes := w.notesOn(key, 0); len(notes) != 2 || !strings.Contains(notes[1], "(expired)") {
					t.Errorf("in the end it says %q", notes)
				}
			})
		})
	}
}

func TestARequestThatIsOverIsNotRemindedOf(t *testing.T) {
	inWorld(t, func(s *setup) {
		ruled(1, ticket.Aftercare{Remind: time.Hour, NoOutcomeNote: true})(s)
		s.extension.Wait = 3 * time.Hour
	}, func(w *world) {
		gone, done := w.opened(), w.opened()
		w.pass(115 * time.Minute)
		time.Sleep(6 * time.Minute)
		if err := w.entra.Withdraw(gone.Request); err != nil { // the look that would remind finds that out
			t.Fatal(err)
		}
		w.close(done, servicenow.Closing{Outcome: servicenow.Complete, Silent: true})
		w.until(gone, correlation.Withdrawn)
		w.until(done, correlation.Resumed)
		if a, b := w.notes(gone), w.notes(done); len(a) != 1 || strings.Contains(a[0], "stops waiting") || len(b) != 0 {
			t.Errorf("notes %q and %q", a, b)
		}
	})
}

func TestAReminderThatDoesNotWorkIsTriedAtTheNextLooksAndKeepsNobodyFromReading(t *testing.T) {
	for name, c := range map[string]struct {
		fault misbehave.Fault
		notes int
		says  string
	}{
		"unserved for an hour":    {misbehave.Fault{Status: 429, Times: 5}, 1, "reminded ticket REQ0010001"},
		"never served":            {misbehave.Fault{Status: 429}, 0, "open: REQ0010001"},
		"answers are always lost": {misbehave.Fault{LoseAnswer: true}, 3, "could not be reminded"},
		"refused":                 {misbehave.Fault{Status: 403}, 0, "could not be reminded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(s *setup) {
				ruled(1, ticket.Aftercare{Remind: 4 * time.Hour, NoOutcomeNote: true})(s)
				s.extension.Wait = 8 * time.Hour
			}, func(w *world) {
				key := w.opened()
				c.fault.Match = "PATCH"
				w.now.Faults.Add(c.fault)
				w.pass(7 * time.Hour)
				if notes := w.notes(key); len(notes) != c.notes {
					t.Errorf("notes %q\n%s", notes, w.timeline(key))
				}
				w.says(key, c.says)
				start := time.Now()
				w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
				w.until(key, correlation.Resumed)
				if took := time.Since(start); took > 30*time.Second {
					t.Errorf("resumed after %s\n%s", took, w.timeline(key))
				}
				w.check(key)
			})
		})
	}
}

// A colleague's ticket closes in the moment in which a reminder is being written: what was written is not written once more.
func TestAReminderIsNotRepeatedForWhatHappensMeanwhile(t *testing.T) {
	inWorld(t, func(s *setup) {
		ruled(2, ticket.Aftercare{Remind: 24 * time.Hour})(s)
		s.extension.Wait = 8 * time.Hour
	}, func(w *world) {
		key := w.opened()
		w.now.Faults.Add(misbehave.Fault{Match: "PATCH /api/now/v2/table/sc_request/*", Times: 1, OnHit: func() {
			c, err := w.store.Load(context.Background(), key)
			if err != nil {
				t.Error(err)
				return
			}
			c.Note(time.Now(), "somebody else was here", "")
			if err := w.store.Save(context.Background(), c); err != nil {
				t.Error(err)
			}
		}})
		w.pass(time.Hour)
		w.says(key, "somebody else was here")
		w.check(key)
		for i := range 2 {
			if notes := w.notesOn(key, i); len(notes) != 1 {
				t.Errorf("ticket %d says %q", i+1, notes)
			}
		}
	})
}

func TestApproversSeeWhatTheRuleSaysOfTheTickets(t *testing.T) {
	for name, c := range map[string]struct {
		detail func([]correlation.Ticket, correlation.Outcome) (string, error)
		told   string
		says   string
	}{
		"its own words": {func(tickets []correlation.Ticket, o correlation.Outcome) (string, error) {
			text := string(o)
			for _, t := range tickets {
				text += fmt.Sprintf("; %s %s (%s): %s", t.Number, t.State, t.Outcome, t.CloseNotes)
			}
			tickets[0].Number = "somebody's own"
			return text, nil
		}, "fulfilled; REQ0010001 request_state=closed_complete (fulfilled): the key is in the safe; INC0010001 state=6 (fulfilled): " + strings.Repeat("x", 999) + "…", ""},
		"an error": {
			func([]correlation.Ticket, correlation.Outcome) (string, error) {
				return "half of it", errors.New("the template fails")
			},
			"ServiceNow REQ0010001 request_state=closed_complete, INC0010001 state=6", "the rule's detail for approvers cannot be used, and ticketbridge's own takes its place: the template fails",
		},
		"nothing": {
			func([]correlation.Ticket, correlation.Outcome) (string, error) { return " \n", nil },
			"ServiceNow REQ0010001 request_state=closed_complete, INC0010001 state=6", "takes its place: it is empty",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, ruled(2, ticket.Aftercare{Detail: c.detail}), func(w *world) {
				key := w.opened()
				w.entra.GraphFaults.Add(misbehave.Fault{Match: "POST", Times: 2, Status: 503})
				w.closeOne(key, 0, servicenow.Closing{Outcome: servicenow.Complete, Notes: "the key is in the safe"})
				w.closeOne(key, 1, servicenow.Closing{Outcome: servicenow.Complete, Notes: strings.Repeat("x", 2000)})
				got := w.until(key, correlation.Resumed)
				told := w.entra.Resumes(key.Request)
				if len(told) != 1 || told[0].Detail != c.told {
					t.Errorf("Graph was told %+v", told)
				}
				if n := strings.Count(w.timeline(key), "detail for approvers"); c.says == "" && n != 0 || c.says != "" && n != 1 {
					t.Errorf("timeline:\n%s", w.timeline(key))
				}
				w.says(key, c.says)
				if got.Tickets[0].Number != "REQ0010001" {
					t.Errorf("the rule changed the ticket: %+v", got.Tickets[0])
				}
				w.check(key)
			})
		})
	}
}

// Close notes are people's words. Where no rule uses them they are not kept.
func TestCloseNotesAreKeptOnlyForARuleThatUsesThem(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		key := w.opened()
		w.close(key, servicenow.Closing{Outcome: servicenow.Complete, Notes: "the key is in the safe"})
		if c := w.until(key, correlation.Resumed); c.Tickets[0].CloseNotes != "" {
			t.Errorf("kept: %q", c.Tickets[0].CloseNotes)
		}
	})
}

// Whoever writes on a ticket must not meet an operator.
func TestAnOperatorWaitsWhileTicketsAreBeingTold(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		key := w.opened()
		operator := workflow.Operator{Store: w.store, Queue: w.queue}
		var refused error
		w.now.Faults.Add(misbehave.Fault{Match: "PATCH", Times: 1, OnHit: func() {
			_, refused = operator.Decide(context.Background(), key, workflow.Resume, "Pat", "it is done")
		}})
		w.close(key, servicenow.Closing{Fields: map[string]string{"request_state": "closed_somehow", "active": "false"}})
		w.untilTold(key, correlation.Held)
		if !fault.Is(refused, fault.Conflict) || !strings.Contains(refused.Error(), "work notes are being written") || fault.After(refused) <= 0 {
			t.Errorf("%v", refused)
		}
		if _, err := operator.Decide(w.ctx, key, workflow.Resume, "Pat", "it is done"); err != nil {
			t.Error(err)
		}
		w.until(key, correlation.Resumed)
		w.check(key)
	})
}

// Should the message for the next attempt get lost, the sweep comes soon, also where nobody in Entra waits.
func TestAHeldOneWhoseTicketIsNotToldYetIsLookedAtSoon(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.now.Faults.Add(misbehave.Fault{Match: "PATCH", Status: 503})
		key := w.submit(entra.NewRequest{Policy: w.sample.BadgePolicy})
		w.until(key, correlation.Open)
		w.close(key, servicenow.Closing{Fields: map[string]string{"request_state": "closed_somehow", "active": "false"}})
		w.until(key, correlation.Held)
		if due := w.load(key).Due; time.Until(due) > 5*time.Minute {
			t.Errorf("looked at in %s", time.Until(due))
		}
		w.untilTold(key, correlation.Held)
		w.pass(time.Minute)
		if due := w.load(key).Due; time.Until(due) < 20*time.Hour {
			t.Errorf("looked at in %s, though nothing is left to do", time.Until(due))
		}
	})
}
