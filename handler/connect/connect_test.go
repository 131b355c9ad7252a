package connect_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/go-cmp/cmp"

	"ticketbridge/handler/connect"
	"ticketbridge/handler/entra/graphapi"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/misbehave"
)

const (
	subscription = "5c0ffee0-0000-4000-8000-000000000001"
	relayID      = "/subscriptions/" + subscription + "/resourceGroups/relay/providers/Microsoft.Logic/workflows/ticket-relay"
)

// world is a tenant in which nobody has connected anything, and a person who may.
type world struct {
	*entra.Directory
	t                       *testing.T
	catalog, pkg            string
	policy, second, forever string // one with a question and what Graph has and its schema has not, one with an approval, one that never expires
	robin                   entra.User
	admin                   entra.User
	app, relay              entra.Identity
	closer                  entra.App
	connector               *connect.Connector
	token                   string
}

// key signs in every world: making one takes a tenth of a second.
var key, _ = rsa.GenerateKey(rand.Reader, 2048)

// extra is what of a policy nobody here knows.
var extra = map[string]any{
	"verifiableCredentialSettings": map[string]any{"credentialTypes": []any{map[string]any{"credentialType": "VerifiedCredentialExpert", "issuers": []any{"did:ion:x"}}}},
	"ledgerNumber":                 json.Number("12345678901234567890.50"),
}

func newWorld(t *testing.T, change func(*entra.Config)) *world {
	t.Helper()
	cfg := entra.Config{Key: key, BaseURL: "http://127.0.0.1:7072", PolicyProperties: []string{"verifiableCredentialSettings", "ledgerNumber"}}
	if change != nil {
		change(&cfg)
	}
	w := &world{Directory: entra.New(cfg), t: t}
	t.Cleanup(func() {
		w.Close()
		for _, v := range w.Violations() { // known only to builds that have Graph's schema to compare with
			t.Error("not as Graph's schema says: " + v)
		}
	})
	w.catalog = w.AddCatalog(entra.Catalog{Name: "Finance", Description: "Systems of the finance department"})
	w.AddCatalog(entra.Catalog{Name: "Engineering"})
	w.pkg = w.AddPackage(entra.Package{CatalogID: w.catalog, Name: "Ledger reader"})
	w.policy = w.AddPolicy(entra.Policy{PackageID: w.pkg, Name: "Everybody", Questions: []string{"Which region?", "Why?"}, Extra: extra})
	w.second = w.AddPolicy(entra.Policy{PackageID: w.pkg, Name: "With approval", Approval: true})
	w.forever = w.AddPolicy(entra.Policy{PackageID: w.AddPackage(entra.Package{CatalogID: w.catalog, Name: "Payroll clerk"}), Name: "For ever", NoExpiry: true})
	w.robin = w.AddUser(entra.User{Name: "Robin Marsh", Email: "robin.marsh@example.com", PrincipalName: "robin.marsh@example.com"})
	w.admin = w.AddUser(entra.User{
		Name: "Kim Stone", PrincipalName: "kim.stone@example.com", Roles: []string{entra.GovernanceAdministrator, entra.ApplicationAdministrator}, LogicApps: []string{"ticket-relay"},
	})
	w.app, w.relay = w.AddIdentity(entra.Identity{Name: "bridge-function"}), w.AddIdentity(entra.Identity{Name: "ticket-relay", UserAssigned: true})
	w.closer = w.AddApp(entra.App{Name: "ServiceNow"})
	w.signIn(w.admin.ObjectID, "EntitlementManagement.ReadWrite.All", "Application.ReadWrite.All", "AppRoleAssignment.ReadWrite.All")
	w.connector = &connect.Connector{}
	w.through(misbehave.Transport(w.Directory))
	return w
}

// signIn has somebody else's token used from now on.
func (w *world) signIn(object string, scopes ...string) {
	w.token = w.PersonToken(object, "", scopes...)
}

func (w *world) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: w.token, ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func stage(text string) connect.Stage {
	s, err := connect.ParseStage(text)
	if err != nil {
		panic(err)
	}
	return s
}

// wish is all that connect can make, by a relay.
func (w *world) wish(stages ...string) connect.Wish {
	out := connect.Wish{
		Name: connect.DefaultName, Catalog: "Finance", Packages: []string{"Ledger reader"}, Relay: relayID, Wait: 14 * 24 * time.Hour, Timeout: 2 * time.Second, Retries: 1,
		Identity: w.app.ObjectID, App: connect.DefaultName, RelayIdentity: w.relay.ObjectID, CloseCallers: []string{w.closer.ObjectID},
	}
	if len(stages) == 0 {
		stages = []string{"approved", "removed"}
	}
	for _, s := range stages {
		out.Stages = append(out.Stages, stage(s))
	}
	return out
}

