package doctor

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ticketbridge/handler/fault"
	"ticketbridge/handler/servicenow"
	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/misbehave"
	standin "ticketbridge/handler/simulator/servicenow"
	"ticketbridge/handler/storage"
	"ticketbridge/handler/ticket"
	"ticketbridge/handler/workflow"
)

func TestAHealthySetUpIsAllRight(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]plan{
		"through a relay":            {},
		"directly":                   {extension: func(x *entra.Extension) { x.Relay, x.URL, x.Resource = "", direct, audience }},
		"with one role":              {identity: withAll, noRole: true},
		"with a rules file":          {rules: "version: 1\nrules:\n  - {name: finance, match: {catalog: Finance}, tickets: {table: incident, fields: {short_description: x}}}\n"},
		"without a list of catalogs": {after: func(_ *testing.T, w *world) { w.CatalogIDs = nil; w.entra.AddCatalog(entra.Catalog{Name: "Other"}) }},
		"as somebody else": {after: func(_ *testing.T, w *world) {
			other := w.entra.AddIdentity(entra.Identity{UserAssigned: true, GraphRoles: []string{"EntitlementManagement.Read.All"}})
			w.entra.MakeReader(other.ObjectID)
			w.Principal, w.Managed, w.Credential = w.identity.ObjectID, false, endpoint{w.entra, other.ClientID}
		}},
		"with tickets to try":      {rules: "version: 1\nrules:\n  - {name: a, match: {stage: approved}, tickets: {table: sc_request}}\n", after: func(_ *testing.T, w *world) { w.CreateTickets = true }},
		"with a connection string": {after: func(_ *testing.T, w *world) { w.StorageAccount = "" }},
		"basic":                    {client: func(c *servicenow.Config) { c.Auth, c.Username, c.Password = servicenow.AuthBasic, "bridge", password }},
		"api-key":                  {client: func(c *servicenow.Config) { c.Auth, c.APIKey = servicenow.AuthAPIKey, password }},
		"entra":                    {client: func(c *servicenow.Config) { c.Auth, c.Audience = servicenow.AuthEntra, audience }},
		"without tokens for the callout": {
			after: func(_ *testing.T, w *world) { w.CalloutAudience, w.CloseAudience = "", audience },
			app: func(http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) })
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := build(t, p)
			lines := Run(t.Context(), w.Config)
			checks, tickets := map[string]bool{}, 0
			for _, l := range lines {
				if checks[l.Check] = true; l.Check == "tickets" {
					tickets++
				}
				if l.Kind != OK || l.Saw == "" || l.Remedy != "" {
					t.Errorf("%s is %s", l.Check, l.Kind)
				}
			}
			if len(checks) < 16 || tickets != map[bool]int{true: 1}[w.CreateTickets] {
				t.Errorf("%d checks were made, and %d tickets", len(checks), tickets)
			}
			if t.Failed() {
				t.Log("\n" + text(lines))
			}
			silent(t, w, lines)
		})
	}
}

// silent fails when a line shows what must not be shown.
func silent(t *testing.T, w *world, lines []Line) {
	t.Helper()
	b, err := json.Marshal(lines)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{appKey, password, "eyJ", w.entra.Environment("")["IDENTITY_HEADER"], "stand-in", "Robin"} {
		if strings.Contains(string(b), secret) {
			t.Errorf("%q is shown:\n%s", secret, text(lines))
		}
	}
}

func withAll(i *entra.Identity) { i.GraphRoles = []string{"EntitlementManagement.ReadWrite.All"} }

// all stands for every call.
const all = ""

func forbidding(word string) storage.Through {
	return refusing(fault.Forbidden, word)
}

// refusing lets the calls of these names fail.
func refusing(reason fault.Reason, words ...string) storage.Through {
	return func(_ context.Context, c *storage.Call, do func() error) error {
		for _, word := range words {
			if c.Op == word || word == all {
				return &fault.Error{Op: c.Op, Reason: reason, Status: 403, Detail: "AuthorizationPermissionMismatch"}
			}
		}
		return do()
	}
}

// skewed is a storage with another clock.
type skewed struct {
	Store
	ahead time.Duration
}

func (s skewed) Ahead() time.Duration { return s.ahead }

// dated answers every call with a date.
func dated(ahead time.Duration) misbehave.Fault {
	return misbehave.Fault{Match: "HEAD", Status: http.StatusUnauthorized, Header: map[string]string{"Date": time.Now().Add(ahead).UTC().Format(http.TimeFormat)}}
}

