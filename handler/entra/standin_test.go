package entra

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/entra/identity"
	"ticketbridge/handler/fault"
	standin "ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/misbehave"
	"ticketbridge/handler/workflow"
)

// tenant is a stand-in for Entra over HTTP, a client with the production credential, and requests that wait.
type tenant struct {
	*standin.Directory
	t        *testing.T
	sample   standin.Sample
	identity standin.Identity
	client   *Client
}

func startTenant(t *testing.T, cfg standin.Config) *tenant {
	t.Helper()
	function := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }))
	t.Cleanup(function.Close)
	d := standin.New(cfg)
	t.Cleanup(d.Close)
	stop, err := d.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	s := &tenant{Directory: d, t: t, sample: d.AddSample(standin.Extension{URL: function.URL})}
	s.identity = d.AddIdentity(standin.Identity{Name: "ticketbridge", UserAssigned: true})
	env := d.Environment(s.identity.ClientID)
	for _, name := range []string{"IDENTITY_ENDPOINT", "IDENTITY_HEADER"} {
		t.Setenv(name, env[name])
	}
	cred, err := identity.NewCredential(identity.Settings{ClientID: env["AZURE_CLIENT_ID"], Endpoint: env["IDENTITY_ENDPOINT"]})
	if err != nil {
		t.Fatal(err)
	}
	if s.client, err = New(Config{GraphURL: env["GRAPH_URL"], Credential: cred, Timeout: 10 * time.Second}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, v := range d.Violations() {
			t.Errorf("not as the published schema has it: %s", v)
		}
	})
	return s
}

// waiting submits a request and returns the key and the stage that it waits at.
func (s *tenant) waiting(policy string) (correlation.Key, string) {
	s.t.Helper()
	id, err := s.Submit(standin.NewRequest{Policy: policy, Target: s.sample.Robin.ObjectID})
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := s.Await(s.t.Context(), id, func(r standin.Request) bool { return r.Waiting() != nil })
	if err != nil {
		s.t.Fatal(err)
	}
	key, err := correlation.NewKey(r.ID, r.Waiting().ID)
	if err != nil {
		s.t.Fatal(err)
	}
	return key, r.Waiting().Stage
}

func (s *tenant) expect(key correlation.Key, instance, state string) {
	s.t.Helper()
	got, err := s.client.Read(s.t.Context(), key)
	if err != nil || got.Instance != instance || state != "" && got.State != state {
		s.t.Errorf("read %+v, %v; want instance %q, state %q", got, err, instance, state)
	}
}

func TestOnTheStandInARequestIsResumedOnce(t *testing.T) {
	s := startTenant(t, standin.Config{})
	s.AssignManager(s.identity.ObjectID, s.sample.Finance)
	key, stage := s.waiting(s.sample.LedgerPolicy)
	s.expect(key, standin.StatusWaiting, standin.StateDelivering)
	if err := s.client.Answer(t.Context(), key, stage, workflow.Resume, "ServiceNow REQ0010012 closed"); err != nil {
		t.Fatal(err)
	}
	s.expect(key, standin.StatusReceived, "")
	told := s.Resumes(key.Request)
	if len(told) != 1 || !told[0].Accepted || !told[0].Grants() || told[0].Source != "ServiceNow" || told[0].Detail != "ServiceNow REQ0010012 closed" {
		t.Errorf("Graph was told %+v", told)
	}
	if err := s.client.Answer(t.Context(), key, stage, workflow.Resume, "again"); !fault.Is(err, fault.Refused) {
		t.Errorf("a second time: %v, want refused", err)
	}
}

func TestOnTheStandInARequestIsDeniedOrCanceled(t *testing.T) {
	s := startTenant(t, standin.Config{RefuseDenialAt: []string{standin.StageRemoved}})
	s.AssignManager(s.identity.ObjectID, s.sample.Finance)
	for decision, state := range map[workflow.Decision]string{workflow.Deny: standin.StateDenied, workflow.Cancel: standin.StateCanceled} {
		key, stage := s.waiting(s.sample.LedgerPolicy)
		if err := s.client.Answer(t.Context(), key, stage, decision, "ServiceNow REQ1 rejected"); err != nil {
			t.Errorf("%s: %v", decision, err)
		}
		s.expect(key, standin.StatusReceived, state)
		if r, _ := s.Request(key.Request); r.State != state {
			t.Errorf("%s: the request is %s", decision, r.State)
		}
	}
}

