package simulation

import (
	"context"
	"fmt"
	"time"

	"ticketbridge/handler/fault"
	"ticketbridge/handler/storage"
)

// A neighbour is a system that the handler calls, as far as it can be in trouble.
type neighbour struct {
	name    string
	trouble float64       // the chance that a call meets some, while the storm lasts
	deadly  float64       // the chance that the caller's process dies over a call
	slowest time.Duration // of a call that is served in the end
	settles time.Duration // how long after its caller gave up a call may still take effect
	outages []outage
	kinds   []fate // the trouble that a single call can meet
}

// An outage is a time in which nobody is served.
type outage struct {
	from, to time.Time
	kind     fate
}

// A fate is what becomes of a call.
type fate string

const (
	passes       fate = "passes"
	refused      fate = "refused"                            // no connection: certainly nothing happened
	failed       fate = "failed (5xx)"                       // nothing happened, and the caller cannot know
	throttled    fate = "throttled"                          // asked to stay away for some time
	unknown      fate = "credentials not accepted"           // for a time
	hangs        fate = "hangs"                              // nothing happens, and no answer comes
	late         fate = "takes effect after the caller left" // no answer comes, and it happens all the same
	lost         fate = "answer lost"                        // it happens, and ends in an error
	slow         fate = "slow"                               // it is served, seconds later
	again        fate = "sent twice"                         // by the client, since the first answer was missing
	killedBefore fate = "killed before"
	killedAfter  fate = "killed after"
	killedDuring fate = "killed during" // the process dies with the call on its way, and that takes effect later
)

// A call is one that the handler makes.
type call struct {
	op      string
	about   string // the correlation, where it is known
	changes bool   // it changes something outside, and is sent once
}

// fate decides what becomes of a call.
func (w *world) fate(n *neighbour, c call) (f fate, rest time.Duration) {
	now := time.Now()
	if !now.Before(w.calm) {
		return passes, 0
	}
	if w.chance(n.deadly) {
		if c.changes {
			return pick(w, killedBefore, killedAfter, killedDuring), 0
		}
		return pick(w, killedBefore, killedAfter), 0
	}
	for _, o := range n.outages {
		if !now.Before(o.from) && now.Before(o.to) {
			return o.kind, o.to.Sub(now)
		}
	}
	if w.chance(n.trouble) {
		return pick(w, n.kinds...), 0
	}
	return passes, 0
}

// pass lets the running worker make a call, and lets happen to it what the seed says. Other workers go on meanwhile.
func (w *world) pass(ctx context.Context, n *neighbour, c call, do func() error) error {
	k := w.running
	if k == nil { // the scheduler's own, the host's, or the check's
		return do()
	}
	if k.about == "" {
		k.about = c.about
	}
	f, rest := w.fate(n, c)
	if f == late && !c.changes {
		f = hangs
	}
	if f != passes {
		w.count(n.name + ": " + string(f))
	}
	err := w.meet(ctx, n, c, f, rest, do)
	w.trace(k, n.name+" "+c.op, string(f)+" "+errorText(err))
	return err
}

