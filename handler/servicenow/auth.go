package servicenow

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"ticketbridge/handler/fault"
)

// An authenticator returns the header that proves who is calling.
type authenticator interface {
	// header returns the name and the value. After a 401 it is called once more with the value that was not accepted; when it returns the same
	// again, there is no other.
	header(ctx context.Context, refused string) (name, value string, err error)
}

func (c *Client) authenticator(cfg Config) (authenticator, error) {
	need := func(values ...[2]string) error {
		for _, v := range values {
			name, value := v[0], v[1]
			switch {
			case value == "":
				return setting(name, fmt.Sprintf("is not set; SERVICENOW_AUTH is %s and needs it", cfg.Auth))
			case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }):
				return setting(name, "holds a line break or another control character; it must hold the bare value")
			case strings.TrimSpace(value) != value:
				return setting(name, "begins or ends with a space; it must hold the bare value")
			}
		}
		return nil
	}
	switch cfg.Auth {
	case AuthClientCredentials, "":
		cfg.Auth = AuthClientCredentials
		if err := need([2]string{"SERVICENOW_CLIENT_ID", cfg.ClientID}, [2]string{"SERVICENOW_CLIENT_SECRET", cfg.ClientSecret}); err != nil {
			return nil, err
		}
		return &tokens{timeout: c.timeout, hide: &c.hide, fetch: func(ctx context.Context) (string, time.Time, error) {
			return c.oauthToken(ctx, cfg.ClientID, cfg.ClientSecret)
		}}, nil
	case AuthBasic:
		if err := need([2]string{"SERVICENOW_USERNAME", cfg.Username}, [2]string{"SERVICENOW_PASSWORD", cfg.Password}); err != nil {
			return nil, err
		}
		if strings.Contains(cfg.Username, ":") {
			return nil, setting("SERVICENOW_USERNAME", "holds a colon, which basic authentication cannot carry")
		}
		encoded := base64.StdEncoding.EncodeToString([]byte(cfg.Username + ":" + cfg.Password))
		c.hide.add(encoded)
		return fixed{"Authorization", "Basic " + encoded}, nil
	case AuthAPIKey:
		if err := need([2]string{"SERVICENOW_API_KEY", cfg.APIKey}); err != nil {
			return nil, err
		}
		return fixed{"X-Sn-Apikey", cfg.APIKey}, nil
	case AuthEntra:
		if err := need([2]string{"SERVICENOW_AUDIENCE", cfg.Audience}); err != nil {
			return nil, err
		}
		if cfg.Credential == nil {
			return nil, setting("SERVICENOW_AUTH", "holds \"entra\", and there is no credential of Microsoft Entra to use")
		}
		scope := strings.TrimSuffix(cfg.Audience, "/.default") + "/.default"
		return &tokens{timeout: c.timeout, hide: &c.hide, fetch: func(ctx context.Context) (string, time.Time, error) {
			t, err := cfg.Credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{scope}})
			if err != nil {
				return "", time.Time{}, c.noEntraToken(ctx, err)
			}
			return t.Token, t.ExpiresOn, nil
		}}, nil
	default:
		return nil, setting("SERVICENOW_AUTH", fmt.Sprintf("holds %q; it must hold client-credentials, basic, api-key or entra", string(cfg.Auth)))
	}
}

// fixed is a header that never changes.
type fixed struct{ name, value string }

func (f fixed) header(context.Context, string) (string, string, error) { return f.name, f.value, nil }

// tokens keeps one token and fetches the next before it ends. However many calls need one, it is fetched once.
type tokens struct {
	fetch   func(context.Context) (token string, ends time.Time, err error)
	timeout time.Duration
	hide    *redactor

	mu      sync.Mutex
	token   string
	renewAt time.Time
	ends    time.Time
	running *fetching
}

type fetching struct {
	done  chan struct{}
	token string
	err   error
}

func (t *tokens) header(ctx context.Context, refused string) (string, string, error) {
	token, err := t.get(ctx, strings.TrimPrefix(refused, "Bearer "))
	return "Authorization", "Bearer " + token, err
}

