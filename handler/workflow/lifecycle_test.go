package workflow_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/misbehave"
	"ticketbridge/handler/simulator/servicenow"
	"ticketbridge/handler/workflow"
)

const ledger, payroll, cluster, badge = "ledger", "payroll", "cluster", "badge"

func (w *world) policy(name string) string {
	return map[string]string{ledger: w.sample.LedgerPolicy, payroll: w.sample.PayrollPolicy, cluster: w.sample.ClusterPolicy, badge: w.sample.BadgePolicy}[name]
}

func TestEachClosedTicketEndsItsRequestAsItShould(t *testing.T) {
	for name, c := range map[string]struct {
		policy  string
		request entra.NewRequest
		outcome servicenow.Outcome
		fields  map[string]string
		stage   string
		state   correlation.State
		told    string // the state in what Graph was told: "" for a grant, "nothing" when it must not be told anything
	}{
		"approved, done":                   {ledger, entra.NewRequest{}, servicenow.Complete, nil, entra.StageApproved, correlation.Resumed, ""},
		"approved, not done":               {ledger, entra.NewRequest{}, servicenow.Incomplete, nil, entra.StageApproved, correlation.Denied, "Denied"},
		"approved, cancelled":              {ledger, entra.NewRequest{}, servicenow.Cancelled, nil, entra.StageApproved, correlation.Denied, "Denied"},
		"approved, rejected":               {ledger, entra.NewRequest{}, servicenow.Rejected, nil, entra.StageApproved, correlation.Denied, "Denied"},
		"approved, a state nobody mapped":  {ledger, entra.NewRequest{}, "", map[string]string{"request_state": "closed_somehow", "active": "false"}, entra.StageApproved, correlation.Held, "nothing"},
		"approved, done and not approved":  {ledger, entra.NewRequest{}, servicenow.Complete, map[string]string{"approval": "rejected"}, entra.StageApproved, correlation.Held, "nothing"},
		"approved, duration by other name": {ledger, entra.NewRequest{Shape: entra.Shape{TimeoutDuration: true, UpperIDs: true, CamelCase: true}}, servicenow.Complete, nil, entra.StageApproved, correlation.Resumed, ""},
		"created, done":                    {payroll, entra.NewRequest{}, servicenow.Complete, nil, entra.StageCreated, correlation.Resumed, ""},
		"created, not done":                {payroll, entra.NewRequest{}, servicenow.Incomplete, nil, entra.StageCreated, correlation.Denied, "Denied"},
		"removed, done":                    {ledger, entra.NewRequest{Type: "userRemove"}, servicenow.Complete, nil, entra.StageRemoved, correlation.Resumed, ""},
		"removed, not done":                {ledger, entra.NewRequest{Type: "userRemove"}, servicenow.Incomplete, nil, entra.StageRemoved, correlation.Held, "nothing"},
		"launch and continue, done":        {badge, entra.NewRequest{}, servicenow.Complete, nil, entra.StageGranted, correlation.Done, "nothing"},
		"launch and continue, not done":    {badge, entra.NewRequest{}, servicenow.Rejected, nil, entra.StageGranted, correlation.Done, "nothing"},
		"launch and continue, unmapped":    {badge, entra.NewRequest{}, "", map[string]string{"request_state": "closed_somehow", "active": "false"}, entra.StageGranted, correlation.Held, "nothing"},
		"waits without saying so, done":    {ledger, entra.NewRequest{Shape: entra.Shape{NoCallback: true}}, servicenow.Complete, nil, entra.StageApproved, correlation.Resumed, ""},
		"waits without saying so, not":     {ledger, entra.NewRequest{Shape: entra.Shape{NoCallback: true}}, servicenow.Incomplete, nil, entra.StageApproved, correlation.Denied, "Denied"},
		"waits without saying so, unclear": {ledger, entra.NewRequest{Shape: entra.Shape{NoCallback: true}}, "", map[string]string{"request_state": "closed_somehow", "active": "false"}, entra.StageApproved, correlation.Held, "nothing"},
		"an unknown stage, not done":       {ledger, entra.NewRequest{Shape: entra.Shape{Stage: "assignmentRequestBlessed"}}, servicenow.Incomplete, nil, "assignmentRequestBlessed", correlation.Held, "nothing"},
		"a body of nulls, done":            {ledger, entra.NewRequest{Shape: entra.Shape{NullAnswers: true, NoEmail: true}}, servicenow.Complete, nil, entra.StageApproved, correlation.Resumed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, nil, func(w *world) {
				c.request.Policy = w.policy(c.policy)
				key := w.submit(c.request)
				if got := w.until(key, correlation.Open); got.Stage != c.stage {
					t.Errorf("stage %s", got.Stage)
				}
				w.close(key, servicenow.Closing{Outcome: c.outcome, Fields: c.fields})
				got := w.until(key, correlation.Resumed, correlation.Denied, correlation.Done, correlation.Held, correlation.Failed)
				if got.State != c.state {
					t.Errorf("it is %s: %s", got.State, got.Reason)
				}
				told := w.entra.Resumes(key.Request)
				switch {
				case c.told == "nothing" && len(told) > 0:
					t.Errorf("Graph was told %+v", told)
				case c.told != "nothing" && (len(told) != 1 || !told[0].Accepted || told[0].State != c.told || told[0].Detail != "ServiceNow "+got.Tickets[0].Number+" "+got.Tickets[0].State):
					t.Errorf("Graph was told %+v", told)
				}
				if open, ended := w.lists(key); open == got.State.Ended() || ended != got.State.Ended() {
					t.Errorf("%s: on the list of open ones %v, of ended ones %v", got.State, open, ended)
				}
				if got.State == correlation.Held && (got.Reason == "" || got.Advice == "") {
					t.Errorf("held without a reason (%q) or advice (%q)", got.Reason, got.Advice)
				}
				w.check(key)
				w.pass(time.Hour)
				if again := w.load(key); again.Events != got.Events {
					t.Errorf("it goes on by itself:\n%s", w.timeline(key))
				}
			})
		})
	}
}

