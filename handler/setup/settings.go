// Package setup reads the settings and builds the parts of the handler from them, for the deployed program and for the demo alike.
package setup

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/rs/zerolog"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
)

// Settings are the app settings, as the environment holds them. See the table in README.md for what each means.
type Settings struct {
	StorageConnection string `env:"AzureWebJobsStorage"`
	StorageAccount    string `env:"AzureWebJobsStorage__accountName"`
	StorageTables     string `env:"AzureWebJobsStorage__tableServiceUri"`
	StorageQueues     string `env:"AzureWebJobsStorage__queueServiceUri"`
	StorageClientID   string `env:"AzureWebJobsStorage__clientId"`
	StoragePrefix     string `env:"STORAGE_PREFIX" envDefault:"ticketbridge"`

	ServiceNowURL          string        `env:"SERVICENOW_URL"`
	ServiceNowAuth         string        `env:"SERVICENOW_AUTH" envDefault:"client-credentials"`
	ServiceNowClientID     string        `env:"SERVICENOW_CLIENT_ID"`
	ServiceNowClientSecret string        `env:"SERVICENOW_CLIENT_SECRET"`
	ServiceNowUsername     string        `env:"SERVICENOW_USERNAME"`
	ServiceNowPassword     string        `env:"SERVICENOW_PASSWORD"`
	ServiceNowAPIKey       string        `env:"SERVICENOW_API_KEY"`
	ServiceNowAudience     string        `env:"SERVICENOW_AUDIENCE"`
	ServiceNowCertificate  string        `env:"SERVICENOW_CERTIFICATE"`
	ServiceNowPrivateKey   string        `env:"SERVICENOW_PRIVATE_KEY"`
	ServiceNowHeaders      string        `env:"SERVICENOW_HEADERS"`
	ServiceNowTimeout      time.Duration `env:"SERVICENOW_TIMEOUT" envDefault:"30s"`
	ServiceNowSettle       time.Duration `env:"SERVICENOW_SETTLE" envDefault:"65s"`

	TenantID      string `env:"AZURE_TENANT_ID"`
	ClientID      string `env:"AZURE_CLIENT_ID"`
	AuthorityHost string `env:"AZURE_AUTHORITY_HOST"`
	GraphURL      string `env:"GRAPH_URL" envDefault:"https://graph.microsoft.com/v1.0"`

	GraphTimeout    time.Duration `env:"GRAPH_TIMEOUT" envDefault:"30s"`
	DirectoryLookup bool          `env:"DIRECTORY_LOOKUP" envDefault:"true"`

	CalloutAudience string   `env:"CALLOUT_AUDIENCE"`
	CalloutCallers  []string `env:"CALLOUT_CALLERS"`
	CalloutRole     string   `env:"CALLOUT_ROLE"`
	RelayPrincipal  string   `env:"RELAY_PRINCIPAL_ID"`
	CloseAudience   string   `env:"CLOSE_AUDIENCE"`
	CloseCallers    []string `env:"CLOSE_CALLERS"`
	CloseRole       string   `env:"CLOSE_ROLE"`
	CloseHMACKey    string   `env:"CLOSE_HMAC_KEY"`

	CatalogIDs    []string      `env:"CATALOG_IDS"`
	TicketsFile   string        `env:"TICKETS_FILE"`
	ConsoleAuth   string        `env:"CONSOLE_AUTH"`
	CheckInterval time.Duration `env:"CHECK_INTERVAL" envDefault:"10m"`
	RetentionDays int           `env:"RETENTION_DAYS" envDefault:"90"`
	LogLevel      string        `env:"LOG_LEVEL" envDefault:"info"`

	// What Azure and the Functions host set themselves.
	Port             int    `env:"FUNCTIONS_CUSTOMHANDLER_PORT"`
	WebsiteHostname  string `env:"WEBSITE_HOSTNAME"`
	WebsiteInstance  string `env:"WEBSITE_INSTANCE_ID"`
	WebsiteSKU       string `env:"WEBSITE_SKU"` // Flex Consumption has this one, and no WEBSITE_INSTANCE_ID
	AppServiceAuthOn string `env:"WEBSITE_AUTH_ENABLED"`
	IdentityEndpoint string `env:"IDENTITY_ENDPOINT"`
	AppRoot          string `env:"FUNCTIONS_APP_ROOT_PATH"` // the folder of host.json
}

