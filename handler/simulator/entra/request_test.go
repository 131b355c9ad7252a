package entra

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ticketbridge/handler/simulator/misbehave"
)

func TestACalloutHasTheDocumentedBody(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	r := f.await(f.submit(NewRequest{
		Policy: f.sample.LedgerPolicy, Target: f.sample.Sasha.ObjectID, Requestor: f.sample.Kim.ObjectID,
		Answers: []Answer{{"Which region?", "EMEA"}},
	}), IsWaiting)
	body := f.function.got()[0]
	want := []string{
		"AccessPackage", "AccessPackageAssignmentRequestId", "AccessPackageCatalog", "Answers", "Assignment", "CallbackConfiguration",
		"CallbackUriPath", "CustomExtensionStageInstanceId", "RequestType", "Requestor", "Stage", "State", "Status",
	}
	if got := slices.Sorted(maps.Keys(body)); !slices.Equal(got, want) {
		t.Errorf("properties %v, want %v", got, want)
	}
	at := func(path string) any { return reach(any(body), strings.Split(path, "/")) }
	for path, want := range map[string]string{
		"AccessPackageAssignmentRequestId": r.ID, "CustomExtensionStageInstanceId": r.Callouts[0].ID, "Stage": StageApproved,
		"RequestType": "userAdd", "State": "delivering", "Status": "WaitingForCallback", "CallbackConfiguration/DurationBeforeTimeout": "P14D",
		"AccessPackage/Id": f.sample.Ledger, "AccessPackage/DisplayName": "Ledger reader", "AccessPackageCatalog/Id": f.sample.Finance,
		"Assignment/Target/ObjectId": f.sample.Sasha.ObjectID, "Assignment/Target/Email": "sasha.field@partner.example",
		"Assignment/Target/ConnectedOrganization/DisplayName": "Partner", "Assignment/AssignmentPolicy/Id": f.sample.LedgerPolicy,
		"Requestor/ObjectId": f.sample.Kim.ObjectID, "Requestor/Email": "kim.stone@example.com",
	} {
		if at(path) != want {
			t.Errorf("%s is %v, want %q", path, at(path), want)
		}
	}
	answer := at("Answers").([]any)[0]
	if reach(answer, []string{"AnsweredQuestion", "TextString"}) != "Which region?" || reach(answer, []string{"Value"}) != "EMEA" {
		t.Errorf("answer %v", answer)
	}
	if f.function.header(0).Get("Content-Type") != "application/json; charset=utf-8" {
		t.Errorf("content type %q", f.function.header(0).Get("Content-Type"))
	}
}

func TestACalloutBodyCanDepartFromTheExample(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	for name, c := range map[string]struct {
		shape Shape
		holds func(body map[string]any) bool
	}{
		"camel case": {Shape{CamelCase: true}, func(b map[string]any) bool {
			return b["stage"] == StageApproved && b["Stage"] == nil && reach(any(b), []string{"assignment", "target", "objectId"}) != nil
		}},
		"no e-mail": {Shape{NoEmail: true}, func(b map[string]any) bool {
			target := reach(any(b), []string{"Assignment", "Target"}).(map[string]any)
			_, email := target["Email"]
			_, principal := target["PrincipalName"]
			return !email && !principal && target["DisplayName"] != nil
		}},
		"null answers": {Shape{NullAnswers: true}, func(b map[string]any) bool { v, there := b["Answers"]; return there && v == nil }},
		"no callback":  {Shape{NoCallback: true}, func(b map[string]any) bool { _, there := b["CallbackConfiguration"]; return !there }},
		"other name of the duration": {Shape{TimeoutDuration: true}, func(b map[string]any) bool {
			return reach(any(b), []string{"CallbackConfiguration", "TimeoutDuration"}) == "P14D"
		}},
		"unknown stage": {Shape{Stage: "assignmentRequestPondered"}, func(b map[string]any) bool { return b["Stage"] == "assignmentRequestPondered" }},
		"extra fields":  {Shape{Extra: map[string]any{"Weather": "fair"}}, func(b map[string]any) bool { return b["Weather"] == "fair" }},
		"edited":        {Shape{Edit: func(b map[string]any) { delete(b, "Requestor") }}, func(b map[string]any) bool { _, there := b["Requestor"]; return !there }},
		"request type":  {Shape{RequestType: "userExtend"}, func(b map[string]any) bool { return b["RequestType"] == "userExtend" }},
		"upper ids": {Shape{UpperIDs: true}, func(b map[string]any) bool {
			id := b["CustomExtensionStageInstanceId"].(string)
			return id == strings.ToUpper(id)
		}},
	} {
		before := len(f.function.got())
		f.await(f.submit(NewRequest{Policy: f.sample.LedgerPolicy, Shape: c.shape}), IsWaiting)
		if body := f.function.got()[before]; !c.holds(body) {
			t.Errorf("%s: %v", name, body)
		}
	}
}

