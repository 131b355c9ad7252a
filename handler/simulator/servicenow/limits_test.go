package servicenow_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ticketbridge/handler/simulator/misbehave"
	"ticketbridge/handler/simulator/servicenow"
)

func TestARateRuleCountsByTheHourAndSaysWhenToComeBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		instance, err := servicenow.New(servicenow.Config{
			Users:     []servicenow.User{{UserName: "bridge", Password: "secret"}, {UserName: "other", Password: "secret"}},
			RateRules: []servicenow.RateRule{{PerHour: 1}, {PerHour: 2, User: "bridge"}, {PerHour: 5, Path: "/api/now/v2/table/sys_user"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		client := instance.Client()
		call := func(user string, want int) http.Header {
			t.Helper()
			r, _ := http.NewRequest("GET", "https://instance"+incidents, nil)
			r.Header.Set("Accept", "application/json")
			r.SetBasicAuth(user, "secret")
			answer, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			if answer.StatusCode != want {
				t.Errorf("%s was answered %d, want %d", user, answer.StatusCode, want)
			}
			return answer.Header
		}
		time.Sleep(20 * time.Minute) // the bubble begins on the hour
		if h := call("bridge", 200); h.Get("X-RateLimit-Limit") != "2" || len(h.Get("X-RateLimit-Rule")) != 32 || h.Get("Retry-After") != "" {
			t.Errorf("below the limit: %v", h)
		}
		call("bridge", 200)
		h := call("bridge", 429)
		reset := strconv.FormatInt(time.Now().Truncate(time.Hour).Add(time.Hour).Unix(), 10)
		if h.Get("Retry-After") != "2400" || h.Get("X-RateLimit-Reset") != reset {
			t.Errorf("above the limit: %v, want a reset at %s", h, reset)
		}
		call("other", 200) // counted apart, by the rule for all
		call("other", 429)
		time.Sleep(40 * time.Minute)
		call("bridge", 200)
		instance.SetRateRules()
		if h := call("bridge", 200); h.Get("X-RateLimit-Limit") != "" {
			t.Errorf("without a rule: %v", h)
		}
	})
}

func TestKnownFaultsAnswerAsTheInstanceWould(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.Faults.Add(servicenow.SemaphoresExhausted("POST /api/now", 1))
	got := s.do("POST", incidents, "{}").want(429)
	for name := range got.header {
		if name == "Retry-After" || strings.HasPrefix(name, "X-Ratelimit") {
			t.Errorf("an exhausted semaphore says %s", name)
		}
	}
	remove := s.Faults.Add(servicenow.Hibernating())
	if got := s.do("GET", incidents, nil).want(200); !strings.Contains(got.text, "hibernating") || !strings.HasPrefix(got.header.Get("Content-Type"), "text/html") {
		t.Errorf("%v %s", got.header, got.text)
	}
	remove()
	s.Faults.Add(servicenow.Maintenance(1))
	s.do("GET", incidents, nil).want(503)
	s.Faults.Add(servicenow.CancelledTransaction("POST", 1, true))
	if got := s.do("POST", incidents, "{}").want(200); !strings.Contains(got.text, "maximum execution time exceeded") {
		t.Error(got.text)
	}
	if n := len(s.Tickets("incident")); n != 1 {
		t.Errorf("%d incidents, want the one of the cancelled call that took effect", n)
	}
}

func TestALostAnswerLeavesATicketBehind(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.Faults.Add(misbehave.Fault{Match: "POST /api/now/v2/table/*", Times: 1, LoseAnswer: true})
	r, _ := http.NewRequest("POST", s.url+incidents, strings.NewReader(`{"correlation_id":"a/b"}`))
	r.Header = s.header.Clone()
	r.SetBasicAuth("bridge", "secret")
	if _, err := s.client.Do(r); err == nil {
		t.Fatal("the lost answer arrived")
	}
	if got := s.query("incident", "correlation_id=a/b"); len(got) != 1 || len(s.ByCorrelation("a/b")) != 1 || s.Creations()["a/b"] != 1 {
		t.Errorf("found %v", got)
	}
}

func TestABasePathGoesBeforeEveryRoute(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *servicenow.Config) { c.BasePath = "/itsm/" })
	if !strings.HasSuffix(s.url, "/itsm") {
		t.Fatalf("URL %s", s.url)
	}
	got := s.create("sc_request", map[string]string{"requested_for": aliceID})
	_ = got
	if link := s.do("GET", "/api/now/v2/table/sc_request", nil).want(200).list()[0]["requested_for"].(map[string]any)["link"]; link != s.url+"/api/now/v2/table/sys_user/"+aliceID {
		t.Errorf("link %v", link)
	}
	s.url = strings.TrimSuffix(s.url, "/itsm")
	s.do("GET", incidents, nil).want(404)
}
