package main

import (
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"ticketbridge/handler/simulator/entra"
)

// A tenant is one of a script's own: a stand-in for Entra with Graph, over https as Microsoft's library for signing in wants it.
type tenant struct {
	*entra.Directory
	admin, owner entra.User
	ids          []string // those that were shown, by the order in which they were
	names        map[string]string
}

const scriptTenant = "5c0ffee0-0000-4000-8000-0000000000aa"

// startTenant starts a tenant in which nothing is connected: a catalog with an access package and two policies, of which the second calls somebody else's
// extension; identities of the function and of a relay; and an administrator, who is the one who signs in.
func startTenant(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: tenant")
	}
	t := ts.Value("tenant").(*tenant)
	t.Directory = entra.New(entra.Config{TenantID: scriptTenant})
	server := httptest.NewTLSServer(t.Directory)
	ts.Defer(func() { server.Close(); t.Close() })
	t.SetBaseURL(server.URL)
	t.names = map[string]string{}
	named := func(id, name string) string { t.names[id] = "<" + name + ">"; return id }

	catalog := named(t.AddCatalog(entra.Catalog{Name: "Finance", Description: "Systems of the finance department"}), "catalog")
	pkg := t.AddPackage(entra.Package{CatalogID: catalog, Name: "Ledger reader"})
	old := named(t.AddExtension(entra.Extension{CatalogID: catalog, Name: "Old ticket system", URL: "https://example.com"}), "old extension")
	named(t.AddPolicy(entra.Policy{PackageID: pkg, Name: "Everybody", Questions: []string{"Which region?"}}), "policy Everybody")
	named(t.AddPolicy(entra.Policy{PackageID: pkg, Name: "With approval", Approval: true, Stages: map[string]string{entra.StageApproved: old}}), "policy With approval")
	t.admin = t.AddUser(entra.User{
		Name: "Kim Stone", PrincipalName: "kim.stone@example.com", LogicApps: []string{"ticket-relay"}, Roles: []string{entra.GovernanceAdministrator, entra.ApplicationAdministrator},
	})
	t.owner = t.AddUser(entra.User{Name: "Robin Marsh", PrincipalName: "robin.marsh@example.com"})
	t.SignInAs(t.admin.ObjectID)
	app := named(t.AddIdentity(entra.Identity{Name: "bridge-function"}).ObjectID, "function")
	relay := named(t.AddIdentity(entra.Identity{Name: "ticket-relay", UserAssigned: true}).ObjectID, "relay")
	closer := t.AddApp(entra.App{Name: "ServiceNow", Secret: "hunter2hunter2", GraphRoles: []string{"EntitlementManagement.ReadWrite.All", "Application.ReadWrite.All", "AppRoleAssignment.ReadWrite.All"}})
	named(closer.ObjectID, "ServiceNow")
	named(closer.ClientID, "ServiceNow's application")

	authority := ts.MkAbs("authority.pem")
	ts.Check(os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	for name, value := range map[string]string{
		"SSL_CERT_FILE": authority, "AZURE_TENANT_ID": scriptTenant, "AZURE_AUTHORITY_HOST": server.URL, "GRAPH_URL": t.GraphURL(),
		"FUNCTION": app, "RELAY": relay, "CLOSER": closer.ObjectID, "APP": closer.ClientID,
	} {
		ts.Setenv(name, value)
	}
}

// signInAs says who signs in from now on.
func signInAs(ts *testscript.TestScript, neg bool, args []string) {
	t := ts.Value("tenant").(*tenant)
	who := map[string]string{"admin": t.admin.ObjectID, "owner": t.owner.ObjectID}
	if neg || len(args) != 1 || who[args[0]] == "" {
		ts.Fatalf("usage: sign-in-as admin|owner")
	}
	t.SignInAs(who[args[0]])
}

// dump writes all that is set up in the tenant to a file.
func dump(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: dump FILE")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), ts.Value("tenant").(*tenant).Configuration(), 0o600))
}

// written wants so many calls to Graph, ever, that can change something.
func written(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: written COUNT")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	for route, n := range ts.Value("tenant").(*tenant).Calls() {
		if strings.Contains(route, " /v1.0/") && !strings.HasPrefix(route, "GET ") {
			got += n
		}
	}
	if got != want {
		ts.Fatalf("Graph was written to %d times, want %d", got, want)
	}
}

var guid = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// says wants what was printed last (stdout or stderr) to be a file, with names for ids, which differ each time, and for the stand-in's address.
func says(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: says stdout|stderr FILE")
	}
	t := ts.Value("tenant").(*tenant)
	text := strings.ReplaceAll(ts.ReadFile(args[0]), t.BaseURL(), "https://login.example")
	text = guid.ReplaceAllStringFunc(text, func(id string) string {
		if id == scriptTenant || strings.HasPrefix(id, "5c0ffee0") {
			return id
		}
		if t.names[id] == "" {
			t.ids = append(t.ids, id)
			t.names[id] = fmt.Sprintf("<made %d>", len(t.ids))
		}
		return t.names[id]
	})
	if want := ts.ReadFile(args[1]); strings.TrimRight(text, "\n") != strings.TrimRight(want, "\n") {
		ts.Fatalf("it says\n%s\nand should say\n%s", text, want)
	}
}
