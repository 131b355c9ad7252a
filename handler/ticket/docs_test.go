package ticket

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"testing"
)

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

func TestTheExamplesOfTheDocumentationAreTakenAndItNamesEverything(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "tickets.md"))
	if err != nil {
		t.Fatal(err)
	}
	examples := yamlBlock.FindAllStringSubmatch(string(page), -1)
	if len(examples) < 5 {
		t.Fatalf("%d examples", len(examples))
	}
	for _, e := range examples {
		if got := load(t, e[1]).Warnings(); len(got) > 0 {
			t.Errorf("%s: %v", e[1], got)
		}
	}
	named := func(what string) {
		if !regexp.MustCompile("`[^`\n]*" + regexp.QuoteMeta(what) + `\b[^` + "`" + `\n]*` + "`").Match(page) {
			t.Errorf("the page does not name %s", what)
		}
	}
	for of, list := range keys {
		for _, k := range list {
			if of != "outcomes" {
				named(k)
			}
		}
	}
	for h := range helpers {
		named(h)
	}
	for _, of := range []reflect.Type{reflect.TypeFor[view](), reflect.TypeFor[personView](), reflect.TypeFor[answerView](), reflect.TypeFor[outcomeView](), reflect.TypeFor[ticketView]()} {
		for i := range of.NumField() {
			named("." + of.Field(i).Name)
		}
	}
	for _, s := range stageNames {
		named(s.short)
	}
	for _, f := range requestFamilies {
		if f.name != "" {
			named(f.name)
		}
	}
}
