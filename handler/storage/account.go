package storage

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azqueue"

	"ticketbridge/handler/fault"
)

// The settings that say which storage account is used, as the Functions host reads them too.
const (
	settingConnection = "AzureWebJobsStorage"
	settingAccount    = "AzureWebJobsStorage__accountName"
	settingTables     = "AzureWebJobsStorage__tableServiceUri"
	settingQueues     = "AzureWebJobsStorage__queueServiceUri"
)

// Settings say which storage account is used and how: by a connection string, or by an identity.
type Settings struct {
	// ConnectionString has an account key or a shared access signature, or is "UseDevelopmentStorage=true". With it, the rest of the
	// account's settings is not looked at.
	ConnectionString string

	AccountName     string // of an account in the public cloud, unless both URIs are given
	TableServiceURI string // "" is that of AccountName; http is taken for this machine only
	QueueServiceURI string // likewise
	Credential      azcore.TokenCredential

	Prefix string // STORAGE_PREFIX: of the names of our tables and queue

	// Transport makes the HTTP calls, as an *http.Client does; nil is azcore's own.
	Transport policy.Transporter

	// Retry says how a call is repeated within the time that its context has; the zero value is DefaultRetry.
	Retry policy.RetryOptions
}

// DefaultRetry is short: a callout has to be answered within 800 ms, and whatever takes longer is repeated by the workflow. A Retry-After of
// more than MaxRetryDelay is not waited for but returned to the caller.
func DefaultRetry() policy.RetryOptions {
	return policy.RetryOptions{MaxRetries: 2, RetryDelay: 40 * time.Millisecond, MaxRetryDelay: 250 * time.Millisecond, TryTimeout: 10 * time.Second}
}

// NewAzure returns the store and the queue of a storage account. Nothing is called before they are used. Its errors are fault.Misconfigured
// and name the setting; they never show a connection string.
func NewAzure(s Settings) (*Store, *Queue, error) {
	names, err := NamesFor(s.Prefix)
	if err != nil {
		return nil, nil, err
	}
	a, err := accountOf(s)
	if err != nil {
		return nil, nil, err
	}
	if s.Retry.MaxRetries == 0 && s.Retry.RetryDelay == 0 && s.Retry.TryTimeout == 0 {
		s.Retry = DefaultRetry()
	}
	at := &clock{}
	options := func() azcore.ClientOptions { // made anew for each client: azqueue adds to the one it gets
		o := azcore.ClientOptions{Retry: s.Retry, Transport: s.Transport}
		o.PerCallPolicies = []policy.Policy{policyFunc(readBatch), policyFunc(keepText)}
		o.PerRetryPolicies = []policy.Policy{policyFunc(countSendings), at}
		if a.bearer != nil {
			o.PerRetryPolicies = append(o.PerRetryPolicies, a.bearer)
		}
		return o
	}
	t, err := a.tableService(options())
	if err != nil {
		return nil, nil, misconfigured(settingConnection, "cannot be used: "+err.Error())
	}
	q, err := a.queueService(options())
	if err != nil {
		return nil, nil, misconfigured(settingConnection, "cannot be used: "+err.Error())
	}
	return &Store{&azureTables{t}, names, at}, &Queue{&azureQueues{q}, names.Queue}, nil
}

func misconfigured(setting, detail string) error {
	return &fault.Error{Op: "open storage", Reason: fault.Misconfigured, Field: setting, Detail: detail}
}

// account is where a storage account is and how its calls are authorized: by key, by a signature in the URLs, or by tokens.
type account struct {
	tables, queues string
	name, key      string
	bearer         policy.Policy
}

