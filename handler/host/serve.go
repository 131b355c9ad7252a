package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/workflow"
)

// invocationHeader is how the host names an invocation, in every mode and for triggers too.
const invocationHeader = "X-Azure-Functions-InvocationId"

// maxDiscard is how much of a body that nobody wants is read all the same: the host sends a request whole before it reads the answer, and
// takes one that is cut off for a dropped connection. It takes no body over 100 MB itself.
const maxDiscard = 128 << 20

// bodyPatience is how long a body may take where no caller's patience is shorter.
const bodyPatience = 30 * time.Second

// ServeHTTP answers one call of the host. It always answers: nothing panics out of it, and no connection is dropped.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	fn, rest := route(r.RequestURI)
	invocation := invocationOf(r.Header)
	name := "none"
	if fn != nil {
		name = fn.name
	}
	log := s.config.Log.With().Str("function", name).Str("invocationId", invocation).Logger()

	ctx, calls := workflow.WithCalls(workflow.WithInvocation(r.Context(), invocation))
	a := s.answer(log.WithContext(ctx), fn, rest, w, r, start)
	if a.problem != nil && (fn == nil || !fn.trigger) {
		a.problem.Invocation = invocation
	}
	a.write(w, r, fn != nil && fn.trigger)
	if fn != probe {
		a.log(&log, time.Since(start), calls)
	}
}

// answer finds the answer to a call.
func (s *Server) answer(ctx context.Context, fn *function, rest string, w http.ResponseWriter, r *http.Request, start time.Time) (a answer) {
	defer recovered(ctx, &a)
	limit, until := 0, start.Add(bodyPatience)
	if fn != nil {
		limit = fn.limit
	}
	if fn == calloutFn || fn == ticketClosed {
		until = start.Add(callerDeadline)
	}
	body, err := readBody(w, r, limit, until)
	switch {
	case fn == nil:
		return problem(http.StatusNotFound, "", "there is nothing under this path")
	case r.Method == http.MethodOptions && !fn.trigger:
		return answer{status: http.StatusNoContent, header: http.Header{"Allow": {allowed(fn)}}}
	case !fn.takes(r.Method):
		a := problem(http.StatusMethodNotAllowed, "", "the methods that are taken here: "+allowed(fn))
		a.header = http.Header{"Allow": {allowed(fn)}}
		return a
	case fn == probe:
		return answer{status: http.StatusNoContent}
	case errors.Is(err, errTooLarge):
		return problem(http.StatusRequestEntityTooLarge, "body", fmt.Sprintf("at most %d bytes are taken", limit))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return unavailable("the body did not arrive in time", 0)
	case err != nil:
		return problem(http.StatusBadRequest, "body", "the body broke off")
	case encoded(r.Header):
		a := problem(http.StatusUnsupportedMediaType, "Content-Encoding", "bodies are taken as they are, not compressed")
		a.header = http.Header{"Accept-Encoding": {"identity"}}
		return a
	case !s.begin():
		return unavailable("this instance is ending", time.Second)
	}
	defer s.inFlight.Done()

	switch fn {
	case calloutFn:
		return s.forCaller(ctx, start, func(ctx context.Context) answer { return s.callout(ctx, r, body) })
	case ticketClosed:
		return s.forCaller(ctx, start, func(ctx context.Context) answer { return s.ticketClosed(ctx, r, body) })
	case advance:
		return forHost(ctx, advanceDeadline, func(ctx context.Context) answer { return s.advance(ctx, body) })
	case sweep:
		return forHost(ctx, sweepDeadline, func(ctx context.Context) answer { return s.sweep(ctx, body) })
	default:
		return s.console(ctx, r, rest, body)
	}
}

// forCaller runs work for somebody who waits about a second. It is not bound to the connection: a callout whose caller has hung up is
// remembered all the same, and the repeated call finds it.
func (s *Server) forCaller(ctx context.Context, start time.Time, work func(context.Context) answer) answer {
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), start.Add(callerDeadline))
	late := unavailable("it took too long; send the same call again", 0)
	return within(ctx, cancel, time.Until(start.Add(callerPatience)), late, work)
}

// forHost runs a trigger's work. It is not bound to the connection either: when the host is gone, what has begun is better finished.
func forHost(ctx context.Context, most time.Duration, work func(context.Context) answer) answer {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), most)
	late := answer{status: http.StatusInternalServerError, err: &fault.Error{Op: "run", Reason: fault.Internal, Detail: "the work did not end with its context"}}
	return within(ctx, cancel, most+triggerGrace, late, work)
}

