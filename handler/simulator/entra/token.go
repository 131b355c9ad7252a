package entra

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// An App is an application registration with its service principal: one that asks for tokens, or one whose tokens are asked for.
type App struct {
	ClientID     string // made up when empty
	ObjectID     string // of the service principal; made up when empty
	Name         string
	Secret       string   // "" lets it get no tokens
	URIs         []string // identifier URIs, as api://<client id>
	TokenVersion int      // of the tokens for it: 1 (default) or 2
	GraphRoles   []string // application permissions, as EntitlementManagement.ReadWrite.All

	registration string         // the object id of the application itself; ObjectID is "" while it has no service principal
	body         map[string]any // what else Graph keeps of it
	unknownTo    int            // so many calls, for it is new
}

// An Identity is a managed identity.
type Identity struct {
	ClientID     string // made up when empty
	ObjectID     string // made up when empty
	Name         string
	UserAssigned bool // asked for by its client id; the system-assigned one is asked for without
	GraphRoles   []string
}

// AddApp puts an application in the directory and returns it with the ids it got.
func (d *Directory) AddApp(a App) App {
	d.mu.Lock()
	defer d.mu.Unlock()
	a.ClientID, a.ObjectID = orNew(a.ClientID), orNew(a.ObjectID)
	a.registration = a.ClientID
	d.apps = append(d.apps, &a)
	return a
}

// AddIdentity puts a managed identity in the directory and returns it with the ids it got.
func (d *Directory) AddIdentity(i Identity) Identity {
	d.mu.Lock()
	defer d.mu.Unlock()
	i.ClientID, i.ObjectID = orNew(i.ClientID), orNew(i.ObjectID)
	d.identities = append(d.identities, &i)
	return i
}

// A Token says what a token shall hold. The zero value with an Audience is a good token of version 1; tests bend the rest.
type Token struct {
	Audience string
	Version  int      // 1 (default) or 2: names of claims, and the issuer
	AppID    string   // "appid" or "azp"
	ObjectID string   // "oid" and "sub"
	Roles    []string // application permissions
	Lifetime time.Duration
	Claims   map[string]any // replace or, when nil, remove single claims
	Header   map[string]any // likewise; "alg" also chooses how it is signed: RS256, RS384, PS256, ES256 (with a key that nobody knows), HS256, none
	// Key is the id of the published key that signs; "" takes the newest. Stranger signs with a key that was never published, under
	// the published key's id.
	Key      string
	Stranger bool
	// Secret makes the signature an HMAC with it, whatever "alg" says. HS256 without one takes the public key as PKCS #1.
	Secret []byte
}

type signingKey struct {
	id      string
	private *rsa.PrivateKey
}

// keyBits is what Entra's keys have.
const keyBits = 2048

func newKey() *signingKey {
	private, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		panic(err) // there is no randomness
	}
	return keyOf(private)
}

func keyOf(private *rsa.PrivateKey) *signingKey {
	sum := sha256.Sum256(private.N.Bytes())
	return &signingKey{id: base64.RawURLEncoding.EncodeToString(sum[:20]), private: private}
}

// keyring returns the published keys, newest first, and makes the first one when it is needed.
func (d *Directory) keyring() []*signingKey {
	d.keyMu.Lock()
	defer d.keyMu.Unlock()
	switch {
	case len(d.keys) > 0:
	case d.cfg.Key != nil:
		d.keys = []*signingKey{keyOf(d.cfg.Key)}
	default:
		d.keys = []*signingKey{newKey()}
	}
	return slices.Clone(d.keys)
}

// RotateKeys makes a new key, which signs from now on, and returns its id. The old ones stay published beside it, as Entra does
// for weeks, or are gone at once.
func (d *Directory) RotateKeys(keepOld bool) string {
	key := newKey()
	d.keyMu.Lock()
	defer d.keyMu.Unlock()
	if !keepOld {
		d.keys = nil
	}
	d.keys = append([]*signingKey{key}, d.keys...)
	return key.id
}

