package companion_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"ticketbridge/handler/callers"
	"ticketbridge/handler/callout"
	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/host"
	now "ticketbridge/handler/servicenow"
	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/misbehave"
	"ticketbridge/handler/simulator/servicenow"
	"ticketbridge/handler/storage"
	"ticketbridge/handler/ticket"
	"ticketbridge/handler/workflow"
)

const (
	functionKey  = "the-function-key"
	closeURL     = "https://ticketbridge.example/api/ticket-closed"
	oauthProfile = "0123456789abcdef0123456789abcdef"
	audience     = "api://ticketbridge.example"
	closerID     = "3c9f1d52-0f1e-4d0b-8a3c-0d8f5f2b7a03"
	bridgeID     = "3c9f1d52-0f1e-4d0b-8a3c-0d8f5f2b7a02"
	tenantID     = "3c9f1d52-0f1e-4d0b-8a3c-0d8f5f2b7a01"
)

// base64 keys of 32 bytes.
var hmacKey, otherKey = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32)), base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{8}, 32))

var signingKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// A world is the whole path in one synctest bubble: Entra with Graph, an instance with the app, and our endpoints on the embedded storage. No sweep runs: a request is
// resumed only when the app's call came through.
type world struct {
	*testing.T
	entra    *entra.Directory
	sample   entra.Sample
	instance *instance
	workflow *workflow.Workflow
	queue    *storage.Queue
	door     *door
}

// A door is the Functions host before our endpoints, as far as the app's calls need it.
type door struct {
	server http.Handler
	key    string
	down   bool
	status int           // answered instead
	after  string        // its Retry-After
	calls  []call        // that came, whatever became of them
	delay  time.Duration // before an answer
}

type call struct {
	at     time.Time
	header http.Header
	body   string
	status int
}

// ServeHTTP serves, with the function key and while it is not down.
func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if d.down {
		panic(http.ErrAbortHandler)
	}
	time.Sleep(d.delay)
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	s := &seen{ResponseWriter: w}
	switch {
	case d.status != 0:
		if d.after != "" {
			w.Header().Set("Retry-After", d.after)
		}
		s.WriteHeader(d.status)
	case r.Header.Get("X-Functions-Key") != d.key && strings.HasSuffix(r.URL.Path, "/ticket-closed"):
		s.WriteHeader(http.StatusUnauthorized)
	default:
		d.server.ServeHTTP(s, r)
	}
	if strings.HasSuffix(r.URL.Path, "/ticket-closed") {
		d.calls = append(d.calls, call{time.Now(), r.Header, string(body), s.status})
	}
}

type seen struct {
	http.ResponseWriter
	status int
}

func (s *seen) WriteHeader(status int) {
	s.status = status
	s.ResponseWriter.WriteHeader(status)
}

// inWorld runs the test in a world of its own; config says what our close endpoint asks for.
func inWorld(t *testing.T, config callers.Config, test func(w *world)) {
	t.Helper()
	key, err := signingKey()
	if err != nil {
		t.Fatal(err)
	}
	built := app(t)
	synctest.Test(t, func(t *testing.T) { test(build(t, built, key, config)) })
}

