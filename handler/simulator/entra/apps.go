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

// What Graph does when application registrations are set up, by Microsoft's public documentation of application, servicePrincipal and
// appRoleAssignment. What it does not say, and is reported, is the Config's: how long a new application takes to be known everywhere.

// Permissions for applications.
const (
	applicationsWrite = "Application.ReadWrite.All"
	appRolesWrite     = "AppRoleAssignment.ReadWrite.All"
)

// grant is an app role that somebody has on an application's service principal.
type grant struct {
	id, principal, resource, role string
	created                       time.Time
}

// ownProperties are what an App keeps in fields of its own.
var ownProperties = []string{"displayName", "identifierUris", "appId"}

func (d *Directory) createApplication(_ *csdl.Target, body map[string]any, who caller) graphAnswer {
	if !who.has(applicationsWrite) {
		return directoryForbidden()
	}
	a := &App{ClientID: uuid.NewString(), registration: uuid.NewString(), body: map[string]any{
		"description": nil, "notes": nil, "tags": []any{}, "appRoles": []any{}, "requiredResourceAccess": []any{}, "signInAudience": "AzureADMyOrg",
		"api": map[string]any{"requestedAccessTokenVersion": nil, "oauth2PermissionScopes": []any{}, "preAuthorizedApplications": []any{}, "knownClientApplications": []any{}},
	}}
	if refused := d.changeApplication(a, body); refused != nil {
		return *refused
	}
	a.unknownTo = d.cfg.Replication
	d.apps = append(d.apps, a)
	shown := d.project("application", showApplication(a), csdl.Query{})
	shown["@odata.context"] = d.base + graphPath + "/$metadata#applications/$entity"
	return graphAnswer{status: http.StatusCreated, body: shown}
}

func (d *Directory) patchApplication(t *csdl.Target, body map[string]any, who caller) graphAnswer {
	a := find(d.apps, func(a *App) bool { return strings.EqualFold(a.registration, lastKey(t)) })
	switch {
	case !who.has(applicationsWrite):
		return directoryForbidden()
	case a == nil || a.replicating():
		return directoryNotFound(lastKey(t))
	}
	if refused := d.changeApplication(a, body); refused != nil {
		return *refused
	}
	return graphAnswer{status: http.StatusNoContent}
}

// changeApplication puts a body's properties into an application, or says why not and changes nothing.
func (d *Directory) changeApplication(a *App, body map[string]any) *graphAnswer {
	refuse := func(format string, args ...any) *graphAnswer {
		r := refusal(http.StatusBadRequest, "Request_BadRequest", format, args...)
		return &r
	}
	name := a.Name
	if v, given := body["displayName"]; given {
		name, _ = v.(string)
	}
	if strings.TrimSpace(name) == "" {
		return refuse("A value is required for property 'displayName' of resource 'Application'.")
	}
	for _, limited := range []string{"description", "notes"} {
		if s, _ := body[limited].(string); len(s) > 1024 {
			return refuse("Invalid value specified for property '%s' of resource 'Application'.", limited)
		}
	}
	uris := a.URIs
	if list, given := body["identifierUris"].([]any); given {
		uris = nil
		for _, v := range list {
			uri, _ := v.(string)
			if taken := find(d.apps, func(other *App) bool { return other != a && slices.Contains(other.URIs, uri) }); taken != nil {
				return refuse("Another object with the same value for property identifierUris already exists.")
			}
			// Of an application of this tenant only: its own id, or a verified domain.
			if uri != "api://"+a.ClientID && !strings.HasPrefix(uri, "api://"+a.ClientID+"/") && !strings.Contains(uri, "example.com") {
				return refuse("Values of identifierUris property must use a verified domain of the organization or its subdomain: '%s'.", uri)
			}
			uris = append(uris, uri)
		}
	}
	seen := map[any]bool{}
	roles, _ := body["appRoles"].([]any)
	for _, v := range roles {
		role, _ := v.(map[string]any)
		if seen[role["value"]] || seen[role["id"]] || role["id"] == nil || role["value"] == nil {
			return refuse("Property appRoles has duplicate or missing ids or values.")
		}
		seen[role["value"]], seen[role["id"]] = true, true
	}
	next := maps.Clone(a.body)
	if next == nil {
		next = map[string]any{}
	}
	for property, v := range body {
		if !readOnly(property) && !slices.Contains(ownProperties, property) && property != "@odata.type" {
			next[property] = v
		}
	}
	a.Name, a.URIs, a.body = name, uris, next
	a.TokenVersion = 1
	if api, _ := next["api"].(map[string]any); fmt.Sprint(api["requestedAccessTokenVersion"]) == "2" {
		a.TokenVersion = 2
	}
	return nil
}

