package companion_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"html"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dop251/goja"

	"ticketbridge/handler/simulator/servicenow"
)

// An instance is what the app's scripts meet on an instance: the stand-in's tickets, a table of their own, the properties, and the classes of ServiceNow's
// scoped API that they use, as ServiceNow documents them. What a script uses that is not here ends it with an error, and a column that does not
// exist fails the test, which ServiceNow would pass over in silence.
type instance struct {
	testing.TB
	app     *built
	tickets *servicenow.Instance
	outbox  []map[string]string
	made    int // rows that were ever inserted

	properties map[string]string // over those of the package
	client     *http.Client      // through which calls go out
	token      func() string     // what an OAuth profile gets from Entra
	throws     bool              // a call without an answer throws, instead of answering with the status 0: both are seen
	dies       bool              // the node dies in each call, before anything is sent
	global     bool              // GlideCertificateEncryption is there, and not CertificateEncryption: it depends on the release

	messages map[string]message // those that somebody made by hand, by "name/method"

	errors []string // what gs.error logged
}

const timeFormat = "2006-01-02 15:04:05"

// run runs a script of the package; ticket is what a business rule knows as current.
func (i *instance) run(script string, ticket *servicenow.Ticket, variables map[string]any) {
	i.Helper()
	vm := goja.New()
	set := func(name string, v any) {
		if err := vm.Set(name, v); err != nil {
			i.Fatal(err)
		}
	}
	for name, v := range variables {
		set(name, v)
	}
	i.defineClasses(vm, set)
	for _, include := range i.app.all("sys_script_include") {
		if _, err := vm.RunScript(include.fields["name"], include.fields["script"]); err != nil {
			i.Fatalf("the script include %s: %v", include.fields["name"], err)
		}
	}
	if ticket != nil {
		set("current", i.glideRecord(vm, vm.NewObject(), ticket.Table, ticket.Fields))
	}
	var died *goja.InterruptedError
	if _, err := vm.RunString(script); err != nil && (!i.dies || !errors.As(err, &died)) {
		i.Fatalf("a script of the package: %v", err)
	}
}

// close closes a ticket, or changes it in any other way, and then runs the rules whose condition holds, as the instance does somewhat later.
func (i *instance) close(sysID string, how servicenow.Closing) {
	i.Helper()
	before := i.ticket(sysID)
	if err := i.tickets.Close(sysID, how); err != nil {
		i.Fatal(err)
	}
	after := i.ticket(sysID)
	for _, rule := range i.app.all("sys_script") {
		if i.holds(rule.fields["filter_condition"], before.Fields, after.Fields) {
			i.run(rule.fields["script"], &after, nil)
		}
	}
}

// job runs a scheduled script of the package.
func (i *instance) job(name string) {
	i.Helper()
	i.run(i.app.one(i, "sysauto_script", "name", name).fields["script"], nil, nil)
}

func (i *instance) ticket(sysID string) servicenow.Ticket {
	i.Helper()
	t, err := i.tickets.Ticket(sysID)
	if err != nil {
		i.Fatal(err)
	}
	return t
}

// row is the outbox's only row.
func (i *instance) row() map[string]string {
	i.Helper()
	if len(i.outbox) != 1 {
		i.Fatalf("%d rows in the outbox, not one: %v", len(i.outbox), i.outbox)
	}
	return i.outbox[0]
}

// holds judges a rule's condition: groups joined by ^NQ, each of conditions joined by ^.
func (i *instance) holds(condition string, before, after map[string]string) bool {
	i.Helper()
	for group := range strings.SplitSeq(condition, "^NQ") {
		all := true
		for c := range strings.SplitSeq(group, "^") {
			all = i.holdsOne(c, before, after) && all
		}
		if all {
			return true
		}
	}
	return false
}

func (i *instance) holdsOne(c string, before, after map[string]string) bool {
	i.Helper()
	for _, operator := range []string{"CHANGESTO", "VALCHANGES", "LIKE", "="} {
		field, value, found := strings.Cut(c, operator)
		if !found {
			continue
		}
		if _, there := after[field]; !there {
			i.Fatalf("the rule's condition asks for the column %q, which the ticket does not have", field)
		}
		switch operator {
		case "CHANGESTO":
			return before[field] != after[field] && after[field] == value
		case "VALCHANGES":
			return before[field] != after[field]
		case "LIKE":
			return strings.Contains(after[field], value)
		default:
			return after[field] == value
		}
	}
	i.Fatalf("the rule's condition has %q, which nobody here understands", c)
	return false
}

func (i *instance) property(name string) string {
	if v, ok := i.properties[name]; ok {
		return v
	}
	for _, r := range i.app.all("sys_properties") {
		if r.fields["name"] == name {
			return r.fields["value"]
		}
	}
	i.Errorf("the property %s is not in the package", name)
	return ""
}

