package ticket

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ticketbridge/handler/callout"
	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
)

func load(t testing.TB, text string) *Rules {
	t.Helper()
	r, err := Load("tickets.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%s\nis not taken:\n%v", text, err)
	}
	return r
}

// ruled is a file with one rule of one ticket.
func ruled(t testing.TB, ticket string) *Rules {
	t.Helper()
	return load(t, "version: 1\nrules:\n  - name: ours\n    tickets:\n      "+strings.ReplaceAll(ticket, "\n", "\n      ")+"\n")
}

func choose(t testing.TB, r *Rules, c *callout.Callout) Choice {
	t.Helper()
	got, err := r.Choose(c, deadline)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestWhatAFileLeavesOutIsBuiltIn(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("..", "callout", "testdata", "*.json"))
	if err != nil || len(files) < 10 {
		t.Fatalf("%d samples, %v", len(files), err)
	}
	shipped, err := os.ReadFile(filepath.Join("..", "..", "tickets.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"version: 1", "version: 1\nrules: []\notherwise: builtin\n", "version: 1\nrules: [{name: x, match: {catalog: nothing}}]", string(shipped)} {
		r := load(t, text)
		for _, file := range files {
			c := sample(t, strings.TrimSuffix(filepath.Base(file), ".json"))
			if diff := cmp.Diff(choose(t, BuiltIn(), c), choose(t, r, c)); diff != "" {
				t.Errorf("%s, %s (-built in +file):\n%s", text, file, diff)
			}
		}
		for _, table := range []string{"sc_request", "incident", "u_any", "change_request"} {
			f := fields{"state": "3", "request_state": "closed_complete", "close_code": "unsuccessful"}
			if a, b := BuiltIn().Judge("grant", table, f), r.Judge("grant", table, f); a != b {
				t.Errorf("%s: judged %+v, built in %+v", table, b, a)
			}
		}
	}
	// A rule with nothing but a name still has the text for the callout's stage and request type.
	r := load(t, "version: 1\nrules: [{name: all}]")
	for _, name := range []string{"approved-add", "removed", "created-extend"} {
		want, got := choose(t, BuiltIn(), sample(t, name)), choose(t, r, sample(t, name))
		want.Rule = "all"
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-built in +file):\n%s", name, diff)
		}
	}
}

func TestTheFirstRuleWhoseMatchHoldsDecides(t *testing.T) {
	t.Parallel()
	r := load(t, `
version: 1
rules:
  - {name: early, match: {stage: "*BeforeExpiration"}, ignore: true}
  - {name: by id, match: {package: 3C1A4B0E-7D51-4A8F-9F10-0A4C5F8F0001}}
  - {name: removals, match: {requestType: remove, catalog: [Sales, Fin*ce]}}
  - {name: one type, match: {requestType: adminAdd}}
  - {name: policy and stage, match: {policy: "* employees", stage: [created, assignmentRequestGranted]}}
  - {name: package, match: {package: ["*reader", "SAP * clerk"], catalog: finance}}
  - {name: any catalog, match: {catalog: "*", stage: removed}}
otherwise: fail
`)
	for _, c := range []struct {
		name    string
		callout callout.Callout
		want    string
	}{
		{"a wildcard for stages", callout.Callout{Stage: callout.StageOneDay}, "early"},
		{"an id in another case", callout.Callout{Package: callout.Named{ID: "3c1a4b0e-7d51-4a8f-9f10-0a4c5f8f0001", Name: "x"}}, "by id"},
		{"a family of types, one of a list", callout.Callout{RequestType: "approverRemove", Catalog: callout.Named{Name: "FINANCE"}}, "removals"},
		{"a wildcard within", callout.Callout{RequestType: "userRemove", Catalog: callout.Named{Name: "Fin and Ounce"}}, "removals"},
		{"not all of a match", callout.Callout{RequestType: "userRemove", Catalog: callout.Named{Name: "Legal"}}, ""},
		{"one type", callout.Callout{RequestType: "adminAdd"}, "one type"},
		{"another type of its family", callout.Callout{RequestType: "userAdd"}, ""},
		{"a wildcard before", callout.Callout{Assigned: callout.Assignment{Policy: callout.Named{Name: "All Employees"}}, Stage: callout.StageGranted}, "policy and stage"},
		{"the short name of a stage", callout.Callout{Assigned: callout.Assignment{Policy: callout.Named{Name: "All Employees"}}, Stage: callout.StageCreated}, "policy and stage"},
		{"a stage that is not in the list", callout.Callout{Assigned: callout.Assignment{Policy: callout.Named{Name: "All Employees"}}, Stage: callout.StageApproved}, ""},
		{"a name over lines", callout.Callout{Package: callout.Named{Name: " SAP\nFI  clerk "}, Catalog: callout.Named{Name: "Finance"}}, "package"},
		{"no part of a name", callout.Callout{Package: callout.Named{Name: "readers"}, Catalog: callout.Named{Name: "Finance"}}, ""},
		{"a wildcard for what was not sent", callout.Callout{Stage: callout.StageRemoved}, "any catalog"},
		{"a pattern for what was not sent", callout.Callout{Package: callout.Named{Name: "Ledger reader"}}, ""},
		{"nothing at all", callout.Callout{}, ""},
	} {
		choice, err := r.Choose(&c.callout, deadline)
		if choice.Rule != c.want || (c.want == "") != fault.Is(err, fault.Misconfigured) {
			t.Errorf("%s: rule %q, %v; want %q", c.name, choice.Rule, err, c.want)
		}
		seen := r.Explain(&c.callout)
		for i, one := range seen {
			if last := i == len(seen)-1; (one.WhyNot == "") != (last && c.want != "") {
				t.Errorf("%s: %+v", c.name, seen)
			}
		}
	}
	if got := choose(t, r, &callout.Callout{Stage: callout.StageOneDay}); len(got.Drafts) != 0 {
		t.Errorf("a rule that ignores opens %+v", got)
	}
	if got := choose(t, load(t, "version: 1\notherwise: ignore"), &callout.Callout{}); len(got.Drafts) != 0 || got.Rule != "otherwise" {
		t.Errorf("%+v", got)
	}
	why := r.Explain(&callout.Callout{Catalog: callout.Named{Name: "Legal"}, RequestType: "userRemove", Stage: callout.StageRemoved})
	want := []Considered{
		{"early", `stage is "assignmentRequestRemoved", not "assignmentFourteenDaysBeforeExpiration" or "assignmentOneDayBeforeExpiration"`},
		{"by id", `the callout names no package; it must be "3C1A4B0E-7D51-4A8F-9F10-0A4C5F8F0001"`},
		{"removals", `catalog is "Legal", not "Sales" or "Fin*ce"`},
		{"one type", `requestType is "userRemove", not "adminAdd"`},
		{"policy and stage", `the callout names no policy; it must be "* employees"`},
		{"package", `the callout names no package; it must be "*reader" or "SAP * clerk"`},
		{"any catalog", ""},
	}
	if diff := cmp.Diff(want, why); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPatternsMatchAsPeopleReadThem(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"a", "a", true},
		{"a", "A", true},
		{"a", "ab", false},
		{"a*", "ab", true},
		{"a*", "a", true},
		{"*a", "ba", true},
		{"*a", "ab", false},
		{"a*a", "a", false},
		{"a*a", "aa", true},
		{"*b*", "abc", true},
		{"a*b*c", "aXbYc", true},
		{"a*b*c", "acb", false},
		{"*", "", true},
		{"", "a", false},
		{"a.c", "abc", false},
		{"a*bc*bcd", "abcbcd", true},
	} {
		if got := pattern(c.pattern).matches(c.text); got != c.want {
			t.Errorf("%q matches %q: %v", c.pattern, c.text, got)
		}
	}
}