func TestALaunchAndContinueCalloutHasNoCallbackConfigurationAndDoesNotPause(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	r := f.await(f.submit(NewRequest{Policy: f.sample.BadgePolicy}), IsOver)
	if r.State != StateDelivered || len(r.Callouts) != 1 || r.Callouts[0].Status != StatusSent || r.Callouts[0].Stage != StageGranted {
		t.Errorf("request %+v", r)
	}
	if _, there := f.function.got()[0]["CallbackConfiguration"]; there {
		t.Error("a callback configuration without a callback")
	}
}

func TestConnectionTestsHaveBothForms(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	for i, before2023 := range []bool{false, true} {
		a, err := f.TestConnection(f.sample.WaitFinance, before2023)
		if err != nil || !a.OK || a.Status != 202 {
			t.Fatalf("%+v %v", a, err)
		}
		body := f.function.got()[i]
		if before2023 && body["Event"] != "CustomActionConnectionTest" || !before2023 && body["Stage"] != "CustomExtensionConnectionTest" {
			t.Errorf("body %v", body)
		}
	}
}

func TestARequestGoesThroughItsStagesAndIsDelivered(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	id := f.submit(NewRequest{Policy: f.sample.PayrollPolicy})
	r := f.await(id, IsWaiting)
	if r.Callouts[0].Stage != StageCreated || r.State != StateSubmitted || r.Status != "WaitingForCallback" {
		t.Fatalf("at first %+v", r)
	}
	f.resumeAs(204, r, "")
	r = f.await(id, func(r Request) bool { return len(r.Callouts) == 2 && IsWaiting(r) })
	if r.Callouts[0].Status != StatusReceived || r.Callouts[1].Stage != StageApproved || r.State != StateDelivering {
		t.Fatalf("then %+v", r)
	}
	f.resumeAs(204, r, "")
	r = f.await(id, IsOver)
	if r.State != StateDelivered || r.MyAccess != "Delivered" || r.Completed.IsZero() {
		t.Fatalf("at last %+v", r)
	}
	told := f.Resumes(id)
	if len(told) != 2 || !told[0].Accepted || !told[1].Grants() || told[1].Detail != "REQ0010012 closed complete" || told[1].Source != "ServiceNow" {
		t.Errorf("Graph was told %+v", told)
	}
}

func TestAnApprovalComesBetweenCreatedAndApprovedAndTheGrantedStageAfterDelivery(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	id := f.submit(NewRequest{Policy: f.sample.ClusterPolicy})
	f.await(id, func(r Request) bool { return r.State == StatePendingApproval })
	if err := f.Approve(id); err != nil {
		t.Fatal(err)
	}
	f.resumeAs(204, f.await(id, IsWaiting), "")
	r := f.await(id, IsOver)
	if len(r.Callouts) != 2 || r.Callouts[1].Stage != StageGranted || r.State != StateDelivered {
		t.Errorf("request %+v", r)
	}
	if body := f.function.got()[1]; body["State"] != StateDelivered {
		t.Errorf("at the stage granted the state is %v", body["State"])
	}
	other := f.submit(NewRequest{Policy: f.sample.ClusterPolicy})
	f.await(other, func(r Request) bool { return r.State == StatePendingApproval })
	if err := f.Reject(other); err != nil {
		t.Fatal(err)
	}
	if r := f.await(other, IsOver); r.State != StateDenied || len(r.Callouts) != 0 {
		t.Errorf("rejected request %+v", r)
	}
}