func build(t *testing.T, built *built, key *rsa.PrivateKey, config callers.Config) *world {
	t.Helper()
	w := &world{T: t, door: &door{key: functionKey}}
	endpoints := &http.Client{Transport: misbehave.Transport(w.door)}

	w.entra = entra.New(entra.Config{Key: key, TenantID: tenantID, Transport: endpoints.Transport})
	t.Cleanup(w.entra.Close)
	w.entra.SetBaseURL("http://127.0.0.1:8082")
	w.sample = w.entra.AddSample(entra.Extension{URL: "http://ticketbridge.example/api/callout", Retries: 1})
	me := w.entra.AddIdentity(entra.Identity{Name: "ticketbridge", ObjectID: bridgeID})
	w.entra.AssignManager(me.ObjectID, w.sample.Finance)

	tickets, err := servicenow.New(servicenow.Config{TutorialColumns: true, Users: []servicenow.User{{UserName: "bridge", Password: "secret"}}})
	w.check(err)
	client, err := now.New(now.Config{URL: "https://now.example", Auth: now.AuthBasic, Username: "bridge", Password: "secret", HTTPClient: tickets.Client()})
	w.check(err)
	store, queue, err := storage.NewEmbedded(storage.DefaultPrefix)
	w.check(err)
	w.queue = queue
	w.workflow = &workflow.Workflow{
		Store: store, Queue: queue, Tickets: client, Rules: ticket.BuiltIn(), Memory: workflow.NewMemory(),
		Requests: &graph{
			client: &http.Client{Transport: misbehave.Transport(w.entra)}, url: w.entra.GraphURL(),
			token: w.entra.IssueToken(entra.Token{Audience: "https://graph.microsoft.com", ObjectID: bridgeID, Lifetime: 1000 * time.Hour}),
		},
	}
	config.Setting, config.TenantID, config.AuthorityHost, config.Transport = "CLOSE", tenantID, w.entra.BaseURL(), misbehave.Transport(w.entra)
	gate, err := callers.New(config)
	w.check(err)
	w.door.server = host.New(host.Config{Work: w.workflow, Close: gate, Log: zerolog.Nop()})

	w.instance = &instance{
		TB: t, app: built, tickets: tickets, client: endpoints,
		token:      func() string { return w.entra.IssueToken(entra.Token{Audience: audience, AppID: closerID}) },
		properties: map[string]string{"x_tkbr_bridge.close_url": closeURL, "x_tkbr_bridge.function_key": functionKey},
	}
	return w
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// set sets a property of the app.
func (w *world) set(name, value string) { w.instance.properties["x_tkbr_bridge."+name] = value }

// opened submits a request, and returns its key and its ticket as soon as that is there.
func (w *world) opened() (correlation.Key, servicenow.Ticket) {
	w.Helper()
	id, err := w.entra.Submit(entra.NewRequest{Policy: w.sample.LedgerPolicy, Target: w.sample.Robin.ObjectID})
	w.check(err)
	synctest.Wait()
	r, ok := w.entra.Request(id)
	if !ok || len(r.Callouts) == 0 {
		w.Fatal("nobody was called out to")
	}
	key, err := correlation.NewKey(r.ID, r.Callouts[len(r.Callouts)-1].ID)
	w.check(err)
	w.work()
	list := w.instance.tickets.ByCorrelation(key.String())
	if state := w.state(key); state != correlation.Open || len(list) != 1 {
		w.Fatalf("the request is %s, with %d tickets", state, len(list))
	}
	return key, list[0]
}

// work delivers the queue's messages until there are none for a while.
func (w *world) work() {
	w.Helper()
	ctx := context.Background()
	for quiet := 0; quiet < 30; {
		messages, err := w.queue.Queues().Get(ctx, w.queue.Name(), 16, 10*time.Minute)
		if err != nil && !fault.Is(err, fault.NotFound) {
			w.Fatal(err)
		}
		for _, m := range messages {
			text, err := base64.StdEncoding.DecodeString(m.Text)
			w.check(err)
			read, err := workflow.ReadMessage(text)
			w.check(err)
			w.check(w.workflow.Advance(ctx, read))
			w.check(w.queue.Queues().Delete(ctx, w.queue.Name(), m.ID, m.PopReceipt))
		}
		if quiet++; len(messages) > 0 {
			quiet = 0
		}
		time.Sleep(time.Second)
	}
}

// pass lets the time pass on the instance, where the scheduled script runs each minute.
func (w *world) pass(d time.Duration) {
	w.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(time.Minute)
		w.instance.job("Ticketbridge: send again")
	}
}

