//go:build contracts

package entra

import (
	"slices"
	"strings"
	"testing"

	"ticketbridge/handler/simulator/entra/csdl"
)

// The stand-in's own schema must be a part of the published one.
func TestOurSchemaIsAPartOfThePublishedOne(t *testing.T) {
	t.Parallel()
	published, ours := publishedSchema(), graphSchema()
	for _, mine := range ours.Types() {
		theirs := published.Type(mine.Name)
		if theirs == nil {
			t.Errorf("%s is not published", mine.Name)
			continue
		}
		if theirs.Kind != mine.Kind || theirs.Abstract != mine.Abstract || theirs.Base != mine.Base {
			t.Errorf("%s: %v %v %q, published %v %v %q", mine.Name, mine.Kind, mine.Abstract, mine.Base, theirs.Kind, theirs.Abstract, theirs.Base)
		}
		for _, member := range mine.Members {
			if !slices.Contains(theirs.Members, member) {
				t.Errorf("%s has no member %s", mine.Name, member)
			}
		}
		for _, pair := range []struct{ mine, theirs map[string]csdl.Property }{
			{mine.Properties, theirs.Properties}, {mine.Navigations, theirs.Navigations},
		} {
			for name, p := range pair.mine {
				if q, ok := pair.theirs[name]; !ok || p.Required != q.Required || p.Ref != full(published, q.Ref) {
					t.Errorf("%s.%s is %v, published %v", mine.Name, name, p, q)
				}
			}
		}
	}
	for _, root := range ours.Roots() {
		if !slices.ContainsFunc(published.Roots(), func(p csdl.Property) bool { return p.Name == root.Name && p.Ref == root.Ref }) {
			t.Errorf("%s is not published at the root", root.Name)
		}
	}
	for _, o := range ours.Operations() {
		if !slices.ContainsFunc(published.Operations(), func(p *csdl.Operation) bool {
			return p.Name == o.Name && p.Action == o.Action && full(published, p.Binding) == o.Binding && len(p.Parameters) == len(o.Parameters)
		}) {
			t.Errorf("there is no operation %s on %s", o.Name, o.Binding)
		}
	}
}

func full(m *csdl.Model, r csdl.Ref) csdl.Ref {
	if t := m.Type(r.Type); t != nil {
		r.Type = t.Name
	}
	return r
}

// Each departure of a client must be recorded, with where it is.
func TestEachDepartureFromThePublishedSchemaIsRecorded(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	f.wrong = true
	r := f.waiting()
	f.want(200, "GET", requestPath(r), "")
	if v := f.Violations(); len(v) != 0 {
		t.Fatalf("a good exchange is recorded: %v", v)
	}
	for _, c := range []struct{ method, path, body, want string }{
		{"POST", requestPath(r) + "/resume", resumeBody(StageApproved, "x", `, "outcome": "done"`), "request.data.outcome"},
		{"POST", requestPath(r) + "/resume", resumeBody("assignmentRequestPondered", "x", ""), "request.data.stage"},
		{"POST", requestPath(r) + "/resume", `{"source":7}`, "request.source"},
		{"POST", requestPath(r) + "/proceed", "{}", "path"},
		{"POST", management + "/accessPackageAssignmentRequests/" + r.ID + "/resume", "{}", "path"},
		{"GET", requestPath(r) + "?$select=outcome", "", "$select"},
		{"GET", requestPath(r) + "?$expand=state", "", "$expand"},
		{"GET", management + "/assignmentRequests?$filter=outcome eq 'x'", "", "$filter"},
		{"DELETE", management + "/assignmentRequests", "", "method"},
	} {
		before := len(f.Violations())
		f.call(c.method, c.path, c.body)
		found := f.Violations()[before:]
		if len(found) == 0 || !strings.Contains(strings.Join(found, "\n"), ": "+c.want) {
			t.Errorf("%s %s: recorded %v, want one at %s", c.method, c.path, found, c.want)
		}
	}
}
