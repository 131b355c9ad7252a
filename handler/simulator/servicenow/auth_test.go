package servicenow_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"ticketbridge/handler/simulator/servicenow"
)

const incidents = "/api/now/v2/table/incident"

func (s *site) token(form url.Values) answer {
	s.t.Helper()
	got, err := s.client.PostForm(s.url+"/oauth_token.do", form)
	if err != nil {
		s.t.Fatal(err)
	}
	defer got.Body.Close()
	text, _ := io.ReadAll(got.Body)
	return answer{s.t, got.StatusCode, got.Header, string(text)}
}

func (s *site) with(name, value string) *site {
	copied := *s
	copied.user, copied.header = "", s.header.Clone()
	if name != "" {
		copied.header.Set(name, value)
	}
	return &copied
}

func TestWithoutCredentialsACallIs401(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *servicenow.Config) {
		c.Users = append(c.Users, servicenow.User{UserName: "gone", Password: "secret", Inactive: true})
	})
	for name, caller := range map[string]*site{
		"none": s.with("", ""), "basic without a user": s.with("Authorization", "Basic Ojo="), "bearer": s.with("Authorization", "Bearer nonsense"),
		"a key": s.with("x-sn-apikey", "nonsense"), "a cookie": s.with("Cookie", "JSESSIONID=x"), "an empty key": s.with("Authorization", "Bearer"),
		"somebody without a password": {Instance: s.Instance, t: t, url: s.url, client: s.client, header: s.header, user: "alice@example.com"},
		"somebody inactive":           {Instance: s.Instance, t: t, url: s.url, client: s.client, header: s.header, user: "gone"},
	} {
		got := caller.do("GET", incidents, nil)
		message, detail := got.fails(401)
		if message != "User Not Authenticated" || detail != "Required to provide Auth information" || !strings.HasPrefix(got.header.Get("WWW-Authenticate"), "BASIC") {
			t.Errorf("%s: %s %v", name, got.text, got.header)
		}
	}
}

func TestAnAPIKeyActsAsItsUser(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *servicenow.Config) { c.APIKeys = []servicenow.APIKey{{Key: "k", User: "bridge"}} })
	if got := s.with("x-sn-apikey", "k").create("incident", nil); got["sys_created_by"] != "bridge" {
		t.Errorf("created by %v", got["sys_created_by"])
	}
}

func TestClientCredentials(t *testing.T) {
	t.Parallel()
	clients := func(c *servicenow.Config) {
		c.OAuthClients = []servicenow.OAuthClient{{ID: "id", Secret: "hush", User: "bridge"}}
	}
	s := start(t, clients)
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"id"}, "client_secret": {"hush"}}
	var got struct {
		AccessToken  string `json:"access_token"`
		TokenType    string `json:"token_type"`
		RefreshToken string `json:"refresh_token"`
		ExpiresIn    int    `json:"expires_in"`
	}
	if err := json.Unmarshal([]byte(s.token(form).want(200).text), &got); err != nil {
		t.Fatal(err)
	}
	if got.AccessToken == "" || got.TokenType != "Bearer" || got.ExpiresIn != 1800 || got.RefreshToken != "" {
		t.Errorf("%+v", got)
	}
	caller := s.with("Authorization", "Bearer "+got.AccessToken)
	if rec := caller.create("incident", nil); rec["sys_created_by"] != "bridge" {
		t.Errorf("created by %v", rec["sys_created_by"])
	}
	s.RevokeTokens()
	caller.do("GET", incidents, nil).fails(401)
	if s.TokensIssued() != 1 {
		t.Errorf("%d tokens", s.TokensIssued())
	}

	refused := func(s *site, name string, form url.Values, code string) {
		t.Helper()
		var e struct {
			Error       string `json:"error"`
			Description string `json:"error_description"`
		}
		got := s.token(form)
		if err := json.Unmarshal([]byte(got.text), &e); err != nil || got.status != 401 || e.Error != code || e.Description == "" {
			t.Errorf("%s: %d %s", name, got.status, got.text)
		}
	}
	refused(s, "a wrong secret", url.Values{"grant_type": {"client_credentials"}, "client_id": {"id"}, "client_secret": {"x"}}, "server_error")
	refused(s, "another grant", url.Values{"grant_type": {"password"}, "client_id": {"id"}, "client_secret": {"hush"}}, "unsupported_grant_type")
	refused(start(t, clients, func(c *servicenow.Config) { c.NoClientCredentials = true }), "the property is off", form, "server_error")
	s.do("GET", "/oauth_token.do", nil).want(405)
	s.do("POST", "/oauth_token.do", "{}").want(400) // as JSON
}

