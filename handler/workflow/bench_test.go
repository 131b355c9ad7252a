package workflow_test

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"os"
	"testing"

	"github.com/google/uuid"

	"ticketbridge/handler/storage"
	"ticketbridge/handler/workflow"
)

// What a callout costs without the wire before it: reading it, remembering it, and the message for Advance. The repeated one is what Entra sends when
// the first answer was late.
func benchmarkAccept(b *testing.B, s *storage.Store, q *storage.Queue) {
	b.Helper()
	body, err := os.ReadFile("../callout/testdata/approved-add.json")
	if err != nil {
		b.Fatal(err)
	}
	const request, stage = "7d1f0a52-6c1e-4e0b-9a3c-000000000002", "c0a6e2d4-52f7-4a9e-8f0e-000000000002"
	another := func() []byte {
		fresh := bytes.ReplaceAll(body, []byte(request), []byte(uuid.NewString()))
		return bytes.ReplaceAll(fresh, []byte(stage), []byte(uuid.NewString()))
	}
	w := &workflow.Workflow{Store: s, Queue: q}
	accept := func(b *testing.B, body []byte, duplicate bool) {
		switch r, err := w.Accept(b.Context(), body); {
		case err != nil:
			b.Error(err)
		case r.Duplicate != duplicate:
			b.Errorf("duplicate is %v", r.Duplicate)
		}
	}
	accept(b, body, false) // makes tables and queue
	b.Run("new", func(b *testing.B) {
		for b.Loop() {
			accept(b, another(), false)
		}
	})
	b.Run("repeated", func(b *testing.B) {
		for b.Loop() {
			accept(b, body, true)
		}
	})
	b.Run("many at once", func(b *testing.B) {
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				accept(b, another(), false)
			}
		})
	})
}

func BenchmarkAcceptEmbedded(b *testing.B) {
	s, q, err := storage.NewEmbedded(storage.DefaultPrefix)
	if err != nil {
		b.Fatal(err)
	}
	benchmarkAccept(b, s, q)
}

func BenchmarkAcceptAzurite(b *testing.B) {
	connection := os.Getenv("AZURITE_CONNECTION_STRING")
	if connection == "" {
		b.Fatal("AZURITE_CONNECTION_STRING is not set: run `make bench`")
	}
	var id [6]byte
	_, _ = rand.Read(id[:])
	s, q, err := storage.NewAzure(storage.Settings{ConnectionString: connection, Prefix: "bench" + hex.EncodeToString(id[:])})
	if err != nil {
		b.Fatal(err)
	}
	benchmarkAccept(b, s, q)
}
