package servicenow_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ticketbridge/handler/callers"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/simulator/misbehave"
	"ticketbridge/handler/simulator/servicenow"
)

// listener keeps what it was told.
type listener struct {
	mu      sync.Mutex
	status  int
	bodies  []string
	headers []http.Header
	paths   []string
}

func (l *listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bodies, l.headers, l.paths = append(l.bodies, string(body)), append(l.headers, r.Header), append(l.paths, r.URL.RequestURI())
	if l.status != 0 {
		w.WriteHeader(l.status)
	}
}

func (s *site) await() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	if err := s.AwaitNotifications(ctx); err != nil {
		s.t.Fatal(err)
	}
}

func listen(t *testing.T, s *site, rule servicenow.Notification) *listener {
	l := &listener{}
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)
	rule.URL = server.URL + rule.URL
	s.SetNotifications(rule)
	return l
}

func TestAClosedTicketWithACorrelationIDIsNotified(t *testing.T) {
	t.Parallel()
	s := start(t)
	l := listen(t, s, servicenow.Notification{URL: "/api/ticket-closed", Header: http.Header{"x-functions-key": {"key"}}})
	rec := s.create("sc_request", map[string]string{"correlation_id": "a/b"})
	path := fmt.Sprintf("/api/now/v2/table/sc_request/%s", rec["sys_id"])
	s.do("PATCH", path, map[string]string{"request_state": "in_process"}).want(200)
	s.create("sc_request", map[string]string{"correlation_id": "c/d", "request_state": "closed_complete"}) // made closed: no change to notify of
	foreign := s.create("sc_request", nil)
	s.do("PATCH", fmt.Sprintf("/api/now/v2/table/sc_request/%s", foreign["sys_id"]), map[string]string{"request_state": "closed_complete"}).want(200)
	s.await()
	if len(l.bodies) != 0 {
		t.Fatalf("notified of nothing: %v", l.bodies)
	}
	s.do("PATCH", path, map[string]string{"request_state": "closed_complete"}).want(200)
	s.do("PATCH", path, map[string]string{"close_notes": "later"}).want(200)
	s.await()
	if len(l.bodies) != 1 {
		t.Fatalf("%d notifications, want 1: %v", len(l.bodies), l.bodies)
	}
	var body map[string]string
	if err := json.Unmarshal([]byte(l.bodies[0]), &body); err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"table": "sc_request", "sys_id": rec["sys_id"].(string), "number": rec["number"].(string), "state": "3", "correlation_id": "a/b"}; fmt.Sprint(body) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", body, want)
	}
	if h := l.headers[0]; h.Get("X-Functions-Key") != "key" || h.Get("Content-Type") != "application/json" {
		t.Errorf("%v", h)
	}
	if sent := s.Notifications(); len(sent) != 1 || sent[0].Status != 200 || sent[0].SysID != rec["sys_id"] {
		t.Errorf("%+v", sent)
	}
}

func TestAnIncidentIsNotifiedWhenResolvedAndAgainWhenClosed(t *testing.T) {
	t.Parallel()
	s := start(t)
	l := listen(t, s, servicenow.Notification{})
	rec := s.create("incident", map[string]string{"correlation_id": "a/b"})
	if err := s.Close(rec["sys_id"].(string), servicenow.Closing{Outcome: servicenow.Complete}); err != nil {
		t.Fatal(err)
	}
	s.await()
	s.CloseResolved(7 * 24 * time.Hour)
	if got, _ := s.Ticket(rec["sys_id"].(string)); got.Fields["state"] != "6" || !got.Active {
		t.Errorf("%v", got.Fields)
	}
	s.CloseResolved(0)
	s.await()
	if got, _ := s.Ticket(rec["sys_id"].(string)); got.Fields["state"] != "7" || got.Active {
		t.Errorf("%v", got.Fields)
	}
	if len(l.bodies) != 2 || !strings.Contains(l.bodies[0], `"state":"6"`) || !strings.Contains(l.bodies[1], `"state":"7"`) {
		t.Errorf("%v", l.bodies)
	}
}

