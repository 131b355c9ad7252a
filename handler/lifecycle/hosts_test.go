package lifecycle

import (
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/host"
	"ticketbridge/handler/simulator/misbehave"
	"ticketbridge/handler/simulator/servicenow"
)

// These tests are of what the Functions host does to a handler, and to what it has in work.

// crashing kills the newest host's handler whenever it asks ServiceNow for a person, who is chosen later; so each message for that person's request
// crashes it, before any intent is on record.
type crashing struct {
	w      atomic.Pointer[world]
	person atomic.Pointer[person]
	times  atomic.Int64
	mend   atomic.Bool
}

// A person is chosen when Entra knows that his request was taken: until then whoever asks for him waits for the answer. One whose callout was too slow for
// Entra may have been stored all the same, and crashes nobody.
type person struct {
	name    string
	decided chan struct{}
	chosen  bool // known when decided is closed
}

func (c *crashing) meet(service string, r *http.Request, _ []byte) {
	p := c.person.Load()
	if service != "ServiceNow" || p == nil || c.mend.Load() || !strings.Contains(r.URL.RawQuery, p.name) {
		return
	}
	select {
	case <-p.decided:
	case <-r.Context().Done():
		return
	}
	if !p.chosen {
		return
	}
	c.times.Add(1)
	w := c.w.Load()
	w.kill(w.newest())
}

func TestAMessageThatCrashesTheProcessFailsItsRequestVisiblyAndTheOthersGoOn(t *testing.T) {
	t.Parallel()
	c := &crashing{}
	w := newWorld(t, plan{app: soonAgain, wire: &wire{every: c.meet}})
	c.w.Store(w)
	others := []string{w.ledger(), w.ledger()}
	for _, request := range others {
		w.ticket(request, 0)
	}
	request := ""
	for range 20 {
		p := &person{name: random(), decided: make(chan struct{})}
		target := w.entra.AddUser(entra.User{Name: "Given" + p.name, Email: p.name + "@example.com", PrincipalName: p.name + "@corp.example.com"})
		w.check(w.serviceNow.AddUser(servicenow.User{UserName: target.PrincipalName, Name: target.Name, Email: target.Email}))
		w.log.forbid(p.name)
		c.person.Store(p)
		request = w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy, Target: target.ObjectID})
		p.chosen = w.taken(request)
		close(p.decided)
		if p.chosen {
			break
		}
	}

	// The host delivers its message once, and again; the third crash is its own end, ...
	w.signalled("the host to end", w.host(0).Done())
	if n := c.times.Load(); n > 3 {
		t.Errorf("the host ended after %d crashes", n)
	}
	// ... and the next one delivers it up to the fifth time; then it is poison, and the sweep says so where people see it.
	second := w.start()
	key := fmtKey(request, w.nth(request, 0).ID)
	s := w.becomes(key, "failed")
	if n := c.times.Load(); n != 5 {
		t.Errorf("the message crashed %d processes, not 5", n)
	}
	if s.Reason == "" || s.Advice == "" {
		t.Errorf("it failed, and says neither why nor what to do: %q, %q", s.Reason, s.Advice)
	}
	if all := w.unreadable(); len(all) != 0 {
		t.Errorf("it is also kept as a message that nobody can read: %+v", all)
	}
	select {
	case <-second.Done():
		t.Error("the second host has ended, too")
	default:
	}
	for _, request := range others {
		w.closeTicket(request, 0, servicenow.Closing{Outcome: servicenow.Complete})
		if r := w.over(request); r.MyAccess != "Delivered" {
			t.Errorf("My Access shows %q for a request beside", r.MyAccess)
		}
		w.once(request)
	}
	// When the cause is mended, an operator has it tried again, and it ends like any other.
	c.mend.Store(true)
	_, err := w.command("requests", "retry", key, "--by", "operator", "--reason", "the new version does not crash")
	w.check(err)
	w.closeTicket(request, 0, servicenow.Closing{Outcome: servicenow.Complete})
	if r := w.over(request); r.MyAccess != "Delivered" {
		t.Errorf("My Access shows %q after the retry", r.MyAccess)
	}
	w.becomes(key, "resumed")
	w.once(request)
}

