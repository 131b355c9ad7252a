package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The golden files show what the rules that are shipped do with each kind of callout: read them when they change.
func TestEachSampleCalloutIsRenderedAsItShould(t *testing.T) {
	t.Parallel()
	var files []string
	for _, dir := range []string{filepath.Join("callout", "testdata"), filepath.Join("testdata", "showcase")} {
		found, err := filepath.Glob(filepath.Join(dir, "*.json"))
		if err != nil || len(found) < 4 {
			t.Fatalf("%d samples in %s, %v", len(found), dir, err)
		}
		files = append(files, found...)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			err := run(t.Context(), []string{"tickets", "render", file, "-f", "../tickets.yaml", "--received", "2026-03-01T12:00:00Z"}, nil, nil, &out, &out)
			got := out.String()
			if err != nil {
				got += err.Error() + "\n"
			}
			path := filepath.Join("testdata", "render", name+".golden")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("it is rendered otherwise (-want +got); -update writes it anew:\n%s", diff)
			}
		})
	}
}