func TestTheBodiesOfANotification(t *testing.T) {
	t.Parallel()
	for body, want := range map[servicenow.Body]string{
		servicenow.MinimalBody:  `{"sys_id":"ID","table":"sc_req_item"}`,
		servicenow.TutorialBody: `{"AccessPackageAssignmentRequestId":"req","AccessPackageAssignmentStage":"assignmentRequestApproved","StageInstanceId":"stage"}`,
		servicenow.ResumeBody: `{"data":{"@odata.type":"#microsoft.graph.accessPackageAssignmentRequestCallbackData","customExtensionStageInstanceDetail":"Resuming-Assignment for user",` +
			`"customExtensionStageInstanceId":"stage","stage":"assignmentRequestApproved"},"source":"ServiceNow","type":"microsoft.graph.accessPackageCustomExtensionStage.assignmentRequestApproved"}`,
	} {
		s := start(t, func(c *servicenow.Config) { c.TutorialColumns = true })
		l := listen(t, s, servicenow.Notification{Body: body, URL: "/x/${AccessPackageAssignmentRequestId}?s=${StageInstanceId}", EveryUpdate: true, Tables: []string{"sc_req_item"}})
		fields := map[string]string{"u_accesspackageassignmentrequestid": "req", "u_accesspackageassignmentstage": "assignmentRequestApproved", "u_stageinstanceid": "stage"}
		id := s.create("sc_req_item", fields)["sys_id"].(string)
		other := s.create("sc_request", fields)["sys_id"].(string)
		for _, id := range []string{id, other} {
			for _, closing := range []servicenow.Closing{{Outcome: servicenow.Complete}, {Notes: "once more"}} {
				if err := s.Close(id, closing); err != nil {
					t.Fatal(err)
				}
			}
		}
		s.await()
		if len(l.bodies) != 2 || l.bodies[0] != strings.Replace(want, "ID", id, 1) || l.paths[0] != "/x/req?s=stage" {
			t.Errorf("%s: %v %v\nwant %s", body, l.bodies, l.paths, want)
		}
	}
}

func TestANotificationProvesItself(t *testing.T) {
	t.Parallel()
	s := start(t)
	key := []byte("0123456789abcdef")
	l := listen(t, s, servicenow.Notification{
		HMACKey: base64.StdEncoding.EncodeToString(key), Token: func(context.Context) (string, error) { return "token", nil },
	})
	if err := s.Close(s.create("task", map[string]string{"correlation_id": "a"})["sys_id"].(string), servicenow.Closing{Outcome: servicenow.Cancelled}); err != nil {
		t.Fatal(err)
	}
	s.await()
	h := l.headers[0]
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(h.Get("X-Ticketbridge-Timestamp") + "." + l.bodies[0]))
	if h.Get("X-Ticketbridge-Signature") != base64.StdEncoding.EncodeToString(mac.Sum(nil)) || h.Get("Authorization") != "Bearer token" {
		t.Errorf("%v", h)
	}
}

func TestASignedNotificationPassesTheCheckOfCallersAndOneWithAnotherKeyDoesNot(t *testing.T) {
	t.Parallel()
	ours, theirs := base64.StdEncoding.EncodeToString([]byte("our key of 32 bytes, more or less")), base64.StdEncoding.EncodeToString([]byte("somebody else's key, as long as ours"))
	verifier, err := callers.New(callers.Config{Setting: "CLOSE", HMACKeys: ours})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		key    string
		want   fault.Reason
		change func(body []byte) []byte
	}{
		"our key":                   {key: ours},
		"another key":               {key: theirs, want: fault.Unauthorized},
		"no key":                    {want: fault.Unauthorized},
		"a body on its way changed": {key: ours, want: fault.Unauthorized, change: func(body []byte) []byte { return bytes.Replace(body, []byte("task"), []byte("tusk"), 1) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			checked := make(chan error, 1)
			server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if tc.change != nil {
					body = tc.change(body)
				}
				checked <- verifier.Check(r, body)
			}))
			t.Cleanup(server.Close)
			s.SetNotifications(servicenow.Notification{URL: server.URL, HMACKey: tc.key})
			if err := s.Close(s.create("task", map[string]string{"correlation_id": "a"})["sys_id"].(string), servicenow.Closing{Outcome: servicenow.Complete}); err != nil {
				t.Fatal(err)
			}
			s.await()
			if err := <-checked; fault.ReasonOf(err) != tc.want {
				t.Errorf("checked: %v, want %q", err, tc.want)
			}
		})
	}
}

