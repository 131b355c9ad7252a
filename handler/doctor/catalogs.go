package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"

	"ticketbridge/handler/entra/graphapi"
	"ticketbridge/handler/fault"
)

const management = "/identityGovernance/entitlementManagement"

// The roles of a catalog with which a request may be resumed, as Microsoft documents them under "Delegation and roles in entitlement management"; the first
// is what is meant.
const (
	assignmentManager = "e2182095-804a-4656-ae11-64734e9b7ae5"
	catalogOwner      = "ae79f266-94d4-4dab-b730-feca7e132178"
)

// tenant is what was read of the tenant: the catalogs that matter, with their extensions and policies.
type tenant struct {
	catalogs []*catalog
	relays   map[string]*relay // by resource id in lower case
}

type catalog struct {
	ID   string `json:"id"`
	Name string `json:"displayName"`

	extensions []*extension
	policies   []policy
	unread     error // why the extensions or the policies are not known
	roleless   bool  // which is because the identity has no role there, as a line says
}

// extension is a customCalloutExtension of Graph, as far as it is looked at. Who made it is not.
type extension struct {
	Type     string `json:"@odata.type"`
	ID       string `json:"id"`
	Name     string `json:"displayName"`
	Endpoint struct {
		Type          string `json:"@odata.type"`
		URL           string `json:"targetUrl"` // may have a key in it
		Subscription  string `json:"subscriptionId"`
		ResourceGroup string `json:"resourceGroupName"`
		Workflow      string `json:"logicAppWorkflowName"`
	} `json:"endpointConfiguration"`
	Authentication struct {
		Type     string `json:"@odata.type"`
		Resource string `json:"resourceId"`
	} `json:"authenticationConfiguration"`
	Client struct {
		Timeout *int `json:"timeoutInMilliseconds"`
		Retries *int `json:"maximumRetries"`
	} `json:"clientConfiguration"`
	Callback *struct {
		Timeout  string `json:"timeoutDuration"`
		Duration string `json:"durationBeforeTimeout"`
	} `json:"callbackConfiguration"`
}

// relayed says whether it calls a Logic App.
func (e *extension) relayed() bool {
	return strings.TrimPrefix(e.Endpoint.Type, "#") == "microsoft.graph.logicAppTriggerEndpointConfiguration"
}

func (e *extension) workflowID() string {
	return "/subscriptions/" + e.Endpoint.Subscription + "/resourceGroups/" + e.Endpoint.ResourceGroup + "/providers/Microsoft.Logic/workflows/" + e.Endpoint.Workflow
}

type policy struct {
	ID     string `json:"id"`
	Name   string `json:"displayName"`
	Stages []struct {
		Stage     string `json:"stage"`
		Extension struct {
			ID string `json:"id"`
		} `json:"customExtension"`
	} `json:"customExtensionStageSettings"`

	packageID, packageName string
}

