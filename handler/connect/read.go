package connect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/entra/graphapi"
	"ticketbridge/handler/fault"
)

// Named is a thing of the tenant.
type Named struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

func (n Named) String() string { return fmt.Sprintf("%q (%s)", n.Name, n.ID) }

// extension is a custom extension as Graph shows it, as far as connect looks at it.
type extension struct {
	ID          string          `json:"id"`
	Type        string          `json:"@odata.type"`
	DisplayName string          `json:"displayName"`
	Description string          `json:"description"`
	Endpoint    endpoint        `json:"endpointConfiguration"`
	Auth        authentication  `json:"authenticationConfiguration"`
	Client      *clientConfig   `json:"clientConfiguration"`
	Callback    *callbackConfig `json:"callbackConfiguration"`
	Wrapped     *extension      `json:"value"` // Microsoft's pages show answers wrapped; real ones are not
}

type endpoint struct {
	Type          string `json:"@odata.type"`
	Subscription  string `json:"subscriptionId,omitempty"`
	ResourceGroup string `json:"resourceGroupName,omitempty"`
	Workflow      string `json:"logicAppWorkflowName,omitempty"`
	URL           string `json:"url,omitempty"`
	Target        string `json:"targetUrl,omitempty"`
}

type authentication struct {
	Type     string `json:"@odata.type"`
	Resource string `json:"resourceId,omitempty"`
}

type clientConfig struct {
	Timeout int `json:"timeoutInMilliseconds"`
	Retries int `json:"maximumRetries"`
}

// callbackConfig is there when a request waits. Graph's schema and one of its pages disagree about the name.
type callbackConfig struct {
	Type     string `json:"@odata.type,omitempty"`
	Timeout  string `json:"timeoutDuration,omitempty"`
	Duration string `json:"durationBeforeTimeout,omitempty"`
}

func (c *callbackConfig) wait() string {
	switch {
	case c == nil:
		return ""
	case c.Timeout != "":
		return c.Timeout
	}
	return c.Duration
}

// application is an application registration.
type application struct {
	ID          string   `json:"id"`
	AppID       string   `json:"appId"`
	DisplayName string   `json:"displayName"`
	Notes       string   `json:"notes"`
	URIs        []string `json:"identifierUris"`
	API         struct {
		Version *int `json:"requestedAccessTokenVersion"`
	} `json:"api"`
	Roles []struct {
		ID    string `json:"id"`
		Value string `json:"value"`
	} `json:"appRoles"`
}

// principal is a service principal.
type principal struct {
	ID          string `json:"id"`
	AppID       string `json:"appId"`
	DisplayName string `json:"displayName"`
}

// accessPackage is an access package with its policies.
type accessPackage struct {
	Named
	Policies []Named
}

const opRead = "read the tenant"

// catalog finds a catalog by its id or its name.
func (c *Connector) catalog(ctx context.Context, wanted string) (Named, error) {
	if id, ok := correlation.GUID(wanted); ok {
		var got struct {
			ID          string `json:"id"`
			DisplayName string `json:"displayName"`
		}
		if err := c.Graph.Get(ctx, opRead, management+graphapi.Path("catalogs", id), url.Values{"$select": {"id,displayName"}}, &got); err != nil {
			return Named{}, advise(err, partCatalog)
		}
		return Named{got.ID, got.DisplayName}, nil
	}
	list, err := named(c.Graph.List(ctx, opRead, management+"/catalogs", url.Values{"$filter": {"displayName eq " + graphapi.Quote(wanted)}, "$select": {"id,displayName"}}))
	if err != nil {
		return Named{}, advise(err, partCatalog)
	}
	switch len(list) {
	case 0:
		return Named{}, &fault.Error{Op: opRead, Reason: fault.NotFound, Field: "-catalog", Detail: fmt.Sprintf("there is no catalog %q, or you may not see it", wanted)}
	case 1:
		return list[0], nil
	}
	return Named{}, &fault.Error{Op: opRead, Reason: fault.Invalid, Field: "-catalog", Detail: fmt.Sprintf("there are %d catalogs %q: %s; name one by its id", len(list), wanted, ids(list))}
}