func (w *world) plan(wish connect.Wish) *connect.Plan {
	w.t.Helper()
	p, err := w.connector.Plan(w.t.Context(), wish)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *world) apply(p *connect.Plan) *connect.Applied {
	w.t.Helper()
	out, err := w.connector.Apply(w.t.Context(), p, func(connect.Step) {})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func (w *world) connect(wish connect.Wish) *connect.Applied {
	w.t.Helper()
	p := w.plan(wish)
	if len(p.Problems) > 0 {
		w.t.Fatalf("problems: %v", p.Problems)
	}
	return w.apply(p)
}

func (w *world) undo(wish connect.Wish) {
	w.t.Helper()
	p, err := w.connector.PlanUndo(w.t.Context(), wish)
	if err != nil {
		w.t.Fatal(err)
	}
	w.apply(p)
}

// nothingLeft holds that all is as the wish says: a second run would write nothing.
func (w *world) nothingLeft(wish connect.Wish) {
	w.t.Helper()
	if again := w.plan(wish); again.Writes() > 0 {
		w.t.Errorf("left to do:\n%s", again.Text())
	}
}

// writes is how many calls to Graph there were that can change something.
func (w *world) writes() (n int) {
	for route, count := range w.Calls() {
		if strings.Contains(route, " /v1.0/") && !strings.HasPrefix(route, "GET ") {
			n += count
		}
	}
	return n
}

// set is what a policy calls at its stages, by the extensions' names.
func (w *world) set(policy string) map[string]string {
	w.t.Helper()
	var all struct {
		Policies []struct {
			ID     string
			Stages []struct{ Stage, Extension string }
		}
		Extensions []struct{ ID, DisplayName string }
	}
	w.configuration(&all)
	out := map[string]string{}
	for _, p := range all.Policies {
		for _, s := range p.Stages {
			for _, x := range all.Extensions {
				if p.ID == policy && x.ID == s.Extension {
					out[s.Stage] = x.DisplayName
				}
			}
		}
	}
	return out
}

func (w *world) configuration(into any) {
	w.t.Helper()
	if err := json.Unmarshal(w.Configuration(), into); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) same(before []byte) {
	w.t.Helper()
	if d := cmp.Diff(strings.Split(string(before), "\n"), strings.Split(string(w.Configuration()), "\n")); d != "" {
		w.t.Errorf("the tenant is not as it was:\n%s", d)
	}
}

func TestAnEmptyTenantIsConnectedThenNotTouchedAgainAndUndoneByteForByte(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	before := w.Configuration()
	wish := w.wish("created", "approved", "granted", "removed", "14-days", "1-day")
	applied := w.connect(wish)
	want := map[string]string{
		entra.StageCreated: "ticketbridge", entra.StageApproved: "ticketbridge", entra.StageGranted: "ticketbridge without waiting", entra.StageRemoved: "ticketbridge without waiting",
		entra.StageFourteenDays: "ticketbridge before expiration", entra.StageOneDay: "ticketbridge before expiration",
	}
	for _, p := range []string{w.policy, w.second} {
		if d := cmp.Diff(want, w.set(p)); d != "" {
			t.Errorf("policy %s: %s", p, d)
		}
	}
	if got := w.set(w.forever); len(got) != 0 {
		t.Errorf("a policy that nobody named calls %v", got)
	}
	if !slices.Contains(applied.Checks, "read back: Graph shows all of it as it shall be") || len(applied.Warnings) > 0 {
		t.Errorf("checks %v, warnings %v", applied.Checks, applied.Warnings)
	}
	var app string
	for _, s := range applied.Settings {
		if id, ok := strings.CutPrefix(s, "CALLOUT_AUDIENCE=api://"); ok {
			app = id
		}
	}
	wantSettings := []string{
		"CATALOG_IDS=" + w.catalog, "CALLOUT_AUDIENCE=api://" + app, "RELAY_PRINCIPAL_ID=" + w.relay.ObjectID, "CALLOUT_ROLE=Callout.Send",
		"CLOSE_AUDIENCE=api://" + app, "CLOSE_CALLERS=" + w.closer.ClientID, "CLOSE_ROLE=Ticket.Close",
	}
	if d := cmp.Diff(wantSettings, applied.Settings); d != "" || app == "" {
		t.Errorf("settings %s", d)
	}

	writes, connected := w.writes(), w.Configuration()
	again := w.plan(wish)
	if again.Writes() != 0 || !strings.Contains(again.Text(), "No change: all of it is as it shall be.") {
		t.Errorf("the second plan:\n%s", again.Text())
	}
	w.apply(again)
	w.same(connected)
	if n := w.writes(); n != writes {
		t.Errorf("the second run wrote %d times", n-writes)
	}

	w.undo(wish)
	w.same(before)
	writes = w.writes()
	w.undo(wish)
	if n := w.writes(); n != writes {
		t.Errorf("a second -undo wrote %d times", n-writes)
	}
}

// What Graph has of a policy and nobody here knows stays, digit for digit; so do the questions, which a PUT loses that does not hold them.
func TestPoliciesKeepWhatNobodyHereKnows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.connect(w.wish())
	var all struct {
		Policies []struct {
			ID, DisplayName string
			Questions       []string
			Ledger          json.Number     `json:"ledgerNumber"`
			Credentials     json.RawMessage `json:"verifiableCredentialSettings"`
		}
	}
	w.configuration(&all)
	p := all.Policies[0]
	var credentials any
	if err := json.Unmarshal(p.Credentials, &credentials); err != nil {
		t.Fatal(err)
	}
	if p.ID != w.policy || p.Ledger != "12345678901234567890.50" || !slices.Equal(p.Questions, []string{"Which region?", "Why?"}) ||
		cmp.Diff(extra["verifiableCredentialSettings"], credentials) != "" {
		t.Errorf("the policy is %+v", p)
	}
	if len(w.set(w.policy)) != 2 {
		t.Errorf("it calls %v", w.set(w.policy))
	}
}

