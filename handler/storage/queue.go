package storage

import (
	"context"
	"encoding/base64"
	"fmt"
	"time"

	"ticketbridge/handler/fault"
	"ticketbridge/handler/workflow"
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

// poisonHidden is how long a message of the poison queue is hidden from others once it was read: time enough to deal with it.
const poisonHidden = 5 * time.Minute

// PoisonName is that of the queue to which the Functions host moves the messages that it gives up on.
func (q *Queue) PoisonName() string { return q.name + "-poison" }

// Poison receives up to most of the messages that the host has given up on (at most 32), and hides them from others for 5 minutes. That there is
// no such queue is no error: nothing was given up on. Texts are out of base64 where they are base64. 1 storage operation.
func (q *Queue) Poison(ctx context.Context, most int) ([]workflow.Poison, error) {
	messages, err := q.Queues().Get(ctx, q.PoisonName(), most, poisonHidden)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the poison queue: %w", err)
	}
	out := make([]workflow.Poison, len(messages))
	for i, m := range messages {
		out[i] = workflow.Poison{ID: m.ID, Receipt: m.PopReceipt, Text: m.Text, InsertedOn: m.InsertedOn}
		if text, err := base64.StdEncoding.Strict().DecodeString(m.Text); err == nil {
			out[i].Text = string(text)
		}
	}
	return out, nil
}

// DropPoison deletes a message that Poison returned. One that is gone is no error, and neither is one that was received again since: it is
// the other receiver's. 1 storage operation.
func (q *Queue) DropPoison(ctx context.Context, p workflow.Poison) error {
	if err := q.Queues().Delete(ctx, q.PoisonName(), p.ID, p.Receipt); err != nil && !fault.Is(err, fault.NotFound) {
		return fmt.Errorf("delete from the poison queue: %w", err)
	}
	return nil
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
