package graphcheck

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

const resume = `{"source":"ServiceNow","type":"microsoft.graph.accessPackageCustomExtensionStage.assignmentRequestApproved","data":{
	"@odata.type":"#microsoft.graph.accessPackageAssignmentRequestCallbackData","stage":"assignmentRequestApproved",
	"customExtensionStageInstanceId":"c0a6e2d4-52f7-4a9e-8f0e-1b6f9d3c2e77","customExtensionStageInstanceDetail":"REQ1","state":"Denied"}}`

const extension = `{"@odata.type":"#microsoft.graph.accessPackageAssignmentRequestWorkflowExtension","displayName":"x","description":null,
	"endpointConfiguration":{"@odata.type":"#microsoft.graph.logicAppTriggerEndpointConfiguration","subscriptionId":"s","resourceGroupName":"g","logicAppWorkflowName":"w","url":"https://example.com"},
	"authenticationConfiguration":{"@odata.type":"#microsoft.graph.azureAdPopTokenAuthentication"},
	"clientConfiguration":{"timeoutInMilliseconds":2000,"maximumRetries":1},
	"callbackConfiguration":{"@odata.type":"microsoft.graph.customExtensionCallbackConfiguration","timeoutDuration":"P14D"}}`

const policy = `{"id":"x","displayName":"p","description":"d","allowedTargetScope":"allMemberUsers","specificAllowedTargets":[{"@odata.type":"#microsoft.graph.groupMembers","groupId":"g"}],
	"expiration":{"type":"afterDuration","duration":"P365D","endDateTime":null},
	"requestorSettings":{"enableTargetsToSelfAddAccess":true,"onBehalfRequestors":[]},
	"requestApprovalSettings":{"isApprovalRequiredForAdd":false,"stages":[]},"accessPackage":{"id":"a"},
	"customExtensionStageSettings":[{"stage":"assignmentRequestApproved","customExtension":{"@odata.type":"#microsoft.graph.accessPackageAssignmentRequestWorkflowExtension","id":"e"}},
		{"stage":"assignmentRequestRemoved","customExtension@odata.bind":"https://graph.microsoft.com/v1.0/x('e')"}]}`

