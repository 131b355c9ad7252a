package entra

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Issuer returns the issuer of tokens of version 1 or 2. That of version 1 is sts.windows.net wherever the authority is, as in the
// metadata document; that of version 2 begins with the authority.
func (d *Directory) Issuer(version int) string {
	if version == 2 {
		return d.BaseURL() + "/" + d.cfg.TenantID + "/v2.0"
	}
	return "https://sts.windows.net/" + d.cfg.TenantID + "/"
}

// authorityRoutes serves the authority: metadata, keys, tokens.
func (d *Directory) authorityRoutes(mux *http.ServeMux) {
	handle := func(method, path string, h http.HandlerFunc) {
		mux.Handle(method+" "+path, d.AuthorityFaults.Middleware(d.counted(method+" "+path, h)))
	}
	handle("GET", "/{tenant}/v2.0/.well-known/openid-configuration", d.metadata(2))
	handle("GET", "/{tenant}/.well-known/openid-configuration", d.metadata(1))
	handle("GET", "/{tenant}/discovery/v2.0/keys", d.serveKeys)
	handle("GET", "/{tenant}/discovery/keys", d.serveKeys)
	handle("GET", "/common/discovery/instance", d.discoverInstance)
	handle("POST", "/{tenant}/oauth2/v2.0/devicecode", d.serveDeviceCode)
	handle("POST", "/{tenant}/oauth2/v2.0/token", d.serveToken(2))
	handle("POST", "/{tenant}/oauth2/token", d.serveToken(1))
}

func (d *Directory) metadata(version int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !d.knownTenant(w, r) {
			return
		}
		host := d.BaseURL() + "/" + d.cfg.TenantID
		path, keys := "/oauth2", host+"/discovery/keys"
		if version == 2 {
			path, keys = "/oauth2/v2.0", host+"/discovery/v2.0/keys"
		}
		writeJSON(w, http.StatusOK, map[string]any{
			"issuer": d.Issuer(version), "token_endpoint": host + path + "/token", "authorization_endpoint": host + path + "/authorize",
			"jwks_uri": keys, "device_authorization_endpoint": host + path + "/devicecode", "end_session_endpoint": host + path + "/logout",
			"token_endpoint_auth_methods_supported": []string{"client_secret_post", "private_key_jwt", "client_secret_basic"},
			"response_modes_supported":              []string{"query", "fragment", "form_post"},
			"subject_types_supported":               []string{"pairwise"},
			"id_token_signing_alg_values_supported": []string{"RS256"},
			"response_types_supported":              []string{"code", "id_token", "code id_token", "id_token token"},
			"scopes_supported":                      []string{"openid", "profile", "email", "offline_access"},
			"tenant_region_scope":                   "EU", "cloud_instance_name": "microsoftonline.com", "cloud_graph_host_name": "graph.windows.net",
			"msgraph_host": "graph.microsoft.com", "rbac_url": "https://pas.windows.net",
		})
	}
}

func (d *Directory) serveKeys(w http.ResponseWriter, r *http.Request) {
	if r.PathValue("tenant") != "common" && !d.knownTenant(w, r) {
		return
	}
	var keys []any
	for _, k := range d.keyring() {
		keys = append(keys, k.jwk(d.Issuer(2)))
	}
	w.Header().Set("Cache-Control", "max-age=86400, private")
	writeJSON(w, http.StatusOK, map[string]any{"keys": keys})
}

// discoverInstance answers what MSAL asks about an authority that it does not know.
func (d *Directory) discoverInstance(w http.ResponseWriter, r *http.Request) {
	host := strings.TrimPrefix(strings.TrimPrefix(d.BaseURL(), "https://"), "http://")
	writeJSON(w, http.StatusOK, map[string]any{
		"tenant_discovery_endpoint": d.BaseURL() + "/" + d.cfg.TenantID + "/v2.0/.well-known/openid-configuration",
		"api-version":               "1.1",
		"metadata":                  []any{map[string]any{"preferred_network": host, "preferred_cache": host, "aliases": []string{host}}},
	})
}

