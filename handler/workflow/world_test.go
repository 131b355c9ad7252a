package workflow_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	now "ticketbridge/handler/servicenow"
	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/misbehave"
	"ticketbridge/handler/simulator/servicenow"
	"ticketbridge/handler/storage"
	"ticketbridge/handler/ticket"
	"ticketbridge/handler/workflow"
)

// A world is everything around a workflow, in one synctest bubble: Entra with Graph, a ServiceNow instance, the storage's twin, and a Functions host that
// delivers the queue's messages and fires the sweep each minute of the bubble's time.
type world struct {
	*testing.T
	ctx      context.Context
	entra    *entra.Directory
	sample   entra.Sample
	graph    *graph
	identity entra.Identity
	now      *servicenow.Instance
	store    *storage.Store
	queue    *storage.Queue
	tap      *tap
	wire     *wire
	log      *locked
	setup    setup

	first *workflow.Workflow   // the one that callouts and notifications reach
	all   []*workflow.Workflow // those that messages reach, in turn

	mu       sync.Mutex
	swept    time.Time // when the sweep last ran
	poisoned []string
	failures []error       // what Advance returned
	silent   bool          // the sweep does not run
	restarts bool          // a process that dies has a successor that remembers nothing; else it lives on, which is all the same to a test of one call
	copies   int           // how many deliveries of each message there are at the same time, beside the first
	polls    time.Duration // the longest between two looks at the queue when there was nothing; 0 is 15 s

	processes map[*workflow.Workflow]*process
}

// A setup changes what a world is made of, before it is.
type setup struct {
	entra     entra.Config
	extension entra.Extension
	now       servicenow.Config
	policy    workflow.Policy
	rules     workflow.Rules // default the built-in ones
	noRole    bool           // the function's identity has no role in Graph
	noLookUp  bool           // nobody asks Graph for what a callout does not say of its people
	callout   func([]byte) []byte
}

const robinID, kimID = "11111111111111111111111111111111", "22222222222222222222222222222222"

// signingKey is Entra's in all worlds: making one takes longer than most tests.
var signingKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// The tenant and the identity are the same in all worlds, which all begin at the same time, and so is its token: signing one takes half as long as a life.
const tenantID, identityID = "3c9f1d52-0f1e-4d0b-8a3c-0d8f5f2b7a01", "3c9f1d52-0f1e-4d0b-8a3c-0d8f5f2b7a02"

var graphTokens sync.Map // by the time of issue

func graphToken(d *entra.Directory) string {
	token, ok := graphTokens.Load(time.Now().Unix())
	if !ok {
		token, _ = graphTokens.LoadOrStore(time.Now().Unix(), d.IssueToken(entra.Token{Audience: "https://graph.microsoft.com", ObjectID: identityID, Lifetime: 1000 * time.Hour}))
	}
	return token.(string)
}

// builtIn are the built-in rules: parsing their templates takes longer than a life.
var builtIn = sync.OnceValue(ticket.BuiltIn)

// inWorld runs the test in a world of its own.
func inWorld(t *testing.T, change func(*setup), test func(w *world)) {
	t.Helper()
	key, err := signingKey()
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s := setup{
			entra:     entra.Config{Key: key},
			extension: entra.Extension{URL: "http://function/api/callout", Retries: 1},
			now: servicenow.Config{
				TutorialColumns: true,
				Users: []servicenow.User{
					{UserName: "bridge", Password: "secret"},
					{SysID: robinID, UserName: "robin.marsh@example.com", Name: "Robin Marsh", Email: "robin.marsh@example.com"},
					{SysID: kimID, UserName: "kim.stone@example.com", Name: "Kim Stone", Email: "kim.stone@example.com"},
				},
				Notifications: []servicenow.Notification{{URL: "http://function/api/ticket-closed"}},
			},
		}
		if change != nil {
			change(&s)
		}
		test(build(t, s))
	})
}

