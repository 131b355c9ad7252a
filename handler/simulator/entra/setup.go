package entra

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"ticketbridge/handler/simulator/entra/csdl"
)

// What Graph does when extensions and policies are set up.

func (d *Directory) createExtension(t *csdl.Target, body map[string]any, who caller) graphAnswer {
	catalog := d.catalog(lastKey(t))
	switch {
	case catalog == nil && who.has(readWriteAll):
		return refusal(http.StatusNotFound, "ResourceNotFound", "The catalog '%s' was not found.", lastKey(t))
	case catalog == nil || !d.mayManage(who, catalog.ID, roleCatalogOwner):
		return forbidden()
	}
	x := &extension{id: uuid.NewString(), catalog: catalog.ID, body: map[string]any{
		"displayName": nil, "description": nil, "endpointConfiguration": nil, "authenticationConfiguration": nil,
		"clientConfiguration": nil, "callbackConfiguration": nil,
	}}
	now := stamp(time.Now())
	x.body["createdBy"], x.body["createdDateTime"] = who.object, now
	if a := d.changeExtension(x, body, who); a != nil {
		return *a
	}
	d.extensions = append(d.extensions, x) // nothing refuses a second one of the same name
	shown := d.project("customCalloutExtension", d.showExtension(x), csdl.Query{})
	shown["@odata.context"] = d.base + graphPath + "/$metadata#identityGovernance/entitlementManagement/catalogs('{id}')/customWorkflowExtensions/$entity"
	return graphAnswer{status: http.StatusCreated, body: shown}
}

// replaceExtension is the PUT that keeps what its body omits: an explicit null clears.
func (d *Directory) replaceExtension(t *csdl.Target, body map[string]any, who caller) graphAnswer {
	x, refused := d.extensionAt(t, who)
	if refused != nil {
		return *refused
	}
	if a := d.changeExtension(x, body, who); a != nil {
		return *a
	}
	shown := d.project("customCalloutExtension", d.showExtension(x), csdl.Query{})
	return graphAnswer{status: http.StatusOK, body: shown}
}

// deleteExtension refuses while a policy uses the extension; whether Graph does is a guess.
func (d *Directory) deleteExtension(t *csdl.Target, _ map[string]any, who caller) graphAnswer {
	x, refused := d.extensionAt(t, who)
	if refused != nil {
		return *refused
	}
	for _, p := range d.policies {
		if slices.ContainsFunc(p.stages, func(s stageSetting) bool { return s.extension == x.id }) {
			return refusal(http.StatusBadRequest, "BadRequest", "The custom extension is used by the policy '%s'.", p.id)
		}
	}
	d.extensions = slices.DeleteFunc(d.extensions, func(other *extension) bool { return other == x })
	return graphAnswer{status: http.StatusNoContent}
}

func (d *Directory) extensionAt(t *csdl.Target, who caller) (*extension, *graphAnswer) {
	var keys []string
	for _, s := range t.Steps {
		if s.Key != "" {
			keys = append(keys, s.Key)
		}
	}
	if !d.mayManage(who, keys[0], roleCatalogOwner) {
		a := forbidden()
		return nil, &a
	}
	x := d.extension(keys[1])
	if x == nil || !strings.EqualFold(x.catalog, keys[0]) {
		a := refusal(http.StatusNotFound, "ResourceNotFound", "The custom extension '%s' was not found.", keys[1])
		return nil, &a
	}
	return x, nil
}

// changeExtension puts a body's properties into an extension, or says why not and changes nothing.
func (d *Directory) changeExtension(x *extension, body map[string]any, who caller) *graphAnswer {
	next := maps.Clone(x.body)
	for name, v := range body {
		if !readOnly(name) {
			next[name] = v
		}
	}
	if d.cfg.DropCallbackConfiguration {
		next["callbackConfiguration"] = nil
	}
	now := stamp(time.Now())
	next["lastModifiedBy"], next["lastModifiedDateTime"] = who.object, now
	changed := &extension{id: x.id, catalog: x.catalog, body: next}
	if !d.mayUseRelay(changed, who) {
		a := forbidden()
		return &a
	}
	if problem := d.badExtension(x, changed, who); problem != "" {
		a := refusal(http.StatusBadRequest, "InvalidModel", "%s", problem)
		return &a
	}
	if next["clientConfiguration"] == nil {
		next["clientConfiguration"] = map[string]any{"timeoutInMilliseconds": 1000, "maximumRetries": 0}
	}
	x.body = next // a new map: a delivery may be reading the old one
	return nil
}

