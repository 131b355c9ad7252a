package entra

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// managementResource is Azure Resource Manager: whom tokens for it are for, and the audience of the proof-of-possession tokens with which a relay is called.
const managementResource = "https://management.azure.com"

// A Workflow is how a relay is set up as an Azure resource. The zero value is set up right: enabled, without access signatures, and with a policy that lets
// entitlement management call, and nobody else.
type Workflow struct {
	Disabled   bool              // its state
	Signatures bool              // its trigger may be called with a shared access signature: nothing says that they are off
	NoPolicy   bool              // its trigger has no authorization policy
	PolicyType string            // of the policy; default AADPOP
	Claims     map[string]string // replace or, when "", remove single claims of the policy
}

// ResourceID returns the relay's id in Azure.
func (r *Relay) ResourceID() string {
	return "/subscriptions/" + r.Subscription + "/resourceGroups/" + r.ResourceGroup + "/providers/Microsoft.Logic/workflows/" + r.Name
}

// claims are those of the relay's policy.
func (d *Directory) claims(r *Relay) map[string]string {
	out := map[string]string{
		"iss": d.Issuer(1), "aud": managementResource, "appid": CallerID, "m": http.MethodPost, "u": strings.TrimPrefix(managementResource, "https://"),
		"p": r.ResourceID(),
	}
	maps.Copy(out, r.Workflow.Claims)
	maps.DeleteFunc(out, func(_, value string) bool { return value == "" })
	return out
}

// relayAnswer is what the relay's trigger answers to entitlement management: 202; 401 when its policy asks for another token, or there is none while
// access signatures are off. With what a disabled one answers is a guess.
func (d *Directory) relayAnswer(r *Relay) int {
	right := Relay{Subscription: r.Subscription, ResourceGroup: r.ResourceGroup, Name: r.Name}
	w := r.Workflow
	switch {
	case w.Disabled:
		return http.StatusNotFound
	case w.NoPolicy && !w.Signatures, !w.NoPolicy && (w.PolicyType != "" && w.PolicyType != "AADPOP" || !maps.Equal(d.claims(r), d.claims(&right))):
		return http.StatusUnauthorized
	}
	return http.StatusAccepted
}

// MakeReader gives somebody, by object id, the Azure role Reader on every relay.
func (d *Directory) MakeReader(object string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.readers = append(d.readers, object)
}

// managementRoutes serves what of Azure Resource Manager shows a relay: "Workflows - Get" of its REST API, version 2019-05-01.
func (d *Directory) managementRoutes(mux *http.ServeMux) {
	const path = "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Logic/workflows/{name}"
	mux.Handle("GET "+path, d.ManagementFaults.Middleware(d.counted("GET "+path, d.serveWorkflow)))
}

func managementError(w http.ResponseWriter, status int, code, format string, args ...any) {
	writeJSON(w, status, map[string]any{"error": map[string]any{"code": code, "message": fmt.Sprintf(format, args...)}})
}

func (d *Directory) serveWorkflow(w http.ResponseWriter, r *http.Request) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		w.Header().Set("WWW-Authenticate", `Bearer authorization_uri="`+d.BaseURL()+"/"+d.cfg.TenantID+`", error="invalid_token", error_description="The authentication failed because of missing 'Authorization' header."`)
		managementError(w, http.StatusUnauthorized, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
		return
	}
	claims, err := d.verify(token)
	if err != nil {
		managementError(w, http.StatusUnauthorized, "InvalidAuthenticationToken", "The access token is invalid.")
		return
	}
	aud, _ := claims["aud"].(string)
	if aud = strings.TrimSuffix(aud, "/"); aud != managementResource && aud != "https://management.core.windows.net" {
		managementError(w, http.StatusUnauthorized, "InvalidAuthenticationTokenAudience",
			"The access token has been obtained for wrong audience or resource '%s'. It should exactly match with one of the allowed audiences.", aud)
		return
	}
	switch v := r.URL.Query().Get("api-version"); v {
	case "2019-05-01":
	case "":
		managementError(w, http.StatusBadRequest, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required for all requests.")
		return
	default:
		managementError(w, http.StatusBadRequest, "InvalidResourceType", "The api-version '%s' is not supported.", v)
		return
	}
	object, _ := claims["oid"].(string)
	app, _ := claims["appid"].(string)
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.ContainsFunc(d.readers, func(reader string) bool { return strings.EqualFold(reader, object) }) {
		managementError(w, http.StatusForbidden, "AuthorizationFailed", "The client '%s' with object id '%s' does not have authorization to perform action "+
			"'Microsoft.Logic/workflows/read' over scope '%s' or the scope is invalid. If access was recently granted, please refresh your credentials.", app, object, r.URL.Path)
		return
	}
	relay := find(d.relays, func(relay *Relay) bool { return strings.EqualFold(relay.ResourceID(), r.URL.Path) })
	if relay == nil {
		managementError(w, http.StatusNotFound, "ResourceNotFound",
			"The Resource 'Microsoft.Logic/workflows/%s' under resource group '%s' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix",
			r.PathValue("name"), r.PathValue("group"))
		return
	}
	writeJSON(w, http.StatusOK, d.showWorkflow(relay))
}

