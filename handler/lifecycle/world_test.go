package lifecycle

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/host"
	"ticketbridge/handler/simulator/misbehave"
	"ticketbridge/handler/simulator/servicenow"
	"ticketbridge/handler/storage"
)

// These tests wait more than they work: more of them are run side by side than there are processors, unless somebody says otherwise.
const sideBySide = "8"

func TestMain(m *testing.M) {
	if child := os.Getenv(hostProcess); child != "" {
		os.Exit(runHostProcess(child))
	}
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		if err := flag.Set("test.parallel", sideBySide); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// patience is how long a test waits for what must happen. A machine may be slow; nothing here takes a quarter of it on one that is not.
const patience = 4 * time.Minute

// What proves who somebody is, to the stand-ins and to the app.
const (
	clientID  = "ticketbridge"
	audience  = "api://ticketbridge"
	closerApp = "5f1c1c2e-6c57-4a31-9a66-0f2f4ad0c3b1" // ServiceNow's registration in the tenant
)

// A world is one tenant, one ServiceNow instance, one storage account, and the app under one or more Functions hosts.
type world struct {
	testing.TB
	ctx context.Context //nolint:containedctx // it ends with the test

	entra      *entra.Directory
	sample     entra.Sample
	serviceNow *servicenow.Instance
	store      *storage.Store
	queue      *storage.Queue
	connection string // of Azurite, past whatever stands before it for the handler

	app      string // the app's folder
	settings map[string]string
	keys     host.Keys
	timers   *host.State
	front    *front
	log      *log
	inError  []string // functions that the host cannot run, as the test wants it
	said     func(host.Entry)

	mu    sync.Mutex
	hosts []*host.Host
}

// A plan says what a world is made of; the zero value is an app as it is deployed under one host.
type plan struct {
	hosts     int                                       // how many there are; 0 is one
	app       func(settings map[string]any)             // changes host.json
	folder    string                                    // what the host runs; "" is what was built
	settings  map[string]string                         // of the app, beside and before those of every test
	entra     entra.Config                              // the tenant
	retries   int                                       // of a callout, by Entra; 0 is one, the most that Microsoft documents
	storage   func(t testing.TB, azurite string) string // puts something before Azurite, and returns the connection string that leads to it
	azurite   string                                    // a connection string; "" is the Azurite of all tests
	wire      *wire                                     // stands between the handlers and everybody whom they call
	functions []string                                  // the only ones that are bound; nil is all
	inError   []string                                  // those of them that the host cannot run
	said      func(host.Entry)                          // hears what the hosts log
	later     bool                                      // no host is started
	patience  time.Duration                             // of the whole test; 0 is the one of all
}

// forwarding makes the host pass HTTP calls in its older way.
func forwarding(hostJSON map[string]any) {
	handler := hostJSON["customHandler"].(map[string]any)
	delete(handler, "enableProxyingHttpRequest")
	handler["enableForwardingHttpRequest"] = true
}

// dist is the folder that make build assembled.
func dist(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("HANDLER_DIST")
	if dir == "" {
		t.Fatal("HANDLER_DIST is not set: these tests need the built handler. Run `make test PKGS=./handler/lifecycle`")
	}
	if _, err := os.Stat(filepath.Join(dir, "handler")); err != nil {
		t.Fatalf("HANDLER_DIST has no built handler (%v): run `make test PKGS=./handler/lifecycle`", err)
	}
	return dir
}

func azurite(t testing.TB) string {
	t.Helper()
	connection := os.Getenv("AZURITE_CONNECTION_STRING")
	if connection == "" {
		t.Fatal("AZURITE_CONNECTION_STRING is not set: these tests need Azurite. Run `make test PKGS=./handler/lifecycle`")
	}
	return connection
}

// newWorld makes a world and waits until its hosts serve. It all ends with the test, which fails when the handler logged what it must not.
func newWorld(t testing.TB, p plan) *world {
	t.Helper()
	w := &world{
		TB: t, connection: p.azurite, app: p.folder, timers: &host.State{}, front: newFront(t), inError: p.inError, said: p.said,
	}
	if w.app == "" {
		w.app = appFolder(t, p.app, p.functions)
	}
	if w.connection == "" {
		w.connection = azurite(t)
	}
	var cancel context.CancelFunc
	w.ctx, cancel = context.WithTimeout(context.Background(), cmp.Or(p.patience, patience))
	t.Cleanup(cancel)

	secret := random()
	w.keys = host.Keys{Master: "master-" + random(), Default: "default-" + random(), Functions: map[string]string{}}
	w.log = newLog(secret, w.keys.Master, w.keys.Default, accountKey(w.connection))
	t.Cleanup(func() {
		w.log.judge(t)
		for _, v := range w.entra.Violations() {
			t.Errorf("against Graph's published schema: %s", v)
		}
	})

	w.startEntra(p)
	address := w.startServiceNow(secret)
	handlers := w.connection
	if p.storage != nil {
		handlers = p.storage(t, w.connection)
	}
	var err error
	prefix := "life" + random()
	w.store, w.queue, err = storage.NewAzure(storage.Settings{ConnectionString: w.connection, Prefix: prefix})
	w.check(err)
	w.settings = map[string]string{
		"AzureWebJobsStorage": handlers, "STORAGE_PREFIX": prefix, "SWEEP_SCHEDULE": "* * * * * *", "CHECK_INTERVAL": "1s",
		"SERVICENOW_URL": address, "SERVICENOW_CLIENT_ID": clientID, "SERVICENOW_CLIENT_SECRET": secret,
		"SERVICENOW_TIMEOUT": "5s", "SERVICENOW_SETTLE": "2s", "GRAPH_TIMEOUT": "5s",
		"CALLOUT_AUDIENCE": audience, "CLOSE_AUDIENCE": audience, "CLOSE_CALLERS": closerApp,
		"CONSOLE_AUTH": "none", "LOG_LEVEL": "debug",
	}
	maps.Copy(w.settings, w.entra.Environment(""))
	maps.Copy(w.settings, p.settings)
	if p.wire != nil {
		p.wire.before(t, w.settings)
	}
	w.log.forbid(w.settings["IDENTITY_HEADER"])
	t.Cleanup(w.stop)
	if !p.later {
		for range max(1, p.hosts) {
			w.start()
		}
	}
	return w
}

func (w *world) startEntra(p plan) {
	w.Helper()
	w.entra = entra.New(p.entra)
	w.Cleanup(w.entra.Close)
	stop, err := w.entra.Start("127.0.0.1:0")
	w.check(err)
	w.Cleanup(stop)
	w.entra.AddApp(entra.App{Name: "ticketbridge", URIs: []string{audience}})
	to := entra.Extension{URL: w.front.url() + "/api/callout?code=" + url.QueryEscape(w.keys.Default), Resource: audience}
	to.Patience, to.Retries = 2*time.Second, max(1, p.retries) // the longest that Microsoft documents: the machine may be slow
	w.sample = w.entra.AddSample(to)
	me := w.entra.AddIdentity(entra.Identity{Name: "ticketbridge"})
	w.entra.AssignManager(me.ObjectID, w.sample.Finance)
	w.entra.AssignManager(me.ObjectID, w.sample.Engineering)
	for _, u := range []entra.User{w.sample.Robin, w.sample.Kim, w.sample.Sasha} {
		w.log.forbid(u.Name, u.Email, u.PrincipalName)
	}
}

func (w *world) startServiceNow(secret string) (address string) {
	w.Helper()
	var err error
	w.serviceNow, err = servicenow.New(servicenow.Config{
		Users: []servicenow.User{
			{UserName: clientID, Name: "ticketbridge (integration)", WebServiceAccessOnly: true},
			{UserName: w.sample.Robin.PrincipalName, Name: w.sample.Robin.Name, Email: w.sample.Robin.Email},
			{UserName: w.sample.Kim.PrincipalName, Name: w.sample.Kim.Name, Email: w.sample.Kim.Email},
		},
		OAuthClients: []servicenow.OAuthClient{{ID: clientID, Secret: secret, User: clientID}},
		Notifications: []servicenow.Notification{{
			URL: w.front.url() + "/api/ticket-closed", Header: http.Header{"X-Functions-Key": {w.keys.Default}}, Token: w.closersToken,
			Retries: 3, RetryDelay: 300 * time.Millisecond,
		}},
	})
	w.check(err)
	address, stop, err := w.serviceNow.Start("127.0.0.1:0")
	w.check(err)
	w.Cleanup(stop)
	return address
}

// closersToken is a token of the tenant with which ServiceNow calls the app.
func (w *world) closersToken(context.Context) (string, error) {
	return w.entra.IssueToken(entra.Token{Audience: audience, AppID: closerApp}), nil
}

// start starts one more host of the app, and waits until it serves.
func (w *world) start() *host.Host {
	w.Helper()
	w.mu.Lock()
	number := len(w.hosts)
	w.mu.Unlock()
	h, err := host.Start(w.ctx, host.Config{
		App: os.DirFS(w.app), Dir: w.app, Settings: w.settings, Queues: host.Account(w.queue.Queues()), State: w.timers, Keys: w.keys,
		Log: func(e host.Entry) {
			w.log.entry(number, e)
			if w.said != nil {
				w.said(e)
			}
		},
		Timing: host.Timing{HTTPGrace: 3 * time.Second, TriggerGrace: 6 * time.Second},
	})
	w.check(err)
	w.signalled("the handler to answer the host", h.Ready())
	for name, err := range h.Functions() {
		if (err != nil) != slices.Contains(w.inError, name) {
			w.Fatalf("function %s: %v", name, err)
		}
	}
	w.mu.Lock()
	w.hosts = append(w.hosts, h)
	w.mu.Unlock()
	w.front.add(h)
	return h
}

// newest is the host that was started last.
func (w *world) newest() *host.Host {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hosts[len(w.hosts)-1]
}

func (w *world) host(n int) *host.Host {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hosts[n]
}

// stop ends all hosts, side by side.
func (w *world) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all sync.WaitGroup
	for _, h := range w.hosts {
		all.Go(func() { h.Stop() })
	}
	all.Wait()
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// signalled waits for a channel to be closed.
func (w *world) signalled(what string, done <-chan struct{}) {
	w.Helper()
	select {
	case <-done:
	case <-w.ctx.Done():
		w.Fatalf("waiting for %s: %v", what, w.ctx.Err())
	}
}

// until asks again and again, where there is no signal to wait for.
func (w *world) until(what string, is func() bool) {
	w.Helper()
	w.every(20*time.Millisecond, what, is)
}

// every is until for what is dear to ask.
func (w *world) every(pause time.Duration, what string, is func() bool) {
	w.Helper()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for !is() {
		select {
		case <-w.ctx.Done():
			w.Fatalf("waiting for %s: %v", what, w.ctx.Err())
		case <-tick.C:
		}
	}
}

// appFolder is a copy of the built app with another host.json or fewer functions, or what was built where nothing is to be changed.
func appFolder(t testing.TB, change func(map[string]any), functions []string) string {
	t.Helper()
	built := dist(t)
	if change == nil && functions == nil {
		return built
	}
	dir := t.TempDir()
	err := filepath.WalkDir(built, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(dir, strings.TrimPrefix(path, built))
		switch {
		case e.IsDir() && path != built && functions != nil && !slices.Contains(functions, e.Name()):
			return fs.SkipDir
		case e.IsDir():
			return os.MkdirAll(to, 0o755)
		case e.Name() == "handler":
			return os.Symlink(path, to)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if e.Name() == "host.json" && change != nil {
			var settings map[string]any
			if err := json.Unmarshal(text, &settings); err != nil {
				return err
			}
			change(settings)
			if text, err = json.Marshal(settings); err != nil {
				return err
			}
		}
		return os.WriteFile(to, text, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// A front spreads calls over the hosts that are there, as Azure's front end does.
type front struct {
	server *httptest.Server

	mu    sync.Mutex
	to    []*host.Host
	next  int
	fixed string // where calls go while there is no host in this process
}

func newFront(t testing.TB) *front {
	f := &front{}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", r.In.Context().Value(frontKey{}).(string)
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
		Transport:    &http.Transport{DisableKeepAlives: true},
	}
	f.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to := f.pick()
		if to == "" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), frontKey{}, to)))
	}))
	t.Cleanup(f.server.Close)
	return f
}

