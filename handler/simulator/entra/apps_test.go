package entra

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

const newApplication = `{"displayName":"bridge","notes":"n","api":{"requestedAccessTokenVersion":2},"appRoles":[
  {"id":"5b8c0d0e-7a52-4c3b-9d3a-2f6a41f3c0a1","value":"Callout.Send","displayName":"Send","description":"Send","allowedMemberTypes":["Application"],"isEnabled":true}]}`

// writer is a token that may set up applications.
func (f *fixture) writer() string {
	return f.IssueToken(Token{Audience: graphResource, Roles: []string{applicationsWrite, appRolesWrite}})
}

func TestAnApplicationIsMadeGetsItsURIAndItsClientsTokensNameTheirRoles(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	f.token = f.writer()
	before := f.Configuration()
	made := f.want(201, "POST", "/applications", newApplication)
	id, app := made["id"].(string), made["appId"].(string)
	if id == app || made["notes"] != "n" {
		t.Errorf("made %v", made)
	}
	client := f.AddIdentity(Identity{Name: "relay"})
	if _, err := f.identityToken(client.ClientID, "api://"+app); err == nil {
		t.Error("a token for an application without a service principal")
	}
	f.want(204, "PATCH", "/applications/"+id, `{"identifierUris":["api://`+app+`"]}`)
	sp := f.want(201, "POST", "/servicePrincipals", `{"appId":"`+app+`"}`)["id"].(string)
	given := f.want(201, "POST", "/servicePrincipals/"+sp+"/appRoleAssignedTo",
		`{"principalId":"`+client.ObjectID+`","resourceId":"`+sp+`","appRoleId":"5b8c0d0e-7a52-4c3b-9d3a-2f6a41f3c0a1"}`)["id"].(string)
	token, err := f.identityToken(client.ClientID, "api://"+app)
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Aud, Ver string
		Roles    []string
	}
	if err := decodePart(strings.Split(token, ".")[1], &claims); err != nil || claims.Aud != app || claims.Ver != "2.0" || len(claims.Roles) != 1 || claims.Roles[0] != "Callout.Send" {
		t.Errorf("%v, claims %+v", err, claims)
	}
	list := f.want(200, "GET", "/applications?$filter=displayName eq 'bridge'&$select=id,appId,notes,identifierUris,api,appRoles", "")["value"].([]any)
	if len(list) != 1 || reach(list[0], []string{"api", "requestedAccessTokenVersion"}) != 2.0 {
		t.Errorf("listed %v", list)
	}
	if list := f.want(200, "GET", "/servicePrincipals/"+sp+"/appRoleAssignedTo", "")["value"].([]any); len(list) != 1 || list[0].(map[string]any)["principalId"] != client.ObjectID {
		t.Errorf("roles %v", list)
	}
	f.want(204, "DELETE", "/servicePrincipals/"+sp+"/appRoleAssignedTo/"+given, "")
	f.want(204, "DELETE", "/servicePrincipals/"+sp, "")
	f.want(404, "GET", "/servicePrincipals/"+sp, "")
	f.want(204, "DELETE", "/applications/"+id, "")
	f.want(404, "DELETE", "/applications/"+id, "")
	if f.identities = nil; !bytes.Equal(before, f.Configuration()) {
		t.Errorf("the tenant is not as it was: %s", f.Configuration())
	}
}

