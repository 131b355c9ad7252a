package ticket

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

func schema(t *testing.T) (*jsonschema.Schema, map[string]any) {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "..", "docs", "tickets.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	doc, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("tickets.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("tickets.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s, doc.(map[string]any)["definitions"].(map[string]any)
}

func goodFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "good", "*.yaml"))
	if err != nil || len(files) < 5 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	return append(files, filepath.Join("..", "..", "tickets.yaml"))
}

func TestTheSchemaTakesWhatTheLoaderTakes(t *testing.T) {
	t.Parallel()
	s, _ := schema(t)
	for _, file := range goodFiles(t) {
		if _, err := ReadFile(file); err != nil {
			t.Errorf("%s is not taken:\n%v", file, err)
		}
		if err := s.Validate(asJSON(t, file)); err != nil {
			t.Errorf("the schema does not take %s: %v", file, err)
		}
	}
}

// beyondSchema are the faults that a schema cannot see: of YAML itself, and of what one part says of another.
var beyondSchema = []string{
	"anchors", "empty", "endless-templates", "key-twice", "merge-key", "nested", "not-yaml", "tabs", "templates", "two-documents", "unquoted-star", "unquoted-template",
	"unreachable",
}

func TestTheSchemaFindsTheFaultsThatASchemaCanFind(t *testing.T) {
	t.Parallel()
	s, _ := schema(t)
	files, err := filepath.Glob(filepath.Join("testdata", "faulty", "*.yaml"))
	if err != nil || len(files) < 25 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		name := filepath.Base(file[:len(file)-len(".yaml")])
		if slices.Contains(beyondSchema, name) {
			continue
		}
		if s.Validate(asJSON(t, file)) == nil {
			t.Errorf("the schema takes %s", name)
		}
	}
}

func TestTheSchemaNamesTheKeysOfTheLoader(t *testing.T) {
	t.Parallel()
	_, definitions := schema(t)
	for of, want := range keys {
		d, ok := definitions[of].(map[string]any)
		if !ok {
			t.Errorf("the schema does not define %s", of)
			continue
		}
		properties := d["properties"].(map[string]any)
		if diff := cmp.Diff(slices.Sorted(slices.Values(want)), slices.Sorted(maps.Keys(properties))); diff != "" {
			t.Errorf("keys of %s (-loader +schema):\n%s", of, diff)
		}
		if d["additionalProperties"] != false {
			t.Errorf("%s: the schema takes other keys as well", of)
		}
		for name, p := range properties {
			if !described(p, definitions) {
				t.Errorf("%s.%s has no description", of, name)
			}
		}
	}
}

// described says whether an editor has something to show for a part of the schema.
func described(part any, definitions map[string]any) bool {
	p := part.(map[string]any)
	if _, ok := p["description"]; ok {
		return true
	}
	ref, ok := p["$ref"].(string)
	return ok && described(definitions[filepath.Base(ref)], definitions)
}

// asJSON reads a file without the loader.
func asJSON(t *testing.T, file string) any {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	converted, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(converted))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return v
}
