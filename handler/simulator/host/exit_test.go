package host

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// exitCase is a case of exits.json.
type exitCase struct {
	Events     [][]json.RawMessage
	RC         *int `json:"host_rc_before_stop"`
	Stop       [2]float64
	Handler    [][]any
	Deliveries map[string]int
	Log        []string
}

// parse reads a recorded value.
func parse[T any](t *testing.T, raw json.RawMessage) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return v
}

// replayExits replays what follows when the handler ends.
func replayExits(t *testing.T, file string) {
	t.Helper()
	codes := map[string]int{"exit0": 0, "exit1x3": 1, "exit200": 200, "kill9": killed}
	each(t, file, func(t *testing.T, name string, c exitCase) {
		code, ok := codes[name]
		if !ok {
			t.Fatal("no exit code for this case")
		}
		bubble(t, "", func(t *testing.T) { replayExit(t, c, code) })
	})
}

func replayExit(t *testing.T, c exitCase, code int) {
	s := &script{used: map[int]int{}, rules: []rule{{Match: "die", Action: "exit", Code: code}, {Match: "after", Status: 200, Body: `{"ok":1}`}}}
	s.listens = func(process int) time.Duration {
		if process == 1 {
			return 10 * time.Millisecond
		}
		return c.needed(t, process)
	}
	st := begin(t, s, Config{App: webApp("proxying", nil)})
	get := func(path string) seen {
		return st.call("GET /api/console/"+path+" HTTP/1.1", []string{"Host: localhost:7071"}, "", time.Hour)
	}
	get("warm")
	time.Sleep(time.Second)
	var first float64
	began := time.Now()
	for i, e := range c.Events {
		what := parse[string](t, e[0])
		switch {
		case strings.HasPrefix(what, "trigger"):
			at := parse[float64](t, e[1])
			if i == 0 {
				first = at
			}
			time.Sleep(time.Until(began.Add(time.Duration((at - first) * float64(time.Second)))))
			got := get("die")
			if want := parse[string](t, e[3]); got.String() != want {
				t.Errorf("%s: the caller got %s, recorded %s", what, got, want)
			}
			sameTime(t, what, got.took, time.Duration(parse[int](t, e[2]))*time.Millisecond)
		case what == "calls after":
			callAfter(t, st, parse[map[string]json.RawMessage](t, e[1]))
		case what == "host alive":
			alive := true
			select {
			case <-st.Done():
				alive = false
			default:
			}
			if alive != parse[bool](t, e[1]) {
				t.Errorf("the host is alive: %v, recorded %v", alive, !alive)
			}
			if !alive && st.Wait().Code != parse[int](t, e[2]) {
				t.Errorf("the host ended with %v", st.Wait())
			}
		default:
			t.Fatal("no such event: ", what)
		}
	}
	stopAsRecorded(t, st, c.Stop)
	starts := 0
	for _, e := range c.Handler {
		if e[1] == "start" {
			starts++
		}
	}
	if got := len(s.started()); got < starts || len(c.Handler) < 12 && got != starts { // the record has 12 lines at most
		t.Errorf("%d processes, recorded %d", got, starts)
	}

	got := map[string]int{}
	s.mu.Lock()
	for _, d := range s.got {
		got[d.head.method+" "+d.head.target]++
	}
	s.mu.Unlock()
	if code == killed {
		// One more probe was recorded than there were processes: the second one was asked in the very millisecond in which it was killed, and its
		// question was put again to the third.
		c.Deliveries["GET /"] = len(s.started())
	}
	if !maps.Equal(got, c.Deliveries) {
		t.Errorf("delivered\n%v\nrecorded\n%v", got, c.Deliveries)
	}
	// The order of the attempts among the other lines was different from case to case.
	for _, beginning := range []string{"Failed to proxy", "Process ", "Worker process started"} {
		lines := func(log []string) []string {
			var all []string
			for _, l := range told(log, beginning) {
				all = append(all, pidPattern.ReplaceAllString(l, "Process {pid}"))
			}
			return all
		}
		g, w := lines(st.lines()), lines(c.Log)
		if beginning == "Failed to proxy" && len(c.Events) > 0 { // calls at the same time mix theirs: the first call's are compared
			w = w[:min(len(w), proxyAttempts-1)]
		}
		sameBeginning(t, g, w)
	}
}

