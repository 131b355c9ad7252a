package storage

import (
	"context"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
)

// Open returns up to limit of the open ones in the order of their keys, beginning behind the cursor ("" is the beginning), and the cursor
// of the next page ("" when there is none). A limit of 0 or less is 1000. A cursor that is not one of ours is fault.Invalid.
// 1 storage operation for each 1000.
func (s *Store) Open(ctx context.Context, cursor string, limit int) (page []correlation.Summary, next string, err error) {
	return s.list(ctx, query{partition: openList}, cursor, limit)
}

// Ended returns those that ended on the day of the given time, UTC, and have nothing left to do; else as Open.
func (s *Store) Ended(ctx context.Context, day time.Time, cursor string, limit int) (page []correlation.Summary, next string, err error) {
	return s.list(ctx, query{partition: endedList(day)}, cursor, limit)
}

// Timeline returns the events of a correlation in order; none when there is no such correlation. 1 storage operation for each 1000.
func (s *Store) Timeline(ctx context.Context, key correlation.Key) ([]correlation.Event, error) {
	rows, err := s.all(ctx, s.names.Correlations, query{partition: key.Request, from: key.Stage + "_t_", below: key.Stage + "_u"})
	if err != nil {
		return nil, fmt.Errorf("read timeline: %w", err)
	}
	events := make([]correlation.Event, len(rows))
	for i, e := range rows {
		r := reading(e)
		r.event(&events[i])
		if r.err != nil {
			return nil, fmt.Errorf("read timeline: %w", r.err)
		}
	}
	return events, nil
}

// Stages returns all correlations of one request, in the order of their stage instance ids; none when there is no such request. An id that
// is not a GUID is fault.Invalid. 1 storage operation for each 1000 rows of the request.
func (s *Store) Stages(ctx context.Context, requestID string) ([]*correlation.Correlation, error) {
	request, ok := correlation.GUID(requestID)
	if !ok {
		return nil, &fault.Error{Op: "read request", Reason: fault.Invalid, Field: "requestId", Detail: "is not a GUID"}
	}
	rows, err := s.all(ctx, s.names.Correlations, query{partition: request, record: recordCorrelation})
	if err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	out := make([]*correlation.Correlation, len(rows))
	for i, e := range rows {
		if out[i], err = correlationOf(e); err != nil {
			return nil, fmt.Errorf("read request: %w", err)
		}
	}
	return out, nil
}

// list reads a page of the index. The cursor is the row key of the last one that was given out: it stays good when rows come and go.
//
// One row that cannot be read does not keep the others from being listed. Whose it is says its key: it is listed, as far as it can be read, with
// what is wrong as its reason, until Index writes it anew. A key that is none is left out, and logged.
func (s *Store) list(ctx context.Context, q query, cursor string, limit int) (page []correlation.Summary, next string, err error) {
	if limit <= 0 {
		limit = pageSize
	}
	limit = min(limit, 1<<20)
	if cursor != "" {
		if _, err := indexKey(cursor); err != nil {
			return nil, "", &fault.Error{Op: "read list", Reason: fault.Invalid, Field: "cursor", Detail: err.Error()}
		}
	}
	q.after = cursor
	for {
		q.top = min(pageSize, limit+1-len(page)) // one more than wanted, to see whether there is a next page
		rows, more, err := s.tables.query(ctx, s.names.Index, q)
		if err != nil {
			return nil, "", fmt.Errorf("read list: %w", err)
		}
		for _, e := range rows {
			sum, err := summaryOf(e)
			if err != nil {
				logUnreadable(ctx, s.names.Index, e, err)
			}
			if sum.Key.IsZero() {
				continue
			}
			if len(page) == limit {
				return page, indexRow(page[limit-1].Key), nil
			}
			page = append(page, sum)
		}
		if more == "" {
			return page, "", nil
		}
		q.next = more
	}
}

// logUnreadable says which row cannot be read, and why.
func logUnreadable(ctx context.Context, table string, e entity, err error) {
	zerolog.Ctx(ctx).Error().Str("event", "unreadableRow").Str("table", table).Str("partition", e.partition).Str("row", clip(e.row, 100)).Err(err).Msg("a row in the storage cannot be read")
}

// all reads every entity.
func (s *Store) all(ctx context.Context, table string, q query) ([]entity, error) {
	var out []entity
	for {
		q.top = pageSize
		page, next, err := s.tables.query(ctx, table, q)
		if err != nil {
			return nil, err
		}
		out = append(out, page...)
		if next == "" {
			return out, nil
		}
		q.next = next
	}
}