// At the stage "created" an extension that is launch and continue is not over when its ticket closes: the request may wait for its approver.
func TestARequestOfWhichNothingSaysThatItWaitsIsNotResumed(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		policy := w.entra.AddPolicy(entra.Policy{
			PackageID: w.sample.Badge, Name: "Approved", Approval: true, Stages: map[string]string{entra.StageCreated: w.sample.ContinueEngineering},
		})
		key := w.submit(entra.NewRequest{Policy: policy})
		w.until(key, correlation.Open)
		if r, _ := w.entra.Request(key.Request); r.State != entra.StatePendingApproval {
			t.Fatalf("the request is %s", r.State)
		}
		w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
		w.until(key, correlation.Done)
		w.check(key)
		if told := w.entra.Resumes(""); len(told) > 0 {
			t.Errorf("Graph was told %+v", told)
		}
	})
}

func TestEachStageThatCallsOutGetsATicketOfItsOwn(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		created := w.submit(entra.NewRequest{Policy: w.sample.PayrollPolicy})
		w.until(created, correlation.Open)
		w.close(created, servicenow.Closing{Outcome: servicenow.Complete})
		w.until(created, correlation.Resumed)
		approved := w.last(created.Request)
		if approved == created {
			t.Fatal("the stage approved did not call out")
		}
		w.until(approved, correlation.Open)
		w.close(approved, servicenow.Closing{Outcome: servicenow.Complete})
		w.until(approved, correlation.Resumed)
		w.check(created)
		w.check(approved)
		if r, _ := w.entra.Request(created.Request); r.State != entra.StateDelivered {
			t.Errorf("the request is %s", r.State)
		}
	})
}

