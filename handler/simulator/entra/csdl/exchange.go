package csdl

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// An Exchange is one HTTP request with its answer.
type Exchange struct {
	Method  string
	Path    string // relative to the service root, still escaped
	Query   url.Values
	Request []byte // inflated
	Status  int
	Answer  []byte
}

// Check says where an exchange departs from the schema, on either side. A refused request is checked like any other, and what
// refuses it must be an OData error.
func (m *Model) Check(e Exchange) []Violation {
	target, err := m.Resolve(e.Path)
	if err != nil {
		return append([]Violation{{"path", strings.TrimPrefix(err.Error(), "path: ")}}, checkError(e)...)
	}
	var found []Violation
	if !slices.Contains(target.methods(), e.Method) {
		found = append(found, Violation{"method", fmt.Sprintf("%s on %s", e.Method, target.Template)})
	}
	found = append(found, m.checkOptions(target, e)...)
	found = append(found, m.checkRequest(target, e)...)
	if e.Status >= 300 {
		return append(found, checkError(e)...)
	}
	return append(found, m.checkAnswer(target, e)...)
}

// methods are those that OData knows for a target of this sort; services support fewer.
func (t *Target) methods() []string {
	switch {
	case t.Operation != nil && t.Operation.Action:
		return []string{http.MethodPost}
	case t.Operation != nil, t.Count:
		return []string{http.MethodGet}
	case t.Ref.Collection:
		return []string{http.MethodGet, http.MethodPost}
	default:
		return []string{http.MethodGet, http.MethodPut, http.MethodPatch, http.MethodDelete}
	}
}

func (m *Model) checkOptions(t *Target, e Exchange) []Violation {
	q, found := ParseQuery(e.Query)
	ref := t.Ref
	if t.Operation != nil {
		if t.Operation.Returns == nil {
			return found
		}
		ref = *t.Operation.Returns
	}
	return append(found, m.CheckQuery(ref, q)...)
}

func (m *Model) checkRequest(t *Target, e Exchange) []Violation {
	if e.Method == http.MethodGet || e.Method == http.MethodDelete {
		if len(e.Request) > 0 {
			return []Violation{{"request", e.Method + " with a body"}}
		}
		return nil
	}
	var body any
	if len(e.Request) > 0 {
		var err error
		if body, err = Decode(e.Request); err != nil {
			return []Violation{{"request", "is not JSON: " + err.Error()}}
		}
	}
	if t.Operation != nil {
		return m.CheckParameters("request", t.Operation, body)
	}
	return m.CheckValue("request", Ref{Type: t.Ref.Type}, body)
}

func (m *Model) checkAnswer(t *Target, e Exchange) []Violation {
	if e.Status == http.StatusNoContent || len(e.Answer) == 0 {
		if e.Status == http.StatusNoContent && len(e.Answer) > 0 {
			return []Violation{{"answer", "204 with a body"}}
		}
		if e.Method == http.MethodGet {
			return []Violation{{"answer", "empty"}}
		}
		return nil
	}
	if t.Count {
		return nil // a bare number
	}
	body, err := Decode(e.Answer)
	if err != nil {
		return []Violation{{"answer", "is not JSON: " + err.Error()}}
	}
	ref := Ref{Type: t.Ref.Type, Collection: t.Ref.Collection && e.Method == http.MethodGet}
	if t.Operation != nil {
		if t.Operation.Returns == nil {
			return []Violation{{"answer", t.Operation.Name + " returns nothing"}}
		}
		ref = *t.Operation.Returns
	}
	if !ref.Collection {
		return m.CheckValue("answer", ref, body)
	}
	object, ok := body.(map[string]any)
	if !ok {
		return []Violation{{"answer", kindOf(body) + " instead of an object with a value"}}
	}
	var found []Violation
	for key := range object {
		if key != "value" && !strings.HasPrefix(key, "@odata.") {
			found = append(found, Violation{"answer." + key, "a collection has no such property"})
		}
	}
	return append(found, m.CheckValue("answer.value", ref, object["value"])...)
}

// checkError says where an answer that refuses is not {"error":{"code","message",…}}.
func checkError(e Exchange) []Violation {
	if e.Status < 400 {
		return nil
	}
	body, err := Decode(e.Answer)
	if err != nil {
		return []Violation{{"answer", "is no OData error: " + err.Error()}}
	}
	object, _ := body.(map[string]any)
	inner, _ := object["error"].(map[string]any)
	var found []Violation
	for _, name := range []string{"code", "message"} {
		if _, ok := inner[name].(string); !ok {
			found = append(found, Violation{"answer.error." + name, "is missing or no string"})
		}
	}
	for key := range inner {
		if !slices.Contains([]string{"code", "message", "target", "details", "innerError", "innererror"}, key) {
			found = append(found, Violation{"answer.error." + key, "an OData error has no such property"})
		}
	}
	return found
}
