package host

import (
	"bufio"
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Times of the host as recorded, and not set by anybody.
const (
	probeEvery   = 28 * time.Millisecond
	restartAfter = 80 * time.Millisecond
	maxCrashes   = 3
)

// phase is where the handler's process is.
type phase int

const (
	starting phase = iota // calls wait
	ready
	over // it is not started again: calls go out, and fail
)

// A supervisor starts the handler, probes it, and starts it again.
type supervisor struct {
	h      *Host
	launch Launch

	mu       sync.Mutex
	proc     Process       // nil before the first one
	gone     chan struct{} // closed when proc has ended
	exited   bool          // that has been noticed
	phase    phase
	changed  chan struct{} // closed at the next change
	crashes  int
	timeouts int  // under way
	restart  bool // proc was killed for a time-out, which is not counted
}

func (s *supervisor) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// run starts handlers until there is to be no more. It ends when the last one has.
func (s *supervisor) run(ctx context.Context) {
	for s.once(ctx) {
		if !sleep(ctx, restartAfter) {
			return
		}
	}
}

// once runs one process to its end, and says whether there is to be another one.
func (s *supervisor) once(ctx context.Context) bool {
	h, l := s.h, s.launch
	id := uuid.NewString()
	out := &lines{each: func(line string) { h.output(id, line, false) }}
	errs := &lines{each: func(line string) { h.output(id, line, true) }}
	l.Stdout, l.Stderr, l.Env = out, errs, s.environment(id)
	h.log(Information, "Host.Startup", "Starting worker process with FileName:%s WorkingDirectory:%s Arguments:%s", l.Path, l.Dir, strings.Join(l.Args, " "))
	p, err := h.c.Worker.Start(l)
	if err != nil {
		h.log(Error, "Worker.HttpWorkerProcess."+id, "Failed to start Worker Channel. Process fileName: %s", l.Path)
		h.log(Error, "Worker.HttpWorkerProcess."+id, "%v", err)
		return false // recorded: calls wait for ever
	}
	h.log(Information, "Host.Startup", "%s process with Id=%d started", l.Path, p.Pid())
	gone := make(chan struct{})
	s.set(func() { s.proc, s.gone, s.exited, s.phase, s.restart = p, gone, false, starting, false })

	if ctx.Err() != nil { // it came too late to be noticed
		p.Kill()
	}
	exit := make(chan int, 1)
	go func() {
		defer close(gone)
		code := p.Wait()
		out.close()
		errs.close()
		exit <- code
	}()
	code, began := s.watch(ctx, p, exit)
	if ctx.Err() != nil {
		return false
	}
	s.set(func() { s.exited = true })
	if h.stopping() {
		s.set(func() { s.phase = over })
		return false
	}
	return s.next(p, code, began)
}

// watch waits until a process is ready, and then until it ends. began is false when it never was ready.
func (s *supervisor) watch(ctx context.Context, p Process, exit <-chan int) (code int, began bool) {
	probing, cancel := context.WithCancel(ctx)
	defer cancel()
	answered := make(chan struct{})
	go func() {
		if s.probe(probing, p) {
			close(answered)
		}
	}()
	limit := time.NewTimer(s.h.c.Timing.StartTimeout)
	defer limit.Stop()
	select {
	case <-answered:
		s.h.log(Information, "Host.Startup", "Worker process started and initialized.")
		s.set(func() { s.phase = ready })
		s.h.readyOnce.Do(func() { close(s.h.ready) })
		began = true
		select {
		case code = <-exit:
		case <-ctx.Done():
			return 0, true
		}
	case code = <-exit:
		if code == 0 {
			select {
			case <-limit.C: // nobody looks at a process that ended well
			case <-ctx.Done():
			}
			code = -1
		}
	case <-limit.C:
		s.h.log(Error, "Host.Startup", "Exceeded the time in which the worker process must be ready.")
		p.Kill()
		code = <-exit
	case <-ctx.Done():
		return 0, false
	}
	s.h.log(Information, "Host.Startup", "Process %d has exited with code %d.", p.Pid(), code)
	return code, began
}

// next decides what an exit leads to.
func (s *supervisor) next(p Process, code int, began bool) bool {
	s.mu.Lock()
	restart := s.restart
	s.mu.Unlock()
	switch {
	case restart:
		return true
	case code == 0 && began:
		s.set(func() { s.phase = over })
		return false
	case code == 200:
		s.h.log(Information, "Host.Startup", "Language Worker Process exited and needs to be restarted.")
		s.set(func() { s.phase = starting })
		return true
	}
	s.h.log(Error, "Host.Startup", "Language Worker Process exited. Pid=%d.", p.Pid())
	s.h.log(Error, "Host.Startup", "Microsoft.Azure.WebJobs.Script.Workers.WorkerProcessExitException: %s exited with code %d (0x%X)", s.launch.Path, code, code)
	last := false
	s.set(func() {
		s.crashes++
		if last = s.crashes == maxCrashes; last {
			s.phase = over
		} else {
			s.phase = starting
		}
	})
	if last {
		s.h.end(Exit{0, "the handler crashed three times"})
	}
	return !last
}

// probe asks for / until anything comes back, and never again.
func (s *supervisor) probe(ctx context.Context, p Process) bool {
	for {
		c, err := p.Dial(ctx)
		if err == nil {
			stop := context.AfterFunc(ctx, func() { _ = c.Close() })
			req := fields{{"Host", s.h.workerHost()}}
			if writeHead(bufio.NewWriter(c), "GET / HTTP/1.1", req) == nil {
				_, _ = readResponse(bufio.NewReader(c), "GET") // even a dropped connection will do
			}
			stop()
			_ = c.Close()
			return ctx.Err() == nil
		}
		if !sleep(ctx, probeEvery) {
			return false
		}
	}
}

// await waits while the handler is being started.
func (s *supervisor) await(ctx context.Context) error {
	for {
		s.mu.Lock()
		phase, changed := s.phase, s.changed
		s.mu.Unlock()
		if phase != starting {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

var errNoProcess = errors.New("there is no process")

// current returns the process, unless it has ended.
func (s *supervisor) current() (Process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil || s.exited {
		return nil, errNoProcess
	}
	return s.proc, nil
}

// timedOut kills the handler because a function ran too long, and returns when the next one is ready. Two at once end the host.
func (s *supervisor) timedOut(ctx context.Context, invocation string) {
	both := false
	s.set(func() {
		s.timeouts++
		both = s.timeouts > 1
	})
	if both {
		s.h.end(Exit{0, "two functions ran too long at once"})
	}
	defer s.set(func() { s.timeouts-- })
	if !sleep(ctx, s.h.c.Timing.KillDelay) {
		return
	}
	s.h.log(Warning, "Host.Startup", "A function timeout has occurred. Restarting worker process executing invocationId '%s'.", invocation)
	var p Process
	s.set(func() {
		if p = s.proc; p != nil && !s.exited {
			s.restart, s.phase = true, starting
		}
	})
	if p != nil {
		p.Kill()
	}
	if !s.h.stopping() {
		_ = s.await(ctx)
	}
}

// finish ends the process for good, or leaves it alone.
func (s *supervisor) finish(leave bool) {
	p, err := s.current()
	if err != nil {
		return
	}
	if leave {
		p.Abandon()
		return
	}
	p.Kill()
	s.mu.Lock()
	gone := s.gone
	s.mu.Unlock()
	<-gone
	s.h.log(Information, "Host.Startup", "Process %d has exited with code %d.", p.Pid(), killed)
}

// sleep waits, and says whether the context goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil // both may be so at once
	case <-ctx.Done():
		return false
	}
}

// workerHost is the handler's own address.
func (h *Host) workerHost() string { return "127.0.0.1:" + strconv.Itoa(h.super.launch.Port) }

// consolePrefix marks a line that is meant for the worker's own log.
const consolePrefix = "LanguageWorkerConsoleLog"

// output logs a line that the handler wrote.
func (h *Host) output(worker, line string, stderr bool) {
	level, category := Information, "Host.Function.Console"
	if stderr {
		level = Error
		if strings.Contains(strings.ToLower(line), "warn") {
			level = Warning
		}
	}
	if rest, ok := strings.CutPrefix(line, consolePrefix); ok {
		line, category = rest, "Worker.HttpWorkerProcess."+worker
	}
	h.log(level, category, "%s", line)
}

// environment is what a handler is started with.
func (s *supervisor) environment(worker string) []string {
	c := s.h.c
	env := slices.Clone(c.Environ)
	for _, k := range slices.Sorted(maps.Keys(c.Settings)) {
		env = append(env, k+"="+c.Settings[k])
	}
	port := strconv.Itoa(s.launch.Port)
	return append(env,
		"FUNCTIONS_CUSTOMHANDLER_PORT="+port, "FUNCTIONS_HTTPWORKER_PORT="+port,
		"FUNCTIONS_CUSTOMHANDLER_WORKER_ID="+worker, "FUNCTIONS_HTTPWORKER_ID="+worker,
		"FUNCTIONS_APP_ROOT_PATH="+c.Dir)
}
