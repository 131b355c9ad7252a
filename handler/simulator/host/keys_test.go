package host

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// keyCase is a case of keys.json.
type keyCase struct {
	Request string
	Headers []string
	Resp    string
	Handler []struct {
		URL     string
		Method  string
		Headers []string
		Body    string
	}
}

// replayKeys replays keys, admin routes and path tricks.
func replayKeys(t *testing.T, file string) {
	t.Helper()
	each(t, file, func(t *testing.T, name string, c keyCase) {
		// The status of the timer was written by a host before.
		bubble(t, "2026-11-24T04:53:11.8757326Z", func(t *testing.T) {
			st := begin(t, &script{}, Config{
				App:      webApp("forwarding", map[string]string{"advance/function.json": advanceJSON, "sweep/function.json": sweepJSON}),
				Settings: map[string]string{"SWEEP_SCHEDULE": "0 0 3 * * *"},
			})
			defer st.Stop()
			<-st.Ready()
			time.Sleep(time.Until(time.Date(2026, 11, 24, 4, 59, 57, 0, time.UTC)))
			replayKey(t, st, name, c)
		})
	})
}

// keyOf is the key that the recorded caller showed, as the case's name says.
func keyOf(k Keys, name string) string {
	switch {
	case strings.Contains(name, "master"):
		return k.Master
	case strings.Contains(name, "own key"):
		return k.Functions["callout"]
	}
	return k.Default
}

func replayKey(t *testing.T, st *stage, name string, c keyCase) {
	key := keyOf(st.Keys(), name)
	with := func(s string) string { return strings.ReplaceAll(s, "{key}", key) }
	headers := []string{"Host: localhost:7071"}
	for _, h := range c.Headers {
		headers = append(headers, with(h))
	}
	body := ""
	if strings.HasPrefix(c.Request, "POST ") {
		body = "{}"
		switch {
		case strings.HasSuffix(name, "empty"):
		case strings.HasPrefix(name, "admin advance"):
			body = `{"input":"hello-from-admin"}`
		case strings.HasPrefix(name, "admin sweep"):
			body = `{"input":""}`
		}
		headers = append(headers, "Content-Type: application/json", fmt.Sprintf("Content-Length: %d", len(body)))
	}
	got := st.call(with(c.Request)+" HTTP/1.1", headers, body, time.Minute)
	synctest.Wait() // an operator is answered before the function has run

	head, wantBody, _ := strings.Cut(c.Resp, "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	wantHeaders := slices.DeleteFunc(lines[1:], func(l string) bool {
		return strings.HasPrefix(l, "Date:") || strings.HasPrefix(l, "Server:")
	})
	if got.line != lines[0] {
		t.Fatalf("the caller got %s, recorded %s", got, lines[0])
	}
	if ownPage := len(c.Handler) == 0 && wantBody != ""; ownPage {
		// What the host says of itself is its own: the kind of thing has to be the same.
		sameKind(t, got, wantHeaders, wantBody)
	} else if got.body != wantBody || !slices.Equal(sorted(got.headers), sorted(wantHeaders)) {
		t.Errorf("the caller got\n%s\n%q\nrecorded\n%s\n%q", sorted(got.headers), got.body, sorted(wantHeaders), wantBody)
	}

	calls := st.script.calls()
	if len(calls) != len(c.Handler) {
		t.Fatalf("delivered %d times, recorded %d times", len(calls), len(c.Handler))
	}
	for i, want := range c.Handler {
		got := calls[i]
		if got.head.method != want.Method || plain(got.head.target, key) != want.URL {
			t.Errorf("the handler got %s %s, recorded %s %s", got.head.method, got.head.target, want.Method, want.URL)
		}
		if g, w := sorted(headLines(got.head.fields), key), sorted(want.Headers); !slices.Equal(g, w) {
			t.Errorf("the handler got\n%s\nrecorded\n%s", strings.Join(g, "\n"), strings.Join(w, "\n"))
		}
		if strings.HasPrefix(want.Body, `{"Data"`) {
			sameJSON(t, "the envelope", got.body, want.Body)
		} else if got.body != want.Body {
			t.Errorf("the handler got the body %q, recorded %q", got.body, want.Body)
		}
	}
}

// sameKind compares an answer of the host about itself with the beginning of the recorded one: its type, and the members of its JSON.
func sameKind(t *testing.T, got seen, headers []string, want string) {
	t.Helper()
	typeOf := func(lines []string) string {
		for _, l := range lines {
			if v, ok := strings.CutPrefix(l, "Content-Type: "); ok {
				return v
			}
		}
		return ""
	}
	if typeOf(got.headers) != typeOf(headers) {
		t.Errorf("the type is %s, recorded %s", typeOf(got.headers), typeOf(headers))
	}
	switch want[0] {
	case '{':
		var g, w map[string]any
		if json.Unmarshal([]byte(got.body), &g) != nil || json.Unmarshal([]byte(want), &w) != nil {
			t.Fatalf("no JSON: %s", got.body)
		}
		for k, v := range w {
			if _, same := v.(float64); !same && k != "versionDetails" && g[k] != v {
				t.Errorf("%s is %v, recorded %v", k, g[k], v)
			}
		}
		if len(g) != len(w) {
			t.Errorf("%d members, recorded %d", len(g), len(w))
		}
	case '[':
		var g []struct{ Name, Href string }
		if err := json.Unmarshal([]byte(got.body), &g); err != nil || len(g) != 5 {
			t.Fatalf("no list of 5 functions: %s", got.body)
		}
		if first := fmt.Sprintf(`[{"name":"%s",`, g[0].Name); !strings.HasPrefix(want, first) {
			t.Errorf("the list begins with %s, recorded %.60s", first, want)
		}
	default:
		title, _, _ := strings.Cut(want, "</title>")
		if !strings.HasPrefix(got.body, title) {
			t.Errorf("the page begins with %.80s, recorded %s", got.body, title)
		}
	}
}

func TestALocalHostAsksForNoKeys(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		st := begin(t, &script{}, Config{App: webApp("proxying", nil), Keys: Keys{Off: true}})
		defer st.Stop()
		for _, line := range []string{"POST /api/callout HTTP/1.1", "GET /admin/host/status HTTP/1.1"} {
			if got := st.call(line, []string{"Host: localhost:7071", "Content-Length: 0"}, "", time.Minute); got.line != "HTTP/1.1 200 OK" {
				t.Errorf("%s: %s", line, got)
			}
		}
	})
}
