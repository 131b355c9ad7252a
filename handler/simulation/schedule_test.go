package simulation

import (
	"container/heap"
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"testing/synctest"
	"time"
)

// An event is something that happens at a time; of those at the same time the seed decides which is first.
type event struct {
	at  time.Time
	tie uint64
	do  func()
}

// An agenda holds what is to come. It is a heap.
type agenda []event

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return a[i].at.Before(a[j].at) || a[i].at.Equal(a[j].at) && a[i].tie < a[j].tie
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(event)) }
func (a *agenda) Pop() any {
	last := len(*a) - 1
	e := (*a)[last]
	(*a)[last] = event{}
	*a = (*a)[:last]
	return e
}

// at puts something on the agenda; after does so relative to now.
func (w *world) at(t time.Time, do func()) {
	if now := time.Now(); t.Before(now) {
		t = now
	}
	heap.Push(&w.agenda, event{t, w.rng.Uint64(), do})
}

func (w *world) after(d time.Duration, do func()) { w.at(time.Now().Add(d), do) }

// play lets happen what is on the agenda, one thing after the other, until done says so. The bubble's time goes on here and nowhere else.
func (w *world) play(done func() bool) {
	for len(w.agenda) > 0 && len(w.violations) == 0 && !done() {
		e := heap.Pop(&w.agenda).(event)
		if d := time.Until(e.at); d > 0 {
			time.Sleep(d)
			synctest.Wait() // the contexts whose time is over with it know so
		}
		w.steps++
		e.do()
		w.watch()
	}
}

// A worker is one invocation of an instance: a goroutine that stops at each of its calls and goes on when the scheduler says so. One runs at a time.
type worker struct {
	number int
	what   string
	on     *instance
	about  string // the correlation it works on, once known
	wake   chan bool
	after  func(err error, died bool)
	done   bool
}

// start makes an instance do something, within the limit; then is told what came of it. The invocation begins when the scheduler picks it.
func (w *world) start(in *instance, what, about string, limit time.Duration, do func(ctx context.Context) error, then func(err error, died bool)) {
	w.workers++
	k := &worker{number: w.workers, what: what, on: in, about: about, wake: make(chan bool), after: then}
	in.workers = append(in.workers, k)
	go func() {
		var err error
		died := true
		defer func() {
			if p := recover(); p != nil {
				w.violate(k.about, "worker %d (%s) panicked: %v\n%s", k.number, k.what, p, debug.Stack())
			}
			k.done = true
			in.workers = slices.DeleteFunc(in.workers, func(other *worker) bool { return other == k })
			if died {
				w.trace(k, "died", "")
			} else {
				w.trace(k, "ended", errorText(err))
			}
			if k.after != nil {
				after := k.after
				w.after(0, func() { after(err, died) })
			}
			w.back <- struct{}{}
		}()
		if !<-k.wake {
			return
		}
		ctx, cancel := context.WithTimeout(w.invocation(k), limit)
		defer cancel()
		err = do(ctx)
		died = false
	}()
	w.after(0, func() { w.goOn(k) })
}

// goOn lets a worker run until it stops again.
func (w *world) goOn(k *worker) {
	if k.done {
		return
	}
	before := w.running
	w.running = k
	k.wake <- true
	<-w.back
	w.running = before
}

// pause stops the running worker for the given time, or until ctx ends, if that is sooner; then it is false. It does not return when the process dies.
func (w *world) pause(ctx context.Context, d time.Duration) bool {
	k := w.running
	until, whole := time.Now().Add(d), true
	if end, ok := ctx.Deadline(); ok && !until.Before(end) {
		until, whole = end, false
	}
	w.at(until, func() { w.goOn(k) })
	w.back <- struct{}{}
	if !<-k.wake {
		runtime.Goexit()
	}
	return whole
}

// die ends the running worker's process, with all that it has in work. It does not return.
func (w *world) die() {
	k := w.running
	w.after(0, func() { w.kill(k.on) })
	w.back <- struct{}{}
	<-k.wake
	runtime.Goexit()
}

// kill ends a process between two instructions of each of its workers, and starts another one later.
func (w *world) kill(in *instance) {
	if in.dead {
		return
	}
	in.dead = true
	w.count("instances killed")
	for len(in.workers) > 0 {
		k := in.workers[0]
		before := w.running
		w.running = k
		k.wake <- false
		<-w.back
		w.running = before
	}
	w.instances = slices.DeleteFunc(w.instances, func(other *instance) bool { return other == in })
	if !w.over && in.workflow != nil {
		w.after(w.between(time.Second, 3*time.Minute), w.launch)
	}
}

// trace puts a line into the record of what happened, by which two runs are compared, and keeps the last ones for each correlation.
func (w *world) trace(k *worker, what, more string) {
	now := time.Since(w.began)
	w.hash.Write(fmt.Appendf(w.line[:0], "%d %d %s %s\n", now, k.number, what, more))
	if w.whole {
		w.lines = append(w.lines, fmt.Sprintf("%s %s/%d %s: %s %s", now, k.on.name, k.number, k.what, what, more))
	}
	if k.about == "" {
		return
	}
	t := w.last[k.about]
	if t == nil {
		t = &tail{}
		w.last[k.about] = t
	}
	t.add(moment{now, k.on.name, k.number, k.what, what, more})
}

// A moment is a line of the trace that is written out only when it is needed.
type moment struct {
	at         time.Duration
	on         string
	worker     int
	what       string
	call, more string
}

func (m moment) String() string {
	return fmt.Sprintf("%16s %s/%d %-12s %s %s", m.at, m.on, m.worker, m.what, m.call, m.more)
}

// A tail keeps the last moments.
type tail struct {
	ring [40]moment
	n    int
}

func (t *tail) add(m moment) {
	t.ring[t.n%len(t.ring)] = m
	t.n++
}

func (t *tail) all() []moment {
	var out []moment
	for i := max(0, t.n-len(t.ring)); i < t.n; i++ {
		out = append(out, t.ring[i%len(t.ring)])
	}
	return out
}
