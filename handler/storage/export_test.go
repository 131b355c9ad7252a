package storage

import (
	"context"

	"ticketbridge/handler/correlation"
)

// Properties and SetProperties show and change the row of a correlation, as another version of the handler would.

func (s *Store) Properties(ctx context.Context, k correlation.Key) (map[string]any, error) {
	e, err := s.tables.get(ctx, s.names.Correlations, k.Request, k.Stage)
	return e.props, err
}

func (s *Store) SetProperties(ctx context.Context, k correlation.Key, props map[string]any) error {
	return s.tables.merge(ctx, s.names.Correlations, entity{partition: k.Request, row: k.Stage, props: props})
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
