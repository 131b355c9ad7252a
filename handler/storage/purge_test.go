package storage_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/storage"
	"ticketbridge/handler/workflow"
)

var errTest = &fault.Error{Op: "test", Reason: fault.Unreachable, Detail: "on request"}

// expire stores that c ended, with nothing left to do.
func expire(t *testing.T, s *storage.Store, c *correlation.Correlation, at time.Time) {
	t.Helper()
	if err := errors.Join(c.Move(correlation.Expired, at, "too late", ""), s.Save(t.Context(), c), s.Index(t.Context(), c)); err != nil {
		t.Fatal(err)
	}
}

// A purge that is interrupted at any of its operations, before it or after, leaves what can be read whole or not at all, and the next finishes it.
func TestAnInterruptedPurgeIsFinishedByTheNext(t *testing.T) {
	t.Parallel()
	interruptions := 0
	for _, after := range []bool{false, true} {
		for at := 0; ; at++ {
			n, purging, cut := 0, false, false
			s, _ := through(t, func(_ context.Context, _ *storage.Call, do func() error) error {
				if !purging {
					return do()
				}
				if n++; n != at {
					return do()
				}
				cut = true
				if after {
					_ = do()
				}
				return errTest
			})
			short, long, stays := create(t, s, newCorrelation()), create(t, s, newCorrelation()), newCorrelation()
			stays.Key.Request = long.Key.Request
			create(t, s, stays)
			for range 3 {
				for range 90 {
					long.Note(base, "seen", "")
				}
				if err := s.Save(t.Context(), long); err != nil {
					t.Fatal(err)
				}
			}
			expire(t, s, short, base.Add(-24*time.Hour))
			expire(t, s, long, base.Add(-48*time.Hour))

			purging = true
			first, _, _, err := s.Purge(t.Context(), base, 10)
			purging = false
			if cut != (err != nil) {
				t.Fatalf("interrupted at %d: %t, and the purge says %v", at, cut, err)
			}
			for _, c := range []*correlation.Correlation{short, long} {
				if _, err := s.Load(t.Context(), c.Key); err != nil && !fault.Is(err, fault.NotFound) {
					t.Error(err)
				}
			}
			second, _, more, err := s.Purge(t.Context(), base, 10)
			if err != nil || more || first+second < 1 || first+second > 3 { // the one that was interrupted counts twice, or not
				t.Errorf("interrupted at %d: purged %d, then %d, more: %t, %v", at, first, second, more, err)
			}
			left := s.Everything(t.Context())
			if rows := left["testcorrelations"]; len(rows) != 1 || len(rows[stays.Key.Request]) != 3 {
				t.Errorf("interrupted at %d: left %d requests, %d rows", at, len(rows), len(rows[stays.Key.Request]))
			}
			for list, rows := range left["testindex"] {
				if list != "open" || len(rows) != 1 {
					t.Errorf("interrupted at %d: %d rows left in %s", at, len(rows), list)
				}
			}
			if at > 0 && !cut {
				break
			}
			interruptions++
		}
	}
	t.Logf("%d interruptions", interruptions)
	if interruptions < 20 {
		t.Errorf("only %d", interruptions)
	}
}

// Whatever becomes of a correlation between the purge's reading and its removing, what is removed is what was read.
func TestAPurgeRemovesOnlyTheVersionThatItRead(t *testing.T) {
	t.Parallel()
	var between func()
	s, _ := through(t, func(_ context.Context, c *storage.Call, do func() error) error {
		if f := between; f != nil && c.Op == "transact" && c.Rows > 2 {
			between = nil
			f()
		}
		return do()
	})
	reopened, noted := create(t, s, newCorrelation()), create(t, s, newCorrelation())
	expire(t, s, reopened, base.Add(-72*time.Hour))
	expire(t, s, noted, base.Add(-48*time.Hour))
	between = func() {
		reopened.State = correlation.Held // nothing does this to what ended; if something did, it would not get lost
		reopened.Note(base, "held all the same", "")
		if err := s.Save(t.Context(), reopened); err != nil {
			t.Error(err)
		}
		between = func() {
			noted.Note(base, "a last word", "")
			if err := s.Save(t.Context(), noted); err != nil {
				t.Error(err)
			}
		}
	}
	n, _, more, err := s.Purge(t.Context(), base, 10)
	if err != nil || n != 1 || more {
		t.Errorf("purged %d, more: %t, %v", n, more, err)
	}
	if got, err := s.Load(t.Context(), reopened.Key); err != nil || got.State != correlation.Held {
		t.Errorf("%+v, %v", got, err)
	}
	if events, _ := s.Timeline(t.Context(), reopened.Key); len(events) != 3 {
		t.Errorf("%d events", len(events))
	}
	if page, _, _ := s.Open(t.Context(), "", 0); len(page) != 1 || page[0].Key != reopened.Key {
		t.Errorf("open: %v", page)
	}
	if rows := s.Everything(t.Context())["testcorrelations"]; len(rows) != 1 {
		t.Errorf("rows of %d requests are left", len(rows))
	}
}

