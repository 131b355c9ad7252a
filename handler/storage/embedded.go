package storage

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"ticketbridge/handler/fault"
)

// NewEmbedded returns a store and a queue inside this process, for local runs and tests: the same as in an Azure account, limits included,
// and gone with the process. It takes the time from time.Now and starts nothing, so it works in a testing/synctest bubble.
func NewEmbedded(prefix string) (*Store, *Queue, error) {
	names, err := NamesFor(prefix)
	if err != nil {
		return nil, nil, err
	}
	return &Store{&memoryTables{tables: map[string]map[string]*partition{}}, names}, &Queue{&memoryQueues{queues: map[string]*memoryQueue{}}, names.Queue}, nil
}

// alive is what a call over the network would say of its context.
func alive(ctx context.Context, op string) error {
	if err := ctx.Err(); err != nil {
		return &fault.Error{Op: op, Reason: fault.Unreachable, Detail: "the time for the call is over", Err: err}
	}
	return nil
}

// memoryTables are tables in memory.
type memoryTables struct {
	mu     sync.Mutex
	tables map[string]map[string]*partition // by table and partition key
	writes int64
}

type partition struct {
	keys []string // row keys in order
	rows map[string]entity
}

// read returns the partition, or an empty one.
func (m *memoryTables) read(table, key string) *partition {
	if p := m.tables[table][key]; p != nil {
		return p
	}
	return &partition{}
}

// find returns the partition, made if need be.
func (m *memoryTables) find(table, key string) *partition {
	t := m.tables[table]
	if t == nil {
		t = map[string]*partition{}
		m.tables[table] = t
	}
	p := t[key]
	if p == nil {
		p = &partition{rows: map[string]entity{}}
		t[key] = p
	}
	return p
}

func (p *partition) set(e entity) {
	if i, ok := slices.BinarySearch(p.keys, e.row); !ok {
		p.keys = slices.Insert(p.keys, i, e.row)
	}
	p.rows[e.row] = e
}

func (m *memoryTables) missing(op, row string) error {
	return &fault.Error{Op: op, Reason: fault.NotFound, Status: 404, Detail: "there is no " + row}
}

// stamp gives e a version of its own, and values that nobody else holds.
func (m *memoryTables) stamp(e entity) entity {
	m.writes++
	e.etag = fmt.Sprintf("W/%q", strconv.FormatInt(m.writes, 10))
	e.props = held(e.props)
	return e
}

// held copies properties as Table Storage would keep them.
func held(props map[string]any) map[string]any {
	out := make(map[string]any, len(props))
	for name, v := range props {
		switch v := v.(type) {
		case []byte:
			out[name] = bytes.Clone(v)
		case time.Time:
			out[name] = instant(v)
		default:
			out[name] = v
		}
	}
	return out
}

