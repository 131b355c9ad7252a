// Package doctor looks at everything that an app needs to work, from outside as the app itself would, and says of each thing in one line how it is, and
// of what is wrong the command or the click that mends it. It changes nothing but a row and a message of its own in the storage, unless it is asked to create tickets, and shows neither secrets nor personal data.
package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"ticketbridge/handler/entra/graphapi"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/servicenow"
	"ticketbridge/handler/ticket"
	"ticketbridge/handler/workflow"
)

// A Config is what is looked at. A part that the settings do not describe well enough to be made is nil: what needs it is then not checked.
type Config struct {
	Problems []error // what is wrong with the settings

	Rules      *ticket.Rules
	RulesFile  string // "" when there is none, so that the built-in rules apply
	RulesError error  // what is wrong with the file

	Store          Store
	Queue          Queue
	StorageAccount string // its name, where the storage is used as an identity; "" with a connection string
	SweepSchedule  string // SWEEP_SCHEDULE, as far as this environment says

	Credential    azcore.TokenCredential
	Managed       bool   // it is a managed identity
	ClientID      string // AZURE_CLIENT_ID
	Principal     string // the object id of the app's identity, where Credential is somebody else's; "" is Credential's own
	TenantID      string // AZURE_TENANT_ID
	AuthorityHost string // AZURE_AUTHORITY_HOST
	GraphURL      string
	ManagementURL string // of Azure Resource Manager; "" is that of the cloud
	CatalogIDs    []string

	ServiceNow        *servicenow.Client
	ServiceNowURL     string
	ServiceNowAuth    string        // SERVICENOW_AUTH
	ServiceNowTimeout time.Duration // of one call
	CreateTickets     bool          // try whether tickets may be created, by creating one in each table

	CalloutAudience string
	RelayPrincipal  string // RELAY_PRINCIPAL_ID
	CloseAudience   string
	CloseSigned     bool // there is a CLOSE_HMAC_KEY

	AppURL  string // of the function app; "" leaves the test callout out
	AppHost string // its host name, where Azure says it
	AppKey  string // the key of the function callout

	Transport http.RoundTripper // of the calls that no client above makes; nil is a copy of Go's default
}

// A Store is what is looked at of the tables, as storage.Store has it.
type Store interface {
	Probe(ctx context.Context) error
	Mark(ctx context.Context) (workflow.Mark, error)
	Unreadable(ctx context.Context) ([]workflow.Unreadable, error)
	Ahead() time.Duration
}

// A Queue is what is looked at of the queue, as storage.Queue has it.
type Queue interface {
	Name() string
	Probe(ctx context.Context) error
	Depth(ctx context.Context) (waiting, poison int, err error)
}

// A Kind says how a thing is.
type Kind string

// How things are.
const (
	OK         Kind = "ok"
	Warning    Kind = "warning"    // it works, and is probably not what is meant, or may not be seen
	Failure    Kind = "failure"    // it does not work
	NotChecked Kind = "notChecked" // something that it needs is wrong, and stands in a line of its own; or nobody asked for it
)

// A Line is what was seen of one thing.
type Line struct {
	Check  string `json:"check"`
	Of     string `json:"of,omitempty"` // which, when a check looks at several
	Kind   Kind   `json:"kind"`
	Saw    string `json:"saw"`
	Remedy string `json:"remedy,omitempty"` // what mends it; of a warning and a failure always
}

// How long a check and all of them may take.
const (
	limit   = 15 * time.Second
	long    = 40 * time.Second // one that makes many calls
	overall = 90 * time.Second
)

// A check looks at one thing. It begins when those that it comes after are done, and only if none of those that it needs failed.
type check struct {
	name    string
	needs   []string
	after   []string
	without string // why it cannot be made; "" when it can
	limit   time.Duration
	look    func(ctx context.Context, r *report)
}

// A report takes what a check saw.
type report struct {
	check string
	lines []Line
}

func (r *report) add(kind Kind, of, remedy, saw string, args ...any) {
	if len(args) > 0 {
		saw = fmt.Sprintf(saw, args...)
	}
	r.lines = append(r.lines, Line{r.check, of, kind, oneLine(saw), oneLine(remedy)})
}

func (r *report) ok(of, saw string, args ...any)           { r.add(OK, of, "", saw, args...) }
func (r *report) warn(of, remedy, saw string, args ...any) { r.add(Warning, of, remedy, saw, args...) }

func (r *report) fail(of, remedy, saw string, args ...any) { r.add(Failure, of, remedy, saw, args...) }

func (r *report) skip(of, why string, args ...any) { r.add(NotChecked, of, "", why, args...) }

// failErr reports an error of one of ours, whose advice is the remedy; other is that of an error without advice.
func (r *report) failErr(of string, err error, other string) {
	saw, remedy := describe(err)
	if remedy == "" {
		remedy = other
	}
	r.fail(of, remedy, "%s", saw)
}

