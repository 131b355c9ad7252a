package ticket

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Each faulty file has beside it, in a .txt, the message that a person gets for it: read them when they change.
func TestAFaultyFileIsRefusedWithEveryErrorAndItsPlace(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("testdata", "faulty", "*.yaml"))
	if err != nil || len(files) < 25 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			rules, err := Load(filepath.Base(file), source)
			if err == nil || rules != nil {
				t.Fatal("it is taken")
			}
			text := err.Error() + "\n"
			want := strings.TrimSuffix(file, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(want, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			golden, err := os.ReadFile(want)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(golden), text); diff != "" {
				t.Errorf("the message differs (-want +got); -update writes it anew:\n%s", diff)
			}
		})
	}
}
