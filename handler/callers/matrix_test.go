package callers

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/rs/zerolog"

	"ticketbridge"
	"ticketbridge/handler/correlation"
	"ticketbridge/handler/host"
	standin "ticketbridge/handler/simulator/entra"
	functions "ticketbridge/handler/simulator/host"
	"ticketbridge/handler/simulator/misbehave"
	"ticketbridge/handler/workflow"
)

// The matrix: who calls which door with what, and what comes of it. Each row is one call over the wire, through the stand-in for the Functions host, which
// asks for the function key and joins repeated headers as the real one does, to the handler's own server. Tokens are the stand-in authority's.

const (
	closerID  = "e1e2e3e4-0000-4000-8000-00000000d004" // ServiceNow's application
	relayApp  = "e1e2e3e4-0000-4000-8000-00000000d005"
	requestID = "7d1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a11"
	stageID   = "c0a6e2d4-52f7-4a9e-8f0e-1b6f9d3c2e77"

	calloutDoor, closeDoor = "/api/callout", "/api/ticket-closed"

	inside, outside = Skew - 15*time.Second, Skew + 15*time.Second

	invalid, scope = "invalid_token", "insufficient_scope" // RFC 6750
)

// personal must be in no log line and in no answer.
var personal = []string{"Adele", "Vance", "adele.vance", "contoso.example", "203.0.113.7"}

// A row is one call and what comes of it.
type row struct {
	name string
	door string

	before  func()                       // is done first
	token   func() string                // goes into "Authorization: Bearer"
	headers func(now time.Time) []string // more of them
	body    string                       // "" is the door's usual one
	key     string                       // "" is the host's key, "-" none
	query   string
	direct  bool // past the Functions host

	forged bool // go-oidc, asked about the token's signature alone, refuses it too

	status int
	error  string // of the challenge of a token
	reason string // in the one line of the log; "" when the Functions host refuses the call itself
}

// A site is the handler with the two doors configured in one way.
type site struct {
	*testing.T
	entra            *standin.Directory
	callout, closing Config
	host             *functions.Host
	port             atomic.Int64 // of the handler itself
	lines            chan string  // what it logs
	work             *desk
}

// desk takes what the doors let in.
type desk struct {
	mu     sync.Mutex
	bodies []string
	closed []workflow.Closed
}

func (d *desk) Accept(_ context.Context, body []byte) (workflow.Receipt, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bodies = append(d.bodies, string(body))
	return workflow.Receipt{RequestID: requestID, StageInstanceID: stageID, State: correlation.Received}, nil
}

func (d *desk) TicketClosed(_ context.Context, n workflow.Closed) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = append(d.closed, n)
	return nil
}

func (d *desk) Advance(context.Context, workflow.Message) error { return errors.New("nobody advances") }

func (d *desk) Sweep(context.Context) (workflow.Swept, error) {
	return workflow.Swept{}, errors.New("nobody sweeps")
}

func (d *desk) taken() (callouts, closed int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.bodies), len(d.closed)
}

func (s *site) Write(line []byte) (int, error) {
	s.lines <- strings.TrimSpace(string(line))
	return len(line), nil
}

// open starts the handler behind the Functions host.
func open(t *testing.T, entra *standin.Directory, callout, closing Config) *site {
	t.Helper()
	s := &site{T: t, entra: entra, lines: make(chan string, 1000), work: &desk{}}
	callout.Setting, closing.Setting = "CALLOUT", "CLOSE"
	gates := map[*Config]*Verifier{&callout: nil, &closing: nil}
	for c := range gates {
		c.TenantID, c.Patience = entra.TenantID(), 700*time.Millisecond
		if c.Transport == nil {
			c.Transport = misbehave.Transport(entra)
		}
		v, err := New(*c)
		if err != nil {
			t.Fatal(err)
		}
		gates[c] = v
	}
	s.callout, s.closing = callout, closing
	app := fstest.MapFS{}
	for _, name := range []string{"host.json", "functions/callout/function.json", "functions/ticketclosed/function.json"} {
		text, err := ticketbridge.App.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		app[strings.TrimPrefix(name, "functions/")] = &fstest.MapFile{Data: text}
	}
	var err error
	s.host, err = functions.Start(context.WithoutCancel(t.Context()), functions.Config{App: app, Worker: functions.Func(func(ctx context.Context, l functions.Launch) int {
		listener, err := host.Listen(strconv.Itoa(l.Port))
		if err != nil {
			return 1
		}
		s.port.Store(int64(l.Port))
		_ = host.New(host.Config{Work: s.work, Callout: gates[&callout], Close: gates[&closing], Log: zerolog.New(s)}).Serve(ctx, listener)
		return 1
	})})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.host.Ready():
	case <-s.host.Done():
		t.Fatalf("the Functions host ended: %s", s.host.Wait().Reason)
	}
	return s
}

// done ends the site and fails the test for every line that no row asked for.
func (s *site) done() {
	s.Helper()
	s.host.Stop()
	s.host.Wait()
	for {
		select {
		case line := <-s.lines:
			if !strings.Contains(line, `"event":"stopping"`) {
				s.Errorf("a line too many: %s", line)
			}
		default:
			return
		}
	}
}

// send sends the call as it is, byte for byte.
func (s *site) send(r row, headers []string, body string) (*http.Response, string) {
	s.Helper()
	address := strings.TrimPrefix(s.host.URL(), "http://")
	if r.direct {
		address = net.JoinHostPort("127.0.0.1", strconv.FormatInt(s.port.Load(), 10))
	}
	c, err := net.Dial("tcp", address)
	if err != nil {
		s.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	all := append([]string{"Host: localhost", "Connection: close", "Content-Type: application/json", "Content-Length: " + strconv.Itoa(len(body))}, headers...)
	if _, err := io.WriteString(c, "POST "+r.door+r.query+" HTTP/1.1\r\n"+strings.Join(all, "\r\n")+"\r\n\r\n"+body); err != nil {
		s.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: http.MethodPost})
	if err != nil {
		s.Fatal(err)
	}
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		s.Fatal(err)
	}
	return answer, string(text)
}

func (s *site) config(door string) Config {
	if door == calloutDoor {
		return s.callout
	}
	return s.closing
}

// challenge is the WWW-Authenticate header that the row must get.
func (s *site) challenge(r row) string {
	c := s.config(r.door)
	if r.status != http.StatusUnauthorized && r.status != http.StatusForbidden || r.reason == "" {
		return ""
	}
	var parts []string
	if c.Audience != "" {
		authority := c.AuthorityHost
		if authority == "" {
			authority = PublicAuthority
		}
		bearer := `Bearer authorization_uri="` + authority + "/" + s.entra.TenantID() + `/oauth2/v2.0/authorize", resource_id="` + appID + `"`
		if r.error != "" {
			bearer += `, error="` + r.error + `"`
		}
		parts = append(parts, bearer)
	}
	if c.HMACKeys != "" {
		parts = append(parts, `Signature headers="X-Ticketbridge-Timestamp X-Ticketbridge-Signature"`)
	}
	return strings.Join(parts, ", ")
}

