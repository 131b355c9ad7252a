package entra

import (
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/go-cmp/cmp"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/entra/graphapi"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/workflow"
)

const (
	requestID = "7d1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a11"
	stageID   = "c0a6e2d4-52f7-4a9e-8f0e-1b6f9d3c2e77"
	approved  = "assignmentRequestApproved"
	secret    = "eyJhbGciOiJSUzI1NiJ9.c2VjcmV0.c2lnbmF0dXJl"
)

var key = correlation.Key{Request: requestID, Stage: stageID}

// static is a credential with one token; it notes what it was asked for.
type static struct {
	mu    sync.Mutex
	asked []policy.TokenRequestOptions
	err   error
	token string
}

func (s *static) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, o)
	if s.err != nil {
		return azcore.AccessToken{}, s.err
	}
	token := secret
	if s.token != "" {
		token = s.token
	}
	return azcore.AccessToken{Token: token, ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func client(t *testing.T, graph string) *Client {
	t.Helper()
	c, err := New(Config{GraphURL: graph + "/v1.0", Credential: &static{}, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// graph serves every call with h and counts them.
func graph(t *testing.T, h http.HandlerFunc) (url string, calls *atomic.Int32) {
	t.Helper()
	calls = &atomic.Int32{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		h(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, calls
}

func body(t *testing.T, r *http.Request) map[string]any {
	t.Helper()
	var from io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			t.Error(err)
			return nil
		}
		from = z
	}
	var out map[string]any
	if err := json.NewDecoder(from).Decode(&out); err != nil {
		t.Error(err)
	}
	return out
}

func TestAnswerSendsWhatMicrosoftDocuments(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		stage    string
		decision workflow.Decision
		state    any
	}{
		{"resume", approved, workflow.Resume, nil},
		{"deny", approved, workflow.Deny, "Denied"},
		{"cancel", "assignmentRequestCreated", workflow.Cancel, "Canceled"},
		{"a stage that the SDK does not know", "assignmentRequestDeterminingApprovalRequirements", workflow.Resume, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			detail := "REQ0010012 \"closed complete\"\n\u00e9\u2028<done>"
			url, calls := graph(t, func(w http.ResponseWriter, r *http.Request) {
				if want := "POST /v1.0/identityGovernance/entitlementManagement/assignmentRequests/" + requestID + "/resume"; r.Method+" "+r.URL.RequestURI() != want {
					t.Errorf("called %s %s, want %s", r.Method, r.URL.RequestURI(), want)
				}
				if got := r.Header.Get("Authorization"); got != "Bearer "+secret {
					t.Errorf("Authorization is %q", got)
				}
				if got := r.Header.Get("Content-Type"); got != "application/json" {
					t.Errorf("Content-Type is %q", got)
				}
				if r.ContentLength <= 0 {
					t.Errorf("the body came without its length (%d)", r.ContentLength)
				}
				data := map[string]any{
					"@odata.type": "#microsoft.graph.accessPackageAssignmentRequestCallbackData", "stage": tc.stage,
					"customExtensionStageInstanceId": stageID, "customExtensionStageInstanceDetail": detail,
				}
				if tc.state != nil {
					data["state"] = tc.state
				}
				want := map[string]any{"source": "ServiceNow", "type": "microsoft.graph.accessPackageCustomExtensionStage." + tc.stage, "data": data}
				if diff := cmp.Diff(want, body(t, r)); diff != "" {
					t.Errorf("body (-want +got):\n%s", diff)
				}
				w.WriteHeader(http.StatusNoContent)
			})
			if err := client(t, url).Answer(t.Context(), key, tc.stage, tc.decision, detail); err != nil {
				t.Errorf("Answer: %v", err)
			}
			if n := calls.Load(); n != 1 {
				t.Errorf("%d calls, want 1", n)
			}
		})
	}
}

func TestAnswerSendsNothingForWhatItCannotSay(t *testing.T) {
	t.Parallel()
	url, calls := graph(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	c := client(t, url)
	for name, err := range map[string]error{
		"unknown decision": c.Answer(t.Context(), key, approved, "approve", "x"),
		"no decision":      c.Answer(t.Context(), key, approved, "", "x"),
		"no stage":         c.Answer(t.Context(), key, "", workflow.Resume, "x"),
		"a path as id":     c.Answer(t.Context(), correlation.Key{Request: "../users", Stage: stageID}, approved, workflow.Resume, "x"),
		"no key":           c.Answer(t.Context(), correlation.Key{}, approved, workflow.Resume, "x"),
	} {
		if !fault.Is(err, fault.Internal) {
			t.Errorf("%s: %v, want internal", name, err)
		}
	}
	if _, err := c.Read(t.Context(), correlation.Key{Request: "x/../../users", Stage: stageID}); !fault.Is(err, fault.Internal) {
		t.Errorf("Read of a path: %v, want internal", err)
	}
	if n := calls.Load(); n != 0 {
		t.Errorf("%d calls, want none", n)
	}
}

const odata = "application/json;odata.metadata=minimal;charset=utf-8"

func oderr(code, message string) string {
	b, _ := json.Marshal(map[string]any{"error": map[string]any{"code": code, "message": message, "innerError": map[string]any{"date": "2026-08-01T00:00:00"}}})
	return string(b)
}

// wireAnswer is an answer and what has to become of it, for a call that acts and for one that reads.
type wireAnswer struct {
	name         string
	status       int
	ctype, body  string
	header       map[string]string
	answer, read fault.Reason
	after        time.Duration
	says         string // in the error's text
	hides        string // not in it
}

func wireAnswers() []wireAnswer {
	html := "text/html"
	retry := func(v string) map[string]string { return map[string]string{"Retry-After": v} }
	return []wireAnswer{
		{name: "400", status: 400, body: oderr("BadRequest", "The request is not waiting for a callback."), answer: fault.Refused, read: fault.Refused, says: "BadRequest: The request is not waiting"},
		{name: "400 with a person's name", status: 400, body: oderr("InvalidModel", "The user 'Some Body' may not have 'assignmentRequestApproved'."), answer: fault.Refused, read: fault.Refused, says: "'assignmentRequestApproved'", hides: "Some Body"},
		{name: "400 with an address", status: 400, body: oderr("InvalidModel", "somebody@example.com is blocked"), answer: fault.Refused, read: fault.Refused, says: "InvalidModel", hides: "somebody"},
		{name: "400 with our token", status: 400, body: oderr("Bad", "Authorization: Bearer "+secret), answer: fault.Refused, read: fault.Refused, hides: secret},
		{name: "400 with somebody's token", status: 400, body: oderr("Bad", "got eyJhbGciOiJub25lIn0.e30"), answer: fault.Refused, read: fault.Refused, says: "Bad", hides: "eyJ"},
		{name: "400 with the token as its code", status: 400, body: oderr(secret, secret), answer: fault.Refused, read: fault.Refused, hides: secret},
		{name: "400 with a long message", status: 400, body: oderr("Bad", strings.Repeat("word ", 100)), answer: fault.Refused, read: fault.Refused, hides: strings.Repeat("word ", 41)},
		{name: "400 UnknownError", status: 400, body: oderr("UnknownError", ""), answer: fault.Unclear, read: fault.Unreachable, says: "UnknownError"},
		{name: "400 without a message", status: 400, body: `{"error":{"code":"BadRequest"}}`, answer: fault.Refused, read: fault.Refused, says: "BadRequest"},
		{name: "400 without an error", status: 400, body: `{}`, answer: fault.Refused, read: fault.Refused},
		{name: "400 null", status: 400, body: `null`, answer: fault.Refused, read: fault.Refused},
		{name: "400 error of another type", status: 400, body: `{"error":"invalid_request","error_description":"no"}`, answer: fault.Refused, read: fault.Refused},
		{name: "400 list", status: 400, body: `[{"error":1}]`, answer: fault.Refused, read: fault.Refused},
		{name: "400 html", status: 400, ctype: html, body: "<html>no</html>", answer: fault.Refused, read: fault.Refused},
		{name: "400 cut JSON", status: 400, body: `{"error":{"co`, answer: fault.Refused, read: fault.Refused},
		{name: "400 empty", status: 400, answer: fault.Refused, read: fault.Refused},
		{name: "401", status: 401, body: oderr("InvalidAuthenticationToken", "Access token is empty."), answer: fault.Unauthorized, read: fault.Unauthorized, says: "InvalidAuthenticationToken"},
		{name: "401 with a challenge that the SDK stumbles over", status: 401, header: map[string]string{"WWW-Authenticate": "Bearer claims=none"}, answer: fault.Unauthorized, read: fault.Unauthorized},
		{name: "403", status: 403, body: oderr("Forbidden", "User is not authorized to perform the operation."), answer: fault.Forbidden, read: fault.Forbidden, says: "Forbidden"},
		{name: "403 html", status: 403, ctype: html, body: "<html>", answer: fault.Forbidden, read: fault.Forbidden},
		{name: "404", status: 404, body: oderr("ResourceNotFound", "The request was not found."), answer: fault.NotFound, read: fault.NotFound, says: "ResourceNotFound"},
		{name: "404 UnknownError", status: 404, body: oderr("UnknownError", ""), answer: fault.Unclear, read: fault.Unreachable},
		{name: "404 of something that is not Graph", status: 404, ctype: html, body: "<h1>Not found</h1>", answer: fault.Unclear, read: fault.Unreachable},
		{name: "404 empty", status: 404, answer: fault.Unclear, read: fault.Unreachable},
		{name: "405", status: 405, body: oderr("BadRequest", "no"), answer: fault.Refused, read: fault.Refused},
		{name: "408", status: 408, answer: fault.Unclear, read: fault.Unreachable},
		{name: "409", status: 409, body: oderr("Conflict", "no"), answer: fault.Refused, read: fault.Refused},
		{name: "415", status: 415, body: oderr("UnsupportedMediaType", "no"), answer: fault.Refused, read: fault.Refused},
		{name: "422", status: 422, body: oderr("UnprocessableEntity", "no"), answer: fault.Refused, read: fault.Refused},
		{name: "429 with seconds", status: 429, header: retry("17"), body: oderr("TooManyRequests", "slow down"), answer: fault.Throttled, read: fault.Throttled, after: 17 * time.Second},
		{name: "429 without Retry-After", status: 429, answer: fault.Throttled, read: fault.Throttled},
		{name: "429 with nonsense", status: 429, header: retry("soon"), answer: fault.Throttled, read: fault.Throttled},
		{name: "429 negative", status: 429, header: retry("-5"), answer: fault.Throttled, read: fault.Throttled},
		{name: "429 for ever", status: 429, header: retry("99999999999"), answer: fault.Throttled, read: fault.Throttled, after: 24 * time.Hour},
		{name: "500", status: 500, body: oderr("InternalServerError", "oops"), answer: fault.Unclear, read: fault.Unreachable},
		{name: "500 UnknownError", status: 500, body: oderr("UnknownError", ""), answer: fault.Unclear, read: fault.Unreachable, says: "UnknownError"},
		{name: "502 html", status: 502, ctype: html, body: "<html>bad gateway</html>", answer: fault.Unclear, read: fault.Unreachable},
		{name: "503 with Retry-After", status: 503, header: retry("3"), answer: fault.Unclear, read: fault.Unreachable, after: 3 * time.Second},
		{name: "504 empty", status: 504, answer: fault.Unclear, read: fault.Unreachable},
		{name: "301", status: 301, header: map[string]string{"Location": "/elsewhere"}, answer: fault.Unclear, read: fault.Unreachable, says: "redirected"},
		{name: "307", status: 307, header: map[string]string{"Location": "/elsewhere"}, answer: fault.Unclear, read: fault.Unreachable, says: "redirected"},
		{name: "304", status: 304, answer: fault.Unclear, read: fault.Unreachable},
		{name: "200 html", status: 200, ctype: html, body: "<html>sign in</html>", answer: fault.Unclear, read: fault.Unreachable},
		{name: "200 empty object", status: 200, body: `{}`, answer: fault.Unclear, read: fault.Unreachable},
		{name: "200 null", status: 200, body: `null`, answer: fault.Unclear, read: fault.Unreachable},
		{name: "200 list", status: 200, body: `[]`, answer: fault.Unclear, read: fault.Unreachable},
		{name: "200 text", status: 200, body: `"granted"`, answer: fault.Unclear, read: fault.Unreachable},
		{name: "200 about another request", status: 200, body: `{"id":"` + stageID + `","state":"delivered"}`, answer: fault.Unclear, read: fault.Unreachable},
		{name: "200 with another type", status: 200, body: `{"id":"` + requestID + `","state":5}`, answer: fault.Unclear, read: fault.Unreachable},
		{name: "200 with instances of another type", status: 200, body: `{"id":"` + requestID + `","customExtensionCalloutInstances":{}}`, answer: fault.Unclear, read: fault.Unreachable},
		{name: "200 cut JSON", status: 200, body: `{"id":"` + requestID, answer: fault.Unclear, read: fault.Unreachable},
		{name: "202", status: 202, answer: fault.Unclear, read: fault.Unreachable},
		{name: "200 too large", status: 200, body: `{"id":"` + strings.Repeat("x", maxAnswer) + `"}`, answer: fault.Unclear, read: fault.Unreachable},
	}
}

func TestEveryStatusHasItsReason(t *testing.T) {
	t.Parallel()
	for _, tc := range wireAnswers() {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			url, calls := graph(t, func(w http.ResponseWriter, _ *http.Request) {
				for k, v := range tc.header {
					w.Header().Set(k, v)
				}
				w.Header().Set("Content-Type", tc.ctype)
				if tc.ctype == "" {
					w.Header().Set("Content-Type", odata)
				}
				w.Header().Set("request-id", "0f0e0d0c-0b0a-4908-8706-050403020100")
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body)
			})
			c := client(t, url)
			_, readErr := c.Read(t.Context(), key)
			for what, got := range map[string]struct {
				err  error
				want fault.Reason
			}{
				"Answer": {c.Answer(t.Context(), key, approved, workflow.Resume, "REQ1 closed"), tc.answer},
				"Read":   {readErr, tc.read},
			} {
				e, ok := errors.AsType[*fault.Error](got.err)
				if !ok || e.Reason != got.want {
					t.Errorf("%s: %v, want %s", what, got.err, got.want)
					continue
				}
				if e.After != tc.after {
					t.Errorf("%s: asked to wait %s, want %s", what, e.After, tc.after)
				}
				if e.Status != tc.status && tc.name != "200 too large" {
					t.Errorf("%s: status %d, want %d", what, e.Status, tc.status)
				}
				text := fmt.Sprintf("%v %+v %#v %v", got.err, got.err, got.err, errors.Unwrap(e))
				if strings.Contains(text, secret) {
					t.Errorf("%s: the token is in the error: %s", what, text)
				}
				if !strings.Contains(text, tc.says) || tc.hides != "" && strings.Contains(text, tc.hides) {
					t.Errorf("%s: %q, want %q in it and not %q", what, text, tc.says, tc.hides)
				}
				if tc.status == 403 && !strings.Contains(e.Advice, "Access package assignment manager") {
					t.Errorf("%s: the advice does not name the role: %q", what, e.Advice)
				}
				if tc.status >= 300 && tc.status < 404 && tc.status != 400 && tc.status != 304 && e.Advice == "" {
					t.Errorf("%s: no advice", what)
				}
			}
			if n := calls.Load(); n != 2 {
				t.Errorf("%d calls, want one of each", n)
			}
		})
	}
}