func relayed(change func(*entra.Workflow)) plan {
	return plan{relay: func(r *entra.Relay) { change(&r.Workflow) }}
}

func claim(name, value string) plan {
	return relayed(func(w *entra.Workflow) { w.Claims = map[string]string{name: value} })
}

func directly(change func(*entra.Extension)) plan {
	return plan{extension: func(x *entra.Extension) {
		x.Relay, x.URL, x.Resource = "", direct, audience
		change(x)
	}}
}

func answering(status int) func(http.Handler) http.Handler {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
	}
}

func changing(change func(w *world)) plan {
	return plan{after: func(_ *testing.T, w *world) { change(w) }}
}

const catalogRole = `az rest --method POST --url http`

// dependents are the checks that cannot be made when another failed.
var dependents = map[string][]string{
	"rules":          {"ServiceNow", "ServiceNow tables"},
	"identity":       {"storage tables", "storage queue", "sweep", "messages", "catalog", "relay", "extension", "keys of the tenant"},
	"storage tables": {"sweep", "messages"},
	"storage queue":  {"messages"},
	"ServiceNow":     {"ServiceNow tables"},
}

// skipped is what is not checked where that is not what depends on the whole check.
var skipped = map[string][]string{
	"a setting is wrong":       {"ServiceNow", "ServiceNow tables"},
	"the storage is not named": {"storage tables", "storage queue", "sweep", "messages"},
	"the storage is away":      {"storage queue", "sweep", "messages"},
	"the key is old":           {"storage queue", "sweep", "messages"},
	"the identity has no role, and no right to see that": {"relay", "extension"},
}