// try makes the row's call and judges what came of it.
func (s *site) try(t *testing.T, r row) {
	if r.before != nil {
		r.before()
	}
	body := r.body
	if body == "" {
		body = usual(r.door)
	}
	var headers, secrets []string
	if key := r.key; key != "-" && !r.direct {
		if key == "" {
			key = s.host.Keys().Default
		}
		headers, secrets = append(headers, "x-functions-key: "+key), append(secrets, key)
	}
	if r.token != nil {
		token := r.token()
		headers = append(headers, "Authorization: Bearer "+token)
		s.secondOpinion(t, r, token)
	}
	if r.headers != nil {
		headers = append(headers, r.headers(time.Now())...)
	}
	for _, h := range headers {
		for _, part := range strings.FieldsFunc(h, func(r rune) bool { return r == '.' || r == ' ' || r == ',' }) {
			if len(part) > 15 && !strings.HasSuffix(part, ":") {
				secrets = append(secrets, part)
			}
		}
	}
	secrets = append(secrets, personal...)

	callouts, closed := s.work.taken()
	answer, text := s.send(r, headers, body)
	if answer.StatusCode != r.status {
		t.Errorf("answered %d %s, want %d", answer.StatusCode, text, r.status)
	}
	if got, want := answer.Header.Get("Www-Authenticate"), s.challenge(r); got != want || len(answer.Header.Values("Www-Authenticate")) > 1 {
		t.Errorf("the challenge is\n%s\nwant\n%s", got, want)
	}
	if got := answer.Header.Get("Retry-After"); (got != "") != (r.status == http.StatusServiceUnavailable) {
		t.Errorf("Retry-After is %q", got)
	}
	nowCallouts, nowClosed := s.work.taken()
	wantCallouts, wantClosed := callouts, closed
	switch {
	case r.status != http.StatusAccepted:
	case r.door == calloutDoor:
		wantCallouts++
	default:
		wantClosed++
	}
	if nowCallouts != wantCallouts || nowClosed != wantClosed {
		t.Errorf("%d callouts and %d notifications came in", nowCallouts-callouts, nowClosed-closed)
	}
	var line string
	if r.status == http.StatusAccepted || r.reason != "" {
		select {
		case line = <-s.lines:
		case <-time.After(20 * time.Second):
			t.Fatal("nothing is logged")
		}
		judgeLine(t, r, line)
	}
	for _, secret := range secrets {
		if strings.Contains(line, secret) {
			t.Errorf("the log holds %q: %s", secret, line)
		}
		if strings.Contains(text, secret) {
			t.Errorf("the answer holds %q: %s", secret, text)
		}
	}
}

func judgeLine(t *testing.T, r row, line string) {
	t.Helper()
	var l struct {
		Level, Event, Function, Reason, Error string
		Status                                int
	}
	if err := json.Unmarshal([]byte(line), &l); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	function, level, reason := "callout", "warn", "unauthorized"
	if r.door == closeDoor {
		function = "ticketclosed"
	}
	switch r.status {
	case http.StatusAccepted:
		level, reason = "info", ""
	case http.StatusForbidden:
		reason = "forbidden"
	case http.StatusServiceUnavailable:
		level, reason = "error", "unreachable"
	}
	if l.Event != "invocation" || l.Function != function || l.Level != level || l.Reason != reason || l.Status != r.status || !strings.Contains(l.Error, r.reason) || (r.reason == "") != (l.Error == "") {
		t.Errorf("logged %s\nwant the level %s and the reason %q, as %q", line, level, reason, r.reason)
	}
}

// secondOpinion asks another verifier about the signature: that a row is refused for its claims says nothing when its signature was wrong by accident.
func (s *site) secondOpinion(t *testing.T, r row, token string) {
	t.Helper()
	ctx := oidc.ClientContext(t.Context(), &http.Client{Transport: misbehave.Transport(s.entra)})
	keys := oidc.NewRemoteKeySet(ctx, s.entra.BaseURL()+"/"+s.entra.TenantID()+"/discovery/v2.0/keys")
	_, err := oidc.NewVerifier("", keys, &oidc.Config{SkipClientIDCheck: true, SkipExpiryCheck: true, SkipIssuerCheck: true}).Verify(ctx, token)
	if (err != nil) != r.forged {
		t.Errorf("go-oidc says of the signature: %v", err)
	}
}

func usual(door string) string {
	if door == calloutDoor {
		return `{"AccessPackageAssignmentRequestId":"` + requestID + `","CustomExtensionStageInstanceId":"` + stageID + `","Requestor":{"DisplayName":"Adele Vance","Email":"adele.vance@contoso.example"}}`
	}
	return `{"correlation_id":"` + requestID + "/" + stageID + `","short_description":"for Adele Vance"}`
}

// tenantAt makes a tenant whose authority is in a cloud. All sign with the same first key: making one takes a while.
func tenantAt(t *testing.T, authority string) *standin.Directory {
	d := standin.New(standin.Config{BaseURL: authority, Key: rsaKeys()[0]})
	t.Cleanup(d.Close)
	return d
}

// issued issues a token when the row is tried, with claims about a person that nobody must repeat.
func issued(d *standin.Directory, token standin.Token) func() string {
	return func() string {
		token.Claims = merge(m{"name": "Adele Vance", "upn": "adele.vance@contoso.example", "ipaddr": "203.0.113.7", "oid": strangeID}, token.Claims)
		return d.IssueToken(token)
	}
}

func sends(lines ...string) func(time.Time) []string {
	return func(time.Time) []string { return lines }
}

// bearers sends "Authorization: <text>" with the token for %s.
func bearers(text string, token func() string) func(time.Time) []string {
	return func(time.Time) []string { return []string{"Authorization: " + strings.ReplaceAll(text, "%s", token())} }
}

// bent is a token that was changed after it was signed.
func bent(token func() string, change func(string) string) func() string {
	return func() string { return change(token()) }
}

func TestTheMatrixOfCallers(t *testing.T) {
	t.Parallel()
	_ = rsaKeys() // before the sites start beside each other
	var calls atomic.Int64
	t.Cleanup(func() { // when all have ended
		if n := calls.Load(); n < 60 {
			t.Errorf("%d calls were tried, of at least 60", n)
		}
	})
	for _, c := range []struct {
		name string
		rows func(*testing.T) (*site, []row)
	}{
		{"tokens", tokenRows},
		{"app roles and the relay", roleRows},
		{"a key that is replaced", rotatedRows},
		{"a key that is withdrawn", withdrawnRows},
		{"the authority is down from the start", downRows},
		{"the authority goes down", outageRows},
		{"the public cloud by another name", publicRows},
		{"the cloud of the United States' government", governmentRows},
		{"the cloud in China", chinaRows},
		{"signatures", signatureRows},
		{"tokens and signatures", bothRows},
		{"function keys alone", keyRows},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, rows := c.rows(t)
			for _, r := range rows {
				t.Run(r.name, func(t *testing.T) { s.try(t, r) })
				calls.Add(1)
			}
			s.done()
		})
	}
}

