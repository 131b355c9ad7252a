package servicenow

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ticketbridge/handler/fault"
	"ticketbridge/handler/simulator/misbehave"
	standin "ticketbridge/handler/simulator/servicenow"
)

// operations are all calls of a Client, in the order of the reasons in the tables below.
var operations = []struct {
	name string
	call func(*testing.T, *Client) error
}{
	{"find", func(t *testing.T, c *Client) error {
		_, err := c.Find(t.Context(), "sc_request", correlationID)
		return err
	}},
	{"find user", func(t *testing.T, c *Client) error {
		_, _, err := c.FindUser(t.Context(), "alice", "alice@example.com")
		return err
	}},
	{"find group", func(t *testing.T, c *Client) error {
		_, _, err := c.FindGroup(t.Context(), "Service Desk")
		return err
	}},
	{"find item", func(t *testing.T, c *Client) error { _, err := c.Item(t.Context(), aliceID); return err }},
	{"describe", func(t *testing.T, c *Client) error { _, err := c.Describe(t.Context(), "sc_request"); return err }},
	{"read", func(t *testing.T, c *Client) error { _, err := c.Read(t.Context(), "sc_request", aliceID); return err }},
	{"create", func(t *testing.T, c *Client) error { _, err := c.Create(t.Context(), draft, correlationID); return err }},
	{"order", func(t *testing.T, c *Client) error {
		knowing(c)
		_, err := c.Create(t.Context(), ordered, correlationID)
		return err
	}},
	{"note", func(t *testing.T, c *Client) error {
		return c.Note(t.Context(), "sc_request", aliceID, "a note to Alice Example")
	}},
}

// changing are those that change something.
var changing = []string{"create", "order", "note"}

// reasons are those of the operations, in their order.
type reasons [9]fault.Reason

func all(r fault.Reason) reasons { return looksAndChanges(r, r) }

func looksAndChanges(looks, changes fault.Reason) (r reasons) {
	for i, op := range operations {
		if r[i] = looks; slices.Contains(changing, op.name) {
			r[i] = changes
		}
	}
	return r
}

// ofRecords are all one reason, but another for the operations on one record.
func ofRecords(record, others fault.Reason) (r reasons) {
	for i, op := range operations {
		if r[i] = others; op.name == "read" || op.name == "note" {
			r[i] = record
		}
	}
	return r
}

// meaning says what each status means, in the answer's three shapes: ServiceNow's own error, a page, nothing.
func meaning(status int) (own, page, nothing reasons) {
	same := func(r reasons) (a, b, c reasons) { return r, r, r }
	uncertain := looksAndChanges(fault.Unreachable, fault.Unclear)
	switch status {
	case 401:
		return same(all(fault.Unauthorized))
	case 403:
		return all(fault.Forbidden), all(fault.Forbidden), all(fault.Forbidden)
	case 404: // the record is gone only when ServiceNow says so of a record
		return ofRecords(fault.NotFound, fault.Misconfigured), all(fault.Misconfigured), all(fault.Misconfigured)
	case 405, 406, 407, 415:
		return same(all(fault.Misconfigured))
	case 408:
		return same(uncertain)
	case 421, 425:
		return same(all(fault.Unreachable))
	case 429:
		return same(all(fault.Throttled))
	}
	switch status / 100 {
	case 3:
		return same(all(fault.Misconfigured))
	case 4:
		return same(looksAndChanges(fault.Misconfigured, fault.Refused))
	default: // 2xx with none of the answers that mean success, and 5xx
		return same(uncertain)
	}
}

