// Package entra is a stand-in for Microsoft Entra entitlement management and what surrounds it: the authority that issues tokens, the
// App Service identity endpoint, and Microsoft Graph. It speaks their wire protocols, keeps what it was told, and misbehaves on
// request; it is written from Microsoft's documents, not from the client that it tests.
package entra

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"ticketbridge/handler/simulator/entra/csdl"
	"ticketbridge/handler/simulator/misbehave"
)

// Config is what a Directory is made with. The zero value behaves as Microsoft documents; where the documents are silent, each
// possibility is a setting.
type Config struct {
	TenantID       string            // made up when empty
	BaseURL        string            // where the handler is reached, as "http://127.0.0.1:7072"; Start and SetBaseURL set it too
	Transport      http.RoundTripper // carries callouts; default a plain one that keeps no idle connections and uses no proxy
	IdentityHeader string            // IDENTITY_HEADER; made up when empty
	Key            *rsa.PrivateKey   // the first that signs tokens; made when nil, which takes a tenth of a second
	RelayInterval  time.Duration     // before a relay's first retry; default 7.5 s, as Logic Apps
	PageSize       int               // of Graph's lists; default 100

	// AnySuccess takes every 2xx for a success of a callout; documented is 202, and not whether 200 will do.
	AnySuccess bool
	// GoOnAfterFailedCallout lets a request go on whose launch-and-wait callout nobody took; otherwise it fails at once.
	GoOnAfterFailedCallout bool
	// SecondResume is the answer to a resume of a stage that was resumed before: 204, 400 (default) or 404.
	SecondResume int
	// RefuseDenialAt names the stages at which a resume with the state Denied or Canceled gets 400; Microsoft's pages disagree.
	RefuseDenialAt []string
	// WithdrawnStatus is what a waiting callout instance shows once the request was withdrawn; "" leaves it waitingForCallback.
	WithdrawnStatus string
	// DropCallbackConfiguration lets Graph take an extension with a callback configuration and forget that part.
	DropCallbackConfiguration bool
	// RefuseDirectEndpoint lets Graph refuse extensions that call a URL: Logic Apps only is what the documents say.
	RefuseDirectEndpoint bool
	// PolicyProperties are properties of policies that Graph has and the published schema has not, or not yet; they may hold anything.
	PolicyProperties []string
	// Replication is how many calls do not know a new application yet: its changes are refused, and those of what hangs on it.
	Replication int
	// GuestGovernance says that the tenant is linked to a subscription, so that policies open to guests may have extensions.
	GuestGovernance bool
}

// A Directory is one tenant with the services around it. It is an http.Handler that can be used without a listener.
type Directory struct {
	// Faults to order: of Graph, of the authority, of the identity endpoint, and of the callouts that go out.
	GraphFaults, AuthorityFaults, IdentityFaults, CalloutFaults *misbehave.Desk
	ManagementFaults                                            *misbehave.Desk // of Azure Resource Manager

	cfg          Config
	handler      http.Handler
	transport    http.RoundTripper
	schema       *csdl.Model
	published    *csdl.Model // the published schema; nil in builds without the tag "contracts"
	callerObject string      // object id of entitlement management's service principal
	ctx          context.Context
	cancelAll    context.CancelFunc
	running      sync.WaitGroup

	keyMu sync.Mutex
	keys  []*signingKey

	mu          sync.Mutex
	base        string
	changed     chan struct{} // closed, and replaced, whenever something changes
	users       []*User
	catalogs    []*Catalog
	packages    []*Package
	policies    []*policy
	extensions  []*extension
	relays      []*Relay
	apps        []*App
	identities  []*Identity
	assignments []*assignment
	requests    []*request
	callouts    map[string]*callout // by id in lower case
	roles       []*roleAssignment
	grants      []*grant
	person      string                // who answers device codes, by object id
	codes       map[string]deviceCode // by device code
	resumes     []Resume
	calls       map[string]int
	violations  []string
	readers     []string // object ids of those who may read relays in Azure
}