// within returns the work's answer, or late when there is none after most. The work then goes on without anybody to hear of it.
func within(ctx context.Context, cancel context.CancelFunc, most time.Duration, late answer, work func(context.Context) answer) answer {
	done := make(chan answer, 1)
	go func() {
		defer cancel()
		done <- guarded(ctx, work)
	}()
	t := time.NewTimer(most)
	defer t.Stop()
	select {
	case a := <-done:
		return a
	case <-t.C:
		return late
	}
}

// guarded runs the work and turns a panic into an answer: one that escapes ends the process, and the third ends the host.
func guarded(ctx context.Context, work func(context.Context) answer) (a answer) {
	defer recovered(ctx, &a)
	return work(ctx)
}

func recovered(ctx context.Context, a *answer) {
	v := recover()
	if v == nil {
		return
	}
	zerolog.Ctx(ctx).Error().Str("event", "panic").Str("panic", fmt.Sprint(v)).Str("stack", string(debug.Stack())).Msg("recovered from a bug")
	*a = problem(http.StatusInternalServerError, "", "something is wrong here; the log says more")
	a.err = &fault.Error{Op: "serve", Reason: fault.Internal, Detail: "a panic"}
}

var errTooLarge = errors.New("body too large")

// readBody reads the whole body, and so much of one that is too large that whoever sends it gets to read the answer.
func readBody(w http.ResponseWriter, r *http.Request, limit int, until time.Time) ([]byte, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(until) // a test's recorder has no deadlines
	var b bytes.Buffer
	if n := r.ContentLength; n > 0 && n <= int64(limit) {
		b.Grow(int(n) + bytes.MinRead) // ReadFrom wants that much room to see the end
	}
	_, err := b.ReadFrom(io.LimitReader(r.Body, int64(limit)+1))
	large := err == nil && b.Len() > limit
	if large {
		_, err = io.Copy(io.Discard, io.LimitReader(r.Body, maxDiscard))
	}
	if err == nil { // else the deadline stays: net/http would wait for the rest of the body before it sends the answer
		_ = c.SetReadDeadline(time.Time{})
	}
	if large {
		return nil, errTooLarge
	}
	return b.Bytes(), err
}

func encoded(h http.Header) bool {
	e := h.Get("Content-Encoding")
	return e != "" && !strings.EqualFold(e, "identity")
}

func allowed(fn *function) string {
	if fn.trigger {
		return strings.Join(fn.methods, ", ")
	}
	return strings.Join(fn.methods, ", ") + ", " + http.MethodOptions
}

// invocationOf returns the host's id of the invocation. A caller may have sent such a header too; the host's comes last. One is made up
// when there is none, so that the lines of one call can be found together.
func invocationOf(h http.Header) string {
	all := strings.Split(strings.Join(h.Values(invocationHeader), ","), ",")
	if id, ok := correlation.GUID(all[len(all)-1]); ok {
		return id
	}
	return uuid.NewString()
}

// callout takes what entitlement management sends.
func (s *Server) callout(ctx context.Context, r *http.Request, body []byte) answer {
	if a, ok := check(ctx, s.config.Callout, r, body); !ok {
		return a
	}
	receipt, err := s.config.Work.Accept(ctx, body)
	if err != nil {
		return failed(err)
	}
	if receipt.Test {
		return accepted(receiptBody{State: "connectionTest"})
	}
	a := accepted(receiptBody{receipt.RequestID, receipt.StageInstanceID, string(receipt.State), receipt.Duplicate})
	a.key = correlation.Key{Request: receipt.RequestID, Stage: receipt.StageInstanceID}
	return a
}

// receiptBody is the answer to a callout or to a close notification.
type receiptBody struct {
	RequestID       string `json:"requestId,omitempty"`
	StageInstanceID string `json:"stageInstanceId,omitempty"`
	State           string `json:"state"`
	Duplicate       bool   `json:"duplicate,omitempty"`
}

