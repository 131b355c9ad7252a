// Package host is a stand-in for the Azure Functions host: it reads an app's folder, starts its custom handler, and calls it as the host does for HTTP
// requests, queue messages and timers. It behaves as recorded on host 4.1037, and misbehaves on request.
package host

import (
	"context"
	"errors"
	"io/fs"
	"net"
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
type Host struct{}

// Start starts the handler and then serves, until Stop, Crash, or the handler's third crash. Like the host, it starts whatever the app looks like: what is wrong with a
// function is in the log and in Functions. Its errors are that it cannot serve at all.
func Start(ctx context.Context, c Config) (*Host, error) {
	return nil, errors.New("being written")
}

// URL is where callers reach the host, without a slash at the end.
func (h *Host) URL() string { return "" }

// Keys are the keys in force.
func (h *Host) Keys() Keys { return Keys{} }

// Ready is closed when the handler first answered the probe.
func (h *Host) Ready() <-chan struct{} { return nil }

// Functions are the app's functions: for each name, nil or what is wrong with it.
func (h *Host) Functions() map[string]error { return nil }

// Pid is that of the handler's process, 0 while there is none.
func (h *Host) Pid() int { return 0 }

// Kill ends the handler's process as kill -9 does. The host starts another one, and ends itself at the third time.
func (h *Host) Kill() {}

// FireTimer lets a timer function run now, out of turn, and returns when it has run: an error is that it failed.
func (h *Host) FireTimer(ctx context.Context, function string) error { return nil }

// Redeliver lets the next messages that the function handles well be delivered again, as when they could not be deleted.
func (h *Host) Redeliver(function string, messages int) {}

// Stop ends the host as SIGTERM does: nothing new is taken, calls in flight get their time, then the handler is killed; but not when a queue
// or timer call is still running, whose process then lives on as an orphan. It returns how the host ended.
func (h *Host) Stop() Exit { return Exit{} }

// Crash ends the host at once, as kill -9 of it does: connections break, messages stay hidden, and the handler lives on.
func (h *Host) Crash() {}

// Done is closed when the host has ended, Wait waits for it.
func (h *Host) Done() <-chan struct{} { return nil }

// Wait returns how the host ended.
func (h *Host) Wait() Exit { return Exit{} }