// named reads ids and names from what a list answered.
func named(list []json.RawMessage, err error) ([]Named, error) {
	if err != nil {
		return nil, err
	}
	var out []Named
	for _, raw := range list {
		var n struct {
			ID          string `json:"id"`
			DisplayName string `json:"displayName"`
		}
		if err := json.Unmarshal(raw, &n); err != nil || n.ID == "" {
			return nil, unreadable("an entry of a list", err)
		}
		out = append(out, Named{n.ID, n.DisplayName})
	}
	return out, nil
}

func unreadable(what string, err error) error {
	return &fault.Error{Op: opRead, Reason: fault.Unreachable, Detail: "Graph's answer cannot be read: " + what, Err: err}
}

func ids(list []Named) string {
	var out []string
	for _, n := range list {
		out = append(out, n.ID)
	}
	return strings.Join(out, ", ")
}

// packages reads the access packages of a catalog with their policies. A catalog owner who has no directory role gets policies in this way only.
func (c *Connector) packages(ctx context.Context, catalog string) ([]accessPackage, error) {
	list, err := c.Graph.List(ctx, opRead, management+"/accessPackages", url.Values{
		"$filter": {"catalog/id eq " + graphapi.Quote(catalog)}, "$select": {"id,displayName"}, "$expand": {"assignmentPolicies($select=id,displayName)"},
	})
	if err != nil {
		return nil, advise(err, partCatalog)
	}
	var out []accessPackage
	for _, raw := range list {
		var p struct {
			ID          string            `json:"id"`
			DisplayName string            `json:"displayName"`
			Policies    []json.RawMessage `json:"assignmentPolicies"`
		}
		if err := json.Unmarshal(raw, &p); err != nil {
			return nil, unreadable("an access package", err)
		}
		policies, err := named(p.Policies, nil)
		if err != nil {
			return nil, err
		}
		out = append(out, accessPackage{Named{p.ID, p.DisplayName}, policies})
	}
	return out, nil
}

