package servicenow

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"ticketbridge/handler/fault"
	"ticketbridge/handler/ticket"
)

// Auth is how the client proves who it is, in the words of the setting SERVICENOW_AUTH.
type Auth string

// The ways. What each needs of Config:
const (
	AuthClientCredentials Auth = "client-credentials" // ClientID and ClientSecret of an entry in the instance's application registry
	AuthBasic             Auth = "basic"              // Username and Password of a user with "web service access only"
	AuthAPIKey            Auth = "api-key"            // APIKey
	AuthEntra             Auth = "entra"              // Credential and Audience: the instance trusts the tenant as an OIDC provider; no secret
)

// A Config says which instance, as whom, and how patiently. Zero values stand for the defaults.
type Config struct {
	URL  string // of the instance, with a base path if there is one; https, or http to this machine
	Auth Auth   // default AuthClientCredentials

	ClientID, ClientSecret string
	Username, Password     string
	APIKey                 string
	Audience               string // the application id or its URI that the instance expects in the token, as in "api://…"
	Credential             azcore.TokenCredential

	Certificate, PrivateKey string // for mutual TLS, beside any Auth but AuthClientCredentials: each PEM, or the path of a file with it; the key may stand with the certificate
	Headers                 string // to be sent with every call: "Name: value" lines, or separated by commas; for a gateway before the instance

	Timeout     time.Duration // of each call, everything included; default 30 s
	Concurrency int           // how many calls may be under way at once; default 16
	UserAgent   string        // default "ticketbridge"

	// HTTPClient's transport sends the calls; nil for one of our own, whose proxy is that of the environment. Nothing else of it is used: with a session cookie
	// an overloaded instance answers 202 and drops the call, and a redirect would repeat a create elsewhere, or send it as a GET.
	HTTPClient *http.Client

	// Columns returns the columns to read of a table besides those that every ticket needs; nil for those of the built-in rules.
	Columns func(table string) []string
}

// New makes a client; it calls nobody. Its error is a *fault.Error with the reason Misconfigured that names the setting.
func New(cfg Config) (*Client, error) {
	base, err := instance(cfg.URL)
	if err != nil {
		return nil, err
	}
	c := &Client{
		base:    base,
		timeout: cfg.Timeout,
		agent:   cmp.Or(cfg.UserAgent, "ticketbridge"),
		columns: cfg.Columns,
	}
	if c.timeout <= 0 {
		c.timeout = 30 * time.Second
	}
	if c.columns == nil {
		c.columns = ticket.BuiltIn().Columns
	}
	n := cfg.Concurrency
	if n <= 0 {
		n = 16
	}
	c.slots = make(chan struct{}, n)
	certificate, err := clientCertificate(cfg.Certificate, cfg.PrivateKey)
	if err != nil {
		return nil, err
	}
	if certificate != nil && (cfg.Auth == AuthClientCredentials || cfg.Auth == "") {
		return nil, setting("SERVICENOW_CERTIFICATE", "is set, and ServiceNow takes no client certificate beside OAuth client credentials; set SERVICENOW_AUTH to basic, api-key or entra")
	}
	if c.transport = transport(n, certificate); cfg.HTTPClient != nil {
		c.transport = cmp.Or(cfg.HTTPClient.Transport, http.DefaultTransport)
	}
	c.hide.add(cfg.ClientSecret, cfg.Password, cfg.APIKey)
	if c.extra, err = extraHeaders(cfg.Headers); err != nil {
		return nil, err
	}
	for _, values := range c.extra {
		for _, v := range values {
			if len(v) >= 6 { // a shorter one is no secret, and a word of every other message
				c.hide.add(v)
			}
		}
	}
	if c.auth, err = c.authenticator(cfg); err != nil {
		return nil, err
	}
	return c, nil
}

// instance reads the URL of the instance.
func instance(text string) (*url.URL, error) {
	const field, want = "SERVICENOW_URL", "the instance's https URL, as in https://example.service-now.com (http is taken for this machine only)"
	if text == "" {
		return nil, setting(field, "is not set; it must hold "+want)
	}
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil {
		return nil, setting(field, "holds what is not a URL; it must hold "+want)
	}
	held := fmt.Sprintf("holds %q", u.Redacted())
	switch {
	case u.User != nil:
		return nil, setting(field, "holds a user name or password; they belong into settings of their own. It must hold "+want)
	case u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return nil, setting(field, "holds a query or a fragment, which an instance's URL does not have; it must hold "+want)
	case u.Host == "" || u.Opaque != "" || u.Hostname() == "":
		return nil, setting(field, held+"; it must hold "+want)
	case u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())):
		return nil, setting(field, held+"; it must hold "+want)
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
	return u, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func setting(field, detail string) error {
	return &fault.Error{Op: "read settings", Reason: fault.Misconfigured, Field: field, Detail: detail}
}

// transport is net/http's, with the proxy of the environment, HTTP/1.1 and 2, and limits.
func transport(concurrency int, certificate *tls.Certificate) http.RoundTripper {
	secure := &tls.Config{MinVersion: tls.VersionTLS12}
	if certificate != nil {
		// Sent whichever authorities the server names: that it does not want it is then said, and is not a call without a certificate.
		secure.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil }
	}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:      true,
		TLSClientConfig:        secure,
		TLSHandshakeTimeout:    10 * time.Second,
		MaxIdleConns:           concurrency,
		MaxIdleConnsPerHost:    concurrency,
		IdleConnTimeout:        30 * time.Second, // shorter than any gateway's, so that a call seldom meets a connection that is being closed
		MaxResponseHeaderBytes: 64 << 10,
		// A connection that died in silence is noticed before the next create goes out on it and ends as unclear.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second},
	}
}
