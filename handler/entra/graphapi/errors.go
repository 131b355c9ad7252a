package graphapi

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

// UnknownError is the code that Graph is reported to answer, with an empty message, when it does not say what happened.
const UnknownError = "UnknownError"

const adviseURL = "Check GRAPH_URL, and what stands between this program and Graph."

// An AnswerError is what Graph said of a call that it turned down. It is the cause (fault.Error.Err) of such an error.
type AnswerError struct {
	Code    string // Graph's error code, as "ResourceNotFound"; "" when it gave none that is plainly one
	Message string // cleaned; may be ""
}

func (s *AnswerError) Error() string {
	message := strings.TrimSuffix(s.Message, ".") // errors are parts of sentences
	switch {
	case s.Code == "" && s.Message == "":
		return "Graph did not say why"
	case s.Code == "" || s.Message == "":
		return s.Code + message
	}
	return s.Code + ": " + message
}

// Code returns Graph's error code for err; "" when there is none.
func Code(err error) string {
	if s, ok := errors.AsType[*AnswerError](err); ok {
		return s.Code
	}
	return ""
}

// Message returns what Graph said, cleaned; "" when it said nothing that may be shown.
func Message(err error) string {
	if s, ok := errors.AsType[*AnswerError](err); ok {
		return s.Message
	}
	return ""
}

// refused says how a call ended that was answered with an error.
func refused(op string, read bool, resp *http.Response, body []byte) error {
	e := &fault.Error{Op: op, Status: resp.StatusCode, After: RetryAfter(resp.Header)}
	code, message := ErrorOf(body)
	said := &AnswerError{Code: PlainCode(code), Message: Clean(message, bearer(resp.Request))}
	notGraph := func() {
		e.Reason, e.Detail, e.Advice = lostIn(read), "what answered does not answer as Graph does", adviseURL
	}
	switch s := resp.StatusCode; {
	case s < 400, s == http.StatusNotFound && code == "":
		notGraph()
		return e
	case s == http.StatusTooManyRequests:
		e.Reason = fault.Throttled
	case s >= 500 && s != http.StatusNotImplemented, s == http.StatusRequestTimeout:
		e.Reason = lostIn(read)
	case s == http.StatusUnauthorized:
		e.Reason = fault.Unauthorized
	case s == http.StatusForbidden:
		e.Reason = fault.Forbidden
	case s == http.StatusNotFound && (code != UnknownError || message != ""):
		e.Reason = fault.NotFound
	case s == http.StatusConflict:
		e.Reason = fault.Exists
	default:
		e.Reason = fault.Refused
	}
	if id := Support(resp.Header); id != "" {
		e.Detail = "Graph turned it down" + id
	}
	e.Err = said
	return e
}

// Support is the id that Microsoft's support asks for, as an aside; "" when there is none.
func Support(h http.Header) string {
	if id, ok := correlation.GUID(h.Get("Request-Id")); ok {
		return " (Graph's request-id " + id + ")"
	}
	return ""
}

// bearer is the token that was sent, to keep it out of errors.
func bearer(r *http.Request) string {
	if r == nil {
		return ""
	}
	_, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return token
}

// ErrorOf reads Graph's {"error":{"code","message"}}. Both are "" when the body is something else.
func ErrorOf(answer []byte) (code, message string) {
	var body struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(answer, &body) != nil {
		return "", ""
	}
	return body.Error.Code, body.Error.Message
}

var plainCode = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,80}$`)

// PlainCode returns an error code, or "" when it is not plainly one.
func PlainCode(code string) string {
	if plainCode.MatchString(code) && !strings.HasPrefix(code, "eyJ") {
		return code
	}
	return ""
}

var (
	quoted = regexp.MustCompile(`'[^']*'|"[^"]*"`)
	// A GUID, or a name of Graph's as in 'assignmentRequestApproved' or 'microsoft.graph.customExtensionData'.
	technical = regexp.MustCompile(`^['"]([0-9a-fA-F-]{36}|[a-z][A-Za-z0-9.]*[A-Z][A-Za-z0-9.]*)['"]$`)
	tokens    = regexp.MustCompile(`(?i)eyJ[A-Za-z0-9_-]{8,}|bearer\s`)
)

// Clean shortens somebody else's message to 200 characters, and withholds what may be personal data or a secret: a quoted text that is not
// plainly a technical name is masked, a message with an e-mail address or a token in it is not shown at all. token is the one that was sent; may be "".
func Clean(message, token string) string {
	message = strings.Join(strings.FieldsFunc(message, func(r rune) bool { return r <= ' ' || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 }), " ")
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

// Cause is err without the URL that net/http puts in front, and without what may not be shown; token as for Clean.
func Cause(err error, token string) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if err != nil && Clean(err.Error(), token) == "" {
		return errors.New("a text that is not shown")
	}
	return err
}

// RetryAfter reads Retry-After, seconds or a date; 0 when there is none that makes sense.
func RetryAfter(h http.Header) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	var d time.Duration
	if n, err := strconv.Atoi(v); err == nil {
		d = time.Duration(min(n, int(24*time.Hour/time.Second))) * time.Second
	} else if at, err := http.ParseTime(v); err == nil {
		d = time.Until(at).Round(time.Second)
	}
	return min(max(d, 0), 24*time.Hour)
}

// CredentialFault says why there was no token; nothing was sent then. The credential's own error has the whole answer of who refused it in it,
// of which only the reason is kept. late is the call's context's error; may be nil. The error has no advice.
func CredentialFault(op string, credential, late error) *fault.Error {
	e := &fault.Error{Op: op, Reason: fault.Unauthorized}
	failed, ok := errors.AsType[*azidentity.AuthenticationFailedError](credential)
	switch {
	case late != nil:
		e.Reason, e.Detail, e.Err = fault.Unreachable, "there was no token for Graph in time", late
	case ok && failed.RawResponse != nil:
		r := failed.RawResponse
		e.Status, e.After = r.StatusCode, RetryAfter(r.Header)
		switch {
		case r.StatusCode == http.StatusTooManyRequests:
			e.Reason = fault.Throttled
		case r.StatusCode >= 500:
			e.Reason = fault.Unreachable
		}
		e.Detail = strings.TrimSuffix("there was no token for Graph: "+refusal(r), ": ")
	default:
		text, _, _ := strings.Cut(credential.Error(), "\n")
		e.Detail = strings.TrimSuffix("there was no token for Graph: "+Clean(text, ""), ": ")
	}
	return e
}

// refusal reads why Entra or the identity endpoint gave no token: {"error_description":"AADSTS… Trace ID: …"} or {"message":…}.
func refusal(r *http.Response) string {
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
	return Clean(text, "")
}
