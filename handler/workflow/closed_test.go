package workflow_test

import (
	"strings"
	"testing"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/misbehave"
	"ticketbridge/handler/simulator/servicenow"
	"ticketbridge/handler/workflow"
)

// closedAs is the companion app's notification for a correlation.
func closedAs(_ testing.TB, key correlation.Key) workflow.Closed {
	return workflow.Closed{CorrelationID: key.String()}
}

func TestAForgedNotificationResumesNothing(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		key := w.opened()
		w.tap.reset(nil)
		for range 3 {
			if err := w.first.TicketClosed(w.invocation(), closedAs(w, key)); err != nil {
				t.Fatal(err)
			}
		}
		other, err := w.now.Insert("sc_request", map[string]string{"correlation_id": key.String(), "request_state": "closed_complete", "state": "3", "active": "false"})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.first.TicketClosed(w.invocation(), workflow.Closed{Table: "sc_request", SysID: other}); err != nil {
			t.Fatal(err)
		}
		w.pass(30 * time.Second)
		if c := w.load(key); c.State != correlation.Open {
			t.Errorf("it is %s\n%s", c.State, w.timeline(key))
		}
		if told := w.entra.Resumes(""); len(told) > 0 {
			t.Errorf("Graph was told %+v", told)
		}
		if calls := w.tap.calls(); calls["save"] != 0 {
			t.Errorf("a hint that is not true is written down: %v", calls)
		}
	})
}

// The state in a notification may be old or untrue: the ticket itself counts.
func TestTheTicketsOwnStateCounts(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		key := w.opened()
		w.now.HoldNotifications()
		w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
		w.close(key, servicenow.Closing{Fields: map[string]string{"request_state": "in_process", "state": "2", "active": "true"}}) // opened again
		w.now.ReleaseNotifications(false)
		w.pass(30 * time.Second)
		if c := w.load(key); c.State != correlation.Open || len(w.now.Notifications()) != 1 {
			t.Errorf("it is %s after %d notifications", c.State, len(w.now.Notifications()))
		}
		w.close(key, servicenow.Closing{Outcome: servicenow.Rejected})
		w.until(key, correlation.Denied)
		w.check(key)
	})
}

func TestEachBodyThatServiceNowSendsIsUnderstood(t *testing.T) {
	for _, body := range []servicenow.Body{servicenow.CompanionBody, servicenow.TutorialBody, servicenow.MinimalBody} {
		inWorld(t, func(s *setup) { s.now.Notifications[0].Body = body }, func(w *world) {
			w.silent = true // the notification alone must do
			key := w.opened()
			w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
			if !w.run(time.Minute, func() bool { return w.load(key).State == correlation.Resumed }) {
				t.Errorf("%s: it is %s", body, w.load(key).State)
			}
			w.check(key)
		})
	}
}

func TestANotificationThatNamesNothingIsInvalid(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		const id = "7d1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a11"
		for field, n := range map[string]workflow.Closed{
			"table":                            {},
			"sys_id":                           {Table: "sc_request", SysID: "x"},
			"correlation_id":                   {CorrelationID: id},
			"AccessPackageAssignmentRequestId": {StageInstanceID: id},
			"CustomExtensionStageInstanceId":   {RequestID: id, StageInstanceID: "'"},
		} {
			err := w.first.TicketClosed(w.ctx, n)
			if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "("+field+")") {
				t.Errorf("%+v: %v, want %s", n, err, field)
			}
		}
		for _, table := range []string{"Incident", "a b", "a/b", "1a", strings.Repeat("a", 81), "a?x=y"} {
			if err := w.first.TicketClosed(w.ctx, workflow.Closed{Table: table, SysID: strings.Repeat("a", 32)}); !fault.Is(err, fault.Invalid) {
				t.Errorf("table %q: %v", table, err)
			}
		}
		if n := w.tap.total(); n != 0 {
			t.Errorf("%d calls: %v", n, w.tap.calls())
		}
	})
}

// The ticket closes while the answer to its creation is on its way: the notification is there before the number.
func TestANotificationBeforeTheTicketIsOnRecordIsNotLost(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.silent = true
		w.now.Faults.Add(misbehave.Fault{Match: "POST /api/now/v2/table/sc_request", Times: 1, DelayAnswer: 10 * time.Second})
		key := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
		done := make(chan struct{})
		go func() { w.poll(); close(done) }()
		time.Sleep(time.Second)
		w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
		w.poll()
		if c := w.load(key); c.State != correlation.Opening {
			t.Fatalf("it is %s", c.State)
		}
		<-done
		if !w.run(20*time.Second, func() bool { return w.load(key).State == correlation.Resumed }) {
			t.Errorf("it is %s\n%s", w.load(key).State, w.timeline(key))
		}
		w.check(key)
	})
}

