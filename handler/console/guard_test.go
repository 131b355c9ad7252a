package console_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"ticketbridge/handler/console"
	"ticketbridge/handler/fault"
)

// principal is the header that App Service authentication sends for somebody, as Microsoft documents it.
func principal(name string) string {
	text, err := json.Marshal(map[string]any{
		"auth_typ": "aad", "name_typ": "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress", "role_typ": "http://schemas.microsoft.com/ws/2008/06/identity/claims/role",
		"claims": []any{
			map[string]any{"typ": "aud", "val": "0b9d4f5e-2222-4222-8333-444455556666"},
			map[string]any{"typ": "name", "val": "Sam Example"},
			map[string]any{"typ": "preferred_username", "val": name},
		},
	})
	must(err)
	return base64.StdEncoding.EncodeToString(text)
}

func TestNobodySeesTheConsoleFromElsewhere(t *testing.T) {
	s := aMorning(t, time.Now())
	h := open(t, s)
	for _, c := range []struct {
		name   string
		header []string
		status int
	}{
		// as the host forwards, and as it proxies
		{"forwarded", []string{"Host", "localhost:7071"}, 200},
		{"proxied", []string{"Host", "127.0.0.1:41234", "X-Forwarded-Host", "localhost:7071", "X-Forwarded-For", "127.0.0.1", "X-Forwarded-Proto", "http"}, 200},
		{"proxied, by address", []string{"Host", "127.0.0.1:41234", "X-Forwarded-Host", "127.0.0.1:7071", "X-Forwarded-For", "127.0.0.1:50123"}, 200},
		{"IPv6", []string{"Host", "[::1]:7071", "X-Forwarded-Host", "[::1]:7071", "X-Forwarded-For", "::1"}, 200},
		{"IPv4 in IPv6", []string{"Host", "127.0.0.1:1", "X-Forwarded-For", "::ffff:127.0.0.1"}, 200},
		{"other letters", []string{"Host", "LocalHost"}, 200},
		// a page elsewhere whose name was made to lead here (DNS rebinding)
		{"rebound, forwarded", []string{"Host", "evil.example:7071"}, 403},
		{"rebound, proxied", []string{"Host", "127.0.0.1:41234", "X-Forwarded-Host", "evil.example:7071", "X-Forwarded-For", "127.0.0.1"}, 403},
		{"rebound, one of two", []string{"Host", "127.0.0.1:41234", "X-Forwarded-Host", "localhost, evil.example"}, 403},
		{"rebound, twice", []string{"Host", "127.0.0.1:41234", "X-Forwarded-Host", "localhost", "X-Forwarded-Host", "evil.example"}, 403},
		{"its own name in the header", []string{"Host", "evil.example", "X-Forwarded-Host", "localhost"}, 403},
		{"a name that begins so", []string{"Host", "localhost.evil.example"}, 403},
		{"a name that ends so", []string{"Host", "evil.localhost"}, 403},
		{"an address that begins so", []string{"Host", "127.0.0.1.nip.io:7071"}, 403},
		{"a number", []string{"Host", "2130706433"}, 403},
		{"every address", []string{"Host", "0.0.0.0:7071"}, 403},
		{"an address of the network", []string{"Host", "192.168.1.20:7071"}, 403},
		{"a name with a user", []string{"Host", "localhost@evil.example"}, 403},
		{"no name", []string{"Host", ""}, 403},
		{"an empty header", []string{"Host", "localhost", "X-Forwarded-Host", ""}, 403},
		// from another machine, under a name of this one
		{"from the network", []string{"Host", "127.0.0.1:41234", "X-Forwarded-Host", "localhost:7071", "X-Forwarded-For", "192.168.1.77"}, 403},
		{"through another proxy", []string{"Host", "localhost", "X-Forwarded-For", "203.0.113.9, 127.0.0.1"}, 403},
		{"from a word", []string{"Host", "localhost", "X-Forwarded-For", "unknown"}, 403},
		// Azure's front end, should the settings not have said where we are
		{"Azure", []string{"Host", "127.0.0.1:41234", "X-Forwarded-Host", "bridge.azurewebsites.net", "X-Forwarded-For", "127.0.0.1"}, 403},
	} {
		s.asked = nil
		for _, path := range []string{"", "/ended", at(30), "/nothing"} {
			a := get(t, h, path, c.header...)
			if refused := a.Code == 403; refused != (c.status == 403) {
				t.Errorf("%s, %q: status %d", c.name, path, a.Code)
			}
			if c.status == 403 {
				a.want(t, c.name, 403, "You cannot see this", "The console is open to this machine only")
				for _, word := range []string{"Treasury", "Charlie", "Waiting", "Ended"} {
					if strings.Contains(a.text, word) {
						t.Errorf("%s: somebody else sees %q: %s", c.name, word, a.text)
					}
				}
			}
		}
		if c.status == 403 && len(s.asked) > 0 {
			t.Errorf("%s: the storage is read for somebody else", c.name)
		}
	}
}

