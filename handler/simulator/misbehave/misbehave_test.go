package misbehave_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ticketbridge/handler/simulator/misbehave"
)

// counted is a handler that counts the calls that took effect and answers 201 with the request's body.
type counted struct{ effects atomic.Int32 }

func (c *counted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.effects.Add(1)
	w.Header().Set("X-Own", "yes")
	w.WriteHeader(http.StatusCreated)
	_, _ = io.Copy(w, r.Body)
}

// bothWays runs a test over a real connection and in process.
func bothWays(t *testing.T, test func(t *testing.T, desk *misbehave.Desk, effects *atomic.Int32, client *http.Client, url string)) {
	t.Run("over HTTP", func(t *testing.T) {
		t.Parallel()
		var c counted
		desk := misbehave.New()
		server := httptest.NewServer(desk.Middleware(&c))
		defer server.Close()
		test(t, desk, &c.effects, server.Client(), server.URL)
	})
	t.Run("in process", func(t *testing.T) {
		t.Parallel()
		var c counted
		desk := misbehave.New()
		client := &http.Client{Transport: misbehave.Transport(desk.Middleware(&c))}
		test(t, desk, &c.effects, client, "http://stand-in")
	})
}

func post(t *testing.T, client *http.Client, url string) (*http.Response, string, error) {
	t.Helper()
	r, err := client.Post(url, "text/plain", strings.NewReader("hello"))
	if err != nil {
		return nil, "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return r, string(b), err
}

func TestACallWithoutAFaultPassesUnchanged(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, desk *misbehave.Desk, effects *atomic.Int32, client *http.Client, url string) {
		r, body, err := post(t, client, url+"/a?b=c")
		if err != nil || r.StatusCode != 201 || body != "hello" || r.Header.Get("X-Own") != "yes" || effects.Load() != 1 {
			t.Fatalf("got %v %v %q, %d effects", err, r, body, effects.Load())
		}
	})
}

func TestAStatusAnswersWithoutHandlingAndOnlyTheCallsAskedFor(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, desk *misbehave.Desk, effects *atomic.Int32, client *http.Client, url string) {
		desk.Add(misbehave.Fault{
			Match: "POST /a", Skip: 1, Times: 2, Status: 429, RetryAfter: "7", Body: `{"x":1}`,
			Header: map[string]string{"X-RateLimit-Limit": "10"},
		})
		var got []int
		for range 4 {
			r, body, err := post(t, client, url+"/a/b")
			if err != nil {
				t.Fatal(err)
			}
			if r.StatusCode == 429 && (r.Header.Get("Retry-After") != "7" || r.Header.Get("X-RateLimit-Limit") != "10" || body != `{"x":1}` ||
				r.Header.Get("Content-Type") != "application/json") {
				t.Errorf("the answer is not the one asked for: %v %q", r.Header, body)
			}
			got = append(got, r.StatusCode)
		}
		if want := []int{201, 429, 429, 201}; !equal(got, want) {
			t.Errorf("statuses %v, want %v", got, want)
		}
		if effects.Load() != 2 {
			t.Errorf("%d calls took effect, want 2", effects.Load())
		}
	})
}

func TestALostAnswerTookEffectAndADroppedCallDidNot(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, desk *misbehave.Desk, effects *atomic.Int32, client *http.Client, url string) {
		desk.Add(misbehave.Fault{Times: 1, LoseAnswer: true})
		if _, _, err := post(t, client, url); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("a lost answer gave %v, want a cut connection", err)
		}
		if effects.Load() != 1 {
			t.Errorf("%d effects after a lost answer, want 1", effects.Load())
		}
		desk.Add(misbehave.Fault{Times: 1, DropCall: true})
		if _, _, err := post(t, client, url); err == nil {
			t.Error("a dropped call was answered")
		}
		if effects.Load() != 1 {
			t.Errorf("%d effects after a dropped call, want still 1", effects.Load())
		}
		if desk.Hits() != 2 {
			t.Errorf("%d hits, want 2", desk.Hits())
		}
	})
}

func TestADuplicateTakesEffectTwiceAndAGatewayErrorOnce(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, desk *misbehave.Desk, effects *atomic.Int32, client *http.Client, url string) {
		desk.Add(misbehave.Fault{Times: 1, Duplicate: true})
		if r, body, err := post(t, client, url); err != nil || r.StatusCode != 201 || body != "hello" || effects.Load() != 2 {
			t.Errorf("got %v %v %q, %d effects", err, r, body, effects.Load())
		}
		desk.Add(misbehave.Fault{Times: 1, Status: 504, TakeEffect: true})
		if r, _, err := post(t, client, url); err != nil || r.StatusCode != 504 || effects.Load() != 3 {
			t.Errorf("got %v %v, %d effects", err, r, effects.Load())
		}
	})
}