func TestTemplatesSayWhatTheyShould(t *testing.T) {
	t.Parallel()
	c := sample(t, "approved-add")
	c.By = callout.Person{Name: "Max Other", Email: "max@example.com"}
	for template, want := range map[string]string{
		`{{.Package}} for {{.Who}}`:                                                   "SAP Finance reader for Ada Example",
		`{{answer "Which region?"}}/{{answer "which  REGION?"}}`:                      "EMEA/EMEA",
		`{{answer "Never asked?"}}`:                                                   "",
		`{{answer "Never asked?" | default "none"}}`:                                  "none",
		`{{default "none" (answer "Which region?")}}`:                                 "EMEA",
		`{{answer "Why is it needed?"}}`:                                              "Month-end close.\n    Until the end of the year.",
		`{{answer "Why is it needed?" | oneLine}}`:                                    "Month-end close. Until the end of the year.",
		`{{range answers}}{{.Question}}={{.Answer | oneLine}};{{end}}`:                "Which region?=EMEA;Why is it needed?=Month-end close. Until the end of the year.;",
		`{{range $i, $a := answers}}{{$i}}{{$a.Answer | truncate 4}}{{break}}{{end}}`: "0EMEA",
		`{{deadline}}`:                       "2026-03-15 12:04 UTC",
		`{{deadline "yyyy-MM-dd HH:mm:ss"}}`: "2026-03-15 12:04:05",
		`{{deadline "dd.MM.yyyy" "-2d"}} {{deadline "HH:mm" "90m"}}`: "13.03.2026 13:34",
		`{{.Deadline}}`: "2026-03-15 12:04 UTC",
		`{{truncate 10 .Package}}|{{.Package | truncate 3}}`:                                          "SAP Finan…|SA…",
		`{{upper .Who}} {{lower .Who}} {{trim "  x "}}`:                                               "ADA EXAMPLE ada example x",
		`{{join ", " .Catalog "" .Policy}}`:                                                           "Finance, Employees",
		`{{if contains "sap" .Package}}SAP{{else}}other{{end}}`:                                       "SAP",
		`{{replace " " "_" .Catalog}}{{replace " " "_" .Who}}`:                                        "FinanceAda_Example",
		`{{print 1 " " .OnBehalf}}`:                                                                   "1 false",
		`{{if and .Waits (eq .Family "add") (not .OnBehalf)}}yes{{end}}`:                              "yes",
		`{{with .By}}by {{.}} for {{$.Who}}{{end}}`:                                                   "by Max Other (max@example.com) for Ada Example",
		`{{.Target.PrincipalName}} {{.Target.ObjectID}} {{.Requestor.Email}}`:                         "ada@corp.example.com 3c1a4b0e-7d51-4a8f-9f10-0a4c5f8f0005 max@example.com",
		`{{.PackageID}} {{.CatalogID}} {{.PolicyID}}`:                                                 "3c1a4b0e-7d51-4a8f-9f10-0a4c5f8f0001 3c1a4b0e-7d51-4a8f-9f10-0a4c5f8f0002 3c1a4b0e-7d51-4a8f-9f10-0a4c5f8f0006",
		`{{with $x := .Organization}}{{$x}}{{else}}no organization{{end}}`:                            "no organization",
		`{{/* a remark */}}{{"{{"}} {{.Stage}} {{.RequestType}} {{len .Catalog}}`:                     "{{ assignmentRequestApproved userAdd 7",
		`{{range answers}}{{if eq .Question "Which region?"}}{{continue}}{{end}}{{.Question}}{{end}}`: "Why is it needed?",
	} {
		r := ruled(t, "fields:\n  u_text: '"+strings.ReplaceAll(template, "'", "''")+"'")
		if got := choose(t, r, c).Drafts[0].Fields["u_text"]; got != want {
			t.Errorf("%s\nsays %q\nwant %q", template, got, want)
		}
	}
	r := ruled(t, `fields: {u_text: '{{deadline "yyyy"}}'}`)
	if got, err := r.Choose(c, time.Time{}); err != nil || got.Drafts[0].Fields["u_text"] != "" {
		t.Errorf("without a deadline: %q, %v", got.Drafts[0].Fields, err)
	}
}