func TestOnTheStandInARefusalSaysWhy(t *testing.T) {
	s := startTenant(t, standin.Config{RefuseDenialAt: []string{standin.StageApproved}})
	key, stage := s.waiting(s.sample.LedgerPolicy)
	err := s.client.Answer(t.Context(), key, stage, workflow.Resume, "x")
	if !fault.Is(err, fault.Forbidden) || !strings.Contains(fault.Advice(err), "Access package assignment manager") {
		t.Errorf("without the role: %v (%s)", err, fault.Advice(err))
	}
	s.AssignManager(s.identity.ObjectID, s.sample.Finance)
	if err := s.client.Answer(t.Context(), key, "assignmentRequestCreated", workflow.Resume, "x"); !fault.Is(err, fault.Refused) {
		t.Errorf("another stage: %v, want refused", err)
	}
	if err := s.client.Answer(t.Context(), key, stage, workflow.Deny, "x"); !fault.Is(err, fault.Refused) {
		t.Errorf("a denial where Graph takes none: %v, want refused", err)
	}
	other, _ := s.waiting(s.sample.LedgerPolicy)
	if err := s.client.Answer(t.Context(), correlation.Key{Request: key.Request, Stage: other.Stage}, stage, workflow.Resume, "x"); !fault.Is(err, fault.Refused) {
		t.Errorf("another request's stage instance: %v, want refused", err)
	}
	s.expect(key, standin.StatusWaiting, "")
	if err := s.Withdraw(key.Request); err != nil {
		t.Fatal(err)
	}
	s.expect(key, standin.StatusWaiting, standin.StateCanceled)
	if err := s.client.Answer(t.Context(), key, stage, workflow.Resume, "x"); !fault.Is(err, fault.Refused) {
		t.Errorf("a withdrawn request: %v, want refused", err)
	}
	for _, r := range s.Resumes("") {
		if r.Accepted {
			t.Errorf("Graph accepted %+v", r)
		}
	}
}

func TestOnTheStandInALostAnswerCanBeLookedUp(t *testing.T) {
	s := startTenant(t, standin.Config{})
	s.AssignManager(s.identity.ObjectID, s.sample.Finance)
	for name, f := range map[string]misbehave.Fault{
		"the connection broke":        {Match: "POST", Times: 1, LoseAnswer: true},
		"a gateway gave up waiting":   {Match: "POST", Times: 1, TakeEffect: true, Status: http.StatusGatewayTimeout, Body: "<html>", ContentType: "text/html"},
		"an answer that says nothing": {Match: "POST", Times: 1, TakeEffect: true, Status: http.StatusInternalServerError, Body: `{"error":{"code":"UnknownError","message":""}}`},
	} {
		key, stage := s.waiting(s.sample.LedgerPolicy)
		s.GraphFaults.Add(f)
		if err := s.client.Answer(t.Context(), key, stage, workflow.Resume, "x"); !fault.Is(err, fault.Unclear) {
			t.Errorf("%s: %v, want unclear", name, err)
		}
		s.expect(key, standin.StatusReceived, "")
		if told := s.Resumes(key.Request); len(told) != 1 {
			t.Errorf("%s: Graph was told %d times", name, len(told))
		}
	}
}

func TestOnTheStandInThrottlingIsPassedOn(t *testing.T) {
	s := startTenant(t, standin.Config{})
	s.AssignManager(s.identity.ObjectID, s.sample.Finance)
	key, stage := s.waiting(s.sample.LedgerPolicy)
	s.GraphFaults.Add(standin.GraphThrottle(1, 7*time.Second))
	if err := s.client.Answer(t.Context(), key, stage, workflow.Resume, "x"); !fault.Is(err, fault.Throttled) || fault.After(err) != 7*time.Second {
		t.Errorf("%v after %s, want throttled for 7s", err, fault.After(err))
	}
	if told := s.Resumes(""); len(told) != 0 {
		t.Errorf("Graph was told %+v", told)
	}
	if err := s.client.Answer(t.Context(), key, stage, workflow.Resume, "x"); err != nil {
		t.Error(err)
	}
}

