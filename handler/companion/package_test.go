package companion_test

import (
	"archive/zip"
	"encoding/xml"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const appFolder = "../../infra/servicenow"

// A record is one of the app's, as the package has it: its table, and its fields.
type record struct {
	file, table string
	fields      map[string]string
}

// A built is the app's package.
type built struct {
	files   map[string]string // by name, without the first slash
	records []record
	columns map[string]column // of the outbox
}

// A column is one of the outbox.
type column struct {
	kind    string
	max     int
	initial string
}

// app is the package that `make servicenow-app` built.
func app(t testing.TB) *built {
	t.Helper()
	a, err := readPackage()
	if err != nil {
		t.Fatalf("the companion app is not built, or what was built cannot be read: run `make servicenow-app` (%v)", err)
	}
	return a
}

var readPackage = sync.OnceValues(func() (*built, error) {
	names, err := filepath.Glob(appFolder + "/target/*.zip")
	if err != nil || len(names) != 1 {
		return nil, errorf("there are %d packages in %s/target", len(names), appFolder)
	}
	z, err := zip.OpenReader(names[0])
	if err != nil {
		return nil, err
	}
	defer z.Close()
	a := &built{files: map[string]string{}}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		a.files[strings.TrimPrefix(f.Name, "/")] = string(text)
	}
	for _, name := range slices.Sorted(maps.Keys(a.files)) {
		switch {
		case strings.HasPrefix(name, "dictionary/"):
			if a.columns, err = outboxColumns(a.files[name]); err != nil {
				return nil, err
			}
		case strings.HasSuffix(name, ".xml"):
			list, err := records(name, a.files[name])
			if err != nil {
				return nil, errorf("%s: %v", name, err)
			}
			a.records = append(a.records, list...)
		}
	}
	return a, nil
})

// An element is any of the XML.
type element struct {
	XMLName  xml.Name
	Attrs    []xml.Attr `xml:",any,attr"`
	Text     string     `xml:",chardata"`
	Children []element  `xml:",any"`
}

func (e element) attr(name string) string {
	for _, a := range e.Attrs {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// records reads a file of records: each has the name of its table, and an element for each field.
func records(file, text string) ([]record, error) {
	var root element
	if err := xml.Unmarshal([]byte(text), &root); err != nil {
		return nil, err
	}
	var list []record
	for _, e := range root.Children {
		if len(e.Children) == 0 {
			continue // an order to delete what was there before
		}
		r := record{file: file, table: e.XMLName.Local, fields: map[string]string{}}
		for _, f := range e.Children {
			r.fields[f.XMLName.Local] = f.Text
		}
		list = append(list, r)
	}
	return list, nil
}

func outboxColumns(text string) (map[string]column, error) {
	var root element
	if err := xml.Unmarshal([]byte(text), &root); err != nil {
		return nil, err
	}
	columns := map[string]column{}
	for _, e := range root.Children[0].Children {
		if e.XMLName.Local == "element" {
			columns[e.attr("name")] = column{kind: e.attr("type"), max: number(e.attr("max_length")), initial: e.attr("default_value")}
		}
	}
	return columns, nil
}

// all returns the records of a table.
func (a *built) all(table string) []record {
	var list []record
	for _, r := range a.records {
		if r.table == table {
			list = append(list, r)
		}
	}
	return list
}

// one returns the record of a table with that value in a field; there must be exactly one.
func (a *built) one(t testing.TB, table, field, value string) record {
	t.Helper()
	var found []record
	for _, r := range a.all(table) {
		if r.fields[field] == value {
			found = append(found, r)
		}
	}
	if len(found) != 1 {
		t.Fatalf("the package has %d records of %s with %s=%s, not one", len(found), table, field, value)
	}
	return found[0]
}