func build(t *testing.T, s setup) *world {
	t.Helper()
	w := &world{T: t, tap: &tap{}, wire: &wire{}, log: &locked{}, setup: s, swept: time.Now(), processes: map[*workflow.Workflow]*process{}}
	w.ctx = zerolog.New(w.log).WithContext(t.Context())
	function := &http.Client{Transport: misbehave.Transport(w)}

	s.entra.Transport, s.entra.TenantID = function.Transport, tenantID
	w.entra = entra.New(s.entra)
	t.Cleanup(func() {
		w.entra.Close()
		for _, v := range w.entra.Violations() { // known only to builds that have Graph's schema to compare with
			t.Error("not as Graph's schema says: " + v)
		}
	})
	w.entra.SetBaseURL("http://entra")
	w.sample = w.entra.AddSample(s.extension)
	w.identity = w.entra.AddIdentity(entra.Identity{Name: "ticketbridge", ObjectID: identityID})
	if !s.noRole {
		w.entra.AssignManager(w.identity.ObjectID, w.sample.Finance)
		w.entra.AssignManager(w.identity.ObjectID, w.sample.Engineering)
	}
	w.graph = &graph{
		http: &http.Client{Transport: caller{w.wire, "Graph", misbehave.Transport(w.entra)}}, url: w.entra.GraphURL(),
		token: graphToken(w.entra),
	}

	for i := range s.now.Notifications {
		s.now.Notifications[i].Client = function
	}
	var err error
	if w.now, err = servicenow.New(s.now); err != nil {
		t.Fatal(err)
	}
	if w.store, w.queue, err = storage.NewEmbeddedThrough(storage.DefaultPrefix, w.wire.storage); err != nil {
		t.Fatal(err)
	}
	w.first = w.start()
	w.all = []*workflow.Workflow{w.first}
	return w
}

// columns are what is read of a ticket: what the built-in rules need, and what a rule of one's own may use.
func columns(table string) []string { return append(builtIn().Columns(table), "close_notes") }

// start starts a process of the function, which remembers nothing of those before it.
func (w *world) start() *workflow.Workflow {
	tickets, err := now.New(now.Config{
		URL: "https://now.example", Auth: now.AuthBasic, Username: "bridge", Password: "secret", Columns: columns,
		HTTPClient: &http.Client{Transport: caller{w.wire, "ServiceNow", w.now.Client().Transport}},
	})
	if err != nil {
		w.Fatal(err)
	}
	rules := w.setup.rules
	if rules == nil {
		rules = builtIn()
	}
	return w.tap.on(&workflow.Workflow{
		Store: w.store, Queue: w.queue, Tickets: tickets, Requests: w.graph, Rules: rules, Policy: w.setup.policy, Memory: workflow.NewMemory(), NoLookUp: w.setup.noLookUp,
	})
}

// another adds a second instance of the function on the same storage.
func (w *world) another() {
	second := *w.first
	second.Memory = workflow.NewMemory()
	w.all = append(w.all, &second)
}

// locked is a buffer for several writers.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// How long the function's host interface gives to each kind of call.
const (
	callerPatience  = 750 * time.Millisecond
	advancePatience = 100 * time.Second
	sweepPatience   = 90 * time.Second
)

var invocations atomic.Int64

func (w *world) invocation() context.Context {
	return workflow.WithInvocation(w.ctx, fmt.Sprintf("invocation-%d", invocations.Add(1)))
}

