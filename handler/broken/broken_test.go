package broken

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// patience is far longer than any of the runs takes.
const patience = 5 * time.Minute

func TestEachBrokenBuildTurnsItsTestsRed(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("unbroken", func(t *testing.T) { // else it would not be the mutant that makes them fail
		tests := map[string]bool{}
		for _, m := range mutants {
			for _, test := range m.caught {
				tests[test] = true
			}
		}
		names := slices.Sorted(maps.Keys(tests))
		out, err := run(t, root, names)
		for _, name := range names {
			if err != nil || !bytes.Contains(out, []byte("\n--- PASS: "+top(name)+" (")) {
				t.Fatalf("%s does not pass: %v\n%s", name, err, out)
			}
		}
	})
	if t.Failed() {
		return
	}
	t.Run("broken", func(t *testing.T) {
		for _, m := range mutants {
			t.Run(m.name, func(t *testing.T) {
				t.Parallel()
				out, err := run(t, root, m.caught, "-overlay="+m.overlay(t, root))
				switch {
				case err == nil:
					t.Fatalf("nobody noticed; %s passed", strings.Join(m.caught, " and "))
				case bytes.Contains(out, []byte("[build failed]")), bytes.Contains(out, []byte("[setup failed]")):
					t.Fatalf("it does not build, which is no catch:\n%s", out)
				case bytes.Contains(out, []byte("\npanic: ")):
					t.Fatalf("a panic is no catch:\n%s", out)
				}
				for _, name := range m.caught {
					if !bytes.Contains(out, []byte("\n--- FAIL: "+top(name)+" (")) {
						t.Errorf("%s did not notice:\n%s", name, out)
					}
				}
			})
		}
	})
	t.Logf("counts: %d broken builds, each of which turned the tests red that it should", len(mutants))
}

// top is the name of the test function.
func top(test string) string {
	name, _, _ := strings.Cut(test, "/")
	return name
}

// run runs tests of the workflow's in a go command of its own. Its flags are those of this run, which are in the environment: the build cache serves both.
func run(t *testing.T, root string, tests []string, flags ...string) ([]byte, error) {
	t.Helper()
	var patterns []string
	for _, test := range tests {
		name := top(test)
		patterns = append(patterns, "^"+name+"$"+strings.TrimPrefix(test, name))
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	args := append([]string{"test", "-v", "-vet=off", "-run=" + strings.Join(patterns, "|")}, flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, "./handler/workflow")...)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	return append([]byte("\n"), out...), err
}

// overlay writes the mutant's file and what tells the go command to take it in place of the real one.
func (m mutant) overlay(t *testing.T, root string) string {
	t.Helper()
	path := filepath.Join(root, filepath.FromSlash(m.file))
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(source)
	for _, e := range m.edits {
		if n := strings.Count(text, e.from); n != 1 {
			t.Fatalf("%s has changed, and this mutant has to follow: it holds %d times\n%s", m.file, n, e.from)
		}
		text = strings.Replace(text, e.from, e.to, 1)
	}
	dir := t.TempDir()
	mutated, overlay := filepath.Join(dir, filepath.Base(path)), filepath.Join(dir, "overlay.json")
	list, err := json.Marshal(map[string]map[string]string{"Replace": {path: mutated}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{mutated: []byte(text), overlay: list} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return overlay
}

// Whoever reads the promises finds what was broken to test the tests.
func TestTheDocumentationListsEachBrokenBuildAndWhoCatchesIt(t *testing.T) {
	doc, err := os.ReadFile("../../docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mutants {
		if row := m.row(); !bytes.Contains(doc, []byte(row+"\n")) {
			t.Errorf("docs/reliability.md lacks the row\n%s", row)
		}
	}
}

// row is the mutant's in the documentation's table.
func (m mutant) row() string {
	var tests []string
	for _, test := range m.caught {
		name, life, of := strings.Cut(test, "/kinds/")
		name = "`" + top(name) + "`"
		if of {
			name += " (" + strings.ReplaceAll(strings.TrimSuffix(life, "$"), "_", " ") + ")"
		}
		tests = append(tests, name)
	}
	return "| " + m.promise + " | " + m.name + " | " + strings.Join(tests, ", ") + " |"
}