func TestEveryStatusHasItsReason(t *testing.T) {
	t.Parallel()
	for s := 200; s < 600; s++ {
		own, page, nothing := meaning(s)
		for _, tc := range []struct {
			name  string
			shape [2]string
			want  reasons
		}{
			{"ServiceNow's own", [2]string{"application/json;charset=UTF-8", `{"error":{"message":"A message","detail":"a detail"},"status":"failure"}`}, own},
			{"a page", [2]string{"text/html", "<html><body>A page</body></html>"}, page},
			{"nothing", [2]string{"text/plain", ""}, nothing},
		} {
			c := client(t, Config{HTTPClient: &http.Client{Transport: wire{s, http.Header{"Content-Type": {tc.shape[0]}}, tc.shape[1]}}})
			for i, op := range operations {
				err := op.call(t, c)
				if err == nil {
					t.Errorf("%s of %s with %d: no error", op.name, tc.name, s)
					continue
				}
				if e := failed(t, err, tc.want[i], fmt.Sprint(s)); e.Status != s || e.Detail == "" {
					t.Errorf("%s of %s with %d: %+v", op.name, tc.name, s, e)
				}
			}
		}
	}
}

// A record with another status than the documented one is no success: 202 drops the call, and what a gateway makes of an answer is not known.
func TestOnlyTheDocumentedStatusIsASuccess(t *testing.T) {
	t.Parallel()
	record := `{"sys_id":"` + aliceID + `","number":"REQ1","correlation_id":"` + correlationID + `","user_name":"alice","name":"Service Desk"}`
	for s := 200; s < 300; s++ {
		for _, op := range operations {
			body, want := `{"result":`+record+`}`, 200
			switch op.name {
			case "find item", "describe", "order": // more than one call: tried in tests of their own
				continue
			case "find", "find user", "find group":
				body = `{"result":[` + record + `]}`
			case "create":
				want = 201
			}
			err := op.call(t, answered(t, says(s, body)))
			if (err == nil) != (s == want) {
				t.Errorf("%s with %d: %v", op.name, s, err)
			}
		}
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		in := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
		at := func(d time.Duration) string { return fmt.Sprint(time.Now().Add(d).Unix()) }
		for _, tc := range []struct {
			name              string
			status            int
			retryAfter, reset string
			want              time.Duration
		}{
			{"nothing, as when there is no free worker", 429, "", "", 0},
			{"seconds", 429, "120", "", 2 * time.Minute},
			{"seconds with space around", 429, " 120 ", "", 2 * time.Minute},
			{"zero", 429, "0", "", 0},
			{"less than zero", 429, "-5", "", 0},
			{"more than an hour", 429, "86400", "", time.Hour},
			{"more than a number holds", 429, "99999999999999999999", "", time.Hour},
			{"a date", 429, in(90 * time.Second), "", 90 * time.Second},
			{"a date in the past", 429, in(-time.Minute), "", 0},
			{"a date in many years", 429, "Fri, 31 Dec 9999 23:59:59 GMT", "", time.Hour},
			{"neither, and a reset", 429, "soon", at(40 * time.Second), 40 * time.Second},
			{"a fraction", 429, "1.5", "", 0},
			{"Retry-After goes before the reset", 429, "5", at(time.Minute), 5 * time.Second},
			{"a reset", 429, "", at(40 * time.Minute), 40 * time.Minute},
			{"a reset in the past", 429, "", at(-time.Minute), 0},
			{"a reset in many years", 429, "", "99999999999", time.Hour},
			{"a reset that is no number", 429, "", "soon", 0},
			{"a reset in seconds from now", 429, "", "30", 30 * time.Second},
			{"an error that says when", 503, "60", "", time.Minute},
			{"an error beside a rate rule that was not met", 503, "", at(40 * time.Minute), 0},
			{"a rate rule that was not met", 500, "", at(40 * time.Minute), 0},
		} {
			c := answered(t, func(w http.ResponseWriter, _ *http.Request) {
				for name, v := range map[string]string{"Retry-After": tc.retryAfter, "X-RateLimit-Reset": tc.reset} {
					if v != "" {
						w.Header().Set(name, v)
					}
				}
				w.WriteHeader(tc.status)
			})
			_, err := c.Create(t.Context(), draft, correlationID)
			if got := fault.After(err); got != tc.want {
				t.Errorf("%s: after %s, want %s (%v)", tc.name, got, tc.want, err)
			}
		}
	})
}