func TestARemovalCallsOutAtItsOwnStageAndEndsTheAssignment(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	r := f.waiting()
	f.resumeAs(204, r, "")
	f.await(r.ID, IsOver)
	id := f.submit(NewRequest{Type: "userRemove", Policy: f.sample.LedgerPolicy})
	gone := f.await(id, IsWaiting)
	if gone.Callouts[0].Stage != StageRemoved || gone.Assignment != r.Assignment {
		t.Fatalf("removal %+v of %s", gone, r.Assignment)
	}
	f.resumeAs(204, gone, "")
	f.await(id, IsOver)
	a := f.want(200, "GET", management+"/assignments/"+r.Assignment, "")
	if a["state"] != "expired" {
		t.Errorf("assignment %v", a)
	}
}

func TestTheWarningBeforeExpirationHasFewerFieldsAndNothingWaits(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	r := f.waiting()
	f.resumeAs(204, r, "")
	f.await(r.ID, IsOver)
	for i, stage := range []string{StageFourteenDays, StageOneDay} {
		id, err := f.WarnExpiring(r.ID, stage)
		if err != nil {
			t.Fatal(err)
		}
		body := f.function.got()[1+i]
		want := []string{
			"AccessPackage", "AccessPackageAssignmentRequestId", "AccessPackageCatalog", "Assignment", "CustomExtensionStageInstanceId",
			"Requestor", "Stage",
		}
		if got := slices.Sorted(maps.Keys(body)); !slices.Equal(got, want) {
			t.Errorf("properties %v", got)
		}
		assigned := body["Assignment"].(map[string]any)
		if got := slices.Sorted(maps.Keys(assigned)); !slices.Equal(got, []string{"Id", "State", "Status", "Target"}) {
			t.Errorf("properties of the assignment %v", got)
		}
		if body["Stage"] != stage || body["CustomExtensionStageInstanceId"] != id {
			t.Errorf("body %v", body)
		}
	}
	f.want(400, "POST", requestPath(r)+"/resume", resumeBody(StageFourteenDays, f.function.got()[1]["CustomExtensionStageInstanceId"].(string), ""))
	if _, err := f.WarnExpiring(f.submit(NewRequest{Policy: f.sample.BadgePolicy}), StageOneDay); err == nil {
		t.Error("a warning by a policy that has no such stage")
	}
}

func TestADeniedRequestIsOverAndGivesNothing(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	for state, want := range map[string]string{"Denied": StateDenied, "Canceled": StateCanceled} {
		r := f.waiting()
		f.resumeAs(204, r, `, "state": "`+state+`"`)
		r = f.await(r.ID, IsOver)
		if r.State != want || f.Resumes(r.ID)[0].Grants() {
			t.Errorf("%s: %+v", state, r)
		}
		a := f.want(200, "GET", management+"/assignments/"+r.Assignment, "")
		if a["state"] != "deliveryFailed" {
			t.Errorf("assignment %v", a)
		}
	}
}

func TestADenialCanBeRefusedPerStageAndTheRequestStaysPaused(t *testing.T) {
	t.Parallel()
	f := start(t, Config{RefuseDenialAt: []string{StageApproved}})
	r := f.waiting()
	f.resumeAs(400, r, `, "state": "Denied"`)
	r, _ = f.Request(r.ID)
	if !IsWaiting(r) {
		t.Fatalf("request %+v", r)
	}
	told := f.Resumes(r.ID)
	if len(told) != 1 || told[0].Accepted || told[0].Status != 400 || told[0].Problem == "" {
		t.Errorf("Graph was told %+v", told)
	}
	created := f.await(f.submit(NewRequest{Policy: f.sample.PayrollPolicy}), IsWaiting)
	f.resumeAs(204, created, `, "state": "Denied"`)
}