// needed is how long after the host's pause a recorded process listened: it waited for a second.
func (c exitCase) needed(t *testing.T, process int) time.Duration {
	var exits, listening []time.Time
	for _, e := range c.Handler {
		at, err := time.Parse("15:04:05.000", e[0].(string))
		if err != nil {
			t.Fatal(err)
		}
		switch e[1] {
		case "exit":
			exits = append(exits, at)
		case "listening":
			listening = append(listening, at)
		}
	}
	if len(exits) < process-1 || len(listening) < process {
		return 1010 * time.Millisecond // the record was cut, or the process could not note its end
	}
	return listening[process-1].Sub(exits[process-2]) - restartAfter
}

var pidPattern = regexp.MustCompile(`^Process \d+`)

// callAfter makes the recorded calls, each so long from now, and compares what they saw.
func callAfter(t *testing.T, st *stage, calls map[string]json.RawMessage) {
	t.Helper()
	var all sync.WaitGroup
	for name, raw := range calls {
		method, after, _ := strings.Cut(name, "+")
		pause, err := time.ParseDuration(after)
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			time.Sleep(pause)
			headers := []string{"Host: localhost:7071"}
			if method == "POST" {
				headers = append(headers, "Content-Length: 0")
			}
			got := st.call(fmt.Sprintf("%s /api/console/after-%s HTTP/1.1", method, strings.TrimSuffix(after, "s")), headers, "", time.Hour)
			if want, refused := refusal(raw); refused {
				if !strings.Contains(want, got.failed) || got.failed == "" {
					t.Errorf("%s: %s, recorded %s", name, got, want)
				}
				return
			}
			want := parse[[2]any](t, raw)
			if got.String() != want[1] {
				t.Errorf("%s: the caller got %s, recorded %s", name, got, want[1])
			}
			if ms := want[0].(float64); (float64(got.took.Milliseconds())-ms) > 60 || ms > 100 && float64(got.took.Milliseconds()) < ms/2-130 {
				t.Errorf("%s took %v, recorded %v ms", name, got.took, ms)
			}
		})
	}
	all.Wait()
}

// refusal is the recorded error of a call, if it was one.
func refusal(raw json.RawMessage) (string, bool) {
	s, err := strconv.Unquote(string(raw))
	return s, err == nil
}

// shutdownCase is a case of shutdown.json.
type shutdownCase struct {
	RC          int      `json:"host_rc"`
	Exit        float64  `json:"host_exit_after_s"`
	HandlerGone *float64 `json:"handler_gone_after_s"`
	Calls       map[string]json.RawMessage
	Handler     [][]any `json:"handler_events"`
	Left        string
	Visible     string `json:"peek_visible"`
	Executed    []string
}

// The cases' names say what was in flight; here is for how long, and how long after it had begun the host got SIGTERM.
var shutdowns = map[string]struct {
	mode   string // or queue
	busyMs int
	after  time.Duration
}{
	"idle-like":       {"proxying", 300, 718 * time.Millisecond},
	"inflight-5s":     {"proxying", 5000, 567 * time.Millisecond},
	"inflight-45s":    {"proxying", 45000, 687 * time.Millisecond},
	"fwd-inflight-5s": {"forwarding", 5000, 781 * time.Millisecond},
	"q-5s":            {"queue", 5000, 500 * time.Millisecond},
	"q-45s":           {"queue", 45000, 500 * time.Millisecond},
}

// replayStops replays how the host stops.
func replayStops(t *testing.T, file string) {
	t.Helper()
	each(t, file, func(t *testing.T, name string, c shutdownCase) {
		setup, ok := shutdowns[name]
		if !ok {
			t.Fatal("no setup for this case")
		}
		bubble(t, "", func(t *testing.T) {
			busy := wellDone
			busy.DelayMs, busy.Match = setup.busyMs, "inflight"
			if setup.mode == "queue" {
				busy.Match = "advance"
				replayQueueStop(t, c, busy, setup.after)
				return
			}
			busy.Body = `{"slow":1}`
			replayWebStop(t, setup.mode, c, busy, setup.after)
		})
	})
}

