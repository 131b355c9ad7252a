// Package callers verifies who calls the handler's endpoints: a token of the tenant, issued to one of the applications that may call, or
// a signature with a shared key, or both. The function key is asked for by the Functions host and is none of its business.
package callers

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"net/url"
	"strings"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
)

// EntitlementManagement is the application id with which Microsoft Entra entitlement management calls out, as Microsoft documents it.
const EntitlementManagement = "810dcf14-1858-4bf2-8134-4c369fa3235b"

// PublicAuthority is the authority of the public cloud.
const PublicAuthority = "https://login.microsoftonline.com"

// RelaySetting is the setting that names the relay's managed identity.
const RelaySetting = "RELAY_PRINCIPAL_ID"

// Skew is how far the clocks of the callers, of Entra and of this machine may be apart.
const Skew = 5 * time.Minute

// Config says who may call one endpoint. What is empty is not checked.
type Config struct {
	Setting string // what the settings' names begin with, for errors: "CALLOUT" or "CLOSE"

	TenantID      string   // of the tokens
	AuthorityHost string   // "" is PublicAuthority; plain http is taken for this machine only
	Audience      string   // whom the tokens are for: an application id, or api://<application id>; one stands for the other
	Callers       []string // application ids that may call; needed with an Audience, unless there is a Relay
	Relay         string   // object id of the relay's managed identity, which may call too; of a system-assigned one Azure shows only this
	Role          string   // name of an app role that the tokens must have besides

	HMACKeys string // base64 keys, separated by spaces or commas; a signature with any of them will do

	Transport http.RoundTripper // for the tenant's keys; nil is Go's default
	Patience  time.Duration     // how long Check waits for the tenant's keys when it has to fetch them; 0 is 500 ms
}

// A Verifier checks calls. It can be used by many goroutines.
type Verifier struct {
	tokens *tokens            // nil when no token is asked for
	macs   []func() hash.Hash // one for each key that may sign; empty when no signature is asked for
}

// New makes a verifier; nothing is fetched. Its errors are fault.Misconfigured and name the setting.
func New(c Config) (*Verifier, error) {
	v := &Verifier{}
	wrong := func(name, detail string) error {
		return &fault.Error{Op: "set up the check of callers", Reason: fault.Misconfigured, Field: name, Detail: detail}
	}
	for i, text := range strings.FieldsFunc(c.HMACKeys, func(r rune) bool { return r == ',' || r <= ' ' }) {
		key, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(key) < minKey {
			return nil, wrong(c.Setting+"_HMAC_KEY", fmt.Sprintf("key %d must be base64 of at least %d bytes", i+1, minKey))
		}
		v.macs = append(v.macs, func() hash.Hash { return hmac.New(sha256.New, key) })
	}
	if c.HMACKeys != "" && len(v.macs) == 0 {
		return nil, wrong(c.Setting+"_HMAC_KEY", "holds no key")
	}
	without := "" // the audience, it would be of no use
	switch {
	case len(c.Callers) > 0:
		without = c.Setting + "_CALLERS"
	case c.Role != "":
		without = c.Setting + "_ROLE"
	case c.Relay != "":
		without = RelaySetting
	}
	if c.Audience == "" && without == "" {
		return v, nil
	}
	tenant, ok := correlation.GUID(c.TenantID)
	relay, isID := correlation.GUID(c.Relay)
	switch {
	case c.Audience == "":
		return nil, wrong(c.Setting+"_AUDIENCE", "is not set, and "+without+" is; it must hold the application id that the tokens are for")
	case c.Relay != "" && !isID:
		return nil, wrong(RelaySetting, fmt.Sprintf("%q is not the object id of a managed identity", c.Relay))
	case len(c.Callers) == 0 && relay == "":
		return nil, wrong(c.Setting+"_CALLERS", "is not set, and "+c.Setting+"_AUDIENCE is; it must hold the ids of the applications that may call (entitlement management's is "+EntitlementManagement+")")
	case !ok:
		return nil, wrong("AZURE_TENANT_ID", "must hold the tenant's id, a GUID")
	}
	t := &tokens{tenant: tenant, audiences: audiences(c.Audience), callers: map[string]bool{}, relay: relay, role: c.Role, setting: c.Setting}
	for _, id := range c.Callers {
		app, ok := correlation.GUID(id)
		if !ok {
			return nil, wrong(c.Setting+"_CALLERS", fmt.Sprintf("%q is not an application id", id))
		}
		t.callers[app] = true
	}
	authority, err := authority(c.AuthorityHost)
	if err != nil {
		return nil, wrong("AZURE_AUTHORITY_HOST", err.Error())
	}
	t.authority, t.issuers = authority, issuers(authority, tenant)
	t.keys = newKeys(authority+"/"+tenant+"/discovery/v2.0/keys", c.Transport, c.Patience)
	v.tokens = t
	return v, nil
}