// Each set-up has one thing wrong with it. That one thing is named, once, with what mends it; what does not depend on it is still looked at and right, and
// what does says so.
func TestWhatIsWrongIsNamedOnceWithItsRemedy(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		plan   plan
		kind   Kind
		check  string
		of     string
		says   string
		remedy string
	}{
		// settings, rules, doors
		{
			"a setting is wrong", changing(func(w *world) {
				w.Problems = []error{errors.Join(&fault.Error{Reason: fault.Misconfigured, Field: "SERVICENOW_URL", Detail: "is not set"}, &fault.Error{Reason: fault.Misconfigured, Field: "SERVICENOW_URL", Detail: "again"})}
				w.ServiceNow, w.ServiceNowURL = nil, ""
			}),
			Failure, "settings", "SERVICENOW_URL", "is not set", "az functionapp config appsettings set -g <group> -n <app> --settings SERVICENOW_URL=…",
		},
		{
			"the storage is not named", changing(func(w *world) {
				w.Problems = []error{&fault.Error{Reason: fault.Misconfigured, Field: "AzureWebJobsStorage", Detail: "is not set"}}
				w.Store, w.Queue = nil, nil
			}),
			Failure, "settings", "AzureWebJobsStorage", "is not set", "--settings AzureWebJobsStorage=…",
		},
		{
			"the rules are wrong",
			plan{rules: "version: 1\nrules:\n  - {name: a, match: {catalouge: x}}\n"},
			Failure, "rules", "", "catalouge", "`handler tickets check`",
		},
		{
			"the rules are odd",
			plan{rules: "version: 1\nrules:\n  - {name: a, match: {catalog: \"Fin*\"}, tickets: {table: incident}}\n  - {name: b, match: {catalog: Finance}, tickets: {table: incident}}\n"},
			Warning, "rules", "", `with 1 warning; the first: the rule "b" can never match`, "`handler tickets check`",
		},
		{"closing is open to whoever has the key", changing(func(w *world) { w.CloseSigned = false }), Warning, "doors", "ticket-closed", "function key only", "CLOSE_HMAC_KEY"},

		// identity
		{
			"the app has no such identity", changing(func(w *world) {
				w.ClientID = "99999999-0000-4000-8000-00000000000f"
				w.Credential = endpoint{w.entra, w.ClientID}
			}),
			Failure, "identity", "", "gets no token for Graph", "az functionapp identity assign",
		},
		{
			"nobody is signed in", changing(func(w *world) { w.Managed, w.Credential = false, endpoint{w.entra, "nobody"} }),
			Failure, "identity", "", "this machine gets no token", "az login --tenant 99999999-0000-4000-8000-000000000001",
		},
		{
			"the tenant is another", changing(func(w *world) { w.TenantID = "99999999-0000-4000-8000-00000000000e" }),
			Failure, "identity", "", "one of tenant 99999999-0000-4000-8000-000000000001, and AZURE_TENANT_ID holds 99999999-0000-4000-8000-00000000000e",
			"AZURE_TENANT_ID=99999999-0000-4000-8000-000000000001",
		},
		{
			"the identity is another", changing(func(w *world) {
				other := w.entra.AddIdentity(entra.Identity{ClientID: "99999999-0000-4000-8000-00000000000d", UserAssigned: true})
				w.Credential = endpoint{w.entra, other.ClientID}
			}),
			Failure, "identity", "", "that of client id 99999999-0000-4000-8000-00000000000d", "AZURE_CLIENT_ID=99999999-0000-4000-8000-00000000000d",
		},
		{"there is no managed identity", changing(func(w *world) { w.Managed = false }), Warning, "identity", "", "not as the app", "-principal"},

		// storage
		{
			"the tables may not be written",
			plan{through: forbidding("insert")},
			Failure, "storage tables", "", "lacks the role Storage Table Data Contributor", `az role assignment create --role "Storage Table Data Contributor" --assignee-object-id`,
		},
		{"the tables may not be cleaned", plan{through: forbidding("remove")}, Failure, "storage tables", "", "lacks the role Storage Table Data Contributor", "-n ticketbridge --query id"},
		{
			"the queue may not be written",
			plan{through: forbidding("put message")},
			Failure, "storage queue", "", "lacks the role Storage Queue Data Contributor", `--role "Storage Queue Data Contributor"`,
		},
		{"the queue may not be made", plan{through: forbidding("create queue")}, Failure, "storage queue", "", "lacks the role Storage Queue Data Contributor", "az role assignment create"},
		{
			"the signature does not allow it",
			plan{through: forbidding("insert"), after: func(_ *testing.T, w *world) { w.StorageAccount = "" }},
			Failure, "storage tables", "", "the connection string does not allow it", "shared access signature that may add, read, update, delete and process",
		},
		{"the storage is away", plan{through: refusing(fault.Unreachable, all)}, Failure, "storage tables", "", "AuthorizationPermissionMismatch", "network rules"},
		{"the key is old", plan{through: refusing(fault.Unauthorized, all)}, Failure, "storage tables", "", "AuthorizationPermissionMismatch", "AzureWebJobsStorage settings"},

		// sweep and messages
		{"no sweep has run", plan{unswept: true, after: func(_ *testing.T, w *world) { w.SweepSchedule = "" }}, Warning, "sweep", "", "none has ever run; SWEEP_SCHEDULE is not set here", "SWEEP_SCHEDULE=0 * * * * *"},
		{
			"no sweep runs any more",
			plan{unswept: true, after: func(t *testing.T, w *world) {
				m := workflow.Mark{Begun: time.Now().Add(-3 * time.Hour)}
				if err := w.store.SaveMark(t.Context(), &m); err != nil {
					t.Fatal(err)
				}
			}},
			Failure, "sweep", "", "the last one began 3h0m", "SWEEP_SCHEDULE=0 * * * * *",
		},
		{
			"there is what nobody can read",
			plan{after: func(t *testing.T, w *world) {
				if err := w.store.KeepUnreadable(t.Context(), workflow.Unreadable{ID: "1", Text: "Robin", InsertedOn: time.Now(), KeptOn: time.Now()}); err != nil {
					t.Fatal(err)
				}
			}},
			Warning, "messages", "", "1 message that nobody can read", "handler requests list --unreadable",
		},
		{
			"the host gave up on a message",
			plan{after: func(t *testing.T, w *world) {
				q := w.queue.Queues()
				if err := errors.Join(q.Create(t.Context(), w.queue.PoisonName()), q.Put(t.Context(), w.queue.PoisonName(), "x", 0)); err != nil {
					t.Fatal(err)
				}
			}},
			Warning, "messages", "", "the host has given up on 1 message", "function sweep",
		},

		// clocks
		{"the storage's clock is odd", changing(func(w *world) { w.Store = skewed{w.store, 3 * time.Minute} }), Warning, "clock", "storage", "3m0s ahead", "timedatectl"},
		{"Graph's clock is wrong", changing(func(w *world) { w.entra.GraphFaults.Add(dated(-10 * time.Minute)) }), Failure, "clock", "Graph", "behind; tokens", "proxy"},
		{"ServiceNow's clock is wrong", changing(func(w *world) { w.instance.Faults.Add(dated(6 * time.Minute)) }), Failure, "clock", "ServiceNow", "ahead", "instance's administrators"},
		{
			"our clock is wrong", changing(func(w *world) {
				w.entra.GraphFaults.Add(dated(8 * time.Minute))
				w.instance.Faults.Add(dated(8 * time.Minute))
				w.Store = skewed{w.store, 8 * time.Minute}
			}),
			Failure, "clock", "this machine", "behind", "timedatectl set-ntp true",
		},

		// ServiceNow
		{"the client's secret is wrong", plan{client: func(c *servicenow.Config) { c.ClientSecret = "rotated-away" }}, Failure, "ServiceNow", "", "the instance gave no token", "SERVICENOW_CLIENT_SECRET"},
		{
			"the password is wrong",
			plan{client: func(c *servicenow.Config) {
				c.Auth, c.Username, c.Password = servicenow.AuthBasic, "bridge", "rotated-away"
			}},
			Failure, "ServiceNow", "", "401", "SERVICENOW",
		},
		{"the API key is wrong", plan{client: func(c *servicenow.Config) { c.Auth, c.APIKey = servicenow.AuthAPIKey, "rotated-away" }}, Failure, "ServiceNow", "", "401", "SERVICENOW"},
		{
			"the audience is of nobody",
			plan{client: func(c *servicenow.Config) { c.Auth, c.Audience = servicenow.AuthEntra, "api://nobody" }},
			Failure, "ServiceNow", "", "Microsoft Entra gave no token", "SERVICENOW_AUDIENCE",
		},
		{"the instance sleeps", changing(func(w *world) { w.instance.Faults.Add(standin.Hibernating()) }), Failure, "ServiceNow", "", "a page for people", "wake it up"},
		{"the instance is closed", changing(func(w *world) { w.instance.Faults.Add(standin.Maintenance(0)) }), Failure, "ServiceNow", "", "503", "under maintenance"},
		{
			"the user may read no requests",
			plan{after: func(t *testing.T, w *world) {
				if _, err := w.ServiceNow.Create(t.Context(), ticket.Draft{Table: "sc_request", Fields: map[string]string{"short_description": "x"}}, "1"); err != nil {
					t.Fatal(err)
				}
				w.instance.SetDenied("bridge", standin.Denial{Table: "sc_request", Operation: standin.Read})
			}},
			Warning, "ServiceNow tables", "table sc_request", "we are shown none", "Let the integration user read",
		},
		{
			"a table is not there",
			plan{rules: "version: 1\nrules:\n  - {name: a, tickets: {table: u_nowhere}}\n"},
			Failure, "ServiceNow tables", "table u_nowhere", "", "table",
		},
		{
			"a column is not there",
			plan{rules: "version: 1\nrules:\n  - {name: a, tickets: {table: incident, fields: {u_other: x}}}\n"},
			Failure, "ServiceNow tables", "incident.u_other", "dropped without a word", "add the column to the table",
		},
		{
			"a group is not there",
			plan{rules: "version: 1\nrules:\n  - {name: a, tickets: {table: incident, fields: {assignment_group: {group: Nobody}}}}\n"},
			Failure, "ServiceNow tables", "group Nobody", "no active one of this name", "Correct the name",
		},

		{
			"the user may create no tickets", changing(func(w *world) {
				w.CreateTickets = true
				w.instance.SetDenied("bridge", standin.Denial{Table: "sc_request", Operation: standin.Create})
			}),
			Failure, "tickets", "table sc_request", "403", "sc_request",
		},
		{
			"the user may write no tickets", changing(func(w *world) {
				w.CreateTickets = true
				w.instance.SetDenied("bridge", standin.Denial{Table: "sc_request", Operation: standin.Write})
			}),
			Failure, "tickets", "table sc_request", "was created, and can be written no more", "integration user",
		},
		{
			"a business rule says no", changing(func(w *world) {
				w.CreateTickets = true
				w.instance.SetPolicies(standin.Policy{Table: "sc_request", Operation: standin.Create, Abort: "No requests on Sundays"})
			}),
			Failure, "tickets", "table sc_request", "403", "",
		},

		// catalogs
		{"the identity has no role", plan{noRole: true}, Failure, "catalog", "Finance", "it may not resume requests", catalogRole},
		{
			"the identity has no role, and no right to see that",
			plan{noRole: true, identity: func(i *entra.Identity) { i.GraphRoles = nil }},
			Failure, "catalog", "99999999-0000-4000-8000-000000000003", "the identity has no role there", `"roleDefinitionId":"e2182095-804a-4656-ae11-64734e9b7ae5","appScopeId":"/AccessPackageCatalog/99999999-0000-4000-8000-000000000003"`,
		},
		{
			"the identity may not see its role",
			plan{identity: func(i *entra.Identity) { i.GraphRoles = nil }},
			Warning, "catalog", "Finance", "not whether the identity has the role", "az rest --url",
		},
		{
			"the catalog is not there", changing(func(w *world) { w.CatalogIDs = append(w.CatalogIDs, "99999999-0000-4000-8000-00000000000c") }),
			Failure, "catalog", "99999999-0000-4000-8000-00000000000c", "there is no such catalog", "CATALOG_IDS=",
		},

		// relay
		{"the relay is switched off", relayed(func(w *entra.Workflow) { w.Disabled = true }), Failure, "relay", "ticketbridge-relay", "its state is Disabled", "az logic workflow update -g relay -n ticketbridge-relay --state Enabled"},
		{
			"the relay takes signatures", relayed(func(w *entra.Workflow) { w.Signatures = true }),
			Failure, "relay", "ticketbridge-relay", "shared access signature", "properties.accessControl.triggers.sasAuthenticationPolicy.state=Disabled",
		},
		{"the relay has no policy", relayed(func(w *entra.Workflow) { w.NoPolicy = true }), Failure, "relay", "ticketbridge-relay", "no policy of type AADPOP", "appid=810dcf14-1858-4bf2-8134-4c369fa3235b"},
		{"the relay's policy is for others", claim("appid", "somebody"), Failure, "relay", "ticketbridge-relay", `asks for "somebody" as the claim appid`, "810dcf14-1858-4bf2-8134-4c369fa3235b"},
		{"the relay's policy is for another tenant", claim("iss", "https://sts.windows.net/x/"), Failure, "relay", "ticketbridge-relay", "the claim iss", "https://sts.windows.net/99999999-0000-4000-8000-000000000001/"},
		{"the relay's policy is for another resource", claim("aud", "https://management.core.windows.net"), Failure, "relay", "ticketbridge-relay", "the claim aud", "to https://management.azure.com"},
		{"the relay's policy is for another method", claim("m", "GET"), Failure, "relay", "ticketbridge-relay", "the claim m", "to POST"},
		{"the relay's policy is for another host", claim("u", "example.com"), Failure, "relay", "ticketbridge-relay", "the claim u", "to management.azure.com"},
		{"the relay's policy is for another relay", claim("p", "/subscriptions/x"), Failure, "relay", "ticketbridge-relay", "the claim p", "/workflows/ticketbridge-relay"},
		{"the relay's policy lacks a claim", claim("p", ""), Failure, "relay", "ticketbridge-relay", "does not ask for the claim p", "add to the policy"},
		{"the relay's policy asks for more", claim("x", "y"), Failure, "relay", "ticketbridge-relay", "the claim x as well", "delete the claim x"},
		{
			"the relay's name is long",
			plan{relay: func(r *entra.Relay) { r.ResourceGroup = strings.Repeat("g", 60) }},
			Warning, "relay", "ticketbridge-relay", "at most 150", "shorter",
		},
		{"the relay may not be read", plan{noReader: true}, Warning, "relay", "ticketbridge-relay", "may not read it in Azure", "az resource show --ids /subscriptions/"},
		{
			"the relay is gone", changing(func(w *world) {
				w.entra.ManagementFaults.Add(misbehave.Fault{Status: http.StatusNotFound, Body: `{"error":{"code":"ResourceNotFound"}}`})
			}),
			Failure, "relay", "ticketbridge-relay", "there is no such Logic App in resource group relay", "handler connect",
		},
		{"the relay sends no key", plan{relay: func(r *entra.Relay) { r.FunctionKey = "" }}, Failure, "relay", "ticketbridge-relay", "it sends no function key", "az functionapp function keys list"},
		{"the relay sends no token", plan{relay: func(r *entra.Relay) { r.Identity = "" }}, Failure, "relay", "ticketbridge-relay", "it sends no token", "Managed identity"},
		{"the relay's token is for another", plan{relay: func(r *entra.Relay) { r.Resource = "api://another" }}, Failure, "relay", "ticketbridge-relay", "its token is for api://another", "set the audience of Authentication to api://ticketbridge"},
		{"the relay is another identity", changing(func(w *world) { w.RelayPrincipal = w.identity.ObjectID }), Failure, "relay", "ticketbridge-relay", "not the one of RELAY_PRINCIPAL_ID", "RELAY_PRINCIPAL_ID="},
		{"the relay calls another app", plan{relay: func(r *entra.Relay) { r.URL = "https://old.example/api/callout" }}, Warning, "relay", "ticketbridge-relay", "it forwards to old.example", "set URI to"},

		// extension
		{"the extension is impatient", plan{extension: func(x *entra.Extension) { x.Patience = 300 * time.Millisecond }}, Warning, "extension", "Finance: Open a ticket", "Entra waits 300 ms", `"timeoutInMilliseconds":2000`},
		{"the extension tries once", plan{extension: func(x *entra.Extension) { x.Retries = 0 }}, Warning, "extension", "Finance: Open a ticket", "it is lost", `"maximumRetries":1`},
		{"the extension does not wait", plan{extension: func(x *entra.Extension) { x.Wait = 0 }}, Warning, "extension", "Finance: Open a ticket", "no callback configuration: at assignmentRequestApproved of Ledger reader (Everybody)", `"timeoutDuration":"P14D"`},
		{"the extension waits five minutes", plan{extension: func(x *entra.Extension) { x.Wait = 5 * time.Minute }}, Warning, "extension", "Finance: Open a ticket", "requests wait PT5M", `"timeoutDuration":"P14D"`},
		{"no policy calls the extension", plan{policy: func(p *entra.Policy) { p.Stages = nil }}, Warning, "extension", "Finance: Open a ticket", "no policy calls it", "handler connect"},
		{
			"a stage waits for what the rules ignore",
			plan{rules: "version: 1\nrules:\n  - {name: quiet, match: {stage: removed}, ignore: true}\n"},
			Warning, "extension", "Finance: Open a ticket", "at assignmentRequestRemoved of Ledger reader (Everybody) requests wait for a ticket, and the rule quiet opens none", "take the extension off that stage",
		},
		{
			"a stage waits for what no rule knows",
			plan{rules: "version: 1\notherwise: fail\nrules:\n  - {name: grants, match: {stage: approved}, tickets: {table: incident}}\n"},
			Failure, "extension", "Finance: Open a ticket", "at assignmentRequestRemoved of Ledger reader (Everybody) requests wait, and no rule matches", "Add a rule",
		},
		{"the extension sends no key", directly(func(x *entra.Extension) { x.URL = keyless }), Failure, "extension", "Finance: Open a ticket", "no function key", "?code=<key of the function callout>"},
		{"the extension sends no token", directly(func(x *entra.Extension) { x.Resource = "" }), Failure, "extension", "Finance: Open a ticket", "it sends no token (none)", `"resourceId":"api://ticketbridge"`},
		{"the extension's token is for another", directly(func(x *entra.Extension) { x.Resource = "api://another" }), Failure, "extension", "Finance: Open a ticket", "its token is for api://another", `"resourceId":"api://ticketbridge"`},
		{"the extension calls another app", directly(func(x *entra.Extension) { x.URL = "https://old.example/api/callout?code=" + appKey }), Warning, "extension", "Finance: Open a ticket", "it calls old.example", "httpRequestEndpoint"},
		{"no extension calls us", directly(func(x *entra.Extension) { x.URL = "https://other.example/api/other" }), Failure, "extension", "", "nobody will ever be told", "handler connect"},

		// tokens and the callout
		{"the tenant's keys cannot be had", changing(func(w *world) { w.entra.AuthorityFaults.Add(misbehave.Fault{Status: http.StatusServiceUnavailable}) }), Failure, "keys of the tenant", "", "status 503", "AZURE_AUTHORITY_HOST"},
		{"the key is wrong", changing(func(w *world) { w.AppKey = "rotated" }), Failure, "callout", "", "the function key is not right", "az functionapp function keys list"},
		{"there is no key", changing(func(w *world) { w.AppKey = "" }), Failure, "callout", "", "none was given", "CALLOUT_KEY"},
		{"the app is not published", plan{app: answering(http.StatusNotFound)}, Failure, "callout", "", "there is no function callout", "make deploy"},
		{
			"the app cuts the connection",
			plan{app: func(http.Handler) http.Handler {
				return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
			}},
			Failure, "callout", "", "no answer: EOF", "access restrictions",
		},
		{"the app takes no calls", plan{app: answering(http.StatusServiceUnavailable)}, Failure, "callout", "", "status 503", "lines above"},
		{"the app asks for no token", plan{app: answering(http.StatusAccepted)}, Failure, "callout", "", "took a call without a token", "az functionapp restart"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := build(t, c.plan)
			lines := Run(t.Context(), w.Config)
			silent(t, w, lines)
			var wrong []Line
			unmade := map[string]bool{}
			for _, l := range lines {
				switch l.Kind {
				case Warning, Failure:
					wrong = append(wrong, l)
				case NotChecked:
					unmade[l.Check] = true
					if !strings.HasPrefix(l.Saw, "not checked, because ") || l.Remedy != "" {
						t.Errorf("%s says %q", l.Check, l.Saw)
					}
				}
			}
			if len(wrong) != 1 {
				t.Fatalf("%d are wrong:\n%s", len(wrong), text(lines))
			}
			want, special := skipped[c.name]
			if !special && c.kind == Failure {
				want = dependents[c.check]
			}
			if got := slices.Sorted(maps.Keys(unmade)); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
				t.Errorf("not checked were %q, want %q:\n%s", got, want, text(lines))
			}
			l := wrong[0]
			if l.Kind != c.kind || l.Check != c.check || l.Of != c.of || !strings.Contains(l.Saw, c.says) || !strings.Contains(l.Remedy, c.remedy) || l.Remedy == "" {
				t.Errorf("said\n%swant %s of %s %s that says %q, and to mend it %q", text(wrong), c.kind, c.check, c.of, c.says, c.remedy)
			}
		})
	}
}

