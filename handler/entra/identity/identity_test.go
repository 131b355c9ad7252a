package identity

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/google/uuid"

	"ticketbridge/handler/fault"
)

func TestWhereAzureOffersAManagedIdentityNothingElseIsTried(t *testing.T) {
	var calls atomic.Int32
	var query atomic.Value
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		query.Store(r.URL.Query())
		w.WriteHeader(http.StatusBadRequest)
	}))
	defer srv.Close()
	t.Setenv("IDENTITY_ENDPOINT", srv.URL)
	t.Setenv("IDENTITY_HEADER", "x")
	id := uuid.NewString()
	c, err := NewCredential(Settings{ClientID: id, Endpoint: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := c.(*azidentity.ManagedIdentityCredential); !ok {
		t.Errorf("the credential is a %T", c)
	}
	if n := calls.Load(); n != 0 {
		t.Errorf("%d calls before a token was wanted", n)
	}
	_, err = c.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{"https://storage.azure.com/.default"}})
	if _, ok := errors.AsType[*azidentity.AuthenticationFailedError](err); !ok {
		t.Errorf("the error is %T: %v", err, err)
	}
	if q := query.Load().(interface{ Get(string) string }); q.Get("client_id") != id || q.Get("resource") != "https://storage.azure.com" {
		t.Errorf("asked with %v", q)
	}
}

func TestElsewhereTheDeveloperSignsIn(t *testing.T) {
	for _, name := range []string{"AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID", "IDENTITY_ENDPOINT"} {
		t.Setenv(name, "")
	}
	c, err := NewCredential(Settings{TenantID: uuid.NewString(), AuthorityHost: "https://login.microsoftonline.us"})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := c.(*azidentity.DefaultAzureCredential); !ok {
		t.Errorf("the credential is a %T", c)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{"x/.default"}}); err == nil {
		t.Error("got a token from nowhere")
	}
}

func TestAnAuthorityThatCannotBeUsedIsNamed(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"http://login.microsoftonline.com", "login.microsoftonline.com", "https://", "://"} {
		_, err := NewCredential(Settings{AuthorityHost: host})
		e, ok := errors.AsType[*fault.Error](err)
		if !ok || e.Reason != fault.Misconfigured || e.Field != "AZURE_AUTHORITY_HOST" {
			t.Errorf("%q: %v, want misconfigured AZURE_AUTHORITY_HOST", host, err)
		}
	}
}
