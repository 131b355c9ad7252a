package lifecycle

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ticketbridge/handler/simulator/host"
	"ticketbridge/handler/simulator/misbehave"
	"ticketbridge/handler/simulator/servicenow"
)

// adopted tells how a process ends whose parent, a child of ours, ends before it: this process becomes its parent then.
func adopted(t testing.TB, pid int) <-chan string {
	t.Helper()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	ended := make(chan string, 1)
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			var status unix.WaitStatus
			got, err := unix.Wait4(pid, &status, unix.WNOHANG, nil)
			switch {
			case errors.Is(err, unix.ECHILD): // not ours yet
			case err != nil:
				ended <- err.Error()
				return
			case got == pid && status.Exited():
				ended <- fmt.Sprintf("exit status %d", status.ExitStatus())
				return
			case got == pid:
				ended <- fmt.Sprintf("signal: %v", status.Signal())
				return
			}
		}
	}()
	return ended
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

// asleep stops the handler of a host as a machine does that gets no time for it, and returns what wakes it up. It is ended with the test.
func (w *world) asleep(h *host.Host) (wake func()) {
	pid := h.Pid()
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		w.Error(err)
	}
	w.Cleanup(func() { _ = unix.Kill(pid, unix.SIGKILL) })
	return func() {
		if err := unix.Kill(pid, unix.SIGCONT); err != nil {
			w.Error(err)
		}
	}
}

func TestAnOrphanThatWritesBesideItsSuccessorLosesByTheETag(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, call string
		late       bool // the orphan's call arrives only when its successor has done the work, else its answer does
	}{
		{"it created the ticket and slept over the answer", "ServiceNow POST", false},
		{"it told Graph and slept over the answer", "Graph POST", false},
		{"it tells Graph when its successor has", "Graph POST", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var w *world
			var first atomic.Bool
			var wake func()
			asleep, release := make(chan struct{}), make(chan struct{})
			letGo := sync.OnceFunc(func() { close(release) })
			sleep := func(service string, r *http.Request) {
				if service+" "+r.Method == c.call && strings.HasSuffix(r.URL.Path, map[bool]string{true: "/resume", false: "/sc_request"}[service == "Graph"]) && first.CompareAndSwap(false, true) {
					wake = w.asleep(w.host(0))
					close(asleep)
					<-release
				}
			}
			var conflicts atomic.Int64
			w = newWorld(t, plan{
				later: true, settings: map[string]string{"SERVICENOW_TIMEOUT": "2s", "SERVICENOW_SETTLE": "1s", "GRAPH_TIMEOUT": "1s"},
				wire: &wire{
					every: func(service string, r *http.Request, _ []byte) {
						if c.late {
							sleep(service, r)
						}
					},
					answered: func(service string, r *http.Request, _, answer []byte) {
						if !c.late {
							sleep(service, r)
						}
						if service == "storage" && bytes.Contains(answer, []byte("UpdateConditionNotSatisfied")) {
							conflicts.Add(1)
						}
					},
				},
			})
			w.Cleanup(letGo)
			w.start()
			request := w.ledger()
			if c.call == "Graph POST" {
				w.closeTicket(request, 0, servicenow.Closing{Outcome: servicenow.Complete})
			}
			w.signalled("the call", asleep)
			w.host(0).Crash() // the handler lives on, and the message stays hidden

			w.start()
			w.due(request)
			key := w.callouts(request)[0].key()
			if c.call == "ServiceNow POST" {
				w.becomes(key, "open")
				w.closeTicket(request, 0, servicenow.Closing{Outcome: servicenow.Complete})
			}
			w.becomes(key, "resumed")
			var before stage
			w.until("the ticket to be told", func() bool { // its successor's last word
				var ok bool
				before, ok = w.shown(key)
				return ok && strings.Contains(before.told(), "told ticket ")
			})
			conflicts.Store(0)
			// Its successor has done it all; now the orphan goes on where it was, and has old news to write.
			letGo()
			wake()
			w.until("the orphan to write", func() bool { return conflicts.Load() > 0 })
			after := w.becomes(key, "resumed")
			if before.told() != after.told() {
				t.Errorf("the orphan wrote over what its successor had done:\n%s\n%s", before.told(), after.told())
			}
			if r := w.over(request); r.MyAccess != "Delivered" {
				t.Errorf("My Access shows %q", r.MyAccess)
			}
			if s := w.callouts(request)[0]; s.created != 1 || len(s.told) != 1 {
				t.Errorf("%d tickets were created, Graph took %+v", s.created, s.told)
			}
		})
	}
}
