package infra_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// logged is queries/logged.json: of each event what its lines held in a run of the built handler, as far as a query names it. The tests of handler/lifecycle hold it against
// such a run, and write it anew with -update.
type logged map[string]map[string]struct {
	Type   string   `json:"type"`
	Values []string `json:"values"` // of those that are words
}

// A query is a file of queries/alerts or queries/workbook.
type query struct {
	name, text string
}

var (
	oneEvent   = regexp.MustCompile(`tostring\(line\.event\) == "(\w+)"`)
	someEvents = regexp.MustCompile(`tostring\(line\.event\) in \(([^)]*)\)`)
	mention    = regexp.MustCompile(`\bline(\.\w+|\[)`)
	asType     = regexp.MustCompile(`\b(\w+)\(line(?:\.(\w+)|\["(\w+)"\])\)`)
	compared   = regexp.MustCompile(`(?:tostring\(line\.(\w+)\)|\b(state)) (==|!=|in|!in|startswith) \(?("[^"]*"(?:, "[^"]*")*)`)
	word       = regexp.MustCompile(`"([^"]*)"`)
)

// What a conversion takes, by its name in the query language.
var takes = map[string]string{"tostring": "string", "toint": "number", "tolong": "number", "todouble": "number", "tobool": "bool"}

func TestTheQueriesAskForWhatTheHandlerLogs(t *testing.T) {
	t.Parallel()
	record := recorded(t)
	for _, q := range queries(t) {
		t.Run(q.name, func(t *testing.T) {
			t.Parallel()
			for _, wrong := range q.judge(record) {
				t.Error(wrong)
			}
		})
	}
}

// judge says what in a query the record does not have.
func (q query) judge(record logged) (wrong []string) {
	var events []string
	for _, m := range oneEvent.FindAllStringSubmatch(q.text, -1) {
		events = append(events, m[1])
	}
	for _, m := range someEvents.FindAllStringSubmatch(q.text, -1) {
		for _, v := range word.FindAllStringSubmatch(m[1], -1) {
			events = append(events, v[1])
		}
	}
	if len(events) == 0 {
		wrong = append(wrong, "it asks for no event")
	}
	types, values := map[string][]string{"event": {"string"}}, map[string][]string{"event": slices.Collect(maps.Keys(record))}
	for _, event := range events {
		if record[event] == nil {
			wrong = append(wrong, "nobody logs the event "+event)
		}
		for field, held := range record[event] {
			types[field] = append(types[field], held.Type)
			values[field] = append(values[field], held.Values...)
		}
	}
	for _, m := range asType.FindAllStringSubmatch(q.text, -1) {
		switch field := m[2] + m[3]; {
		case types[field] == nil:
			wrong = append(wrong, fmt.Sprintf("no %s has a field %s", strings.Join(events, " or "), field))
		case slices.ContainsFunc(types[field], func(held string) bool { return held != takes[m[1]] }):
			wrong = append(wrong, fmt.Sprintf("the field %s holds a %s, and is taken by %s", field, types[field], m[1]))
		}
	}
	// A field that is not converted is compared as something else than it is.
	if all, converted := len(mention.FindAllString(q.text, -1)), len(asType.FindAllString(q.text, -1)); all != converted {
		wrong = append(wrong, fmt.Sprintf("%d fields are named and %d of them converted", all, converted))
	}
	for _, m := range compared.FindAllStringSubmatch(q.text, -1) {
		field := m[1] + m[2]
		for _, v := range word.FindAllStringSubmatch(m[4], -1) {
			is := func(held string) bool { return held == v[1] || m[3] == "startswith" && strings.HasPrefix(held, v[1]) }
			if !slices.ContainsFunc(values[field], is) {
				wrong = append(wrong, fmt.Sprintf("the field %s never holds %q", field, v[1]))
			}
		}
	}
	return wrong
}

