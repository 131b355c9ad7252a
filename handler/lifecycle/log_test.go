package lifecycle

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ticketbridge/handler/simulator/host"
)

// A log keeps every line that the handlers of one world wrote, and what was wrong with it.
type log struct {
	mu        sync.Mutex
	lines     []line
	stderr    []string
	forbidden []string // what no line may hold: secrets, and what people are called and write
	changed   chan struct{}
}

// A line is one entry of the handler's log, as it wrote it.
type line struct {
	host   int // whose handler wrote it
	text   string
	fields map[string]any
}

func (l line) str(field string) string {
	s, _ := l.fields[field].(string)
	return s
}

// key is which stage instance the line is about, "" when it is about none.
func (l line) key() string {
	if l.str("requestId") == "" {
		return ""
	}
	return l.str("requestId") + "/" + l.str("stageInstanceId")
}

func newLog(forbidden ...string) *log {
	return &log{changed: make(chan struct{}), forbidden: forbidden}
}

// forbid adds what no line may hold.
func (l *log) forbid(what ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range what {
		if s != "" {
			l.forbidden = append(l.forbidden, s)
		}
	}
}

// entry takes an entry of a host's log. What the handler writes has a category of its own; the rest is the host's.
func (l *log) entry(number int, e host.Entry) {
	if e.Category != "Host.Function.Console" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.Level != host.Information {
		l.stderr = append(l.stderr, e.Text)
	} else {
		n := line{host: number, text: e.Text}
		_ = json.Unmarshal([]byte(e.Text), &n.fields) // judge says what is not JSON
		l.lines = append(l.lines, n)
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// all returns the lines for which "is" holds.
func (l *log) all(is func(line) bool) []line {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []line
	for _, n := range l.lines {
		if is(n) {
			out = append(out, n)
		}
	}
	return out
}

// await waits until there are so many lines for which "is" holds.
func (l *log) await(ctx context.Context, times int, is func(line) bool) error {
	for {
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		if len(l.all(is)) >= times {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// about are the last lines about a stage instance, for whoever reads a failure.
func (l *log) about(key string) string {
	var b strings.Builder
	all := l.all(func(l line) bool { return l.key() == key })
	for _, n := range all[max(0, len(all)-40):] {
		fmt.Fprintf(&b, "  %d %s\n", n.host, n.text)
	}
	return b.String()
}

// logged waits for a line.
func (w *world) logged(what string, is func(line) bool) {
	w.Helper()
	if err := w.log.await(w.ctx, 1, is); err != nil {
		w.Fatalf("no line of the log says: %s: %v", what, err)
	}
}

// sweeps waits until the sweep has run so many times more, and what it found to do is done as far as it can be.
func (w *world) sweeps(times int) {
	w.Helper()
	swept := func(l line) bool { return l.str("function") == "sweep" && l.str("event") == "invocation" }
	if err := w.log.await(w.ctx, len(w.log.all(swept))+times, swept); err != nil {
		w.Fatalf("the sweep does not run: %v", err)
	}
}

// judge fails the test for each line that is not as a line must be.
func (l *log) judge(t testing.TB) {
	l.mu.Lock()
	defer l.mu.Unlock()
	bad := 0
	complain := func(text, wrong string) {
		if bad++; bad <= 10 {
			t.Errorf("the handler logged a line in which %s:\n%s", wrong, text)
		}
	}
	for _, n := range l.lines {
		if wrong := l.wrong(n); wrong != "" {
			complain(n.text, wrong)
		}
	}
	for _, text := range l.stderr {
		if wrong := l.leaks(text); wrong != "" {
			complain(text, wrong)
		}
		if !strings.HasPrefix(text, "ticketbridge: ") {
			complain(text, "something speaks on standard error that is not us")
		}
	}
	if len(l.lines) == 0 {
		t.Error("the handler logged nothing")
	}
}

// What the fields of a line may be, and what they must look like; nil is anything of its kind.
var fieldShapes = map[string]*regexp.Regexp{
	"time": moment, "level": regexp.MustCompile(`^(debug|info|warn|error)$`),
	"message": regexp.MustCompile(`^[a-zA-Z].{0,300}$`), "version": regexp.MustCompile(`^\S{1,60}$`),
	"event": regexp.MustCompile(`^(started|ended|stopping|invocation|received|duplicate|closeNotified|moved|ticketCreated|answered|connectionTest|console|http|paused|served|poisoned|purged|sweepOverdue|nearest)$`),

	"function":     regexp.MustCompile(`^(callout|ticketclosed|advance|sweep|console|probe|none)$`),
	"invocationId": guid, "requestId": guid, "stageInstanceId": guid,
	"status": digits, "ms": regexp.MustCompile(`^\d+(\.\d+)?$`), "dequeueCount": digits, "pastDue": truth, "sent": digits, "cut": truth,

	"state": word, "from": word, "reason": word, "age": regexp.MustCompile(`^-?\d+(\.\d+)?(e\+\d+)?$`), // what a process learns of the storage's clock is right to a second
	"attempt": digits, "nextIn": digits, "decision": regexp.MustCompile(`^(resume|deny|cancel)$`),
	"stage": word, "requestType": word, "waits": truth, "sameBody": truth, "table": regexp.MustCompile(`^[a-z_0-9]+$`),
	"poisoned": digits, "unreadable": digits, "purged": digits, "count": digits, "endedBefore": moment, "since": digits, "call": regexp.MustCompile(`^(ServiceNow|Graph): [a-z ]+$`),
	"left": regexp.MustCompile(`^-?\d+(\.\d+)?(e\+\d+)?$`), "serviceNowCalls": digits, "serviceNowFailed": digits, "serviceNowMs": digits, "graphCalls": digits, "graphFailed": digits, "graphMs": digits,
	"for": digits, "after": digits, "messageId": guid, "insertedOn": moment, "schema": digits,

	"number": regexp.MustCompile(`^[A-Z]+\d+$`), "sysId": regexp.MustCompile(`^[0-9a-f]{32}$`), "port": digits, "pid": digits, "field": nil, "why": nil, "error": nil, "advice": nil,
}

var (
	guid   = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	digits = regexp.MustCompile(`^\d+(\.\d+)?(e\+\d+)?$`)
	truth  = regexp.MustCompile(`^(true|false)$`)
	moment = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z$`)
	word   = regexp.MustCompile(`^[a-zA-Z-]*$`)
)

// wrong says what is wrong with a line, "" when nothing is.
func (l *log) wrong(n line) string {
	if n.fields == nil {
		return "there is no JSON object"
	}
	for name, value := range n.fields {
		shape, known := fieldShapes[name]
		switch v := value.(type) {
		case string, float64, bool:
			if known && shape != nil && !shape.MatchString(fmt.Sprint(v)) {
				return fmt.Sprintf("the field %s holds %q", name, fmt.Sprint(v))
			}
		default:
			return "the field " + name + " is no string, number or truth value"
		}
		if !known {
			return "there is a field " + name + ", which nobody knows"
		}
	}
	need := []string{"time", "level", "message", "version"}
	switch event := n.str("event"); event {
	case "started", "ended", "stopping", "http":
	default: // everything else happens in an invocation
		need = append(need, "function", "invocationId")
		switch event {
		case "received", "duplicate", "moved", "ticketCreated", "answered", "nearest":
			need = append(need, "requestId", "stageInstanceId")
		case "invocation":
			need = append(need, "status", "ms")
			if n.str("function") == "advance" && n.fields["status"] == 200.0 {
				need = append(need, "why", "dequeueCount")
			}
			if n.str("function") == "callout" && n.fields["status"] == 202.0 {
				need = append(need, "requestId", "stageInstanceId")
			}
		}
	}
	for _, name := range need {
		if _, ok := n.fields[name]; !ok {
			return "the field " + name + " is missing"
		}
	}
	if (n.str("requestId") == "") != (n.str("stageInstanceId") == "") {
		return "only one of the two ids is there"
	}
	return l.leaks(n.text)
}

// leaks says what a text holds that no line may hold.
func (l *log) leaks(text string) string {
	for _, s := range l.forbidden {
		if strings.Contains(strings.ToLower(text), strings.ToLower(s)) {
			return fmt.Sprintf("%q stands, which is a secret or personal", s)
		}
	}
	for _, s := range []string{"eyJ", "Bearer ", "code=", "AccountKey"} {
		if strings.Contains(text, s) {
			return fmt.Sprintf("%q stands, as of a credential", s)
		}
	}
	return ""
}

func TestTheLogsJudgeFindsWhatMustNotBeLogged(t *testing.T) {
	t.Parallel()
	good := map[string]any{
		"time": "2026-11-24T05:02:17.123Z", "level": "info", "version": "v1", "function": "advance", "invocationId": "925687c6-6c1e-4e0b-9a3c-0d8f5f2b7a11",
		"event": "moved", "requestId": "7d1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a11", "stageInstanceId": "c0a6e2d4-52f7-4a9e-8f0e-1b6f9d3c2e77",
		"from": "open", "state": "closed", "message": "moved",
	}
	l := newLog("hunter2", "Marsh")
	judged := func(change func(map[string]any)) string {
		fields := map[string]any{}
		for k, v := range good {
			fields[k] = v
		}
		change(fields)
		text, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		l.entry(0, host.Entry{Time: time.Now(), Level: host.Information, Category: "Host.Function.Console", Text: string(text)})
		return l.wrong(l.lines[len(l.lines)-1])
	}
	if wrong := judged(func(map[string]any) {}); wrong != "" {
		t.Fatalf("a good line is not taken: %s", wrong)
	}
	for name, change := range map[string]func(map[string]any){
		"a secret":                 func(f map[string]any) { f["error"] = "password hunter2 refused" },
		"a name in another case":   func(f map[string]any) { f["error"] = "no user robin.MARSH@example.com" },
		"a token":                  func(f map[string]any) { f["error"] = "eyJhbGciOi" },
		"a function key":           func(f map[string]any) { f["message"] = "called /api/callout?code=1" },
		"a field nobody knows":     func(f map[string]any) { f["body"] = "x" },
		"an object":                func(f map[string]any) { f["error"] = map[string]any{"x": 1} },
		"an id in capitals":        func(f map[string]any) { f["requestId"] = "7D1F0A52-6C1E-4E0B-9A3C-0D8F5F2B7A11" },
		"a state that is text":     func(f map[string]any) { f["state"] = "closed by somebody" },
		"no time":                  func(f map[string]any) { delete(f, "time") },
		"no invocation":            func(f map[string]any) { delete(f, "invocationId") },
		"no stage instance id":     func(f map[string]any) { delete(f, "stageInstanceId") },
		"an event nobody knows":    func(f map[string]any) { f["event"] = "panic" },
		"an answer without status": func(f map[string]any) { f["event"] = "invocation" },
	} {
		if judged(change) == "" {
			t.Errorf("%s is not found", name)
		}
	}
	l.entry(0, host.Entry{Level: host.Information, Category: "Host.Function.Console", Text: "listening"})
	if l.wrong(l.lines[len(l.lines)-1]) == "" {
		t.Error("a line that is no JSON is not found")
	}
	if !slices.ContainsFunc([]string{"hunter2"}, func(s string) bool { return l.leaks("ticketbridge: "+s) != "" }) {
		t.Error("a secret on standard error is not found")
	}
}