func TestAWarningBeforeExpirationIsDoneWithItsTicket(t *testing.T) {
	for _, stage := range []string{entra.StageFourteenDays, entra.StageOneDay} {
		inWorld(t, nil, func(w *world) {
			granted := w.opened()
			w.close(granted, servicenow.Closing{Outcome: servicenow.Complete})
			w.until(granted, correlation.Resumed)
			instance, err := w.entra.WarnExpiring(granted.Request, stage)
			if err != nil {
				t.Fatal(err)
			}
			key := correlation.Key{Request: granted.Request, Stage: instance}
			if c := w.until(key, correlation.Open); c.Waits || c.MayWait || !c.Deadline.IsZero() {
				t.Errorf("it waits: %+v", c)
			}
			w.tap.reset(nil)
			w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
			w.until(key, correlation.Done)
			w.check(key)
			if calls := w.tap.calls(); calls["ask"] != 0 || calls["answer"] != 0 {
				t.Errorf("Graph was bothered: %v", calls)
			}
		})
	}
}

func TestADenialThatGraphRefusesIsHeldAndNeverGranted(t *testing.T) {
	inWorld(t, func(s *setup) {
		s.entra.RefuseDenialAt = []string{entra.StageApproved}
		s.extension.Wait = 3 * time.Hour
	}, func(w *world) {
		key := w.opened()
		w.close(key, servicenow.Closing{Outcome: servicenow.Rejected})
		c := w.until(key, correlation.Held)
		if !strings.Contains(c.Reason, "Graph refused to deny") || !strings.Contains(c.Advice, "stays paused") {
			t.Errorf("held because %q, advice %q", c.Reason, c.Advice)
		}
		w.check(key)
		w.until(key, correlation.Expired)
		w.check(key)
		if r, _ := w.entra.Request(key.Request); r.State != entra.StateDeliveryFailed {
			t.Errorf("the request is %s", r.State)
		}
	})
}

func TestADeletedTicketIsHeld(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		key := w.opened()
		if err := w.now.Delete(w.ticket(key).SysID); err != nil {
			t.Fatal(err)
		}
		c := w.until(key, correlation.Held)
		if !strings.Contains(c.Reason, "deleted") {
			t.Errorf("held because %q", c.Reason)
		}
		w.check(key)
		if err := w.entra.Withdraw(key.Request); err != nil {
			t.Fatal(err)
		}
		w.until(key, correlation.Withdrawn)
		w.check(key)
	})
}

func TestTheDeadlineEndsItAndTheTicketIsTold(t *testing.T) {
	inWorld(t, func(s *setup) { s.extension.Wait = 2 * time.Hour }, func(w *world) {
		key := w.opened()
		start := time.Now()
		if c := w.load(key); !c.Deadline.Equal(c.Created.Add(2 * time.Hour)) {
			t.Errorf("deadline %s", c.Deadline)
		}
		c := w.until(key, correlation.Expired)
		w.check(key)
		if late := time.Since(start); late > 2*time.Hour+10*time.Minute {
			t.Errorf("noticed after %s", late)
		}
		notes := w.notes(key)
		if len(notes) != 1 || !strings.Contains(notes[0], "no longer waits for this ticket (expired)") || !c.Tickets[0].Told {
			t.Errorf("the ticket's notes: %q", notes)
		}
		if open, ended := w.lists(key); open || !ended {
			t.Errorf("on the list of open ones %v, of ended ones %v", open, ended)
		}
		// Closing it now changes nothing.
		w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
		w.pass(time.Hour)
		w.check(key)
		if told := w.entra.Resumes(""); len(told) > 0 || w.load(key).Events != c.Events {
			t.Errorf("Graph was told %+v\n%s", told, w.timeline(key))
		}
	})
}