// New makes an empty tenant. Close ends what runs in it.
func New(cfg Config) *Directory {
	cfg.TenantID, cfg.IdentityHeader = orNew(cfg.TenantID), orNew(cfg.IdentityHeader)
	if cfg.BaseURL == "" {
		cfg.BaseURL = "http://entra.invalid"
	}
	if cfg.RelayInterval == 0 {
		cfg.RelayInterval = 7500 * time.Millisecond
	}
	if cfg.PageSize == 0 {
		cfg.PageSize = 100
	}
	if cfg.SecondResume == 0 {
		cfg.SecondResume = http.StatusBadRequest
	}
	d := &Directory{
		cfg: cfg, base: strings.TrimSuffix(cfg.BaseURL, "/"), schema: graphSchema(), published: publishedSchema(),
		changed: make(chan struct{}), callouts: map[string]*callout{}, codes: map[string]deviceCode{}, calls: map[string]int{}, callerObject: uuid.NewString(),
		GraphFaults: misbehave.New(), AuthorityFaults: misbehave.New(), IdentityFaults: misbehave.New(), CalloutFaults: misbehave.New(),
		ManagementFaults: misbehave.New(),
	}
	for _, m := range []*csdl.Model{d.schema, d.published} {
		for _, name := range cfg.PolicyProperties {
			if m != nil {
				m.Type("accessPackageAssignmentPolicy").Properties[name] = csdl.Property{Name: name, Ref: csdl.Ref{Type: "Edm.Untyped"}}
			}
		}
	}
	d.ctx, d.cancelAll = context.WithCancel(context.Background())
	transport := cfg.Transport
	if transport == nil {
		transport = &http.Transport{DisableKeepAlives: true}
	}
	d.transport = outgoing{d.CalloutFaults, transport}
	mux := http.NewServeMux()
	d.authorityRoutes(mux)
	d.managementRoutes(mux)
	mux.Handle(identityPath, d.IdentityFaults.Middleware(d.counted("GET "+identityPath, d.serveIdentity)))
	control := d.control()
	graph := d.GraphFaults.Middleware(http.HandlerFunc(d.serveGraph))
	d.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Graph's paths must not be cleaned or redirected by a ServeMux, and are counted even when a fault is put before them.
		if strings.HasPrefix(r.URL.EscapedPath(), graphPath+"/") {
			d.countGraph(r)
			graph.ServeHTTP(w, r)
			return
		}
		if strings.HasPrefix(r.URL.Path, controlPath+"/") {
			control.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
	return d
}

// ServeHTTP serves the authority at the root, Graph below /v1.0, the identity endpoint, and below /_simulator a control for people
// with curl: requests (GET, POST), requests/{id}/{withdraw, expire, approve, reject, repeat, warn} (POST), calls, and
// {graph, authority, identity, callouts}/faults, and tenant for all that is set up.
func (d *Directory) ServeHTTP(w http.ResponseWriter, r *http.Request) { d.handler.ServeHTTP(w, r) }

// Close ends everything that runs in the directory, and waits for it.
func (d *Directory) Close() {
	d.cancelAll()
	d.running.Wait()
}

// Start serves the directory on an address, as "127.0.0.1:0", and makes that its base URL. The function it returns ends the
// serving; it does not Close the directory.
func (d *Directory) Start(address string) (stop func(), err error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("serving the stand-in for Entra: %w", err)
	}
	server := &http.Server{Handler: d, ReadHeaderTimeout: 10 * time.Second}
	d.SetBaseURL("http://" + listener.Addr().String())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	return func() {
		_ = server.Close()
		<-done
	}, nil
}

// BaseURL returns where the directory is reached: it is the authority, too.
func (d *Directory) BaseURL() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.base
}

// GraphURL returns the root of Graph, with its version.
func (d *Directory) GraphURL() string { return d.BaseURL() + graphPath }

// SetBaseURL says where the directory is reached, when something else serves it.
func (d *Directory) SetBaseURL(url string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.base = strings.TrimSuffix(url, "/")
}

// TenantID returns the tenant's id.
func (d *Directory) TenantID() string { return d.cfg.TenantID }

// Calls returns how often each route was called: "GET /v1.0/…/assignmentRequests/{id}", "POST /{tenant}/oauth2/v2.0/token".
func (d *Directory) Calls() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.calls)
}

// Violations returns where Graph's exchanges departed from its published schema, on either side. Builds without the tag
// "contracts" have no schema to compare with, and return none.
func (d *Directory) Violations() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.violations)
}

func (d *Directory) counted(route string, h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		d.calls[route]++
		d.mu.Unlock()
		h(w, r)
	})
}

// notify wakes whoever awaits a change; the caller holds d.mu.
func (d *Directory) notify() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// spawn runs f until Close, which waits for it.
func (d *Directory) spawn(f func()) {
	if d.ctx.Err() != nil {
		return
	}
	d.running.Go(f)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