// catalogs looks whether the app's identity may resume the requests of each catalog, and reads what is set up there.
func (x *examination) catalogs(ctx context.Context, r *report) {
	x.found.relays = map[string]*relay{}
	ids := slices.Clone(x.CatalogIDs)
	if len(ids) == 0 {
		list, err := x.graph.List(ctx, "list catalogs", management+"/catalogs", url.Values{"$select": {"id,displayName"}})
		if err != nil {
			x.graphFault(r, "", err, "which catalogs there are cannot be seen", "Name them: "+setSetting("CATALOG_IDS", "<catalog id>,…")+"; and give the identity its role in each: "+x.giveCatalogRole("<catalog id>"))
			return
		}
		for _, raw := range list {
			var c catalog
			if json.Unmarshal(raw, &c) == nil {
				ids = append(ids, c.ID)
			}
		}
	}
	assigned, err := x.assignments(ctx)
	mayTell := err == nil
	if err != nil && !fault.Is(err, fault.Forbidden) {
		r.failErr("", err, "Try again; and look at what Graph says.")
		return
	}
	none := true
	for _, id := range ids {
		c := &catalog{ID: strings.ToLower(id)}
		err := x.graph.Get(ctx, "read catalog", management+graphapi.Path("catalogs", id), url.Values{"$select": {"id,displayName"}}, c)
		c.ID = strings.ToLower(id)
		of := c.ID
		if c.Name != "" {
			of = c.Name
		}
		if fault.Is(err, fault.NotFound) {
			r.fail(of, "Name the catalogs by their ids: "+setSetting("CATALOG_IDS", "<catalog id>,…"), "there is no such catalog")
			continue
		}
		if err != nil && !fault.Is(err, fault.Forbidden) {
			r.failErr(of, err, "Try again; and look at what Graph says.")
			return
		}
		if err == nil {
			x.read(ctx, c)
		} else {
			c.unread = err
		}
		if len(x.CatalogIDs) == 0 && !slices.ContainsFunc(c.extensions, func(e *extension) bool { return e.relayed() || calls(e.Endpoint.URL) }) {
			continue // none of ours
		}
		none = false
		x.found.catalogs = append(x.found.catalogs, c)
		c.roleless = !x.role(r, of, c, err != nil, mayTell, assigned)
	}
	if none && len(r.lines) == 0 {
		r.warn("", "Set one up: handler connect; or by hand in the Microsoft Entra admin center, under Identity Governance, Catalogs, Custom extensions.",
			"of %s that may be read none has an extension that could call the app", plural(len(ids), "catalog"))
	}
}

// read says whether the catalogs that matter are known, and some of them could be read; otherwise another line says why not.
func (t *tenant) read() bool {
	return slices.ContainsFunc(t.catalogs, func(c *catalog) bool { return c.unread == nil || !c.roleless })
}

// role reports what the identity may do in a catalog, and whether it may resume requests there, as far as that is seen. hidden says that the catalog cannot
// be read, mayTell that the assignments of roles can.
func (x *examination) role(r *report, of string, c *catalog, hidden, mayTell bool, assigned []assignment) bool {
	own := x.principal() == x.me.Object
	var roles []string
	for _, a := range assigned {
		if strings.EqualFold(a.Scope, "/AccessPackageCatalog/"+c.ID) || a.Scope == "/" {
			roles = append(roles, strings.ToLower(a.Role))
		}
	}
	switch {
	case own && x.me.has("EntitlementManagement.ReadWrite.All"):
		r.ok(of, "the identity may resume requests: it has the permission EntitlementManagement.ReadWrite.All, of every catalog")
	case slices.Contains(roles, assignmentManager):
		r.ok(of, "the identity may resume requests: it has the role Access package assignment manager")
	case slices.Contains(roles, catalogOwner):
		r.ok(of, "the identity may resume requests: it has the role Catalog owner, which is more than it needs")
	case mayTell && len(roles) > 0:
		r.fail(of, x.giveCatalogRole(c.ID), "the identity has another role there, and not Access package assignment manager, without which it may not resume requests")
		return false
	case mayTell, own && hidden:
		r.fail(of, x.giveCatalogRole(c.ID), "the identity has no role there: it may not resume requests (Access package assignment manager)")
		return false
	default:
		r.warn(of, fmt.Sprintf("Look, as somebody who may: az rest --url \"%s/roleManagement/entitlementManagement/roleAssignments?\\$filter=appScopeId eq '/AccessPackageCatalog/%s'\"; it should name %s with %s",
			x.GraphURL, c.ID, x.principal(), assignmentManager), "the catalog can be read, and not whether the identity has the role Access package assignment manager there")
	}
	return true
}

// giveCatalogRole is the command that gives the app's identity its role in a catalog.
func (x *examination) giveCatalogRole(catalogID string) string {
	who := x.principal()
	if who == "" {
		who = "<object id of the app's identity>"
	}
	return fmt.Sprintf(`az rest --method POST --url %s/roleManagement/entitlementManagement/roleAssignments --body '{"principalId":"%s","roleDefinitionId":"%s","appScopeId":"/AccessPackageCatalog/%s"}'`,
		x.GraphURL, who, assignmentManager, catalogID)
}