// Whatever write fails, or loses its answer: running again finishes, nothing is there twice, and -undo leaves the tenant as it was.
func TestInterruptedAtAnyWriteItIsFinishedByRunningAgain(t *testing.T) {
	t.Parallel()
	total := 0
	for _, fault := range []struct {
		name string
		f    misbehave.Fault
	}{
		{"refused", misbehave.Fault{Status: 403, Body: `{"error":{"code":"X","message":"No."}}`, ContentType: "application/json"}},
		{"lost on the way", misbehave.Fault{DropCall: true}},
		{"answer lost", misbehave.Fault{LoseAnswer: true}},
		{"a gateway's answer after it happened", misbehave.Fault{TakeEffect: true, Status: 504, Body: "<html>"}},
	} {
		for _, undoing := range []bool{false, true} {
			for n := 0; ; n++ {
				w := newWorld(t, nil)
				others := w.othersAt()
				before := w.Configuration()
				wish := w.wish("approved", "removed", "1-day")
				wish.Replace = true
				if undoing {
					w.connect(wish)
				}
				o := &obstacle{w: w, fault: fault.f, n: n}
				w.through(o)
				err := w.try(wish, undoing)
				w.through(misbehave.Transport(w.Directory))
				if !o.hit {
					if err != nil {
						t.Errorf("nothing was in the way: %v", err)
					}
					break // every write has had its turn
				}
				total++
				what := fmt.Sprintf("write %d, %s, undoing %v", n, fault.name, undoing)
				if err == nil {
					t.Errorf("%s: no error", what)
				}
				if err := w.try(wish, undoing); err != nil {
					t.Errorf("%s, the second time: %v", what, err)
				}
				if !undoing {
					if again := w.plan(wish); again.Writes() > 0 || len(again.Problems) > 0 {
						t.Errorf("%s: left to do:\n%s", what, again.Text())
					}
					if got := w.set(others)[entra.StageApproved]; got != "ticketbridge" {
						t.Errorf("%s: approved calls %s", what, got)
					}
					w.undo(wish)
				}
				w.same(before)
				if t.Failed() {
					t.Fatal(what)
				}
			}
		}
	}
	if total < 60 {
		t.Errorf("only %d interruptions were tried", total)
	}
}

// try makes a plan and applies it.
func (w *world) try(wish connect.Wish, undo bool) error {
	plan := w.connector.Plan
	if undo {
		plan = w.connector.PlanUndo
	}
	p, err := plan(w.t.Context(), wish)
	if err != nil {
		return err
	}
	if len(p.Problems) > 0 {
		return errors.New(strings.Join(p.Problems, "; "))
	}
	_, err = w.connector.Apply(w.t.Context(), p, func(connect.Step) {})
	return err
}

// obstacle puts a fault before one of the writes, the n-th from 0; everything else goes its way.
type obstacle struct {
	w     *world
	fault misbehave.Fault
	n     int
	seen  int
	hit   bool
}

