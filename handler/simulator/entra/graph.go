package entra

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"ticketbridge/handler/simulator/entra/csdl"
	"ticketbridge/handler/simulator/misbehave"
)

const (
	graphPath      = "/v1.0"
	graphBodyLimit = 4 << 20
)

// A graphCall is a request to Graph, by itself or in a batch. The path is relative to the service root and still escaped.
type graphCall struct {
	method, path string
	query        url.Values
	header       http.Header
	body         []byte // inflated
}

// A graphAnswer is what Graph answers; a nil body is an empty one.
type graphAnswer struct {
	status int
	body   any
	header http.Header
}

// caller is who a token says is calling.
type caller struct {
	object       string
	roles        []string
	delegated    bool // a person's token, not an application's
	entitlements bool // the token is good for entitlement management, as far as roles of catalogs allow
}

func (c caller) has(roles ...string) bool {
	return slices.ContainsFunc(roles, func(r string) bool { return slices.Contains(c.roles, r) })
}

// refusal answers with an OData error as Graph words it.
func refusal(status int, code, format string, args ...any) graphAnswer {
	return graphAnswer{status: status, body: map[string]any{"error": graphError(code, fmt.Sprintf(format, args...))}}
}

func graphError(code, message string) map[string]any {
	id := uuid.NewString()
	return map[string]any{"code": code, "message": message, "innerError": map[string]any{
		"date": time.Now().UTC().Format("2006-01-02T15:04:05"), "request-id": id, "client-request-id": id,
	}}
}

// GraphThrottle is a fault for GraphFaults: the next "times" calls get 429. retryAfter, in whole seconds, is left out when 0.
func GraphThrottle(times int, retryAfter time.Duration) misbehave.Fault {
	return graphFault(times, http.StatusTooManyRequests, graphError("TooManyRequests", "Too many requests. Please try again later."), retryAfter)
}

// GraphUnknownError is a fault for GraphFaults: the error without a message that users report, with this status.
func GraphUnknownError(times, status int) misbehave.Fault {
	return graphFault(times, status, map[string]any{"code": "UnknownError", "message": ""}, 0)
}

func graphFault(times, status int, inner map[string]any, retryAfter time.Duration) misbehave.Fault {
	body, err := json.Marshal(map[string]any{"error": inner})
	if err != nil {
		panic(err)
	}
	f := misbehave.Fault{Times: times, Status: status, Body: string(body), ContentType: "application/json"}
	if retryAfter > 0 {
		f.RetryAfter = fmt.Sprint(int(retryAfter.Seconds()))
	}
	return f
}

func (d *Directory) serveGraph(w http.ResponseWriter, r *http.Request) {
	call := graphCall{
		method: r.Method, path: strings.TrimPrefix(r.URL.EscapedPath(), graphPath), query: r.URL.Query(), header: r.Header,
	}
	var answer graphAnswer
	body, err := graphBody(r)
	if err != nil {
		answer = refusal(http.StatusBadRequest, "BadRequest", "Unable to read the request body: %v", err)
	} else {
		call.body = body
		answer = d.exchange(call)
	}
	h := w.Header()
	for name, values := range answer.header {
		h[name] = values
	}
	h.Set("request-id", uuid.NewString())
	if id := r.Header.Get("client-request-id"); id != "" {
		h.Set("client-request-id", id)
	}
	h.Set("OData-Version", "4.0")
	if answer.body == nil {
		w.WriteHeader(answer.status)
		return
	}
	encoded, err := json.Marshal(answer.body)
	if err != nil {
		panic(err)
	}
	h.Set("Content-Type", "application/json;odata.metadata=minimal;odata.streaming=true;IEEE754Compatible=false;charset=utf-8")
	w.WriteHeader(answer.status)
	_, _ = w.Write(encoded)
}

// graphBody reads a body and inflates it: clients may send Content-Encoding: gzip.
func graphBody(r *http.Request) ([]byte, error) {
	var from io.Reader = r.Body
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
	case "gzip":
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, err
		}
		from = z
	default:
		return nil, fmt.Errorf("unknown content encoding %q", encoding)
	}
	body, err := io.ReadAll(io.LimitReader(from, graphBodyLimit+1))
	if err == nil && len(body) > graphBodyLimit {
		err = errors.New("too large")
	}
	return body, err
}

