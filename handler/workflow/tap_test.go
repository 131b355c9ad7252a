package workflow_test

import (
	"context"
	"slices"
	"sync"
	"time"

	"ticketbridge/handler/callout"
	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/ticket"
	"ticketbridge/handler/workflow"
)

// A tap lies between a workflow and its ports. It counts the calls, and decides what becomes of each.
type tap struct {
	mu   sync.Mutex
	seen []string
	fate func(n int, op string) fate // n is the call's number, from 1; nil lets every call pass

	never correlation.Key // whose ticket is never created
}

// A fate is what becomes of a call.
type fate string

const (
	passes       fate = "passes"
	killedBefore fate = "killed before it" // the process dies before it makes the call
	killedAfter  fate = "killed after it"  // the process dies when the call has taken effect, before it sees the answer
	refused      fate = "refused"          // the call does not take effect and ends in an error
	lost         fate = "answer lost"      // it takes effect and ends in an error
)

// killed is what a process panics with that dies in the middle of something.
type killed struct{}

func (x *tap) through(op string, do func() error) error {
	x.mu.Lock()
	x.seen = append(x.seen, op)
	n, decide, f := len(x.seen), x.fate, passes
	x.mu.Unlock()
	if decide != nil {
		f = decide(n, op)
	}
	switch f {
	case killedBefore:
		panic(killed{})
	case refused:
		return &fault.Error{Op: op, Reason: fault.Unreachable, Detail: "refused on request"}
	}
	err := do()
	switch {
	case f == killedAfter:
		panic(killed{})
	case f == lost && err == nil && slices.Contains([]string{"create ticket", "answer", "note"}, op):
		return &fault.Error{Op: op, Reason: fault.Unclear, Detail: "the answer got lost on request"}
	case f == lost && err == nil:
		return &fault.Error{Op: op, Reason: fault.Unreachable, Detail: "the answer got lost on request"}
	}
	return err
}

// reset forgets the calls so far, and sets what becomes of those to come.
func (x *tap) reset(f func(n int, op string) fate) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.seen, x.fate = nil, f
}

// first is the fate of the first call of that name, and says whether it was met; all others pass.
func first(op string, f fate) (met *bool, decide func(n int, op string) fate) {
	met = new(bool)
	return met, func(_ int, what string) fate {
		if *met || what != op {
			return passes
		}
		*met = true
		return f
	}
}

// calls returns how often each call was made since reset.
func (x *tap) calls() map[string]int {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := map[string]int{}
	for _, op := range x.seen {
		out[op]++
	}
	return out
}

// called returns how often that call was made since reset.
func (w *world) called(op string) int { return w.tap.calls()[op] }

func (x *tap) total() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.seen)
}

// on returns a workflow like w whose ports all have the tap before them.
func (x *tap) on(w *workflow.Workflow) *workflow.Workflow {
	out := *w
	out.Store, out.Queue, out.Tickets, out.Requests = tappedStore{w.Store, x}, tappedQueue{w.Queue, x}, tappedTickets{w.Tickets, x}, tappedRequests{w.Requests, x}
	return &out
}

type tappedStore struct {
	workflow.Store
	tap *tap
}

func (s tappedStore) Create(ctx context.Context, c *correlation.Correlation, body []byte) error {
	return s.tap.through("store create", func() error { return s.Store.Create(ctx, c, body) })
}

func (s tappedStore) Load(ctx context.Context, key correlation.Key) (c *correlation.Correlation, err error) {
	err = s.tap.through("load", func() (err error) { c, err = s.Store.Load(ctx, key); return err })
	return c, err
}

func (s tappedStore) Callout(ctx context.Context, key correlation.Key) (body []byte, err error) {
	err = s.tap.through("callout", func() (err error) { body, err = s.Store.Callout(ctx, key); return err })
	return body, err
}

func (s tappedStore) Save(ctx context.Context, c *correlation.Correlation) error {
	return s.tap.through("save", func() error { return s.Store.Save(ctx, c) })
}

func (s tappedStore) Index(ctx context.Context, c *correlation.Correlation) error {
	op := "index"
	if c.Settled() {
		op = "index ended"
	}
	return s.tap.through(op, func() error { return s.Store.Index(ctx, c) })
}

