package servicenow

import (
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// TokenLifetime is how long a token of the client credentials grant is good for. There is no refresh token.
const TokenLifetime = 1800 * time.Second

// OAuthClient is an entry of the application registry; its tokens act as User.
type OAuthClient struct{ ID, Secret, User string }

// APIKey is a key for the header x-sn-apikey; it acts as User.
type APIKey struct{ Key, User string }

// OIDCProvider is an external provider whose tokens are trusted, for example an Entra tenant.
type OIDCProvider struct {
	// Issuer is the token's iss, compared as it stands.
	Issuer string
	// JWKSURL is where the provider publishes its keys; empty asks the issuer's discovery document.
	JWKSURL string
	// ClientID is the token's aud.
	ClientID string
	// UserClaim is the claim that names the user; default sub. UserField is the sys_user column it is compared with;
	// default user_name, which people know as User ID.
	UserClaim, UserField string
	// Client fetches the keys; default http.DefaultClient.
	Client *http.Client
}

// authority knows who may log in. Its locks are taken after the instance's or without it, never before.
type authority struct {
	clients      []OAuthClient
	grantOff     bool
	keys         []APIKey
	providers    []OIDCProvider
	mu           sync.Mutex
	passwords    map[string]string // by User ID in lower case
	denied       map[string][]Denial
	tokens       map[string]issued
	tokensIssued int
	sessions     map[string]session // by the value of their cookie

	verifiersMu sync.Mutex // held while a provider is asked for its keys' address, and so not mu
	verifiers   map[int]*oidc.IDTokenVerifier
}

type issued struct {
	user    string
	expires time.Time
}

func newAuthority(cfg Config) *authority {
	return &authority{
		clients: cfg.OAuthClients, grantOff: cfg.NoClientCredentials, keys: cfg.APIKeys, providers: cfg.OIDCProviders,
		passwords: map[string]string{}, denied: map[string][]Denial{}, tokens: map[string]issued{}, sessions: map[string]session{}, verifiers: map[int]*oidc.IDTokenVerifier{},
	}
}

// AddUser adds a record to sys_user. It is an error when the User ID is taken.
func (i *Instance) AddUser(u User) error {
	if u.UserName == "" {
		return fmt.Errorf("a user needs a User ID")
	}
	i.mu.Lock()
	if i.userNamed(u.UserName) != nil {
		i.mu.Unlock()
		return fmt.Errorf("the user %q is there already", u.UserName)
	}
	first, last, _ := strings.Cut(u.Name, " ")
	rec := i.insert(i.tables["sys_user"], map[string]string{
		"user_name": u.UserName, "name": cmp.Or(u.Name, u.UserName), "first_name": first, "last_name": last, "email": u.Email,
		"active": fmt.Sprint(!u.Inactive), "web_service_access_only": fmt.Sprint(u.WebServiceAccessOnly),
	}, systemUser)
	if u.SysID != "" {
		delete(i.records, rec.id())
		rec.fields["sys_id"] = u.SysID
		i.records[u.SysID] = rec
	}
	i.mu.Unlock()

	i.auth.mu.Lock()
	defer i.auth.mu.Unlock()
	name := strings.ToLower(u.UserName)
	i.auth.denied[name] = u.Denied
	if u.Password != "" {
		i.auth.passwords[name] = u.Password
	}
	return nil
}

func (a *authority) deniedTo(user *record) []Denial {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.denied[strings.ToLower(user.fields["user_name"])]
}

// login finds the user that a call acts as. A session cookie alone is not enough for an API: the session's token belongs to it.
func (a *authority) login(i *Instance, r *http.Request) (*record, bool) {
	field, name := "user_name", ""
	certified := r.TLS != nil && len(r.TLS.VerifiedChains) > 0
	if i.cfg.ClientCAs != nil && !certified {
		return nil, false
	}
	scheme, credentials, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch {
	case r.Header.Get("x-sn-apikey") != "":
		for _, k := range a.keys {
			if same(k.Key, r.Header.Get("x-sn-apikey")) {
				name = k.User
			}
		}
	case strings.EqualFold(scheme, "basic"):
		user, password, _ := r.BasicAuth()
		name = a.byPassword(user, password)
	case strings.EqualFold(scheme, "bearer"):
		a.mu.Lock()
		token, known := a.tokens[credentials]
		a.mu.Unlock()
		if known {
			if !certified && time.Now().Before(token.expires) {
				name = token.user
			}
			break
		}
		field, name = a.external(r.Context(), credentials)
	case scheme == "":
		if _, s, known := a.sessionOf(r); known && same(s.token, r.Header.Get("X-UserToken")) {
			name = s.user
		}
	}
	if name == "" {
		return nil, false
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, rec := range i.records {
		if rec.table.name == "sys_user" && strings.EqualFold(rec.fields[field], name) {
			return rec, rec.active() && rec.fields["locked_out"] != "true"
		}
	}
	return nil, false
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// external checks a token of a provider that is trusted and says which user it names.
func (a *authority) external(ctx context.Context, token string) (field, name string) {
	for n, p := range a.providers {
		verifier, err := a.verifier(n)
		if err != nil {
			continue
		}
		if p.Client != nil {
			ctx = oidc.ClientContext(ctx, p.Client)
		}
		verified, err := verifier.Verify(ctx, token)
		if err != nil {
			continue
		}
		claims := map[string]any{}
		if err := verified.Claims(&claims); err != nil {
			continue
		}
		name, _ = claims[cmp.Or(p.UserClaim, "sub")].(string)
		return cmp.Or(p.UserField, "user_name"), name
	}
	return "", ""
}

func (a *authority) verifier(n int) (*oidc.IDTokenVerifier, error) {
	a.verifiersMu.Lock()
	defer a.verifiersMu.Unlock()
	if v := a.verifiers[n]; v != nil {
		return v, nil
	}
	p := a.providers[n]
	// The context lives as long as the verifier: keys are fetched again when a token names one that is not known.
	ctx := context.Background()
	if p.Client != nil {
		ctx = oidc.ClientContext(ctx, p.Client)
	}
	config := &oidc.Config{ClientID: p.ClientID}
	var v *oidc.IDTokenVerifier
	if p.JWKSURL != "" {
		v = oidc.NewVerifier(p.Issuer, oidc.NewRemoteKeySet(ctx, p.JWKSURL), config)
	} else {
		provider, err := oidc.NewProvider(ctx, p.Issuer)
		if err != nil {
			return nil, fmt.Errorf("reading the discovery document of %s: %w", p.Issuer, err)
		}
		v = provider.Verifier(config)
	}
	a.verifiers[n] = v
	return v, nil
}

// serveToken is /oauth_token.do, for the client credentials grant.
func (i *Instance) serveToken(w http.ResponseWriter, r *http.Request) {
	fail := func(status int, code, description string) {
		writeToken(w, status, map[string]any{"error": code, "error_description": description})
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		fail(http.StatusMethodNotAllowed, "invalid_request", "only POST is supported")
		return
	}
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/x-www-form-urlencoded" {
		fail(http.StatusBadRequest, "invalid_request", "missing parameters")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	if err := r.ParseForm(); err != nil {
		fail(http.StatusBadRequest, "invalid_request", "missing parameters")
		return
	}
	id, secret := r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	if user, password, ok := r.BasicAuth(); ok && id == "" {
		id, secret = user, password
	}
	a := i.auth
	var client *OAuthClient
	for n := range a.clients {
		if a.clients[n].ID == id && same(a.clients[n].Secret, secret) {
			client = &a.clients[n]
		}
	}
	switch grant := r.PostForm.Get("grant_type"); {
	case grant != "client_credentials":
		fail(http.StatusUnauthorized, "unsupported_grant_type", "the grant type is not supported")
		return
	case client == nil, a.grantOff:
		// The instance does not tell a wrong secret from a grant that is switched off.
		fail(http.StatusUnauthorized, "server_error", "access_denied")
		return
	}
	token := newID() + newID()
	a.mu.Lock()
	a.tokens[token] = issued{client.User, time.Now().Add(TokenLifetime)}
	a.tokensIssued++
	a.mu.Unlock()
	i.setSession(w, r)
	writeToken(w, http.StatusOK, map[string]any{
		"access_token": token, "token_type": "Bearer", "scope": "useraccount", "expires_in": int(TokenLifetime / time.Second),
	})
}

func writeToken(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// RevokeTokens makes every token that the instance issued worthless, as an administrator can.
func (i *Instance) RevokeTokens() {
	i.auth.mu.Lock()
	defer i.auth.mu.Unlock()
	for token := range i.auth.tokens {
		i.auth.tokens[token] = issued{}
	}
}

// TokensIssued is how many tokens were asked for and given.
func (i *Instance) TokensIssued() int {
	i.auth.mu.Lock()
	defer i.auth.mu.Unlock()
	return i.auth.tokensIssued
}

// sessionCookies are those that tie a call to a session and so to its queue.
var sessionCookies = []string{sessionCookie, "glide_session_store", "glide_user_route"}

func sendsSession(r *http.Request) bool {
	for _, name := range sessionCookies {
		if _, err := r.Cookie(name); err == nil {
			return true
		}
	}
	return false
}

// setSession sets the cookies that every answer to a caller without a session carries.
func (i *Instance) setSession(w http.ResponseWriter, r *http.Request) {
	if !sendsSession(r) {
		i.setCookies(w)
	}
}

func (i *Instance) setCookies(w http.ResponseWriter) (session string) {
	path := i.cfg.BasePath + "/"
	id := strings.ToUpper(newID())
	for _, c := range []*http.Cookie{
		{Name: sessionCookie, Value: id, Path: path, HttpOnly: true},
		{Name: "glide_user_route", Value: "glide." + newID(), Path: path, HttpOnly: true},
		{Name: "glide_session_store", Value: id, Path: path, HttpOnly: true},
		{Name: "BIGipServerpool_" + i.cfg.Name, Value: "1", Path: path, HttpOnly: true},
	} {
		http.SetCookie(w, c)
	}
	return id
}