func TestWhatAPersonWroteIsNoTemplateAndNoLineOfOurs(t *testing.T) {
	t.Parallel()
	c := sample(t, "approved-add")
	c.Answers = []callout.Answer{{Question: "Why?", Value: "{{.RequestID}}\u202e\r\nStage: x"}}
	r := ruled(t, `fields: {description: '{{answer "Why?"}}', short_description: '{{answer "Why?"}}'}`)
	got := choose(t, r, c).Drafts[0].Fields
	if got["description"] != "{{.RequestID}}\n    Stage: x" || got["short_description"] != "{{.RequestID}} Stage: x" {
		t.Errorf("%q", got)
	}
}

func TestTextsAreCutAtTheLengthOfTheirColumn(t *testing.T) {
	t.Parallel()
	// More than a template may write: it is a person's answer, so that it is cut and no error.
	c := &callout.Callout{Answers: []callout.Answer{{Question: "q", Value: strings.Repeat("ä", 300_000)}}}
	r := ruled(t, "use: nothing\nfields:\n  short_description: '{{answer \"q\"}}'\n  description: '{{answer \"q\"}}'\n  u_a: {text: '{{answer \"q\"}}', max: 10}\n  u_b: '{{.Answers}}{{.Answers}}'")
	got := choose(t, r, c).Drafts[0].Fields
	for column, want := range map[string]int{"short_description": 160, "description": 4000, "u_a": 10} {
		if length(got[column]) != want || !strings.HasSuffix(got[column], "…") {
			t.Errorf("%s has %d characters, want %d", column, length(got[column]), want)
		}
	}
}

