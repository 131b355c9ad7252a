package entra

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"ticketbridge/handler/simulator/misbehave"
)

func TestAResumeInTheContractsExactJSONIsAccepted(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	r := f.waiting()
	status, header, body := f.call("POST", requestPath(r)+"/resume", resumeBody(StageApproved, r.Waiting().ID, ""))
	if status != 204 || body != nil || header.Get("request-id") == "" {
		t.Fatalf("%d %v %v", status, header, body)
	}
	if r = f.await(r.ID, IsOver); r.State != StateDelivered || r.Callouts[0].Detail != "REQ0010012 closed complete" {
		t.Errorf("request %+v", r)
	}
}

func TestAResumeIsRefusedUnlessEverythingMatches(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	f.wrong = true
	r, other := f.waiting(), f.waiting()
	good := resumeBody(StageApproved, r.Waiting().ID, "")
	replace := func(old, with string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in the body", old)
		}
		return strings.Replace(good, old, with, 1)
	}
	for name, c := range map[string]struct {
		status int
		body   string
	}{
		"another request's instance": {400, resumeBody(StageApproved, other.Waiting().ID, "")},
		"unknown instance":           {400, resumeBody(StageApproved, "c0a6e2d4-52f7-4a9e-8f0e-1b6f9d3c2e77", "")},
		"another stage":              {400, resumeBody(StageCreated, r.Waiting().ID, "")},
		"type and stage differ":      {400, replace("Stage.assignmentRequestApproved", "Stage.assignmentRequestCreated")},
		"unknown stage":              {400, strings.ReplaceAll(good, StageApproved, "assignmentRequestPondered")},
		"unknown state":              {400, resumeBody(StageApproved, r.Waiting().ID, `, "state": "Approved"`)},
		"unknown property of data":   {400, resumeBody(StageApproved, r.Waiting().ID, `, "outcome": "done"`)},
		"unknown parameter":          {400, replace(`"source"`, `"origin"`)},
		"PascalCase":                 {400, replace(`"data"`, `"Data"`)},
		"no type of the data":        {400, replace(`"@odata.type": "#microsoft.graph.accessPackageAssignmentRequestCallbackData",`, "")},
		"wrong type of the data":     {400, replace("accessPackageAssignmentRequestCallbackData", "customExtensionData")},
		"a number for a string":      {400, replace(`"ServiceNow"`, "1")},
		"no JSON":                    {400, "granted"},
		"nothing":                    {400, ""},
	} {
		status, _, answer := f.call("POST", requestPath(r)+"/resume", c.body)
		if status != c.status || errorCode(answer) == "" || errorMessage(answer) == "" {
			t.Errorf("%s: %d %v", name, status, answer)
		}
	}
	if now, _ := f.Request(r.ID); !IsWaiting(now) {
		t.Errorf("request %+v", now)
	}
	if slices.ContainsFunc(f.Resumes(r.ID), func(r Resume) bool { return r.Accepted }) {
		t.Errorf("Graph was told %+v", f.Resumes(r.ID))
	}
	f.want(404, "POST", management+"/assignmentRequests/c0a6e2d4-52f7-4a9e-8f0e-1b6f9d3c2e77/resume", good)
	f.want(400, "POST", management+"/accessPackageAssignmentRequests/"+r.ID+"/resume", good) // the tutorial's path, which v1.0 has not
	f.want(204, "POST", requestPath(r)+"/resume", good)
}

func TestASecondResumeGetsWhatIsConfiguredAndChangesNothing(t *testing.T) {
	t.Parallel()
	for configured, want := range map[int]int{0: 400, 400: 400, 404: 404, 204: 204} {
		f := start(t, Config{SecondResume: configured})
		r := f.waiting()
		f.resumeAs(204, r, "")
		f.resumeAs(want, r, `, "state": "Denied"`)
		if r = f.await(r.ID, IsOver); r.State != StateDelivered {
			t.Errorf("request %+v", r)
		}
		if told := f.Resumes(r.ID); len(told) != 2 || told[1].Accepted || told[1].Status != want {
			t.Errorf("Graph was told %+v", told)
		}
	}
}

