package workflow

import (
	"context"
	"strings"
	"sync"
	"time"
)

// The neighbours whose calls are counted.
const (
	ServiceNow = "ServiceNow"
	Graph      = "Graph"
)

// Calls counts the calls that one invocation makes of its neighbours. It may be used at the same time: an invocation is answered without work
// that does not end.
type Calls struct {
	mu   sync.Mutex
	made map[string]Made
}

// Made are the calls of one neighbour.
type Made struct {
	Calls  int
	Failed int           // those that were not served: no answer, too many calls, an error of theirs
	Took   time.Duration // all of them together
}

// WithCalls puts a count into the context, for whatever is called from here on.
func WithCalls(ctx context.Context) (context.Context, *Calls) {
	c := &Calls{made: map[string]Made{}}
	return context.WithValue(ctx, callsKey, c), c
}

// Of returns the calls of a neighbour so far.
func (c *Calls) Of(neighbour string) Made {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.made[neighbour]
}

// counted is the call, counted where the context has somebody who counts.
func counted(ctx context.Context, op string, call func() error) func() error {
	c, ok := ctx.Value(callsKey).(*Calls)
	if !ok {
		return call
	}
	neighbour, _, _ := strings.Cut(op, ":")
	return func() error {
		start := time.Now()
		err := call()
		took := time.Since(start)
		c.mu.Lock()
		defer c.mu.Unlock()
		m := c.made[neighbour]
		m.Calls, m.Took = m.Calls+1, m.Took+took
		if !served(err) {
			m.Failed++
		}
		c.made[neighbour] = m
		return err
	}
}