// Read reads the settings from an environment of NAME=value lines. Its error names every setting that is wrong, what it held (never a
// secret) and what it should hold.
func Read(environ []string) (Settings, error) {
	s, p := parse(environ)
	s.checkServiceNow(&p)
	s.checkTimes(&p)
	p.url("GRAPH_URL", s.GraphURL, "https://graph.microsoft.com/v1.0")
	for _, id := range s.CatalogIDs {
		if _, ok := correlation.GUID(id); !ok {
			p.add("CATALOG_IDS", id, "catalog ids (GUIDs) separated by commas")
		}
	}
	for name, ids := range map[string][]string{"CALLOUT_CALLERS": s.CalloutCallers, "CLOSE_CALLERS": s.CloseCallers} {
		for _, id := range ids {
			if _, ok := correlation.GUID(id); !ok {
				p.add(name, id, "application ids (GUIDs) separated by commas")
			}
		}
	}
	if _, ok := correlation.GUID(s.RelayPrincipal); s.RelayPrincipal != "" && !ok {
		p.add("RELAY_PRINCIPAL_ID", s.RelayPrincipal, "the object id (a GUID) of the relay's managed identity")
	}
	if (s.CalloutAudience != "" || s.CloseAudience != "") && s.TenantID == "" {
		p.add("AZURE_TENANT_ID", "", "the tenant's id, since a token audience is configured")
	}
	if _, ok := correlation.GUID(s.TenantID); s.TenantID != "" && !ok {
		p.add("AZURE_TENANT_ID", s.TenantID, "the tenant's id (a GUID)")
	}
	if !slices.Contains([]string{"", "none", "easyauth"}, s.ConsoleAuth) {
		p.add("CONSOLE_AUTH", s.ConsoleAuth, `"none", "easyauth", or nothing for no console`)
	}
	if level, err := zerolog.ParseLevel(s.LogLevel); err != nil || level == zerolog.NoLevel {
		p.add("LOG_LEVEL", s.LogLevel, "trace, debug, info, warn or error")
	}
	return s, p.err()
}

// ReadStorage reads the settings for a command that only looks into the storage: what else is wrong or missing is not looked at.
func ReadStorage(environ []string) (Settings, error) {
	s, p := parse(environ)
	return s, p.err()
}

// ReadRules reads the settings for a command that only looks into the rules file: what else is wrong or missing is not looked at.
func ReadRules(environ []string) Settings {
	s, _ := parse(environ)
	return s
}

func parse(environ []string) (s Settings, p problems) {
	values := map[string]string{}
	for _, line := range environ {
		name, value, _ := strings.Cut(line, "=")
		if value = strings.TrimSpace(value); value != "" { // an empty app setting is one that is not set
			values[name] = value
		} else {
			delete(values, name)
		}
	}
	if err := env.ParseWithOptions(&s, env.Options{Environment: values}); err != nil {
		p.unreadable(err, values)
	}
	return s, p
}

func (s *Settings) checkServiceNow(p *problems) {
	p.url("SERVICENOW_URL", s.ServiceNowURL, "https://example.service-now.com")
	need := func(name, value, what string) {
		if value == "" {
			p.add(name, "", what+", since SERVICENOW_AUTH is "+s.ServiceNowAuth)
		}
	}
	switch s.ServiceNowAuth {
	case "client-credentials":
		need("SERVICENOW_CLIENT_ID", s.ServiceNowClientID, "the client id of the OAuth registration in ServiceNow")
		need("SERVICENOW_CLIENT_SECRET", s.ServiceNowClientSecret, "its secret")
	case "basic":
		need("SERVICENOW_USERNAME", s.ServiceNowUsername, "the integration user's name")
		need("SERVICENOW_PASSWORD", s.ServiceNowPassword, "the integration user's password")
	case "api-key":
		need("SERVICENOW_API_KEY", s.ServiceNowAPIKey, "the API key")
	case "entra":
		need("SERVICENOW_AUDIENCE", s.ServiceNowAudience, "the audience that ServiceNow's OIDC provider expects, as in api://<application id>")
	default:
		p.add("SERVICENOW_AUTH", s.ServiceNowAuth, "client-credentials, basic, api-key or entra")
	}
}