func TestPropertiesThatGraphDoesNotHaveAreNamed(t *testing.T) {
	t.Parallel()
	edit := func(body, old, with string) string {
		if !strings.Contains(body, old) {
			t.Fatalf("no %s in the body", old)
		}
		return strings.Replace(body, old, with, 1)
	}
	for _, tc := range []struct {
		name, kind, body string
		want             []string
	}{
		{"resume", Resume, resume, nil},
		{"resume without a #", Resume, edit(resume, "#microsoft", "microsoft"), nil},
		{"resume with more", Resume, edit(resume, `"source"`, `"colour":"red","source"`), []string{"colour"}},
		{"null is no excuse", Resume, edit(resume, `"source"`, `"colour":null,"source"`), []string{"colour"}},
		{"in the data", Resume, edit(resume, `"state"`, `"colour":{"a":[1]},"state"`), []string{"data.colour"}},
		{"names in another case", Resume, edit(resume, `"state"`, `"State"`), []string{"data.State"}},
		{
			"data without its type", Resume, edit(resume, `"@odata.type":"#microsoft.graph.accessPackageAssignmentRequestCallbackData",`, ""),
			[]string{"data.customExtensionStageInstanceDetail", "data.customExtensionStageInstanceId", "data.stage", "data.state"},
		},
		{"data of a type that is none", Resume, `{"data":{"@odata.type":"#microsoft.graph.nonsense"}}`, []string{"data.@odata.type"}},
		{"data of a type that does not belong there", Resume, `{"data":{"@odata.type":"#microsoft.graph.user"}}`, []string{"data.@odata.type"}},
		{"a type that is no text", Resume, `{"data":{"@odata.type":null}}`, []string{"data.@odata.type"}},
		{"annotations", Resume, `{"@odata.context":"x","@odata.etag":"y","@odata.id":"z"}`, nil},
		{
			"annotations that are none", Resume, `{"@odata.nonsense":"x","@microsoft.graph.tips":"y","colour@odata.bind":"z","source@odata.nonsense":""}`,
			[]string{"@microsoft.graph.tips", "@odata.nonsense", "colour@odata.bind", "source@odata.nonsense"},
		},
		{"extension", Extension, extension, nil},
		{"the name of the create page", Extension, edit(extension, "timeoutDuration", "durationBeforeTimeout"), []string{"callbackConfiguration.durationBeforeTimeout"}},
		{
			"an endpoint of another type", Extension, edit(extension, "logicAppTriggerEndpointConfiguration", "httpRequestEndpoint"),
			[]string{"endpointConfiguration.logicAppWorkflowName", "endpointConfiguration.resourceGroupName", "endpointConfiguration.subscriptionId", "endpointConfiguration.url"},
		},
		{"wrapped in value", Extension, `{"value":` + extension + `}`, []string{"value"}},
		{"the other kind of extension", Extension, edit(extension, "RequestWorkflowExtension", "WorkflowExtension"), nil},
		{"policy", Policy, policy, nil},
		{"in a collection", Policy, edit(policy, `"id":"e"`, `"id":"e","colour":1`), []string{"customExtensionStageSettings[0].customExtension.colour"}},
		{"an earlier name", Policy, edit(policy, "specificAllowedTargets", "requestorTargets"), []string{"requestorTargets"}},
		{"request", Request, `{"id":"x","state":"delivering","status":"s","customExtensionCalloutInstances":[null,{"id":"i","status":"waitingForCallback","detail":"d","externalCorrelationId":"c","customExtensionId":"e"}]}`, nil},
		{"request, beta's name", Request, `{"requestState":"submitted","requestStatus":"x"}`, []string{"requestState", "requestStatus"}},
		{"role assignment", RoleAssignment, `{"principalId":"p","roleDefinitionId":"r","appScopeId":"/AccessPackageCatalog/c"}`, nil},
		{"role assignment with more", RoleAssignment, `{"principalId":"p","scope":"/"}`, []string{"scope"}},
		{"nothing", RoleAssignment, `{}`, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := Unknown(tc.kind, []byte(tc.body))
			if err != nil || !slices.Equal(got, tc.want) {
				t.Errorf("got %q, %v, want %q", got, err, tc.want)
			}
		})
	}
}

func TestABodyOfAnotherShapeIsAnError(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string][2]string{
		"no JSON":                      {Resume, `{"source":`},
		"empty":                        {Resume, ``},
		"null":                         {Resume, `null`},
		"list":                         {Resume, `[]`},
		"two values":                   {Resume, `{} {}`},
		"number for text":              {Resume, `{"source":5}`},
		"object for text":              {Resume, `{"source":{}}`},
		"text for an object":           {Resume, `{"data":"x"}`},
		"list for an object":           {Resume, `{"data":[]}`},
		"object for a list":            {Policy, `{"customExtensionStageSettings":{}}`},
		"text for a list":              {Policy, `{"customExtensionStageSettings":"x"}`},
		"text in a list of objects":    {Policy, `{"customExtensionStageSettings":["x"]}`},
		"a member that there is not":   {Policy, `{"allowedTargetScope":"everybody"}`},
		"a member in another case":     {Policy, `{"allowedTargetScope":"AllMemberUsers"}`},
		"text for a truth value":       {Policy, `{"requestorSettings":{"enableTargetsToSelfAddAccess":"yes"}}`},
		"a duration that is none":      {Extension, `{"@odata.type":"#microsoft.graph.accessPackageAssignmentRequestWorkflowExtension","callbackConfiguration":{"timeoutDuration":"two weeks"}}`},
		"a kind that nobody has heard": {"user", `{}`},
	} {
		if got, err := Unknown(tc[0], []byte(tc[1])); err == nil {
			t.Errorf("%s: read, with %q unknown", name, got)
		}
	}
}

func FuzzUnknownNeverPanics(f *testing.F) {
	for _, s := range []string{resume, extension, policy} {
		f.Add(Policy, s)
		f.Add(Resume, s)
	}
	f.Fuzz(func(t *testing.T, kind, body string) {
		got, err := Unknown(kind, []byte(body))
		if err == nil && !json.Valid([]byte(body)) {
			t.Errorf("%q: read, with %q unknown", body, got)
		}
	})
}