// describe says what an error found, and what it advises.
func describe(err error) (saw, remedy string) {
	e, ok := errors.AsType[*fault.Error](err)
	if !ok {
		return err.Error(), ""
	}
	saw = e.Detail
	if e.Status != 0 && !strings.Contains(saw, "status") {
		saw = strings.TrimSpace(fmt.Sprintf("status %d %s", e.Status, saw))
	}
	if said, ok := errors.AsType[*graphapi.AnswerError](err); ok {
		saw += ", Graph says: " + said.Error()
	}
	if saw == "" {
		saw = string(e.Reason)
	}
	if e.Field != "" {
		saw = e.Field + " " + saw
	}
	return saw, e.Advice
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// failed says whether what needs the check cannot be looked at.
func (r *report) failed() bool {
	return slices.ContainsFunc(r.lines, func(l Line) bool { return l.Kind == Failure || l.Kind == NotChecked }) &&
		!slices.ContainsFunc(r.lines, func(l Line) bool { return l.Kind == OK })
}

// Run makes every check and returns what each saw, in an order that does not change. Those that do not wait for each other run at the same
// time. It ends after a minute and a half at most, whatever does not answer.
func Run(ctx context.Context, c Config) []Line {
	ctx, cancel := context.WithTimeout(ctx, overall)
	defer cancel()
	return run(ctx, newExamination(c).checks())
}

func run(ctx context.Context, checks []check) []Line {
	type state struct {
		done   chan struct{}
		report *report
	}
	states := map[string]*state{}
	for _, c := range checks {
		states[c.name] = &state{done: make(chan struct{}), report: &report{check: c.name}}
	}
	for _, c := range checks {
		mine := states[c.name]
		go func() {
			defer close(mine.done)
			for _, other := range slices.Concat(c.needs, c.after) {
				<-states[other].done
			}
			if c.without != "" {
				mine.report.skip("", "not checked, because %s", c.without)
				return
			}
			for _, other := range c.needs {
				if states[other].report.failed() {
					mine.report.skip("", "not checked, because %s is not right", other)
					return
				}
			}
			mine.report = c.made(ctx)
		}()
	}
	var out []Line
	for _, c := range checks {
		<-states[c.name].done
		out = append(out, states[c.name].report.lines...)
	}
	return out
}

// made makes the check within its limit, also when what it calls does not heed that.
func (c *check) made(ctx context.Context) *report {
	most := c.limit
	if most == 0 {
		most = limit
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	done := make(chan *report, 1)
	go func() {
		r := &report{check: c.name}
		c.look(ctx, r)
		done <- r
	}()
	select {
	case r := <-done:
		return r
	case <-ctx.Done():
	}
	select { // what ended with its context says better why
	case r := <-done:
		return r
	case <-time.After(time.Second):
		r := &report{check: c.name}
		r.fail("", "Try again; and look at the network between here and there.", "no answer within %s", most)
		return r
	}
}

// An examination is one run: what the checks share.
type examination struct {
	Config
	http      *http.Client
	graph     *graphapi.Client
	noStorage bool // the tables are not only forbidden: the queue need not be tried

	found tenant // what the check of the catalogs read, for those after it
	me    claims // who the token for Graph says we are, once the check of the identity was made
}

func newExamination(c Config) *examination {
	x := &examination{Config: c}
	transport := c.Transport
	if transport == nil {
		transport = http.DefaultTransport.(*http.Transport).Clone()
	}
	x.http = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if c.Credential != nil {
		// A wrong GRAPH_URL stands among the problems.
		x.graph, _ = graphapi.New(graphapi.Config{GraphURL: c.GraphURL, Credential: c.Credential, Timeout: limit, Transport: c.Transport})
	}
	return x
}

// checks are all of them, in the order of the report. The names are what JSON has, and stay as they are.
func (x *examination) checks() []check {
	unless := func(there bool, what string) string {
		if there {
			return ""
		}
		return "the settings do not say " + what
	}
	storage := unless(x.Store != nil && x.Queue != nil, "which storage it is")
	graph := unless(x.graph != nil, "where Graph is, or as whom")
	instance := unless(x.ServiceNow != nil, "which instance it is, or how to sign in there")
	if x.ServiceNow == nil && x.RulesError != nil {
		instance = "rules is not right"
	}
	var signIn, storageNeeds []string
	if x.ServiceNowAuth == string(servicenow.AuthEntra) {
		signIn = []string{"identity"}
	}
	if x.StorageAccount != "" {
		storageNeeds = []string{"identity"}
	}
	// A wrong tenant is the identity's to name.
	var keysNeed []string
	if x.CalloutAudience != "" || x.CloseAudience != "" {
		keysNeed = []string{"identity"}
	}
	rules := ""
	if x.Rules == nil {
		rules = "rules is not right"
	}
	all := []check{
		{name: "settings", look: x.settings},
		{name: "rules", look: x.rules},
		{name: "doors", look: x.doors},
		{name: "identity", without: graph, look: x.identity},
		{name: "storage tables", without: storage, needs: storageNeeds, look: x.tables},
		{name: "storage queue", without: storage, needs: storageNeeds, after: []string{"storage tables"}, look: x.queue},
		{name: "sweep", without: storage, needs: []string{"storage tables"}, look: x.sweep},
		{name: "messages", without: storage, needs: []string{"storage tables", "storage queue"}, look: x.messages},
		{name: "clock", after: []string{"storage tables"}, look: x.clock},
		{name: "ServiceNow", without: instance, needs: signIn, look: x.signIn},
		{name: "ServiceNow tables", without: cmp.Or(instance, rules), needs: []string{"ServiceNow"}, limit: long, look: x.instance},
		{name: "catalog", without: graph, needs: []string{"identity"}, limit: long, look: x.catalogs},
		{name: "relay", without: graph, needs: []string{"identity"}, after: []string{"catalog"}, look: x.relays},
		{name: "extension", without: graph, needs: []string{"identity"}, after: []string{"catalog", "relay"}, look: x.extensions},
		{name: "keys of the tenant", needs: keysNeed, look: x.keys},
		{name: "callout", look: x.try},
	}
	if x.CreateTickets {
		after := slices.IndexFunc(all, func(c check) bool { return c.name == "ServiceNow tables" }) + 1
		all = slices.Insert(all, after, check{name: "tickets", without: cmp.Or(instance, rules), needs: []string{"ServiceNow"}, after: []string{"ServiceNow tables"}, limit: long, look: x.create})
	}
	return all
}

// host is the host of a URL; "" when it has none.
func host(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.Host
}

// plural counts things.
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
