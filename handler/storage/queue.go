package storage

import (
	"context"
	"encoding/base64"
	"fmt"
	"time"

	"ticketbridge/handler/fault"
)

// A Queue takes messages for Advance, as workflow.Queue asks for. It is safe for concurrent use, and is made when it is first written to.
type Queue struct {
	queues queues
	name   string
}

// Name is that of the queue in the storage account.
func (q *Queue) Name() string { return q.name }

// Queues returns all queues of the same account, as whoever polls them sees them.
func (q *Queue) Queues() *Queues { return &Queues{q.queues} }

// Put enqueues text, to be delivered at least once, not before delay has passed (rounded up to seconds, at most 7 days), and for 7 days
// from then. It goes over the wire in base64, without which the Functions host takes it for poison. Text of more than 48 KiB and a longer
// delay are fault.Invalid. A call whose answer was lost may put the message twice. 1 storage operation.
func (q *Queue) Put(ctx context.Context, text string, delay time.Duration) error {
	wire := base64.StdEncoding.EncodeToString([]byte(text))
	err := q.Queues().Put(ctx, q.name, wire, delay)
	if !fault.Is(err, fault.NotFound) {
		return err
	}
	if err := q.queues.create(ctx, q.name); err != nil {
		return fmt.Errorf("make queue %s: %w", q.name, err)
	}
	return q.Queues().Put(ctx, q.name, wire, delay)
}

// Queues are the queues of a storage account from the receiving side: what a Functions host needs. Texts are as they are on the wire.
type Queues struct{ queues queues }

// A QueueMessage is a message as it was received. Whoever has its PopReceipt may delete it, until somebody else receives it.
type QueueMessage struct {
	ID            string
	PopReceipt    string
	Text          string // as on the wire
	DequeueCount  int64  // how often it was received, this time included
	InsertedOn    time.Time
	ExpiresOn     time.Time
	NextVisibleOn time.Time // when others will see it, unless it is deleted
}

// Create makes the queue; that it exists is no error.
func (q *Queues) Create(ctx context.Context, queue string) error {
	if err := q.queues.create(ctx, queue); err != nil {
		return fmt.Errorf("make queue %s: %w", queue, err)
	}
	return nil
}

// Put enqueues text as it is, to be seen after visibleIn (rounded up to seconds, at most 7 days) and to vanish 7 days later. It is NotFound
// when there is no such queue, and Invalid when the text has more than 64 KiB.
func (q *Queues) Put(ctx context.Context, queue, text string, visibleIn time.Duration) error {
	if len(text) > maxMessage {
		return &fault.Error{
			Op: "put message", Reason: fault.Invalid, Field: "text",
			Detail: fmt.Sprintf("has %d bytes as it would be sent; at most %d fit into a message", len(text), maxMessage),
		}
	}
	delay, err := seconds("put message", max(0, visibleIn))
	if err != nil {
		return err
	}
	if err := q.queues.put(ctx, queue, text, delay, delay+messageLifetime); err != nil {
		return fmt.Errorf("put message: %w", err)
	}
	return nil
}

// Get receives up to most messages (at most 32), and hides them from others for the given time (rounded up to seconds, at most 7 days).
// It is NotFound when there is no such queue.
func (q *Queues) Get(ctx context.Context, queue string, most int, invisible time.Duration) ([]QueueMessage, error) {
	hidden, err := seconds("get messages", max(time.Second, invisible))
	if err != nil {
		return nil, err
	}
	messages, err := q.queues.get(ctx, queue, min(max(1, most), maxMessages), hidden)
	if err != nil {
		return nil, fmt.Errorf("get messages: %w", err)
	}
	return messages, nil
}

// Extend hides a received message from others for the given time from now, rounded up to seconds, and returns its new pop receipt. It is
// NotFound when the message is gone, or the receipt is no longer that of the message.
func (q *Queues) Extend(ctx context.Context, queue, id, popReceipt string, invisible time.Duration) (string, error) {
	hidden, err := seconds("extend message", max(0, invisible))
	if err != nil {
		return "", err
	}
	receipt, err := q.queues.extend(ctx, queue, id, popReceipt, hidden)
	if err != nil {
		return "", fmt.Errorf("extend message: %w", err)
	}
	return receipt, nil
}

// Delete deletes a received message. It is NotFound as said of Extend.
func (q *Queues) Delete(ctx context.Context, queue, id, popReceipt string) error {
	if err := q.queues.remove(ctx, queue, id, popReceipt); err != nil {
		return fmt.Errorf("delete message: %w", err)
	}
	return nil
}

// seconds rounds up to what Queue Storage counts in.
func seconds(op string, d time.Duration) (time.Duration, error) {
	if d > maxInvisible {
		return 0, &fault.Error{Op: op, Reason: fault.Invalid, Field: "delay", Detail: fmt.Sprintf("is %s; at most 7 days are possible", d)}
	}
	if rest := d % time.Second; rest > 0 {
		d += time.Second - rest
	}
	return d, nil
}
