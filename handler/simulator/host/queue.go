package host

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
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

// Times of the queue listener.
const minPolling = 100 * time.Millisecond

// poll looks for messages of a queue function until the host stops.
func (h *Host) poll(f *function) {
	q := h.app.queue
	var inWork gauge
	pause, found := minPolling, false
	for h.taking.Err() == nil {
		messages, err := h.c.Queues.Get(h.taking, f.queue, q.batch, h.c.Timing.Visibility)
		if err != nil {
			messages = nil // the queue may not be there yet
		}
		for _, m := range messages {
			inWork.add(1)
			h.trigger(func(ctx context.Context) {
				defer inWork.add(-1)
				h.process(ctx, f, m)
			})
		}
		if len(messages) > 0 {
			// The next ones are taken when so few are in work, and then at once.
			found = true
			if !inWork.atMost(h.taking, q.threshold) {
				return
			}
			continue
		}
		if found {
			pause, found = minPolling, false
		} else {
			pause = min(2*pause, q.polling)
		}
		if !sleep(h.taking, pause) {
			return
		}
	}
}

// process works on one message, and deletes it, lets it be seen again, or puts it among the poison.
func (h *Host) process(ctx context.Context, f *function, m Message) {
	q := h.app.queue
	if m.DequeueCount > q.maxDequeue {
		h.poison(ctx, f, m, m.PopReceipt)
		return
	}
	data := []byte(m.Text)
	if q.base64 {
		var err error
		if data, err = base64.StdEncoding.DecodeString(m.Text); err != nil {
			h.poison(ctx, f, m, m.PopReceipt) // recorded: no delivery at all
			return
		}
	}
	renewed := h.renew(ctx, f, m)
	err := h.runQueue(ctx, f, incomingMessage{m, string(data)}, fmt.Sprintf("New queue message detected on '%s'.", f.queue))
	receipt := renewed()
	if ctx.Err() != nil {
		return // the host is gone: the message stays hidden
	}
	switch {
	case err == nil && h.again(f.name):
		_, err = h.c.Queues.Extend(ctx, f.queue, m.ID, receipt, 0)
	case err == nil:
		err = h.c.Queues.Delete(ctx, f.queue, m.ID, receipt)
	case errors.Is(err, errNotText):
		h.move(ctx, f, m, receipt) // recorded: at once, and without a word
		return
	case m.DequeueCount >= q.maxDequeue:
		h.poison(ctx, f, m, receipt)
		return
	default:
		_, err = h.c.Queues.Extend(ctx, f.queue, m.ID, receipt, q.visibility)
	}
	if err != nil && ctx.Err() == nil {
		h.log(Error, "Host.Triggers.Queues", "message %s: %v", m.ID, err)
	}
}

// again takes one from the messages that are to be delivered again.
func (h *Host) again(function string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.redeliver[function] == 0 {
		return false
	}
	h.redeliver[function]--
	return true
}

// renew keeps a message hidden while it is in work. The returned function ends that, and returns the receipt that holds then.
func (h *Host) renew(ctx context.Context, f *function, m Message) func() string {
	ctx, cancel := context.WithCancel(ctx)
	receipt, done := m.PopReceipt, make(chan struct{})
	go func() {
		defer close(done)
		for sleep(ctx, h.c.Timing.Visibility/2) {
			if r, err := h.c.Queues.Extend(ctx, f.queue, m.ID, receipt, h.c.Timing.Visibility); err == nil {
				receipt = r
			}
		}
	}()
	return func() string {
		cancel()
		<-done
		return receipt
	}
}

// poison gives a message up.
func (h *Host) poison(ctx context.Context, f *function, m Message, receipt string) {
	h.log(Warning, "Host.Triggers.Queues", "Message has reached MaxDequeueCount of %d. Moving message to queue '%s-poison'.", h.app.queue.maxDequeue, f.queue)
	h.move(ctx, f, m, receipt)
}

// move moves a message to the queue of those that nobody could work on.
func (h *Host) move(ctx context.Context, f *function, m Message, receipt string) {
	to := f.queue + "-poison"
	err := h.c.Queues.Create(ctx, to)
	if err == nil {
		err = h.c.Queues.Put(ctx, to, m.Text, 0)
	}
	if err == nil {
		err = h.c.Queues.Delete(ctx, f.queue, m.ID, receipt)
	}
	if err != nil && ctx.Err() == nil {
		h.log(Error, "Host.Triggers.Queues", "message %s: %v", m.ID, err)
	}
}

// incomingMessage is a message whose text has been decoded.
type incomingMessage struct {
	Message
	text string
}

// forever is .NET's last moment.
var forever = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// adminMessage is the message that an operator sends to a function.
func adminMessage(text string) incomingMessage {
	return incomingMessage{Message{InsertedOn: time.Now().Truncate(time.Second), ExpiresOn: forever, NextVisibleOn: forever}, text}
}

var errNotText = errors.New("System.Text.DecoderFallbackException: Unable to translate bytes from specified code page to Unicode.") //nolint:staticcheck // the host's words

// runQueue calls a queue function with a message. An error is that it failed.
func (h *Host) runQueue(ctx context.Context, f *function, m incomingMessage, reason string) error {
	id := uuid.NewString()
	_, err := invoke(ctx, h, f, id, reason, func(ctx context.Context) (*result, error) {
		if m.ID != "" {
			h.log(Information, "Function."+f.name, "Trigger Details: MessageId: %s, DequeueCount: %d, InsertedOn: %s",
				m.ID, m.DequeueCount, m.InsertedOn.UTC().Format("2006-01-02T15:04:05.000-07:00"))
		}
		if !utf8.ValidString(m.text) {
			return nil, errNotText
		}
		var metadata object
		metadata.set("DequeueCount", strconv.FormatInt(m.DequeueCount, 10))
		metadata.set("ExpirationTime", offsetTime(m.ExpiresOn))
		if m.ID != "" {
			metadata.set("Id", quoted(m.ID))
		}
		metadata.set("InsertionTime", offsetTime(m.InsertedOn))
		metadata.set("NextVisibleTime", offsetTime(m.NextVisibleOn))
		if m.PopReceipt != "" {
			metadata.set("PopReceipt", quoted(m.PopReceipt))
		} else {
			metadata.set(f.binding, quoted(m.text)) // recorded: an operator's text is there twice
		}
		metadata.set("sys", sys(f))
		spread(&metadata, m.text)
		return h.post(ctx, f, id, envelope(f, quoted(m.text), metadata))
	})
	return err
}
