package setup

import (
	"strings"
	"testing"
)

var good = []string{
	"AzureWebJobsStorage=UseDevelopmentStorage=true", "SERVICENOW_URL=https://example.service-now.com",
	"SERVICENOW_CLIENT_ID=bridge", "SERVICENOW_CLIENT_SECRET=hunter2",
}

func TestGoodSettingsAreTaken(t *testing.T) {
	t.Parallel()
	s, err := Read(append(good, "CATALOG_IDS=11111111-2222-3333-4444-555555555555,11111111-2222-3333-4444-555555555556"))
	if err != nil {
		t.Fatal(err)
	}
	if s.StorageConnection != "UseDevelopmentStorage=true" || s.StoragePrefix != "ticketbridge" || len(s.CatalogIDs) != 2 || s.GraphURL != "https://graph.microsoft.com/v1.0" {
		t.Errorf("read %+v", s)
	}
}

func TestAWrongSettingIsNamedWithWhatItHeldAndShouldHold(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, set, field, says string }{
		{"no instance", "SERVICENOW_URL=", "SERVICENOW_URL", "is not set; it must hold an https URL"},
		{"plain http", "SERVICENOW_URL=http://example.service-now.com", "SERVICENOW_URL", `holds "http://example.service-now.com"`},
		{"credentials in the URL", "SERVICENOW_URL=https://u:p@example.service-now.com", "SERVICENOW_URL", "it must hold an https URL"},
		{"unknown way to sign in", "SERVICENOW_AUTH=password", "SERVICENOW_AUTH", "client-credentials, basic, api-key or entra"},
		{"no secret", "SERVICENOW_CLIENT_SECRET=", "SERVICENOW_CLIENT_SECRET", "since SERVICENOW_AUTH is client-credentials"},
		{"basic without a password", "SERVICENOW_AUTH=basic SERVICENOW_USERNAME=bridge", "SERVICENOW_PASSWORD", "is not set"},
		{"no API key", "SERVICENOW_AUTH=api-key", "SERVICENOW_API_KEY", "is not set"},
		{"no audience for ServiceNow", "SERVICENOW_AUTH=entra", "SERVICENOW_AUDIENCE", "is not set"},
		{"time-out not a duration", "SERVICENOW_TIMEOUT=thirty", "SERVICENOW_TIMEOUT", `holds "thirty"; it must hold a duration`},
		{"time-out beyond the function's time", "SERVICENOW_TIMEOUT=5m", "SERVICENOW_TIMEOUT", "from 1s to 40s"},
		{"settle too short", "SERVICENOW_SETTLE=1ms", "SERVICENOW_SETTLE", "from 1s"},
		{"Graph's time-out beyond what the function has", "GRAPH_TIMEOUT=2m", "GRAPH_TIMEOUT", "from 1s to 30s"},
		{"neither true nor false", "DIRECTORY_LOOKUP=perhaps", "DIRECTORY_LOOKUP", `holds "perhaps"; it must hold true or false`},
		{"Graph's time-out not a duration", "GRAPH_TIMEOUT=soon", "GRAPH_TIMEOUT", `holds "soon"; it must hold a duration`},
		{"check interval too long", "CHECK_INTERVAL=48h", "CHECK_INTERVAL", "to 24h"},
		{"days not a number", "RETENTION_DAYS=quarter", "RETENTION_DAYS", `holds "quarter"; it must hold a number of days`},
		{"days below none", "RETENTION_DAYS=-1", "RETENTION_DAYS", "from 1 to 36500, or 0 to keep"},
		{"catalog by name", "CATALOG_IDS=Finance", "CATALOG_IDS", `holds "Finance"`},
		{"caller by name", "CALLOUT_CALLERS=Entra", "CALLOUT_CALLERS", "application ids"},
		{"relay by name", "RELAY_PRINCIPAL_ID=relay", "RELAY_PRINCIPAL_ID", "object id (a GUID)"},
		{"audience without tenant", "CALLOUT_AUDIENCE=api://x", "AZURE_TENANT_ID", "is not set"},
		{"tenant by name", "AZURE_TENANT_ID=contoso.com", "AZURE_TENANT_ID", `holds "contoso.com"`},
		{"unknown console sign-in", "CONSOLE_AUTH=open", "CONSOLE_AUTH", `"none", "easyauth"`},
		{"unknown log level", "LOG_LEVEL=loud", "LOG_LEVEL", "trace, debug, info"},
		{"plain http Graph", "GRAPH_URL=http://graph.example", "GRAPH_URL", "https URL"},
		{"port not a number", "FUNCTIONS_CUSTOMHANDLER_PORT=http", "FUNCTIONS_CUSTOMHANDLER_PORT", "a port number"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := Read(append(append([]string{}, good...), strings.Fields(c.set)...))
			if err == nil {
				t.Fatal("taken")
			}
			if lines := strings.Split(err.Error(), "\n"); len(lines) != 1 || !strings.Contains(lines[0], "("+c.field+")") || !strings.Contains(lines[0], c.says) {
				t.Errorf("said %q; want one line on %s that says %q", err, c.field, c.says)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Error("the message shows a secret")
			}
		})
	}
}

func TestEveryWrongSettingIsNamedAtOnce(t *testing.T) {
	t.Parallel()
	_, err := Read(nil)
	for _, want := range []string{"SERVICENOW_URL", "SERVICENOW_CLIENT_ID", "SERVICENOW_CLIENT_SECRET"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %s", err, want)
		}
	}
}