func TestWithoutSignInThereIsNoConsoleInAzure(t *testing.T) {
	none := console.Config{Store: &store{}, Auth: console.AuthNone}
	for name, set := range map[string]func(*console.Config){
		"an instance":           func(c *console.Config) { c.WebsiteInstanceID = "6c1e" },
		"Flex Consumption":      func(c *console.Config) { c.WebsiteSKU = "FlexConsumption" },
		"a name":                func(c *console.Config) { c.WebsiteHostname = "bridge.azurewebsites.net" },
		"a name of one's own":   func(c *console.Config) { c.WebsiteHostname = "bridge.example" },
		"a name with localhost": func(c *console.Config) { c.WebsiteHostname = "localhost.bridge.example" },
		"authentication on as well": func(c *console.Config) {
			c.WebsiteHostname, c.WebsiteAuthEnabled = "bridge.azurewebsites.net", "True"
		},
	} {
		c := none
		set(&c)
		h, err := console.New(c)
		if h != nil || !fault.Is(err, fault.Misconfigured) || !strings.Contains(err.Error(), "CONSOLE_AUTH") || !strings.Contains(err.Error(), "easyauth") {
			t.Errorf("%s: %v, %v", name, h, err)
		}
	}
	for _, name := range []string{"", "localhost:7071", "127.0.0.1:7071", "[::1]:7071"} { // as Core Tools sets it
		c := none
		c.WebsiteHostname = name
		if h, err := console.New(c); h == nil || err != nil {
			t.Errorf("at %q: %v", name, err)
		}
	}
}

func TestTheConsoleIsOffUnlessAskedForInAWordThatIsKnown(t *testing.T) {
	if h, err := console.New(console.Config{Store: &store{}}); h != nil || err != nil {
		t.Errorf("without a word there is %v, %v", h, err)
	}
	for _, auth := range []string{"None", "no", "easy-auth", "EASYAUTH", "true", "anonymous", " none"} {
		h, err := console.New(console.Config{Store: &store{}, Auth: auth, WebsiteAuthEnabled: "True"})
		if h != nil || !fault.Is(err, fault.Misconfigured) || !strings.Contains(err.Error(), "CONSOLE_AUTH") {
			t.Errorf("%q: %v, %v", auth, h, err)
		}
	}
}

