package storage

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"ticketbridge/handler/fault"
)

// drivers returns the tables of both storages, so that the embedded one is held against the other call by call; with -short, against itself.
func drivers(t *testing.T) map[string]tables {
	t.Helper()
	out := map[string]tables{"embedded": newMemoryTables()}
	connection := os.Getenv("AZURITE_CONNECTION_STRING")
	switch {
	case connection != "":
		s, _, err := NewAzure(Settings{ConnectionString: connection, Prefix: "x"})
		if err != nil {
			t.Fatal(err)
		}
		out["azure"] = s.tables
	case testing.Short():
		out["itself"] = newMemoryTables()
	default:
		t.Fatal("AZURITE_CONNECTION_STRING is not set: run `make test`, which starts Azurite, or `go test -short`")
	}
	return out
}

func tableName() string { return "d" + strings.ReplaceAll(uuid.NewString(), "-", "") }

func props(kv ...any) map[string]any {
	out := map[string]any{}
	for i := 0; i < len(kv); i += 2 {
		out[kv[i].(string)] = kv[i+1]
	}
	return out
}

func TestBothTablesTakeAndRefuseTheSame(t *testing.T) {
	t.Parallel()
	many := func(n int) map[string]any {
		out := map[string]any{}
		for i := range n {
			out[fmt.Sprint("P", i)] = "x"
		}
		return out
	}
	large := func(n int) map[string]any { // of 64 KiB each
		out := map[string]any{}
		for i := range n {
			out[fmt.Sprint("P", i)] = bytes.Repeat([]byte{1}, 64<<10)
		}
		return out
	}
	inserts := func(n int, p map[string]any) []operation {
		out := make([]operation, n)
		for i := range n {
			out[i] = operation{entity: entity{partition: "p", row: fmt.Sprintf("r%03d", i), props: p}}
		}
		return out
	}
	for name, c := range map[string]struct {
		ops  []operation
		want fault.Reason
	}{
		"one":                         {inserts(1, props("A", "x")), ""},
		"a hundred":                   {inserts(100, nil), ""},
		"a hundred and one":           {inserts(101, nil), fault.Invalid},
		"a long string":               {inserts(1, props("A", strings.Repeat("x", 32<<10))), ""},
		"a longer string":             {inserts(1, props("A", strings.Repeat("x", 32<<10+1))), fault.Invalid},
		"a long binary":               {inserts(1, props("A", make([]byte, 64<<10))), ""},
		"a longer binary":             {inserts(1, props("A", make([]byte, 64<<10+1))), fault.Invalid},
		"15 × 64 KiB":                 {inserts(1, large(15)), ""},
		"16 × 64 KiB":                 {inserts(1, large(16)), fault.Invalid},
		"a transaction of 5 MB":       {inserts(5, large(15)), fault.Invalid},
		"252 properties":              {inserts(1, many(252)), ""},
		"253 properties":              {inserts(1, many(253)), fault.Invalid},
		"a slash in a key":            {[]operation{{entity: entity{partition: "p", row: "a/b"}}}, fault.Invalid},
		"a control character":         {[]operation{{entity: entity{partition: "p", row: "a\x01b"}}}, fault.Invalid},
		"a key of 512":                {[]operation{{entity: entity{partition: "p", row: strings.Repeat("k", 512)}}}, ""},
		"a key of 513":                {[]operation{{entity: entity{partition: "p", row: strings.Repeat("k", 513)}}}, fault.Invalid},
		"the same row twice":          {append(inserts(1, nil), inserts(1, nil)...), fault.Internal},
		"a merge into nothing":        {[]operation{{does: merges, entity: entity{partition: "p", row: "no", etag: `W/"datetime'2026-11-24T09%3A00%3A00.0000000Z'"`}}}, fault.NotFound},
		"a time before 1601":          {inserts(1, props("A", time.Date(1600, 12, 31, 0, 0, 0, 0, time.UTC))), fault.Invalid},
		"an insert and a merge of it": {append(inserts(1, nil), operation{does: merges, entity: entity{partition: "p", row: "no", etag: `W/"x"`}}), fault.NotFound},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for kind, d := range drivers(t) {
				if kind == "azure" && c.want != "" && c.want != fault.NotFound {
					// Nothing that the service would refuse is sent to it; what the emulator makes of it is of no interest.
					if c.want == fault.Invalid && checkTransaction(c.ops) == nil {
						t.Errorf("%s would be sent", name)
					}
					continue
				}
				table := tableName()
				etags, err := d.transact(t.Context(), table, c.ops)
				if fault.ReasonOf(err) != c.want || (err == nil && len(etags) != len(c.ops)) {
					t.Errorf("%s: %v, %d versions", kind, err, len(etags))
				}
				if err == nil {
					continue
				}
				if page, _, err := d.query(t.Context(), table, query{partition: "p", top: 10}); err != nil || len(page) != 0 {
					t.Errorf("%s: %d rows are left, %v", kind, len(page), err)
				}
			}
		})
	}
}