// mayUseRelay says whether a person may have entitlement management call a Logic App: who is Logic App Contributor there. It is asked of nobody else.
func (d *Directory) mayUseRelay(x *extension, who caller) bool {
	name := x.text("endpointConfiguration", "logicAppWorkflowName")
	if name == "" || !who.delegated {
		return true
	}
	u := d.user(who.object)
	return u != nil && slices.Contains(u.LogicApps, name)
}

func readOnly(name string) bool {
	switch name {
	case "id", "createdBy", "createdDateTime", "lastModifiedBy", "lastModifiedDateTime", "modifiedDateTime":
		return true
	}
	return strings.HasPrefix(name, "@odata.") && name != "@odata.type"
}

func (d *Directory) badExtension(before, x *extension, who caller) string {
	typ, _ := x.body["@odata.type"].(string)
	if !strings.HasPrefix(typ, "#") {
		typ = "#" + typ
		x.body["@odata.type"] = typ
	}
	if old, ok := before.body["@odata.type"].(string); ok && old != typ {
		return fmt.Sprintf("The type of a custom extension cannot be changed from %s to %s.", old, typ)
	}
	if name, _ := x.body["displayName"].(string); strings.TrimSpace(name) == "" {
		return "The displayName is required."
	}
	switch strings.TrimPrefix(x.text("endpointConfiguration", "@odata.type"), "#") {
	case "microsoft.graph.httpRequestEndpoint":
		if d.cfg.RefuseDirectEndpoint {
			return "The endpointConfiguration must be a logicAppTriggerEndpointConfiguration."
		}
		if !strings.HasPrefix(x.text("endpointConfiguration", "targetUrl"), "http") {
			return "The targetUrl of the endpointConfiguration is not a URL."
		}
	case "microsoft.graph.logicAppTriggerEndpointConfiguration":
		for _, name := range []string{"subscriptionId", "resourceGroupName", "logicAppWorkflowName"} {
			if x.text("endpointConfiguration", name) == "" {
				return "The endpointConfiguration wants a " + name + "."
			}
		}
		if x.text("endpointConfiguration", "url") == "" && !who.delegated {
			return "The endpointConfiguration wants a url when an application calls."
		}
	default:
		return "The endpointConfiguration is required."
	}
	if ms := x.client("timeoutInMilliseconds", 1000); ms < 200 || ms > 2000 {
		return "timeoutInMilliseconds must be from 200 to 2000."
	}
	if n := x.client("maximumRetries", 0); n < 0 || n > 1 {
		return "maximumRetries must be 0 or 1."
	}
	if x.part("callbackConfiguration") != nil {
		if typ == string(AssignmentKind) {
			return "A custom extension of this type cannot wait for a callback."
		}
		if wait := x.wait(); wait < 5*time.Minute || wait > 14*24*time.Hour {
			return "The timeoutDuration must be from PT5M to P14D."
		}
	}
	return ""
}