func (w *world) meet(ctx context.Context, n *neighbour, c call, f fate, rest time.Duration, do func() error) error {
	k := w.running
	unclear := fault.Unreachable
	if c.changes {
		unclear = fault.Unclear
	}
	says := func(r fault.Reason, detail string) error { return &fault.Error{Op: c.op, Reason: r, Detail: detail} }
	gone := "the time for the call is over"
	if ctx.Err() != nil {
		return says(fault.Unreachable, gone)
	}
	switch f {
	case killedBefore:
		w.pause(ctx, w.between(0, 20*time.Millisecond))
		w.trace(k, n.name+" "+c.op, string(f))
		w.die()
	case killedDuring:
		w.trace(k, n.name+" "+c.op, string(f))
		w.later(n, c, w.between(0, n.slowest+n.settles), do)
		w.die()
	case late:
		left := n.slowest
		if end, ok := ctx.Deadline(); ok {
			left = min(left, time.Until(end))
		}
		w.later(n, c, w.between(0, left+n.settles), do)
		w.pause(ctx, left)
		return says(unclear, "no answer in time")
	case hangs:
		w.pause(ctx, n.slowest)
		return says(unclear, "no answer in time")
	case slow:
		if !w.pause(ctx, w.between(time.Second, n.slowest)) {
			return says(unclear, "no answer in time")
		}
	default:
		if !w.pause(ctx, w.latency()) {
			return says(fault.Unreachable, gone)
		}
	}
	switch f {
	case refused:
		return says(fault.Unreachable, "no connection")
	case failed:
		return says(unclear, "status 500")
	case unknown:
		return says(fault.Unauthorized, "the credentials were not accepted")
	case throttled:
		after := w.between(0, 2*time.Minute).Truncate(time.Second)
		if rest > 0 && w.chance(0.5) {
			after = min(rest, time.Hour).Truncate(time.Second)
		}
		return &fault.Error{Op: c.op, Reason: fault.Throttled, Detail: "too many calls", After: after}
	}
	err := do()
	switch f {
	case again:
		w.pause(ctx, w.latency())
		return do()
	case killedAfter:
		w.trace(k, n.name+" "+c.op, string(f))
		w.die()
	case lost:
		w.pause(ctx, w.latency())
		if err == nil {
			return says(unclear, "the answer got lost")
		}
		return err
	}
	if w.chance(0.1) && !w.pause(ctx, w.latency()) && err == nil { // others may come between what happened and what is made of it
		return says(unclear, "no whole answer in time")
	}
	return err
}

// later lets a call take effect that nobody waits for any more.
func (w *world) later(n *neighbour, c call, d time.Duration, do func() error) {
	about := w.running.about
	w.after(d, func() {
		err := do()
		w.trace(&worker{what: "nobody", on: &instance{name: "-"}, about: about}, n.name+" "+c.op, "takes effect now "+errorText(err))
	})
}

// latency is the time of a call that meets no trouble. As a rule it is none: then several workers are at the same instant, and the seed decides
// who is first.
func (w *world) latency() time.Duration {
	switch n := w.rng.IntN(100); {
	case n < 60:
		return 0
	case n < 95:
		return w.between(time.Millisecond, 100*time.Millisecond)
	default:
		return w.between(100*time.Millisecond, 2*time.Second)
	}
}

// through stands before the storage.
func (w *world) through(ctx context.Context, c *storage.Call, do func() error) error {
	if w.running == nil {
		return do()
	}
	about := ""
	if len(c.Partition) == 36 && len(c.Row) >= 36 {
		about = c.Partition + "/" + c.Row[:36]
	}
	return w.pass(ctx, &w.storage, call{op: c.Op + " " + c.On, about: about}, func() error {
		err := do()
		if fault.Is(err, fault.Conflict) {
			w.count("storage: conflicts")
		}
		if err == nil && c.Op == "transact" {
			w.dirty = append(w.dirty, about)
		}
		return err
	})
}

// newNeighbours draws how the neighbours fare.
func (w *world) newNeighbours() {
	level := func() float64 { return pick(w, 0, 0.01, 0.03, 0.08, 0.2) }
	w.storage = neighbour{
		name: "storage", trouble: level() / 2, deadly: pick(w, 0, 0.002, 0.005, 0.02), slowest: 20 * time.Second,
		kinds: []fate{refused, throttled, lost, lost, slow, again, hangs, failed},
	}
	w.servicenow = neighbour{
		name: "ServiceNow", trouble: level(), deadly: pick(w, 0, 0.01, 0.03), slowest: callTimeout, settles: 60 * time.Second,
		kinds: []fate{refused, failed, throttled, hangs, late, late, lost, lost, slow},
	}
	w.graph = neighbour{
		name: "Graph", trouble: level(), deadly: pick(w, 0, 0.01, 0.03), slowest: graphTimeout, settles: 20 * time.Second,
		kinds: []fate{refused, failed, throttled, hangs, late, lost, lost, slow},
	}
	for _, n := range []*neighbour{&w.storage, &w.servicenow, &w.graph} {
		longest := 9 * time.Hour
		if n == &w.storage {
			longest = 20 * time.Minute
		}
		for range w.rng.IntN(4) {
			from := w.began.Add(w.between(0, w.calm.Sub(w.began)))
			n.outages = append(n.outages, outage{from, from.Add(w.between(time.Minute, longest)), pick(w, refused, failed, throttled, hangs, unknown)})
			w.count(n.name + ": outages")
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return fmt.Sprintf("error: %s", err)
}
