package servicenow

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"ticketbridge/handler/fault"
)

// An answer is what ServiceNow, or what stands before it, answered to a call.
type answer struct {
	call
	hide     *redactor
	status   int
	header   http.Header
	body     []byte
	tooLarge bool
}

// envelope is the shape of every answer of the Table API.
type envelope struct {
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
}

// said is ServiceNow's own words about what went wrong. The detail may hold values of fields, and so is looked at and not repeated.
type said struct{ message, detail string }

// said returns ServiceNow's own error; ok is false when the answer is not one of its.
func (a *answer) said() (s said, ok bool) {
	var e envelope
	if json.Unmarshal(a.body, &e) != nil || len(e.Error) == 0 || string(e.Error) == "null" {
		return said{}, false
	}
	var parts map[string]json.RawMessage
	if json.Unmarshal(e.Error, &parts) != nil {
		return said{message: value(e.Error)}, true
	}
	return said{message: value(parts["message"]), detail: value(parts["detail"])}, true
}

// check returns nil for an answer that means success: 201 for a create, else 200, in JSON and without an error in it.
func (a *answer) check() error {
	if a.status != a.success() {
		return a.failure()
	}
	if _, ok := a.said(); ok {
		return a.notUsable()
	}
	return nil
}

func (k call) success() int {
	if k.method == http.MethodPost {
		return http.StatusCreated
	}
	return http.StatusOK
}

// record reads the answer's record.
func (a *answer) record() (map[string]string, error) {
	var e envelope
	var row map[string]json.RawMessage
	if json.Unmarshal(a.body, &e) != nil || json.Unmarshal(e.Result, &row) != nil || row == nil {
		return nil, a.notUsable()
	}
	return values(row), nil
}

// records reads the answer's list of records.
func (a *answer) records() ([]map[string]string, error) {
	var e envelope
	var rows []map[string]json.RawMessage
	if json.Unmarshal(a.body, &e) != nil || json.Unmarshal(e.Result, &rows) != nil || rows == nil {
		return nil, a.notUsable()
	}
	var out []map[string]string
	for _, row := range rows {
		out = append(out, values(row))
	}
	return out, nil
}

func values(row map[string]json.RawMessage) map[string]string {
	out := make(map[string]string, len(row))
	for name, raw := range row {
		out[name] = value(raw)
	}
	return out
}

// value reads a field: a string, or a reference as {value, link} or {display_value, link}, whose link ends in the sys_id. Numbers and booleans, which the
// Table API sends as strings, are taken as their text.
func value(raw json.RawMessage) string {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || string(raw) == "null" {
		return ""
	}
	switch raw[0] {
	case '"':
		var s string
		_ = json.Unmarshal(raw, &s)
		return s
	case '{':
		var ref struct {
			Value json.RawMessage `json:"value"`
			Link  string          `json:"link"`
		}
		_ = json.Unmarshal(raw, &ref)
		if len(ref.Value) > 0 && ref.Value[0] != '{' {
			return value(ref.Value)
		}
		if u, err := url.Parse(ref.Link); err == nil && ref.Link != "" {
			return u.Path[strings.LastIndex(u.Path, "/")+1:]
		}
		return ""
	case '[':
		return ""
	default:
		return string(raw)
	}
}

// unusable is an answer that does not say whether the call was carried out.
func (a *answer) unusable(detail string) *fault.Error {
	return &fault.Error{Op: a.op, Reason: a.uncertain(), Status: a.status, Detail: detail, After: after(a.header)}
}

func (a *answer) notUsable() *fault.Error {
	s, own := a.said()
	switch {
	case own:
		// The answer had begun when the transaction was cancelled: the list is not complete, the record perhaps not saved.
		return a.unusable("an error after the answer had begun: " + a.clean(s.message))
	case a.tooLarge:
		return a.unusable(fmt.Sprintf("the answer is larger than %d bytes", maxAnswer))
	case a.isPage():
		e := a.unusable("the answer is a page for people, not one of the API")
		e.Advice = wakeUp
		return e
	case json.Valid(a.body) && a.status != a.success():
		return a.unusable(fmt.Sprintf("%d is expected", a.success()))
	default:
		return a.unusable("the answer is not one of the Table API")
	}
}