// replacePolicy is the PUT that wants the whole policy and replaces its stage settings, whoever made them.
func (d *Directory) replacePolicy(t *csdl.Target, body map[string]any, who caller) graphAnswer {
	p := d.policy(lastKey(t))
	switch {
	case p == nil && who.has(readWriteAll):
		return refusal(http.StatusNotFound, "ResourceNotFound", "The policy '%s' was not found.", lastKey(t))
	case p == nil || !d.mayManage(who, d.catalogOfPackage(p.pkg), roleCatalogOwner, rolePackageManager):
		return forbidden()
	}
	invalid := func(format string, args ...any) graphAnswer {
		return refusal(http.StatusBadRequest, "InvalidModel", format, args...)
	}
	for _, name := range []string{"displayName", "allowedTargetScope", "expiration", "requestorSettings", "requestApprovalSettings"} {
		if body[name] == nil {
			return invalid("The property %s is required.", name)
		}
	}
	if id, given := body["id"].(string); given && !strings.EqualFold(id, p.id) {
		return invalid("The id '%s' is not that of the policy.", id)
	}
	next := map[string]any{
		"description": "", "specificAllowedTargets": []any{}, "reviewSettings": nil, "automaticRequestSettings": nil, "notificationSettings": nil,
		"createdDateTime": p.body["createdDateTime"], "modifiedDateTime": stamp(time.Now()),
	}
	for name, v := range body {
		_, navigation, ok := d.schema.Property("accessPackageAssignmentPolicy", name)
		if ok && !navigation && !readOnly(name) {
			next[name] = v
		}
	}
	changed := &policy{id: p.id, pkg: p.pkg, body: next}
	// What a PUT does not hold is lost, the questions too (github.com/microsoftgraph/msgraph-sdk-powershell/issues/2425).
	questions, _ := body["questions"].([]any)
	for _, q := range questions {
		asked, _ := q.(map[string]any)["text"].(string)
		changed.questions = append(changed.questions, asked)
	}
	settings, _ := body["customExtensionStageSettings"].([]any)
	for _, s := range settings {
		if problem := d.addStage(changed, s.(map[string]any)); problem != "" {
			return invalid("%s", problem)
		}
	}
	p.body, p.stages, p.questions = changed.body, changed.stages, changed.questions
	return graphAnswer{status: http.StatusOK, body: d.project("accessPackageAssignmentPolicy", d.showPolicy(p), csdl.Query{})}
}

// addStage puts one of customExtensionStageSettings into a policy, or says what is wrong with it.
func (d *Directory) addStage(p *policy, s map[string]any) string {
	stage, _ := s["stage"].(string)
	reference, _ := s["customExtension"].(map[string]any)
	id, _ := reference["id"].(string)
	if bind, ok := s["customExtension@odata.bind"].(string); ok {
		_, id, _ = strings.Cut(bind, "customWorkflowExtensions/")
		id = strings.Trim(id, "()'")
	}
	if stage == "" || id == "" {
		return "A stage setting wants a stage and a customExtension with its id."
	}
	x := d.extension(id)
	if x == nil || !strings.EqualFold(x.catalog, d.catalogOfPackage(p.pkg)) {
		return fmt.Sprintf("The custom extension '%s' was not found in the catalog of the policy.", id)
	}
	wants := string(RequestKind)
	if expiring(stage) {
		wants = string(AssignmentKind)
	}
	scope, _ := p.body["allowedTargetScope"].(string)
	expiration, _ := p.body["expiration"].(map[string]any)
	switch {
	case slices.ContainsFunc(p.stages, func(other stageSetting) bool { return other.stage == stage }):
		return fmt.Sprintf("There is more than one setting for the stage '%s'.", stage)
	case x.body["@odata.type"] != wants:
		return fmt.Sprintf("The stage '%s' wants an extension of the type %s.", stage, wants)
	case reference["@odata.type"] != nil && "#"+strings.TrimPrefix(fmt.Sprint(reference["@odata.type"]), "#") != wants:
		return fmt.Sprintf("The type of the custom extension '%s' is not %v.", id, reference["@odata.type"])
	case expiring(stage) && (expiration["type"] == nil || expiration["type"] == "noExpiration" || expiration["type"] == "notSpecified"):
		return fmt.Sprintf("The stage '%s' wants a policy whose assignments expire.", stage)
	case !d.cfg.GuestGovernance && (scope == "allExternalUsers" || scope == "allConfiguredConnectedOrganizationUsers" || scope == "specificConnectedOrganizationUsers"):
		return "Custom extensions on a policy that is open to guests want the tenant linked to a subscription."
	}
	p.stages = append(p.stages, stageSetting{id: uuid.NewString(), stage: stage, extension: x.id})
	return ""
}