const retention = "a number of days from 1 to 36500, or 0 to keep what has ended for ever"

func (s *Settings) checkTimes(p *problems) {
	atMost := func(high time.Duration, name string, d time.Duration) {
		if (d < time.Second || d > high) && !p.has(name) {
			p.add(name, d.String(), fmt.Sprintf("a duration from %s to %s, as in 30s or 5m", time.Second, high))
		}
	}
	atMost(40*time.Second, "SERVICENOW_TIMEOUT", s.ServiceNowTimeout)
	atMost(30*time.Second, "GRAPH_TIMEOUT", s.GraphTimeout)
	atMost(time.Hour, "SERVICENOW_SETTLE", s.ServiceNowSettle)
	atMost(24*time.Hour, "CHECK_INTERVAL", s.CheckInterval)
	if (s.RetentionDays < 0 || s.RetentionDays > 36500) && !p.has("RETENTION_DAYS") {
		p.add("RETENTION_DAYS", strconv.Itoa(s.RetentionDays), retention)
	}
}

// Secret says whether a setting's value must never be shown.
func Secret(name string) bool {
	switch name {
	case "AzureWebJobsStorage", "SERVICENOW_CLIENT_SECRET", "SERVICENOW_PASSWORD", "SERVICENOW_API_KEY", "SERVICENOW_CERTIFICATE", "SERVICENOW_PRIVATE_KEY", "SERVICENOW_HEADERS", "CLOSE_HMAC_KEY":
		return true
	default:
		return false
	}
}

// problems collects what is wrong with the settings.
type problems []error

func (p *problems) add(name, held, should string) {
	detail := "is not set; it must hold " + should
	if held != "" {
		if Secret(name) || strings.ContainsRune(held, '@') { // an address with a password in it is no secret by its name
			held = "a value that is not shown"
		} else {
			held = fmt.Sprintf("%q", held)
		}
		detail = "holds " + held + "; it must hold " + should
	}
	*p = append(*p, &fault.Error{Op: "read settings", Reason: fault.Misconfigured, Field: name, Detail: detail})
}

// has says whether something is known to be wrong with the setting.
func (p *problems) has(name string) bool {
	return slices.ContainsFunc(*p, func(err error) bool {
		e, ok := errors.AsType[*fault.Error](err)
		return ok && e.Field == name
	})
}

// unreadable adds what env could not parse: each of its errors names a field of Settings, which is traced back to the setting.
func (p *problems) unreadable(err error, values map[string]string) {
	agg, ok := errors.AsType[env.AggregateError](err)
	if !ok {
		p.add("settings", "", err.Error())
		return
	}
	names := map[string][2]string{
		"ServiceNowTimeout": {"SERVICENOW_TIMEOUT", "a duration, as in 30s"}, "ServiceNowSettle": {"SERVICENOW_SETTLE", "a duration, as in 65s"},
		"GraphTimeout": {"GRAPH_TIMEOUT", "a duration, as in 30s"}, "DirectoryLookup": {"DIRECTORY_LOOKUP", "true or false"},
		"CheckInterval": {"CHECK_INTERVAL", "a duration, as in 10m"}, "RetentionDays": {"RETENTION_DAYS", retention}, "Port": {"FUNCTIONS_CUSTOMHANDLER_PORT", "a port number"},
	}
	for _, e := range agg.Errors {
		if pe, ok := errors.AsType[env.ParseError](e); ok {
			n := names[pe.Name]
			p.add(n[0], values[n[0]], n[1])
			continue
		}
		p.add("settings", "", e.Error())
	}
}

// url complains unless value is an absolute https URL, or http to this machine.
func (p *problems) url(name, value, example string) {
	u, err := url.Parse(value)
	local := err == nil && slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, u.Hostname())
	if err != nil || u.Host == "" || u.RawQuery != "" || u.User != nil || (u.Scheme != "https" && (u.Scheme != "http" || !local)) {
		p.add(name, value, "an https URL, as in "+example+" (http is taken for this machine only)")
	}
}

func (p problems) err() error {
	slices.SortStableFunc(p, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(p...)
}
