package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	azpolicy "github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"ticketbridge/handler/callers"
	"ticketbridge/handler/entra/graphapi"
)

// maxResourceID is the longest resource id of a Logic App that the portal takes for a custom extension.
const maxResourceID = 150

// A relay is a Logic App that an extension calls.
type relay struct {
	id       string
	workflow *logicApp // nil when it could not be read
}

// forwards returns the HTTP actions that send to a callout function.
func (v *relay) forwards() []action {
	if v.workflow == nil {
		return nil
	}
	var out []action
	for _, name := range slices.Sorted(maps.Keys(v.workflow.Properties.Definition.Actions)) {
		if a := v.workflow.Properties.Definition.Actions[name]; strings.EqualFold(a.Type, "Http") && calls(a.Inputs.URI) {
			out = append(out, a)
		}
	}
	return out
}

// logicApp is a Logic App as "Workflows - Get" of Azure Resource Manager has it, as far as it is looked at.
type logicApp struct {
	Identity struct {
		Principal string `json:"principalId"`
		Assigned  map[string]struct {
			Principal string `json:"principalId"`
		} `json:"userAssignedIdentities"`
	} `json:"identity"`
	Properties struct {
		State  string `json:"state"`
		Access struct {
			Triggers struct {
				Signatures struct {
					State string `json:"state"`
				} `json:"sasAuthenticationPolicy"`
				Open struct {
					Policies map[string]struct {
						Type   string                         `json:"type"`
						Claims []struct{ Name, Value string } `json:"claims"`
					} `json:"policies"`
				} `json:"openAuthenticationPolicies"`
			} `json:"triggers"`
		} `json:"accessControl"`
		Definition struct {
			Actions map[string]action `json:"actions"`
		} `json:"definition"`
	} `json:"properties"`
}

type action struct {
	Type   string `json:"type"`
	Inputs struct {
		URI            string         `json:"uri"` // may have a key in it
		Headers        map[string]any `json:"headers"`
		Authentication struct {
			Type     string `json:"type"`
			Audience string `json:"audience"`
		} `json:"authentication"`
	} `json:"inputs"`
}

// clouds are where Azure Resource Manager is, by the host of the authority.
var clouds = map[string]string{
	"login.microsoftonline.us":         "https://management.usgovcloudapi.net",
	"login.partner.microsoftonline.cn": "https://management.chinacloudapi.cn",
	"login.chinacloudapi.cn":           "https://management.chinacloudapi.cn",
}

// issuer is who issues tokens of version 1, which those with proof of possession are, up to the tenant's id.
func issuer(authority string) string {
	if strings.HasSuffix(host(authority), ".cn") {
		return "https://sts.chinacloudapi.cn/"
	}
	return "https://sts.windows.net/"
}

const publicManagement = "https://management.azure.com"

// manager returns where Azure Resource Manager is, and the resource that tokens for it, and those with which a relay is called, are for. One on
// this machine is a stand-in for the public cloud's.
func (x *examination) manager() (address, resource string) {
	address = strings.TrimRight(x.ManagementURL, "/")
	if address == "" {
		if address = clouds[host(x.AuthorityHost)]; address == "" {
			address = publicManagement
		}
	}
	if u, err := url.Parse(address); err == nil && slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, u.Hostname()) {
		return address, publicManagement
	}
	return address, address
}

