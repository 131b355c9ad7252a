// Package host speaks the Azure Functions custom handler protocol: it listens for the Functions host, tells the functions apart by the path
// as it was sent, unwraps triggers, and answers in the only ways that the host understands.
package host

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"ticketbridge/handler/fault"
	"ticketbridge/handler/workflow"
)

// Work is what the functions do. Its methods may be called at the same time. They should end with their context; an answer does not
// wait for one that does not.
type Work interface {
	// Accept remembers a callout: when it returns without an error, the callout is durable. Repeating it is harmless. Errors: fault.Invalid
	// names the field; fault.Forbidden without a Status for a call that is not for us; anything else is not the caller's fault.
	Accept(ctx context.Context, body []byte) (workflow.Receipt, error)

	// TicketClosed takes the hint that a ticket closed; it returns when the hint is durable. Errors as of Accept.
	TicketClosed(ctx context.Context, n workflow.Closed) error

	// Advance takes a correlation as far as it can go now. An error has the message delivered again, at most five times in all.
	Advance(ctx context.Context, m workflow.Message) error

	// Sweep finds what nobody reported. After an error the next run is the timer's.
	Sweep(ctx context.Context) (workflow.Swept, error)
}

// A Gate decides who may call an endpoint, beside the function key, which the Functions host asks for.
type Gate interface {
	// Check says whether the call with this body, whole, may be served. Its errors are *fault.Error: Unauthorized and Forbidden are
	// the caller's; temporary ones are ours.
	Check(r *http.Request, body []byte) error

	// Challenge returns the WWW-Authenticate header of the answer to a call that Check refused with err; "" for none.
	Challenge(r *http.Request, err error) string
}

// Config says what a Server serves.
type Config struct {
	Work    Work
	Callout Gate         // who may call /api/callout; nil asks for nothing
	Close   Gate         // who may call /api/ticket-closed; nil asks for nothing
	Console http.Handler // gets /api/console and what is below it, under that path; nil is 404
	Log     zerolog.Logger

	Parent func() int    // returns the parent's process id; nil is os.Getppid
	Watch  time.Duration // how often it is asked for; 0 is every half second
}

// How long the functions may take. The callers of the first two wait one second by default (Microsoft documents 200 ms to 2 s); the host kills
// the process 2 s after its functionTimeout of 2 minutes, with everything that is in flight.
const (
	callerDeadline = 750 * time.Millisecond // given to the work
	callerPatience = 790 * time.Millisecond // then we answer, whatever the work does

	advanceDeadline = 100 * time.Second
	sweepDeadline   = 90 * time.Second
	triggerGrace    = 8 * time.Second // after a trigger's deadline, for work that does not end with its context

	consoleDeadline = 20 * time.Second

	drainTime = 30 * time.Second // for what is in flight when the process is to end
)

// ErrOrphaned is why Serve ended when the process's parent is gone: a successor may be at work, started by the next host.
var ErrOrphaned = errors.New("the Functions host that started this process is gone")

// A Server is the handler's side of the protocol.
type Server struct {
	config Config
	parent int

	mu       sync.Mutex
	draining bool
	inFlight sync.WaitGroup // added to only while mu is held and draining is false
}

// New makes a Server. It should be made early: it remembers who the parent is.
func New(c Config) *Server {
	if c.Parent == nil {
		c.Parent = os.Getppid
	}
	if c.Watch <= 0 {
		c.Watch = 500 * time.Millisecond
	}
	return &Server{config: c, parent: c.Parent()}
}

// Listen takes the port that the Functions host chose (FUNCTIONS_CUSTOMHANDLER_PORT), on the loopback address only: that is where the host
// dials. Callers should listen before anything that takes time: the host waits for an answer, not for a listener.
func Listen(port string) (net.Listener, error) {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		detail := "is not set; it must hold a port number. The Functions host sets it: start the app with Core Tools, or run the demo"
		if port != "" {
			detail = fmt.Sprintf("holds %q; it must hold a port number", port)
		}
		return nil, &fault.Error{Op: "listen", Reason: fault.Misconfigured, Field: "FUNCTIONS_CUSTOMHANDLER_PORT", Detail: detail}
	}
	l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return l, nil
}

// Serve serves on l until ctx ends, the listener breaks or the parent is gone. Then it takes no more work, gives what is in flight 30 s, and
// returns. Its error is never nil, and the process must not end with 0 after it: the host never restarts a handler that ended with 0
// after it was ready.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second,
		// No idle timeout: a connection that we close while the host sends on it is a dropped one, and a POST on it is lost with a 500.
		WriteTimeout:                 advanceDeadline + triggerGrace + 10*time.Second,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     log.New(serverLog{s.config.Log}, "", 0),
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()

	watch, stop := context.WithCancel(ctx)
	defer stop()
	orphan := make(chan struct{})
	go func() {
		if orphaned(watch, s.parent, s.config.Parent, s.config.Watch) {
			close(orphan)
		}
	}()

	var why error
	select {
	case err := <-ended:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
		why = fmt.Errorf("stopped: %w", context.Cause(ctx))
	case <-orphan:
		why = ErrOrphaned
	}
	s.config.Log.Warn().Str("event", "stopping").Msg(why.Error())
	if !s.drain(drainTime) {
		s.config.Log.Error().Str("event", "stopping").Msg("something is still in flight after 30 s; ending without it")
	}
	// The last answers are on their way: let them leave.
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := srv.Shutdown(end); err != nil {
		_ = srv.Close()
	}
	return why
}

// orphaned waits until the parent is another than the given one, and is false when ctx ended first. On Windows a process keeps the id of
// a parent that is gone, so it waits for ever there.
func orphaned(ctx context.Context, first int, parent func() int, every time.Duration) bool {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if parent() != first {
			return true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}

// begin says whether work may begin; who may must call s.inFlight.Done.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return false
	}
	s.inFlight.Add(1)
	return true
}

// drain takes no more work and says whether what was in flight ended in time.
func (s *Server) drain(most time.Duration) bool {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.inFlight.Wait()
		close(done)
	}()
	t := time.NewTimer(most)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	}
}

// serverLog makes one JSON line of what net/http complains about, which it would write to stderr.
type serverLog struct{ log zerolog.Logger }

func (l serverLog) Write(line []byte) (int, error) {
	l.log.Warn().Str("event", "http").Msg(strings.TrimSpace(string(line)))
	return len(line), nil
}
