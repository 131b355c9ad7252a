package host

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// How a call of the handler can fail, apart from what it answers.
var (
	errRefused = errors.New("nobody listens")
	errDropped = errors.New("the connection was dropped before the answer")
	errTimeout = errors.New("the function ran too long")
	errChunked = errors.New("a body of unknown length cannot be forwarded")
)

// outgoing is a call of the handler.
type outgoing struct {
	method, target string
	fields         fields
	body           io.Reader // nil when there is none
	chunked        bool
	stop           func() // makes a Read of the body return
	taken          bool   // some of the body may be gone
}

// answer is the handler's answer, as it comes.
type answer struct {
	*response
	close func()
}

// exchange sends a call to the handler once, over the desk of faults.
func (h *Host) exchange(ctx context.Context, out *outgoing, idle time.Duration) (*answer, error) {
	r := &request{method: out.method, target: out.target, fields: out.fields, body: out.body}
	return through(ctx, h.c.Deliveries, r, func(body io.Reader) (*answer, error) {
		once := *out
		once.body = body
		a, err := h.send(ctx, &once, idle)
		out.taken = out.taken || once.taken
		return a, err
	})
}

// send sends a call to the handler, and reads the head of the answer. With idle, no byte for that long is an error.
func (h *Host) send(ctx context.Context, out *outgoing, idle time.Duration) (*answer, error) {
	p, err := h.super.current()
	if err != nil {
		return nil, errRefused
	}
	conn, err := p.Dial(ctx)
	if err != nil {
		return nil, errors.Join(errRefused, ctx.Err())
	}
	unhook := context.AfterFunc(ctx, func() { _ = conn.Close() })
	written := make(chan struct{})
	finish := func() {
		unhook()
		_ = conn.Close()
		select {
		case <-written:
		default:
			if out.stop != nil {
				out.stop()
			}
			<-written
		}
	}
	out.taken = out.body != nil
	go func() {
		defer close(written)
		out.write(conn)
	}()
	if idle > 0 {
		_ = conn.SetReadDeadline(time.Now().Add(idle))
	}
	r, err := readResponse(bufio.NewReader(conn), out.method)
	if err != nil {
		finish()
		if errors.Is(err, io.EOF) {
			err = errDropped
		}
		return nil, err
	}
	if r.body != nil && idle > 0 {
		r.body = &impatient{r.body, conn, idle}
	}
	return &answer{r, finish}, nil
}

// write sends the call. What goes wrong shows when the answer is read.
func (o *outgoing) write(conn net.Conn) {
	w := bufio.NewWriter(conn)
	if writeHead(w, o.method+" "+o.target+" HTTP/1.1", o.fields) != nil || o.body == nil {
		return
	}
	_ = passOn(w, o.body, o.chunked)
}

// impatient reads a body that may pause only so long.
type impatient struct {
	r    io.Reader
	conn net.Conn
	idle time.Duration
}

func (i *impatient) Read(p []byte) (int, error) {
	_ = i.conn.SetReadDeadline(time.Now().Add(i.idle))
	return i.r.Read(p)
}

// deliver sends a call, and again so many times when the connection is dropped without a byte, as .NET's client does.
func (h *Host) deliver(ctx context.Context, out *outgoing, again int, idle time.Duration) (*answer, error) {
	for {
		a, err := h.exchange(ctx, out, idle)
		if !errors.Is(err, errDropped) || again == 0 || ctx.Err() != nil {
			return a, err
		}
		again--
	}
}

// invoke runs a function: it waits while the handler is being started, and ends it when the function runs too long.
func invoke[T any](ctx context.Context, h *Host, f *function, id, reason string, run func(context.Context) (T, error)) (T, error) {
	type outcome struct {
		v   T
		err error
	}
	h.log(Information, "Function."+f.name, "Executing 'Functions.%s' (Reason='%s', Id=%s)", f.name, reason, id)
	start := time.Now()
	done := make(chan outcome, 1)
	h.running.Go(func() {
		var o outcome
		if o.err = h.super.await(h.alive); o.err == nil { // recorded: also when the caller has hung up meanwhile
			o.v, o.err = run(ctx)
		}
		done <- o
	})
	var limit <-chan time.Time
	if h.app.timeout > 0 {
		t := time.NewTimer(h.app.timeout)
		defer t.Stop()
		limit = t.C
	}
	var o outcome
	select {
	case o = <-done:
	case <-limit:
		h.log(Error, "Function."+f.name, "Timeout value of %s exceeded by function 'Functions.%s' (Id: '%s'). Initiating cancellation.", spanText(h.app.timeout), f.name, id)
		o.err = errTimeout
		h.running.Go(func() { // nobody waits for its answer
			if a, ok := any((<-done).v).(*answer); ok && a != nil {
				a.close()
			}
		})
	}
	if ctx.Err() != nil && h.alive.Err() != nil {
		return o.v, errors.Join(ctx.Err(), o.err) // the host is gone: nobody logs any more
	}
	ms := time.Since(start).Milliseconds()
	if o.err == nil {
		h.log(Information, "Function."+f.name, "Executed 'Functions.%s' (Succeeded, Id=%s, Duration=%dms)", f.name, id, ms)
		return o.v, nil
	}
	h.log(Error, "Function."+f.name, "Executed 'Functions.%s' (Failed, Id=%s, Duration=%dms)", f.name, id, ms)
	h.log(Error, "Function."+f.name, "Microsoft.Azure.WebJobs.Host.FunctionInvocationException: Exception while executing function: Functions.%s", f.name)
	h.log(Error, "Function."+f.name, "---> %v", o.err)
	if errors.Is(o.err, errTimeout) {
		h.super.timedOut(h.alive, id)
	}
	return o.v, o.err
}