func TestTheJudgeOfQueriesFindsWhatIsNotLogged(t *testing.T) {
	t.Parallel()
	record := recorded(t)
	const good = `lines | where tostring(line.event) == "moved" and tostring(line.state) in ("failed", "held") | project age = todouble(line.age)`
	if wrong := (query{text: good}).judge(record); len(wrong) > 0 {
		t.Fatalf("a good query is not taken: %v", wrong)
	}
	for what, change := range map[string][2]string{
		"an event":             {`"moved"`, `"shifted"`},
		"no event":             {`tostring(line.event) == "moved" and `, ""},
		"a field":              {"line.age", "line.years"},
		"another event's":      {`"moved"`, `"paused"`},
		"a number as a text":   {"todouble(line.age)", "tostring(line.age)"},
		"a text as a number":   {"tostring(line.state)", "toint(line.state)"},
		"a bare field":         {"todouble(line.age)", "line.age"},
		"a state":              {`"held"`, `"kept"`},
		"one by its brackets":  {"line.age", `line["years"]`},
		"a beginning":          {`in ("failed", "held")`, `startswith "fal"`},
		"a state that is kept": {"project age", `where state == "kept" | project age`},
	} {
		text := strings.Replace(good, change[0], change[1], 1)
		if text == good {
			t.Fatalf("%s: %q is not there", what, change[0])
		}
		if len((query{text: text}).judge(record)) == 0 {
			t.Errorf("%s that nobody logs is not found: %s", what, text)
		}
	}
}

func TestEachQueryIsAskedByOneAlertOrOnePartOfTheWorkbook(t *testing.T) {
	t.Parallel()
	s := read(t, "default")
	asked := map[string]int{}
	for _, r := range of(s, "Microsoft.Insights/scheduledQueryRules") {
		for _, c := range at(r.Properties, "criteria", "allOf").([]any) {
			asked[at(c, "query").(string)]++
			// The query itself leaves out what is no reason to call anybody.
			if at(c, "timeAggregation") != "Count" || at(c, "operator") != "GreaterThan" || at(c, "threshold") != 0.0 {
				t.Errorf("%s does not call for every row: %v", r.Name, c)
			}
		}
		if scopes := fmt.Sprint(at(r.Properties, "scopes")); !strings.Contains(scopes, ".outputs.workspaceId.value") {
			t.Errorf("%s asks %s", r.Name, scopes)
		}
	}
	book, _ := at(one(t, s, "Microsoft.Insights/workbooks").Properties, "serializedData").(string)
	lines := content(t, "queries/lines.kql")
	all := queries(t)
	for _, q := range all {
		want, text := 1, lines+q.text
		if strings.HasPrefix(q.name, "workbook/") {
			asked[text] = strings.Count(book, armLiteral(text))
		}
		if asked[text] != want {
			t.Errorf("%s is asked %d times", q.name, asked[text])
		}
	}
	if len(asked) != len(all) {
		t.Errorf("%d queries are asked, and there are %d files", len(asked), len(all))
	}
}

// armLiteral is a text within an expression of a template.
func armLiteral(text string) string { return strings.ReplaceAll(text, "'", "''") }

// queries are the files in queries/alerts and queries/workbook.
func queries(t *testing.T) (all []query) {
	t.Helper()
	for _, folder := range []string{"alerts", "workbook"} {
		names, err := filepath.Glob("queries/" + folder + "/*.kql")
		if err != nil || len(names) < 6 {
			t.Fatalf("there are %d queries in %s: %v", len(names), folder, err)
		}
		for _, name := range names {
			all = append(all, query{folder + "/" + strings.TrimSuffix(filepath.Base(name), ".kql"), content(t, name)})
		}
	}
	return all
}

func recorded(t *testing.T) (l logged) {
	t.Helper()
	if err := json.Unmarshal([]byte(content(t, "queries/logged.json")), &l); err != nil {
		t.Fatal(err)
	}
	return l
}

func content(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