func (o *obstacle) RoundTrip(r *http.Request) (*http.Response, error) {
	through := misbehave.Transport(o.w.Directory)
	if r.Method != http.MethodGet {
		if o.hit = o.hit || o.seen == o.n; o.seen == o.n {
			desk := misbehave.New()
			desk.Add(o.fault)
			through = misbehave.Transport(desk.Middleware(o.w.Directory))
		}
		o.seen++
	}
	return through.RoundTrip(r)
}

// through makes the connector's calls go through something.
func (w *world) through(transport http.RoundTripper) {
	w.t.Helper()
	graph, err := graphapi.New(graphapi.Config{GraphURL: w.GraphURL(), Credential: w, Transport: transport})
	if err != nil {
		w.t.Fatal(err)
	}
	w.connector.Graph = graph
}

// othersAt adds a policy that calls somebody else's extension at the stage approved, and something else before and after.
func (w *world) othersAt() (policy string) {
	return w.AddPolicy(entra.Policy{PackageID: w.pkg, Name: "With others", Stages: map[string]string{
		entra.StageGranted:  w.AddExtension(entra.Extension{CatalogID: w.catalog, Name: "Mail to the user", URL: "https://example.com"}),
		entra.StageCreated:  w.AddExtension(entra.Extension{CatalogID: w.catalog, Name: "Mail to the manager", URL: "https://example.com"}),
		entra.StageApproved: w.AddExtension(entra.Extension{CatalogID: w.catalog, Name: "Old ticket system", URL: "https://example.com", Wait: time.Hour}),
	}})
}

// fails has a plan refused, and wants the words in its error or its problems; nothing may have been written.
func (w *world) fails(wish connect.Wish, words ...string) {
	w.t.Helper()
	before, writes := w.Configuration(), w.writes()
	err := w.try(wish, false)
	if err == nil {
		w.t.Fatal("no error")
	}
	text := err.Error() + " " + fault.Advice(err)
	for _, word := range words {
		if !strings.Contains(text, word) {
			w.t.Errorf("%q is not in: %s", word, text)
		}
	}
	w.same(before)
	if n := w.writes() - writes; n > 0 {
		w.t.Errorf("%d writes", n)
	}
}

func TestWhatSomebodyElseMadeIsNotOverwrittenUnlessToldSoAndThenPutBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	others := w.othersAt()
	before := w.Configuration()
	wish := w.wish()
	w.fails(wish, `the policy "With others" (`+others+`) calls "Old ticket system" (`, "which connect did not make under the name", "-replace")

	wish.Replace = true
	w.connect(wish)
	want := map[string]string{
		entra.StageCreated: "Mail to the manager", entra.StageApproved: "ticketbridge", entra.StageGranted: "Mail to the user", entra.StageRemoved: "ticketbridge without waiting",
	}
	if d := cmp.Diff(want, w.set(others)); d != "" {
		t.Error(d)
	}
	writes := w.writes()
	w.connect(wish)
	if n := w.writes(); n != writes {
		t.Errorf("the second run wrote %d times", n-writes)
	}
	wish.Replace = false // what is ours needs no leave
	w.connect(wish)
	w.undo(wish)
	w.same(before)
}

