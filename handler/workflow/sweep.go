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

const (
	sweepPage     = 200              // open ones read at a time
	sweepReserve  = 5 * time.Second  // of the invocation's time, to put on record how far the sweep came
	sweepOnTheWay = 30 * time.Second // for a sweep that Advance runs, because none has run
	purgePage     = 20               // ended ones removed at a time
	poisonPage    = 32               // poisoned messages looked at in one sweep
)

// SweepOverdue is how long after the last sweep began something is wrong: its schedule should be each minute.
const SweepOverdue = 10 * time.Minute

// Swept is what one sweep did.
type Swept struct {
	Sent       int  // messages sent, one for each open correlation that was due
	Cut        bool // the time ran out; the next sweep goes on where this one stopped
	Poisoned   int  // correlations failed, since a message for them had failed five times
	Unreadable int  // poisoned messages kept that name no correlation
	Purged     int  // correlations removed, since they ended longer ago than Policy.Retention
}

// Sweep sends a message for each open correlation that is due: a closed ticket nobody reported, an intent whose worker died, a message that
// got lost, a deadline. Before, it empties the poison queue; after, it removes what ended long ago. It reads the list of open ones only, never the
// history. When the context's time runs out it stops in time, and the next sweep goes on where it stopped, with what is due by then.
func (w *Workflow) Sweep(ctx context.Context) (Swept, error) {
	mark, err := w.Store.Mark(ctx)
	if err != nil {
		return Swept{}, fmt.Errorf("read how far the last sweep came: %w", err)
	}
	mark.Begun = w.now()
	if err := w.Store.SaveMark(ctx, &mark); err != nil && !fault.Is(err, fault.Conflict) { // another sweep at the same time does no harm
		return Swept{}, fmt.Errorf("say that a sweep began: %w", err)
	}
	return w.sweep(ctx, mark)
}

func (w *Workflow) sweep(ctx context.Context, mark Mark) (s Swept, err error) {
	poison := w.emptyPoison(ctx, &s) // first, since it is small, and what crashes the process should not be sent for again
	mark.Cursor, err = w.sendDue(ctx, mark.Cursor, &s)
	if err == nil && !s.Cut {
		mark.Ended = w.now()
		err = w.purge(ctx, &mark, &s)
	}
	err = errors.Join(poison, err)
	if saved := w.Store.SaveMark(ctx, &mark); saved != nil && !fault.Is(saved, fault.Conflict) {
		err = errors.Join(err, fmt.Errorf("say how far the sweep came: %w", saved))
	}
	return s, err
}

// enough says whether the sweep has to stop.
func enough(ctx context.Context) bool {
	end, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && time.Until(end) < sweepReserve
}

// sendDue sends for what is due behind the cursor, and puts each off when its message is sent. It returns where the next sweep is to go on: "", the beginning,
// when it came to the end; else the page that it did not finish, of which those it sent for are no longer due.
func (w *Workflow) sendDue(ctx context.Context, cursor string, s *Swept) (string, error) {
	now, check := w.now(), w.Policy.withDefaults().CheckInterval
	var nearest correlation.Summary
	defer func() { sayNearest(ctx, nearest, now) }()
	for {
		if enough(ctx) {
			s.Cut = true
			return cursor, nil
		}
		page, next, err := w.Store.Due(ctx, now, cursor, sweepPage)
		if err != nil {
			return cursor, fmt.Errorf("read what is due: %w", err)
		}
		wait := w.askInBatches(ctx, page)
		for _, sum := range page {
			if enough(ctx) {
				s.Cut = true
				return cursor, nil
			}
			if err := w.send(withKey(ctx, sum.Key), Message{Key: sum.Key, Why: WhySweep, Waiting: wait[sum.Key]}, 0); err != nil {
				return cursor, fmt.Errorf("send for what is due: %w", err)
			}
			s.Sent++
			if !sum.Deadline.IsZero() && (nearest.Deadline.IsZero() || sum.Deadline.Before(nearest.Deadline)) {
				nearest = sum
			}
			if err := w.Store.Postpone(ctx, sum.Key, now.Add(check)); err != nil {
				return cursor, fmt.Errorf("put off what was sent for: %w", err)
			}
		}
		if next == "" {
			return "", nil
		}
		cursor = next
	}
}

// sayNearest logs which of those that a sweep sent for has to be answered first. All that wait are sent for now and then, so that of some hours' lines the least time is
// that of all.
func sayNearest(ctx context.Context, sum correlation.Summary, now time.Time) {
	if sum.Deadline.IsZero() {
		return
	}
	zerolog.Ctx(ctx).Info().Str("event", "nearest").Str("requestId", sum.Key.Request).Str("stageInstanceId", sum.Key.Stage).Str("state", string(sum.State)).
		Dur("left", sum.Deadline.Sub(now)).Dur("age", now.Sub(sum.Created)).Msg("the nearest deadline of those that the sweep looked at")
}

