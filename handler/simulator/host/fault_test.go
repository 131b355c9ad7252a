package host

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ticketbridge/handler/simulator/misbehave"
)

// web begins a host with both desks.
func web(t *testing.T, mode string) *stage {
	t.Helper()
	st := begin(t, &script{}, Config{App: webApp(mode, nil), Keys: Keys{Off: true}, Calls: misbehave.New(), Deliveries: misbehave.New()})
	<-st.Ready()
	return st
}

// post sends a call with a body to the callout function.
func (st *stage) post() seen {
	return st.call("POST /api/callout HTTP/1.1", []string{"Host: localhost:7071", "x-lower: 1", "Content-Length: 2"}, "{}", time.Hour)
}

func TestACallIsHandledTwiceOnRequest(t *testing.T) {
	for _, mode := range []string{"proxying", "forwarding", "envelope"} {
		t.Run(mode, func(t *testing.T) {
			bubble(t, "", func(t *testing.T) {
				st := web(t, mode)
				defer st.Stop()
				st.c.Calls.Add(misbehave.Fault{Match: "POST /api/callout", Times: 1, Duplicate: true})
				got := st.post()
				calls := st.script.calls()
				if got.line != "HTTP/1.1 200 OK" || len(calls) != 2 {
					t.Fatalf("%s after %d deliveries", got, len(calls))
				}
				const header = "X-Azure-Functions-InvocationId"
				if calls[0].head.fields.get(header) == calls[1].head.fields.get(header) {
					t.Error("a caller's second call has the invocation id of the first")
				}
				if st.post(); len(st.script.calls()) != 3 {
					t.Error("the call after it was handled twice too")
				}
			})
		})
	}
}

func TestADeliveryIsMadeTwiceOnRequestInOneInvocation(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		st := web(t, "proxying")
		defer st.Stop()
		st.c.Deliveries.Add(misbehave.Fault{Match: "/api/callout", Times: 1, Duplicate: true})
		got := st.post()
		calls := st.script.calls()
		if got.line != "HTTP/1.1 200 OK" || got.body != wellDone.Body || len(calls) != 2 || calls[0].body != "{}" || calls[1].body != "{}" {
			t.Fatalf("%s after %d deliveries", got, len(calls))
		}
		if plain(strings.Join(headLines(calls[0].head.fields), "\n")) != plain(strings.Join(headLines(calls[1].head.fields), "\n")) {
			t.Error("the deliveries are different")
		}
		if _, ok := calls[1].head.fields.find("x-lower"); !ok || !strings.Contains(strings.Join(headLines(calls[1].head.fields), "\n"), "x-lower") {
			t.Error("a header's name is in another case than the caller's")
		}
	})
}

func TestAnAnswerIsLostOnRequest(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		st := web(t, "proxying")
		defer st.Stop()
		remove := st.c.Calls.Add(misbehave.Fault{LoseAnswer: true})
		if got := st.post(); got.failed != "broken off" || len(st.script.calls()) != 1 {
			t.Errorf("the caller saw %q after %d deliveries", got, len(st.script.calls()))
		}
		remove()
		st.c.Deliveries.Add(misbehave.Fault{LoseAnswer: true, Times: 1})
		if got := st.post(); got.line != "HTTP/1.1 500 Internal Server Error" || got.took < 1800*time.Millisecond {
			t.Errorf("when the host lost the answer, the caller saw %s after %v", got, got.took)
		}
	})
}

func TestACallerGetsAnotherAnswerOnRequest(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		st := web(t, "proxying")
		defer st.Stop()
		st.c.Calls.Add(misbehave.Fault{Status: http.StatusTooManyRequests, RetryAfter: "7", Delay: 3 * time.Second, Times: 1})
		got := st.post()
		if got.line != "HTTP/1.1 429 Too Many Requests" || !strings.Contains(strings.Join(got.headers, "\n"), "Retry-After: 7") || got.took != 3*time.Second || len(st.script.calls()) != 0 {
			t.Errorf("the caller saw %s %v after %v", got, got.headers, got.took)
		}
		if got := st.post(); got.line != "HTTP/1.1 200 OK" {
			t.Errorf("the call after it: %s", got)
		}
	})
}

func TestTheHandlerIsKilledInTheMiddleOfACallOnRequest(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		st := web(t, "proxying")
		defer st.Stop()
		st.c.Deliveries.Add(misbehave.Fault{Match: "POST /api/callout", Times: 1, AfterHandle: st.Kill, LoseAnswer: true})
		if got := st.post(); got.line != "HTTP/1.1 500 Internal Server Error" {
			t.Errorf("the caller saw %s", got)
		}
		if got := st.post(); got.line != "HTTP/1.1 200 OK" || st.script.calls()[1].process != 2 {
			t.Errorf("the call after it: %s", got)
		}
	})
}

func TestACallerThatHangsUpIsMissedByTheHandler(t *testing.T) {
	for _, mode := range []string{"proxying", "forwarding"} {
		t.Run(mode, func(t *testing.T) {
			bubble(t, "", func(t *testing.T) {
				st := web(t, mode)
				defer st.Stop()
				st.script.play(rule{Match: "callout", DelayMs: 60_000})
				start := time.Now()
				if got := st.call("POST /api/callout HTTP/1.1", []string{"Host: localhost:7071", "Content-Length: 2"}, "{}", time.Second); got.failed != "timed out" {
					t.Fatalf("the caller saw %s", got)
				}
				synctest.Wait()
				st.script.mu.Lock()
				defer st.script.mu.Unlock()
				if len(st.script.gone) != 1 || st.script.gone[0].Sub(start) != time.Second {
					t.Errorf("the handler saw its connection close at %v", st.script.gone)
				}
			})
		})
	}
}