func TestTheHooksRunBeforeAndAfterTheEffect(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, desk *misbehave.Desk, effects *atomic.Int32, client *http.Client, url string) {
		var before, after int32 = -1, -1
		desk.Add(misbehave.Fault{OnHit: func() { before = effects.Load() }, AfterHandle: func() { after = effects.Load() }})
		if _, _, err := post(t, client, url); err != nil || before != 0 || after != 1 {
			t.Errorf("%v; effects before %d and after %d, want 0 and 1", err, before, after)
		}
	})
}

func TestACallerWhoGivesUpDuringADelayIsNotHandled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var c counted
		desk := misbehave.New()
		client := &http.Client{Transport: misbehave.Transport(desk.Middleware(&c))}
		desk.Add(misbehave.Fault{Times: 1, Delay: time.Hour})
		desk.Add(misbehave.Fault{Times: 1, DelayAnswer: time.Hour})
		for i, effects := range []int32{0, 1} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			start := time.Now()
			r, _ := http.NewRequestWithContext(ctx, "POST", "http://stand-in", nil)
			_, err := client.Do(r)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
				t.Errorf("call %d: %v after %v", i, err, time.Since(start))
			}
			synctest.Wait()
			if c.effects.Load() != effects {
				t.Errorf("call %d: %d effects, want %d", i, c.effects.Load(), effects)
			}
		}
		start := time.Now()
		desk.Add(misbehave.Fault{Times: 1, Delay: time.Minute})
		if _, err := client.Post("http://stand-in", "", nil); err != nil || time.Since(start) != time.Minute {
			t.Errorf("a patient caller got %v after %v", err, time.Since(start))
		}
	})
}

func TestMatch(t *testing.T) {
	t.Parallel()
	for match, want := range map[string]bool{
		"": true, "POST": true, "post": true, "GET": false, "/v1.0": true, "/v2": false, "POST /v1.0": true, "GET /v1.0": false,
		"POST /v1.0/*/resume": true, "POST /v1.0/*/resum": false, "* */resume": true, "POST /*/requests/*/resume": true,
		"POST *requests*": true, "POST */resume*": true, "POST */resume/*": false, "POST /v1.0/requests/7/resume": true, "/*/*/*/*/*": false,
	} {
		desk := misbehave.New()
		desk.Add(misbehave.Fault{Match: match, Status: 418})
		w := httptest.NewRecorder()
		desk.Middleware(&counted{}).ServeHTTP(w, httptest.NewRequest("POST", "/v1.0/requests/7/resume?q", nil))
		if got := w.Code == 418; got != want {
			t.Errorf("%q matches: %v, want %v", match, got, want)
		}
	}
}

func TestAPersonWithCurlCanAskForMisbehaviour(t *testing.T) {
	t.Parallel()
	desk := misbehave.New()
	mux := http.NewServeMux()
	mux.Handle(misbehave.ControlPath, desk.Handler())
	mux.Handle(misbehave.ControlPath+"/", desk.Handler())
	mux.Handle("/", &counted{})
	client := &http.Client{Transport: misbehave.Transport(desk.Middleware(mux))}
	do := func(method, path, body string) (int, string) {
		t.Helper()
		r, _ := http.NewRequest(method, "http://stand-in"+path, strings.NewReader(body))
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		b, _ := io.ReadAll(answer.Body)
		return answer.StatusCode, string(b)
	}
	if status, body := do("POST", misbehave.ControlPath, `{"status":503,"delay":"1ms","times":2}`); status != 201 || !strings.Contains(body, `"delay": "1ms"`) {
		t.Fatalf("adding: %d %s", status, body)
	}
	if status, _ := do("GET", "/x", ""); status != 503 {
		t.Errorf("the call was answered %d, want 503", status)
	}
	if _, body := do("GET", misbehave.ControlPath, ""); !strings.Contains(body, `"hits": 1`) {
		t.Errorf("the list does not count the hit: %s", body)
	}
	if status, _ := do("DELETE", misbehave.ControlPath+"/1", ""); status != 200 {
		t.Errorf("removing: %d", status)
	}
	if status, _ := do("DELETE", misbehave.ControlPath+"/1", ""); status != 404 {
		t.Errorf("removing again: %d", status)
	}
	if status, _ := do("GET", "/x", ""); status != 201 {
		t.Errorf("after removing, the call was answered %d", status)
	}
	for _, wrong := range []string{`{"staus":503}`, `{"delay":"soon"}`, `{"status":7}`, `nonsense`} {
		if status, _ := do("POST", misbehave.ControlPath, wrong); status != 400 {
			t.Errorf("%s was answered %d, want 400", wrong, status)
		}
	}
	do("POST", misbehave.ControlPath, `[{"status":500},{"status":501}]`)
	if n := len(desk.Faults()); n != 2 {
		t.Errorf("%d faults, want 2", n)
	}
	if do("DELETE", misbehave.ControlPath, ""); len(desk.Faults()) != 0 {
		t.Error("the desk was not cleared")
	}
}

func equal(a, b []int) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