func TestRetryAfterMayBeADate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := time.Now().Add(90 * time.Second).UTC().Format(http.TimeFormat)
		if got := graphapi.RetryAfter(http.Header{"Retry-After": {at}}); got != 90*time.Second {
			t.Errorf("got %s, want 1m30s", got)
		}
		if got := graphapi.RetryAfter(http.Header{"Retry-After": {"Thu, 01 Jan 1970 00:00:00 GMT"}}); got != 0 {
			t.Errorf("of the past: %s, want 0", got)
		}
	})
}

func TestNoConnectionMeansThatNothingWasSent(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close() // nobody listens there any more
	untrusted := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	t.Cleanup(untrusted.Close)
	for name, url := range map[string]string{"nobody listens": "http://" + ln.Addr().String(), "nobody we trust": untrusted.URL} {
		c := client(t, url)
		if err := c.Answer(t.Context(), key, approved, workflow.Resume, "x"); !fault.Is(err, fault.Unreachable) || strings.Contains(err.Error(), requestID) {
			t.Errorf("%s: Answer: %v, want unreachable, without the URL", name, err)
		}
		if _, err := c.Read(t.Context(), key); !fault.Is(err, fault.Unreachable) {
			t.Errorf("%s: Read: %v, want unreachable", name, err)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestATransportWithoutTracesIsUnclearUnlessItSaysThatItCouldNotDial(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err  error
		want fault.Reason
	}{
		{&net.OpError{Op: "dial", Err: errors.New("refused")}, fault.Unreachable},
		{&net.OpError{Op: "read", Err: errors.New("reset")}, fault.Unclear},
		{io.ErrUnexpectedEOF, fault.Unclear},
		{errors.New("broke off"), fault.Unclear},
	} {
		c, err := New(Config{GraphURL: "http://127.0.0.1/v1.0", Credential: &static{}, Transport: roundTrip(func(*http.Request) (*http.Response, error) { return nil, tc.err })})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Answer(t.Context(), key, approved, workflow.Resume, "x"); !fault.Is(err, tc.want) {
			t.Errorf("%v: %v, want %s", tc.err, err, tc.want)
		}
		if _, err := c.Read(t.Context(), key); !fault.Is(err, fault.Unreachable) {
			t.Errorf("%v: Read: %v, want unreachable", tc.err, err)
		}
	}
}

func TestALostAnswerIsUnclearAndNotSentAgain(t *testing.T) {
	t.Parallel()
	drop := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	}
	cut := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", odata)
		w.Header().Set("Content-Length", "500")
		_, _ = io.WriteString(w, `{"id":"`+requestID+`",`)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	for name, h := range map[string]http.HandlerFunc{"dropped": drop, "cut short": cut} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var answers atomic.Int32
			url, _ := graph(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					answers.Add(1)
				}
				h(w, r)
			})
			c := client(t, url)
			if err := c.Answer(t.Context(), key, approved, workflow.Resume, "x"); !fault.Is(err, fault.Unclear) {
				t.Errorf("Answer: %v, want unclear", err)
			}
			if _, err := c.Read(t.Context(), key); !fault.Is(err, fault.Unreachable) {
				t.Errorf("Read: %v, want unreachable", err)
			}
			if n := answers.Load(); n != 1 {
				t.Errorf("the answer was sent %d times, want once", n)
			}
		})
	}
}

