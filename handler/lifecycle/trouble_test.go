package lifecycle

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"ticketbridge/handler/simulator/misbehave"
	"ticketbridge/handler/simulator/servicenow"
)

// arrivals notes when calls arrive at a stand-in.
type arrivals struct {
	mu sync.Mutex
	at []time.Time
}

func (a *arrivals) note() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at = append(a.at, time.Now())
}

func (a *arrivals) gap(n int) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.at) <= n {
		return -1
	}
	return a.at[n].Sub(a.at[n-1])
}

func TestAnOutageOfServiceNowIsWaitedOutAndLosesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, plan{})
	before := w.ledger()
	ticket := w.ticket(before, 0)
	w.becomes(w.callouts(before)[0].key(), "open")

	heal := w.serviceNow.Faults.Add(servicenow.Maintenance(0))
	w.check(w.serviceNow.Close(ticket.SysID, servicenow.Closing{Outcome: servicenow.Complete}))
	var during []string
	for range 3 {
		during = append(during, w.ledger())
	}
	for _, request := range during {
		key := fmtKey(request, w.nth(request, 0).ID)
		w.every(100*time.Millisecond, "the outage to be on record", func() bool {
			s, _ := w.shown(key)
			if s.State != "received" && s.State != "opening" {
				t.Fatalf("during the outage it is %s, because %q", s.State, s.Reason)
			}
			return s.Reason != ""
		})
	}
	if told := w.entra.Resumes(before); len(told) != 0 {
		t.Errorf("nobody could read the ticket, and Graph was told %+v", told)
	}
	heal()
	for _, request := range during {
		w.closeTicket(request, 0, servicenow.Closing{Outcome: servicenow.Complete})
	}
	for _, request := range append(during, before) {
		if r := w.over(request); r.MyAccess != "Delivered" {
			t.Errorf("My Access shows %q", r.MyAccess)
		}
		w.becomes(w.callouts(request)[0].key(), "resumed")
		w.once(request)
	}
}

func TestWhoeverThrottlesIsLeftAloneForAsLongAsItAsks(t *testing.T) {
	t.Parallel()
	const asked = 12 * time.Second // longer than the first retry would wait by itself, and a message on the queue
	for _, c := range []struct {
		name string
		desk func(*world) *misbehave.Desk
		call string
	}{
		{"ServiceNow, creating", func(w *world) *misbehave.Desk { return w.serviceNow.Faults }, creation},
		{"ServiceNow, reading", func(w *world) *misbehave.Desk { return w.serviceNow.Faults }, reading},
		{"Graph", func(w *world) *misbehave.Desk { return w.entra.GraphFaults }, resuming},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, plan{settings: map[string]string{"CHECK_INTERVAL": "1m"}})
			var came arrivals
			c.desk(w).Add(misbehave.Fault{Match: c.call, Times: 1, Status: http.StatusTooManyRequests, RetryAfter: "12", OnHit: came.note})
			c.desk(w).Add(misbehave.Fault{Match: c.call, OnHit: came.note})
			request := w.ledger()
			w.closeTicket(request, 0, servicenow.Closing{Outcome: servicenow.Complete})
			if r := w.over(request); r.MyAccess != "Delivered" {
				t.Errorf("My Access shows %q", r.MyAccess)
			}
			if gap := came.gap(1); gap < asked {
				t.Errorf("asked to stay away for %v, it came again after %v", asked, gap)
			}
			w.becomes(w.callouts(request)[0].key(), "resumed")
			w.once(request)
		})
	}
}

