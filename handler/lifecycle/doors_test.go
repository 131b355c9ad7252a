package lifecycle

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/servicenow"
)

// nothing fails the test when a call that was refused left something behind.
func (w *world) nothing() {
	w.Helper()
	if n := w.listed(); n != 0 {
		w.Errorf("%d requests are on record", n)
	}
	if all := w.serviceNow.Tickets("task"); len(all) != 0 {
		w.Errorf("%d tickets were created", len(all))
	}
	if told := w.entra.Resumes(""); len(told) != 0 {
		w.Errorf("Graph was told %+v", told)
	}
	if worked := w.log.all(func(l line) bool {
		return l.str("function") == "advance" || l.str("event") == "received" || l.str("event") == "closeNotified"
	}); len(worked) != 0 {
		w.Errorf("the handler worked on it: %s", worked[0].text)
	}
}

func TestACalloutOfAnybodyElseIsRefusedAndLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, plan{})
	good := entra.Token{Audience: audience, AppID: entra.CallerID}
	bent := func(change func(*entra.Token)) string {
		token := good
		change(&token)
		return w.entra.IssueToken(token)
	}
	for _, c := range []struct {
		name, key, token string
		status           int
	}{
		{"nothing at all", "", "", http.StatusUnauthorized},
		{"a token and no key", "", w.entra.IssueToken(good), http.StatusUnauthorized},
		{"a wrong key", "no-key", w.entra.IssueToken(good), http.StatusUnauthorized},
		{"the key and no token", w.keys.Default, "", http.StatusUnauthorized},
		{"what is no token", w.keys.Default, "x", http.StatusUnauthorized},
		{"a token signed by a stranger", w.keys.Default, bent(func(t *entra.Token) { t.Stranger = true }), http.StatusUnauthorized},
		{"a token that nobody signed", w.keys.Default, bent(func(t *entra.Token) { t.Header = map[string]any{"alg": "none"} }), http.StatusUnauthorized},
		{"a token signed with the published key as a password", w.keys.Default, bent(func(t *entra.Token) { t.Header = map[string]any{"alg": "HS256"} }), http.StatusUnauthorized},
		{"a token for somebody else", w.keys.Default, bent(func(t *entra.Token) { t.Audience = "https://management.azure.com" }), http.StatusUnauthorized},
		{"a token that is over", w.keys.Default, bent(func(t *entra.Token) { t.Lifetime = -time.Hour }), http.StatusUnauthorized},
		{"a token of another tenant", w.keys.Default, bent(func(t *entra.Token) { t.Claims = map[string]any{"tid": uuid.NewString()} }), http.StatusUnauthorized},
		{"a good token of another application", w.keys.Default, bent(func(t *entra.Token) { t.AppID = closerApp }), http.StatusForbidden},
	} {
		header := http.Header{}
		if c.key != "" {
			header.Set("X-Functions-Key", c.key)
		}
		if c.token != "" {
			header.Set("Authorization", "Bearer "+c.token)
		}
		status, answer, body := w.post(w.front.url()+"/api/callout", header, calloutBody(uuid.NewString(), uuid.NewString()))
		if status != c.status {
			t.Errorf("%s: answered %d %s", c.name, status, body)
		}
		if c.key == w.keys.Default && (!strings.HasPrefix(answer.Get("Www-Authenticate"), "Bearer ") || answer.Get("Content-Type") != "application/problem+json") {
			t.Errorf("%s: the answer does not say what is asked for: %v", c.name, answer)
		}
		if c.token != "" && strings.Contains(body, c.token) && len(c.token) > 1 {
			t.Errorf("%s: the answer repeats the token", c.name)
		}
	}
	w.sweeps(1)
	w.nothing()

	// The very same call with what belongs to it.
	request, id := uuid.NewString(), uuid.NewString()
	if _, _, err := w.calls(calloutBody(request, id)); err != nil {
		t.Errorf("the call with key and token: %v", err)
	}
	w.becomes(fmtKey(request, id), "open")
}

func TestAForgedNotificationResumesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, plan{})
	request := w.ledger()
	ticket := w.ticket(request, 0)
	key := w.callouts(request)[0].key()
	w.becomes(key, "open")
	token, _ := w.closersToken(w.ctx)
	bodies := []string{
		`{"correlation_id":"` + key + `","state":"3","request_state":"closed_complete","active":"false"}`,
		`{"table":"sc_request","sys_id":"` + ticket.SysID + `","number":"` + ticket.Number + `","state":"closed_complete"}`,
		`{"AccessPackageAssignmentRequestId":"` + strings.Split(key, "/")[0] + `","StageInstanceId":"` + strings.Split(key, "/")[1] + `"}`,
		`{"data":{"customExtensionStageInstanceId":"` + strings.Split(key, "/")[1] + `","state":"Denied"},"requestId":"` + strings.Split(key, "/")[0] + `"}`,
	}
	// Without what proves that it is ServiceNow: not taken. With it: taken, and not believed.
	calls := w.serviceNow.Calls()["GET /api/now/v2/table/sc_request/{sys_id}"]
	for _, body := range bodies {
		for _, c := range []struct {
			header http.Header
			status int
		}{
			{http.Header{}, http.StatusUnauthorized},
			{http.Header{"X-Functions-Key": {w.keys.Default}}, http.StatusUnauthorized},
			{http.Header{"X-Functions-Key": {w.keys.Default}, "Authorization": {"Bearer " + w.entra.IssueToken(entra.Token{Audience: audience, AppID: entra.CallerID})}}, http.StatusForbidden},
			{http.Header{"X-Functions-Key": {w.keys.Default}, "Authorization": {"Bearer " + token}}, http.StatusAccepted},
		} {
			if status, _, answer := w.post(w.front.url()+"/api/ticket-closed", c.header, []byte(body)); status != c.status {
				t.Errorf("%s: answered %d %s, not %d", body, status, answer, c.status)
			}
		}
	}
	// The ticket was read, and read as open, for each of those that were taken and by the sweep.
	w.until("the ticket to be read", func() bool {
		return w.serviceNow.Calls()["GET /api/now/v2/table/sc_request/{sys_id}"] >= calls+len(bodies)
	})
	w.sweeps(2)
	if told := w.entra.Resumes(request); len(told) != 0 {
		t.Errorf("the ticket is open, and Graph was told %+v", told)
	}
	if r, _ := w.entra.Request(request); !entra.IsWaiting(r) {
		t.Errorf("the request is %s (%s)", r.State, r.Status)
	}
	w.becomes(key, "open")

	w.closeTicket(request, 0, servicenow.Closing{Outcome: servicenow.Complete})
	if r := w.over(request); r.MyAccess != "Delivered" {
		t.Errorf("My Access shows %q", r.MyAccess)
	}
	w.becomes(key, "resumed")
	w.once(request)
}

// raw sends a request target as it stands, past whatever would clean it, and returns the status of the answer.
func (w *world) raw(address, method, target string, header http.Header, body string) int {
	w.Helper()
	var d net.Dialer
	c, err := d.DialContext(w.ctx, "tcp", address)
	w.check(err)
	defer c.Close()
	deadline, _ := w.ctx.Deadline()
	w.check(c.SetDeadline(deadline))
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n", method, target, len(body))
	for name := range header {
		fmt.Fprintf(&b, "%s: %s\r\n", name, header.Get(name))
	}
	b.WriteString("\r\n" + body)
	_, err = c.Write([]byte(b.String()))
	w.check(err)
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		w.Errorf("%s %s: %v", method, target, err)
		return 0
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func TestNoPathLeadsFromTheConsoleToAnotherFunction(t *testing.T) {
	t.Parallel()
	for name, app := range map[string]func(map[string]any){"proxying": nil, "forwarding": forwarding} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, plan{app: app})
			address := strings.TrimPrefix(w.host(0).URL(), "http://")
			// Even with the token of the one who may call: what is missing is the key, which the host asks for on every way but the console's.
			header := http.Header{"Authorization": {"Bearer " + w.entra.IssueToken(entra.Token{Audience: audience, AppID: entra.CallerID})}}
			request, id := uuid.NewString(), uuid.NewString()
			bodies := []string{
				string(calloutBody(request, id)),
				`{"correlation_id":"` + fmtKey(request, id) + `"}`,
				`{"Data":{"msg":"\"{\\\"ticketbridge\\\":{\\\"request\\\":\\\"` + request + `\\\",\\\"stage\\\":\\\"` + id + `\\\",\\\"why\\\":\\\"closed\\\"}}\""},"Metadata":{"DequeueCount":"1"}}`,
			}
			tried := 0
			for _, function := range []string{"callout", "ticket-closed", "advance", "sweep"} {
				for _, up := range []string{
					"..%2f", "%2e%2e%2f", "%2e%2e/", "../", "..%2F..%2F", "%2e%2e%2f%2e%2e%2f", "..%252f", "%252e%252e%252f", "..%5c", "..%255c", "..\\", ".%2e/", "x/..%2f..%2f",
					"..;/", "./..%2f", "%2f", "//", "%2e/", "..%c0%af", "..%2fapi/", "..%2f..%2fapi%2f", "%00/../", "..%2f%2f", "..//",
				} {
					for _, base := range []string{"/api/console/", "/API/Console/", "/api/console/requests/"} {
						for _, body := range bodies {
							status := w.raw(address, http.MethodPost, base+up+function, header, body)
							tried++
							if status < 400 {
								t.Errorf("POST %s is answered %d", base+up+function, status)
							}
						}
					}
				}
			}
			for _, target := range []string{"/advance", "/sweep", "/api/advance", "/api/sweep", "//advance", "/api/callout", "/api/callout/", "/api/ticket-closed", "/admin/functions/advance"} {
				for _, body := range bodies {
					tried++
					if status := w.raw(address, http.MethodPost, target, header, body); status < 400 {
						t.Errorf("POST %s is answered %d", target, status)
					}
				}
			}
			w.sweeps(1)
			w.nothing()
			reached := w.log.all(func(l line) bool {
				return l.str("event") == "invocation" && l.str("function") != "none" && l.str("function") != "console" && l.str("function") != "sweep"
			})
			for _, l := range reached {
				t.Errorf("one of %d calls reached a function: %s", tried, l.text)
			}
			if handed := w.log.all(func(l line) bool { return l.str("function") == "none" }); len(handed) == 0 {
				t.Error("none of the calls reached the handler at all: nothing was tried")
			}
			// The console itself is there.
			if status := w.raw(address, http.MethodGet, "/api/console/", http.Header{}, ""); status != http.StatusOK {
				t.Errorf("GET /api/console/ is answered %d", status)
			}
		})
	}
}
