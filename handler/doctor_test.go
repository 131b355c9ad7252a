package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/servicenow"
)

// healthy starts stand-ins of Entra with Graph and Azure, of ServiceNow and of the app, for a script, and sets in its environment what the app's settings would be: a
// managed identity with its role in the only catalog, whose extension calls the app through a Logic App.
func healthy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: healthy")
	}
	const key, audience = "function-key", "api://ticketbridge"
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if w.Header().Set("WWW-Authenticate", `Bearer resource_id="`+audience+`"`); r.Header.Get("x-functions-key") != key {
			w.Header().Del("WWW-Authenticate")
		}
		w.WriteHeader(http.StatusUnauthorized)
	}))
	ts.Defer(app.Close)

	tenant := entra.New(entra.Config{TenantID: "99999999-0000-4000-8000-000000000001"})
	stop, err := tenant.Start("127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { tenant.Close(); stop() })
	identity := tenant.AddIdentity(entra.Identity{ClientID: "99999999-0000-4000-8000-000000000004", UserAssigned: true, GraphRoles: []string{"EntitlementManagement.Read.All"}})
	relay := tenant.AddIdentity(entra.Identity{UserAssigned: true})
	tenant.AddApp(entra.App{URIs: []string{audience}})
	tenant.MakeReader(identity.ObjectID)
	tenant.AddRelay(entra.Relay{Name: "ticketbridge-relay", URL: app.URL + "/api/callout", FunctionKey: key, Identity: relay.ClientID, Resource: audience})
	catalog := tenant.AddCatalog(entra.Catalog{Name: "Finance"})
	tenant.AssignManager(identity.ObjectID, catalog)
	pkg := tenant.AddPackage(entra.Package{CatalogID: catalog, Name: "Ledger reader"})
	x := tenant.AddExtension(entra.Extension{CatalogID: catalog, Name: "Open a ticket", Relay: "ticketbridge-relay", Wait: 14 * 24 * time.Hour, Retries: 1})
	tenant.AddPolicy(entra.Policy{PackageID: pkg, Name: "Everybody", Stages: map[string]string{entra.StageApproved: x}})

	instance, err := servicenow.New(servicenow.Config{
		Users: []servicenow.User{{UserName: "bridge", Password: "hunter2hunter2", Name: "Ticket Bridge", WebServiceAccessOnly: true}},
	})
	ts.Check(err)
	address, stopInstance, err := instance.Start("127.0.0.1:0")
	ts.Check(err)
	ts.Defer(stopInstance)

	for name, value := range tenant.Environment(identity.ClientID) {
		ts.Setenv(name, value)
	}
	for name, value := range map[string]string{
		"SERVICENOW_URL": address, "SERVICENOW_AUTH": "basic", "SERVICENOW_USERNAME": "bridge", "SERVICENOW_PASSWORD": "hunter2hunter2",
		"CALLOUT_AUDIENCE": audience, "RELAY_PRINCIPAL_ID": relay.ObjectID, "CLOSE_HMAC_KEY": "bm8gbW9yZSB0aGFuIGEgdGVzdCBvZiB0aGUgZG9jdG9yLCAzMiBieXRlcw==",
		"CATALOG_IDS": catalog, "SWEEP_SCHEDULE": "0 * * * * *", "CALLOUT_KEY": key, "APP": app.URL, "MANAGEMENT": tenant.BaseURL(),
	} {
		ts.Setenv(name, value)
	}
}

func TestTheDoctorRefusesOptionsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ args, says string }{
		{"-url http://app.example", "-url must hold an https URL"},
		{"-url https://app.example/api/callout?code=secret-key", "-url must hold an https URL, without a key in it"},
		{"-url app.example", "-url must hold an https URL"},
		{"-management http://management.example", "-management must hold an https URL"},
		{"-principal Ada", "it must hold an object id (a GUID)"},
		{"-key", "-key goes with -url only"},
	} {
		var out bytes.Buffer
		err := run(t.Context(), append([]string{"doctor"}, strings.Fields(c.args)...), nil, nil, &out, &out)
		if err == nil || !strings.Contains(err.Error(), c.says) || out.Len() > 0 || strings.Contains(err.Error(), "secret-key") {
			t.Errorf("%s: %v, %q", c.args, err, out.String())
		}
	}
}

func TestEveryProblemOfTheSettingsIsALineOfTheDoctor(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	environ := []string{
		"SERVICENOW_URL=http://example.com", "SERVICENOW_AUTH=basic", "SERVICENOW_PASSWORD=hunter2hunter2", "IDENTITY_ENDPOINT=http://127.0.0.1:1/", "IDENTITY_HEADER=x",
		"CLOSE_HMAC_KEY=hunter2", "GRAPH_URL=http://127.0.0.1:1/v1.0",
	}
	err := run(t.Context(), []string{"doctor", "-o", "json"}, environ, nil, &out, &out)
	var got examined
	if e := json.Unmarshal(out.Bytes(), &got); e != nil {
		t.Fatalf("%v: %s", e, out.String())
	}
	named := map[string]bool{}
	for _, l := range got.Lines {
		if l.Check == "settings" {
			named[l.Of] = l.Remedy != ""
		}
	}
	for _, name := range []string{"SERVICENOW_URL", "SERVICENOW_USERNAME", "AzureWebJobsStorage", "CLOSE_HMAC_KEY"} {
		if !named[name] {
			t.Errorf("%s is not named, or not how to mend it", name)
		}
	}
	if err == nil || got.OK || got.Failures < 4 || strings.Contains(out.String(), "hunter2") {
		t.Errorf("%v: %s", err, out.String())
	}
}