func (t *tokens) get(ctx context.Context, refused string) (string, error) {
	t.mu.Lock()
	if t.token != "" && t.token != refused && time.Now().Before(t.renewAt) {
		defer t.mu.Unlock()
		return t.token, nil
	}
	f := t.running
	if f == nil {
		f = &fetching{done: make(chan struct{})}
		t.running = f
		// The fetch serves everybody who waits, so it does not end with the first one's patience.
		go t.run(context.WithoutCancel(ctx), f, refused)
	}
	t.mu.Unlock()
	select {
	case <-f.done:
		return f.token, f.err
	case <-ctx.Done():
		return "", &fault.Error{Op: "get token", Reason: fault.Unreachable, Detail: "no token in the time that was left", Err: context.Cause(ctx)}
	}
}

func (t *tokens) run(ctx context.Context, f *fetching, refused string) {
	defer close(f.done)
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	token, ends, err := t.fetch(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running = nil
	now := time.Now()
	switch {
	case err == nil && (token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f })):
		f.err = &fault.Error{Op: "get token", Reason: fault.Unauthorized, Detail: "what came as a token is none"}
	case err == nil:
		// Renewed when a fifth of its life is left, at most five minutes before its end.
		t.token, t.ends = token, ends
		t.renewAt = ends.Add(-min(5*time.Minute, max(0, ends.Sub(now)/5)))
		t.hide.token(token)
		f.token = token
	case t.token != "" && t.token != refused && now.Before(t.ends):
		f.token = t.token // the one we have is still good: whoever cannot give us the next one may come to by then
	default:
		f.err = err
	}
}

var oauthError = regexp.MustCompile(`^[a-z_]{1,40}$`)

// oauthToken asks the instance for a token: ServiceNow documents the client credentials grant at /oauth_token.do, for 1800 s and without
// a refresh token.
func (c *Client) oauthToken(ctx context.Context, id, secret string) (string, time.Time, error) {
	const op = "get token"
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {id}, "client_secret": {secret}}
	started := time.Now()
	a, err := c.send(ctx, call{op: op, method: http.MethodPost}, c.base.String()+"/oauth_token.do", "application/x-www-form-urlencoded", []byte(form.Encode()), nil)
	if err != nil {
		return "", time.Time{}, err
	}
	var in struct {
		Token     string      `json:"access_token"`
		ExpiresIn json.Number `json:"expires_in"`
		Error     string      `json:"error"`
		Text      string      `json:"error_description"`
	}
	parsed := json.Unmarshal(a.body, &in) == nil
	if a.status == http.StatusOK && parsed && in.Token != "" {
		life, err := in.ExpiresIn.Int64()
		if err != nil || life <= 0 || life > int64((24*time.Hour)/time.Second) {
			life = 300
		}
		return in.Token, started.Add(time.Duration(life) * time.Second), nil
	}
	switch {
	case a.status == http.StatusBadRequest, a.status == http.StatusUnauthorized, a.status == http.StatusForbidden, a.status == http.StatusOK && parsed:
		detail := "the instance gave no token"
		for _, word := range []string{in.Error, in.Text} {
			if oauthError.MatchString(word) {
				detail += ", " + word
			}
		}
		return "", time.Time{}, &fault.Error{
			Op: op, Reason: fault.Unauthorized, Detail: c.hide.clean(detail), Status: a.status,
			Advice: "Check SERVICENOW_CLIENT_ID and SERVICENOW_CLIENT_SECRET, that the entry in the application registry is active and has a user, " +
				"and that the property glide.oauth.inbound.client.credential.grant_type.enabled is true.",
		}
	}
	return "", time.Time{}, a.failure()
}

// noEntraToken says why Entra gave no token. The text of the credential's error goes on for many lines, of which the first says it.
func (c *Client) noEntraToken(ctx context.Context, err error) error {
	e := &fault.Error{
		Op: "get token", Reason: fault.Unauthorized,
		Advice: "Check that the function has a managed identity, and that SERVICENOW_AUDIENCE names an application of the tenant.",
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	e.Detail = "Microsoft Entra gave no token: " + c.hide.clean(text)
	if _, ok := errors.AsType[net.Error](err); ok || ctx.Err() != nil {
		e.Reason, e.Advice = fault.Unreachable, ""
	}
	return e
}