func (d *Directory) showWorkflow(r *Relay) map[string]any {
	state := "Enabled"
	if r.Workflow.Disabled {
		state = "Disabled"
	}
	triggers := map[string]any{}
	if !r.Workflow.Signatures {
		triggers["sasAuthenticationPolicy"] = map[string]any{"state": "Disabled"}
	}
	if !r.Workflow.NoPolicy {
		claims := []any{}
		all := d.claims(r)
		for _, name := range slices.Sorted(maps.Keys(all)) {
			claims = append(claims, map[string]any{"name": name, "value": all[name]})
		}
		kind := r.Workflow.PolicyType
		if kind == "" {
			kind = "AADPOP"
		}
		triggers["openAuthenticationPolicies"] = map[string]any{"policies": map[string]any{
			"AzureADEntitlementManagementAuthPolicy": map[string]any{"type": kind, "claims": claims},
		}}
	}
	inputs := map[string]any{"method": "POST", "uri": r.URL, "body": "@triggerBody()"}
	if r.Identity != "" {
		inputs["authentication"] = map[string]any{"type": "ManagedServiceIdentity", "audience": r.Resource}
	}
	if r.FunctionKey != "" {
		inputs["headers"] = map[string]any{"x-functions-key": r.FunctionKey}
	}
	identity := map[string]any{"type": "None"}
	if i := find(d.identities, func(i *Identity) bool { return strings.EqualFold(i.ClientID, r.Identity) }); i != nil {
		identity = map[string]any{"type": "SystemAssigned", "principalId": i.ObjectID, "tenantId": d.cfg.TenantID}
		if i.UserAssigned {
			id := "/subscriptions/" + r.Subscription + "/resourceGroups/" + r.ResourceGroup + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/" + i.Name
			identity = map[string]any{"type": "UserAssigned", "userAssignedIdentities": map[string]any{id: map[string]any{"principalId": i.ObjectID, "clientId": i.ClientID}}}
		}
	}
	return map[string]any{
		"id": r.ResourceID(), "identity": identity, "name": r.Name, "type": "Microsoft.Logic/workflows", "location": "westeurope", "tags": map[string]any{},
		"properties": map[string]any{
			"provisioningState": "Succeeded", "state": state, "version": "08584000000000000000",
			"accessEndpoint": "https://prod-00.westeurope.logic.azure.com:443/workflows/0", "accessControl": map[string]any{"triggers": triggers},
			"definition": map[string]any{
				"$schema":        "https://schema.management.azure.com/providers/Microsoft.Logic/schemas/2016-06-01/workflowdefinition.json#",
				"contentVersion": "1.0.0.0", "parameters": map[string]any{}, "outputs": map[string]any{},
				"triggers": map[string]any{"manual": map[string]any{"type": "Request", "kind": "Http", "inputs": map[string]any{"schema": map[string]any{}}}},
				"actions":  map[string]any{"HTTP": map[string]any{"type": "Http", "inputs": inputs, "runAfter": map[string]any{}}},
			},
			"parameters": map[string]any{},
		},
	}
}
