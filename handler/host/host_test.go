package host

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"ticketbridge/handler/callout"
	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/workflow"
)

// recording is a request as the host 4.1037 sent it to a handler.
type recording struct {
	Mode, Case, Method, Target, Body, Sent string
	Headers                                []string
	Chunked                                bool
}

func recordings(t testing.TB) []recording {
	t.Helper()
	text, err := os.ReadFile("testdata/recorded.json")
	if err != nil {
		t.Fatal(err)
	}
	var out []recording
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func (r recording) raw() string {
	body := r.Body
	if strings.HasSuffix(body, "...") { // the recording is cut there
		body = strings.Repeat("x", 1<<20)
	}
	head := r.Method + " " + r.Target + " HTTP/1.1\r\n" + strings.Join(r.Headers, "\r\n") + "\r\n\r\n"
	head = strings.NewReplacer("{key}", "a-secret-key", "{port}", "7071").Replace(head)
	head = strings.Replace(head, "Expect: 100-continue\r\n", "", 1) // nobody here waits for the 100
	if r.Chunked {
		half := len(body) / 2
		return fmt.Sprintf("%s%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n", head, half, body[:half], len(body)-half, body[half:])
	}
	return head + body
}

func TestEachRecordedRequestIsUnderstood(t *testing.T) {
	t.Parallel()
	// What the console gets, by case; a case that is not here must not get there.
	console := map[string]string{
		"console-get": "GET /api/console/static/app.css v=1", "console-get-root": "GET /api/console ", "console-get-root-slash": "GET /api/console/ ",
		"console-upper": "GET /api/console/AbC ", "console-post-form": "POST /api/console/login  a=1&b=x+y%2F", "ans-drop-get": "GET /api/console/x ",
	}
	for _, rec := range recordings(t) {
		t.Run(rec.Mode+"/"+rec.Case, func(t *testing.T) {
			t.Parallel()
			w := &work{}
			var shown atomic.Value
			address, log := server(t, Config{Work: w, Console: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				shown.Store(strings.TrimSuffix(r.Method+" "+r.URL.Path+" "+r.URL.RawQuery+" "+string(b), " "))
			})})
			a := send(t, address, rec.raw())
			switch {
			case strings.HasPrefix(rec.Target, "/api/callout"):
				if rec.Case == "body-1MiB" {
					if a.StatusCode != http.StatusRequestEntityTooLarge || w.asked() != 0 {
						t.Errorf("a body of 1 MiB: %d", a.StatusCode)
					}
					break
				}
				if a.StatusCode != http.StatusAccepted || len(w.bodies) != 1 || w.bodies[0] != rec.Body {
					t.Errorf("status %d, understood %q, sent %q", a.StatusCode, w.bodies, rec.Body)
				}
			case rec.Target == "/advance":
				checkMessage(t, rec, a, w)
			case rec.Target == "/sweep":
				if a.StatusCode != http.StatusOK || a.body != triggerBody || a.Header.Get("Content-Type") != "application/json" || w.sweeps != 1 {
					t.Errorf("status %d, %s, %d sweeps", a.StatusCode, a.body, w.sweeps)
				}
			default:
				want, ok := console[rec.Case]
				got, _ := shown.Load().(string)
				if got != want || (!ok && a.StatusCode != http.StatusNotFound) {
					t.Errorf("status %d, the console got %q, want %q", a.StatusCode, got, want)
				}
				if w.asked() != 0 {
					t.Error("the call reached another function")
				}
			}
			ended := log.lines(t, "invocation")
			if len(ended) != 1 {
				t.Fatalf("%d lines for one invocation:\n%s", len(ended), log)
			}
			for _, h := range rec.Headers {
				if id, ok := strings.CutPrefix(h, invocationHeader+": "); ok && ended[0]["invocationId"] != id {
					t.Errorf("logged %v for invocation %s", ended[0]["invocationId"], id)
				}
			}
			for _, secret := range []string{"a-secret-key", "Bearer abc", "a=1", "code="} {
				if strings.Contains(log.String(), secret) {
					t.Errorf("the log holds %q:\n%s", secret, log)
				}
			}
		})
	}
}

// checkMessage wants what was sent, decoded; none of the recorded messages is one of ours, so each must fail and be kept.
func checkMessage(t *testing.T, rec recording, a said, w *work) {
	t.Helper()
	text, _, err := message([]byte(rec.Body))
	if err != nil {
		t.Fatal(err)
	}
	sent := "hello-from-admin" // which was recorded beside the admin route
	if rec.Sent != "" {
		sent = decoded(t, rec.Sent)
	}
	if string(text) != sent {
		t.Errorf("understood %q, sent %q", text, sent)
	}
	if a.StatusCode != http.StatusInternalServerError || a.body != triggerBody || w.asked() != 0 {
		t.Errorf("a message that is not ours: %d %s", a.StatusCode, a.body)
	}
}

