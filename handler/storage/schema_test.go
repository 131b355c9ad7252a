package storage_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/storage"
	"ticketbridge/handler/storage/conformance"
	"ticketbridge/handler/workflow"
)

var update = flag.Bool("update", false, "write the golden file of this schema anew")

// A golden file has the rows as a version of the handler stores them, and what it reads from them. Those of earlier schemas stay as they are.
type golden struct {
	Rows map[string]map[string]map[string]map[string]string // by table, partition, row and name: the type, and behind a space the value
	Read contents
}

// contents are what the rows mean.
type contents struct {
	Correlations []*correlation.Correlation
	Timelines    [][]correlation.Event
	Callouts     []string
	Open         []correlation.Summary
	Ended        []correlation.Summary
	Mark         workflow.Mark
	Unreadable   []workflow.Unreadable
}

// The two that are in each golden file.
var (
	goldenOpen  = correlation.Key{Request: "7d1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a11", Stage: "c0a6e2d4-52f7-4a9e-8f0e-1b6f9d3c2e77"}
	goldenEnded = correlation.Key{Request: "7d1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a11", Stage: "e6a0b1c9-0b44-4f1c-a2de-55a7c1f6f0b3"}
)

func schemaFile(version int) string {
	return filepath.Join("testdata", fmt.Sprintf("schema-%d.json", version))
}

// A failure means that rows are stored in another way than before. If older binaries and those to come can work with them all the same, as with a new
// property, write the file anew with -update; else count correlation.SchemaVersion up, which makes a new file beside the old.
func TestRowsAreStoredAsTheGoldenFileOfTheirSchemaShows(t *testing.T) {
	t.Parallel()
	s, _ := embedded(t)
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	c := conformance.Full(goldenOpen, 0)
	c.Schema, c.State = correlation.SchemaVersion, correlation.Open
	for i := range c.Tickets {
		c.Tickets[i].Newer = nil
	}
	must(s.Create(ctx, c, []byte(`{"Stage":"assignmentRequestApproved"}`)))
	c.Note(base.Add(time.Minute), "seen <again>", "invocation-2")
	must(s.Save(ctx, c))
	must(s.Index(ctx, c))
	must(s.Postpone(ctx, c.Key, base.Add(time.Hour)))
	c = newCorrelation()
	c.Key = goldenEnded
	must(s.Create(ctx, c, nil))
	must(c.Move(correlation.Expired, base.Add(24*time.Hour), "too late", "invocation-3"))
	must(s.Save(ctx, c))
	must(s.Index(ctx, c))
	must(s.SaveMark(ctx, &workflow.Mark{Cursor: "cursor", Begun: base, Ended: base.Add(time.Second), Purged: base.Add(-90 * 24 * time.Hour)}))
	must(s.KeepUnreadable(ctx, workflow.Unreadable{ID: "id", Text: "text", InsertedOn: base, KeptOn: base.Add(time.Minute), Reason: "names nothing"}))

	got := golden{Rows: rowsOf(t, s), Read: contentsOf(t, s)}
	file := schemaFile(correlation.SchemaVersion)
	if *update {
		b, err := json.MarshalIndent(got, "", "\t")
		must(err)
		must(os.WriteFile(file, append(b, '\n'), 0o600))
	}
	if d := cmp.Diff(readGolden(t, file).Rows, got.Rows); d != "" {
		t.Errorf("stored otherwise than in %s (-file +now):\n%s", file, d)
	}
}

func TestRowsOfEverySchemaAreRead(t *testing.T) {
	t.Parallel()
	for version := 1; version <= correlation.SchemaVersion; version++ {
		file := readGolden(t, schemaFile(version))
		s, _ := embedded(t)
		for table, partitions := range file.Rows {
			for partition, rows := range partitions {
				for row, props := range rows {
					values := map[string]any{}
					for name, p := range props {
						values[name] = valueOf(t, p)
					}
					if err := s.SetRow(t.Context(), table, partition, row, values); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		if d := cmp.Diff(file.Read, contentsOf(t, s), cmpopts.IgnoreUnexported(correlation.Correlation{}), cmpopts.EquateEmpty()); d != "" {
			t.Errorf("schema %d is read otherwise (-file +now):\n%s", version, d)
		}
	}
}

func readGolden(t *testing.T, file string) (g golden) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &g)
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func rowsOf(t *testing.T, s *storage.Store) map[string]map[string]map[string]map[string]string {
	t.Helper()
	out := map[string]map[string]map[string]map[string]string{}
	for table, partitions := range s.Everything(context.WithoutCancel(t.Context())) {
		out[table] = map[string]map[string]map[string]string{}
		for partition, rows := range partitions {
			out[table][partition] = map[string]map[string]string{}
			for row, props := range rows {
				out[table][partition][row] = map[string]string{}
				for name, v := range props {
					if name == "Write" {
						v = "an id of its own for each write"
					}
					out[table][partition][row][name] = propertyOf(t, v)
				}
			}
		}
	}
	return out
}

func propertyOf(t *testing.T, v any) string {
	t.Helper()
	switch v := v.(type) {
	case string, bool, int32, int64:
		return fmt.Sprintf("%T %v", v, v)
	case []byte:
		return "bytes " + string(v)
	case time.Time:
		return "time " + v.Format(time.RFC3339Nano)
	default:
		t.Fatalf("a %T is stored", v)
		return ""
	}
}

func valueOf(t *testing.T, property string) any {
	t.Helper()
	kind, text, _ := strings.Cut(property, " ")
	var out any
	var err error
	switch kind {
	case "string":
		out = text
	case "bytes":
		out = []byte(text)
	case "time":
		out, err = time.Parse(time.RFC3339Nano, text)
	case "bool":
		out, err = strconv.ParseBool(text)
	case "int32":
		var n int64
		n, err = strconv.ParseInt(text, 10, 32)
		out = int32(n) //nolint:gosec // ParseInt has looked
	case "int64":
		out, err = strconv.ParseInt(text, 10, 64)
	default:
		t.Fatalf("there is no type %q", kind)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func contentsOf(t *testing.T, s *storage.Store) (out contents) {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []correlation.Key{goldenOpen, goldenEnded} {
		c, err := s.Load(ctx, key)
		must(err)
		c.Version = ""
		events, err := s.Timeline(ctx, key)
		must(err)
		body, err := s.Callout(ctx, key)
		must(err)
		out.Correlations, out.Timelines, out.Callouts = append(out.Correlations, c), append(out.Timelines, events), append(out.Callouts, string(body))
	}
	var err error
	out.Open, _, err = s.Open(ctx, "", 0)
	must(err)
	out.Ended, _, err = s.Ended(ctx, base.Add(24*time.Hour), "", 0)
	must(err)
	out.Mark, err = s.Mark(ctx)
	must(err)
	out.Mark.Version = ""
	out.Unreadable, err = s.Unreadable(ctx)
	must(err)
	return out
}