func TestWhoHasSignedInIsLetIn(t *testing.T) {
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for _, c := range []struct {
		name, enabled, header string
		status                int
		want                  string
	}{
		{"signed in", "True", principal("sam@example.com"), 200, "Signed in as sam@example.com Sign out"},
		{"signed in, other letters", "true", principal("sam@example.com"), 200, "Signed in as sam@example.com"},
		{"by another name", "True", b64(`{"auth_typ":"aad","name_typ":"n","claims":[{"typ":"x","val":"y"},{"typ":"n","val":"Sam"}]}`), 200, "Signed in as Sam"},
		{"without a name", "True", b64(`{"auth_typ":"aad","claims":[{"typ":"x","val":"y"}]}`), 200, "Signed in as somebody"},
		{"nobody", "True", "", 401, "Please sign in"},
		{"no base64", "True", "{}", 401, "Please sign in"},
		{"no JSON", "True", b64("sam"), 401, "Please sign in"},
		{"null", "True", b64("null"), 401, "Please sign in"},
		{"nothing in it", "True", b64("{}"), 401, "Please sign in"},
		{"no claims", "True", b64(`{"auth_typ":"aad","claims":[]}`), 401, "Please sign in"},
		{"no type", "True", b64(`{"claims":[{"typ":"name","val":"Sam"}]}`), 401, "Please sign in"},
		{"claims of another shape", "True", b64(`{"auth_typ":"aad","claims":{"name":"Sam"}}`), 401, "Please sign in"},
		{"two of them", "True", principal("sam@example.com") + ", " + principal("robin@example.com"), 401, "Please sign in"},
		// Without App Service authentication anybody can send the header.
		{"off", "False", principal("sam@example.com"), 403, "App Service authentication is off"},
		{"not said", "", principal("sam@example.com"), 403, "App Service authentication is off"},
		{"another word", "1", principal("sam@example.com"), 403, "App Service authentication is off"},
		{"off, and nobody", "", "", 403, "App Service authentication is off"},
	} {
		s := aMorning(t, time.Now())
		h := made(t, console.Config{Store: s, Auth: console.AuthEasyAuth, WebsiteAuthEnabled: c.enabled, WebsiteHostname: "bridge.azurewebsites.net", WebsiteSKU: "FlexConsumption"})
		header := []string{"Host", "127.0.0.1:41234", "X-Forwarded-Host", "bridge.azurewebsites.net"}
		if c.header != "" {
			header = append(header, "X-MS-CLIENT-PRINCIPAL", c.header)
		}
		a := get(t, h, at(30), header...)
		a.want(t, c.name, c.status, c.want)
		if c.status != 200 && (len(s.asked) > 0 || strings.Contains(a.text, "Treasury") || strings.Contains(a.text, "Waiting")) {
			t.Errorf("%s: somebody who is not known sees %q %s", c.name, s.asked, a.text)
		}
		if link := `href="/.auth/login/aad?post_login_redirect_uri=` + regexp.MustCompile("/").ReplaceAllString(console.BasePath+at(30), "%2F") + `"`; c.status == 401 && !strings.Contains(a.raw, link) {
			t.Errorf("%s: nobody can sign in: %s", c.name, a.raw)
		}
	}
}