// ServeHTTP is the function's two endpoints, as far as these tests need them.
func (w *world) ServeHTTP(res http.ResponseWriter, req *http.Request) {
	wf := w.instance(0)
	defer func() {
		if p := recover(); p == (killed{}) {
			w.died(wf)
			panic(http.ErrAbortHandler) // the connection of a process that dies is cut
		} else if p != nil {
			panic(p)
		}
	}()
	body, err := io.ReadAll(req.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if strings.HasSuffix(req.URL.Path, "/callout") {
		ctx, cancel := context.WithTimeout(w.as(wf, "callout"), callerPatience)
		defer cancel()
		if change := w.setup.callout; change != nil {
			body = change(body)
		}
		_, err = wf.Accept(ctx, body)
	} else {
		ctx, cancel := context.WithTimeout(w.as(wf, "ticket closed"), callerPatience)
		defer cancel()
		err = wf.TicketClosed(ctx, closed(w, body))
	}
	if err != nil {
		res.WriteHeader(fault.Status(err))
		return
	}
	res.WriteHeader(http.StatusAccepted)
}

func closed(t testing.TB, body []byte) workflow.Closed {
	t.Helper()
	var n map[string]string
	if err := json.Unmarshal(body, &n); err != nil {
		t.Errorf("the notification %s: %v", body, err)
	}
	return workflow.Closed{
		CorrelationID: n["correlation_id"], Table: n["table"], SysID: n["sys_id"],
		RequestID: n["AccessPackageAssignmentRequestId"], StageInstanceID: n["StageInstanceId"],
	}
}

// deliver gives a message to a workflow as a Functions host does, and says whether it is done with.
func (w *world) deliver(wf *workflow.Workflow, wire string) (done, dead bool) {
	defer func() {
		if p := recover(); p == (killed{}) {
			dead = true
			w.died(wf)
		} else if p != nil {
			panic(p)
		}
	}()
	text, err := base64.StdEncoding.DecodeString(wire)
	if err != nil {
		w.Errorf("a message that the host would not deliver: %v", err)
		return true, false
	}
	m, err := workflow.ReadMessage(text)
	if err != nil {
		w.Errorf("a message that cannot be read: %v", err)
		return true, false
	}
	ctx, cancel := context.WithTimeout(w.as(wf, "advance"), advancePatience)
	defer cancel()
	if err := wf.Advance(ctx, m); err != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.failures = append(w.failures, err)
		return false, false
	}
	return true, false
}

// poll receives up to sixteen messages, works on them at the same time, and returns how many there were. One that failed comes back at once, five times;
// one whose process died comes back after ten minutes.
func (w *world) poll() int {
	messages, err := w.queue.Queues().Get(w.ctx, w.queue.Name(), 16, 10*time.Minute)
	if err != nil && !fault.Is(err, fault.NotFound) {
		w.Fatal(err)
	}
	var all sync.WaitGroup
	for i, m := range messages {
		wf := w.instance(i)
		if m.DequeueCount > 5 { // its processes died over it, five times
			w.giveUpOn(m)
			continue
		}
		for c := range w.copies {
			all.Go(func() { w.deliver(w.instance(i+1+c), m.Text) })
		}
		all.Go(func() {
			done, dead := w.deliver(wf, m.Text)
			switch {
			case dead:
				return
			case !done && m.DequeueCount < 5:
				_, err := w.queue.Queues().Extend(w.ctx, w.queue.Name(), m.ID, m.PopReceipt, 0)
				if err != nil {
					w.Error(err)
				}
				return
			case !done:
				w.giveUpOn(m)
				return
			}
			if err := w.queue.Queues().Delete(w.ctx, w.queue.Name(), m.ID, m.PopReceipt); err != nil {
				w.Error(err)
			}
		})
	}
	all.Wait()
	return len(messages)
}

// giveUpOn moves a message to the poison queue.
func (w *world) giveUpOn(m storage.QueueMessage) {
	w.mu.Lock()
	w.poisoned = append(w.poisoned, m.Text)
	w.mu.Unlock()
	w.poison(m.Text)
	if err := w.queue.Queues().Delete(w.ctx, w.queue.Name(), m.ID, m.PopReceipt); err != nil {
		w.Error(err)
	}
}

