package simulation

import (
	"context"
	"encoding/base64"
	"fmt"
	"time"

	"ticketbridge/handler/fault"
	"ticketbridge/handler/storage"
	"ticketbridge/handler/workflow"
)

// An instance is one process of the handler.
type instance struct {
	name     string
	workflow *workflow.Workflow
	workers  []*worker
	dead     bool
}

// launch starts an instance, whose clock is minutes ahead or behind.
func (w *world) launch() {
	if w.over {
		return
	}
	w.launched++
	in := &instance{name: fmt.Sprintf("instance-%d", w.launched)}
	skew := w.between(-w.skew, w.skew)
	in.workflow = &workflow.Workflow{
		Store: skewed{w.store, skew, w.between(-time.Second, time.Second)}, Queue: skewedQueue{w.queue, w, skew}, Tickets: tickets{w}, Requests: requests{w}, Rules: w.rules, Policy: w.policy,
		Memory: workflow.NewMemory(),
	}
	w.instances = append(w.instances, in)
}

// some returns one of the instances, or nil when there is none.
func (w *world) some() *instance {
	if len(w.instances) == 0 {
		return nil
	}
	return w.instances[w.rng.IntN(len(w.instances))]
}

// soon lets the host look at the queue.
func (w *world) soon() {
	w.after(w.between(0, 2*time.Second), w.poll)
}

// poll receives messages as the Functions host does.
func (w *world) poll() {
	in := w.some()
	if in == nil {
		w.after(w.between(time.Second, time.Minute), w.poll)
		return
	}
	ctx := context.Background()
	list, err := w.queue.Queues().Get(ctx, w.queue.Name(), w.rng.IntN(8)+1, 10*time.Minute)
	if err != nil && !fault.Is(err, fault.NotFound) {
		panic(err)
	}
	if len(list) == 0 {
		return
	}
	w.soon() // there may be more
	for _, m := range list {
		if w.troubled("messages lost for ten minutes", 0.01) {
			w.after(10*time.Minute+time.Second, w.poll)
			continue
		}
		w.deliver(w.some(), m, true)
		if w.troubled("messages delivered twice at the same time", 0.03) {
			w.deliver(w.some(), m, false)
		}
	}
}

// deliver gives a message to an instance; the first of its deliveries decides what becomes of it.
func (w *world) deliver(in *instance, m storage.QueueMessage, first bool) {
	about := ""
	text, err := base64.StdEncoding.DecodeString(m.Text)
	if err != nil {
		w.violate("", "a message that the host would not deliver: %q", m.Text)
		return
	}
	message, unreadable := workflow.ReadMessage(text)
	if !message.Key.IsZero() {
		about = message.Key.String()
	}
	w.start(in, "advance "+message.Why, about, 100*time.Second, func(ctx context.Context) error {
		if unreadable != nil {
			return unreadable
		}
		return in.workflow.Advance(ctx, message)
	}, func(err error, died bool) {
		if !first {
			return
		}
		queues, ctx := w.queue.Queues(), context.Background()
		switch {
		case died:
			w.after(10*time.Minute+time.Second, w.poll)
			return
		case err != nil && m.DequeueCount < 5:
			w.count("messages that failed")
			_, err = queues.Extend(ctx, w.queue.Name(), m.ID, m.PopReceipt, w.visibility)
			w.after(w.visibility, w.poll)
		case err != nil:
			w.count("messages poisoned")
			if err := queues.Create(ctx, w.queue.PoisonName()); err != nil {
				panic(err)
			}
			if err := queues.Put(ctx, w.queue.PoisonName(), m.Text, 0); err != nil {
				panic(err)
			}
			err = queues.Delete(ctx, w.queue.Name(), m.ID, m.PopReceipt)
		case w.troubled("messages delivered again after success", 0.02):
			w.after(10*time.Minute+time.Second, w.poll)
			return
		default:
			err = queues.Delete(ctx, w.queue.Name(), m.ID, m.PopReceipt)
		}
		if err != nil && !fault.Is(err, fault.NotFound) {
			panic(err)
		}
	})
}

// timer fires the sweep, on one instance at a time as a rule.
func (w *world) timer() {
	every := w.sweepEvery
	if !time.Now().Before(w.calm) {
		every = max(every, 10*time.Minute)
	}
	w.after(every, w.timer)
	in := w.some()
	if in == nil || w.sweeping > 0 && !w.troubled("sweeps at the same time", 0.1) || w.troubled("sweeps left out", 0.02) {
		return
	}
	w.sweeping++
	w.start(in, "sweep", "", 90*time.Second, func(ctx context.Context) error {
		_, err := in.workflow.Sweep(ctx)
		return err
	}, func(error, bool) { w.sweeping-- })
}

// litter puts a message on the queue that is none of ours.
func (w *world) litter() {
	text := pick(w, "{}", "not for us", `{"ticketbridge":{"request":"x"}}`, fmt.Sprintf(`{"other":%d}`, w.rng.IntN(1000)))
	if err := w.queue.Put(context.Background(), text, 0); err != nil {
		panic(err)
	}
	w.littered++
	w.count("messages that nobody can read")
	w.soon()
}

// notify tells an instance that a ticket closed, in one of the ways that there are.
func (w *world) notify(r *record) {
	n := workflow.Closed{Table: r.Table, SysID: r.SysID}
	switch key := keyOf(r.CorrelationID); w.rng.IntN(3) {
	case 0:
		n = workflow.Closed{CorrelationID: r.CorrelationID}
	case 1:
		n = workflow.Closed{RequestID: key[:36], StageInstanceID: key[37:]}
	}
	w.tell(n, keyOf(r.CorrelationID))
}

// forge sends a notification about nothing of ours, or of others.
func (w *world) forge() {
	w.count("notifications of unknown tickets")
	switch w.rng.IntN(3) {
	case 0:
		w.tell(workflow.Closed{CorrelationID: w.guid() + "/" + w.guid()}, "")
	case 1:
		w.tell(workflow.Closed{Table: "incident", SysID: fmt.Sprintf("%032x", w.rng.Uint64())}, "")
	default:
		if len(w.begun) > 1 { // ids that do not belong together
			a, b := w.begun[w.rng.IntN(len(w.begun))], w.begun[w.rng.IntN(len(w.begun))]
			w.tell(workflow.Closed{RequestID: a.key.Request, StageInstanceID: b.key.Stage}, "")
		}
	}
}

func (w *world) tell(n workflow.Closed, about string) {
	in := w.some()
	if in == nil {
		return // nobody listens, and ServiceNow does not repeat it
	}
	w.start(in, "ticket-closed", about, 750*time.Millisecond, func(ctx context.Context) error { return in.workflow.TicketClosed(ctx, n) }, nil)
}