// Check says whether the call may be served; with nothing configured it always may. The body is the one that came with it, whole.
// Its errors are *fault.Error: Unauthorized (what proves the caller is missing or wrong), Forbidden (it is genuine, and of somebody who may not
// call), Unreachable (the tenant's keys could not be had in time; the caller should try again). They hold nothing of a token but ids.
//
// How long a refusal takes tells nobody how near he was. A signature is compared with that of every key, in constant time, whatever else is wrong
// with the call. Of a token, what is looked at before its signature is public: its form, its algorithm, and the id of its key among those that the
// tenant publishes (an unknown one may wait for a fetch, which tells no more than that document). Its claims are judged only when Entra signed it, and
// whoever has such a token is told in words what is wrong with it.
func (v *Verifier) Check(r *http.Request, body []byte) error {
	if len(v.macs) > 0 {
		if err := checkSignature(v.macs, r.Header, body, time.Now()); err != nil {
			return err
		}
	}
	if v.tokens != nil {
		return v.tokens.check(r.Context(), r.Header, time.Now())
	}
	return nil
}

// Prefetch starts to fetch the tenant's keys if there are none yet, and does not wait: a first call after the start then does not have to.
func (v *Verifier) Prefetch() {
	if v.tokens != nil {
		v.tokens.keys.prefetch()
	}
}

// Challenge returns the WWW-Authenticate header of the answer to a call that Check refused with err; "" when there is none to send. It asks for all
// that is asked for. RFC 9110, section 11.6.1; RFC 6750, section 3.
func (v *Verifier) Challenge(r *http.Request, err error) string {
	reason := fault.ReasonOf(err)
	if reason != fault.Unauthorized && reason != fault.Forbidden {
		return ""
	}
	var all []string
	if v.tokens != nil {
		bearer := fmt.Sprintf(`Bearer authorization_uri="%s/%s/oauth2/v2.0/authorize", resource_id="%s"`, v.tokens.authority, v.tokens.tenant, plain(v.tokens.audiences[0]))
		e, ok := errors.AsType[*fault.Error](err)
		switch {
		case !ok || e.Field != authorization: // it is the signature that was wrong; the token was not looked at
		case reason == fault.Forbidden:
			bearer += `, error="insufficient_scope"`
		case r.Header.Get(authorization) != "": // else nothing was sent, so nothing was wrong with it
			bearer += `, error="invalid_token"`
		}
		all = append(all, bearer)
	}
	if len(v.macs) > 0 {
		all = append(all, `Signature headers="`+TimestampHeader+" "+SignatureHeader+`"`)
	}
	return strings.Join(all, ", ")
}

// plain leaves out what would end a quoted string in a header.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return -1
		}
		return r
	}, s)
}

// authority reads AZURE_AUTHORITY_HOST.
func authority(host string) (string, error) {
	if host == "" {
		return PublicAuthority, nil
	}
	u, err := url.Parse(host)
	bad := fmt.Errorf("must hold an https URL, as in %s (http is taken for this machine only)", PublicAuthority)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return "", bad
	}
	switch u.Hostname() {
	case "localhost", "127.0.0.1", "::1":
		if u.Scheme == "http" {
			return "http://" + u.Host, nil
		}
	}
	if u.Scheme != "https" {
		return "", bad
	}
	return "https://" + strings.ToLower(u.Host), nil
}

// issuers returns who issues the tenant's tokens, by version. Version 1 is sts.windows.net in every cloud but China's; version 2 begins with the
// authority's own name, whichever of its names is used.
func issuers(authority, tenant string) map[string]version {
	v1, v2 := "https://sts.windows.net", []string{authority}
	switch strings.TrimPrefix(authority, "https://") {
	case "login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net":
		v2 = []string{PublicAuthority}
	case "login.partner.microsoftonline.cn", "login.chinacloudapi.cn":
		v1, v2 = "https://sts.chinacloudapi.cn", []string{"https://login.partner.microsoftonline.cn", "https://login.chinacloudapi.cn"}
	}
	out := map[string]version{v1 + "/" + tenant + "/": version1}
	for _, a := range v2 {
		out[a+"/"+tenant+"/v2.0"] = version2
	}
	return out
}

// audiences returns the ways in which tokens name the application: version 2 always by its id, version 1 as it was asked for.
func audiences(configured string) []string {
	configured = strings.TrimSpace(configured)
	if id, ok := correlation.GUID(strings.TrimSuffix(strings.TrimPrefix(configured, "api://"), "/")); ok {
		return []string{id, "api://" + id}
	}
	return []string{configured}
}