func (w *world) state(key correlation.Key) correlation.State {
	w.Helper()
	c, err := w.workflow.Store.Load(context.Background(), key)
	w.check(err)
	return c.State
}

// resumed says how often Graph took a grant of the request.
func (w *world) resumed(key correlation.Key) int {
	n := 0
	for _, r := range w.entra.Resumes(key.Request) {
		if r.Accepted && r.Grants() && strings.EqualFold(r.StageInstance, key.Stage) {
			n++
		}
	}
	return n
}

// statuses are those of the calls that came.
func (d *door) statuses() []int {
	var out []int
	for _, c := range d.calls {
		out = append(out, c.status)
	}
	return out
}

// want compares what a row of the outbox says with what it should.
func (w *world) want(row map[string]string, fields map[string]string) {
	w.Helper()
	for name, value := range fields {
		if row[name] != value {
			w.Errorf("%s is %q, not %q: %v", name, row[name], value, row)
		}
	}
}

// graph is a small client of Graph: workflow.Requests without Microsoft's SDK, which takes minutes to compile.
type graph struct {
	client     *http.Client
	url, token string
}

func (g *graph) Answer(ctx context.Context, key correlation.Key, stage string, d workflow.Decision, detail string) error {
	if d != workflow.Resume {
		return &fault.Error{Op: "answer", Reason: fault.Internal, Detail: "these tests grant"}
	}
	body, err := json.Marshal(map[string]any{
		"source": "ServiceNow", "type": "microsoft.graph.accessPackageCustomExtensionStage." + stage,
		"data": map[string]any{
			"@odata.type": "#microsoft.graph.accessPackageAssignmentRequestCallbackData", "stage": stage,
			"customExtensionStageInstanceId": key.Stage, "customExtensionStageInstanceDetail": detail,
		},
	})
	if err != nil {
		return err
	}
	return g.call(ctx, http.MethodPost, key.Request+"/resume", body, http.StatusNoContent, nil)
}

func (g *graph) Read(ctx context.Context, key correlation.Key) (workflow.RequestStatus, error) {
	var r struct {
		State, Status                   string
		CustomExtensionCalloutInstances []struct{ ID, Status string }
	}
	if err := g.call(ctx, http.MethodGet, key.Request+"?$select=id,state,status,customExtensionCalloutInstances", nil, http.StatusOK, &r); err != nil {
		return workflow.RequestStatus{}, err
	}
	out := workflow.RequestStatus{State: r.State, Status: r.Status}
	if n := slices.IndexFunc(r.CustomExtensionCalloutInstances, func(i struct{ ID, Status string }) bool { return strings.EqualFold(i.ID, key.Stage) }); n >= 0 {
		out.Instance = r.CustomExtensionCalloutInstances[n].Status
	}
	return out, nil
}

func (g *graph) ReadMany(ctx context.Context, keys []correlation.Key) (map[correlation.Key]workflow.RequestStatus, error) {
	stand := map[correlation.Key]workflow.RequestStatus{}
	for _, key := range keys {
		st, err := g.Read(ctx, key)
		if err != nil {
			return nil, err
		}
		stand[key] = st
	}
	return stand, nil
}

func (g *graph) People(context.Context, correlation.Key) ([]callout.Person, error) { return nil, nil }

func (g *graph) call(ctx context.Context, method, path string, body []byte, success int, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, g.url+"/identityGovernance/entitlementManagement/assignmentRequests/"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+g.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := g.client.Do(req)
	if err != nil {
		return &fault.Error{Op: "call Graph", Reason: fault.Unclear, Err: err}
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, statusIs(resp.StatusCode, success, answer)); err != nil {
		return &fault.Error{Op: "call Graph", Reason: fault.Refused, Status: resp.StatusCode, Err: err}
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(answer, into)
}

func statusIs(got, want int, answer []byte) error {
	if got == want {
		return nil
	}
	return fmt.Errorf("answered %d: %s", got, answer)
}
