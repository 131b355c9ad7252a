// Package host is a stand-in for the Azure Functions host: it reads an app's folder, starts its custom handler, and calls it as the host does for HTTP
// requests, queue messages and timers. It behaves as recorded on host 4.1037, and misbehaves on request.
//
// It is not the host in what the handler cannot see and no recording shows: each call has a connection of its own, an idle queue is asked without
// jitter, and the lock of a timer ends with its host. Routes have no constraints, and bindings other than those of HTTP, queues and timers do not exist.
package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"sync"
	"time"

	"ticketbridge/handler/simulator/misbehave"
)

// Version is the host that was recorded.
const Version = "4.1037.0.0"

// Config says which app the host runs, and how.
type Config struct {
	// App is the app's folder as the host reads it: host.json, and function.json one folder deep.
	App fs.FS
	// Dir is where that folder is on disk: the handler's working directory, and where its executable is looked for.
	Dir string
	// Settings are the app settings: what %NAME% in a binding stands for, and part of the handler's environment.
	Settings map[string]string
	// Environ is the host's own environment, which the handler gets too, as of os.Environ; Settings win over it.
	Environ []string
	// Worker starts the handler; nil is Executable.
	Worker Worker
	// Port is the handler's port; 0 is a free one.
	Port int
	// Queues is where queue triggers poll; nil when the app has none.
	Queues Queues
	// State is what the host would keep in blob storage, when each timer last ran; nil is nothing yet. The next host of the app takes the same.
	State *State
	// Address is where callers are served; "" is "127.0.0.1:0".
	Address string
	// Listener serves callers in place of Address.
	Listener net.Listener
	// Keys are made up where they are not set.
	Keys Keys
	// Log gets what the host logs, and each line that the handler writes; one at a time. Nil is nobody.
	Log func(Entry)
	// Calls lets callers' requests misbehave, before they reach the host; Deliveries the host's calls of the handler, of every kind of function.
	Calls, Deliveries *misbehave.Desk
	// Timing are the host's own times; the zero value is as recorded.
	Timing Timing
}

// Timing are the times of the host that a test may not want to wait for. Where one is 0, it is as recorded.
type Timing struct {
	StartTimeout time.Duration // until the handler must have answered the first probe: 34 s
	HTTPGrace    time.Duration // for HTTP calls when the host stops: 30 s
	TriggerGrace time.Duration // for queue and timer calls then: 10 s
	Idle         time.Duration // without a byte of a proxied answer: 240 s
	KillDelay    time.Duration // from functionTimeout to SIGKILL: 2 s
	Visibility   time.Duration // of a message in work; renewed when half of it is over: 10 min
}

// Keys are what callers show. With Off nobody needs one, as with func start.
type Keys struct {
	Off       bool
	Master    string            // opens everything
	Default   string            // the host's: opens every function
	Functions map[string]string // by function: its own
}

// Entry is one line of the log.
type Entry struct {
	Time     time.Time
	Level    Level
	Category string
	Text     string
}

// Level is how the host's console marks a line.
type Level string

// The levels.
const (
	Information Level = "info"
	Warning     Level = "warn"
	Error       Level = "fail"
)

// Exit is how the host ended.
type Exit struct {
	Code   int
	Reason string
}

// A Host runs one app.
type Host struct {
	c        Config
	app      *app
	keys     Keys
	listener net.Listener
	started  time.Time
	super    *supervisor

	// Contexts end in this order: taking when nothing new is to be taken, alive when everything ends.
	taking, alive         context.Context //nolint:containedctx // they are the host's life
	stopTaking, stopAlive context.CancelFunc

	ready               chan struct{}
	readyOnce           sync.Once
	running             sync.WaitGroup // the supervisor, the listeners and the timers
	web                 gauge          // HTTP calls in flight
	triggers            gauge          // queue and timer calls in flight
	done                chan struct{}
	endOnce, finishOnce sync.Once
	exit                Exit

	logMu sync.Mutex

	mu        sync.Mutex
	conns     map[net.Conn]bool // callers': whether a call is in flight
	redeliver map[string]int    // by function
}