func TestWhatEntraRefusesOfAnApplicationIsRefused(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	f.wrong = true
	f.token = f.writer()
	f.AddApp(App{Name: "other", URIs: []string{"api://example.com/other"}})
	made := f.want(201, "POST", "/applications", newApplication)
	id, app := made["id"].(string), made["appId"].(string)
	sp := f.want(201, "POST", "/servicePrincipals", `{"appId":"`+app+`"}`)["id"].(string)
	kim := f.sample.Kim.ObjectID
	grant := func(principal, resource, role string) string {
		return `{"principalId":"` + principal + `","resourceId":"` + resource + `","appRoleId":"` + role + `"}`
	}
	const role, none = "5b8c0d0e-7a52-4c3b-9d3a-2f6a41f3c0a1", "c0a6e2d4-52f7-4a9e-8f0e-1b6f9d3c2e77"
	f.want(201, "POST", "/servicePrincipals/"+sp+"/appRoleAssignedTo", grant(kim, sp, role))
	for name, c := range map[string]struct {
		status             int
		method, path, body string
	}{
		"no name":                {400, "POST", "/applications", `{"displayName":" "}`},
		"unknown property":       {400, "POST", "/applications", `{"displayName":"x","secret":"x"}`},
		"too long a note":        {400, "POST", "/applications", `{"displayName":"x","notes":"` + strings.Repeat("x", 1025) + `"}`},
		"somebody else's URI":    {400, "PATCH", "/applications/" + id, `{"identifierUris":["api://example.com/other"]}`},
		"a URI of nobody":        {400, "PATCH", "/applications/" + id, `{"identifierUris":["api://bridge"]}`},
		"no such application":    {404, "PATCH", "/applications/" + none, `{"notes":"x"}`},
		"no application for it":  {400, "POST", "/servicePrincipals", `{"appId":"` + none + `"}`},
		"a second one":           {409, "POST", "/servicePrincipals", `{"appId":"` + app + `"}`},
		"a role twice":           {400, "POST", "/servicePrincipals/" + sp + "/appRoleAssignedTo", grant(kim, sp, role)},
		"a role of nobody":       {404, "POST", "/servicePrincipals/" + sp + "/appRoleAssignedTo", grant(none, sp, role)},
		"no such role":           {400, "POST", "/servicePrincipals/" + sp + "/appRoleAssignedTo", grant(kim, sp, none)},
		"another resource":       {404, "POST", "/servicePrincipals/" + sp + "/appRoleAssignedTo", grant(kim, none, role)},
		"roles of the same name": {400, "PATCH", "/applications/" + id, `{"appRoles":[{"id":"` + role + `","value":"a","isEnabled":true,"allowedMemberTypes":[]},{"id":"` + none + `","value":"a","isEnabled":true,"allowedMemberTypes":[]}]}`},
	} {
		if status, _, answer := f.call(c.method, c.path, c.body); status != c.status || errorCode(answer) == "" {
			t.Errorf("%s: %d %v", name, status, answer)
		}
	}
	f.token = f.IssueToken(Token{Audience: graphResource, Roles: []string{readAll}})
	f.want(403, "POST", "/applications", newApplication)
	f.want(403, "PATCH", "/applications/"+id, `{"notes":"x"}`)
	f.want(403, "DELETE", "/applications/"+id, "")
	f.want(403, "POST", "/servicePrincipals", `{"appId":"`+app+`"}`)
	f.want(403, "DELETE", "/servicePrincipals/"+sp, "")
	f.want(403, "POST", "/servicePrincipals/"+sp+"/appRoleAssignedTo", grant(kim, sp, role))
}

func TestANewApplicationIsNotKnownEverywhereAtOnce(t *testing.T) {
	t.Parallel()
	f := start(t, Config{Replication: 2})
	f.token = f.writer()
	made := f.want(201, "POST", "/applications", newApplication)
	f.want(404, "PATCH", "/applications/"+made["id"].(string), `{"notes":"x"}`)
	f.want(400, "POST", "/servicePrincipals", `{"appId":"`+made["appId"].(string)+`"}`)
	f.want(204, "PATCH", "/applications/"+made["id"].(string), `{"notes":"x"}`)
}