// IssueToken signs a token. It panics when asked for a key or an algorithm that it does not have.
func (d *Directory) IssueToken(t Token) string {
	now := time.Now()
	if t.Lifetime == 0 {
		t.Lifetime = time.Hour
	}
	claims := map[string]any{
		"aud": t.Audience, "iss": d.Issuer(t.Version), "tid": d.cfg.TenantID, "iat": now.Unix(), "nbf": now.Add(-5 * time.Second).Unix(),
		"exp": now.Add(t.Lifetime).Unix(), "uti": uuid.NewString(), "idtyp": "app", "ver": "1.0",
	}
	if t.Lifetime < 0 {
		claims["iat"], claims["nbf"] = now.Add(t.Lifetime-time.Hour).Unix(), now.Add(t.Lifetime-time.Hour).Unix()
	}
	app := "appid"
	if t.Version == 2 {
		app, claims["ver"] = "azp", "2.0"
		claims["azpacr"] = "2"
	} else {
		claims["idp"], claims["appidacr"] = claims["iss"], "2"
	}
	if t.AppID != "" {
		claims[app] = t.AppID
	}
	if t.ObjectID != "" {
		claims["oid"], claims["sub"] = t.ObjectID, t.ObjectID
	}
	if len(t.Roles) > 0 {
		claims["roles"] = t.Roles
	}
	keys := d.keyring()
	key := keys[0]
	if t.Key != "" {
		if key = find(keys, func(k *signingKey) bool { return k.id == t.Key }); key == nil {
			panic(fmt.Sprintf("entra: no key %q is published", t.Key))
		}
	}
	header := map[string]any{"typ": "JWT", "alg": "RS256", "kid": key.id}
	if t.Version != 2 {
		header["x5t"] = key.id
	}
	override(claims, t.Claims)
	override(header, t.Header)
	signer := key.private
	if t.Stranger {
		signer = newKey().private
	}
	return sign(header, claims, signer, t.Secret)
}

func override(in, with map[string]any) {
	maps.Copy(in, with)
	for name, value := range with {
		if value == nil {
			delete(in, name)
		}
	}
}

func sign(header, claims map[string]any, key *rsa.PrivateKey, secret []byte) string {
	h, err := json.Marshal(header)
	if err != nil {
		panic(err)
	}
	c, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	text := base64.RawURLEncoding.EncodeToString(h) + "." + base64.RawURLEncoding.EncodeToString(c)
	alg, _ := header["alg"].(string)
	if alg == "HS256" && secret == nil { // the known attack: a verifier that lets the token choose takes the public key for a shared one
		secret = x509.MarshalPKCS1PublicKey(&key.PublicKey)
	}
	signature, err := signature(alg, text, key, secret)
	if err != nil {
		panic(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func signature(alg, text string, key *rsa.PrivateKey, secret []byte) ([]byte, error) {
	if secret != nil {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(text))
		return mac.Sum(nil), nil
	}
	short, long := sha256.Sum256([]byte(text)), sha512.Sum384([]byte(text))
	switch alg {
	case "RS256":
		return rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, short[:])
	case "RS384":
		return rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA384, long[:])
	case "PS256":
		return rsa.SignPSS(rand.Reader, key, crypto.SHA256, short[:], nil)
	case "ES256":
		unknown, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		r, s, err := ecdsa.Sign(rand.Reader, unknown, short[:])
		if err != nil {
			return nil, err
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...), nil
	case "none", "":
		return nil, nil
	default:
		return nil, fmt.Errorf("entra: no signing with %q", alg)
	}
}

// verify checks a token of this directory: signature, issuer, tenant, lifetime. The audience is the caller's to check.
func (d *Directory) verify(token string) (map[string]any, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, errors.New("CompactToken parsing failed with error code: 80049217")
	}
	var header struct{ Alg, Kid string }
	var claims map[string]any
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || decodePart(parts[0], &header) != nil || decodePart(parts[1], &claims) != nil {
		return nil, errors.New("CompactToken parsing failed with error code: 80049217")
	}
	key := find(d.keyring(), func(k *signingKey) bool { return k.id == header.Kid })
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if key == nil || header.Alg != "RS256" || rsa.VerifyPKCS1v15(&key.private.PublicKey, crypto.SHA256, sum[:], signature) != nil {
		return nil, errors.New("Access token validation failure. Invalid signature.") //nolint:staticcheck // Graph's words
	}
	iss, _ := claims["iss"].(string)
	if iss != d.Issuer(1) && iss != d.Issuer(2) || claims["tid"] != d.cfg.TenantID {
		return nil, errors.New("Access token validation failure. Invalid issuer.") //nolint:staticcheck // Graph's words
	}
	now := float64(time.Now().Unix())
	exp, _ := claims["exp"].(float64)
	nbf, _ := claims["nbf"].(float64)
	if now >= exp || now < nbf {
		return nil, errors.New("Lifetime validation failed, the token is expired.") //nolint:staticcheck // Graph's words
	}
	return claims, nil
}