func TestARoleThatIsNotEnoughIsNoRole(t *testing.T) {
	t.Parallel()
	w := build(t, plan{noRole: true})
	const reader = "44272f93-9762-48e8-af59-1b5351b1d6b3"
	token := w.entra.IssueToken(entra.Token{Audience: "https://graph.microsoft.com", ObjectID: "o", Roles: []string{"EntitlementManagement.ReadWrite.All"}})
	body := fmt.Sprintf(`{"principalId":%q,"roleDefinitionId":%q,"appScopeId":"/AccessPackageCatalog/%s"}`, w.identity.ObjectID, reader, w.catalog)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.GraphURL+"/roleManagement/entitlementManagement/roleAssignments", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("the role was not given: %s", resp.Status)
	}
	lines := Run(t.Context(), w.Config)
	if l := of(lines, "catalog"); l.Kind != Failure || !strings.Contains(l.Saw, "another role") || !strings.Contains(l.Remedy, assignmentManager) {
		t.Errorf("said\n%s", text(lines))
	}
	if of(lines, "extension").Kind != OK { // what may be read is looked at all the same
		t.Errorf("said\n%s", text(lines))
	}
}

// of is the first line of a check.
func of(lines []Line, check string) Line {
	i := slices.IndexFunc(lines, func(l Line) bool { return l.Check == check })
	if i < 0 {
		return Line{}
	}
	return lines[i]
}

