package host

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// layoutCase is a case of layout-mistakes.json.
type layoutCase struct {
	Found   []string
	Log     []string
	Callout string
	Console string
	Starts  int
	Stop    [2]any
}

// What is wrong in each case, as its name says: files in place of those of the recordings' app; "" takes one away.
var mistakes = map[string]map[string]string{
	"nested":     {"ticketclosed/function.json": "", "more/ticketclosed/function.json": closedJSON},
	"rootfn":     {"function.json": calloutJSON},
	"badjson":    {"callout/function.json": "{\"bindings\":\n"},
	"nobind":     {"callout/function.json": `{"bindings":[]}`},
	"badtype":    {"callout/function.json": strings.Replace(calloutJSON, "httpTrigger", "nopeTrigger", 1)},
	"noout":      {"callout/function.json": `{"bindings":[{"type":"httpTrigger","direction":"in","name":"req","authLevel":"anonymous","methods":["post"],"route":"callout"}]}`},
	"duproute":   {"ticketclosed/function.json": strings.Replace(closedJSON, "ticket-closed", "callout", 1)},
	"dupcase":    {"Callout/function.json": calloutJSON},
	"badname":    {"1 bad.name/function.json": consoleJSON},
	"auth-typo":  {"callout/function.json": strings.Replace(calloutJSON, `"name"`, `"authLevel":"functoin","name"`, 1)},
	"noauth":     {},
	"noexec":     {},
	"wrongpath":  {},
	"noshebang":  {},
	"crlf":       {},
	"badinterp":  {},
	"nodesc":     {"host.json": `{"version":"2.0","customHandler":{"enableProxyingHttpRequest":true}}`},
	"nover":      {"host.json": strings.Replace(hostFile(`,"enableProxyingHttpRequest":true`, ""), `"version":"2.0",`, "", 1)},
	"badhost":    {"host.json": `{"version":"2.0",`},
	"nofn":       {"callout/function.json": "", "console/function.json": "", "ticketclosed/function.json": ""},
	"unknownkey": {"host.json": hostFile(`,"enableProxyingHttpRequest":true,"nope":1`, `,"nope":{"a":1}`), "callout/function.json": strings.Replace(calloutJSON, `{"bind`, `{"nope":1,"bind`, 1)},
	"both":       {"host.json": hostFile(`,"enableForwardingHttpRequest":true,"enableProxyingHttpRequest":true`, "")},
}

// What starting the executable says in the cases where it cannot be started; process_test.go tries that with real ones.
var startErrors = map[string]error{
	"noexec": syscall.EACCES, "wrongpath": syscall.ENOENT, "noshebang": syscall.ENOEXEC, "crlf": syscall.ENOENT, "badinterp": syscall.ENOENT,
}

// unstartable is a Worker that can start nothing.
type unstartable struct{ err error }

func (u unstartable) Start(Launch) (Process, error) { return nil, u.err }

// replayLayouts replays how a wrong folder is taken.
func replayLayouts(t *testing.T, file string) {
	t.Helper()
	each(t, file, func(t *testing.T, name string, c layoutCase) {
		bubble(t, "", func(t *testing.T) { replayLayout(t, name, c) })
	})
}