func (s tappedStore) Unlist(ctx context.Context, key correlation.Key) error {
	return s.tap.through("unlist", func() error { return s.Store.Unlist(ctx, key) })
}

func (s tappedStore) Postpone(ctx context.Context, key correlation.Key, due time.Time) error {
	return s.tap.through("postpone", func() error { return s.Store.Postpone(ctx, key, due) })
}

func (s tappedStore) Due(ctx context.Context, at time.Time, cursor string, limit int) (page []correlation.Summary, next string, err error) {
	err = s.tap.through("due", func() (err error) { page, next, err = s.Store.Due(ctx, at, cursor, limit); return err })
	return page, next, err
}

type tappedQueue struct {
	workflow.Queue
	tap *tap
}

func (q tappedQueue) Put(ctx context.Context, text string, delay time.Duration) error {
	return q.tap.through("put", func() error { return q.Queue.Put(ctx, text, delay) })
}

type tappedTickets struct {
	workflow.Tickets
	tap *tap
}

func (t tappedTickets) through(ctx context.Context, op string, do func() error) error {
	defer dieWith(ctx)
	return t.tap.through(op, do)
}

func (t tappedTickets) Find(ctx context.Context, table, id string) (found []ticket.Record, err error) {
	err = t.through(ctx, "find ticket", func() (err error) { found, err = t.Tickets.Find(ctx, table, id); return err })
	return found, err
}

func (t tappedTickets) Create(ctx context.Context, d ticket.Draft, id string) (rec ticket.Record, err error) {
	if id == t.tap.never.TicketID(0) {
		return rec, &fault.Error{Op: "create ticket", Reason: fault.Unreachable, Detail: "this one is never served"}
	}
	err = t.through(ctx, "create ticket", func() (err error) { rec, err = t.Tickets.Create(ctx, d, id); return err })
	return rec, err
}

func (t tappedTickets) Read(ctx context.Context, table, sysID string) (rec ticket.Record, err error) {
	err = t.through(ctx, "read ticket", func() (err error) { rec, err = t.Tickets.Read(ctx, table, sysID); return err })
	return rec, err
}

func (t tappedTickets) Note(ctx context.Context, table, sysID, text string) error {
	return t.through(ctx, "note", func() error { return t.Tickets.Note(ctx, table, sysID, text) })
}

func (t tappedTickets) FindUser(ctx context.Context, principalName, email string) (sysID string, found bool, err error) {
	err = t.through(ctx, "find user", func() (err error) { sysID, found, err = t.Tickets.FindUser(ctx, principalName, email); return err })
	return sysID, found, err
}

func (t tappedTickets) FindGroup(ctx context.Context, name string) (sysID string, found bool, err error) {
	err = t.through(ctx, "find group", func() (err error) { sysID, found, err = t.Tickets.FindGroup(ctx, name); return err })
	return sysID, found, err
}

func (t tappedTickets) Update(ctx context.Context, table, sysID string, fields map[string]string) error {
	return t.through(ctx, "update", func() error { return t.Tickets.Update(ctx, table, sysID, fields) })
}

type tappedRequests struct {
	workflow.Requests
	tap *tap
}

func (r tappedRequests) through(ctx context.Context, op string, do func() error) error {
	defer dieWith(ctx)
	return r.tap.through(op, do)
}

func (r tappedRequests) Answer(ctx context.Context, key correlation.Key, stage string, d workflow.Decision, detail string) error {
	return r.through(ctx, "answer", func() error { return r.Requests.Answer(ctx, key, stage, d, detail) })
}

func (r tappedRequests) Read(ctx context.Context, key correlation.Key) (st workflow.RequestStatus, err error) {
	err = r.through(ctx, "ask", func() (err error) { st, err = r.Requests.Read(ctx, key); return err })
	return st, err
}

func (r tappedRequests) ReadMany(ctx context.Context, keys []correlation.Key) (stand map[correlation.Key]workflow.RequestStatus, err error) {
	err = r.through(ctx, "ask many", func() (err error) { stand, err = r.Requests.ReadMany(ctx, keys); return err })
	return stand, err
}

func (r tappedRequests) People(ctx context.Context, key correlation.Key) (people []callout.Person, err error) {
	err = r.through(ctx, "people", func() (err error) { people, err = r.Requests.People(ctx, key); return err })
	return people, err
}
