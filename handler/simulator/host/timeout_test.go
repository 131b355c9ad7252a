package host

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// timeoutCase is a case of timeouts.json.
type timeoutCase struct {
	Calls  map[string][3]any // for each: when it began, how long it took (ms), what the caller saw
	Events [][]any           // when, what, where, process
	Alive  *bool             `json:"host_alive"`
	Left   string
	Log    []string
}

const tenSeconds = `,"functionTimeout":"00:00:10"`

// replayTimeouts replays what follows when a function runs too long.
func replayTimeouts(t *testing.T, file string) {
	t.Helper()
	each(t, file, func(t *testing.T, name string, c timeoutCase) {
		bubble(t, "", func(t *testing.T) {
			if name == "queue" {
				replayQueueTimeout(t, c)
			} else {
				replayWebTimeout(t, c)
			}
		})
	})
}

// events are the recorded starts and calls since the first call, each with the number of its process.
func (c timeoutCase) events(t *testing.T) []happened {
	t.Helper()
	var all []happened
	processes := []any{}
	var zero time.Time
	for _, e := range c.Events {
		at, err := time.Parse("15:04:05.000", e[0].(string))
		if err != nil {
			t.Fatal(err)
		}
		if e[1] == "start" {
			processes = append(processes, e[3])
		}
		if e[1] == "req" && zero.IsZero() {
			zero = at
		}
		if e[1] == "req" || e[1] == "start" {
			what, _ := e[2].(string)
			all = append(all, happened{at: at.Sub(zero), what: what, process: slices.Index(processes, e[3]) + 1})
		}
	}
	return slices.DeleteFunc(all, func(h happened) bool { return h.what == "" && h.process == 1 })
}

// happened is the start of a process, or a call that it got.
type happened struct {
	at      time.Duration
	what    string
	process int
}

// happened are the starts, but for the first one, and calls of a script in order.
func (s *script) happened() []happened {
	calls, starts := s.calls(), s.started()
	var all []happened
	for _, d := range calls {
		all = append(all, happened{d.at.Sub(calls[0].at), d.head.target, d.process})
	}
	for i, at := range starts[1:] {
		all = append(all, happened{at.Sub(calls[0].at), "", i + 2})
	}
	slices.SortStableFunc(all, func(a, b happened) int { return int(a.at - b.at) })
	return all
}

func sameEvents(t *testing.T, got, want []happened, rough time.Duration) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("happened\n%v\nrecorded\n%v", got, want)
	}
	for i, w := range want {
		if g := got[i]; g.what != w.what || g.process != w.process || (g.at-w.at).Abs() > rough {
			t.Errorf("happened %v, recorded %v", g, w)
		}
	}
}

func replayWebTimeout(t *testing.T, c timeoutCase) {
	s := &script{used: map[int]int{}, rules: []rule{{Match: "slow", DelayMs: 60000}}}
	app := webApp("proxying", map[string]string{"host.json": hostFile(`,"enableProxyingHttpRequest":true`, tenSeconds)})
	st := begin(t, s, Config{App: app})
	defer st.Stop()
	<-st.Ready()
	paths := map[string]string{"slow": "slow", "fast-innocent-2s-inflight": "ok", "call-at-10.6": "ok2", "call-at-13.6": "ok3"}
	var all sync.WaitGroup
	for name, want := range c.Calls {
		all.Go(func() {
			time.Sleep(time.Duration(want[0].(float64) * float64(time.Second)))
			got := st.call("GET /api/console/"+paths[name]+" HTTP/1.1", []string{"Host: localhost:7071"}, "", time.Hour)
			if got.String() != want[2] {
				t.Errorf("%s: the caller got %s, recorded %s", name, got, want[2])
			}
			sameTime(t, name, got.took, milliseconds(want[1]))
		})
	}
	all.Wait()
	sameEvents(t, s.happened(), c.events(t), 350*time.Millisecond)
	select {
	case <-st.Done():
		t.Error("the host has ended")
	default:
		if !*c.Alive {
			t.Error("the host lives on")
		}
	}
	beginnings := []string{"Timeout value", "A function timeout has", "Process "}
	got, want := told(st.lines(), beginnings...), told(c.Log, beginnings...)
	for _, l := range [][]string{got, want} {
		for i := range l {
			l[i] = pidPattern.ReplaceAllString(l[i], "Process {pid}")
		}
	}
	sameBeginning(t, got, want)
}