// relays reads each Logic App that an extension calls, and looks whether entitlement management may call it, and nobody else.
func (x *examination) relays(ctx context.Context, r *report) {
	if !x.found.read() {
		r.skip("", "not checked, because catalog is not right")
		return
	}
	for _, c := range x.found.catalogs {
		for _, e := range c.extensions {
			key := strings.ToLower(e.workflowID())
			if e.relayed() && x.found.relays[key] == nil {
				x.found.relays[key] = &relay{id: e.workflowID()}
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(x.found.relays)) {
		v := x.found.relays[key]
		if !x.readRelay(ctx, r, v) || len(v.forwards()) == 0 {
			continue
		}
		before := len(r.lines)
		x.access(r, v)
		x.action(r, v)
		if len(r.lines) == before {
			r.ok(nameOf(v.id), "it is enabled, takes calls of entitlement management only, and forwards them to %s", host(v.forwards()[0].Inputs.URI))
		}
	}
	if len(r.lines) == 0 {
		r.ok("", "not needed: no extension calls a Logic App that calls a function of ours")
	}
}

func nameOf(id string) string { return id[strings.LastIndexByte(id, '/')+1:] }

// readRelay reads a Logic App; false when it could not be read, which it reports.
func (x *examination) readRelay(ctx context.Context, r *report, v *relay) bool {
	of := nameOf(v.id)
	byHand := fmt.Sprintf(`Look, as somebody who may: az resource show --ids %s --api-version 2019-05-01 --query "{state:properties.state,triggers:properties.accessControl.triggers}"; it should be Enabled, with `+
		`sasAuthenticationPolicy Disabled and one policy AADPOP. Or let the identity look: az role assignment create --role Reader --assignee %s --scope %s`, v.id, x.principal(), v.id)
	address, resource := x.manager()
	token, err := x.Credential.GetToken(ctx, azpolicy.TokenRequestOptions{Scopes: []string{resource + "/.default"}})
	if err != nil {
		r.warn(of, byHand, "it cannot be looked at: %s", strings.ReplaceAll(graphapi.CredentialFault("get token", err, ctx.Err()).Detail, "for Graph", "for Azure Resource Manager"))
		return false
	}
	status, body, err := x.get(ctx, address+v.id+"?api-version=2019-05-01", token.Token)
	var w logicApp
	switch {
	case err != nil:
		r.warn(of, byHand, "it cannot be looked at: %s", err)
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		r.warn(of, byHand, "it cannot be looked at: the identity may not read it in Azure (status %d)", status)
	case status == http.StatusNotFound:
		r.fail(of, "Make it, or let the extension call the function directly: handler connect", "there is no such Logic App in resource group %s", groupOf(v.id))
	case status != http.StatusOK || json.Unmarshal(body, &w) != nil:
		r.warn(of, byHand, "it cannot be looked at: Azure Resource Manager answers with status %d", status)
	default:
		v.workflow = &w
		return true
	}
	return false
}

func groupOf(id string) string {
	_, rest, _ := strings.Cut(id, "/resourceGroups/")
	group, _, _ := strings.Cut(rest, "/")
	return group
}

// access looks at who may call the Logic App.
func (x *examination) access(r *report, v *relay) {
	of, w := nameOf(v.id), v.workflow.Properties
	portal := "In the Azure portal: Logic app " + of + ", Settings, Authorization: "
	if len(v.id) > maxResourceID {
		r.warn(of, "Make one with a shorter name, or in a resource group with a shorter one.", "its resource id has %d characters; the portal takes at most %d for a custom extension", len(v.id), maxResourceID)
	}
	if !strings.EqualFold(w.State, "Enabled") {
		r.fail(of, fmt.Sprintf("az logic workflow update -g %s -n %s --state Enabled", groupOf(v.id), of), "its state is %s: it takes no calls", w.State)
	}
	if !strings.EqualFold(w.Access.Triggers.Signatures.State, "Disabled") {
		r.fail(of, "az resource update --ids "+v.id+" --api-version 2019-05-01 --set properties.accessControl.triggers.sasAuthenticationPolicy.state=Disabled",
			"its trigger may be called with a shared access signature, and so its policy is not enforced")
	}
	_, resource := x.manager()
	want := map[string]string{
		"iss": issuer(x.AuthorityHost) + x.me.Tenant + "/", "aud": resource, "appid": callers.EntitlementManagement, "m": http.MethodPost,
		"u": host(resource), "p": v.id,
	}
	found := false
	for _, name := range slices.Sorted(maps.Keys(w.Access.Triggers.Open.Policies)) {
		p := w.Access.Triggers.Open.Policies[name]
		if !strings.EqualFold(p.Type, "AADPOP") {
			r.fail(of, portal+"delete the policy "+name+".", "its policy %s of type %s lets others call, without proof of possession", name, p.Type)
			continue
		}
		found = true
		held := map[string]string{}
		for _, c := range p.Claims {
			held[c.Name] = c.Value
		}
		for _, claim := range slices.Sorted(maps.Keys(want)) {
			value, ok := held[claim]
			switch same := value == want[claim] || claim == "p" && strings.EqualFold(value, want[claim]); {
			case !ok:
				r.fail(of, portal+"add to the policy "+name+" the claim "+claim+" with "+want[claim], "its policy %s does not ask for the claim %s", name, claim)
			case !same:
				r.fail(of, portal+"in the policy "+name+" set the claim "+claim+" to "+want[claim], "its policy %s asks for %q as the claim %s, not for %q", name, value, claim, want[claim])
			}
		}
		for _, claim := range slices.Sorted(maps.Keys(held)) {
			if _, ok := want[claim]; !ok {
				r.fail(of, portal+"in the policy "+name+" delete the claim "+claim+".", "its policy %s asks for the claim %s as well, which the tokens of entitlement management may not have", name, claim)
			}
		}
	}
	if !found {
		var claims []string
		for _, claim := range slices.Sorted(maps.Keys(want)) {
			claims = append(claims, claim+"="+want[claim])
		}
		r.fail(of, portal+"add a policy of type AADPOP with the claims "+strings.Join(claims, ", "), "its trigger has no policy of type AADPOP, with which entitlement management proves itself")
	}
}

// action looks at the call to the function.
func (x *examination) action(r *report, v *relay) {
	of, a := nameOf(v.id), v.forwards()[0]
	designer := "In the Azure portal: Logic app " + of + ", Logic app designer, the action HTTP: "
	u, _ := url.Parse(a.Inputs.URI)
	if app := x.app(); app != "" && !strings.EqualFold(u.Host, app) {
		r.warn(of, designer+"set URI to https://"+app+calloutPath, "it forwards to %s, and the app is %s", u.Host, app)
	}
	keyed := u.Query().Has("code")
	for name := range a.Inputs.Headers {
		keyed = keyed || strings.EqualFold(name, "x-functions-key")
	}
	if !keyed {
		r.fail(of, designer+"add the header x-functions-key with the key that this says: az functionapp function keys list -g <group> -n <app> --function-name callout --query default -o tsv",
			"it sends no function key, and the host answers 401")
	}
	if x.CalloutAudience == "" {
		return
	}
	switch {
	case !strings.EqualFold(a.Inputs.Authentication.Type, "ManagedServiceIdentity"):
		r.fail(of, designer+"set Authentication to Managed identity, with the audience "+x.CalloutAudience, "it sends no token, and the callout asks for one (CALLOUT_AUDIENCE)")
	case bare(a.Inputs.Authentication.Audience) != bare(x.CalloutAudience):
		r.fail(of, designer+"set the audience of Authentication to "+x.CalloutAudience, "its token is for %s, and CALLOUT_AUDIENCE holds %s", a.Inputs.Authentication.Audience, x.CalloutAudience)
	case x.RelayPrincipal != "" && !v.workflow.is(x.RelayPrincipal):
		r.fail(of, setSetting("RELAY_PRINCIPAL_ID", "<object id of the Logic App's identity>")+", which this says: az resource show --ids "+v.id+" --query identity",
			"its identity is not the one of RELAY_PRINCIPAL_ID, %s", x.RelayPrincipal)
	}
}

// is says whether a Logic App has the identity with the object id.
func (w *logicApp) is(principal string) bool {
	if strings.EqualFold(w.Identity.Principal, principal) {
		return true
	}
	for _, one := range w.Identity.Assigned {
		if strings.EqualFold(one.Principal, principal) {
			return true
		}
	}
	return false
}

// bare is an audience without what makes no difference in it.
func bare(audience string) string {
	return strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(audience), "api://"), "/"))
}

// app is the host of the function app; "" when it is not known.
func (x *examination) app() string {
	if h := host(x.AppURL); h != "" {
		return h
	}
	return x.AppHost
}
