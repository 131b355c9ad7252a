package workflow_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/misbehave"
	"ticketbridge/handler/simulator/servicenow"
	"ticketbridge/handler/ticket"
	"ticketbridge/handler/workflow"
)

// planned submits a request and puts the intent to open several tickets for it on record, as a rule of one's own does, and a process that died since.
func (w *world) planned(onRejected string, tables ...string) correlation.Key {
	w.Helper()
	key := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
	c := w.load(key)
	c.Rule, c.OnRejected = "grant", onRejected
	for _, table := range tables {
		c.Tickets = append(c.Tickets, correlation.Ticket{Entry: table, Table: table, Fields: map[string]string{"short_description": "one of several"}})
	}
	if err := c.Move(correlation.Opening, time.Now(), "about to open several", ""); err != nil {
		w.Fatal(err)
	}
	if err := w.store.Save(context.Background(), c); err != nil {
		w.Fatal(err)
	}
	return key
}

// closeOne closes the ticket of that place.
func (w *world) closeOne(key correlation.Key, i int, how servicenow.Closing) {
	w.Helper()
	list := w.now.ByCorrelation(key.TicketID(i))
	if len(list) != 1 {
		w.Fatalf("%d tickets with the correlation_id %s", len(list), key.TicketID(i))
	}
	if err := w.now.Close(list[0].SysID, how); err != nil {
		w.Fatal(err)
	}
}

func TestOfSeveralTicketsAllHaveToBeDone(t *testing.T) {
	done, not, odd := servicenow.Closing{Outcome: servicenow.Complete}, servicenow.Closing{Outcome: servicenow.Cancelled}, servicenow.Closing{Outcome: servicenow.Complete, Fields: map[string]string{"approval": "rejected"}}
	for name, c := range map[string]struct {
		how        [3]servicenow.Closing
		onRejected string
		end        correlation.State
		told       string
	}{
		"all done":                {[3]servicenow.Closing{done, done, done}, ticket.OnRejectedDeny, correlation.Resumed, ""},
		"the first not":           {[3]servicenow.Closing{not, done, done}, ticket.OnRejectedDeny, correlation.Denied, "Denied"},
		"the last not, to cancel": {[3]servicenow.Closing{done, done, not}, ticket.OnRejectedCancel, correlation.Denied, "Canceled"},
		"one not, to hold":        {[3]servicenow.Closing{done, not, done}, ticket.OnRejectedHold, correlation.Held, "nothing"},
		"one odd":                 {[3]servicenow.Closing{done, odd, done}, ticket.OnRejectedDeny, correlation.Held, "nothing"},
		"one odd, one not":        {[3]servicenow.Closing{not, odd, done}, ticket.OnRejectedDeny, correlation.Held, "nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(s *setup) { s.rules = several{Rules: builtIn(), tickets: 3, onRejected: c.onRejected} }, func(w *world) {
				key := w.opened()
				for i, how := range c.how {
					if got := w.load(key); got.State != correlation.Open || len(w.entra.Resumes("")) > 0 {
						t.Fatalf("after %d of them it is %s", i, got.State)
					}
					if i == 2 && how.Outcome == servicenow.Complete {
						how.Fields = map[string]string{"close_code": "successful"}
					}
					w.closeOne(key, i, how)
					w.pass(time.Minute)
				}
				got := w.until(key, correlation.Resumed, correlation.Denied, correlation.Held)
				if got.State != c.end {
					t.Errorf("it is %s\n%s", got.State, w.timeline(key))
				}
				told := w.entra.Resumes("")
				if c.told == "nothing" && len(told) > 0 || c.told != "nothing" && (len(told) != 1 || told[0].State != c.told) {
					t.Errorf("Graph was told %+v", told)
				}
				for _, tk := range got.Tickets {
					if len(told) == 1 && !strings.Contains(told[0].Detail, tk.Number) {
						t.Errorf("the detail %q does not name %s", told[0].Detail, tk.Number)
					}
				}
				w.check(key)
			})
		})
	}
}

func TestWhereverTheOpeningOfSeveralIsCutEachIsCreatedOnce(t *testing.T) {
	for _, f := range []fate{killedBefore, killedAfter, refused, lost} {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			inWorld(t, nil, func(w *world) {
				for n := 1; ; n++ {
					key, hit := w.planned(ticket.OnRejectedDeny, "sc_request", "incident", "sc_request"), ""
					w.swept = time.Now()
					w.tap.reset(func(i int, op string) fate {
						if i != n {
							return passes
						}
						hit = op
						return f
					})
					w.until(key, correlation.Open)
					w.tap.reset(nil)
					w.pass(11 * time.Minute)
					for i := range 3 {
						if got := w.now.Creations()[key.TicketID(i)]; got != 1 {
							t.Errorf("cut at call %d (%s): ticket %d was created %d times", n, hit, i+1, got)
						}
					}
					w.check(key)
					if t.Failed() || hit == "" {
						break
					}
				}
			})
		})
	}
}

