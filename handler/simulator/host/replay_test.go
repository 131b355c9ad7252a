package host

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// The recordings of testdata/recorded were made on host 4.1037; each case of each file is replayed here.

// replays are the files, and what replays them.
var replays = map[string]func(t *testing.T, file string){
	"delivery-counts.json": replayCounts,
	"exits.json":           replayExits,
	"http-envelope.json":   replayCalls,
	"http-forwarding.json": replayCalls,
	"http-proxying.json":   replayCalls,
	"keys.json":            replayKeys,
	"layout-mistakes.json": replayLayouts,
	"output.json":          replayOutput,
	"queue-answers.json":   replayAnswers,
	"queue-messages.json":  replayMessages,
	"shutdown.json":        replayStops,
	"timeouts.json":        replayTimeouts,
	"timer.json":           replayTimers,
}

// replayed are the cases that were taken up: "file/case".
var replayed sync.Map

func TestTheHostBehavesAsRecordedInEveryCase(t *testing.T) {
	files, err := os.ReadDir(filepath.Join("testdata", "recorded"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(replays) {
		t.Errorf("%d files of recordings, and %d are replayed", len(files), len(replays))
	}
	for _, f := range files {
		replay, ok := replays[f.Name()]
		if !ok {
			t.Errorf("%s is not replayed", f.Name())
			continue
		}
		t.Run(f.Name(), func(t *testing.T) {
			replay(t, f.Name())
			for _, name := range caseNames(t, f.Name()) {
				if _, ok := replayed.Load(f.Name() + "/" + name); !ok {
					t.Errorf("%s is not replayed", name)
				}
			}
		})
	}
}

// caseNames are the names of all cases of a file.
func caseNames(t *testing.T, file string) []string {
	t.Helper()
	var names []string
	for _, e := range ordered(t, file) {
		if e.name != "cases" {
			names = append(names, e.name)
			continue
		}
		names = nil // what is beside the cases is about the recording
		for _, c := range recording[struct{ Cases []httpCase }](t, file).Cases {
			names = append(names, c.Case)
		}
		break
	}
	if len(names) == 0 {
		t.Fatal("no cases")
	}
	return names
}

// recording reads a file of recordings.
func recording[T any](t *testing.T, file string) T {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "recorded", file))
	if err != nil {
		t.Fatal(err)
	}
	var v T
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(file, err)
	}
	return v
}

// entry is a member of a recording that is an object.
type entry struct {
	name string
	raw  json.RawMessage
}