func TestACallbackThatDoesNotComeFailsTheRequest(t *testing.T) {
	t.Parallel()
	f := startWith(t, Config{}, Extension{Wait: 30 * time.Millisecond})
	r := f.await(f.submit(NewRequest{Policy: f.sample.LedgerPolicy}), IsOver)
	if r.State != StateDeliveryFailed || r.MyAccess != "Assignment failed" || r.Callouts[0].Status != StatusTimedOut {
		t.Fatalf("request %+v", r)
	}
	f.resumeAs(400, r, "")
}

func TestExpireLetsTheCallbackTimeOutNow(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	r := f.waiting()
	if err := f.Expire(r.ID); err != nil {
		t.Fatal(err)
	}
	if r = f.await(r.ID, IsOver); r.State != StateDeliveryFailed {
		t.Errorf("request %+v", r)
	}
	if err := f.Expire(r.ID); !errors.Is(err, ErrOver) {
		t.Errorf("a second time: %v", err)
	}
}

func TestAWithdrawnRequestIsCanceledAndCannotBeResumed(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	r := f.waiting()
	if err := f.Withdraw(r.ID); err != nil {
		t.Fatal(err)
	}
	r = f.await(r.ID, IsOver)
	if r.State != StateCanceled || r.Callouts[0].Status != StatusWaiting || IsWaiting(r) {
		t.Errorf("request %+v", r)
	}
	f.resumeAs(400, r, "")
	if err := f.Withdraw(r.ID); !errors.Is(err, ErrOver) {
		t.Errorf("a second time: %v", err)
	}
}

func TestThePatienceIsTheExtensionsAndSoAreTheRetries(t *testing.T) {
	t.Parallel()
	f := startWith(t, Config{}, Extension{Patience: 40 * time.Millisecond, Retries: 1})
	f.CalloutFaults.Add(misbehave.Fault{Times: 1, DelayAnswer: 5 * time.Second})
	r := f.waiting()
	attempts := r.Callouts[0].Attempts
	if len(attempts) != 2 || attempts[0].Err != "no answer within 40ms" || !attempts[1].OK || attempts[1].Answer != `{"state":"received"}` {
		t.Fatalf("attempts %+v", attempts)
	}
	if n := len(f.function.got()); n != 2 { // the first call took effect: only its answer was late
		t.Errorf("the function got %d calls", n)
	}
}

func TestALostCalloutFailsTheRequestOrLetsItGoOn(t *testing.T) {
	t.Parallel()
	for _, goOn := range []bool{false, true} {
		f := startWith(t, Config{GoOnAfterFailedCallout: goOn}, Extension{Retries: 1})
		f.CalloutFaults.Add(misbehave.Fault{DropCall: true})
		r := f.await(f.submit(NewRequest{Policy: f.sample.LedgerPolicy}), IsOver)
		if r.Callouts[0].Status != StatusFailed || len(r.Callouts[0].Attempts) != 2 || (r.State == StateDelivered) != goOn {
			t.Errorf("going on %v: %+v", goOn, r)
		}
	}
}

func TestOnly202IsASuccessUnlessConfigured(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		any    bool
		ok     bool
	}{{202, false, true}, {200, false, false}, {200, true, true}, {401, true, false}, {500, true, false}} {
		f := start(t, Config{AnySuccess: c.any})
		f.function.answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(c.status) }
		id := f.submit(NewRequest{Policy: f.sample.LedgerPolicy})
		r := f.await(id, func(r Request) bool { return IsOver(r) || IsWaiting(r) })
		if IsWaiting(r) != c.ok || r.Callouts[0].Attempts[0].Status != c.status {
			t.Errorf("%+v: %+v", c, r)
		}
	}
}