func TestAMessageOfOursSurvivesTheQueue(t *testing.T) {
	t.Parallel()
	w := &work{}
	address, log := server(t, Config{Work: w})
	a := send(t, address, post("/advance", queued(aMessage().Text())))
	if a.StatusCode != http.StatusOK || a.body != triggerBody || a.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%d %s %s", a.StatusCode, a.Header, a.body)
	}
	if len(w.texts) != 1 || w.texts[0] != aMessage() {
		t.Errorf("understood %v", w.texts)
	}
	line := log.lines(t, "invocation")[0]
	if line["requestId"] != requestID || line["stageInstanceId"] != stageID || line["dequeueCount"] != "2" || line["why"] != "callout" || line["ms"] == nil {
		t.Errorf("logged %v", line)
	}
}

func TestNoPathTrickReachesAFunction(t *testing.T) {
	t.Parallel()
	w := &work{}
	var shown atomic.Int32
	address, _ := server(t, Config{Work: w, Console: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { shown.Add(1) })})
	tricks := []string{
		// through the console's anonymous route: as forwarded, and as proxied
		"/api/console/..%2fcallout", "/api/console/..%252fcallout", "/api/console/..%2Fcallout", "/api/console/..%2f..%2fadvance", "/api/console/..%252f..%252fadvance",
		"/api/console/%2e%2e/callout", "/api/console/%2e%2e%2fcallout", "/api/console/%2e%2e%2f%2e%2e%2fadvance", "/api/console/.%2e/callout",
		"/api/console/%252e%252e/callout", "/api/console/%252e%252e%252fcallout", "/api/console/%25252e%25252e%25252fcallout",
		"/api/console/..%5ccallout", "/api/console/..%255ccallout", `/api/console/..\callout`, `/api/console\..\callout`, "/api/console%5c..%5ccallout",
		"/api/console/../callout", "/api/console/../../advance", "/api/console/../../sweep", "/api/console/./callout", "/api/console/x/../../callout",
		"/api/console//../callout", "/api/console/..;/callout", "/api/console/..%00/callout", "/api/console/%00", "/api/console/%c0%ae%c0%ae/callout",
		"/api/console/%ef%bc%8e%ef%bc%8e/callout", "/api/console/..%e2%88%95callout", "/api/console/a%2fb", "/api/console/a%20b", "/api/console/a+b",
		"/api/console..", "/api/console..%2fcallout", "/api/consoleX", "/api/console%2f", "/api/console%2fx", "/api/console;/x", "/api/console/b//c", "/api/console//",
		// beside it
		"//api/callout", "/api//callout", "/api/callout/", "/api/callout/x", "/api/callout%2f", "/api/callout%20", "/api/callout;x", "/api/callout.", "/api/%63allout",
		"/api/./callout", "/api/x/../callout", "/callout", "/api", "/api/", "/ticketclosed", "/api/ticketclosed", "/api/advance", "/api/sweep", "/API/advance", "/console",
		"//advance", "/advance/", "/Advance", "/ADVANCE", "/%61dvance", "/advance%20", "/./advance", "/x/../advance", "/advance//", "/api/../advance", "/sweep/", "/Sweep",
		"http://127.0.0.1/advance", "http://127.0.0.1/api/callout", "/admin/functions/advance", "*",
	}
	for _, target := range tricks {
		for _, query := range []string{"", "?x=/advance", "?/api/callout"} {
			a := send(t, address, post(target+query, queued(aMessage().Text())))
			if a.StatusCode != http.StatusNotFound && a.StatusCode != http.StatusBadRequest { // 400 is net/http's own
				t.Errorf("%s: %d", target+query, a.StatusCode)
			}
		}
	}
	if w.asked() != 0 || shown.Load() != 0 {
		t.Errorf("%d calls reached a function, %d the console", w.asked(), shown.Load())
	}
}

func TestRoutesMatchInAnyCaseAndTriggersInOne(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]*function{
		"/api/callout": calloutFn, "/API/Callout": calloutFn, "/Api/CALLOUT?code=x/../y": calloutFn, "/api/ticket-closed": ticketClosed, "/api/Ticket-Closed": ticketClosed,
		"/api/console": console, "/API/CONSOLE/": console, "/api/console/a.b/c-d_e~f": console, "/advance": advance, "/sweep": sweep, "/": probe, "": nil, "?": nil,
	} {
		if got, _ := route(target); got != want {
			t.Errorf("%q: %v", target, got)
		}
	}
}

