package csdl

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Query is what the system query options of a URL ask for.
type Query struct {
	Select  []string
	Expand  []Expand
	Filter  Expr // nil when there is none
	OrderBy []Order
	Top     int // -1 when it is not given
	Skip    int
	Count   bool
	Token   string     // $skiptoken: where a further page begins
	Raw     url.Values // the options as they came
}

// An Expand names a navigation property whose entities are wanted in the answer, and what of them.
type Expand struct {
	Name  string
	Query Query
}

// An Order is one part of $orderby.
type Order struct {
	Path       []string
	Descending bool
}

// ParseQuery reads the system query options. What it cannot read, or does not know, is a Violation.
func ParseQuery(values url.Values) (Query, []Violation) {
	options := map[string]string{}
	var found []Violation
	for name, list := range values {
		if !strings.HasPrefix(name, "$") {
			continue // Graph ignores what is no system option
		}
		if len(list) > 1 {
			found = append(found, Violation{name, "given more than once"})
		}
		options[name] = list[0]
	}
	q, more := readQuery(options)
	q.Raw = values
	return q, append(found, more...)
}

func readQuery(options map[string]string) (Query, []Violation) {
	q := Query{Top: -1}
	var found []Violation
	for name, text := range options {
		var err error
		switch name {
		case "$select":
			q.Select = splitTop(text, ',')
		case "$expand":
			for _, item := range splitTop(text, ',') {
				e, more := readExpand(item)
				q.Expand = append(q.Expand, e)
				found = append(found, more...)
			}
		case "$filter":
			q.Filter, err = ParseFilter(text)
		case "$orderby":
			for _, item := range splitTop(text, ',') {
				fields := strings.Fields(item)
				if len(fields) == 0 || len(fields) > 2 || len(fields) == 2 && fields[1] != "asc" && fields[1] != "desc" {
					err = fmt.Errorf("%q is no property with asc or desc", item)
					break
				}
				q.OrderBy = append(q.OrderBy, Order{strings.Split(fields[0], "/"), len(fields) == 2 && fields[1] == "desc"})
			}
		case "$top":
			q.Top, err = strconv.Atoi(text)
		case "$skip":
			q.Skip, err = strconv.Atoi(text)
		case "$count":
			q.Count, err = strconv.ParseBool(text)
		case "$skiptoken":
			q.Token = text
		case "$search", "$format", "$levels":
			// known to OData; nothing here depends on them
		default:
			err = fmt.Errorf("there is no such query option")
		}
		if err != nil {
			found = append(found, Violation{name, err.Error()})
		}
	}
	if q.Top < -1 || q.Skip < 0 {
		found = append(found, Violation{"$top, $skip", "negative"})
	}
	return q, found
}

func readExpand(item string) (Expand, []Violation) {
	name, rest, ok := strings.Cut(strings.TrimSpace(item), "(")
	if !ok {
		return Expand{Name: name, Query: Query{Top: -1}}, nil
	}
	if !strings.HasSuffix(rest, ")") {
		return Expand{Name: name}, []Violation{{"$expand", "a parenthesis is not closed"}}
	}
	options := map[string]string{}
	for _, option := range splitTop(strings.TrimSuffix(rest, ")"), ';') {
		key, value, _ := strings.Cut(option, "=")
		options[strings.TrimSpace(key)] = value
	}
	q, found := readQuery(options)
	return Expand{Name: name, Query: q}, found
}

// splitTop splits at a mark, but not within parentheses or quotes.
func splitTop(text string, mark byte) []string {
	var out []string
	depth, quoted, from := 0, false, 0
	for i := range len(text) {
		switch c := text[i]; {
		case c == '\'':
			quoted = !quoted
		case quoted:
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == mark && depth == 0:
			out = append(out, strings.TrimSpace(text[from:i]))
			from = i + 1
		}
	}
	return append(out, strings.TrimSpace(text[from:]))
}

// CheckQuery says where a query names what the type does not have.
func (m *Model) CheckQuery(ref Ref, q Query) []Violation {
	typ := m.full(ref.Type)
	if m.types[typ] == nil {
		return nil // not declared in a schema that was cut down
	}
	var found []Violation
	for _, name := range q.Select {
		if name == "*" {
			continue
		}
		if _, _, problem := m.follow(typ, strings.Split(name, "/")); problem != "" {
			found = append(found, Violation{"$select", problem})
		}
	}
	for _, e := range q.Expand {
		p, navigation, ok := m.navigation(typ, e.Name)
		if !ok || !navigation {
			found = append(found, Violation{"$expand", fmt.Sprintf("%s has no navigation property %q", typ, e.Name)})
			continue
		}
		for _, v := range m.CheckQuery(p.Ref, e.Query) {
			found = append(found, Violation{"$expand=" + e.Name + "(" + v.At + ")", v.Detail})
		}
	}
	for _, o := range q.OrderBy {
		if _, _, problem := m.follow(typ, o.Path); problem != "" {
			found = append(found, Violation{"$orderby", problem})
		}
	}
	if q.Filter != nil {
		if !ref.Collection {
			found = append(found, Violation{"$filter", "asked of a single " + typ})
		}
		f := filterCheck{m: m, scope: map[string]string{"": typ}}
		f.boolean(q.Filter)
		found = append(found, f.found...)
	}
	return found
}

// navigation finds what an item of $expand names: a navigation property of the type, of a type derived from it (named before a
// slash), or within one of its complex properties.
func (m *Model) navigation(typ, name string) (Property, bool, bool) {
	names := strings.Split(name, "/")
	for len(names) > 1 {
		if cast := m.full(names[0]); strings.Contains(names[0], ".") && m.Derives(cast, typ) {
			typ = cast
		} else if p, navigation, ok := m.Property(typ, names[0]); ok && !navigation {
			typ = p.Ref.Type
		} else {
			return Property{}, false, false
		}
		names = names[1:]
	}
	return m.Property(typ, names[0])
}