func replayQueueTimeout(t *testing.T, c timeoutCase) {
	q := newLedger(t)
	s := &script{used: map[int]int{}, rules: []rule{{Match: "advance", DelayMs: 60000}}}
	st := begin(t, s, Config{App: queueApp(tenSeconds), Queues: q})
	<-st.Ready()
	time.Sleep(10 * time.Second) // recorded: the host was idle, and asked every two seconds
	if err := q.Put(t.Context(), "advance", "eyJrIjoxfQ==", 0); err != nil {
		t.Fatal(err)
	}
	want := c.events(t)
	time.Sleep(2*time.Second + want[len(want)-1].at)
	sameEvents(t, s.happened(), want, 3*time.Second)
	if n := len(q.texts("advance")); n != 1 || c.Left != "1" {
		t.Errorf("%d messages are left, recorded %s", n, c.Left)
	}
	// The record says that one message was poison as well: one of before, for there was but this one here.
	sameBeginning(t, told(st.lines(), "Timeout value", "Executed ", "A function timeout has"), told(c.Log, "Timeout value", "Executed ", "A function timeout has"))
	st.Crash()
	s.last.end(0)
}

func TestTwoFunctionsThatRunTooLongAtOnceEndTheHost(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		s := &script{used: map[int]int{}, rules: []rule{{Match: "console", DelayMs: 60000}}}
		app := webApp("proxying", map[string]string{"host.json": hostFile(`,"enableProxyingHttpRequest":true`, tenSeconds)})
		st := begin(t, s, Config{App: app})
		<-st.Ready()
		var both sync.WaitGroup
		for _, path := range []string{"a", "b"} {
			both.Go(func() {
				got := st.call("POST /api/console/"+path+" HTTP/1.1", []string{"Host: localhost:7071", "Content-Length: 2"}, "{}", time.Hour)
				if got.String() != "HTTP/1.1 500 Internal Server Error | " {
					t.Errorf("%s: %s", path, got)
				}
			})
		}
		both.Wait()
		if e := st.Wait(); !strings.Contains(e.Reason, "too long") {
			t.Errorf("the host ended: %v", e)
		}
	})
}

func TestAProxiedAnswerMayPauseForFourMinutes(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		s := &script{used: map[int]int{}, rules: []rule{{Match: "long", DelayMs: 239_000, Status: 200}, {Match: "longer", DelayMs: 241_000}}}
		s.rules[0], s.rules[1] = s.rules[1], s.rules[0]
		st := begin(t, s, Config{App: webApp("proxying", nil)})
		defer st.Stop()
		<-st.Ready()
		get := func(path string) seen {
			return st.call("GET /api/console/"+path+" HTTP/1.1", []string{"Host: localhost:7071"}, "", time.Hour)
		}
		if got := get("long"); got.line != "HTTP/1.1 200 OK" {
			t.Errorf("an answer after 239 s: %s", got)
		}
		if got := get("longer"); got.line != "HTTP/1.1 500 Internal Server Error" || got.took != 240*time.Second {
			t.Errorf("no answer for 241 s: %s after %v", got, got.took)
		}
		if n := len(s.calls()); n != 2 {
			t.Errorf("%d deliveries", n)
		}
	})
}

func TestAHandlerThatDoesNotListenIsKilledAndTheThirdTimeTheHostEnds(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		st := begin(t, &script{listens: func(int) time.Duration { return time.Hour }}, Config{App: webApp("proxying", nil)})
		start := time.Now()
		e := st.Wait()
		if took := time.Since(start); took < 102*time.Second || took > 103*time.Second || !strings.Contains(e.Reason, "three times") {
			t.Errorf("the host ended after %v: %v", took, e)
		}
		if n := len(st.script.started()); n != 3 {
			t.Errorf("%d processes", n)
		}
		select {
		case <-st.Ready():
			t.Error("the handler was ready")
		default:
		}
		synctest.Wait()
	})
}

func TestAnythingThatComesBackIsAnAnswerToTheProbe(t *testing.T) {
	for name, r := range map[string]rule{
		"500": {Status: 500}, "a dropped connection": {Action: "drop"}, "garbage": {Action: "garbage"}, "after 8 s": {Status: 204, DelayMs: 8000},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, "", func(t *testing.T) {
				r.Match = "PROBE"
				st := begin(t, &script{rules: []rule{r}}, Config{App: webApp("proxying", nil)})
				defer st.Stop()
				start := time.Now()
				got := st.call("GET /api/console/x HTTP/1.1", []string{"Host: localhost:7071"}, "", time.Hour)
				if got.line != "HTTP/1.1 200 OK" {
					t.Errorf("a call meanwhile: %s", got)
				}
				if took := time.Since(start); took < time.Duration(r.DelayMs)*time.Millisecond || took > time.Duration(r.DelayMs+100)*time.Millisecond {
					t.Errorf("it took %v", took)
				}
				time.Sleep(time.Hour)
				if n := st.script.probes(); n != 1 {
					t.Errorf("%d probes", n)
				}
				if head := st.script.got[0].head; len(head.fields) != 1 || head.fields[0] != (field{"Host", "127.0.0.1:4321"}) {
					t.Errorf("the probe has the headers %v", head.fields)
				}
			})
		})
	}
}
