package host

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// countCase is a case of delivery-counts.json.
type countCase struct {
	Seen        int `json:"headers_seen"`
	Complete    int `json:"complete_requests"`
	Ms          int
	Resp        string
	Invocations int `json:"invocation_ids"`
}

// replayCounts replays how often a call is delivered whose connection breaks.
func replayCounts(t *testing.T, file string) {
	t.Helper()
	modes := map[string]string{"fwd": "forwarding", "proxy": "proxying", "none": "envelope"}
	each(t, file, func(t *testing.T, mode string, cases map[string]countCase) {
		for name, c := range cases {
			t.Run(name, func(t *testing.T) {
				bubble(t, "", func(t *testing.T) { replayCount(t, modes[mode], name, c) })
			})
		}
	})
}

func replayCount(t *testing.T, mode, name string, c countCase) {
	parts := strings.Split(name, "/") // which call, how it fails, and what was before
	st := begin(t, &script{}, Config{App: webApp(mode, nil), Keys: Keys{Off: true}})
	defer st.Stop()
	<-st.Ready()
	line, headers, body := "POST /api/callout HTTP/1.1", []string{"Host: localhost:7071", "Content-Length: 2"}, "{}"
	switch parts[0] {
	case "post_empty":
		headers, body = []string{"Host: localhost:7071", "Content-Length: 0"}, ""
	case "get":
		line, headers, body = "GET /api/console/x HTTP/1.1", headers[:1], ""
	}
	fails := rule{Action: parts[1]}
	if parts[2] == "after-failure" {
		st.script.play(fails)
	}
	st.call("GET /api/console/before HTTP/1.1", []string{"Host: localhost:7071"}, "", time.Minute)
	st.script.play(fails)

	got := st.call(line, headers, body, time.Minute)
	calls := st.script.calls()
	ids := map[string]bool{}
	complete := 0
	for _, d := range calls {
		ids[d.head.fields.get("X-Azure-Functions-InvocationId")] = true
		if mode == "envelope" || d.body == body {
			complete++
		}
	}
	if len(calls) != c.Seen || complete != c.Complete || len(ids) != c.Invocations {
		t.Errorf("%d deliveries, %d complete, %d invocations; recorded %d, %d, %d", len(calls), complete, len(ids), c.Seen, c.Complete, c.Invocations)
	}
	if got.String() != c.Resp {
		t.Errorf("the caller got %s, recorded %s", got, c.Resp)
	}
	sameTime(t, "the call", got.took, time.Duration(c.Ms)*time.Millisecond)
	if slices.ContainsFunc(calls, func(d delivery) bool { return d.process != 1 }) {
		t.Error("another process was called")
	}
}