type frontKey struct{}

func (f *front) url() string { return f.server.URL }

func (f *front) add(h *host.Host) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.to = append(f.to, h)
}

// pick is the next host in turn that has not ended.
func (f *front) pick() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range f.to {
		h := f.to[f.next%len(f.to)]
		f.next++
		select {
		case <-h.Done():
		default:
			return strings.TrimPrefix(h.URL(), "http://")
		}
	}
	return f.fixed
}

// fix sends calls to a host that runs elsewhere.
func (f *front) fix(address string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fixed = strings.TrimPrefix(address, "http://")
}

// beforeAzurite puts a desk of faults before Azurite's tables and queues, for the handler alone, and returns the connection string that leads there.
func beforeAzurite(t testing.TB, connection string, desk *misbehave.Desk) string {
	t.Helper()
	return throughStorage(t, connection, desk.Middleware)
}

// throughStorage puts something before the tables and queues of a connection string, and returns one that leads there.
func throughStorage(t testing.TB, connection string, put func(http.Handler) http.Handler) string {
	t.Helper()
	parts := strings.Split(connection, ";")
	for i, part := range parts {
		if name, value, _ := strings.Cut(part, "="); name == "TableEndpoint" || name == "QueueEndpoint" {
			parts[i] = name + "=" + through(t, value, put)
		}
	}
	return strings.Join(parts, ";")
}

