package ticket

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ticketbridge/handler/callout"
)

var update = flag.Bool("update", false, "write the golden files anew")

// sample reads one of the callouts that the callout package is tested with.
func sample(t *testing.T, name string) *callout.Callout {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("..", "callout", "testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := callout.Parse(body)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var deadline = time.Date(2026, 3, 15, 13, 4, 5, 0, time.FixedZone("", 3600))

// The golden files show what people find in ServiceNow for each kind of callout: read them when they change.
func TestTicketsReadAsTheyShould(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("..", "callout", "testdata", "*.json"))
	if err != nil || len(files) < 10 {
		t.Fatalf("%d samples, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		if strings.HasPrefix(name, "connection-test") {
			continue // never gets here
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := sample(t, name)
			var until time.Time
			if c.WaitsForResume() {
				until = deadline
			}
			choice, err := BuiltIn().Choose(c, until)
			if err != nil {
				t.Fatal(err)
			}
			got := golden(choice)
			path := filepath.Join("testdata", name+".golden")
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
				t.Errorf("ticket differs (-want +got); -update writes it anew:\n%s", diff)
			}
		})
	}
}

func golden(c Choice) string {
	var b strings.Builder
	b.WriteString("rule: " + c.Rule + "\non rejected: " + c.OnRejected + "\n")
	for _, d := range c.Drafts {
		text := d.Fields["description"]
		delete(d.Fields, "description")
		rest, _ := json.MarshalIndent(d.Fields, "", "  ")
		b.WriteString("\n=== " + d.Entry + ", table " + d.Table + "\n" + string(rest) + "\n")
		for _, column := range slices.Sorted(maps.Keys(d.Users)) {
			fmt.Fprintf(&b, "%s: the user called %q, or else with the e-mail address %q\n", column, d.Users[column].PrincipalName, d.Users[column].Email)
		}
		b.WriteString("--- description\n" + text + "\n")
	}
	return b.String()
}
