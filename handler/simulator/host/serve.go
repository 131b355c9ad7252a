package host

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// serve takes callers' connections.
func (h *Host) serve() {
	for {
		c, err := h.listener.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		refused := h.stopping()
		if !refused {
			h.conns[c] = false
		}
		h.mu.Unlock()
		if refused {
			_ = c.Close()
			continue
		}
		h.running.Go(func() {
			(&caller{h: h, conn: c, r: bufio.NewReader(c), w: bufio.NewWriter(c)}).serve()
			h.mu.Lock()
			delete(h.conns, c)
			h.mu.Unlock()
			_ = c.Close()
		})
	}
}

// A caller is a connection from outside, and the call that is on it.
type caller struct {
	h    *Host
	conn net.Conn
	r    *bufio.Reader
	w    *bufio.Writer

	mu       sync.Mutex
	expects  bool // it waits for 100 Continue before it sends the body
	answered bool // the answer has begun

	late atomic.Bool // the function ran too long: recorded, the call is tried again although its caller has an answer
}

// serve answers one call after another.
func (c *caller) serve() {
	for {
		req, err := readRequest(c.r)
		if err != nil {
			if errors.Is(err, errMalformed) {
				_ = c.answer(nil, &response{status: http.StatusBadRequest, fields: fields{{"Connection", "close"}}})
			}
			return
		}
		if !c.busy(true) {
			return
		}
		gone := c.call(req)
		if !c.busy(false) || gone == nil || <-gone != nil {
			return
		}
	}
}

// busy says that a call is, or is no longer, in flight; it is false when the connection is to be closed.
func (c *caller) busy(b bool) bool {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	if b {
		c.h.web.add(1)
	} else {
		c.h.web.add(-1)
	}
	c.h.conns[c.conn] = b
	return !c.h.stopping()
}

// call answers one call. It returns nil when no other one may follow on the connection; else there comes an error when the caller hangs up.
func (c *caller) call(req *request) <-chan error {
	ctx, cancel := context.WithCancel(c.h.alive)
	c.expects, c.answered = strings.EqualFold(req.fields.get("Expect"), "100-continue"), false
	c.late.Store(false)

	// When all of the body has been read, the next thing to read is that the caller hangs up: then nobody waits for the answer.
	gone := make(chan error, 1)
	watch := func() {
		go func() {
			_, err := c.r.Peek(1)
			if err != nil && !c.late.Load() {
				cancel()
			}
			gone <- err
		}()
	}
	var body *callerBody
	if req.body == nil {
		watch()
	} else {
		body = &callerBody{r: req.body, c: c, over: watch}
		req.body = body
	}
	err := c.respond(ctx, req)
	if !c.late.Load() {
		cancel()
	}
	if err != nil || strings.EqualFold(req.fields.get("Connection"), "close") {
		return nil
	}
	if body != nil {
		if body.wasStopped() {
			return nil
		}
		_ = c.conn.SetReadDeadline(time.Now().Add(5 * time.Second)) // as long as the host's server reads what nobody wanted
		if _, err := io.Copy(io.Discard, body); err != nil {
			return nil
		}
		_ = c.conn.SetReadDeadline(time.Time{})
	}
	return gone
}

// callerBody is a body on its way in.
type callerBody struct {
	r    io.Reader
	c    *caller
	over func() // called once, when all of it has been read

	mu             sync.Mutex
	ended, stopped bool
}

// stop lets a Read that waits for the caller return. The connection is of no use then.
func (b *callerBody) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.ended {
		b.stopped = true
		_ = b.c.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

func (b *callerBody) wasStopped() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stopped
}

func (b *callerBody) Read(p []byte) (int, error) {
	if err := b.c.proceed(); err != nil {
		return 0, err
	}
	n, err := b.r.Read(p)
	if errors.Is(err, io.EOF) {
		b.mu.Lock()
		first := !b.ended && !b.stopped
		b.ended = true
		b.mu.Unlock()
		if first {
			b.over()
		}
	}
	return n, err
}

// proceed asks a caller for the body who waits to be asked.
func (c *caller) proceed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.expects || c.answered {
		return nil
	}
	c.expects = false
	return writeHead(c.w, statusLine(http.StatusContinue), nil)
}

