package simulation

import (
	"context"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/workflow"
)

// skewed is the storage as an instance sees it whose clock is ahead by the given time: in a bubble there is one clock for all, so what it reads
// seems that much earlier, and what it writes is that much later. Its own deadlines and the delays of messages are durations, which no clock changes.
type skewed struct {
	workflow.Store
	ahead time.Duration
	error time.Duration // of what it takes the storage's clock for, from the Date of its answers
}

func (s skewed) Ahead() time.Duration { return s.error - s.ahead }

// shift moves each instant of a correlation.
func shift(c *correlation.Correlation, by time.Duration) {
	for _, t := range []*time.Time{&c.Since, &c.Created, &c.Deadline, &c.NextAttempt, &c.LeaseUntil, &c.Settles, &c.Due} {
		if !t.IsZero() {
			*t = t.Add(by)
		}
	}
	for i := range c.Pending() {
		c.Pending()[i].At = c.Pending()[i].At.Add(by)
	}
}

// written lets write see c as this instance's clock has it.
func (s skewed) written(c *correlation.Correlation, write func() error) error {
	shift(c, s.ahead)
	err := write()
	shift(c, -s.ahead)
	return err
}

func (s skewed) Create(ctx context.Context, c *correlation.Correlation, body []byte) error {
	return s.written(c, func() error { return s.Store.Create(ctx, c, body) })
}

func (s skewed) Load(ctx context.Context, key correlation.Key) (*correlation.Correlation, error) {
	c, err := s.Store.Load(ctx, key)
	if err == nil {
		shift(c, -s.ahead)
	}
	return c, err
}

func (s skewed) Save(ctx context.Context, c *correlation.Correlation) error {
	return s.written(c, func() error { return s.Store.Save(ctx, c) })
}

func (s skewed) Index(ctx context.Context, c *correlation.Correlation) error {
	return s.written(c, func() error { return s.Store.Index(ctx, c) })
}

func (s skewed) Postpone(ctx context.Context, key correlation.Key, due time.Time) error {
	return s.Store.Postpone(ctx, key, due.Add(s.ahead))
}

func (s skewed) Due(ctx context.Context, at time.Time, cursor string, limit int) ([]correlation.Summary, string, error) {
	return s.Store.Due(ctx, at.Add(s.ahead), cursor, limit)
}

func (s skewed) Mark(ctx context.Context) (workflow.Mark, error) {
	m, err := s.Store.Mark(ctx)
	shiftMark(&m, -s.ahead)
	return m, err
}

func (s skewed) SaveMark(ctx context.Context, m *workflow.Mark) error {
	shiftMark(m, s.ahead)
	err := s.Store.SaveMark(ctx, m)
	shiftMark(m, -s.ahead)
	return err
}

// shiftMark leaves Purged alone, which is a day.
func shiftMark(m *workflow.Mark, by time.Duration) {
	for _, t := range []*time.Time{&m.Begun, &m.Ended} {
		if !t.IsZero() {
			*t = t.Add(by)
		}
	}
}

// skewedQueue is the queue as that instance sees it: the times on messages are the storage's. The host looks at it when something may be there.
type skewedQueue struct {
	workflow.Queue
	w     *world
	ahead time.Duration
}

func (q skewedQueue) Put(ctx context.Context, text string, delay time.Duration) error {
	err := q.Queue.Put(ctx, text, delay)
	q.w.after(max(0, delay)+q.w.between(0, 2*time.Second), q.w.poll)
	return err
}

func (q skewedQueue) Poison(ctx context.Context, most int) ([]workflow.Poison, error) {
	list, err := q.Queue.Poison(ctx, most)
	for i := range list {
		list[i].InsertedOn = list[i].InsertedOn.Add(-q.ahead)
	}
	return list, err
}