// exchange answers one call, and keeps what about it departs from the published schema.
func (d *Directory) exchange(call graphCall) graphAnswer {
	answer := d.answer(call)
	if d.published == nil || call.path == "/$batch" {
		return answer
	}
	var encoded []byte
	if answer.body != nil {
		var err error
		if encoded, err = json.Marshal(answer.body); err != nil {
			panic(err)
		}
	}
	found := d.published.Check(csdl.Exchange{
		Method: call.method, Path: call.path, Query: call.query, Request: call.body, Status: answer.status, Answer: encoded,
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, v := range found {
		d.violations = append(d.violations, fmt.Sprintf("%s %s (%d): %s", call.method, call.path, answer.status, v))
	}
	return answer
}

func (d *Directory) answer(call graphCall) graphAnswer {
	who, refused := d.authenticate(call.header)
	if refused != nil {
		return *refused
	}
	if call.path == "/$batch" {
		return d.batch(call)
	}
	target, err := d.schema.Resolve(call.path)
	if err != nil {
		return refusal(http.StatusBadRequest, "BadRequest", "%s", strings.TrimPrefix(err.Error(), "path: "))
	}
	q, found := csdl.ParseQuery(call.query)
	if target.Operation == nil {
		found = append(found, d.schema.CheckQuery(target.Ref, q)...)
	}
	if len(found) > 0 {
		return refusal(http.StatusBadRequest, "BadRequest", "Parsing OData Select, Expand or Filter failed: %s", found[0])
	}
	if call.method == http.MethodGet {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.read(target, q, who)
	}
	write := d.writers()[call.method+" "+target.Template]
	if write == nil {
		return refusal(http.StatusNotImplemented, "NotImplemented", "%s is not implemented for %s", call.method, target.Template)
	}
	body, problem := d.decode(target, call)
	if problem != "" {
		return refusal(http.StatusBadRequest, "BadRequest", "%s", problem)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return write(target, body, who)
}

// decode reads a body strictly: what the schema does not have is refused.
func (d *Directory) decode(t *csdl.Target, call graphCall) (body map[string]any, problem string) {
	if len(bytes.TrimSpace(call.body)) == 0 {
		if call.method == http.MethodDelete || t.Operation != nil && len(t.Operation.Parameters) == 0 {
			return nil, ""
		}
		return nil, "Empty Payload. JSON content expected."
	}
	v, err := csdl.Decode(call.body)
	if err != nil {
		return nil, "Unable to read JSON request payload. Please ensure Content-Type header is set and payload is of valid JSON format."
	}
	var found []csdl.Violation
	if t.Operation != nil {
		found = d.schema.CheckParameters("body", t.Operation, v)
	} else {
		found = d.schema.CheckValue("body", csdl.Ref{Type: t.Ref.Type}, v)
	}
	if len(found) > 0 {
		return nil, fmt.Sprintf("%s Make sure to only use what is defined by the type.", found[0])
	}
	body, _ = v.(map[string]any)
	return body, ""
}

type writer func(t *csdl.Target, body map[string]any, who caller) graphAnswer

// writers are the changes that Graph takes; they are called with d.mu held and a body that fits the schema.
func (d *Directory) writers() map[string]writer {
	const management = "/identityGovernance/entitlementManagement"
	const extensions = management + "/catalogs/{id}/customWorkflowExtensions"
	return map[string]writer{
		"POST " + management + "/assignmentRequests/{id}/resume": d.resume,
		"POST " + management + "/assignmentRequests/{id}/cancel": d.cancelRequest,
		"POST " + extensions:                                                d.createExtension,
		"PUT " + extensions + "/{id}":                                       d.replaceExtension,
		"DELETE " + extensions + "/{id}":                                    d.deleteExtension,
		"PUT " + management + "/assignmentPolicies/{id}":                    d.replacePolicy,
		"POST /roleManagement/entitlementManagement/roleAssignments":        d.createRoleAssignment,
		"DELETE /roleManagement/entitlementManagement/roleAssignments/{id}": d.deleteRoleAssignment,
		"POST /applications":                                                d.createApplication,
		"PATCH /applications/{id}":                                          d.patchApplication,
		"DELETE /applications/{id}":                                         d.deleteApplication,
		"POST /servicePrincipals":                                           d.createServicePrincipal,
		"DELETE /servicePrincipals/{id}":                                    d.deleteServicePrincipal,
		"POST /servicePrincipals/{id}/appRoleAssignedTo":                    d.createAppRoleAssignment,
		"DELETE /servicePrincipals/{id}/appRoleAssignedTo/{id}":             d.deleteAppRoleAssignment,
	}
}

// authenticate checks the bearer token: signature, issuer, lifetime, and that it is for Graph.
func (d *Directory) authenticate(h http.Header) (caller, *graphAnswer) {
	refuse := func(message string) (caller, *graphAnswer) {
		a := refusal(http.StatusUnauthorized, "InvalidAuthenticationToken", "%s", message)
		a.header = http.Header{"Www-Authenticate": {`Bearer realm="", authorization_uri="` + d.BaseURL() + `/common/oauth2/authorize", client_id="` + graphAppID + `"`}}
		return caller{}, &a
	}
	scheme, token, _ := strings.Cut(h.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return refuse("Access token is empty.")
	}
	claims, err := d.verify(token)
	if err != nil {
		return refuse(err.Error())
	}
	if aud, _ := claims["aud"].(string); strings.TrimSuffix(aud, "/") != graphResource && aud != graphAppID {
		return refuse("Access token validation failure. Invalid audience.")
	}
	who := caller{entitlements: true}
	who.object, _ = claims["oid"].(string)
	if list, ok := claims["roles"].([]any); ok {
		for _, role := range list {
			if s, ok := role.(string); ok {
				who.roles = append(who.roles, s)
			}
		}
	}
	if scopes, ok := claims["scp"].(string); ok {
		d.mu.Lock()
		defer d.mu.Unlock()
		who.delegated = true
		who.roles, who.entitlements = d.delegated(who.object, strings.Fields(scopes))
	}
	return who, nil
}

// batch answers up to twenty calls in one, those that depend on others after them.
func (d *Directory) batch(call graphCall) graphAnswer {
	if call.method != http.MethodPost {
		return refusal(http.StatusMethodNotAllowed, "BadRequest", "Only POST is supported for $batch")
	}
	var in struct {
		Requests []struct {
			ID        string            `json:"id"`
			Method    string            `json:"method"`
			URL       string            `json:"url"`
			Headers   map[string]string `json:"headers"`
			Body      json.RawMessage   `json:"body"`
			DependsOn []string          `json:"dependsOn"`
		} `json:"requests"`
	}
	if err := json.Unmarshal(call.body, &in); err != nil || len(in.Requests) == 0 {
		return refusal(http.StatusBadRequest, "BadRequest", "Invalid batch payload format.")
	}
	if len(in.Requests) > 20 {
		return refusal(http.StatusBadRequest, "BadRequest", "Number of batch request steps exceeds the maximum value of 20.")
	}
	status := map[string]int{}
	responses := []any{}
	for _, r := range in.Requests {
		if _, twice := status[r.ID]; twice || r.ID == "" || r.Method == "" || !strings.HasPrefix(r.URL, "/") {
			return refusal(http.StatusBadRequest, "BadRequest", "Invalid batch request step: every step has an id of its own, a method and a relative url.")
		}
		response := map[string]any{"id": r.ID}
		responses = append(responses, response)
		failed := slices.ContainsFunc(r.DependsOn, func(id string) bool { return status[id]/100 != 2 })
		var a graphAnswer
		u, err := url.Parse(r.URL)
		switch {
		case failed:
			a = refusal(http.StatusFailedDependency, "FailedDependency", "A step that this one depends on failed.")
		case err != nil:
			a = refusal(http.StatusBadRequest, "BadRequest", "Invalid URL.")
		default:
			step := graphCall{method: strings.ToUpper(r.Method), path: u.EscapedPath(), query: u.Query(), header: call.header.Clone(), body: r.Body}
			if string(r.Body) == "null" {
				step.body = nil
			}
			d.countCall(step.method, step.path)
			a = d.exchange(step)
		}
		status[r.ID] = a.status
		response["status"] = a.status
		headers := map[string]string{"Content-Type": "application/json"}
		for name := range a.header {
			headers[name] = a.header.Get(name)
		}
		response["headers"] = headers
		if a.body != nil {
			response["body"] = a.body
		}
	}
	return graphAnswer{status: http.StatusOK, body: map[string]any{"responses": responses}}
}

func (d *Directory) countGraph(r *http.Request) {
	d.countCall(r.Method, strings.TrimPrefix(r.URL.EscapedPath(), graphPath))
}

func (d *Directory) countCall(method, path string) {
	if t, err := d.schema.Resolve(path); err == nil {
		path = t.Template
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls[method+" "+graphPath+path]++
}
