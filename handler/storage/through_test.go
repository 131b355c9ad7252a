package storage_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/storage"
	"ticketbridge/handler/storage/conformance"
)

func through(t testing.TB, f storage.Through) (*storage.Store, *storage.Queue) {
	t.Helper()
	s, q, err := storage.NewEmbeddedThrough("test", f)
	if err != nil {
		t.Fatal(err)
	}
	return s, q
}

func TestTheEmbeddedStorageKeepsEveryRuleWithSomethingBeforeIt(t *testing.T) {
	t.Parallel()
	conformance.Run(t, func(t *testing.T) conformance.Backend {
		t.Helper()
		return backend(through(t, func(_ context.Context, _ *storage.Call, do func() error) error { return do() }))
	})
}

func TestEveryOperationOfTheEmbeddedStorageGoesThrough(t *testing.T) {
	t.Parallel()
	var seen []string
	s, q := through(t, func(_ context.Context, c *storage.Call, do func() error) error {
		err := do()
		seen = append(seen, fmt.Sprintf("%s %s %d", c.Op, c.On, c.Rows))
		return err
	})
	ctx := t.Context()
	c := create(t, s, newCorrelation())
	_, err := s.Load(ctx, c.Key)
	_, _, err2 := s.Open(ctx, "", 0)
	err = errors.Join(err, err2, s.Index(ctx, c), s.Postpone(ctx, c.Key, base), s.Save(ctx, c), s.Unlist(ctx, c.Key), q.Put(ctx, "x", 0))
	got, err2 := q.Queues().Get(ctx, q.Name(), 2, time.Minute)
	if err = errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	receipt, err := q.Queues().Extend(ctx, q.Name(), got[0].ID, got[0].PopReceipt, time.Second)
	if err = errors.Join(err, q.Queues().Delete(ctx, q.Name(), got[0].ID, receipt)); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"insert testindex 1", "transact testcorrelations 3", "get testcorrelations 1", "query testindex 1", "merge testindex 1", "merge testindex 1", "transact testcorrelations 1",
		"remove testindex 1", "put message test-advance 1", "create queue test-advance 0", "put message test-advance 1", "get messages test-advance 1", "extend message test-advance 1",
		"remove message test-advance 1",
	}
	if !slices.Equal(seen, want) {
		t.Errorf("seen\n%q\nwant\n%q", seen, want)
	}
}

func TestTheEmbeddedStorageMisbehavesOnRequest(t *testing.T) {
	t.Parallel()
	lost := &fault.Error{Op: "test", Reason: fault.Unreachable, Detail: "lost on request"}
	var fate storage.Through
	s, _ := through(t, func(ctx context.Context, c *storage.Call, do func() error) error {
		if fate == nil || c.Op != "transact" {
			return do()
		}
		return fate(ctx, c, do)
	})
	events := func(c *correlation.Correlation) int {
		t.Helper()
		events, err := s.Timeline(t.Context(), c.Key)
		if err != nil {
			t.Fatal(err)
		}
		return len(events)
	}
	for name, x := range map[string]struct {
		fate   storage.Through
		want   error
		stored int
	}{
		"a call that does not arrive": {func(context.Context, *storage.Call, func() error) error { return lost }, lost, 1},
		"an answer that gets lost": {func(_ context.Context, _ *storage.Call, do func() error) error {
			_ = do()
			return lost
		}, lost, 2},
		"a call that is sent again": {func(_ context.Context, _ *storage.Call, do func() error) error {
			_ = do()
			return do()
		}, nil, 2},
	} {
		t.Run(name, func(t *testing.T) {
			fate = nil
			c := create(t, s, newCorrelation())
			c.Note(base, "seen", "")
			fate = x.fate
			if err := s.Save(t.Context(), c); !errors.Is(err, x.want) {
				t.Error(err)
			}
			if n := events(c); n != x.stored {
				t.Errorf("%d events are stored, want %d", n, x.stored)
			}
		})
	}
	t.Run("a process that dies", func(t *testing.T) {
		fate = nil
		c := create(t, s, newCorrelation())
		c.Note(base, "seen", "")
		fate = func(_ context.Context, _ *storage.Call, do func() error) error {
			_ = do()
			panic("killed")
		}
		func() {
			defer func() { _ = recover() }()
			_ = s.Save(t.Context(), c)
			t.Error("it lives")
		}()
		if n := events(c); n != 2 {
			t.Errorf("%d events", n)
		}
	})
	t.Run("an answer that nobody asked for", func(t *testing.T) {
		fate = func(context.Context, *storage.Call, func() error) error { return nil }
		if err := s.Create(t.Context(), newCorrelation(), nil); !fault.Is(err, fault.Internal) {
			t.Error(err)
		}
	})
}

func TestASlowCallHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, q := through(t, func(ctx context.Context, c *storage.Call, do func() error) error {
			if c.Op != "get" && c.Op != "put message" {
				return do()
			}
			select {
			case <-time.After(5 * time.Second):
			case <-ctx.Done():
			}
			err := do()
			time.Sleep(5 * time.Second)
			return err
		})
		c := create(t, s, newCorrelation())
		start := time.Now()
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if _, err := s.Load(t.Context(), c.Key); err != nil {
					t.Error(err)
				}
			})
			all.Go(func() { _ = q.Put(t.Context(), "x", 0) })
		}
		synctest.Wait()
		c.Note(base, "seen", "")
		if err := s.Save(t.Context(), c); err != nil || time.Since(start) != 0 {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		all.Wait()
		late, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Load(late, c.Key); !fault.Is(err, fault.Unreachable) {
			t.Error(err)
		}
	})
}
