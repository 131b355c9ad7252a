package host

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"
)

// The tests run in testing/synctest bubbles, where 30 s pass at once: the handler is in this process, and both it and the callers are connected by
// pipes. What needs a process is tried in process_test.go.

// rule is what the recording handler was told to do with the calls whose target has Match in it.
type rule struct {
	Match   string
	Times   int
	Status  int
	Headers []string
	Body    string
	Chunked bool
	DelayMs int
	Action  string
	Code    int
}

// delivery is a call that the scripted handler got.
type delivery struct {
	at      time.Time
	process int
	head    *request
	body    string
}

// script is a Worker whose handlers answer as the recording one did.
type script struct {
	listens func(process int) time.Duration // after which a process listens; nil is at once

	mu     sync.Mutex
	rules  []rule
	used   map[int]int
	got    []delivery
	starts []time.Time
	broken int         // calls that could not be read
	gone   []time.Time // when connections of unanswered calls were closed by the host
	last   *scripted
	launch Launch
}

// scripted is one process of a script.
type scripted struct {
	s     *script
	n     int
	exit  chan int
	ended chan struct{}
	once  sync.Once

	mu        sync.Mutex
	listening bool
	conns     map[net.Conn]bool
	endedAt   time.Time // guarded by the script's mutex
}

func (s *script) Start(l Launch) (Process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.starts = append(s.starts, time.Now())
	s.launch = l
	p := &scripted{s: s, n: len(s.starts), exit: make(chan int, 1), ended: make(chan struct{}), conns: map[net.Conn]bool{}}
	s.last = p
	var after time.Duration
	if s.listens != nil {
		after = s.listens(p.n)
	}
	time.AfterFunc(after, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.listening = true
	})
	return p, nil
}

func (p *scripted) Pid() int { return 1000 + p.n }
func (p *scripted) Abandon() {}
func (p *scripted) Kill()    { p.end(killed) }
func (p *scripted) Wait() int {
	return <-p.exit
}

// end ends the process: connections break.
func (p *scripted) end(code int) {
	p.once.Do(func() {
		p.mu.Lock()
		p.listening = false
		for c := range p.conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.s.mu.Lock()
		p.endedAt = time.Now()
		p.s.mu.Unlock()
		close(p.ended)
		p.exit <- code
	})
}

func (p *scripted) Dial(context.Context) (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.ended:
		return nil, errors.New("connection refused")
	default:
	}
	if !p.listening {
		return nil, errors.New("connection refused")
	}
	ours, theirs := net.Pipe()
	p.conns[ours] = true
	go p.handle(ours)
	return theirs, nil
}

// handle answers the calls on one connection.
func (p *scripted) handle(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		req, err := readRequest(r)
		if err != nil {
			if errors.Is(err, errMalformed) {
				p.s.mu.Lock()
				p.s.broken++
				p.s.mu.Unlock()
			}
			return
		}
		var body []byte
		if req.body != nil {
			if body, err = io.ReadAll(req.body); err != nil {
				p.s.mu.Lock()
				p.s.broken++
				p.s.mu.Unlock()
				return
			}
		}
		a := p.s.note(p.n, req, string(body))
		if a.DelayMs > 0 {
			closed := make(chan struct{})
			go func() {
				defer close(closed)
				_, _ = r.Peek(1)
			}()
			select {
			case <-time.After(time.Duration(a.DelayMs) * time.Millisecond):
			case <-p.ended:
				return
			case <-closed:
				p.s.mu.Lock()
				p.s.gone = append(p.s.gone, time.Now())
				p.s.mu.Unlock()
				return
			}
		}
		switch a.Action {
		case "":
		case "drop":
			return
		case "garbage":
			_, _ = io.WriteString(c, "GARBAGE\r\n\r\n")
			return
		case "half":
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\npartial")
			time.Sleep(200 * time.Millisecond)
			return
		case "exit":
			p.end(a.Code)
			return
		default:
			panic("no such action: " + a.Action)
		}
		if a.write(c) != nil || a.DelayMs > 0 { // the reader is in use
			return
		}
	}
}

