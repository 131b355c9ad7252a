package servicenow_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ticketbridge/handler/simulator/servicenow"
)

// people adds a person who may log in to the pages, and an OAuth client of the integration user.
func people(c *servicenow.Config) {
	c.Users = append(c.Users, servicenow.User{UserName: "admin", Password: "secret", Name: "Sam Admin"})
	c.OAuthClients = []servicenow.OAuthClient{{ID: "id", Secret: "hush", User: "bridge"}}
}

// nowSDK runs ServiceNow's own command line against the instance, and returns what it printed.
func nowSDK(t *testing.T, s *site, env []string, args ...string) (out string, err error) {
	t.Helper()
	program, err := filepath.Abs("../../../infra/servicenow/node_modules/.bin/now-sdk")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("ServiceNow's command line is not installed (%v): run `make servicenow-app`, which installs it", err)
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	home := t.TempDir() // it must find neither a person's credentials nor a project here
	cmd.Dir = home
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "SN_SDK_NODE_ENV=SN_SDK_CI_INSTALL", "SN_SDK_INSTANCE_URL=" + s.url,
		"NO_PROXY=127.0.0.1", "NODE_ENV=test", // with which it reports its use to nobody
	}, env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	t.Log(stderr.String())
	return stdout.String(), err
}

func TestServiceNowsOwnCommandLineLogsInAndReadsTickets(t *testing.T) {
	t.Parallel()
	for name, env := range map[string][]string{
		"with a password":         {"SN_SDK_USER=admin", "SN_SDK_USER_PWD=secret"},
		"with client credentials": {"SN_SDK_AUTH_TYPE=oauth", "SN_SDK_OAUTH_CLIENT_ID=id", "SN_SDK_OAUTH_CLIENT_SECRET=hush"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, people)
			for _, number := range []string{"a/1", "a/2", "b/1"} {
				s.create("incident", map[string]string{"correlation_id": number, "short_description": "about " + number})
			}
			out, err := nowSDK(t, s, env, "query", "incident", "--query", "correlation_idSTARTSWITHa/^ORDERBYcorrelation_id", "--limit", "1", "--fields", "number,correlation_id,sys_created_by", "-o", "json")
			var got struct {
				OK         bool                `json:"ok"`
				HasMore    bool                `json:"hasMore"`
				NextOffset int                 `json:"nextOffset"`
				Records    []map[string]string `json:"records"`
			}
			if jsonErr := json.Unmarshal([]byte(out), &got); err != nil || jsonErr != nil || !got.OK || !got.HasMore || got.NextOffset != 1 ||
				len(got.Records) != 1 || got.Records[0]["correlation_id"] != "a/1" || !strings.HasPrefix(got.Records[0]["number"], "INC") {
				t.Errorf("it printed %s (%v, %v)", out, err, jsonErr)
			}
		})
	}
}

// browser is a client that keeps cookies.
func browser(t *testing.T, s *site) (post func(path string, form url.Values, token string) *http.Response) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.client.Jar = jar
	return func(path string, form url.Values, token string) *http.Response {
		t.Helper()
		r, err := http.NewRequest("POST", s.url+path, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("X-UserToken", token)
		got, err := s.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = got.Body.Close()
		return got
	}
}

func TestASessionReadsOnlyWithItsToken(t *testing.T) {
	t.Parallel()
	s := start(t, people).with("", "")
	post := browser(t, s)
	post("/angular.do?sysparm_type=view_form.login", url.Values{"sysparm_type": {"login"}, "user_name": {"admin"}, "user_password": {"secret"}}, "")
	refused := post("/angular.do?sysparm_type=get_user", nil, "")
	token := refused.Header.Get("X-UserToken-Response")
	if refused.StatusCode != 401 || token == "" {
		t.Fatalf("%d %v", refused.StatusCode, refused.Header)
	}
	s.do("GET", incidents, nil).fails(401)
	s.header.Set("X-UserToken", "x"+token)
	s.do("GET", incidents, nil).fails(401)
	s.header.Set("X-UserToken", token)
	s.do("GET", incidents, nil).want(200)
	if got := post("/angular.do?sysparm_type=get_user", nil, token); got.StatusCode != 200 || got.Header.Get("X-UserToken-Response") != "" {
		t.Errorf("with the token: %d %v", got.StatusCode, got.Header)
	}
}

func TestWhoMayNotLogInToThePagesHasNoSession(t *testing.T) {
	t.Parallel()
	for name, form := range map[string]url.Values{
		"a wrong password":               {"sysparm_type": {"login"}, "user_name": {"admin"}, "user_password": {"x"}},
		"a user of web services only":    {"sysparm_type": {"login"}, "user_name": {"bridge"}, "user_password": {"secret"}},
		"somebody inactive":              {"sysparm_type": {"login"}, "user_name": {"gone"}, "user_password": {"secret"}},
		"nobody":                         {"sysparm_type": {"login"}},
		"a form that is not for a login": {"user_name": {"admin"}, "user_password": {"secret"}},
	} {
		s := start(t, people, func(c *servicenow.Config) {
			c.Users = append(c.Users, servicenow.User{UserName: "gone", Password: "secret", Inactive: true})
		}).with("", "")
		post := browser(t, s)
		if got := post("/angular.do?sysparm_type=view_form.login", form, ""); got.StatusCode != 200 || len(got.Cookies()) != 0 {
			t.Errorf("%s: %d with %v", name, got.StatusCode, got.Cookies())
		}
		if got := post("/angular.do?sysparm_type=get_user", nil, ""); got.StatusCode != 200 || got.Header.Get("X-UserToken-Response") != "" {
			t.Errorf("%s: %d %v", name, got.StatusCode, got.Header)
		}
	}
	s := start(t)
	s.do("GET", "/angular.do?sysparm_type=get_user", nil).want(405)
	s.do("POST", "/angular.do?sysparm_type=other", "").want(404)
}

func TestASessionThatBeganWithoutAUserIsThatOfTheFirstWhoProvesHimself(t *testing.T) {
	t.Parallel()
	s := start(t, people)
	post := browser(t, s)
	post("/angular.do?sysparm_type=get_user", nil, "")
	s.do("GET", incidents, nil).want(200) // as bridge, with a password and the session's cookies
	got := post("/angular.do?sysparm_type=get_user", nil, "")
	token := got.Header.Get("X-UserToken-Response")
	if got.StatusCode != 401 || token == "" {
		t.Fatalf("%d %v", got.StatusCode, got.Header)
	}
	anonymous := s.with("X-UserToken", token)
	if rec := anonymous.create("incident", nil); rec["sys_created_by"] != "bridge" {
		t.Errorf("created by %v", rec["sys_created_by"])
	}
}