// emptyPoison makes visible what the host has given up on: the correlation that a message names fails, unless it went on without the message; a message
// that names none is kept.
func (w *Workflow) emptyPoison(ctx context.Context, s *Swept) error {
	if enough(ctx) {
		return nil
	}
	poison, err := w.Queue.Poison(ctx, poisonPage)
	if err != nil {
		return fmt.Errorf("read the poison queue: %w", err)
	}
	for _, p := range poison {
		if enough(ctx) {
			return nil // it is seen again in some minutes
		}
		done, err := w.poisoned(ctx, p, s)
		if err != nil {
			return err
		}
		if !done {
			continue
		}
		if err := w.Queue.DropPoison(ctx, p); err != nil {
			return fmt.Errorf("take a message off the poison queue: %w", err)
		}
	}
	return nil
}

// poisoned says whether the message is done with.
func (w *Workflow) poisoned(ctx context.Context, p Poison, s *Swept) (bool, error) {
	log := zerolog.Ctx(ctx).With().Str("event", "poisoned").Str("messageId", p.ID).Time("insertedOn", p.InsertedOn).Logger()
	m, err := ReadMessage([]byte(p.Text))
	if err != nil {
		err := w.Store.KeepUnreadable(ctx, Unreadable{ID: p.ID, Text: p.Text, InsertedOn: p.InsertedOn, KeptOn: w.now(), Reason: brief(err)})
		if err != nil {
			return false, fmt.Errorf("keep a message that nobody can read: %w", err)
		}
		log.Error().Msg("a message that names no correlation is kept: see `handler requests list --unreadable`")
		s.Unreadable++
		return true, nil
	}
	if m.Key.IsZero() {
		log.Warn().Str("table", m.Table).Str("sysId", m.SysID).Msg("a hint that a ticket closed failed five times; the sweep reads open tickets by itself")
		return true, nil
	}
	sent := m.Sent
	if sent.IsZero() { // by an older version: at the latest when the host took it for poison
		sent = p.InsertedOn
	}
	ctx = withKey(ctx, m.Key)
	log = log.With().Str("requestId", m.Key.Request).Str("stageInstanceId", m.Key.Stage).Logger()
	for range 3 {
		c, err := w.Store.Load(ctx, m.Key)
		switch now := w.now(); {
		case fault.Is(err, fault.NotFound):
			return true, nil
		case err != nil:
			return false, fmt.Errorf("load what a poisoned message names: %w", err)
		case c.State.Ended() || c.State.NeedsPerson() || c.Since.After(sent):
			log.Info().Str("state", string(c.State)).Msg("a message failed five times; its correlation went on without it")
			return true, nil
		case c.LeasedBy("", now) > 0:
			return false, nil // somebody is at work on it
		}
		err = w.giveUpOn(ctx, c, &fault.Error{
			Op: "work on a message (" + m.Why + ")", Reason: fault.Internal, Detail: "it failed five times, or the process died over it",
			Advice: "Look in the logs for errors with this request id and for processes that ended; when the cause is mended, retry the request.",
		})
		if fault.Is(err, fault.Conflict) {
			continue // somebody is at work on it after all
		}
		if err != nil {
			return false, err
		}
		log.Error().Msg("a message failed five times; its correlation is failed, for a person to look at")
		s.Poisoned++
		return true, nil
	}
	return false, nil
}

// purge removes what ended longer ago than it is to be kept.
func (w *Workflow) purge(ctx context.Context, mark *Mark, s *Swept) error {
	keep := w.Policy.Retention
	if keep <= 0 {
		return nil
	}
	before := w.now().Add(-keep).Truncate(24 * time.Hour)
	for mark.Purged.Before(before.AddDate(0, 0, -1)) && !enough(ctx) {
		n, through, more, err := w.Store.Purge(ctx, before, purgePage)
		s.Purged += n
		mark.Purged = later(mark.Purged, through)
		if err != nil {
			return fmt.Errorf("remove what ended long ago: %w", err)
		}
		if !more {
			break
		}
	}
	if s.Purged > 0 {
		zerolog.Ctx(ctx).Info().Str("event", "purged").Int("count", s.Purged).Time("endedBefore", before).Msg("what ended long ago is removed")
	}
	return nil
}

// sweepIfOverdue sweeps when nobody does: the host runs everything else without a word when the schedule's setting is missing. It looks at most once a
// minute in one process. That it does not work is for the log only: the message at hand is done.
func (w *Workflow) sweepIfOverdue(ctx context.Context) {
	if w.Memory == nil || !w.Memory.lookAfterSweep(time.Now()) {
		return
	}
	mark, err := w.Store.Mark(ctx)
	now, first := w.now(), mark.Begun.IsZero()
	if err != nil || !first && !mark.Overdue(now) {
		return
	}
	since := now.Sub(mark.Begun)
	mark.Begun = now
	if err := w.Store.SaveMark(ctx, &mark); err != nil || first { // somebody else sweeps; or the app has just begun, and the timer may fire any moment
		return
	}
	log := zerolog.Ctx(ctx)
	log.Error().Str("event", "sweepOverdue").Dur("since", since).Msg("no sweep has run: is SWEEP_SCHEDULE set? Sweeping beside a message")
	ctx, cancel := context.WithTimeout(ctx, sweepOnTheWay)
	defer cancel()
	if _, err := w.sweep(ctx, mark); err != nil {
		log.Warn().Err(err).Msg("the sweep beside a message did not work")
	}
}

// lookAfterSweep says whether it is time to look whether a sweep runs.
func (m *Memory) lookAfterSweep(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now.Sub(m.sweepSeen) < time.Minute {
		return false
	}
	m.sweepSeen = now
	return true
}
