package servicenow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"ticketbridge/handler/fault"
	"ticketbridge/handler/simulator/misbehave"
	standin "ticketbridge/handler/simulator/servicenow"
)

// credential is a stand-in for Entra's: it gives token1, token2, … or its error, and notes what it was asked for.
type credential struct {
	mu    sync.Mutex
	n     int
	asked []policy.TokenRequestOptions
	same  bool // the same token again, as azidentity gives it while it is good
	life  time.Duration
	err   error
}

func (c *credential) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, o)
	if c.err != nil {
		return azcore.AccessToken{}, c.err
	}
	if c.n == 0 || !c.same {
		c.n++
	}
	return azcore.AccessToken{Token: fmt.Sprintf("token%d", c.n), ExpiresOn: time.Now().Add(c.life)}, nil
}

// with makes a client of the stand-in that logs in as the configuration says.
func (s *site) with(cfg Config) *Client {
	s.t.Helper()
	cfg.HTTPClient = s.Instance.Client()
	return client(s.t, cfg)
}

var clientCredentials = Config{Auth: AuthClientCredentials, ClientID: "client", ClientSecret: password}

func TestEachWayOfAuthenticationActsAsItsUser(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{
		"client-credentials": clientCredentials,
		"the default":        {ClientID: "client", ClientSecret: password},
		"basic":              {Auth: AuthBasic, Username: "bridge", Password: password},
		"api-key":            {Auth: AuthAPIKey, APIKey: password},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			instance := instanceOf(t, nil)
			cfg.URL, cfg.HTTPClient = "https://instance.example", instance.Client()
			c, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			rec, err := c.Create(t.Context(), draft, correlationID)
			if err != nil {
				t.Fatal(err)
			}
			if have, err := instance.Ticket(rec.SysID); err != nil || have.Fields["sys_created_by"] != "bridge" {
				t.Errorf("created by %q, %v", have.Fields["sys_created_by"], err)
			}
		})
	}
}

func TestAnEntraTokenIsAskedForTheAudience(t *testing.T) {
	t.Parallel()
	for audience, scope := range map[string]string{"api://bridge": "api://bridge/.default", "0f3f-id/.default": "0f3f-id/.default"} {
		cred := &credential{life: time.Hour}
		c := client(t, Config{Auth: AuthEntra, Audience: audience, Credential: cred, HTTPClient: &http.Client{Transport: misbehave.Transport(http.HandlerFunc(
			func(w http.ResponseWriter, r *http.Request) {
				if got := r.Header.Get("Authorization"); got != "Bearer token1" {
					t.Errorf("Authorization is %q", got)
				}
				says(200, `{"result":[]}`)(w, r)
			}))}})
		for range 3 {
			if _, err := c.Find(t.Context(), "sc_request", correlationID); err != nil {
				t.Fatal(err)
			}
		}
		if len(cred.asked) != 1 || len(cred.asked[0].Scopes) != 1 || cred.asked[0].Scopes[0] != scope {
			t.Errorf("asked %+v, want %s once", cred.asked, scope)
		}
	}
}

func TestATokenServesUntilShortlyBeforeItsEndAndIsRenewedBesideTheCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, nil)
		c := s.with(clientCredentials)
		call := func(wantTokens int) {
			t.Helper()
			if _, err := c.Find(t.Context(), "sc_request", correlationID); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if n := s.TokensIssued(); n != wantTokens {
				t.Errorf("%d tokens were asked for, want %d", n, wantTokens)
			}
		}
		call(1)
		call(1)
		time.Sleep(standin.TokenLifetime - 5*time.Minute - time.Second)
		call(1)

		// Five minutes before its end the next one is fetched, and nobody waits for that: not when it fails, not when it hangs.
		remove := s.Faults.Add(misbehave.Fault{Match: "/oauth_token.do", Status: 503})
		time.Sleep(time.Second)
		call(1)
		call(1)
		asked := s.Calls()["POST /oauth_token.do"]
		if asked != 2 {
			t.Errorf("asked for a token %d times, want a second time once", asked)
		}
		remove()
		remove = s.Faults.Add(misbehave.Fault{Match: "/oauth_token.do", Delay: time.Hour})
		time.Sleep(time.Minute)
		began := time.Now()
		if _, err := c.Find(t.Context(), "sc_request", correlationID); err != nil || time.Since(began) != 0 {
			t.Errorf("the call waited %s for a token that it did not need: %v", time.Since(began), err)
		}
		remove()
		time.Sleep(time.Minute)
		call(2)
		time.Sleep(standin.TokenLifetime)
		call(3)
		if n := s.Calls()["GET "+requests]; n != 8 {
			t.Errorf("%d calls were sent, want 8: one went out with a token that had ended", n)
		}
	})
}