func TestAResumeWhoseAnswerIsLostTookEffect(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	r := f.waiting()
	f.GraphFaults.Add(misbehave.Fault{Match: "POST /v1.0/*/resume", Times: 1, LoseAnswer: true})
	req, err := http.NewRequest("POST", f.graph+requestPath(r)+"/resume", strings.NewReader(resumeBody(StageApproved, r.Waiting().ID, "")))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+f.token)
	if resp, err := http.DefaultClient.Do(req); err == nil {
		resp.Body.Close()
		t.Fatalf("an answer came: %s", resp.Status)
	}
	instances := f.want(200, "GET", requestPath(r)+"?$select=state,customExtensionCalloutInstances", "")["customExtensionCalloutInstances"].([]any)
	if instances[0].(map[string]any)["status"] != StatusReceived {
		t.Errorf("instances %v", instances)
	}
}

func TestARequestIsReadWithSelectAndExpand(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	r := f.await(f.submit(NewRequest{Policy: f.sample.LedgerPolicy, Answers: []Answer{{"Which region?", "EMEA"}}}), IsWaiting)
	e := f.want(200, "GET", requestPath(r)+"?$select=id,state,status,customExtensionCalloutInstances&$expand=accessPackage($expand=catalog($select=id)),requestor", "")
	instance := e["customExtensionCalloutInstances"].([]any)[0].(map[string]any)
	if e["state"] != StateDelivering || e["status"] != "WaitingForCallback" || instance["id"] != r.Callouts[0].ID ||
		instance["status"] != StatusWaiting || instance["customExtensionId"] != f.sample.WaitFinance {
		t.Errorf("request %v", e)
	}
	if _, there := e["requestType"]; there {
		t.Error("a property that was not selected")
	}
	if reach(e, []string{"accessPackage", "catalog", "id"}) != f.sample.Finance || reach(e, []string{"accessPackage", "displayName"}) != "Ledger reader" ||
		reach(e, []string{"requestor", "objectId"}) != f.sample.Robin.ObjectID {
		t.Errorf("expanded %v", e)
	}
	if _, there := reach(e, []string{"accessPackage", "catalog"}).(map[string]any)["displayName"]; there {
		t.Error("a nested property that was not selected")
	}
	all := f.want(200, "GET", requestPath(r), "")
	if all["requestType"] != "userAdd" || all["accessPackage"] != nil || !strings.Contains(all["@odata.context"].(string), "/v1.0/$metadata#") {
		t.Errorf("request %v", all)
	}
	through := f.want(200, "GET", requestPath(r)+"/assignment?$expand=target,assignmentPolicy,accessPackage", "")
	if reach(through, []string{"target", "principalName"}) != "robin.marsh@example.com" {
		t.Errorf("assignment %v", through)
	}
}