func TestNotificationsAreLostDuplicatedHeldAndReordered(t *testing.T) {
	t.Parallel()
	s := start(t)
	l := listen(t, s, servicenow.Notification{})
	s.MisdeliverNext(servicenow.Misdelivery{Lose: true}, servicenow.Misdelivery{Copies: 1})
	closeNew := func(correlation string, silent bool) {
		t.Helper()
		id := s.create("task", map[string]string{"correlation_id": correlation})["sys_id"].(string)
		if err := s.Close(id, servicenow.Closing{Outcome: servicenow.Complete, Silent: silent}); err != nil {
			t.Fatal(err)
		}
	}
	count := func(correlation string) int {
		return strings.Count(strings.Join(l.bodies, "\n"), `"correlation_id":"`+correlation+`"`)
	}
	closeNew("lost", false)
	closeNew("twice", false)
	closeNew("silent", true)
	s.await()
	if count("lost") != 0 || count("twice") != 2 || count("silent") != 0 {
		t.Errorf("%v", l.bodies)
	}
	s.HoldNotifications()
	closeNew("first", false)
	closeNew("second", false)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.AwaitNotifications(ended); !errors.Is(err, context.Canceled) || len(l.bodies) != 2 {
		t.Errorf("held notifications: %v, %d sent", err, len(l.bodies)-2)
	}
	s.ReleaseNotifications(true)
	s.await()
	if len(l.bodies) != 4 || !strings.Contains(l.bodies[2], "second") || !strings.Contains(l.bodies[3], "first") {
		t.Errorf("%v", l.bodies)
	}
}

func TestNotificationsAreNotRetriedUnlessTheRuleSaysSo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &listener{status: 503}
		rule := servicenow.Notification{URL: "http://bridge/closed", Client: &http.Client{Transport: misbehave.Transport(l)}}
		instance, err := servicenow.New(servicenow.Config{Notifications: []servicenow.Notification{rule}})
		if err != nil {
			t.Fatal(err)
		}
		closeNew := func() {
			t.Helper()
			id, err := instance.Insert("task", map[string]string{"correlation_id": "a"})
			if err != nil {
				t.Fatal(err)
			}
			if err := instance.Close(id, servicenow.Closing{Outcome: servicenow.Complete}); err != nil {
				t.Fatal(err)
			}
			if err := instance.AwaitNotifications(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		closeNew()
		if sent := instance.Notifications(); len(sent) != 1 || sent[0].Status != 503 {
			t.Errorf("%+v", sent)
		}
		rule.Retries, rule.RetryDelay = 2, time.Minute
		instance.SetNotifications(rule)
		start := time.Now()
		instance.MisdeliverNext(servicenow.Misdelivery{Delay: time.Hour})
		closeNew()
		if sent := instance.Notifications(); len(sent) != 4 || time.Since(start) != time.Hour+2*time.Minute || sent[3].Attempt != 3 {
			t.Errorf("after %v: %+v", time.Since(start), sent)
		}
		// A listener that never answers is given up after 30 s.
		rule = servicenow.Notification{URL: "http://bridge/closed", Client: &http.Client{Transport: misbehave.Transport(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))}}
		instance.SetNotifications(rule)
		start = time.Now()
		closeNew()
		if sent := instance.Notifications(); !errors.Is(sent[4].Err, context.DeadlineExceeded) || time.Since(start) != 30*time.Second {
			t.Errorf("after %v: %v", time.Since(start), sent[4].Err)
		}
	})
}

func TestEveryOutcomeCanBeChosenInEveryTable(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *servicenow.Config) {
		c.Tables = []servicenow.Table{{Name: "u_access", Closed: []string{"9"}, Outcomes: map[servicenow.Outcome]map[string]string{servicenow.Complete: {"state": "9"}}}}
	})
	for _, table := range []string{"task", "incident", "sc_request", "sc_req_item", "sc_task", "change_request"} {
		for _, outcome := range []servicenow.Outcome{servicenow.Complete, servicenow.Incomplete, servicenow.Cancelled, servicenow.Rejected} {
			id, err := s.Insert(table, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(id, servicenow.Closing{Outcome: outcome, Notes: "because", By: "bridge"}); err != nil {
				t.Fatal(err)
			}
			got, _ := s.Ticket(id)
			resolved := table == "incident" && outcome == servicenow.Complete
			if got.Active != resolved || got.Fields["close_notes"] != "because" || got.Fields["sys_updated_by"] != "bridge" || (outcome == servicenow.Rejected) != (got.Fields["approval"] == "rejected") {
				t.Errorf("%s %s: %v", table, outcome, got.Fields)
			}
		}
	}
	id, _ := s.Insert("u_access", nil)
	if err := s.Close(id, servicenow.Closing{Outcome: servicenow.Rejected}); err == nil {
		t.Error("an outcome that the table does not have")
	}
	if err := s.Delete(id); err != nil {
		t.Error(err)
	}
	for _, err := range []error{s.Delete(id), s.Close(id, servicenow.Closing{})} {
		if !errors.Is(err, servicenow.ErrNoTicket) {
			t.Errorf("after a deletion: %v", err)
		}
	}
	if _, err := s.Insert("nonesuch", nil); err == nil {
		t.Error("inserted into a table that is not there")
	}
}