func TestARevokedTokenIsReplacedOnceForAllCallsAndNoneIsLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, nil)
		c := s.with(clientCredentials)
		if _, err := c.Find(t.Context(), "sc_request", correlationID); err != nil {
			t.Fatal(err)
		}
		s.RevokeTokens()
		s.Faults.Add(misbehave.Fault{Match: "/oauth_token.do", Delay: time.Second}) // so that all of them come upon the same renewal
		var wg sync.WaitGroup
		for n := range 16 {
			wg.Go(func() {
				if _, err := c.Create(t.Context(), draft, fmt.Sprintf("%s/%d", correlationID, n+2)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := s.TokensIssued(); n != 2 {
			t.Errorf("%d tokens were asked for, want 2", n)
		}
		if n := len(s.Tickets("sc_request")); n != 16 {
			t.Errorf("%d tickets, want 16", n)
		}
	})
}

func TestTheFirstTokenIsFetchedOnceForAllCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, nil)
		c := s.with(clientCredentials)
		s.Faults.Add(misbehave.Fault{Match: "/oauth_token.do", Delay: time.Second})
		// The first one gives up while the token is on its way; the others get it all the same.
		impatient, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := c.Find(impatient, "sc_request", correlationID)
		failed(t, err, fault.Unreachable, "no token in the time that was left")
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if _, err := c.Find(t.Context(), "sc_request", correlationID); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := s.Calls()["POST /oauth_token.do"]; n != 1 {
			t.Errorf("asked for a token %d times", n)
		}
	})
}

func TestACallIsRepeatedOnceWithAnotherTokenAndNotWithTheSame(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		cfg   Config
		calls int32
	}{
		"client-credentials":             {clientCredentials, 2},
		"entra":                          {Config{Auth: AuthEntra, Audience: "a", Credential: &credential{life: time.Hour}}, 2},
		"entra, whose token is the same": {Config{Auth: AuthEntra, Audience: "a", Credential: &credential{life: time.Hour, same: true}}, 1},
		"basic":                          {Config{Auth: AuthBasic, Username: "bridge", Password: "x"}, 1},
		"api-key":                        {Config{Auth: AuthAPIKey, APIKey: "x"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls, tokens atomic.Int32
			tc.cfg.HTTPClient = &http.Client{Transport: misbehave.Transport(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/oauth_token.do" {
					says(200, fmt.Sprintf(`{"access_token":"issued%d","expires_in":1800}`, tokens.Add(1)))(w, r)
					return
				}
				calls.Add(1)
				says(401, `{"error":{"message":"User Not Authenticated","detail":"Required to provide Auth information"},"status":"failure"}`)(w, r)
			}))}
			_, err := client(t, tc.cfg).Create(t.Context(), draft, correlationID)
			e := failed(t, err, fault.Unauthorized, "User Not Authenticated", "SERVICENOW_AUTH")
			if e.Status != 401 || calls.Load() != tc.calls {
				t.Errorf("sent %d times, want %d: %v", calls.Load(), tc.calls, e)
			}
		})
	}
}

