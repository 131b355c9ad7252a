// Package callout reads what Microsoft Entra entitlement management sends when it pauses a request: property names in any case,
// parts absent or null, unknown fields, both kinds of callout, and the connection test.
package callout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"ticketbridge/handler/fault"
)

// MaxBytes is the largest callout body that is taken: what fits into one entity of Table Storage (1 MiB), where it is kept as it came. Microsoft
// documents no limit; a request with fifty long answers is some 100 kB.
const MaxBytes = 1023 << 10

// The stages of accessPackageCustomExtensionStage in Graph v1.0. A stage that is none of these is kept as it was sent.
const (
	StageCreated       = "assignmentRequestCreated"
	StageApproved      = "assignmentRequestApproved"
	StageGranted       = "assignmentRequestGranted"
	StageRemoved       = "assignmentRequestRemoved"
	StageFourteenDays  = "assignmentFourteenDaysBeforeExpiration"
	StageOneDay        = "assignmentOneDayBeforeExpiration"
	StageConnection    = "CustomExtensionConnectionTest" // no stage: the portal tries the connection
	oldConnectionEvent = "CustomActionConnectionTest"    // how it was said before 2023, in the property Event
)

var stages = []string{
	StageCreated, StageApproved, StageGranted, StageRemoved, StageFourteenDays, StageOneDay, StageConnection,
	"assignmentRequestDeterminingApprovalRequirements",
}

// The members of accessPackageRequestType that Microsoft lists for callouts.
var requestTypes = []string{
	"notSpecified", "userAdd", "userUpdate", "userExtend", "userRemove", "adminAdd", "adminUpdate", "adminRemove",
	"systemAdd", "systemUpdate", "systemRemove", "onBehalfAdd", "approverRemove",
}

// A Callout is one call of entitlement management, as far as it is understood. What was not sent is "".
type Callout struct {
	RequestID       string // AccessPackageAssignmentRequestId, as sent
	StageInstanceID string // CustomExtensionStageInstanceId, as sent
	CallbackURIPath string // shown, never called
	Stage           string // in the enumeration's spelling where it is known
	RequestType     string // likewise
	State           string
	Status          string

	// Wait is how long the request waits for a resume. Waits says whether the callout said so: Microsoft sends no callback
	// configuration with "launch and continue" [a guess: so Graph is asked before such a request is ever resumed].
	Wait  time.Duration
	Waits bool

	Answers  []Answer
	Package  Named
	Catalog  Named
	Assigned Assignment
	By       Person // the requestor

	Test bool // a connection test: answer 202 and do nothing

	// Problems names the parts that had a shape nobody expects and were read as absent, in the order they were met. They hold
	// names of fields, never values. A call that can be remembered is not refused for such a part.
	Problems []string
}

// An Answer is what the requestor answered to one question of the policy.
type Answer struct {
	Question string
	Value    string
}

// Named is a thing of the directory with its id.
type Named struct {
	ID, Name, Description string
}

// An Assignment says who gets (or loses) the package, and under which policy.
type Assignment struct {
	ID, State, Status string
	Target            Person
	Policy            Named
}

// A Person is the target or the requestor. ObjectID is the user's object id in Entra; ID is entitlement management's own.
type Person struct {
	ID, ObjectID, Name, Email, PrincipalName string
	Organization                             Named
}

// WaitsForResume says whether a request of this callout can be paused at all: the pre-expiration stages never are.
func (c *Callout) WaitsForResume() bool { return c.Waits && !c.Expiring() }

// Expiring says whether this is one of the two warnings before an assignment expires, which never wait.
func (c *Callout) Expiring() bool {
	return c.Stage == StageFourteenDays || c.Stage == StageOneDay
}

// Removing says whether access is being taken away rather than given.
func (c *Callout) Removing() bool {
	return c.Stage == StageRemoved || strings.HasSuffix(c.RequestType, "Remove")
}

// Parse reads a callout body. It refuses only what is too large or is not a JSON object, with fault.Invalid naming the field: a part of
// an unexpected shape is read as absent and listed in Problems, since refusing the call would lose it. Whether the ids are there and
// valid is for whoever makes the correlation's key.
func Parse(body []byte) (*Callout, error) {
	if len(body) > MaxBytes {
		return nil, invalid("body", fmt.Sprintf("has %d bytes; at most %d are taken", len(body), MaxBytes))
	}
	body = bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))
	var root object
	if err := json.Unmarshal(body, &root); err != nil {
		return nil, invalid("body", "is not a JSON object: "+jsonProblem(err))
	}
	if root == nil {
		return nil, invalid("body", "is null; a JSON object is expected")
	}
	r := reader{}
	c := &Callout{
		RequestID:       r.text(root, "", "AccessPackageAssignmentRequestId"),
		StageInstanceID: r.text(root, "", "CustomExtensionStageInstanceId"),
		CallbackURIPath: r.text(root, "", "CallbackUriPath"),
		Stage:           canonical(r.text(root, "", "Stage"), stages),
		RequestType:     canonical(r.text(root, "", "RequestType"), requestTypes),
		State:           r.text(root, "", "State"),
		Status:          r.text(root, "", "Status"),
		Package:         r.named(root, "", "AccessPackage"),
		Catalog:         r.named(root, "", "AccessPackageCatalog"),
		By:              r.person(root, "", "Requestor"),
		Answers:         r.answers(root),
	}
	if a := r.object(root, "", "Assignment"); a != nil {
		c.Assigned = Assignment{
			ID: r.text(a, "Assignment", "Id"), State: r.text(a, "Assignment", "State"), Status: r.text(a, "Assignment", "Status"),
			Target: r.person(a, "Assignment", "Target"), Policy: r.named(a, "Assignment", "AssignmentPolicy"),
		}
	}
	if cb := r.object(root, "", "CallbackConfiguration"); cb != nil {
		c.Waits = true
		text := r.text(cb, "CallbackConfiguration", "DurationBeforeTimeout")
		if text == "" { // the spelling of Graph's property page
			text = r.text(cb, "CallbackConfiguration", "TimeoutDuration")
		}
		if text != "" {
			d, err := ParseDuration(text)
			if err != nil {
				r.odd("CallbackConfiguration.DurationBeforeTimeout", err.Error())
			}
			c.Wait = d
		}
	}
	c.Test = c.Stage == StageConnection || strings.EqualFold(r.text(root, "", "Event"), oldConnectionEvent)
	c.Problems = r.problems
	return c, nil
}

