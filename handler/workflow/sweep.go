package workflow

import (
	"context"
	"fmt"
	"time"
)

// Swept is what one sweep did.
type Swept struct {
	Sent int  // messages sent, one for each open correlation that was due
	Cut  bool // the time ran out; the next sweep goes on with what is still due
}

// Sweep sends a message for each open correlation that is due: a closed ticket nobody reported, an intent whose worker died, a message that
// got lost, a deadline. It reads the list of open ones only, puts each off as soon as its message is sent, and so ends where it ends: what it
// did not reach is still due at the next sweep.
func (w *Workflow) Sweep(ctx context.Context) (Swept, error) {
	p := w.Policy.withDefaults()
	var s Swept
	now := time.Now().UTC()
	for cursor := ""; ; {
		page, next, err := w.Store.Due(ctx, now, cursor, 200)
		if err != nil {
			return s, fmt.Errorf("read what is due: %w", err)
		}
		for _, sum := range page {
			if end, ok := ctx.Deadline(); ok && time.Until(end) < 5*time.Second {
				s.Cut = true
				return s, nil
			}
			if err := w.send(withKey(ctx, sum.Key), Message{Key: sum.Key, Why: WhySweep}, 0); err != nil {
				return s, fmt.Errorf("send for what is due: %w", err)
			}
			s.Sent++
			if err := w.Store.Postpone(ctx, sum.Key, now.Add(p.CheckInterval)); err != nil {
				return s, fmt.Errorf("put off what was sent for: %w", err)
			}
		}
		if next == "" {
			return s, nil
		}
		cursor = next
	}
}

func (w *Workflow) sweepIfOverdue(context.Context) {}