func TestTheInstanceSaysWhyItGivesNoToken(t *testing.T) {
	t.Parallel()
	s := open(t, func(c *standin.Config) { c.NoClientCredentials = true })
	_, err := s.with(clientCredentials).Create(t.Context(), draft, correlationID)
	failed(t, err, fault.Unauthorized, "create ticket", "server_error, access_denied", "SERVICENOW_CLIENT_SECRET", "grant_type.enabled")
	if n := s.Calls()["POST "+requests]; n != 0 {
		t.Error("the call was sent without a token")
	}
	for name, tc := range map[string]struct {
		status int
		body   string
		want   fault.Reason
		after  time.Duration
		words  string
	}{
		"another secret":              {401, `{"error":"invalid_client"}`, fault.Unauthorized, 0, "invalid_client"},
		"401 of somebody else":        {401, `<html>`, fault.Unauthorized, 0, "gave no token"},
		"a bad request":               {400, `{"error":"invalid_request","error_description":"Missing Parameters for Alice"}`, fault.Unauthorized, 0, "invalid_request"},
		"200 without a token":         {200, `{"error":"access_denied"}`, fault.Unauthorized, 0, "access_denied"},
		"a token that is none":        {200, `{"access_token":"a b"}`, fault.Unauthorized, 0, "is none"},
		"a token with a line break":   {200, `{"access_token":"a\r\nX-Injected: b"}`, fault.Unauthorized, 0, "is none"},
		"403 of a firewall":           {403, `<html>`, fault.Forbidden, 0, "turned away before the API was reached"},
		"400 of a gateway":            {400, `<html>`, fault.Misconfigured, 0, ""},
		"nothing there":               {404, `<html>`, fault.Misconfigured, 0, "SERVICENOW_URL"},
		"a redirect":                  {302, ``, fault.Misconfigured, 0, "redirect"},
		"a JSON of another kind":      {200, `[]`, fault.Unreachable, 0, ""},
		"an instance asleep":          {200, `<html>hibernating</html>`, fault.Unreachable, 0, "developer.servicenow.com"},
		"202":                         {202, ``, fault.Unreachable, 0, "200 is expected"},
		"too many":                    {429, ``, fault.Throttled, 7 * time.Second, ""},
		"an error":                    {500, ``, fault.Unreachable, 7 * time.Second, ""},
		"an answer that is too large": {200, `{"access_token":"` + strings.Repeat("x", maxAnswer) + `"}`, fault.Unreachable, 0, "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := clientCredentials
			cfg.HTTPClient = &http.Client{Transport: misbehave.Transport(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/oauth_token.do" {
					t.Errorf("called %s without a token", r.URL.Path)
				}
				if tc.after > 0 {
					w.Header().Set("Retry-After", "7")
				}
				says(tc.status, tc.body)(w, r)
			}))}
			// Even of a create it is certain that nothing happened: it is never unclear.
			_, err := client(t, cfg).Create(t.Context(), draft, correlationID)
			if e := failed(t, err, tc.want, tc.words); e.After != tc.after || strings.Contains(e.Error(), "Alice") {
				t.Errorf("%v, after %s", e, e.After)
			}
		})
	}
}

func TestATokenIsTakenWhateverItsLifeIsCalled(t *testing.T) {
	t.Parallel()
	for life, serves := range map[string]time.Duration{
		`1800`: 25 * time.Minute, `"1800"`: 25 * time.Minute, `null`: 4 * time.Minute, `-1`: 4 * time.Minute, `"soon"`: 4 * time.Minute, `1e3`: 4 * time.Minute,
		`999999999999999999`: 24*time.Hour - 5*time.Minute, `{}`: 4 * time.Minute,
	} {
		synctest.Test(t, func(t *testing.T) {
			var tokens atomic.Int32
			cfg := clientCredentials
			cfg.HTTPClient = &http.Client{Transport: misbehave.Transport(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/oauth_token.do" {
					tokens.Add(1)
					says(200, `{"access_token":"x","expires_in":`+life+`}`)(w, r)
					return
				}
				says(200, `{"result":[]}`)(w, r)
			}))}
			c := client(t, cfg)
			for _, step := range []struct {
				wait time.Duration
				want int32
			}{{0, 1}, {serves - time.Second, 1}, {time.Second, 2}} {
				time.Sleep(step.wait)
				if _, err := c.Find(t.Context(), "sc_request", correlationID); err != nil {
					t.Fatalf("a life of %s: %v", life, err)
				}
				synctest.Wait()
				if n := tokens.Load(); n != step.want {
					t.Errorf("a life of %s: %d tokens, want %d", life, n, step.want)
				}
			}
		})
	}
}

