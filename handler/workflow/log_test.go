package workflow_test

import (
	"strings"
	"testing"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/misbehave"
	"ticketbridge/handler/simulator/servicenow"
)

func TestTheLogHoldsIDsAndStatesAndNobodysData(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		said := `{"error":{"message":"Invalid value 'Robin Marsh' for robin.marsh@example.com","detail":"Because of the merger, Robin Marsh"},"status":"failure"}`
		w.now.Faults.Add(misbehave.Fault{Match: "GET /api/now/v2/table/sys_user", Times: 1, Status: 500, Body: said})
		w.now.Faults.Add(misbehave.Fault{Match: "POST /api/now", Times: 1, Status: 503, Body: said})
		w.now.Faults.Add(misbehave.Fault{Match: "GET /api/now/v2/table/sc_request/*", Times: 1, Status: 500, Body: said})
		w.entra.GraphFaults.Add(misbehave.Fault{Match: "POST", Times: 1, Status: 500, Body: `{"error":{"code":"x","message":"Robin Marsh"}}`})
		request := entra.NewRequest{
			Policy: w.sample.LedgerPolicy, Requestor: w.sample.Kim.ObjectID,
			Answers: []entra.Answer{{Question: "Why?", Value: "Because of the merger"}},
		}
		var keys []correlation.Key
		for _, how := range []servicenow.Closing{{Outcome: servicenow.Complete, Notes: "Called Robin"}, {Outcome: servicenow.Rejected}, {Fields: map[string]string{"request_state": "closed_somehow", "active": "false"}}} {
			key := w.submit(request)
			keys = append(keys, key)
			w.until(key, correlation.Open)
			w.close(key, how)
			w.until(key, correlation.Resumed, correlation.Denied, correlation.Held)
		}
		withdrawn := w.submit(request)
		w.until(withdrawn, correlation.Open)
		if err := w.entra.Withdraw(withdrawn.Request); err != nil {
			t.Fatal(err)
		}
		w.until(withdrawn, correlation.Withdrawn)
		keys = append(keys, withdrawn)
		w.now.Faults.Add(misbehave.Fault{Match: "POST /api/now", Times: 1, Status: 400, Body: said})
		failed := w.submit(request)
		w.until(failed, correlation.Failed)
		keys = append(keys, failed)
		w.pass(time.Hour)

		text := w.log.String()
		for _, key := range keys {
			text += w.timeline(key)
		}
		for _, personal := range []string{"Robin", "Marsh", "robin.marsh", "Kim", "Stone", "merger", "Why?", "@example", "secret"} {
			if i := strings.Index(text, personal); i >= 0 {
				t.Errorf("%q in %s", personal, text[max(0, i-300):min(len(text), i+200)])
			}
		}
		for _, want := range []string{keys[0].Request, keys[0].Stage, `"event":"received"`, `"event":"ticketCreated"`, `"event":"answered"`, `"state":"resumed"`, `"state":"denied"`, `"state":"held"`, `"state":"failed"`, `"reason":"unclear"`} {
			if !strings.Contains(text, want) {
				t.Errorf("no word of %s", want)
			}
		}
		for line := range strings.Lines(w.log.String()) {
			if !strings.Contains(line, `"requestId":"`) {
				t.Errorf("a line without the request: %s", line)
			}
		}
	})
}
