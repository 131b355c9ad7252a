package servicenow

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"ticketbridge/handler/fault"
	"ticketbridge/handler/simulator/misbehave"
)

// Whatever goes wrong, in whatever words, what ends up in logs and on the console must not hold these.
var forbidden = []string{
	password, url.QueryEscape(password), url.PathEscape(password), base64.StdEncoding.EncodeToString([]byte(password)), base64.StdEncoding.EncodeToString([]byte("bridge:" + password)),
	"t0ken", "alice", "Alice", "Example", "line <2>", "requester@", "\n", "\r",
}

func holdsNothingForbidden(t *testing.T, what string, err error) {
	t.Helper()
	e, ok := errors.AsType[*fault.Error](err)
	if !ok {
		t.Errorf("%s: %v is no *fault.Error", what, err)
		return
	}
	for _, text := range []string{err.Error(), e.Detail, e.Advice, e.Field} {
		for _, f := range forbidden {
			if strings.Contains(text, f) {
				t.Errorf("%s: %q holds %q", what, text, f)
			}
		}
	}
}

// ways are all ways to log in; each token or header is "t0ken" or made of the password.
func ways() map[string]Config {
	return map[string]Config{
		"client-credentials": clientCredentials,
		"basic":              {Auth: AuthBasic, Username: "bridge", Password: password},
		"api-key":            {Auth: AuthAPIKey, APIKey: password},
		"entra": {Auth: AuthEntra, Audience: "api://x", Password: password, Credential: credentialFunc(func(context.Context) (azcore.AccessToken, error) {
			return azcore.AccessToken{Token: "t0ken"}, nil
		})},
	}
}

func TestNoErrorHoldsASecretAnAddressOrAFieldValueWhateverIsAnswered(t *testing.T) {
	t.Parallel()
	// What was sent comes back, in several ways, with people who are named nowhere.
	echo := func(r *http.Request) string {
		body, _ := io.ReadAll(r.Body)
		query, _ := url.QueryUnescape(r.URL.RawQuery)
		said := []string{"for requester@example.net", "'Alice'", `"alice Example"`, r.Header.Get("Authorization"), r.Header.Get("X-Sn-Apikey"), password, url.QueryEscape(password), base64.StdEncoding.EncodeToString([]byte(password))}
		var fields map[string]string
		_ = json.Unmarshal(body, &fields)
		for _, v := range fields {
			said = append(said, v, strings.ToLower(v))
		}
		if len(fields) > 0 || strings.Contains(query, "user_name=alice^") {
			said = append(said, "user alice, ALICE:", query)
		}
		return strings.Join(append(said, string(body)), " ")
	}
	shapes := map[string]func(said string) string{
		"an error": func(said string) string {
			return `{"error":{"message":` + text(t, said) + `,"detail":` + text(t, said) + `},"status":"failure"}`
		},
		"an error as a text": func(said string) string { return `{"error":` + text(t, said) + `}` },
		"an error and record": func(said string) string {
			return `{"result":{"sys_id":` + text(t, said) + `},"error":{"message":` + text(t, said) + `}}`
		},
		"a business rule": func(said string) string {
			return `{"error":{"message":"Operation Failed","detail":` + text(t, "aborted by Business Rule 'for requester@example.net "+password+"'"+said) + `},"status":"failure"}`
		},
		"a data policy": func(said string) string {
			return `{"error":{"message":"Operation Failed","detail":` + text(t, "Following fields are mandatory: t0ken\n"+said) + `},"status":"failure"}`
		},
		"a token's refusal": func(said string) string { return `{"error":"t0ken","error_description":` + text(t, said) + `}` },
		"a record": func(said string) string {
			return `{"result":{"sys_id":"` + aliceID + `","number":` + text(t, said) + `,"correlation_id":` + text(t, said) + `}}`
		},
		"records": func(said string) string {
			row := `{"sys_id":"` + aliceID + `","correlation_id":` + text(t, said) + `,"user_name":` + text(t, said) + `}`
			return `{"result":[` + row + `,` + row + `]}`
		},
		"a page": func(said string) string { return "<html>" + said },
		"a text": func(said string) string { return said },
	}
	for way, cfg := range ways() {
		for shape, body := range shapes {
			for _, status := range []int{200, 201, 202, 302, 400, 401, 403, 404, 407, 408, 409, 421, 429, 500} {
				for _, tokenToo := range []bool{false, true} {
					cfg.HTTPClient = &http.Client{Transport: misbehave.Transport(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						if r.URL.Path == "/oauth_token.do" && !tokenToo {
							says(200, `{"access_token":"t0ken","expires_in":1800}`)(w, r)
							return
						}
						said := body(echo(r))
						if r.Header.Get("Authorization") != "Bearer t0ken" { // there is no token, or not yet
							said = strings.ReplaceAll(said, "t0ken", "none")
						}
						w.Header().Set("Location", "https://requester@example.net/?t0ken")
						says(status, said)(w, r)
					}))}
					for _, op := range operations {
						if err := op.call(t, client(t, cfg)); err != nil {
							holdsNothingForbidden(t, fmt.Sprintf("%s by %s of %s with %d", op.name, way, shape, status), err)
						}
					}
				}
			}
		}
	}
}