// graphFault reports an error of Graph: one that refuses us is mended by the remedy, another by its own advice.
func (x *examination) graphFault(r *report, of string, err error, what, remedy string) {
	saw, advice := describe(err)
	if fault.Is(err, fault.Forbidden) || advice == "" {
		advice = remedy
	}
	r.fail(of, advice, "%s: %s", what, saw)
}

type assignment struct {
	Role  string `json:"roleDefinitionId"`
	Scope string `json:"appScopeId"`
}

// assignments are the roles of the app's identity in entitlement management. Forbidden is no wonder: the identity needs no right to read them.
func (x *examination) assignments(ctx context.Context) ([]assignment, error) {
	list, err := x.graph.List(ctx, "list role assignments", "/roleManagement/entitlementManagement/roleAssignments", url.Values{
		"$filter": {"principalId eq " + graphapi.Quote(x.principal())}, "$select": {"roleDefinitionId,appScopeId"},
	})
	if err != nil {
		return nil, err
	}
	var out []assignment
	for _, raw := range list {
		var a assignment
		if json.Unmarshal(raw, &a) == nil {
			out = append(out, a)
		}
	}
	return out, nil
}

// read reads the extensions and the policies of a catalog. Microsoft documents policies for somebody with a role in a catalog by way of its access packages,
// and stage settings with a single policy.
func (x *examination) read(ctx context.Context, c *catalog) {
	list, err := x.graph.List(ctx, "list extensions", management+graphapi.Path("catalogs", c.ID, "customWorkflowExtensions"), nil)
	if err != nil {
		c.unread = err
		return
	}
	for _, raw := range list {
		e := &extension{}
		if json.Unmarshal(raw, e) == nil {
			c.extensions = append(c.extensions, e)
		}
	}
	if !slices.ContainsFunc(c.extensions, func(e *extension) bool { return e.relayed() || calls(e.Endpoint.URL) }) {
		return // whom the policies call is of no interest
	}
	packages, err := x.graph.List(ctx, "list access packages", management+"/accessPackages", url.Values{
		"$filter": {"catalog/id eq " + graphapi.Quote(c.ID)}, "$select": {"id,displayName"}, "$expand": {"assignmentPolicies($select=id)"},
	})
	if err != nil {
		c.unread = err
		return
	}
	var policies []policy
	for _, raw := range packages {
		var p struct {
			ID       string `json:"id"`
			Name     string `json:"displayName"`
			Policies []struct {
				ID string `json:"id"`
			} `json:"assignmentPolicies"`
		}
		if json.Unmarshal(raw, &p) != nil {
			continue
		}
		for _, one := range p.Policies {
			policies = append(policies, policy{ID: one.ID, packageID: p.ID, packageName: p.Name})
		}
	}
	// Some at a time: a catalog may have hundreds, and the check has seconds.
	var wait sync.WaitGroup
	slots, errs := make(chan struct{}, 6), make([]error, len(policies))
	for i := range policies {
		wait.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			p := &policies[i]
			errs[i] = x.graph.Get(ctx, "read policy", management+graphapi.Path("assignmentPolicies", p.ID), url.Values{
				"$expand": {"customExtensionStageSettings($expand=customExtension)"},
			}, p)
		})
	}
	wait.Wait()
	for i, p := range policies {
		if errs[i] != nil {
			c.unread = errs[i]
			return
		}
		c.policies = append(c.policies, p)
	}
}

// calloutPath is the route of our function.
const calloutPath = "/api/callout"

// calls says whether a URL is that of a callout function, ours or another app's.
func calls(text string) bool {
	u, err := url.Parse(text)
	return err == nil && strings.EqualFold(strings.TrimRight(u.Path, "/"), calloutPath)
}