func TestFieldsUsersGroupsAndItemsBecomeDrafts(t *testing.T) {
	t.Parallel()
	c := sample(t, "approved-on-behalf")
	target := Person{PrincipalName: c.Assigned.Target.PrincipalName, Email: c.Assigned.Target.Email}
	requestor := Person{PrincipalName: c.By.PrincipalName, Email: c.By.Email}
	r := load(t, `
version: 1
defaults:
  table: incident
  fields:
    assignment_group: {group: "{{.Catalog}} desk"}
    u_source: entra
    u_stageinstanceid: ~
rules:
  - name: ours
    tickets:
      - fields: {u_source: "we", urgency: 2, u_user: {user: requestor}, u_named: {user: "{{.Target.Email}}"}}
      - table: sc_task
        use: nothing
        fields: {assignment_group: ~, short_description: Do it}
      - name: order
        catalogItem:
          item: Laptop
          quantity: 3
          requestedFor: requestor
          variables: {package: "{{.Package}}", count: 5}
          reference: ref
        use: nothing
      - name: other
        catalogItem: {item: Phone, reference: ref, requestedFor: "boss@example.com"}
`[1:])
	got := choose(t, r, c)
	if len(got.Drafts) != 4 {
		t.Fatalf("%d drafts", len(got.Drafts))
	}
	first := got.Drafts[0]
	if first.Entry != "incident" || first.Table != "incident" || first.Item != nil {
		t.Errorf("%+v", first)
	}
	if _, ok := first.Fields["u_stageinstanceid"]; ok || first.Fields["u_source"] != "we" || first.Fields["urgency"] != "2" || first.Fields["short_description"] == "" {
		t.Errorf("%v", first.Fields)
	}
	wantUsers := map[string]Person{
		"caller_id": target, "u_user": requestor, "u_named": {PrincipalName: c.Assigned.Target.Email, Email: c.Assigned.Target.Email},
	}
	if diff := cmp.Diff(wantUsers, first.Users); diff != "" {
		t.Errorf("users (-want +got):\n%s", diff)
	}
	if !maps.Equal(first.Groups, map[string]string{"assignment_group": c.Catalog.Name + " desk"}) {
		t.Errorf("groups %v", first.Groups)
	}
	want := []Draft{
		{Entry: "sc_task", Table: "sc_task", Fields: map[string]string{"short_description": "Do it", "u_source": "entra"}},
		{
			Entry: "order", Table: "sc_req_item", Fields: map[string]string{"u_source": "entra"}, Groups: first.Groups,
			Item: &Item{Item: "Laptop", Quantity: 3, Variables: map[string]string{"package": c.Package.Name, "count": "5"}, RequestedFor: &requestor, Reference: "ref"},
		},
	}
	if diff := cmp.Diff(want, got.Drafts[1:3]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	boss := Person{PrincipalName: "boss@example.com", Email: "boss@example.com"}
	if i := got.Drafts[3].Item; i == nil || i.Quantity != 1 || i.Variables != nil || *i.RequestedFor != boss {
		t.Errorf("%+v", i)
	}
	if !strings.Contains(first.Fields["description"], "goes on when its other tickets are done as well") {
		t.Errorf("the text does not tell of the other tickets:\n%s", first.Fields["description"])
	}
}

func TestNotDoneIsTheRulesOrTheDefaultsOrBuiltIn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, stage, kind, want string }{
		{"rules: [{name: x}]", callout.StageApproved, "userAdd", OnRejectedDeny},
		{"rules: [{name: x}]", callout.StageApproved, "userRemove", OnRejectedHold},
		{"rules: [{name: x}]", callout.StageGranted, "userAdd", OnRejectedHold},
		{"rules: [{name: x, notDone: cancel}]", callout.StageApproved, "userAdd", OnRejectedCancel},
		{"rules: [{name: x, notDone: deny}]", callout.StageGranted, "userAdd", OnRejectedDeny},
		{"defaults: {notDone: hold}\nrules: [{name: x}]", callout.StageApproved, "userAdd", OnRejectedHold},
		{"defaults: {notDone: hold}\nrules: [{name: x, notDone: deny}]", callout.StageApproved, "userAdd", OnRejectedDeny},
		{"defaults: {notDone: hold}", callout.StageApproved, "userAdd", OnRejectedHold},
		{"otherwise: builtin", callout.StageApproved, "userAdd", OnRejectedDeny},
	} {
		got := choose(t, load(t, "version: 1\n"+c.text), &callout.Callout{Stage: c.stage, RequestType: c.kind, Waits: true})
		if got.OnRejected != c.want {
			t.Errorf("%s at %s, %s: %s, want %s", c.text, c.stage, c.kind, got.OnRejected, c.want)
		}
		says := map[string]string{OnRejectedDeny: "then denied", OnRejectedCancel: "then cancelled", OnRejectedHold: "stays paused"}[c.want]
		if !strings.Contains(got.Drafts[0].Fields["description"], says) {
			t.Errorf("%s: the text does not say %q", c.text, says)
		}
	}
}

