package doctor

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azpolicy "github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"ticketbridge/handler/servicenow"
	"ticketbridge/handler/simulator/entra"
	standin "ticketbridge/handler/simulator/servicenow"
	"ticketbridge/handler/storage"
	"ticketbridge/handler/ticket"
)

const (
	audience = "api://ticketbridge"
	appKey   = "function-key-of-the-callout"
	password = "hunter2hunter2"
)

// key is one for all tenants: making one takes a tenth of a second.
var key = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

// A plan is how a world is set up. The zero value is healthy: an extension that calls the app through a relay, for the only policy of the only catalog.
type plan struct {
	entra      func(*entra.Config)
	identity   func(*entra.Identity) // the app's
	relay      func(*entra.Relay)
	extension  func(*entra.Extension)
	policy     func(*entra.Policy)
	noRole     bool // the identity has none in the catalog
	noReader   bool // the identity may not read the relay in Azure
	servicenow func(*standin.Config)
	client     func(*servicenow.Config)
	through    storage.Through // what becomes of the storage's calls
	unswept    bool
	rules      string                          // of a rules file
	app        func(http.Handler) http.Handler // in place of the app
	after      func(t *testing.T, w *world)
}

// A world is a tenant, an instance, a storage and an app, and what the doctor is told of them.
type world struct {
	Config
	entra    *entra.Directory
	identity entra.Identity
	catalog  string
	instance *standin.Instance
	store    *storage.Store
	queue    *storage.Queue
}

func build(t *testing.T, p plan) *world {
	t.Helper()
	w := &world{}
	w.store, w.queue = must2(storage.NewEmbeddedThrough(storage.DefaultPrefix, func(ctx context.Context, c *storage.Call, do func() error) error {
		if p.through != nil && w.Store != nil { // once it is set up
			return p.through(ctx, c, do)
		}
		return do()
	}))
	if !p.unswept {
		m, err := w.store.Mark(t.Context())
		if m.Begun = time.Now().Add(-20 * time.Second); err != nil || w.store.SaveMark(t.Context(), &m) != nil {
			t.Fatal(err)
		}
	}
	app := http.Handler(http.HandlerFunc(callee))
	if p.app != nil {
		app = p.app(app)
	}
	function := httptest.NewServer(app)
	t.Cleanup(function.Close)

	w.tenant(t, p, function.URL)
	w.serviceNow(t, p)
	w.Store, w.Queue = w.store, w.queue
	w.StorageAccount, w.SweepSchedule = "ticketbridge", "0 * * * * *"
	w.CalloutAudience, w.CloseSigned, w.AppURL, w.AppKey = audience, true, function.URL, appKey
	if p.rules != "" {
		file := filepath.Join(t.TempDir(), "tickets.yaml")
		if err := os.WriteFile(file, []byte(p.rules), 0o600); err != nil {
			t.Fatal(err)
		}
		w.RulesFile = "tickets.yaml"
		if w.Rules, w.RulesError = ticket.ReadFile(file); w.RulesError != nil {
			w.Rules, w.ServiceNow = nil, nil
		}
	}
	if p.after != nil {
		p.after(t, w)
	}
	return w
}

// callee answers as the app does behind the Functions host: it asks for a function key, and then for a token.
func callee(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path != calloutPath:
		w.WriteHeader(http.StatusNotFound)
	case r.Header.Get("x-functions-key") != appKey:
		w.WriteHeader(http.StatusUnauthorized)
	case r.Header.Get("Authorization") == "":
		w.Header().Set("WWW-Authenticate", `Bearer resource_id="`+audience+`"`)
		w.WriteHeader(http.StatusUnauthorized)
	default:
		w.WriteHeader(http.StatusAccepted)
	}
}

