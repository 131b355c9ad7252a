// Package servicenow is a stand-in for a ServiceNow instance: Table API, Service Catalog, authentication, limits, a rule
// that notifies on close, and a page for people. It speaks the wire protocol with the oddities ServiceNow documents,
// misbehaves on request, and keeps its own records, which are the truth about which tickets exist.
package servicenow

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log"
	"maps"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"ticketbridge/handler/simulator/misbehave"
)

// Config is what an administrator would have set up on the instance.
type Config struct {
	// Name is shown on the page and in a cookie's name; default "stand-in".
	Name string
	// BasePath is a path before every route, as behind a reverse proxy: "/itsm". Default none.
	BasePath string

	Users  []User
	Groups []string

	// Tables adds tables of the customer's own.
	Tables []Table
	// Columns adds columns to tables that exist, by table name.
	Columns map[string][]Column
	// TutorialColumns adds the columns that Microsoft's tutorial makes on the request tables. Without it they are unknown,
	// so that writes of them are dropped in silence and conditions on them match every record.
	TutorialColumns bool
	// Catalog holds the catalog items that can be ordered.
	Catalog []CatalogItem

	OAuthClients []OAuthClient
	// NoClientCredentials is an instance whose property for the client credentials grant is off.
	NoClientCredentials bool
	APIKeys             []APIKey
	OIDCProviders       []OIDCProvider
	// ClientCAs issue the certificates that calls of an API must come with (mutual authentication); nil asks for none. A certificate goes beside a password or a
	// key; beside a token that the instance issued it is not taken.
	ClientCAs *x509.CertPool

	RateRules []RateRule
	Policies  []Policy
	// InvalidQueryReturnsNoRows is the property glide.invalid_query.returns_no_rows; off as on a plain instance, an unknown
	// field in a query is ignored and every record matches.
	InvalidQueryReturnsNoRows bool

	Notifications []Notification
}

// Instance is the stand-in. It is an http.Handler and safe for concurrent use.
type Instance struct {
	// Faults makes calls misbehave; a person reaches it at /_simulator/faults.
	Faults *misbehave.Desk

	cfg     Config
	handler http.Handler
	auth    *authority

	mu         sync.Mutex
	tables     map[string]*table
	records    map[string]*record // by sys_id, deleted ones removed
	creations  map[string]int     // records that ever carried this correlation_id
	calls      map[string]int
	overloaded bool
	policies   []Policy
	rates      rates

	notifier notifier
}

// New makes an instance with the tables incident, sc_request, sc_req_item, sc_task, change_request, task, sys_user,
// sys_user_group and what cfg adds. The error says what in cfg refers to something that is not there.
func New(cfg Config) (*Instance, error) {
	if cfg.Name == "" {
		cfg.Name = "stand-in"
	}
	cfg.BasePath = strings.TrimRight(cfg.BasePath, "/")
	i := &Instance{
		Faults:    misbehave.New(),
		cfg:       cfg,
		records:   map[string]*record{},
		creations: map[string]int{},
		calls:     map[string]int{},
		policies:  slices.Clone(cfg.Policies),
		rates:     rates{rules: slices.Clone(cfg.RateRules)},
	}
	for n := range i.rates.rules {
		i.rates.rules[n].sysID = newID()
	}
	var err error
	if i.tables, err = newSchema(cfg); err != nil {
		return nil, err
	}
	i.describeSchema()
	i.auth = newAuthority(cfg)
	i.notifier.init(cfg.Notifications)

	for _, u := range cfg.Users {
		if err := i.AddUser(u); err != nil {
			return nil, err
		}
	}
	for _, name := range cfg.Groups {
		i.mu.Lock()
		i.insert(i.tables["sys_user_group"], map[string]string{"name": name}, systemUser)
		i.mu.Unlock()
	}
	for n := range cfg.Catalog {
		if err := i.addCatalogItem(&cfg.Catalog[n]); err != nil {
			return nil, err
		}
	}
	if err := i.checkLogins(); err != nil {
		return nil, err
	}
	i.handler = i.routes()
	return i, nil
}

