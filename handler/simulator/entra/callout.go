package entra

import (
	"encoding/json"
	"errors"
	"strings"
	"time"

	"ticketbridge/handler/simulator/entra/csdl"
)

// A Shape says how callout bodies depart from Microsoft's example: real ones do, in every one of these ways, or may.
type Shape struct {
	CamelCase       bool           // property names as Graph documents them
	NoEmail         bool           // Email and PrincipalName are not there
	NullAnswers     bool           // "Answers": null
	NoCallback      bool           // no CallbackConfiguration, though the request waits
	TimeoutDuration bool           // the callback's duration under the name of Graph's property page
	Stage           string         // another stage than the request is really at
	RequestType     string         // another request type, as userExtend, which Graph does not have
	UpperIDs        bool           // request and stage instance id in capital letters
	Extra           map[string]any // fields that nobody documents

	// Edit, when it is not nil, changes the finished body.
	Edit func(body map[string]any)
}

// calloutBody writes the body of a callout as documented: flat, in PascalCase, every leaf a string. The caller holds d.mu.
func (d *Directory) calloutBody(r *request, c *callout, x *extension) json.RawMessage {
	s := r.shape
	pkg, catalog, a := d.pkg(r.Package), d.catalog(r.Catalog), d.assignment(r.Assignment)
	person := func(u User, principal bool) map[string]any {
		p := map[string]any{"Id": u.SubjectID, "ObjectId": u.ObjectID, "DisplayName": u.Name}
		if !s.NoEmail {
			p["Email"] = u.Email
			if principal {
				p["PrincipalName"] = u.PrincipalName
			}
		}
		return p
	}
	target := person(r.Target, true)
	if o := r.Target.Organization; o != nil {
		target["ConnectedOrganization"] = map[string]any{"Id": o.ID, "DisplayName": o.Name, "Description": o.Description}
	}
	body := map[string]any{
		"AccessPackageAssignmentRequestId": r.ID,
		"CustomExtensionStageInstanceId":   c.ID,
		"Stage":                            c.Stage,
		"AccessPackage":                    map[string]any{"Id": pkg.ID, "DisplayName": pkg.Name, "Description": pkg.Description},
		"AccessPackageCatalog":             map[string]any{"Id": catalog.ID, "DisplayName": catalog.Name, "Description": catalog.Description},
		"Requestor":                        person(r.Requestor, false),
	}
	assigned := map[string]any{"Id": a.id, "State": a.state, "Status": a.status, "Target": target}
	body["Assignment"] = assigned
	if !expiring(c.Stage) { // the callouts before expiration have none of these
		body["CallbackUriPath"] = "/identityGovernance/entitlementManagement/assignmentRequests/" + r.ID + "/resume"
		body["RequestType"] = r.Type
		body["State"] = r.State
		body["Status"] = r.Status
		body["Answers"] = answers(r.Answers)
		if s.NullAnswers {
			body["Answers"] = nil
		}
		p := d.policy(r.Policy)
		assigned["AssignmentPolicy"] = map[string]any{"Id": p.id, "DisplayName": p.body["displayName"]}
		if c.Waits && !s.NoCallback {
			name := "DurationBeforeTimeout"
			if s.TimeoutDuration {
				name = "TimeoutDuration"
			}
			body["CallbackConfiguration"] = map[string]any{name: isoDuration(x.wait())}
		}
	}
	if s.Stage != "" {
		body["Stage"] = s.Stage
	}
	if s.RequestType != "" {
		body["RequestType"] = s.RequestType
	}
	if s.UpperIDs {
		body["AccessPackageAssignmentRequestId"] = strings.ToUpper(r.ID)
		body["CustomExtensionStageInstanceId"] = strings.ToUpper(c.ID)
	}
	for name, value := range s.Extra {
		body[name] = value
	}
	if s.Edit != nil {
		s.Edit(body)
	}
	var out any = body
	if s.CamelCase {
		out = camelCase(body)
	}
	encoded, err := json.Marshal(out)
	if err != nil {
		panic(err) // an Extra or Edit that is no JSON
	}
	return encoded
}

func answers(list []Answer) []any {
	out := []any{}
	for _, a := range list {
		out = append(out, map[string]any{"AnsweredQuestion": map[string]any{"TextString": a.Question}, "Value": a.Value})
	}
	return out
}

func camelCase(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, value := range v {
			if name != "" {
				name = strings.ToLower(name[:1]) + name[1:]
			}
			out[name] = camelCase(value)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = camelCase(v[i])
		}
		return out
	default:
		return v
	}
}

// TestConnection calls an extension as the portal's connection test does. Only its Stage is documented; the other fields are empty
// here. With before2023 it has the older form, an Event instead of a Stage.
func (d *Directory) TestConnection(extensionID string, before2023 bool) (Attempt, error) {
	d.mu.Lock()
	x := d.extension(extensionID)
	d.mu.Unlock()
	if x == nil {
		return Attempt{}, errors.New("entra: no such extension")
	}
	body := map[string]any{
		"AccessPackageAssignmentRequestId": "", "CustomExtensionStageInstanceId": "", "CallbackUriPath": "",
		"Stage": "CustomExtensionConnectionTest", "RequestType": "", "State": "", "Status": "", "CallbackConfiguration": nil,
		"Answers": nil, "AccessPackage": nil, "AccessPackageCatalog": nil, "Assignment": nil, "Requestor": nil,
	}
	if before2023 {
		body = map[string]any{"Event": "CustomActionConnectionTest"}
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		return Attempt{}, err
	}
	return d.call(x, nil, encoded), nil
}

// What an extension's body says; numbers may come from a decoded request (json.Number) or from AddExtension.

func (x *extension) part(name string) map[string]any {
	p, _ := x.body[name].(map[string]any)
	return p
}

func (x *extension) text(part, name string) string {
	s, _ := x.part(part)[name].(string)
	return s
}

// client returns a number of the client configuration.
func (x *extension) client(name string, otherwise int64) int64 {
	switch n := x.part("clientConfiguration")[name].(type) {
	case int:
		return int64(n)
	case int64:
		return n
	case json.Number:
		if i, err := n.Int64(); err == nil {
			return i
		}
	}
	return otherwise
}

// wait is how long a request waits for the callback; 0 is launch and continue.
func (x *extension) wait() time.Duration {
	d, _ := csdl.ParseDuration(x.text("callbackConfiguration", "timeoutDuration"))
	return d
}

func (x *extension) patience() time.Duration {
	return time.Duration(x.client("timeoutInMilliseconds", 1000)) * time.Millisecond
}

func (x *extension) retries() int { return int(x.client("maximumRetries", 0)) }