func TestBothTablesDeleteOnlyTheVersionThatIsMeant(t *testing.T) {
	t.Parallel()
	for kind, d := range drivers(t) {
		table := tableName()
		rows := func() int {
			page, _, err := d.query(t.Context(), table, query{partition: "p", top: 10, keys: true})
			if err != nil {
				t.Fatal(kind, err)
			}
			return len(page)
		}
		etags, err := d.transact(t.Context(), table, []operation{{entity: entity{partition: "p", row: "a"}}, {entity: entity{partition: "p", row: "b"}}})
		if err != nil {
			t.Fatal(kind, err)
		}
		if err := d.merge(t.Context(), table, entity{partition: "p", row: "b", props: props("A", "changed")}); err != nil {
			t.Fatal(kind, err)
		}
		remove := func(aVersion, bVersion string) error {
			_, err := d.transact(t.Context(), table, []operation{
				{does: deletes, entity: entity{partition: "p", row: "a", etag: aVersion}}, {does: deletes, entity: entity{partition: "p", row: "b", etag: bVersion}},
			})
			return err
		}
		if err := remove(etags[0], etags[1]); !fault.Is(err, fault.Conflict) || rows() != 2 {
			t.Errorf("%s: an old version: %v, %d rows are left", kind, err, rows())
		}
		if err := remove(etags[0], ""); err != nil || rows() != 0 {
			t.Errorf("%s: the version, and any: %v, %d rows are left", kind, err, rows())
		}
		if err := remove(etags[0], ""); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: what is gone: %v", kind, err)
		}
	}
}

