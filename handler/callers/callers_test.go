package callers

import (
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ticketbridge/handler/fault"
)

const (
	tenantID  = "3f2c1f6e-8c1d-4a58-9c07-51f3a4a3c001"
	otherID   = "99999999-8c1d-4a58-9c07-51f3a4a3c001"
	appID     = "b1b2b3b4-0000-4000-8000-00000000a001"
	callerID  = EntitlementManagement
	relayID   = "c1c2c3c4-0000-4000-8000-00000000b002"
	v1Issuer  = "https://sts.windows.net/" + tenantID + "/"
	v2Issuer  = "https://login.microsoftonline.com/" + tenantID + "/v2.0"
	strangeID = "dddddddd-0000-4000-8000-00000000c003"
)

// rsaKeys are made once: each takes a while.
var rsaKeys = sync.OnceValue(func() []*rsa.PrivateKey {
	var out []*rsa.PrivateKey
	for range 3 {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		out = append(out, k)
	}
	return out
})

var b64 = base64.RawURLEncoding.EncodeToString

func jwk(kid string, k *rsa.PublicKey) map[string]any {
	return map[string]any{"kty": "RSA", "use": "sig", "kid": kid, "x5t": kid, "n": b64(k.N.Bytes()), "e": b64(big.NewInt(int64(k.E)).Bytes()), "issuer": v2Issuer}
}

// tenant is an authority's key document behind a transport, and what becomes of calls for it.
type tenant struct {
	mu    sync.Mutex
	keys  []any
	err   error         // the connection fails
	code  int           // the status, when not 200
	body  string        // instead of the keys
	wait  chan struct{} // answers when closed
	calls int
	url   string
}