// Each answer, whatever it is, says what a browser may do with it.
func TestEveryAnswerIsOursAlone(t *testing.T) {
	down := aMorning(t, time.Now())
	down.down = map[string]error{"Open": &fault.Error{Reason: fault.Unreachable}}
	h := open(t, aMorning(t, time.Now()))
	signed := made(t, console.Config{Store: &store{}, Auth: console.AuthEasyAuth, WebsiteAuthEnabled: "True"})
	style := regexp.MustCompile(`href="([^"]*\.css)"`).FindStringSubmatch(get(t, h, "").raw)
	if style == nil {
		t.Fatal("there is no style")
	}
	stylePath := strings.TrimPrefix(style[1], console.BasePath)
	for _, c := range []struct {
		name string
		a    answer
		code int
	}{
		{"list", get(t, h, ""), 200},
		{"ended", get(t, h, "/ended"), 200},
		{"detail", get(t, h, at(30)), 200},
		{"redirect", get(t, h, "/requests/"+key(30).Request), 303},
		{"missing", get(t, h, "/nothing"), 404},
		{"no day", get(t, h, "/ended?day=x"), 400},
		{"post", ask(t, h, http.MethodPost, console.BasePath), 405},
		{"elsewhere", get(t, h, "", "Host", "evil.example"), 403},
		{"nobody", get(t, signed, ""), 401},
		{"down", get(t, open(t, down), ""), 503},
		{"style", get(t, h, stylePath), 200},
		{"style for those who are refused", get(t, signed, stylePath), 200},
		{"head", ask(t, h, http.MethodHead, console.BasePath), 200},
	} {
		if c.a.Code != c.code {
			t.Errorf("%s: status %d", c.name, c.a.Code)
		}
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
			"Cross-Origin-Opener-Policy": "same-origin", "Access-Control-Allow-Origin": "", "Set-Cookie": "",
		} {
			if got := c.a.Header().Get(name); got != want {
				t.Errorf("%s: %s is %q", c.name, name, got)
			}
		}
		policy := c.a.Header().Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "style-src 'self'", "frame-ancestors 'none'", "form-action 'self'", "base-uri 'none'"} {
			if !strings.Contains(policy, want) {
				t.Errorf("%s: the policy %q has no %s", c.name, policy, want)
			}
		}
		if strings.Contains(policy, "unsafe") || strings.Contains(policy, "script-src") || strings.Contains(policy, "*") {
			t.Errorf("%s: the policy is %q", c.name, policy)
		}
		if got := c.a.Header().Get("Cache-Control"); (got == "no-store") == strings.HasPrefix(c.name, "style") {
			t.Errorf("%s: Cache-Control is %q", c.name, got)
		}
		if inline := regexp.MustCompile(`(?i)<script|<style|\sstyle="|\son[a-z]+="|javascript:|https?://[^"]*\.(js|css|woff2?)"`).FindString(c.a.raw); inline != "" && !strings.HasPrefix(c.name, "style") {
			t.Errorf("%s has %q", c.name, inline)
		}
	}
}

func TestNothingCanBeChanged(t *testing.T) {
	s := aMorning(t, time.Now())
	h := open(t, s)
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions, http.MethodTrace, "PURGE", "get"} {
		for _, path := range []string{"", "/ended", at(30), at(30) + "/resume", "/nothing"} {
			s.asked = nil
			a := ask(t, h, method, console.BasePath+path, "X-HTTP-Method-Override", "GET")
			a.want(t, method+" "+path, 405, "This page only shows things")
			if a.Header().Get("Allow") != "GET, HEAD" || len(s.asked) > 0 {
				t.Errorf("%s %q: Allow %q, reads %q", method, path, a.Header().Get("Allow"), s.asked)
			}
		}
	}
	// A form of another site gets no further, whatever it sends.
	r := httptest.NewRequest(http.MethodPost, console.BasePath+at(30), strings.NewReader("_method=GET&action=resume"))
	r.Host = "localhost:7071"
	for name, value := range map[string]string{
		"Origin": "https://evil.example", "Referer": "https://evil.example/", "Sec-Fetch-Site": "cross-site", "Content-Type": "application/x-www-form-urlencoded", "Cookie": "AppServiceAuthSession=x",
	} {
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	s.asked = nil
	if h.ServeHTTP(w, r); w.Code != 405 || len(s.asked) > 0 || w.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("status %d, reads %q", w.Code, s.asked)
	}
}

func FuzzOnlyAPrincipalIsLetIn(f *testing.F) {
	for _, header := range []string{"", principal("sam@example.com"), "e30=", "bnVsbA==", "eyJhdXRoX3R5cCI6ImFhZCIsImNsYWltcyI6W3t9XX0=", "%", "W10="} {
		f.Add(header)
	}
	h := made(f, console.Config{Store: &store{}, Auth: console.AuthEasyAuth, WebsiteAuthEnabled: "True"})
	f.Fuzz(func(t *testing.T, header string) {
		r := httptest.NewRequest(http.MethodGet, console.BasePath, http.NoBody)
		r.Header["X-Ms-Client-Principal"] = []string{header}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		text, err := base64.StdEncoding.DecodeString(header)
		readable := err == nil && json.Valid(text) && strings.Contains(strings.ToLower(string(text)), "claims")
		if w.Code != 401 && (w.Code != 200 || !readable) {
			t.Fatalf("%q: %d", header, w.Code)
		}
	})
}
