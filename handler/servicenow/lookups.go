package servicenow

import (
	"context"
	"sync"
	"time"

	"ticketbridge/handler/fault"
)

// How long an answer of ServiceNow about users, groups and catalog items is believed, and how many are kept. Somebody who was not found may be added at
// any time, often because a ticket went without him.
const (
	keepFound    = 10 * time.Minute
	keepNotFound = time.Minute
	keepAtMost   = 1000
)

// lookups keeps what was looked up. However many ask for the same at once, it is looked up once; errors are not kept.
type lookups[T any] struct {
	mu   sync.Mutex
	kept map[string]*lookup[T]
}

type lookup[T any] struct {
	done   chan struct{} // closed when the rest is there
	value  T
	found  bool
	err    error
	gaveUp bool      // whoever asked did not wait for the answer, or died
	until  time.Time // zero while it is under way
}

// get returns what is kept under the key, or else what fetch returns: called by the first who asks, and by the next of those who wait for him if he gives up.
func (l *lookups[T]) get(ctx context.Context, op, key string, fetch func(context.Context) (T, bool, error)) (value T, found bool, err error) {
	for {
		l.mu.Lock()
		e := l.kept[key]
		first := e == nil || !e.until.IsZero() && !time.Now().Before(e.until)
		if first {
			e = &lookup[T]{done: make(chan struct{}), gaveUp: true}
			l.makeRoom()
			l.kept[key] = e
		}
		l.mu.Unlock()
		if first {
			l.run(ctx, key, e, fetch)
			return e.value, e.found, e.err
		}
		select {
		case <-e.done:
			if !e.gaveUp {
				return e.value, e.found, e.err
			}
		case <-ctx.Done():
			return value, false, &fault.Error{Op: op, Reason: fault.Unreachable, Detail: "no answer in the time that was left", Err: ctx.Err()}
		}
	}
}

func (l *lookups[T]) run(ctx context.Context, key string, e *lookup[T], fetch func(context.Context) (T, bool, error)) {
	defer func() { // also when fetch panics
		l.mu.Lock()
		defer l.mu.Unlock()
		switch {
		case e.gaveUp || e.err != nil:
			if l.kept[key] == e {
				delete(l.kept, key)
			}
		case e.found:
			e.until = time.Now().Add(keepFound)
		default:
			e.until = time.Now().Add(keepNotFound)
		}
		close(e.done)
	}()
	e.value, e.found, e.err = fetch(ctx)
	e.gaveUp = e.err != nil && ctx.Err() != nil
}

// makeRoom removes what is out of date when there is too much, or else what will be first. What is under way is not counted against the limit: each
// of those has a caller who waits. The lock is held.
func (l *lookups[T]) makeRoom() {
	if l.kept == nil {
		l.kept = map[string]*lookup[T]{}
	}
	if len(l.kept) < keepAtMost {
		return
	}
	now, first := time.Now(), ""
	for key, e := range l.kept {
		switch {
		case e.until.IsZero():
		case !now.Before(e.until):
			delete(l.kept, key)
		case first == "" || e.until.Before(l.kept[first].until):
			first = key
		}
	}
	if len(l.kept) >= keepAtMost {
		delete(l.kept, first)
	}
}

// forget drops what is kept under the key: ServiceNow has just shown that it is no longer so.
func (l *lookups[T]) forget(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.kept[key]; e != nil && !e.until.IsZero() {
		delete(l.kept, key)
	}
}
