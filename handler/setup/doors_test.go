package setup

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ticketbridge"
	"ticketbridge/handler/callers"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/storage"
)

const tenantSet = "AZURE_TENANT_ID=3f2c1f6e-8c1d-4a58-9c07-51f3a4a3c001"

var (
	calloutToken = []string{tenantSet, "CALLOUT_AUDIENCE=api://b1b2b3b4-0000-4000-8000-00000000a001"}
	closeToken   = []string{tenantSet, "CLOSE_AUDIENCE=api://b1b2b3b4-0000-4000-8000-00000000a001", "CLOSE_CALLERS=c1c2c3c4-0000-4000-8000-00000000b002"}
	closeKey     = []string{"CLOSE_HMAC_KEY=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}
)

// published lays the app's folder out as it is published, changes the text of some of its files, and returns it.
func published(t *testing.T, change map[string]func(string) string) string {
	t.Helper()
	root := t.TempDir()
	functions, err := fs.Sub(ticketbridge.App, "functions")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(root, functions); err != nil {
		t.Fatal(err)
	}
	for name, edit := range change {
		file := filepath.Join(root, filepath.FromSlash(name))
		old, err := os.ReadFile(file)
		if err != nil { // a new one
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(file, []byte(edit(string(old))), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func build(t *testing.T, settings ...[]string) error {
	t.Helper()
	s, err := Read(slices.Concat(append([][]string{good}, settings...)...))
	if err != nil {
		t.Fatal(err)
	}
	store, queue, err := storage.NewEmbedded(storage.DefaultPrefix)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Build(s, store, queue)
	return err
}

func TestTheStartRefusesADoorThatAnybodyCanOpen(t *testing.T) {
	t.Parallel()
	level := func(to string) func(string) string {
		return func(s string) string {
			changed := strings.Replace(s, `"authLevel": "function"`, to, 1)
			if changed == s {
				t.Errorf("nothing to change in %s", s)
			}
			return changed
		}
	}
	const anonymous = `"authLevel": "anonymous"`
	trigger := func(authLevel, route string) func(string) string {
		return func(string) string {
			return `{"bindings":[{"type":"httpTrigger","direction":"in","name":"request","authLevel":"` + authLevel + `","route":"` + route + `"},{"type":"http","direction":"out","name":"response"}]}`
		}
	}
	type files = map[string]func(string) string
	const calloutFile, closeFile = "callout/function.json", "ticketclosed/function.json"
	for _, c := range []struct {
		name     string
		files    files
		settings []string
		says     []string // each on a line of its own; none: it starts
	}{
		{"as published", nil, nil, nil},
		{"the callout is anonymous", files{calloutFile: level(anonymous)}, nil, []string{"(CALLOUT_AUDIENCE): is not set, and anybody can call the function callout"}},
		{"the close notification is anonymous", files{closeFile: level(anonymous)}, nil, []string{"(CLOSE_AUDIENCE): is not set, and anybody can call the function ticketclosed"}},
		{
			"both are",
			files{calloutFile: level(anonymous), closeFile: level(anonymous)},
			nil,
			[]string{"(CALLOUT_AUDIENCE)", "(CLOSE_AUDIENCE)"},
		},
		{"an anonymous callout with a token", files{calloutFile: level(anonymous)}, calloutToken, nil},
		{"an anonymous callout, and a token for the other door", files{calloutFile: level(anonymous)}, closeToken, []string{"(CALLOUT_AUDIENCE)"}},
		{"an anonymous callout, and a signature for the other door", files{calloutFile: level(anonymous)}, closeKey, []string{"(CALLOUT_AUDIENCE)"}},
		{"an anonymous notification with a token", files{closeFile: level(anonymous)}, closeToken, nil},
		{"an anonymous notification with a signature", files{closeFile: level(anonymous)}, closeKey, nil},
		{"an anonymous notification, and a token for the other door", files{closeFile: level(anonymous)}, calloutToken, []string{"(CLOSE_AUDIENCE)"}},
		{"in another case", files{calloutFile: level(`"authlevel": "ANONYMOUS"`)}, nil, []string{"(CALLOUT_AUDIENCE)"}},
		{"as a number", files{calloutFile: level(`"authLevel": 0`)}, nil, []string{"(CALLOUT_AUDIENCE)"}},
		{"of a level that we do not know", files{calloutFile: level(`"authLevel": "%LEVEL%"`)}, nil, []string{"(CALLOUT_AUDIENCE)"}},
		{"left out, which means function", files{calloutFile: level(`"direction": "in"`)}, nil, nil},
		{"function in capitals", files{calloutFile: level(`"authLevel": "FUNCTION"`)}, nil, nil},
		{"another function whose name is the route", files{"ticket-closed/function.json": func(string) string { return `{"bindings":[{"type":"httpTrigger","authLevel":"anonymous"}]}` }}, nil, []string{"(CLOSE_AUDIENCE)"}},
		{"for administrators", files{calloutFile: level(`"authLevel": "admin"`)}, nil, nil},
		{"a file with a byte order mark", files{calloutFile: func(s string) string { return "\xef\xbb\xbf" + level(anonymous)(s) }}, nil, []string{"(CALLOUT_AUDIENCE)"}},
		{"a file that is no JSON", files{calloutFile: func(string) string { return "bindings: []" }}, nil, []string{"(FUNCTIONS_APP_ROOT_PATH)"}},
		{"another function on the callout's route", files{"open/function.json": trigger("anonymous", "Callout")}, nil, []string{"function open: its authLevel in "}},
		{"another function that takes every path", files{"open/function.json": trigger("anonymous", "{*path}")}, nil, []string{"(CALLOUT_AUDIENCE)", "(CLOSE_AUDIENCE)"}},
		{"another function whose route is a setting", files{"open/function.json": trigger("anonymous", "%ROUTE%")}, closeKey, []string{"(CALLOUT_AUDIENCE)"}},
		{"another function on a route of its own", files{"health/function.json": trigger("anonymous", "health/callout")}, nil, nil},
		{"the callout's folder with a route of its own", files{calloutFile: trigger("anonymous", "elsewhere")}, nil, []string{"(CALLOUT_AUDIENCE)"}},
		{"a file beside the folders", files{"notes.txt": func(string) string { return "anonymous" }}, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			root := published(t, c.files)
			err := build(t, []string{"FUNCTIONS_APP_ROOT_PATH=" + root}, c.settings)
			if len(c.says) == 0 {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			if !fault.Is(err, fault.Misconfigured) {
				t.Fatalf("%v, want it refused", err)
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(c.says) {
				t.Fatalf("said\n%v\nwant %d lines", err, len(c.says))
			}
			for i, want := range c.says {
				if !strings.Contains(lines[i], want) || !strings.Contains(lines[i], root) || !strings.Contains(lines[i], "function.json") {
					t.Errorf("said %q, want the file and %q", lines[i], want)
				}
			}
		})
	}
}

func TestTheRefusalOfAnOpenDoorSaysWhatMendsIt(t *testing.T) {
	t.Parallel()
	open := func(s string) string { return strings.Replace(s, `"function"`, `"anonymous"`, 1) }
	root := published(t, map[string]func(string) string{"callout/function.json": open, "ticketclosed/function.json": open})
	err := build(t, []string{"FUNCTIONS_APP_ROOT_PATH=" + root})
	want := "read settings: misconfigured (CALLOUT_AUDIENCE): is not set, and anybody can call the function callout: its authLevel in " + filepath.Join(root, "callout", "function.json") +
		` is not "function". Make it "function", or set CALLOUT_AUDIENCE, so that callers need a token` + "\n" +
		"read settings: misconfigured (CLOSE_AUDIENCE): is not set, and anybody can call the function ticketclosed: its authLevel in " + filepath.Join(root, "ticketclosed", "function.json") +
		` is not "function". Make it "function", or set CLOSE_AUDIENCE and CLOSE_CALLERS, so that callers need a token, or CLOSE_HMAC_KEY, so that they sign`
	if err == nil || err.Error() != want {
		t.Errorf("said\n%v\nwant\n%s", err, want)
	}
}

func TestWhereThereIsNoAppFolderNothingIsOpen(t *testing.T) {
	t.Parallel()
	if err := build(t, []string{"FUNCTIONS_APP_ROOT_PATH=" + filepath.Join(t.TempDir(), "nowhere")}); err != nil {
		t.Error(err)
	}
	if err := build(t); err != nil {
		t.Error(err)
	}
}

func TestTheSettingsOfCallersReachTheirDoors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, wrong string
		settings    [][]string
	}{
		{"a relay and no audience", "CALLOUT_AUDIENCE", [][]string{{tenantSet, "RELAY_PRINCIPAL_ID=c1c2c3c4-0000-4000-8000-00000000b002"}}},
		{"a role and no audience", "CALLOUT_AUDIENCE", [][]string{{tenantSet, "CALLOUT_ROLE=Callout.Send"}}},
		{"a role and no audience at the other door", "CLOSE_AUDIENCE", [][]string{{tenantSet, "CLOSE_ROLE=Ticket.Close"}}},
		{"no callers of the close notification", "CLOSE_CALLERS", [][]string{closeToken[:2]}},
		{"a relay, a role and an audience", "", [][]string{calloutToken, {"RELAY_PRINCIPAL_ID=c1c2c3c4-0000-4000-8000-00000000b002", "CALLOUT_ROLE=Callout.Send"}}},
		{"all of the close notification's", "", [][]string{closeToken, closeKey, {"CLOSE_ROLE=Ticket.Close"}}},
	} {
		err := build(t, c.settings...)
		if c.wrong == "" && err != nil || c.wrong != "" && (!fault.Is(err, fault.Misconfigured) || !strings.Contains(err.Error(), "("+c.wrong+")")) {
			t.Errorf("%s: %v, want %q named", c.name, err, c.wrong)
		}
	}
	if callers.RelaySetting != "RELAY_PRINCIPAL_ID" {
		t.Errorf("the setting is called %s in errors", callers.RelaySetting)
	}
}