func TestNotificationsRepeatedAndReorderedDoNothingTwice(t *testing.T) {
	inWorld(t, func(s *setup) { s.now.Notifications[0].EveryUpdate = true }, func(w *world) {
		a, b := w.opened(), w.opened()
		w.now.HoldNotifications()
		for range 3 {
			for _, key := range []correlation.Key{a, b} {
				w.now.MisdeliverNext(servicenow.Misdelivery{Copies: 2})
				w.close(key, servicenow.Closing{Outcome: servicenow.Complete, Notes: "done"})
			}
		}
		w.now.ReleaseNotifications(true)
		for _, key := range []correlation.Key{a, b} {
			w.until(key, correlation.Resumed)
		}
		w.tap.reset(nil)
		w.pass(time.Hour)
		w.check(a)
		w.check(b)
		if calls := w.tap.calls(); calls["read ticket"]+calls["answer"]+calls["save"] > 0 {
			t.Errorf("late notifications did something: %v", calls)
		}
	})
}

func TestANotificationOfATicketThatIsNotOursIsForgotten(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		id, err := w.now.Insert("incident", map[string]string{"short_description": "printer", "correlation_id": "monitoring-17"})
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []workflow.Closed{
			{Table: "incident", SysID: id},
			{Table: "incident", SysID: strings.Repeat("0", 32)},
			{Table: "no_such_table", SysID: id},
			{RequestID: "7d1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a11", StageInstanceID: "7d1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a12"},
		} {
			w.tap.reset(nil)
			if err := w.first.TicketClosed(w.invocation(), n); err != nil {
				t.Errorf("%+v: %v", n, err)
			}
			w.pass(2 * time.Minute)
			if calls := w.tap.calls(); calls["put"] != 1 || calls["save"] != 0 {
				t.Errorf("%+v: %v", n, calls)
			}
		}
		if len(w.poisoned) > 0 {
			t.Errorf("poison: %q", w.poisoned)
		}
	})
}

func TestANotificationBySysIDSurvivesAnOutage(t *testing.T) {
	inWorld(t, func(s *setup) { s.now.Notifications[0].Body = servicenow.MinimalBody }, func(w *world) {
		w.silent = true
		key := w.opened()
		w.now.Faults.Add(misbehave.Fault{Match: "GET", Times: 3, Status: 503})
		w.close(key, servicenow.Closing{Outcome: servicenow.Complete})
		if !w.run(5*time.Minute, func() bool { return w.load(key).State == correlation.Resumed }) {
			t.Errorf("it is %s", w.load(key).State)
		}
		w.check(key)
	})
}

func TestAMessageIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	key := correlation.Key{Request: "7d1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a11", Stage: "7d1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a12"}
	for _, m := range []workflow.Message{
		{Key: key, Why: workflow.WhySweep, Tries: 3, Origin: "x"},
		{Table: "sc_request", SysID: strings.Repeat("a1", 16), Why: workflow.WhyClosed},
	} {
		if got, err := workflow.ReadMessage([]byte(m.Text())); err != nil || got != m {
			t.Errorf("%+v, %v, want %+v", got, err, m)
		}
	}
	for _, bad := range []string{
		``, `null`, `[]`, `{}`, `"x"`, `{"ticketbridge":null}`, `{"ticketbridge":{}}`, `{"ticketbridge":{"request":"x","stage":"y"}}`, `{"ticketbridge":{"request":"` + key.Request + `"}}`,
		`{"ticketbridge":{"table":"sc_request","sysId":"x"}}`, `{"ticketbridge":{"table":"../x","sysId":"` + strings.Repeat("a", 32) + `"}}`, `{"request":"` + key.Request + `","stage":"` + key.Stage + `"}`,
	} {
		if m, err := workflow.ReadMessage([]byte(bad)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %+v, %v", bad, m, err)
		}
	}
}

// Whoever has the host's key can send a message: nothing in it may do harm.
func TestAMessageWithTriesThatNobodyCountedDoesNoHarm(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		key := w.opened()
		w.now.Faults.Add(misbehave.Fault{Match: "GET", Status: 503})
		for _, tries := range []string{"-1", "-9223372036854775808", "9223372036854775807", "1000"} {
			for _, what := range []string{`"table":"sc_request","sysId":"` + w.ticket(key).SysID + `"`, `"request":"` + key.Request + `","stage":"` + key.Stage + `"`} {
				m, err := workflow.ReadMessage([]byte(`{"ticketbridge":{` + what + `,"why":"closed","tries":` + tries + `}}`))
				if err != nil {
					t.Fatal(err)
				}
				if err := w.first.Advance(w.ctx, m); err != nil {
					t.Errorf("tries %s: %v", tries, err)
				}
			}
		}
	})
}

func FuzzReadMessage(f *testing.F) {
	f.Add([]byte(workflow.Message{Key: correlation.Key{Request: "7d1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a11", Stage: "7d1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a12"}, Why: "closed"}.Text()))
	f.Add([]byte(workflow.Message{Table: "incident", SysID: strings.Repeat("0", 32), Tries: 2}.Text()))
	f.Add([]byte(`{"ticketbridge":{"request":1}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := workflow.ReadMessage(text)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Errorf("%v", err)
			}
			return
		}
		if m.Key.IsZero() && (m.Table == "" || m.SysID == "") || m.Tries < 0 {
			t.Errorf("%q names nothing: %+v", text, m)
		}
		if again, err := workflow.ReadMessage([]byte(m.Text())); err != nil || again != m {
			t.Errorf("%+v comes back as %+v, %v", m, again, err)
		}
	})
}
