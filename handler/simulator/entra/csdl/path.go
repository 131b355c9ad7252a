package csdl

import (
	"fmt"
	"net/url"
	"strings"
)

// A Step is one segment of a path.
type Step struct {
	Name string // the property or root; "" for a key
	Key  string // the key's value; "" for a property
}

// A Target is what a path leads to.
type Target struct {
	Template  string // the path with {id} for every key: "/users/{id}"
	Steps     []Step
	Ref       Ref        // the type at the end; of an operation, what it is bound to
	Operation *Operation // nil when the path ends in data
	Count     bool       // the path ends in /$count
}

// Resolve follows a path, relative to the service root and still escaped, through the schema. Its error is a Violation at "path".
func (m *Model) Resolve(path string) (*Target, error) {
	t := &Target{}
	fail := func(format string, args ...any) (*Target, error) {
		return nil, violationError{Violation{At: "path", Detail: fmt.Sprintf(format, args...)}}
	}
	segments := strings.Split(strings.TrimSuffix(strings.TrimPrefix(path, "/"), "/"), "/")
	for i, escaped := range segments {
		segment, err := url.PathUnescape(escaped)
		if err != nil || segment == "" {
			return fail("%q cannot be read as a segment", escaped)
		}
		switch {
		case t.Operation != nil || t.Count:
			return fail("nothing can follow %s", segments[i-1])
		case i == 0:
			name, key, keyed := cutKey(segment)
			root, ok := m.roots[name]
			if !ok {
				return fail("resource not found for the segment %q", segment)
			}
			t.property(root)
			if keyed && !t.key(key) {
				return fail("%s is not a collection", name)
			}
		case segment == "$count" && t.Ref.Collection:
			t.Count = true
			t.Template += "/$count"
		case m.operation(t.Ref, callName(segment)) != nil:
			t.Operation = m.operation(t.Ref, callName(segment))
			t.Template += "/" + t.Operation.Name
		case t.Ref.Collection:
			t.key(segment)
		default:
			name, key, keyed := cutKey(segment)
			if strings.HasPrefix(name, m.namespace+".") && m.Derives(name, t.Ref.Type) {
				t.Ref.Type = name // a type cast
				t.Template += "/" + name
				continue
			}
			p, _, ok := m.Property(t.Ref.Type, name)
			if !ok {
				return fail("resource not found for the segment %q: %s has no such property or action", segment, t.Ref.Type)
			}
			t.property(p)
			if keyed && !t.key(key) {
				return fail("%s is not a collection", name)
			}
		}
	}
	return t, nil
}

func (t *Target) property(p Property) {
	t.Ref = p.Ref
	t.Template += "/" + p.Name
	t.Steps = append(t.Steps, Step{Name: p.Name})
}

func (t *Target) key(value string) bool {
	if !t.Ref.Collection {
		return false
	}
	t.Ref.Collection = false
	t.Template += "/{id}"
	t.Steps = append(t.Steps, Step{Key: value})
	return true
}

// cutKey splits "users('x')" into "users" and "x".
func cutKey(segment string) (name, key string, ok bool) {
	name, rest, found := strings.Cut(segment, "(")
	if !found || !strings.HasSuffix(rest, ")") {
		return segment, "", false
	}
	return name, strings.Trim(strings.TrimSuffix(rest, ")"), "'"), true
}

// callName drops the parameters of a function call in a path.
func callName(segment string) string {
	name, _, _ := strings.Cut(segment, "(")
	return name
}

type violationError struct{ Violation }

func (e violationError) Error() string { return e.String() }