func (i *instance) defineClasses(vm *goja.Runtime, set func(string, any)) {
	class := vm.NewObject()
	_ = class.Set("create", func() *goja.Object {
		constructor, err := vm.RunString("(function () { this.initialize.apply(this, arguments); })")
		if err != nil {
			i.Fatal(err)
		}
		return constructor.ToObject(vm)
	})
	set("Class", class)
	set("gs", map[string]any{
		"getProperty": func(name, otherwise string) string {
			if v := i.property(name); v != "" {
				return v
			}
			return otherwise
		},
		"info":  func(string) {},
		"error": func(text string) { i.errors = append(i.errors, text) },
	})
	set("GlideDateTime", func(call goja.ConstructorCall) *goja.Object {
		at := time.Now().UTC().Truncate(time.Second)
		return methods(vm, call.This, map[string]any{
			"addSeconds":      func(n int) { at = at.Add(time.Duration(n) * time.Second) },
			"getValue":        func() string { return at.Format(timeFormat) },
			"getNumericValue": func() int64 { return at.UnixMilli() },
		})
	})
	set("GlideRecord", func(call goja.ConstructorCall) *goja.Object {
		return i.glideRecord(vm, call.This, call.Argument(0).String(), nil)
	})
	mac := "CertificateEncryption"
	if i.global {
		mac = "GlideCertificateEncryption"
	}
	set(mac, func(call goja.ConstructorCall) *goja.Object {
		return methods(vm, call.This, map[string]any{"generateMac": i.generateMac})
	})
	set("sn_ws", map[string]any{"RESTMessageV2": func(call goja.ConstructorCall) *goja.Object {
		return i.restMessage(vm, call.This, call.Argument(0).String(), call.Argument(1).String())
	}})
}

func methods(vm *goja.Runtime, o *goja.Object, list map[string]any) *goja.Object {
	for name, f := range list {
		if err := o.Set(name, vm.ToValue(f)); err != nil {
			panic(err)
		}
	}
	return o
}

// generateMac is GlideCertificateEncryption's: a key in base64, data as UTF-8, the result in base64.
func (i *instance) generateMac(key, algorithm, data string) string {
	secret, err := base64.StdEncoding.DecodeString(key)
	if err != nil || algorithm != "HmacSHA256" {
		i.Fatalf("generateMac by %s: %v", algorithm, err)
	}
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(data))
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// glideRecord is a GlideRecord of the outbox, which is kept here, or of tickets, which the stand-in has and scripts only read. It stands on the given record. What
// is set is kept when insert or update is called, not before.
func (i *instance) glideRecord(vm *goja.Runtime, o *goja.Object, table string, standing map[string]string) *goja.Object {
	const outbox = "x_tkbr_bridge_outbox"
	ours := table == outbox
	var (
		current = maps.Clone(standing)
		found   []map[string]string
		queries [][3]string
		order   string
		limit   int
	)
	known := func(name string) {
		if _, ok := i.app.columns[name]; ours && !ok {
			i.Fatalf("the outbox has no column %q", name)
		}
	}
	rows := func() []map[string]string {
		all := i.outbox
		if !ours {
			all = nil
			for _, t := range i.tickets.Tickets(table) {
				all = append(all, t.Fields)
			}
		}
		var out []map[string]string
		for _, row := range all {
			if !slices.ContainsFunc(queries, func(q [3]string) bool { return !matches(row, q) }) {
				out = append(out, row)
			}
		}
		if order != "" {
			slices.SortStableFunc(out, func(a, b map[string]string) int { return strings.Compare(a[order], b[order]) })
		}
		if limit > 0 && len(out) > limit {
			out = out[:limit]
		}
		return out
	}
	text := func(v goja.Value) string {
		if goja.IsNull(v) || goja.IsUndefined(v) {
			return ""
		}
		return v.String()
	}
	return methods(vm, o, map[string]any{
		"initialize": func() { current = map[string]string{} },
		"addQuery": func(call goja.FunctionCall) goja.Value {
			q := [3]string{call.Argument(0).String(), "=", text(call.Argument(1))}
			if len(call.Arguments) == 3 {
				q[1], q[2] = q[2], text(call.Argument(2))
			}
			known(q[0])
			queries = append(queries, q)
			return goja.Undefined()
		},
		"orderBy":  func(name string) { known(name); order = name },
		"setLimit": func(n int) { limit = n },
		"query":    func() { found = rows() },
		"next": func() bool {
			if len(found) == 0 {
				return false
			}
			current, found = maps.Clone(found[0]), found[1:]
			return true
		},
		"getValue": func(name string) goja.Value {
			known(name)
			if v := current[name]; v != "" {
				return vm.ToValue(v)
			}
			return goja.Null()
		},
		"setValue": func(name string, v goja.Value) {
			known(name)
			if len(text(v)) > i.app.columns[name].max && ours {
				i.Errorf("%s of the outbox holds %d characters, not %d", name, i.app.columns[name].max, len(text(v)))
			}
			current[name] = text(v)
		},
		"getUniqueValue":     func() string { return current["sys_id"] },
		"getRecordClassName": func() string { return current["sys_class_name"] },
		"insert": func() string {
			if !ours {
				i.Fatalf("a script inserts into %s", table)
			}
			i.made++
			current["sys_id"] = fmt.Sprintf("%032x", i.made)
			for name, c := range i.app.columns {
				if current[name] == "" {
					current[name] = c.initial
				}
			}
			i.outbox = append(i.outbox, maps.Clone(current))
			return current["sys_id"]
		},
		"update": func() string {
			if !ours {
				i.Fatalf("a script changes a record of %s", table)
			}
			for _, row := range i.outbox {
				if row["sys_id"] == current["sys_id"] {
					maps.Copy(row, current)
				}
			}
			return current["sys_id"]
		},
		"deleteMultiple": func() {
			gone := rows()
			if !ours {
				i.Fatalf("a script deletes records of %s", table)
			}
			i.outbox = slices.DeleteFunc(i.outbox, func(row map[string]string) bool {
				return slices.ContainsFunc(gone, func(g map[string]string) bool { return g["sys_id"] == row["sys_id"] })
			})
		},
	})
}