func (a *tenant) RoundTrip(r *http.Request) (*http.Response, error) {
	a.mu.Lock()
	a.calls++
	a.url = r.URL.String()
	wait := a.wait
	a.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return nil, a.err
	}
	code, body := 200, a.body
	if a.code != 0 {
		code = a.code
	}
	if body == "" {
		b, err := json.Marshal(map[string]any{"keys": a.keys})
		if err != nil {
			return nil, err
		}
		body = string(b)
	}
	return &http.Response{StatusCode: code, Header: http.Header{"Location": {"/elsewhere"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

func (a *tenant) set(change func(*tenant)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(a)
}

func (a *tenant) fetches() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls
}

func newTenant() *tenant {
	k := rsaKeys()
	return &tenant{keys: []any{
		map[string]any{"kty": "EC", "kid": "ec", "crv": "P-256", "x": "AA", "y": "AA"},
		"nonsense",
		jwk("old", &k[0].PublicKey), jwk("new", &k[1].PublicKey),
	}}
}

func verifier(t *testing.T, a http.RoundTripper, change func(*Config)) *Verifier {
	t.Helper()
	c := Config{Setting: "CALLOUT", TenantID: tenantID, Audience: "api://" + appID, Callers: []string{callerID, strings.ToUpper(relayID)}, Transport: a}
	if change != nil {
		change(&c)
	}
	v, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

type m = map[string]any

// good are the claims of a good token of version 1, changed by with; nil removes.
func good(now time.Time, with m) m {
	c := m{
		"aud": "api://" + appID, "iss": v1Issuer, "tid": tenantID, "appid": callerID, "appidacr": "2", "idtyp": "app", "ver": "1.0",
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(), "oid": strangeID, "sub": strangeID,
	}
	return merge(c, with)
}

func goodV2(now time.Time, with m) m {
	return good(now, merge(m{"iss": v2Issuer, "aud": appID, "appid": nil, "azp": callerID, "ver": "2.0"}, with))
}

func merge(into, with m) m {
	out := maps.Clone(into)
	maps.Copy(out, with)
	for k, v := range with {
		if v == nil && into != nil {
			if _, ok := into[k]; ok {
				delete(out, k)
			}
		}
	}
	return out
}

func encode(header, claims any) string {
	h, err := json.Marshal(header)
	if err != nil {
		panic(err)
	}
	c, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	return b64(h) + "." + b64(c)
}

func signed(header m, claims any, key *rsa.PrivateKey) string {
	text := encode(merge(m{"typ": "JWT", "alg": "RS256", "kid": "new"}, header), claims)
	sum := sha256.Sum256([]byte(text))
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	return text + "." + b64(sig)
}

func hs256(header m, claims any, secret []byte) string {
	text := encode(merge(m{"typ": "JWT", "alg": "HS256", "kid": "new"}, header), claims)
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(text))
	return text + "." + b64(h.Sum(nil))
}

func call(authorization ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/api/callout", http.NoBody)
	r.Header["Authorization"] = authorization
	return r
}

func TestOnlyAGoodTokenOfAnAllowedApplicationMayCall(t *testing.T) {
	t.Parallel()
	now := time.Now()
	k := rsaKeys()
	publicDER := x509.MarshalPKCS1PublicKey(&k[1].PublicKey)
	spki, err := x509.MarshalPKIXPublicKey(&k[1].PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})
	token := func(claims m) string { return signed(nil, claims, k[1]) }
	tampered := func(s string, part int) string {
		p := strings.Split(s, ".")
		b := []byte(p[part])
		i := len(b) / 2
		if b[i] == 'A' {
			b[i] = 'B'
		} else {
			b[i] = 'A'
		}
		p[part] = string(b)
		return strings.Join(p, ".")
	}
	const ok, unauth, forbid = fault.Reason(""), fault.Unauthorized, fault.Forbidden
	for _, tc := range []struct {
		name string
		auth []string
		want fault.Reason
	}{
		{"version 1", []string{"Bearer " + token(good(now, nil))}, ok},
		{"version 1, the bare id as audience", []string{"Bearer " + token(good(now, m{"aud": appID}))}, ok},
		{"version 1, audience with a slash", []string{"Bearer " + token(good(now, m{"aud": "api://" + appID + "/"}))}, ok},
		{"version 1, audience in upper case", []string{"Bearer " + token(good(now, m{"aud": "api://" + strings.ToUpper(appID)}))}, ok},
		{"version 1, audience as a list", []string{"Bearer " + token(good(now, m{"aud": []string{"api://" + appID}}))}, ok},
		{"version 2", []string{"Bearer " + token(goodV2(now, nil))}, ok},
		{"the other caller, in another case", []string{"Bearer " + token(good(now, m{"appid": strings.ToUpper(relayID)}))}, ok},
		{"the older key", []string{"Bearer " + signed(m{"kid": "old"}, good(now, nil), k[0])}, ok},
		{"scheme in lower case", []string{"bearer " + token(good(now, nil))}, ok},
		{"expired within the skew", []string{"Bearer " + token(good(now, m{"exp": now.Add(-4 * time.Minute).Unix()}))}, ok},
		{"from the future within the skew", []string{"Bearer " + token(good(now, m{"nbf": now.Add(4 * time.Minute).Unix(), "iat": now.Add(4 * time.Minute).Unix()}))}, ok},
		{"no nbf", []string{"Bearer " + token(good(now, m{"nbf": nil}))}, ok},
		{"times with fractions", []string{"Bearer " + token(good(now, m{"exp": float64(now.Unix()) + 1800.5}))}, ok},

		{"no header", nil, unauth},
		{"an empty header", []string{""}, unauth},
		{"no token", []string{"Bearer "}, unauth},
		{"another scheme", []string{"Basic dXNlcjpwYXNz"}, unauth},
		{"proof of possession", []string{"PoP " + token(good(now, nil))}, unauth},
		{"the token alone", []string{token(good(now, nil))}, unauth},
		{"two headers", []string{"Bearer " + token(good(now, nil)), "Bearer " + token(good(now, nil))}, unauth},
		{"two headers joined by the host", []string{"Bearer " + token(good(now, nil)) + ", Bearer " + token(good(now, nil))}, unauth},
		{"a second header that is empty", []string{"Bearer " + token(good(now, nil)), ""}, unauth},
		{"two tokens", []string{"Bearer " + token(good(now, nil)) + " " + token(good(now, nil))}, unauth},
		{"garbage", []string{"Bearer garbage"}, unauth},
		{"three parts of garbage", []string{"Bearer a.b.c"}, unauth},
		{"empty parts", []string{"Bearer .."}, unauth},
		{"five parts", []string{"Bearer a.b.c.d.e"}, unauth},
		{"the JSON form", []string{`Bearer {"payload":"e30","protected":"e30","signature":""}`}, unauth},
		{"too long", []string{"Bearer " + token(good(now, m{"x": strings.Repeat("x", maxToken)}))}, unauth},
		{"no signature", []string{"Bearer " + encode(m{"alg": "RS256", "kid": "new"}, good(now, nil)) + "."}, unauth},
		{"alg none", []string{"Bearer " + encode(m{"alg": "none", "kid": "new"}, good(now, nil)) + "."}, unauth},
		{"alg None", []string{"Bearer " + encode(m{"alg": "None"}, good(now, nil)) + "."}, unauth},
		{"no alg", []string{"Bearer " + encode(m{"kid": "new"}, good(now, nil)) + "."}, unauth},
		{"HS256 with the public key, DER", []string{"Bearer " + hs256(nil, good(now, nil), publicDER)}, unauth},
		{"HS256 with the public key, PEM", []string{"Bearer " + hs256(nil, good(now, nil), publicPEM)}, unauth},
		{"RS256 in name, an HMAC in truth", []string{"Bearer " + hs256(m{"alg": "RS256"}, good(now, nil), publicPEM)}, unauth},
		{"RS512 in name", []string{"Bearer " + signed(m{"alg": "RS512"}, good(now, nil), k[1])}, unauth},
		{"a stranger's key under a known id", []string{"Bearer " + signed(nil, good(now, nil), k[2])}, unauth},
		{"the other key's id", []string{"Bearer " + signed(m{"kid": "old"}, good(now, nil), k[1])}, unauth},
		{"an unknown key", []string{"Bearer " + signed(m{"kid": "nobody's"}, good(now, nil), k[2])}, unauth},
		{"a key of its own in the header", []string{"Bearer " + signed(m{"kid": "mine", "jwk": jwk("mine", &k[2].PublicKey)}, good(now, nil), k[2])}, unauth},
		{"a key of its own under a known id", []string{"Bearer " + signed(m{"jwk": jwk("new", &k[2].PublicKey)}, good(now, nil), k[2])}, unauth},
		{"a key elsewhere", []string{"Bearer " + signed(m{"jku": "https://example.com/keys"}, good(now, nil), k[2])}, unauth},
		{"a critical extension", []string{"Bearer " + signed(m{"crit": []string{"exp"}, "exp": 1}, good(now, nil), k[1])}, unauth},
		{"no key id", []string{"Bearer " + signed(m{"kid": nil}, good(now, nil), k[1])}, unauth},
		{"a key id that is a number", []string{"Bearer " + signed(m{"kid": 5}, good(now, nil), k[1])}, unauth},
		{"a key that is not for signing", []string{"Bearer " + signed(m{"kid": "enc"}, good(now, nil), k[2])}, unauth},
		{"changed claims", []string{"Bearer " + tampered(token(good(now, nil)), 1)}, unauth},
		{"a changed signature", []string{"Bearer " + tampered(token(good(now, nil)), 2)}, unauth},
		{"another tenant's issuer", []string{"Bearer " + token(good(now, m{"iss": "https://sts.windows.net/" + otherID + "/"}))}, unauth},
		{"another tenant, our issuer", []string{"Bearer " + token(good(now, m{"tid": otherID}))}, unauth},
		{"no tenant", []string{"Bearer " + token(good(now, m{"tid": nil}))}, unauth},
		{"issuer without its slash", []string{"Bearer " + token(good(now, m{"iss": strings.TrimSuffix(v1Issuer, "/")}))}, unauth},
		{"issuer of the common endpoint", []string{"Bearer " + token(goodV2(now, m{"iss": "https://login.microsoftonline.com/common/v2.0"}))}, unauth},
		{"another cloud", []string{"Bearer " + token(goodV2(now, m{"iss": "https://login.microsoftonline.us/" + tenantID + "/v2.0"}))}, unauth},
		{"no issuer", []string{"Bearer " + token(good(now, m{"iss": nil}))}, unauth},
		{"another audience", []string{"Bearer " + token(good(now, m{"aud": "https://management.azure.com"}))}, unauth},
		{"another application's audience", []string{"Bearer " + token(good(now, m{"aud": "api://" + otherID}))}, unauth},
		{"audience that only begins like ours", []string{"Bearer " + token(good(now, m{"aud": "api://" + appID + "/more"}))}, unauth},
		{"no audience", []string{"Bearer " + token(good(now, m{"aud": nil}))}, unauth},
		{"an empty audience", []string{"Bearer " + token(good(now, m{"aud": ""}))}, unauth},
		{"expired", []string{"Bearer " + token(good(now, m{"exp": now.Add(-6 * time.Minute).Unix()}))}, unauth},
		{"no expiry", []string{"Bearer " + token(good(now, m{"exp": nil}))}, unauth},
		{"expiry as text", []string{"Bearer " + token(good(now, m{"exp": "tomorrow"}))}, unauth},
		{"expiry 0", []string{"Bearer " + token(good(now, m{"exp": 0}))}, unauth},
		{"not valid yet", []string{"Bearer " + token(good(now, m{"nbf": now.Add(6 * time.Minute).Unix()}))}, unauth},
		{"issued in the future", []string{"Bearer " + token(good(now, m{"iat": now.Add(6 * time.Minute).Unix()}))}, unauth},
		{"claims that are no object", []string{"Bearer " + signed(nil, []string{"x"}, k[1])}, unauth},
		{"claims of another type", []string{"Bearer " + token(good(now, m{"appid": m{"x": 1}}))}, unauth},
		{"version 1 with azp only", []string{"Bearer " + token(good(now, m{"appid": nil, "azp": callerID}))}, unauth},
		{"version 2 with appid only", []string{"Bearer " + token(goodV2(now, m{"azp": nil, "appid": callerID}))}, unauth},
		{"version 2, allowed appid beside a strange azp", []string{"Bearer " + token(goodV2(now, m{"azp": strangeID, "appid": callerID}))}, forbid},
		{"another application", []string{"Bearer " + token(good(now, m{"appid": strangeID}))}, forbid},
		{"version 2, another application", []string{"Bearer " + token(goodV2(now, m{"azp": strangeID}))}, forbid},
		{"a person's token", []string{"Bearer " + token(good(now, m{"scp": "user_impersonation"}))}, forbid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			a := newTenant()
			a.keys = append(a.keys, merge(jwk("enc", &k[2].PublicKey), m{"use": "enc"}))
			err := verifier(t, a, nil).Check(call(tc.auth...), nil)
			if fault.ReasonOf(err) != tc.want {
				t.Errorf("%v, want %q", err, tc.want)
			}
			if err != nil {
				for _, auth := range tc.auth {
					for _, part := range strings.FieldsFunc(auth, func(r rune) bool { return r == '.' || r == ' ' || r == ',' }) {
						if len(part) > 20 && strings.Contains(fmt.Sprintf("%+v %#v", err, err), part) {
							t.Errorf("a part of the token is in the error: %v", err)
						}
					}
				}
			}
		})
	}
}