// deleteApplication takes the service principal and its app roles along, as Entra does within a tenant. What was deleted can be restored for 30
// days there; it is gone here.
func (d *Directory) deleteApplication(t *csdl.Target, _ map[string]any, who caller) graphAnswer {
	a := find(d.apps, func(a *App) bool { return strings.EqualFold(a.registration, lastKey(t)) })
	switch {
	case !who.has(applicationsWrite):
		return directoryForbidden()
	case a == nil:
		return directoryNotFound(lastKey(t))
	}
	d.apps = slices.DeleteFunc(d.apps, func(other *App) bool { return other == a })
	d.forget(a.ObjectID)
	return graphAnswer{status: http.StatusNoContent}
}

// forget removes the app roles on a service principal, and those that it has.
func (d *Directory) forget(principal string) {
	d.grants = slices.DeleteFunc(d.grants, func(g *grant) bool {
		return principal != "" && (strings.EqualFold(g.resource, principal) || strings.EqualFold(g.principal, principal))
	})
}

func (d *Directory) createServicePrincipal(_ *csdl.Target, body map[string]any, who caller) graphAnswer {
	id, _ := body["appId"].(string)
	a := find(d.apps, func(a *App) bool { return strings.EqualFold(a.ClientID, id) })
	switch {
	case !who.has(applicationsWrite):
		return directoryForbidden()
	case a == nil || a.replicating():
		return refusal(http.StatusBadRequest, "Request_BadRequest", "The appId '%s' of the service principal does not reference a valid application object.", id)
	case a.ObjectID != "":
		return refusal(http.StatusConflict, "Request_MultipleObjectsWithSameKeyValue",
			"The service principal cannot be created, updated, or restored because the service principal name %s is already in use.", id)
	}
	a.ObjectID = uuid.NewString()
	shown := d.project("servicePrincipal", d.showAppPrincipal(a), csdl.Query{})
	shown["@odata.context"] = d.base + graphPath + "/$metadata#servicePrincipals/$entity"
	return graphAnswer{status: http.StatusCreated, body: shown}
}

func (d *Directory) deleteServicePrincipal(t *csdl.Target, _ map[string]any, who caller) graphAnswer {
	a := find(d.apps, func(a *App) bool { return strings.EqualFold(a.ObjectID, lastKey(t)) })
	switch {
	case !who.has(applicationsWrite):
		return directoryForbidden()
	case a == nil:
		return directoryNotFound(lastKey(t))
	}
	d.forget(a.ObjectID)
	a.ObjectID = ""
	return graphAnswer{status: http.StatusNoContent}
}

func (d *Directory) createAppRoleAssignment(t *csdl.Target, body map[string]any, who caller) graphAnswer {
	text := func(name string) string { s, _ := body[name].(string); return strings.ToLower(s) }
	g := &grant{uuid.NewString(), text("principalId"), text("resourceId"), text("appRoleId"), time.Now()}
	a := find(d.apps, func(a *App) bool { return a.ObjectID != "" && strings.EqualFold(a.ObjectID, g.resource) })
	switch {
	case !who.has(appRolesWrite):
		return directoryForbidden()
	case a == nil || a.replicating() || !strings.EqualFold(g.resource, lastKey(t)):
		return directoryNotFound(lastKey(t))
	case !d.principal(g.principal):
		return refusal(http.StatusNotFound, "Request_ResourceNotFound", "Resource '%s' does not exist or one of its queried reference-property objects are not present.", g.principal)
	case a.roleValue(g.role) == "":
		return refusal(http.StatusBadRequest, "Request_BadRequest", "Permission being assigned was not found on application '%s'.", a.ClientID)
	case slices.ContainsFunc(d.grants, func(o *grant) bool { return o.principal == g.principal && o.resource == g.resource && o.role == g.role }):
		return refusal(http.StatusBadRequest, "Request_BadRequest", "Permission being assigned already exists on the object")
	}
	d.grants = append(d.grants, g)
	shown := d.project("appRoleAssignment", d.showGrant(g), csdl.Query{})
	shown["@odata.context"] = d.base + graphPath + "/$metadata#appRoleAssignments/$entity"
	return graphAnswer{status: http.StatusCreated, body: shown}
}

