package entra

import (
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"

	"ticketbridge/handler/simulator/entra/csdl"
)

// Application permissions of Graph.
const (
	readWriteAll = "EntitlementManagement.ReadWrite.All"
	readAll      = "EntitlementManagement.Read.All"
)

// Role definitions of entitlement management that can be given for one catalog.
const (
	roleCatalogOwner      = "ae79f266-94d4-4dab-b730-feca7e132178"
	roleCatalogReader     = "44272f93-9762-48e8-af59-1b5351b1d6b3"
	rolePackageManager    = "7f480852-ebdc-47d4-87de-0d8498384a83"
	roleAssignmentManager = "e2182095-804a-4656-ae11-64734e9b7ae5" // "Access package assignment manager"
)

var catalogRoles = []string{roleCatalogOwner, roleCatalogReader, rolePackageManager, roleAssignmentManager}

const catalogScope = "/AccessPackageCatalog/"

type roleAssignment struct{ id, principal, definition, scope string }

// AssignManager gives somebody, by object id, the role "Access package assignment manager" of a catalog.
func (d *Directory) AssignManager(object, catalog string) {
	d.assign(object, roleAssignmentManager, catalog)
}

// AssignOwner gives somebody, by object id, the role "Catalog owner" of a catalog.
func (d *Directory) AssignOwner(object, catalog string) { d.assign(object, roleCatalogOwner, catalog) }

func (d *Directory) assign(object, definition, catalog string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.roles = append(d.roles, &roleAssignment{uuid.NewString(), object, definition, catalogScope + catalog})
}

// hasCatalogRole says whether somebody has one of the roles for a catalog; the caller holds d.mu.
func (d *Directory) hasCatalogRole(object, catalog string, roles ...string) bool {
	return object != "" && slices.ContainsFunc(d.roles, func(a *roleAssignment) bool {
		return strings.EqualFold(a.principal, object) && strings.EqualFold(a.scope, catalogScope+catalog) && slices.Contains(roles, a.definition)
	})
}

func (d *Directory) mayManage(who caller, catalog string, roles ...string) bool {
	return who.has(readWriteAll) || who.entitlements && d.hasCatalogRole(who.object, catalog, roles...)
}

func (d *Directory) showRoleAssignment(a *roleAssignment) entity {
	catalog, _ := strings.CutPrefix(a.scope, catalogScope)
	return entity{
		"": catalog, "id": a.id, "principalId": a.principal, "roleDefinitionId": a.definition, "appScopeId": a.scope,
		"roleDefinition": func() any {
			for _, e := range showRoleDefinitions() {
				if e["id"] == a.definition {
					return e
				}
			}
			return nil
		},
	}
}

func showRoleDefinitions() []entity {
	var out []entity
	for _, r := range []struct{ id, name string }{
		{roleCatalogOwner, "Catalog owner"},
		{roleCatalogReader, "Catalog reader"},
		{rolePackageManager, "Access package manager"},
		{roleAssignmentManager, "Access package assignment manager"},
	} {
		out = append(out, entity{
			"id": r.id, "templateId": r.id, "displayName": r.name, "description": r.name, "isBuiltIn": true, "isEnabled": true,
			"version": "1.0", "resourceScopes": []any{"/"}, "rolePermissions": []any{},
		})
	}
	return out
}

// createRoleAssignment answers 201, or 400 with a text that says "already exist".
func (d *Directory) createRoleAssignment(_ *csdl.Target, body map[string]any, who caller) graphAnswer {
	text := func(name string) string { s, _ := body[name].(string); return s }
	a := &roleAssignment{uuid.NewString(), text("principalId"), strings.ToLower(text("roleDefinitionId")), text("appScopeId")}
	catalog, scoped := strings.CutPrefix(a.scope, catalogScope)
	if !who.has("RoleManagement.ReadWrite.Directory") && !d.mayManage(who, catalog, roleCatalogOwner) {
		return forbidden()
	}
	switch {
	case a.principal == "" || a.definition == "" || a.scope == "":
		return refusal(http.StatusBadRequest, "BadRequest", "principalId, roleDefinitionId and appScopeId are required.")
	case !slices.Contains(catalogRoles, a.definition):
		return refusal(http.StatusBadRequest, "BadRequest", "The role definition '%s' was not found.", a.definition)
	case !scoped || d.catalog(catalog) == nil:
		return refusal(http.StatusBadRequest, "BadRequest", "The scope '%s' is not a catalog.", a.scope)
	case !d.principal(a.principal):
		return refusal(http.StatusBadRequest, "BadRequest", "The principal '%s' was not found in the directory.", a.principal)
	case d.hasCatalogRole(a.principal, catalog, a.definition):
		return refusal(http.StatusBadRequest, "BadRequest", "The role assignment already exists.")
	}
	d.roles = append(d.roles, a)
	shown := d.project("unifiedRoleAssignment", d.showRoleAssignment(a), csdl.Query{})
	shown["@odata.context"] = d.base + graphPath + "/$metadata#roleManagement/entitlementManagement/roleAssignments/$entity"
	return graphAnswer{status: http.StatusCreated, body: shown}
}

func (d *Directory) deleteRoleAssignment(t *csdl.Target, _ map[string]any, who caller) graphAnswer {
	i := slices.IndexFunc(d.roles, func(a *roleAssignment) bool { return strings.EqualFold(a.id, lastKey(t)) })
	switch {
	case i >= 0 && d.mayManage(who, strings.TrimPrefix(d.roles[i].scope, catalogScope), roleCatalogOwner): // the catalog is his own
	case !who.has(readWriteAll, "RoleManagement.ReadWrite.Directory"):
		return forbidden()
	case i < 0:
		return refusal(http.StatusNotFound, "ResourceNotFound", "The role assignment '%s' was not found.", lastKey(t))
	}
	d.roles = slices.Delete(d.roles, i, i+1)
	return graphAnswer{status: http.StatusNoContent}
}

// principal says whether an object id is anybody's.
func (d *Directory) principal(object string) bool {
	return d.user(object) != nil ||
		slices.ContainsFunc(d.apps, func(a *App) bool { return strings.EqualFold(a.ObjectID, object) }) ||
		slices.ContainsFunc(d.identities, func(i *Identity) bool { return strings.EqualFold(i.ObjectID, object) })
}
