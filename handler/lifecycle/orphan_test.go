package lifecycle

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"ticketbridge/handler/simulator/host"
	"ticketbridge/handler/simulator/misbehave"
	"ticketbridge/handler/simulator/servicenow"
	"ticketbridge/handler/storage"
)

// hostProcess is the variable that makes this test binary a Functions host, in a process that can be killed: only the end of the parent itself makes
// an orphan of a handler.
const hostProcess = "LIFECYCLE_HOST"

// hosted is what such a process is told, in that variable.
type hosted struct {
	App      string
	Settings map[string]string
	Port     int // of the handler
	Key      string
}

// runHostProcess runs a host until the process is killed. It says on standard output when the handler is ready, with its process id, and then what
// the handler writes.
func runHostProcess(text string) int {
	err := func() error {
		var p hosted
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			return err
		}
		_, queue, err := storage.NewAzure(storage.Settings{ConnectionString: p.Settings["AzureWebJobsStorage"], Prefix: p.Settings["STORAGE_PREFIX"]})
		if err != nil {
			return err
		}
		h, err := host.Start(context.Background(), host.Config{
			App: os.DirFS(p.App), Dir: p.App, Settings: p.Settings, Port: p.Port, Queues: host.Account(queue.Queues()), Keys: host.Keys{Default: p.Key},
			Log: func(e host.Entry) {
				if line, err := json.Marshal(e); err == nil {
					fmt.Fprintf(os.Stdout, "%s\n", line)
				}
			},
		})
		if err != nil {
			return err
		}
		<-h.Ready()
		fmt.Fprintf(os.Stdout, "ready %d %s\n", h.Pid(), h.URL())
		<-h.Done()
		return fmt.Errorf("the host ended: %s", h.Wait().Reason)
	}()
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// startProcess starts a host in a process of its own.
func (w *world) startProcess(port int) (cmd *exec.Cmd, handler int, address string) {
	w.Helper()
	text, err := json.Marshal(hosted{w.app, w.settings, port, w.keys.Default})
	w.check(err)
	self, err := os.Executable()
	w.check(err)
	cmd = exec.CommandContext(w.ctx, self) //nolint:gosec // ourselves
	cmd.Env = append(os.Environ(), hostProcess+"="+string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	w.check(err)
	w.check(cmd.Start())
	w.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	ready := make(chan struct{})
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var e host.Entry
			if n, _ := fmt.Sscanf(lines.Text(), "ready %d %s", &handler, &address); n == 2 {
				close(ready)
			} else if json.Unmarshal(lines.Bytes(), &e) == nil {
				w.log.entry(0, e)
			}
		}
	}()
	w.signalled("the host in a process of its own", ready)
	return cmd, handler, address
}

func TestAHandlerWhoseHostIsKilledFinishesWhatItHasAndEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, plan{later: true})
	port := freePort(t)
	process, handler, address := w.startProcess(port)
	w.front.fix(address)
	ended := adopted(t, handler)

	hit, release := make(chan struct{}), make(chan struct{})
	w.serviceNow.Faults.Add(misbehave.Fault{Match: creation, Times: 1, OnHit: func() { close(hit); <-release }})
	request := w.ledger()
	w.signalled("the call that creates a ticket", hit)
	w.check(process.Process.Kill())
	_ = process.Wait()

	// It takes no more work, ...
	w.until("the orphan to refuse work", func() bool {
		status, err := console(w.ctx, port)
		return err == nil && status == http.StatusServiceUnavailable
	})
	select {
	case how := <-ended:
		t.Fatalf("the orphan ended with its work in hand: %s", how)
	default:
	}
	// ... and ends when the work that it has is done: with 1, never with 0 or by a signal.
	close(release)
	select {
	case how := <-ended:
		if how != "exit status 1" {
			t.Errorf("the orphan ended with %s", how)
		}
	case <-w.ctx.Done():
		t.Fatal("the orphan does not end")
	}
	key := fmtKey(request, w.nth(request, 0).ID)
	if s, _ := w.shown(key); s.State != "open" {
		t.Errorf("the orphan left it %s", s.State)
	}

	// The next host, which knows nothing of all this, goes on.
	w.start()
	w.closeTicket(request, 0, servicenow.Closing{Outcome: servicenow.Complete})
	if r := w.over(request); r.MyAccess != "Delivered" {
		t.Errorf("My Access shows %q", r.MyAccess)
	}
	w.becomes(key, "resumed")
	w.once(request)
}

// console asks the handler itself for the console, as its host would.
func console(ctx context.Context, port int) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+strconv.Itoa(port)+"/api/console/", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, nil
}