// matches judges a condition of addQuery. Times compare as text: ServiceNow keeps them as 2006-01-02 15:04:05, in UTC. Nothing is before or after an empty one.
func matches(row map[string]string, q [3]string) bool {
	value := row[q[0]]
	switch q[1] {
	case "=":
		return value == q[2]
	case "<":
		return value != "" && value < q[2]
	case "<=":
		return value != "" && value <= q[2]
	}
	panic("an operator that nobody here understands: " + q[1])
}

// A message is a REST message of the instance with one of its methods.
type message struct {
	endpoint, method, content string
	header                    http.Header
}

// packaged returns a message of the package.
func (i *instance) packaged(name, method string) message {
	scope, name, _ := strings.Cut(name, ".")
	if scope != "x_tkbr_bridge" {
		i.Fatalf("the REST message %s is of another scope", name)
	}
	parent := i.app.one(i, "sys_rest_message", "name", name)
	fn := i.app.one(i, "sys_rest_message_fn", "function_name", method)
	m := message{endpoint: fn.fields["rest_endpoint"], method: fn.fields["http_method"], content: fn.fields["content"], header: http.Header{}}
	for _, h := range i.app.all("sys_rest_message_headers") {
		if h.fields["rest_message"] == parent.fields["sys_id"] {
			m.header.Set(h.fields["name"], h.fields["value"])
		}
	}
	return m
}

// restMessage is a message of the instance, ready to be changed and sent.
func (i *instance) restMessage(vm *goja.Runtime, o *goja.Object, name, method string) *goja.Object {
	m, byHand := i.messages[name+"/"+method]
	if !byHand {
		m = i.packaged(name, method)
	}
	endpoint, body, header, timeout := m.endpoint, m.content, m.header.Clone(), time.Duration(0)
	if byHand {
		timeout = 10 * time.Second // the instance's own
	}
	put := func(name, inEndpoint, inBody string) {
		endpoint = strings.ReplaceAll(endpoint, "${"+name+"}", inEndpoint)
		body = strings.ReplaceAll(body, "${"+name+"}", inBody)
	}
	return methods(vm, o, map[string]any{
		"setEndpoint":                func(url string) { endpoint = url },
		"setHttpTimeout":             func(ms int) { timeout = time.Duration(ms) * time.Millisecond },
		"setRequestHeader":           func(name, value string) { header.Set(name, value) },
		"setRequestBody":             func(text string) { body = text },
		"getRequestBody":             func() string { return body },
		"setStringParameter":         func(name, value string) { put(name, value, html.EscapeString(value)) },
		"setStringParameterNoEscape": func(name, value string) { put(name, value, value) },
		"setAuthenticationProfile": func(kind, id string) {
			if kind != "oauth2" || id != oauthProfile {
				i.Fatalf("there is no authentication profile %s %s", kind, id)
			}
			header.Set("Authorization", "Bearer "+i.token())
		},
		"execute": func() *goja.Object {
			if i.dies {
				vm.Interrupt("the node died")
				return nil
			}
			if timeout <= 0 || timeout > 30*time.Second {
				i.Errorf("a call that may take %s", timeout)
			}
			req, err := http.NewRequestWithContext(i.Context(), strings.ToUpper(m.method), endpoint, bytes.NewReader([]byte(body)))
			if err != nil {
				i.Fatal(err)
			}
			req.Header = header
			resp, err := i.client.Do(req)
			if err != nil && i.throws {
				panic(vm.NewGoError(err))
			}
			status, said, complaint := 0, "", ""
			retry := goja.Null()
			if err != nil {
				complaint = err.Error()
			} else {
				defer resp.Body.Close()
				text, err := io.ReadAll(resp.Body)
				if err != nil {
					i.Fatal(err)
				}
				status, said = resp.StatusCode, string(text)
				if v := resp.Header.Get("Retry-After"); v != "" {
					retry = vm.ToValue(v)
				}
			}
			return methods(vm, vm.NewObject(), map[string]any{
				"getStatusCode":   func() int { return status },
				"getBody":         func() string { return said },
				"getErrorMessage": func() string { return complaint },
				"getHeader": func(name string) goja.Value {
					if name == "Retry-After" {
						return retry
					}
					return goja.Null()
				},
			})
		},
	})
}

func number(text string) int {
	n, _ := strconv.Atoi(text)
	return n
}
