//go:build contracts

package csdl

import (
	"net/url"
	"os"
	"path/filepath"
	"testing"
)

// The published schema of Graph v1.0 must be read as it is, and each kind of departure from it found.
func TestDeparturesFromThePublishedSchemaOfGraphAreFound(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("CONTRACTS_DIR")
	if dir == "" {
		t.Fatal("CONTRACTS_DIR is not set: it names the folder with graph-v1.0.csdl")
	}
	m := read(t, filepath.Join(dir, "graph-v1.0.csdl"))
	const (
		requests = "/identityGovernance/entitlementManagement/assignmentRequests"
		one      = requests + "/7d1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a11"
		data     = `"@odata.type":"#microsoft.graph.accessPackageAssignmentRequestCallbackData"`
	)
	resume := func(body string) Exchange {
		return Exchange{Method: "POST", Path: one + "/resume", Request: []byte(body), Status: 204}
	}
	read := func(answer string) Exchange {
		return Exchange{Method: "GET", Path: one, Status: 200, Answer: []byte(answer)}
	}
	ask := func(option, value string) Exchange {
		return Exchange{Method: "GET", Path: requests, Query: url.Values{option: {value}}, Status: 200, Answer: []byte(`{"value":[]}`)}
	}
	extension := func(body string) Exchange {
		return Exchange{
			Method: "POST", Path: "/identityGovernance/entitlementManagement/catalogs/1/customWorkflowExtensions", Request: []byte(body),
			Status: 201, Answer: []byte(`{"@odata.type":"#microsoft.graph.accessPackageAssignmentRequestWorkflowExtension","id":"1"}`),
		}
	}
	for name, c := range map[string]struct {
		e    Exchange
		want string
	}{
		"resume":              {resume(`{"source":"ServiceNow","type":"x","data":{` + data + `,"stage":"assignmentRequestApproved","customExtensionStageInstanceId":"x","customExtensionStageInstanceDetail":"y","state":"Denied"}}`), ""},
		"cancel":              {Exchange{Method: "POST", Path: one + "/cancel", Status: 204}, ""},
		"read":                {read(`{"id":"1","state":"delivering","requestType":"userAdd","createdDateTime":"2026-08-01T10:00:00Z","customExtensionCalloutInstances":[{"id":"x","status":"waitingForCallback"}]}`), ""},
		"policy and settings": {Exchange{Method: "GET", Path: "/identityGovernance/entitlementManagement/assignmentPolicies/1", Query: url.Values{"$expand": {"customExtensionStageSettings($expand=customExtension)"}}, Status: 200, Answer: []byte(`{"id":"1"}`)}, ""},
		"filter":              {ask("$filter", "state eq 'delivering' and accessPackage/catalog/id eq 'x'"), ""},

		"path":                   {Exchange{Method: "GET", Path: "/identityGovernance/entitlementManagement/accessPackageAssignmentRequests", Status: 200, Answer: []byte(`{"value":[]}`)}, "path"},
		"action":                 {Exchange{Method: "POST", Path: one + "/deny", Status: 204}, "path"},
		"action elsewhere":       {Exchange{Method: "POST", Path: "/users/1/resume", Status: 204}, "path"},
		"parameter":              {resume(`{"origin":"x"}`), "request.origin"},
		"property":               {resume(`{"data":{` + data + `,"outcome":"x"}}`), "request.data.outcome"},
		"type":                   {resume(`{"data":{` + data + `,"customExtensionStageInstanceDetail":1}}`), "request.data.customExtensionStageInstanceDetail"},
		"stage":                  {resume(`{"data":{` + data + `,"stage":"assignmentRequestDeterminingApprovalRequirements"}}`), "request.data.stage"},
		"abstract data":          {resume(`{"data":{"stage":"assignmentRequestApproved"}}`), "request.data"},
		"answered state":         {read(`{"state":"waiting"}`), "answer.state"},
		"answered status":        {read(`{"customExtensionCalloutInstances":[{"status":"waiting"}]}`), "answer.customExtensionCalloutInstances[0].status"},
		"answered type":          {read(`{"createdDateTime":1}`), "answer.createdDateTime"},
		"answered property":      {read(`{"ticket":"x"}`), "answer.ticket"},
		"expand of a property":   {ask("$expand", "customExtensionCalloutInstances"), "$expand"},
		"select":                 {ask("$select", "id,outcome"), "$select"},
		"filter of a property":   {ask("$filter", "outcome eq 'x'"), "$filter"},
		"filter with a member":   {ask("$filter", "state eq 'waiting'"), "$filter"},
		"the create page's name": {extension(`{"@odata.type":"#microsoft.graph.accessPackageAssignmentRequestWorkflowExtension","callbackConfiguration":{"@odata.type":"#microsoft.graph.accessPackageRequestApprovalStageCallbackConfiguration","durationBeforeTimeout":"P14D"}}`), "request.callbackConfiguration.durationBeforeTimeout"},
		"abstract extension":     {extension(`{"displayName":"x"}`), "request"},
		"duration":               {extension(`{"@odata.type":"#microsoft.graph.accessPackageAssignmentRequestWorkflowExtension","callbackConfiguration":{"@odata.type":"#microsoft.graph.accessPackageRequestApprovalStageCallbackConfiguration","timeoutDuration":"14 days"}}`), "request.callbackConfiguration.timeoutDuration"},
	} {
		found := m.Check(c.e)
		if c.want == "" && len(found) > 0 || c.want != "" && (len(found) == 0 || found[0].At != c.want) {
			t.Errorf("%s: found %v, want one at %q", name, found, c.want)
		}
	}
}