// unavailable is an error of the network.
type unavailable struct{}

func (unavailable) Error() string   { return "dial tcp: connection refused\nfor alice@example.com" }
func (unavailable) Timeout() bool   { return false }
func (unavailable) Temporary() bool { return true }

var _ net.Error = unavailable{}

func TestEntraSaysWhyItGivesNoToken(t *testing.T) {
	t.Parallel()
	refusal := func(status int, header http.Header) error {
		body := io.NopCloser(strings.NewReader(`{"error_description":"AADSTS500011: api://a was not found, says alice@example.com. Trace ID: more"}`))
		return &azidentity.AuthenticationFailedError{RawResponse: &http.Response{StatusCode: status, Header: header, Body: body}}
	}
	for name, tc := range map[string]struct {
		err   error
		want  fault.Reason
		after time.Duration
		words []string
	}{
		"a refusal":         {refusal(400, nil), fault.Unauthorized, 0, []string{"Microsoft Entra gave no token: AADSTS500011", "status 400", "SERVICENOW_AUDIENCE"}},
		"throttled":         {refusal(429, http.Header{"Retry-After": {"9"}}), fault.Throttled, 9 * time.Second, nil},
		"an error of Entra": {refusal(503, nil), fault.Unreachable, 0, nil},
		"no identity":       {errors.New("ManagedIdentityCredential: no identity for alice@example.com\nmore"), fault.Unauthorized, 0, []string{"no identity for …", "managed identity"}},
		"no network":        {fmt.Errorf("wrapped: %w", unavailable{}), fault.Unreachable, 0, []string{"connection refused"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := client(t, Config{Auth: AuthEntra, Audience: "a", Credential: &credential{err: tc.err}, HTTPClient: &http.Client{Transport: misbehave.Transport(http.HandlerFunc(
				func(http.ResponseWriter, *http.Request) { t.Error("called without a token") }))}})
			_, err := c.Create(t.Context(), draft, correlationID)
			e := failed(t, err, tc.want, tc.words...)
			if e.After != tc.after || strings.Contains(e.Error(), "alice") || strings.Contains(e.Error(), "\n") || strings.Contains(e.Error(), "more") {
				t.Errorf("%v, after %s", e, e.After)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		hung := credentialFunc(func(ctx context.Context) (azcore.AccessToken, error) {
			<-ctx.Done()
			return azcore.AccessToken{}, errors.New("context deadline exceeded")
		})
		c := client(t, Config{Auth: AuthEntra, Audience: "a", Credential: hung, Timeout: time.Minute, HTTPClient: &http.Client{Transport: misbehave.Transport(http.NotFoundHandler())}})
		_, err := c.Create(t.Context(), draft, correlationID)
		failed(t, err, fault.Unreachable)
	})
}

type credentialFunc func(context.Context) (azcore.AccessToken, error)

func (f credentialFunc) GetToken(ctx context.Context, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return f(ctx)
}

// With a session cookie an instance whose queue is too long answers 202 and drops the call.
func TestNoCookieIsKept(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	given := s.Instance.Client()
	given.Jar = jar
	cfg := clientCredentials
	cfg.HTTPClient = given
	c := client(t, cfg)
	if _, err := c.Find(t.Context(), "sc_request", correlationID); err != nil {
		t.Fatal(err)
	}
	s.SetOverloaded(true)
	if _, err := c.Create(t.Context(), draft, correlationID); err != nil {
		t.Errorf("the call was dropped: %v", err)
	}
	if given.Jar != jar {
		t.Error("the client that was handed in was changed")
	}
}

func TestSettingsThatAreMissingOrWrongAreNamed(t *testing.T) {
	t.Parallel()
	good := Config{URL: "https://instance.example", Auth: AuthBasic, Username: "bridge", Password: password}
	for name, tc := range map[string]struct {
		change func(*Config)
		field  string
		word   string
	}{
		"no URL":                     {func(c *Config) { c.URL = "" }, "SERVICENOW_URL", "is not set"},
		"a URL that is none":         {func(c *Config) { c.URL = "https://a b/%zz" }, "SERVICENOW_URL", "not a URL"},
		"no scheme":                  {func(c *Config) { c.URL = "instance.example" }, "SERVICENOW_URL", `"instance.example"`},
		"http to elsewhere":          {func(c *Config) { c.URL = "http://instance.example" }, "SERVICENOW_URL", `"http://instance.example"`},
		"another scheme":             {func(c *Config) { c.URL = "ftp://localhost" }, "SERVICENOW_URL", "https"},
		"no host":                    {func(c *Config) { c.URL = "https:///x" }, "SERVICENOW_URL", "https"},
		"a port alone":               {func(c *Config) { c.URL = "https://:443" }, "SERVICENOW_URL", "https"},
		"a password in the URL":      {func(c *Config) { c.URL = "https://bridge:hush@instance.example" }, "SERVICENOW_URL", "password"},
		"a query":                    {func(c *Config) { c.URL = "https://instance.example?key=hush" }, "SERVICENOW_URL", "query"},
		"a fragment":                 {func(c *Config) { c.URL = "https://instance.example/#hush" }, "SERVICENOW_URL", "fragment"},
		"another way":                {func(c *Config) { c.Auth = "oauth" }, "SERVICENOW_AUTH", `"oauth"`},
		"no client id":               {func(c *Config) { c.Auth = ""; c.ClientSecret = "hush" }, "SERVICENOW_CLIENT_ID", "client-credentials"},
		"no client secret":           {func(c *Config) { c.Auth = ""; c.ClientID = "x" }, "SERVICENOW_CLIENT_SECRET", "is not set"},
		"no user":                    {func(c *Config) { c.Username = "" }, "SERVICENOW_USERNAME", "basic"},
		"a user with a colon":        {func(c *Config) { c.Username = "a:b" }, "SERVICENOW_USERNAME", "colon"},
		"no password":                {func(c *Config) { c.Password = "" }, "SERVICENOW_PASSWORD", "is not set"},
		"a password with a line":     {func(c *Config) { c.Password = "hush\nhush" }, "SERVICENOW_PASSWORD", "line break"},
		"a password with a space":    {func(c *Config) { c.Password = "hush " }, "SERVICENOW_PASSWORD", "space"},
		"no key":                     {func(c *Config) { c.Auth = AuthAPIKey }, "SERVICENOW_API_KEY", "api-key"},
		"a key with a line":          {func(c *Config) { c.Auth = AuthAPIKey; c.APIKey = "hush\r\nX: y" }, "SERVICENOW_API_KEY", "line break"},
		"no audience":                {func(c *Config) { c.Auth = AuthEntra; c.Credential = &credential{} }, "SERVICENOW_AUDIENCE", "entra"},
		"no credential for an entra": {func(c *Config) { c.Auth = AuthEntra; c.Audience = "x" }, "SERVICENOW_AUTH", "credential"},
	} {
		cfg := good
		tc.change(&cfg)
		_, err := New(cfg)
		if err == nil {
			t.Errorf("%s is taken", name)
			continue
		}
		if e := failed(t, err, fault.Misconfigured, tc.word); e.Field != tc.field || strings.Contains(e.Error(), "hush") {
			t.Errorf("%s: %v, want %s named", name, e, tc.field)
		}
	}
	for _, url := range []string{"https://instance.example", " https://instance.example/itsm/ ", "http://localhost:8080", "http://127.0.0.1", "http://[::1]:1", "https://10.0.0.1:8443/a/b"} {
		cfg := good
		cfg.URL = url
		if _, err := New(cfg); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}