// Start starts the handler and then serves, until Stop, Crash, the handler's third crash, or the end of ctx, which ends everything at once, orphans
// too. Like the host, it starts whatever the app looks like: what is wrong with a function is in the log and in Functions. Its error is that it
// cannot listen.
func Start(ctx context.Context, c Config) (*Host, error) {
	h := &Host{
		c: c.withDefaults(), app: readApp(c.App, c.Settings), started: time.Now(), ready: make(chan struct{}), done: make(chan struct{}),
		conns: map[net.Conn]bool{}, redeliver: map[string]int{}, listener: c.Listener,
	}
	h.keys = h.makeKeys()
	if h.c.Port == 0 {
		port, err := freePort(ctx)
		if err != nil {
			return nil, err
		}
		h.c.Port = port
	}
	if h.listener == nil {
		var lc net.ListenConfig
		var err error
		if h.listener, err = lc.Listen(ctx, "tcp", h.c.Address); err != nil {
			return nil, err
		}
	}
	h.alive, h.stopAlive = context.WithCancel(ctx)
	h.taking, h.stopTaking = context.WithCancel(h.alive)
	h.super = &supervisor{h: h, changed: make(chan struct{}), launch: Launch{
		Path: h.app.executable, Args: h.app.arguments, Dir: h.c.Dir, Port: h.c.Port,
	}}
	h.report()
	h.startWork()
	context.AfterFunc(ctx, func() {
		h.finish(Exit{killed, "the context ended"}, true)
		h.super.finish(false) // an orphan
	})
	return h, nil
}

// startWork starts everything that runs beside the calls.
func (h *Host) startWork() {
	h.running.Go(h.serve)
	if h.app.broken != nil || len(h.app.functions) == 0 {
		return
	}
	h.running.Go(func() { h.super.run(h.alive) })
	for _, f := range h.app.functions {
		switch {
		case f.err != nil:
		case f.kind == queueKind && h.c.Queues != nil:
			h.running.Go(func() { h.poll(f) })
		case f.kind == timerKind:
			h.running.Go(func() { h.tick(f) })
		}
	}
}

// report logs what was found in the app's folder.
func (h *Host) report() {
	if h.app.broken != nil {
		h.log(Error, "Host.Startup", "%v", h.app.broken)
		return
	}
	loaded := 0
	for _, f := range h.app.functions {
		if !errors.As(f.err, new(notLoadedError)) {
			loaded++
		}
	}
	h.log(Warning, "Host.Startup", "0 functions found (Custom)")
	h.log(Information, "Host.Startup", "%d functions loaded", loaded)
	for _, f := range h.app.functions {
		if f.kind == httpKind && f.err == nil {
			h.log(Information, "Host.Startup", "Mapped function route '%s' [%s] to '%s'", f.route.text, strings.ToLower(strings.Join(f.methods, ",")), f.name)
		}
	}
	for _, f := range h.app.functions {
		if f.err != nil {
			h.log(Error, "Host.Startup", "The '%s' function is in error: %v", f.name, f.err)
		}
	}
}

func (c Config) withDefaults() Config {
	if c.Worker == nil {
		c.Worker = Executable{}
	}
	if c.State == nil {
		c.State = &State{}
	}
	if c.Address == "" {
		c.Address = "127.0.0.1:0"
	}
	t := &c.Timing
	for _, d := range []struct {
		to       *time.Duration
		recorded time.Duration
	}{
		{&t.StartTimeout, 34 * time.Second},
		{&t.HTTPGrace, 30 * time.Second},
		{&t.TriggerGrace, 10 * time.Second},
		{&t.Idle, 240 * time.Second},
		{&t.KillDelay, 2 * time.Second},
		{&t.Visibility, 10 * time.Minute},
	} {
		if *d.to == 0 {
			*d.to = d.recorded
		}
	}
	return c
}

