package setup

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ticketbridge/handler/callout"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/storage"
)

func TestTheRulesFileIsLookedForBesideHostJSON(t *testing.T) {
	t.Parallel()
	const text = "version: 1\nrules:\n  - name: ours\n    tickets: {table: incident, status: {u_phase: {done: x}}}\n"
	for _, c := range []struct{ name, file, setting, rule, table string }{
		{"none, and none named", "", "", "default", "sc_request"},
		{"the usual one", "tickets.yaml", "", "ours", "incident"},
		{"one that is named", "rules/ours.yaml", "rules/ours.yaml", "ours", "incident"},
		{"one that is named with its whole path", "ours.yaml", "/ours.yaml", "ours", "incident"},
		{"another one than the usual one", "tickets.yaml", "../nowhere.yaml", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			if c.file != "" {
				if err := os.MkdirAll(filepath.Join(root, filepath.Dir(c.file)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(root, c.file), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if strings.HasPrefix(c.setting, "/") {
				c.setting = root + c.setting
			}
			s, err := Read(append(slices.Clone(good), "TICKETS_FILE="+c.setting, "FUNCTIONS_APP_ROOT_PATH="+root))
			if err != nil {
				t.Fatal(err)
			}
			rules, err := s.Rules()
			if c.rule == "" {
				if !fault.Is(err, fault.Misconfigured) || !strings.Contains(err.Error(), "(TICKETS_FILE): holds \"../") || !strings.Contains(err.Error(), "no such file") {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			choice, err := rules.Choose(&callout.Callout{}, time.Time{})
			if err != nil || choice.Rule != c.rule || choice.Drafts[0].Table != c.table {
				t.Errorf("%+v, %v", choice, err)
			}
		})
	}
}

func TestAWrongRulesFileStopsTheStartWithAllItsErrors(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "tickets.yaml"), []byte("version: 1\nrulez: []\notherwise: perhaps\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := Read(append(slices.Clone(good), "FUNCTIONS_APP_ROOT_PATH="+root))
	if err != nil {
		t.Fatal(err)
	}
	store, queue, err := storage.NewEmbedded(storage.DefaultPrefix)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Build(s, store, queue)
	for _, want := range []string{"(TICKETS_FILE)", "tickets.yaml:2:1: unknown key \"rulez\"", "tickets.yaml:3:12: found \"perhaps\""} {
		if !fault.Is(err, fault.Misconfigured) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}
