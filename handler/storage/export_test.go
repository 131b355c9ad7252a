package storage

import (
	"context"
)

// Rows and SetRow show and change what is stored, as another version of the handler would.

func (s *Store) Rows(ctx context.Context, table, partition string) (map[string]map[string]any, error) {
	rows, err := s.all(ctx, table, query{partition: partition})
	out := map[string]map[string]any{}
	for _, e := range rows {
		out[e.row] = e.props
	}
	return out, err
}

func (s *Store) SetRow(ctx context.Context, table, partition, row string, props map[string]any) error {
	return s.tables.put(ctx, table, entity{partition: partition, row: row, props: props})
}

// Names returns the names of the tables.
func (s *Store) Names() Names { return s.names }

// Drop deletes what a test made in an account.
func Drop(ctx context.Context, s *Store, q *Queue) {
	t, _ := s.tables.(*azureTables)
	_, _ = t.service.DeleteTable(ctx, s.names.Correlations, nil)
	_, _ = t.service.DeleteTable(ctx, s.names.Index, nil)
	a, _ := q.queues.(*azureQueues)
	_, _ = a.service.NewQueueClient(q.name).Delete(ctx, nil)
	_, _ = a.service.NewQueueClient(q.name+"-poison").Delete(ctx, nil)
}

// Everything returns all rows of an embedded storage, by table, partition and row.
func (s *Store) Everything(ctx context.Context) map[string]map[string]map[string]map[string]any {
	out := map[string]map[string]map[string]map[string]any{}
	for _, table := range []string{s.names.Correlations, s.names.Index} {
		out[table] = map[string]map[string]map[string]any{}
		rows, _ := s.all(ctx, table, query{end: "~"})
		for _, e := range rows {
			if out[table][e.partition] == nil {
				out[table][e.partition] = map[string]map[string]any{}
			}
			out[table][e.partition][e.row] = e.props
		}
	}
	return out
}