// ordered reads a recording that is an object of cases, in their order. What is no object itself is no case.
func ordered(t *testing.T, file string) []entry {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(recording[json.RawMessage](t, file)))
	if _, err := d.Token(); err != nil {
		t.Fatal(err)
	}
	var all []entry
	for d.More() {
		name, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		e := entry{name: name.(string)}
		if err := d.Decode(&e.raw); err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// each runs a test for each case of a recording.
func each[T any](t *testing.T, file string, f func(t *testing.T, name string, c T)) {
	t.Helper()
	for _, e := range ordered(t, file) {
		var c T
		if err := json.Unmarshal(e.raw, &c); err != nil {
			t.Fatal(file, e.name, err)
		}
		replayed.Store(file+"/"+e.name, true)
		t.Run(e.name, func(t *testing.T) { f(t, e.name, c) })
	}
}

var (
	guidPattern = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	portPattern = regexp.MustCompile(`127\.0\.0\.1:\d+`)
)

// plain takes ids, ports and keys out of what was sent.
func plain(s string, keys ...string) string {
	for _, k := range keys {
		if k != "" {
			s = strings.ReplaceAll(s, k, "{key}")
		}
	}
	return guidPattern.ReplaceAllString(portPattern.ReplaceAllString(s, "127.0.0.1:{port}"), "{id}")
}

// sorted is a list of header lines without their order, which means nothing.
func sorted(lines []string, keys ...string) []string {
	out := []string{}
	for _, l := range lines {
		out = append(out, plain(l, keys...))
	}
	slices.Sort(out)
	return out
}

// headLines are a request's header lines.
func headLines(f fields) []string {
	var all []string
	for _, h := range f {
		all = append(all, h.name+": "+h.value)
	}
	return all
}

// sameJSON compares two bodies as JSON, but for what is different in every call.
func sameJSON(t *testing.T, what, got, want string, keys ...string) {
	t.Helper()
	norm := func(s string) string {
		var v any
		if err := json.Unmarshal([]byte(s), &v); err != nil {
			t.Fatalf("%s: %v in %s", what, err, s)
		}
		if o, ok := v.(map[string]any); ok {
			if m, ok := o["Metadata"].(map[string]any); ok {
				if s, ok := m["sys"].(map[string]any); ok {
					if _, err := time.Parse(time.RFC3339Nano, s["UtcNow"].(string)); err != nil {
						t.Errorf("%s: UtcNow is %v", what, s["UtcNow"])
					}
					s["UtcNow"] = "{time}"
				}
				if _, ok := m["PopReceipt"]; ok {
					m["PopReceipt"] = "{receipt}"
				}
				if s, ok := m["NextVisibleTime"].(string); ok && !strings.HasPrefix(s, "9999") {
					m["NextVisibleTime"] = "{time}"
				}
			}
		}
		b, err := json.MarshalIndent(v, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		return plain(string(b), keys...)
	}
	if g, w := norm(got), norm(want); g != w {
		t.Errorf("%s:\n got %s\nwant %s", what, g, w)
	}
}

// httpCase is a case of http-*.json.
type httpCase struct {
	Case    string
	Request struct {
		Line    string
		Headers []string
		Body    string
	}
	Answers    *rule `json:"handler_answers"`
	HandlerGot []struct {
		Method  *string
		Target  string
		Headers []string
		Chunked bool
		Body    string
	} `json:"handler_got"`
	Deliveries int
	CallerGot  struct {
		Line    string
		Headers []string
		Body    string
		Raw     string
	} `json:"caller_got"`
	Ms int
}

// chunksPattern finds the chunks of a recorded request, as Python writes them.
var chunksPattern = regexp.MustCompile(`'((?:[^'\\]|\\.)*)'`)

// sentBody is the body that the recorded caller sent.
func (c httpCase) sentBody(t *testing.T) string {
	b := c.Request.Body
	if list, ok := strings.CutPrefix(b, "+CHUNKS:"); ok {
		var all strings.Builder
		for _, m := range chunksPattern.FindAllStringSubmatch(list, -1) {
			s, err := strconv.Unquote(`"` + strings.ReplaceAll(m[1], `"`, `\"`) + `"`)
			if err != nil {
				t.Fatal(err)
			}
			all.WriteString(s)
		}
		return all.String()
	}
	return full(b, c.Request.Headers)
}

// full is a body that the recording cut short: all of it is the same character.
func full(b string, headers []string) string {
	start, cut := strings.CutSuffix(b, "...")
	if !cut {
		return b
	}
	for _, h := range headers {
		if v, ok := strings.CutPrefix(h, "Content-Length: "); ok {
			n, _ := strconv.Atoi(v)
			return strings.Repeat(start[:1], n)
		}
	}
	return b
}

// replayCalls replays HTTP calls in the mode that the file's name says.
func replayCalls(t *testing.T, file string) {
	t.Helper()
	mode := strings.TrimSuffix(strings.TrimPrefix(file, "http-"), ".json")
	for _, c := range recording[struct{ Cases []httpCase }](t, file).Cases {
		replayed.Store(file+"/"+c.Case, true)
		t.Run(c.Case, func(t *testing.T) {
			t.Parallel()
			bubble(t, "", func(t *testing.T) { replayHTTP(t, mode, c) })
		})
	}
}

func replayHTTP(t *testing.T, mode string, c httpCase) {
	st := begin(t, &script{}, Config{App: webApp(mode, nil)})
	defer st.Stop()
	<-st.Ready()
	if c.Answers != nil {
		st.script.play(*c.Answers)
	}
	key := st.Keys().Default
	with := func(s string) string { return strings.ReplaceAll(s, "{key}", key) }
	headers := []string{}
	for _, h := range c.Request.Headers {
		headers = append(headers, with(h))
	}
	patience := time.Hour
	if c.Ms > 10000 || strings.Contains(c.CallerGot.Body, "TimeoutError") { // the recording caller gave up then
		patience = time.Duration(c.Ms) * time.Millisecond
	}
	got := st.call(with(c.Request.Line), headers, c.sentBody(t), patience)

	calls := st.script.calls()
	if len(calls) != c.Deliveries {
		t.Errorf("delivered %d times, recorded %d times", len(calls), c.Deliveries)
	}
	if st.script.broken > 0 {
		t.Error("the handler got a call that it could not read")
	}
	i := 0
	for _, want := range c.HandlerGot {
		if want.Method == nil { // the recording handler saw a connection close
			continue
		}
		if i == len(calls) {
			t.Fatalf("recorded delivery %d did not come", i)
		}
		head := calls[i].head
		if head.method != *want.Method || plain(head.target, key) != want.Target || head.framing.chunked != want.Chunked {
			t.Errorf("the handler got %s %s chunked %v, recorded %s %s chunked %v", head.method, plain(head.target, key), head.framing.chunked, *want.Method, want.Target, want.Chunked)
		}
		if g, w := sorted(headLines(head.fields), key), sorted(want.Headers, key); !slices.Equal(g, w) {
			t.Errorf("the handler got the headers\n%s\nrecorded\n%s", strings.Join(g, "\n"), strings.Join(w, "\n"))
		}
		if strings.HasPrefix(want.Body, `{"Data"`) {
			sameJSON(t, "the handler's body", calls[i].body, want.Body, key)
		} else if w := full(want.Body, want.Headers); calls[i].body != w {
			t.Errorf("the handler got the body %q, recorded %q", calls[i].body, w)
		}
		i++
	}

	wantBody, exception, failed := strings.Cut(c.CallerGot.Body+c.CallerGot.Raw, "<EXC ")
	if got.line != c.CallerGot.Line || got.body != wantBody || !slices.Equal(sorted(got.headers), sorted(c.CallerGot.Headers)) {
		t.Errorf("the caller got\n%s\n%s\n%q\nrecorded\n%s\n%s\n%q", got.line, sorted(got.headers), got.body, c.CallerGot.Line, sorted(c.CallerGot.Headers), wantBody)
	}
	wantFailed := ""
	switch {
	case strings.HasPrefix(exception, "TimeoutError"):
		wantFailed = "timed out"
	case failed:
		wantFailed = "broken off"
	}
	if got.failed != wantFailed {
		t.Errorf("the call ended with %q, recorded %q", got.failed, wantFailed)
	}
	sameTime(t, "the call", got.took, time.Duration(c.Ms)*time.Millisecond)
}

// milliseconds is a recorded duration.
func milliseconds(v any) time.Duration { return time.Duration(v.(float64) * 1e6) }

// sameTime compares a time with the recorded one, which holds what the recorded machine needed as well: half a second for its first call.
func sameTime(t *testing.T, what string, got, want time.Duration) {
	t.Helper()
	if got > want+20*time.Millisecond || want > time.Second && got < want*9/10-500*time.Millisecond {
		t.Errorf("%s took %v, recorded %v", what, got, want)
	}
}