func TestAPoisonousMessageHurtsNobodyAndIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, plan{app: soonAgain})
	request := w.ledger()
	w.ticket(request, 0)
	queues := w.queue.Queues()
	poison := map[string]string{
		"text that is not ours":   base64.StdEncoding.EncodeToString([]byte("not ours")),
		"a message without an id": base64.StdEncoding.EncodeToString([]byte(`{"ticketbridge":{"why":"closed"}}`)),
		"an id that is none":      base64.StdEncoding.EncodeToString([]byte(`{"ticketbridge":{"request":"../../x","stage":"1"}}`)),
		"what is no base64":       "plain text",
		"bytes that are no text":  base64.StdEncoding.EncodeToString([]byte{0xff, 0xfe, 0x00}),
		"a list":                  base64.StdEncoding.EncodeToString([]byte(`[1,2,3]`)),
	}
	for _, text := range poison {
		w.check(queues.Put(w.ctx, w.queue.Name(), text, 0))
	}
	// One that reads well and names nothing that exists is done with at once.
	w.check(w.queue.Put(w.ctx, `{"ticketbridge":{"request":"`+uuid.NewString()+`","stage":"`+uuid.NewString()+`","why":"closed"}}`, 0))

	w.closeTicket(request, 0, servicenow.Closing{Outcome: servicenow.Complete})
	if r := w.over(request); r.MyAccess != "Delivered" {
		t.Errorf("My Access shows %q", r.MyAccess)
	}
	w.becomes(w.callouts(request)[0].key(), "resumed")
	w.once(request)

	w.every(200*time.Millisecond, "all of them to be kept where they are shown", func() bool { return len(w.unreadable()) >= len(poison) })
	w.sweeps(2)
	kept := map[string]int{}
	for _, m := range w.unreadable() {
		kept[m.Text]++
		if m.Reason == "" || m.ID == "" {
			t.Errorf("a message that nobody can read: %+v", m)
		}
	}
	for name, text := range poison {
		if b, err := base64.StdEncoding.DecodeString(text); err == nil {
			text = string([]rune(string(b))) // JSON has a sign for each byte that is no text
		}
		if kept[text] != 1 {
			t.Errorf("%s is kept %d times", name, kept[text])
		}
	}
	if t.Failed() || len(kept) != len(poison) {
		t.Errorf("kept are %q", slices.Sorted(maps.Keys(kept)))
	}
	if got, err := queues.Get(w.ctx, w.queue.PoisonName(), 32, time.Hour); err != nil || len(got) != 0 {
		t.Errorf("%d messages are left in the poison queue (%v)", len(got), err)
	}
	if got, err := queues.Get(w.ctx, w.queue.Name(), 32, time.Minute); err != nil || len(got) != 0 {
		t.Errorf("%d messages are left in the queue (%v)", len(got), err)
	}
	if pid := w.host(0).Pid(); pid == 0 {
		t.Error("the handler is gone")
	}
}

// A message is what `handler requests list --unreadable -o json` says of one that nobody can read.
type message struct{ ID, Text, Reason string }

func (w *world) unreadable() (all []message) {
	w.Helper()
	text, err := w.command("requests", "list", "--unreadable", "-o", "json")
	w.check(err)
	w.check(json.Unmarshal([]byte(text), &all))
	return all
}

func TestAHandlerWhoseHostCrashedAndTheNextOneDoNothingTwice(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, call string }{{"while a ticket is being created", creation}, {"while Graph is being told", resuming}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, plan{settings: map[string]string{"SERVICENOW_TIMEOUT": "20s", "GRAPH_TIMEOUT": "20s"}})
			desk := w.serviceNow.Faults
			if c.call == resuming {
				desk = w.entra.GraphFaults
			}
			hit, release := make(chan struct{}), make(chan struct{})
			desk.Add(misbehave.Fault{Match: c.call, Times: 1, OnHit: func() { close(hit); <-release }})
			request := w.ledger()
			if c.call == resuming {
				w.closeTicket(request, 0, servicenow.Closing{Outcome: servicenow.Complete})
			}
			w.signalled("the call", hit)
			// The handler lives on with its call under way, its message stays hidden for minutes, and the next one is asked to see to the same request.
			key := w.callouts(request)[0].key()
			w.host(0).Crash()
			w.start()
			w.notify(key)
			w.logged("the next handler looked at it", func(l line) bool {
				return l.host == 1 && l.str("function") == "advance" && l.str("event") == "invocation" && l.key() == key
			})
			close(release)
			if c.call == creation {
				w.closeTicket(request, 0, servicenow.Closing{Outcome: servicenow.Complete})
			}
			if r := w.over(request); r.MyAccess != "Delivered" {
				t.Errorf("My Access shows %q", r.MyAccess)
			}
			w.becomes(key, "resumed")
			w.once(request)
			if refused := w.callouts(request)[0].refused; len(refused) != 0 {
				t.Errorf("Graph was told again, and refused: %+v", refused)
			}
		})
	}
}
