package entra

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"ticketbridge/handler/correlation"
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

// unknownError is what Graph is reported to answer, with an empty message, when it does not say what happened.
const unknownError = "UnknownError"

// fault says how a call ended that did not end well, from what was seen of it; err is the SDK's, and lost the reason for a call that may have
// arrived and has no usable answer. The SDK's errors for Graph's answers are not used: they have whole messages in them, which may name people.
func (x *exchange) fault(op string, lost fault.Reason, err error) error {
	if x.credential != nil {
		return x.credentialFault(op)
	}
	e := &fault.Error{Op: op, Status: x.status}
	if x.status == 0 {
		e.Err = x.cause(err)
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
	e.After = retryAfter(x.header)
	code, message := x.graphError()
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
	case s == http.StatusNotFound && (code != unknownError || message != ""):
		e.Reason = fault.NotFound
	default:
		e.Reason = fault.Refused
	}
	return e
}

// graphError reads Graph's {"error":{"code","message"}}. Both are "" when the body is something else.
func (x *exchange) graphError() (code, message string) {
	var body struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(x.body, &body) != nil {
		return "", ""
	}
	return body.Error.Code, body.Error.Message
}

var plainCode = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,80}$`)

// describe puts Graph's error code, its message as far as it may be shown, and the id that Microsoft's support asks for into one sentence.
func (x *exchange) describe(code, message string) string {
	var parts []string
	if plainCode.MatchString(code) && !strings.HasPrefix(code, "eyJ") {
		parts = append(parts, code)
	}
	if m := x.clean(message); m != "" {
		parts = append(parts, m)
	}
	out := strings.Join(parts, ": ")
	if id, ok := correlation.GUID(x.header.Get("Request-Id")); ok {
		out = strings.TrimSpace(out + " (Graph's request-id " + id + ")")
	}
	return out
}

var (
	quoted = regexp.MustCompile(`'[^']*'|"[^"]*"`)
	// A GUID, or a name of Graph's as in 'assignmentRequestApproved' or 'microsoft.graph.customExtensionData'.
	technical = regexp.MustCompile(`^['"]([0-9a-fA-F-]{36}|[a-z][A-Za-z0-9.]*[A-Z][A-Za-z0-9.]*)['"]$`)
	tokens    = regexp.MustCompile(`(?i)eyJ[A-Za-z0-9_-]{8,}|bearer\s`)
)

// clean shortens somebody else's message to 200 characters, and withholds what may be personal data or a secret: a quoted text that is not
// plainly a technical name is masked, a message with an e-mail address or a token in it is not shown at all.
func (x *exchange) clean(message string) string {
	message = strings.Join(strings.FieldsFunc(message, func(r rune) bool { return r <= ' ' || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 }), " ")
	_, token, _ := strings.Cut(x.bearer, " ")
	if strings.Contains(message, "@") || tokens.MatchString(message) || token != "" && strings.Contains(message, token) {
		return ""
	}
	message = quoted.ReplaceAllStringFunc(message, func(q string) string {
		if technical.MatchString(q) {
			return q
		}
		return q[:1] + "…" + q[:1]
	})
	if r := []rune(message); len(r) > 200 {
		message = string(r[:199]) + "…"
	}
	return message
}

// cause is err without the URL that net/http puts in front.
func (x *exchange) cause(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if err != nil && x.clean(err.Error()) == "" {
		return errors.New("a text that is not shown")
	}
	return err
}

// retryAfter reads Retry-After, seconds or a date; 0 when there is none that makes sense.
func retryAfter(h http.Header) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	var d time.Duration
	if n, err := strconv.Atoi(v); err == nil {
		d = time.Duration(min(n, int(24*time.Hour/time.Second))) * time.Second
	} else if at, err := http.ParseTime(v); err == nil {
		d = time.Until(at).Round(time.Second)
	}
	return min(max(d, 0), 24*time.Hour)
}

// credentialFault says why there was no token; nothing was sent then. The credential's own error has the whole answer of who refused it in it,
// of which only the reason is kept.
func (x *exchange) credentialFault(op string) error {
	e := &fault.Error{Op: op, Reason: fault.Unauthorized, Advice: adviseCred}
	failed, ok := errors.AsType[*azidentity.AuthenticationFailedError](x.credential)
	switch {
	case x.late != nil:
		e.Reason, e.Detail, e.Err = fault.Unreachable, "there was no token for Graph in time", x.late
	case ok && failed.RawResponse != nil:
		r := failed.RawResponse
		e.Status, e.After = r.StatusCode, retryAfter(r.Header)
		switch {
		case r.StatusCode == http.StatusTooManyRequests:
			e.Reason = fault.Throttled
		case r.StatusCode >= 500:
			e.Reason = fault.Unreachable
		}
		e.Detail = strings.TrimSuffix("there was no token for Graph: "+x.refusal(r), ": ")
	default:
		text, _, _ := strings.Cut(x.credential.Error(), "\n")
		e.Detail = strings.TrimSuffix("there was no token for Graph: "+x.clean(text), ": ")
	}
	return e
}

// refusal reads why Entra or the identity endpoint gave no token: {"error_description":"AADSTS… Trace ID: …"} or {"message":…}.
func (x *exchange) refusal(r *http.Response) string {
	body, err := runtime.Payload(r)
	if err != nil {
		return ""
	}
	var said struct {
		Description string `json:"error_description"`
		Message     string `json:"message"`
	}
	if json.Unmarshal(body, &said) != nil {
		return fmt.Sprintf("status %d", r.StatusCode)
	}
	text, _, _ := strings.Cut(said.Description, " Trace ID:")
	if text == "" {
		text = said.Message
	}
	return x.clean(text)
}