// spanText writes a duration as .NET does.
func spanText(d time.Duration) string {
	s := int(d / time.Second)
	return fmt.Sprintf("%02d:%02d:%02d", s/3600, s/60%60, s%60)
}

const programmatically = "This function was programmatically called via the host APIs."

// callHTTP calls an HTTP function. The answer's body may still be coming. An error is a 500.
func (h *Host) callHTTP(ctx context.Context, f *function, in *incoming) (*answer, error) {
	id := uuid.NewString()
	run := h.callEnvelope
	switch {
	case !h.app.whole(f):
	case h.app.proxying:
		run = h.proxy
	default:
		run = h.forward
	}
	return invoke(ctx, h, f, id, programmatically, func(ctx context.Context) (*answer, error) { return run(ctx, f, in, id) })
}

// hostFields are what the host adds to every call.
func hostFields(id string) fields {
	return fields{{"X-Azure-Functions-HostVersion", Version}, {"X-Azure-Functions-InvocationId", id}}
}

// contentFields say how long a caller's body is, as he said it.
func (in *incoming) contentFields() fields {
	if in.framing.chunked {
		return fields{{"Transfer-Encoding", "chunked"}}
	}
	if _, ok := in.fields.find("Content-Length"); ok {
		return fields{{"Content-Length", strconv.FormatInt(in.framing.length, 10)}}
	}
	return nil
}

func (in *incoming) stop() func() {
	if b, ok := in.body.(*callerBody); ok {
		return b.stop
	}
	return nil
}

// Proxying, as recorded.
const (
	proxyAttempts = 10
	clientRetries = 3 // of .NET's client, for a call that has no content

	pauseOverhead = 3 * time.Millisecond // by which a pause is longer than the log says
)

// proxy hands a call on as it comes, and its answer as it comes. It tries ten times.
func (h *Host) proxy(ctx context.Context, _ *function, in *incoming, id string) (*answer, error) {
	out := &outgoing{method: in.method, target: proxiedPath(in.path), body: in.body, chunked: in.framing.chunked, stop: in.stop()}
	if in.query != "" {
		out.target += "?" + in.query
	}
	out.fields = append(fields{{"Host", h.workerHost()}}, in.fields.without(append([]string{
		"Host", "Content-Length", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto",
	}, hopByHop...)...)...)
	out.fields = append(out.fields, hostFields(id)...)
	out.fields = append(out.fields, fields{
		{"x-ms-invocation-id", id},
		{"X-Forwarded-For", in.remote},
		{"X-Forwarded-Host", in.fields.get("Host")},
		{"X-Forwarded-Proto", "http"},
	}...)
	content := in.contentFields()
	out.fields = append(out.fields, content...).joined()
	again := 0
	if content == nil {
		again = clientRetries
	}
	pause := 50 * time.Millisecond
	for attempt := 1; ; attempt++ {
		err := errors.New("the body is gone")
		if !out.taken {
			var a *answer
			if a, err = h.deliver(ctx, out, again, h.c.Timing.Idle); err == nil {
				a.fields = a.fields.without(hopByHop...)
				return a, nil
			}
		}
		if attempt == proxyAttempts || errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, err
		}
		h.log(Warning, "Host.Startup", "Failed to proxy request to the worker. Retrying in %dms. Attempt %d of %d.", pause.Milliseconds(), attempt, proxyAttempts)
		if !sleep(ctx, pause+pauseOverhead) {
			return nil, ctx.Err()
		}
		pause = min(2*pause, 250*time.Millisecond)
	}
}

// forward makes a call anew from the caller's, and reads the answer whole.
func (h *Host) forward(ctx context.Context, _ *function, in *incoming, id string) (*answer, error) {
	if in.framing.chunked {
		return nil, errChunked
	}
	out := &outgoing{method: in.method, target: forwardedPath(in.path), body: in.body, stop: in.stop()}
	if q := forwardedQuery(in.query); q != "" {
		out.target += "?" + q
	}
	agent := "Azure-Functions-Host/" + Version
	if own := in.fields.get("User-Agent"); own != "" {
		agent = own + " " + agent
	}
	out.fields = append(in.fields.without("User-Agent", "Content-Length", "Connection", "Keep-Alive"), hostFields(id)...)
	out.fields = append(append(out.fields, field{"User-Agent", agent}), in.contentFields()...).joined()
	again := 0
	if out.body == nil {
		again = clientRetries
	}
	a, err := h.deliver(ctx, out, again, 0)
	if err != nil || a.body == nil {
		return a, err
	}
	defer a.close()
	whole, err := io.ReadAll(a.body)
	if err != nil {
		return nil, err
	}
	a.body, a.framing = bytes.NewReader(whole), framing{length: int64(len(whole))}
	a.fields = a.fields.without("Transfer-Encoding")
	return &answer{a.response, func() {}}, nil
}