func TestEachMethodGetsAFittingAnswer(t *testing.T) {
	t.Parallel()
	w := &work{}
	address, log := server(t, Config{Work: w, Console: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "page") })})
	for _, c := range []struct {
		method, target string
		status         int
		allow          string
	}{
		{"GET", "/", 204, ""},
		{"HEAD", "/", 204, ""},
		{"POST", "/", 405, "GET, HEAD, OPTIONS"},
		{"GET", "/api/callout", 405, "POST, OPTIONS"},
		{"HEAD", "/api/callout", 405, "POST, OPTIONS"},
		{"PUT", "/api/ticket-closed", 405, "POST, OPTIONS"},
		{"OPTIONS", "/api/callout", 204, "POST, OPTIONS"},
		{"OPTIONS", "/api/console/x", 204, "GET, HEAD, POST, OPTIONS"},
		{"GET", "/advance", 405, "POST"},
		{"OPTIONS", "/sweep", 405, "POST"},
		{"DELETE", "/api/console", 405, "GET, HEAD, POST, OPTIONS"},
		{"HEAD", "/api/console", 200, ""},
		{"GET", "/nothing", 404, ""},
		{"OPTIONS", "*", 404, ""},
	} {
		a := send(t, address, raw(c.method, c.target, ""))
		if a.StatusCode != c.status || a.Header.Get("Allow") != c.allow {
			t.Errorf("%s %s: %d, Allow %q", c.method, c.target, a.StatusCode, a.Header.Get("Allow"))
		}
		if c.method == "HEAD" && a.body != "" {
			t.Errorf("%s %s has a body: %s", c.method, c.target, a.body)
		}
	}
	if w.asked() != 0 {
		t.Error("a function was called")
	}
	if strings.Contains(log.String(), `"probe"`) && len(log.lines(t, "invocation")) != 12 {
		t.Errorf("probes are logged:\n%s", log)
	}
}

func TestTheProbeIsAnsweredWithOnlyAHost(t *testing.T) {
	t.Parallel()
	address, log := server(t, Config{Work: &work{}})
	if a := send(t, address, "GET / HTTP/1.1\r\nHost: 127.0.0.1:7071\r\n\r\n"); a.StatusCode != http.StatusNoContent {
		t.Error(a.StatusCode)
	}
	if log.String() != "" {
		t.Errorf("logged: %s", log)
	}
}

func TestACalloutIsAnsweredByWhatBecameOfIt(t *testing.T) {
	t.Parallel()
	const retry = "503 "
	for name, c := range map[string]struct {
		receipt workflow.Receipt
		err     error
		want    string // status and body, or status and field
	}{
		"remembered": {
			workflow.Receipt{RequestID: requestID, StageInstanceID: stageID, State: correlation.Received},
			nil,
			`202 {"requestId":"` + requestID + `","stageInstanceId":"` + stageID + `","state":"received"}`,
		},
		"repeated": {
			workflow.Receipt{RequestID: requestID, StageInstanceID: stageID, State: correlation.Open, Duplicate: true},
			nil,
			`202 {"requestId":"` + requestID + `","stageInstanceId":"` + stageID + `","state":"open","duplicate":true}`,
		},
		"connection test":             {workflow.Receipt{Test: true}, nil, `202 {"state":"connectionTest"}`},
		"wrong input":                 {err: &fault.Error{Reason: fault.Invalid, Field: "Stage", Detail: "is odd"}, want: "400 Stage"},
		"another catalog":             {err: &fault.Error{Reason: fault.Forbidden, Field: "AccessPackageCatalog.Id", Detail: "not here"}, want: "403 AccessPackageCatalog.Id"},
		"our storage refuses us":      {err: &fault.Error{Reason: fault.Unauthorized, Field: "AzureWebJobsStorage", Status: 401, Detail: "x"}, want: retry},
		"our storage forbids us":      {err: &fault.Error{Reason: fault.Forbidden, Field: "AzureWebJobsStorage", Status: 403, Detail: "x"}, want: retry},
		"storage away":                {err: &fault.Error{Reason: fault.Unreachable, Detail: "x"}, want: retry},
		"storage slow, wrapped":       {err: fmt.Errorf("send: %w", &fault.Error{Reason: fault.Throttled, After: 1500 * time.Millisecond}), want: retry},
		"somebody was there first":    {err: &fault.Error{Reason: fault.Conflict}, want: retry},
		"gone in between":             {err: &fault.Error{Reason: fault.NotFound}, want: retry},
		"a deadline without a reason": {err: fmt.Errorf("x: %w", context.DeadlineExceeded), want: retry},
		"a setting is wrong":          {err: &fault.Error{Reason: fault.Misconfigured, Field: "AzureWebJobsStorage", Detail: "secret detail"}, want: "500 "},
		"a bug":                       {err: errors.New("secret detail"), want: "500 "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address, log := server(t, Config{Work: &work{accept: func(context.Context, []byte) (workflow.Receipt, error) { return c.receipt, c.err }}})
			a := send(t, address, post("/api/callout", `{}`))
			got := strconv.Itoa(a.StatusCode) + " "
			if a.StatusCode == http.StatusAccepted {
				got += a.body
				if ct := a.Header.Get("Content-Type"); ct != "application/json" {
					t.Errorf("type %s", ct)
				}
			} else {
				got += problemIn(t, a).Field
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s\n%s", got, c.want, a.body)
			}
			if after := a.Header.Get("Retry-After"); (a.StatusCode == 503) != (after != "") || after == "0" {
				t.Errorf("status %d with Retry-After %q", a.StatusCode, after)
			}
			if strings.Contains(a.body, "secret") {
				t.Errorf("the answer tells a stranger: %s", a.body)
			}
			if line := log.lines(t, "invocation")[0]; c.err != nil && line["reason"] != string(fault.ReasonOf(c.err)) {
				t.Errorf("logged %v", line)
			}
		})
	}
}

