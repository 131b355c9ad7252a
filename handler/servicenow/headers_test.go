package servicenow

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"ticketbridge/handler/fault"
	"ticketbridge/handler/simulator/misbehave"
)

func TestExtraHeadersAreReadFromLinesOrFromBetweenCommas(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]http.Header{
		"":                                   {},
		"X-Gateway-Key: s3cret":              {"X-Gateway-Key": {"s3cret"}},
		"x-a: 1, x-b:2":                      {"X-A": {"1"}, "X-B": {"2"}},
		"X-A: 1\nX-B: 2\r\n\n":               {"X-A": {"1"}, "X-B": {"2"}},
		`X-A: 1\nX-B: 2`:                     {"X-A": {"1"}, "X-B": {"2"}},
		"X-A: one, two, X-B: three":          {"X-A": {"one, two"}, "X-B": {"three"}},
		"X-A: one, X-B: two\nX-C: three":     {"X-A": {"one, X-B: two"}, "X-C": {"three"}},
		"X-A: 1, X-A: 2,":                    {"X-A": {"1", "2"}},
		"X-Url: https://example.com/?a=b:c ": {"X-Url": {"https://example.com/?a=b:c"}},
	} {
		got, err := extraHeaders(text)
		if err != nil || !maps.EqualFunc(got, want, slices.Equal[[]string]) {
			t.Errorf("%q is read as %v, %v; want %v", text, got, err, want)
		}
	}
}

func TestExtraHeadersThatAreNoneOrTheClientsOwnStopTheStart(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"s3cret": "number 1", "X-A: 1\ns3cret": "number 2", "X-A:": "number 1", ": s3cret": "number 1", "X A: s3cret": "number 1", "X-A: s3\x00cret": "number 1", "X-A: a\nX-B: b\x7f": "number 2",
		"Authorization: Basic s3cret": "Authorization, which is the client's own", "X-A: 1, content-type: s3cret": "Content-Type", "cookie: JSESSIONID=s3cret": "Cookie", "X-No-Response-Body: true": "X-No-Response-Body",
		"x-sn-apikey: s3cret": "X-Sn-Apikey", "Host: s3cret": "Host", "Accept: s3cret": "Accept", "transfer-encoding: s3cret": "Transfer-Encoding", "X-HTTP-Method-Override: DELETE": "X-Http-Method-Override", "x-usertoken: s3cret": "X-Usertoken",
	} {
		_, err := New(Config{URL: "https://instance.example", Auth: AuthAPIKey, APIKey: "k", Headers: text})
		if e := failed(t, err, fault.Misconfigured, says); e.Field != "SERVICENOW_HEADERS" || strings.Contains(e.Error(), "s3cret") {
			t.Errorf("%q: %v", text, e)
		}
	}
}

func TestExtraHeadersGoWithEveryCallAndAreNeverShown(t *testing.T) {
	t.Parallel()
	for way, cfg := range ways() {
		cfg.Headers = "X-Gateway-Key: s3cret-of-the-gateway\nX-Short: on"
		calls := 0
		cfg.HTTPClient = &http.Client{Transport: misbehave.Transport(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			calls++
			if r.Header.Get("X-Gateway-Key") != "s3cret-of-the-gateway" || r.Header.Get("X-Short") != "on" || r.Header.Get("Accept") != "application/json" || len(r.Cookies()) != 0 {
				t.Errorf("%s sent %s with %v", way, r.URL.Path, r.Header)
			}
			if r.URL.Path == "/oauth_token.do" {
				says(200, `{"access_token":"t0ken","expires_in":1800}`)(w, r)
				return
			}
			says(500, `{"error":{"message":"on: X-Gateway-Key: s3cret-of-the-gateway"},"status":"failure"}`)(w, r)
		}))}
		c := client(t, cfg)
		for _, op := range operations {
			if err := op.call(t, c); err == nil || strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), "on: ") {
				t.Errorf("%s by %s: %v", op.name, way, err)
			}
		}
		if calls < len(operations) {
			t.Errorf("%s: %d calls", way, calls)
		}
	}
}

func FuzzExtraHeaders(f *testing.F) {
	for _, text := range []string{"", "X-A: 1", "X-A: 1, X-B: 2", "X-A: 1\nX-B: 2", `X-A: 1\nX-B: 2`, "Authorization: x", ":", "X-A: é", "X-A: 1,,", "\x00", "Content-Length : 3", "authorization\t: x"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		headers, err := extraHeaders(text)
		if err != nil {
			if !fault.Is(err, fault.Misconfigured) {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		for name, values := range headers {
			if isOurs(name) || !headerName.MatchString(name) {
				t.Errorf("%q sets %q", text, name)
			}
			for _, v := range values {
				if v == "" || strings.ContainsAny(v, "\r\n\x00") {
					t.Errorf("%q sets %s to %q", text, name, v)
				}
			}
		}
	})
}