func TestRequestsAreListedFilteredOrderedAndPaged(t *testing.T) {
	t.Parallel()
	f := start(t, Config{PageSize: 2})
	var ids []string
	for range 5 {
		ids = append(ids, f.waiting().ID)
	}
	f.resumeAs(204, func() Request { r, _ := f.Request(ids[4]); return r }(), "")
	f.await(ids[4], IsOver)
	list := func(query string) (got []string) {
		path := management + "/assignmentRequests?" + query
		for path != "" {
			page := f.want(200, "GET", path, "")
			for _, item := range page["value"].([]any) {
				got = append(got, item.(map[string]any)["id"].(string))
			}
			next, _ := page["@odata.nextLink"].(string)
			path = strings.TrimPrefix(next, f.graph)
		}
		return got
	}
	created := func(i int) string { r, _ := f.Request(ids[i]); return stamp(r.Created) }
	for query, want := range map[string][]string{
		"":                              ids,
		"$filter=state eq 'delivering'": ids[:4],
		"$filter=state ne 'delivering' and requestType eq 'userAdd'":                                       ids[4:],
		"$filter=accessPackage/id eq '" + f.sample.Ledger + "'":                                            ids,
		"$filter=requestor/objectId eq '" + strings.ToUpper(f.sample.Robin.ObjectID) + "'":                 ids,
		"$filter=not (state eq 'delivering')":                                                              ids[4:],
		"$filter=createdDateTime ge " + created(3):                                                         ids[3:],
		"$filter=customExtensionCalloutInstances/any(c:c/status eq 'callbackReceived')":                    ids[4:],
		"$filter=customExtensionCalloutInstances/all(c:c/status eq 'waitingForCallback')&$select=id":       ids[:4],
		"$filter=startswith(status,'waiting') or completedDateTime ne null":                                ids,
		"$orderby=createdDateTime desc&$top=1&$filter=state eq 'delivering'&$expand=requestor&$count=true": {ids[3], ids[2], ids[1], ids[0]},
		"$filter=state eq 'denied'":                                                                        nil,
	} {
		if got := list(query); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
}

func TestWhatTheSchemaDoesNotHaveIsRefused(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	f.wrong = true
	r := f.waiting()
	for _, path := range []string{
		requestPath(r) + "?$select=outcome",
		requestPath(r) + "?$expand=customExtensionCalloutInstances", // a property, not a navigation property
		requestPath(r) + "?$expand=accessPackage($select=outcome)",
		requestPath(r) + "?$frob=1",
		requestPath(r) + "/outcome",
		management + "/assignmentRequests?$filter=outcome eq 'x'",
		management + "/assignmentRequests?$filter=state eq 'waiting'",
		management + "/assignmentRequests?$filter=state eq",
		management + "/tickets",
		"/me",
	} {
		status, _, answer := f.call("GET", path, "")
		if status != 400 || errorCode(answer) != "BadRequest" {
			t.Errorf("%s: %d %v", path, status, answer)
		}
	}
	f.want(404, "GET", management+"/assignmentRequests/c0a6e2d4-52f7-4a9e-8f0e-1b6f9d3c2e77", "")
	f.want(501, "PATCH", requestPath(r), `{"justification":"x"}`)
	f.want(405, "GET", requestPath(r)+"/resume", "")
}

func TestGraphWantsATokenForItself(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	r := f.waiting()
	good := Token{Audience: graphResource, Roles: []string{readAll}}
	with := func(change func(*Token)) string { token := good; change(&token); return f.IssueToken(token) }
	for name, token := range map[string]string{
		"none":             "",
		"garbage":          "garbage",
		"other audience":   with(func(t *Token) { t.Audience = "https://management.azure.com" }),
		"expired":          with(func(t *Token) { t.Lifetime = -time.Hour }),
		"other issuer":     with(func(t *Token) { t.Claims = map[string]any{"iss": "https://sts.windows.net/other/"} }),
		"other tenant":     with(func(t *Token) { t.Claims = map[string]any{"tid": "other"} }),
		"unpublished key":  with(func(t *Token) { t.Stranger = true }),
		"unknown key id":   with(func(t *Token) { t.Header = map[string]any{"kid": "x"} }),
		"not signed":       with(func(t *Token) { t.Header = map[string]any{"alg": "none"} }),
		"public key as ID": with(func(t *Token) { t.Header = map[string]any{"alg": "HS256"} }),
	} {
		status, header, answer := f.callAs(token, "GET", requestPath(r), "")
		if status != 401 || errorCode(answer) != "InvalidAuthenticationToken" || header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: %d %v", name, status, answer)
		}
	}
	for _, audience := range []string{graphResource, graphResource + "/", graphAppID} {
		if status, _, answer := f.callAs(with(func(t *Token) { t.Audience = audience }), "GET", requestPath(r), ""); status != 200 {
			t.Errorf("%s: %d %v", audience, status, answer)
		}
	}
}

