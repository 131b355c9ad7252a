package storage_test

import "testing"

// What a step of the workflow costs in the storage, without a wire. BenchmarkAccept of package workflow has what a callout costs, on both storages.
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
