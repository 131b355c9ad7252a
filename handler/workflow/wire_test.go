package workflow_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ticketbridge/handler/fault"
	"ticketbridge/handler/storage"
	"ticketbridge/handler/workflow"
)

// A process is one of the function's: what runs in it dies with it.
type process struct {
	dead  atomic.Bool
	dying atomic.Bool // it was killed over an HTTP call, which may be made by a goroutine of the client's: whoever waits for that ends it
}

// dieWith ends an invocation whose process was killed over a call that it has just made.
func dieWith(ctx context.Context) {
	if a, ok := ctx.Value(actorKey{}).(actor); ok && a.process.dying.Load() {
		panic(killed{})
	}
}

// An actor is an invocation: in which process, and what it does (callout, ticket closed, advance, sweep). It goes with the context, so that the wire knows
// the function's calls from those of the host and of the test.
type actor struct {
	process *process
	doing   string
}

type actorKey struct{}

// as is the context of an invocation in the process of that workflow.
func (w *world) as(wf *workflow.Workflow, doing string) context.Context {
	return context.WithValue(w.invocation(), actorKey{}, actor{w.processOf(wf), doing})
}

func (w *world) processOf(wf *workflow.Workflow) *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.processes[wf]
	if p == nil {
		p = &process{}
		w.processes[wf] = p
	}
	return p
}

// died ends the process of that workflow: whatever else runs in it dies at its next effect. In a world that restarts, another takes its place.
func (w *world) died(wf *workflow.Workflow) {
	if !w.restarts || w.processOf(wf).dead.Swap(true) {
		return
	}
	next := w.start()
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.all {
		if w.all[i] == wf {
			w.all[i] = next
		}
	}
	if w.first == wf {
		w.first = next
	}
}

// instance is the process that the i-th call reaches.
func (w *world) instance(i int) *workflow.Workflow {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all[i%len(w.all)]
}

// A wire lies between the function's processes and everything outside of them: each operation of Table and Queue Storage, each HTTP call to ServiceNow and to
// Graph. It writes them down in order, and decides what becomes of each. It is below the tap: one call of a port may be two effects.
type wire struct {
	mu    sync.Mutex
	seen  []effect
	plan  map[int]fate // by the effect's number, from 1
	hits  []hit
	pause func(effect) time.Duration // what an effect takes, before it happens; nil is nothing
}

// An effect is what the function does outside of itself.
type effect struct{ doing, what string }

func (e effect) String() string { return e.doing + ": " + e.what }

// A hit is an effect that met its fate.
type hit struct {
	number int
	effect effect
	fate   fate
}

func (h hit) String() string { return fmt.Sprintf("%s (%d, %s)", h.effect, h.number, h.fate) }

// Fates that have to do with time: the caller waits until the deadline of its call, and hears nothing.
const (
	unheard fate = "never arrived, past its deadline"
	overdue fate = "answered past its deadline"
	tardy   fate = "took effect past its deadline"
)

// storagePatience is how long the SDK tries one operation, three times ten seconds; a callout gives up before.
const storagePatience = 30 * time.Second

// tardiness is how long after its deadline a call still takes effect. It is within workflow.Policy.Settle.
const tardiness = 20 * time.Second

func (x *wire) storage(ctx context.Context, c *storage.Call, do func() error) error {
	a, ok := ctx.Value(actorKey{}).(actor)
	if !ok {
		return do()
	}
	_, on, _ := strings.Cut(strings.TrimPrefix(c.On, storage.DefaultPrefix), "-") // "" is neither
	if on == "" {
		on = strings.TrimPrefix(c.On, storage.DefaultPrefix)
	}
	return x.meet(ctx, a, effect{a.doing, c.Op + " " + on}, storagePatience, do, func(detail string) error {
		return &fault.Error{Op: c.Op, Reason: fault.Unreachable, Detail: detail}
	})
}

// caller is an HTTP transport with the wire before it.
type caller struct {
	wire *wire
	whom string
	next http.RoundTripper
}

func (c caller) RoundTrip(req *http.Request) (res *http.Response, err error) {
	ctx := req.Context()
	a, ok := ctx.Value(actorKey{}).(actor)
	if !ok {
		return c.next.RoundTrip(req)
	}
	defer func() {
		if p := recover(); p == (killed{}) {
			a.process.dying.Store(true)
			res, err = nil, io.ErrUnexpectedEOF
		} else if p != nil {
			panic(p)
		}
	}()
	err = c.wire.meet(ctx, a, effect{a.doing, c.whom + " " + req.Method + " " + place(req.URL.Path)}, 5*time.Minute, func() error {
		if ctx.Err() != nil { // it was on its way when its caller gave up
			late, err := c.next.RoundTrip(req.WithContext(context.WithoutCancel(ctx)))
			if err == nil {
				err = late.Body.Close()
			}
			return err
		}
		res, err = c.next.RoundTrip(req)
		return err
	}, func(detail string) error { return fmt.Errorf("%s: %w", detail, io.ErrUnexpectedEOF) })
	if err != nil {
		return nil, err
	}
	return res, nil
}

// place is what of a path says which call it is.
func place(path string) string {
	if _, rest, ok := strings.Cut(path, "/assignmentRequests/"); ok {
		if _, action, ok := strings.Cut(rest, "/"); ok {
			return action
		}
		return "request"
	}
	rest := strings.TrimPrefix(path, "/api/now/v2/table/")
	if table, _, ok := strings.Cut(rest, "/"); ok {
		return table + "/{sys_id}"
	}
	return rest
}

// meet lets an effect meet its fate. Whoever gives up waits as long as its context lasts, and no longer than patience.
func (x *wire) meet(ctx context.Context, a actor, e effect, patience time.Duration, do func() error, broken func(string) error) error {
	if a.process.dead.Load() || a.process.dying.Load() {
		panic(killed{})
	}
	x.mu.Lock()
	x.seen = append(x.seen, e)
	n, f, pause := len(x.seen), passes, time.Duration(0)
	if planned, ok := x.plan[n]; ok {
		f = planned
		x.hits = append(x.hits, hit{n, e, f})
	}
	if x.pause != nil {
		pause = x.pause(e)
	}
	x.mu.Unlock()
	if pause > 0 {
		time.Sleep(pause)
	}
	giveUp := func() error {
		t := time.NewTimer(patience)
		defer t.Stop()
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		return broken("no answer in time, on request")
	}
	var err error
	switch f {
	case killedBefore:
		panic(killed{})
	case killedAfter:
		_ = do()
		panic(killed{})
	case refused:
		err = broken("refused on request")
	case lost:
		_ = do()
		err = broken("the answer got lost on request")
	case unheard:
		err = giveUp()
	case overdue:
		_ = do()
		err = giveUp()
	case tardy:
		err = giveUp()
		go func() {
			time.Sleep(tardiness)
			_ = do()
		}()
	default:
		err = do()
	}
	if a.process.dead.Load() || a.process.dying.Load() { // killed while it waited
		panic(killed{})
	}
	return err
}

// expect begins to count anew, and plans what becomes of the effects of those numbers.
func (x *wire) expect(plan map[int]fate) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.seen, x.hits, x.plan = nil, nil, plan
}

func (x *wire) effects() []effect {
	x.mu.Lock()
	defer x.mu.Unlock()
	return append([]effect(nil), x.seen...)
}

// ended lets everything from here on happen as it does, and returns the effects so far.
func (x *wire) ended() []effect {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.plan = nil
	return append([]effect(nil), x.seen...)
}

func (x *wire) met() []hit {
	x.mu.Lock()
	defer x.mu.Unlock()
	return append([]hit(nil), x.hits...)
}
