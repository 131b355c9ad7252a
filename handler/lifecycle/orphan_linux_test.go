package lifecycle

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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