func TestATokenIsGoodForThirtyMinutes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		instance, err := servicenow.New(servicenow.Config{
			Users: []servicenow.User{{UserName: "bridge"}}, OAuthClients: []servicenow.OAuthClient{{ID: "id", Secret: "hush", User: "bridge"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		client := instance.Client()
		answer, err := client.PostForm("https://instance/oauth_token.do", url.Values{"grant_type": {"client_credentials"}, "client_id": {"id"}, "client_secret": {"hush"}})
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			AccessToken string `json:"access_token"`
		}
		if err := json.NewDecoder(answer.Body).Decode(&got); err != nil {
			t.Fatal(err)
		}
		for _, want := range []int{200, 401} {
			time.Sleep(servicenow.TokenLifetime - time.Second)
			r, _ := http.NewRequest("GET", "https://instance"+incidents, nil)
			r.Header.Set("Accept", "application/json")
			r.Header.Set("Authorization", "Bearer "+got.AccessToken)
			answer, err := client.Do(r)
			if err != nil || answer.StatusCode != want {
				t.Errorf("%v %v, want %d", answer.StatusCode, err, want)
			}
		}
	})
}

func TestATokenOfATrustedProviderActsAsTheUserItNames(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	jwks := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "1", Algorithm: "RS256", Use: "sig"}}})
	}))
	t.Cleanup(jwks.Close)
	const issuer, audience, subject = "https://sts.example/tenant/", "api-client", "11111111-2222-3333-4444-555555555555"
	s := start(t, func(c *servicenow.Config) {
		c.Users = append(c.Users, servicenow.User{UserName: subject})
		c.OIDCProviders = []servicenow.OIDCProvider{{Issuer: issuer, JWKSURL: jwks.URL, ClientID: audience}}
	})
	sign := func(key *rsa.PrivateKey, claims jwt.Claims) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "1"}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := jwt.Signed(signer).Claims(claims).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	good := jwt.Claims{Issuer: issuer, Audience: jwt.Audience{audience}, Subject: subject, Expiry: jwt.NewNumericDate(time.Now().Add(time.Hour))}
	if rec := s.with("Authorization", "Bearer "+sign(key, good)).create("incident", nil); rec["sys_created_by"] != subject {
		t.Errorf("created by %v", rec["sys_created_by"])
	}
	for name, spoil := range map[string]func(*jwt.Claims){
		"issuer":   func(c *jwt.Claims) { c.Issuer = "https://sts.example/other/" },
		"audience": func(c *jwt.Claims) { c.Audience = jwt.Audience{"other"} },
		"subject":  func(c *jwt.Claims) { c.Subject = "nobody" },
		"expiry":   func(c *jwt.Claims) { c.Expiry = jwt.NewNumericDate(time.Now().Add(-time.Hour)) },
	} {
		claims := good
		spoil(&claims)
		if got := s.with("Authorization", "Bearer "+sign(key, claims)).do("GET", incidents, nil); got.status != 401 {
			t.Errorf("a wrong %s was answered %d", name, got.status)
		}
	}
	if got := s.with("Authorization", "Bearer "+sign(other, good)).do("GET", incidents, nil); got.status != 401 {
		t.Errorf("a wrong key was answered %d", got.status)
	}
}

func TestALoginOfAUserWhoIsNotThereIsAnError(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]servicenow.Config{
		"client": {OAuthClients: []servicenow.OAuthClient{{ID: "id", User: "x"}}},
		"key":    {APIKeys: []servicenow.APIKey{{Key: "k", User: "x"}}},
		"twice":  {Users: []servicenow.User{{UserName: "x"}, {UserName: "X"}}},
		"table":  {Tables: []servicenow.Table{{Name: "u_x", Extends: "nonesuch"}}},
		"column": {Columns: map[string][]servicenow.Column{"nonesuch": {{Name: "x"}}}},
	} {
		if _, err := servicenow.New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