func TestAThrottledCallerIsToldHowLongToWait(t *testing.T) {
	t.Parallel()
	for after, want := range map[time.Duration]string{0: "2", 1500 * time.Millisecond: "2", 7 * time.Second: "7", time.Millisecond: "1"} {
		a := failed(&fault.Error{Reason: fault.Throttled, After: after})
		if got := a.header.Get("Retry-After"); got != want {
			t.Errorf("%s: %s, want %s", after, got, want)
		}
	}
}

func TestNoLogLineHoldsWhatACallerSent(t *testing.T) {
	t.Parallel()
	w := &work{accept: func(context.Context, []byte) (workflow.Receipt, error) {
		return workflow.Receipt{}, &fault.Error{Op: "read ids", Reason: fault.Invalid, Field: "Stage", Detail: `"a-name" is not a stage`}
	}}
	address, log := server(t, Config{Work: w})
	send(t, address, post("/api/callout?code=a-name", `{"Stage":"a-name"}`, "X-Functions-Key: a-name", "Authorization: Bearer a-name", "Cookie: a=a-name"))
	send(t, address, post("/api/ticket-closed?correlation_id=a-name", `{"correlation_id":"a-name"}`))
	send(t, address, post("/a-name", `a-name`))
	send(t, address, post("/advance", queued(`{"ticketbridge":{"request":"a-name","stage":"a-name"}}`)))
	send(t, address, post("/advance", `{"Data":{"a-name":"a-name"},"Metadata":{"DequeueCount":"a-name"}}`))
	send(t, address, post("/sweep", `{"Data":{"a-name":"a-name"}}`))
	if n := len(log.lines(t, "invocation")); n != 6 {
		t.Errorf("%d lines for 6 invocations", n)
	}
	if strings.Contains(log.String(), "a-name") {
		t.Errorf("the log repeats what was sent:\n%s", log)
	}
	if !strings.Contains(log.String(), `"field":"Stage"`) {
		t.Errorf("the log does not say what was wrong:\n%s", log)
	}
}

// gate refuses with err.
type gate struct{ err error }

func (g gate) Check(*http.Request, []byte) error { return g.err }
func (g gate) Challenge(_ *http.Request, err error) string {
	return "Bearer why=" + string(fault.ReasonOf(err))
}

func TestWhoMayNotCallIsTurnedAway(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err       error
		status    int
		challenge string
	}{
		{nil, 202, ""},
		{&fault.Error{Reason: fault.Unauthorized, Field: "Authorization", Detail: "the token is missing"}, 401, "Bearer why=unauthorized"},
		{&fault.Error{Reason: fault.Forbidden, Detail: "this application may not call"}, 403, "Bearer why=forbidden"},
		{&fault.Error{Reason: fault.Unreachable, After: time.Second}, 503, ""},
		{&fault.Error{Reason: fault.Misconfigured}, 500, ""},
		{errors.New("a bug"), 500, ""},
	} {
		for _, target := range []string{"/api/callout", "/api/ticket-closed"} {
			w := &work{}
			address, _ := server(t, Config{Work: w, Callout: gate{c.err}, Close: gate{c.err}})
			a := send(t, address, post(target, `{"correlation_id":"`+requestID+"/"+stageID+`"}`))
			if a.StatusCode != c.status || a.Header.Get("WWW-Authenticate") != c.challenge || (c.err != nil) == (w.asked() != 0) {
				t.Errorf("%s, %v: %d %q, %d calls", target, c.err, a.StatusCode, a.Header.Get("WWW-Authenticate"), w.asked())
			}
		}
	}
}