func TestADirectCalloutCarriesATokenForItsResource(t *testing.T) {
	t.Parallel()
	for _, version := range []int{1, 2} {
		f := start(t, Config{})
		app := f.AddApp(App{ClientID: "11111111-2222-4333-8444-555555555555", URIs: []string{"api://bridge"}, TokenVersion: version})
		x := f.AddExtension(Extension{
			CatalogID: f.sample.Finance, Name: "With a token", URL: f.function.URL + "/api/callout?code=key", Resource: "api://bridge", Wait: time.Hour,
		})
		p := f.AddPolicy(Policy{PackageID: f.sample.Ledger, Name: "With a token", Stages: map[string]string{StageApproved: x}})
		f.await(f.submit(NewRequest{Policy: p}), IsWaiting)
		token, ok := strings.CutPrefix(f.function.header(0).Get("Authorization"), "Bearer ")
		if !ok {
			t.Fatal("no token")
		}
		claims, err := f.verify(token)
		if err != nil {
			t.Fatal(err)
		}
		if version == 1 && (claims["aud"] != "api://bridge" || claims["appid"] != CallerID || claims["iss"] != "https://sts.windows.net/"+f.TenantID()+"/") {
			t.Errorf("claims of version 1: %v", claims)
		}
		if version == 2 && (claims["aud"] != app.ClientID || claims["azp"] != CallerID || claims["iss"] != f.BaseURL()+"/"+f.TenantID()+"/v2.0") {
			t.Errorf("claims of version 2: %v", claims)
		}
	}
}

func TestACalloutCanBeRepeatedWithTheSameBody(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	r := f.waiting()
	if a, err := f.RepeatCallout(r.Callouts[0].ID); err != nil || !a.OK {
		t.Fatalf("%+v %v", a, err)
	}
	got := f.function.got()
	if len(got) != 2 || got[0]["CustomExtensionStageInstanceId"] != got[1]["CustomExtensionStageInstanceId"] {
		t.Errorf("bodies %v", got)
	}
	if r, _ = f.Request(r.ID); len(r.Callouts) != 1 || len(r.Callouts[0].Attempts) != 2 {
		t.Errorf("callouts %+v", r.Callouts)
	}
}

func TestARelayForwardsTheBodyUnchangedWithItsIdentityAndKey(t *testing.T) {
	t.Parallel()
	f := start(t, Config{RelayInterval: time.Millisecond})
	f.AddApp(App{URIs: []string{"api://bridge"}})
	identity := f.AddIdentity(Identity{Name: "relay"})
	f.AddRelay(Relay{
		Name: "relay", URL: f.function.URL + "/api/callout", Identity: identity.ClientID, Resource: "api://bridge", FunctionKey: "key",
	})
	x := f.AddExtension(Extension{CatalogID: f.sample.Finance, Name: "Relayed", Relay: "relay", Wait: time.Hour})
	p := f.AddPolicy(Policy{PackageID: f.sample.Ledger, Name: "Relayed", Stages: map[string]string{StageApproved: x}})
	f.CalloutFaults.Add(misbehave.Fault{Times: 2, Status: 503})
	id := f.submit(NewRequest{Policy: p})
	r := f.await(id, func(r Request) bool {
		return len(r.Callouts) == 1 && len(r.Callouts[0].Relayed) == 1 && r.Callouts[0].Relayed[0].Over
	})
	run := r.Callouts[0].Relayed[0]
	if !run.Succeeded || len(run.Attempts) != 3 || r.Callouts[0].Status != StatusWaiting {
		t.Fatalf("run %+v of %+v", run, r.Callouts[0])
	}
	if f.function.got()[0]["AccessPackageAssignmentRequestId"] != id || f.function.header(0).Get("x-functions-key") != "key" {
		t.Errorf("the function got %v %v", f.function.got(), f.function.header(0))
	}
	claims, err := f.verify(strings.TrimPrefix(f.function.header(0).Get("Authorization"), "Bearer "))
	if err != nil || claims["aud"] != "api://bridge" || claims["oid"] != identity.ObjectID || claims["appid"] != identity.ClientID {
		t.Errorf("claims %v %v", claims, err)
	}
}

