package workflow

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
)

// WhyOperator is the Why of a message that an operator's move sends.
const WhyOperator = "operator"

// An Operator makes a person's moves: he writes them down, and sends a message so that Advance goes on from there. He calls neither ServiceNow nor
// Graph, and so needs no right there: an order to resume is an intent like any other. His methods may be repeated, and called at the same time as
// everything else; an order that was stored and whose message was not sent is found by the sweep.
//
// Errors are those of the correlation's moves (fault.Refused, fault.Invalid, and fault.Conflict with After while somebody is acting on an intent),
// fault.NotFound, and the storage's and the queue's.
type Operator struct {
	Store  Store
	Queue  Queue
	Policy Policy // CheckInterval and Forgotten
}

// Ordered is what became of an order.
type Ordered struct {
	Correlation *correlation.Correlation // as it is now
	Was         correlation.State        // before the order
	Changed     bool                     // false: it was so already, and nothing was written down
	Sent        bool                     // Advance will look at it, at once unless NextAttempt says when
}

// Retry has the handler try again.
func (o Operator) Retry(ctx context.Context, key correlation.Key, by, why string) (Ordered, error) {
	return o.give(ctx, key, func(c *correlation.Correlation, now time.Time) (bool, error) {
		return c.RetryBy(correlation.Order{By: by, Why: why, At: now})
	})
}

// Hold has the handler leave it alone.
func (o Operator) Hold(ctx context.Context, key correlation.Key, by, why string) (Ordered, error) {
	return o.give(ctx, key, func(c *correlation.Correlation, now time.Time) (bool, error) {
		return c.HoldBy(correlation.Order{By: by, Why: why, At: now})
	})
}

// Decide has Graph told to Resume or to Deny, whatever the tickets came to.
func (o Operator) Decide(ctx context.Context, key correlation.Key, d Decision, by, why string) (Ordered, error) {
	return o.give(ctx, key, func(c *correlation.Correlation, now time.Time) (bool, error) {
		return c.DecideBy(correlation.Order{By: by, Why: why, At: now}, string(d))
	})
}

func (o Operator) give(ctx context.Context, key correlation.Key, move func(*correlation.Correlation, time.Time) (bool, error)) (Ordered, error) {
	ctx = withKey(ctx, key)
	for range 8 {
		c, err := o.Store.Load(ctx, key)
		if err != nil {
			return Ordered{}, fmt.Errorf("load: %w", err)
		}
		now := time.Now().Add(o.Store.Ahead()).UTC()
		r := Ordered{Correlation: c, Was: c.State}
		if r.Changed, err = move(c, now); err != nil {
			return Ordered{}, err
		}
		if !r.Changed {
			if !c.State.Ended() && !c.State.NeedsPerson() {
				r.Sent = true
				err = o.send(ctx, c, now) // whoever gave this order before may not have come to it
			}
			return r, err
		}
		err = o.keep(ctx, c, now)
		if fault.Is(err, fault.Conflict) {
			continue // somebody else changed it first: what he made of it decides what is allowed now
		}
		if err != nil {
			return Ordered{}, err
		}
		zerolog.Ctx(ctx).Info().Str("event", "ordered").Str("from", string(r.Was)).Str("state", string(c.State)).Msg("an operator moved it")
		if err := o.Store.Index(ctx, c); err != nil {
			err = fmt.Errorf("it is on record; bring the lists up to date: %w", err)
			if c.State != correlation.Held {
				err = errors.Join(err, o.send(ctx, c, now))
			}
			return r, err
		}
		if c.State == correlation.Held {
			return r, nil
		}
		r.Sent = true
		if err := o.send(ctx, c, now); err != nil {
			return r, fmt.Errorf("it is on record, and the sweep will see to it: %w", err)
		}
		return r, nil
	}
	return Ordered{}, &fault.Error{
		Op: "put an order on record", Reason: fault.Unreachable, Detail: "somebody else keeps changing " + key.String(), Advice: "Try again in a minute.",
	}
}

// keep stores the order. The list still says when what was before was to be looked at: should this process die before its message is sent, the sweep
// is to come soon.
func (o Operator) keep(ctx context.Context, c *correlation.Correlation, now time.Time) error {
	p := o.Policy.withDefaults()
	switch {
	case c.State != correlation.Held:
		c.Due = now.Add(p.Forgotten)
		if c.NextAttempt.After(now) {
			c.Due = c.NextAttempt.Add(p.Forgotten)
		}
		if err := o.Store.Postpone(ctx, c.Key, c.Due); err != nil {
			return fmt.Errorf("say when the sweep should look at it: %w", err)
		}
	case c.Waits:
		c.Due = now.Add(p.CheckInterval)
	default:
		c.Due = now.Add(24 * time.Hour)
	}
	if err := o.Store.Save(ctx, c); err != nil {
		return fmt.Errorf("put the order on record: %w", err)
	}
	return nil
}

func (o Operator) send(ctx context.Context, c *correlation.Correlation, now time.Time) error {
	m := Message{Key: c.Key, Why: WhyOperator, Origin: invocation(ctx)}
	if err := o.Queue.Put(ctx, m.Text(), max(0, c.NextAttempt.Sub(now))); err != nil {
		return fmt.Errorf("send a message: %w", err)
	}
	return nil
}
