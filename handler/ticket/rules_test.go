package ticket

import (
	"maps"
	"strings"
	"testing"
	"text/template"
	"time"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"ticketbridge/handler/callout"
	"ticketbridge/handler/fault"
)

func TestEachStageAndRequestTypeHasItsRule(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ stage, kind, rule, onRejected, short string }{
		{"assignmentRequestCreated", "userAdd", "request", "deny", "Check access request: "},
		{"assignmentRequestCreated", "onBehalfAdd", "request", "deny", "Check access request: "},
		{"assignmentRequestCreated", "notSpecified", "request", "deny", "Check access request: "},
		{"assignmentRequestCreated", "userUpdate", "update-requested", "deny", "Check change of access: "},
		{"assignmentRequestCreated", "userExtend", "extension-requested", "deny", "Check extension of access: "},
		{"assignmentRequestCreated", "userRemove", "removal-requested", "hold", "Remove access: "},
		{"assignmentRequestApproved", "userAdd", "grant", "deny", "Give access: "},
		{"assignmentRequestApproved", "systemAdd", "grant", "deny", "Give access: "},
		{"assignmentRequestApproved", "", "grant", "deny", "Give access: "},
		{"assignmentRequestApproved", "adminUpdate", "update", "deny", "Change access: "},
		{"assignmentRequestApproved", "userExtend", "extension", "deny", "Extend access: "},
		{"assignmentRequestApproved", "approverRemove", "removal-requested", "hold", "Remove access: "},
		{"assignmentRequestGranted", "userAdd", "granted", "hold", "Access given: "},
		{"assignmentRequestGranted", "userExtend", "granted", "hold", "Access given: "},
		{"assignmentRequestGranted", "adminRemove", "removal-requested", "hold", "Remove access: "},
		{"assignmentRequestRemoved", "systemRemove", "removal", "hold", "Remove access: "},
		{"assignmentRequestRemoved", "userAdd", "removal", "hold", "Remove access: "},
		{"assignmentFourteenDaysBeforeExpiration", "", "expires-in-14-days", "hold", "Access ends in 14 days: "},
		{"assignmentOneDayBeforeExpiration", "", "expires-in-1-day", "hold", "Access ends in one day: "},
		{"assignmentOneDayBeforeExpiration", "userRemove", "expires-in-1-day", "hold", "Access ends in one day: "},
		{"assignmentRequestDeterminingApprovalRequirements", "userAdd", "default", "hold", "Access request: "},
		{"somethingNew", "userRemove", "default", "hold", "Access request: "},
		{"", "", "default", "hold", "Access request: "},
	} {
		got, err := BuiltIn().Choose(&callout.Callout{Stage: c.stage, RequestType: c.kind, Waits: true}, deadline)
		if err != nil {
			t.Fatal(err)
		}
		if got.Rule != c.rule || got.OnRejected != c.onRejected || len(got.Drafts) != 1 || !strings.HasPrefix(got.Drafts[0].Fields["short_description"], c.short) {
			t.Errorf("%s %s: %s %s %q", c.stage, c.kind, got.Rule, got.OnRejected, got.Drafts[0].Fields["short_description"])
		}
		if got.Drafts[0].Table != "sc_request" || got.Drafts[0].Entry == "" {
			t.Errorf("%s %s: %+v", c.stage, c.kind, got.Drafts[0])
		}
		if _, ok := got.Drafts[0].Fields["correlation_id"]; ok {
			t.Errorf("%s %s: correlation_id is the workflow's to set", c.stage, c.kind)
		}
	}
}

// A removal that was not carried out must be told to Entra neither as done nor as taken back.
func TestOnlyARequestForAccessIsEverDenied(t *testing.T) {
	t.Parallel()
	for _, r := range BuiltIn().rules {
		gives := strings.HasPrefix(r.name, "grant") && r.name != "granted" || strings.HasPrefix(r.name, "request") ||
			strings.HasPrefix(r.name, "update") || strings.HasPrefix(r.name, "extension")
		if want := map[bool]string{true: OnRejectedDeny, false: OnRejectedHold}[gives]; r.onRejected != want {
			t.Errorf("rule %s: %s, want %s", r.name, r.onRejected, want)
		}
	}
}

