package connect

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	azpolicy "github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"ticketbridge/handler/fault"
)

// The ways to sign in.
const (
	DeviceCode      = "device-code"      // a person, in any browser
	Browser         = "browser"          // a person, in this machine's browser
	CLI             = "cli"              // whoever has signed in with the Azure CLI
	Environment     = "environment"      // an application, by AZURE_CLIENT_ID and AZURE_CLIENT_SECRET and their likes
	ManagedIdentity = "managed-identity" // the identity of the machine
)

// graphTools is "Microsoft Graph Command Line Tools", an application of Microsoft's for which people may consent to the permissions that a command needs.
// The Azure CLI's own has none for entitlement management (github.com/Azure/azure-cli/issues/32733).
const graphTools = "14d82eec-204b-4c2f-b7e8-296a70dab67e"

// knownAuthorities are those that Microsoft's library knows; others, as of private clouds, must not be looked up at the public cloud's.
var knownAuthorities = []string{"login.microsoftonline.com", "login.microsoftonline.us", "login.partner.microsoftonline.cn", "login.chinacloudapi.cn"}

// A SignIn says who signs in.
type SignIn struct {
	How           string    // "" is DeviceCode
	TenantID      string    // AZURE_TENANT_ID
	ClientID      string    // of the application with which a person signs in; "" is Microsoft Graph Command Line Tools. With ManagedIdentity: AZURE_CLIENT_ID
	AuthorityHost string    // AZURE_AUTHORITY_HOST
	Tell          io.Writer // where a person is told to sign in
}

// Credential returns the credential; nobody signs in before its first token is wanted. A person is asked for the permissions that the wish needs, and no more.
func (s SignIn) Credential(w Wish, undo bool) (azcore.TokenCredential, error) {
	client := azcore.ClientOptions{}
	private := false
	if s.AuthorityHost != "" {
		u, err := url.Parse(s.AuthorityHost)
		if err != nil || u.Scheme != "https" || u.Host == "" {
			return nil, &fault.Error{
				Op: "sign in", Reason: fault.Misconfigured, Field: "AZURE_AUTHORITY_HOST",
				Detail: fmt.Sprintf("holds %q; it must hold an https URL, as in https://login.microsoftonline.com", s.AuthorityHost),
			}
		}
		client.Cloud = cloud.Configuration{ActiveDirectoryAuthorityHost: s.AuthorityHost}
		private = !slices.Contains(knownAuthorities, strings.ToLower(u.Hostname()))
	}
	app := s.ClientID
	if app == "" {
		app = graphTools
	}
	var c azcore.TokenCredential
	var err error
	switch s.How {
	case DeviceCode, "":
		c, err = azidentity.NewDeviceCodeCredential(&azidentity.DeviceCodeCredentialOptions{
			ClientOptions: client, ClientID: app, TenantID: s.TenantID, DisableInstanceDiscovery: private,
			UserPrompt: func(_ context.Context, m azidentity.DeviceCodeMessage) error {
				_, err := fmt.Fprintln(s.Tell, m.Message)
				return err
			},
		})
		c = asking{c, permissions(w, undo)}
	case Browser:
		c, err = azidentity.NewInteractiveBrowserCredential(&azidentity.InteractiveBrowserCredentialOptions{
			ClientOptions: client, ClientID: app, TenantID: s.TenantID, DisableInstanceDiscovery: private,
		})
		c = asking{c, permissions(w, undo)}
	case CLI:
		c, err = azidentity.NewAzureCLICredential(&azidentity.AzureCLICredentialOptions{TenantID: s.TenantID})
	case Environment:
		c, err = azidentity.NewEnvironmentCredential(&azidentity.EnvironmentCredentialOptions{ClientOptions: client, DisableInstanceDiscovery: private})
	case ManagedIdentity:
		options := &azidentity.ManagedIdentityCredentialOptions{}
		if s.ClientID != "" {
			options.ID = azidentity.ClientID(s.ClientID)
		}
		c, err = azidentity.NewManagedIdentityCredential(options)
	default:
		return nil, misconfigured("sign-in", fmt.Sprintf("holds %q; it must hold %s, %s, %s, %s or %s", s.How, DeviceCode, Browser, CLI, Environment, ManagedIdentity))
	}
	if err != nil {
		text, _, _ := strings.Cut(err.Error(), "\n")
		return nil, misconfigured("sign-in", s.How+" cannot be used: "+text)
	}
	return c, nil
}

// permissions are the delegated permissions of Graph that a wish needs.
func permissions(w Wish, undo bool) []string {
	out := []string{"EntitlementManagement.ReadWrite.All"}
	switch {
	case w.App != "":
		out = append(out, "Application.ReadWrite.All")
	case w.Identity != "":
		out = append(out, "Application.Read.All")
	}
	if !undo && (w.RelayIdentity != "" || len(w.CloseCallers) > 0) {
		out = append(out, "AppRoleAssignment.ReadWrite.All")
	}
	return out
}

// asking asks for permissions by their names. What an application was once allowed, which is what /.default means, need not be enough.
type asking struct {
	azcore.TokenCredential
	permissions []string
}

func (a asking) GetToken(ctx context.Context, o azpolicy.TokenRequestOptions) (azcore.AccessToken, error) {
	var scopes []string
	for _, s := range o.Scopes {
		resource, all := strings.CutSuffix(s, "/.default")
		if !all {
			scopes = append(scopes, s)
			continue
		}
		for _, p := range a.permissions {
			scopes = append(scopes, resource+"/"+p)
		}
	}
	o.Scopes = scopes
	return a.TokenCredential.GetToken(ctx, o)
}
