package entra

import (
	"net/http"
	"strings"

	"ticketbridge/handler/entra/graphapi"
	"ticketbridge/handler/fault"
)

// What the operator is advised to do.
const (
	adviseRole = "Give the function's identity the role \"Access package assignment manager\" on the catalog of the access package (Entra admin center, " +
		"Identity Governance, Catalogs, the catalog, Roles and administrators), or else the application permission EntitlementManagement.ReadWrite.All."
	adviseToken = "Check that the function's identity still exists, and that AZURE_TENANT_ID and GRAPH_URL belong to the same cloud and tenant."
	adviseCred  = "Check that the function app has a managed identity and that AZURE_CLIENT_ID, if set, is the client id of one of its identities; " +
		"on a developer's machine sign in with the Azure CLI."
	adviseURL = "Check GRAPH_URL, and what stands between the function and Graph."
)

// fault says how a call ended that did not end well, from what was seen of it; err is the SDK's, and lost the reason for a call that may have
// arrived and has no usable answer. The SDK's errors for Graph's answers are not used: they have whole messages in them, which may name people.
func (x *exchange) fault(op string, lost fault.Reason, err error) error {
	if x.credential != nil {
		return x.credentialFault(op)
	}
	e := &fault.Error{Op: op, Status: x.status}
	if x.status == 0 {
		e.Err = graphapi.Cause(err, x.token())
		switch {
		case !x.tried && x.late == nil:
			e.Reason, e.Detail = fault.Internal, "the call could not be made"
		case !x.sent:
			e.Reason, e.Detail = fault.Unreachable, "there was no connection to Graph, so nothing was sent"
		default:
			e.Reason, e.Detail = lost, "the call was sent, and no whole answer came"
		}
		return e
	}
	e.After = graphapi.RetryAfter(x.header)
	code, message := graphapi.ErrorOf(x.body)
	e.Detail = x.describe(code, message)
	switch s := x.status; {
	case s < 300:
		e.Reason, e.Detail, e.Advice = lost, "what answered does not answer as Graph does", adviseURL
	case s < 400:
		e.Reason, e.Detail, e.Advice = lost, "the call was redirected, which Graph does not do", adviseURL
	case s == http.StatusTooManyRequests:
		e.Reason = fault.Throttled
	case s >= 500, s == http.StatusRequestTimeout:
		e.Reason = lost
	case s == http.StatusUnauthorized:
		e.Reason, e.Advice = fault.Unauthorized, adviseToken
	case s == http.StatusForbidden:
		e.Reason, e.Advice = fault.Forbidden, adviseRole
	case s == http.StatusNotFound && code == "":
		// Not Graph's words: that a proxy or a wrong address knows no such path must not pass for a withdrawn request.
		e.Reason, e.Detail, e.Advice = lost, "what answered does not answer as Graph does", adviseURL
	case code == graphapi.UnknownError && message == "":
		e.Reason = lost // it does not say what happened, so it is not taken for a refusal
	case s == http.StatusNotFound:
		e.Reason = fault.NotFound
	default:
		e.Reason = fault.Refused
	}
	return e
}

// describe puts Graph's error code, its message as far as it may be shown, and the id that Microsoft's support asks for into one sentence.
func (x *exchange) describe(code, message string) string {
	var parts []string
	if c := graphapi.PlainCode(code); c != "" {
		parts = append(parts, c)
	}
	if m := graphapi.Clean(message, x.token()); m != "" {
		parts = append(parts, m)
	}
	return strings.TrimSpace(strings.Join(parts, ": ") + graphapi.Support(x.header))
}

// token is the one that was sent, to keep it out of errors.
func (x *exchange) token() string {
	_, token, _ := strings.Cut(x.bearer, " ")
	return token
}

// credentialFault says why there was no token; nothing was sent then.
func (x *exchange) credentialFault(op string) error {
	e := graphapi.CredentialFault(op, x.credential, x.late)
	e.Advice = adviseCred
	return e
}
