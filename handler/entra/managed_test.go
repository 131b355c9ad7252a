package entra

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"ticketbridge/handler/entra/identity"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/workflow"
)

// identityEndpoint is App Service's, api-version 2019-08-01; it answers with status when that is not 200.
func identityEndpoint(t *testing.T, status int, answer string) (calls *atomic.Int32, asked *atomic.Value) {
	t.Helper()
	calls, asked = &atomic.Int32{}, &atomic.Value{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		asked.Store(r.Header.Get("X-IDENTITY-HEADER") + " " + r.URL.Query().Encode())
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		if answer == "" {
			answer = fmt.Sprintf(`{"access_token":%q,"expires_on":"%d","resource":"https://graph.microsoft.com","token_type":"Bearer"}`, secret, time.Now().Add(24*time.Hour).Unix())
		}
		_, _ = fmt.Fprint(w, answer)
	}))
	t.Cleanup(srv.Close)
	t.Setenv("IDENTITY_ENDPOINT", srv.URL+"/msi/token")
	t.Setenv("IDENTITY_HEADER", "header-secret")
	return calls, asked
}

// managed makes a client with the credential that production uses. The client id is new each time, since azidentity keeps the tokens of a
// managed identity for the whole process.
func managed(t *testing.T, graphURL, endpoint string) (c *Client, clientID string) {
	t.Helper()
	clientID = uuid.NewString()
	cred, err := identity.NewCredential(identity.Settings{ClientID: clientID, Endpoint: endpoint})
	if err != nil {
		t.Fatal(err)
	}
	c, err = New(Config{GraphURL: graphURL + "/v1.0", Credential: cred, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return c, clientID
}

func TestTheManagedIdentityOfAppServiceIsUsedAsItIs(t *testing.T) {
	calls, asked := identityEndpoint(t, http.StatusOK, "")
	url, _ := graph(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got != "Bearer "+secret {
			t.Errorf("Authorization is %q", got)
		}
		w.WriteHeader(http.StatusNoContent)
	})
	c, clientID := managed(t, url, "set")
	if n := calls.Load(); n != 0 {
		t.Errorf("%d calls of the identity endpoint before anything was wanted", n)
	}
	for range 3 {
		if err := c.Answer(t.Context(), key, approved, workflow.Resume, "REQ1 closed"); err != nil {
			t.Fatal(err)
		}
	}
	want := "header-secret api-version=2019-08-01&client_id=" + clientID + "&resource=https%3A%2F%2Fgraph.microsoft.com"
	if diff := cmp.Diff(want, asked.Load()); diff != "" {
		t.Errorf("asked the identity endpoint (-want +got):\n%s", diff)
	}
	if n := calls.Load(); n != 1 {
		t.Errorf("%d tokens were asked for, want one that is kept", n)
	}
}

func TestAnIdentityEndpointThatRefusesIsUnauthorizedAndSaysWhy(t *testing.T) {
	for _, tc := range []struct {
		status int
		answer string
		want   fault.Reason
		says   string
	}{
		{400, `{"statusCode":400,"message":"No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId."}`, fault.Unauthorized, "No User Assigned"},
		{401, `{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided. Trace ID: 1 Correlation ID: 2"}`, fault.Unauthorized, "AADSTS7000215"},
		{403, `<html>`, fault.Unauthorized, "403"},
		{501, `{"message":"not here"}`, fault.Unreachable, "not here"},
	} {
		t.Run(fmt.Sprint(tc.status), func(t *testing.T) {
			identityEndpoint(t, tc.status, tc.answer)
			url, calls := graph(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
			c, _ := managed(t, url, "set")
			err := c.Answer(t.Context(), key, approved, workflow.Resume, "x")
			if !fault.Is(err, tc.want) || fault.Advice(err) == "" || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v, want %s with an advice and %q", err, tc.want, tc.says)
			}
			for _, s := range []string{"header-secret", "Trace ID", "\n"} {
				if strings.Contains(err.Error(), s) {
					t.Errorf("%q is in the error: %v", s, err)
				}
			}
			if n := calls.Load(); n != 0 {
				t.Errorf("Graph was called %d times without a token", n)
			}
		})
	}
}

func TestAnIdentityEndpointThatIsSilentIsUnreachable(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer srv.Close()
	t.Setenv("IDENTITY_ENDPOINT", srv.URL)
	t.Setenv("IDENTITY_HEADER", "x")
	cred, err := identity.NewCredential(identity.Settings{ClientID: uuid.NewString(), Endpoint: "set"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{GraphURL: "http://127.0.0.1:1/v1.0", Credential: cred, Timeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(t.Context(), key); !fault.Is(err, fault.Unreachable) {
		t.Errorf("%v, want unreachable", err)
	}
}

func TestTheAnswerIsPlainJSON(t *testing.T) {
	t.Parallel()
	url, _ := graph(t, func(w http.ResponseWriter, r *http.Request) {
		if e := r.Header.Get("Content-Encoding"); e != "" {
			t.Errorf("the body is encoded: %s", e)
		}
		var v any
		if err := json.NewDecoder(r.Body).Decode(&v); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusNoContent)
	})
	if err := client(t, url).Answer(t.Context(), key, approved, workflow.Resume, "x"); err != nil {
		t.Error(err)
	}
}
