package servicenow

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// A query is an encoded query: sets of conditions joined by ^NQ, in each set conditions that must all hold, each of
// them an alternative of conditions joined by ^OR.
type query struct {
	sets   [][][]condition
	orders []order
}

type condition struct{ field, operator, value string }

type order struct {
	field      string
	descending bool
}

// operators, the longer before those they contain.
var operators = []string{
	"ISNOTEMPTY", "ISEMPTY", "NOT IN", "NOT LIKE", "STARTSWITH", "ENDSWITH", "CONTAINS", "DOES NOT CONTAIN", "ANYTHING",
	"LIKE", "IN", "!=", ">=", "<=", "=", ">", "<",
}

// parseQuery reads an encoded query against a table. A condition on a field that the table does not have, or with an
// operator that nobody knows, is left out, as documented; with strict it makes the query match nothing.
func (i *Instance) parseQuery(t *table, text string, strict bool) (q query, matchesNothing bool) {
	set := [][]condition{}
	for token := range strings.SplitSeq(text, "^") {
		if rest, next := strings.CutPrefix(token, "NQ"); next {
			q.sets = append(q.sets, set)
			set, token = [][]condition{}, rest
		}
		if field, ok := strings.CutPrefix(token, "ORDERBYDESC"); ok {
			q.orders = append(q.orders, order{field, true})
			continue
		}
		if field, ok := strings.CutPrefix(token, "ORDERBY"); ok {
			q.orders = append(q.orders, order{field, false})
			continue
		}
		token, alternative := strings.CutPrefix(token, "OR")
		if token == "" || token == "EQ" {
			continue
		}
		c, ok := parseCondition(token)
		if !ok || !i.hasField(t, c.field) {
			if strict {
				matchesNothing = true
			}
			continue
		}
		if alternative && len(set) > 0 {
			set[len(set)-1] = append(set[len(set)-1], c)
		} else {
			set = append(set, []condition{c})
		}
	}
	q.sets = append(q.sets, set)
	return q, matchesNothing
}

func parseCondition(token string) (condition, bool) {
	end := strings.IndexFunc(token, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' || r == '.')
	})
	if end <= 0 {
		return condition{}, false
	}
	for _, op := range operators {
		if value, ok := strings.CutPrefix(token[end:], op); ok {
			return condition{token[:end], op, value}, true
		}
	}
	return condition{}, false
}

// hasField follows a dotted field through references.
func (i *Instance) hasField(t *table, field string) bool {
	head, rest, dotted := strings.Cut(field, ".")
	c := t.columns[head]
	if c == nil || !dotted {
		return c != nil
	}
	return c.Kind == Reference && i.hasField(i.tables[c.Refers], rest)
}

// follow finds the record and column that a dotted field means; nil when a reference on the way is not set.
func (i *Instance) follow(rec *record, field string) (*record, string) {
	for {
		head, rest, dotted := strings.Cut(field, ".")
		if !dotted {
			return rec, field
		}
		to := i.records[rec.fields[head]]
		if to == nil {
			return nil, ""
		}
		rec, field = to, rest
	}
}

func (i *Instance) matches(q query, rec *record) bool {
	return slices.ContainsFunc(q.sets, func(set [][]condition) bool {
		for _, alternatives := range set {
			if !slices.ContainsFunc(alternatives, func(c condition) bool { return i.holds(c, rec) }) {
				return false
			}
		}
		return true
	})
}

func (i *Instance) holds(c condition, rec *record) bool {
	value, integer := "", false
	if at, field := i.follow(rec, c.field); at != nil {
		value = at.fields[field]
		integer = at.table.columns[field] != nil && at.table.columns[field].Kind == Integer
	}
	have, want := strings.ToLower(value), strings.ToLower(c.value)
	switch c.operator {
	case "=":
		return have == want
	case "!=":
		return have != want
	case "IN":
		return slices.Contains(strings.Split(want, ","), have)
	case "NOT IN":
		return !slices.Contains(strings.Split(want, ","), have)
	case "LIKE", "CONTAINS":
		return strings.Contains(have, want)
	case "NOT LIKE", "DOES NOT CONTAIN":
		return !strings.Contains(have, want)
	case "STARTSWITH":
		return strings.HasPrefix(have, want)
	case "ENDSWITH":
		return strings.HasSuffix(have, want)
	case "ISEMPTY":
		return have == ""
	case "ISNOTEMPTY":
		return have != ""
	case "ANYTHING":
		return true
	}
	if have == "" {
		return false
	}
	by := cmp.Compare(have, want)
	if integer {
		a, _ := strconv.Atoi(have)
		b, err := strconv.Atoi(want)
		if err != nil {
			return false
		}
		by = cmp.Compare(a, b)
	}
	switch c.operator {
	case ">":
		return by > 0
	case ">=":
		return by >= 0
	case "<":
		return by < 0
	default:
		return by <= 0
	}
}

// find lists the records of a table and its children that match. Without an ORDERBY the order means nothing: it is that
// of the sys_ids, which are random. The lock is held.
func (i *Instance) find(t *table, text string, strict bool) []*record {
	q, nothing := i.parseQuery(t, text, strict)
	if nothing {
		return nil
	}
	var list []*record
	for _, rec := range i.records {
		if rec.table.is(t.name) && i.matches(q, rec) {
			list = append(list, rec)
		}
	}
	slices.SortFunc(list, func(a, b *record) int {
		for _, o := range q.orders {
			x, y := a.fields[o.field], b.fields[o.field]
			by := cmp.Compare(x, y)
			if c := t.columns[o.field]; c != nil && c.Kind == Integer {
				m, _ := strconv.Atoi(x)
				n, _ := strconv.Atoi(y)
				by = cmp.Compare(m, n)
			}
			if o.descending {
				by = -by
			}
			if by != 0 {
				return by
			}
		}
		return cmp.Compare(a.id(), b.id())
	})
	return list
}
