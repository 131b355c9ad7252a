package host

import (
	"context"
	"errors"
	"io"
	"net"
)

// A Worker starts handlers.
type Worker interface {
	Start(l Launch) (Process, error)
}

// Launch is how a handler is to be started.
type Launch struct {
	Path           string   // of the executable, as host.json has it
	Args           []string // after it
	Dir            string   // the working directory
	Env            []string // the whole environment
	Port           int      // also in Env
	Stdout, Stderr io.Writer
}

// A Process is a handler that runs.
type Process interface {
	// Pid is the process's id.
	Pid() int
	// Dial connects to the handler's port.
	Dial(ctx context.Context) (net.Conn, error)
	// Kill ends it without asking.
	Kill()
	// Wait returns its exit code when it has ended, 137 after Kill. It may be called once.
	Wait() int
}

// Func is a Worker that runs a handler inside this process. Its context ends when it is killed; a port that it listens on must be free again when it
// returns, with its exit code.
type Func func(ctx context.Context, l Launch) int

// Executable is the Worker that starts the app's executable.
type Executable struct{}

// Start implements Worker.
func (f Func) Start(l Launch) (Process, error) { return nil, errors.ErrUnsupported }

// Start implements Worker.
func (Executable) Start(l Launch) (Process, error) { return nil, errors.ErrUnsupported }