func TestOneCatalogThatIsWrongHidesNoOther(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		identity func(*entra.Identity)
		want     []string
	}{
		"with a right to read": {nil, []string{"ok Finance", "failure Engineering", "ok Finance: Open a ticket", "ok Engineering: Ticket"}},
		"without": {
			func(i *entra.Identity) { i.GraphRoles = nil },
			[]string{"warning Finance", "failure 99999999-0000-4000-8000-00000000000b", "ok Finance: Open a ticket", "notChecked 99999999-0000-4000-8000-00000000000b"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := build(t, plan{identity: c.identity})
			other := w.entra.AddCatalog(entra.Catalog{ID: "99999999-0000-4000-8000-00000000000b", Name: "Engineering"})
			pkg := w.entra.AddPackage(entra.Package{CatalogID: other, Name: "Cluster operator"})
			x := w.entra.AddExtension(entra.Extension{
				CatalogID: other, Name: "Ticket", URL: w.AppURL + calloutPath + "?code=" + appKey, Resource: audience, Wait: time.Hour * 48, Patience: time.Second, Retries: 1,
			})
			w.entra.AddPolicy(entra.Policy{PackageID: pkg, Name: "All", Stages: map[string]string{entra.StageApproved: x}})
			w.CatalogIDs = append(w.CatalogIDs, other)
			lines := Run(t.Context(), w.Config)
			var seen []string
			for _, l := range lines {
				if l.Check == "catalog" || l.Check == "extension" {
					seen = append(seen, string(l.Kind)+" "+l.Of)
				}
			}
			if !slices.Equal(seen, c.want) {
				t.Errorf("said %q, want %q:\n%s", seen, c.want, text(lines))
			}
		})
	}
}

