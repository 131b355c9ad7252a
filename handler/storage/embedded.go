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
	return &Store{tables: newMemoryTables(), names: names}, &Queue{&memoryQueues{queues: map[string]*memoryQueue{}}, names.Queue}, nil
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
	tables map[string]*memoryTable
	writes int64
}

func newMemoryTables() *memoryTables { return &memoryTables{tables: map[string]*memoryTable{}} }

// A memoryTable finds a partition by its key; the order of the keys is only made when somebody asks for a range of partitions.
type memoryTable struct {
	partitions map[string]*partition
	ordered    []string // the partition keys in order, or nil when they changed
}

// A partition has its rows in the order of their keys. The properties of a row that is in here are never changed.
type partition struct{ rows []*entity }

// read returns the partition, or an empty one.
func (m *memoryTables) read(table, key string) *partition {
	if t := m.tables[table]; t != nil && t.partitions[key] != nil {
		return t.partitions[key]
	}
	return &partition{}
}

// find returns the partition, made if need be.
func (m *memoryTables) find(table, key string) *partition {
	t := m.tables[table]
	if t == nil {
		t = &memoryTable{partitions: map[string]*partition{}}
		m.tables[table] = t
	}
	p := t.partitions[key]
	if p == nil {
		p = &partition{}
		t.partitions[key], t.ordered = p, nil
	}
	return p
}

// drop forgets the partition if it is empty.
func (m *memoryTables) drop(table, key string) {
	if t := m.tables[table]; t != nil && t.partitions[key] != nil && len(t.partitions[key].rows) == 0 {
		delete(t.partitions, key)
		t.ordered = nil
	}
}

// search returns where the row is or belongs.
func (p *partition) search(row string) (int, bool) {
	if n := len(p.rows); n > 0 && p.rows[n-1].row < row { // what is stored in order
		return n, false
	}
	return slices.BinarySearchFunc(p.rows, row, func(e *entity, row string) int { return strings.Compare(e.row, row) })
}

// row returns the row, or nil.
func (p *partition) row(key string) *entity {
	if i, ok := p.search(key); ok {
		return p.rows[i]
	}
	return nil
}

func (p *partition) set(e entity) {
	i, ok := p.search(e.row)
	if ok {
		p.rows[i] = &e
		return
	}
	p.rows = slices.Insert(p.rows, i, &e)
}

func (p *partition) remove(row string) (ok bool) {
	i, ok := p.search(row)
	if ok {
		p.rows = slices.Delete(p.rows, i, i+1)
	}
	return ok
}

func missing(op, row string) error {
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
	stored := m.read(table, pk).row(row)
	if stored == nil {
		return entity{}, missing("get entity", row)
	}
	e := *stored
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
	defer m.drop(table, ops[0].partition)
	after := make([]entity, len(ops))
	seen := map[string]bool{}
	for i, o := range ops {
		if o.partition != ops[0].partition || seen[o.row] {
			return nil, &fault.Error{Op: op, Reason: fault.Internal, Status: 400, Detail: "a transaction is on different rows of one partition"}
		}
		seen[o.row] = true
		var err error
		if after[i], err = o.on(op, p.row(o.row)); err != nil {
			return nil, err
		}
	}
	etags := make([]string, len(ops))
	for i, e := range after {
		if ops[i].does == deletes {
			p.remove(e.row)
			continue
		}
		e = m.stamp(e)
		p.set(e)
		etags[i] = e.etag
	}
	return etags, nil
}

// on returns what becomes of the entity that is there, or nil, under the operation.
func (o operation) on(op string, old *entity) (entity, error) {
	switch {
	case o.does == inserts && old != nil:
		return entity{}, &fault.Error{Op: op, Reason: fault.Exists, Status: 409, Detail: "there is a " + o.row}
	case o.does == inserts:
		return o.entity, nil
	case old == nil:
		return entity{}, missing(op, o.row)
	case old.etag != o.etag && (o.does == merges || o.etag != ""):
		return entity{}, &fault.Error{Op: op, Reason: fault.Conflict, Status: 412, Detail: o.row + " has another version"}
	case o.does == merges:
		return merged(*old, o.entity)
	default:
		return *old, nil
	}
}

// merged returns old with the properties of e.
func merged(old, e entity) (entity, error) {
	old.props = maps.Clone(old.props)
	maps.Copy(old.props, e.props)
	_, err := checkEntity(old)
	return old, err
}

func (m *memoryTables) merge(ctx context.Context, table string, e entity) error {
	return m.mergeInto(ctx, "merge entity", table, e, false)
}

func (m *memoryTables) put(ctx context.Context, table string, e entity) error {
	return m.mergeInto(ctx, "merge or insert entity", table, e, true)
}

func (m *memoryTables) mergeInto(ctx context.Context, op, table string, e entity, insert bool) error {
	if err := alive(ctx, op); err != nil {
		return err
	}
	if _, err := checkEntity(e); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.read(table, e.partition).row(e.row)
	switch {
	case old != nil:
		var err error
		if e, err = merged(*old, e); err != nil {
			return err
		}
	case !insert:
		return missing(op, e.row)
	}
	m.find(table, e.partition).set(m.stamp(e))
	return nil
}

func (m *memoryTables) remove(ctx context.Context, table, pk, row string) error {
	if err := alive(ctx, "delete entity"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.read(table, pk).remove(row) {
		return missing("delete entity", row)
	}
	m.drop(table, pk)
	return nil
}

// begins returns the keys at which a page begins.
func (q query) begins() (pk, row string) {
	if pk, row, ok := strings.Cut(q.next, "\n"); ok {
		return pk, row
	}
	return max(q.partition, q.first), max(q.from, q.after)
}

// query looks at no more than pageSize rows, as a server would that has other work to do: a page may be short, or empty, and not the last.
func (m *memoryTables) query(ctx context.Context, table string, q query) ([]entity, string, error) {
	if err := alive(ctx, "query entities"); err != nil {
		return nil, "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var page []entity
	looked := 0
	pk, row := q.begins()
	for _, key := range m.partitions(table, q, pk) {
		if key != pk {
			row = max(q.from, q.after)
		}
		p := m.read(table, key)
		start, _ := p.search(row)
		for _, e := range p.rows[start:] {
			if q.below != "" && e.row >= q.below {
				break
			}
			if looked == pageSize || len(page) == q.top {
				return page, key + "\n" + e.row, nil
			}
			looked++
			if !q.selects(*e) {
				continue
			}
			out := *e
			if out.props = nil; !q.keys {
				out.props = held(e.props)
			}
			page = append(page, out)
		}
	}
	return page, "", nil
}

// partitions returns the keys of the partitions that the query is about, in order, from the given one.
func (m *memoryTables) partitions(table string, q query, from string) []string {
	t := m.tables[table]
	if t == nil {
		return nil
	}
	if q.partition != "" {
		return []string{q.partition}
	}
	if t.ordered == nil {
		t.ordered = slices.Sorted(maps.Keys(t.partitions))
	}
	first, _ := slices.BinarySearch(t.ordered, from)
	end, _ := slices.BinarySearch(t.ordered, q.end)
	return t.ordered[first:max(first, end)]
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

func (m *memoryQueues) depth(ctx context.Context, queue string) (int, error) {
	if err := alive(ctx, "count messages"); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	q, err := m.find("count messages", queue, time.Now())
	if err != nil {
		return 0, err
	}
	return len(q.messages), nil
}