func TestWithoutTimeForAllTheRestIsOpenedByAnotherMessage(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		key := w.planned(ticket.OnRejectedDeny, "sc_request", "incident", "change_request")
		w.now.Faults.Add(misbehave.Fault{Match: "POST", DelayAnswer: 20 * time.Second})
		ctx, cancel := context.WithTimeout(w.ctx, 70*time.Second)
		err := w.first.Advance(ctx, workflow.Message{Key: key, Why: workflow.WhyCallout})
		cancel()
		if c := w.load(key); err != nil || c.State != correlation.Opening || c.Tickets[0].SysID == "" || c.Tickets[1].SysID != "" {
			t.Errorf("%v; it is %s with %+v", err, c.State, c.Tickets)
		}
		start := time.Now()
		w.until(key, correlation.Open)
		if took := time.Since(start); took > time.Minute {
			t.Errorf("the rest took %s", took)
		}
		w.check(key)
		for i := range 3 {
			if got := w.now.Creations()[key.TicketID(i)]; got != 1 {
				t.Errorf("ticket %d was created %d times", i+1, got)
			}
		}
	})
}

func TestTheLeaseIsLongEnoughForEachOfSeveralSlowTickets(t *testing.T) {
	inWorld(t, func(s *setup) { s.rules = several{Rules: builtIn(), tickets: 4} }, func(w *world) {
		w.now.Faults.Add(misbehave.Fault{Match: "POST", DelayAnswer: 25 * time.Second})
		key := w.opened()
		if strings.Contains(w.timeline(key), "attempt") {
			t.Errorf("it took more than one attempt:\n%s", w.timeline(key))
		}
		w.check(key)
	})
}

func TestOnlyTicketsThatAreStillOpenAreToldOfTheEnd(t *testing.T) {
	inWorld(t, func(s *setup) { s.rules = several{Rules: builtIn(), tickets: 3} }, func(w *world) {
		key := w.opened()
		w.closeOne(key, 1, servicenow.Closing{Outcome: servicenow.Complete})
		w.pass(time.Minute)
		if err := w.entra.Withdraw(key.Request); err != nil {
			t.Fatal(err)
		}
		w.until(key, correlation.Withdrawn)
		w.check(key)
		for i := range 3 {
			if told := len(w.now.ByCorrelation(key.TicketID(i))[0].Notes) > 0; told != (i != 1) {
				t.Errorf("ticket %d told: %v", i+1, told)
			}
		}
	})
}

// The first exists, the second is refused: the request is for a person to decide, and when it is withdrawn the first is told.
func TestWhenOneOfSeveralIsRefusedTheOthersAreNotForgotten(t *testing.T) {
	inWorld(t, func(s *setup) {
		s.now.Policies = []servicenow.Policy{{Table: "incident", Operation: servicenow.Create, Abort: "No incidents"}}
		s.rules = several{Rules: builtIn(), tickets: 2}
	}, func(w *world) {
		key := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
		c := w.until(key, correlation.Failed)
		if c.Tickets[0].Number == "" || c.Tickets[1].SysID != "" || !strings.Contains(c.Reason, "No incidents") {
			t.Errorf("%+v, %q", c.Tickets, c.Reason)
		}
		if err := w.entra.Withdraw(key.Request); err != nil {
			t.Fatal(err)
		}
		w.until(key, correlation.Withdrawn)
		if len(w.notes(key)) != 1 {
			t.Errorf("notes %q", w.notes(key))
		}
		w.check(key)
	})
}

func TestASecondTicketOfTheSameIDIsNotUsedAndSaidSo(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		key := w.planned(ticket.OnRejectedDeny, "sc_request")
		for range 2 {
			if _, err := w.now.Insert("sc_request", map[string]string{"correlation_id": key.String()}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		c := w.until(key, correlation.Open)
		if c.Tickets[0].Number != "REQ0010001" || len(w.now.Tickets("sc_request")) != 2 {
			t.Errorf("%+v of %d", c.Tickets, len(w.now.Tickets("sc_request")))
		}
		w.says(key, "there is a second ticket with the same correlation_id, which is not used: REQ0010002")
	})
}
