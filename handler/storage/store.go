// Package storage keeps correlations in Table Storage and sends messages through Queue Storage, of an Azure account or of an embedded twin
// inside the process that behaves the same. What is stored how, and in which order, is written once, above both.
package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
)

// A Store keeps correlations as workflow.Store asks for, and reads them for the console and the commands. Its errors are *fault.Error: beside
// those of each method Unreachable, Throttled, Unauthorized, Forbidden or Misconfigured when the storage does not serve. It is safe for
// concurrent use, does nothing before it is asked, and makes its tables when it first writes to them.
//
// The table of correlations has one partition for each request. A stage instance is one row with its state as plain properties, one row
// for each event of its timeline, and one with the callout's body. The index table has one partition for what is open and one for each day
// on which something ended; its rows hold a correlation.Summary, so a list never reads the correlations. What the sweep remembers and the messages
// that nobody could read have partitions of their own in it.
//
// The two tables cannot be written in one transaction. The listing is written first, so what is stored is listed; a listing that says
// something old, or names nothing, stands until its due time at most: then the sweep sends a message for it, and Advance puts it right.
type Store struct {
	tables tables
	names  Names
	clock  *clock // of the account; nil is our own
}

// Create lists c among the open ones and then stores it with its pending events and the callout's body, all or nothing, and flushes c.
// It is Exists when a correlation with that key is stored, which is then unchanged, and Invalid, with nothing written, when something
// is too large to be stored. A call whose answer was lost and that was sent again is recognised.
//
// It takes 2 storage operations; when it is Exists 2 as a rule, and 4 when the other had ended and was off the list.
func (s *Store) Create(ctx context.Context, c *correlation.Correlation, body []byte) error {
	if len(body) > MaxCallout {
		return fmt.Errorf("store correlation: %w", tooLarge("body", fmt.Sprintf("has %d bytes; at most %d fit", len(body), MaxCallout)))
	}
	write := uuid.NewString()
	first, err := correlationRow(c, write, false)
	if err != nil {
		return fmt.Errorf("store correlation: %w", err)
	}
	ops := append(timeline(first, c), calloutRow(c.Key, body))
	row := listing(openList, c.Summary())
	if err := errors.Join(checkTransaction(ops), checkTransaction([]operation{{entity: row}})); err != nil {
		return fmt.Errorf("store correlation: %w", err)
	}

	// Listing again what is listed would write the summary of a new correlation over that of an old one, so it is only inserted.
	err = s.tables.insert(ctx, s.names.Index, row)
	listed := err == nil || errors.Is(err, errRepeated)
	if err != nil && !fault.Is(err, fault.Exists) {
		return fmt.Errorf("list correlation: %w", err)
	}
	etags, err := s.tables.transact(ctx, s.names.Correlations, ops)
	if err == nil {
		c.Flushed(etags[0])
		return nil
	}
	if fault.Is(err, fault.Exists) && (listed || errors.Is(err, errRepeated)) {
		e, seen := s.tables.get(ctx, s.names.Correlations, c.Key.Request, c.Key.Stage)
		if seen == nil && wrote(e, write, c) {
			return nil
		}
		// The listing is new, so the other was not listed: rightly, when it had ended. One that ended stays so, and nothing is lost when
		// this does not work: the sweep finds the listing when it is due.
		if old, read := correlationOf(e); seen == nil && read == nil && old.Settled() {
			_ = s.Unlist(ctx, c.Key)
		}
	}
	return fmt.Errorf("store correlation: %w", err)
}

// timeline returns first and the rows of c's pending events.
func timeline(first operation, c *correlation.Correlation) []operation {
	ops := []operation{first}
	for _, e := range c.Pending() {
		ops = append(ops, eventRow(c.Key, e))
	}
	return ops
}

// wrote says whether e is what this call wrote, and flushes c if so.
func wrote(e entity, write string, c *correlation.Correlation) bool {
	if e.props["Write"] != write {
		return false
	}
	c.Flushed(e.etag)
	return true
}

// Load returns the correlation, or NotFound. One that a newer version wrote is read as far as it is understood. 1 storage operation.
func (s *Store) Load(ctx context.Context, key correlation.Key) (*correlation.Correlation, error) {
	e, err := s.tables.get(ctx, s.names.Correlations, key.Request, key.Stage)
	if err != nil {
		return nil, fmt.Errorf("load correlation: %w", err)
	}
	c, err := correlationOf(e)
	if err != nil {
		return nil, fmt.Errorf("load correlation: %w", err)
	}
	return c, nil
}

