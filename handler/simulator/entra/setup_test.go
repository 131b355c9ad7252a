package entra

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
)

const newExtension = `{
  "@odata.type": "#microsoft.graph.accessPackageAssignmentRequestWorkflowExtension",
  "displayName": "Ticket", "description": "Opens a ticket",
  "endpointConfiguration": {"@odata.type": "#microsoft.graph.logicAppTriggerEndpointConfiguration", "subscriptionId": "s",
    "resourceGroupName": "g", "logicAppWorkflowName": "w", "url": "https://logic.example/w"},
  "authenticationConfiguration": {"@odata.type": "#microsoft.graph.azureAdPopTokenAuthentication"},
  "clientConfiguration": {"timeoutInMilliseconds": 2000, "maximumRetries": 1},
  "callbackConfiguration": {"@odata.type": "#microsoft.graph.customExtensionCallbackConfiguration", "timeoutDuration": "P14D"}
}`

func (f *fixture) extensions() string {
	return management + "/catalogs/" + f.sample.Finance + "/customWorkflowExtensions"
}

func TestAnExtensionIsCreatedListedChangedAndDeleted(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	made := f.want(201, "POST", f.extensions(), newExtension)
	id, _ := made["id"].(string)
	if id == "" || made["value"] != nil || reach(made, []string{"callbackConfiguration", "timeoutDuration"}) != "P14D" {
		t.Fatalf("made %v", made)
	}
	again := f.want(201, "POST", f.extensions(), newExtension) // nothing refuses the same name
	list := f.want(200, "GET", f.extensions()+"?$filter=displayName eq 'ticket'", "")["value"].([]any)
	if len(list) != 2 {
		t.Fatalf("listed %v", list)
	}
	changed := f.want(200, "PUT", f.extensions()+"/"+id,
		`{"@odata.type":"#microsoft.graph.accessPackageAssignmentRequestWorkflowExtension","displayName":"Renamed","callbackConfiguration":null}`)
	if changed["displayName"] != "Renamed" || changed["description"] != "Opens a ticket" || changed["callbackConfiguration"] != nil ||
		reach(changed, []string{"clientConfiguration", "maximumRetries"}) != 1.0 || changed["createdDateTime"] != made["createdDateTime"] {
		t.Errorf("changed %v", changed)
	}
	read := f.want(200, "GET", f.extensions()+"/"+id, "")
	if read["displayName"] != "Renamed" {
		t.Errorf("read back %v", read)
	}
	f.want(204, "DELETE", f.extensions()+"/"+again["id"].(string), "")
	f.want(404, "GET", f.extensions()+"/"+again["id"].(string), "")
	f.want(400, "DELETE", f.extensions()+"/"+f.sample.WaitFinance, "") // a policy uses it
	f.want(404, "PUT", management+"/catalogs/"+f.sample.Engineering+"/customWorkflowExtensions/"+id, newExtension)
}

func TestAnExtensionThatGraphWouldRefuseIsRefused(t *testing.T) {
	t.Parallel()
	f := start(t, Config{RefuseDirectEndpoint: true})
	f.wrong = true
	replace := func(old, with string) string {
		if !strings.Contains(newExtension, old) {
			t.Fatalf("%q is not in the body", old)
		}
		return strings.Replace(newExtension, old, with, 1)
	}
	for name, body := range map[string]string{
		"wrapped in value":      `{"value":` + newExtension + `}`,
		"no type":               replace(`"@odata.type": "#microsoft.graph.accessPackageAssignmentRequestWorkflowExtension",`, ""),
		"unknown type":          replace("accessPackageAssignmentRequestWorkflowExtension", "ticketExtension"),
		"durationBeforeTimeout": replace("timeoutDuration", "durationBeforeTimeout"), // as the create page sends it
		"no duration":           replace("P14D", "two weeks"),
		"weeks, which the SDK makes of fourteen days": replace("P14D", "P2W"),
		"too long":                   replace("P14D", "P15D"),
		"too short":                  replace("P14D", "PT4M"),
		"patience of 3 s":            replace("2000", "3000"),
		"two retries":                replace(`"maximumRetries": 1`, `"maximumRetries": 2`),
		"no name":                    replace(`"displayName": "Ticket", `, ""),
		"no url from an application": replace(`, "url": "https://logic.example/w"`, ""),
		"abstract endpoint":          replace(`"@odata.type": "#microsoft.graph.logicAppTriggerEndpointConfiguration", `, ""),
		"a direct endpoint": replace(`"#microsoft.graph.logicAppTriggerEndpointConfiguration", "subscriptionId": "s",
    "resourceGroupName": "g", "logicAppWorkflowName": "w", "url": "https://logic.example/w"`, `"#microsoft.graph.httpRequestEndpoint", "targetUrl": "https://f.example"`),
		"an assignment extension that waits": replace("AssignmentRequestWorkflow", "AssignmentWorkflow"),
	} {
		if status, _, answer := f.call("POST", f.extensions(), body); status != 400 || errorMessage(answer) == "" {
			t.Errorf("%s: %d %v", name, status, answer)
		}
	}
	made := f.want(201, "POST", f.extensions(), newExtension)
	f.want(400, "PUT", f.extensions()+"/"+made["id"].(string),
		`{"@odata.type":"#microsoft.graph.accessPackageAssignmentWorkflowExtension","callbackConfiguration":null}`)
}

