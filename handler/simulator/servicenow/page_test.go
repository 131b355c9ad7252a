package servicenow_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"ticketbridge/handler/simulator/servicenow"
)

// visit is a person's browser: it follows redirects and sends what a form would.
func (s *site) visit(path string) answer {
	s.t.Helper()
	got, err := s.client.Get(s.url + path)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.page(got)
}

func (s *site) press(path string, form url.Values) answer {
	s.t.Helper()
	got, err := s.client.PostForm(s.url+path, form)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.page(got)
}

func (s *site) page(got *http.Response) answer {
	s.t.Helper()
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer{s.t, got.StatusCode, got.Header, string(text)}
}

func (a answer) shows(texts ...string) {
	a.t.Helper()
	for _, text := range texts {
		if !strings.Contains(a.text, text) {
			a.t.Errorf("the page does not show %q", text)
		}
	}
}

func TestThePageListsTicketsAndSaysThatItIsAStandIn(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"", "/itsm"} {
		s := start(t, func(c *servicenow.Config) { c.BasePath = base })
		s.visit("/").want(200).shows("Stand-in", "No open tickets.")
		request := s.create("sc_request", map[string]string{"short_description": "<b>Grant</b>", "requested_for": aliceID})
		incident := s.create("incident", map[string]string{"short_description": "Expiry"})
		if err := s.Close(incident["sys_id"].(string), servicenow.Closing{Outcome: servicenow.Cancelled}); err != nil {
			t.Fatal(err)
		}
		page := s.visit("/").want(200)
		page.shows("Stand-in", "REQ0010001", "INC0010001", "&lt;b&gt;Grant&lt;/b&gt;", "Requester One", "Pending Approval", "Canceled", "just now",
			fmt.Sprintf(`href="%s/sc_request.do?sys_id=%s"`, base, request["sys_id"]))
		if strings.Contains(page.text, "http://") || strings.Contains(page.text, "https://") || strings.Contains(page.text, "<script") {
			t.Error("the page asks for something from outside")
		}
		if page := s.visit("/incident_list.do"); strings.Contains(page.text, "REQ0010001") || !strings.Contains(page.text, "INC0010001") {
			t.Error("the list of one table shows another")
		}
		s.visit("/nav_to.do?uri="+url.QueryEscape("sc_request.do?sys_id="+request["sys_id"].(string))).want(200).shows("REQ0010001", "Close complete", "requested_for")
		s.visit("/now/nav/ui/classic/params/target/" + url.PathEscape("sc_request.do?sys_id="+request["sys_id"].(string))).want(200).shows("REQ0010001")
		s.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		for _, elsewhere := range []string{"https://elsewhere.example/x.do", "//elsewhere.example/", `\\elsewhere.example/x.do`, "api/now/table/task"} {
			s.visit("/nav_to.do?uri=" + url.QueryEscape(elsewhere)).want(404)
		}
		s.client.CheckRedirect = nil
		s.visit("/sc_request.do?sys_id=" + incident["sys_id"].(string)).want(404)
		s.visit("/sys_user_list.do").want(404)
		s.visit("/nothing").want(404)
	}
}

func TestEachButtonOfATicketDoesWhatItSays(t *testing.T) {
	t.Parallel()
	s := start(t)
	l := listen(t, s, servicenow.Notification{})
	for action, want := range map[string]string{"complete": "closed_complete", "incomplete": "closed_incomplete", "rejected": "closed_rejected", "cancelled": "closed_cancelled"} {
		id := s.create("sc_request", map[string]string{"correlation_id": "a/" + action})["sys_id"].(string)
		s.press("/sc_request.do?sys_id="+id, url.Values{"action": {action}, "close_notes": {"notes of\r\n" + action}, "f.request_state": {"requested"}}).want(200).shows("notes of\n"+action, `role="status"`)
		got, err := s.Ticket(id)
		if err != nil || got.Active || got.Fields["request_state"] != want || got.Fields["close_notes"] != "notes of\n"+action || got.Fields["sys_updated_by"] != "page" {
			t.Errorf("%s: %v %v", action, got.Fields, err)
		}
	}
	s.await()
	if len(l.bodies) != 4 {
		t.Errorf("%d notifications, want 4", len(l.bodies))
	}

	id := s.create("sc_request", map[string]string{"short_description": "before"})["sys_id"].(string)
	path := "/sc_request.do?sys_id=" + id
	s.press(path, url.Values{"action": {"save"}, "f.short_description": {"after"}, "f.state": {"2"}, "f.sys_created_by": {"x"}}).want(200).shows("after", "Saved.")
	s.press(path, url.Values{"action": {"note"}, "work_note": {"a note"}}).want(200).shows("a note")
	if got, _ := s.Ticket(id); got.Fields["short_description"] != "after" || got.Fields["state"] != "2" || got.Fields["sys_created_by"] != "bridge" || len(got.Notes) != 1 {
		t.Errorf("%v %v", got.Fields, got.Notes)
	}
	s.press(path, url.Values{"action": {"nonsense"}}).want(400)
	s.press(path, url.Values{"action": {"delete"}}).want(200).shows("The ticket was deleted.")
	if _, err := s.Ticket(id); err == nil {
		t.Error("the deleted ticket is there")
	}
	s.press(path, url.Values{"action": {"complete"}}).want(404)
}

func TestAnotherSiteCannotPressAButton(t *testing.T) {
	t.Parallel()
	s := start(t)
	id := s.create("sc_request", nil)["sys_id"].(string)
	r, _ := http.NewRequest("POST", s.url+"/sc_request.do?sys_id="+id, strings.NewReader("action=delete"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", "https://elsewhere.example")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	got, err := s.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	s.page(got).want(403)
	if _, err := s.Ticket(id); err != nil {
		t.Error(err)
	}
}

func TestNumbersAreUniqueUnderConcurrency(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *servicenow.Config) { c.RateRules = []servicenow.RateRule{{PerHour: 1000}} })
	l := listen(t, s, servicenow.Notification{})
	var all sync.WaitGroup
	for n := range 50 {
		all.Go(func() {
			id, err := s.Insert("sc_request", map[string]string{"correlation_id": fmt.Sprint(n)})
			if err != nil {
				t.Error(err)
			}
			s.query("sc_request", "correlation_id="+fmt.Sprint(n))
			s.visit("/")
			if err := s.Close(id, servicenow.Closing{Outcome: servicenow.Complete}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	s.await()
	numbers := map[string]bool{}
	for _, ticket := range s.Tickets("sc_request") {
		numbers[ticket.Number] = true
	}
	if len(numbers) != 50 || len(l.bodies) != 50 {
		t.Errorf("%d numbers and %d notifications, want 50", len(numbers), len(l.bodies))
	}
}

func TestAnInstanceThatWasDownComesBackWithItsRecords(t *testing.T) {
	t.Parallel()
	instance, err := servicenow.New(servicenow.Config{Users: []servicenow.User{{UserName: "bridge", Password: "secret"}}})
	if err != nil {
		t.Fatal(err)
	}
	url, stop, err := instance.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := instance.Insert("incident", nil); err != nil {
		t.Fatal(err)
	}
	stop()
	if answer, err := http.Get(url); err == nil {
		answer.Body.Close()
		t.Error("the instance answers though it is down")
	}
	again, stop, err := instance.Start(strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if again != url || len(instance.Tickets("incident")) != 1 {
		t.Errorf("back at %s, was at %s, with %v", again, url, instance.Tickets("incident"))
	}
}