// extensions reads the custom extensions of a catalog.
func (c *Connector) extensions(ctx context.Context, catalog string) ([]extension, error) {
	list, err := c.Graph.List(ctx, opRead, management+graphapi.Path("catalogs", catalog, "customWorkflowExtensions"), nil)
	if err != nil {
		return nil, advise(err, partCatalog)
	}
	var out []extension
	for _, raw := range list {
		x, err := readExtension(raw)
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, nil
}

func readExtension(raw json.RawMessage) (extension, error) {
	var x extension
	if err := json.Unmarshal(raw, &x); err != nil {
		return x, unreadable("a custom extension", err)
	}
	if x.ID == "" && x.Wrapped != nil {
		x = *x.Wrapped
	}
	if x.ID == "" {
		return x, unreadable("a custom extension has no id", nil)
	}
	return x, nil
}

// applications finds application registrations by their name.
func (c *Connector) applications(ctx context.Context, name string) ([]application, error) {
	list, err := c.Graph.List(ctx, opRead, "/applications", url.Values{
		"$filter": {"displayName eq " + graphapi.Quote(name)}, "$select": {"id,appId,displayName,notes,identifierUris,api,appRoles"},
	})
	if err != nil {
		return nil, advise(err, partApp)
	}
	var out []application
	for _, raw := range list {
		var a application
		if err := json.Unmarshal(raw, &a); err != nil || a.ID == "" || a.AppID == "" {
			return nil, unreadable("an application", err)
		}
		out = append(out, a)
	}
	return out, nil
}

// principalOf finds the service principal of an application; nil when there is none.
func (c *Connector) principalOf(ctx context.Context, appID string) (*principal, error) {
	list, err := c.Graph.List(ctx, opRead, "/servicePrincipals", url.Values{"$filter": {"appId eq " + graphapi.Quote(appID)}, "$select": {"id,appId,displayName"}})
	if err != nil {
		return nil, advise(err, partApp)
	}
	if len(list) == 0 {
		return nil, nil
	}
	var p principal
	if err := json.Unmarshal(list[0], &p); err != nil || p.ID == "" {
		return nil, unreadable("a service principal", err)
	}
	return &p, nil
}

// principal reads a service principal, to call it by its name.
func (c *Connector) principal(ctx context.Context, flag, id string) (principal, error) {
	var p principal
	err := c.Graph.Get(ctx, opRead, graphapi.Path("servicePrincipals", id), url.Values{"$select": {"id,appId,displayName"}}, &p)
	if fault.Is(err, fault.NotFound) {
		return p, &fault.Error{
			Op: opRead, Reason: fault.NotFound, Field: "-" + flag, Err: err,
			Detail: fmt.Sprintf("there is no service principal %s in the tenant; give the object id of the managed identity (its principal id), not its client id", id),
		}
	}
	return p, advise(err, partApp)
}

// assigned reads who has app roles of a service principal, as pairs of principal and role.
func (c *Connector) assigned(ctx context.Context, resource string) (map[[2]string]bool, error) {
	list, err := c.Graph.List(ctx, opRead, graphapi.Path("servicePrincipals", resource, "appRoleAssignedTo"), nil)
	if err != nil {
		return nil, advise(err, partApp)
	}
	out := map[[2]string]bool{}
	for _, raw := range list {
		var a struct {
			Principal string `json:"principalId"`
			Role      string `json:"appRoleId"`
		}
		if err := json.Unmarshal(raw, &a); err != nil {
			return nil, unreadable("an app role assignment", err)
		}
		out[[2]string{strings.ToLower(a.Principal), strings.ToLower(a.Role)}] = true
	}
	return out, nil
}

// managers finds the assignments of the role "Access package assignment manager" that a principal has on a catalog.
func (c *Connector) managers(ctx context.Context, catalog, principal string) ([]string, error) {
	list, err := c.Graph.List(ctx, opRead, "/roleManagement/entitlementManagement/roleAssignments", url.Values{"$filter": {fmt.Sprintf(
		"principalId eq %s and roleDefinitionId eq %s and appScopeId eq %s", graphapi.Quote(principal), graphapi.Quote(roleManager), graphapi.Quote(scopeOf(catalog)))}})
	if err != nil {
		return nil, advise(err, partRole)
	}
	var out []string
	for _, raw := range list {
		var a struct {
			ID string `json:"id"`
		}
		if err := json.Unmarshal(raw, &a); err != nil || a.ID == "" {
			return nil, unreadable("a role assignment", err)
		}
		out = append(out, a.ID)
	}
	return out, nil
}

func scopeOf(catalog string) string { return "/AccessPackageCatalog/" + catalog }

// choose picks the policies that a wish names, each once, in the order of the tenant.
func (w Wish) choose(all []accessPackage) ([]chosen, error) {
	wanted := map[string]bool{} // by policy id
	var errs []error
	missing := func(flag, name string) {
		errs = append(errs, &fault.Error{
			Op: opRead, Reason: fault.NotFound, Field: "-" + flag,
			Detail: fmt.Sprintf("the catalog has no %s %q, or you may not see it", map[string]string{"policy": "policy", "package": "access package with that id or name:"}[flag], name),
		})
	}
	several := func(flag, name string, found []Named) {
		errs = append(errs, &fault.Error{
			Op: opRead, Reason: fault.Invalid, Field: "-" + flag,
			Detail: fmt.Sprintf("%q is the name of %d: %s; name one by its id", name, len(found), ids(found)),
		})
	}
	for _, name := range w.Packages {
		var found []accessPackage
		for _, p := range all {
			if is(p.Named, name) {
				found = append(found, p)
			}
		}
		switch len(found) {
		case 0:
			missing("package", name)
		case 1:
			for _, p := range found[0].Policies {
				wanted[p.ID] = true
			}
			if len(found[0].Policies) == 0 {
				errs = append(errs, &fault.Error{Op: opRead, Reason: fault.Invalid, Field: "-package", Detail: fmt.Sprintf("the access package %s has no policy; make one first", found[0])})
			}
		default:
			var list []Named
			for _, p := range found {
				list = append(list, p.Named)
			}
			several("package", name, list)
		}
	}
	for _, name := range w.Policies {
		var found []Named
		for _, p := range all {
			for _, policy := range p.Policies {
				if is(policy, name) {
					found = append(found, policy)
				}
			}
		}
		switch len(found) {
		case 0:
			missing("policy", name)
		case 1:
			wanted[found[0].ID] = true
		default:
			several("policy", name, found)
		}
	}
	var out []chosen
	for _, p := range all {
		for _, policy := range p.Policies {
			if wanted[policy.ID] {
				out = append(out, chosen{policy, p.Named})
			}
		}
	}
	return out, errors.Join(errs...)
}

// chosen is a policy with its access package.
type chosen struct {
	Named
	pkg Named
}

func is(n Named, wanted string) bool {
	return strings.EqualFold(n.ID, wanted) || n.Name == wanted
}