func TestWithNothingConfiguredEverythingPasses(t *testing.T) {
	t.Parallel()
	v, err := New(Config{Setting: "CALLOUT", TenantID: tenantID})
	if err != nil {
		t.Fatal(err)
	}
	v.Prefetch()
	if err := v.Check(call(), []byte("x")); err != nil {
		t.Error(err)
	}
}

func TestEachCloudHasItsIssuers(t *testing.T) {
	t.Parallel()
	now, k := time.Now(), rsaKeys()
	for _, tc := range []struct{ authority, v1, v2, keys string }{
		{"", "https://sts.windows.net/", "https://login.microsoftonline.com/", "https://login.microsoftonline.com/"},
		{"https://login.microsoftonline.com/", "https://sts.windows.net/", "https://login.microsoftonline.com/", "https://login.microsoftonline.com/"},
		{"https://login.windows.net", "https://sts.windows.net/", "https://login.microsoftonline.com/", "https://login.windows.net/"},
		{"https://login.microsoftonline.us", "https://sts.windows.net/", "https://login.microsoftonline.us/", "https://login.microsoftonline.us/"},
		{"https://login.chinacloudapi.cn/", "https://sts.chinacloudapi.cn/", "https://login.partner.microsoftonline.cn/", "https://login.chinacloudapi.cn/"},
		{"https://login.partner.microsoftonline.cn", "https://sts.chinacloudapi.cn/", "https://login.partner.microsoftonline.cn/", "https://login.partner.microsoftonline.cn/"},
		{"http://127.0.0.1:7072", "https://sts.windows.net/", "http://127.0.0.1:7072/", "http://127.0.0.1:7072/"},
		{"http://localhost:7072/", "https://sts.windows.net/", "http://localhost:7072/", "http://localhost:7072/"},
	} {
		a := newTenant()
		v := verifier(t, a, func(c *Config) { c.AuthorityHost, c.TenantID = tc.authority, strings.ToUpper(tenantID) })
		for issuer, claims := range map[string]m{tc.v1 + tenantID + "/": good(now, nil), tc.v2 + tenantID + "/v2.0": goodV2(now, nil)} {
			if err := v.Check(call("Bearer "+signed(nil, merge(claims, m{"iss": issuer}), k[1])), nil); err != nil {
				t.Errorf("%s, %s: %v", tc.authority, issuer, err)
			}
		}
		if want := tc.keys + tenantID + "/discovery/v2.0/keys"; a.url != want || a.calls != 1 {
			t.Errorf("%s: %d fetches of %s, want one of %s", tc.authority, a.calls, a.url, want)
		}
	}
}