// ticketClosed takes what ServiceNow sends.
func (s *Server) ticketClosed(ctx context.Context, r *http.Request, body []byte) answer {
	if a, ok := check(ctx, s.config.Close, r, body); !ok {
		return a
	}
	query, _ := url.ParseQuery(r.URL.RawQuery) // what can be read of it
	n, err := readClosed(body, query)
	if err != nil {
		return failed(err)
	}
	if err := s.config.Work.TicketClosed(ctx, n); err != nil {
		return failed(err)
	}
	a := accepted(receiptBody{State: "accepted"})
	a.key = keyOf(n)
	return a
}

// check asks the gate. The call that it sees carries the context, for the time that fetching keys may take.
func check(ctx context.Context, g Gate, r *http.Request, body []byte) (answer, bool) {
	if g == nil {
		return answer{}, true
	}
	r = r.WithContext(ctx)
	err := g.Check(r, body)
	if err == nil {
		return answer{}, true
	}
	var a answer
	switch reason := fault.ReasonOf(err); {
	case reason == fault.Unauthorized, reason == fault.Forbidden:
		a = problemOf(fault.Status(err), err)
		if c := g.Challenge(r, err); c != "" {
			a.header = http.Header{"Www-Authenticate": {c}}
		}
	case reason.Temporary(), errors.Is(err, context.DeadlineExceeded):
		a = unavailable("the caller cannot be checked now; send the same call again", fault.After(err))
	default:
		a = problem(http.StatusInternalServerError, "", "the caller cannot be checked; the log says more")
	}
	a.err = err
	return a, false
}

// failed answers a call whose work ended in err. Only what is wrong with the call itself is the caller's business: that our storage
// refuses our credentials is not a 401.
func failed(err error) answer {
	e, ok := errors.AsType[*fault.Error](err)
	var a answer
	switch {
	case ok && e.Reason == fault.Invalid, ok && e.Reason == fault.Forbidden && e.Status == 0 && e.Field != "":
		a = problemOf(fault.Status(err), err)
		a.private = true
	case ok && e.Reason != fault.Internal && e.Reason != fault.Misconfigured, errors.Is(err, context.DeadlineExceeded):
		a = unavailable("it could not be remembered now; send the same call again", fault.After(err))
	default:
		a = problem(http.StatusInternalServerError, "", "it could not be remembered; the log says more")
	}
	a.err = err
	return a
}

// advance takes a message of the queue. A message that cannot be read is a failure although no retry will help: after five deliveries it is in the
// poison queue, where an operator finds it; with an answer of success it would be gone.
func (s *Server) advance(ctx context.Context, body []byte) answer {
	text, dequeued, err := message(body)
	if err != nil {
		return answer{status: http.StatusInternalServerError, err: err}
	}
	m, err := workflow.ReadMessage(text)
	if err != nil {
		return answer{status: http.StatusInternalServerError, err: err, private: true, dequeued: dequeued}
	}
	a := answer{status: http.StatusOK, key: m.Key, why: m.Why, dequeued: dequeued}
	if a.err = s.config.Work.Advance(ctx, m); a.err != nil {
		a.status = http.StatusInternalServerError
	}
	return a
}

// sweep takes the timer's call. It needs nothing of the envelope.
func (s *Server) sweep(ctx context.Context, body []byte) answer {
	a := answer{status: http.StatusOK, late: pastDue(body)}
	swept, err := s.config.Work.Sweep(ctx)
	a.swept = &swept
	if a.err = err; err != nil {
		a.status = http.StatusInternalServerError
	}
	return a
}

// console hands a call to the console under one spelling of its path.
func (s *Server) console(ctx context.Context, r *http.Request, rest string, body []byte) answer {
	if s.config.Console == nil {
		return problem(http.StatusNotFound, "", "there is no console here; CONSOLE_AUTH turns it on")
	}
	ctx, cancel := context.WithTimeout(ctx, consoleDeadline)
	defer cancel()
	r = r.Clone(ctx)
	r.URL.Path, r.URL.RawPath = consolePath+rest, ""
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	p := &page{header: http.Header{}}
	s.config.Console.ServeHTTP(p, r)
	if p.status == 0 {
		p.status = http.StatusOK
	}
	return answer{status: p.status, header: p.header, body: p.body.Bytes(), whole: true}
}

// A page is a console's answer before it is sent: whole, or not at all.
type page struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (p *page) Header() http.Header { return p.header }

func (p *page) WriteHeader(status int) {
	if p.status == 0 && status >= 200 {
		p.status = status
	}
}

func (p *page) Write(b []byte) (int, error) {
	p.WriteHeader(http.StatusOK)
	return p.body.Write(b)
}
