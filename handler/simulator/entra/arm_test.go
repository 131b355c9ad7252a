package entra

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

const readerID = "00000000-aaaa-0000-0000-000000000002"

// workflow reads a relay as Azure Resource Manager shows it.
func (f *fixture) workflow(token, path string) (int, map[string]any) {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, f.BaseURL()+path, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	var body map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		f.t.Fatal(err)
	}
	return resp.StatusCode, body
}

func TestARelayIsShownToReadersOnly(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	f.AddRelay(Relay{Subscription: "s", Name: "relay", URL: "http://127.0.0.1/api/callout", FunctionKey: "k"})
	f.MakeReader(readerID)
	token := func(audience, object string) string {
		return f.IssueToken(Token{Audience: audience, ObjectID: object, AppID: "a"})
	}
	reader := token(managementResource, readerID)
	const path = "/subscriptions/s/resourceGroups/relay/providers/Microsoft.Logic/workflows/relay"
	for _, c := range []struct {
		name, token, path string
		status            int
		code              string
	}{
		{"nobody", "", path + "?api-version=2019-05-01", 401, "AuthenticationFailed"},
		{"no token of ours", "x.y.z", path + "?api-version=2019-05-01", 401, "InvalidAuthenticationToken"},
		{"a token for Graph", token(graphResource, readerID), path + "?api-version=2019-05-01", 401, "InvalidAuthenticationTokenAudience"},
		{"no reader", token(managementResource, "somebody"), path + "?api-version=2019-05-01", 403, "AuthorizationFailed"},
		{"another relay", reader, strings.TrimSuffix(path, "relay") + "other?api-version=2019-05-01", 404, "ResourceNotFound"},
		{"no version", reader, path, 400, "MissingApiVersionParameter"},
		{"an unknown version", reader, path + "?api-version=1999-01-01", 400, "InvalidResourceType"},
	} {
		if status, body := f.workflow(c.token, c.path); status != c.status || errorCode(body) != c.code {
			t.Errorf("%s: %d %v", c.name, status, body)
		}
	}
	status, body := f.workflow(reader, path+"?api-version=2019-05-01")
	if status != 200 || body["id"] != path || f.Calls()["GET /subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Logic/workflows/{name}"] != 8 {
		t.Errorf("%d %v, %v", status, body, f.Calls())
	}
}

func TestARelayThatIsSetUpWrongShowsItAndTakesNoCallout(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		workflow Workflow
		shows    string // in its JSON
		answers  int
	}{
		"right":             {Workflow{}, `"sasAuthenticationPolicy":{"state":"Disabled"}`, 202},
		"disabled":          {Workflow{Disabled: true}, `"state":"Disabled","version"`, 404},
		"signatures":        {Workflow{Signatures: true}, `"triggers":{"openAuthenticationPolicies"`, 202},
		"no policy":         {Workflow{NoPolicy: true}, `"triggers":{"sasAuthenticationPolicy":{"state":"Disabled"}}`, 401},
		"open":              {Workflow{NoPolicy: true, Signatures: true}, `"accessControl":{"triggers":{}}`, 202},
		"another policy":    {Workflow{PolicyType: "AAD"}, `"type":"AAD"`, 401},
		"another caller":    {Workflow{Claims: map[string]string{"appid": "somebody"}}, `{"name":"appid","value":"somebody"}`, 401},
		"a claim too few":   {Workflow{Claims: map[string]string{"p": ""}}, `{"name":"m","value":"POST"},{"name":"u","value":"management.azure.com"}]`, 401},
		"one claim further": {Workflow{Claims: map[string]string{"x": "y"}}, `{"name":"x","value":"y"}`, 401},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := New(Config{})
			t.Cleanup(d.Close)
			d.AddRelay(Relay{Name: "relay", URL: "http://127.0.0.1:1/api/callout", Retries: -1, Workflow: c.workflow})
			text, err := json.Marshal(d.showWorkflow(d.relay("relay")))
			if err != nil || !strings.Contains(string(text), c.shows) {
				t.Errorf("%v: %s", err, text)
			}
			s := d.AddSample(Extension{Relay: "relay"})
			if a := d.call(d.extension(s.WaitFinance), nil, []byte(`{}`)); a.Status != c.answers || a.OK != (c.answers == 202) {
				t.Errorf("answered %+v", a)
			}
		})
	}
}