// follow walks a path of names from a type. It answers the type at the end, and what is wrong, or "".
func (m *Model) follow(typ string, names []string) (Ref, bool, string) {
	ref := Ref{Type: typ}
	for i, name := range names {
		if strings.Contains(name, ".") && m.Derives(name, ref.Type) {
			ref = Ref{Type: m.full(name)}
			continue
		}
		p, _, ok := m.Property(ref.Type, name)
		if !ok {
			if m.types[ref.Type] == nil && i > 0 || m.Open(ref.Type) {
				return Ref{}, false, "" // cannot be known
			}
			return Ref{}, false, fmt.Sprintf("could not find a property named %q on type %q", name, ref.Type)
		}
		ref = p.Ref
	}
	return ref, true, ""
}

type filterCheck struct {
	m     *Model
	scope map[string]string // variable → type; "" is the entity itself
	found []Violation
}

func (f *filterCheck) add(format string, args ...any) {
	f.found = append(f.found, Violation{"$filter", fmt.Sprintf(format, args...)})
}

// boolean checks an expression that must be true or false.
func (f *filterCheck) boolean(e Expr) {
	switch e := e.(type) {
	case Logic:
		f.boolean(e.Left)
		f.boolean(e.Right)
	case Not:
		f.boolean(e.Of)
	case Compare:
		left, leftKnown := f.operand(e.Left)
		right, rightKnown := f.operand(e.Right)
		l, isLiteral := e.Right.(Literal)
		if leftKnown && isLiteral {
			f.literal(left, l)
		}
		l, isLiteral = e.Left.(Literal)
		if rightKnown && isLiteral {
			f.literal(right, l)
		}
	case Call:
		if !functions[e.Name].boolean {
			f.add("%s is no condition", e.Name)
		}
		f.operand(e)
	case Lambda:
		f.lambda(e)
	case Path:
		ref, known := f.operand(e)
		if known && (ref.Type != "Edm.Boolean" || ref.Collection) {
			f.add("%s is no condition", strings.Join(e.Names, "/"))
		}
	case Literal:
		if _, ok := e.Value.(bool); !ok {
			f.add("a value is no condition")
		}
	}
}

// operand checks one side of a comparison; it answers the type where that is known.
func (f *filterCheck) operand(e Expr) (Ref, bool) {
	switch e := e.(type) {
	case Path:
		ref, known := f.path(e)
		if known && ref.Collection {
			f.add("%s is a collection: use any or all", strings.Join(e.Names, "/"))
			return Ref{}, false
		}
		return ref, known
	case Call:
		for _, arg := range e.Args {
			ref, known := f.operand(arg)
			if known && !strings.HasPrefix(ref.Type, "Edm.String") {
				f.add("%s wants strings, not %s", e.Name, ref)
			}
			if l, ok := arg.(Literal); ok {
				f.literal(Ref{Type: "Edm.String"}, l)
			}
		}
		if functions[e.Name].boolean {
			return Ref{Type: "Edm.Boolean"}, true
		}
		return Ref{Type: "Edm.String"}, true
	case Literal:
		return Ref{}, false
	default:
		f.boolean(e)
		return Ref{Type: "Edm.Boolean"}, true
	}
}

func (f *filterCheck) path(p Path) (Ref, bool) {
	typ, names := f.scope[""], p.Names
	if t, ok := f.scope[names[0]]; ok && names[0] != "" {
		typ, names = t, names[1:]
		if len(names) == 0 {
			return Ref{Type: typ}, true
		}
	}
	ref, known, problem := f.m.follow(typ, names)
	if problem != "" {
		f.add("%s", problem)
		return Ref{}, false
	}
	return ref, known
}

func (f *filterCheck) lambda(l Lambda) {
	ref, known := f.path(l.Over)
	if known && !ref.Collection {
		f.add("%s is no collection", strings.Join(l.Over.Names, "/"))
		return
	}
	if !known || l.Of == nil {
		return
	}
	old, had := f.scope[l.Var]
	f.scope[l.Var] = ref.Type
	f.boolean(l.Of)
	if delete(f.scope, l.Var); had {
		f.scope[l.Var] = old
	}
}

func (f *filterCheck) literal(ref Ref, l Literal) {
	if l.Value == nil {
		return
	}
	if t := f.m.types[ref.Type]; t != nil {
		s, ok := l.Value.(string)
		switch {
		case t.Kind != Enum:
			f.add("%s cannot be compared with a value", t.Name)
		case !ok:
			f.add("a member of %s stands in quotes", t.Name)
		case !slices.Contains(t.Members, s):
			f.add("%q is no member of %s", s, t.Name)
		}
		return
	}
	var ok bool
	switch l.Value.(type) {
	case string:
		ok = ref.Type == "Edm.String"
	case bool:
		ok = ref.Type == "Edm.Boolean"
	case Guid:
		ok = ref.Type == "Edm.Guid"
	case time.Time:
		ok = ref.Type == "Edm.DateTimeOffset"
	case json.Number:
		ok = slices.Contains([]string{"Edm.Int16", "Edm.Int32", "Edm.Int64", "Edm.Double", "Edm.Decimal", "Edm.Byte"}, ref.Type)
	}
	if !ok && strings.HasPrefix(ref.Type, "Edm.") {
		f.add("%v is no value of %s", l.Value, ref.Type)
	}
}