func TestAWithdrawnRequestEndsItAndTheTicketIsTold(t *testing.T) {
	for _, shows := range []string{"", entra.StatusFailed, entra.StatusReceived} {
		inWorld(t, func(s *setup) { s.entra.WithdrawnStatus = shows }, func(w *world) {
			key := w.opened()
			if err := w.entra.Withdraw(key.Request); err != nil {
				t.Fatal(err)
			}
			w.until(key, correlation.Withdrawn)
			w.check(key)
			if notes := w.notes(key); len(notes) != 1 || !strings.Contains(notes[0], "(withdrawn)") {
				t.Errorf("the ticket's notes: %q", notes)
			}
		})
	}
}

func TestARequestAnsweredByHandInEntraEndsItWithoutACall(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		key := w.opened()
		if err := w.graph.Answer(w.ctx, key, entra.StageApproved, workflow.Resume, "by hand"); err != nil {
			t.Fatal(err)
		}
		c := w.until(key, correlation.Withdrawn)
		if told := w.entra.Resumes(""); len(told) != 1 || !strings.Contains(c.Reason, "by somebody else") || len(w.notes(key)) != 1 {
			t.Errorf("%q; Graph was told %+v; notes %q", c.Reason, told, w.notes(key))
		}
	})
}

// Our call never arrives, somebody else's does, and Graph says only that there was an answer.
func TestAnAnswerOfSomebodyElseIsNotTakenForOurs(t *testing.T) {
	for name, c := range map[string]struct {
		ours   servicenow.Outcome
		theirs workflow.Decision
		says   string
	}{
		"denied, when we would resume": {servicenow.Complete, workflow.Deny, "had been denied or canceled in Entra by somebody else"},
		"resumed, when we would deny":  {servicenow.Incomplete, workflow.Resume, "had been answered in Entra by somebody else"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, nil, func(w *world) {
				key := w.opened()
				w.entra.GraphFaults.Add(misbehave.Fault{Match: "POST", Times: 1, DropCall: true, OnHit: func() {
					if err := w.graph.Answer(w.ctx, key, entra.StageApproved, c.theirs, "by hand"); err != nil {
						t.Error(err)
					}
				}})
				w.close(key, servicenow.Closing{Outcome: c.ours})
				got := w.until(key, correlation.Withdrawn, correlation.Resumed, correlation.Denied)
				if _, told := w.granted(key); told != 1 || got.State != correlation.Withdrawn || !strings.Contains(got.Reason, c.says) {
					t.Errorf("%s: %s; Graph accepted %d answers", got.State, got.Reason, told)
				}
			})
		})
	}
}

func TestATicketThatClosesAfterTheRequestWasAnsweredByHandDoesNotAnswerAgain(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		key := w.opened()
		if err := w.graph.Answer(w.ctx, key, entra.StageApproved, workflow.Deny, "by hand"); err != nil {
			t.Fatal(err)
		}
		w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
		w.until(key, correlation.Withdrawn)
		if granted, told := w.granted(key); granted != 0 || told != 1 {
			t.Errorf("Graph accepted %d answers, %d of them grants", told, granted)
		}
	})
}

func TestARequestThatTimedOutBeforeItsTicketClosedIsExpired(t *testing.T) {
	for _, says := range []bool{true, false} {
		inWorld(t, nil, func(w *world) {
			key := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy, Shape: entra.Shape{NoCallback: !says}})
			w.until(key, correlation.Open)
			if err := w.entra.Expire(key.Request); err != nil {
				t.Fatal(err)
			}
			w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
			w.until(key, correlation.Expired)
			w.check(key)
		})
	}
}

func TestWithoutAWordOnWaitingGraphIsAskedBeforeAnythingIsResumed(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		key := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy, Shape: entra.Shape{NoCallback: true}})
		w.until(key, correlation.Open)
		w.entra.GraphFaults.Add(misbehave.Fault{Match: "GET", Times: 3, Status: 503})
		w.tap.reset(nil)
		w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
		w.until(key, correlation.Resumed)
		w.check(key)
		if calls := w.tap.calls(); calls["ask"] != 4 || calls["answer"] != 1 {
			t.Errorf("calls: %v", calls)
		}
	})
}