func TestPermissionComesFromAppRolesOrCatalogRoles(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	r := f.waiting()
	elsewhere := f.await(f.submit(NewRequest{Policy: f.sample.ClusterPolicy, Type: "adminAdd"}), IsWaiting)
	id := f.AddIdentity(Identity{Name: "bridge"})
	token, err := f.identityToken(id.ClientID, graphResource)
	if err != nil {
		t.Fatal(err)
	}
	as := func(want int, method, path, body string) map[string]any {
		t.Helper()
		status, _, answer := f.callAs(token, method, path, body)
		if status != want {
			t.Fatalf("%s %s: %d %v, want %d", method, path, status, answer, want)
		}
		if want == 403 && errorCode(answer) != "UnAuthorized" {
			t.Errorf("answer %v", answer)
		}
		return answer
	}
	resume := resumeBody(StageApproved, r.Waiting().ID, "")
	as(403, "GET", requestPath(r), "")
	as(403, "GET", management+"/assignmentRequests", "")
	as(403, "GET", management+"/assignmentRequests/c0a6e2d4-52f7-4a9e-8f0e-1b6f9d3c2e77", "")
	as(403, "POST", requestPath(r)+"/resume", resume)
	if len(f.Resumes("")) != 0 {
		t.Error("a resume without permission is recorded as if Graph had heard it")
	}
	f.AssignManager(id.ObjectID, f.sample.Finance)
	as(200, "GET", requestPath(r), "")
	if list := as(200, "GET", management+"/assignmentRequests", "")["value"].([]any); len(list) != 1 {
		t.Errorf("a manager of one catalog sees %d requests", len(list))
	}
	as(403, "GET", requestPath(elsewhere), "")
	as(403, "POST", requestPath(elsewhere)+"/resume", resumeBody(StageApproved, elsewhere.Waiting().ID, ""))
	as(403, "GET", "/users", "")
	as(403, "POST", management+"/catalogs/"+f.sample.Finance+"/customWorkflowExtensions", `{"@odata.type":"#microsoft.graph.accessPackageAssignmentRequestWorkflowExtension","displayName":"x"}`)
	as(204, "POST", requestPath(r)+"/resume", resume)

	reader := f.IssueToken(Token{Audience: graphResource, Roles: []string{readAll}})
	if status, _, _ := f.callAs(reader, "POST", requestPath(elsewhere)+"/resume", resumeBody(StageApproved, elsewhere.Waiting().ID, "")); status != 403 {
		t.Errorf("a reader may resume: %d", status)
	}
	kim := f.AddUser(User{Name: "Kim", Roles: []string{GovernanceAdministrator}})
	person := f.IssueToken(Token{Audience: graphResource, ObjectID: kim.ObjectID, Claims: map[string]any{"scp": "openid " + readWriteAll}})
	if status, _, _ := f.callAs(person, "POST", requestPath(elsewhere)+"/resume", resumeBody(StageApproved, elsewhere.Waiting().ID, "")); status != 204 {
		t.Errorf("a person with the scope may not resume: %d", status)
	}
}

func TestTheActionCancelWorksOnlyBeforeTheDecision(t *testing.T) {
	t.Parallel()
	f := start(t, Config{WithdrawnStatus: StatusFailed})
	created := f.await(f.submit(NewRequest{Policy: f.sample.PayrollPolicy}), IsWaiting)
	f.want(204, "POST", requestPath(created)+"/cancel", "")
	if r := f.await(created.ID, IsOver); r.State != StateCanceled || r.Callouts[0].Status != StatusFailed {
		t.Errorf("request %+v", r)
	}
	f.want(400, "POST", requestPath(f.waiting())+"/cancel", "")
}

func TestThrottlingAndUnknownErrorsAreAsReported(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	r := f.waiting()
	f.GraphFaults.Add(GraphThrottle(1, 7*time.Second))
	f.GraphFaults.Add(GraphUnknownError(1, 500))
	status, header, answer := f.call("GET", requestPath(r), "")
	if status != 429 || header.Get("Retry-After") != "7" || errorCode(answer) != "TooManyRequests" {
		t.Errorf("%d %v %v", status, header, answer)
	}
	status, _, answer = f.call("GET", requestPath(r), "")
	if status != 500 || errorCode(answer) != "UnknownError" || errorMessage(answer) != "" {
		t.Errorf("%d %v", status, answer)
	}
	f.want(200, "GET", requestPath(r), "")
	if n := f.Calls()["GET /v1.0"+management+"/assignmentRequests/{id}"]; n != 3 {
		t.Errorf("%d calls are counted: %v", n, f.Calls())
	}
}

func TestABatchAnswersEveryStep(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	r := f.waiting()
	body := fmt.Sprintf(`{"requests":[
		{"id":"1","method":"GET","url":"%s?$select=id,state"},
		{"id":"2","method":"POST","url":"%s/resume","headers":{"Content-Type":"application/json"},"body":%s},
		{"id":"3","method":"GET","url":"%s/assignmentRequests/c0a6e2d4-52f7-4a9e-8f0e-1b6f9d3c2e77"},
		{"id":"4","method":"GET","url":"%s","dependsOn":["3"]}]}`,
		requestPath(r), requestPath(r), resumeBody(StageApproved, r.Waiting().ID, ""), management, requestPath(r))
	answer := f.want(200, "POST", "/$batch", body)
	var got []string
	for _, item := range answer["responses"].([]any) {
		step := item.(map[string]any)
		got = append(got, fmt.Sprintf("%v %v", step["id"], step["status"]))
		if step["id"] == "1" && reach(step, []string{"body", "state"}) != StateDelivering {
			t.Errorf("step %v", step)
		}
	}
	if want := []string{"1 200", "2 204", "3 404", "4 424"}; !slices.Equal(got, want) {
		t.Errorf("answers %v, want %v", got, want)
	}
	f.await(r.ID, IsOver)
	f.want(400, "POST", "/$batch", `{"requests":[]}`)
	many, _ := json.Marshal(map[string]any{"requests": slices.Repeat([]any{map[string]string{"id": "1", "method": "GET", "url": "/users"}}, 21)})
	f.want(400, "POST", "/$batch", string(many))
	if f.Calls()["POST /v1.0"+management+"/assignmentRequests/{id}/resume"] != 1 {
		t.Errorf("calls %v", f.Calls())
	}
}