// broken is a transport that fails, before or after it has a connection.
type broken struct {
	err       error
	connected bool
}

func (b broken) RoundTrip(r *http.Request) (*http.Response, error) {
	trace := httptrace.ContextClientTrace(r.Context())
	if trace.GetConn("instance:443"); b.connected {
		trace.GotConn(httptrace.GotConnInfo{})
	}
	return nil, b.err
}

func TestNoErrorHoldsASecretAnAddressOrAFieldValueWhenNothingIsAnswered(t *testing.T) {
	t.Parallel()
	words := "t0ken " + password + " " + url.PathEscape(password) + " requester@example.net Bearer t0ken\r\nx"
	for _, cause := range []error{
		errors.New(words), &net.OpError{Op: "dial", Err: errors.New(words)}, &net.DNSError{Err: words, Name: "requester@example.net"}, io.EOF, context.DeadlineExceeded,
		&url.Error{Op: "Get", URL: "https://us:" + url.PathEscape(password) + "@x/?requester@example.net", Err: errors.New(words)},
		x509.UnknownAuthorityError{},
		fmt.Errorf("invalid proxy address \"http://us:t0ken@proxy\": %w", errors.New(words)),
	} {
		for way, cfg := range ways() {
			for _, connected := range []bool{false, true} {
				cfg.HTTPClient = &http.Client{Transport: broken{cause, connected}}
				c := client(t, cfg)
				c.hide.token("t0ken")
				for _, op := range operations {
					if err := op.call(t, c); err == nil {
						t.Errorf("%s by %s: no error", op.name, way)
					} else {
						holdsNothingForbidden(t, op.name+" by "+way, err)
					}
				}
			}
		}
	}
	cfg := ways()["entra"]
	for _, text := range []string{words, "\n" + words} {
		cfg.Credential = &credential{err: errors.New(text)}
		c := client(t, cfg)
		c.hide.token("t0ken")
		_, err := c.Create(t.Context(), draft, correlationID)
		holdsNothingForbidden(t, "no token of Entra", err)
	}
}

// What a message says beside that is kept: it is what the operator has to go by.
func TestAMessageKeepsItsOwnWords(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]string{
		"Invalid table sc_request": "Invalid table sc_request",
		"Operation Failed":         "Operation Failed",
		"Value 'Alice Example' of 'short_description' is not valid":   "Value … of 'short_description' is not valid",
		"Table 'sc_request' has no 'bob' and no \"request_state\"":    "Table 'sc_request' has no … and no \"request_state\"",
		"ALICE (Alice.Example) has 2 requests, see https://x/kb?id=7": "… (….…) has … requests, see https://x/kb?id=7",
		"Invalid value " + aliceID + " in requested_for":              "Invalid value … in requested_for",
		"mail alice@example.com or <b.c@d.example>":                   "mail … or <…>",
		"no proxy at http://us:a;b(c@proxy.test:3128":                 "no proxy at http:…:3128",
		"a\tb\r\n c \x00 \u2028d":                                     "a b c d",
		strings.Repeat("x", 300):                                      strings.Repeat("x", 199) + "…",
		"bad \xff utf-8":                                              "bad utf-8",
	} {
		_, err := answered(t, says(500, `{"error":{"message":`+text(t, message)+`},"status":"failure"}`)).Create(t.Context(), draft, correlationID)
		if e := failed(t, err, fault.Unclear); strings.ReplaceAll(e.Detail, "\ufffd ", "") != want {
			t.Errorf("%q is shown as %q, want %q", message, e.Detail, want)
		}
	}
}
