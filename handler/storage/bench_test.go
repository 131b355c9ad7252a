package storage_test

import (
	"testing"

	"ticketbridge/handler/storage"
)

// What accepting a callout costs: Create, and the message for Advance.
func benchmarkAccept(b *testing.B, s *storage.Store, q *storage.Queue) {
	b.Helper()
	body := make([]byte, 4<<10)
	accept := func() {
		if err := s.Create(b.Context(), newCorrelation(), body); err != nil {
			b.Error(err)
		}
		if err := q.Put(b.Context(), `{"request":"7d1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a11","stage":"c0a6e2d4-52f7-4a9e-8f0e-1b6f9d3c2e77","why":"callout"}`, 0); err != nil {
			b.Error(err)
		}
	}
	accept() // makes tables and queue
	b.Run("alone", func(b *testing.B) {
		for b.Loop() {
			accept()
		}
	})
	b.Run("many", func(b *testing.B) {
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				accept()
			}
		})
	})
}

func BenchmarkAcceptEmbedded(b *testing.B) {
	s, q := embedded(b)
	benchmarkAccept(b, s, q)
}

func BenchmarkAcceptAzurite(b *testing.B) {
	s, q := azure(b, nil)
	benchmarkAccept(b, s, q)
}

func BenchmarkSave(b *testing.B) {
	s, _ := embedded(b)
	c := create(b, s, newCorrelation())
	for b.Loop() {
		c.Note(base, "seen", "")
		if err := s.Save(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
}
