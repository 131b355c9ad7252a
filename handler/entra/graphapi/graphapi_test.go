package graphapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/go-cmp/cmp"

	"ticketbridge/handler/entra/graphapi"
	"ticketbridge/handler/fault"
)

const token = "opaque-token-of-a-test"

type credential struct {
	asked []string
	err   error
}

func (c *credential) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	c.asked = append(c.asked, strings.Join(o.Scopes, " "))
	return azcore.AccessToken{Token: token, ExpiresOn: time.Now().Add(time.Hour)}, c.err
}

// transport answers in the process.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// served lets a handler answer, and counts.
func served(n *int, h http.HandlerFunc) transport {
	return func(r *http.Request) (*http.Response, error) {
		*n++
		w := httptest.NewRecorder()
		if r.Body == nil {
			r.Body = http.NoBody
		}
		h(w, r)
		resp := w.Result()
		resp.Request = r
		return resp, nil
	}
}

func client(t *testing.T, c azcore.TokenCredential, through http.RoundTripper) *graphapi.Client {
	t.Helper()
	g, err := graphapi.New(graphapi.Config{GraphURL: "https://graph.example.com/v1.0", Credential: c, Transport: through})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func says(status int, header http.Header, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for name, v := range header {
			w.Header()[name] = v
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func TestACallIsMadeAsGraphDocumentsIt(t *testing.T) {
	t.Parallel()
	var got []string
	n := 0
	cred := &credential{}
	g := client(t, cred, served(&n, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, r.Method+" "+r.URL.String()+" "+r.Header.Get("Authorization")+" "+r.Header.Get("Content-Type")+" "+string(body))
		if r.Method == http.MethodDelete {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		_, _ = io.WriteString(w, `{"id":"1","new":{"a":12345678901234567890}}`)
	}))
	ctx := t.Context()
	var kept json.RawMessage
	if err := g.Get(ctx, "read", graphapi.Path("things", "a b/c"), url.Values{"$filter": {"name eq " + graphapi.Quote("Robin's a+b")}, "$expand": {"x($expand=y)"}}, &kept); err != nil {
		t.Fatal(err)
	}
	if want := `{"id":"1","new":{"a":12345678901234567890}}`; string(kept) != want {
		t.Errorf("the answer is %s, want it as it came: %s", kept, want)
	}
	for _, err := range []error{
		g.Post(ctx, "make", "/things", json.RawMessage(`{"n":12345678901234567890}`), nil), g.Put(ctx, "replace", "/things/1", map[string]any{"a": nil}, nil),
		g.Patch(ctx, "change", "/things/1", map[string]any{}, nil), g.Delete(ctx, "remove", "/things/1"),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	const auth = " Bearer " + token
	want := []string{
		"GET https://graph.example.com/v1.0/things/a%20b%2Fc?$expand=x%28$expand%3Dy%29&$filter=name%20eq%20%27Robin%27%27s%20a%2Bb%27" + auth + "  ",
		"POST https://graph.example.com/v1.0/things" + auth + ` application/json {"n":12345678901234567890}`,
		"PUT https://graph.example.com/v1.0/things/1" + auth + ` application/json {"a":null}`,
		"PATCH https://graph.example.com/v1.0/things/1" + auth + ` application/json {}`,
		"DELETE https://graph.example.com/v1.0/things/1" + auth + "  ",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"https://graph.example.com/.default"}, cred.asked); d != "" {
		t.Errorf("a token is asked for once, for Graph: %s", d)
	}
}

func TestAListIsReadToItsEndAndTheTokenFollowsNoLinkElsewhere(t *testing.T) {
	t.Parallel()
	n := 0
	next := "https://graph.example.com/v1.0/things?$skiptoken=2"
	g := client(t, &credential{}, served(&n, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("$skiptoken") == "" {
			fmt.Fprintf(w, `{"value":[{"id":"1"},{"id":"2"}],"@odata.nextLink":%q}`, next)
			return
		}
		_, _ = io.WriteString(w, `{"value":[{"id":"3"}]}`)
	}))
	all, err := g.List(t.Context(), "list", "/things", nil)
	if err != nil || len(all) != 3 || string(all[2]) != `{"id":"3"}` {
		t.Errorf("%d things, %v", len(all), err)
	}
	for _, next = range []string{"https://graph.example.org/v1.0/things?$skiptoken=2", "http://graph.example.com/v1.0/things?$skiptoken=2", "/v1.0/things", "::"} {
		n = 0
		if _, err := g.List(t.Context(), "list", "/things", nil); !fault.Is(err, fault.Refused) || n != 1 {
			t.Errorf("%s: %d calls, %v", next, n, err)
		}
	}
	one := client(t, &credential{}, served(&n, says(200, nil, `{"id":"x"}`)))
	if _, err := one.List(t.Context(), "list", "/things", nil); !fault.Is(err, fault.Unreachable) {
		t.Errorf("one thing is no list: %v", err)
	}
}

func TestReadsAreTriedAgainAndWritesAreSentOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		status int
		after  string
		read   int // calls until a read gives up
		took   time.Duration
		reason fault.Reason // of a read
		write  fault.Reason
	}{
		{"throttled", 429, "7", 4, 21 * time.Second, fault.Throttled, fault.Throttled},
		{"not serving", 503, "1", 4, 3 * time.Second, fault.Unreachable, fault.Unclear},
		{"throttled for longer than we wait", 429, "600", 1, 0, fault.Throttled, fault.Throttled},
		{"broken", 500, "", 1, 0, fault.Unreachable, fault.Unclear},
		{"not allowed", 403, "", 1, 0, fault.Forbidden, fault.Forbidden},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := 0
				header := http.Header{}
				if c.after != "" {
					header.Set("Retry-After", c.after)
				}
				g := client(t, &credential{}, served(&n, says(c.status, header, `{"error":{"code":"X","message":"Not now."}}`)))
				begun := time.Now()
				err := g.Get(t.Context(), "read", "/things", nil, nil)
				if took := time.Since(begun); n != c.read || took != c.took || fault.ReasonOf(err) != c.reason {
					t.Errorf("a read: %d calls in %v, %v", n, took, err)
				}
				n = 0
				if err := g.Post(t.Context(), "make", "/things", struct{}{}, nil); n != 1 || fault.ReasonOf(err) != c.write {
					t.Errorf("a write: %d calls, %v", n, err)
				}
			})
		})
	}
}