func encodePart(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

func decodePart(part string, into any) error {
	raw, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}

// jwk is one entry of the key document.
func (k *signingKey) jwk(issuer string) map[string]any {
	enc := base64.RawURLEncoding.EncodeToString
	return map[string]any{
		"kty": "RSA", "use": "sig", "kid": k.id, "x5t": k.id, "n": enc(k.private.N.Bytes()),
		"e": enc(big.NewInt(int64(k.private.E)).Bytes()), "issuer": issuer,
	}
}

// The applications of Microsoft's own services, by the resource that tokens are asked for.
const graphResource, graphAppID = "https://graph.microsoft.com", "00000003-0000-0000-c000-000000000000"

// resource finds the application behind a resource: one of Microsoft's, or one of the directory's own. The caller holds d.mu.
func (d *Directory) resource(name string) (App, bool) {
	name = strings.TrimSuffix(name, "/")
	switch name {
	case graphResource, graphAppID:
		return App{ClientID: graphAppID, Name: "Microsoft Graph", TokenVersion: 1}, true
	case "https://storage.azure.com", "https://management.azure.com", "https://management.core.windows.net", "https://vault.azure.net",
		"https://monitor.azure.com", "https://servicebus.azure.net":
		return App{Name: name, TokenVersion: 1}, true
	}
	if strings.HasPrefix(name, "https://") && strings.HasSuffix(name, ".core.windows.net") {
		return App{Name: name, TokenVersion: 1}, true // one storage account
	}
	for _, a := range d.apps {
		if a.ObjectID == "" { // nobody gets tokens for an application without a service principal
			continue
		}
		if strings.EqualFold(a.ClientID, name) || "api://"+a.ClientID == name || slices.Contains(a.URIs, name) {
			return *a, true
		}
	}
	return App{}, false
}

// errNoResource is what Entra answers when nobody registered the resource.
func errNoResource(resource string) error {
	return fmt.Errorf("AADSTS500011: The resource principal named %s was not found in the tenant. This can happen if the application "+
		"has not been installed by the administrator of the tenant", resource)
}

// tokenFor issues a token of a client for a resource, in the version that the resource wants: version 1 tokens carry the audience as
// it was asked for, those of version 2 the application's id.
func (d *Directory) tokenFor(clientID, objectID string, graphRoles []string, resource string, lifetime time.Duration) (string, error) {
	d.mu.Lock()
	app, ok := d.resource(resource)
	roles := d.appRoles(objectID, app)
	d.mu.Unlock()
	if !ok {
		return "", errNoResource(resource)
	}
	t := Token{Audience: resource, Version: app.TokenVersion, AppID: clientID, ObjectID: objectID, Lifetime: lifetime}
	if app.TokenVersion == 2 {
		t.Audience = app.ClientID
	}
	if t.Roles = roles; app.ClientID == graphAppID {
		t.Roles = graphRoles
	}
	return d.IssueToken(t), nil
}

// calloutToken is the token that entitlement management sends with a direct callout.
func (d *Directory) calloutToken(resource string) (string, error) {
	return d.tokenFor(CallerID, d.callerObject, nil, resource, time.Hour)
}

// identityToken is a managed identity's token. App Service keeps them for a day.
func (d *Directory) identityToken(clientID, resource string) (string, error) {
	d.mu.Lock()
	i := find(d.identities, func(i *Identity) bool { return strings.EqualFold(i.ClientID, clientID) })
	d.mu.Unlock()
	if i == nil {
		return "", fmt.Errorf("no managed identity with client id %s", clientID)
	}
	return d.tokenFor(i.ClientID, i.ObjectID, i.GraphRoles, resource, identityTokenLifetime)
}

const identityTokenLifetime = 24 * time.Hour