// freePort is a port of this machine that nobody listens on.
func freePort(ctx context.Context) (int, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// log writes one line to the log.
func (h *Host) log(level Level, category, format string, args ...any) {
	if h.c.Log == nil {
		return
	}
	h.logMu.Lock()
	defer h.logMu.Unlock()
	h.c.Log(Entry{time.Now(), level, category, fmt.Sprintf(format, args...)})
}

// URL is where callers reach the host, without a slash at the end.
func (h *Host) URL() string { return "http://" + h.listener.Addr().String() }

// Keys are the keys in force.
func (h *Host) Keys() Keys { return h.keys }

// Ready is closed when the handler first answered the probe.
func (h *Host) Ready() <-chan struct{} { return h.ready }

// Functions are the app's functions: for each name, nil or what is wrong with it.
func (h *Host) Functions() map[string]error {
	all := map[string]error{}
	for _, f := range h.app.functions {
		all[f.name] = f.err
	}
	return all
}

// Pid is that of the handler's process, 0 while there is none.
func (h *Host) Pid() int {
	p, err := h.super.current()
	if err != nil {
		return 0
	}
	return p.Pid()
}

// Kill ends the handler's process as kill -9 does. The host starts another one, and ends itself at the third time.
func (h *Host) Kill() {
	if p, err := h.super.current(); err == nil {
		p.Kill()
	}
}

// Redeliver lets the next messages that a queue function handles well be delivered again, as when they could not be deleted.
func (h *Host) Redeliver(function string, messages int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.redeliver[function] += messages
}

// Stop ends the host as SIGTERM does: nothing new is taken, calls in flight get their time, then the handler is killed; but not when a queue
// or timer call is still running, whose process then lives on as an orphan. It returns how the host ended.
func (h *Host) Stop() Exit {
	h.end(Exit{0, "stopped"})
	return h.Wait()
}

// Crash ends the host at once, as kill -9 of it does: connections break, messages stay hidden, and the handler lives on.
func (h *Host) Crash() {
	h.finish(Exit{killed, "crashed"}, false)
	<-h.done
}

// Done is closed when the host has ended.
func (h *Host) Done() <-chan struct{} { return h.done }

// Wait returns how the host ended, when it has.
func (h *Host) Wait() Exit {
	<-h.done
	return h.exit
}

// stopping says whether the host takes nothing new.
func (h *Host) stopping() bool { return h.taking.Err() != nil }

// end ends the host in order, and does not wait for it.
func (h *Host) end(e Exit) {
	h.endOnce.Do(func() {
		h.stopTaking()
		h.closeConns(false)
		go func() {
			t := h.c.Timing
			var grace sync.WaitGroup
			grace.Go(func() { h.web.wait(h.alive, t.HTTPGrace) })
			orphan := false
			grace.Go(func() { orphan = !h.triggers.wait(h.alive, t.TriggerGrace) })
			grace.Wait()
			h.finish(e, !orphan)
		}()
	})
}

// finish ends the host at once, with its handler or without.
func (h *Host) finish(e Exit, handler bool) {
	h.finishOnce.Do(func() {
		h.stopTaking()
		h.closeConns(true)
		h.stopAlive()
		h.super.finish(!handler)
		h.running.Wait()
		h.c.State.unlock(h)
		h.exit = e
		close(h.done)
	})
}

// closeConns closes the listener and the connections of callers: all, or those without a call.
func (h *Host) closeConns(all bool) {
	_ = h.listener.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	for c, busy := range h.conns {
		if tcp, ok := c.(*net.TCPConn); ok && busy && all {
			_ = tcp.SetLinger(0) // recorded: reset by peer
		}
		if all || !busy {
			_ = c.Close()
		}
	}
}

// A gauge counts what is in flight.
type gauge struct {
	mu   sync.Mutex
	n    int
	less chan struct{} // closed when n falls; nil when nobody waits
}

func (g *gauge) add(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n += n; n < 0 && g.less != nil {
		close(g.less)
		g.less = nil
	}
}

// atMost waits until no more than n are in flight, and says whether that came before the context's end.
func (g *gauge) atMost(ctx context.Context, n int) bool {
	for {
		g.mu.Lock()
		if g.n <= n {
			g.mu.Unlock()
			return true
		}
		if g.less == nil {
			g.less = make(chan struct{})
		}
		less := g.less
		g.mu.Unlock()
		select {
		case <-less:
		case <-ctx.Done():
			return false
		}
	}
}

// wait waits until nothing is in flight, and says whether that came in time.
func (g *gauge) wait(ctx context.Context, most time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	return g.atMost(ctx, 0)
}