func (d *Directory) deleteAppRoleAssignment(t *csdl.Target, _ map[string]any, who caller) graphAnswer {
	i := slices.IndexFunc(d.grants, func(g *grant) bool { return strings.EqualFold(g.id, lastKey(t)) })
	switch {
	case !who.has(appRolesWrite):
		return directoryForbidden()
	case i < 0:
		return directoryNotFound(lastKey(t))
	}
	d.grants = slices.Delete(d.grants, i, i+1)
	return graphAnswer{status: http.StatusNoContent}
}

func directoryForbidden() graphAnswer {
	return refusal(http.StatusForbidden, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.")
}

func directoryNotFound(id string) graphAnswer {
	return refusal(http.StatusNotFound, "Request_ResourceNotFound", "Resource '%s' does not exist or one of its queried reference-property objects are not present.", id)
}

// replicating says whether the application is too new to be known to whoever was asked, and comes closer to being known.
func (a *App) replicating() bool {
	a.unknownTo--
	return a.unknownTo >= 0
}

// roleValue is the value of one of the application's roles, by its id.
func (a *App) roleValue(id string) string {
	roles, _ := a.body["appRoles"].([]any)
	for _, v := range roles {
		if role, _ := v.(map[string]any); strings.EqualFold(fmt.Sprint(role["id"]), id) {
			value, _ := role["value"].(string)
			return value
		}
	}
	return ""
}

// appRoles are the app roles that a client has on an application, as its tokens name them. The caller holds d.mu.
func (d *Directory) appRoles(client string, a App) []string {
	var out []string
	for _, g := range d.grants {
		if client != "" && strings.EqualFold(g.principal, client) && strings.EqualFold(g.resource, a.ObjectID) {
			out = append(out, a.roleValue(g.role))
		}
	}
	return out
}

func showApplication(a *App) entity {
	e := entity{"id": a.registration, "appId": a.ClientID, "displayName": a.Name, "identifierUris": strings2any(a.URIs), "signInAudience": "AzureADMyOrg"}
	maps.Copy(e, a.body)
	return e
}

func (d *Directory) showAppPrincipal(a *App) entity {
	e := showPrincipal(a.ObjectID, a.ClientID, a.Name, "Application", a.URIs)
	if roles, ok := a.body["appRoles"]; ok {
		e["appRoles"] = roles
	}
	e["appRoleAssignedTo"] = func() any {
		out := []entity{}
		for _, g := range d.grants {
			if strings.EqualFold(g.resource, a.ObjectID) {
				out = append(out, d.showGrant(g))
			}
		}
		return out
	}
	return e
}

func showPrincipal(object, app, name, kind string, uris []string) entity {
	return entity{
		"id": object, "appId": app, "displayName": name, "servicePrincipalType": kind, "accountEnabled": true,
		"servicePrincipalNames": append([]any{app}, strings2any(uris)...), "alternativeNames": []any{}, "appRoles": []any{}, "tags": []any{},
		"appRoleAssignmentRequired": false, "appRoleAssignedTo": func() any { return []entity{} },
	}
}

func (d *Directory) showGrant(g *grant) entity {
	return entity{
		"id": g.id, "principalId": g.principal, "resourceId": g.resource, "appRoleId": g.role, "principalType": "ServicePrincipal",
		"createdDateTime": stamp(g.created),
	}
}