// Both services are used through clients without the SDK's own credential where tokens are used: aztables offers no way to send one to an
// http address, as that of an emulator is.
func (a account) tableService(o azcore.ClientOptions) (*aztables.ServiceClient, error) {
	if a.key == "" {
		return aztables.NewServiceClientWithNoCredential(a.tables, &aztables.ClientOptions{ClientOptions: o})
	}
	cred, err := aztables.NewSharedKeyCredential(a.name, a.key)
	if err != nil {
		return nil, errors.New("the account key is not base64")
	}
	return aztables.NewServiceClientWithSharedKey(a.tables, cred, &aztables.ClientOptions{ClientOptions: o})
}

func (a account) queueService(o azcore.ClientOptions) (*azqueue.ServiceClient, error) {
	if a.key == "" {
		return azqueue.NewServiceClientWithNoCredential(a.queues, &azqueue.ClientOptions{ClientOptions: o})
	}
	cred, err := azqueue.NewSharedKeyCredential(a.name, a.key)
	if err != nil {
		return nil, errors.New("the account key is not base64")
	}
	return azqueue.NewServiceClientWithSharedKeyCredential(a.queues, cred, &azqueue.ClientOptions{ClientOptions: o})
}

func accountOf(s Settings) (account, error) {
	if s.ConnectionString != "" {
		return parseConnectionString(s.ConnectionString)
	}
	if s.AccountName == "" && s.TableServiceURI == "" && s.QueueServiceURI == "" {
		return account{}, misconfigured(settingConnection, "is not set; it must hold a connection string, or "+settingAccount+" the name of a storage account")
	}
	if s.Credential == nil {
		return account{}, misconfigured(settingAccount, "needs an identity, and there is none")
	}
	var a account
	var err error
	if a.tables, err = endpoint(settingTables, s.TableServiceURI, s.AccountName, "table"); err != nil {
		return account{}, err
	}
	if a.queues, err = endpoint(settingQueues, s.QueueServiceURI, s.AccountName, "queue"); err != nil {
		return account{}, err
	}
	// The scope is the same for both services and in all clouds.
	a.bearer = runtime.NewBearerTokenPolicy(identity{s.Credential}, []string{"https://storage.azure.com/.default"}, &policy.BearerTokenOptions{
		InsecureAllowCredentialWithHTTP: true, // endpoint has made sure that http stays on this machine
	})
	return a, nil
}

// endpoint returns the URL of a service reached with tokens: the one set, or that of the account.
func endpoint(setting, uri, account, service string) (string, error) {
	if uri == "" {
		if !plainAccount(account) {
			held := "is not set"
			if account != "" {
				held = fmt.Sprintf("holds %.80q", account)
			}
			return "", misconfigured(settingAccount, held+"; it must hold the name of a storage account, 3 to 24 lower-case letters and digits, unless "+setting+" is set")
		}
		return "https://" + account + "." + service + ".core.windows.net", nil
	}
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.User != nil || u.Fragment != "" || (u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname()))) {
		return "", misconfigured(setting, fmt.Sprintf("holds %.200q; it must hold an https URL, as in https://account.%s.core.windows.net (http is taken for this machine only)", uri, service))
	}
	return strings.TrimRight(uri, "/"), nil
}

