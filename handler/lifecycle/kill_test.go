package lifecycle

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"ticketbridge/handler/correlation"
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

const (
	creation = "POST /api/now/v2/table/sc_request"
	reading  = "GET /api/now/v2/table/sc_request/*"
	resuming = "POST /v1.0/*/resume"
)

// A crashLife is a life in which the handler is killed at its effects: that of a request that waits for one ticket.
type crashLife struct {
	name   string
	act    func(w *world, request string, n int) // what happens once the ticket is open
	access string                                // what My Access shows at the end
	told   string                                // what Graph is told and takes; "" for nothing
	moves  string
}

var crashLives = []crashLife{
	{name: "granted", act: done, access: "Delivered", told: "go on", moves: "received opening open closed resuming resumed"},
	{name: "denied", act: notDone, access: "Denied", told: "Denied", moves: "received opening open closed resuming denied"},
	{name: "withdrawn", act: withdrawnAndLookedAt, access: "Canceled", moves: "received opening open withdrawn"},
}

// withdrawnAndLookedAt withdraws the request and has it looked at, as the sweep would do within a minute.
func withdrawnAndLookedAt(w *world, request string, n int) {
	w.Helper()
	w.check(w.entra.Withdraw(request))
	w.check(w.queue.Put(w.ctx, `{"ticketbridge":{"request":"`+request+`","stage":"`+w.nth(request, n).ID+`","why":"sweep"}}`, 0))
}

// A point is an effect of a life, and on which side of it the handler is killed.
type point struct {
	effect string
	nth    int  // of those that are called so, counted from 0
	after  bool // it took effect, and its answer never arrives; else it never arrives itself
}

func (p point) String() string {
	side := "before"
	if p.after {
		side = "after"
	}
	return fmt.Sprintf("%s %s (%d)", side, p.effect, p.nth+1)
}

func TestKilledAtAnyEffectItGoesOnToTheSameEnd(t *testing.T) {
	t.Parallel()
	// What a life has in common with one before it is played in that one only.
	played := map[point]bool{}
	points := map[string][]point{}
	for _, l := range crashLives {
		times := map[string]int{}
		for _, effect := range l.record(t) {
			for _, p := range []point{{effect, times[effect], false}, {effect, times[effect], true}} {
				if !played[p] {
					played[p] = true
					points[l.name] = append(points[l.name], p)
				}
			}
			times[effect]++
		}
	}
	t.Logf("counts: kill -9 before and after each effect of %d lives: %d effects × 2 sides = %d runs", len(crashLives), len(played)/2, len(played))
	if len(played) < 40 {
		t.Error("a life has more effects than that: the wire does not see them all")
	}
	for _, l := range crashLives {
		for _, p := range points[l.name] {
			t.Run(l.name+" "+p.String(), func(t *testing.T) {
				t.Parallel()
				for range 3 {
					if _, calls := l.play(t, &p); calls > 0 {
						return
					}
				}
				t.Fatal("three times, the machine was too slow for Entra's patience")
			})
		}
	}
}

// record plays the life without a kill, and lists its effects.
func (l crashLife) record(t *testing.T) []string {
	t.Helper()
	for range 5 {
		if effects, calls := l.play(t, nil); calls == 1 {
			return effects
		}
	}
	t.Fatal("five times, the machine was too slow for Entra to have its callout taken at once")
	return nil
}

