package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ticketbridge/handler/simulator/servicenow"
)

// stand starts a stand-in instance, and returns the settings with which it is reached. calls are the methods of what it was asked.
func stand(t *testing.T, change func(*servicenow.Config)) (environ []string, methods map[string]int) {
	t.Helper()
	cfg := servicenow.Config{
		Users:  []servicenow.User{{UserName: "bridge", Password: "hunter2hunter2", Name: "Ticket Bridge", WebServiceAccessOnly: true}},
		Groups: []string{servicenow.SampleGroup}, Catalog: []servicenow.CatalogItem{servicenow.SampleItem()}, TutorialColumns: true,
	}
	if change != nil {
		change(&cfg)
	}
	instance, err := servicenow.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	methods = map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // a check asks for one thing after the other
		methods[r.Method]++
		instance.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return []string{
		"SERVICENOW_URL=" + server.URL, "SERVICENOW_AUTH=basic", "SERVICENOW_USERNAME=bridge", "SERVICENOW_PASSWORD=hunter2hunter2",
	}, methods
}

// check runs tickets check -live on rules.
func check(t *testing.T, environ []string, rules string) (checked, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tickets.yaml")
	if err := os.WriteFile(file, []byte(rules), 0o644); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err := run(t.Context(), []string{"tickets", "check", file, "-live", "-o", "json"}, environ, nil, &out, &out)
	var got checked
	if out.Len() > 0 {
		if e := json.Unmarshal(out.Bytes(), &got); e != nil {
			t.Fatalf("%v: %s", e, out.String())
		}
	}
	return got, err
}

func TestTheShippedRulesFitTheStandInsAndTheCheckOnlyReads(t *testing.T) {
	t.Parallel()
	environ, methods := stand(t, nil)
	rules, err := os.ReadFile(filepath.Join("..", "tickets.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := check(t, environ, string(rules))
	if err != nil || !got.OK {
		t.Errorf("%v: %+v", err, got)
	}
	var seen []string
	for _, f := range got.Live {
		if f.Kind == "ok" {
			seen = append(seen, f.Of)
		}
	}
	slices.Sort(seen)
	want := []string{
		"catalog item Access to an application", "group Service Desk", "table change_request", "table incident", "table sc_req_item", "table sc_request",
	}
	if !slices.Equal(seen, want) {
		t.Errorf("looked at %v, want %v", seen, want)
	}
	if only := slices.Collect(maps.Keys(methods)); len(only) != 1 || methods[http.MethodGet] == 0 {
		t.Errorf("the instance was asked %v", methods)
	}
}

func TestWhatTheInstanceDoesNotHaveIsFound(t *testing.T) {
	t.Parallel()
	environ, _ := stand(t, func(c *servicenow.Config) {
		c.Columns = map[string][]servicenow.Column{"task": {{Name: "u_reason", Max: 50}}}
		c.Tables = []servicenow.Table{{Name: "u_access_work"}}
	})
	for _, c := range []struct{ name, rule, kind, of, says string }{
		{"a table", "tickets: {table: u_nowhere}", "error", "table u_nowhere", ""},
		{"a table in which tickets cannot be found again", "tickets: {table: sys_user_group, use: nothing}", "error", "table sys_user_group", "correlation_id"},
		{"a column", "tickets: {table: incident, fields: {u_other: x}}", "error", "incident.u_other", "would be dropped"},
		{"a column that is too short", "tickets: {table: incident, fields: {u_reason: x}}", "warning", "incident.u_reason", "holds 50 characters, and texts are cut at 4000"},
		{"a reference to something else", "tickets: {table: incident, fields: {assignment_group: {user: target}}}", "error", "incident.assignment_group", "does not refer to sys_user"},
		{"a text for a reference", "tickets: {table: incident, fields: {opened_by: Ada}}", "warning", "incident.opened_by", "it refers to sys_user"},
		{"a column that judges", "{tickets: {table: u_access_work}, status: {u_phase: {done: x}}}", "error", "u_access_work.u_phase", "by which rule ours judges"},
		{"a column that cancels", "{tickets: {table: incident}, writeBack: {cancel: {incident: {u_gone: x}}}}", "error", "incident.u_gone", "with which rule ours cancels"},
		{"a group", "tickets: {fields: {assignment_group: {group: Nobody}}}", "error", "group Nobody", "no active one"},
		{"a user", `tickets: {fields: {assigned_to: {user: "nobody@example.com"}}}`, "warning", "user nobody@example.com", "no active one"},
		{"a catalog item", "tickets: {catalogItem: {item: Nothing, reference: correlation_id}}", "error", "catalog item Nothing", "no active catalog item"},
		{
			"a variable", "tickets: {catalogItem: {item: Access to an application, reference: correlation_id, variables: {access_package: x, colour: x}}}",
			"error", "catalog item Access to an application", "it has no variable colour",
		},
		{
			"the reference", "tickets: {catalogItem: {item: Access to an application, reference: ref, variables: {access_package: x}}}",
			"error", "catalog item Access to an application", "it has no variable ref",
		},
		{
			"a mandatory variable without a value", "tickets: {catalogItem: {item: Access to an application, reference: correlation_id}}",
			"error", "catalog item Access to an application", "its variable access_package is mandatory",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			rule := strings.TrimSuffix(strings.TrimPrefix(c.rule, "{"), "}")
			if !strings.HasPrefix(c.rule, "{") {
				rule = c.rule
			}
			got, err := check(t, environ, "version: 1\nrules:\n  - {name: ours, "+rule+"}\n")
			if !slices.ContainsFunc(got.Live, func(f finding) bool { return f.Kind == c.kind && f.Of == c.of && strings.Contains(f.Text, c.says) }) {
				t.Errorf("%+v, %v", got, err)
			}
			if wrong := c.kind == "error"; wrong != (err != nil) || wrong == got.OK {
				t.Errorf("ended in %v, ok %v", err, got.OK)
			}
		})
	}
}

func TestAnInstanceThatDoesNotServeUsIsSaidAndSaysNothingOfTheRules(t *testing.T) {
	t.Parallel()
	environ, _ := stand(t, nil)
	got, err := check(t, append(environ, "SERVICENOW_PASSWORD=another"), "version: 1\n")
	if err == nil || !strings.Contains(err.Error(), "unauthorized") || len(got.Live) > 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := check(t, []string{"SERVICENOW_URL=http://example.com"}, "version: 1\n"); err == nil || !strings.Contains(err.Error(), "the settings are not right") {
		t.Errorf("%v", err)
	}
}