func TestWhatWasReplacedAndIsGoneIsSaidAndNothingIsCalledThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	others := w.othersAt()
	wish := w.wish("approved")
	wish.Replace = true
	w.connect(wish)
	var all struct {
		Extensions []struct{ ID, DisplayName string }
	}
	w.configuration(&all)
	for _, x := range all.Extensions {
		if x.DisplayName == "Old ticket system" {
			if err := w.connector.Graph.Delete(t.Context(), "remove", "/identityGovernance/entitlementManagement/catalogs/"+w.catalog+"/customWorkflowExtensions/"+x.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	p, err := w.connector.PlanUndo(t.Context(), wish)
	if err != nil || len(p.Notes) != 1 || !strings.Contains(p.Notes[0], "that is gone, so nothing will be called there") {
		t.Fatalf("%v, %+v", err, p)
	}
	w.apply(p)
	if d := cmp.Diff(map[string]string{entra.StageCreated: "Mail to the manager", entra.StageGranted: "Mail to the user"}, w.set(others)); d != "" {
		t.Error(d)
	}
}

func TestAChangedWishChangesWhatIsThereAndNothingElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	before := w.Configuration()
	wish := w.wish()
	wish.Identity = ""
	w.connect(wish)
	wish.Timeout, wish.Retries, wish.Wait, wish.Identity = 500*time.Millisecond, 0, 36*time.Hour, w.app.ObjectID
	wish.Relay = strings.Replace(relayID, "ticket-relay", "Other-Relay", 1)
	wish.Stages = append(wish.Stages[:1], stage("removed=wait"))
	w.signIn(w.AddUser(entra.User{Name: "Ada", Roles: []string{entra.GovernanceAdministrator, entra.ApplicationAdministrator}, LogicApps: []string{"Other-Relay"}}).ObjectID,
		"EntitlementManagement.ReadWrite.All", "Application.ReadWrite.All", "AppRoleAssignment.ReadWrite.All")
	w.through(misbehave.Transport(w.Directory))
	p := w.plan(wish)
	text := p.Text()
	for _, want := range []string{
		"calls the Logic App ticket-relay → the Logic App Other-Relay", "an answer is expected within 2s → 500ms", "the call is repeated once → never", "the request waits up to P14D → PT36H",
		`assignmentRequestRemoved: calls "ticketbridge without waiting" → "ticketbridge"`, "make    role Access package assignment manager of the catalog, for bridge-function",
		"what -undo has to put back is written into its description",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
	w.apply(p)
	w.nothingLeft(wish)
	w.undo(wish)
	w.same(before)
}

func TestAnApplicationThatOtherCatalogsNeedStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	wish := w.wish()
	other := wish
	other.Catalog = "Engineering"
	var all struct {
		Catalogs []struct{ ID, DisplayName string }
	}
	w.configuration(&all)
	pkg := w.AddPackage(entra.Package{CatalogID: all.Catalogs[1].ID, Name: "Cluster operator"})
	w.AddPolicy(entra.Policy{PackageID: pkg, Name: "Everybody"})
	other.Packages = []string{"Cluster operator"}
	before := w.Configuration()
	w.connect(wish)
	w.connect(other)
	p, err := w.connector.PlanUndo(t.Context(), wish)
	if err != nil || len(p.Notes) != 1 || !strings.Contains(p.Notes[0], `The application "ticketbridge" stays`) {
		t.Fatalf("%v, %+v", err, p)
	}
	w.apply(p)
	w.undo(other)
	w.same(before)
}

func TestAnApplicationThatConnectDidNotMakeIsUsedWhenItFitsAndStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	wish := w.wish()
	w.connect(wish)
	// The same application, without what says that connect made it.
	var all struct {
		Applications []struct{ ID, DisplayName string }
	}
	w.configuration(&all)
	for _, a := range all.Applications {
		if a.DisplayName == connect.DefaultName {
			if err := w.connector.Graph.Patch(t.Context(), "change", "/applications/"+a.ID, map[string]any{"notes": "Ask Kim"}, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	writes := w.writes()
	w.connect(wish)
	if n := w.writes(); n != writes {
		t.Errorf("%d writes", n-writes)
	}
	w.undo(wish)
	all.Applications = nil
	w.configuration(&all)
	if !slices.ContainsFunc(all.Applications, func(a struct{ ID, DisplayName string }) bool { return a.DisplayName == connect.DefaultName }) {
		t.Error("the application is gone")
	}
	wish.CloseCallers = append(wish.CloseCallers, w.AddIdentity(entra.Identity{Name: "another"}).ObjectID)
	w.fails(wish, "another (", "does not have the app role Ticket.Close", "by hand")
}

func TestAnExtensionThatLostItsCallbackIsMendedByRunningAgainOrSaidAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	wish := w.wish("approved")
	w.connect(wish)
	var all struct {
		Extensions []struct{ ID, DisplayName string }
	}
	w.configuration(&all)
	if err := w.connector.Graph.Put(t.Context(), "change", "/identityGovernance/entitlementManagement/catalogs/"+w.catalog+"/customWorkflowExtensions/"+all.Extensions[0].ID,
		map[string]any{"@odata.type": entra.RequestKind, "callbackConfiguration": nil}, nil); err != nil {
		t.Fatal(err)
	}
	p := w.plan(wish)
	if want := "does not wait (launch and continue) → the request waits for its ticket, up to 14 days"; !strings.Contains(p.Text(), want) || p.Writes() != 1 {
		t.Errorf("%q is not in:\n%s", want, p.Text())
	}
	w.apply(p)
	w.nothingLeft(wish)
}

func TestWhatStandsInTheWayIsSaidWithItsRemedyBeforeAnythingIsWritten(t *testing.T) {
	t.Parallel()
	t.Run("two extensions of one name", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil)
		a := w.AddExtension(entra.Extension{CatalogID: w.catalog, Name: "ticketbridge", URL: "https://example.com"})
		b := w.AddExtension(entra.Extension{CatalogID: w.catalog, Name: "Ticketbridge", URL: "https://example.com"})
		w.fails(w.wish(), `there are 2 custom extensions "ticketbridge" in the catalog: `+a+", "+b)
	})
	t.Run("an extension that connect did not make", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil)
		a := w.AddExtension(entra.Extension{CatalogID: w.catalog, Name: "ticketbridge", URL: "https://example.com"})
		w.fails(w.wish(), `"ticketbridge" (`+a+") exists, and connect did not make it", "Choose another -name")
		before := w.Configuration()
		w.undo(w.wish())
		w.same(before)
	})
	t.Run("an application that connect did not make", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil)
		a := w.AddApp(entra.App{Name: "ticketbridge"})
		w.fails(w.wish(), `"ticketbridge" (`+a.ClientID+") exists, connect did not make it, and it lacks: identifier URI api://"+a.ClientID+", app role Callout.Send, app role Ticket.Close", "another -app")
	})
	t.Run("two applications", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil)
		w.AddApp(entra.App{Name: "ticketbridge"})
		w.AddApp(entra.App{Name: "ticketbridge"})
		w.fails(w.wish(), `there are 2 applications "ticketbridge"`)
	})
	t.Run("a stage before an expiration that never comes", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil)
		wish := w.wish("approved", "14-days")
		wish.Packages, wish.Policies = nil, []string{"For ever"}
		w.fails(wish, `the policy "For ever" (`+w.forever+") has assignments that never expire", "assignmentFourteenDaysBeforeExpiration")
	})
	t.Run("no such things", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil)
		wish := w.wish()
		wish.Catalog = "Fynance"
		w.fails(wish, `(-catalog): there is no catalog "Fynance", or you may not see it`)
		wish = w.wish()
		wish.Policies, wish.Packages = []string{"Nobody"}, []string{"Nothing"}
		w.fails(wish, `(-policy): the catalog has no policy "Nobody"`, `(-package): the catalog has no access package with that id or name: "Nothing"`)
		wish = w.wish()
		wish.Identity = w.app.ClientID
		w.fails(wish, "(-identity)", "give the object id of the managed identity (its principal id), not its client id")
	})
	t.Run("two of one name", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil)
		a := w.AddCatalog(entra.Catalog{Name: "Finance"})
		w.fails(w.wish(), `there are 2 catalogs "Finance": `+w.catalog+", "+a)
		wish := w.wish()
		wish.Catalog, wish.Packages, wish.Policies = w.catalog, nil, []string{"Everybody"}
		b := w.AddPolicy(entra.Policy{PackageID: w.pkg, Name: "Everybody"})
		w.fails(wish, `(-policy)`, `"Everybody" is the name of 2: `+w.policy+", "+b)
	})
}