func TestAPermanentErrorFailsAtOnceAndSaysWhatToDo(t *testing.T) {
	for name, c := range map[string]struct {
		setup  func(*setup)
		reason fault.Reason
		says   string
	}{
		"a data policy": {func(s *setup) {
			s.now.Policies = []servicenow.Policy{{Table: "sc_request", Operation: servicenow.Create, Mandatory: []string{"assignment_group"}}}
		}, fault.Refused, "data policy"},
		"no right to create": {func(s *setup) {
			s.now.Users[0].Denied = []servicenow.Denial{{Table: "sc_request", Operation: servicenow.Create}}
		}, fault.Forbidden, "create ticket"},
		"no role in Graph": {func(s *setup) { s.noRole = true }, fault.Forbidden, "tell Graph to resume"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, c.setup, func(w *world) {
				key := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
				start := time.Now()
				if got := w.until(key, correlation.Open, correlation.Failed); got.State == correlation.Open {
					w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
				}
				got := w.until(key, correlation.Failed)
				if got.LastReason != c.reason || got.Advice == "" || !strings.Contains(w.timeline(key), c.says) || time.Since(start) > time.Minute {
					t.Errorf("failed with %s, advice %q, after %s\n%s", got.LastReason, got.Advice, time.Since(start), w.timeline(key))
				}
				w.check(key)
				w.pass(time.Hour)
				if again := w.load(key); again.Events != got.Events {
					t.Errorf("it goes on by itself:\n%s", w.timeline(key))
				}
				// Nobody has to decide any more when the request is gone, as far as we may see it.
				w.entra.AssignManager(w.identity.ObjectID, w.sample.Finance)
				if err := w.entra.Withdraw(key.Request); err != nil {
					t.Fatal(err)
				}
				w.until(key, correlation.Withdrawn)
				w.check(key)
			})
		})
	}
}

func TestRetriesThatAreUsedUpFailItAndNobodyGoesOnCalling(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.now.Faults.Add(misbehave.Fault{Match: "POST", Status: 503})
		key := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
		start := time.Now()
		c := w.until(key, correlation.Failed)
		if took := time.Since(start); took < 60*time.Hour || took > 76*time.Hour {
			t.Errorf("given up after %s", took)
		}
		if !strings.Contains(c.Reason, "retries used up (81)") || c.LastReason != fault.Unclear || c.Advice == "" {
			t.Errorf("failed because %q (%s), advice %q", c.Reason, c.LastReason, c.Advice)
		}
		w.check(key)
		w.tap.reset(nil)
		w.pass(6 * time.Hour)
		if calls := w.tap.calls(); calls["create ticket"]+calls["find ticket"] > 0 {
			t.Errorf("it goes on: %v", calls)
		}
		if open, _ := w.lists(key); !open {
			t.Error("a failed one is not on the list of open ones")
		}
	})
}

func TestACalloutForAnotherCatalogIsForbiddenAndNothingIsRemembered(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.first.Catalogs = []string{"00000000-0000-0000-0000-000000000000", strings.ToUpper(w.sample.Finance)}
		mine := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
		w.until(mine, correlation.Open)
		other := w.submit(entra.NewRequest{Policy: w.sample.BadgePolicy})
		if c := w.load(other); c != nil {
			t.Errorf("it is remembered: %+v", c)
		}
		r, _ := w.entra.Request(other.Request)
		if a := r.Callouts[0].Attempts; a[0].Status != 403 {
			t.Errorf("answered %+v", a)
		}
		_, err := w.first.Accept(w.ctx, r.Callouts[0].Body)
		if !fault.Is(err, fault.Forbidden) || !strings.Contains(err.Error(), "AccessPackageCatalog.Id") || fault.Advice(err) == "" {
			t.Errorf("%v", err)
		}
	})
}

