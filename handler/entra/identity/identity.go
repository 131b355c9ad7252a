// Package identity makes the credential with which the handler gets its tokens: the managed identity where Azure offers one, and
// what a developer's machine or a build agent has elsewhere.
package identity

import (
	"fmt"
	"net/url"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"ticketbridge/handler/fault"
)

// Settings say which identity to use. Beside them azidentity reads the environment itself: IDENTITY_ENDPOINT and IDENTITY_HEADER for a
// managed identity, and AZURE_CLIENT_SECRET and its likes elsewhere.
type Settings struct {
	TenantID      string // AZURE_TENANT_ID; "" is the credential's own
	ClientID      string // AZURE_CLIENT_ID of a user-assigned managed identity; "" is the system-assigned one
	AuthorityHost string // AZURE_AUTHORITY_HOST; "" is the public cloud's. A managed identity does not use it
	Endpoint      string // IDENTITY_ENDPOINT; "" where Azure offers no managed identity, as on a developer's machine
}

// NewCredential returns the credential. Nothing is called before its first token is wanted. Its errors are fault.Misconfigured.
//
// A process that has several clients for the same identity shares their tokens: azidentity keeps a managed identity's tokens for the
// whole process, by client id and resource.
func NewCredential(s Settings) (azcore.TokenCredential, error) {
	if s.Endpoint != "" {
		options := &azidentity.ManagedIdentityCredentialOptions{}
		if s.ClientID != "" {
			options.ID = azidentity.ClientID(s.ClientID)
		}
		c, err := azidentity.NewManagedIdentityCredential(options)
		if err != nil {
			return nil, misconfigured("IDENTITY_ENDPOINT", "no managed identity can be used", err)
		}
		return c, nil
	}
	options := &azidentity.DefaultAzureCredentialOptions{TenantID: s.TenantID}
	if s.AuthorityHost != "" {
		if u, err := url.Parse(s.AuthorityHost); err != nil || u.Scheme != "https" || u.Host == "" {
			return nil, misconfigured("AZURE_AUTHORITY_HOST", fmt.Sprintf("holds %q; it must hold an https URL, as in https://login.microsoftonline.com", s.AuthorityHost), nil)
		}
		options.Cloud = cloud.Configuration{ActiveDirectoryAuthorityHost: s.AuthorityHost}
	}
	c, err := azidentity.NewDefaultAzureCredential(options)
	if err != nil {
		return nil, misconfigured("", "no credential can be used", err)
	}
	return c, nil
}

func misconfigured(setting, detail string, err error) error {
	return &fault.Error{Op: "make credential", Reason: fault.Misconfigured, Field: setting, Detail: detail, Err: err}
}