// Callout returns the callout's body as it came, or NotFound. 1 storage operation.
func (s *Store) Callout(ctx context.Context, key correlation.Key) ([]byte, error) {
	e, err := s.tables.get(ctx, s.names.Correlations, key.Request, calloutRow(key, nil).row)
	if err != nil {
		return nil, fmt.Errorf("load callout: %w", err)
	}
	body, err := bodyOf(e)
	if err != nil {
		return nil, fmt.Errorf("load callout: %w", err)
	}
	return body, nil
}

// Save stores c and its pending events in one transaction, provided nobody stored it since c was loaded, and flushes c; else it is Conflict
// and nothing is stored. Properties that a newer version wrote are kept. It is Invalid, with nothing written, when something is too large.
// A call whose answer was lost and that was sent again is recognised, as long as nobody stored anything meanwhile. 1 storage operation.
func (s *Store) Save(ctx context.Context, c *correlation.Correlation) error {
	if c.Version == "" {
		return &fault.Error{Op: "save correlation", Reason: fault.Internal, Detail: c.Key.String() + " was never stored"}
	}
	write := uuid.NewString()
	first, err := correlationRow(c, write, true)
	if err != nil {
		return fmt.Errorf("save correlation: %w", err)
	}
	ops := timeline(first, c)
	if err := checkTransaction(ops); err != nil {
		return fmt.Errorf("save correlation: %w", err)
	}
	etags, err := s.tables.transact(ctx, s.names.Correlations, ops)
	switch {
	case err == nil:
		c.Flushed(etags[0])
		return nil
	case fault.Is(err, fault.Conflict) || fault.Is(err, fault.Exists):
		if errors.Is(err, errRepeated) {
			if e, seen := s.tables.get(ctx, s.names.Correlations, c.Key.Request, c.Key.Stage); seen == nil && wrote(e, write, c) {
				return nil
			}
		}
		return &fault.Error{Op: "save correlation", Reason: fault.Conflict, Detail: c.Key.String() + " was changed by somebody else", Err: err}
	default:
		return fmt.Errorf("save correlation: %w", err)
	}
}

// Index makes the lists say what c says. What a newer version wrote to the same row of a list is kept. 1 storage operation; 2 when c is settled:
// it is put on the list of those that ended on the day of c.Since before it is taken off that of the open ones. What a newer version wrote to the
// row of the open ones is not carried over: a list repeats what the correlation says, and there nothing is lost.
func (s *Store) Index(ctx context.Context, c *correlation.Correlation) error {
	list := openList
	if c.Settled() {
		list = endedList(c.Since)
	}
	row := listing(list, c.Summary())
	if err := checkTransaction([]operation{{entity: row}}); err != nil {
		return fmt.Errorf("list correlation: %w", err)
	}
	if err := s.tables.put(ctx, s.names.Index, row); err != nil {
		return fmt.Errorf("list correlation: %w", err)
	}
	if list == openList {
		return nil
	}
	return s.Unlist(ctx, c.Key)
}

// Unlist removes a key from the list of open ones; it need not be there. 1 storage operation.
func (s *Store) Unlist(ctx context.Context, key correlation.Key) error {
	err := s.tables.remove(ctx, s.names.Index, openList, indexRow(key))
	if err != nil && !fault.Is(err, fault.NotFound) {
		return fmt.Errorf("take correlation off the list: %w", err)
	}
	return nil
}

// Postpone changes the due time in the list of open ones, and nothing else; the key need not be there. 1 storage operation.
func (s *Store) Postpone(ctx context.Context, key correlation.Key, due time.Time) error {
	r := record{props: map[string]any{}, writing: true, merging: true}
	r.time("Due", &due)
	err := s.tables.merge(ctx, s.names.Index, entity{partition: openList, row: indexRow(key), props: r.props})
	if err != nil && !fault.Is(err, fault.NotFound) {
		return fmt.Errorf("postpone correlation: %w", err)
	}
	return nil
}

// Due returns up to limit open ones that are due at the given time, in the order of their keys, beginning behind the cursor ("" is the
// beginning), and the cursor of the next page ("" when there is none). One that is listed without a due time is due. It reads the list of
// open ones only: 1 storage operation for each 1000 that are open.
func (s *Store) Due(ctx context.Context, at time.Time, cursor string, limit int) (page []correlation.Summary, next string, err error) {
	return s.list(ctx, query{partition: openList, due: instant(at)}, cursor, limit)
}