func TestAFilesStatusGoesBeforeWhatIsKnownAndDoubtIsHeld(t *testing.T) {
	t.Parallel()
	const open, done, notDone, unknown = correlation.Pending, correlation.Fulfilled, correlation.Rejected, correlation.Unknown
	for _, c := range []struct {
		name, table, status string
		fields              fields
		want                correlation.Outcome
	}{
		{"one more value", "sc_task", "state: {done: 10}", fields{"state": "10", "active": "false"}, done},
		{"the known ones stay", "sc_task", "state: {done: 10}", fields{"state": "3", "active": "false"}, done},
		{"the known ones stay", "sc_task", "state: {done: 10}", fields{"state": "4", "active": "false"}, notDone},
		{"a value nobody mapped, closed", "sc_task", "state: {done: 10}", fields{"state": "11", "active": "false"}, unknown},
		{"a value nobody mapped, active", "sc_task", "state: {done: 10}", fields{"state": "11", "active": "true"}, open},
		{"another meaning", "sc_task", "state: {notDone: 3}", fields{"state": "3", "active": "false"}, notDone},
		{"another meaning", "sc_request", "state: {done: 4}", fields{"request_state": "closed_complete", "state": "4", "active": "false"}, done},
		{"a rejected approval stays one", "sc_task", "state: {done: 10}", fields{"state": "10", "approval": "rejected"}, unknown},
		{"a rejected approval stays one", "sc_task", "replace: true\nstate: {done: 10}", fields{"state": "10", "approval": "rejected"}, unknown},
		{"one more way to be rejected", "sc_task", "approval: {notDone: cancelled}", fields{"state": "2", "active": "true", "approval": "cancelled"}, notDone},
		{"closed without a value of the map", "sc_task", "replace: true\nstate: {done: 10}", fields{"state": "3", "active": "false"}, unknown},
		{"a map of its own", "sc_task", "replace: true\nstate: {done: 10, open: 3}", fields{"state": "3", "active": "true"}, open},
		{"text values in any case", "u_work", "u_phase: {done: [Provisioned], notDone: 'fail*'}", fields{"u_phase": "PROVISIONED", "state": "1", "active": "true"}, done},
		{"a wildcard", "u_work", "u_phase: {done: [Provisioned], notDone: 'fail*'}", fields{"u_phase": "failed hard", "active": "true"}, notDone},
		{"an empty column leaves it to the next", "u_work", "u_phase: {done: ok}", fields{"u_phase": "", "state": "3", "active": "false"}, done},
		{"an empty column leaves it to the next", "u_work", "u_phase: {done: ok}", fields{"u_phase": "", "state": "3", "active": "true"}, open},
		{"two columns against each other", "u_work", "u_phase: {done: ok, notDone: bad}", fields{"u_phase": "ok", "state": "4", "active": "false"}, unknown},
		{"two columns against each other", "u_work", "u_phase: {done: ok, notDone: bad}", fields{"u_phase": "bad", "state": "3", "active": "false"}, unknown},
		{"two columns with one mind", "u_work", "u_phase: {done: ok, notDone: bad}", fields{"u_phase": "bad", "state": "4", "active": "false"}, notDone},
		{"two columns of the file", "u_work", "u_a: {done: 1}\nu_b: {done: 1, notDone: 2}", fields{"u_a": "1", "u_b": "2"}, unknown},
		{"two columns of the file", "u_work", "u_a: {done: 1}\nu_b: {done: 1, notDone: 2}", fields{"u_a": "1", "u_b": "1"}, done},
		{"the first that is not empty decides", "u_work", "u_a: {done: 1}\nu_b: {done: 1, notDone: 2}", fields{"u_b": "2"}, notDone},
		{"a column that only says no", "sc_task", "u_result: {notDone: [failed, 'bad*']}", fields{"state": "3", "active": "false", "u_result": "Badly"}, notDone},
		{"a column that only says no", "sc_task", "u_result: {notDone: [failed]}", fields{"state": "3", "active": "false", "u_result": "fine"}, done},
		{"a column that only says no, before the end", "sc_task", "u_result: {notDone: [failed]}", fields{"state": "2", "active": "true", "u_result": "failed"}, open},
		{"one more close code", "change_request", "close_code: {done: u_manual}", fields{"state": "3", "active": "false", "close_code": "u_manual"}, done},
		{"the others stay", "change_request", "close_code: {done: u_manual}", fields{"state": "3", "active": "false", "close_code": "unsuccessful"}, notDone},
		{"the others stay", "change_request", "close_code: {done: u_manual}", fields{"state": "3", "active": "false"}, unknown},
		{"a close code is none before the end", "change_request", "close_code: {done: u_manual}", fields{"state": "-1", "active": "true", "close_code": "u_manual"}, open},
		{"one more that says no", "change_request", "close_code: {notDone: u_rolled_back}", fields{"state": "3", "active": "false", "close_code": "u_rolled_back"}, notDone},
		{"a close code that is fine after all", "incident", "close_code: {done: not solved (workaround)}", fields{"state": "7", "close_code": "Not Solved (Workaround)"}, done},
		{"a close code that is not", "incident", "close_code: {done: not solved (workaround)}", fields{"state": "7", "close_code": "Not Solved (Not Reproducible)"}, notDone},
		{"active alone", "u_flag", "replace: true\nactive: {done: false, open: true}", fields{"active": "false"}, done},
		{"active alone", "u_flag", "replace: true\nactive: {done: false, open: true}", fields{"active": "true"}, open},
		{"nothing to be read", "u_flag", "replace: true\nactive: {done: false, open: true}", fields{}, unknown},
	} {
		r := load(t, fmt.Sprintf("version: 1\nrules:\n  - name: ours\n    tickets: {table: %s}\n    status:\n      %s\n", c.table, strings.ReplaceAll(c.status, "\n", "\n      ")))
		if got := r.Judge("ours", c.table, c.fields); got.Outcome != c.want {
			t.Errorf("%s: %s with %s, %v: %s (%s), want %s", c.name, c.table, c.status, c.fields, got.Outcome, got.State, c.want)
		}
		for column := range c.fields {
			if !slices.Contains(r.Columns(c.table), column) {
				t.Errorf("%s: the column %s is not asked for", c.name, column)
			}
		}
		// A rule that is no longer there, and other rules, judge as before.
		if a, b := BuiltIn().Judge("gone", c.table, c.fields), r.Judge("gone", c.table, c.fields); a != b {
			t.Errorf("%s: another rule judges %+v, built in %+v", c.name, b, a)
		}
	}
}

func TestAStatusForATableIsForAllRulesAndATicketsForItsRule(t *testing.T) {
	t.Parallel()
	r := load(t, `
version: 1
status:
  u_work: {u_phase: {done: ok}}
rules:
  - name: ours
    match: {catalog: Finance}
    tickets:
      - {name: a, table: u_work, status: {u_phase: {done: fine}}}
      - {name: b, table: u_work}
  - name: theirs
    tickets: {table: u_work}
`)
	for _, c := range []struct {
		rule, phase string
		want        correlation.Outcome
	}{
		{"ours", "ok", correlation.Fulfilled},
		{"ours", "fine", correlation.Fulfilled},
		{"theirs", "ok", correlation.Fulfilled},
		{"theirs", "fine", correlation.Unknown},
		{"gone", "ok", correlation.Fulfilled},
	} {
		if got := r.Judge(c.rule, "u_work", fields{"u_phase": c.phase, "active": "false"}); got.Outcome != c.want {
			t.Errorf("%s, %s: %+v, want %s", c.rule, c.phase, got, c.want)
		}
	}
}

