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

// Whatever Graph answers when it is told, and whatever has become of the request: an outcome, never a grant that was not meant, and where a person has to do something, what.
// docs/entra.md has this table.
func TestWhateverGraphAnswersHasItsOutcomeAndItsAdvice(t *testing.T) {
	const resume = "POST /v1.0/identityGovernance/entitlementManagement/assignmentRequests/*/resume"
	answers := func(status int, body string, times int) *misbehave.Fault {
		return &misbehave.Fault{Match: resume, Status: status, Body: body, Times: times, ContentType: "application/json"}
	}
	const (
		unknown  = `{"error":{"code":"UnknownError","message":""}}`
		instance = `{"error":{"code":"BadRequest","message":"The custom extension stage instance does not match the request."}}`
		role     = `{"error":{"code":"Forbidden","message":"User is not authorized to perform the operation."}}`
		missing  = `{"error":{"code":"ResourceNotFound","message":"The assignment request was not found."}}`
	)
	for name, c := range map[string]struct {
		rejected bool                                // the work was not done: deny
		fault    *misbehave.Fault                    // what Graph answers
		before   func(w *world, key correlation.Key) // what becomes of the request before it is told
		setup    func(*setup)                        //
		end      correlation.State                   //
		reason   string                              // part of why
		advice   string                              // part of what to do
		granted  int                                 // grants that Graph accepted
		within   time.Duration                       //
	}{
		"taken":                        {end: correlation.Resumed, granted: 1, within: time.Minute},
		"taken, the answer lost":       {fault: &misbehave.Fault{Match: resume, Times: 1, LoseAnswer: true}, end: correlation.Resumed, granted: 1, within: 5 * time.Minute},
		"taken with UnknownError":      {fault: &misbehave.Fault{Match: resume, Times: 1, TakeEffect: true, Status: 500, Body: unknown}, end: correlation.Resumed, granted: 1, within: 5 * time.Minute},
		"UnknownError, 500":            {fault: answers(500, unknown, 2), end: correlation.Resumed, granted: 1, within: 5 * time.Minute},
		"UnknownError, 400":            {fault: answers(400, unknown, 2), end: correlation.Resumed, granted: 1, within: 5 * time.Minute},
		"UnknownError, 404":            {fault: answers(404, unknown, 2), end: correlation.Resumed, granted: 1, within: 5 * time.Minute},
		"throttled":                    {fault: entraThrottle(2), end: correlation.Resumed, granted: 1, within: 10 * time.Minute},
		"no role":                      {fault: answers(403, role, 0), end: correlation.Failed, reason: "403", advice: "Give the function's identity the role", within: 5 * time.Minute},
		"wrong stage or instance":      {fault: answers(400, instance, 0), end: correlation.Failed, reason: "says that the request still waits", advice: "Look at the request in Entra", within: 5 * time.Minute},
		"no such request, and it is":   {fault: answers(404, missing, 0), end: correlation.Failed, reason: "says that the request still waits", advice: "Look at the request in Entra", within: 5 * time.Minute},
		"answered by somebody else":    {before: resumedByHand, end: correlation.Withdrawn, reason: "by somebody else", granted: 1, within: 5 * time.Minute},
		"answered, and 204 once more":  {before: resumedByHand, setup: func(s *setup) { s.entra.SecondResume = 204 }, end: correlation.Resumed, granted: 1, within: 5 * time.Minute},
		"answered, and 404 once more":  {before: resumedByHand, setup: func(s *setup) { s.entra.SecondResume = 404 }, end: correlation.Withdrawn, reason: "by somebody else", granted: 1, within: 5 * time.Minute},
		"timed out":                    {before: expiredInEntra, end: correlation.Expired, reason: "stopped waiting", within: 5 * time.Minute},
		"withdrawn":                    {before: withdrawnInEntra, end: correlation.Withdrawn, reason: "no longer waits", within: 5 * time.Minute},
		"denied":                       {rejected: true, end: correlation.Denied, within: time.Minute},
		"denied, the answer lost":      {rejected: true, fault: &misbehave.Fault{Match: resume, Times: 1, LoseAnswer: true}, end: correlation.Denied, within: 5 * time.Minute},
		"a denial refused":             {rejected: true, setup: func(s *setup) { s.entra.RefuseDenialAt = []string{entra.StageApproved} }, end: correlation.Held, reason: "Graph refused to deny", advice: "stays paused and fails at its deadline", within: 5 * time.Minute},
		"a denial and UnknownError":    {rejected: true, fault: answers(500, unknown, 0), end: correlation.Held, reason: "Graph refused to deny", advice: "stays paused and fails at its deadline", within: 3 * time.Hour},
		"a denial of one timed out":    {rejected: true, before: expiredInEntra, end: correlation.Expired, reason: "stopped waiting", within: 5 * time.Minute},
		"a denial of one that resumed": {rejected: true, before: resumedByHand, end: correlation.Withdrawn, reason: "by somebody else", granted: 1, within: 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, c.setup, func(w *world) {
				w.silent = true // so that no sweep finds it first
				key := w.opened()
				if c.fault != nil {
					w.entra.GraphFaults.Add(*c.fault)
				}
				if c.before != nil {
					c.before(w, key)
				}
				w.silent = false
				w.swept = time.Now()
				start := time.Now()
				how := servicenow.Complete
				if c.rejected {
					how = servicenow.Rejected
				}
				w.close(key, servicenow.Closing{Outcome: how})
				got := w.until(key, c.end)
				if took := time.Since(start); took > c.within {
					t.Errorf("after %s\n%s", took, w.timeline(key))
				}
				if !strings.Contains(got.Reason, c.reason) || !strings.Contains(got.Advice, c.advice) || got.State.NeedsPerson() && got.Advice == "" {
					t.Errorf("because %q; advice %q\n%s", got.Reason, got.Advice, w.timeline(key))
				}
				if granted, _ := w.granted(key); granted != c.granted {
					t.Errorf("%d grants\n%s", granted, w.timeline(key))
				}
			})
		})
	}
}

func entraThrottle(times int) *misbehave.Fault {
	f := entra.GraphThrottle(times, 90*time.Second)
	return &f
}

func resumedByHand(w *world, key correlation.Key) {
	if err := w.graph.Answer(w.ctx, key, entra.StageApproved, "resume", "by hand"); err != nil {
		w.Fatal(err)
	}
}

func expiredInEntra(w *world, key correlation.Key) {
	if err := w.entra.Expire(key.Request); err != nil {
		w.Fatal(err)
	}
}

func withdrawnInEntra(w *world, key correlation.Key) {
	if err := w.entra.Withdraw(key.Request); err != nil {
		w.Fatal(err)
	}
}
