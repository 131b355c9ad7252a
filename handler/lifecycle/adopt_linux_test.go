package lifecycle

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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
