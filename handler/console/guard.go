package console

import (
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"ticketbridge/handler/fault"
)

// How the console knows who may see it.
const (
	AuthNone     = "none"     // whoever is at this machine: never in Azure, and only under a name of this machine
	AuthEasyAuth = "easyauth" // whoever App Service authentication has signed in
)

// A guard lets people in.
type guard struct {
	auth    string
	enabled bool // App Service authentication is on
}

func newGuard(c Config) (guard, error) {
	wrong := func(detail string) (guard, error) {
		return guard{}, &fault.Error{Op: "set up the console", Reason: fault.Misconfigured, Field: "CONSOLE_AUTH", Detail: detail}
	}
	switch c.Auth {
	case AuthEasyAuth:
		return guard{AuthEasyAuth, strings.EqualFold(c.WebsiteAuthEnabled, "true")}, nil
	case AuthNone:
		// The handler hears only from the Functions host, on the loopback address, wherever that is: the address says nothing, so what
		// Azure sets decides. Core Tools sets WEBSITE_HOSTNAME too, to the address it listens on.
		if c.WebsiteInstanceID != "" || c.WebsiteSKU != "" || (c.WebsiteHostname != "" && !localName(c.WebsiteHostname)) {
			return wrong(`holds "none", which would show people's names to anybody: this is Azure. It must hold "easyauth", or nothing for no console`)
		}
		return guard{AuthNone, false}, nil
	default:
		return wrong(`must hold "none", "easyauth", or nothing for no console`)
	}
}

// admit says who sees a page, "" when nobody is asked. Its errors are fault.Unauthorized and fault.Forbidden.
func (g guard) admit(r *http.Request) (who string, err error) {
	if g.auth == AuthNone {
		return "", local(r)
	}
	if !g.enabled { // anybody could send the header
		return "", &fault.Error{
			Op: "admit", Reason: fault.Forbidden, Field: "WEBSITE_AUTH_ENABLED", Detail: "App Service authentication is off, so nobody can be let in.",
			Advice: "Turn it on for this app, as the deployment does.",
		}
	}
	return principal(r.Header.Get("X-MS-CLIENT-PRINCIPAL"))
}

// local wants a call that was made on this machine, under a name of this machine: a page somewhere else can have a browser here call us under
// that page's own name (DNS rebinding). Which headers the name is in depends on how the host hands calls on: when it forwards, Host is the
// caller's and X-Forwarded-Host is whatever the caller sent; when it proxies, Host is ours, and it sets X-Forwarded-Host and -For itself.
// So all that are there must be local.
func local(r *http.Request) error {
	for _, host := range append([]string{r.Host}, list(r.Header, "X-Forwarded-Host")...) {
		if !localName(host) {
			return notHere()
		}
	}
	for _, from := range list(r.Header, "X-Forwarded-For") {
		if !localName(from) {
			return notHere()
		}
	}
	return nil
}

func notHere() error {
	return &fault.Error{
		Op: "admit", Reason: fault.Forbidden, Field: "CONSOLE_AUTH", Detail: "The console is open to this machine only, under the name localhost.",
		Advice: "Open it as http://localhost:<port>" + BasePath + " on the machine that runs it.",
	}
}

// list returns what is in a header that may have been sent several times; the host joins those with a comma.
func list(h http.Header, name string) []string {
	var out []string
	for _, v := range h.Values(name) {
		out = append(out, strings.Split(v, ",")...)
	}
	return out
}

// localName says whether a host, with or without a port, is this machine.
func localName(s string) bool {
	s = strings.TrimSpace(s)
	if host, _, err := net.SplitHostPort(s); err == nil {
		s = host
	}
	s = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	if strings.EqualFold(s, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(s)
	return err == nil && a.Unmap().IsLoopback()
}

// principal reads who App Service authentication says has signed in. Microsoft documents the header: base64 of JSON with auth_typ, name_typ and
// claims. App Service takes it from no caller while it is on.
func principal(header string) (string, error) {
	no := &fault.Error{Op: "admit", Reason: fault.Unauthorized, Field: "X-MS-CLIENT-PRINCIPAL", Detail: "This console shows people's names and requests."}
	if header == "" {
		return "", no
	}
	text, err := base64.StdEncoding.DecodeString(header)
	if err != nil {
		return "", no
	}
	var p struct {
		Type   string  `json:"auth_typ"`
		Name   string  `json:"name_typ"`
		Claims []claim `json:"claims"`
	}
	if json.Unmarshal(text, &p) != nil || p.Type == "" || len(p.Claims) == 0 {
		return "", no
	}
	for _, kind := range []string{"preferred_username", p.Name, "name", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress"} {
		for _, c := range p.Claims {
			if kind != "" && c.Type == kind && c.Value != "" {
				return c.Value, nil
			}
		}
	}
	return "somebody", nil
}

type claim struct {
	Type  string `json:"typ"`
	Value string `json:"val"`
}
