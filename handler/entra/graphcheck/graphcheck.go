// Package graphcheck reads JSON bodies with the models of Microsoft's Graph SDK and says what of them Graph v1.0 does not have, so that a
// stand-in can refuse what the real service refuses, and tests can hold our bodies against somebody else's reading of the schema.
package graphcheck

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/microsoft/kiota-abstractions-go/serialization"
	"github.com/microsoft/kiota-abstractions-go/store"
	jsonser "github.com/microsoft/kiota-serialization-json-go"
	"github.com/microsoftgraph/msgraph-sdk-go/identitygovernance"
	"github.com/microsoftgraph/msgraph-sdk-go/models"
)

// The kinds of bodies.
const (
	Resume         = "resume" // the parameters of the action on an assignment request
	Request        = "accessPackageAssignmentRequest"
	Extension      = "customCalloutExtension" // with its derived types
	Policy         = "accessPackageAssignmentPolicy"
	RoleAssignment = "unifiedRoleAssignment"
)

func factory(kind string) serialization.ParsableFactory {
	switch kind {
	case Resume:
		return identitygovernance.CreateEntitlementManagementAssignmentRequestsItemResumePostRequestBodyFromDiscriminatorValue
	case Request:
		return models.CreateAccessPackageAssignmentRequestFromDiscriminatorValue
	case Extension:
		return models.CreateCustomCalloutExtensionFromDiscriminatorValue
	case Policy:
		return models.CreateAccessPackageAssignmentPolicyFromDiscriminatorValue
	case RoleAssignment:
		return models.CreateUnifiedRoleAssignmentFromDiscriminatorValue
	default:
		return nil
	}
}

const typeAnnotation = "@odata.type"

// Unknown returns the paths of the properties of a body that its type does not have, in order, as in "data.colour" and "stages[1].@odata.type"; the
// latter when the type named is none that fits there. OData annotations are known where they are legal. An error means that the body is no
// JSON object of this kind: a value has another type, or is no member of its enumeration.
func Unknown(kind string, body []byte) (paths []string, err error) {
	create := factory(kind)
	if create == nil {
		return nil, fmt.Errorf("no kind %q", kind)
	}
	defer func() {
		if p := recover(); p != nil { // the SDK panics on some values
			paths, err = nil, fmt.Errorf("reading %s: %v", kind, p)
		}
	}()
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var raw any
	if err := d.Decode(&raw); err != nil {
		return nil, fmt.Errorf("reading %s: %w", kind, err)
	}
	if d.More() {
		return nil, fmt.Errorf("reading %s: there is more than one value", kind)
	}
	root, ok := raw.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("reading %s: it is no object", kind)
	}
	canonical(root)
	spelt, err := json.Marshal(root)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", kind, err)
	}
	node, err := jsonser.NewJsonParseNode(spelt)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", kind, err)
	}
	model, err := node.GetObjectValue(create)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", kind, err)
	}
	var w walk
	w.object("", root, model)
	return w.unknown, errors.Join(w.wrong...)
}

// canonical gives every @odata.type its "#", without which OData 4.01 allows it too and the SDK does not recognise it.
func canonical(v any) {
	switch v := v.(type) {
	case map[string]any:
		if t, ok := v[typeAnnotation].(string); ok && !strings.HasPrefix(t, "#") {
			v[typeAnnotation] = "#" + t
		}
		for _, child := range v {
			canonical(child)
		}
	case []any:
		for _, child := range v {
			canonical(child)
		}
	}
}

// walk compares a body with what the SDK made of it. It goes by the body rather than by the models' AdditionalData, in which the SDK leaves out
// what is null.
type walk struct {
	unknown []string
	wrong   []error
}

func (w *walk) object(path string, raw map[string]any, model serialization.Parsable) {
	fields := model.GetFieldDeserializers()
	backed, ok := model.(store.BackedModel)
	if !ok {
		w.wrong = append(w.wrong, fmt.Errorf("%s: the SDK has no model of it", path))
		return
	}
	values := backed.GetBackingStore().Enumerate()
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		at := strings.TrimPrefix(path+"."+name, ".")
		if of, annotation, ok := strings.Cut(name, "@"); ok {
			if !legal(of, annotation, fields) || name == typeAnnotation && !fits(raw[name], model) {
				w.unknown = append(w.unknown, at)
			}
			continue
		}
		if fields[name] == nil {
			w.unknown = append(w.unknown, at)
			continue
		}
		value, ok := values[name]
		if !ok {
			value = values[name+"Escaped"] // the SDK's way with Go's keywords
		}
		w.value(at, raw[name], value)
	}
}

func (w *walk) value(at string, raw, value any) {
	switch raw := raw.(type) {
	case nil:
	case map[string]any:
		model, ok := value.(serialization.Parsable)
		if !ok {
			w.wrong = append(w.wrong, fmt.Errorf("%s: is no object", at))
			return
		}
		w.object(at, raw, model)
	case []any:
		list := reflect.ValueOf(value)
		if list.Kind() != reflect.Slice || list.Len() != len(raw) {
			w.wrong = append(w.wrong, fmt.Errorf("%s: is no collection", at))
			return
		}
		for i := range raw {
			w.value(fmt.Sprintf("%s[%d]", at, i), raw[i], list.Index(i).Interface())
		}
	default:
		// Without a value it is an unknown member of an enumeration; with a model, the SDK made an empty object of it.
		if _, model := value.(serialization.Parsable); value == nil || model {
			w.wrong = append(w.wrong, fmt.Errorf("%s: %v is no value of it", at, raw))
		}
	}
}

// legal says whether an annotation of an object or of one of its properties is one of OData's that a body may have.
func legal(of, annotation string, fields map[string]func(serialization.ParseNode) error) bool {
	if of == "" {
		switch annotation {
		case "odata.type", "odata.id", "odata.etag", "odata.context":
			return true
		}
		return false
	}
	switch annotation {
	case "odata.bind", "odata.type", "odata.context", "odata.count":
		return fields[of] != nil
	}
	return false
}

// fits says whether the SDK made a model of the named type: for one that it does not know, or that does not belong there, it falls back on
// the type that does.
func fits(name any, model serialization.Parsable) bool {
	s, ok := name.(string)
	if !ok {
		return false
	}
	last := s[strings.LastIndexByte(s, '.')+1:]
	return strings.HasPrefix(s, "#microsoft.graph.") && strings.EqualFold(last, reflect.TypeOf(model).Elem().Name())
}