func TestAnAudienceWithANameOfItsOwnIsComparedExactly(t *testing.T) {
	t.Parallel()
	now, k := time.Now(), rsaKeys()
	v := verifier(t, newTenant(), func(c *Config) { c.Audience = "https://tickets.example.com/api" })
	for aud, want := range map[string]fault.Reason{
		"https://tickets.example.com/api": "", "https://tickets.example.com/api/": "", "https://Tickets.example.com/api": fault.Unauthorized,
		"https://tickets.example.com": fault.Unauthorized, "api://https://tickets.example.com/api": fault.Unauthorized,
	} {
		if err := v.Check(call("Bearer "+signed(nil, good(now, m{"aud": aud}), k[1])), nil); fault.ReasonOf(err) != want {
			t.Errorf("%s: %v, want %q", aud, err, want)
		}
	}
}

func TestASettingThatCannotBeUsedIsNamed(t *testing.T) {
	t.Parallel()
	key := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for _, tc := range []struct {
		field  string
		change func(*Config)
	}{
		{"AZURE_TENANT_ID", func(c *Config) { c.TenantID = "" }},
		{"AZURE_TENANT_ID", func(c *Config) { c.TenantID = "contoso.onmicrosoft.com" }},
		{"CLOSE_AUDIENCE", func(c *Config) { c.Audience = "" }},
		{"CLOSE_CALLERS", func(c *Config) { c.Callers = nil }},
		{"CLOSE_CALLERS", func(c *Config) { c.Callers = []string{callerID, "nobody"} }},
		{"CLOSE_AUDIENCE", func(c *Config) { c.Audience, c.Callers, c.Role = "", nil, "Ticket.Close" }},
		{"CLOSE_AUDIENCE", func(c *Config) { c.Audience, c.Callers, c.Relay = "", nil, relayID }},
		{RelaySetting, func(c *Config) { c.Relay = "relay" }},
		{"AZURE_AUTHORITY_HOST", func(c *Config) { c.AuthorityHost = "http://login.microsoftonline.com" }},
		{"AZURE_AUTHORITY_HOST", func(c *Config) { c.AuthorityHost = "login.microsoftonline.com" }},
		{"AZURE_AUTHORITY_HOST", func(c *Config) { c.AuthorityHost = "https://login.microsoftonline.com/common" }},
		{"AZURE_AUTHORITY_HOST", func(c *Config) { c.AuthorityHost = "http://127.0.0.1.example.com" }},
		{"CLOSE_HMAC_KEY", func(c *Config) { c.HMACKeys = "not base64!" }},
		{"CLOSE_HMAC_KEY", func(c *Config) { c.HMACKeys = "c2hvcnQ=" }},
		{"CLOSE_HMAC_KEY", func(c *Config) { c.HMACKeys = key + ",c2hvcnQ=" }},
		{"CLOSE_HMAC_KEY", func(c *Config) { c.HMACKeys = " , " }},
	} {
		c := Config{Setting: "CLOSE", TenantID: tenantID, Audience: appID, Callers: []string{callerID}}
		tc.change(&c)
		_, err := New(c)
		e, ok := errors.AsType[*fault.Error](err)
		if !ok || e.Reason != fault.Misconfigured || e.Field != tc.field || strings.Contains(err.Error(), "c2hvcnQ") {
			t.Errorf("%+v: %v, want misconfigured %s", c, err, tc.field)
		}
	}
}