const wakeUp = "A developer instance may be asleep: sign in at developer.servicenow.com and wake it up. Otherwise check SERVICENOW_URL, and what stands before the instance."

func (a *answer) isPage() bool {
	return strings.Contains(strings.ToLower(a.header.Get("Content-Type")), "html") || bytes.HasPrefix(bytes.TrimSpace(a.body), []byte("<"))
}

// failure says what an answer means that is not success.
func (a *answer) failure() *fault.Error {
	s, own := a.said()
	e := &fault.Error{Op: a.op, Status: a.status, Detail: a.clean(s.message), After: after(a.header)}
	give := func(r fault.Reason, detail, advice string) *fault.Error {
		e.Reason, e.Advice = r, advice
		if e.Detail == "" {
			e.Detail = detail
		}
		return e
	}
	const address = "Check SERVICENOW_URL: it is the address of the instance itself, with its base path if it has one."
	switch {
	case a.status < 300:
		return a.notUsable()

	case a.status < 400:
		to, err := url.Parse(a.header.Get("Location"))
		if err == nil && strings.EqualFold(to.Hostname(), "developer.servicenow.com") {
			return give(a.uncertain(), "the instance sends to developer.servicenow.com", wakeUp)
		}
		detail := "the answer is a redirect"
		if err == nil && to.Host != "" {
			detail += " to " + a.clean(to.Scheme+"://"+to.Host)
		}
		return give(fault.Misconfigured, detail, address)

	case a.status == http.StatusUnauthorized:
		u := unauthorized(a.call)
		if e.Detail != "" {
			u.Detail = e.Detail
		}
		return u

	case a.status == http.StatusForbidden:
		return a.forbidden(e, s, own)

	case a.status == http.StatusBadRequest && strings.HasPrefix(strings.ToLower(s.message), "invalid table"):
		return give(fault.Misconfigured, "", "Check the name of the table, and that the integration user may use it.")

	case a.status == http.StatusNotFound, strings.Contains(s.message, "does not represent any resource"):
		switch {
		case !own, a.table == "":
			return give(fault.Misconfigured, "nothing is served at this address", address)
		case strings.Contains(s.message, "does not represent any resource"):
			return give(fault.Misconfigured, "", address)
		case a.method == http.MethodPost || a.sysID == "":
			return give(fault.Misconfigured, "", "Check the name of the table, and that the integration user may use it.")
		}
		return give(fault.NotFound, "", "")

	case a.status == http.StatusProxyAuthRequired:
		return give(fault.Misconfigured, "the proxy asks who we are", "Check HTTPS_PROXY.")

	case a.status == http.StatusMethodNotAllowed, a.status == http.StatusNotAcceptable, a.status == http.StatusUnsupportedMediaType:
		return give(fault.Misconfigured, "the API does not take such a call at this address", address)

	case a.status == http.StatusRequestTimeout:
		return give(a.uncertain(), "the call did not arrive completely, or not in time", "")

	case a.status == http.StatusMisdirectedRequest, a.status == http.StatusTooEarly:
		return give(fault.Unreachable, "not taken now", "")

	case a.status == http.StatusTooManyRequests:
		return give(fault.Throttled, "too many calls", "If this goes on, give the integration user a rate limit rule of its own, or more of the instance's workers.")

	case a.status < 500 && a.changes:
		return give(fault.Refused, "turned down without a reason", "")

	case a.status < 500:
		return give(fault.Misconfigured, "turned down without a reason", "")

	default:
		if a.isPage() {
			e.Advice = "The instance may be starting or under maintenance; the call is tried again by itself."
		}
		return give(a.uncertain(), "the instance, or what stands before it, has an error of its own", e.Advice)
	}
}