func TestRefusalsOfGraphSayWhoMayAndWhatElseCanBeDone(t *testing.T) {
	t.Parallel()
	all := []string{"EntitlementManagement.ReadWrite.All", "Application.ReadWrite.All", "AppRoleAssignment.ReadWrite.All"}
	for _, c := range []struct {
		name   string
		setUp  func(*entra.Config)
		person entra.User
		scopes []string
		client string
		change func(*world, *connect.Wish)
		want   []string
	}{
		{"nobody in particular", nil, entra.User{}, all, "", nil, []string{"forbidden", "must be Catalog owner of the catalog or Identity Governance Administrator"}},
		{
			"the Azure CLI", nil,
			entra.User{Roles: []string{entra.GovernanceAdministrator, entra.ApplicationAdministrator}},
			nil, entra.AzureCLI, nil,
			[]string{"forbidden", "the Azure CLI's own tokens have no permission for entitlement management; use -sign-in device-code"},
		},
		{
			"no right to register applications", nil,
			entra.User{Roles: []string{entra.GovernanceAdministrator}, LogicApps: []string{"ticket-relay"}},
			all, "", nil,
			[]string{"make the application: forbidden", "Application Administrator", "-no-app"},
		},
		{
			"no right to the relay", nil,
			entra.User{Roles: []string{entra.GovernanceAdministrator, entra.ApplicationAdministrator}},
			all, "", nil,
			[]string{"make the custom extension: forbidden", "Logic App Contributor"},
		},
		{
			"a direct endpoint", func(c *entra.Config) { c.RefuseDirectEndpoint = true },
			entra.User{Roles: []string{entra.GovernanceAdministrator, entra.ApplicationAdministrator}},
			all, "",
			func(_ *world, w *connect.Wish) {
				w.Relay, w.Function = "", "https://bridge.example.com/api/callout?code=key"
			},
			[]string{"make the custom extension: refused", "calls Logic Apps only. Use the relay: -relay"},
		},
		{
			"guests", nil,
			entra.User{Roles: []string{entra.GovernanceAdministrator, entra.ApplicationAdministrator}, LogicApps: []string{"ticket-relay"}},
			all, "",
			func(w *world, wish *connect.Wish) {
				wish.Packages, wish.Policies = nil, []string{w.AddPolicy(entra.Policy{PackageID: w.pkg, Name: "Guests", Guests: true})}
			},
			[]string{"change the policy: refused", "open to guests. Link the tenant to a subscription"},
		},
		{
			"the callback is dropped", func(c *entra.Config) { c.DropCallbackConfiguration = true },
			entra.User{Roles: []string{entra.GovernanceAdministrator, entra.ApplicationAdministrator}, LogicApps: []string{"ticket-relay"}},
			all, "",
			nil,
			[]string{"launch and continue", "would go on without waiting for their tickets", "No policy was made to call it", "-undo"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, c.setUp)
			wish := w.wish()
			if c.change != nil {
				c.change(w, &wish)
			}
			before := w.Configuration()
			w.token = w.PersonToken(w.AddUser(c.person).ObjectID, c.client, c.scopes...)
			w.through(misbehave.Transport(w.Directory))
			err := w.try(wish, false)
			if err == nil {
				t.Fatal("no error")
			}
			text := err.Error() + " " + fault.Advice(err)
			for _, want := range c.want {
				if !strings.Contains(text, want) {
					t.Errorf("%q is not in: %s", want, text)
				}
			}
			if got := w.set(w.policy); len(got) != 0 {
				t.Errorf("a policy calls %v", got)
			}
			if strings.Contains(text, "key") && strings.Contains(text, "code=") {
				t.Errorf("a key is in: %s", text)
			}
			w.signIn(w.admin.ObjectID, all...)
			w.through(misbehave.Transport(w.Directory))
			w.undo(wish)
			w.same(before)
		})
	}
}