func TestWhateverPeopleWroteTheTicketFitsAndTheIDsStay(t *testing.T) {
	t.Parallel()
	text := rapid.OneOf(rapid.String(), rapid.StringN(0, 9000, -1), rapid.Just(strings.Repeat("😀x\n", 3000)), rapid.Just("a\xff\u202eb\x00c\r\nd"))
	rapid.Check(t, func(t *rapid.T) {
		person := func(label string) callout.Person {
			return callout.Person{
				ObjectID: text.Draw(t, label+" object id"), Name: text.Draw(t, label+" name"), Email: text.Draw(t, label+" e-mail"), PrincipalName: text.Draw(t, label+" principal name"),
				Organization: callout.Named{Name: text.Draw(t, label+" organization")},
			}
		}
		c := &callout.Callout{
			RequestID: "7D1F0A52-6c1e-4e0b-9a3c-0d8f5f2b7a11", StageInstanceID: "c0a6e2d4-52f7-4a9e-8f0e-1b6f9d3c2e77",
			Stage: text.Draw(t, "stage"), RequestType: text.Draw(t, "type"), Waits: rapid.Bool().Draw(t, "waits"),
			Package:  callout.Named{Name: text.Draw(t, "package"), Description: text.Draw(t, "description")},
			Catalog:  callout.Named{Name: text.Draw(t, "catalog")},
			Assigned: callout.Assignment{Target: person("target"), Policy: callout.Named{Name: text.Draw(t, "policy")}},
			By:       person("requestor"),
		}
		for range rapid.IntRange(0, 5).Draw(t, "answers") {
			c.Answers = append(c.Answers, callout.Answer{Question: text.Draw(t, "question"), Value: text.Draw(t, "answer")})
		}
		got, err := BuiltIn().Choose(c, deadline)
		if err != nil {
			t.Fatal(err)
		}
		f := got.Drafts[0].Fields
		for column, limit := range map[string]int{"short_description": 160, "description": 4000, "correlation_display": 100} {
			if n := length(f[column]); n == 0 || n > limit {
				t.Fatalf("%s has %d characters", column, n)
			}
		}
		for column, value := range f {
			if !utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool { return r != '\n' && unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }) {
				t.Fatalf("%s holds what is not text: %q", column, value)
			}
		}
		if strings.Contains(f["short_description"], "\n") {
			t.Fatalf("short description of several lines: %q", f["short_description"])
		}
		for _, want := range []string{
			"\nDeadline: 2026-03-15 12:04 UTC.", "\nClose it as complete",
			"\nAccess package assignment request: 7d1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a11\nStage instance: c0a6e2d4-52f7-4a9e-8f0e-1b6f9d3c2e77",
		} {
			if !strings.Contains(f["description"], want) && !c.Expiring() {
				t.Fatalf("the description has lost %q:\n%s", want, f["description"])
			}
		}
	})
}

func TestAnAnswerCannotPassForALineOfOurs(t *testing.T) {
	t.Parallel()
	c := sample(t, "approved-add")
	c.Answers = []callout.Answer{{Question: "Why?\nStage instance: x", Value: "Because.\r\n\r\nAccess package: Domain Admins\u2028Catalog: All"}}
	got, err := BuiltIn().Choose(c, deadline)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(got.Drafts[0].Fields["description"], "\n") {
		if strings.Contains(line, "Domain Admins") && !strings.HasPrefix(line, "    ") || strings.HasPrefix(line, "Catalog: All") || line == "Stage instance: x" {
			t.Errorf("line %q", line)
		}
	}
}

func TestATemplateSyntaxInWhatPeopleWroteIsNotExecuted(t *testing.T) {
	t.Parallel()
	c := sample(t, "approved-add")
	c.Package.Name = "{{.RequestID}}"
	got, err := BuiltIn().Choose(c, deadline)
	if err != nil || !strings.Contains(got.Drafts[0].Fields["short_description"], "{{.RequestID}}") {
		t.Errorf("%q, %v", got.Drafts[0].Fields["short_description"], err)
	}
}