// TestBothTablesDoTheSame lets the two do the same random things, and compares every answer.
func TestBothTablesDoTheSame(t *testing.T) {
	t.Parallel()
	both := drivers(t)
	names := slices.Sorted(maps.Keys(both))
	ctx := context.Background()
	values := rapid.OneOf(
		rapid.StringMatching(`[a-zA-Z0-9 é𝄞'"<>&\\]{0,12}`).AsAny(), rapid.Bool().AsAny(), rapid.Int32().AsAny(), rapid.Int64().AsAny(),
		rapid.SliceOfN(rapid.Byte(), 0, 9).AsAny(), rapid.Map(rapid.Int64Range(-11e9, 2e11), func(s int64) time.Time { return time.Unix(s, 0).UTC() }).AsAny(),
	)
	rapid.Check(t, func(t *rapid.T) {
		table := tableName()
		etags := map[string]map[string]string{} // by driver and row, as last seen
		for _, n := range names {
			etags[n] = map[string]string{}
		}
		row := rapid.SampledFrom([]string{"a", "b", "c", "d"})
		properties := rapid.MapOfN(rapid.SampledFrom([]string{"A", "B", "C", "Record"}), values, 0, 3)
		agree := func(what string, f func(name string, d tables) (any, error)) {
			want, wantErr := f(names[len(names)-1], both[names[len(names)-1]])
			got, err := f(names[0], both[names[0]])
			if fault.ReasonOf(err) != fault.ReasonOf(wantErr) {
				t.Fatalf("%s: %v, and %v", what, wantErr, err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Fatalf("%s: %s", what, d)
			}
		}
		steps := rapid.IntRange(1, 12).Draw(t, "steps")
		for range steps {
			r, p := row.Draw(t, "row"), properties.Draw(t, "properties")
			pk := rapid.SampledFrom([]string{"p", "p", "p-1", "p-2", "q"}).Draw(t, "partition")
			e := entity{partition: pk, row: r, props: p}
			key := func(row string) string { return pk + "/" + row }
			switch what := rapid.SampledFrom([]string{"insert", "put", "merge", "remove", "transact", "get"}).Draw(t, "what"); what {
			case "insert":
				agree(what, func(_ string, d tables) (any, error) { return nil, d.insert(ctx, table, e) })
			case "put":
				agree(what, func(_ string, d tables) (any, error) { return nil, d.put(ctx, table, e) })
			case "merge":
				agree(what, func(_ string, d tables) (any, error) { return nil, d.merge(ctx, table, e) })
			case "remove":
				agree(what, func(_ string, d tables) (any, error) { return nil, d.remove(ctx, table, pk, r) })
			case "get":
				agree(what, func(n string, d tables) (any, error) {
					got, err := d.get(ctx, table, pk, r)
					etags[n][key(r)] = got.etag
					return got.props, err
				})
			case "transact":
				other := row.Filter(func(o string) bool { return o != r }).Draw(t, "other row")
				does := rapid.SampledFrom([]verb{inserts, merges, deletes}).Draw(t, "does")
				second := rapid.SampledFrom([]verb{inserts, deletes}).Draw(t, "second does")
				agree(what, func(n string, d tables) (any, error) {
					first := operation{does: does, entity: e}
					if first.etag = etags[n][key(r)]; first.etag == "" && does == merges {
						first.does = inserts
					}
					got, err := d.transact(ctx, table, []operation{first, {does: second, entity: entity{partition: pk, row: other, props: p}}})
					if err == nil {
						etags[n][key(r)], etags[n][key(other)] = got[0], got[1]
					}
					return len(got), err
				})
			}
			queries := []query{
				{partition: "p", top: 10},
				{partition: "p", from: "b", below: "d", top: 10},
				{partition: "p", after: "a", record: "x", top: 10},
				{partition: "r", top: 10},
				{first: "p-", end: "p-2", top: 10},
				{first: "p", end: "q", keys: true, top: 3},
				{first: "p", end: "r", from: "b", below: "d", top: 2},
			}
			for _, q := range rapid.Permutation(queries).Draw(t, "queries")[:2] {
				agree("query", func(_ string, d tables) (any, error) { return pages(ctx, d, table, q) })
			}
		}
	})
}

// pages returns what a query selects, page by page.
func pages(ctx context.Context, d tables, table string, q query) ([][]any, error) {
	var out [][]any
	for {
		page, next, err := d.query(ctx, table, q)
		if err != nil {
			return nil, err
		}
		rows := []any{}
		for _, e := range page {
			rows = append(rows, []any{e.partition, e.row, e.props})
		}
		out = append(out, rows)
		if next == "" {
			return out, nil
		}
		q.next = next
	}
}

func TestTheEmbeddedQueueKeepsTimeByTheClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, q, err := NewEmbedded("test")
		if err != nil {
			t.Fatal(err)
		}
		const day = 24 * time.Hour
		got := func(invisible time.Duration) []QueueMessage {
			t.Helper()
			m, err := q.Queues().Get(t.Context(), q.Name(), 32, invisible)
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		for _, delay := range []time.Duration{3 * time.Second, 7 * day, 0} {
			if err := q.Put(t.Context(), delay.String(), delay); err != nil {
				t.Fatal(err)
			}
		}
		if m := got(10 * time.Second); len(m) != 1 {
			t.Fatalf("at once: %v", m)
		}
		time.Sleep(3*time.Second - 1)
		if m := got(time.Second); len(m) != 0 {
			t.Errorf("too early: %v", m)
		}
		time.Sleep(time.Nanosecond)
		if m := got(10 * time.Second); len(m) != 1 || m[0].DequeueCount != 1 {
			t.Errorf("after its delay: %v", m)
		}
		time.Sleep(10 * time.Second)
		if m := got(day); len(m) != 2 || m[0].DequeueCount != 2 {
			t.Errorf("after they were hidden: %v", m)
		}
		time.Sleep(7*day - 13*time.Second)
		if m := got(2 * day); len(m) != 2 || m[0].DequeueCount+m[1].DequeueCount != 4 {
			t.Errorf("a week later, when the first has expired: %v", m)
		}
		time.Sleep(7*day - 1)
		if m := got(time.Second); len(m) != 1 {
			t.Errorf("shortly before the last expires: %v", m)
		}
		time.Sleep(time.Second)
		if m := got(time.Second); len(m) != 0 {
			t.Errorf("after the last expired: %v", m)
		}
	})
}

func TestTheEmbeddedTablesHandOutCopies(t *testing.T) {
	t.Parallel()
	m := newMemoryTables()
	b := []byte("abc")
	in := entity{partition: "p", row: "r", props: props("B", b)}
	if err := m.insert(t.Context(), "t", in); err != nil {
		t.Fatal(err)
	}
	b[0], in.props["C"] = 'x', "new"
	for range 2 {
		e, err := m.get(t.Context(), "t", "p", "r")
		if err != nil || len(e.props) != 1 || string(e.props["B"].([]byte)) != "abc" {
			t.Fatalf("%v, %v", e.props, err)
		}
		e.props["B"].([]byte)[0] = 'y'
		e.props["D"] = 1
		page, _, _ := m.query(t.Context(), "t", query{partition: "p", top: 1})
		page[0].props["B"].([]byte)[1] = 'y'
	}
}

func TestSizesAreCountedInUTF16(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringOf(rapid.RuneFrom([]rune("aé漢𝄞"))).Draw(t, "s")
		most := rapid.IntRange(2, 9).Draw(t, "most")
		parts := chunks(s, most)
		if strings.Join(parts, "") != s {
			t.Fatalf("%q was cut into %q", s, parts)
		}
		for i, p := range parts {
			if n := units(p); n > most || n == 0 || (i < len(parts)-1 && n < most-1) {
				t.Fatalf("%q has %d units, at most %d", p, n, most)
			}
		}
		c := clip(s, most)
		if units(c) > most || (units(s) <= most && c != s) {
			t.Fatalf("%q was clipped to %q at %d", s, c, most)
		}
	})
}