func TestEachEndpointHasItsOwnGate(t *testing.T) {
	t.Parallel()
	w := &work{}
	no := gate{&fault.Error{Reason: fault.Unauthorized, Detail: "no"}}
	address, _ := server(t, Config{Work: w, Close: no})
	if a := send(t, address, post("/api/callout", "{}")); a.StatusCode != 202 {
		t.Error(a.StatusCode)
	}
	address, _ = server(t, Config{Work: w, Callout: no})
	if a := send(t, address, post("/api/ticket-closed", `{"table":"incident","sys_id":"`+sysid+`"}`)); a.StatusCode != 202 {
		t.Error(a.StatusCode)
	}
}

func TestALargeBodyGetsItsAnswerAndTheConnectionLives(t *testing.T) {
	t.Parallel()
	w := &work{}
	address, _ := server(t, Config{Work: w})
	for _, c := range []struct {
		target string
		size   int
		status int
	}{
		{"/api/callout", callout.MaxBytes, 202},
		{"/api/callout", callout.MaxBytes + 1, 413},
		{"/api/callout", 8 << 20, 413},
		{"/api/ticket-closed", 64<<10 + 1, 413},
		{"/nothing", 8 << 20, 404},
		{"/advance", 8 << 20, 413},
	} {
		for _, chunked := range []bool{false, true} {
			body := io.Reader(strings.NewReader(strings.Repeat(" ", c.size)))
			if chunked {
				body = io.MultiReader(body) // whose length Go's client does not know
			}
			var reused bool
			r, err := http.Post("http://"+address+c.target, "application/json", body) //nolint:noctx // on loopback
			if err != nil {
				t.Fatalf("%s, %d bytes, chunked %v: %v", c.target, c.size, chunked, err)
			}
			_, _ = io.Copy(io.Discard, r.Body)
			r.Body.Close()
			if r.StatusCode != c.status || r.Close {
				t.Errorf("%s, %d bytes, chunked %v: %d, closing %v %v", c.target, c.size, chunked, r.StatusCode, r.Close, reused)
			}
		}
	}
}

func TestACompressedBodyIsRefused(t *testing.T) {
	t.Parallel()
	address, _ := server(t, Config{Work: &work{}})
	a := send(t, address, post("/api/callout", "x", "Content-Encoding: gzip"))
	if problemIn(t, a).Field != "Content-Encoding" || a.StatusCode != http.StatusUnsupportedMediaType || a.Header.Get("Accept-Encoding") != "identity" {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

func TestAnyContentTypeIsTaken(t *testing.T) {
	t.Parallel()
	w := &work{}
	s := New(Config{Work: w})
	for _, ct := range []string{"", "application/json", "text/plain", "application/octet-stream", "nonsense"} {
		r := httptest.NewRequest(http.MethodPost, "/api/callout", strings.NewReader("{}"))
		r.Header.Set("Content-Type", ct)
		a := httptest.NewRecorder()
		if s.ServeHTTP(a, r); a.Code != http.StatusAccepted {
			t.Errorf("%q: %d", ct, a.Code)
		}
	}
}

func TestACallerIsNotKeptWaiting(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		obeys bool // whether the work ends with its context
		most  time.Duration
	}{"work that ends with its context": {true, 760 * time.Millisecond}, "work that hangs": {false, 800 * time.Millisecond}} {
		for _, target := range []string{"/api/callout", "/api/ticket-closed"} {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				defer close(release)
				hang := func(ctx context.Context) error {
					if c.obeys {
						<-ctx.Done()
						return &fault.Error{Reason: fault.Unreachable, Err: ctx.Err()}
					}
					<-release
					return nil
				}
				s := New(Config{Work: &work{
					accept: func(ctx context.Context, _ []byte) (workflow.Receipt, error) { return workflow.Receipt{}, hang(ctx) },
					closed: func(ctx context.Context, _ workflow.Closed) error { return hang(ctx) },
				}})
				start := time.Now()
				a := httptest.NewRecorder()
				s.ServeHTTP(a, httptest.NewRequest(http.MethodPost, target, strings.NewReader(`{"correlation_id":"`+requestID+"/"+stageID+`"}`)))
				if took := time.Since(start); a.Code != http.StatusServiceUnavailable || a.Header().Get("Retry-After") == "" || took > c.most {
					t.Errorf("%s, %s: %d after %s", name, target, a.Code, took)
				}
			})
		}
	}
}

func TestABodyThatDoesNotArriveIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	w := &work{}
	address, _ := server(t, Config{Work: w})
	start := time.Now()
	a := send(t, address, "POST /api/callout HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
	if took := time.Since(start); a.StatusCode != http.StatusServiceUnavailable || took > 5*time.Second || w.asked() != 0 {
		t.Errorf("%d after %s", a.StatusCode, took)
	}
}

func TestATriggerEndsBeforeTheHostKillsTheProcess(t *testing.T) {
	t.Parallel()
	for target, deadline := range map[string]time.Duration{"/advance": 100 * time.Second, "/sweep": 90 * time.Second} {
		for _, obeys := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				defer close(release)
				var given time.Duration
				hang := func(ctx context.Context) error {
					end, _ := ctx.Deadline()
					given = time.Until(end)
					if obeys {
						<-ctx.Done()
						return ctx.Err()
					}
					<-release
					return nil
				}
				s := New(Config{Work: &work{
					advance: func(ctx context.Context, _ workflow.Message) error { return hang(ctx) },
					sweep:   func(ctx context.Context) (workflow.Swept, error) { return workflow.Swept{}, hang(ctx) },
				}})
				start := time.Now()
				a := httptest.NewRecorder()
				s.ServeHTTP(a, httptest.NewRequest(http.MethodPost, target, strings.NewReader(queued(aMessage().Text()))))
				if took := time.Since(start); a.Code != 500 || a.Body.String() != triggerBody || took > 115*time.Second || given != deadline {
					t.Errorf("%s: %d %s after %s, with %s to work", target, a.Code, a.Body, took, given)
				}
			})
		}
	}
}

func TestWhatBeganGoesOnWhenTheCallerHangsUp(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"/api/callout", "/advance"} {
		began, ended := make(chan struct{}), make(chan error, 1)
		gone := make(chan struct{})
		hold := func(ctx context.Context) error {
			close(began)
			<-gone
			ended <- ctx.Err()
			return nil
		}
		w := &work{
			accept:  func(ctx context.Context, _ []byte) (workflow.Receipt, error) { return workflow.Receipt{}, hold(ctx) },
			advance: func(ctx context.Context, _ workflow.Message) error { return hold(ctx) },
		}
		s := New(Config{Work: w})
		ctx, hangUp := context.WithCancel(t.Context())
		r := httptest.NewRequest(http.MethodPost, target, strings.NewReader(queued(aMessage().Text()))).WithContext(ctx)
		go s.ServeHTTP(httptest.NewRecorder(), r)
		<-began
		hangUp()
		close(gone)
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", target, err)
		}
	}
}

func TestAPanicIsAnAnswerAndOneLogLine(t *testing.T) {
	t.Parallel()
	boom := func() { panic("boom\nin two lines") }
	w := &work{
		accept:  func(context.Context, []byte) (workflow.Receipt, error) { boom(); return workflow.Receipt{}, nil },
		closed:  func(context.Context, workflow.Closed) error { panic(errors.New("boom")) },
		advance: func(context.Context, workflow.Message) error { panic(http.ErrAbortHandler) },
		sweep: func(context.Context) (workflow.Swept, error) {
			var none *workflow.Swept
			return *none, nil
		},
	}
	half := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(w, "half a page")
		boom()
	})
	address, log := server(t, Config{Work: w, Console: half})
	for i, c := range []struct{ method, target, body string }{
		{"POST", "/api/callout", "{}"},
		{"POST", "/api/ticket-closed", `{"table":"incident","sys_id":"` + sysid + `"}`},
		{"POST", "/advance", queued(aMessage().Text())},
		{"POST", "/sweep", "{}"},
		{"GET", "/api/console/x", ""},
	} {
		a := send(t, address, raw(c.method, c.target, c.body))
		if a.StatusCode != http.StatusInternalServerError {
			t.Errorf("%s: %d %s", c.target, a.StatusCode, a.body)
		}
		if strings.HasPrefix(c.target, "/api/") {
			problemIn(t, a)
		} else if a.body != triggerBody || a.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %s", c.target, a.body)
		}
		if lines := log.lines(t, "panic"); len(lines) != i+1 || !strings.Contains(fmt.Sprint(lines[i]["stack"]), "host_test.go") {
			t.Errorf("%s: %v", c.target, lines)
		}
	}
}