// write answers as the recording handler's server did.
func (a rule) write(c net.Conn) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\r\n", statusLine(a.Status))
	for _, h := range a.Headers {
		if !a.Chunked || !strings.HasPrefix(h, "Transfer-Encoding") {
			fmt.Fprintf(&b, "%s\r\n", h)
		}
	}
	fmt.Fprintf(&b, "Date: %s\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n", time.Now().UTC().Format(time.RFC1123))
	switch {
	case a.Chunked:
		fmt.Fprintf(&b, "Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(a.Body), a.Body)
	case a.Status == 204:
		b.WriteString("\r\n")
	default:
		fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(a.Body), a.Body)
	}
	_, err := c.Write(b.Bytes())
	return err
}

// wellDone is what the recording handler answered when it was not told otherwise.
var wellDone = rule{Status: 200, Headers: []string{"Content-Type: application/json"}, Body: `{"Outputs":{},"Logs":[],"ReturnValue":null}`}

// note remembers a call and finds the answer.
func (s *script) note(process int, req *request, body string) rule {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, delivery{time.Now(), process, req, body})
	if req.target == "/" {
		for i, r := range s.rules {
			if r.Match == "PROBE" && (r.Times == 0 || s.used[i] < r.Times) {
				s.used[i]++
				return r
			}
		}
		return wellDone
	}
	for i, r := range s.rules {
		if r.Match != "PROBE" && strings.Contains(req.target, r.Match) && (r.Times == 0 || s.used[i] < r.Times) {
			s.used[i]++
			if r.Status == 0 {
				r.Status = 200
			}
			return r
		}
	}
	return wellDone
}

// play tells the handler what to do from now on.
func (s *script) play(rules ...rule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules, s.used, s.got = rules, map[int]int{}, nil
}

// calls are the deliveries so far, without probes.
func (s *script) calls() []delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.got), func(d delivery) bool { return d.head.target == "/" })
}

func (s *script) probes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, d := range s.got {
		if d.head.target == "/" {
			n++
		}
	}
	return n
}

func (s *script) started() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.starts)
}

// network is a listener whose connections are pipes.
type network struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newNetwork() *network { return &network{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (n *network) Accept() (net.Conn, error) {
	select {
	case c := <-n.conns:
		return c, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

func (n *network) Close() error {
	n.once.Do(func() { close(n.closed) })
	return nil
}

func (n *network) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7071} }

func (n *network) dial() (net.Conn, error) {
	select {
	case <-n.closed:
		return nil, errors.New("Connection refused")
	default:
	}
	ours, theirs := net.Pipe()
	select {
	case n.conns <- theirs:
		return ours, nil
	case <-n.closed:
		return nil, errors.New("Connection refused")
	}
}

// handlerPort is that of the scripted handler.
const handlerPort = 4321

// A stage is a host in a bubble with its scripted handler.
type stage struct {
	*Host
	t      *testing.T
	net    *network
	script *script
	mu     sync.Mutex
	logged []Entry
}

// begin starts a host with a scripted handler. Whoever begins it ends it.
func begin(t *testing.T, s *script, c Config) *stage {
	t.Helper()
	if s.used == nil {
		s.used = map[int]int{}
	}
	st := &stage{t: t, net: newNetwork(), script: s}
	c.Listener, c.Port, c.Log = st.net, handlerPort, st.note
	if c.Worker == nil {
		c.Worker = s
	}
	h, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	st.Host = h
	return st
}

// note remembers what is logged.
func (st *stage) note(e Entry) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.logged = append(st.logged, e)
}

func (st *stage) entries() []Entry {
	st.mu.Lock()
	defer st.mu.Unlock()
	return slices.Clone(st.logged)
}

// lines are the texts of what was logged.
func (st *stage) lines() []string {
	st.mu.Lock()
	defer st.mu.Unlock()
	var all []string
	for _, e := range st.logged {
		all = append(all, e.Text)
	}
	return all
}

// seen is what a caller saw: as the recording writes it.
type seen struct {
	line    string
	headers []string
	body    string
	failed  string // how it ended, if not well
	took    time.Duration
}

func (s seen) String() string {
	if s.line == "" {
		return s.failed
	}
	return s.line + " | " + s.body
}

// call sends a request as it stands, and reads what comes for so long.
func (st *stage) call(line string, headers []string, body string, patience time.Duration) seen {
	start := time.Now()
	c, err := st.net.dial()
	if err != nil {
		return seen{failed: err.Error()}
	}
	defer c.Close()
	_ = c.SetDeadline(start.Add(patience))
	go func() { _, _ = io.WriteString(c, line+"\r\n"+strings.Join(headers, "\r\n")+"\r\n\r\n"+body) }()
	s := readSeen(c, strings.HasPrefix(line, "HEAD "))
	s.took = time.Since(start)
	return s
}

// readSeen reads an answer without interpreting more than its end.
func readSeen(c net.Conn, noBody bool) (s seen) {
	r := bufio.NewReader(c)
	fail := func(err error) seen {
		s.failed = "broken off"
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			s.failed = "timed out"
		}
		return s
	}
	length, chunked := int64(0), false
	for first := true; ; {
		line, err := r.ReadString('\n')
		if err != nil {
			return fail(err)
		}
		line = strings.TrimRight(line, "\r\n")
		if first && line == "HTTP/1.1 100 Continue" {
			_, _ = r.ReadString('\n')
			continue
		}
		if first {
			s.line, first = line, false
			continue
		}
		if line == "" {
			break
		}
		name, value, _ := strings.Cut(line, ": ")
		switch name {
		case "Date", "Server":
			continue
		case "Content-Length":
			length, _ = strconv.ParseInt(value, 10, 64)
		case "Transfer-Encoding":
			chunked = true
		}
		s.headers = append(s.headers, line)
	}
	if noBody {
		_, err := r.ReadByte()
		return fail(err)
	}
	var b bytes.Buffer
	var err error
	if chunked {
		for err == nil && !strings.HasSuffix(b.String(), "0\r\n\r\n") {
			var line string
			line, err = r.ReadString('\n')
			b.WriteString(line)
		}
	} else {
		_, err = io.CopyN(&b, r, length)
	}
	s.body = b.String()
	if err != nil {
		return fail(err)
	}
	return s
}

