package connect

import (
	"errors"
	"strings"

	"ticketbridge/handler/entra/graphapi"
	"ticketbridge/handler/fault"
)

// part is what of the set-up a call belongs to: a refusal means something else for each.
type part int

const (
	partCatalog   part = iota
	partExtension      // by a relay
	partDirect
	partPolicy
	partRole
	partApp
	partAppRole
)

const (
	adviseAgain = "Run connect again: it reads the tenant anew, and does what is left."
	adviseScope = "With -sign-in cli this is to be expected: the Azure CLI's own tokens have no permission for entitlement management; use -sign-in device-code."
)

var mayWhat = map[part]string{
	partCatalog:   "Whoever signs in must be Catalog owner of the catalog or Identity Governance Administrator. " + adviseScope,
	partExtension: "Whoever signs in must be Catalog owner of the catalog or Identity Governance Administrator and, for a relay, have the Azure role Logic App Contributor on it. " + adviseScope,
	partDirect:    "Whoever signs in must be Catalog owner of the catalog or Identity Governance Administrator. " + adviseScope,
	partPolicy:    "Whoever signs in must be Catalog owner of the catalog or Identity Governance Administrator. " + adviseScope,
	partRole:      "Whoever signs in must be Catalog owner of the catalog or Identity Governance Administrator. " + adviseScope,
	partApp: "Whoever signs in must be allowed to register applications: as Application Administrator or Cloud Application Administrator, or because users may. " +
		"Or leave the application to somebody who is: -no-app.",
	partAppRole: "Whoever signs in must be allowed to give app roles: as Application Administrator or Cloud Application Administrator. " +
		"Or leave them to somebody who is: without -relay-identity and -close-caller.",
}

// advise adds to an error of Graph what the person can do.
func advise(err error, p part) error {
	e, ok := errors.AsType[*fault.Error](err)
	if !ok || e.Advice != "" {
		return err
	}
	said := strings.ToLower(graphapi.Message(err))
	switch e.Reason {
	case fault.Unauthorized:
		e.Advice = "Sign in again, and check AZURE_TENANT_ID and GRAPH_URL."
	case fault.Forbidden:
		e.Advice = mayWhat[p]
	case fault.Unclear:
		e.Advice = "It may have been done. " + adviseAgain
	case fault.Unreachable, fault.Throttled:
		e.Advice = adviseAgain
	case fault.Refused:
		switch {
		case p == partExtension:
			e.Advice = "Check that the Logic App exists and is a Consumption one. When an application signs in instead of a person, Graph wants the URL of its trigger, too: -relay-url."
		case p == partDirect:
			e.Advice = "In this tenant entitlement management calls Logic Apps only. Use the relay: -relay with the resource id of the Logic App instead of -function."
		case p == partPolicy && (strings.Contains(said, "guest") || strings.Contains(said, "subscription")):
			e.Advice = "The policy is open to guests. Link the tenant to a subscription for guest governance (Entra admin center, Identity Governance, Dashboard, Guest access governance), " +
				"or leave the policy out."
		}
	}
	return err
}
