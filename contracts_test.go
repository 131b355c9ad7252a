//go:build contracts

package ticketbridge_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

func TestTheAppsFilesAreValidAgainstThePublishedSchemas(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("CONTRACTS_DIR")
	if dir == "" {
		t.Fatal("CONTRACTS_DIR is not set: it names the folder whose schemas/ holds host.json, function.json and local.settings.json as published by SchemaStore, and azure.yaml.json as published with azd")
	}
	example, err := os.ReadFile("local.settings.json.example")
	if err != nil {
		t.Fatal(err)
	}
	azd, err := os.ReadFile("azure.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if azd, err = yaml.YAMLToJSON(azd); err != nil {
		t.Fatalf("azure.yaml: %v", err)
	}
	files := map[string]map[string]string{
		"host.json":           {"host.json": read(t, "host.json")},
		"function.json":       {},
		"local.settings.json": {"local.settings.json.example": string(example)},
		"azure.yaml.json":     {"azure.yaml": string(azd)},
	}
	for _, name := range functionFiles(t) {
		files["function.json"][name] = read(t, name)
	}
	for schema, valid := range files {
		t.Run(schema, func(t *testing.T) {
			t.Parallel()
			compiled := compile(t, filepath.Join(dir, "schemas", schema))
			for name, text := range valid {
				if err := validate(compiled, text); err != nil {
					t.Errorf("%s is not valid: %v", name, err)
				}
			}
			// The schema really judges: a wrong value is found.
			wrong := map[string]string{
				"host.json":           `{"version": "2.0", "functionTimeout": 120}`,
				"function.json":       `{"bindings": [{"type": "httpTrigger", "direction": "sideways", "name": "x"}]}`,
				"local.settings.json": `{"IsEncrypted": false, "Values": {"FUNCTIONS_WORKER_RUNTIME": "go"}}`,
				"azure.yaml.json":     `{"name": "x1", "services": {"x": {"project": ".", "host": "function", "hooks": {"prepackage": {"shell": "zsh", "run": "make"}}}}}`,
			}[schema]
			if err := validate(compiled, wrong); err == nil {
				t.Errorf("the schema takes %s", wrong)
			}
		})
	}
}

// compile reads a schema. Those that say draft-04 are read as draft-07: the one of function.json uses "const", which draft-04 ignores, so that
// every binding would count as one of SQL too.
func compile(t *testing.T, file string) *jsonschema.Schema {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("CONTRACTS_DIR: %v", err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if m, ok := doc.(map[string]any); ok && m["$schema"] == "http://json-schema.org/draft-04/schema#" {
		m["$schema"] = "http://json-schema.org/draft-07/schema#"
		delete(m, "id") // draft-07 has $id
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(elsewhere{})
	if err := c.AddResource(file, doc); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	schema, err := c.Compile(file)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return schema
}

// elsewhere stands for schemas that a schema refers to by their address on the web: those of azd's extensions, for services that we have none of. They take
// everything.
type elsewhere struct{}

func (elsewhere) Load(string) (any, error) { return true, nil }

func validate(schema *jsonschema.Schema, text string) error {
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return err
	}
	return schema.Validate(v)
}