func TestTheDirectoryShowsItsPeopleAndPrincipals(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	id := f.AddIdentity(Identity{Name: "bridge"})
	f.token = f.IssueToken(Token{Audience: graphResource, Roles: []string{"Directory.Read.All", readAll}})
	if v := f.want(200, "GET", "/servicePrincipals?$filter=appId eq '"+id.ClientID+"'&$select=id,displayName", "")["value"].([]any); len(v) != 1 ||
		v[0].(map[string]any)["id"] != id.ObjectID {
		t.Errorf("service principals %v", v)
	}
	if u := f.want(200, "GET", "/users/"+f.sample.Sasha.ObjectID, ""); u["userType"] != "Guest" {
		t.Errorf("user %v", u)
	}
	if v := f.want(200, "GET", "/organization", "")["value"].([]any); v[0].(map[string]any)["id"] != f.TenantID() {
		t.Errorf("organization %v", v)
	}
	f.want(200, "GET", "/applications", "")
	if v := f.want(200, "GET", management+"/catalogs?$filter=displayName eq 'Finance'&$expand=accessPackages,customWorkflowExtensions", "")["value"].([]any); len(v) != 1 ||
		len(v[0].(map[string]any)["accessPackages"].([]any)) != 2 {
		t.Errorf("catalogs %v", v)
	}
	f.want(200, "GET", management+"/accessPackages?$expand=assignmentPolicies($expand=customExtensionStageSettings($expand=customExtension),questions),catalog", "")
	f.want(200, "GET", "/roleManagement/entitlementManagement/roleDefinitions", "")
	f.want(200, "GET", management+"/assignments?$expand=target,accessPackage", "")
}

func FuzzGraph(f *testing.F) {
	d := New(Config{})
	f.Cleanup(d.Close)
	s := d.AddSample(Extension{Wait: time.Hour, URL: "http://127.0.0.1:0"})
	token := d.IssueToken(Token{Audience: graphResource, Roles: []string{readWriteAll, "Directory.Read.All"}})
	f.Add("GET", management+"/catalogs", "$filter=displayName eq 'x'&$orderby=id&$expand=accessPackages($select=id)", "")
	f.Add("POST", management+"/catalogs/"+s.Finance+"/customWorkflowExtensions", "", newExtension)
	f.Add("PUT", management+"/assignmentPolicies/"+s.LedgerPolicy, "", `{"displayName":"x","allowedTargetScope":"allMemberUsers","expiration":{},"requestorSettings":{},"requestApprovalSettings":{},"customExtensionStageSettings":[{"stage":"assignmentRequestCreated"}]}`)
	f.Add("POST", "/$batch", "", `{"requests":[{"id":"1","method":"GET","url":"/users?$select=id","dependsOn":["2"]}]}`)
	f.Add("POST", "/roleManagement/entitlementManagement/roleAssignments", "", `{"principalId":"x","roleDefinitionId":"y","appScopeId":"z"}`)
	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		values, err := url.ParseQuery(query)
		if err != nil || !strings.HasPrefix(path, "/") {
			return
		}
		call := graphCall{method: method, path: path, query: values, body: []byte(body), header: http.Header{"Authorization": {"Bearer " + token}}}
		answer := d.exchange(call)
		if _, err := json.Marshal(answer.body); err != nil || answer.status < 200 || answer.status >= 400 && errorCode(answer.body.(map[string]any)) == "" {
			t.Errorf("%+v %v", answer, err)
		}
	})
}
