package lifecycle

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/misbehave"
	"ticketbridge/handler/simulator/servicenow"
)

// worked says whether the handlers of all hosts did something of a kind.
func (w *world) worked(function string) bool {
	seen := map[int]bool{}
	for _, l := range w.log.all(func(l line) bool { return l.str("function") == function && l.str("event") == "invocation" }) {
		seen[l.host] = true
	}
	return len(seen) == len(w.hosts)
}

func TestTwoHandlersOnOneStorageShareTheWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t, plan{hosts: 2})
	var requests []string
	// More and more requests, until each handler has taken callouts, messages and notifications.
	for !w.worked("callout") || !w.worked("advance") || !w.worked("ticketclosed") || len(requests) < 12 {
		request := w.asked(entra.NewRequest{Policy: w.sample.PayrollPolicy})
		requests = append(requests, request)
		w.closeTicket(request, 0, servicenow.Closing{Outcome: servicenow.Complete})
		if len(requests) > 200 {
			t.Fatal("200 requests, and one of the handlers still has nothing to do")
		}
	}
	for _, request := range requests {
		w.closeTicket(request, 1, servicenow.Closing{Outcome: servicenow.Complete})
	}
	for _, request := range requests {
		if r := w.over(request); r.MyAccess != "Delivered" {
			t.Errorf("My Access shows %q", r.MyAccess)
		}
		for _, c := range w.callouts(request) {
			w.becomes(c.key(), "resumed")
		}
		w.once(request)
		for _, c := range w.callouts(request) {
			if len(c.told) != 1 || len(c.refused) != 0 {
				t.Errorf("%s: Graph took %d answers and refused %d", c.Stage, len(c.told), len(c.refused))
			}
		}
	}
}

func TestTheSameCalloutFiftyTimesAtOnceIsOneTicketAndOneResume(t *testing.T) {
	// Not beside other tests: fifty calls at once are work enough for a machine.
	for _, hosts := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d handlers", hosts), func(t *testing.T) {
			const times = 50
			w := newWorld(t, plan{hosts: hosts, retries: 5})
			// Entra's own call is held back until all the others are answered; it then comes too late for Entra's patience, and Entra repeats it.
			held, others := make(chan struct{}), make(chan struct{})
			w.entra.CalloutFaults.Add(misbehave.Fault{Times: 1, OnHit: func() {
				close(held)
				<-others
			}})
			request := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
			w.signalled("Entra to call", held)
			r, _ := w.entra.Request(request)
			start := make(chan struct{})
			var crowd sync.WaitGroup
			var first, busy atomic.Int64
			for range times {
				crowd.Go(func() {
					<-start
					answer, again, err := w.calls(r.Callouts[0].Body)
					busy.Add(int64(again))
					switch {
					case err != nil:
						t.Error(err)
					case fmtKey(answer.RequestID, answer.StageInstanceID) != fmtKey(request, r.Callouts[0].ID) || answer.State == "":
						t.Errorf("the answer is %+v", answer)
					case !answer.Duplicate:
						first.Add(1)
					}
				})
			}
			close(start)
			crowd.Wait()
			close(others)
			// One of the answers says that the call was the first; none may, where it was remembered, and the answer was 503 all the same.
			if n := first.Load(); n > 1 || n == 0 && busy.Load() == 0 {
				t.Errorf("%d of %d answers say that the call was the first", n, times)
			}
			t.Logf("%d answers: %d were 202, one of them without \"duplicate\" (%d); %d were 503 before", times+int(busy.Load()), times, first.Load(), busy.Load())

			w.closeTicket(request, 0, servicenow.Closing{Outcome: servicenow.Complete})
			if r := w.over(request); r.MyAccess != "Delivered" {
				t.Errorf("My Access shows %q", r.MyAccess)
			}
			s := w.becomes(fmtKey(request, r.Callouts[0].ID), "resumed")
			c := w.callouts(request)[0]
			if c.created != 1 || len(c.told) != 1 || len(c.refused) != 0 {
				t.Errorf("%d tickets were created, Graph took %d answers and refused %d", c.created, len(c.told), len(c.refused))
			}
			var answer receipt
			if last := c.Attempts[len(c.Attempts)-1]; json.Unmarshal([]byte(last.Answer), &answer) != nil || !answer.Duplicate {
				t.Errorf("Entra's own call was answered %d %q (%s)", last.Status, last.Answer, last.Err)
			}
			if want := "received opening open closed resuming resumed"; strings.Join(s.moves(), " ") != want {
				t.Errorf("it went through %v", s.moves())
			}
			if !w.worked("callout") {
				t.Error("the calls did not reach every handler")
			}
		})
	}
}

func TestNotificationsLostRepeatedAndReorderedDoNothingTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t, plan{hosts: 2})
	var requests []string
	for range 6 {
		requests = append(requests, w.ledger())
	}
	w.serviceNow.HoldNotifications()
	w.serviceNow.MisdeliverNext(servicenow.Misdelivery{Lose: true}, servicenow.Misdelivery{Copies: 4}, servicenow.Misdelivery{Copies: 9}, servicenow.Misdelivery{Lose: true})
	for _, request := range requests {
		w.closeTicket(request, 0, servicenow.Closing{Outcome: servicenow.Complete})
	}
	w.serviceNow.ReleaseNotifications(true)
	w.check(w.serviceNow.AwaitNotifications(w.ctx))
	for _, request := range requests {
		if r := w.over(request); r.MyAccess != "Delivered" {
			t.Errorf("My Access shows %q", r.MyAccess)
		}
		w.becomes(w.callouts(request)[0].key(), "resumed")
		w.once(request)
	}
	sent := 0
	for _, s := range w.serviceNow.Notifications() {
		if s.Status == http.StatusAccepted {
			sent++
		}
	}
	if sent < 4+4+9 {
		t.Errorf("%d notifications were taken", sent)
	}
}