func TestARelayMayCallByTheObjectIDOfItsIdentityAndNobodyWithoutTheAppRole(t *testing.T) {
	t.Parallel()
	now, k := time.Now(), rsaKeys()
	const role = "Callout.Send"
	relayOnly := func(c *Config) { c.Callers, c.Relay = nil, strings.ToUpper(relayID) }
	withRole := func(c *Config) { c.Role, c.Relay = role, relayID }
	for _, tc := range []struct {
		name   string
		config func(*Config)
		claims m
		want   fault.Reason
	}{
		{"the relay", relayOnly, good(now, m{"appid": strangeID, "oid": relayID}), ""},
		{"the relay, version 2", relayOnly, goodV2(now, m{"azp": strangeID, "oid": strings.ToUpper(relayID)}), ""},
		{"another identity", relayOnly, good(now, m{"appid": strangeID, "oid": otherID}), fault.Forbidden},
		{"no object id", relayOnly, good(now, m{"appid": strangeID, "oid": nil}), fault.Forbidden},
		{"the relay's object id as the application's", relayOnly, good(now, m{"appid": relayID}), fault.Forbidden},
		{"the relay, but nobody says through which application", relayOnly, good(now, m{"appid": nil, "oid": relayID}), fault.Unauthorized},
		{"a person with the relay's object id", relayOnly, good(now, m{"appid": strangeID, "oid": relayID, "idtyp": "user"}), fault.Forbidden},
		{"no relay, no object id", nil, good(now, m{"appid": strangeID, "oid": ""}), fault.Forbidden},

		{"the role", withRole, good(now, m{"roles": []string{"Other", role}}), ""},
		{"the relay with the role", withRole, good(now, m{"appid": strangeID, "oid": relayID, "roles": []string{role}}), ""},
		{"no roles", withRole, good(now, nil), fault.Forbidden},
		{"another role", withRole, good(now, m{"roles": []string{"Ticket.Close"}}), fault.Forbidden},
		{"the role in another case", withRole, good(now, m{"roles": []string{"callout.send"}}), fault.Forbidden},
		{"the role in one text with others", withRole, good(now, m{"roles": []string{"Other " + role}}), fault.Forbidden},
		{"a stranger with the role", withRole, good(now, m{"appid": strangeID, "roles": []string{role}}), fault.Forbidden},
		{"roles that are no list", withRole, good(now, m{"roles": role}), fault.Unauthorized},
		{"a role that nobody asks for", nil, good(now, m{"roles": []string{"Other"}}), ""},
	} {
		err := verifier(t, newTenant(), tc.config).Check(call("Bearer "+signed(nil, tc.claims, k[1])), nil)
		if fault.ReasonOf(err) != tc.want {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}

func TestTheChallengeSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	now, k := time.Now(), rsaKeys()
	v := verifier(t, newTenant(), nil)
	base := `Bearer authorization_uri="https://login.microsoftonline.com/` + tenantID + `/oauth2/v2.0/authorize", resource_id="` + appID + `"`
	for _, tc := range []struct {
		r    *http.Request
		want string
	}{
		{call(), base},
		{call("Bearer x"), base + `, error="invalid_token"`},
		{call("Bearer " + signed(nil, good(now, m{"appid": strangeID}), k[1])), base + `, error="insufficient_scope"`},
		{call("Bearer " + signed(nil, good(now, nil), k[1])), ""},
	} {
		if got := v.Challenge(tc.r, v.Check(tc.r, nil)); got != tc.want {
			t.Errorf("got  %s\nwant %s", got, tc.want)
		}
	}
	if got := v.Challenge(call(), unavailable("x", nil)); got != "" {
		t.Errorf("for an outage: %q", got)
	}
	both := verifier(t, newTenant(), func(c *Config) { c.HMACKeys = base64.StdEncoding.EncodeToString(make([]byte, 32)) })
	wrong := call("Bearer " + signed(nil, good(now, nil), k[1])) // not signed; its token is good, and was not looked at
	if got, want := both.Challenge(wrong, both.Check(wrong, nil)), base+`, Signature headers="X-Ticketbridge-Timestamp X-Ticketbridge-Signature"`; got != want {
		t.Errorf("where both are asked for:\ngot  %s\nwant %s", got, want)
	}
	odd := verifier(t, newTenant(), func(c *Config) { c.Audience = "api://a\"b\\\r\nc" })
	if got := odd.Challenge(call(), odd.Check(call(), nil)); !strings.HasSuffix(got, `resource_id="api://abc"`) {
		t.Errorf("an odd audience: %q", got)
	}
}

func TestKeysAreFetchedOnceWhenFirstNeeded(t *testing.T) {
	t.Parallel()
	now, k := time.Now(), rsaKeys()
	a := newTenant()
	v := verifier(t, a, nil)
	if n := a.fetches(); n != 0 {
		t.Errorf("%d fetches before the first call", n)
	}
	_ = v.Check(call("Bearer garbage"), nil)
	if n := a.fetches(); n != 0 {
		t.Errorf("%d fetches for a token that is none", n)
	}
	token := "Bearer " + signed(nil, good(now, nil), k[1])
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if err := v.Check(call(token), nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := a.fetches(); n != 1 {
		t.Errorf("%d fetches for 50 calls at once", n)
	}
}

func TestARotatedKeyIsFoundAndMadeUpKeysCostLittle(t *testing.T) {
	t.Parallel()
	k := rsaKeys()
	synctest.Test(t, func(t *testing.T) {
		a := newTenant()
		v := verifier(t, a, nil)
		check := func(kid string, key *rsa.PrivateKey) fault.Reason {
			return fault.ReasonOf(v.Check(call("Bearer "+signed(m{"kid": kid}, good(time.Now(), nil), key)), nil))
		}
		if got := check("new", k[1]); got != "" {
			t.Fatal(got)
		}
		a.set(func(a *tenant) { a.keys = []any{jwk("newest", &k[2].PublicKey)} })
		if got := check("newest", k[2]); got != "" || a.fetches() != 2 {
			t.Errorf("the rotated key at once: %q after %d fetches", got, a.fetches())
		}
		if got := check("new", k[1]); got != fault.Unauthorized {
			t.Errorf("a key that was withdrawn: %q", got)
		}
		for range 100 {
			if got := check("made up", k[2]); got != fault.Unauthorized {
				t.Errorf("a made-up key: %q", got)
			}
		}
		if n := a.fetches(); n != 2 {
			t.Errorf("%d fetches within half a minute, want 2", n)
		}
		time.Sleep(missEvery)
		_ = check("made up", k[2])
		if n := a.fetches(); n != 3 {
			t.Errorf("%d fetches after half a minute, want 3", n)
		}
	})
}

func TestAnAuthorityThatIsDownIsNotPressedByARefresh(t *testing.T) {
	t.Parallel()
	k := rsaKeys()
	synctest.Test(t, func(t *testing.T) {
		a := newTenant()
		v := verifier(t, a, nil)
		v.Prefetch()
		synctest.Wait()
		a.set(func(a *tenant) { a.err = errors.New("no route") })
		time.Sleep(refreshAfter + time.Second)
		token := "Bearer " + signed(nil, good(time.Now(), nil), k[1])
		for range 50 {
			if err := v.Check(call(token), nil); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if n := a.fetches(); n != 2 {
			t.Errorf("%d fetches, want the first and one more", n)
		}
	})
}

func TestATokenThatCannotBeGoodCausesNoFetch(t *testing.T) {
	t.Parallel()
	now, k := time.Now(), rsaKeys()
	a := newTenant()
	v := verifier(t, a, nil)
	good := signed(nil, good(now, nil), k[1])
	for _, auth := range []string{"", "Bearer x.y.z", "Basic x", "Bearer " + encode(m{"alg": "none", "kid": "new"}, m{}) + ".", "Bearer " + signed(m{"kid": nil}, m{}, k[1])} {
		if err := v.Check(call(auth), nil); !fault.Is(err, fault.Unauthorized) {
			t.Errorf("%s: %v", auth, err)
		}
	}
	err := v.Check(call("Bearer "+good+", Bearer "+good), nil)
	if err == nil || !strings.Contains(err.Error(), "one Authorization header") {
		t.Errorf("two joined headers: %v, want them named", err)
	}
	if n := a.fetches(); n != 0 {
		t.Errorf("%d fetches", n)
	}
}

func TestKeysSurviveAnOutageAndAreRefreshedBehindTheCallers(t *testing.T) {
	t.Parallel()
	k := rsaKeys()
	synctest.Test(t, func(t *testing.T) {
		a := newTenant()
		v := verifier(t, a, nil)
		check := func(kid string, key *rsa.PrivateKey) fault.Reason {
			return fault.ReasonOf(v.Check(call("Bearer "+signed(m{"kid": kid}, good(time.Now(), nil), key)), nil))
		}
		if got := check("new", k[1]); got != "" {
			t.Fatal(got)
		}
		a.set(func(a *tenant) { a.err = errors.New("no route") })
		for range 20 { // ten days
			time.Sleep(12 * time.Hour)
			if got := check("new", k[1]); got != "" {
				t.Fatalf("during the outage: %q", got)
			}
			synctest.Wait()
		}
		if n := a.fetches(); n != 21 {
			t.Errorf("%d fetches, want one for each call after half a day", n)
		}
		if got := check("newest", k[2]); got != fault.Unreachable {
			t.Errorf("an unknown key during the outage: %q, want unreachable, for it may be good", got)
		}
		a.set(func(a *tenant) { a.err, a.keys = nil, []any{jwk("newest", &k[2].PublicKey)} })
		time.Sleep(missEvery + time.Second)
		if got := check("new", k[1]); got != fault.Unauthorized {
			t.Errorf("a key that was withdrawn days ago, on the first call after the outage: %q", got)
		}
		if got := check("newest", k[2]); got != "" {
			t.Errorf("the new key: %q", got)
		}
	})
}

func TestKeysOlderThanADayAreFetchedBeforeOneIsUsed(t *testing.T) {
	t.Parallel()
	k := rsaKeys()
	synctest.Test(t, func(t *testing.T) {
		a := newTenant()
		v := verifier(t, a, nil)
		v.Prefetch()
		synctest.Wait()
		check := func() (fault.Reason, time.Duration) {
			began := time.Now()
			err := v.Check(call("Bearer "+signed(nil, good(time.Now(), nil), k[1])), nil)
			synctest.Wait()
			return fault.ReasonOf(err), time.Since(began)
		}
		withdrawn := []any{jwk("newest", &k[2].PublicKey)}
		a.set(func(a *tenant) { a.keys = withdrawn })
		time.Sleep(staleAfter - time.Minute)
		if got, _ := check(); got != "" || a.fetches() != 2 {
			t.Errorf("a key of less than a day: %q after %d fetches, want it taken while the fetch goes on", got, a.fetches())
		}
		if got, _ := check(); got != fault.Unauthorized {
			t.Errorf("a withdrawn key, when that was seen: %q", got)
		}

		a.set(func(a *tenant) { a.keys = newTenant().keys })
		time.Sleep(missEvery)
		if got, _ := check(); got != "" {
			t.Fatalf("the key, published again: %q", got)
		}
		time.Sleep(staleAfter + time.Minute)
		a.set(func(a *tenant) { a.keys = withdrawn })
		if got, _ := check(); got != fault.Unauthorized {
			t.Errorf("a key of more than a day that was withdrawn: %q, want it looked up first", got)
		}

		a.set(func(a *tenant) { a.keys = newTenant().keys })
		time.Sleep(missEvery)
		_, _ = check()
		time.Sleep(staleAfter + time.Minute)
		a.set(func(a *tenant) { a.wait = make(chan struct{}) })
		if got, took := check(); got != "" || took != defaultPatience {
			t.Errorf("when the authority does not answer: %q after %s, want the key used after %s", got, took, defaultPatience)
		}
		time.Sleep(fetchTimeout)
		if got, took := check(); got != "" || took != 0 {
			t.Errorf("when it is known not to answer: %q after %s, want no wait", got, took)
		}
	})
}

func TestACallersPatienceIsShortAndItsFetchIsNotLost(t *testing.T) {
	t.Parallel()
	k := rsaKeys()
	synctest.Test(t, func(t *testing.T) {
		a := newTenant()
		a.wait = make(chan struct{})
		v := verifier(t, a, nil)
		token := "Bearer " + signed(nil, good(time.Now(), nil), k[1])
		began := time.Now()
		err := v.Check(call(token), nil)
		if took := time.Since(began); !fault.Is(err, fault.Unreachable) || took != defaultPatience {
			t.Errorf("%v after %s, want unreachable after %s", err, took, defaultPatience)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		began = time.Now()
		err = v.Check(call(token).WithContext(ctx), nil)
		if took := time.Since(began); !fault.Is(err, fault.Unreachable) || took != 100*time.Millisecond || fault.Status(err) != http.StatusServiceUnavailable {
			t.Errorf("%v after %s, want unreachable after the request's 100ms", err, took)
		}
		close(a.wait)
		synctest.Wait()
		if err := v.Check(call(token), nil); err != nil || a.fetches() != 1 {
			t.Errorf("afterwards: %v with %d fetches, want the first fetch's keys", err, a.fetches())
		}
	})
}

func TestAnAuthorityThatDoesNotServeIsUnreachableAndNotPressed(t *testing.T) {
	t.Parallel()
	k := rsaKeys()
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*tenant){
		"no connection": func(a *tenant) { a.err = errors.New("refused") },
		"500":           func(a *tenant) { a.code = 500 },
		"a redirect":    func(a *tenant) { a.code = 302 },
		"html":          func(a *tenant) { a.body = "<html>" },
		"no keys":       func(a *tenant) { a.body = `{"keys":[]}` },
		"null":          func(a *tenant) { a.body = `null` },
		"short keys":    func(a *tenant) { a.keys = []any{jwk("new", &small.PublicKey)} },
		"keys without ids": func(a *tenant) {
			a.keys = []any{merge(jwk("new", &k[1].PublicKey), m{"kid": nil})}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newTenant()
				change(a)
				v := verifier(t, a, nil)
				token := "Bearer " + signed(nil, good(time.Now(), nil), k[1])
				for range 20 {
					if err := v.Check(call(token), nil); !fault.Is(err, fault.Unreachable) || fault.Advice(err) == "" {
						t.Fatalf("%v, want unreachable with an advice", err)
					}
				}
				if n := a.fetches(); n != 1 {
					t.Errorf("%d fetches in a moment", n)
				}
				a.set(func(a *tenant) { a.err, a.code, a.body, a.keys = nil, 0, "", newTenant().keys })
				time.Sleep(pauseAfterFailure)
				if err := v.Check(call(token), nil); err != nil {
					t.Errorf("when it serves again: %v", err)
				}
			})
		})
	}
}