func replayWebStop(t *testing.T, mode string, c shutdownCase, busy rule, after time.Duration) {
	st := begin(t, &script{used: map[int]int{}, rules: []rule{busy}}, Config{App: webApp(mode, nil)})
	<-st.Ready()
	get := func(path string) seen {
		return st.call("GET /api/console/"+path+" HTTP/1.1", []string{"Host: localhost:7071"}, "", time.Hour)
	}
	inflight := make(chan seen, 1)
	go func() { inflight <- get("inflight") }()
	time.Sleep(after)
	stopped := make(chan time.Duration, 1)
	start := time.Now()
	go func() {
		if e := st.Stop(); e.Code != c.RC {
			t.Errorf("the host ended with %d, recorded %d", e.Code, c.RC)
		}
		stopped <- time.Since(start)
	}()
	synctest.Wait()
	if want, _ := refusal(c.Calls["after-term"]); !strings.Contains(want, get("after-term").failed) {
		t.Errorf("a call after SIGTERM: %s, recorded %s", get("after-term"), want)
	}
	sameSeconds(t, "the host's end", <-stopped, c.Exit)
	if gone := st.script.endedAfter(start); gone == nil {
		t.Error("the handler lives on")
	} else {
		sameSeconds(t, "the handler's end", *gone, *c.HandlerGone)
	}
	want := parse[[2]any](t, c.Calls["inflight"])
	got := <-inflight
	if broken := strings.Contains(want[1].(string), "ConnectionResetError"); broken != (got.failed == "broken off") || !broken && got.String() != want[1] {
		t.Errorf("the call in flight: %s, recorded %s", got, want[1])
	}
	sameTime(t, "the call in flight", got.took, milliseconds(want[0]))
}

func replayQueueStop(t *testing.T, c shutdownCase, busy rule, after time.Duration) {
	q := newLedger(t)
	st := begin(t, &script{used: map[int]int{}, rules: []rule{busy}}, Config{App: queueApp(""), Queues: q})
	<-st.Ready()
	if err := q.Put(t.Context(), "advance", "eyJrIjoxfQ==", 0); err != nil {
		t.Fatal(err)
	}
	for len(st.script.calls()) == 0 {
		time.Sleep(100 * time.Millisecond)
	}
	time.Sleep(after)
	start := time.Now()
	if e := st.Stop(); e.Code != c.RC {
		t.Errorf("the host ended with %d, recorded %d", e.Code, c.RC)
	}
	sameSeconds(t, "the host's end", time.Since(start), c.Exit)
	gone := st.script.endedAfter(start)
	if (gone == nil) != (c.HandlerGone == nil) {
		t.Errorf("the handler lives on: %v, recorded %v", gone == nil, c.HandlerGone == nil)
	}
	if gone != nil {
		sameSeconds(t, "the handler's end", *gone, *c.HandlerGone)
	}
	if n := len(q.texts("advance")); strconv.Itoa(n) != c.Left {
		t.Errorf("%d messages are left, recorded %s", n, c.Left)
	}
	visible, err := q.Get(t.Context(), "advance", 32, 0)
	if err != nil || (len(visible) == 0) != (c.Visible == "[]") {
		t.Errorf("%d messages can be seen (%v), recorded %s", len(visible), err, c.Visible)
	}
	executed := told(st.lines(), "Executed ")
	if !slices.Equal(executed, told(c.Executed, "Executed ")) {
		t.Errorf("the log says %q, recorded %q", executed, c.Executed)
	}
	for _, e := range c.Handler { // the orphan sees the connection close
		if e[1] != "resp-closed-early" {
			continue
		}
		synctest.Wait()
		st.script.mu.Lock()
		if len(st.script.gone) != 1 {
			t.Errorf("the handler saw %d connections close, recorded one", len(st.script.gone))
		}
		st.script.mu.Unlock()
		st.script.last.end(0) // the test ends the orphan
	}
}

// endedAfter is how long after a moment the last process ended; nil when it lives on.
func (s *script) endedAfter(start time.Time) *time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last.endedAt.IsZero() {
		return nil
	}
	d := s.last.endedAt.Sub(start)
	return &d
}

// sameSeconds compares a time with a recorded one, which is about half a second rough.
func sameSeconds(t *testing.T, what string, got time.Duration, want float64) {
	t.Helper()
	if s := got.Seconds(); s > want || s < want-0.5 {
		t.Errorf("%s came after %v, recorded %v s", what, got, want)
	}
}
