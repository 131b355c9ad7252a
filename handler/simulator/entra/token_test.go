package entra

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	azpolicy "github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/coreos/go-oidc/v3/oidc"

	"ticketbridge/handler/simulator/misbehave"
)

func getJSON(t *testing.T, req *http.Request) (int, map[string]any) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var out map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, out
}

func TestAnIndependentVerifierTrustsItsTokensAndOnlyThose(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	provider, err := oidc.NewProvider(t.Context(), f.BaseURL()+"/"+f.TenantID()+"/v2.0")
	if err != nil {
		t.Fatal(err)
	}
	verifier := provider.Verifier(&oidc.Config{ClientID: "bridge"})
	good := Token{Audience: "bridge", Version: 2, AppID: CallerID, ObjectID: "o"}
	check := func(name string, change func(*Token), ok bool) {
		t.Helper()
		token := good
		change(&token)
		if _, err := verifier.Verify(t.Context(), f.IssueToken(token)); (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	check("good", func(*Token) {}, true)
	check("other audience", func(t *Token) { t.Audience = "other" }, false)
	check("version 1", func(t *Token) { t.Version = 1 }, false)
	check("expired", func(t *Token) { t.Lifetime = -time.Minute }, false)
	check("stranger", func(t *Token) { t.Stranger = true }, false)
	check("none", func(t *Token) { t.Header = map[string]any{"alg": "none"} }, false)
	check("a password instead of a key", func(t *Token) { t.Secret = []byte("secret") }, false)
	for _, alg := range []string{"HS256", "RS384", "PS256", "ES256"} {
		check(alg, func(t *Token) { t.Header = map[string]any{"alg": alg} }, false)
	}
	// What is signed with another algorithm is signed: who takes it takes the published key for it.
	more := provider.Verifier(&oidc.Config{ClientID: "bridge", SupportedSigningAlgs: []string{oidc.RS384, oidc.PS256}})
	for _, alg := range []string{oidc.RS384, oidc.PS256} {
		if _, err := more.Verify(t.Context(), f.IssueToken(Token{Audience: "bridge", Version: 2, AppID: CallerID, Header: map[string]any{"alg": alg}})); err != nil {
			t.Errorf("%s, where it is taken: %v", alg, err)
		}
	}
	old := f.keyring()[0].id
	f.RotateKeys(true)
	check("new key", func(*Token) {}, true)
	check("old key, still published", func(t *Token) { t.Key = old }, true)
	f.RotateKeys(false)
	check("newer key", func(*Token) {}, true)
	if n := len(f.keyring()); n != 1 {
		t.Errorf("%d keys are published", n)
	}
}

func TestTheMetadataOfVersion1NamesTheOldIssuer(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	req, _ := http.NewRequest("GET", f.BaseURL()+"/"+f.TenantID()+"/.well-known/openid-configuration", nil)
	status, doc := getJSON(t, req)
	if status != 200 || doc["issuer"] != "https://sts.windows.net/"+f.TenantID()+"/" {
		t.Fatalf("%d %v", status, doc)
	}
	for _, address := range []string{doc["jwks_uri"].(string), f.BaseURL() + "/common/discovery/keys"} {
		req, _ = http.NewRequest("GET", address, nil)
		if status, keys := getJSON(t, req); status != 200 || len(keys["keys"].([]any)) != 1 {
			t.Errorf("%d %v", status, keys)
		}
	}
	req, _ = http.NewRequest("GET", f.BaseURL()+"/other/v2.0/.well-known/openid-configuration", nil)
	if status, doc := getJSON(t, req); status != 400 || doc["error"] != "invalid_tenant" {
		t.Errorf("%d %v", status, doc)
	}
}

func TestClientCredentialsGetATokenOfTheResourcesVersion(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	app := f.AddApp(App{Name: "ServiceNow", Secret: "s3cret", GraphRoles: []string{readAll}})
	bridge := f.AddApp(App{Name: "bridge", URIs: []string{"api://bridge"}, TokenVersion: 2})
	ask := func(path string, form url.Values, basic bool) (int, map[string]any) {
		t.Helper()
		if basic {
			form.Del("client_secret")
		}
		req, _ := http.NewRequest("POST", f.BaseURL()+"/"+f.TenantID()+path, strings.NewReader(form.Encode()))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if basic {
			req.SetBasicAuth(app.ClientID, "s3cret")
		}
		return getJSON(t, req)
	}
	form := func(pairs ...string) url.Values {
		v := url.Values{"grant_type": {"client_credentials"}, "client_id": {app.ClientID}, "client_secret": {"s3cret"}}
		for i := 0; i < len(pairs); i += 2 {
			v.Set(pairs[i], pairs[i+1])
		}
		return v
	}
	for name, c := range map[string]struct {
		path  string
		form  url.Values
		basic bool
	}{
		"v2":       {"/oauth2/v2.0/token", form("scope", "api://bridge/.default"), false},
		"v2 basic": {"/oauth2/v2.0/token", form("scope", "api://bridge/.default"), true},
		"v1":       {"/oauth2/token", form("resource", "api://bridge"), false},
	} {
		status, answer := ask(c.path, c.form, c.basic)
		token, _ := answer["access_token"].(string)
		claims, err := f.verify(token)
		if status != 200 || err != nil || answer["token_type"] != "Bearer" {
			t.Fatalf("%s: %d %v %v", name, status, answer, err)
		}
		if claims["aud"] != bridge.ClientID || claims["azp"] != app.ClientID || claims["oid"] != app.ObjectID || claims["roles"] != nil {
			t.Errorf("%s: claims %v", name, claims)
		}
	}
	_, answer := ask("/oauth2/v2.0/token", form("scope", graphResource+"/.default"), false)
	claims, err := f.verify(answer["access_token"].(string))
	if err != nil || claims["aud"] != graphResource || claims["ver"] != "1.0" || claims["roles"].([]any)[0] != readAll {
		t.Errorf("claims for Graph: %v %v", claims, err)
	}
	for want, c := range map[string]url.Values{
		"invalid_client":         form("scope", "api://bridge/.default", "client_secret", "wrong"),
		"unauthorized_client":    form("scope", "api://bridge/.default", "client_id", "nobody"),
		"invalid_scope":          form("scope", "api://bridge"),
		"invalid_resource":       form("scope", "api://unknown/.default"),
		"unsupported_grant_type": form("grant_type", "password"),
	} {
		if status, answer := ask("/oauth2/v2.0/token", c, false); status < 400 || answer["error"] != want || !strings.HasPrefix(answer["error_description"].(string), "AADSTS") {
			t.Errorf("%s: %d %v", want, status, answer)
		}
	}
}

func TestAzidentityTakesTheAuthorityOverHTTPS(t *testing.T) {
	t.Parallel()
	d := New(Config{})
	t.Cleanup(d.Close)
	server := httptest.NewTLSServer(d)
	t.Cleanup(server.Close)
	d.SetBaseURL(server.URL)
	app := d.AddApp(App{Secret: "s3cret"})
	credential, err := azidentity.NewClientSecretCredential(d.TenantID(), app.ClientID, "s3cret", &azidentity.ClientSecretCredentialOptions{
		ClientOptions: azcore.ClientOptions{
			Cloud: cloud.Configuration{ActiveDirectoryAuthorityHost: server.URL}, Transport: server.Client(),
		},
		DisableInstanceDiscovery: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	token, err := credential.GetToken(t.Context(), azpolicy.TokenRequestOptions{Scopes: []string{graphResource + "/.default"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.verify(token.Token); err != nil {
		t.Error(err)
	}
}

// Not parallel: azidentity reads the environment.
func TestAzidentitysManagedIdentityGetsATokenFromTheIdentityEndpoint(t *testing.T) {
	f := start(t, Config{})
	// User-assigned ones only: azidentity keeps tokens by client id for the whole process, so that the system-assigned identity of one
	// directory would get the token of another's.
	first := f.AddIdentity(Identity{Name: "first", UserAssigned: true})
	mine := f.AddIdentity(Identity{Name: "mine", UserAssigned: true, GraphRoles: []string{readAll}})
	for name, value := range f.Environment(mine.ClientID) {
		t.Setenv(name, value)
	}
	for _, c := range []struct {
		id   azidentity.ManagedIDKind
		want Identity
	}{{azidentity.ClientID(first.ClientID), first}, {azidentity.ClientID(mine.ClientID), mine}} {
		credential, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ID: c.id})
		if err != nil {
			t.Fatal(err)
		}
		for _, resource := range []string{graphResource, "https://storage.azure.com"} {
			token, err := credential.GetToken(t.Context(), azpolicy.TokenRequestOptions{Scopes: []string{resource + "/.default"}})
			if err != nil {
				t.Fatal(err)
			}
			claims, err := f.verify(token.Token)
			if err != nil || claims["aud"] != resource || claims["oid"] != c.want.ObjectID || claims["appid"] != c.want.ClientID {
				t.Errorf("claims %v %v", claims, err)
			}
			if left := time.Until(token.ExpiresOn); left < 23*time.Hour {
				t.Errorf("it expires in %v", left)
			}
		}
	}
	f.IdentityFaults.Add(misbehave.Fault{Status: 400, Times: 1})
	credential, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ID: azidentity.ClientID(mine.ClientID)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := credential.GetToken(context.WithoutCancel(t.Context()), azpolicy.TokenRequestOptions{Scopes: []string{"https://vault.azure.net/.default"}}); err == nil {
		t.Error("a fault of the identity endpoint goes unseen")
	}
}

func TestTheIdentityEndpointRefusesAsAppServiceDoes(t *testing.T) {
	t.Parallel()
	f := start(t, Config{IdentityHeader: "header"})
	f.AddIdentity(Identity{Name: "mine", UserAssigned: true})
	for name, c := range map[string]struct {
		header, query string
		status        int
	}{
		"no header":          {"", "api-version=2019-08-01&resource=" + graphResource, 401},
		"wrong header":       {"wrong", "api-version=2019-08-01&resource=" + graphResource, 401},
		"other version":      {"header", "api-version=2017-09-01&resource=" + graphResource, 400},
		"no resource":        {"header", "api-version=2019-08-01", 400},
		"no system identity": {"header", "api-version=2019-08-01&resource=" + graphResource, 400},
		"unknown client id":  {"header", "api-version=2019-08-01&client_id=x&resource=" + graphResource, 400},
		"unknown resource":   {"header", "api-version=2019-08-01&resource=api://unknown", 400},
	} {
		req, _ := http.NewRequest("GET", f.BaseURL()+identityPath+"?"+c.query, nil)
		req.Header.Set("X-IDENTITY-HEADER", c.header)
		if status, answer := getJSON(t, req); status != c.status || answer["message"] == "" {
			t.Errorf("%s: %d %v", name, status, answer)
		}
	}
	system := f.AddIdentity(Identity{Name: "system"})
	req, _ := http.NewRequest("GET", f.BaseURL()+identityPath+"?api-version=2019-08-01&resource="+graphResource, nil)
	req.Header.Set("X-IDENTITY-HEADER", "header")
	status, answer := getJSON(t, req)
	token, _ := answer["access_token"].(string)
	if claims, err := f.verify(token); status != 200 || err != nil || claims["oid"] != system.ObjectID || answer["resource"] != graphResource {
		t.Errorf("the system-assigned identity: %d %v %v", status, answer, err)
	}
	if n := f.Calls()["GET /msi/token"]; n != 8 {
		t.Errorf("%d calls are counted", n)
	}
}

func TestInstanceDiscoveryNamesTheAuthorityItself(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	req, _ := http.NewRequest("GET", f.BaseURL()+"/common/discovery/instance?api-version=1.1&authorization_endpoint=x", nil)
	status, doc := getJSON(t, req)
	if status != 200 || !strings.HasPrefix(doc["tenant_discovery_endpoint"].(string), f.BaseURL()) {
		t.Errorf("%d %v", status, doc)
	}
}