// canonical returns the enumeration's spelling of s, or s itself where the enumeration does not have it.
func canonical(s string, known []string) string {
	for _, k := range known {
		if strings.EqualFold(k, s) {
			return k
		}
	}
	return s
}

// object is a JSON object whose names are looked up without regard to case.
type object map[string]json.RawMessage

func (o object) get(name string) json.RawMessage {
	if v, ok := o[name]; ok {
		return v
	}
	found := ""
	for k := range o { // the first in order, so that two spellings of one name always give the same
		if strings.EqualFold(k, name) && (found == "" || k < found) {
			found = k
		}
	}
	if found == "" {
		return nil // there may be a property of the name ""
	}
	return o[found]
}

// reader takes parts out of a callout and collects what was odd about them.
type reader struct{ problems []string }

func (r *reader) odd(field, detail string) {
	r.problems = append(r.problems, field+" "+detail)
}

func isNull(v json.RawMessage) bool { return len(v) == 0 || string(v) == "null" }

// text reads a leaf. All leaves are documented as strings; a number or a boolean is taken as its text, as Graph may well send one.
func (r *reader) text(o object, in, name string) string {
	v := o.get(name)
	if isNull(v) {
		return ""
	}
	var s string
	switch v[0] {
	case '"':
		if err := json.Unmarshal(v, &s); err != nil {
			r.odd(path(in, name), jsonProblem(err))
		}
		return s
	case '{', '[':
		r.odd(path(in, name), "must be a string")
		return ""
	default:
		return string(v)
	}
}

func (r *reader) object(o object, in, name string) object {
	v := o.get(name)
	if isNull(v) {
		return nil
	}
	var out object
	if v[0] != '{' || json.Unmarshal(v, &out) != nil {
		r.odd(path(in, name), "must be an object")
		return nil
	}
	return out
}

func (r *reader) named(o object, in, name string) Named {
	n := r.object(o, in, name)
	at := path(in, name)
	return Named{ID: r.text(n, at, "Id"), Name: r.text(n, at, "DisplayName"), Description: r.text(n, at, "Description")}
}

func (r *reader) person(o object, in, name string) Person {
	p := r.object(o, in, name)
	at := path(in, name)
	return Person{
		ID: r.text(p, at, "Id"), ObjectID: r.text(p, at, "ObjectId"), Name: r.text(p, at, "DisplayName"),
		Email: r.text(p, at, "Email"), PrincipalName: r.text(p, at, "PrincipalName"),
		Organization: r.named(p, at, "ConnectedOrganization"),
	}
}

func (r *reader) answers(root object) []Answer {
	v := root.get("Answers")
	if isNull(v) {
		return nil
	}
	var list []object
	if err := json.Unmarshal(v, &list); err != nil {
		r.odd("Answers", "must be a list of objects")
		return nil
	}
	var out []Answer
	for i, o := range list {
		at := fmt.Sprintf("Answers[%d]", i)
		a := Answer{Value: r.text(o, at, "Value")}
		if a.Value == "" {
			a.Value = r.text(o, at, "DisplayValue")
		}
		if q := o.get("AnsweredQuestion"); !isNull(q) {
			if q[0] == '"' {
				a.Question = r.text(o, at, "AnsweredQuestion")
			} else {
				qo := r.object(o, at, "AnsweredQuestion")
				a.Question = r.question(qo, at+".AnsweredQuestion")
			}
		}
		out = append(out, a)
	}
	return out
}

// question reads the text of a question: TextString in a callout, text (a string, or an object with defaultText) in Graph.
func (r *reader) question(o object, at string) string {
	if s := r.text(o, at, "TextString"); s != "" {
		return s
	}
	v := o.get("Text")
	if isNull(v) {
		return ""
	}
	if v[0] == '{' {
		return r.text(r.object(o, at, "Text"), at+".Text", "DefaultText")
	}
	return r.text(o, at, "Text")
}

func path(in, name string) string {
	if in == "" {
		return name
	}
	return in + "." + name
}

func invalid(field, detail string) error {
	return &fault.Error{Op: "read callout", Reason: fault.Invalid, Field: field, Detail: detail}
}

// jsonProblem says what is wrong with JSON without repeating any of it: a body holds people's names.
func jsonProblem(err error) string {
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Sprintf("syntax error at byte %d", e.Offset)
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Sprintf("found %s", e.Value)
	}
	return "it cannot be read"
}