func TestAConnectionTestIsAnsweredAndNothingIsRemembered(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.first.Catalogs = []string{"00000000-0000-0000-0000-000000000000"}
		for _, old := range []bool{false, true} {
			if a, err := w.entra.TestConnection(w.sample.WaitFinance, old); err != nil || a.Status != 202 {
				t.Errorf("before 2023 %v: %+v, %v", old, a, err)
			}
		}
		if n := w.tap.total(); n != 0 {
			t.Errorf("%d calls: %v", n, w.tap.calls())
		}
	})
}

func TestACalloutThatCannotBeRememberedNamesItsField(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		const id = "7d1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a11"
		for body, field := range map[string]string{
			``:              "body",
			`[]`:            "body",
			`{"Stage":"x"}`: "AccessPackageAssignmentRequestId",
			`{"AccessPackageAssignmentRequestId":"` + id + `"}`:                                                "CustomExtensionStageInstanceId",
			`{"AccessPackageAssignmentRequestId":"../x","CustomExtensionStageInstanceId":"` + id + `"}`:        "AccessPackageAssignmentRequestId",
			`{"accessPackageAssignmentRequestId":"` + id + `","customExtensionStageInstanceId":"` + id + `x"}`: "CustomExtensionStageInstanceId",
		} {
			_, err := w.first.Accept(w.ctx, []byte(body))
			if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "("+field+")") {
				t.Errorf("%s: %v, want %s", body, err, field)
			}
		}
		if n := w.tap.total(); n != 0 {
			t.Errorf("%d calls: %v", n, w.tap.calls())
		}
	})
}

func TestARepeatedCalloutGetsTheSameAnswerAndChangesNothing(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		key := w.opened()
		before := w.load(key)
		r, _ := w.entra.Request(key.Request)
		w.tap.reset(nil)
		got, err := w.first.Accept(w.ctx, r.Callouts[0].Body)
		if err != nil || got != (workflow.Receipt{RequestID: key.Request, StageInstanceID: key.Stage, State: correlation.Open, Duplicate: true}) {
			t.Errorf("%+v, %v", got, err)
		}
		w.pass(time.Minute)
		if after := w.load(key); after.Events != before.Events || after.Version != before.Version {
			t.Errorf("it changed:\n%s", w.timeline(key))
		}
		if calls := w.tap.calls(); calls["put"] != 0 || calls["read ticket"] != 0 {
			t.Errorf("calls: %v", calls)
		}
	})
}

// Remembered, and not sent: the call was not acknowledged, so it comes again, and the sweep need not be waited for.
func TestARepeatedCalloutSendsTheMessageThatTheFirstCouldNot(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.silent = true
		w.tap.reset(func(_ int, op string) fate {
			if op == "put" && w.called("put") == 1 {
				return refused
			}
			return passes
		})
		key := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
		r, _ := w.entra.Request(key.Request)
		if a := r.Callouts[0].Attempts; len(a) != 2 || a[0].Status != 503 || a[1].Status != 202 {
			t.Fatalf("answered %+v", a)
		}
		if !w.run(10*time.Second, func() bool { return w.load(key).State == correlation.Open }) {
			t.Errorf("it is %s", w.load(key).State)
		}
		w.check(key)
	})
}

// Microsoft calls each stage again whose answer it did not get: here every one.
func TestACalloutWhoseAnswerIsLostIsCalledAgainAndOpensOneTicket(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.entra.CalloutFaults.Add(misbehave.Fault{LoseAnswer: true, Times: 1})
		key := w.opened()
		if r, _ := w.entra.Request(key.Request); len(r.Callouts[0].Attempts) != 2 {
			t.Errorf("called %d times", len(r.Callouts[0].Attempts))
		}
		synctest.Wait()
		w.check(key)
	})
}