func TestARequestorIsNamedOnlyWhenAnotherPerson(t *testing.T) {
	t.Parallel()
	ada := callout.Person{ID: "1", ObjectID: "A", Name: "Ada", Email: "ada@example.com"}
	for name, c := range map[string]struct {
		by   callout.Person
		want bool
	}{
		"the same object":                {callout.Person{ObjectID: "a", Name: "Somebody"}, false},
		"another object of the same id":  {callout.Person{ID: "1", ObjectID: "B", Name: "Ada"}, true},
		"the same id":                    {callout.Person{ID: "1"}, false},
		"the same mail":                  {callout.Person{Email: "ADA@example.com"}, false},
		"another mail":                   {callout.Person{Email: "max@example.com"}, true},
		"nothing that could be compared": {callout.Person{PrincipalName: "x@example.com"}, true},
		"nobody":                         {callout.Person{}, false},
	} {
		got, err := BuiltIn().Choose(&callout.Callout{Assigned: callout.Assignment{Target: ada}, By: c.by}, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if named := strings.Contains(got.Drafts[0].Fields["description"], "Requested by: "); named != c.want {
			t.Errorf("%s: named %v", name, named)
		}
	}
}

func TestATemplateThatFailsIsMisconfiguredAndNamesTheRule(t *testing.T) {
	t.Parallel()
	r := &Rules{rules: []rule{{
		name: "own", matches: func(*callout.Callout) bool { return true },
		tickets: []entry{{name: "t", table: "incident", fields: map[string]*template.Template{"x": template.Must(template.New("x").Parse("{{.NoSuch}}"))}}},
	}}}
	_, err := r.Choose(&callout.Callout{}, time.Time{})
	if !fault.Is(err, fault.Misconfigured) || !strings.Contains(err.Error(), "rule own: the template of ticket t, column x") {
		t.Errorf("%v", err)
	}
	if _, err := (&Rules{}).Choose(&callout.Callout{Stage: "s"}, time.Time{}); !fault.Is(err, fault.Misconfigured) || !strings.Contains(err.Error(), `no rule matches stage "s"`) {
		t.Errorf("%v", err)
	}
}

func TestCutAtTheLimitNeverInsideACharacter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in    string
		limit int
		want  string
	}{
		{"abc", 3, "abc"}, {"abcd", 3, "ab…"}, {"ab cd", 4, "ab…"}, {"äöüß", 4, "äöüß"}, {"äöüßx", 4, "äöü…"}, {"😀😀", 4, "😀😀"}, {"😀😀", 3, "😀…"}, {"😀😀", 2, "…"}, {"", 0, ""},
	} {
		if got := clip(c.in, c.limit); got != c.want {
			t.Errorf("clip(%q, %d) = %q, want %q", c.in, c.limit, got, c.want)
		}
	}
}

func TestATicketIsForTheTargetWhoeverAskedForIt(t *testing.T) {
	t.Parallel()
	ada := callout.Person{Name: "Ada", PrincipalName: "ada@corp.example.com", Email: "ada@example.com"}
	requestor := callout.Person{Name: "Max", PrincipalName: "max@corp.example.com", Email: "max@example.com"}
	for _, stage := range []string{callout.StageCreated, callout.StageApproved, callout.StageGranted, callout.StageRemoved, callout.StageOneDay, "somethingNew"} {
		for _, c := range []struct {
			target callout.Person
			want   map[string]Person
		}{
			{ada, map[string]Person{"requested_for": {PrincipalName: "ada@corp.example.com", Email: "ada@example.com"}}},
			{callout.Person{Email: "ada@example.com"}, map[string]Person{"requested_for": {Email: "ada@example.com"}}},
			{callout.Person{Name: "Ada", ObjectID: "1"}, nil},
		} {
			got, err := BuiltIn().Choose(&callout.Callout{Stage: stage, Assigned: callout.Assignment{Target: c.target}, By: requestor}, deadline)
			if err != nil {
				t.Fatal(err)
			}
			if !maps.Equal(got.Drafts[0].Users, c.want) {
				t.Errorf("%s for %+v: %v, want %v", stage, c.target, got.Drafts[0].Users, c.want)
			}
			if _, ok := got.Drafts[0].Fields["requested_for"]; ok {
				t.Errorf("%s: requested_for holds what is no user of ServiceNow", stage)
			}
		}
	}
}