func TestARelaysRunCanFailWithoutEntitlementManagementNoticing(t *testing.T) {
	t.Parallel()
	for status, attempts := range map[int]int{500: 5, 429: 5, 401: 1} {
		f := start(t, Config{RelayInterval: time.Millisecond})
		f.AddRelay(Relay{Name: "relay", URL: f.function.URL})
		x := f.AddExtension(Extension{CatalogID: f.sample.Finance, Name: "Relayed", Relay: "relay", Wait: time.Hour})
		p := f.AddPolicy(Policy{PackageID: f.sample.Ledger, Name: "Relayed", Stages: map[string]string{StageApproved: x}})
		f.CalloutFaults.Add(misbehave.Fault{Status: status})
		r := f.await(f.submit(NewRequest{Policy: p}), func(r Request) bool {
			return len(r.Callouts) == 1 && len(r.Callouts[0].Relayed) == 1 && r.Callouts[0].Relayed[0].Over
		})
		if run := r.Callouts[0].Relayed[0]; run.Succeeded || len(run.Attempts) != attempts || !IsWaiting(r) {
			t.Errorf("%d: run %+v", status, run)
		}
	}
}

func TestFourteenDaysPassInNoTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := New(Config{Transport: misbehave.Transport(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusAccepted)
		}))})
		defer d.Close()
		s := d.AddSample(Extension{URL: "http://function.invalid/api/callout"})
		begun := time.Now()
		id, err := d.Submit(NewRequest{Policy: s.LedgerPolicy, Target: s.Robin.ObjectID})
		if err != nil {
			t.Fatal(err)
		}
		r, err := d.Await(t.Context(), id, IsOver)
		if err != nil || r.State != StateDeliveryFailed || time.Since(begun) != 14*24*time.Hour {
			t.Errorf("after %v: %+v %v", time.Since(begun), r, err)
		}
	})
}

func TestALogicAppsRetriesWaitExponentially(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := New(Config{Transport: misbehave.Transport(http.NotFoundHandler())})
		defer d.Close()
		d.CalloutFaults.Add(misbehave.Fault{Status: 500})
		d.AddRelay(Relay{Name: "relay", URL: "http://function.invalid/api/callout"})
		s := d.AddSample(Extension{Relay: "relay"})
		id, err := d.Submit(NewRequest{Policy: s.LedgerPolicy, Target: s.Robin.ObjectID})
		if err != nil {
			t.Fatal(err)
		}
		r, err := d.Await(t.Context(), id, func(r Request) bool {
			return len(r.Callouts) == 1 && len(r.Callouts[0].Relayed) == 1 && r.Callouts[0].Relayed[0].Over
		})
		if err != nil {
			t.Fatal(err)
		}
		run := r.Callouts[0].Relayed[0]
		var got []time.Duration
		for _, a := range run.Attempts {
			got = append(got, a.At.Sub(run.Started))
		}
		want := []time.Duration{0, 7500 * time.Millisecond, 22500 * time.Millisecond, 52500 * time.Millisecond, 97500 * time.Millisecond}
		if !slices.Equal(got, want) {
			t.Errorf("attempts after %v, want %v", got, want)
		}
	})
}

func TestAwaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	r := f.waiting()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Await(ctx, r.ID, IsOver); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if _, err := f.Await(t.Context(), "nobody", IsOver); !errors.Is(err, ErrUnknown) {
		t.Errorf("error %v", err)
	}
}

func TestDurationsAreWrittenAsIso8601(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		14 * 24 * time.Hour: "P14D", 5 * time.Minute: "PT5M", 90 * time.Minute: "PT1H30M", 250 * time.Millisecond: "PT0.25S",
		25*time.Hour + time.Microsecond: "P1DT1H0.000001S",
	} {
		if got := isoDuration(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
		x := extension{body: map[string]any{"callbackConfiguration": map[string]any{"timeoutDuration": want}}}
		if x.wait() != d {
			t.Errorf("%q is read as %v", want, x.wait())
		}
	}
}
