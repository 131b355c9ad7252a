package host

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// timerCase is a case of timer.json.
type timerCase struct {
	Requests []struct {
		T       time.Time
		Method  string
		URL     string
		Headers []string
		Chunked bool
		Body    string
	}
	Log    []string
	Status string `json:"status_blob"`
	Stop   [2]float64
}

// What the log of the timer recordings does not say: how the function was set up, when the host was stopped, and what the handler answered.
var timerSetups = map[string]struct {
	schedule  string
	onStartup bool
	rules     []rule
	stopAt    string // when it was stopped, where something was running then
}{
	"every5s":           {schedule: "0,5,10,15,20,25,30,35,40,45,50,55 * * * * *"},
	"past-due-restart":  {schedule: "0,5,10,15,20,25,30,35,40,45,50,55 * * * * *"},
	"runOnStartup":      {schedule: "0 0 3 * * *", onStartup: true},
	"fail500":           {schedule: "0,5,10,15,20,25,30,35,40,45,50,55 * * * * *", rules: []rule{{Match: "sweep", Status: 500}}},
	"null-answer":       {schedule: "0,5,10,15,20,25,30,35,40,45,50,55 * * * * *", rules: []rule{{Match: "sweep", Status: 200, Body: "null", Headers: wellDone.Headers}}},
	"slow8s-schedule5s": {schedule: "0,5,10,15,20,25,30,35,40,45,50,55 * * * * *", rules: []rule{slowly(8000)}, stopAt: "2026-11-24T05:35:39.95Z"},
	"empty-schedule":    {},
	"bad-schedule":      {schedule: "every day"},
	"5-field-cron":      {schedule: "0,5,10,15,20,25,30,35,40,45,50,55 * * * *"},
	"missing-schedule":  {schedule: "%SWEEP_SCHEDULE%"},
}

func slowly(ms int) rule {
	r := wellDone
	r.Match, r.DelayMs = "sweep", ms
	return r
}

// clockPattern finds the time at the beginning of a line of the recorded log.
var clockPattern = regexp.MustCompile(`^(\d\d:\d\d:\d\d\.\d{3}) `)

// beginning is about when the recorded host was ready.
func (c timerCase) beginning(t *testing.T) string {
	t.Helper()
	for _, l := range c.Log {
		if m := clockPattern.FindStringSubmatch(l); m != nil {
			return "2026-11-24T" + m[1] + "Z"
		}
	}
	t.Fatal("no line of the log has a time")
	return ""
}

var timerLines = []string{"The 'sweep' ", "Executing ", "Executed ", "Function 'sweep' is "}

var firedPattern = regexp.MustCompile(`Timer fired at [^']*`)

func timerTold(log []string) []string {
	var all []string
	for _, l := range told(log, timerLines...) {
		if l != "The 'sweep' function is in error: " {
			all = append(all, firedPattern.ReplaceAllString(l, "Timer fired at {time}"))
		}
	}
	return all
}

// replayTimers replays when timers run, and with what.
func replayTimers(t *testing.T, file string) {
	t.Helper()
	each(t, file, func(t *testing.T, name string, c timerCase) {
		bubble(t, c.beginning(t), func(t *testing.T) { replayTimer(t, name, c) })
	})
}