func TestOnTheStandInAnUnknownRequestIsNotFound(t *testing.T) {
	s := startTenant(t, standin.Config{})
	all := s.AddIdentity(standin.Identity{UserAssigned: true, GraphRoles: []string{"EntitlementManagement.ReadWrite.All"}})
	cred, err := identity.NewCredential(identity.Settings{ClientID: all.ClientID, Endpoint: "set"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{GraphURL: s.GraphURL(), Credential: cred})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(t.Context(), key); !fault.Is(err, fault.NotFound) {
		t.Errorf("Read: %v, want not found", err)
	}
	if err := c.Answer(t.Context(), key, approved, workflow.Resume, "x"); !fault.Is(err, fault.NotFound) {
		t.Errorf("Answer: %v, want not found", err)
	}
}

func TestOnTheStandInAnIdentityThatDoesNotExistIsUnauthorized(t *testing.T) {
	s := startTenant(t, standin.Config{})
	cred, err := identity.NewCredential(identity.Settings{ClientID: "00000000-1111-4222-8333-444444444444", Endpoint: "set"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{GraphURL: s.GraphURL(), Credential: cred})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(t.Context(), key); !fault.Is(err, fault.Unauthorized) || !strings.Contains(err.Error(), "No User Assigned") || !strings.Contains(fault.Advice(err), "AZURE_CLIENT_ID") {
		t.Errorf("%v (%s)", err, fault.Advice(err))
	}
}

func TestOnTheStandInManyAreReadInOneCall(t *testing.T) {
	s := startTenant(t, standin.Config{})
	s.AssignManager(s.identity.ObjectID, s.sample.Finance)
	var keys []correlation.Key
	for range 3 {
		key, _ := s.waiting(s.sample.LedgerPolicy)
		keys = append(keys, key)
	}
	if err := s.Withdraw(keys[1].Request); err != nil {
		t.Fatal(err)
	}
	unknown, err := correlation.NewKey("7d1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a11", keys[0].Stage)
	if err != nil {
		t.Fatal(err)
	}
	before := s.Calls()["POST /v1.0/$batch"]
	got, err := s.client.ReadMany(t.Context(), append(keys, unknown))
	if err != nil || len(got) != 3 || s.Calls()["POST /v1.0/$batch"] != before+1 {
		t.Fatalf("%+v, %v, after %d calls", got, err, s.Calls()["POST /v1.0/$batch"]-before)
	}
	for i, key := range keys {
		alone, err := s.client.Read(t.Context(), key)
		if err != nil || got[key] != alone {
			t.Errorf("in the batch %+v; alone %+v, %v", got[key], alone, err)
		}
		if waits := got[key].Instance == standin.StatusWaiting && got[key].State == standin.StateDelivering; waits != (i != 1) {
			t.Errorf("%d: %+v", i, got[key])
		}
	}
}

func TestABatchThatDoesNotWorkSaysWhy(t *testing.T) {
	s := startTenant(t, standin.Config{})
	s.AssignManager(s.identity.ObjectID, s.sample.Finance)
	key, _ := s.waiting(s.sample.LedgerPolicy)
	for name, c := range map[string]struct {
		fault misbehave.Fault
		want  fault.Reason
	}{
		"throttled":   {misbehave.Fault{Match: "POST /v1.0/$batch", Times: 1, Status: 429, RetryAfter: "7"}, fault.Throttled},
		"down":        {misbehave.Fault{Match: "POST /v1.0/$batch", Times: 1, Status: 503}, fault.Unreachable},
		"answer lost": {misbehave.Fault{Match: "POST /v1.0/$batch", Times: 1, LoseAnswer: true}, fault.Unreachable},
		"no JSON":     {misbehave.Fault{Match: "POST /v1.0/$batch", Times: 1, Status: 200, Body: "<html>", ContentType: "application/json"}, fault.Unreachable},
		"one of its steps is throttled": {misbehave.Fault{
			Match: "POST /v1.0/$batch", Times: 1, Status: 200, ContentType: "application/json",
			Body: `{"responses":[{"id":"0","status":429,"headers":{"Retry-After":"7"},"body":{"error":{"code":"TooManyRequests","message":"slow down"}}}]}`,
		}, fault.Throttled},
	} {
		s.GraphFaults.Add(c.fault)
		got, err := s.client.ReadMany(t.Context(), []correlation.Key{key})
		if !fault.Is(err, c.want) || len(got) != 0 || c.want == fault.Throttled && fault.After(err) != 7*time.Second {
			t.Errorf("%s: %v, %v, after %s", name, got, err, fault.After(err))
		}
	}
	// Steps come in any order; those of ids that nobody asked for, of other requests, and of shapes that nobody expects, say nothing.
	for _, responses := range []string{
		`[]`, `null`, `[{"id":"1","status":200,"body":{}}]`, `[{"id":"-1","status":200,"body":{}}]`, `[{"id":"x","status":200}]`, `[{"id":"0","status":200}]`, `[{"id":"0","status":200,"body":[]}]`,
		`[{"id":"0","status":200,"body":{"id":"7d1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a11","state":"delivered"}}]`, `[{"id":"0","status":404,"body":{"error":{"code":"ResourceNotFound"}}}]`,
	} {
		s.GraphFaults.Add(misbehave.Fault{Match: "POST /v1.0/$batch", Times: 1, Status: 200, ContentType: "application/json", Body: `{"responses":` + responses + `}`})
		if got, err := s.client.ReadMany(t.Context(), []correlation.Key{key}); err != nil || len(got) != 0 {
			t.Errorf("%s: %v, %v", responses, got, err)
		}
	}
	for _, n := range []int{0, 21} {
		if _, err := s.client.ReadMany(t.Context(), make([]correlation.Key, n)); !fault.Is(err, fault.Internal) {
			t.Errorf("%d in one batch: %v", n, err)
		}
	}
}

func TestOnTheStandInPeopleAreLookedUpByTheRequest(t *testing.T) {
	s := startTenant(t, standin.Config{})
	key, _ := s.waiting(s.sample.LedgerPolicy)
	if got, err := s.client.People(t.Context(), key); !fault.Is(err, fault.Forbidden) {
		t.Errorf("without the role: %v, %v", got, err)
	}
	s.AssignManager(s.identity.ObjectID, s.sample.Finance)
	got, err := s.client.People(t.Context(), key)
	if err != nil || len(got) == 0 {
		t.Fatalf("%v, %v", got, err)
	}
	for _, p := range got {
		if p.ObjectID != s.sample.Robin.ObjectID || p.Email != s.sample.Robin.Email || p.PrincipalName != s.sample.Robin.PrincipalName {
			t.Errorf("%+v", p)
		}
	}
}
