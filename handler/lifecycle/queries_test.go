package lifecycle

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/misbehave"
	"ticketbridge/handler/simulator/servicenow"
)

// queriesFolder holds what alerts and the workbook ask of the log, and logged.json: what of it the handler was seen to log.
const queriesFolder = "../../infra/queries"

var update = flag.Bool("update", false, "write infra/queries/logged.json anew, from what the handler logs")

// held is what a field of an event's lines held.
type held struct {
	Type   string   `json:"type"`
	Values []string `json:"values,omitempty"` // of those that are words of ours
}

// words are the fields of which queries ask for certain values; how they do follows the field's name there.
var (
	words    = []string{"state", "from", "function", "call"}
	compares = `\b%s\)? (==|!?in|startswith) `
)

func TestTheHandlerLogsWhatTheQueriesOfAlertsAndWorkbookAskFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, plan{})
	status, _, text := w.post(w.front.url()+"/api/callout?code="+url.QueryEscape(w.keys.Default), http.Header{}, calloutBody("7d1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a11", "c0a6e2d4-52f7-4a9e-8f0e-1b6f9d3c2e77"))
	if status != http.StatusUnauthorized {
		t.Fatalf("a callout without a token is answered %d: %s", status, text)
	}
	// Neither serves: once each, for longer than is waited within a call.
	w.serviceNow.Faults.Add(misbehave.Fault{Match: reading, Times: 1, Status: http.StatusServiceUnavailable, RetryAfter: "3"})
	w.entra.GraphFaults.Add(misbehave.Fault{Match: resuming, Times: 1, Status: http.StatusServiceUnavailable, RetryAfter: "3"})
	t.Run("lives", func(t *testing.T) {
		for _, name := range []string{
			"approved, fulfilled", "approved, not done", "approved, closed oddly", "approved, timed out", "approved, withdrawn", "granted, launch and continue",
		} {
			i := slices.IndexFunc(lives, func(l life) bool { return l.name == name })
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				of(w, t).live(lives[i])
			})
		}
	})
	heal := w.serviceNow.Faults.Add(misbehave.Fault{Match: creation, Status: http.StatusBadRequest, Body: `{"error":{"message":"no","detail":"no"},"status":"failure"}`})
	failed := w.asked(entra.NewRequest{Policy: w.sample.LedgerPolicy})
	w.becomes(fmtKey(failed, w.nth(failed, 0).ID), "failed")
	heal()
	open := w.ledger()
	w.logged("which deadline is the nearest", func(l line) bool { return l.str("event") == "nearest" })
	w.closeTicket(open, 0, servicenow.Closing{Outcome: servicenow.Complete})
	w.over(open)
	w.sweeps(1)

	seen := asked(t, logged(w.log.all(func(line) bool { return true })))
	file := filepath.Join(queriesFolder, "logged.json")
	if *update {
		text, err := json.MarshalIndent(seen, "", "  ")
		w.check(err)
		w.check(os.WriteFile(file, append(text, '\n'), 0o600))
	}
	var record map[string]map[string]held
	content, err := os.ReadFile(file)
	w.check(err)
	w.check(json.Unmarshal(content, &record))
	for event, fields := range record {
		for field, was := range fields {
			now, ok := seen[event][field]
			if !ok {
				t.Errorf("%s is recorded of %s, and no line had it", field, event)
				continue
			}
			if now.Type != was.Type {
				t.Errorf("%s of %s is a %s, and was a %s", field, event, now.Type, was.Type)
			}
			for _, value := range was.Values {
				if !slices.Contains(now.Values, value) {
					t.Errorf("%s of %s was %q, and no line had it", field, event, value)
				}
			}
		}
	}
	if d := cmp.Diff(asked(t, record), record); d != "" {
		t.Errorf("logged.json has what no query asks for (+):\n%s", d)
	}
}

// logged is what the lines held, by event and field.
func logged(lines []line) map[string]map[string]held {
	all := map[string]map[string]held{}
	for _, l := range lines {
		event := l.str("event")
		if event == "" {
			continue
		}
		if all[event] == nil {
			all[event] = map[string]held{}
		}
		for field, value := range l.fields {
			h := all[event][field]
			switch v := value.(type) {
			case string:
				h.Type = "string"
				if slices.Contains(words, field) && !slices.Contains(h.Values, v) {
					h.Values = append(h.Values, v)
					slices.Sort(h.Values)
				}
			case float64:
				h.Type = "number"
			case bool:
				h.Type = "bool"
			}
			all[event][field] = h
		}
	}
	return all
}

var (
	quoted = regexp.MustCompile(`"(\w+)"`)
	named  = regexp.MustCompile(`\bline(?:\.(\w+)|\["(\w+)"\])`)
)

// asked is the part of it that a query names.
func asked(t *testing.T, all map[string]map[string]held) map[string]map[string]held {
	t.Helper()
	files, err := filepath.Glob(queriesFolder + "/*/*.kql")
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no queries: %v", err)
	}
	out := map[string]map[string]held{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, event := range quoted.FindAllStringSubmatch(string(text), -1) {
			for _, field := range named.FindAllStringSubmatch(string(text), -1) {
				name := strings.Join(field[1:], "")
				h, ok := all[event[1]][name]
				if !ok {
					continue
				}
				if !regexp.MustCompile(fmt.Sprintf(compares, name)).Match(text) {
					h.Values = out[event[1]][name].Values
				}
				if out[event[1]] == nil {
					out[event[1]] = map[string]held{}
				}
				out[event[1]][name] = h
			}
		}
	}
	return out
}