func (w *world) tenant(t *testing.T, p plan, function string) {
	t.Helper()
	cfg := entra.Config{Key: key(), TenantID: "99999999-0000-4000-8000-000000000001"}
	if p.entra != nil {
		p.entra(&cfg)
	}
	w.entra = entra.New(cfg)
	stop, err := w.entra.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.entra.Close(); stop() })

	app := entra.Identity{Name: "ticketbridge", UserAssigned: true, GraphRoles: []string{"EntitlementManagement.Read.All"}}
	if p.identity != nil {
		p.identity(&app)
	}
	w.identity = w.entra.AddIdentity(app)
	relaying := w.entra.AddIdentity(entra.Identity{Name: "relay", UserAssigned: true})
	w.entra.AddApp(entra.App{URIs: []string{audience}, Name: "ticketbridge"})
	if !p.noReader {
		w.entra.MakeReader(w.identity.ObjectID)
	}
	relay := entra.Relay{
		Subscription: "99999999-0000-4000-8000-000000000002", Name: "ticketbridge-relay", URL: function + calloutPath, FunctionKey: appKey, Identity: relaying.ClientID, Resource: audience,
	}
	if p.relay != nil {
		p.relay(&relay)
	}
	w.entra.AddRelay(relay)
	w.catalog = w.entra.AddCatalog(entra.Catalog{ID: "99999999-0000-4000-8000-000000000003", Name: "Finance"})
	if !p.noRole {
		w.entra.AssignManager(w.identity.ObjectID, w.catalog)
	}
	pkg := w.entra.AddPackage(entra.Package{CatalogID: w.catalog, Name: "Ledger reader"})
	x := entra.Extension{CatalogID: w.catalog, Name: "Open a ticket", Relay: relay.Name, Wait: 14 * 24 * time.Hour, Patience: time.Second, Retries: 1}
	if p.extension != nil {
		p.extension(&x)
	}
	switch x.URL {
	case direct:
		x.URL = function + calloutPath + "?code=" + appKey
	case keyless:
		x.URL = function + calloutPath
	}
	id := w.entra.AddExtension(x)
	rule := entra.Policy{PackageID: pkg, Name: "Everybody", Stages: map[string]string{entra.StageApproved: id, entra.StageRemoved: id}}
	if p.policy != nil {
		p.policy(&rule)
	}
	w.entra.AddPolicy(rule)

	w.Credential, w.Managed, w.ClientID = endpoint{w.entra, w.identity.ClientID}, true, w.identity.ClientID
	w.TenantID, w.AuthorityHost, w.GraphURL, w.ManagementURL = w.entra.TenantID(), w.entra.BaseURL(), w.entra.GraphURL(), w.entra.BaseURL()
	w.CatalogIDs, w.RelayPrincipal = []string{w.catalog}, relaying.ObjectID
}

// Stand for the app's own address, with its key and without.
const direct, keyless = "direct", "keyless"

func (w *world) serviceNow(t *testing.T, p plan) {
	t.Helper()
	cfg := standin.Config{
		Users: []standin.User{
			{UserName: "bridge", Password: password, Name: "Ticket Bridge", WebServiceAccessOnly: true},
			{UserName: w.identity.ObjectID, Name: "Ticket Bridge as an identity", WebServiceAccessOnly: true},
		},
		OAuthClients: []standin.OAuthClient{{ID: "client", Secret: password, User: "bridge"}}, APIKeys: []standin.APIKey{{Key: password, User: "bridge"}},
		OIDCProviders: []standin.OIDCProvider{{Issuer: w.entra.Issuer(1), JWKSURL: w.entra.BaseURL() + "/" + w.entra.TenantID() + "/discovery/keys", ClientID: audience, UserClaim: "oid"}},
		Groups:        []string{standin.SampleGroup}, Catalog: []standin.CatalogItem{standin.SampleItem()}, TutorialColumns: true,
	}
	if p.servicenow != nil {
		p.servicenow(&cfg)
	}
	instance, err := standin.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	address, stop, err := instance.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	w.instance, w.ServiceNowURL, w.ServiceNowTimeout, w.Rules = instance, address, 5*time.Second, ticket.BuiltIn()
	client := servicenow.Config{URL: address, Auth: servicenow.AuthClientCredentials, ClientID: "client", ClientSecret: password, Timeout: w.ServiceNowTimeout}
	if p.client != nil {
		p.client(&client)
	}
	client.Credential = w.Credential
	w.ServiceNowAuth = string(client.Auth)
	if w.ServiceNow, err = servicenow.New(client); err != nil {
		t.Fatal(err)
	}
}

// endpoint gets tokens from the App Service identity endpoint, without keeping them for the whole process as azidentity does.
type endpoint struct {
	of     *entra.Directory
	client string
}

func (e endpoint) GetToken(ctx context.Context, o azpolicy.TokenRequestOptions) (azcore.AccessToken, error) {
	env := e.of.Environment(e.client)
	q := url.Values{"api-version": {"2019-08-01"}, "client_id": {e.client}, "resource": {strings.TrimSuffix(o.Scopes[0], "/.default")}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, env["IDENTITY_ENDPOINT"]+"?"+q.Encode(), nil)
	if err != nil {
		return azcore.AccessToken{}, err
	}
	req.Header.Set("X-Identity-Header", env["IDENTITY_HEADER"])
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return azcore.AccessToken{}, err
	}
	defer resp.Body.Close()
	var in struct {
		Token   string `json:"access_token"`
		Message string `json:"message"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&in); err != nil || resp.StatusCode != http.StatusOK {
		return azcore.AccessToken{}, fmt.Errorf("ManagedIdentityCredential: status %d: %s", resp.StatusCode, in.Message)
	}
	return azcore.AccessToken{Token: in.Token, ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func must2[A, B any](a A, b B, err error) (A, B) {
	if err != nil {
		panic(err)
	}
	return a, b
}

// text writes lines for people who read a failing test.
func text(lines []Line) string {
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%-10s %-18s %s: %s => %s\n", l.Kind, l.Check, l.Of, l.Saw, l.Remedy)
	}
	return b.String()
}
