package storage

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/workflow"
)

// Mark returns what the sweep remembers; the zero Mark when it remembers nothing. 1 storage operation.
func (s *Store) Mark(ctx context.Context) (workflow.Mark, error) {
	var m workflow.Mark
	e, err := s.tables.get(ctx, s.names.Index, sweepRow, sweepRow)
	if fault.Is(err, fault.NotFound) {
		return m, nil
	}
	if err == nil {
		r := reading(e)
		r.mark(&m)
		m.Version, err = e.etag, r.err
	}
	if err != nil {
		return workflow.Mark{}, fmt.Errorf("load what the sweep remembers: %w", err)
	}
	return m, nil
}

// SaveMark stores m, provided nobody stored a mark since m was loaded, and sets its Version; else it is Conflict. Properties that a newer version
// wrote are kept. A call whose answer was lost and that was sent again is recognised. 1 storage operation.
func (s *Store) SaveMark(ctx context.Context, m *workflow.Mark) error {
	write := uuid.NewString()
	r := writing("mark")
	r.merging = true
	r.mark(m)
	r.props["Write"] = write
	op := operation{entity: entity{partition: sweepRow, row: sweepRow, etag: m.Version, props: r.props}}
	if m.Version != "" {
		op.does = merges
	}
	if err := checkTransaction([]operation{op}); err != nil {
		return fmt.Errorf("save what the sweep remembers: %w", err)
	}
	etags, err := s.tables.transact(ctx, s.names.Index, []operation{op})
	switch {
	case err == nil:
		m.Version = etags[0]
		return nil
	case fault.Is(err, fault.Conflict) || fault.Is(err, fault.Exists) || fault.Is(err, fault.NotFound):
		if errors.Is(err, errRepeated) {
			if e, seen := s.tables.get(ctx, s.names.Index, sweepRow, sweepRow); seen == nil && e.props["Write"] == write {
				m.Version = e.etag
				return nil
			}
		}
		return &fault.Error{Op: "save what the sweep remembers", Reason: fault.Conflict, Detail: "another sweep stored its own meanwhile", Err: err}
	default:
		return fmt.Errorf("save what the sweep remembers: %w", err)
	}
}

// KeepUnreadable keeps a message that nobody can read, whatever its text holds. One with an ID that is kept already stays as it is. A text of more
// than 900 KiB is Invalid; a message has at most 64. 1 storage operation.
func (s *Store) KeepUnreadable(ctx context.Context, u workflow.Unreadable) error {
	r := writing("unreadable")
	r.unreadable(&u)
	e := entity{partition: unreadableRows, row: unreadableRow(u.ID), props: r.props}
	if err := checkTransaction([]operation{{entity: e}}); err != nil {
		return fmt.Errorf("keep what cannot be read: %w", err)
	}
	if err := s.tables.insert(ctx, s.names.Index, e); err != nil && !fault.Is(err, fault.Exists) {
		return fmt.Errorf("keep what cannot be read: %w", err)
	}
	return nil
}