// play plays the life, and kills the handler at a point of it; nil is none. It returns the effects, and how often Entra called until its callout was
// taken: 0 when it gave up, and there was no such life.
func (l crashLife) play(t *testing.T, p *point) (effects []string, calls int) {
	t.Helper()
	x := &wire{}
	w := newWorld(t, plan{
		app: soonAgain, wire: x, retries: 5,
		// The sweep looks at open tickets rarely, so that it comes to no point first.
		settings: map[string]string{"SERVICENOW_TIMEOUT": "2s", "SERVICENOW_SETTLE": "1s", "GRAPH_TIMEOUT": "1s", "CHECK_INTERVAL": "1m"},
	})
	// Somebody else's request, to see that it does not suffer; and it makes the tables, which are no effect of this one.
	other := w.ledger()
	w.opened(other)

	killed := make(chan struct{})
	times := 0
	fated := func(_ int, effect string) fate {
		if p == nil || effect != p.effect {
			return fate{}
		}
		if times++; times != p.nth+1 {
			return fate{}
		}
		return fate{hit: true, arrives: p.after, then: func() {
			w.kill(w.host(0))
			close(killed)
		}}
	}
	// Entra's call waits until the wire knows whose effects count.
	known := make(chan struct{})
	w.entra.CalloutFaults.Add(misbehave.Fault{Times: 1, OnHit: func() { <-known }})
	request := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
	x.watch(request, fated)
	close(known)

	// From here on, nobody helps but the app itself, Entra's retries, and the people who close tickets.
	key := fmtKey(request, w.nth(request, 0).ID)
	w.opened(request)
	r, err := w.entra.Await(w.ctx, request, func(r entra.Request) bool { return r.Callouts[0].Status != entra.StatusSent })
	w.check(err)
	if r.Callouts[0].Status == entra.StatusFailed {
		for _, a := range r.Callouts[0].Attempts {
			if a.Status == http.StatusAccepted {
				t.Errorf("Entra was told 202 and gave up: %+v", r.Callouts[0].Attempts)
			}
		}
		return nil, 0
	}
	l.act(w, request, 0)
	if p != nil {
		w.signalled("the handler to come to this point", killed)
	}
	if r := w.over(request); r.MyAccess != l.access {
		t.Errorf("My Access shows %q, not %q", r.MyAccess, l.access)
	}
	moves := strings.Fields(l.moves)
	s := w.becomes(key, moves[len(moves)-1])
	if got := strings.Join(s.moves(), " "); got != l.moves {
		t.Errorf("it went through %s", got)
	}
	c := w.callouts(request)[0] // what else Graph was told meanwhile is in it
	if c.created != 1 || len(c.refused) != 0 || answers(c.told) != l.told {
		t.Errorf("%d tickets were created, Graph took %+v and refused %+v", c.created, c.told, c.refused)
	}
	if p != nil && p.after {
		for effect, recovery := range map[string]string{
			"ServiceNow POST": "found the ticket that an earlier attempt had created", "Graph POST": "an earlier attempt had reached it",
		} {
			if strings.HasPrefix(p.effect, effect) && !s.says(recovery) {
				t.Errorf("the timeline does not say that %s:\n%s", recovery, s.told())
			}
		}
	}
	if l.told == "" {
		w.until("the people at the ticket to be told", func() bool { return len(workNotes(w.ticket(request, 0))) > 0 })
	}
	effects = x.effects()

	w.closeTicket(other, 0, servicenow.Closing{Outcome: servicenow.Complete})
	if r := w.over(other); r.MyAccess != "Delivered" {
		t.Errorf("My Access shows %q for the request beside", r.MyAccess)
	}
	w.once(other)
	return effects, len(c.Attempts)
}

// opened waits until the handler has on record that the ticket of the request's first callout is open. It looks at the storage
// itself: the handler's command costs a process each time.
func (w *world) opened(request string) {
	w.Helper()
	key, err := correlation.NewKey(request, w.nth(request, 0).ID)
	w.check(err)
	w.until("the ticket of "+request+" to be open on record", func() bool {
		c, err := w.store.Load(w.ctx, key)
		return err == nil && c.State == correlation.Open
	})
}

// answers are those that Graph took, one after the other.
func answers(told []entra.Resume) string {
	var all []string
	for _, r := range told {
		if r.Grants() {
			all = append(all, "go on")
		} else {
			all = append(all, r.State)
		}
	}
	return strings.Join(all, ", ")
}

// soonAgain lets the host deliver a message that failed again after a second, not after ten.
func soonAgain(hostJSON map[string]any) {
	hostJSON["extensions"].(map[string]any)["queues"].(map[string]any)["visibilityTimeout"] = "00:00:01"
}

func TestTheThirdKillEndsTheHostAndTheNextOneFinishes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, plan{app: soonAgain, settings: map[string]string{"SERVICENOW_TIMEOUT": "2s", "SERVICENOW_SETTLE": "1s", "GRAPH_TIMEOUT": "1s"}})
	first := w.host(0)
	kill := func() { w.kill(first) }
	var requests []string
	for _, f := range []misbehave.Fault{ // one after the other: two kills of one process are one crash
		{Match: creation, Times: 1, OnHit: kill, DropCall: true},
		{Match: creation, Times: 1, AfterHandle: kill, LoseAnswer: true},
	} {
		w.serviceNow.Faults.Add(f)
		requests = append(requests, w.ledger())
		w.opened(requests[len(requests)-1])
	}
	for range 2 {
		requests = append(requests, w.ledger())
		w.opened(requests[len(requests)-1])
	}
	select {
	case <-first.Done():
		t.Fatal("the host ended before the third kill")
	default:
	}
	w.entra.GraphFaults.Add(misbehave.Fault{Match: resuming, Times: 1, AfterHandle: kill, LoseAnswer: true})
	w.closeTicket(requests[0], 0, servicenow.Closing{Outcome: servicenow.Complete})
	w.closeTicket(requests[1], 0, servicenow.Closing{Outcome: servicenow.Complete})
	w.signalled("the host to end", first.Done())
	// Nobody is there to hear that these close.
	w.closeTicket(requests[2], 0, servicenow.Closing{Outcome: servicenow.Complete})
	w.closeTicket(requests[3], 0, servicenow.Closing{Outcome: servicenow.Rejected})
	w.check(w.serviceNow.AwaitNotifications(w.ctx))

	w.start()
	for n, request := range requests {
		access, state := "Delivered", "resumed"
		if n == 3 {
			access, state = "Denied", "denied"
		}
		if r := w.over(request); r.MyAccess != access {
			t.Errorf("My Access shows %q, not %q", r.MyAccess, access)
		}
		w.becomes(w.callouts(request)[0].key(), state)
		w.once(request)
	}
}
