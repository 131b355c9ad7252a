package doctor

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	azpolicy "github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/entra/graphapi"
)

// claims are what a token says of whom it is for. Nothing of it is verified: it is for somebody else to trust, and for us to look at what we got.
type claims struct {
	Audience string   `json:"aud"`
	Tenant   string   `json:"tid"`
	Object   string   `json:"oid"`
	App      string   `json:"appid"`
	Roles    []string `json:"roles"`
	Scopes   string   `json:"scp"` // of a person's token
}

// claimsOf reads a token without trusting it; false when it is none that can be read.
func claimsOf(token string) (c claims, ok bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return c, false
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(raw, &c) != nil {
		return c, false
	}
	return c, true
}

// has says whether the token has one of the permissions, as an application or for a person.
func (c claims) has(permissions ...string) bool {
	return slices.ContainsFunc(permissions, func(p string) bool {
		return slices.Contains(c.Roles, p) || slices.Contains(strings.Fields(c.Scopes), p)
	})
}

const graphApp = "00000003-0000-0000-c000-000000000000"

// principal is the object id of the app's identity; "" when it is not known.
func (x *examination) principal() string {
	if x.Principal != "" {
		return x.Principal
	}
	return x.me.Object
}

// identity gets a token for Graph, and looks whose it is.
func (x *examination) identity(ctx context.Context, r *report) {
	_, scope, err := graphapi.Service(x.GraphURL)
	if err != nil {
		r.skip("", "not checked, because settings are not right: GRAPH_URL")
		return
	}
	assign := "Give the app its identity, and name it: az functionapp identity assign -g <group> -n <app> --identities <resource id of the identity>; " + setSetting("AZURE_CLIENT_ID", "<its client id>")
	if !x.Managed {
		assign = "Sign in: az login --tenant " + x.tenantOr("<tenant id>") + "; or run this where the app runs, with its managed identity."
	}
	token, err := x.Credential.GetToken(ctx, azpolicy.TokenRequestOptions{Scopes: []string{scope}})
	if err != nil {
		who := "this machine"
		switch {
		case x.Managed && x.ClientID != "":
			who = "the managed identity with client id " + x.ClientID
		case x.Managed:
			who = "the system-assigned managed identity"
		}
		fault := graphapi.CredentialFault("get token", err, ctx.Err())
		r.fail("", assign, "%s gets no token for Graph: %s", who, fault.Detail)
		return
	}
	me, ok := claimsOf(token.Token)
	if !ok {
		r.warn("", assign, "there is a token for Graph, and it cannot be read: whose it is is not known")
		return
	}
	resource := strings.TrimSuffix(scope, "/.default")
	switch aud := strings.TrimSuffix(me.Audience, "/"); {
	case aud != resource && aud != graphApp:
		r.fail("", "Check GRAPH_URL and the identity endpoint.", "the token for Graph is for %s, not for %s", plain(aud), resource)
		return
	case x.TenantID != "" && !strings.EqualFold(me.Tenant, x.TenantID):
		r.fail("", setSetting("AZURE_TENANT_ID", guid(me.Tenant))+", or use an identity of that tenant", "the identity is one of tenant %s, and AZURE_TENANT_ID holds %s", guid(me.Tenant), x.TenantID)
		return
	case x.Managed && x.ClientID != "" && !strings.EqualFold(me.App, x.ClientID):
		r.fail("", setSetting("AZURE_CLIENT_ID", guid(me.App)), "the token is that of client id %s, and AZURE_CLIENT_ID holds %s", guid(me.App), x.ClientID)
		return
	}
	x.me = me
	switch {
	case x.Principal != "":
		r.ok("", "signed in to tenant %s, to look at the identity with object id %s", guid(me.Tenant), x.Principal)
	case !x.Managed:
		r.warn("", "Run it where the app runs; or name the app's identity: -principal <object id>, which az identity show -g <group> -n <identity> --query principalId -o tsv says.",
			"there is no managed identity here: what follows is seen as object id %s, not as the app", guid(me.Object))
	default:
		r.ok("", "managed identity with client id %s, object id %s, of tenant %s", guid(me.App), guid(me.Object), guid(me.Tenant))
	}
}

func (x *examination) tenantOr(other string) string {
	if x.TenantID != "" {
		return x.TenantID
	}
	return other
}

// guid shows what should be a GUID, if it is one.
func guid(text string) string {
	if id, ok := correlation.GUID(text); ok {
		return id
	}
	return "(no id)"
}

// plain shows the address of a resource, if it is no more than that.
func plain(text string) string {
	if host(text) != "" || guid(text) != "(no id)" {
		return text
	}
	return "something else"
}