func TestAnErrorThatIsCutShortKeepsItsStatus(t *testing.T) {
	t.Parallel()
	url, _ := graph(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", odata)
		w.Header().Set("Content-Length", "500")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"error":`)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	if err := client(t, url).Answer(t.Context(), key, approved, workflow.Resume, "x"); !fault.Is(err, fault.Forbidden) {
		t.Errorf("%v, want forbidden", err)
	}
}

func TestSilenceEndsWithTheCallersPatienceOrOurs(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{}, 4)
	url, _ := graph(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		arrived <- struct{}{}
		<-r.Context().Done()
	})
	t.Run("the caller's", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-arrived; cancel() }()
		if err := client(t, url).Answer(ctx, key, approved, workflow.Resume, "x"); !fault.Is(err, fault.Unclear) {
			t.Errorf("Answer: %v, want unclear", err)
		}
	})
	t.Run("ours", func(t *testing.T) {
		c, err := New(Config{GraphURL: url + "/v1.0", Credential: &static{}, Timeout: 50 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		err = c.Answer(t.Context(), key, approved, workflow.Resume, "x")
		if !fault.Is(err, fault.Unclear) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Answer: %v, want unclear and the deadline", err)
		}
		if _, err := c.Read(t.Context(), key); !fault.Is(err, fault.Unreachable) {
			t.Errorf("Read: %v, want unreachable", err)
		}
	})
	t.Run("used up before", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := client(t, url).Answer(ctx, key, approved, workflow.Resume, "x"); !fault.Is(err, fault.Unreachable) {
			t.Errorf("Answer: %v, want unreachable: nothing was sent", err)
		}
	})
}

func TestReadReturnsTheInstanceOfTheStage(t *testing.T) {
	t.Parallel()
	instances := func(list string) string {
		return `{"@odata.context":"x","id":"` + strings.ToUpper(requestID) + `","state":"delivering","status":"WaitingForCallback","customExtensionCalloutInstances":` + list + `}`
	}
	other := `{"id":"11111111-2222-4333-8444-555555555555","status":"callbackReceived"}`
	for _, tc := range []struct {
		name, body string
		want       workflow.RequestStatus
	}{
		{"ours", instances(`[` + other + `,{"id":"` + stageID + `","status":"waitingForCallback","detail":null}]`), workflow.RequestStatus{State: "delivering", Status: "WaitingForCallback", Instance: "waitingForCallback"}},
		{"in another case", instances(`[{"id":"` + strings.ToUpper(stageID) + `","status":"callbackReceived"},` + other + `]`), workflow.RequestStatus{State: "delivering", Status: "WaitingForCallback", Instance: "callbackReceived"}},
		{"not listed", instances(`[` + other + `]`), workflow.RequestStatus{State: "delivering", Status: "WaitingForCallback"}},
		{"null among them", instances(`[null,{"id":null,"status":null},{"id":"` + stageID + `","status":"calloutFailed","newInGraph":{"a":[1,null]}}]`), workflow.RequestStatus{State: "delivering", Status: "WaitingForCallback", Instance: "calloutFailed"}},
		{"a status that is new", instances(`[{"id":"` + stageID + `","status":"callbackPostponed"}]`), workflow.RequestStatus{State: "delivering", Status: "WaitingForCallback", Instance: "unknownFutureValue"}},
		{"no status", instances(`[{"id":"` + stageID + `"}]`), workflow.RequestStatus{State: "delivering", Status: "WaitingForCallback", Instance: "unknownFutureValue"}},
		{"null instances", instances(`null`), workflow.RequestStatus{State: "delivering", Status: "WaitingForCallback"}},
		{"no state", `{"id":"` + requestID + `","state":null,"status":null}`, workflow.RequestStatus{}},
		{"a state that is new", `{"id":"` + requestID + `","state":"paused","status":"Paused"}`, workflow.RequestStatus{Status: "Paused"}},
		{"canceled", `{"id":"` + requestID + `","state":"canceled","status":"Canceled"}`, workflow.RequestStatus{State: "canceled", Status: "Canceled"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			url, _ := graph(t, func(w http.ResponseWriter, r *http.Request) {
				want := "/v1.0/identityGovernance/entitlementManagement/assignmentRequests/" + requestID + "?$select=id,state,status,customExtensionCalloutInstances"
				if got := strings.ReplaceAll(r.RequestURI, "%2C", ","); r.Method != http.MethodGet || got != want {
					t.Errorf("called %s %s, want %s", r.Method, got, want)
				}
				w.Header().Set("Content-Type", odata)
				_, _ = io.WriteString(w, tc.body)
			})
			got, err := client(t, url).Read(t.Context(), key)
			if err != nil || got != tc.want {
				t.Errorf("got %+v, %v, want %+v", got, err, tc.want)
			}
		})
	}
}

func TestATokenThatGraphChallengesIsRenewedOnce(t *testing.T) {
	t.Parallel()
	claims := `{"access_token":{"nbf":{"essential":true,"value":"1652813508"}}}`
	url, calls := graph(t, func(w http.ResponseWriter, r *http.Request) {
		_ = body(t, r) // each time whole
		w.Header().Set("WWW-Authenticate", `Bearer realm="", error="insufficient_claims", claims="`+base64.StdEncoding.EncodeToString([]byte(claims))+`"`)
		w.WriteHeader(http.StatusUnauthorized)
	})
	cred := &static{}
	c, err := New(Config{GraphURL: url + "/v1.0", Credential: cred})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Answer(t.Context(), key, approved, workflow.Resume, "x"); !fault.Is(err, fault.Unauthorized) {
		t.Errorf("Answer: %v, want unauthorized", err)
	}
	if n := calls.Load(); n != 2 || len(cred.asked) != 2 || cred.asked[1].Claims != claims {
		t.Errorf("%d calls, tokens asked for %+v; want two, the second with the claims", n, cred.asked)
	}
}

func TestTheScopeFollowsTheCloud(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ url, scope string }{
		{"", "https://graph.microsoft.com/.default"},
		{"https://graph.microsoft.com/v1.0/", "https://graph.microsoft.com/.default"},
		{"https://graph.microsoft.us/v1.0", "https://graph.microsoft.us/.default"},
		{"https://dod-graph.microsoft.us/v1.0", "https://dod-graph.microsoft.us/.default"},
		{"https://microsoftgraph.chinacloudapi.cn/v1.0", "https://microsoftgraph.chinacloudapi.cn/.default"},
		{"http://127.0.0.1:7072/v1.0", "https://graph.microsoft.com/.default"},
		{"http://localhost:7072/v1.0", "https://graph.microsoft.com/.default"},
		{"http://[::1]:7072/v1.0", "https://graph.microsoft.com/.default"},
	} {
		cred, path := &static{}, ""
		c, err := New(Config{GraphURL: tc.url, Credential: cred, Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			path = r.URL.Path
			if r.Header.Get("Authorization") == "" {
				t.Errorf("%s: called without a token", tc.url)
			}
			return &http.Response{StatusCode: 204, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
		})})
		if err != nil {
			t.Errorf("%s: %v", tc.url, err)
			continue
		}
		if err := c.Answer(t.Context(), key, approved, workflow.Resume, "x"); err != nil {
			t.Errorf("%s: %v", tc.url, err)
		}
		if len(cred.asked) != 1 || len(cred.asked[0].Scopes) != 1 || cred.asked[0].Scopes[0] != tc.scope {
			t.Errorf("%s: tokens asked for %+v, want %s", tc.url, cred.asked, tc.scope)
		}
		if want := "/v1.0/identityGovernance/entitlementManagement/assignmentRequests/" + requestID + "/resume"; path != want {
			t.Errorf("%s: path %s, want %s", tc.url, path, want)
		}
	}
}

func TestAGraphURLThatCannotBeUsedIsNamed(t *testing.T) {
	t.Parallel()
	for _, u := range []string{"graph.microsoft.com", "http://graph.microsoft.com/v1.0", "ftp://localhost/v1.0", "https://user:pw@graph.microsoft.com/v1.0", "https://graph.microsoft.com/v1.0?x=1", "://", "http://127.0.0.1.example.com/v1.0"} {
		_, err := New(Config{GraphURL: u, Credential: &static{}})
		e, ok := errors.AsType[*fault.Error](err)
		if !ok || e.Reason != fault.Misconfigured || e.Field != "GRAPH_URL" || strings.Contains(err.Error(), "pw") {
			t.Errorf("%s: %v, want misconfigured GRAPH_URL", u, err)
		}
	}
	if _, err := New(Config{}); !fault.Is(err, fault.Misconfigured) {
		t.Errorf("without a credential: %v, want misconfigured", err)
	}
}

func TestACredentialThatFailsSendsNothing(t *testing.T) {
	t.Parallel()
	url, calls := graph(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	c, err := New(Config{GraphURL: url + "/v1.0", Credential: &static{err: errors.New("ManagedIdentityCredential: no identity\nResponse: " + secret)}})
	if err != nil {
		t.Fatal(err)
	}
	err = c.Answer(t.Context(), key, approved, workflow.Resume, "x")
	if !fault.Is(err, fault.Unauthorized) || fault.Advice(err) == "" || strings.Contains(err.Error(), secret) {
		t.Errorf("%v, want unauthorized with an advice and no secret", err)
	}
	if n := calls.Load(); n != 0 {
		t.Errorf("%d calls, want none", n)
	}
}

func FuzzReadNeverPanicsAndNeverInvents(f *testing.F) {
	for _, a := range wireAnswers() {
		if len(a.body) < 1000 {
			f.Add(a.status, odata, a.body)
		}
	}
	f.Add(200, odata, `{"id":"`+requestID+`","state":"delivering","customExtensionCalloutInstances":[{"id":"`+stageID+`","status":"waitingForCallback"}]}`)
	f.Fuzz(func(t *testing.T, status int, ctype, body string) {
		c, err := New(Config{GraphURL: "http://127.0.0.1/v1.0", Credential: &static{}, Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {ctype}}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: r}, nil
		})})
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Read(t.Context(), key)
		if err != nil {
			_ = err.Error()
			if fault.Is(err, fault.Internal) || got != (workflow.RequestStatus{}) {
				t.Errorf("%+v, %v", got, err)
			}
			return
		}
		if status != 200 || !strings.Contains(strings.ToLower(body), requestID) {
			t.Errorf("status %d, body %q: read as %+v", status, body, got)
		}
	})
}
