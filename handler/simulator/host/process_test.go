package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asHandler is the setting that makes this test binary a handler.
const asHandler = "SIMULATOR_HOST_TEST_HANDLER"

func TestMain(m *testing.M) {
	if os.Getenv(asHandler) == "" {
		os.Exit(m.Run())
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	os.Exit(handle(ctx, os.Getenv("FUNCTIONS_CUSTOMHANDLER_PORT"), os.Stdout))
}

// handle is a handler: /report tells what it was started with, /hang answers never.
func handle(ctx context.Context, port string, stdout io.Writer) int {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:"+port)
	if err != nil {
		fmt.Fprintln(stdout, err)
		return 1
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/api/console/report", func(w http.ResponseWriter, _ *http.Request) {
		dir, _ := os.Getwd()
		in, err := io.ReadAll(os.Stdin)
		_ = json.NewEncoder(w).Encode(report{os.Getpid(), dir, os.Environ(), fmt.Sprint(len(in), err)})
	})
	mux.HandleFunc("/api/console/hang", func(_ http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(stdout, "hanging")
		<-r.Context().Done()
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return 1
	}
	return 0
}

// report is what a handler knows of itself.
type report struct {
	Pid   int
	Dir   string
	Env   []string
	Stdin string
}

// realApp puts this binary into a folder as an app's handler, and returns how to run it.
func realApp(t *testing.T) Config {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(self, filepath.Join(dir, "handler.sh")); err != nil {
		t.Fatal(err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		t.Fatal(err)
	}
	return Config{
		App: webApp("proxying", nil), Dir: dir, Keys: Keys{Off: true},
		Environ: []string{"HOME=/nowhere", "A_SETTING=of the host", "TMPDIR=" + os.TempDir()}, Settings: map[string]string{asHandler: "1", "A_SETTING": "of the app"},
	}
}

// listening is a log that tells when a text was in it.
type listening struct {
	entries chan Entry
}

func (l listening) note(e Entry) { l.entries <- e }

// until waits for a text.
func (l listening) until(t *testing.T, text string) Entry {
	t.Helper()
	for {
		select {
		case e := <-l.entries:
			if strings.Contains(e.Text, text) {
				return e
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%q is not in the log", text)
		}
	}
}

func newLog() listening { return listening{make(chan Entry, 1000)} }

func mustStart(t *testing.T, c Config) *Host {
	t.Helper()
	h, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Stop() })
	return h
}

// client keeps no connections, which the end of a host would wait for.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func reportOf(t *testing.T, url string) report {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/api/console/report", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var r report
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status, err)
	}
	return r
}

func value(env []string, name string) string {
	for _, e := range slices.Backward(env) {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}

func TestAProcessIsStartedAsTheContractSays(t *testing.T) {
	t.Parallel()
	c := realApp(t)
	h := mustStart(t, c)
	r := reportOf(t, h.URL())
	if r.Pid != h.Pid() || r.Dir != c.Dir || r.Stdin != "0 <nil>" {
		t.Errorf("process %d (the host says %d) in %s, its stdin: %s", r.Pid, h.Pid(), r.Dir, r.Stdin)
	}
	port := value(r.Env, "FUNCTIONS_CUSTOMHANDLER_PORT")
	for name, want := range map[string]string{
		"FUNCTIONS_HTTPWORKER_PORT": port, "FUNCTIONS_HTTPWORKER_ID": value(r.Env, "FUNCTIONS_CUSTOMHANDLER_WORKER_ID"),
		"FUNCTIONS_APP_ROOT_PATH": c.Dir, "HOME": "/nowhere", "A_SETTING": "of the app",
	} {
		if got := value(r.Env, name); got != want || want == "" {
			t.Errorf("%s=%q, want %q", name, got, want)
		}
	}
}

func TestAfterKillThereIsANewProcessOnTheSamePortAndCallsWaitForIt(t *testing.T) {
	t.Parallel()
	c, log := realApp(t), newLog()
	c.Log = log.note
	h := mustStart(t, c)
	before := reportOf(t, h.URL())

	hanging := make(chan int, 1)
	go func() {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.URL()+"/api/console/hang", strings.NewReader("{}"))
		if err != nil {
			hanging <- 0
			return
		}
		resp, err := client.Do(req)
		if err != nil {
			hanging <- 0
			return
		}
		_ = resp.Body.Close()
		hanging <- resp.StatusCode
	}()
	if e := log.until(t, "hanging"); e.Level != Information || e.Category != "Host.Function.Console" {
		t.Errorf("a line on stdout is logged as %v", e)
	}
	h.Kill()
	log.until(t, fmt.Sprintf("Process %d has exited with code 137.", before.Pid))
	after := reportOf(t, h.URL())
	if after.Pid == before.Pid || value(after.Env, "FUNCTIONS_CUSTOMHANDLER_PORT") != value(before.Env, "FUNCTIONS_CUSTOMHANDLER_PORT") {
		t.Errorf("process %d after %d", after.Pid, before.Pid)
	}
	if got := <-hanging; got != http.StatusInternalServerError {
		t.Errorf("the call in flight got %d", got)
	}
}