// through puts something before a service, and returns the address that leads there.
func through(t testing.TB, address string, put func(http.Handler) http.Handler) string {
	t.Helper()
	to, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(put(&httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = to.Scheme, to.Host },
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}))
	t.Cleanup(server.Close)
	return server.URL + to.Path
}

func accountKey(connection string) string {
	for part := range strings.SplitSeq(connection, ";") {
		if key, ok := strings.CutPrefix(part, "AccountKey="); ok {
			return key
		}
	}
	return ""
}

// send calls the app as anybody can, and returns the status, the headers and the body of the answer.
func (w *world) send(address string, header http.Header, body []byte) (status int, answered http.Header, text string, err error) {
	req, err := http.NewRequestWithContext(w.ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return 0, nil, "", err
	}
	req.Header = header.Clone()
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, "", err
	}
	defer resp.Body.Close()
	read, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, string(read), err
}

// post is send for the test's own goroutine. It sends again while the answer is 503: the machine may be busy.
func (w *world) post(address string, header http.Header, body []byte) (int, http.Header, string) {
	w.Helper()
	for {
		status, answered, text, err := w.send(address, header, body)
		w.check(err)
		if status != http.StatusServiceUnavailable {
			return status, answered, text
		}
	}
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func random() string {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// calls posts a callout as entitlement management does, but with more patience, until it is taken: a machine that is busy answers 503, "send the
// same call again". It returns the answer, and how often it was 503 before.
func (w *world) calls(body []byte) (answer receipt, busy int, err error) {
	header := http.Header{"Authorization": {"Bearer " + w.entra.IssueToken(entra.Token{Audience: audience, AppID: entra.CallerID})}}
	for {
		status, h, text, err := w.send(w.front.url()+"/api/callout?code="+url.QueryEscape(w.keys.Default), header, body)
		switch {
		case err != nil:
			return receipt{}, busy, err
		case status == http.StatusAccepted:
			return answer, busy, json.Unmarshal([]byte(text), &answer)
		case status != http.StatusServiceUnavailable || h.Get("Retry-After") == "":
			return receipt{}, busy, fmt.Errorf("answered %d: %s", status, text)
		}
		busy++
	}
}

// receipt is the answer to a callout.
type receipt struct {
	RequestID, StageInstanceID, State string
	Duplicate                         bool
}

// calloutBody is a callout's body for a request that Entra does not know.
func calloutBody(request, stage string) []byte {
	text, err := json.Marshal(map[string]any{
		"AccessPackageAssignmentRequestId": request, "CustomExtensionStageInstanceId": stage, "Stage": entra.StageApproved, "RequestType": "userAdd",
		"CallbackConfiguration": map[string]any{"DurationBeforeTimeout": "P14D"},
		"AccessPackage":         map[string]any{"Id": uuid.NewString(), "DisplayName": "Ledger reader"},
	})
	if err != nil {
		panic(err)
	}
	return text
}

func fmtKey(request, stage string) string {
	return strings.ToLower(fmt.Sprintf("%s/%s", request, stage))
}