func tokenRows(t *testing.T) (*site, []row) {
	d := tenantAt(t, PublicAuthority)
	s := open(t, d, Config{Audience: "api://" + appID, Callers: []string{callerID}}, Config{Audience: appID, Callers: []string{closerID}})
	v1 := standin.Token{Audience: "api://" + appID, AppID: callerID}
	v2 := standin.Token{Audience: appID, AppID: callerID, Version: 2}
	with := func(base standin.Token, claims m) func() string {
		base.Claims = claims
		return issued(d, base)
	}
	headed := func(header m) func() string {
		token := v1
		token.Header = header
		return issued(d, token)
	}
	stranger := func(header m) func() string {
		token := v1
		token.Header, token.Stranger = header, true
		return issued(d, token)
	}
	secret := func(header m, secret []byte) func() string {
		token := v1
		token.Header, token.Secret = header, secret
		return issued(d, token)
	}
	at := func(base standin.Token, name string, by time.Duration) func() string {
		return func() string { return with(base, m{name: time.Now().Add(by).Unix()})() }
	}
	good := issued(d, v1)
	public := &rsaKeys()[0].PublicKey
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	asPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})
	theirs := &rsaKeys()[2].PublicKey
	mine := m{"kty": "RSA", "use": "sig", "kid": "mine", "n": b64(theirs.N.Bytes()), "e": b64(big.NewInt(int64(theirs.E)).Bytes())}
	part := func(n int, change func(string) string) func(string) string {
		return func(token string) string {
			parts := strings.Split(token, ".")
			parts[n] = change(parts[n])
			return strings.Join(parts, ".")
		}
	}
	flip := func(s string) string {
		b := []byte(s)
		if b[len(b)/2] != 'A' {
			b[len(b)/2] = 'A'
		} else {
			b[len(b)/2] = 'B'
		}
		return string(b)
	}
	long := strings.Repeat("x", maxToken)
	const (
		noToken   = "the call has no token"
		one       = "there must be one Authorization header"
		notBearer = "the Authorization header must hold a bearer token"
		notRS256  = "the token is not a JWT signed with RS256"
		unknown   = "the token is signed with a key that the tenant does not have"
		signature = "the token's signature is wrong"
		elsewhere = "the token is of another tenant or cloud"
		audience  = "the token is for another application than CALLOUT_AUDIENCE names"
		nameless  = "the token does not name the application that it was issued to"
		person    = "the token is a person's"
		notYet    = "the token is not valid yet"
		may       = "may not call"
	)
	return s, []row{
		{name: "version 1", door: calloutDoor, token: good, status: 202},
		{name: "version 1, for the bare application id", door: calloutDoor, token: with(v1, m{"aud": appID}), status: 202},
		{name: "version 1, for the identifier with a slash", door: calloutDoor, token: with(v1, m{"aud": "api://" + appID + "/"}), status: 202},
		{name: "version 2", door: calloutDoor, token: issued(d, v2), status: 202},
		{name: "version 2, for api://", door: calloutDoor, token: with(v2, m{"aud": "api://" + appID}), status: 202},
		{name: "the application id in capitals", door: calloutDoor, token: with(v1, m{"appid": strings.ToUpper(callerID)}), status: 202},
		{name: "for a list of one", door: calloutDoor, token: with(v1, m{"aud": []string{"api://" + appID}}), status: 202},
		{name: "for a list with others", door: calloutDoor, token: with(v1, m{"aud": []string{"https://management.azure.com", "api://" + appID}}), status: 202},
		{name: "for a list of others", door: calloutDoor, token: with(v1, m{"aud": []string{"https://management.azure.com", "api://" + otherID}}), status: 401, error: invalid, reason: audience},
		{name: "the scheme in small letters", door: calloutDoor, headers: bearers("bearer %s", good), status: 202},
		{name: "the scheme in capitals", door: calloutDoor, headers: bearers("BEARER %s", good), status: 202},
		{name: "expired, within the skew", door: calloutDoor, token: at(v1, "exp", -inside), status: 202},
		{name: "expired, beyond the skew", door: calloutDoor, token: at(v1, "exp", -outside), status: 401, error: invalid, reason: "the token expired 5m"},
		{name: "expired yesterday", door: calloutDoor, token: at(v2, "exp", -24*time.Hour), status: 401, error: invalid, reason: "the token expired 24h0m"},
		{name: "not valid yet, within the skew", door: calloutDoor, token: at(v1, "nbf", inside), status: 202},
		{name: "not valid yet, beyond the skew", door: calloutDoor, token: at(v1, "nbf", outside), status: 401, error: invalid, reason: notYet},
		{name: "issued in the future, within the skew", door: calloutDoor, token: at(v1, "iat", inside), status: 202},
		{name: "issued in the future, beyond the skew", door: calloutDoor, token: at(v1, "iat", outside), status: 401, error: invalid, reason: notYet},
		{name: "without an expiry", door: calloutDoor, token: with(v1, m{"exp": nil}), status: 401, error: invalid, reason: "does not say until when it is valid"},
		{name: "an expiry in words", door: calloutDoor, token: with(v1, m{"exp": "tomorrow"}), forged: true, status: 401, error: invalid, reason: "the token's claims cannot be read"},
		{name: "an expiry of 0", door: calloutDoor, token: with(v1, m{"exp": 0}), status: 401, error: invalid, reason: "the token expired"},

		{name: "no header", door: calloutDoor, status: 401, reason: noToken},
		{name: "an empty header", door: calloutDoor, headers: sends("Authorization:"), status: 401, reason: noToken},
		{name: "the scheme alone", door: calloutDoor, headers: sends("Authorization: Bearer"), status: 401, error: invalid, reason: notBearer},
		{name: "the scheme and a space", door: calloutDoor, headers: sends("Authorization: Bearer  "), status: 401, error: invalid, reason: notBearer},
		{name: "Basic", door: calloutDoor, headers: sends("Authorization: Basic QWRlbGU6aHVudGVyMmh1bnRlcjI="), status: 401, error: invalid, reason: notBearer},
		{name: "a proof of possession", door: calloutDoor, headers: bearers("PoP %s", good), status: 401, error: invalid, reason: notBearer},
		{name: "the token without its scheme", door: calloutDoor, headers: bearers("%s", good), status: 401, error: invalid, reason: notBearer},
		{name: "two headers, joined by the Functions host", door: calloutDoor, headers: func(time.Time) []string {
			return []string{"Authorization: Bearer " + good(), "Authorization: Bearer " + good()}
		}, status: 401, error: invalid, reason: one},
		{name: "two headers, as they are", door: calloutDoor, direct: true, headers: func(time.Time) []string {
			return []string{"Authorization: Bearer " + good(), "Authorization: Bearer " + good()}
		}, status: 401, error: invalid, reason: one},
		{name: "a bad one before a good one", door: calloutDoor, headers: func(time.Time) []string {
			return []string{"Authorization: Basic QWRlbGU6aHVudGVyMmh1bnRlcjI=", "Authorization: Bearer " + good()}
		}, status: 401, error: invalid, reason: one},
		{name: "a good one before a bad one, as they are", door: calloutDoor, direct: true, headers: func(time.Time) []string {
			return []string{"Authorization: Bearer " + good(), "Authorization: Bearer x"}
		}, status: 401, error: invalid, reason: one},
		{name: "two in one header", door: calloutDoor, headers: bearers("Bearer %s, Bearer %s", good), status: 401, error: invalid, reason: one},
		{name: "two with a space between", door: calloutDoor, headers: bearers("Bearer %s %s", good), status: 401, error: invalid, reason: notRS256},
		{name: "in the query", door: calloutDoor, query: "?access_token=" + url.QueryEscape(good()), status: 401, reason: noToken},

		{name: "no token at all", door: calloutDoor, headers: sends("Authorization: Bearer garbage"), status: 401, error: invalid, reason: notRS256},
		{name: "cut short", door: calloutDoor, token: bent(good, func(s string) string { return s[:len(s)-40] }), forged: true, status: 401, error: invalid, reason: signature},
		{name: "without its signature", door: calloutDoor, token: bent(good, func(s string) string { return s[:strings.LastIndex(s, ".")+1] }), forged: true, status: 401, error: invalid, reason: signature},
		{name: "of two parts", door: calloutDoor, token: bent(good, func(s string) string { return s[:strings.LastIndex(s, ".")] }), forged: true, status: 401, error: invalid, reason: notRS256},
		{name: "of four parts", door: calloutDoor, token: bent(good, func(s string) string { return s + ".e30" }), forged: true, status: 401, error: invalid, reason: notRS256},
		{name: "encrypted", door: calloutDoor, token: func() string {
			return b64([]byte(`{"alg":"RSA-OAEP","enc":"A256GCM"}`)) + strings.Repeat("."+b64([]byte("0123456789abcdef")), 4)
		}, forged: true, status: 401, error: invalid, reason: notRS256},
		{name: "in the JSON form", door: calloutDoor, headers: func(time.Time) []string {
			p := strings.Split(good(), ".")
			return []string{`Authorization: Bearer {"protected":"` + p[0] + `","payload":"` + p[1] + `","signature":"` + p[2] + `"}`}
		}, status: 401, error: invalid, reason: one},
		{name: "too long", door: calloutDoor, token: with(v1, m{"x": long}), status: 401, error: invalid, reason: "the token is too long"},
		{name: "with a changed claim", door: calloutDoor, token: bent(good, part(1, flip)), forged: true, status: 401, error: invalid, reason: signature},
		{name: "with a changed signature", door: calloutDoor, token: bent(good, part(2, flip)), forged: true, status: 401, error: invalid, reason: signature},
		{name: "with another one's claims", door: calloutDoor, token: func() string {
			ours, theirs := strings.Split(good(), "."), strings.Split(issued(d, standin.Token{Audience: appID, AppID: strangeID})(), ".")
			return theirs[0] + "." + ours[1] + "." + theirs[2]
		}, forged: true, status: 401, error: invalid, reason: signature},

		{name: "algorithm none", door: calloutDoor, token: headed(m{"alg": "none"}), forged: true, status: 401, error: invalid, reason: notRS256},
		{name: "algorithm None", door: calloutDoor, token: bent(good, part(0, func(string) string { return b64([]byte(`{"alg":"None"}`)) })), forged: true, status: 401, error: invalid, reason: notRS256},
		{name: "algorithm none with a signature", door: calloutDoor, token: bent(good, part(0, func(string) string { return b64([]byte(`{"alg":"none"}`)) })), forged: true, status: 401, error: invalid, reason: notRS256},
		{name: "no algorithm", door: calloutDoor, token: headed(m{"alg": nil}), forged: true, status: 401, error: invalid, reason: notRS256},
		{name: "HS256 with the public key in PEM", door: calloutDoor, token: secret(m{"alg": "HS256"}, asPEM), forged: true, status: 401, error: invalid, reason: notRS256},
		{name: "HS256 with the public key in DER", door: calloutDoor, token: secret(m{"alg": "HS256"}, spki), forged: true, status: 401, error: invalid, reason: notRS256},
		{name: "HS256 with the public key as PKCS #1", door: calloutDoor, token: headed(m{"alg": "HS256"}), forged: true, status: 401, error: invalid, reason: notRS256},
		{name: "HS256 with the modulus", door: calloutDoor, token: secret(m{"alg": "HS256"}, public.N.Bytes()), forged: true, status: 401, error: invalid, reason: notRS256},
		{name: "HS256 with nothing", door: calloutDoor, token: secret(m{"alg": "HS256"}, []byte{}), forged: true, status: 401, error: invalid, reason: notRS256},
		{name: "RS256 in name, signed as HS256 with the public key", door: calloutDoor, token: secret(nil, asPEM), forged: true, status: 401, error: invalid, reason: signature},
		{name: "RS256 in name, signed as PS256", door: calloutDoor, token: func() string {
			token := headed(m{"alg": "PS256"})()
			return part(0, func(string) string { return strings.Split(good(), ".")[0] })(token)
		}, forged: true, status: 401, error: invalid, reason: signature},
		{name: "RS384", door: calloutDoor, token: headed(m{"alg": "RS384"}), forged: true, status: 401, error: invalid, reason: notRS256},
		{name: "PS256", door: calloutDoor, token: headed(m{"alg": "PS256"}), forged: true, status: 401, error: invalid, reason: notRS256},
		{name: "ES256", door: calloutDoor, token: headed(m{"alg": "ES256"}), forged: true, status: 401, error: invalid, reason: notRS256},

		{name: "a stranger's key under the tenant's key id", door: calloutDoor, token: stranger(nil), forged: true, status: 401, error: invalid, reason: signature},
		{name: "an unknown key id", door: calloutDoor, token: stranger(m{"kid": "nobody's"}), forged: true, status: 401, error: invalid, reason: unknown},
		{name: "an unknown key id, signed by the tenant", door: calloutDoor, token: headed(m{"kid": "nobody's"}), forged: true, status: 401, error: invalid, reason: unknown},
		{name: "no key id", door: calloutDoor, token: headed(m{"kid": nil}), status: 401, error: invalid, reason: "the token does not name its key"},
		{name: "no key id but its certificate's", door: calloutDoor, token: headed(m{"kid": nil, "x5t": "x"}), status: 401, error: invalid, reason: "the token does not name its key"},
		{name: "a key id that is a number", door: calloutDoor, token: headed(m{"kid": 7}), forged: true, status: 401, error: invalid, reason: notRS256},
		{name: "a key id that is a path", door: calloutDoor, token: stranger(m{"kid": "../../../dev/null"}), forged: true, status: 401, error: invalid, reason: unknown},
		{name: "a key id that is an address", door: calloutDoor, token: stranger(m{"kid": "https://evil.example/keys#mine"}), forged: true, status: 401, error: invalid, reason: unknown},
		{name: "a key id with a line break", door: calloutDoor, token: stranger(m{"kid": "x\n{\"level\":\"info\"}"}), forged: true, status: 401, error: invalid, reason: unknown},
		{name: "a key of its own", door: calloutDoor, token: signedBy(d, v1, m{"kid": "mine", "jwk": mine}), forged: true, status: 401, error: invalid, reason: unknown},
		{name: "a key of its own under the tenant's key id", door: calloutDoor, token: signedBy(d, v1, m{"jwk": mine}), forged: true, status: 401, error: invalid, reason: signature},
		{name: "a key at its own address", door: calloutDoor, token: signedBy(d, v1, m{"kid": "mine", "jku": "https://evil.example/keys"}), forged: true, status: 401, error: invalid, reason: unknown},
		{name: "a certificate at its own address", door: calloutDoor, token: signedBy(d, v1, m{"x5u": "https://evil.example/certificate"}), forged: true, status: 401, error: invalid, reason: signature},
		{name: "a certificate of its own", door: calloutDoor, token: signedBy(d, v1, m{"x5c": []string{certificate(t)}}), forged: true, status: 401, error: invalid, reason: signature},
		{name: "a good one that names a key at another address", door: calloutDoor, token: headed(m{"jku": "https://evil.example/keys"}), status: 202},
		{name: "a critical header that we do not know", door: calloutDoor, token: headed(m{"crit": []string{"exp"}, "exp": 1}), forged: true, status: 401, error: invalid, reason: "the token"},

		{name: "another tenant", door: calloutDoor, token: with(v1, m{"iss": "https://sts.windows.net/" + otherID + "/", "tid": otherID}), status: 401, error: invalid, reason: elsewhere},
		{name: "another tenant, version 2", door: calloutDoor, token: with(v2, m{"iss": PublicAuthority + "/" + otherID + "/v2.0", "tid": otherID}), status: 401, error: invalid, reason: elsewhere},
		{name: "another tenant's issuer, our tenant id", door: calloutDoor, token: with(v1, m{"iss": "https://sts.windows.net/" + otherID + "/"}), status: 401, error: invalid, reason: elsewhere},
		{name: "our issuer, another tenant id", door: calloutDoor, token: with(v1, m{"tid": otherID}), status: 401, error: invalid, reason: elsewhere},
		{name: "no tenant id", door: calloutDoor, token: with(v2, m{"tid": nil}), status: 401, error: invalid, reason: elsewhere},
		{name: "no issuer", door: calloutDoor, token: with(v1, m{"iss": nil}), status: 401, error: invalid, reason: elsewhere},
		{name: "the issuer of all tenants", door: calloutDoor, token: with(v2, m{"iss": PublicAuthority + "/common/v2.0"}), status: 401, error: invalid, reason: elsewhere},
		{name: "our tenant in another cloud", door: calloutDoor, token: with(v2, m{"iss": "https://login.microsoftonline.us/" + d.TenantID() + "/v2.0"}), status: 401, error: invalid, reason: elsewhere},

		{name: "for Azure Resource Manager", door: calloutDoor, token: with(v1, m{"aud": "https://management.azure.com"}), status: 401, error: invalid, reason: audience},
		{name: "for another application", door: calloutDoor, token: with(v2, m{"aud": otherID}), status: 401, error: invalid, reason: audience},
		{name: "for an address that begins like ours", door: calloutDoor, token: with(v1, m{"aud": "api://" + appID + "/more"}), status: 401, error: invalid, reason: audience},
		{name: "for nobody", door: calloutDoor, token: with(v1, m{"aud": nil}), status: 401, error: invalid, reason: audience},

		{name: "another application", door: calloutDoor, token: issued(d, standin.Token{Audience: appID, AppID: strangeID}), status: 403, error: scope, reason: "the application " + strangeID + " may not call"},
		{name: "another application, version 2", door: calloutDoor, token: issued(d, standin.Token{Audience: appID, AppID: strangeID, Version: 2}), status: 403, error: scope, reason: may},
		{name: "version 1 with azp alone", door: calloutDoor, token: with(v1, m{"appid": nil, "azp": callerID}), status: 401, error: invalid, reason: nameless},
		{name: "version 2 with appid alone", door: calloutDoor, token: with(v2, m{"azp": nil, "appid": callerID}), status: 401, error: invalid, reason: nameless},
		{name: "version 2 of another application, with our caller as appid", door: calloutDoor, token: with(v2, m{"azp": strangeID, "appid": callerID}), status: 403, error: scope, reason: may},
		{name: "an application that is no id", door: calloutDoor, token: with(v1, m{"appid": "Adele"}), status: 401, error: invalid, reason: nameless},
		{name: "a person's, through the caller", door: calloutDoor, token: with(v1, m{"scp": "user_impersonation"}), status: 403, error: scope, reason: person},
		{name: "a person's, as its type says", door: calloutDoor, token: with(v2, m{"idtyp": "user"}), status: 403, error: scope, reason: person},
		{name: "a sign-in, which names no application", door: calloutDoor, token: with(v2, m{"azp": nil, "idtyp": nil, "nonce": "x"}), status: 401, error: invalid, reason: nameless},

		{name: "the other door's caller", door: calloutDoor, token: issued(d, standin.Token{Audience: appID, AppID: closerID}), status: 403, error: scope, reason: may},
		{name: "the close notification's caller", door: closeDoor, token: issued(d, standin.Token{Audience: appID, AppID: closerID}), status: 202},
		{name: "the close notification's caller, version 2", door: closeDoor, token: issued(d, standin.Token{Audience: appID, AppID: closerID, Version: 2}), status: 202},
		{name: "entitlement management at the other door", door: closeDoor, token: good, status: 403, error: scope, reason: "the application " + callerID + " may not call"},
		{name: "a token for somebody else at the other door", door: closeDoor, token: issued(d, standin.Token{Audience: "https://graph.microsoft.com", AppID: closerID}), status: 401, error: invalid, reason: "CLOSE_AUDIENCE"},
		{name: "nothing at the other door", door: closeDoor, status: 401, reason: noToken},
		{name: "a signature where a token is asked for", door: closeDoor, headers: signs([]byte(strings.Repeat("1", 32)), 0), status: 401, reason: noToken},

		{name: "token and no function key", door: calloutDoor, token: good, key: "-", status: 401},
		{name: "token and a wrong function key", door: calloutDoor, token: good, key: "wrong-key-wrong-key", status: 401},
		{name: "token and the other function's key", door: calloutDoor, token: good, key: s.host.Keys().Functions["ticketclosed"], status: 401},
		{name: "token and the function's own key", door: calloutDoor, token: good, key: s.host.Keys().Functions["callout"], status: 202},
		{name: "token and the key in the query", door: calloutDoor, token: good, key: "-", query: "?code=" + s.host.Keys().Default, status: 202},
		{name: "the function's own key and no token", door: calloutDoor, key: s.host.Keys().Functions["callout"], status: 401, reason: noToken},
		{name: "the master key and no token", door: calloutDoor, key: s.host.Keys().Master, status: 401, reason: noToken},
	}
}

