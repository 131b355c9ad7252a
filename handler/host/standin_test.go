package host

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/workflow"
)

const (
	requestID = "7d1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a11"
	stageID   = "c0a6e2d4-52f7-4a9e-8f0e-1b6f9d3c2e77"
	sysid     = "0123456789abcdef0123456789abcdef"
)

// work does what a test says and remembers what it was asked.
type work struct {
	accept  func(context.Context, []byte) (workflow.Receipt, error)
	closed  func(context.Context, workflow.Closed) error
	advance func(context.Context, workflow.Message) error
	sweep   func(context.Context) (workflow.Swept, error)

	mu      sync.Mutex
	bodies  []string
	tickets []workflow.Closed
	texts   []workflow.Message
	sweeps  int
}

func (w *work) Accept(ctx context.Context, body []byte) (workflow.Receipt, error) {
	w.mu.Lock()
	w.bodies = append(w.bodies, string(body))
	w.mu.Unlock()
	if w.accept != nil {
		return w.accept(ctx, body)
	}
	return workflow.Receipt{RequestID: requestID, StageInstanceID: stageID, State: correlation.Received}, nil
}

func (w *work) TicketClosed(ctx context.Context, n workflow.Closed) error {
	w.mu.Lock()
	w.tickets = append(w.tickets, n)
	w.mu.Unlock()
	if w.closed != nil {
		return w.closed(ctx, n)
	}
	return nil
}

func (w *work) Advance(ctx context.Context, m workflow.Message) error {
	w.mu.Lock()
	w.texts = append(w.texts, m)
	w.mu.Unlock()
	if w.advance != nil {
		return w.advance(ctx, m)
	}
	return nil
}

func (w *work) Sweep(ctx context.Context) (workflow.Swept, error) {
	w.mu.Lock()
	w.sweeps++
	w.mu.Unlock()
	if w.sweep != nil {
		return w.sweep(ctx)
	}
	return workflow.Swept{Sent: 3}, nil
}

// asked says how often the work was called in any way.
func (w *work) asked() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.bodies) + len(w.tickets) + len(w.texts) + w.sweeps
}

// logs is what was logged.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// lines returns the lines with this event; each line must be one JSON object.
func (l *logs) lines(t testing.TB, event string) []map[string]any {
	t.Helper()
	var out []map[string]any
	for _, line := range strings.Split(strings.TrimSpace(l.String()), "\n") {
		if line == "" {
			continue
		}
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("a log line is no JSON: %s", line)
		}
		if m["event"] == event {
			out = append(out, m)
		}
	}
	return out
}

// server starts a Server on a port of the system's choice. It is stopped with the test.
func server(t testing.TB, c Config) (address string, log *logs) {
	t.Helper()
	log = &logs{}
	c.Log = zerolog.New(log)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- New(c).Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err == nil {
			t.Error("Serve returned no error")
		}
	})
	return l.Addr().String(), log
}

// said is an answer, read to its end.
type said struct {
	*http.Response
	body string
}

// send writes a request as it is, byte for byte, and reads the answer: Go's client would mend some of them.
func send(t testing.TB, address, raw string) said {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(raw, " ")
	r, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatalf("the answer broke off: %v", err)
	}
	return said{r, string(b)}
}

// post is a request as the host writes it when it proxies.
func post(target, body string, headers ...string) string {
	return raw("POST", target, body, headers...)
}

func raw(method, target, body string, headers ...string) string {
	all := append([]string{
		"Host: 127.0.0.1:7071", "X-Azure-Functions-InvocationId: acd6b61f-5329-45ca-8257-0b6f0f52e277",
		"Content-Type: application/json",
	}, headers...)
	if body != "" || method == "POST" {
		all = append(all, "Content-Length: "+itoa(len(body)))
	}
	return method + " " + target + " HTTP/1.1\r\n" + strings.Join(all, "\r\n") + "\r\n\r\n" + body
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

// problemIn reads an answer that must be a problem.
func problemIn(t testing.TB, a said) problemBody {
	t.Helper()
	var p problemBody
	if ct := a.Header.Get("Content-Type"); ct != "application/problem+json" {
		t.Fatalf("status %d of type %q: %s", a.StatusCode, ct, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	if p.Status != a.StatusCode || p.Title == "" || p.Type == "" || p.Detail == "" || p.Invocation == "" {
		t.Errorf("the problem lacks something: %s", a.body)
	}
	return p
}

// queued returns the envelope of a message, as the host wraps it.
func queued(text string) string {
	inner, _ := json.Marshal(text)
	outer, _ := json.Marshal(string(inner))
	return `{"Data":{"msg":` + string(outer) + `},"Metadata":{"DequeueCount":"2","sys":{"MethodName":"advance"}}}`
}

func aMessage() workflow.Message {
	return workflow.Message{Key: correlation.Key{Request: requestID, Stage: stageID}, Why: workflow.WhyCallout}
}
