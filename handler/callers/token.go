package callers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
)

const (
	opCheck       = "check the caller"
	authorization = "Authorization"
)

// maxToken is the longest token that is looked at; Entra's for applications have some 2 kB.
const maxToken = 16 << 10

type version int

const (
	version1 version = 1
	version2 version = 2
)

// tokens checks bearer tokens of one tenant.
type tokens struct {
	setting   string
	authority string
	tenant    string
	issuers   map[string]version
	audiences []string
	callers   map[string]bool
	relay     string // "" is none
	role      string // "" is none
	keys      *keys
}

// claims are those of Entra's tokens that decide, beside the registered ones.
type claims struct {
	jwt.Claims
	Tenant string   `json:"tid"`
	AppID  string   `json:"appid"` // version 1
	Azp    string   `json:"azp"`   // version 2
	Object string   `json:"oid"`   // of the application's service principal, in an application's own token
	Scope  string   `json:"scp"`   // a person's token
	Type   string   `json:"idtyp"` // "app" for an application's own, where it is there at all
	Roles  []string `json:"roles"` // app roles
}

func unauthorized(detail string) *fault.Error {
	return &fault.Error{Op: opCheck, Reason: fault.Unauthorized, Field: authorization, Detail: detail}
}

func forbidden(detail, advice string) *fault.Error {
	return &fault.Error{Op: opCheck, Reason: fault.Forbidden, Field: authorization, Detail: detail, Advice: advice}
}

func (t *tokens) check(ctx context.Context, h http.Header, now time.Time) error {
	raw, err := bearer(h)
	if err != nil {
		return err
	}
	// RS256 and nothing else: "none" and HS256 with the public key as the secret are refused before any key is looked for.
	token, parseErr := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.RS256})
	if parseErr != nil || len(token.Headers) != 1 { // the cause may repeat parts of the token
		return unauthorized("the token is not a JWT signed with RS256")
	}
	kid := token.Headers[0].KeyID
	if kid == "" {
		return unauthorized("the token does not name its key")
	}
	key, err := t.keys.get(ctx, kid)
	if err != nil {
		return err
	}
	var c claims
	if err := token.Claims(key, &c); err != nil {
		if errors.Is(err, jose.ErrCryptoFailure) {
			return unauthorized("the token's signature is wrong")
		}
		return unauthorized("the token's claims cannot be read")
	}
	return t.judge(&c, now)
}

// bearer returns the one token of a request. The Functions host joins repeated headers with ", ", and a JWT has no comma.
func bearer(h http.Header) (string, error) {
	values := h.Values(authorization)
	if len(values) == 0 || strings.TrimSpace(values[0]) == "" && len(values) == 1 {
		return "", unauthorized("the call has no token")
	}
	if len(values) > 1 || strings.Contains(values[0], ",") {
		return "", unauthorized("there must be one Authorization header")
	}
	scheme, token, _ := strings.Cut(strings.TrimSpace(values[0]), " ")
	token = strings.TrimSpace(token)
	switch {
	case !strings.EqualFold(scheme, "Bearer") || token == "":
		return "", unauthorized("the Authorization header must hold a bearer token")
	case len(token) > maxToken:
		return "", unauthorized("the token is too long")
	}
	return token, nil
}

// judge decides on the claims of a token whose signature is good.
func (t *tokens) judge(c *claims, now time.Time) error {
	v, ok := t.issuers[c.Issuer]
	if !ok || !strings.EqualFold(c.Tenant, t.tenant) {
		return unauthorized("the token is of another tenant or cloud")
	}
	if c.Expiry == nil {
		return unauthorized("the token does not say until when it is valid")
	}
	switch err := c.ValidateWithLeeway(jwt.Expected{Time: now}, Skew); {
	case errors.Is(err, jwt.ErrExpired):
		return unauthorized(fmt.Sprintf("the token expired %s ago", now.Sub(c.Expiry.Time()).Round(time.Second)))
	case err != nil:
		return unauthorized("the token is not valid yet")
	}
	if !slices.ContainsFunc(c.Audience, t.forUs) {
		return unauthorized("the token is for another application than " + t.setting + "_AUDIENCE names")
	}
	app := c.AppID
	if v == version2 {
		app = c.Azp
	}
	id, ok := correlation.GUID(app)
	switch {
	case !ok:
		return unauthorized("the token does not name the application that it was issued to")
	case c.Scope != "" || c.Type != "" && c.Type != "app":
		return forbidden("the token is a person's; an application's own is asked for", "")
	case !t.callers[id] && !t.isRelay(c.Object):
		return forbidden("the application "+id+" may not call", "If it should, add its id to "+t.setting+"_CALLERS.")
	case t.role != "" && !slices.Contains(c.Roles, t.role):
		return forbidden("the application "+id+" lacks the app role that "+t.setting+"_ROLE names",
			"Assign the app role "+t.role+" to it. A token that it has keeps its roles until it expires: with a managed identity, up to a day.")
	}
	return nil
}

func (t *tokens) isRelay(object string) bool {
	id, ok := correlation.GUID(object)
	return ok && id == t.relay
}

func (t *tokens) forUs(audience string) bool {
	audience = strings.TrimSuffix(audience, "/")
	return slices.ContainsFunc(t.audiences, func(ours string) bool {
		ours = strings.TrimSuffix(ours, "/")
		if _, named := correlation.GUID(strings.TrimPrefix(ours, "api://")); named {
			return strings.EqualFold(audience, ours) // GUIDs have no case
		}
		return audience == ours
	})
}