func TestACrashedHostLeavesItsHandlerBehind(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	c := realApp(t)
	h, err := Start(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	r := reportOf(t, h.URL())
	h.Crash()
	port := value(r.Env, "FUNCTIONS_CUSTOMHANDLER_PORT")
	if orphan := reportOf(t, "http://127.0.0.1:"+port); orphan.Pid != r.Pid {
		t.Errorf("process %d answers, not %d", orphan.Pid, r.Pid)
	}
	if e := h.Wait(); e.Code != killed {
		t.Errorf("the host ended with %v", e)
	}
	cancel()
	deadline := time.Now().Add(20 * time.Second)
	for ; ; runtime.Gosched() {
		c, err := onPort(h.c.Port).Dial(t.Context())
		if err != nil {
			return
		}
		_ = c.Close()
		if time.Now().After(deadline) {
			t.Fatal("the orphan outlives the context")
		}
	}
}

func TestAHandlerMayRunInsideThisProcess(t *testing.T) {
	t.Parallel()
	log := newLog()
	h := mustStart(t, Config{
		App: webApp("forwarding", nil), Keys: Keys{Off: true}, Log: log.note,
		Worker: Func(func(ctx context.Context, l Launch) int {
			return handle(ctx, value(l.Env, "FUNCTIONS_CUSTOMHANDLER_PORT"), l.Stdout)
		}),
	})
	reportOf(t, h.URL())
	h.Kill()
	log.until(t, "exited with code 137")
	reportOf(t, h.URL())
}

func TestAnExecutableThatCannotBeStartedIsToldInTheLog(t *testing.T) {
	t.Parallel()
	for name, file := range map[string]struct {
		text string
		mode os.FileMode
		want error
	}{
		"noexec":    {"#!/bin/sh\n", 0o644, syscall.EACCES},
		"wrongpath": {"", 0, os.ErrNotExist},
		"noshebang": {"exec true\n", 0o755, syscall.ENOEXEC},
		"crlf":      {"#!/bin/sh\r\n", 0o755, os.ErrNotExist},
		"badinterp": {"#!/no/such/shell\n", 0o755, os.ErrNotExist},
	} {
		dir := t.TempDir()
		if file.mode != 0 {
			if err := os.WriteFile(filepath.Join(dir, "handler.sh"), []byte(file.text), file.mode); err != nil {
				t.Fatal(err)
			}
		}
		p, err := Executable{}.Start(Launch{Path: "handler.sh", Dir: dir, Stdout: io.Discard, Stderr: io.Discard})
		if err == nil {
			p.Kill()
			t.Errorf("%s: it was started", name)
			continue
		}
		if name == "wrongpath" && strings.Contains(err.Error(), "not found") {
			continue // looked for among the machine's programs too
		}
		if !errors.Is(err, file.want) {
			t.Errorf("%s: %v, want %v", name, err, file.want)
		}
	}
}

func TestKeepAliveChunksAndContinueWorkWithAnotherClient(t *testing.T) {
	t.Parallel()
	h := mustStart(t, Config{
		App: webApp("proxying", nil), Keys: Keys{Off: true},
		Worker: Func(func(ctx context.Context, l Launch) int { return echo(ctx, l) }),
	})
	transport := &http.Transport{ExpectContinueTimeout: 10 * time.Second}
	defer transport.CloseIdleConnections()
	for i := range 20 {
		body := bytes.Repeat([]byte{byte('a' + i)}, i*10_000)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.URL()+"/api/console/echo", io.MultiReader(bytes.NewReader(body)))
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			req.ContentLength = int64(len(body))
		}
		if i%3 == 0 {
			req.Header.Set("Expect", "100-continue")
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(i, err)
		}
		got, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || !bytes.Equal(got, body) {
			t.Errorf("%d: %d bytes came back of %d: %v", i, len(got), len(body), err)
		}
	}
}

// echo is a handler that answers with what it got.
func echo(ctx context.Context, l Launch) int {
	return listen(ctx, l, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
		_, _ = w.Write(body)
	})
}

// listen serves as a handler until it is killed.
func listen(ctx context.Context, l Launch, handle http.HandlerFunc) int {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", l.Port))
	if err != nil {
		return 1
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: handle}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	_ = server.Serve(ln)
	return 0
}

func TestABodyReachesTheHandlerWhileItIsStillBeingSent(t *testing.T) {
	t.Parallel()
	arrived := make(chan string, 1)
	h := mustStart(t, Config{
		App: webApp("proxying", nil), Keys: Keys{Off: true},
		Worker: Func(func(ctx context.Context, l Launch) int {
			return listen(ctx, l, func(w http.ResponseWriter, r *http.Request) {
				first := make([]byte, 5)
				_, _ = io.ReadFull(r.Body, first)
				arrived <- string(first)
				rest, _ := io.ReadAll(r.Body)
				_, _ = w.Write(rest)
			})
		}),
	})
	<-h.Ready()
	<-arrived // the probe has no body
	body, write := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.URL()+"/api/console/x", body)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = io.WriteString(write, "first")
		if got := <-arrived; got != "first" {
			_ = write.CloseWithError(fmt.Errorf("the handler got %q", got))
			return
		}
		_, _ = io.WriteString(write, "second")
		_ = write.Close()
	}()
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || string(got) != "second" {
		t.Errorf("%q came back: %v", got, err)
	}
}
