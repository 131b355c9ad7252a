package storage

import (
	"fmt"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
)

// Bulk puts n correlations into an embedded storage, in the order of their keys: number i is made by pattern, which is called once for each group of
// perGroup and gives all of that group their contents. They take some 700 bytes each: rows that are stored are never changed, so they share their properties.
func (s *Store) Bulk(from, n, perGroup int, pattern func(group int) *correlation.Correlation) {
	through, _ := s.tables.(throughTables)
	m, _ := through.tables.(*memoryTables)
	m.mu.Lock()
	defer m.mu.Unlock()
	stage := correlation.Key{Stage: "c0a6e2d4-52f7-4a9e-8f0e-1b6f9d3c2e77"}
	var rows []entity // of one correlation
	var list *partition
	var listed entity
	for i := from; i < from+n; i++ {
		if (i-from)%perGroup == 0 {
			c := pattern((i - from) / perGroup)
			c.Key = stage
			first, _ := correlationRow(c, "bulk", false)
			ops := append(timeline(first, c), calloutRow(stage, []byte(`{"Stage":"assignmentRequestApproved"}`)))
			rows = rows[:0]
			for _, op := range []int{0, len(ops) - 1} { // in the order of row keys: state, callout, events
				rows = append(rows, ops[op].entity)
			}
			for _, op := range ops[1 : len(ops)-1] {
				rows = append(rows, op.entity)
			}
			for j := range rows {
				rows[j] = m.stamp(rows[j])
			}
			if listed = listing(openList, c.Summary()); c.Settled() {
				listed = listing(endedList(c.Since), c.Summary())
			}
			listed = m.stamp(listed)
			list = m.find(s.names.Index, listed.partition)
		}
		key := correlation.Key{Request: BulkRequest(i), Stage: stage.Stage}
		of := make([]entity, len(rows))
		p := m.find(s.names.Correlations, key.Request)
		p.rows = make([]*entity, len(rows))
		for j, e := range rows {
			e.partition = key.Request
			of[j] = e
			p.rows[j] = &of[j]
		}
		e := listed
		e.row = indexRow(key)
		list.set(e)
	}
}

// BulkRequest is the request id of number i.
func BulkRequest(i int) string { return fmt.Sprintf("%08x-0000-4000-8000-000000000000", i) }

// OpenPattern is the contents of one that waits for its ticket and is due at the given time; EndedPattern of one that ended.
func OpenPattern(due time.Time) *correlation.Correlation {
	c := correlation.New(correlation.Key{}, due.Add(-time.Hour), "callout received", "invocation")
	c.Stage, c.RequestType, c.PackageName, c.Waits = "assignmentRequestApproved", "userAdd", "Sales tools", true
	_ = c.Move(correlation.Opening, due.Add(-time.Hour), "about to open a ticket", "invocation")
	c.Tickets = []correlation.Ticket{{Entry: "ticket", Table: "sc_request", SysID: "9d385017c611228701d22104cc95c371", Number: "REQ0010001", Outcome: correlation.Pending}}
	_ = c.Move(correlation.Open, due.Add(-time.Hour), "the ticket is open", "invocation")
	c.Due = due
	return c
}

func EndedPattern(at time.Time) *correlation.Correlation {
	c := OpenPattern(at)
	c.Tickets[0].Outcome, c.Outcome = correlation.Fulfilled, correlation.Fulfilled
	_ = c.Move(correlation.Closed, at, "the ticket has closed", "invocation")
	_ = c.Move(correlation.Resuming, at, "about to resume", "invocation")
	_ = c.Move(correlation.Resumed, at, "resumed", "invocation")
	c.LastReason = fault.Reason("")
	return c
}
