package lifecycle

import (
	"strings"
	"sync"
	"testing"
	"time"

	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/host"
	"ticketbridge/handler/simulator/misbehave"
	"ticketbridge/handler/simulator/servicenow"
)

// kill ends the handler of a host as kill -9 does, and returns when it is gone. It may be called on any goroutine.
func (w *world) kill(h *host.Host) {
	pid := h.Pid()
	h.Kill()
	for tick := time.NewTicker(time.Millisecond); h.Pid() == pid; {
		select {
		case <-tick.C:
		case <-w.ctx.Done():
			w.Error("the killed handler does not end")
			return
		}
	}
}

// A point is a moment in a life at which the handler is killed: a call of it is on its way, and the one who is called sees to it.
type point struct {
	name string
	desk func(w *world, storage *misbehave.Desk) *misbehave.Desk // whom it calls
	// The call, as misbehave.Fault.Match has it.
	call func(w *world) string
	// Whether the call took effect before the handler was killed, or never arrived.
	arrived bool
	// When the handler is at that point: the callout, or only after its ticket is closed.
	closed bool
	// What the handler's record says right after.
	state string
	// What the timeline must tell of the recovery; "" for nothing.
	recovery string
}

func tables(_ *world, storage *misbehave.Desk) *misbehave.Desk { return storage }
func instance(w *world, _ *misbehave.Desk) *misbehave.Desk     { return w.serviceNow.Faults }
func graph(w *world, _ *misbehave.Desk) *misbehave.Desk        { return w.entra.GraphFaults }
func always(match string) func(*world) string                  { return func(*world) string { return match } }

func messages(w *world) string { return "POST /devstoreaccount1/" + w.queue.Name() + "/messages" }

const (
	transaction = "POST /devstoreaccount1/$batch"
	creation    = "POST /api/now/v2/table/sc_request"
	reading     = "GET /api/now/v2/table/sc_request/*"
	resuming    = "POST /v1.0/*/resume"
)

// points are the moments between two steps at which most is at stake. What each leaves behind is in its name.
var points = []point{
	{name: "the callout is stored, no message sent, nothing answered", desk: tables, call: always(transaction), arrived: true, state: "received"},
	{name: "the callout is stored and its message sent, nothing answered", desk: tables, call: messages, arrived: true},
	{name: "the intent to create is on record, the create never arrived", desk: instance, call: always(creation), state: "opening"},
	{
		name: "the ticket was created, its answer never arrived", desk: instance, call: always(creation), arrived: true, state: "opening",
		recovery: "found the ticket that an earlier attempt had created",
	},
	{name: "the ticket is closed and was not read yet", desk: instance, call: always(reading), closed: true, state: "open"},
	{name: "the intent to resume is on record, Graph was never told", desk: graph, call: always(resuming), closed: true, state: "resuming"},
	{
		name: "Graph took the resume, its answer never arrived", desk: graph, call: always(resuming), arrived: true, closed: true, state: "resuming",
		recovery: "an earlier attempt had reached it",
	},
}