func (d *Directory) knownTenant(w http.ResponseWriter, r *http.Request) bool {
	if strings.EqualFold(r.PathValue("tenant"), d.cfg.TenantID) {
		return true
	}
	tokenError(w, http.StatusBadRequest, "invalid_tenant", 90002,
		fmt.Sprintf("Tenant '%s' not found. Check to make sure you have the correct tenant ID.", r.PathValue("tenant")))
	return false
}

// serveToken grants client credentials, and tokens of a person who signed in by device code; version is that of the endpoint, which only decides whether a scope or a resource is asked for.
func (d *Directory) serveToken(version int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !d.knownTenant(w, r) {
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		if err := r.ParseForm(); err != nil {
			tokenError(w, http.StatusBadRequest, "invalid_request", 900144, "The request body could not be read as a form.")
			return
		}
		grant := r.PostForm.Get("grant_type")
		if version == 2 && (grant == "urn:ietf:params:oauth:grant-type:device_code" || grant == "device_code") {
			d.redeem(w, r)
			return
		}
		if grant != "client_credentials" {
			tokenError(w, http.StatusBadRequest, "unsupported_grant_type", 70003, fmt.Sprintf("The app requested an unsupported grant type '%s'.", grant))
			return
		}
		id, secret := r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
		if user, password, ok := r.BasicAuth(); ok {
			id, secret = user, password
		}
		d.mu.Lock()
		app := find(d.apps, func(a *App) bool { return strings.EqualFold(a.ClientID, id) })
		d.mu.Unlock()
		switch {
		case app == nil:
			tokenError(w, http.StatusBadRequest, "unauthorized_client", 700016, fmt.Sprintf("Application with identifier '%s' was not found in the directory.", id))
			return
		case app.Secret == "" || app.Secret != secret:
			tokenError(w, http.StatusUnauthorized, "invalid_client", 7000215, "Invalid client secret provided.")
			return
		}
		resource := r.PostForm.Get("resource")
		if version == 2 {
			// MSAL adds scopes of OpenID Connect, which mean nothing without a person.
			scopes := slices.DeleteFunc(strings.Fields(r.PostForm.Get("scope")), func(s string) bool {
				return slices.Contains([]string{"openid", "offline_access", "profile", "email"}, s)
			})
			scope, ok := strings.CutSuffix(strings.Join(scopes, " "), "/.default")
			if !ok || len(scopes) > 1 {
				tokenError(w, http.StatusBadRequest, "invalid_scope", 1002012,
					fmt.Sprintf("The provided value for scope %s is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier.", r.PostForm.Get("scope")))
				return
			}
			resource = scope
		}
		token, err := d.tokenFor(app.ClientID, app.ObjectID, app.GraphRoles, resource, time.Hour)
		if err != nil {
			tokenError(w, http.StatusBadRequest, "invalid_resource", 500011, strings.TrimPrefix(err.Error(), "AADSTS500011: "))
			return
		}
		w.Header().Set("Cache-Control", "no-store, no-cache")
		if version == 1 {
			expires := time.Now().Add(time.Hour)
			writeJSON(w, http.StatusOK, map[string]any{
				"token_type": "Bearer", "expires_in": "3600", "ext_expires_in": "3600", "expires_on": fmt.Sprint(expires.Unix()),
				"not_before": fmt.Sprint(time.Now().Unix()), "resource": resource, "access_token": token,
			})
			return
		}
		writeJSON(w, http.StatusOK, map[string]any{
			"token_type": "Bearer", "expires_in": 3600, "ext_expires_in": 3600, "access_token": token,
		})
	}
}

func tokenError(w http.ResponseWriter, status int, kind string, code int, text string) {
	trace, correlation, now := uuid.NewString(), uuid.NewString(), time.Now().UTC()
	writeJSON(w, status, map[string]any{
		"error": kind,
		"error_description": fmt.Sprintf("AADSTS%d: %s Trace ID: %s Correlation ID: %s Timestamp: %s",
			code, text, trace, correlation, now.Format("2006-01-02 15:04:05Z")),
		"error_codes": []int{code}, "timestamp": now.Format("2006-01-02 15:04:05Z"), "trace_id": trace, "correlation_id": correlation,
		"error_uri": fmt.Sprintf("https://login.microsoftonline.com/error?code=%d", code),
	})
}