func TestARateRuleSlowsUsDownAndBreaksNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, func(c *standin.Config) {
			c.RateRules = []standin.RateRule{{Path: requests, Method: "POST", PerHour: 1}}
		})
		time.Sleep(20 * time.Minute) // the bubble begins on the hour
		s.create()
		_, err := s.Create(t.Context(), draft, otherID)
		if e := failed(t, err, fault.Throttled, "Rate limit exceeded"); e.After != 40*time.Minute {
			t.Errorf("after %s, want 40 minutes", e.After)
		}
		time.Sleep(fault.After(err))
		if _, err := s.Create(t.Context(), draft, otherID); err != nil {
			t.Error(err)
		}
		s.Faults.Add(standin.SemaphoresExhausted("GET", 1))
		_, err = s.Find(t.Context(), "sc_request", otherID)
		if e := failed(t, err, fault.Throttled, "rate limit rule of its own"); e.After != 0 {
			t.Errorf("after %s, and nobody said so", e.After)
		}
		if s.Creations()[otherID] != 1 {
			t.Errorf("created %v", s.Creations())
		}
	})
}

func TestARedirectIsNotFollowed(t *testing.T) {
	t.Parallel()
	var followed atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Add(1) }))
	t.Cleanup(elsewhere.Close)
	for _, status := range []int{301, 302, 303, 307, 308} {
		for location, detail := range map[string]string{
			elsewhere.URL + "/login.do?user=alice@example.com": "the answer is a redirect to " + elsewhere.URL, "/login.do": "the answer is a redirect", "": "the answer is a redirect", "%zz": "the answer is a redirect",
		} {
			from := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if location != "" {
					w.Header().Set("Location", location)
				}
				w.WriteHeader(status)
			}))
			c := client(t, Config{URL: from.URL})
			_, err := c.Create(t.Context(), draft, correlationID)
			if e := failed(t, err, fault.Misconfigured, "SERVICENOW_URL"); e.Detail != detail {
				t.Errorf("%d to %q: %v", status, location, e)
			}
			from.Close()
		}
	}
	if n := followed.Load(); n != 0 {
		t.Errorf("followed %d times", n)
	}
	asleep := answered(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "https://developer.servicenow.com/dev.do#!/wake")
		w.WriteHeader(302)
	})
	_, err := asleep.Create(t.Context(), draft, correlationID)
	failed(t, err, fault.Unclear, "wake it up")
	_, err = asleep.Find(t.Context(), "sc_request", correlationID)
	failed(t, err, fault.Unreachable, "wake it up")
}

func TestAnInstanceThatIsAsleepOrUnderMaintenanceIsUnreachable(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	remove := s.Faults.Add(standin.Hibernating())
	for _, op := range operations {
		want := fault.Unreachable
		if slices.Contains(changing, op.name) {
			want = fault.Unclear
		}
		failed(t, op.call(t, s.Client), want, "a page for people", "wake it up")
	}
	remove()
	s.Faults.Add(standin.Maintenance(1))
	_, err := s.Find(t.Context(), "sc_request", correlationID)
	failed(t, err, fault.Unreachable, "under maintenance")
	s.Faults.Add(misbehave.Fault{Times: 1, Body: `<?xml version="1.0"?><x/>`, ContentType: "application/json"})
	_, err = s.Find(t.Context(), "sc_request", correlationID)
	failed(t, err, fault.Unreachable, "a page for people")
}

func TestTheHeadersThatServiceNowWantsAreSent(t *testing.T) {
	t.Parallel()
	for _, op := range operations {
		calls := 0
		c := client(t, Config{UserAgent: "ticketbridge/1.2", HTTPClient: &http.Client{Transport: misbehave.Transport(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			calls++
			if r.Header.Get("Accept") != "application/json" || r.Header.Get("Content-Type") != "application/json" || r.UserAgent() != "ticketbridge/1.2" || !strings.HasPrefix(r.URL.Path, "/api/now/v2/table/") && !strings.HasPrefix(r.URL.Path, "/api/sn_sc/servicecatalog/items/"+aliceID) {
				t.Errorf("%s sent %s %v", op.name, r.URL.Path, r.Header)
			}
			w.WriteHeader(500)
		}))}})
		if err := op.call(t, c); err == nil || calls != 1 {
			t.Errorf("%s: %d calls, %v", op.name, calls, err)
		}
	}
}