// answer sends an answer, whose body may still be coming. An error is that the connection is of no use any more.
func (c *caller) answer(req *request, a *response) error {
	c.mu.Lock()
	c.answered = true
	c.mu.Unlock()
	f := a.fields
	if _, ok := f.find("Date"); !ok {
		f = append(f, field{"Date", time.Now().UTC().Format(http.TimeFormat)})
	}
	if _, ok := f.find("Server"); !ok {
		f = append(f, field{"Server", "Kestrel"})
	}
	empty := a.status == http.StatusNoContent || a.status == http.StatusNotModified || req != nil && req.method == http.MethodHead
	chunked := false
	if !empty {
		switch {
		case a.body == nil && a.framing.length >= 0:
			if _, ok := f.find("Content-Length"); !ok && !a.framing.chunked {
				f = append(fields{{"Content-Length", "0"}}, f...)
			}
		case a.framing.length >= 0:
			f = append(fields{{"Content-Length", strconv.FormatInt(a.framing.length, 10)}}, f.without("Content-Length")...)
		default:
			chunked = true
			f = append(f.without("Transfer-Encoding"), field{"Transfer-Encoding", "chunked"})
		}
	}
	if err := writeHead(c.w, statusLine(a.status), f); err != nil || empty || a.body == nil {
		return err
	}
	return passOn(c.w, a.body, chunked) // after an error the caller sees it cut short
}

// respond answers a call, over the desk of faults. An error is that the connection is of no use any more.
func (c *caller) respond(ctx context.Context, req *request) error {
	a, err := through(ctx, c.h.c.Calls, req, func(body io.Reader) (*answer, error) {
		once := *req
		once.body = body
		return c.reply(ctx, &once), nil
	})
	if err != nil {
		return err
	}
	defer a.close()
	return c.answer(req, a.response)
}

// reply finds out what a call is for, and what is to be answered.
func (c *caller) reply(ctx context.Context, req *request) *answer {
	h := c.h
	say := func(r *response) *answer { return &answer{r, func() {}} }
	if h.app.broken != nil {
		return say(&response{status: http.StatusServiceUnavailable, framing: framing{length: -1}, body: strings.NewReader("Function host is not running.")})
	}
	target := req.target
	if i := strings.Index(target, "://"); i >= 0 && !strings.HasPrefix(target, "/") { // the absolute form
		_, target, _ = strings.Cut(target[i+3:], "/")
		target = "/" + target
	}
	raw, query, _ := strings.Cut(target, "?")
	path, ok := decodePath(raw)
	if !ok || !strings.HasPrefix(path, "/") {
		return say(&response{status: http.StatusBadRequest, fields: fields{{"Connection", "close"}}})
	}
	in := incoming{request: req, path: path, query: query, remote: remoteIP(c.conn)}
	if a := h.own(&in); a != nil {
		return say(a)
	}
	f, params := h.app.find(req.method, path)
	if f == nil {
		return say(&response{status: http.StatusNotFound})
	}
	in.params = params
	in.granted = h.grant(&in, f)
	if !in.granted.opens(f.level) && !h.keys.Off {
		return say(&response{status: http.StatusUnauthorized})
	}
	a, err := h.callHTTP(ctx, f, &in)
	if err != nil {
		c.late.Store(errors.Is(err, errTimeout))
		return say(&response{status: http.StatusInternalServerError})
	}
	return a
}

// incoming is a caller's request, as the host understood it.
type incoming struct {
	*request
	path    string // decoded
	query   string // as sent
	remote  string // the caller's address
	params  []param
	granted grant
}

func remoteIP(c net.Conn) string {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.IP.String()
	}
	return "127.0.0.1"
}

// find returns the function that a call is for, or nil.
func (a *app) find(method, path string) (*function, []param) {
	var best *function
	var params []param
	for _, f := range a.functions {
		if f.kind != httpKind || f.err != nil || !f.takes(method) {
			continue
		}
		if p, ok := f.route.match(path); ok && (best == nil || f.route.before(best.route)) {
			best, params = f, p
		}
	}
	return best, params
}

// takes says whether a method is among a function's; without a list all are.
func (f *function) takes(method string) bool {
	if len(f.methods) == 0 {
		return true
	}
	for _, m := range f.methods {
		if m == method {
			return true
		}
	}
	return false
}
