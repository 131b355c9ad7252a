package storage

import (
	"context"
	"time"

	"ticketbridge/handler/fault"
)

// A Call is one operation of the embedded twin: what would be one HTTP call of a storage account.
type Call struct {
	Op             string // "get", "insert", "merge" (also the one that inserts), "remove", "query" (one page), "transact"; "create queue", "put message", "get messages", "extend message", "remove message", "count messages"
	On             string // the table or the queue
	Partition, Row string // of a transaction the first row; of a query where the page begins; of a message Row is its id; "" where there is none
	Rows           int    // entities or messages that are written or removed; of a get, a query and "get messages" those that were read, known after do
}

// Through stands before the embedded twin and decides what becomes of each call. It runs in the caller's goroutine, at the same time as other
// calls do, and no lock of the twin is held outside of do.
//
// do does the operation and says how it ended; it fails by itself when ctx is over. Through may change nothing and return what do returned; not call do
// and return an error of its own (the call never arrived), or call do and return an error of its own (the answer got lost); wait before
// or after (a slow storage); panic before or after (a process that is killed). A further do is the same call sent again, as the SDK does when an answer is
// missing. Its own errors should be *fault.Error, as those of a storage that does not serve: Unreachable, Throttled and so on. It must
// not return nil without having called do.
type Through func(ctx context.Context, c *Call, do func() error) error

// NewEmbeddedThrough is NewEmbedded with every operation going through the given function. What it is for: the twin as a stand-in that is slow,
// refuses, loses answers, or is left in the middle of something.
func NewEmbeddedThrough(prefix string, through Through) (*Store, *Queue, error) {
	s, q, err := NewEmbedded(prefix)
	if err != nil {
		return nil, nil, err
	}
	s.tables, q.queues = throughTables{s.tables, through}, throughQueues{q.queues, through}
	return s, q, nil
}

// pass lets a call go through. What do returns beside its error counts only when pass returns nil.
func (t Through) pass(ctx context.Context, c Call, do func(c *Call) error) error {
	sent := 0
	err := t(ctx, &c, func() error {
		sent++
		return repeated(do(&c), sent)
	})
	if err == nil && sent == 0 {
		return &fault.Error{Op: c.Op, Reason: fault.Internal, Detail: "what stands before the embedded storage answered without asking it"}
	}
	return err
}

// throughTables are tables with a Through before them.
type throughTables struct {
	tables  tables
	through Through
}

func (t throughTables) get(ctx context.Context, table, pk, row string) (entity, error) {
	var out entity
	err := t.through.pass(ctx, Call{Op: "get", On: table, Partition: pk, Row: row}, func(c *Call) (err error) {
		if out, err = t.tables.get(ctx, table, pk, row); err == nil {
			c.Rows = 1
		}
		return err
	})
	if err != nil {
		return entity{}, err
	}
	return out, nil
}

func (t throughTables) insert(ctx context.Context, table string, e entity) error {
	return t.through.pass(ctx, writes("insert", table, e), func(*Call) error { return t.tables.insert(ctx, table, e) })
}

func (t throughTables) merge(ctx context.Context, table string, e entity) error {
	return t.through.pass(ctx, writes("merge", table, e), func(*Call) error { return t.tables.merge(ctx, table, e) })
}

func (t throughTables) put(ctx context.Context, table string, e entity) error {
	return t.through.pass(ctx, writes("merge", table, e), func(*Call) error { return t.tables.put(ctx, table, e) })
}

func (t throughTables) remove(ctx context.Context, table, pk, row string) error {
	return t.through.pass(ctx, writes("remove", table, entity{partition: pk, row: row}), func(*Call) error { return t.tables.remove(ctx, table, pk, row) })
}

func writes(op, table string, e entity) Call {
	return Call{Op: op, On: table, Partition: e.partition, Row: e.row, Rows: 1}
}

func (t throughTables) query(ctx context.Context, table string, q query) (page []entity, next string, err error) {
	pk, row := q.begins()
	call := Call{Op: "query", On: table, Partition: pk, Row: row}
	err = t.through.pass(ctx, call, func(c *Call) (err error) {
		page, next, err = t.tables.query(ctx, table, q)
		c.Rows = len(page)
		return err
	})
	if err != nil {
		return nil, "", err
	}
	return page, next, nil
}

func (t throughTables) transact(ctx context.Context, table string, ops []operation) (etags []string, err error) {
	c := Call{Op: "transact", On: table, Rows: len(ops)}
	if len(ops) > 0 {
		c.Partition, c.Row = ops[0].partition, ops[0].row
	}
	err = t.through.pass(ctx, c, func(*Call) (err error) {
		etags, err = t.tables.transact(ctx, table, ops)
		return err
	})
	if err != nil {
		return nil, err
	}
	return etags, nil
}

// throughQueues are queues with a Through before them.
type throughQueues struct {
	queues  queues
	through Through
}

func (t throughQueues) create(ctx context.Context, queue string) error {
	return t.through.pass(ctx, Call{Op: "create queue", On: queue}, func(*Call) error { return t.queues.create(ctx, queue) })
}

func (t throughQueues) put(ctx context.Context, queue, text string, visibleIn, ttl time.Duration) error {
	return t.through.pass(ctx, Call{Op: "put message", On: queue, Rows: 1}, func(*Call) error { return t.queues.put(ctx, queue, text, visibleIn, ttl) })
}

func (t throughQueues) get(ctx context.Context, queue string, most int, invisible time.Duration) (out []QueueMessage, err error) {
	err = t.through.pass(ctx, Call{Op: "get messages", On: queue}, func(c *Call) (err error) {
		out, err = t.queues.get(ctx, queue, most, invisible)
		c.Rows = len(out)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (t throughQueues) extend(ctx context.Context, queue, id, popReceipt string, invisible time.Duration) (receipt string, err error) {
	err = t.through.pass(ctx, Call{Op: "extend message", On: queue, Row: id, Rows: 1}, func(*Call) (err error) {
		receipt, err = t.queues.extend(ctx, queue, id, popReceipt, invisible)
		return err
	})
	if err != nil {
		return "", err
	}
	return receipt, nil
}

func (t throughQueues) remove(ctx context.Context, queue, id, popReceipt string) error {
	return t.through.pass(ctx, Call{Op: "remove message", On: queue, Row: id, Rows: 1}, func(*Call) error { return t.queues.remove(ctx, queue, id, popReceipt) })
}

func (t throughQueues) depth(ctx context.Context, queue string) (n int, err error) {
	err = t.through.pass(ctx, Call{Op: "count messages", On: queue}, func(c *Call) (err error) {
		n, err = t.queues.depth(ctx, queue)
		c.Rows = n
		return err
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}