func TestAPersonMayNoMoreThanTheTokenSaysAndNoMoreThanThePersonMay(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	f.wrong = true
	admin := f.AddUser(User{Name: "Ada", Roles: []string{GovernanceAdministrator, ApplicationAdministrator}, LogicApps: []string{"w"}})
	owner := f.AddUser(User{Name: "Owner", LogicApps: []string{"w"}})
	f.AssignOwner(owner.ObjectID, f.sample.Finance)
	withoutRelay := f.AddUser(User{Name: "Without", Roles: []string{GovernanceAdministrator}})
	elsewhere := strings.ReplaceAll(f.extensions(), f.sample.Finance, f.sample.Engineering)
	for name, c := range map[string]struct {
		token        string
		status       int
		method, path string
		body         string
	}{
		"an administrator":             {f.PersonToken(admin.ObjectID, "", readWriteAll), 201, "POST", f.extensions(), newExtension},
		"without the scope":            {f.PersonToken(admin.ObjectID, "", "User.Read"), 403, "POST", f.extensions(), newExtension},
		"with the Azure CLI":           {f.PersonToken(admin.ObjectID, AzureCLI), 403, "POST", f.extensions(), newExtension},
		"the catalog's owner":          {f.PersonToken(owner.ObjectID, "", readWriteAll), 201, "POST", f.extensions(), newExtension},
		"its owner without the scope":  {f.PersonToken(owner.ObjectID, "", "User.Read"), 403, "POST", f.extensions(), newExtension},
		"another's owner":              {f.PersonToken(owner.ObjectID, "", readWriteAll), 403, "POST", elsewhere, newExtension},
		"nobody in particular":         {f.PersonToken(f.sample.Kim.ObjectID, "", readWriteAll), 403, "POST", f.extensions(), newExtension},
		"who may not use the relay":    {f.PersonToken(withoutRelay.ObjectID, "", readWriteAll), 403, "POST", f.extensions(), newExtension},
		"applications":                 {f.PersonToken(admin.ObjectID, "", applicationsWrite), 201, "POST", "/applications", newApplication},
		"applications, not allowed to": {f.PersonToken(owner.ObjectID, "", applicationsWrite), 403, "POST", "/applications", newApplication},
		"reading applications":         {f.PersonToken(owner.ObjectID, "", applicationsWrite), 200, "GET", "/applications", ""},
	} {
		if status, _, answer := f.callAs(c.token, c.method, c.path, c.body); status != c.status {
			t.Errorf("%s: %d %v", name, status, answer)
		}
	}
	// A person needs no URL of the relay: Graph finds it.
	if status, _, answer := f.callAs(f.PersonToken(admin.ObjectID, "", readWriteAll), "POST", f.extensions(), strings.Replace(newExtension, `, "url": "https://logic.example/w"`, "", 1)); status != 201 {
		t.Errorf("without a URL: %d %v", status, answer)
	}
}

func TestAPersonSignsInByDeviceCode(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	post := func(path string, form url.Values) (int, map[string]any) {
		resp, err := http.PostForm(f.BaseURL()+"/"+f.TenantID()+path, form)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var body map[string]any
		if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, body
	}
	_, begun := post("/oauth2/v2.0/devicecode", url.Values{"client_id": {"c"}, "scope": {graphResource + "/" + readWriteAll + " openid"}})
	code, _ := begun["device_code"].(string)
	redeem := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "client_id": {"c"}, "device_code": {code}}
	if status, body := post("/oauth2/v2.0/token", redeem); status != 400 || body["error"] != "authorization_pending" {
		t.Errorf("while nobody signs in: %d %v", status, body)
	}
	kim := f.AddUser(User{Name: "Kim", Roles: []string{GovernanceAdministrator}})
	f.SignInAs(kim.ObjectID)
	status, body := post("/oauth2/v2.0/token", redeem)
	token, _ := body["access_token"].(string)
	if status != 200 {
		t.Fatalf("%d %v", status, body)
	}
	if status, _, answer := f.callAs(token, "GET", management+"/catalogs", ""); status != 200 {
		t.Errorf("%d %v", status, answer)
	}
	if status, body := post("/oauth2/v2.0/token", redeem); status != 400 || body["error"] != "bad_verification_code" {
		t.Errorf("the code a second time: %d %v", status, body)
	}
	if status, _ := post("/oauth2/v2.0/devicecode", url.Values{}); status != 400 {
		t.Errorf("without a client: %d", status)
	}
}

func TestAPUTOfAPolicyLosesTheQuestionsThatItDoesNotHold(t *testing.T) {
	t.Parallel()
	f := start(t, Config{PolicyProperties: []string{"ledgerNumber"}})
	id := f.AddPolicy(Policy{PackageID: f.sample.Ledger, Name: "New", Questions: []string{"Why?"}, Extra: map[string]any{"ledgerNumber": 7}})
	path := management + "/assignmentPolicies/" + id
	questions := func() int { return len(f.want(200, "GET", path+"?$expand=questions", "")["questions"].([]any)) }
	whole := f.want(200, "GET", path+"?$expand=questions", "")
	if questions() != 1 || whole["ledgerNumber"] != 7.0 {
		t.Fatalf("the policy is %v", whole)
	}
	delete(whole, "@odata.context")
	put := func(p map[string]any) {
		body, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		f.want(200, "PUT", path, string(body))
	}
	put(whole)
	if p := f.want(200, "GET", path, ""); questions() != 1 || p["ledgerNumber"] != 7.0 {
		t.Errorf("after a whole PUT: %v", p)
	}
	delete(whole, "questions")
	delete(whole, "ledgerNumber")
	put(whole)
	if p := f.want(200, "GET", path, ""); questions() != 0 || p["ledgerNumber"] != nil {
		t.Errorf("after a PUT without them: %v", p)
	}
}
