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
)

func TestATicketIsRequestedForItsTarget(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		for _, c := range []struct {
			request entra.NewRequest
			want    string
		}{
			{entra.NewRequest{Target: w.sample.Robin.ObjectID}, robinID},
			{entra.NewRequest{Target: w.sample.Kim.ObjectID, Requestor: w.sample.Robin.ObjectID}, kimID},
			{entra.NewRequest{Target: w.sample.Robin.ObjectID, Shape: entra.Shape{Edit: func(body map[string]any) {
				body["Assignment"].(map[string]any)["Target"].(map[string]any)["PrincipalName"] = "somebody.else@example.com"
			}}}, robinID}, // by e-mail
		} {
			c.request.Policy = w.sample.LedgerPolicy
			key := w.submit(c.request)
			w.until(key, correlation.Open)
			if got := w.ticket(key).Fields["requested_for"]; got != c.want {
				t.Errorf("requested for %q, want %s\n%s", got, c.want, w.timeline(key))
			}
		}
	})
}

func TestWithoutAUserTheTicketIsOpenedAllTheSame(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*setup)
		policy string
		says   string
	}{
		"not found":         {func(s *setup) { s.now.Users = s.now.Users[:1] }, ledger, "requested_for stays empty: ServiceNow has no active user"},
		"inactive":          {func(s *setup) { s.now.Users[1].Inactive = true }, ledger, "requested_for stays empty: ServiceNow has no active user"},
		"two with the mail": {func(s *setup) { s.now.Users[1].UserName, s.now.Users[2].Email = "rm", "robin.marsh@example.com" }, ledger, "requested_for stays empty: ServiceNow has no active user"},
		"no right to read": {func(s *setup) {
			s.now.Users[0].Denied = []servicenow.Denial{{Table: "sys_user", Operation: servicenow.Read}}
		}, ledger, "requested_for stays empty: "},
		"ignored condition": {func(s *setup) {
			s.now.Users[0].Denied = []servicenow.Denial{{Table: "sys_user", Operation: servicenow.Read, Field: "user_name"}, {Table: "sys_user", Operation: servicenow.Read, Field: "email"}}
		}, ledger, "requested_for stays empty: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, c.change, func(w *world) {
				start := time.Now()
				key := w.submit(entra.NewRequest{Policy: w.policy(c.policy)})
				w.until(key, correlation.Open)
				if got := w.ticket(key).Fields["requested_for"]; got != "" || time.Since(start) > time.Minute {
					t.Errorf("requested for %q, after %s", got, time.Since(start))
				}
				if n := strings.Count(w.timeline(key), "requested_for"); n != 1 {
					t.Errorf("said %d times", n)
				}
				w.says(key, c.says)
				for _, personal := range []string{"Robin", "Marsh", "robin.marsh"} {
					if strings.Contains(w.timeline(key), personal) {
						t.Errorf("the timeline names %s:\n%s", personal, w.timeline(key))
					}
				}
				if !strings.Contains(w.ticket(key).Fields["description"], "For: Robin Marsh") {
					t.Errorf("the text does not name whom it is for: %s", w.ticket(key).Fields["description"])
				}
				w.check(key)
			})
		})
	}
}

func TestAForbiddenLookUpOfTheUserIsNoReasonToWait(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.now.Faults.Add(misbehave.Fault{Match: "GET /api/now/v2/table/sys_user", Status: 403, Body: `{"error":{"message":"User Not Authorized","detail":"Failed API level ACL Validation for Robin Marsh"},"status":"failure"}`})
		key := w.opened()
		w.says(key, "requested_for stays empty: find user: forbidden, status 403")
		if strings.Contains(w.timeline(key), "Robin") {
			t.Errorf("the timeline names a person:\n%s", w.timeline(key))
		}
	})
}

func TestALookUpThatDoesNotWorkForNowIsTriedLaterAndNothingIsLost(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.now.Faults.Add(misbehave.Fault{Match: "GET /api/now/v2/table/sys_user", Times: 1, Status: 429, RetryAfter: "300"})
		w.now.Faults.Add(misbehave.Fault{Match: "GET /api/now/v2/table/sys_user", Times: 2, Status: 503})
		key := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
		w.pass(time.Second)
		c := w.load(key)
		if c.State != correlation.Received || c.Attempts != 1 || c.LastReason != fault.Throttled || c.NextAttempt.Before(time.Now().Add(299*time.Second)) {
			t.Errorf("%s, %d attempts, %s, next %s", c.State, c.Attempts, c.LastReason, c.NextAttempt)
		}
		w.tap.reset(nil)
		for range 20 { // whoever asks meanwhile
			if _, err := w.entra.RepeatCallout(key.Stage); err != nil {
				t.Fatal(err)
			}
			w.pass(14 * time.Second)
		}
		if calls := w.tap.calls(); calls["find user"] != 0 || w.load(key).Attempts != 1 {
			t.Errorf("called before Retry-After ended: %v", calls)
		}
		w.until(key, correlation.Open)
		if calls := w.tap.calls(); calls["find user"] != 3 || w.ticket(key).Fields["requested_for"] != robinID {
			t.Errorf("requested for %q after %v\n%s", w.ticket(key).Fields["requested_for"], calls, w.timeline(key))
		}
		w.check(key)
	})
}