func (m *memoryTables) get(ctx context.Context, table, pk, row string) (entity, error) {
	if err := alive(ctx, "get entity"); err != nil {
		return entity{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.read(table, pk).rows[row]
	if !ok {
		return entity{}, m.missing("get entity", row)
	}
	e.props = held(e.props)
	return e, nil
}

func (m *memoryTables) insert(ctx context.Context, table string, e entity) error {
	_, err := m.apply(ctx, "insert entity", table, []operation{{entity: e}})
	return err
}

func (m *memoryTables) transact(ctx context.Context, table string, ops []operation) ([]string, error) {
	return m.apply(ctx, "transaction", table, ops)
}

// apply does all operations or none.
func (m *memoryTables) apply(ctx context.Context, op, table string, ops []operation) ([]string, error) {
	if err := alive(ctx, op); err != nil {
		return nil, err
	}
	if err := checkTransaction(ops); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.find(table, ops[0].partition)
	after := make([]entity, len(ops))
	seen := map[string]bool{}
	for i, o := range ops {
		if o.partition != ops[0].partition || seen[o.row] {
			return nil, &fault.Error{Op: op, Reason: fault.Internal, Status: 400, Detail: "a transaction is on different rows of one partition"}
		}
		seen[o.row] = true
		old, found := p.rows[o.row]
		after[i] = o.entity
		switch {
		case !o.merge && found:
			return nil, &fault.Error{Op: op, Reason: fault.Exists, Status: 409, Detail: "there is a " + o.row}
		case o.merge && !found:
			return nil, m.missing(op, o.row)
		case o.merge && old.etag != o.etag:
			return nil, &fault.Error{Op: op, Reason: fault.Conflict, Status: 412, Detail: o.row + " has another version"}
		case o.merge:
			var err error
			if after[i], err = merged(old, o.entity); err != nil {
				return nil, err
			}
		}
	}
	etags := make([]string, len(ops))
	for i, e := range after {
		e = m.stamp(e)
		p.set(e)
		etags[i] = e.etag
	}
	return etags, nil
}

// merged returns old with the properties of e.
func merged(old, e entity) (entity, error) {
	old.props = maps.Clone(old.props)
	maps.Copy(old.props, e.props)
	_, err := checkEntity(old)
	return old, err
}

func (m *memoryTables) replace(ctx context.Context, table string, e entity) error {
	if err := alive(ctx, "replace entity"); err != nil {
		return err
	}
	if _, err := checkEntity(e); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.find(table, e.partition).set(m.stamp(e))
	return nil
}

func (m *memoryTables) merge(ctx context.Context, table string, e entity) error {
	if err := alive(ctx, "merge entity"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.read(table, e.partition)
	old, ok := p.rows[e.row]
	if !ok {
		return m.missing("merge entity", e.row)
	}
	after, err := merged(old, e)
	if err != nil {
		return err
	}
	p.set(m.stamp(after))
	return nil
}

func (m *memoryTables) remove(ctx context.Context, table, pk, row string) error {
	if err := alive(ctx, "delete entity"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.read(table, pk)
	i, ok := slices.BinarySearch(p.keys, row)
	if !ok {
		return m.missing("delete entity", row)
	}
	p.keys = slices.Delete(p.keys, i, i+1)
	delete(p.rows, row)
	return nil
}

// query looks at no more than pageSize rows, as a server would that has other work to do: a page may be short, or empty, and not the last.
func (m *memoryTables) query(ctx context.Context, table string, q query) ([]entity, string, error) {
	if err := alive(ctx, "query entities"); err != nil {
		return nil, "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.read(table, q.partition)
	start, _ := slices.BinarySearch(p.keys, max(q.from, q.next, q.after))
	var page []entity
	for looked, row := range p.keys[start:] {
		if q.below != "" && row >= q.below {
			break
		}
		if looked == pageSize || len(page) == q.top {
			return page, row, nil
		}
		if e := p.rows[row]; q.selects(e) {
			e.props = held(e.props)
			page = append(page, e)
		}
	}
	return page, "", nil
}

// selects says whether e, of the right partition and range, meets the other conditions.
func (q query) selects(e entity) bool {
	if e.row <= q.after && q.after != "" {
		return false
	}
	if q.record != "" && e.props["Record"] != q.record {
		return false
	}
	if !q.due.IsZero() {
		due, ok := e.props["Due"].(time.Time)
		return ok && !due.After(q.due)
	}
	return true
}

// memoryQueues are queues in memory.
type memoryQueues struct {
	mu     sync.Mutex
	queues map[string]*memoryQueue
	puts   int64
}

type memoryQueue struct{ messages []*memoryMessage }

type memoryMessage struct {
	QueueMessage
	number int64 // in the order of arrival
}

func (m *memoryQueues) create(ctx context.Context, queue string) error {
	if err := alive(ctx, "create queue"); err != nil {
		return err
	}
	if err := checkQueueName(queue); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.queues[queue] == nil {
		m.queues[queue] = &memoryQueue{}
	}
	return nil
}

// checkQueueName applies Microsoft's rules: 3 to 63 lower-case letters, digits and single dashes inside.
func checkQueueName(name string) error {
	ok := len(name) >= 3 && len(name) <= 63 && !strings.HasPrefix(name, "-") && !strings.HasSuffix(name, "-") && !strings.Contains(name, "--") &&
		!strings.ContainsFunc(name, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' })
	if !ok {
		return &fault.Error{Op: "create queue", Reason: fault.Misconfigured, Status: 400, Detail: fmt.Sprintf("%.80q cannot be the name of a queue", name)}
	}
	return nil
}

func noQueue(op, queue string) error {
	return &fault.Error{Op: op, Reason: fault.NotFound, Status: 404, Detail: "there is no queue " + queue}
}

// find returns the queue without the messages that expired.
func (m *memoryQueues) find(op, queue string, now time.Time) (*memoryQueue, error) {
	q := m.queues[queue]
	if q == nil {
		return nil, noQueue(op, queue)
	}
	q.messages = slices.DeleteFunc(q.messages, func(msg *memoryMessage) bool { return !now.Before(msg.ExpiresOn) })
	return q, nil
}

func (m *memoryQueues) put(ctx context.Context, queue, text string, visibleIn, ttl time.Duration) error {
	if err := alive(ctx, "put message"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now().UTC()
	q := m.queues[queue]
	if q == nil {
		return noQueue("put message", queue)
	}
	if len(text) > maxMessage {
		return &fault.Error{Op: "put message", Reason: fault.Invalid, Status: 413, Field: "text", Detail: "is too long for a message"}
	}
	m.puts++
	q.messages = append(q.messages, &memoryMessage{number: m.puts, QueueMessage: QueueMessage{
		ID: uuid.NewString(), PopReceipt: uuid.NewString(), Text: text, InsertedOn: now, ExpiresOn: now.Add(ttl), NextVisibleOn: now.Add(visibleIn),
	}})
	return nil
}

func (m *memoryQueues) get(ctx context.Context, queue string, most int, invisible time.Duration) ([]QueueMessage, error) {
	if err := alive(ctx, "get messages"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now().UTC()
	q, err := m.find("get messages", queue, now)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(q.messages, func(a, b *memoryMessage) int {
		return cmp.Or(a.NextVisibleOn.Compare(b.NextVisibleOn), cmp.Compare(a.number, b.number))
	})
	var out []QueueMessage
	for _, msg := range q.messages {
		if len(out) == most || msg.NextVisibleOn.After(now) {
			break
		}
		msg.DequeueCount++
		msg.PopReceipt = uuid.NewString()
		msg.NextVisibleOn = now.Add(invisible)
		out = append(out, msg.QueueMessage)
	}
	return out, nil
}

// holder returns the place of the message whose last receiver has the pop receipt.
func (m *memoryQueues) holder(op, queue, id, popReceipt string, now time.Time) (*memoryQueue, int, error) {
	q, err := m.find(op, queue, now)
	if err != nil {
		return nil, 0, err
	}
	i := slices.IndexFunc(q.messages, func(msg *memoryMessage) bool { return msg.ID == id && msg.PopReceipt == popReceipt })
	if i < 0 {
		return nil, 0, &fault.Error{Op: op, Reason: fault.NotFound, Status: 404, Detail: "there is no message " + id + " with this pop receipt"}
	}
	return q, i, nil
}

func (m *memoryQueues) extend(ctx context.Context, queue, id, popReceipt string, invisible time.Duration) (string, error) {
	if err := alive(ctx, "extend message"); err != nil {
		return "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now().UTC()
	q, i, err := m.holder("extend message", queue, id, popReceipt, now)
	if err != nil {
		return "", err
	}
	q.messages[i].PopReceipt = uuid.NewString()
	q.messages[i].NextVisibleOn = now.Add(invisible)
	return q.messages[i].PopReceipt, nil
}

func (m *memoryQueues) remove(ctx context.Context, queue, id, popReceipt string) error {
	if err := alive(ctx, "delete message"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	q, i, err := m.holder("delete message", queue, id, popReceipt, time.Now())
	if err != nil {
		return err
	}
	q.messages = slices.Delete(q.messages, i, i+1)
	return nil
}