func TestAGateThatPanicsLetsNobodyIn(t *testing.T) {
	t.Parallel()
	w := &work{}
	address, _ := server(t, Config{Work: w, Callout: (*broken)(nil)})
	if a := send(t, address, post("/api/callout", "{}")); a.StatusCode != 500 || w.asked() != 0 {
		t.Errorf("%d, %d calls", a.StatusCode, w.asked())
	}
}

type broken struct{ gate }

func TestAFailedTriggerIsAFailureToTheHost(t *testing.T) {
	t.Parallel()
	away := &fault.Error{Op: "load", Reason: fault.Unreachable, Status: 503}
	w := &work{
		advance: func(context.Context, workflow.Message) error { return away },
		sweep:   func(context.Context) (workflow.Swept, error) { return workflow.Swept{Sent: 1}, away },
	}
	address, log := server(t, Config{Work: w})
	for _, target := range []string{"/advance", "/sweep"} {
		if a := send(t, address, post(target, queued(aMessage().Text()))); a.StatusCode != 500 || a.body != triggerBody {
			t.Errorf("%s: %d %s", target, a.StatusCode, a.body)
		}
	}
	for _, line := range log.lines(t, "invocation") {
		if line["level"] != "error" || line["reason"] != "unreachable" || !strings.Contains(fmt.Sprint(line["error"]), "load") {
			t.Errorf("logged %v", line)
		}
	}
}

func TestASweepSaysWhatItDidAndWhetherItWasLate(t *testing.T) {
	t.Parallel()
	address, log := server(t, Config{Work: &work{}})
	send(t, address, post("/sweep", `{"Data":{"timer":{"Schedule":{"AdjustForDST":true},"ScheduleStatus":null,"IsPastDue":true}},"Metadata":{}}`))
	if line := log.lines(t, "invocation")[0]; line["pastDue"] != true || line["sent"] != 3.0 || line["cut"] != false {
		t.Errorf("logged %v", line)
	}
}

func TestTheConsoleIsThereOnlyWhenItIsGiven(t *testing.T) {
	t.Parallel()
	address, _ := server(t, Config{Work: &work{}})
	if a := send(t, address, raw("GET", "/api/console", "")); a.StatusCode != 404 {
		t.Error(a.StatusCode)
	}
	address, _ = server(t, Config{Work: &work{}, Console: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'")
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, r.URL.Path+"|"+r.URL.RawQuery)
	})})
	a := send(t, address, raw("GET", "/API/Console/A/b?q=%2e%2e", ""))
	if a.StatusCode != http.StatusTeapot || a.body != "/api/console/A/b|q=%2e%2e" || a.Header.Get("Content-Security-Policy") == "" || a.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("%d %v %s", a.StatusCode, a.Header, a.body)
	}
}

func TestAnInvocationAlwaysHasAnID(t *testing.T) {
	t.Parallel()
	const id = "acd6b61f-5329-45ca-8257-0b6f0f52e277"
	for _, c := range []struct {
		sent []string
		own  bool
	}{{[]string{id}, false}, {[]string{"forged, " + id}, false}, {[]string{"x", id}, false}, {nil, true}, {[]string{"no guid\nhere"}, true}} {
		got := invocationOf(http.Header{http.CanonicalHeaderKey(invocationHeader): c.sent})
		if _, ok := correlation.GUID(got); !ok || (got == id) == c.own {
			t.Errorf("%q: %s", c.sent, got)
		}
	}
}

func TestThePortIsTakenFromTheHost(t *testing.T) {
	t.Parallel()
	for _, port := range []string{"", "0", "70000", "-1", "http", "7071 "} {
		if _, err := Listen(port); !fault.Is(err, fault.Misconfigured) || !strings.Contains(err.Error(), "FUNCTIONS_CUSTOMHANDLER_PORT") {
			t.Errorf("%q: %v", port, err)
		}
	}
	free, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(free.Addr().String())
	if _, err := Listen(port); err == nil {
		t.Error("listened on a port that is taken")
	}
	free.Close()
	l, err := Listen(port)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := l.Addr().String(); got != "127.0.0.1:"+port {
		t.Errorf("listens on %s", got)
	}
}

func TestServeEndsWithAnErrorWhenTheListenerBreaks(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := New(Config{Work: &work{}}).Serve(t.Context(), l); err == nil {
		t.Error("no error")
	}
}