// sweep fires the timer. A sweep that dies or fails is followed by another a minute later.
func (w *world) sweep() {
	wf := w.instance(0)
	defer func() {
		if p := recover(); p == (killed{}) {
			w.died(wf)
		} else if p != nil {
			panic(p)
		}
	}()
	w.swept = time.Now()
	ctx, cancel := context.WithTimeout(w.as(wf, "sweep"), sweepPatience)
	defer cancel()
	_, _ = wf.Sweep(ctx)
}

// run plays the Functions host until done says so, for the given time at most, and says whether it did.
func (w *world) run(limit time.Duration, done func() bool) bool {
	w.Helper()
	idle := time.Second
	for end := time.Now().Add(limit); ; {
		synctest.Wait()
		if done() {
			return true
		}
		if !time.Now().Before(end) {
			return false
		}
		if !w.silent && time.Since(w.swept) >= time.Minute {
			w.sweep()
		}
		if w.poll() > 0 {
			idle = time.Second
			continue
		}
		time.Sleep(idle)
		idle = min(2*idle, cmp.Or(w.polls, 15*time.Second))
	}
}

// pass lets the time pass, and the host work.
func (w *world) pass(d time.Duration) {
	w.Helper()
	w.run(d, func() bool { return false })
}

// until plays until the correlation is in one of the states.
func (w *world) until(key correlation.Key, states ...correlation.State) *correlation.Correlation {
	w.Helper()
	var c *correlation.Correlation
	if !w.run(30*24*time.Hour, func() bool {
		c = w.load(key)
		return c != nil && slices.Contains(states, c.State) && (!c.State.Ended() || c.Settled())
	}) {
		if c == nil {
			w.Fatal("there is no correlation")
		}
		w.Fatalf("it is %s, not %s\n%s", c.State, states, w.timeline(key))
	}
	return c
}

func (w *world) load(key correlation.Key) *correlation.Correlation {
	w.Helper()
	c, err := w.store.Load(context.Background(), key)
	if err != nil && !fault.Is(err, fault.NotFound) {
		w.Fatal(err)
	}
	return c
}

// submit asks for a package, and returns the key of its last callout, as soon as that is over.
func (w *world) submit(r entra.NewRequest) correlation.Key {
	w.Helper()
	if r.Target == "" {
		r.Target = w.sample.Robin.ObjectID
	}
	id, err := w.entra.Submit(r)
	if err != nil {
		w.Fatal(err)
	}
	synctest.Wait()
	return w.last(id)
}

// last is the key of a request's last callout.
func (w *world) last(id string) correlation.Key {
	w.Helper()
	r, ok := w.entra.Request(id)
	if !ok || len(r.Callouts) == 0 {
		w.Fatalf("no callout of request %s", id)
	}
	key, err := correlation.NewKey(r.ID, r.Callouts[len(r.Callouts)-1].ID)
	if err != nil {
		w.Fatal(err)
	}
	return key
}

// opened submits a request for the ledger, which waits once approved, and plays until its ticket is open.
func (w *world) opened() correlation.Key {
	w.Helper()
	key := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
	w.until(key, correlation.Open)
	return key
}

// ticket returns the one ticket of a correlation, as ServiceNow has it.
func (w *world) ticket(key correlation.Key) servicenow.Ticket {
	w.Helper()
	list := w.now.ByCorrelation(key.String())
	if len(list) != 1 {
		w.Fatalf("%d tickets with the correlation_id %s", len(list), key)
	}
	return list[0]
}

// close closes the ticket.
func (w *world) close(key correlation.Key, how servicenow.Closing) {
	w.Helper()
	if err := w.now.Close(w.ticket(key).SysID, how); err != nil {
		w.Fatal(err)
	}
	synctest.Wait()
}