// checkLogins reports a way to log in that belongs to a user who is not there.
func (i *Instance) checkLogins() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, c := range i.cfg.OAuthClients {
		if i.userNamed(c.User) == nil {
			return fmt.Errorf("the OAuth client %q belongs to the user %q, who is not among the users", c.ID, c.User)
		}
	}
	for _, k := range i.cfg.APIKeys {
		if i.userNamed(k.User) == nil {
			return fmt.Errorf("an API key belongs to the user %q, who is not among the users", k.User)
		}
	}
	return nil
}

func (i *Instance) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(misbehave.ControlPath, i.Faults.Handler())
	mux.Handle(misbehave.ControlPath+"/", i.Faults.Handler())
	mux.HandleFunc("/oauth_token.do", i.serveToken)
	mux.HandleFunc("/angular.do", i.serveAngular)
	mux.HandleFunc("/api/", i.serveAPI)
	mux.Handle("/", http.NewCrossOriginProtection().Handler(i.page()))
	return i.counted(i.Faults.Middleware(mux))
}

// ServeHTTP serves the whole instance.
func (i *Instance) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if i.cfg.BasePath == "" {
		i.handler.ServeHTTP(w, r)
		return
	}
	http.StripPrefix(i.cfg.BasePath, i.handler).ServeHTTP(w, r)
}

// Client is an HTTP client that reaches the instance in process, at whatever host is asked for.
func (i *Instance) Client() *http.Client {
	return &http.Client{
		Transport:     misbehave.Transport(i),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Start serves the instance on a TCP address such as "127.0.0.1:0" and returns its URL, base path included. The stop
// function waits a second for the calls under way, cuts off the rest and closes the address; the records stay, and Start
// may be called again.
func (i *Instance) Start(addr string) (url string, stop func(), err error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return "", nil, fmt.Errorf("starting the ServiceNow stand-in: %w", err)
	}
	return "http://" + listener.Addr().String() + i.cfg.BasePath, i.serve(listener), nil
}

// StartTLS is Start with TLS: with the instance's certificate, and asking for that of the caller when there are ClientCAs.
func (i *Instance) StartTLS(addr string, certificate tls.Certificate) (url string, stop func(), err error) {
	config := &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	if i.cfg.ClientCAs != nil {
		config.ClientCAs, config.ClientAuth = i.cfg.ClientCAs, tls.VerifyClientCertIfGiven
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return "", nil, fmt.Errorf("starting the ServiceNow stand-in: %w", err)
	}
	return "https://" + listener.Addr().String() + i.cfg.BasePath, i.serve(tls.NewListener(listener, config)), nil
}

// withoutHandshakes leaves out of the server's log that a caller's certificate was refused: that is what it is asked for.
type withoutHandshakes struct{}

func (withoutHandshakes) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("TLS handshake error")) {
		return len(line), nil
	}
	return os.Stderr.Write(line)
}

func (i *Instance) serve(listener net.Listener) (stop func()) {
	server := &http.Server{Handler: i, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(withoutHandshakes{}, "", log.LstdFlags)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); errors.Is(err, context.DeadlineExceeded) {
			_ = server.Close()
		}
		<-done
	}
}

// SetOverloaded makes the queue of every session too long: a call that sends a session cookie is answered 202 and
// dropped. Calls without cookies get a session of their own and are served.
func (i *Instance) SetOverloaded(on bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.overloaded = on
}

var sysIDInPath = regexp.MustCompile(`/[0-9a-f]{32}(/|$)`)

// counted counts every call but those of the page and of the desk, whatever becomes of it.
func (i *Instance) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/") || r.URL.Path == "/oauth_token.do" {
			i.mu.Lock()
			i.calls[r.Method+" "+sysIDInPath.ReplaceAllString(r.URL.Path, "/{sys_id}$1")]++
			i.mu.Unlock()
		}
		next.ServeHTTP(w, r)
	})
}

// Calls is how many calls arrived, by method and route, as in "PATCH /api/now/v2/table/sc_request/{sys_id}".
func (i *Instance) Calls() map[string]int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return maps.Clone(i.calls)
}

// ResetCalls begins counting calls anew.
func (i *Instance) ResetCalls() {
	i.mu.Lock()
	defer i.mu.Unlock()
	clear(i.calls)
}

// newID is a sys_id: 32 hexadecimal digits.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