func TestTheDerivedCallbackConfigurationAndADirectEndpointAreTaken(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	body := strings.Replace(newExtension, "microsoft.graph.customExtensionCallbackConfiguration", "microsoft.graph.accessPackageRequestApprovalStageCallbackConfiguration", 1)
	f.want(201, "POST", f.extensions(), body)
	f.want(201, "POST", f.extensions(), strings.Replace(newExtension, `"@odata.type": "#microsoft.graph.customExtensionCallbackConfiguration", `, "", 1))
	f.want(201, "POST", f.extensions(), `{"@odata.type":"#microsoft.graph.accessPackageAssignmentRequestWorkflowExtension","displayName":"Direct",
		"endpointConfiguration":{"@odata.type":"#microsoft.graph.httpRequestEndpoint","targetUrl":"https://f.example/api/callout"},
		"authenticationConfiguration":{"@odata.type":"#microsoft.graph.azureAdTokenAuthentication","resourceId":"api://bridge"}}`)
}

func TestACallbackConfigurationCanBeDroppedInSilence(t *testing.T) {
	t.Parallel()
	f := start(t, Config{DropCallbackConfiguration: true})
	made := f.want(201, "POST", f.extensions(), newExtension)
	if made["callbackConfiguration"] != nil {
		t.Errorf("made %v", made)
	}
}

// policyBody reads a policy as Graph shows it and returns it as a body for PUT, after a change.
func (f *fixture) policyBody(id string, change func(map[string]any)) string {
	f.t.Helper()
	p := f.want(200, "GET", management+"/assignmentPolicies/"+id+"?$expand=customExtensionStageSettings($expand=customExtension)", "")
	change(p)
	out, err := json.Marshal(p)
	if err != nil {
		f.t.Fatal(err)
	}
	return string(out)
}

func setting(stage string, kind Kind, id string) map[string]any {
	return map[string]any{"stage": stage, "customExtension": map[string]any{"@odata.type": string(kind), "id": id}}
}

func TestAPolicyShowsItsStageSettingsOnlyWhenAskedAndItsPutReplacesThem(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	path := management + "/assignmentPolicies/" + f.sample.PayrollPolicy
	stages := func() (out []string) {
		p := f.want(200, "GET", path+"?$expand=customExtensionStageSettings($expand=customExtension)", "")
		for _, s := range p["customExtensionStageSettings"].([]any) {
			if reach(s, []string{"customExtension", "id"}) == nil {
				t.Errorf("setting %v", s)
			}
			out = append(out, s.(map[string]any)["stage"].(string))
		}
		return out
	}
	if _, there := f.want(200, "GET", path, "")["customExtensionStageSettings"]; there {
		t.Error("a plain GET shows the stage settings")
	}
	if got := stages(); !slices.Equal(got, []string{StageCreated, StageApproved, StageRemoved}) {
		t.Fatalf("stages %v", got)
	}
	f.want(200, "PUT", path, f.policyBody(f.sample.PayrollPolicy, func(p map[string]any) {
		p["displayName"] = "Changed"
		p["customExtensionStageSettings"] = []any{setting(StageGranted, RequestKind, f.sample.WaitFinance), setting(StageOneDay, AssignmentKind, f.sample.ExpiryFinance)}
	}))
	if got := stages(); !slices.Equal(got, []string{StageGranted, StageOneDay}) {
		t.Errorf("stages %v", got)
	}
	f.want(200, "PUT", path, f.policyBody(f.sample.PayrollPolicy, func(p map[string]any) {
		delete(p, "customExtensionStageSettings")
		maps.DeleteFunc(p, func(name string, _ any) bool { return strings.HasPrefix(name, "@odata.") })
	}))
	if got := stages(); len(got) != 0 {
		t.Errorf("a PUT without stage settings left %v", got)
	}
	if p := f.want(200, "GET", path, ""); p["displayName"] != "Changed" {
		t.Errorf("policy %v", p)
	}
	f.want(501, "PATCH", path, `{"displayName":"x"}`)
}