func TestKilledForAFunctionThatRunsTooLongWithAllInFlightNothingIsLostOrDoubled(t *testing.T) {
	t.Parallel()
	for _, many := range []struct {
		name  string
		slow  int
		third bool // the host ends, too
	}{{"one function", 1, false}, {"two at once, which end the host", 2, true}} {
		t.Run(many.name, func(t *testing.T) {
			t.Parallel()
			var limit sync.Once
			exceeded := make(chan struct{})
			storage := misbehave.New()
			w := newWorld(t, plan{
				app: func(hostJSON map[string]any) {
					soonAgain(hostJSON)
					hostJSON["functionTimeout"] = "00:00:03"
				},
				retries: 5,
				// Our own limit is above the host's.
				settings: map[string]string{"SERVICENOW_TIMEOUT": "7s", "SERVICENOW_SETTLE": "1s", "CHECK_INTERVAL": "10s"},
				storage:  func(t testing.TB, azurite string) string { return beforeAzurite(t, azurite, storage) },
				said: func(e host.Entry) {
					if strings.HasPrefix(e.Text, "Timeout value of ") {
						limit.Do(func() { close(exceeded) })
					}
				},
			})
			before := w.ledger()
			w.opened(before)
			first, pid := w.host(0), w.host(0).Pid()
			gone := make(chan struct{})
			// ServiceNow makes the ticket, and does not answer before the process is gone.
			w.serviceNow.Faults.Add(misbehave.Fault{Match: creation, Times: many.slow, AfterHandle: func() { <-gone }, LoseAnswer: true})
			var requests []string
			for range many.slow {
				requests = append(requests, w.ledger())
			}
			w.signalled("the host's limit", exceeded)

			// From here it is two seconds. Callouts come all the time, and the storage does not take what they bring: each is in flight for three quarters of
			// a second, and so are some when the process is killed.
			stall := storage.Add(misbehave.Fault{Match: "POST /devstoreaccount1/" + w.settings["STORAGE_PREFIX"] + "index", OnHit: func() { <-gone }, DropCall: true})
			tick := time.NewTicker(150 * time.Millisecond)
			defer tick.Stop()
			for alive := true; alive && first.Pid() == pid; {
				requests = append(requests, w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy}))
				select {
				case <-tick.C:
				case <-first.Done():
					alive = false
				case <-w.ctx.Done():
					t.Fatal("the host does not kill its handler")
				}
			}
			stall()
			close(gone)
			if many.third {
				w.signalled("the host to end", first.Done())
			}
			// On a slow machine more runs too long, and two at once end the host: then there is another one, as in Azure.
			becomes := func(request string, is func(entra.Request) bool) (r entra.Request) {
				w.until("request "+request, func() bool {
					select {
					case <-w.newest().Done():
						w.start()
					default:
					}
					r, _ = w.entra.Request(request)
					return is(r)
				})
				return r
			}

			broken, ended := 0, 0
			for _, request := range append(requests, before) {
				r := becomes(request, func(r entra.Request) bool {
					return len(r.Callouts) > 0 && (r.Callouts[0].Status == entra.StatusFailed || r.Callouts[0].Status == entra.StatusWaiting)
				})
				if r.Callouts[0].Status == entra.StatusFailed { // nobody said 202: Entra knows that it was not taken
					continue
				}
				key := fmtKey(request, r.Callouts[0].ID)
				becomes(request, func(entra.Request) bool { return len(w.serviceNow.ByCorrelation(key)) > 0 })
				w.closeTicket(request, 0, servicenow.Closing{Outcome: servicenow.Complete})
				if r := becomes(request, entra.IsOver); r.MyAccess != "Delivered" {
					t.Errorf("My Access shows %q", r.MyAccess)
				}
				ended++
				for _, a := range r.Callouts[0].Attempts { // the host says 500 after two seconds, which may be too late for Entra's patience
					if a.Status == http.StatusInternalServerError || a.Status == 0 {
						broken++
						break
					}
				}
			}
			for _, request := range append(requests, before) {
				for _, c := range w.callouts(request) {
					if c.created > 1 || len(c.told) > 1 || len(c.refused) > 0 {
						t.Errorf("%d tickets were created, Graph took %+v and refused %+v", c.created, c.told, c.refused)
					}
				}
			}
			if !many.third && broken == 0 {
				t.Error("no callout was in flight when the process was killed")
			}
			t.Logf("%d callouts were cut off and taken when Entra repeated them; %d requests of %d ended, Entra was told of the others that they were not taken", broken, ended, len(requests)+1)
		})
	}
}

func TestAMessageThatADeadHostHidIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, call string }{{"while a ticket is being created", creation}, {"while Graph is being told", resuming}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, plan{settings: map[string]string{"SERVICENOW_TIMEOUT": "2s", "SERVICENOW_SETTLE": "1s", "GRAPH_TIMEOUT": "1s"}})
			desk := w.serviceNow.Faults
			if c.call == resuming {
				desk = w.entra.GraphFaults
			}
			down := make(chan struct{})
			desk.Add(misbehave.Fault{Match: c.call, Times: 1, DropCall: true, OnHit: func() { // the whole machine is lost
				first := w.host(0)
				handler, err := os.FindProcess(first.Pid())
				if err != nil {
					t.Error(err)
				}
				first.Crash()
				if err := handler.Kill(); err != nil {
					t.Error(err)
				}
				close(down)
			}})
			request := w.ledger()
			if c.call == resuming {
				w.closeTicket(request, 0, servicenow.Closing{Outcome: servicenow.Complete})
			}
			w.signalled("the machine to be lost", down)
			lost := time.Now()
			w.start()
			if c.call == creation {
				w.due(request)
				w.closeTicket(request, 0, servicenow.Closing{Outcome: servicenow.Complete, Silent: true})
			}
			if r := w.over(request); r.MyAccess != "Delivered" {
				t.Errorf("My Access shows %q", r.MyAccess)
			}
			key := w.callouts(request)[0].key()
			w.becomes(key, "resumed")
			w.once(request)
			again := func(l line) bool {
				return l.host == 1 && l.str("function") == "advance" && l.str("event") == "invocation" && l.key() == key && l.str("dequeueCount") != "1"
			}
			if seen := w.log.all(again); len(seen) > 0 {
				t.Errorf("the message that was hidden came back: %s", seen[0].text)
			}
			t.Logf("it ended %v after its machine was lost; its message is hidden for ten minutes", time.Since(lost).Round(time.Second))
		})
	}
}

// due lets the time come at which the sweep is to look at the request's first callout.
func (w *world) due(request string) {
	w.Helper()
	key, err := correlation.NewKey(request, w.nth(request, 0).ID)
	w.check(err)
	w.check(w.store.Postpone(w.ctx, key, time.Now().Add(-time.Second)))
}

func TestWithoutTheSweepsScheduleTheRestRunsAndAMessageSweepsWhenNobodyDoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, plan{settings: map[string]string{"SWEEP_SCHEDULE": ""}, inError: []string{"sweep"}})
	reported, silent := w.ledger(), w.ledger()
	w.opened(reported)
	w.opened(silent)
	w.closeTicket(silent, 0, servicenow.Closing{Outcome: servicenow.Complete, Silent: true})
	w.closeTicket(reported, 0, servicenow.Closing{Outcome: servicenow.Complete})
	if r := w.over(reported); r.MyAccess != "Delivered" {
		t.Errorf("My Access shows %q for a request whose end was reported", r.MyAccess)
	}
	if swept := w.log.all(func(l line) bool { return l.str("function") == "sweep" }); len(swept) > 0 {
		t.Fatalf("the timer runs without its schedule: %s", swept[0].text)
	}
	w.host(0).Stop()

	// An hour later, as far as the storage knows, ...
	mark, err := w.store.Mark(w.ctx)
	w.check(err)
	mark.Begun = time.Now().Add(-time.Hour)
	w.check(w.store.SaveMark(w.ctx, &mark))
	w.due(silent)
	listed := func() string {
		text, err := w.command("requests", "list")
		w.check(err)
		return text
	}
	if text := listed(); !strings.Contains(text, "warning: the last sweep began ") {
		t.Errorf("the list of requests does not say that no sweep runs: %q", text)
	}
	// ... the next message, whatever it is for, has somebody sweep.
	w.start()
	w.ledger()
	w.logged("nobody sweeps", func(l line) bool {
		return l.host == 1 && l.str("event") == "sweepOverdue" && l.str("function") == "advance"
	})
	if r := w.over(silent); r.MyAccess != "Delivered" {
		t.Errorf("My Access shows %q for a request whose end nobody reported", r.MyAccess)
	}
	w.once(silent)
	if text := listed(); strings.Contains(text, "warning:") {
		t.Errorf("a message swept, and the list of requests still says: %q", text)
	}
}