func TestAPurgeCostsWhatItRemoves(t *testing.T) {
	t.Parallel()
	var calls []storage.Call
	s, _ := through(t, func(_ context.Context, c *storage.Call, do func() error) error {
		err := do()
		calls = append(calls, *c)
		return err
	})
	for i := range 40 { // on twenty days
		expire(t, s, create(t, s, newCorrelation()), base.Add(-time.Duration(i/2)*24*time.Hour))
	}
	for _, c := range []struct{ most, operations, rows int }{
		{3, 1 + 4*3, 4 + 3*(1+4+4+1)}, // the list, one more than wanted; the state, the keys, the rows, the listing
		{0, 1, 1},
	} {
		calls = nil
		n, through, more, err := s.Purge(t.Context(), base.Add(-10*24*time.Hour), c.most)
		if err != nil || n != c.most || !more || !through.Before(base.Add(-10*24*time.Hour)) {
			t.Errorf("purged %d through %s, more: %t, %v", n, through, more, err)
		}
		rows := 0
		for _, call := range calls {
			rows += call.Rows
		}
		if len(calls) != c.operations || rows != c.rows {
			t.Errorf("%d purged in %d operations on %d rows, want %d on %d", n, len(calls), rows, c.operations, c.rows)
		}
	}
}

func TestAMarkWhoseAnswerWasLostIsRecognised(t *testing.T) {
	t.Parallel()
	again, between := true, func() {}
	s, _ := through(t, func(_ context.Context, c *storage.Call, do func() error) error {
		if c.Op != "transact" || !again {
			return do()
		}
		again = false
		_ = do()
		between()
		return do()
	})
	mine := workflow.Mark{Cursor: "1"}
	for _, cursor := range []string{"1", "2"} {
		mine.Cursor, again = cursor, true
		if err := s.SaveMark(t.Context(), &mine); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Mark(t.Context()); err != nil || got != mine {
			t.Errorf("%+v, %v; want %+v", got, err, mine)
		}
	}
	again = true
	between = func() {
		theirs, err := s.Mark(t.Context())
		theirs.Cursor = "theirs"
		if err = errors.Join(err, s.SaveMark(t.Context(), &theirs)); err != nil {
			t.Error(err)
		}
	}
	if err := s.SaveMark(t.Context(), &mine); !fault.Is(err, fault.Conflict) {
		t.Errorf("theirs is taken for mine: %v", err)
	}
}

func TestAPoisonMessageIsHiddenForFiveMinutes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, q := embedded(t)
		if err := errors.Join(q.Queues().Create(t.Context(), q.PoisonName()), q.Queues().Put(t.Context(), q.PoisonName(), "x", 0)); err != nil {
			t.Fatal(err)
		}
		for i, c := range []struct {
			after time.Duration
			want  int
		}{{0, 1}, {5*time.Minute - 1, 0}, {1, 1}} {
			time.Sleep(c.after)
			if got, err := q.Poison(t.Context(), 10); err != nil || len(got) != c.want {
				t.Errorf("%d: %v, %v", i, got, err)
			}
		}
	})
}

// A callout fills an entity; whatever is too large is found by our own count, before anything is sent, and says what it is.
func TestTheLargestCalloutFillsItsEntity(t *testing.T) {
	t.Parallel()
	s, _ := embedded(t)
	body := []byte(strings.Repeat("é\x00", storage.MaxCallout/3))
	body = append(body, make([]byte, storage.MaxCallout-len(body))...)
	c := newCorrelation()
	if err := s.Create(t.Context(), c, body); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Callout(t.Context(), c.Key); err != nil || !slices.Equal(got, body) {
		t.Errorf("%d bytes come back, %v", len(got), err)
	}
	err := s.SetRow(t.Context(), "testcorrelations", c.Key.Request, c.Key.Stage+"_c", map[string]any{"Body15": append(body[15*64<<10:], 1)})
	if e, ok := errors.AsType[*fault.Error](err); !ok || e.Reason != fault.Invalid || !strings.Contains(e.Detail, "1048577 bytes") {
		t.Errorf("with one byte more the entity is not too large: %v", err)
	}
	calls := 0
	s, _ = through(t, func(_ context.Context, _ *storage.Call, do func() error) error {
		calls++
		return do()
	})
	err = s.Create(t.Context(), newCorrelation(), append(body, 1))
	if e, ok := errors.AsType[*fault.Error](err); !ok || e.Reason != fault.Invalid || e.Field != "body" || calls != 0 {
		t.Errorf("%v after %d calls", err, calls)
	}
}