func TestAPolicyThatGraphWouldRefuseIsRefusedAndStays(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	f.wrong = true
	id := f.sample.LedgerPolicy
	path := management + "/assignmentPolicies/" + id
	set := func(settings ...any) func(map[string]any) {
		return func(p map[string]any) { p["customExtensionStageSettings"] = settings }
	}
	before := f.policyBody(id, func(map[string]any) {})
	for name, c := range map[string]struct {
		code   string
		change func(map[string]any)
	}{
		"not complete":               {"InvalidModel", func(p map[string]any) { delete(p, "requestorSettings") }},
		"another id":                 {"InvalidModel", func(p map[string]any) { p["id"] = "other" }},
		"unknown property":           {"BadRequest", func(p map[string]any) { p["tickets"] = true }},
		"unknown stage":              {"BadRequest", set(setting("assignmentRequestPondered", RequestKind, f.sample.WaitFinance))},
		"two of one stage":           {"InvalidModel", set(setting(StageApproved, RequestKind, f.sample.WaitFinance), setting(StageApproved, RequestKind, f.sample.WaitFinance))},
		"another catalog's":          {"InvalidModel", set(setting(StageApproved, RequestKind, f.sample.WaitEngineering))},
		"no such extension":          {"InvalidModel", set(setting(StageApproved, RequestKind, "c0a6e2d4-52f7-4a9e-8f0e-1b6f9d3c2e77"))},
		"the wrong kind":             {"InvalidModel", set(setting(StageApproved, AssignmentKind, f.sample.ExpiryFinance))},
		"the wrong kind at the end":  {"InvalidModel", set(setting(StageOneDay, RequestKind, f.sample.WaitFinance))},
		"a type that is not its own": {"InvalidModel", set(setting(StageApproved, AssignmentKind, f.sample.WaitFinance))},
		"no expiration": {"InvalidModel", func(p map[string]any) {
			p["expiration"] = map[string]any{"type": "noExpiration"}
		}},
		"open to guests": {"InvalidModel", func(p map[string]any) { p["allowedTargetScope"] = "allExternalUsers" }},
	} {
		if status, _, answer := f.call("PUT", path, f.policyBody(id, c.change)); status != 400 || errorCode(answer) != c.code {
			t.Errorf("%s: %d %v", name, status, answer)
		}
	}
	if after := f.policyBody(id, func(map[string]any) {}); after != before {
		t.Errorf("the policy changed from %s to %s", before, after)
	}
}

func TestAGuestPolicyMayCallOutInALinkedTenant(t *testing.T) {
	t.Parallel()
	f := start(t, Config{GuestGovernance: true})
	f.want(200, "PUT", management+"/assignmentPolicies/"+f.sample.LedgerPolicy, f.policyBody(f.sample.LedgerPolicy, func(p map[string]any) {
		p["allowedTargetScope"] = "allExternalUsers"
	}))
}

func TestARoleIsAssignedOnceForACatalog(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	f.wrong = true
	id := f.AddIdentity(Identity{Name: "bridge"})
	const path = "/roleManagement/entitlementManagement/roleAssignments"
	body := func(principal, definition, scope string) string {
		return `{"@odata.type":"#microsoft.graph.unifiedRoleAssignment","principalId":"` + principal + `","roleDefinitionId":"` + definition + `","appScopeId":"` + scope + `"}`
	}
	good := body(id.ObjectID, roleAssignmentManager, catalogScope+f.sample.Finance)
	made := f.want(201, "POST", path, good)
	answer := f.want(400, "POST", path, good)
	if !strings.Contains(errorMessage(answer), "already exist") {
		t.Errorf("a second time: %v", answer)
	}
	f.want(400, "POST", path, body(id.ObjectID, "c0a6e2d4-52f7-4a9e-8f0e-1b6f9d3c2e77", catalogScope+f.sample.Finance))
	f.want(400, "POST", path, body(id.ObjectID, roleAssignmentManager, "/"))
	f.want(400, "POST", path, body("c0a6e2d4-52f7-4a9e-8f0e-1b6f9d3c2e77", roleAssignmentManager, catalogScope+f.sample.Finance))
	f.want(400, "POST", path, `{"principal":"x"}`)
	list := f.want(200, "GET", path+"?$filter=principalId eq '"+id.ObjectID+"' and appScopeId eq '"+catalogScope+f.sample.Finance+"'&$expand=roleDefinition", "")["value"].([]any)
	if len(list) != 1 || reach(list[0], []string{"roleDefinition", "displayName"}) != "Access package assignment manager" {
		t.Errorf("listed %v", list)
	}
	f.want(204, "DELETE", path+"/"+made["id"].(string), "")
	f.want(404, "DELETE", path+"/"+made["id"].(string), "")
	nobody := f.IssueToken(Token{Audience: graphResource, ObjectID: id.ObjectID})
	if status, _, _ := f.callAs(nobody, "POST", path, good); status != 403 {
		t.Errorf("anybody may assign roles: %d", status)
	}
}
