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
	"time"

	"ticketbridge/handler/simulator/host"
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
