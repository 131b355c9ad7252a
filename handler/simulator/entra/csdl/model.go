// Package csdl reads an OData schema (CSDL, the XML that a service publishes about itself) and says where an HTTP exchange departs
// from it: a path, property, enumeration member or query option that does not exist, or a value of the wrong type.
package csdl

import (
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// A Kind tells the three sorts of named types apart.
type Kind int

// The kinds of types.
const (
	Enum Kind = iota
	Complex
	Entity
)

// A Ref names a type where it is used: "Edm.String", or the full name of a type of the model, and whether many of them.
type Ref struct {
	Type       string
	Collection bool
}

func (r Ref) String() string {
	if r.Collection {
		return "Collection(" + r.Type + ")"
	}
	return r.Type
}

// A Property is a property, a navigation property or a parameter.
type Property struct {
	Name     string
	Ref      Ref
	Required bool // Nullable="false": null is refused; leaving it out is not
}

// A Type is an enumeration, a complex type or an entity type.
type Type struct {
	Name        string // in full, with the namespace
	Kind        Kind
	Base        string // in full; "" for none
	Abstract    bool
	Open        bool     // takes properties it does not declare
	Members     []string // of an enumeration
	Properties  map[string]Property
	Navigations map[string]Property
}

// An Operation is an action or a function bound to a type.
type Operation struct {
	Name       string
	Action     bool // POST; otherwise a function, GET
	Binding    Ref
	Parameters []Property // without the binding parameter
	Returns    *Ref
}

// A Model is one schema.
type Model struct {
	namespace  string
	alias      string
	types      map[string]*Type
	roots      map[string]Property // entity sets and singletons of the container
	operations []*Operation
	lenient    map[string]bool // abstract types that may be instantiated nevertheless
}

// New returns an empty model of one namespace, to be filled with Add, AddRoot and AddOperation.
func New(namespace string) *Model {
	return &Model{
		namespace: namespace, types: map[string]*Type{}, roots: map[string]Property{}, lenient: map[string]bool{},
	}
}

// Add puts a type in the model; names in it without a dot get the model's namespace.
func (m *Model) Add(t Type) {
	t.Name = m.full(t.Name)
	if t.Base != "" {
		t.Base = m.full(t.Base)
	}
	t.Properties, t.Navigations = m.qualify(t.Properties), m.qualify(t.Navigations)
	m.types[t.Name] = &t
}

// AddRoot puts an entity set (a collection) or a singleton at the top of the service.
func (m *Model) AddRoot(p Property) {
	p.Ref.Type = m.full(p.Ref.Type)
	m.roots[p.Name] = p
}

// AddOperation puts a bound action or function in the model.
func (m *Model) AddOperation(o Operation) {
	o.Binding.Type = m.full(o.Binding.Type)
	o.Parameters = slices.Clone(o.Parameters)
	for i := range o.Parameters {
		o.Parameters[i].Ref.Type = m.full(o.Parameters[i].Ref.Type)
	}
	m.operations = append(m.operations, &o)
}

// AllowAbstract lets bodies hold instances of an abstract type: services do not always keep to their own schema.
func (m *Model) AllowAbstract(name string) { m.lenient[m.full(name)] = true }

// Type returns the type of this name (in full, or without the namespace); nil when the model has none.
func (m *Model) Type(name string) *Type { return m.types[m.full(name)] }

// Types returns every type, in order of the names.
func (m *Model) Types() []*Type {
	var out []*Type
	for _, name := range slices.Sorted(maps.Keys(m.types)) {
		out = append(out, m.types[name])
	}
	return out
}

// Roots returns the entity sets and singletons, in order of the names.
func (m *Model) Roots() []Property {
	var out []Property
	for _, name := range slices.Sorted(maps.Keys(m.roots)) {
		out = append(out, m.roots[name])
	}
	return out
}

// Operations returns every bound action and function.
func (m *Model) Operations() []*Operation { return slices.Clone(m.operations) }

// Property returns a property of the type or one of its bases, structural or navigation.
func (m *Model) Property(typ, name string) (p Property, navigation, ok bool) {
	for t := m.types[m.full(typ)]; t != nil; t = m.types[t.Base] {
		if p, ok := t.Properties[name]; ok {
			return p, false, true
		}
		if p, ok := t.Navigations[name]; ok {
			return p, true, true
		}
	}
	return Property{}, false, false
}

// Open says whether the type or one of its bases takes undeclared properties.
func (m *Model) Open(typ string) bool {
	for t := m.types[m.full(typ)]; t != nil; t = m.types[t.Base] {
		if t.Open {
			return true
		}
	}
	return false
}

// Derives says whether typ is base, or has it among its bases.
func (m *Model) Derives(typ, base string) bool {
	base = m.full(base)
	for t := m.types[m.full(typ)]; t != nil; t = m.types[t.Base] {
		if t.Name == base {
			return true
		}
	}
	return false
}

// operation finds an action or function bound to the type, or to one of its bases.
func (m *Model) operation(on Ref, name string) *Operation {
	name = strings.TrimPrefix(name, m.namespace+".")
	for _, o := range m.operations {
		if o.Name == name && o.Binding.Collection == on.Collection && m.Derives(on.Type, o.Binding.Type) {
			return o
		}
	}
	return nil
}

func (m *Model) full(name string) string {
	if rest, ok := strings.CutPrefix(name, m.alias+"."); ok && m.alias != "" {
		return m.namespace + "." + rest
	}
	if name == "" || strings.Contains(name, ".") {
		return name
	}
	return m.namespace + "." + name
}

func (m *Model) qualify(in map[string]Property) map[string]Property {
	out := make(map[string]Property, len(in))
	for name, p := range in {
		p.Ref.Type = m.full(p.Ref.Type)
		out[name] = p
	}
	return out
}

// Properties reads a compact declaration, "displayName String, stages []stage, id Guid!": a type without a dot that begins with a
// capital letter is one of Edm, "[]" makes it a collection, "!" forbids null. It panics when it cannot be read: it is for
// declarations in code.
func Properties(declaration string) map[string]Property {
	out := map[string]Property{}
	for part := range strings.SplitSeq(declaration, ",") {
		fields := strings.Fields(part)
		if len(fields) != 2 {
			panic(fmt.Sprintf("csdl: %q is not a name and a type", part))
		}
		typ, required := strings.CutSuffix(fields[1], "!")
		typ, many := strings.CutPrefix(typ, "[]")
		if !strings.Contains(typ, ".") && typ[:1] == strings.ToUpper(typ[:1]) {
			typ = "Edm." + typ
		}
		out[fields[0]] = Property{Name: fields[0], Ref: Ref{Type: typ, Collection: many}, Required: required}
	}
	return out
}

// Parse reads a schema.
func Parse(r io.Reader) (*Model, error) {
	type property struct {
		Name     string `xml:"Name,attr"`
		Type     string `xml:"Type,attr"`
		Nullable string `xml:"Nullable,attr"`
	}
	type structured struct {
		Name        string     `xml:"Name,attr"`
		Base        string     `xml:"BaseType,attr"`
		Abstract    bool       `xml:"Abstract,attr"`
		Open        bool       `xml:"OpenType,attr"`
		Properties  []property `xml:"Property"`
		Navigations []property `xml:"NavigationProperty"`
	}
	type operation struct {
		Name       string     `xml:"Name,attr"`
		Bound      bool       `xml:"IsBound,attr"`
		Parameters []property `xml:"Parameter"`
		Returns    *property  `xml:"ReturnType"`
	}
	var document struct {
		Schemas []struct {
			Namespace string `xml:"Namespace,attr"`
			Alias     string `xml:"Alias,attr"`
			Enums     []struct {
				Name    string     `xml:"Name,attr"`
				Members []property `xml:"Member"`
			} `xml:"EnumType"`
			Complex   []structured `xml:"ComplexType"`
			Entities  []structured `xml:"EntityType"`
			Actions   []operation  `xml:"Action"`
			Functions []operation  `xml:"Function"`
			Container struct {
				Sets []struct {
					Name string `xml:"Name,attr"`
					Type string `xml:"EntityType,attr"`
				} `xml:"EntitySet"`
				Singletons []property `xml:"Singleton"`
			} `xml:"EntityContainer"`
		} `xml:"DataServices>Schema"`
	}
	if err := xml.NewDecoder(r).Decode(&document); err != nil {
		return nil, fmt.Errorf("reading the schema: %w", err)
	}
	if len(document.Schemas) != 1 {
		return nil, fmt.Errorf("reading the schema: it has %d namespaces, want one", len(document.Schemas))
	}
	s := document.Schemas[0]
	m := New(s.Namespace)
	m.alias = s.Alias
	convert := func(p property) Property {
		return Property{Name: p.Name, Ref: parseRef(p.Type), Required: p.Nullable == "false"}
	}
	list := func(in []property) map[string]Property {
		out := map[string]Property{}
		for _, p := range in {
			out[p.Name] = convert(p)
		}
		return out
	}
	for _, e := range s.Enums {
		t := Type{Name: e.Name, Kind: Enum}
		for _, member := range e.Members {
			t.Members = append(t.Members, member.Name)
		}
		m.Add(t)
	}
	add := func(kind Kind, in []structured) {
		for _, c := range in {
			m.Add(Type{
				Name: c.Name, Kind: kind, Base: c.Base, Abstract: c.Abstract, Open: c.Open,
				Properties: list(c.Properties), Navigations: list(c.Navigations),
			})
		}
	}
	add(Complex, s.Complex)
	add(Entity, s.Entities)
	bind := func(action bool, in []operation) {
		for _, o := range in {
			if !o.Bound || len(o.Parameters) == 0 {
				continue
			}
			op := Operation{Name: o.Name, Action: action, Binding: parseRef(o.Parameters[0].Type)}
			for _, p := range o.Parameters[1:] {
				op.Parameters = append(op.Parameters, convert(p))
			}
			if o.Returns != nil {
				ref := parseRef(o.Returns.Type)
				ref.Type = m.full(ref.Type)
				op.Returns = &ref
			}
			m.AddOperation(op)
		}
	}
	bind(true, s.Actions)
	bind(false, s.Functions)
	for _, set := range s.Container.Sets {
		m.AddRoot(Property{Name: set.Name, Ref: Ref{Type: set.Type, Collection: true}})
	}
	for _, single := range s.Container.Singletons {
		m.AddRoot(convert(single))
	}
	if len(m.types) == 0 || len(m.roots) == 0 {
		return nil, fmt.Errorf("reading the schema: namespace %q has no types or no container", s.Namespace)
	}
	return m, nil
}

func parseRef(s string) Ref {
	if inner, ok := strings.CutPrefix(s, "Collection("); ok {
		return Ref{Type: strings.TrimSuffix(inner, ")"), Collection: true}
	}
	return Ref{Type: s}
}