func TestKilledAnywhereItGoesOnToTheSameEnd(t *testing.T) {
	t.Parallel()
	for _, p := range points {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			storage := misbehave.New()
			w := newWorld(t, plan{
				// The sweep looks at open tickets rarely, so that it comes to no point first.
				settings: map[string]string{"SERVICENOW_TIMEOUT": "2s", "SERVICENOW_SETTLE": "1s", "GRAPH_TIMEOUT": "1s", "CHECK_INTERVAL": "1m"},
				storage:  func(t testing.TB, azurite string) string { return beforeAzurite(t, azurite, storage) },
			})
			// Somebody else's request, to see that it does not suffer; and it makes the tables, so that the first call of each kind is the one that counts.
			other := w.ledger()
			w.ticket(other, 0)
			w.becomes(w.callouts(other)[0].key(), "open")

			killed := &killing{w: w, done: make(chan struct{})}
			fault := misbehave.Fault{Match: p.call(w), Times: 1, OnHit: killed.now, DropCall: true}
			if p.arrived {
				fault = misbehave.Fault{Match: p.call(w), Times: 1, AfterHandle: killed.now, LoseAnswer: true}
			}
			var request string
			if p.closed {
				request = w.ledger()
				w.ticket(request, 0)
				w.becomes(w.callouts(request)[0].key(), "open")
				killed.key = w.callouts(request)[0].key()
				w.closeTicket(request, 0, servicenow.Closing{Outcome: servicenow.Complete, Silent: true})
				p.desk(w, storage).Add(fault)
				w.notify(killed.key)
			} else {
				p.desk(w, storage).Add(fault)
				request = w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
			}
			w.signalled("the handler to come to this point", killed.done)
			if p.state != "" && killed.state != p.state {
				t.Errorf("killed when the record said %q, not %q", killed.state, p.state)
			}

			// From here on, nobody helps but the app itself, Entra's one retry, and the people who close tickets.
			if !p.closed {
				w.closeTicket(request, 0, servicenow.Closing{Outcome: servicenow.Complete})
			}
			if r := w.over(request); r.MyAccess != "Delivered" {
				t.Errorf("My Access shows %q", r.MyAccess)
			}
			s := w.becomes(killed.key, "resumed")
			c := w.callouts(request)[0] // what else Graph was told meanwhile is in it
			if c.created != 1 || len(c.told) != 1 || !c.told[0].Grants() || len(c.refused) != 0 {
				t.Errorf("%d tickets were created, Graph took %+v and refused %+v", c.created, c.told, c.refused)
			}
			if want := "received opening open closed resuming resumed"; strings.Join(s.moves(), " ") != want {
				t.Errorf("it went through %v", s.moves())
			}
			if p.recovery != "" && !s.says(p.recovery) {
				t.Errorf("the timeline does not say that %s: %+v", p.recovery, s.Timeline)
			}
			if last := c.Attempts[len(c.Attempts)-1]; !last.OK {
				t.Errorf("the last call of Entra was answered %d (%s)", last.Status, last.Err)
			}

			w.closeTicket(other, 0, servicenow.Closing{Outcome: servicenow.Complete})
			if r := w.over(other); r.MyAccess != "Delivered" {
				t.Errorf("My Access shows %q for the request beside", r.MyAccess)
			}
			w.once(other)
		})
	}
}

// A killing kills the world's handler once, and remembers what the handler's record said of the request then.
type killing struct {
	w     *world
	once  sync.Once
	key   string // of the stage instance; "" is that of the newest request
	state string
	done  chan struct{}
}

func (k *killing) now() {
	k.once.Do(func() {
		k.w.kill(k.w.host(0))
		if k.key == "" {
			all := k.w.entra.Requests()
			newest := all[len(all)-1]
			k.key = fmtKey(newest.ID, newest.Callouts[0].ID)
		}
		s, _, err := k.w.show(k.key)
		if err != nil {
			k.w.Error(err)
		}
		k.state = s.State
		close(k.done)
	})
}

func TestTheThirdKillEndsTheHostAndTheNextOneFinishes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, plan{settings: map[string]string{"SERVICENOW_TIMEOUT": "2s", "SERVICENOW_SETTLE": "1s", "GRAPH_TIMEOUT": "1s"}})
	first := w.host(0)
	kill := func() { w.kill(first) }
	w.serviceNow.Faults.Add(misbehave.Fault{Match: creation, Times: 1, OnHit: kill, DropCall: true})
	w.serviceNow.Faults.Add(misbehave.Fault{Match: creation, Times: 1, AfterHandle: kill, LoseAnswer: true})
	w.entra.GraphFaults.Add(misbehave.Fault{Match: resuming, Times: 1, AfterHandle: kill, LoseAnswer: true})
	request := w.ledger()
	w.closeTicket(request, 0, servicenow.Closing{Outcome: servicenow.Complete})
	w.signalled("the host to end", first.Done())
	w.start()
	w.becomes(w.callouts(request)[0].key(), "resumed")
	if r := w.over(request); r.MyAccess != "Delivered" {
		t.Errorf("My Access shows %q", r.MyAccess)
	}
	w.once(request)
}
