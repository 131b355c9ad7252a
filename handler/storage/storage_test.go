package storage_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/uuid"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/storage"
	"ticketbridge/handler/storage/conformance"
	"ticketbridge/handler/workflow"
)

var (
	_ workflow.Store    = (*storage.Store)(nil)
	_ workflow.Queue    = (*storage.Queue)(nil)
	_ conformance.Store = (*storage.Store)(nil)
	_ conformance.Queue = (*storage.Queue)(nil)
)

func TestTheEmbeddedStorageKeepsEveryRule(t *testing.T) {
	t.Parallel()
	conformance.Run(t, func(t *testing.T) conformance.Backend {
		t.Helper()
		return backend(embedded(t))
	})
}

func TestTheAzureStorageKeepsEveryRule(t *testing.T) {
	t.Parallel()
	azurite(t)
	conformance.Run(t, func(t *testing.T) conformance.Backend {
		t.Helper()
		return backend(azure(t, nil))
	})
}

func backend(s *storage.Store, q *storage.Queue) conformance.Backend {
	return conformance.Backend{
		Store: s, Queue: q, QueueName: q.Name(), Queues: q.Queues(), Names: s.Names(), Rows: s.Rows, SetRow: s.SetRow,
	}
}

func embedded(t testing.TB) (*storage.Store, *storage.Queue) {
	t.Helper()
	s, q, err := storage.NewEmbedded("test")
	if err != nil {
		t.Fatal(err)
	}
	return s, q
}

// azurite returns the connection string of the emulator that `make test` starts.
func azurite(t testing.TB) string {
	t.Helper()
	s := os.Getenv("AZURITE_CONNECTION_STRING")
	if s == "" {
		if testing.Short() {
			t.Skip("-short: without Azurite")
		}
		t.Fatal("AZURITE_CONNECTION_STRING is not set: run `make test`, which starts Azurite, or `go test -short`")
	}
	return s
}

// azure returns a storage on Azurite that nobody else uses.
func azure(t testing.TB, transport policy.Transporter) (*storage.Store, *storage.Queue) {
	t.Helper()
	s, q, err := storage.NewAzure(storage.Settings{
		ConnectionString: azurite(t), Transport: transport, Prefix: "t" + strings.ReplaceAll(uuid.NewString(), "-", ""),
		// The emulator has one thread, and a suite asks it many things at once.
		Retry: policy.RetryOptions{MaxRetries: 2, RetryDelay: 10 * time.Millisecond, TryTimeout: time.Minute},
	})
	if err != nil {
		t.Fatal(err)
	}
	if transport == nil { // a test with a transport of its own has its own ideas of which calls go through
		t.Cleanup(func() { storage.Drop(context.Background(), s, q) })
	}
	return s, q
}

var base = time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)

func newCorrelation() *correlation.Correlation {
	c := correlation.New(correlation.Key{Request: uuid.NewString(), Stage: uuid.NewString()}, base, "callout received", "invocation")
	c.Stage, c.RequestType, c.PackageName, c.Due = "assignmentRequestApproved", "userAdd", "Sales tools", base.Add(time.Minute)
	return c
}

func create(t testing.TB, s *storage.Store, c *correlation.Correlation) *correlation.Correlation {
	t.Helper()
	if err := s.Create(context.Background(), c, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	return c
}
