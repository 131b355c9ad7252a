package ticket

import (
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"ticketbridge/handler/correlation"
)

// A status is what a file says of the fields of a table's tickets.
type status struct {
	at      place
	replace bool // what ticketbridge knows of the table does not count
	columns []statusColumn
}

// A statusColumn is what a file says of one column: which of its values mean what, as patterns.
type statusColumn struct {
	column              string
	at                  place
	done, notDone, open []string
}

// decides says whether the column says how the work stands. One that only names values for "not done" is looked at once another says "done".
func (s statusColumn) decides() bool { return len(s.done)+len(s.open) > 0 }

// status reads a status.
func (r *reader) status(n ast.Node, what string) *status {
	members, ok := r.mapping(n, what, nil)
	if !ok {
		return nil
	}
	s := &status{at: at(n)}
	for _, m := range members {
		if m.key == "replace" {
			s.replace = r.boolean(m.value)
			continue
		}
		if !r.column(m.at, m.key) {
			continue
		}
		c := statusColumn{column: m.key, at: m.at}
		found := len(r.problems)
		outcomes, _ := r.mapping(m.value, "a column's outcomes", keys["outcomes"])
		said := map[string]string{}
		for _, o := range outcomes {
			var values []string
			for _, e := range r.sequence(o.value) {
				v, ok := r.text(e, "a value, or a list of values, of the column "+m.key)
				v = strings.ToLower(strings.TrimSpace(v))
				switch earlier, twice := said[v]; {
				case !ok:
				case v == "":
					r.bad(at(e), "the value is empty; an empty column never decides")
				case pattern(v).all():
					r.bad(at(e), `the value "*" would take in values that nobody has thought of; name the values`)
				case twice:
					r.bad(at(e), "the value %q of %s is said to mean %s already", name(v), m.key, earlier)
				default:
					said[v] = o.key
					values = append(values, v)
				}
			}
			switch o.key {
			case "done":
				c.done = values
			case "notDone":
				c.notDone = values
			case "open":
				c.open = values
			}
		}
		if m.key == "approval" && c.decides() {
			r.bad(m.at, "an approval says nothing of the work: only notDone can be said of its values")
			continue
		}
		if len(said) == 0 && len(r.problems) == found {
			r.bad(m.at, "nothing is said of the values of %s; expected done, notDone or open with values", m.key)
			continue
		}
		s.columns = append(s.columns, c)
	}
	if s.replace && !slices.ContainsFunc(s.columns, func(c statusColumn) bool { return len(c.done) > 0 }) {
		r.bad(s.at, `the status replaces what is known of the table, and no value means "done"`)
	}
	return s
}

// extended is what the fields mean when a file says s of them.
//
// What the file says of a value goes before what is known of it. All else that is known of the table stays, so that a rejected approval and fields that
// contradict each other are seen: of two columns that do, nothing is believed, and a person looks.
func (m meaning) extended(s *status) meaning {
	out := meaning{inactive: m.inactive, decide: slices.Clone(m.decide), veto: slices.Clone(m.veto), need: slices.Clone(m.need)}
	if s.replace {
		out = meaning{veto: []veto{rejectedApproval}}
	}
	var first []reading // the file's own columns decide before those that are known
	for _, c := range s.columns {
		i := slices.IndexFunc(out.decide, func(d reading) bool { return d.column == c.column })
		confirms := slices.ContainsFunc(out.need, func(n needed) bool { return n.column == c.column }) ||
			slices.ContainsFunc(out.veto, func(v veto) bool { return v.column == c.column })
		// No value that the file gives a meaning is still one of those that say "not done".
		for j := range out.veto {
			if v := &out.veto[j]; v.column == c.column && !v.rejects {
				v.except = slices.Concat(v.except, c.done, c.open)
			}
		}
		if i < 0 && (confirms || !c.decides()) {
			for j := range out.need {
				if n := &out.need[j]; n.column == c.column {
					n.values = slices.Concat(n.values, c.done, c.notDone)
				}
			}
			if len(c.notDone) > 0 {
				out.veto = append(out.veto, veto{column: c.column, values: c.notDone, done: correlation.Rejected, rejects: c.column == "approval"})
			}
			continue
		}
		own := c.readings()
		if i >= 0 {
			d := &out.decide[i]
			d.own = slices.Concat(own, d.own)
		} else {
			first = append(first, reading{column: c.column, own: own})
		}
	}
	out.decide = slices.Concat(first, out.decide)
	if len(s.columns) > 0 && len(out.decide) > 1 {
		out.veto = append(out.veto, contradictions(out.decide, s)...)
	}
	return out
}

func (s statusColumn) readings() []ownValue {
	var out []ownValue
	add := func(values []string, means correlation.Outcome) {
		for _, v := range values {
			out = append(out, ownValue{pattern(v), means})
		}
	}
	add(s.notDone, correlation.Rejected) // of two patterns that take in the same value, the one for less
	add(s.open, correlation.Pending)
	add(s.done, correlation.Fulfilled)
	return out
}

// contradictions are the vetoes of columns that decide against each other, where the file had a say. Those of two columns that it does not name stay as they are.
func contradictions(decide []reading, s *status) []veto {
	var out []veto
	for i, d := range decide[1:] {
		named := func(r reading) bool {
			return slices.ContainsFunc(s.columns, func(c statusColumn) bool { return c.column == r.column })
		}
		if !named(d) && !slices.ContainsFunc(decide[:i+1], named) {
			continue
		}
		values := func(means correlation.Outcome) (of, except []string) {
			for _, o := range d.own {
				if o.means == means {
					of = append(of, string(o.values))
				} else {
					except = append(except, string(o.values))
				}
			}
			for v, o := range d.means {
				if o == means && !slices.ContainsFunc(d.own, func(o ownValue) bool { return o.values.matches(v) }) {
					of = append(of, v)
				}
			}
			slices.Sort(of)
			return of, except
		}
		if of, except := values(correlation.Rejected); len(of) > 0 {
			out = append(out, veto{column: d.column, values: of, except: exact(except), done: correlation.Unknown})
		}
		if of, _ := values(correlation.Fulfilled); len(of) > 0 {
			out = append(out, veto{column: d.column, values: of, notDone: correlation.Unknown})
		}
	}
	return out
}

// exact leaves the patterns out: a value that one of them takes in may well be one that was named itself.
func exact(values []string) []string {
	return slices.DeleteFunc(slices.Clone(values), func(v string) bool { return strings.Contains(v, "*") })
}
