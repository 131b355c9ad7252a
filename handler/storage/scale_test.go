package storage_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/storage"
	"ticketbridge/handler/workflow"
)

const (
	scaleEnded   = 1_000_000
	scaleDays    = 90 // on which they ended
	scaleFew     = 5_000
	scaleMany    = 50_000
	scaleNotDue  = 1_000 // open, and not due
	functionTime = 4 * time.Minute
	operation    = 5 * time.Millisecond // what each takes, by the bubble's clock
	day          = 24 * time.Hour
)

// A meter counts what goes through it, and makes it slow.
type meter struct {
	operations, read int            // storage operations, and the entities that they read
	queries          []storage.Call // in the index table
}

func (m *meter) through(ctx context.Context, c *storage.Call, do func() error) error {
	timer := time.NewTimer(operation)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	err := do()
	m.operations++
	switch c.Op {
	case "query":
		m.queries = append(m.queries, *c)
		m.read += c.Rows
	case "get":
		m.read += c.Rows
	}
	return err
}

// mark returns the sweep's mark, without counting that.
func (m *meter) mark(t *testing.T, s *storage.Store) workflow.Mark {
	t.Helper()
	operations, read := m.operations, m.read
	mark, err := s.Mark(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m.operations, m.read = operations, read
	return mark
}

// A recorder counts the messages for each correlation.
type recorder struct {
	*storage.Queue
	sent map[string]int
}

func (r recorder) Put(ctx context.Context, text string, delay time.Duration) error {
	m, err := workflow.ReadMessage([]byte(text))
	if err != nil {
		return err
	}
	if err := r.Queue.Put(ctx, text, delay); err != nil {
		return err
	}
	r.sent[m.Key.Request]++
	return nil
}

// A sweeping is what it took until everything that was due had its message.
type sweeping struct {
	sweeps, operations, read int
	longest                  time.Duration
}

// sweepUntilDone sweeps each minute, as the timer does, until one comes to the end.
func sweepUntilDone(t *testing.T, w *workflow.Workflow, m *meter, s *storage.Store) (out sweeping) {
	t.Helper()
	*m = meter{}
	for {
		mark := m.mark(t, s)
		m.queries = nil
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), functionTime)
		swept, err := w.Sweep(ctx)
		cancel()
		took := time.Since(began)
		if err != nil || took >= functionTime {
			t.Fatalf("sweep %d took %s: %v", out.sweeps+1, took, err)
		}
		if first := m.queries[0]; first.Partition != "open" || first.Row != mark.Cursor {
			t.Errorf("sweep %d began at %q, and the one before it stopped at %q", out.sweeps+1, first.Row, mark.Cursor)
		}
		stopped := m.mark(t, s)
		if last := m.queries[len(m.queries)-1]; swept.Cut && (stopped.Cursor == "" || stopped.Cursor < last.Row) || !swept.Cut && stopped.Cursor != "" {
			t.Errorf("sweep %d stopped at %q, says the mark, and had come to %q", out.sweeps+1, stopped.Cursor, last.Row)
		}
		out.sweeps++
		out.longest = max(out.longest, took)
		if !swept.Cut {
			out.operations, out.read = m.operations, m.read
			return out
		}
		time.Sleep(time.Minute - took%time.Minute)
	}
}