// Whatever a file says: done is only what it, or what is known of the table, says is done, and never beside a value that says that it is not.
func TestNoStatusLetsDoubtPassForDone(t *testing.T) {
	t.Parallel()
	columns := []string{"state", "request_state", "u_phase", "close_code", "u_result"}
	values := []string{"1", "3", "4", "7", "x", "closed_complete", "closed_incomplete", "successful", "unsuccessful"}
	rapid.Check(t, func(t *rapid.T) {
		table := rapid.SampledFrom([]string{"sc_request", "sc_task", "incident", "change_request", "u_work"}).Draw(t, "table")
		said := map[string]map[string]string{} // column → value → outcome
		var text strings.Builder
		fmt.Fprintf(&text, "version: 1\nrules:\n  - name: ours\n    tickets: {table: %s}\n    status:\n      replace: %v\n      u_always: {done: never-seen}\n", table, rapid.Bool().Draw(t, "replace"))
		for _, column := range columns {
			said[column] = map[string]string{}
			by := map[string][]string{}
			for _, v := range values {
				if o := rapid.SampledFrom([]string{"", "", "", "done", "notDone", "open"}).Draw(t, column+" "+v); o != "" {
					said[column][v] = o
					by[o] = append(by[o], `"`+v+`"`)
				}
			}
			if len(by) > 0 {
				fmt.Fprintf(&text, "      %s:\n", column)
			}
			for _, o := range slices.Sorted(maps.Keys(by)) {
				fmt.Fprintf(&text, "        %s: [%s]\n", o, strings.Join(by[o], ", "))
			}
		}
		r, err := Load("x", []byte(text.String()))
		if err != nil {
			t.Fatalf("%v\n%s", err, text.String())
		}
		f := fields{}
		for _, column := range append(columns, "active", "approval") {
			f[column] = rapid.SampledFrom(append(values, "", "", "true", "false", "rejected", "zzz")).Draw(t, column)
		}
		got := r.Judge("ours", table, f)
		if got.Outcome != correlation.Fulfilled {
			return
		}
		isDone := false
		for column, v := range f {
			switch said[column][v] {
			case "done":
				isDone = true
			case "notDone":
				t.Fatalf("done beside %s=%s, which says not done\n%s\n%v", column, v, text.String(), f)
			}
		}
		known := BuiltIn().meaning("", table, "")
		for _, d := range known.decide {
			isDone = isDone || d.means[f[d.column]] == correlation.Fulfilled
		}
		if !isDone {
			t.Fatalf("done, though nothing says so\n%s\n%v", text.String(), f)
		}
		if f["approval"] == "rejected" {
			t.Fatalf("done although the approval was rejected: %v", f)
		}
	})
}