func TestAReadThatIsServedAtLastIsNoError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := 0
		g := client(t, &credential{}, served(&n, func(w http.ResponseWriter, _ *http.Request) {
			if n < 3 {
				w.WriteHeader(503)
				return
			}
			_, _ = io.WriteString(w, `{"id":"1"}`)
		}))
		var got struct{ ID string }
		if err := g.Get(t.Context(), "read", "/things/1", nil, &got); err != nil || got.ID != "1" {
			t.Errorf("%v, %v", got, err)
		}
	})
}

func TestAnErrorSaysWhatGraphSaidAndNothingPersonal(t *testing.T) {
	t.Parallel()
	const id = "6f1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a11"
	for _, c := range []struct {
		name   string
		status int
		body   string
		want   string
		reason fault.Reason // of a write
	}{
		{
			"refused", 400, `{"error":{"code":"InvalidModel","message":"The stage 'assignmentRequestApproved' of\n'Robin Marsh' is bad."}}`,
			"op: refused, status 400: Graph turned it down (Graph's request-id " + id + "): InvalidModel: The stage 'assignmentRequestApproved' of '…' is bad", fault.Refused,
		},
		{
			"an address", 400, `{"error":{"code":"InvalidModel","message":"robin@example.com is bad"}}`,
			"op: refused, status 400: Graph turned it down (Graph's request-id " + id + "): InvalidModel", fault.Refused,
		},
		{
			"the token", 401, `{"error":{"code":"` + token + ` x","message":"bad: ` + token + `"}}`,
			"op: unauthorized, status 401: Graph turned it down (Graph's request-id " + id + "): Graph did not say why", fault.Unauthorized,
		},
		{
			"not there", 404, `{"error":{"code":"ResourceNotFound","message":""}}`,
			"op: notFound, status 404: Graph turned it down (Graph's request-id " + id + "): ResourceNotFound", fault.NotFound,
		},
		{
			"not there, and nobody says so", 404, `{"error":{"code":"UnknownError","message":""}}`,
			"op: refused, status 404: Graph turned it down (Graph's request-id " + id + "): UnknownError", fault.Refused,
		},
		{
			"a conflict", 409, `{"error":{"code":"Conflict","message":"It exists."}}`,
			"op: exists, status 409: Graph turned it down (Graph's request-id " + id + "): Conflict: It exists", fault.Exists,
		},
		{"a proxy", 404, `<html>`, "op: unclear, status 404: what answered does not answer as Graph does", fault.Unclear},
		{"a redirect", 302, ``, "op: unclear, status 302: what answered does not answer as Graph does", fault.Unclear},
		{"a page", 200, `<html>`, "op: unclear, status 200: what answered does not answer as Graph does", fault.Unclear},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := 0
			g := client(t, &credential{}, served(&n, says(c.status, http.Header{"Request-Id": {id}}, c.body)))
			var into map[string]any
			err := g.Post(t.Context(), "op", "/things", struct{}{}, &into)
			if err == nil || err.Error() != c.want || fault.ReasonOf(err) != c.reason {
				t.Errorf("\n got %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestWhatMayHaveArrivedIsUnclear(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		want fault.Reason
	}{
		"no connection": {&net.OpError{Op: "dial", Err: errors.New("refused")}, fault.Unreachable},
		"a broken one":  {io.ErrUnexpectedEOF, fault.Unclear},
	} {
		n := 0
		g := client(t, &credential{}, transport(func(*http.Request) (*http.Response, error) { n++; return nil, c.err }))
		if err := g.Put(t.Context(), "op", "/things/1", struct{}{}, nil); fault.ReasonOf(err) != c.want || n != 1 {
			t.Errorf("%s: %d calls, %v", name, n, err)
		}
	}
}

func TestAnAnswerWithoutEndIsNotReadToItsEnd(t *testing.T) {
	t.Parallel()
	n := 0
	g := client(t, &credential{}, served(&n, says(200, nil, strings.Repeat(" ", 17<<20))))
	if err := g.Post(t.Context(), "op", "/things", struct{}{}, nil); !fault.Is(err, fault.Unclear) || !strings.Contains(err.Error(), "more than 16777216 bytes") {
		t.Error(err)
	}
}

func TestWithoutATokenNothingIsSent(t *testing.T) {
	t.Parallel()
	n := 0
	g := client(t, &credential{err: errors.New("sign in first\nwith many more words")}, served(&n, says(200, nil, "{}")))
	err := g.Get(t.Context(), "read", "/things", nil, nil)
	if want := "read: unauthorized: there was no token for Graph: sign in first"; err == nil || err.Error() != want || n != 0 {
		t.Errorf("%d calls, %v; want %s", n, err, want)
	}
}

func TestWhereGraphIsMustBePlain(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"": "https://graph.microsoft.com/.default", "https://graph.microsoft.us/v1.0/": "https://graph.microsoft.us/.default",
		"http://127.0.0.1:7072/v1.0": "https://graph.microsoft.com/.default",
	} {
		if base, scope, err := graphapi.Service(given); err != nil || scope != want || strings.HasSuffix(base.Path, "/") {
			t.Errorf("%q: %v, %s, %v", given, base, scope, err)
		}
	}
	for _, bad := range []string{"http://graph.microsoft.com/v1.0", "graph.microsoft.com", "https://u:p@graph.microsoft.com", "https://graph.microsoft.com/v1.0?x=1", "::"} {
		_, _, err := graphapi.Service(bad)
		if e, ok := errors.AsType[*fault.Error](err); !ok || e.Field != "GRAPH_URL" || e.Reason != fault.Misconfigured {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := graphapi.New(graphapi.Config{}); !fault.Is(err, fault.Misconfigured) {
		t.Errorf("without a credential: %v", err)
	}
}