// Unreadable returns what KeepUnreadable keeps, oldest first. 1 storage operation for each 1000, more when they are long.
func (s *Store) Unreadable(ctx context.Context) ([]workflow.Unreadable, error) {
	rows, err := s.all(ctx, s.names.Index, query{partition: unreadableRows})
	if err != nil {
		return nil, fmt.Errorf("read what cannot be read: %w", err)
	}
	out := make([]workflow.Unreadable, len(rows))
	for i, e := range rows {
		r := reading(e)
		if r.unreadable(&out[i]); r.err != nil {
			return nil, fmt.Errorf("read what cannot be read: %w", r.err)
		}
	}
	slices.SortFunc(out, func(a, b workflow.Unreadable) int {
		return cmp.Or(a.InsertedOn.Compare(b.InsertedOn), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

// ForgetUnreadable removes a message that was kept; it need not be there. 1 storage operation.
func (s *Store) ForgetUnreadable(ctx context.Context, id string) error {
	err := s.tables.remove(ctx, s.names.Index, unreadableRows, unreadableRow(id))
	if err != nil && !fault.Is(err, fault.NotFound) {
		return fmt.Errorf("forget what cannot be read: %w", err)
	}
	return nil
}

// unreadableRow makes a row key of any id.
func unreadableRow(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:])
}

// Purge removes up to most correlations that ended on a day that lies wholly before the given time, UTC, oldest day first: all their rows, and then
// their listing, so that the next call finishes what was interrupted. What it finds on those lists and is not settled, or ended later, stays, and the lists
// are put right; what it cannot read stays as it is, and is logged. It says how many it removed, also with an error (near enough: an answer may be lost);
// through which day nothing is left to be removed; and whether there is more to do.
//
// It takes 1 storage operation, and for each correlation 4: 1 more for each further 100 of its rows (and 1 for each 1000). It reads no list of a later day.
func (s *Store) Purge(ctx context.Context, before time.Time, most int) (purged int, through time.Time, more bool, err error) {
	q := query{first: endedLists, end: endedList(before), keys: true}
	for {
		q.top = min(pageSize, most-purged+1)
		page, next, err := s.tables.query(ctx, s.names.Index, q)
		if err != nil {
			return purged, time.Time{}, true, fmt.Errorf("read the lists of what ended: %w", err)
		}
		for _, listed := range page {
			if purged >= most {
				return purged, dayBefore(listed.partition), true, nil
			}
			gone, err := s.purge(ctx, listed, before)
			if gone {
				purged++
			}
			if err != nil {
				return purged, dayBefore(listed.partition), true, fmt.Errorf("purge %s: %w", listed.row, err)
			}
		}
		if next == "" {
			return purged, dayBefore(q.end), false, nil
		}
		q.next = next
	}
}

// dayBefore returns the day before that of the list; zero when it is none of ours.
func dayBefore(list string) time.Time {
	day, err := time.Parse(endedLists+time.DateOnly, list)
	if err != nil {
		return time.Time{}
	}
	return day.AddDate(0, 0, -1)
}

// purge removes one correlation that is listed as ended, or puts the lists right.
func (s *Store) purge(ctx context.Context, listed entity, before time.Time) (gone bool, err error) {
	key, err := indexKey(listed.row)
	if err != nil {
		logUnreadable(ctx, s.names.Index, listed, err)
		return false, nil
	}
	for tries := 3; ; tries-- {
		state, err := s.tables.get(ctx, s.names.Correlations, key.Request, key.Stage)
		if fault.Is(err, fault.NotFound) { // a purge before this one got as far as that
			return true, s.delist(ctx, listed)
		}
		if err != nil {
			return false, err
		}
		c, err := correlationOf(state)
		if err != nil {
			logUnreadable(ctx, s.names.Correlations, state, err)
			return false, nil
		}
		if !c.Settled() || endedList(c.Since) >= endedList(before) {
			if err := s.Index(ctx, c); err != nil || (c.Settled() && endedList(c.Since) == listed.partition) {
				return false, err
			}
			return false, s.delist(ctx, listed)
		}
		err = s.removeRows(ctx, key, state.etag)
		if err == nil {
			return true, s.delist(ctx, listed)
		}
		// Somebody else is at it, or it was this call, whose answer was lost: look again.
		if tries == 1 || (!fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Conflict)) {
			return false, err
		}
	}
}

// removeRows removes all rows of a correlation, that with its state last and only in the given version. It is Conflict when there is another,
// and NotFound when somebody else removes them at the same time.
func (s *Store) removeRows(ctx context.Context, key correlation.Key, version string) error {
	// The ids of stage instances have one length, so what begins with this one is its own: the id, or the id with "_" and more.
	rows, err := s.all(ctx, s.names.Correlations, query{partition: key.Request, from: key.Stage, below: key.Stage + "`", keys: true})
	if err != nil {
		return err
	}
	slices.Reverse(rows)
	for batch := range slices.Chunk(rows, maxOperations) {
		ops := make([]operation, len(batch))
		for i, e := range batch {
			e.etag = ""
			if e.row == key.Stage {
				e.etag = version
			}
			ops[i] = operation{does: deletes, entity: e}
		}
		if _, err := s.tables.transact(ctx, s.names.Correlations, ops); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) delist(ctx context.Context, listed entity) error {
	if err := s.tables.remove(ctx, s.names.Index, listed.partition, listed.row); err != nil && !fault.Is(err, fault.NotFound) {
		return fmt.Errorf("take correlation off the list: %w", err)
	}
	return nil
}