func TestWhatIsWrittenBack(t *testing.T) {
	t.Parallel()
	r := load(t, `
version: 1
defaults:
  writeBack: {remind: 24h, outcomeNote: false}
rules:
  - name: all of it
    match: {catalog: A}
    writeBack:
      entraDetail: "{{range .Tickets}}{{.Number}} {{.Outcome}}{{with .Notes}} ({{. | truncate 12}}){{end}}, {{.State}}; {{end}}{{.Outcome}}"
      outcomeNote: true
      cancel:
        incident: {state: 8, close_notes: gone}
      remind: 2d
  - name: defaults
    match: {catalog: B}
  - name: cancelling
    match: {catalog: C}
    writeBack: {cancel: true, remind: 90m}
  - name: ignoring
    match: {catalog: D}
    ignore: true
`)
	all := r.Aftercare("all of it")
	if all.NoOutcomeNote || all.Remind != 48*time.Hour || !maps.Equal(all.Cancel("incident"), map[string]string{"state": "8", "close_notes": "gone"}) || len(all.Cancel("sc_task")) != 0 {
		t.Errorf("%+v", all)
	}
	detail, err := all.Detail([]correlation.Ticket{
		{Number: "INC1", Outcome: correlation.Fulfilled, State: "state=6", CloseNotes: "Done,\nas asked for"},
		{Number: "INC2", Outcome: correlation.Rejected, State: "state=8"},
	}, correlation.Rejected)
	if want := "INC1 done (Done, as as…), state=6; INC2 not done, state=8; not done"; err != nil || detail != want {
		t.Errorf("%q, %v; want %q", detail, err, want)
	}
	if long, err := all.Detail([]correlation.Ticket{{State: strings.Repeat("x", 2000)}}, ""); err != nil || length(long) != 500 {
		t.Errorf("%d characters, %v", length(long), err)
	}
	if !slices.Contains(r.Columns("incident"), "close_notes") || slices.Contains(BuiltIn().Columns("incident"), "close_notes") {
		t.Error("close notes are to be read where a detail may show them, and only there")
	}
	for _, name := range []string{"defaults", "grant"} {
		if a := r.Aftercare(name); !a.NoOutcomeNote || a.Remind != 24*time.Hour || a.Detail != nil || a.Cancel != nil {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if a := r.Aftercare("cancelling"); a.Remind != 90*time.Minute || a.Cancel("sc_request")["request_state"] != "closed_cancelled" || a.Cancel("u_any") != nil {
		t.Errorf("cancelling: %+v", a)
	}
	for _, name := range []string{"ignoring", "gone"} {
		if a := r.Aftercare(name); a.NoOutcomeNote || a.Remind != 0 || a.Detail != nil || a.Cancel != nil {
			t.Errorf("%s: %+v", name, a)
		}
	}
	// What is cancelled counts as not done, never as done, by what is known of the table.
	for table, f := range cancelled {
		if got := BuiltIn().Judge("", table, maps.Clone(f)); got.Outcome != correlation.Rejected {
			t.Errorf("a cancelled record of %s is %s", table, got.Outcome)
		}
	}
}

func TestATemplateThatMakesTooMuchIsMisconfiguredAndNamesRuleTicketAndField(t *testing.T) {
	t.Parallel()
	c := &callout.Callout{}
	for i := range 2 * maxAnswers {
		c.Answers = append(c.Answers, callout.Answer{Question: fmt.Sprint("q", i), Value: strings.Repeat("x", 800)})
	}
	for _, f := range []string{
		"u_text: '{{range answers}}{{$.Answers}}{{end}}'", "u_text: '{{range answers}}{{print $.Answers $.Answers}}{{end}}'", "u_text: {user: '{{range answers}}{{$.Answers}}{{end}}'}",
		`u_text: '{{range answers}}{{$x := replace "x" "" $.Answers}}{{end}}'`, // it writes nothing, and works hard
	} {
		r := ruled(t, "name: first\nfields:\n  "+f)
		begun := time.Now()
		_, err := r.Choose(c, deadline)
		if !fault.Is(err, fault.Misconfigured) || !strings.Contains(err.Error(), "rule ours: the template of ticket first, column u_text, fails") {
			t.Errorf("%s: %v", f, err)
		}
		if d := time.Since(begun); d > 5*time.Second {
			t.Errorf("%s took %v", f, d)
		}
	}
	r := ruled(t, "catalogItem: {item: x, reference: ref, variables: {v: '{{range answers}}{{$.Answers}}{{end}}'}}")
	if _, err := r.Choose(c, deadline); !fault.Is(err, fault.Misconfigured) || !strings.Contains(err.Error(), "ticket ticket, variable v") {
		t.Errorf("%v", err)
	}
}

// The parser's time grows with the square of the nesting: what is nested deeply never gets to it.
func TestWhatIsNestedDeeplyIsTurnedDownAtOnce(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"[", "[\n", "{a: ", "a: ", "- ", "? ", "&a ", "!a "} {
		_, err := Load("x", []byte(strings.Repeat(s, maxFile/2/len(s))))
		if err == nil || !strings.Contains(err.Error(), "nested more than 20 deep") {
			t.Errorf("%q again and again: %v", s, err)
		}
	}
}

func TestATemplateSeesNoMoreAnswersThanItCanWalkOver(t *testing.T) {
	t.Parallel()
	c := &callout.Callout{Answers: make([]callout.Answer, 3*maxAnswers)}
	if got := choose(t, ruled(t, "fields: {u_text: '{{range answers}}.{{end}}'}"), c).Drafts[0].Fields["u_text"]; got != strings.Repeat(".", maxAnswers) {
		t.Errorf("%d", len(got))
	}
}

func TestAFileIsNoLargerThanCanBeReadInTimeAndText(t *testing.T) {
	t.Parallel()
	remarks := "version: 1\n" + strings.Repeat("# a remark\n", maxFile/11)
	load(t, remarks[:maxFile-20])
	if _, err := Load("x", []byte(remarks+strings.Repeat("# a remark\n", 10))); err == nil || !strings.Contains(err.Error(), "at most 131072 are read") {
		t.Errorf("%v", err)
	}
	if _, err := Load("x", []byte("version: 1 # \xff\n")); err == nil || !strings.Contains(err.Error(), "not UTF-8") {
		t.Errorf("%v", err)
	}
}

func TestWhateverTheCalloutTheRulesChooseWithoutAPanicAndWithinTheLengths(t *testing.T) {
	t.Parallel()
	everything, err := ReadFile(filepath.Join("testdata", "good", "everything.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"Finance", "SAP x", "Employees", "Engineering", callout.StageApproved, callout.StageOneDay, "userAdd", "", "a\xffb\x00"}), rapid.StringN(0, 6000, -1))
	rapid.Check(t, func(t *rapid.T) {
		c := &callout.Callout{
			Stage: text.Draw(t, "stage"), RequestType: text.Draw(t, "type"), Waits: rapid.Bool().Draw(t, "waits"), Package: callout.Named{Name: text.Draw(t, "package")},
			Catalog:  callout.Named{Name: text.Draw(t, "catalog")},
			Assigned: callout.Assignment{Policy: callout.Named{Name: text.Draw(t, "policy")}, Target: callout.Person{Email: text.Draw(t, "email"), Name: text.Draw(t, "name")}},
		}
		for range rapid.IntRange(0, 3).Draw(t, "answers") {
			c.Answers = append(c.Answers, callout.Answer{Question: text.Draw(t, "question"), Value: text.Draw(t, "answer")})
		}
		for _, r := range []*Rules{everything} {
			got, err := r.Choose(c, rapid.SampledFrom([]time.Time{{}, deadline}).Draw(t, "deadline"))
			if err != nil && !fault.Is(err, fault.Misconfigured) {
				t.Fatal(err)
			}
			for _, d := range got.Drafts {
				for column, value := range d.Fields {
					if limit := map[string]int{"description": 1000}[column]; limit > 0 && d.Item != nil && length(value) > limit || length(value) > limitOf(column) {
						t.Fatalf("%s has %d characters", column, length(value))
					}
				}
			}
			if seen := r.Explain(c); (err == nil) != (seen[len(seen)-1].WhyNot == "") {
				t.Fatalf("chosen %v, explained %+v", err, seen)
			}
		}
	})
}

func TestWhatIsOddIsAWarning(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, rules, says string }{
		{"a denial that is untrue", "  - {name: a, match: {stage: granted}, notDone: deny}", "1:38: "},
		{"a rule that another one hides", "  - {name: a, match: {package: 'SAP *'}}\n  - {name: b, match: {package: [SAP FI, 'SAP H*'], stage: created}}", `the rule "b" can never match`},
		{"a requested item that is not ordered", "  - {name: a, tickets: {table: sc_req_item}}", "starts no flow"},
		{"a column with a slip of the pen", "  - {name: a, tickets: {fields: {impackt: x}}}", `did you mean "impact"?`},
		{"a text for a user", "  - {name: a, tickets: {fields: {requested_for: Ada}}}", "requested_for refers to a user"},
		{"a text that is always cut", "  - {name: a, tickets: {fields: {short_description: '" + strings.Repeat("x", 161) + "'}}}", "has 161 characters without what is filled in; it is cut at 160"},
		{"a max that is too high", "  - {name: a, tickets: {fields: {short_description: {text: x, max: 200}}}}", "has 160 characters in ServiceNow"},
		{"a table with a slip of the pen", "  - {name: a, tickets: {table: incidents}}", `did you mean "incident"?`},
		{"nothing left", "  - {name: a}\notherwise: ignore", "this never applies"},
	} {
		got := load(t, "version: 1\nrules:\n"+c.rules).Warnings()
		want := c.says
		if strings.HasPrefix(want, "1:") {
			want = "also denies at the stage granted"
		}
		if len(got) != 1 || !strings.Contains(got[0].String(), want) || got[0].Line < 3 {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	for _, quiet := range []string{
		"  - {name: a, match: {stage: approved, requestType: add}, notDone: deny}",
		"  - {name: a, match: {package: 'SAP *', stage: created}}\n  - {name: b, match: {package: SAP FI}}",
		"  - {name: a, match: {package: SAP F}}\n  - {name: b, match: {package: 'SAP *'}}",
		"  - {name: a, tickets: {table: u_incident, fields: {u_impackt: x, assignment_group: 287ebd7da9fe198100f92cc8d1d2154e}}}",
	} {
		if got := load(t, "version: 1\nrules:\n"+quiet).Warnings(); len(got) > 0 {
			t.Errorf("%s: %v", quiet, got)
		}
	}
}

func FuzzLoadNeverPanics(f *testing.F) {
	for _, dir := range []string{"good", "faulty"} {
		files, err := filepath.Glob(filepath.Join("testdata", dir, "*.yaml"))
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	for _, s := range []string{
		"", "\xff", "- - - - - - - - - - - - - - - - - - - - - - -", "a: &a [*a]", "? x\n: y", "{", "[", "!!binary x", "version: 1\n\tx", "\ufeffversion: 1", "%YAML 1.2\n---\nversion: 1",
		"version: 1\r\nrules:\r\n  - name: x\r\n", "<<: x", ": x", "version: .nan", "version: 1\nrules:\n- name: |\n    x\n- ", strings.Repeat("[", 50), strings.Repeat("a: ", 50),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		rules, err := Load("x", text)
		if (rules == nil) == (err == nil) {
			t.Fatalf("%v, %v", rules, err)
		}
		if problems, ok := errors.AsType[FileErrors](err); err != nil && (!ok || len(problems) == 0 || problems[0].Line < 1 || problems[0].Column < 1 || strings.Contains(problems[0].Text, "\n")) {
			t.Fatalf("%#v", err)
		}
		if rules == nil {
			return
		}
		for _, c := range []*callout.Callout{{}, {Stage: callout.StageApproved, RequestType: "userAdd", Answers: []callout.Answer{{Question: "a", Value: "b"}}}} {
			if _, err := rules.Choose(c, deadline); err != nil && !fault.Is(err, fault.Misconfigured) {
				t.Fatal(err)
			}
		}
		rules.Uses()
	})
}