func TestPrefetchSparesTheFirstCallTheWait(t *testing.T) {
	t.Parallel()
	k := rsaKeys()
	synctest.Test(t, func(t *testing.T) {
		a := newTenant()
		v := verifier(t, a, nil)
		v.Prefetch()
		v.Prefetch()
		synctest.Wait()
		a.set(func(a *tenant) { a.err = errors.New("gone") })
		v.Prefetch()
		synctest.Wait()
		if err := v.Check(call("Bearer "+signed(nil, good(time.Now(), nil), k[1])), nil); err != nil || a.fetches() != 1 {
			t.Errorf("%v with %d fetches", err, a.fetches())
		}
	})
}

func FuzzATokenNobodySignedNeverPasses(f *testing.F) {
	now, k := time.Now(), rsaKeys()
	f.Add("Bearer " + signed(nil, good(now, nil), k[2]))
	f.Add("Bearer " + encode(m{"alg": "none"}, good(now, nil)) + ".")
	f.Add("Bearer " + hs256(nil, good(now, nil), []byte("x")))
	f.Add("Bearer a.b.c")
	f.Add("Basic x")
	v, err := New(Config{Setting: "CALLOUT", TenantID: tenantID, Audience: appID, Callers: []string{callerID}, Transport: newTenant()})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, authorization string) {
		r := call(authorization)
		err := v.Check(r, nil)
		if err == nil {
			t.Error("passed")
		}
		if c := v.Challenge(r, err); strings.ContainsAny(c, "\r\n") {
			t.Errorf("challenge %q", c)
		}
	})
}

