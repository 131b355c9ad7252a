package host

import (
	"context"
	"time"
)

// Queues are the queues of a storage account; Account makes them.
type Queues interface {
	Create(ctx context.Context, queue string) error
	Get(ctx context.Context, queue string, most int, invisible time.Duration) ([]Message, error)
	Extend(ctx context.Context, queue, id, popReceipt string, invisible time.Duration) (string, error)
	Delete(ctx context.Context, queue, id, popReceipt string) error
	Put(ctx context.Context, queue, text string, visibleIn time.Duration) error
}

// Message is a message as a queue gives it out.
type Message struct {
	ID            string
	PopReceipt    string
	Text          string // as on the wire
	DequeueCount  int64  // this time included
	InsertedOn    time.Time
	ExpiresOn     time.Time
	NextVisibleOn time.Time
}

// queuesOf is the account's side of Queues, with its own type of messages.
type queuesOf[M any] interface {
	Create(ctx context.Context, queue string) error
	Get(ctx context.Context, queue string, most int, invisible time.Duration) ([]M, error)
	Extend(ctx context.Context, queue, id, popReceipt string, invisible time.Duration) (string, error)
	Delete(ctx context.Context, queue, id, popReceipt string) error
	Put(ctx context.Context, queue, text string, visibleIn time.Duration) error
}

// message is any type with the fields of a Message.
type message interface {
	~struct {
		ID            string
		PopReceipt    string
		Text          string
		DequeueCount  int64
		InsertedOn    time.Time
		ExpiresOn     time.Time
		NextVisibleOn time.Time
	}
}

// Account returns the queues of an account, such as *storage.Queues: host.Account(queue.Queues()).
func Account[M message](q queuesOf[M]) Queues { return account[M]{q} }

type account[M message] struct{ queuesOf[M] }

// Get implements Queues.
func (a account[M]) Get(ctx context.Context, queue string, most int, invisible time.Duration) ([]Message, error) {
	got, err := a.queuesOf.Get(ctx, queue, most, invisible)
	messages := make([]Message, len(got))
	for i, m := range got {
		messages[i] = Message(m)
	}
	return messages, err
}
