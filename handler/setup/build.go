package setup

import (
	"cmp"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/rs/zerolog"

	"ticketbridge/handler/callers"
	"ticketbridge/handler/console"
	"ticketbridge/handler/entra"
	"ticketbridge/handler/entra/identity"
	"ticketbridge/handler/host"
	"ticketbridge/handler/servicenow"
	"ticketbridge/handler/storage"
	"ticketbridge/handler/ticket"
	"ticketbridge/handler/workflow"
)

// Parts are the handler's parts, ready to be served.
type Parts struct {
	Workflow *workflow.Workflow
	Callout  *callers.Verifier
	Close    *callers.Verifier
	Console  http.Handler // nil when there is none
}

// Storage returns the store and the queue of the account that the settings name. Nothing is called. Its errors are fault.Misconfigured and
// name the setting.
func Storage(s Settings) (*storage.Store, *storage.Queue, error) {
	var credential azcore.TokenCredential
	if s.StorageConnection == "" {
		var err error
		if credential, err = s.credential(cmp.Or(s.StorageClientID, s.ClientID)); err != nil {
			return nil, nil, err
		}
	}
	return storage.NewAzure(storage.Settings{
		ConnectionString: s.StorageConnection, AccountName: s.StorageAccount,
		TableServiceURI: s.StorageTables, QueueServiceURI: s.StorageQueues,
		Credential: credential, Prefix: s.StoragePrefix,
	})
}

// Build makes the parts that the settings describe, on a store and a queue. It calls nobody, so that the handler answers the host's first
// probe at once. Its errors are fault.Misconfigured and name the setting.
func Build(s Settings, store *storage.Store, queue *storage.Queue) (*Parts, error) {
	credential, err := s.credential(s.ClientID)
	if err != nil {
		return nil, err
	}
	rules, err := s.Rules()
	if err != nil {
		return nil, err
	}
	tickets, err := s.ServiceNow(rules)
	if err != nil {
		return nil, err
	}
	requests, err := entra.New(entra.Config{GraphURL: s.GraphURL, Credential: credential, Timeout: s.GraphTimeout})
	if err != nil {
		return nil, err
	}
	callout, closing, err := s.Callers()
	if err != nil {
		return nil, err
	}
	pages, err := console.New(console.Config{
		Store: store, Auth: s.ConsoleAuth,
		WebsiteHostname: s.WebsiteHostname, WebsiteInstanceID: s.WebsiteInstance, WebsiteSKU: s.WebsiteSKU, WebsiteAuthEnabled: s.AppServiceAuthOn,
	})
	if err != nil {
		return nil, err
	}
	return &Parts{
		Workflow: &workflow.Workflow{
			Store: store, Queue: queue, Tickets: tickets, Requests: requests, Rules: rules, Catalogs: s.CatalogIDs, Memory: workflow.NewMemory(), NoLookUp: !s.DirectoryLookup,
			Policy: workflow.Policy{
				CallTimeout: s.ServiceNowTimeout, Settle: s.ServiceNowSettle, GraphTimeout: s.GraphTimeout, CheckInterval: s.CheckInterval,
				Retention: time.Duration(s.RetentionDays) * 24 * time.Hour,
			},
		},
		Callout: callout, Close: closing, Console: pages,
	}, nil
}

// ServiceNow returns the client of the instance, which reads the columns that the rules ask for. It calls nobody.
func (s *Settings) ServiceNow(rules *ticket.Rules) (*servicenow.Client, error) {
	credential, err := s.credential(s.ClientID)
	if err != nil {
		return nil, err
	}
	return servicenow.New(servicenow.Config{
		URL: s.ServiceNowURL, Auth: servicenow.Auth(s.ServiceNowAuth),
		ClientID: s.ServiceNowClientID, ClientSecret: s.ServiceNowClientSecret,
		Username: s.ServiceNowUsername, Password: s.ServiceNowPassword, APIKey: s.ServiceNowAPIKey,
		Audience: s.ServiceNowAudience, Credential: credential,
		Certificate: s.ServiceNowCertificate, PrivateKey: s.ServiceNowPrivateKey, Headers: s.ServiceNowHeaders,
		Timeout: s.ServiceNowTimeout, Columns: rules.Columns,
	})
}

// Callers returns who checks the callers of the callout and of the close notification; nothing is fetched. It refuses to leave one of them open.
// The callout's may be entitlement management, where the settings name nobody else, and the relay.
func (s *Settings) Callers() (callout, closing *callers.Verifier, err error) {
	if err := s.guarded(); err != nil {
		return nil, nil, err
	}
	may := s.CalloutCallers
	if s.CalloutAudience != "" && len(may) == 0 {
		may = []string{callers.EntitlementManagement}
	}
	callout, err = callers.New(callers.Config{
		Setting: "CALLOUT", TenantID: s.TenantID, AuthorityHost: s.AuthorityHost, Audience: s.CalloutAudience, Callers: may,
		Relay: s.RelayPrincipal, Role: s.CalloutRole,
	})
	if err != nil {
		return nil, nil, err
	}
	closing, err = callers.New(callers.Config{
		Setting: "CLOSE", TenantID: s.TenantID, AuthorityHost: s.AuthorityHost, Audience: s.CloseAudience, Callers: s.CloseCallers,
		Role: s.CloseRole, HMACKeys: s.CloseHMACKey,
	})
	if err != nil {
		return nil, nil, err
	}
	return callout, closing, nil
}

// Server returns what answers the Functions host. The keys with which callers' tokens are checked begin to be fetched, so that the first caller
// does not wait for them. It should be made by the process that the host started, and early: it remembers who the parent is.
func (p *Parts) Server(log zerolog.Logger) *host.Server {
	p.Callout.Prefetch()
	p.Close.Prefetch()
	return host.New(host.Config{Work: p.Workflow, Callout: p.Callout, Close: p.Close, Console: p.Console, Log: log})
}

// Credential returns the one with which Graph is called. It calls nobody.
func (s *Settings) Credential() (azcore.TokenCredential, error) { return s.credential(s.ClientID) }

func (s *Settings) credential(clientID string) (azcore.TokenCredential, error) {
	return identity.NewCredential(identity.Settings{
		TenantID: s.TenantID, ClientID: clientID, AuthorityHost: s.AuthorityHost, Endpoint: s.IdentityEndpoint,
	})
}
