package entra

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// A fixture is a directory behind real HTTP, with a function that takes its callouts and a managed identity that may do everything.
type fixture struct {
	*Directory
	t        *testing.T
	sample   Sample
	function *function
	graph    string
	token    string
	wrong    bool // the test sends what the schema does not have
}

// A function takes callouts.
type function struct {
	*httptest.Server
	mu      sync.Mutex
	bodies  []map[string]any
	headers []http.Header
	answer  http.HandlerFunc // nil answers 202
}

func newFunction(t *testing.T) *function {
	f := &function{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		var body map[string]any
		_ = json.Unmarshal(raw, &body)
		f.mu.Lock()
		f.bodies, f.headers = append(f.bodies, body), append(f.headers, r.Header.Clone())
		answer := f.answer
		f.mu.Unlock()
		if answer != nil {
			answer(w, r)
			return
		}
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write([]byte(`{"state":"received"}`))
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *function) got() []map[string]any {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]map[string]any(nil), f.bodies...)
}

func (f *function) header(i int) http.Header {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.headers[i]
}

// firstKey is made once for all tests: making one takes longer than most of them.
var firstKey = sync.OnceValue(newKey)

func start(t *testing.T, cfg Config) *fixture { return startWith(t, cfg, Extension{}) }

func startWith(t *testing.T, cfg Config, x Extension) *fixture {
	t.Helper()
	f := &fixture{Directory: New(cfg), t: t, function: newFunction(t)}
	f.keys = []*signingKey{firstKey()}
	stop, err := f.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Close()
		stop()
		if v := f.Violations(); len(v) > 0 && !f.wrong {
			t.Errorf("departures from the published schema:\n%s", strings.Join(v, "\n"))
		}
	})
	if x.Relay == "" {
		x.URL = f.function.URL + "/api/callout?code=key"
	}
	f.sample = f.AddSample(x)
	f.graph = f.GraphURL()
	f.token = f.IssueToken(Token{Audience: graphResource, ObjectID: "00000000-aaaa-0000-0000-000000000001", Roles: []string{readWriteAll}})
	return f
}

func (f *fixture) submit(n NewRequest) string {
	f.t.Helper()
	if n.Target == "" {
		n.Target = f.sample.Robin.ObjectID
	}
	id, err := f.Submit(n)
	if err != nil {
		f.t.Fatal(err)
	}
	return id
}

func (f *fixture) await(id string, is func(Request) bool) Request {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 10*time.Second)
	defer cancel()
	r, err := f.Await(ctx, id, is)
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

// waiting submits a request for the ledger, which waits at the stage "approved", and returns it there.
func (f *fixture) waiting() Request {
	f.t.Helper()
	return f.await(f.submit(NewRequest{Policy: f.sample.LedgerPolicy}), IsWaiting)
}

// call sends a request to Graph, with the body gzipped as our client's are, and returns the answer's status, headers and JSON.
func (f *fixture) call(method, path, body string) (int, http.Header, map[string]any) {
	f.t.Helper()
	return f.callAs(f.token, method, path, body)
}

func (f *fixture) callAs(token, method, path, body string) (int, http.Header, map[string]any) {
	f.t.Helper()
	var sent io.Reader
	if body != "" {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = z.Write([]byte(body))
		_ = z.Close()
		sent = &b
	}
	req, err := http.NewRequestWithContext(f.t.Context(), method, f.graph+strings.ReplaceAll(path, " ", "%20"), sent)
	if err != nil {
		f.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Encoding", "gzip")
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	var out map[string]any
	if len(raw) > 0 && raw[0] == '{' {
		if err := json.Unmarshal(raw, &out); err != nil {
			f.t.Fatalf("%s: %v", raw, err)
		}
	}
	return resp.StatusCode, resp.Header, out
}

// want fails the test unless Graph answers with this status; it returns the answer.
func (f *fixture) want(status int, method, path, body string) map[string]any {
	f.t.Helper()
	got, _, answer := f.call(method, path, body)
	if got != status {
		f.t.Fatalf("%s %s: %d %v, want %d", method, path, got, answer, status)
	}
	return answer
}

const management = "/identityGovernance/entitlementManagement"

func requestPath(r Request) string { return management + "/assignmentRequests/" + r.ID }

// resumeBody is the body as Microsoft documents it, with more properties of "data" when there are any.
func resumeBody(stage, instance, more string) string {
	return `{
  "source": "ServiceNow",
  "type": "microsoft.graph.accessPackageCustomExtensionStage.` + stage + `",
  "data": {
    "@odata.type": "#microsoft.graph.accessPackageAssignmentRequestCallbackData",
    "stage": "` + stage + `",
    "customExtensionStageInstanceId": "` + instance + `",
    "customExtensionStageInstanceDetail": "REQ0010012 closed complete"` + more + `
  }
}`
}

func (f *fixture) resumeAs(status int, r Request, more string) map[string]any {
	f.t.Helper()
	c := r.Callouts[len(r.Callouts)-1]
	return f.want(status, "POST", requestPath(r)+"/resume", resumeBody(c.Stage, c.ID, more))
}

func errorCode(answer map[string]any) string {
	inner, _ := answer["error"].(map[string]any)
	code, _ := inner["code"].(string)
	return code
}

func errorMessage(answer map[string]any) string {
	inner, _ := answer["error"].(map[string]any)
	message, _ := inner["message"].(string)
	return message
}