// granted counts the resumes of a stage instance that Graph accepted and that let the request go on; told those that it accepted at all.
func (w *world) granted(key correlation.Key) (granted, told int) {
	for _, r := range w.entra.Resumes(key.Request) {
		if !r.Accepted || !strings.EqualFold(r.StageInstance, key.Stage) {
			continue
		}
		told++
		if r.Grants() {
			granted++
		}
	}
	return granted, told
}

// check holds what always holds against the stand-ins' own records: one ticket, one accepted answer at most, no grant but in the state resumed, a
// timeline without gaps, and the right lists.
func (w *world) check(key correlation.Key) {
	w.Helper()
	c := w.load(key)
	if c == nil {
		w.Fatal("there is no correlation")
	}
	if n := w.now.Creations()[key.String()]; n > 1 {
		w.Errorf("%d tickets", n)
	}
	granted, told := w.granted(key)
	if told > 1 || granted > 0 && c.State != correlation.Resumed && c.State != correlation.Resuming || c.State == correlation.Resumed && granted != 1 || c.State == correlation.Denied && told-granted != 1 {
		w.Errorf("it is %s, and Graph accepted %d answers, %d of them grants", c.State, told, granted)
	}
	accepted := false
	for _, r := range w.entra.Resumes(key.Request) {
		if accepted && strings.EqualFold(r.StageInstance, key.Stage) {
			w.Errorf("Graph was told again, without being asked: %+v", r)
		}
		accepted = accepted || r.Accepted && strings.EqualFold(r.StageInstance, key.Stage)
	}
	events, err := w.store.Timeline(context.Background(), key)
	if err != nil {
		w.Fatal(err)
	}
	state := correlation.State("")
	for i, e := range events {
		if e.Seq != i+1 || e.From != state && i > 0 || e.Kind == correlation.EventMove && i > 0 && !e.From.MayBecome(e.To) {
			w.Errorf("event %d: %+v", i+1, e)
		}
		state = e.To
	}
	if len(events) != c.Events || state != c.State {
		w.Errorf("%d events ending in %s; the correlation says %d and %s", len(events), state, c.Events, c.State)
	}
	if w.Failed() {
		w.Logf("timeline:\n%s", w.timeline(key))
	}
}

// lists says in which lists a correlation stands.
func (w *world) lists(key correlation.Key) (open, ended bool) {
	w.Helper()
	in := func(page []correlation.Summary, _ string, err error) bool {
		if err != nil {
			w.Fatal(err)
		}
		return slices.ContainsFunc(page, func(s correlation.Summary) bool { return s.Key == key })
	}
	return in(w.store.Open(context.Background(), "", 1000)), in(w.store.Ended(context.Background(), w.load(key).Since, "", 1000))
}

func (w *world) timeline(key correlation.Key) string {
	events, err := w.store.Timeline(context.Background(), key)
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintf(&b, "%3d %s %-8s %s→%s: %s\n", e.Seq, e.At.Format("02 15:04:05"), e.Kind, e.From, e.To, e.Text)
	}
	return b.String()
}

// says expects a word on the timeline.
func (w *world) says(key correlation.Key, text string) {
	w.Helper()
	if !strings.Contains(w.timeline(key), text) {
		w.Errorf("the timeline does not say %q:\n%s", text, w.timeline(key))
	}
}

// notes returns the work notes of the one ticket, the oldest first.
func (w *world) notes(key correlation.Key) []string {
	w.Helper()
	return workNotes(w.ticket(key))
}

// allNotes returns the work notes of all tickets of the request.
func (w *world) allNotes(key correlation.Key) (all []string) {
	w.Helper()
	for i := 0; ; i++ {
		list := w.now.ByCorrelation(key.TicketID(i))
		if len(list) == 0 {
			return all
		}
		all = append(all, workNotes(list[0])...)
	}
}

func workNotes(t servicenow.Ticket) (out []string) {
	for _, n := range t.Notes {
		if n.Element == "work_notes" {
			out = append(out, n.Text)
		}
	}
	slices.Reverse(out)
	return out
}