func plainAccount(name string) bool {
	return len(name) >= 3 && len(name) <= 24 && !strings.ContainsFunc(name, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') })
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// The account of the storage emulator, which Microsoft documents for everybody to use ("Use the Azurite emulator").
const (
	emulatorAccount = "devstoreaccount1"
	emulatorKey     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

// parseConnectionString reads a connection string as the storage libraries for .NET do, and "UseDevelopmentStorage=true", which those for Go
// do not know. Names are read in any case.
func parseConnectionString(s string) (account, error) {
	values := map[string]string{}
	for part := range strings.SplitSeq(s, ";") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		if !ok {
			return account{}, connectionProblem("a part of it is not name=value")
		}
		values[strings.ToLower(strings.TrimSpace(name))] = strings.TrimSpace(value)
	}
	if strings.EqualFold(values["usedevelopmentstorage"], "true") {
		host := values["developmentstorageproxyuri"]
		if host == "" {
			host = "http://127.0.0.1"
		}
		host = strings.TrimRight(host, "/")
		return account{tables: host + ":10002/" + emulatorAccount, queues: host + ":10001/" + emulatorAccount, name: emulatorAccount, key: emulatorKey}, nil
	}
	a := account{name: values["accountname"], key: values["accountkey"]}
	signature := strings.TrimPrefix(values["sharedaccesssignature"], "?")
	if a.key == "" && signature == "" {
		return account{}, connectionProblem("it has no AccountKey and no SharedAccessSignature")
	}
	if a.key != "" && a.name == "" {
		return account{}, connectionProblem("it has no AccountName")
	}
	if _, err := base64.StdEncoding.DecodeString(a.key); err != nil {
		return account{}, connectionProblem("its AccountKey is not base64")
	}
	for _, service := range []struct {
		name string
		url  *string
	}{{"table", &a.tables}, {"queue", &a.queues}} {
		at := values[service.name+"endpoint"]
		if at == "" {
			if a.name == "" {
				return account{}, connectionProblem("it has neither AccountName nor the endpoint of the " + service.name + " service")
			}
			scheme, suffix := values["defaultendpointsprotocol"], values["endpointsuffix"]
			if scheme == "" {
				scheme = "https"
			}
			if suffix == "" {
				suffix = "core.windows.net"
			}
			at = scheme + "://" + a.name + "." + service.name + "." + suffix
		}
		u, err := url.Parse(at)
		if err != nil || u.Host == "" || !slices.Contains([]string{"http", "https"}, u.Scheme) {
			return account{}, connectionProblem("its endpoint of the " + service.name + " service is not a URL")
		}
		*service.url = strings.TrimRight(at, "/")
		if a.key != "" {
			continue
		}
		if u.Scheme != "https" && !loopback(u.Hostname()) {
			return account{}, connectionProblem("its shared access signature would go to the " + service.name + " service without encryption")
		}
		*service.url += "/?" + signature
	}
	return a, nil
}

func connectionProblem(what string) error {
	return misconfigured(settingConnection, "holds a value that is not shown, and "+what+
		"; it must hold a connection string, as in DefaultEndpointsProtocol=https;AccountName=…;AccountKey=…;EndpointSuffix=core.windows.net")
}

// identity makes the errors of a credential ours, before the SDK takes them for those of a call.
type identity struct{ azcore.TokenCredential }

func (i identity) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	t, err := i.TokenCredential.GetToken(ctx, o)
	if err == nil {
		return t, nil
	}
	if ctx.Err() != nil {
		return t, &fault.Error{Op: "get a token for the storage", Reason: fault.Unreachable, Detail: "the time for the call is over", Err: ctx.Err()}
	}
	return t, &fault.Error{
		Op: "get a token for the storage", Reason: fault.Unauthorized, Detail: "the identity got none", Err: err,
		Advice: "Check that the function app has a managed identity, and that AzureWebJobsStorage__clientId, if set, is the client id of one of its identities.",
	}
}

type policyFunc func(*policy.Request) (*http.Response, error)

func (f policyFunc) Do(req *policy.Request) (*http.Response, error) { return f(req) }

// Keys of what a call carries in its context.
type (
	sendingsKey struct{} // *atomic.Int32: how often it was sent
	batchKey    struct{} // *batch: what a transaction was answered
	keepTextKey struct{} // present: an update of a message leaves its text alone
)

// countSendings counts how often a call is sent, for whoever has to know whether an answer may be that to a repetition.
func countSendings(req *policy.Request) (*http.Response, error) {
	if n, ok := req.Raw().Context().Value(sendingsKey{}).(*atomic.Int32); ok {
		n.Add(1)
	}
	return req.Next()
}

// counted returns a context that counts.
func counted(ctx context.Context) (context.Context, *atomic.Int32) {
	n := new(atomic.Int32)
	return context.WithValue(ctx, sendingsKey{}, n), n
}