func TestAnAnswerThatIsLateForEntraIsSaid(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name          string
		first, second time.Duration
		kind          Kind
		says          string
	}{
		{"quick", 100 * time.Millisecond, 50 * time.Millisecond, OK, "in 100ms and 50ms"},
		{"just in time", time.Second, 0, OK, "in 1s and 0s"},
		{"once awake", 1200 * time.Millisecond, 80 * time.Millisecond, Warning, "in 1.2s, and Entra waits for 1s; once awake in 80ms"},
		{"never", 1200 * time.Millisecond, 1300 * time.Millisecond, Warning, "in 1.3s, and Entra waits for 1s"},
		{"not at all", time.Hour, time.Hour, Failure, "no answer in time"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				takes := []time.Duration{c.first, c.second}
				app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if body, err := io.ReadAll(r.Body); err != nil || string(body) != connectionTest {
						t.Errorf("got %q, %v", body, err)
					}
					wait := time.NewTimer(takes[0])
					takes = takes[1:]
					select {
					case <-wait.C:
					case <-r.Context().Done():
					}
					w.WriteHeader(http.StatusAccepted)
				})
				x := newExamination(Config{AppURL: "https://app.example", Transport: misbehave.Transport(app)})
				lines := run(t.Context(), []check{{name: "callout", look: x.try}})
				if l := of(lines, "callout"); l.Kind != c.kind || !strings.Contains(l.Saw, c.says) || (l.Remedy == "") != (c.kind == OK) {
					t.Errorf("said\n%s", text(lines))
				}
			})
		})
	}
}

func TestNothingKeepsTheOthersWaitingForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		hung := make(chan struct{})
		defer close(hung)
		lines := run(t.Context(), []check{
			{name: "deaf", look: func(context.Context, *report) { <-hung }},
			{name: "slow", look: func(ctx context.Context, r *report) { <-ctx.Done(); r.fail("", "x", "heard that its time is over") }},
			{name: "after", needs: []string{"deaf"}, look: func(_ context.Context, r *report) { r.ok("", "made") }},
			{name: "apart", look: func(_ context.Context, r *report) { r.ok("", "made after %s", time.Since(begin)) }},
		})
		want := []Line{
			{"deaf", "", Failure, "no answer within 15s", "Try again; and look at the network between here and there."},
			{"slow", "", Failure, "heard that its time is over", "x"},
			{"after", "", NotChecked, "not checked, because deaf is not right", ""},
			{"apart", "", OK, "made after 0s", ""},
		}
		if !slices.Equal(lines, want) {
			t.Errorf("said\n%s", text(lines))
		}
		if took := time.Since(begin); took > 17*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

func TestAllTogetherTakeAMinuteAndAHalfAtMost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), overall)
		defer cancel()
		var checks []check
		for i := range 9 {
			c := check{name: fmt.Sprint(i), limit: long, look: func(ctx context.Context, _ *report) { <-ctx.Done() }}
			if i > 0 {
				c.after = []string{fmt.Sprint(i - 1)}
			}
			checks = append(checks, c)
		}
		run(ctx, checks)
		if took := time.Since(begin); took != overall {
			t.Errorf("took %s", took)
		}
	})
}

func FuzzATokenIsReadWithoutTrustAndWithoutFear(f *testing.F) {
	for _, token := range []string{"", "a.b.c", "a.e30.c", "a." + base64.RawURLEncoding.EncodeToString([]byte(`{"oid":"1","roles":["x"],"scp":"y z"}`)) + ".", "a.bnVsbA.", "...."} {
		f.Add(token)
	}
	f.Fuzz(func(t *testing.T, token string) {
		c, ok := claimsOf(token)
		if strings.Count(token, ".") != 2 && ok {
			t.Errorf("%q is a token of %+v", token, c)
		}
		if id := guid(c.Object); id != "(no id)" && len(id) != 36 {
			t.Errorf("%q is shown", id)
		}
	})
}
