package host

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"
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
	// Abandon leaves it alone: nobody reads any more what it writes.
	Abandon()
	// Wait returns its exit code when it has ended, 137 after Kill. It is called once.
	Wait() int
}

// killed is the exit code of a process that got SIGKILL.
const killed = 137

// onPort is the part of a Process that listens on a port of this machine.
type onPort int

// Dial implements Process.
func (p onPort) Dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(p))))
}

// Executable is the Worker that starts the app's executable.
type Executable struct{}

// Start implements Worker.
func (Executable) Start(l Launch) (Process, error) {
	path := filepath.Join(l.Dir, l.Path)
	if _, err := os.Stat(path); err != nil {
		if path, err = exec.LookPath(l.Path); err != nil {
			return nil, err
		}
	}
	cmd := exec.Command(path, l.Args...) //nolint:gosec,noctx // starting it is what the host is for, and it outlives the caller
	cmd.Dir, cmd.Env = l.Dir, l.Env
	p := &process{onPort: onPort(l.Port), cmd: cmd}
	for _, o := range []struct{ to, of *io.Writer }{{&l.Stdout, &cmd.Stdout}, {&l.Stderr, &cmd.Stderr}} {
		r, w, err := os.Pipe()
		if err != nil {
			p.Abandon()
			return nil, err
		}
		defer w.Close() // the process has its own
		p.output = append(p.output, r)
		*o.of = w
		p.reading.Go(func() { _, _ = io.Copy(*o.to, r) })
	}
	if err := cmd.Start(); err != nil {
		p.Abandon()
		return nil, err
	}
	return p, nil
}

// A process is a real one.
type process struct {
	onPort
	cmd     *exec.Cmd
	output  []*os.File
	reading sync.WaitGroup
}

func (p *process) Pid() int { return p.cmd.Process.Pid }

func (p *process) Kill() { _ = p.cmd.Process.Kill() }

func (p *process) Abandon() {
	for _, r := range p.output {
		_ = r.Close()
	}
}

func (p *process) Wait() int {
	_ = p.cmd.Wait()
	// What it wrote last is read, unless another process holds its output open.
	t := time.AfterFunc(time.Second, p.Abandon)
	p.reading.Wait()
	t.Stop()
	p.Abandon()
	if code := p.cmd.ProcessState.ExitCode(); code >= 0 {
		return code
	}
	return killed
}

// Func is a Worker that runs a handler inside this process. Its context ends when it is killed; a port that it listens on must be free again when it
// returns, with its exit code.
type Func func(ctx context.Context, l Launch) int

// Start implements Worker.
func (f Func) Start(l Launch) (Process, error) {
	ctx, cancel := context.WithCancel(context.Background())
	p := &running{onPort: onPort(l.Port), cancel: cancel, ctx: ctx, code: make(chan int, 1)}
	go func() {
		code := f(ctx, l)
		p.code <- code
	}()
	return p, nil
}

// running is a handler in this process.
type running struct {
	onPort
	ctx    context.Context //nolint:containedctx // it is the process
	cancel context.CancelFunc
	code   chan int
}

func (p *running) Pid() int { return os.Getpid() }
func (p *running) Kill()    { p.cancel() }
func (p *running) Abandon() {}

func (p *running) Wait() int {
	code := <-p.code
	if p.ctx.Err() != nil {
		code = killed
	}
	p.cancel()
	return code
}

// lines hands on what is written to it line by line.
type lines struct {
	mu   sync.Mutex
	rest []byte
	each func(string)
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	for {
		i := bytes.IndexByte(l.rest, '\n')
		if i < 0 {
			return len(p), nil
		}
		l.emit(l.rest[:i])
		l.rest = l.rest[i+1:]
	}
}

// close hands on what was left without an end of line.
func (l *lines) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.emit(l.rest)
	l.rest = nil
}

func (l *lines) emit(line []byte) {
	if line = bytes.TrimSuffix(line, []byte("\r")); len(line) > 0 {
		l.each(string(line))
	}
}