// What the sweep reads grows with what is open, and not with what has ended; it ends in time, and the next goes on where it stopped; each that is due gets
// one message. docs/performance.md has these numbers.
func TestTheSweepReadsWhatIsOpenAndNotTheHistory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		results := map[string]sweeping{}
		for _, ended := range []int{0, scaleEnded} {
			var m meter
			s, q := through(t, m.through)
			r := recorder{q, map[string]int{}}
			w := &workflow.Workflow{Store: s, Queue: r, Policy: workflow.Policy{CheckInterval: time.Hour, Retention: scaleDays * day}}
			midnight := time.Now().UTC().Truncate(day)
			if wait := time.Until(midnight.Add(12 * time.Hour)); wait > 0 {
				time.Sleep(wait)
			}
			if ended > 0 {
				s.Bulk(1<<24, ended, (ended+scaleDays-1)/scaleDays, func(group int) *correlation.Correlation {
					return storage.EndedPattern(midnight.Add(time.Duration(group-scaleDays) * day))
				})
			}
			s.Bulk(1<<28, scaleNotDue, scaleNotDue, func(int) *correlation.Correlation { return storage.OpenPattern(time.Now().Add(1000 * day)) })
			loaded := 0
			for _, opn := range []int{scaleFew, scaleMany} {
				due := time.Now()
				s.Bulk(loaded, opn-loaded, opn, func(int) *correlation.Correlation { return storage.OpenPattern(due) })
				loaded = opn
				clear(r.sent)
				if opn == scaleMany {
					w.Policy.CheckInterval = 1000 * day // none of them is due once more below
				}
				got := sweepUntilDone(t, w, &m, s)
				results[fmt.Sprint(opn, ended)] = got
				t.Logf("counts: %9d ended, %6d open and due: %d sweeps, %d operations, %d entities read, the longest took %s", ended, opn, got.sweeps, got.operations, got.read, got.longest)
				for i := range opn {
					if n := r.sent[storage.BulkRequest(i)]; n != 1 {
						t.Fatalf("%d messages for number %d", n, i)
					}
				}
				if len(r.sent) != opn {
					t.Errorf("messages for %d, and %d are due", len(r.sent), opn)
				}
				if got.read < opn || got.read > opn+opn/100+2*201*got.sweeps+scaleNotDue {
					t.Errorf("%d entities read for %d that are due", got.read, opn)
				}
				time.Sleep(2 * time.Hour) // the few are due again, beside the many
			}
			if ended > 0 {
				purgeADay(t, w, s, &m, midnight)
			}
		}
		for _, opn := range []int{scaleFew, scaleMany} {
			if a, b := results[fmt.Sprint(opn, 0)], results[fmt.Sprint(opn, scaleEnded)]; a != b {
				t.Errorf("with nothing ended %+v, with a million %+v", a, b)
			}
		}
		few, many := results[fmt.Sprint(scaleFew, scaleEnded)], results[fmt.Sprint(scaleMany, scaleEnded)]
		if ratio := float64(many.read) / float64(few.read); ratio > 1.1*scaleMany/scaleFew {
			t.Errorf("%d times as many are open, and %.1f times as much is read", scaleMany/scaleFew, ratio)
		}
		if many.sweeps < 3 {
			t.Errorf("it takes %d sweeps: none was cut", many.sweeps)
		}
	})
}

// purgeADay lets a day pass, after which the oldest day of the history is to be removed.
func purgeADay(t *testing.T, w *workflow.Workflow, s *storage.Store, m *meter, midnight time.Time) {
	t.Helper()
	oldest := midnight.Add(-scaleDays * day)
	perDay := (scaleEnded + scaleDays - 1) / scaleDays
	time.Sleep(time.Until(midnight.Add(day + time.Hour)))
	purged, sweeps, operations, read := 0, 0, 0, 0
	for left := perDay; left > 0; left = count(t, s, oldest) {
		*m = meter{}
		ctx, cancel := context.WithTimeout(t.Context(), functionTime)
		began := time.Now()
		swept, err := w.Sweep(ctx)
		cancel()
		if err != nil || swept.Purged == 0 || swept.Sent != 0 || time.Since(began) >= functionTime {
			t.Fatalf("%+v after %s: %v", swept, time.Since(began), err)
		}
		sweeps++
		purged += swept.Purged
		operations += m.operations
		read += m.read
	}
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	t.Logf("counts: %9d ended on the oldest day are removed in %d sweeps, with %d operations and %d entities read; the heap has %d MB", purged, sweeps, operations, read, mem.HeapAlloc>>20)
	if most := perDay*(4*10+4)/10 + sweeps*(scaleMany/1000+20); operations > most {
		t.Errorf("%d operations to remove %d, at most %d are documented", operations, purged, most)
	}
	if purged != perDay || count(t, s, oldest.Add(day)) != perDay {
		t.Errorf("%d removed, %d on the next day", purged, count(t, s, oldest.Add(day)))
	}
}

// count says how many ended on a day.
func count(t *testing.T, s *storage.Store, day time.Time) int {
	t.Helper()
	page, next, err := s.Ended(t.Context(), day, "", 1<<20)
	if err != nil || next != "" {
		t.Fatal(err)
	}
	return len(page)
}