func replayLayout(t *testing.T, name string, c layoutCase) {
	changes, ok := mistakes[name]
	if !ok {
		t.Fatal("no files for this case")
	}
	app := webApp("proxying", changes)
	for file, text := range changes {
		if text == "" {
			delete(app, file)
		}
	}
	s := &script{}
	config := Config{App: app}
	if err, ok := startErrors[name]; ok {
		config.Worker = unstartable{fmt.Errorf("start handler.sh: %w", err)}
	}
	st := begin(t, s, config)

	found := []string{}
	for _, f := range slices.Sorted(maps.Keys(st.Functions())) {
		if st.Functions()[f] == nil {
			found = append(found, f)
		}
	}
	if !slices.Equal(found, c.Found) {
		t.Errorf("found %q, recorded %q", found, c.Found)
	}
	callout := st.call("POST /api/callout HTTP/1.1", []string{"Host: localhost:7071", "Content-Length: 2"}, "{}", 8*time.Second)
	if callout.String() != c.Callout {
		t.Errorf("callout: %q, recorded %q", callout, c.Callout)
	}
	console := st.call("GET /api/console/x HTTP/1.1", []string{"Host: localhost:7071"}, "", 8*time.Second)
	if strings.Contains(c.Console, "TimeoutError") {
		if console.failed != "timed out" {
			t.Errorf("console: %q, recorded that it hangs", console)
		}
	} else if console.String() != c.Console {
		t.Errorf("console: %q, recorded %q", console, c.Console)
	}
	if n := len(s.started()); n != c.Starts {
		t.Errorf("%d processes, recorded %d", n, c.Starts)
	}
	sameStartup(t, st.lines(), c.Log)

	start := time.Now()
	e := st.Stop()
	took := time.Since(start).Seconds()
	switch code := c.Stop[0].(type) {
	case string: // the recorder did not wait any longer
		if took < c.Stop[1].(float64) {
			t.Errorf("the host needed %v s to stop, recorded more than %v", took, c.Stop[1])
		}
	case float64:
		if e.Code != int(code) || took > c.Stop[1].(float64) {
			t.Errorf("the host ended with %d after %v s, recorded %v", e.Code, took, c.Stop)
		}
	}
}

// sameStartup compares what the host says of functions and the handler's start. Errors of other makers' parsers have other words.
func sameStartup(t *testing.T, got, want []string) {
	t.Helper()
	beginnings := []string{"0 functions found", "Mapped function route", "The '", "Failed to start Worker Channel"}
	pick := func(log []string) []string {
		var all []string
		for _, l := range log {
			if strings.Contains(l, "'callout' function is in error: Unexpected end of content") || strings.Contains(l, "unexpected end of JSON") {
				l, _, _ = strings.Cut(l, ": ")
			}
			if strings.HasPrefix(l, "Failed to start") {
				l, _, _ = strings.Cut(l, " Process fileName")
			}
			all = append(all, l)
		}
		all = append(told(all, beginnings...), slices.DeleteFunc(slices.Clone(all), func(l string) bool { return !strings.HasSuffix(l, "functions loaded") })...)
		slices.Sort(all)
		return slices.Compact(all)
	}
	if len(want) > 0 && strings.Contains(strings.Join(want, "\n"), "HostConfigurationException") || slices.ContainsFunc(want, func(l string) bool { return strings.Contains(l, "WorkerConfig for runtime") }) || len(want) == 0 {
		return // the host does not run: that is seen in its answers
	}
	if g, w := pick(got), pick(want); !slices.Equal(g, w) {
		t.Errorf("the log says\n%s\nrecorded\n%s", strings.Join(g, "\n"), strings.Join(w, "\n"))
	}
}

func TestOneFunctionInErrorLeavesTheOthersAlone(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		st := begin(t, &script{}, Config{App: webApp("proxying", map[string]string{"sweep/function.json": sweepJSON, "advance/function.json": advanceJSON})})
		defer st.Stop()
		for name, err := range st.Functions() {
			if (err != nil) != (name == "sweep") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := st.Functions()["sweep"]; err == nil || !strings.Contains(err.Error(), "'%SWEEP_SCHEDULE%' does not resolve to a value.") {
			t.Errorf("sweep: %v", err)
		}
	})
}

func TestQueuesNeedTheExtensionBundle(t *testing.T) {
	t.Parallel()
	app := appOf(map[string]string{
		"host.json":             `{"version":"2.0","customHandler":{"description":{"defaultExecutablePath":"handler"}}}`,
		"advance/function.json": advanceJSON,
	})
	a := readApp(app, nil)
	if len(a.functions) != 1 || a.functions[0].err == nil || !strings.Contains(a.functions[0].err.Error(), "queueTrigger") {
		t.Errorf("%v", a.functions[0].err)
	}
	if errors.As(a.functions[0].err, new(notLoadedError)) {
		t.Error("the function is not counted")
	}
}
