package servicenow

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
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
	Status string          `json:"status"`
}

// said is what the answer says went wrong. The detail may hold values of fields, and so is looked at and not repeated.
type said struct {
	failed          bool // the answer has an error in it
	own             bool // in ServiceNow's own shape, {"error":…,"status":"failure"}; a gateway's has another
	message, detail string
}

func (a *answer) said() said {
	var e envelope
	if json.Unmarshal(a.body, &e) != nil || len(e.Error) == 0 || string(e.Error) == "null" {
		return said{}
	}
	s := said{failed: true, own: e.Status == "failure"}
	var parts map[string]json.RawMessage
	if json.Unmarshal(e.Error, &parts) != nil {
		s.message = value(e.Error)
		return s
	}
	s.message, s.detail = value(parts["message"]), value(parts["detail"])
	return s
}

// check returns nil for an answer with the status that means success and without an error in it.
func (a *answer) check() error {
	if a.status != a.success {
		return a.failure()
	}
	if a.said().failed {
		return a.notUsable()
	}
	return nil
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
	return &fault.Error{Op: a.op, Reason: a.uncertain(), Status: a.status, Detail: detail, After: after(a.status, a.header)}
}

func (a *answer) notUsable() *fault.Error {
	s := a.said()
	switch {
	case s.failed:
		// The answer had begun when the transaction was cancelled: the list is not complete, the record perhaps not saved.
		return a.unusable("an error after the answer had begun: " + a.clean(s.message))
	case a.tooLarge:
		return a.unusable(fmt.Sprintf("the answer is larger than %d bytes", maxAnswer))
	case a.isPage():
		e := a.unusable("the answer is a page for people, not one of the API")
		e.Advice = wakeUp
		return e
	case a.status != a.success:
		return a.unusable(fmt.Sprintf("%d is expected", a.success))
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
	s := a.said()
	e := &fault.Error{Op: a.op, Status: a.status, Detail: a.clean(s.message), After: after(a.status, a.header)}
	give := func(r fault.Reason, detail, advice string) *fault.Error {
		e.Reason, e.Advice = r, advice
		if e.Detail == "" {
			e.Detail = detail
		}
		return e
	}
	const (
		address   = "Check SERVICENOW_URL: it is the address of the instance itself, with its base path if it has one."
		tableName = "Check the name of the table, and that the integration user may use it."
		noRoute   = "does not represent any resource" // ServiceNow answers it with 400
	)
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
		return give(fault.Unauthorized, "the credentials were not accepted",
			"Check the SERVICENOW_ settings for the way in SERVICENOW_AUTH, and that the integration user is active, not locked out, and may use web services.")

	case a.status == http.StatusForbidden:
		return a.forbidden(e, s)

	case a.status == http.StatusBadRequest && strings.HasPrefix(strings.ToLower(s.message), "invalid table"):
		return give(fault.Misconfigured, "", tableName)

	case a.status == http.StatusNotFound && s.own && a.sysID != "" && !strings.Contains(s.message, noRoute):
		return give(fault.NotFound, "there is no such record, or it may not be seen", "")

	case a.status == http.StatusNotFound && s.own && a.table != "" && !strings.Contains(s.message, noRoute):
		return give(fault.Misconfigured, "there is no such table, or it may not be seen", tableName)

	case a.status == http.StatusNotFound, strings.Contains(s.message, noRoute):
		return give(fault.Misconfigured, "nothing is served at this address", address)

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

var (
	businessRule = regexp.MustCompile(`[Aa]borted by [Bb]usiness [Rr]ule '([^'^]{1,100})`)
	dataPolicy   = regexp.MustCompile(`fields are mandatory: *([\p{L}\p{N} ,_()/-]{1,150})`)
)

// forbidden tells rights apart from rules. ServiceNow answers 403 for both, and says which in the detail: of that only the name of a business rule and the
// labels of mandatory fields are repeated.
func (a *answer) forbidden(e *fault.Error, s said) *fault.Error {
	if !s.own {
		e.Reason, e.Detail = fault.Forbidden, "turned away before the API was reached"
		e.Advice = "Check the instance's IP address access control, and what stands between the function and the instance."
		return e
	}
	all := strings.ToLower(s.message + " " + s.detail)
	says := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(all, w) })
	}
	rule, policy := businessRule.FindStringSubmatch(s.detail+s.message), dataPolicy.FindStringSubmatch(s.detail+s.message)
	switch {
	case says("acl exception", "security constraints", "not authorized", "insufficient rights"):
		e.Reason, e.Detail = fault.Forbidden, join(e.Detail, "the integration user lacks a right on "+a.table)
	case rule != nil:
		e.Reason, e.Detail = fault.Refused, join(e.Detail, "business rule "+a.hide.clean(rule[1])+" said no")
	case policy != nil:
		e.Reason, e.Detail = fault.Refused, join(e.Detail, "a data policy wants "+a.hide.clean(policy[1]))
	case says("operation failed", "business rule", "data policy"):
		e.Reason = fault.Refused
	default:
		e.Reason = fault.Forbidden
	}
	e.Detail = cmp.Or(e.Detail, "turned down without a reason")
	e.Advice = "Give the integration user the roles to create, read and write records of " + a.table + "."
	if e.Reason == fault.Refused {
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

// clean makes a message fit to be logged: short, on one line, without secrets and e-mail addresses, without the words that were sent (except plain ones in
// lower case from among several), and without what it quotes, unless that is the table or one of its columns.
func (a *answer) clean(message string) string {
	sent := map[string]bool{}
	for _, text := range append(slices.Collect(maps.Values(a.call.body)), a.about) {
		tokens := strings.Fields(text)
		for _, token := range tokens {
			if len(tokens) == 1 || !plain.MatchString(token) {
				for _, w := range word.FindAllString(strings.ToLower(token), -1) {
					sent[w] = true
				}
			}
		}
	}
	columns := strings.Split(a.query.Get("sysparm_fields"), ",")
	message = quoted.ReplaceAllStringFunc(strings.ToValidUTF8(message, ""), func(q string) string {
		name := q[1 : len(q)-1]
		if _, ours := a.call.body[name]; ours || name == a.table || slices.Contains(columns, name) {
			return q
		}
		return "…"
	})
	message = word.ReplaceAllStringFunc(message, func(w string) string {
		if sent[strings.ToLower(w)] {
			return "…"
		}
		return w
	})
	return a.hide.clean(message)
}

var (
	quoted = regexp.MustCompile(`'[^']*'|"[^"]*"`)
	word   = regexp.MustCompile(`[\p{L}\p{M}\p{N}_]+`)
	plain  = regexp.MustCompile(`^\(?[a-z]+[.,:;?!)]*$`)
)

// maxAfter bounds how long we let ServiceNow send us away: its rate rules are hourly.
const maxAfter = time.Hour

// after reads how long we are asked to wait: Retry-After in seconds or as a date. A rate rule sends X-RateLimit-Reset as well, which ServiceNow
// documents as the time in seconds since 1970; it does so with every answer, and only with 429 it means us.
func after(status int, h http.Header) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if d, ok := seconds(text); ok {
		return d
	}
	if at, err := http.ParseTime(text); err == nil {
		return atMost(time.Until(at))
	}
	if status != http.StatusTooManyRequests {
		return 0
	}
	reset := strings.TrimSpace(h.Get("X-RateLimit-Reset"))
	if at, err := strconv.ParseInt(reset, 10, 64); err == nil && at >= 100_000_000 {
		return atMost(time.Until(time.Unix(at, 0)))
	}
	d, _ := seconds(reset) // from now, as other systems send it
	return d
}

// seconds reads a number of seconds, however large.
func seconds(text string) (time.Duration, bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, false
	}
	return atMost(time.Duration(min(max(n, 0), int64(maxAfter/time.Second))) * time.Second), true
}

func atMost(d time.Duration) time.Duration { return min(max(d, 0), maxAfter) }