// signedBy issues a token that is signed with the key that it brings itself.
func signedBy(d *standin.Directory, token standin.Token, header m) func() string {
	return func() string {
		ours := strings.Split(issued(d, standin.Token{Audience: token.Audience, AppID: token.AppID, Header: header})(), ".")
		text, err := base64.RawURLEncoding.DecodeString(ours[0])
		if err != nil {
			panic(err)
		}
		var h m
		if err := json.Unmarshal(text, &h); err != nil {
			panic(err)
		}
		claims, err := base64.RawURLEncoding.DecodeString(ours[1])
		if err != nil {
			panic(err)
		}
		return signed(h, json.RawMessage(claims), rsaKeys()[2])
	}
}

// certificate is the stranger's, signed by himself.
func certificate(t *testing.T) string {
	t.Helper()
	key := rsaKeys()[2]
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "login.microsoftonline.com"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

func roleRows(t *testing.T) (*site, []row) {
	d := tenantAt(t, PublicAuthority)
	s := open(t, d,
		Config{Audience: appID, Callers: []string{callerID}, Relay: relayID, Role: "Callout.Send"},
		Config{Audience: appID, Callers: []string{closerID}, Role: "Ticket.Close"})
	token := func(app string, claims m, roles ...string) func() string {
		return issued(d, standin.Token{Audience: appID, AppID: app, Roles: roles, Claims: claims})
	}
	relay := m{"oid": relayID}
	const lacks = "lacks the app role that CALLOUT_ROLE names"
	return s, []row{
		{name: "entitlement management with its role", door: calloutDoor, token: token(callerID, nil, "Callout.Send"), status: 202},
		{name: "with more roles", door: calloutDoor, token: token(callerID, nil, "Ticket.Close", "Callout.Send"), status: 202},
		{name: "without a role", door: calloutDoor, token: token(callerID, nil), status: 403, error: scope, reason: lacks},
		{name: "with the other door's role", door: calloutDoor, token: token(callerID, nil, "Ticket.Close"), status: 403, error: scope, reason: lacks},
		{name: "with the role in other letters", door: calloutDoor, token: token(callerID, nil, "callout.send"), status: 403, error: scope, reason: lacks},
		{name: "with the role as a group", door: calloutDoor, token: token(callerID, m{"groups": []string{"Callout.Send"}}), status: 403, error: scope, reason: lacks},
		{name: "a stranger with the role", door: calloutDoor, token: token(strangeID, nil, "Callout.Send"), status: 403, error: scope, reason: "may not call"},
		{name: "the relay's identity with the role", door: calloutDoor, token: token(relayApp, relay, "Callout.Send"), status: 202},
		{name: "the relay's identity without the role", door: calloutDoor, token: token(relayApp, relay), status: 403, error: scope, reason: lacks},
		{name: "another identity with the role", door: calloutDoor, token: token(relayApp, m{"oid": otherID}, "Callout.Send"), status: 403, error: scope, reason: "may not call"},
		{name: "a person with the relay's object id", door: calloutDoor, token: token(relayApp, m{"oid": relayID, "scp": "x"}, "Callout.Send"), status: 403, error: scope, reason: "the token is a person's"},
		{name: "the relay at the other door", door: closeDoor, token: token(relayApp, relay, "Ticket.Close"), status: 403, error: scope, reason: "may not call"},
		{name: "ServiceNow with its role", door: closeDoor, token: token(closerID, nil, "Ticket.Close"), status: 202},
		{name: "ServiceNow without its role", door: closeDoor, token: token(closerID, nil, "Callout.Send"), status: 403, error: scope, reason: "lacks the app role that CLOSE_ROLE names"},
	}
}

// rotating is a site at which the tenant's key is replaced after the first call; old is a token of before.
func rotating(t *testing.T) (s *site, d *standin.Directory, old func() string, now func() string) {
	d = tenantAt(t, PublicAuthority)
	s = open(t, d, Config{Audience: appID, Callers: []string{callerID}}, Config{})
	now = issued(d, standin.Token{Audience: appID, AppID: callerID})
	before := now()
	return s, d, func() string { return before }, now
}

func rotatedRows(t *testing.T) (*site, []row) {
	s, d, old, now := rotating(t)
	return s, []row{
		{name: "before", door: calloutDoor, token: old, status: 202},
		{name: "the new key, at once", door: calloutDoor, before: func() { d.RotateKeys(true) }, token: now, status: 202},
		{name: "the old key, which is still published", door: calloutDoor, token: old, status: 202},
	}
}

func withdrawnRows(t *testing.T) (*site, []row) {
	s, d, old, now := rotating(t)
	return s, []row{
		{name: "before", door: calloutDoor, token: old, status: 202},
		{name: "the new key, at once", door: calloutDoor, before: func() { d.RotateKeys(false) }, token: now, status: 202},
		{name: "the old key, which is published no more", door: calloutDoor, token: old, forged: true, status: 401, error: invalid, reason: "the token is signed with a key that the tenant does not have"},
	}
}

// line is the way to the authority, which may be cut.
type line struct {
	http.RoundTripper
	cut atomic.Bool
}

func (l *line) RoundTrip(r *http.Request) (*http.Response, error) {
	if l.cut.Load() {
		return nil, errors.New("no route to the authority")
	}
	return l.RoundTripper.RoundTrip(r)
}

const noKeys = "the tenant's signing keys cannot be had"

func downRows(t *testing.T) (*site, []row) {
	d := tenantAt(t, PublicAuthority)
	way := &line{RoundTripper: misbehave.Transport(d)}
	way.cut.Store(true)
	s := open(t, d, Config{Audience: appID, Callers: []string{callerID}, Transport: way}, Config{})
	token := standin.Token{Audience: appID, AppID: callerID}
	return s, []row{
		{name: "a good token", door: calloutDoor, token: issued(d, token), status: 503, reason: noKeys},
		{name: "a good token, again", door: calloutDoor, token: issued(d, token), status: 503, reason: noKeys},
		{name: "no token", door: calloutDoor, status: 401, reason: "the call has no token"},
		{name: "algorithm none", door: calloutDoor, token: issued(d, standin.Token{Audience: appID, AppID: callerID, Header: m{"alg": "none"}}), forged: true, status: 401, error: invalid, reason: "not a JWT signed with RS256"},
	}
}

func outageRows(t *testing.T) (*site, []row) {
	d := tenantAt(t, PublicAuthority)
	way := &line{RoundTripper: misbehave.Transport(d)}
	s := open(t, d, Config{Audience: appID, Callers: []string{callerID}, Transport: way}, Config{})
	token := standin.Token{Audience: appID, AppID: callerID}
	return s, []row{
		{name: "before", door: calloutDoor, token: issued(d, token), status: 202},
		{name: "a good token", door: calloutDoor, before: func() { way.cut.Store(true) }, token: issued(d, token), status: 202},
		{name: "a bad token", door: calloutDoor, token: issued(d, standin.Token{Audience: appID, AppID: strangeID}), status: 403, error: scope, reason: "may not call"},
		{name: "a key that is not known yet, and may be good", door: calloutDoor, before: func() { d.RotateKeys(true) }, token: issued(d, token), status: 503, reason: noKeys},
	}
}

func publicRows(t *testing.T) (*site, []row) {
	d := tenantAt(t, PublicAuthority) // which issues in its own name, whatever it is called by
	s := open(t, d, Config{AuthorityHost: "https://login.windows.net", Audience: appID, Callers: []string{callerID}}, Config{})
	return s, []row{
		{name: "version 1", door: calloutDoor, token: issued(d, standin.Token{Audience: appID, AppID: callerID}), status: 202},
		{name: "version 2", door: calloutDoor, token: issued(d, standin.Token{Audience: appID, AppID: callerID, Version: 2}), status: 202},
	}
}

func governmentRows(t *testing.T) (*site, []row) {
	const authority = "https://login.microsoftonline.us"
	d := tenantAt(t, authority)
	s := open(t, d, Config{AuthorityHost: authority, Audience: appID, Callers: []string{callerID}}, Config{})
	v2 := standin.Token{Audience: appID, AppID: callerID, Version: 2}
	public := v2
	public.Claims = m{"iss": PublicAuthority + "/" + d.TenantID() + "/v2.0"}
	return s, []row{
		{name: "version 1", door: calloutDoor, token: issued(d, standin.Token{Audience: appID, AppID: callerID}), status: 202},
		{name: "version 2", door: calloutDoor, token: issued(d, v2), status: 202},
		{name: "the public cloud's", door: calloutDoor, token: issued(d, public), status: 401, error: invalid, reason: "another tenant or cloud"},
	}
}

func chinaRows(t *testing.T) (*site, []row) {
	const authority = "https://login.partner.microsoftonline.cn"
	d := tenantAt(t, authority)
	s := open(t, d, Config{AuthorityHost: authority, Audience: appID, Callers: []string{callerID}}, Config{})
	token := func(version int, issuer string) func() string {
		return issued(d, standin.Token{Audience: appID, AppID: callerID, Version: version, Claims: m{"iss": issuer}})
	}
	return s, []row{
		{name: "version 1", door: calloutDoor, token: token(1, "https://sts.chinacloudapi.cn/"+d.TenantID()+"/"), status: 202},
		{name: "version 2", door: calloutDoor, token: token(2, authority+"/"+d.TenantID()+"/v2.0"), status: 202},
		{name: "version 2, by the authority's older name", door: calloutDoor, token: token(2, "https://login.chinacloudapi.cn/"+d.TenantID()+"/v2.0"), status: 202},
		{name: "the public cloud's, version 1", door: calloutDoor, token: token(1, "https://sts.windows.net/"+d.TenantID()+"/"), status: 401, error: invalid, reason: "another tenant or cloud"},
	}
}

// The keys that sign: the first two are configured, the third was and is no more.
var firstKey, secondKey, removedKey = []byte(strings.Repeat("1", 32)), []byte(strings.Repeat("2", 32)), []byte(strings.Repeat("3", 32))

func hmacKeys() string {
	return base64.StdEncoding.EncodeToString(firstKey) + " " + base64.StdEncoding.EncodeToString(secondKey)
}

func signatureLines(stamp, signature string) []string {
	return []string{TimestampHeader + ": " + stamp, SignatureHeader + ": " + signature}
}

// signs signs the usual notification with a key, at a time from now.
func signs(key []byte, by time.Duration) func(time.Time) []string {
	return func(now time.Time) []string {
		stamp := strconv.FormatInt(now.Add(by).Unix(), 10)
		return signatureLines(stamp, base64.StdEncoding.EncodeToString(macOf(key, stamp, []byte(usual(closeDoor)))))
	}
}

// stamped signs the usual notification with whatever stands as the timestamp.
func stamped(stamp func(time.Time) string) func(time.Time) []string {
	return func(now time.Time) []string {
		return signatureLines(stamp(now), base64.StdEncoding.EncodeToString(macOf(firstKey, stamp(now), []byte(usual(closeDoor)))))
	}
}

// spelled is a good signature, written otherwise.
func spelled(write func(sum []byte) string) func(time.Time) []string {
	return func(now time.Time) []string {
		for i := 0; ; i++ { // until the signature has a character that is not in every alphabet
			stamp := strconv.FormatInt(now.Unix()-int64(i), 10)
			if sum := macOf(firstKey, stamp, []byte(usual(closeDoor))); strings.ContainsAny(base64.StdEncoding.EncodeToString(sum), "+/") {
				return signatureLines(stamp, write(sum))
			}
		}
	}
}

func signatureRows(t *testing.T) (*site, []row) {
	d := tenantAt(t, PublicAuthority)
	s := open(t, d, Config{}, Config{HMACKeys: hmacKeys()})
	good := signs(firstKey, 0)
	lines := func(n ...int) func(time.Time) []string { // some lines of a good one, by their place
		return func(now time.Time) []string {
			all, some := good(now), []string(nil)
			for _, i := range n {
				some = append(some, all[i])
			}
			return some
		}
	}
	text := func(s string) func(time.Time) []string { return stamped(func(time.Time) string { return s }) }
	var replay []string
	const (
		wrong  = "is not of this body at this timestamp, with a key that we have"
		off    = "is more than 5 minutes off"
		number = "is not a number of seconds since 1970"
		base   = "is not base64"
		single = "there must be one such header"
	)
	return s, []row{
		{name: "the first key", door: closeDoor, headers: good, status: 202},
		{name: "the second key, which replaces it", door: closeDoor, headers: signs(secondKey, 0), status: 202},
		{name: "a key that was removed", door: closeDoor, headers: signs(removedKey, 0), status: 401, reason: wrong},
		{name: "an empty key", door: closeDoor, headers: signs(nil, 0), status: 401, reason: wrong},
		{name: "four minutes old", door: closeDoor, headers: signs(firstKey, -inside), status: 202},
		{name: "more than five minutes old", door: closeDoor, headers: signs(firstKey, -outside), status: 401, reason: off},
		{name: "four minutes ahead", door: closeDoor, headers: signs(firstKey, inside), status: 202},
		{name: "more than five minutes ahead", door: closeDoor, headers: signs(firstKey, outside), status: 401, reason: off},
		{name: "a call that will be repeated", door: closeDoor, headers: func(now time.Time) []string { replay = good(now); return replay }, status: 202},
		// Taken, and without harm: a notification is a hint to read the ticket, which is read with our own credentials; twice read, it says the same.
		{name: "the same call again, within the tolerance", door: closeDoor, headers: func(time.Time) []string { return replay }, status: 202},
		{name: "a call of yesterday again", door: closeDoor, headers: signs(firstKey, -24*time.Hour), status: 401, reason: off},
		{name: "an old call with a new timestamp", door: closeDoor, headers: func(now time.Time) []string {
			return append(signs(firstKey, 0)(now)[:1], signs(firstKey, -time.Hour)(now)[1])
		}, status: 401, reason: wrong},
		{name: "another body", door: closeDoor, headers: good, body: `{"correlation_id":"` + stageID + "/" + requestID + `"}`, status: 401, reason: wrong},
		{name: "the body with a space more", door: closeDoor, headers: good, body: usual(closeDoor) + " ", status: 401, reason: wrong},
		{name: "another timestamp", door: closeDoor, headers: func(now time.Time) []string {
			return append(signs(firstKey, time.Second)(now)[:1], good(now)[1])
		}, status: 401, reason: wrong},
		{name: "the same time, written otherwise", door: closeDoor, headers: func(now time.Time) []string {
			return signatureLines("0"+strconv.FormatInt(now.Unix(), 10), strings.TrimPrefix(good(now)[1], SignatureHeader+": "))
		}, status: 401, reason: wrong},
		{name: "in milliseconds", door: closeDoor, headers: stamped(func(now time.Time) string { return strconv.FormatInt(now.UnixMilli(), 10) }), status: 401, reason: off},
		{name: "in seconds with a fraction", door: closeDoor, headers: stamped(func(now time.Time) string { return strconv.FormatInt(now.Unix(), 10) + ".5" }), status: 401, reason: number},
		{name: "a time in words", door: closeDoor, headers: stamped(func(now time.Time) string { return now.UTC().Format(time.RFC3339) }), status: 401, reason: number},
		{name: "a negative time", door: closeDoor, headers: stamped(func(now time.Time) string { return strconv.FormatInt(-now.Unix(), 10) }), status: 401, reason: off},
		{name: "the end of time", door: closeDoor, headers: text("9223372036854775807"), status: 401, reason: off},
		{name: "the beginning of time", door: closeDoor, headers: text("-9223372036854775808"), status: 401, reason: off},
		{name: "beyond the end of time", door: closeDoor, headers: text("9223372036854775808"), status: 401, reason: number},
		{name: "in hexadecimal", door: closeDoor, headers: spelled(func(sum []byte) string { return fmt.Sprintf("%x", sum) }), status: 401, reason: wrong},
		{name: "in base64 for addresses", door: closeDoor, headers: spelled(base64.URLEncoding.EncodeToString), status: 401, reason: base},
		{name: "in base64 without its end", door: closeDoor, headers: spelled(base64.RawStdEncoding.EncodeToString), status: 401, reason: base},
		{name: "cut short", door: closeDoor, headers: spelled(func(sum []byte) string { return base64.StdEncoding.EncodeToString(sum[:16]) }), status: 401, reason: wrong},
		{name: "with more behind", door: closeDoor, headers: spelled(func(sum []byte) string { return base64.StdEncoding.EncodeToString(append(sum, 0)) }), status: 401, reason: wrong},
		{name: "no base64 at all", door: closeDoor, headers: spelled(func([]byte) string { return "sha256=%%%%%%%%" }), status: 401, reason: base},
		{name: "no signature", door: closeDoor, headers: lines(0), status: 401, reason: "the call is not signed"},
		{name: "no timestamp", door: closeDoor, headers: lines(1), status: 401, reason: "the call has no timestamp"},
		{name: "neither", door: closeDoor, status: 401, reason: "the call is not signed"},
		{name: "an empty signature", door: closeDoor, headers: func(now time.Time) []string { return append(lines(0)(now), SignatureHeader+":") }, status: 401, reason: "the call is not signed"},
		{name: "two signatures, joined by the Functions host", door: closeDoor, headers: lines(0, 1, 1), status: 401, reason: single},
		{name: "two signatures, as they are", door: closeDoor, direct: true, headers: lines(0, 1, 1), status: 401, reason: single},
		{name: "two timestamps, joined by the Functions host", door: closeDoor, headers: lines(0, 0, 1), status: 401, reason: single},
		{name: "two timestamps, as they are", door: closeDoor, direct: true, headers: lines(0, 0, 1), status: 401, reason: single},
		{name: "a token where a signature is asked for", door: closeDoor, token: issued(d, standin.Token{Audience: appID, AppID: closerID}), status: 401, reason: "the call is not signed"},
		{name: "a signature and no function key", door: closeDoor, headers: good, key: "-", status: 401},
		{name: "the other door, where nothing is asked for", door: calloutDoor, status: 202},
	}
}

func bothRows(t *testing.T) (*site, []row) {
	d := tenantAt(t, PublicAuthority)
	s := open(t, d, Config{Audience: appID, Callers: []string{callerID}}, Config{Audience: appID, Callers: []string{closerID}, HMACKeys: hmacKeys()})
	good := issued(d, standin.Token{Audience: appID, AppID: closerID})
	return s, []row{
		{name: "token and signature", door: closeDoor, token: good, headers: signs(firstKey, 0), status: 202},
		{name: "the token alone", door: closeDoor, token: good, status: 401, reason: "the call is not signed"},
		{name: "the signature alone", door: closeDoor, headers: signs(firstKey, 0), status: 401, reason: "the call has no token"},
		{name: "neither", door: closeDoor, status: 401, reason: "the call is not signed"},
		{name: "a good token and a wrong signature", door: closeDoor, token: good, headers: signs(removedKey, 0), status: 401, reason: "is not of this body"},
		{name: "a wrong token and a good signature", door: closeDoor, token: issued(d, standin.Token{Audience: appID, AppID: closerID, Stranger: true}), forged: true, headers: signs(firstKey, 0), status: 401, error: invalid, reason: "the token's signature is wrong"},
		{name: "another application's token and a good signature", door: closeDoor, token: issued(d, standin.Token{Audience: appID, AppID: callerID}), headers: signs(secondKey, 0), status: 403, error: scope, reason: "may not call"},
		{name: "token and signature and no function key", door: closeDoor, token: good, headers: signs(firstKey, 0), key: "-", status: 401},
		{name: "a signature is no token at the other door", door: calloutDoor, headers: signs(firstKey, 0), status: 401, reason: "the call has no token"},
	}
}

func keyRows(t *testing.T) (*site, []row) {
	d := tenantAt(t, PublicAuthority)
	s := open(t, d, Config{}, Config{})
	var rows []row
	for door, name := range map[string]string{calloutDoor: "callout", closeDoor: "ticketclosed"} {
		rows = append(
			rows,
			row{name: name + " with the host's key", door: door, status: 202},
			row{name: name + " with its own key", door: door, key: s.host.Keys().Functions[name], status: 202},
			row{name: name + " with a token that nobody asks for", door: door, headers: sends("Authorization: Bearer garbage"), status: 202},
			row{name: name + " without a key", door: door, key: "-", status: 401},
			row{name: name + " with a wrong key", door: door, key: "wrong-key-wrong-key", status: 401},
			row{name: name + " without a key, and with a token", door: door, key: "-", token: issued(d, standin.Token{Audience: appID, AppID: callerID}), status: 401},
		)
	}
	slices.SortFunc(rows, func(a, b row) int { return strings.Compare(a.name, b.name) })
	return s, rows
}