func TestASignatureMustBeOfThisBodyNow(t *testing.T) {
	t.Parallel()
	now := time.Now()
	first, second, strange := []byte(strings.Repeat("1", 32)), []byte(strings.Repeat("2", 32)), []byte(strings.Repeat("3", 32))
	text := base64.StdEncoding.EncodeToString
	body := []byte(`{"correlation_id":"a/b"}`)
	stamp := func(d time.Duration) string { return fmt.Sprint(now.Add(d).Unix()) }
	for _, tc := range []struct {
		name       string
		sig, stamp []string
		body       []byte
		ok         bool
	}{
		{"good", []string{Sign(first, now, body)}, []string{stamp(0)}, body, true},
		{"the second key", []string{Sign(second, now, body)}, []string{stamp(0)}, body, true},
		{"four minutes old", []string{Sign(first, now.Add(-4*time.Minute), body)}, []string{stamp(-4 * time.Minute)}, body, true},
		{"four minutes ahead", []string{Sign(first, now.Add(4*time.Minute), body)}, []string{stamp(4 * time.Minute)}, body, true},
		{"empty body", []string{Sign(first, now, nil)}, []string{stamp(0)}, nil, true},
		{"spaces around", []string{" " + Sign(first, now, body) + " "}, []string{" " + stamp(0)}, body, true},

		{"a strange key", []string{Sign(strange, now, body)}, []string{stamp(0)}, body, false},
		{"another body", []string{Sign(first, now, body)}, []string{stamp(0)}, []byte(`{}`), false},
		{"no body", []string{Sign(first, now, body)}, []string{stamp(0)}, nil, false},
		{"another timestamp", []string{Sign(first, now, body)}, []string{stamp(time.Second)}, body, false},
		{"the timestamp spelt otherwise", []string{Sign(first, now, body)}, []string{"0" + stamp(0)}, body, false},
		{"six minutes old", []string{Sign(first, now.Add(-6*time.Minute), body)}, []string{stamp(-6 * time.Minute)}, body, false},
		{"six minutes ahead", []string{Sign(first, now.Add(6*time.Minute), body)}, []string{stamp(6 * time.Minute)}, body, false},
		{"in milliseconds", []string{text(macOf(first, fmt.Sprint(now.UnixMilli()), body))}, []string{fmt.Sprint(now.UnixMilli())}, body, false},
		{"at the end of time", []string{text(macOf(first, "9223372036854775807", body))}, []string{"9223372036854775807"}, body, false},
		{"before all time", []string{text(macOf(first, "-9223372036854775808", body))}, []string{"-9223372036854775808"}, body, false},
		{"no signature", nil, []string{stamp(0)}, body, false},
		{"an empty signature", []string{""}, []string{stamp(0)}, body, false},
		{"no timestamp", []string{Sign(first, now, body)}, nil, body, false},
		{"a timestamp in words", []string{text(macOf(first, "now", body))}, []string{"now"}, body, false},
		{"hexadecimal", []string{fmt.Sprintf("%x", macOf(first, stamp(0), body))}, []string{stamp(0)}, body, false},
		{"cut short", []string{text(macOf(first, stamp(0), body)[:16])}, []string{stamp(0)}, body, false},
		{"two signatures joined by the host", []string{Sign(strange, now, body) + ", " + Sign(first, now, body)}, []string{stamp(0)}, body, false},
		{"two timestamps joined by the host", []string{Sign(first, now, body)}, []string{stamp(0) + ", " + stamp(0)}, body, false},
		{"the body alone", []string{text(func() []byte { h := hmac.New(sha256.New, first); h.Write(body); return h.Sum(nil) }())}, []string{stamp(0)}, body, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			v, err := New(Config{Setting: "CLOSE", HMACKeys: text(first) + ", " + text(second) + "\n"})
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest(http.MethodPost, "/api/ticket-closed", http.NoBody)
			r.Header[SignatureHeader], r.Header[TimestampHeader] = tc.sig, tc.stamp
			err = v.Check(r, tc.body)
			if tc.ok != (err == nil) || err != nil && !fault.Is(err, fault.Unauthorized) {
				t.Errorf("%v, want ok %v", err, tc.ok)
			}
			if err != nil {
				if c := v.Challenge(r, err); !strings.HasPrefix(c, "Signature ") {
					t.Errorf("challenge %q", c)
				}
				for _, s := range slices.Concat(tc.sig) {
					if len(s) > 10 && strings.Contains(err.Error(), s) {
						t.Errorf("the signature is in the error: %v", err)
					}
				}
			}
		})
	}
}

