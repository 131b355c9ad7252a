package storage

import (
	"context"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/google/uuid"

	"ticketbridge/handler/fault"
)

// probeRows is the partition of the rows that Probe writes and removes: no key of a request, and none of the lists.
const probeRows = "probe"

// Probe tries what the handler does with its tables: it makes them if they are not there, and writes, reads and removes a row in each, which nothing
// else ever reads. Its error is that of the first of these that did not work. 6 storage operations.
func (s *Store) Probe(ctx context.Context) error {
	for _, table := range []string{s.names.Correlations, s.names.Index} {
		row := uuid.NewString()
		e := entity{partition: probeRows, row: row, props: map[string]any{"Record": "probe"}}
		if err := s.tables.insert(ctx, table, e); err != nil {
			return fmt.Errorf("write to table %s: %w", table, err)
		}
		if _, err := s.tables.get(ctx, table, probeRows, row); err != nil {
			return fmt.Errorf("read from table %s: %w", table, err)
		}
		if err := s.tables.remove(ctx, table, probeRows, row); err != nil {
			return fmt.Errorf("delete from table %s: %w", table, err)
		}
	}
	return nil
}

// probeLife is how long a message of Probe's that was left behind stays.
const probeLife = time.Minute

// Probe tries what the handler and the Functions host do with the queue: it makes the queue if it is not there, and puts, receives and deletes a
// message, which goes through a queue of its own, "<prefix>-probe", that nobody else listens to. Its error is that of the first of these that
// did not work. 5 storage operations.
func (q *Queue) Probe(ctx context.Context) error {
	name := q.probeName()
	for _, one := range []string{q.name, name} {
		if err := q.queues.create(ctx, one); err != nil {
			return fmt.Errorf("make queue %s: %w", one, err)
		}
	}
	if err := q.queues.put(ctx, name, base64.StdEncoding.EncodeToString([]byte("probe")), 0, probeLife); err != nil {
		return fmt.Errorf("put into queue %s: %w", name, err)
	}
	messages, err := q.queues.get(ctx, name, maxMessages, time.Minute)
	if err != nil {
		return fmt.Errorf("receive from queue %s: %w", name, err)
	}
	for _, m := range messages { // what somebody else left, or puts now, is a probe as well
		if err := q.queues.remove(ctx, name, m.ID, m.PopReceipt); err != nil && !fault.Is(err, fault.NotFound) {
			return fmt.Errorf("delete from queue %s: %w", name, err)
		}
	}
	return nil
}

func (q *Queue) probeName() string { return q.name[:len(q.name)-len("advance")] + "probe" }

// Depth returns how many messages wait in the queue, near enough, those that are not due yet included; and how many the host has given up on. A queue
// that is not there is empty. 2 storage operations.
func (q *Queue) Depth(ctx context.Context) (waiting, poison int, err error) {
	for name, n := range map[string]*int{q.name: &waiting, q.PoisonName(): &poison} {
		*n, err = q.queues.depth(ctx, name)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return 0, 0, fmt.Errorf("count the messages of queue %s: %w", name, err)
		}
	}
	return waiting, poison, nil
}