func replayTimer(t *testing.T, name string, c timerCase) {
	setup, ok := timerSetups[name]
	if !ok {
		t.Fatal("no setup for this case")
	}
	schedule := setup.schedule
	binding := map[string]any{"type": "timerTrigger", "direction": "in", "name": "timer", "schedule": schedule}
	if setup.onStartup {
		binding["runOnStartup"] = true
	}
	b, err := json.Marshal(map[string]any{"bindings": []any{binding}})
	if err != nil {
		t.Fatal(err)
	}
	app := webApp("proxying", map[string]string{"sweep/function.json": string(b)})
	state, start := &State{}, time.Now()
	st := begin(t, &script{used: map[int]int{}, rules: setup.rules}, Config{App: app, State: state})
	defer st.Stop()
	<-st.Ready()

	for i, want := range c.Requests {
		time.Sleep(time.Until(want.T))
		synctest.Wait()
		calls := st.script.calls()
		if len(calls) != i+1 {
			t.Fatalf("by %v there were %d calls, recorded %d", want.T, len(calls), i+1)
		}
		got := calls[i]
		if d := want.T.Sub(got.at); d < 0 || d > 250*time.Millisecond {
			t.Errorf("call %d came at %v, recorded %v", i, got.at, want.T)
		}
		if g, w := sorted(headLines(got.head.fields)), sorted(want.Headers); !slices.Equal(g, w) || got.head.target != want.URL || got.head.method != want.Method {
			t.Errorf("the handler got %s %s %q, recorded %s %s %q", got.head.method, got.head.target, g, want.Method, want.URL, w)
		}
		sameJSON(t, "the envelope", got.body, want.Body)
	}
	stopAt := time.Now().Add(3 * time.Second)
	if setup.stopAt != "" {
		if stopAt, err = time.Parse(time.RFC3339, setup.stopAt); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(time.Until(stopAt))
	if got := len(st.script.calls()); got != len(c.Requests) {
		t.Errorf("%d calls, recorded %d", got, len(c.Requests))
	}
	sameBeginning(t, timerTold(st.lines()), timerTold(c.Log))
	sameStatus(t, state, name, c.Status, start)
	stopAsRecorded(t, st, c.Stop)
}

// sameStatus compares what the host remembers of the timer with the recorded blob.
func sameStatus(t *testing.T, state *State, name, blob string, start time.Time) {
	t.Helper()
	got, ok := state.load("sweep")
	if name == "missing-schedule" { // the blob of the case before
		blob = ""
	}
	if ok != (blob != "") {
		t.Fatalf("remembered: %v, recorded %q", ok, blob)
	}
	if !ok {
		return
	}
	var want struct{ Last, Next, LastUpdated time.Time }
	if err := json.Unmarshal([]byte(blob), &want); err != nil {
		t.Fatal(err)
	}
	if !got.next.Equal(want.Next) {
		t.Errorf("next is %v, recorded %v", got.next, want.Next)
	}
	if got.last.IsZero() != want.Last.IsZero() || !got.last.IsZero() && !got.last.Equal(got.updated) {
		t.Errorf("last is %v, recorded %v", got.last, want.Last)
	}
	if !got.updated.Equal(start) || want.LastUpdated.Sub(start).Abs() > 200*time.Millisecond {
		t.Errorf("updated %v, recorded %v", got.updated, want.LastUpdated)
	}
}

// sweepApp is an app with one timer function.
func sweepApp(t *testing.T, schedule string) Config {
	t.Helper()
	return Config{App: webApp("proxying", map[string]string{"sweep/function.json": sweepJSON}), Settings: map[string]string{"SWEEP_SCHEDULE": schedule}}
}

func TestATimerThatWasMissedRunsAtOnceAndSaysThatItIsPastDue(t *testing.T) {
	bubble(t, "2026-11-24T05:04:00Z", func(t *testing.T) {
		c := sweepApp(t, "0 */5 * * * *")
		c.State = &State{}
		first := begin(t, &script{}, c)
		<-first.Ready()
		first.Stop()
		time.Sleep(7 * time.Minute)

		second := begin(t, &script{}, c)
		defer second.Stop()
		<-second.Ready()
		time.Sleep(time.Second)
		calls := second.script.calls()
		if len(calls) != 1 {
			t.Fatalf("%d calls after the start", len(calls))
		}
		sameJSON(t, "the envelope", calls[0].body, `{"Data":{"timer":{"Schedule":{"AdjustForDST":true},
			"ScheduleStatus":{"Last":"0001-01-01T00:00:00+00:00","Next":"2026-11-24T05:05:00+00:00","LastUpdated":"2026-11-24T05:04:00+00:00"},"IsPastDue":true}},
			"Metadata":{"sys":{"MethodName":"sweep","UtcNow":"2026-11-24T05:11:00Z","RandGuid":"51b37b87-9f40-4d56-9a22-1ae5f2f2c3a0"}}}`)
		time.Sleep(4 * time.Minute)
		calls = second.script.calls()
		if len(calls) != 2 || !strings.Contains(calls[1].body, `"IsPastDue":false`) || !strings.Contains(calls[1].body, `"Last":"2026-11-24T05:11:00`) {
			t.Errorf("the next run: %d calls, %s", len(calls), calls[len(calls)-1].body)
		}
	})
}

func TestOneHostAtATimeRunsATimer(t *testing.T) {
	bubble(t, "2026-11-24T05:04:00Z", func(t *testing.T) {
		c := sweepApp(t, "0 * * * * *")
		c.State = &State{}
		first, second := begin(t, &script{}, c), begin(t, &script{}, c)
		defer second.Stop()
		time.Sleep(150 * time.Second)
		if a, b := len(first.script.calls()), len(second.script.calls()); a+b != 2 || a*b != 0 {
			t.Errorf("%d and %d calls in two minutes", a, b)
		}
		first.Stop()
		second.script.play()
		time.Sleep(time.Minute)
		if n := len(second.script.calls()); n != 1 {
			t.Errorf("%d calls in the minute after the other host has gone", n)
		}
	})
}

func TestSchedulesAreReadAsTheHostReadsThem(t *testing.T) {
	t.Parallel()
	from := time.Date(2026, 11, 24, 5, 4, 0, 0, time.UTC) // a Tuesday
	for text, want := range map[string]string{
		"0 */5 * * * *":     "2026-11-24T05:05:00Z",
		"*/5 * * * *":       "2026-11-24T05:05:00Z", // five fields begin with the minute
		"30 4 5 * * *":      "2026-11-24T05:04:30Z",
		"0 0 3 * * *":       "2026-11-25T03:00:00Z",
		"0 0 3 * * Mon-Wed": "2026-11-25T03:00:00Z",
		"0 0 3 1 * 1":       "2027-02-01T03:00:00Z", // the first of a month that is a Monday, not either of them
		"0 0 3 29 2 *":      "2028-02-29T03:00:00Z",
		"00:10:00":          "2026-11-24T05:14:00Z",
		"1.00:00:00":        "2026-11-25T05:04:00Z",
		"00:00:30.5":        "2026-11-24T05:04:30.5Z",
		"every day":         "",
		"":                  "",
		"@daily":            "",
		"0 0 3 ? * *":       "",
		"TZ=UTC 0 3 * * *":  "",
		"0 0 25 * * *":      "",
		"0 0 0 0 0 0 0":     "",
		"00:61:00":          "",
		"00:00:00":          "",
	} {
		s, err := parseSchedule(text)
		if (err != nil) != (want == "") {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if err == nil && s.next(from).Format(time.RFC3339Nano) != want {
			t.Errorf("%q is next at %v, want %s", text, s.next(from), want)
		}
	}
}

func TestATimerFunctionCanBeRunOutOfTurn(t *testing.T) {
	bubble(t, "2026-11-24T05:04:00Z", func(t *testing.T) {
		st := begin(t, &script{}, sweepApp(t, "0 0 3 * * *"))
		defer st.Stop()
		if err := st.FireTimer(t.Context(), "sweep"); err != nil {
			t.Error(err)
		}
		st.script.play(rule{Match: "sweep", Status: 500})
		if err := st.FireTimer(t.Context(), "sweep"); err == nil || !strings.Contains(err.Error(), "500") {
			t.Errorf("a run that fails: %v", err)
		}
		if err := st.FireTimer(t.Context(), "callout"); err == nil {
			t.Error("a function without a timer ran")
		}
	})
}
