package ticket

import (
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"ticketbridge/handler/callout"
)

// The stages as rules call them, with what callouts say. A stage may be called by either.
var stageNames = []struct{ short, stage string }{
	{"created", callout.StageCreated},
	{"approved", callout.StageApproved},
	{"granted", callout.StageGranted},
	{"removed", callout.StageRemoved},
	{"fourteenDaysBeforeExpiration", callout.StageFourteenDays},
	{"oneDayBeforeExpiration", callout.StageOneDay},
	{"determiningApprovalRequirements", "assignmentRequestDeterminingApprovalRequirements"},
}

// The request types as callouts say them, in families.
var requestFamilies = []struct {
	name  string
	types []string
}{
	{"add", []string{"userAdd", "adminAdd", "systemAdd", "onBehalfAdd"}},
	{"update", []string{"userUpdate", "adminUpdate", "systemUpdate"}},
	{"extend", []string{"userExtend"}},
	{"remove", []string{"userRemove", "adminRemove", "systemRemove", "approverRemove"}},
	{"", []string{"notSpecified"}},
}

// A pattern is a text in which * stands for any characters, compared without regard to case.
type pattern string

func (p pattern) matches(s string) bool {
	parts := strings.Split(strings.ToLower(string(p)), "*")
	s = strings.ToLower(s)
	if len(parts) == 1 {
		return parts[0] == s
	}
	first, last := parts[0], parts[len(parts)-1]
	if len(s) < len(first)+len(last) || !strings.HasPrefix(s, first) || !strings.HasSuffix(s, last) {
		return false
	}
	s = s[len(first) : len(s)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s = s[i+len(part):]
	}
	return true
}

// all says whether the pattern is for everything, also for what was not sent.
func (p pattern) all() bool { return p != "" && strings.Trim(string(p), "*") == "" }

// A condition is what one key of a match asks of a callout.
type condition struct {
	key      string
	patterns []pattern
	values   func(*callout.Callout) []string // what is compared, any of it; the first is what people read
}

var conditions = map[string]func(*callout.Callout) []string{
	"catalog": func(c *callout.Callout) []string { return []string{oneLine(c.Catalog.Name), c.Catalog.ID} },
	"package": func(c *callout.Callout) []string { return []string{oneLine(c.Package.Name), c.Package.ID} },
	"policy": func(c *callout.Callout) []string {
		return []string{oneLine(c.Assigned.Policy.Name), c.Assigned.Policy.ID}
	},
	"stage":       func(c *callout.Callout) []string { return []string{c.Stage} },
	"requestType": func(c *callout.Callout) []string { return []string{c.RequestType} },
}

// A match is what a rule asks of a callout: all of its conditions.
type match []condition

// whyNot says in a sentence why the callout is not for the rule; "" when it is.
func (m match) whyNot(c *callout.Callout) string {
	for _, one := range m {
		if !one.holds(c) {
			found := one.values(c)[0]
			if found == "" {
				return fmt.Sprintf("the callout names no %s; it must be %s", one.key, one)
			}
			return fmt.Sprintf("%s is %q, not %s", one.key, name(found), one)
		}
	}
	return ""
}

func (c condition) holds(in *callout.Callout) bool {
	for _, p := range c.patterns {
		for _, v := range c.values(in) {
			if p.all() || v != "" && p.matches(v) {
				return true
			}
		}
	}
	return false
}

func (c condition) String() string {
	var words []string
	for _, p := range c.patterns {
		words = append(words, fmt.Sprintf("%q", string(p)))
	}
	return list(words)
}

// everything says whether every callout matches.
func (m match) everything() bool {
	return !slices.ContainsFunc(m, func(c condition) bool { return !slices.ContainsFunc(c.patterns, pattern.all) })
}