// counted wraps what makes the MACs of a verifier and counts what they are asked for.
type counted struct {
	hash.Hash
	sums *int
}

func (c counted) Sum(b []byte) []byte {
	*c.sums++
	return c.Hash.Sum(b)
}

// What a refusal takes does not depend on how near the call was: the same work is done for each.
func TestEachSignatureIsComparedWithEveryKeyWhateverElseIsWrong(t *testing.T) {
	t.Parallel()
	now, body := time.Now(), []byte("x")
	var keys []string
	for _, c := range []string{"1", "2", "3"} {
		keys = append(keys, base64.StdEncoding.EncodeToString([]byte(strings.Repeat(c, 32))))
	}
	key := func(c string) []byte { return []byte(strings.Repeat(c, 32)) }
	stamp := fmt.Sprint(now.Unix())
	near := []byte(Sign(key("1"), now, body))
	near[0] ^= 1
	for name, c := range map[string]struct {
		signature, stamp string
		ok               bool
	}{
		"signed with the first key":        {Sign(key("1"), now, body), stamp, true},
		"signed with the last key":         {Sign(key("3"), now, body), stamp, true},
		"signed with a key of nobody":      {Sign(key("4"), now, body), stamp, false},
		"one bit off":                      {string(near), stamp, false},
		"nothing like it":                  {"AAAA", stamp, false},
		"not base64":                       {"%", stamp, false},
		"no signature":                     {"", stamp, false},
		"no timestamp":                     {Sign(key("1"), now, body), "", false},
		"another timestamp":                {Sign(key("1"), now, body), "1", false},
		"a timestamp that is not a number": {Sign(key("1"), now, body), "now", false},
	} {
		v, err := New(Config{Setting: "CLOSE", HMACKeys: strings.Join(keys, " ")})
		if err != nil {
			t.Fatal(err)
		}
		sums := 0
		for i, start := range v.macs {
			v.macs[i] = func() hash.Hash { return counted{start(), &sums} }
		}
		r := httptest.NewRequest(http.MethodPost, "/api/ticket-closed", http.NoBody)
		r.Header.Set(SignatureHeader, c.signature)
		r.Header.Set(TimestampHeader, c.stamp)
		if err := v.Check(r, body); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if sums != len(keys) {
			t.Errorf("%s: compared with %d keys, want all %d", name, sums, len(keys))
		}
	}
}

// macOf is the signature of anything.
func macOf(key []byte, stamp string, body []byte) []byte {
	return mac(hmac.New(sha256.New, key), stamp, body)
}

// Computed with openssl dgst -sha256 -mac HMAC over `1764000000.{"correlation_id":"a/b"}`.
func TestTheSignatureIsThatOfOtherPrograms(t *testing.T) {
	t.Parallel()
	got := Sign([]byte(strings.Repeat("1", 32)), time.Unix(1764000000, 0), []byte(`{"correlation_id":"a/b"}`))
	if want := "YTrrx6cf+xFZO8zMCK+SaQxlUUQ2oVYqsTHLbF5y9XU="; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestWhereBothAreConfiguredBothAreAskedFor(t *testing.T) {
	t.Parallel()
	now, k := time.Now(), rsaKeys()
	key := []byte(strings.Repeat("1", 32))
	v := verifier(t, newTenant(), func(c *Config) { c.HMACKeys = base64.StdEncoding.EncodeToString(key) })
	token, body := "Bearer "+signed(nil, good(now, nil), k[1]), []byte("x")
	for _, tc := range []struct{ token, sign, ok bool }{{true, true, true}, {true, false, false}, {false, true, false}, {false, false, false}} {
		r := call()
		if tc.token {
			r = call(token)
		}
		if tc.sign {
			r.Header.Set(SignatureHeader, Sign(key, now, body))
			r.Header.Set(TimestampHeader, fmt.Sprint(now.Unix()))
		}
		if err := v.Check(r, body); (err == nil) != tc.ok {
			t.Errorf("token %v, signature %v: %v", tc.token, tc.sign, err)
		}
	}
}
