package servicenow

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"ticketbridge/handler/fault"
	standin "ticketbridge/handler/simulator/servicenow"
	"ticketbridge/handler/ticket"
)

// wire is a transport that gives one answer to every call, with headers that a server could not even send.
type wire struct {
	status int
	header http.Header
	body   string
}

func (w wire) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: w.status, Header: w.header, Body: io.NopCloser(strings.NewReader(w.body)), Request: r}, nil
}

// the reasons that the contract of workflow.Tickets names.
var promised = []fault.Reason{
	fault.Unreachable, fault.Unclear, fault.Throttled, fault.Unauthorized, fault.Forbidden, fault.NotFound, fault.Refused, fault.Misconfigured,
}

func FuzzAnswers(f *testing.F) {
	for _, body := range []string{
		"", "<html>", "[]", "null", `{"result":{}}`, `{"result":[{}]}`, `{"result":[null]}`, `{"result":{"sys_id":"` + aliceID + `","correlation_id":"` + correlationID + `","number":"REQ1"}}`,
		`{"result":[{"sys_id":"` + aliceID + `","correlation_id":"` + correlationID + `","user_name":"alice","active":{"value":true}}]}`,
		`{"result":[{"sys_id":{"link":"https://x/y/` + aliceID + `"},"correlation_id":{"value":{}}}],"error":{"message":"Transaction cancelled","detail":"x"},"status":"failure"}`,
		`{"error":{"message":"No Record found","detail":"Record doesn't exist or ACL restricts the record retrieval"},"status":"failure"}`, `{"error":"x","status":"failure"}`, `{"error":{},"status":"failure"}`, `{"error":{"detail":"Operation Failed"},"status":"failure"}`,
		`{"error":{"message":"Operation Failed","detail":"was aborted by Business Rule 'x^y"},"status":"failure"}`, `{"error":{"message":["x"],"detail":{"value":3}}}`,
		`{"result":{"request_id":"` + aliceID + `","request_number":"REQ1","table":"sc_request"}}`, `{"error":{"message":"Mandatory Variables are required","detail":null},"status":"failure"}`, `{"error":{"message":"Invalid Request"},"status":"failure"}`,
		`{"result":{"sys_id":"` + aliceID + `","name":"x","type":"catalog_item","variables":[{"name":"a","mandatory":true,"children":[{"name":"b"},[],3]},null]}}`,
		`{"result":[{"sc_item_option.value":"` + correlationID + `","request_item":"` + aliceID + `","request":"` + aliceID + `","sys_id":"` + aliceID + `","name":"sc_request","super_class":"` + aliceID + `"}]}`,
		`{"error":{"message":"Operation Failed","detail":"Data Policy Exception: Following fields are mandatory: A, B"},"status":"failure"}`,
	} {
		for _, status := range []int{200, 201, 302, 401, 403, 404, 429, 500} {
			f.Add(status, body, "application/json", "5", "0", "https://developer.servicenow.com/x")
		}
	}
	f.Add(101, "\xff", "text/HTML", "Fri, 31 Dec 9999 23:59:59 GMT", "99999999999", "%zz")
	f.Fuzz(func(t *testing.T, status int, body, contentType, retryAfter, reset, location string) {
		c := client(t, Config{HTTPClient: &http.Client{Transport: wire{status, http.Header{
			"Content-Type": {contentType}, "Retry-After": {retryAfter}, "X-Ratelimit-Reset": {reset}, "Location": {location}, "X-Total-Count": {reset},
		}, body}}})
		check := func(op string, err error, changes bool) {
			t.Helper()
			e, ok := errors.AsType[*fault.Error](err)
			if !ok || !slices.Contains(promised, e.Reason) || e.Detail == "" {
				t.Fatalf("%s: %#v is not promised", op, err)
			}
			if e.Reason == fault.Unclear && !changes || e.Reason == fault.Unreachable && changes && status != 421 && status != 425 {
				t.Errorf("%s: %v", op, err)
			}
			if e.Reason == fault.NotFound && status != 404 || e.After < 0 || e.After > time.Hour || len([]rune(e.Detail)) > 400 || strings.ContainsAny(err.Error(), "\n\r") || strings.Contains(err.Error(), password) {
				t.Errorf("%s: %v", op, err)
			}
		}
		sound := func(op string, want int, recs ...ticket.Record) {
			t.Helper()
			for _, rec := range recs {
				if status != want || !validSysID(rec.SysID) || op != "read" && rec.CorrelationID != correlationID || op == "read" && !strings.EqualFold(rec.SysID, aliceID) {
					t.Errorf("%s takes %q with %d for %+v", op, body, status, rec)
				}
			}
		}
		if found, err := c.Find(t.Context(), "sc_request", correlationID); err != nil {
			check("find", err, false)
		} else if sound("find", 200, found...); status != 200 {
			t.Errorf("found none with %d", status)
		}
		if rec, err := c.Create(t.Context(), draft, correlationID); err != nil {
			check("create", err, true)
		} else {
			sound("create", 201, rec)
		}
		if rec, err := c.Read(t.Context(), "sc_request", aliceID); err != nil {
			check("read", err, false)
		} else {
			sound("read", 200, rec)
		}
		if found, err := c.Find(t.Context(), "sc_req_item", correlationID); err != nil {
			check("find ordered", err, false)
		} else if sound("find ordered", 200, found...); status != 200 {
			t.Errorf("found none with %d", status)
		}
		knowing(c)
		if rec, err := c.Create(t.Context(), ordered, correlationID); err != nil {
			check("order", err, true)
		} else {
			t.Errorf("one answer to three different calls is taken for an order: %+v", rec)
		}
		if item, err := c.Item(t.Context(), aliceID); err != nil {
			check("item", err, false)
		} else if status != 200 || !strings.EqualFold(item.SysID, aliceID) {
			t.Errorf("an item with %d: %+v", status, item)
		}
		if table, err := c.Describe(t.Context(), "sc_request"); err != nil {
			check("describe", err, false)
		} else if status != 200 || len(table.Columns) == 0 {
			t.Errorf("a table with %d: %+v", status, table)
		}
		if _, found, err := c.FindGroup(t.Context(), "Service Desk"); err != nil {
			check("find group", err, false)
		} else if found && status != 200 {
			t.Errorf("a group with %d", status)
		}
		if err := c.Note(t.Context(), "sc_request", aliceID, "x"); err != nil {
			check("note", err, true)
		} else if status != 200 {
			t.Errorf("a note with %d", status)
		}
		if id, found, err := c.FindUser(t.Context(), "alice", "alice@example.com"); err != nil {
			check("find user", err, false)
		} else if status != 200 || found != validSysID(id) {
			t.Errorf("found %q, %v with %d", id, found, status)
		}
	})
}