func TestAnApplicationThatSignsInIsToldToGiveTheRelaysURL(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.token = w.IssueToken(entra.Token{Audience: "https://graph.microsoft.com", ObjectID: w.closer.ObjectID, Roles: []string{
		"EntitlementManagement.ReadWrite.All", "Application.ReadWrite.All", "AppRoleAssignment.ReadWrite.All",
	}})
	w.through(misbehave.Transport(w.Directory))
	wish := w.wish()
	if err := w.try(wish, false); !fault.Is(err, fault.Refused) || !strings.Contains(fault.Advice(err), "-relay-url") {
		t.Errorf("%v %s", err, fault.Advice(err))
	}
	wish.RelayURL = "https://prod-31.eastus.logic.azure.com/workflows/x/triggers/manual/paths/invoke"
	w.connect(wish)
	wish.RelayURL = "" // what is there stays
	w.nothingLeft(wish)
}

func TestACatalogOwnerConnectsHisCatalogWithoutAnyDirectoryRole(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	owner := w.AddUser(entra.User{Name: "Owner", LogicApps: []string{"ticket-relay"}})
	w.AssignOwner(owner.ObjectID, w.catalog)
	before := w.Configuration()
	w.signIn(owner.ObjectID, "EntitlementManagement.ReadWrite.All", "Application.Read.All")
	w.through(misbehave.Transport(w.Directory))
	wish := w.wish()
	wish.App, wish.RelayIdentity, wish.CloseCallers = "", "", nil
	w.connect(wish)
	w.nothingLeft(wish)
	w.undo(wish)
	w.same(before)
}

func TestAPolicyThatSomebodyChangesMeanwhileIsNotWrittenTo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	wish := w.wish()
	p := w.plan(wish)
	path := "/identityGovernance/entitlementManagement/assignmentPolicies/" + w.second
	var body map[string]any
	if err := w.connector.Graph.Get(t.Context(), "read", path, nil, &body); err != nil {
		t.Fatal(err)
	}
	delete(body, "@odata.context")
	body["description"] = "Somebody was here"
	if err := w.connector.Graph.Put(t.Context(), "change", path, body, nil); err != nil {
		t.Fatal(err)
	}
	_, err := w.connector.Apply(t.Context(), p, func(connect.Step) {})
	if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), `somebody changed the policy "With approval"`) || fault.Advice(err) == "" {
		t.Errorf("%v", err)
	}
	if got := w.set(w.second); len(got) != 0 {
		t.Errorf("it calls %v", got)
	}
	if err := w.try(wish, false); err != nil || len(w.set(w.second)) != 2 {
		t.Errorf("the second time: %v, %v", err, w.set(w.second))
	}
}

func TestAnApplicationThatIsNotKnownEverywhereYetIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *entra.Config) { c.Replication = 4 })
		w.connect(w.wish())
		w.nothingLeft(w.wish())
	})
}