// covers says whether every callout that matches other matches m too, as far as the patterns tell.
func (m match) covers(other match) bool {
	for _, mine := range m {
		if slices.ContainsFunc(mine.patterns, pattern.all) {
			continue
		}
		i := slices.IndexFunc(other, func(c condition) bool { return c.key == mine.key })
		if i < 0 {
			return false
		}
		for _, p := range other[i].patterns {
			if !slices.ContainsFunc(mine.patterns, func(q pattern) bool { return q.matches(string(p)) }) {
				return false
			}
		}
	}
	return true
}

// may says whether a callout of this stage and request type can match.
func (m match) may(stage, requestType string) bool {
	c := &callout.Callout{Stage: stage, RequestType: requestType}
	for _, one := range m {
		if (one.key == "stage" || one.key == "requestType") && !one.holds(c) {
			return false
		}
	}
	return true
}

// match reads a rule's match.
func (r *reader) match(n ast.Node) match {
	members, _ := r.mapping(n, "a match", keys["match"])
	if len(members) == 0 {
		if m, ok := n.(*ast.MappingNode); ok && len(m.Values) == 0 {
			r.bad(at(n), "the match is empty; leave it out for a rule that matches everything")
		}
	}
	var out match
	for _, m := range members {
		c := condition{key: m.key, values: conditions[m.key]}
		elements := r.sequence(m.value)
		if len(elements) == 0 && r.plainList(m.value) {
			r.bad(at(m.value), "the list is empty; expected one or more patterns for %s", m.key)
		}
		for _, e := range elements {
			s, ok := r.text(e, "a text, or a list of texts, for "+m.key)
			if !ok {
				continue
			}
			s = oneLine(s)
			switch {
			case s == "":
				r.bad(at(e), `the text for %s is empty; "*" stands for anything`, m.key)
			case m.key == "stage":
				c.patterns = append(c.patterns, r.stage(e, s)...)
			case m.key == "requestType":
				c.patterns = append(c.patterns, r.requestType(e, s)...)
			case strings.Contains(s, "**"):
				r.bad(at(e), "found the pattern %q; one * stands for any characters", name(s))
			case strings.HasPrefix(s, "^"), strings.HasSuffix(s, "$"), len(s) > 1 && s[0] == '/' && s[len(s)-1] == '/', strings.Contains(s, "(.*)"), s == ".*":
				r.bad(at(e), "found %q, which looks like a regular expression; the only wildcard is *, which stands for any characters", name(s))
			default:
				c.patterns = append(c.patterns, pattern(s))
			}
		}
		out = append(out, c)
	}
	return out
}

func (r *reader) plainList(n ast.Node) bool {
	s, ok := n.(*ast.SequenceNode)
	return ok && len(s.Values) == 0
}

// stage turns a stage's name into what callouts say.
func (r *reader) stage(n ast.Node, s string) []pattern {
	var out []pattern
	var known []string
	for _, one := range stageNames {
		known = append(known, one.short, one.stage)
		if p := pattern(s); p.matches(one.short) || p.matches(one.stage) {
			out = append(out, pattern(one.stage))
		}
	}
	switch {
	case pattern(s).all():
		return []pattern{"*"}
	case len(out) == 0:
		var short []string
		for _, one := range stageNames {
			short = append(short, one.short)
		}
		r.bad(at(n), "no stage is called %q%s; the stages are %s", name(s), meant(s, known), and(short))
	}
	return out
}

// requestType turns the name of a request type, or of a family of them, into what callouts say.
func (r *reader) requestType(n ast.Node, s string) []pattern {
	var out []pattern
	var known, families, types []string
	for _, f := range requestFamilies {
		if f.name != "" {
			families = append(families, f.name)
		}
		types = append(types, f.types...)
		for _, t := range f.types {
			if f.name != "" && strings.EqualFold(s, f.name) || pattern(s).matches(t) {
				out = append(out, pattern(t))
			}
		}
	}
	known = append(families, types...)
	switch {
	case pattern(s).all():
		return []pattern{"*"}
	case len(out) == 0:
		r.bad(at(n), "no request type is called %q%s; there are %s, and the single types %s", name(s), meant(s, known), and(families), and(types))
	}
	return out
}