// The functions of the recordings.
const (
	calloutJSON = `{"bindings":[{"type":"httpTrigger","direction":"in","name":"req","methods":["post"],"route":"callout"},{"type":"http","direction":"out","name":"res"}]}`
	consoleJSON = `{"bindings":[{"type":"httpTrigger","direction":"in","name":"req","authLevel":"anonymous","methods":["get","post"],"route":"console/{*path}"},{"type":"http","direction":"out","name":"res"}]}`
	closedJSON  = `{"bindings":[{"type":"httpTrigger","direction":"in","name":"req","authLevel":"function","methods":["post"],"route":"ticket-closed"},{"type":"http","direction":"out","name":"res"}]}`
	advanceJSON = `{"bindings":[{"type":"queueTrigger","direction":"in","name":"msg","queueName":"advance","connection":"AzureWebJobsStorage"}]}`
	sweepJSON   = `{"bindings":[{"type":"timerTrigger","direction":"in","name":"timer","schedule":"%SWEEP_SCHEDULE%"}]}`
)

// hostFile is a host.json: more is put into customHandler, and after it.
func hostFile(inHandler, after string) string {
	return `{"version":"2.0","customHandler":{"description":{"defaultExecutablePath":"handler.sh"}` + inHandler + `},
		"extensionBundle":{"id":"Microsoft.Azure.Functions.ExtensionBundle","version":"[4.*, 5.0.0)"}` + after + `}`
}

// appOf is an app's folder with these files.
func appOf(files map[string]string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

// webApp is the app of the HTTP recordings, in a mode.
func webApp(mode string, more map[string]string) fstest.MapFS {
	flag := map[string]string{"proxying": `,"enableProxyingHttpRequest":true`, "forwarding": `,"enableForwardingHttpRequest":true`, "envelope": ""}[mode]
	files := map[string]string{
		"host.json":                  hostFile(flag, ""),
		"callout/function.json":      calloutJSON,
		"console/function.json":      consoleJSON,
		"ticketclosed/function.json": closedJSON,
	}
	maps.Copy(files, more)
	return appOf(files)
}

// bubble runs a test in fake time, from a moment on.
func bubble(t *testing.T, from string, f func(t *testing.T)) {
	synctest.Test(t, func(t *testing.T) {
		if from != "" {
			at, err := time.Parse(time.RFC3339Nano, from)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Until(at))
		}
		f(t)
	})
}