func TestAnOrphanFinishesWhatItBeganAndTakesNothingNew(t *testing.T) {
	t.Parallel()
	began, finish := make(chan struct{}), make(chan struct{})
	w := &work{advance: func(context.Context, workflow.Message) error {
		close(began)
		<-finish
		return nil
	}}
	var parent atomic.Int32
	parent.Store(42)
	s := New(Config{Work: w, Log: zerolog.Nop(), Parent: func() int { return int(parent.Load()) }, Watch: time.Millisecond, Console: http.NotFoundHandler()})
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(t.Context(), l) }()
	step := make(chan said, 1)
	go func() { step <- send(t, address, post("/advance", queued(aMessage().Text()))) }()
	<-began

	parent.Store(1)
	for s.begin() { // until it has noticed
		s.inFlight.Done()
		time.Sleep(time.Millisecond)
	}
	for target, status := range map[string]int{"/api/callout": 503, "/api/ticket-closed": 503, "/advance": 503, "/sweep": 503, "/": 204} {
		method := "POST"
		if target == "/" {
			method = "GET"
		}
		a := send(t, address, raw(method, target, "{}"))
		if a.StatusCode != status {
			t.Errorf("%s: %d", target, a.StatusCode)
		}
		if status == 503 && strings.HasPrefix(target, "/api") && a.Header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", target)
		}
	}
	if w.asked() != 1 {
		t.Errorf("%d calls reached the work", w.asked())
	}
	select {
	case err := <-ended:
		t.Fatalf("ended with a step in flight: %v", err)
	default:
	}
	close(finish)
	if a := <-step; a.StatusCode != http.StatusOK || a.body != triggerBody {
		t.Errorf("the step was answered %d %s", a.StatusCode, a.body)
	}
	if err := <-ended; !errors.Is(err, ErrOrphaned) {
		t.Errorf("ended with %v", err)
	}
}

func TestAStepThatNeverEndsDoesNotKeepAnOrphanAlive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Work: &work{}})
		if !s.begin() {
			t.Fatal("did not begin")
		}
		start := time.Now()
		if s.drain(drainTime) || time.Since(start) != 30*time.Second {
			t.Errorf("drained after %s", time.Since(start))
		}
		s.inFlight.Done()
	})
}

func TestTheParentIsWatched(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gone := time.Now().Add(10 * time.Minute)
		parent := func() int {
			if time.Now().Before(gone) {
				return 7
			}
			return 1
		}
		if !orphaned(t.Context(), 7, parent, time.Second) || time.Since(gone) > time.Second {
			t.Errorf("noticed after %s", time.Since(gone))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if orphaned(ctx, 1, parent, time.Second) {
			t.Error("an orphan whose parent never changed")
		}
	})
}

// TestAProcessWhoseParentWasKilledEnds starts a process that starts the handler, and kills the one in the middle.
func TestAProcessWhoseParentWasKilledEnds(t *testing.T) {
	switch os.Getenv("TICKETBRIDGE_TEST_ROLE") {
	case "host":
		c := exec.Command(os.Args[0], "-test.run=^TestAProcessWhoseParentWasKilledEnds$") //nolint:gosec // this test itself
		c.Env, c.Stdout = append(os.Environ(), "TICKETBRIDGE_TEST_ROLE=handler"), os.Stdout
		if err := c.Run(); err != nil {
			t.Fatal(err)
		}
		return
	case "handler":
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := New(Config{Work: &work{}, Log: zerolog.Nop(), Watch: 10 * time.Millisecond})
		fmt.Println("listening")
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		fmt.Println("ended:", s.Serve(ctx, l))
		return
	}
	t.Parallel()
	host := exec.Command(os.Args[0], "-test.run=^TestAProcessWhoseParentWasKilledEnds$") //nolint:gosec // this test itself
	host.Env = append(os.Environ(), "TICKETBRIDGE_TEST_ROLE=host")
	out, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "listening" {
	}
	if err := host.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if !lines.Scan() || lines.Text() != "ended: "+ErrOrphaned.Error() {
		t.Errorf("the handler said %q", lines.Text())
	}
	_ = host.Wait() // killed
}

func BenchmarkCallout(b *testing.B) {
	s := New(Config{Work: &work{}, Log: zerolog.Nop()})
	body := `{"AccessPackageAssignmentRequestId":"` + requestID + `"}`
	for b.Loop() {
		a := httptest.NewRecorder()
		s.ServeHTTP(a, httptest.NewRequest(http.MethodPost, "/api/callout", strings.NewReader(body)))
		if a.Code != 202 {
			b.Fatal(a.Code)
		}
	}
}