func TestARoleThatSomebodyGaveMeanwhileIsNoError(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	p := w.plan(w.wish())
	w.AssignManager(w.app.ObjectID, w.catalog)
	w.apply(p)
	if n := w.Calls()["POST /v1.0/roleManagement/entitlementManagement/roleAssignments"]; n != 1 {
		t.Errorf("the role was asked for %d times", n)
	}
}

func TestARoleThatWasThereBeforeStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.AssignManager(w.app.ObjectID, w.catalog)
	before := w.Configuration()
	w.connect(w.wish())
	w.undo(w.wish())
	w.same(before)
}

func TestAFaultyWishIsRefusedByTheNamesOfItsFlags(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for flag, change := range map[string]func(*connect.Wish){
		"-name":    func(w *connect.Wish) { w.Name = " " },
		"-catalog": func(w *connect.Wish) { w.Catalog = "" },
		"-policy":  func(w *connect.Wish) { w.Packages = nil },
		"-relay":   func(w *connect.Wish) { w.Relay = "" },
		"-function": func(w *connect.Wish) {
			w.Relay, w.Function = "", "http://bridge.example.com/api/callout?code=secretkey"
		},
		"-audience":       func(w *connect.Wish) { w.Audience = "api://x" },
		"-relay-url":      func(w *connect.Wish) { w.RelayURL = "http://x" },
		"-wait":           func(w *connect.Wish) { w.Wait = time.Minute },
		"-timeout":        func(w *connect.Wish) { w.Timeout = 3 * time.Second },
		"-retries":        func(w *connect.Wish) { w.Retries = 2 },
		"-identity":       func(w *connect.Wish) { w.Identity = "me" },
		"-close-caller":   func(w *connect.Wish) { w.CloseCallers = []string{"x"} },
		"-stage":          func(w *connect.Wish) { w.Stages = append(w.Stages, w.Stages[0]) },
		"-relay-identity": func(w *connect.Wish) { w.App = "" },
	} {
		wish := w.wish()
		change(&wish)
		err := wish.Check()
		if !fault.Is(err, fault.Misconfigured) || !strings.Contains(err.Error(), "("+flag+")") || strings.Contains(err.Error(), "secretkey") {
			t.Errorf("%s: %v", flag, err)
		}
	}
	long := w.wish()
	long.Relay = strings.Replace(relayID, "ticket-relay", strings.Repeat("x", 80), 1)
	if err := long.Check(); err == nil || !strings.Contains(err.Error(), "at most 150") {
		t.Errorf("a long resource id: %v", err)
	}
	if err := w.wish().Check(); err != nil {
		t.Error(err)
	}
}

func TestAStageIsReadInAnyOfItsNames(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]connect.Stage{
		"created": {entra.StageCreated, true}, "approved": {entra.StageApproved, true}, "granted": {entra.StageGranted, false}, "removed": {entra.StageRemoved, false},
		"14-days": {entra.StageFourteenDays, false}, "1-day": {entra.StageOneDay, false}, "removed=wait": {entra.StageRemoved, true}, "Approved=continue": {entra.StageApproved, false},
		"assignmentRequestApproved": {entra.StageApproved, true},
	} {
		if got, err := connect.ParseStage(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "approve", "1-day=wait", "approved=", "approved=yes"} {
		if _, err := connect.ParseStage(bad); !fault.Is(err, fault.Misconfigured) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestTheFunctionAnswersAConnectionTestOrItIsSaidWhyNot(t *testing.T) {
	t.Parallel()
	var got string
	status := 0
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		var body struct{ Stage string }
		_ = json.NewDecoder(r.Body).Decode(&body)
		got = r.Method + " " + r.URL.RequestURI() + " " + body.Stage
		rw.WriteHeader(status)
	}))
	defer server.Close()
	c := &connect.Connector{}
	for _, tc := range []struct {
		status int
		ok     bool
		says   string
	}{
		{202, true, "was taken"}, {401, true, "asks for a key or a token (status 401)"}, {403, true, "status 403"}, {404, false, "nothing is at"}, {500, false, "with status 500, not 202"}, {302, false, "302"},
	} {
		status = tc.status
		text, ok := c.Test(t.Context(), server.URL+"/api/callout?code=hunter2")
		if ok != tc.ok || !strings.Contains(text, tc.says) || strings.Contains(text, "hunter2") || got != "POST /api/callout?code=hunter2 CustomExtensionConnectionTest" {
			t.Errorf("%d: %v %s; got %s", tc.status, ok, text, got)
		}
	}
	server.Close()
	if text, ok := c.Test(t.Context(), server.URL+"?code=hunter2"); ok || strings.Contains(text, "hunter2") || !strings.Contains(text, "does not answer") {
		t.Errorf("nobody there: %v %s", ok, text)
	}
}