func unauthorized(k call) *fault.Error {
	return &fault.Error{
		Op: k.op, Reason: fault.Unauthorized, Status: http.StatusUnauthorized, Detail: "the credentials were not accepted",
		Advice: "Check the SERVICENOW_ settings for the way in SERVICENOW_AUTH, and that the integration user is active, not locked out, and may use web services.",
	}
}

var (
	businessRule = regexp.MustCompile(`[Aa]borted by [Bb]usiness [Rr]ule '([^'^]{1,100})`)
	dataPolicy   = regexp.MustCompile(`fields are mandatory: *([\p{L}\p{N} ,_()/-]{1,150})`)
)

// forbidden tells rights apart from rules. ServiceNow answers 403 for both, and says which in the detail: of that only the name of a business rule and the
// labels of mandatory fields are repeated.
func (a *answer) forbidden(e *fault.Error, s said, own bool) *fault.Error {
	all := strings.ToLower(s.message + " " + s.detail)
	rights := strings.Contains(all, "acl exception") || strings.Contains(all, "security constraints") || strings.Contains(all, "not authorized") || strings.Contains(all, "insufficient rights")
	e.Reason = fault.Forbidden
	switch {
	case !own:
		e.Detail = "turned away before the API was reached"
		e.Advice = "Check the instance's IP address access control, and what stands between the function and the instance."
	case rights:
		e.Detail = join(e.Detail, "the integration user lacks a right on "+a.table)
		e.Advice = "Give the integration user the roles to create, read and write records of " + a.table + "."
	default:
		if m := businessRule.FindStringSubmatch(s.detail + s.message); m != nil {
			e.Reason, e.Detail = fault.Refused, join(e.Detail, "business rule "+a.clean(m[1])+" said no")
		} else if m := dataPolicy.FindStringSubmatch(s.detail + s.message); m != nil {
			e.Reason, e.Detail = fault.Refused, join(e.Detail, "a data policy wants "+a.clean(strings.TrimSpace(m[1])))
		} else if strings.Contains(all, "operation failed") || strings.Contains(all, "business rule") || strings.Contains(all, "data policy") {
			e.Reason = fault.Refused
		} else {
			e.Advice = "Give the integration user the roles to create, read and write records of " + a.table + "."
			break
		}
		e.Advice = "Let the ticket hold what the instance's rules for " + a.table + " want, or except the integration user from them; then retry."
	}
	return e
}

func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + ": " + b
}

// clean makes a text of ServiceNow's fit to be logged: short, on one line, without secrets, e-mail addresses, or values that we had sent.
func (a *answer) clean(text string) string {
	text = quoted.ReplaceAllStringFunc(text, func(q string) string {
		inner := strings.ToLower(strings.Trim(q, `'"`))
		for _, sent := range a.call.body {
			if len(inner) > 2 && strings.Contains(strings.ToLower(sent), inner) {
				return "…"
			}
		}
		return q
	})
	return a.hide.clean(text)
}

var quoted = regexp.MustCompile(`'[^']*'|"[^"]*"`)

// maxAfter bounds how long we let ServiceNow send us away: its rate rules are hourly.
const maxAfter = time.Hour

// after reads how long we are asked to wait: Retry-After in seconds or as a date, else X-RateLimit-Reset, which ServiceNow documents as the time in seconds
// since 1970.
func after(h http.Header) time.Duration {
	d := time.Duration(0)
	if text := strings.TrimSpace(h.Get("Retry-After")); text != "" {
		if s, err := strconv.ParseInt(text, 10, 64); err == nil {
			d = time.Duration(min(max(s, 0), int64(maxAfter/time.Second))) * time.Second
		} else if t, err := http.ParseTime(text); err == nil {
			d = time.Until(t)
		}
	} else if s, err := strconv.ParseInt(strings.TrimSpace(h.Get("X-RateLimit-Reset")), 10, 64); err == nil && s > 0 {
		if s < 1_000_000_000 { // seconds from now, as other systems send it
			d = time.Duration(min(s, int64(maxAfter/time.Second))) * time.Second
		} else {
			d = time.Until(time.Unix(s, 0))
		}
	}
	return min(max(d, 0), maxAfter)
}