func FuzzTokenAnswers(f *testing.F) {
	for _, body := range []string{`{"access_token":"x","expires_in":1800}`, `{"access_token":"x","expires_in":"1e9"}`, `{"access_token":"a\nb"}`, `{"error":"server_error","error_description":"access_denied"}`, `[]`, ``, `<html>`} {
		for _, status := range []int{200, 201, 302, 400, 401, 403, 404, 429, 500} {
			f.Add(status, body)
		}
	}
	f.Fuzz(func(t *testing.T, status int, body string) {
		cfg := clientCredentials
		cfg.HTTPClient = &http.Client{Transport: wire{status, http.Header{}, body}}
		c := client(t, cfg)
		token, ends, err := c.oauthToken(t.Context(), cfg.ClientID, cfg.ClientSecret)
		if err == nil {
			if life := time.Until(ends); status != 200 || token == "" || life <= 0 || life > 24*time.Hour {
				t.Errorf("%q with %d gives %q for %s", body, status, token, life)
			}
		} else if e, ok := errors.AsType[*fault.Error](err); !ok || e.Reason == fault.Unclear || e.Reason == fault.NotFound || e.Detail == "" || strings.Contains(err.Error(), password) {
			t.Errorf("%#v", err)
		}
		if name, value, err := c.auth.header(t.Context(), ""); err == nil && (name != "Authorization" || strings.ContainsFunc(strings.TrimPrefix(value, "Bearer "), func(r rune) bool { return r <= ' ' || r > '~' })) {
			t.Errorf("%s: %q cannot be sent", name, value)
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	for _, text := range []string{"", "0", "5", "-1", "1.5", "99999999999999999999", "-99999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 GMT", "9223372036854775807", "+3"} {
		f.Add(text, "1700000000", 429)
		f.Add("", text, 429)
		f.Add(text, text, 503)
	}
	f.Fuzz(func(t *testing.T, retryAfter, reset string, status int) {
		d := after(status, http.Header{"Retry-After": {retryAfter}, "X-Ratelimit-Reset": {reset}})
		if d < 0 || d > time.Hour {
			t.Errorf("after %s", d)
		}
		if status != 429 && strings.TrimSpace(retryAfter) == "" && d != 0 {
			t.Errorf("a rate rule that was not met sends us away for %s", d)
		}
	})
}

// Whatever a user is called, nobody else is found.
func FuzzUserNames(f *testing.F) {
	instance, err := standin.New(standin.Config{Users: []standin.User{
		{UserName: "bridge", Password: password}, {UserName: "alice@example.com", Email: "alice@example.com"}, {UserName: "o'hara", Email: "é@example.com"},
	}})
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range []string{"alice@example.com", "O'HARA", "^ORactive=true", "x^NQuser_nameISNOTEMPTY", "javascript:1", "=bridge", "!=x", "\x00", "é@example.com", "Ⅷ", "ſ", "K"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		c := client(t, Config{HTTPClient: instance.Client()})
		_, found, err := c.FindUser(t.Context(), name, name)
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		known := slices.ContainsFunc([]string{"bridge", "alice@example.com", "o'hara", "é@example.com"}, func(s string) bool { return strings.EqualFold(s, name) })
		if found && !known {
			t.Errorf("%q found somebody", name)
		}
	})
}

// What is cleaned is one short line without addresses and secrets, whatever comes.
func FuzzMessages(f *testing.F) {
	for _, text := range []string{"Invalid table x", "for 'Alice Example'", "'", `"'"`, "a@b", password, "//u:p@x", "\xff\u2028", strings.Repeat("é", 300), "t0\xffken", "Ali\xabce"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := client(t, Config{})
		c.hide.token("t0ken")
		a := &answer{call: call{body: draft.Fields, table: "sc_request"}, hide: &c.hide}
		got := a.clean(text)
		if n := len([]rune(got)); n > 200 || strings.ContainsAny(got, "\n\r\t\u2028\u2029") || !slices.Equal([]byte(strings.ToValidUTF8(got, "")), []byte(got)) {
			t.Errorf("%q became %q", text, got)
		}
		for _, secret := range []string{password, "t0ken"} {
			if strings.Contains(got, secret) {
				t.Errorf("%q became %q", text, got)
			}
		}
		for _, w := range word.FindAllString(got, -1) {
			if strings.EqualFold(w, "alice") || strings.EqualFold(w, "example") || w == aliceID {
				t.Errorf("%q became %q", text, got)
			}
		}
	})
}
