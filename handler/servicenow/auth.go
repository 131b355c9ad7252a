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
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

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
	ends    time.Time
	renewAt time.Time
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
	now, token := time.Now(), t.token
	usable := token != "" && token != refused && now.Before(t.ends)
	if usable && now.Before(t.renewAt) {
		t.mu.Unlock()
		return token, nil
	}
	f := t.running
	if f == nil {
		f = &fetching{done: make(chan struct{})}
		t.running = f
		t.renewAt = now.Add(time.Minute) // if this fetch fails, the next one while the token we have is good
		// The fetch serves everybody who waits, so it does not end with the first one's patience.
		go t.run(context.WithoutCancel(ctx), f)
	}
	t.mu.Unlock()
	if usable {
		return token, nil
	}
	select {
	case <-f.done:
		return f.token, f.err
	case <-ctx.Done():
		return "", &fault.Error{Op: "get token", Reason: fault.Unreachable, Detail: "no token in the time that was left", Err: ctx.Err()}
	}
}

func (t *tokens) run(ctx context.Context, f *fetching) {
	defer close(f.done)
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	token, ends, err := t.fetch(ctx)
	if err == nil && (token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f })) {
		err = &fault.Error{Op: "get token", Reason: fault.Unauthorized, Detail: "what came as a token is none"}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running = nil
	if f.err = err; err != nil {
		return
	}
	// Renewed when a fifth of its life is left, at most five minutes before its end.
	f.token, t.token, t.ends = token, token, ends
	t.renewAt = ends.Add(-min(5*time.Minute, max(0, time.Until(ends)/5)))
	t.hide.token(token)
}

var oauthError = regexp.MustCompile(`^[a-z_]{1,40}$`)

// oauthToken asks the instance for a token: ServiceNow documents the client credentials grant at /oauth_token.do, for 1800 s and without
// a refresh token.
func (c *Client) oauthToken(ctx context.Context, id, secret string) (string, time.Time, error) {
	const op = "get token"
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {id}, "client_secret": {secret}}
	started := time.Now()
	a, err := c.send(ctx, call{op: op, method: http.MethodPost, success: http.StatusOK}, c.base.String()+"/oauth_token.do", "application/x-www-form-urlencoded", []byte(form.Encode()), nil)
	if err != nil {
		return "", time.Time{}, err
	}
	var in struct {
		Token     string          `json:"access_token"`
		ExpiresIn json.RawMessage `json:"expires_in"`
		Error     string          `json:"error"`
		Text      string          `json:"error_description"`
	}
	parsed := json.Unmarshal(a.body, &in) == nil
	if a.status == http.StatusOK && parsed && in.Token != "" {
		life, err := strconv.ParseInt(value(in.ExpiresIn), 10, 64)
		if err != nil || life <= 0 {
			life = 300
		}
		return in.Token, started.Add(time.Duration(min(life, 24*60*60)) * time.Second), nil
	}
	// OAuth's own no is a JSON of its kind; a page with 403 or 400 is somebody else's.
	if a.status == http.StatusUnauthorized || parsed && (a.status == http.StatusOK || a.status == http.StatusBadRequest || a.status == http.StatusForbidden) {
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

var entraCode = regexp.MustCompile(`AADSTS\d+`)

// noEntraToken says why Entra gave no token. The credential's error has the whole answer in it, of which only Entra's code is kept; without an answer its first
// line says what went wrong.
func (c *Client) noEntraToken(ctx context.Context, err error) error {
	e := &fault.Error{
		Op: "get token", Reason: fault.Unauthorized, Detail: "Microsoft Entra gave no token",
		Advice: "Check that the function has a managed identity, and that SERVICENOW_AUDIENCE names an application of the tenant.",
	}
	failed, answered := errors.AsType[*azidentity.AuthenticationFailedError](err)
	_, network := errors.AsType[net.Error](err)
	switch {
	case ctx.Err() != nil:
		e.Reason, e.Detail, e.Advice = fault.Unreachable, e.Detail+" in time", ""
	case answered && failed.RawResponse != nil:
		e.Status = failed.RawResponse.StatusCode
		e.After = after(e.Status, failed.RawResponse.Header)
		if e.Status == http.StatusTooManyRequests {
			e.Reason, e.Advice = fault.Throttled, ""
		} else if e.Status >= 500 {
			e.Reason, e.Advice = fault.Unreachable, ""
		}
		e.Detail = strings.TrimSuffix(e.Detail+": "+entraCode.FindString(err.Error()), ": ")
	default:
		if network {
			e.Reason, e.Advice = fault.Unreachable, ""
		}
		text, _, _ := strings.Cut(err.Error(), "\n")
		e.Detail += ": " + c.hide.clean(text)
	}
	return e
}
