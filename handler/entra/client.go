// Package entra tells Microsoft Graph what became of a paused access package assignment request, and asks it how the request stands. It is
// the only package of the handler that uses Microsoft's Graph SDK.
package entra

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	abstractions "github.com/microsoft/kiota-abstractions-go"
	azauth "github.com/microsoft/kiota-authentication-azure-go"
	khttp "github.com/microsoft/kiota-http-go"
	jsonser "github.com/microsoft/kiota-serialization-json-go"
	core "github.com/microsoftgraph/msgraph-sdk-go-core"
	"github.com/microsoftgraph/msgraph-sdk-go/identitygovernance"
	"github.com/microsoftgraph/msgraph-sdk-go/models"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/entra/graphapi"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/workflow"
)

// DefaultGraphURL is Graph v1.0 in the public cloud.
const DefaultGraphURL = graphapi.DefaultURL

const (
	// source says in Graph's records who answered.
	source = "ServiceNow"
	// stageType and the stage make the type of a resume, as Microsoft documents it.
	stageType      = "microsoft.graph.accessPackageCustomExtensionStage."
	defaultTimeout = 30 * time.Second
)

// Config says where Graph is and how to get its tokens.
type Config struct {
	GraphURL   string                 // with the version; "" is DefaultGraphURL. Plain http is taken for this machine only
	Credential azcore.TokenCredential // required
	Timeout    time.Duration          // of one call, getting its token included; 0 is 30 s
	Transport  http.RoundTripper      // nil is a copy of Go's default, with its proxy settings
}

// A Client is a workflow.Requests. It can be used by many goroutines.
type Client struct {
	adapter abstractions.RequestAdapter
	graph   *identitygovernance.EntitlementManagementAssignmentRequestsRequestBuilder
	timeout time.Duration
}

var _ workflow.Requests = (*Client)(nil)

// New makes a client; nothing is called. Its errors are fault.Misconfigured and name the setting.
func New(c Config) (*Client, error) {
	base, scope, err := graphapi.Service(c.GraphURL)
	if err != nil {
		return nil, err
	}
	if c.Credential == nil {
		return nil, &fault.Error{Op: opNew, Reason: fault.Misconfigured, Field: "AZURE_TENANT_ID", Detail: "there is no credential to get Graph's tokens with"}
	}
	auth, err := azauth.NewAzureIdentityAuthenticationProviderWithScopesAndValidHosts(witness{c.Credential}, []string{scope}, []string{base.Hostname()})
	if err != nil {
		return nil, &fault.Error{Op: opNew, Reason: fault.Misconfigured, Field: "GRAPH_URL", Detail: "cannot be used", Err: err}
	}
	if c.Transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConnsPerHost = 16
		c.Transport = t
	}
	// Of the SDK's middleware only the one that writes $select as Graph documents it. Left out: the retries (an answer whose fate is unclear
	// must not be sent again before somebody looked), the redirects (Graph sends none), and the compression (the bodies are some
	// hundred bytes, and it repeats a call that got 415).
	client := &http.Client{
		Transport:     khttp.NewCustomTransportWithParentTransport(&observer{c.Transport}, khttp.NewParametersNameDecodingHandler()),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	// The factories are handed over because the root package of the SDK, which registers them for the whole process, is not imported.
	adapter, err := core.NewGraphRequestAdapterBaseWithParseNodeFactoryAndSerializationWriterFactoryAndHttpClient(auth, core.GraphClientOptions{},
		jsonser.NewJsonParseNodeFactory(), jsonser.NewJsonSerializationWriterFactory(), client)
	if err != nil {
		return nil, &fault.Error{Op: opNew, Reason: fault.Internal, Err: err}
	}
	adapter.SetBaseUrl(strings.TrimRight(base.String(), "/"))
	requests := identitygovernance.NewIdentityGovernanceRequestBuilderInternal(map[string]string{}, adapter).EntitlementManagement().AssignmentRequests()
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	return &Client{adapter: adapter, graph: requests, timeout: c.Timeout}, nil
}

const (
	opNew    = "make Graph client"
	opAnswer = "answer the request in Graph"
	opRead   = "read the request in Graph"
)

// Answer tells Graph the decision: the action "resume" of accessPackageAssignmentRequest, documented to answer 204. The call is sent once; only
// when Graph rejects the token and asks for another (continuous access evaluation), which it does before acting, is it sent again with that.
func (c *Client) Answer(ctx context.Context, key correlation.Key, stage string, d workflow.Decision, detail string) error {
	id, err := pathID(opAnswer, key)
	if err != nil {
		return err
	}
	data := models.NewAccessPackageAssignmentRequestCallbackData()
	if err := setStage(data, stage); err != nil {
		return err
	}
	data.SetCustomExtensionStageInstanceId(&key.Stage)
	data.SetCustomExtensionStageInstanceDetail(&detail)
	switch d {
	case workflow.Resume:
	case workflow.Deny:
		data.SetState(new("Denied"))
	case workflow.Cancel:
		data.SetState(new("Canceled"))
	default: // never send what would be taken for a grant
		return &fault.Error{Op: opAnswer, Reason: fault.Internal, Detail: fmt.Sprintf("there is no decision %q", d)}
	}
	body := identitygovernance.NewEntitlementManagementAssignmentRequestsItemResumePostRequestBody()
	body.SetSource(new(source))
	body.SetTypeEscaped(new(stageType + stage))
	body.SetData(data)

	seen, err := c.call(ctx, func(ctx context.Context) error {
		return c.graph.ByAccessPackageAssignmentRequestId(id).Resume().Post(ctx, body, nil)
	})
	if err == nil && seen.status == http.StatusNoContent {
		return nil
	}
	return seen.fault(opAnswer, fault.Unclear, err)
}

// setStage puts the stage into a callback. A stage that this version of the SDK does not know is sent as it came: Graph knows its own.
func setStage(data *models.AccessPackageAssignmentRequestCallbackData, stage string) error {
	if stage == "" {
		return &fault.Error{Op: opAnswer, Reason: fault.Internal, Field: "Stage", Detail: "the stage is not known"}
	}
	known, err := models.ParseAccessPackageCustomExtensionStage(stage)
	if s, ok := known.(*models.AccessPackageCustomExtensionStage); err == nil && ok && s != nil {
		data.SetStage(s)
		return nil
	}
	data.GetAdditionalData()["stage"] = stage
	return nil
}

// unknownStatus is what Graph itself says for an enumeration's member that its caller does not know.
const unknownStatus = "unknownFutureValue"

// properties are what is asked of a request to see how it stands.
var properties = []string{"id", "state", "status", "customExtensionCalloutInstances"}

// Read asks for the request's state, its status and its callout instances; all three are properties, so nothing is expanded.
func (c *Client) Read(ctx context.Context, key correlation.Key) (workflow.RequestStatus, error) {
	id, err := pathID(opRead, key)
	if err != nil {
		return workflow.RequestStatus{}, err
	}
	type (
		query  = identitygovernance.EntitlementManagementAssignmentRequestsAccessPackageAssignmentRequestItemRequestBuilderGetQueryParameters
		config = identitygovernance.EntitlementManagementAssignmentRequestsAccessPackageAssignmentRequestItemRequestBuilderGetRequestConfiguration
	)
	var r models.AccessPackageAssignmentRequestable
	seen, err := c.call(ctx, func(ctx context.Context) (err error) {
		r, err = c.graph.ByAccessPackageAssignmentRequestId(id).Get(ctx, &config{
			QueryParameters: &query{Select: properties},
		})
		return err
	})
	if err != nil || seen.status != http.StatusOK || r == nil || !strings.EqualFold(deref(r.GetId()), id) {
		return workflow.RequestStatus{}, seen.fault(opRead, fault.Unreachable, err)
	}
	out := workflow.RequestStatus{Status: deref(r.GetStatus())}
	if s := r.GetState(); s != nil {
		out.State = s.String()
	}
	for _, i := range r.GetCustomExtensionCalloutInstances() {
		if i == nil || !strings.EqualFold(strings.TrimSpace(deref(i.GetId())), key.Stage) {
			continue
		}
		out.Instance = unknownStatus
		if s := i.GetStatus(); s != nil {
			out.Instance = s.String()
		}
	}
	return out, nil
}

// pathID returns the request id for a URL. A key that did not come from correlation.NewKey is a bug, and must not reach a path.
func pathID(op string, key correlation.Key) (string, error) {
	k, err := correlation.NewKey(key.Request, key.Stage)
	if err != nil {
		return "", &fault.Error{Op: op, Reason: fault.Internal, Detail: "the key is not a pair of GUIDs"}
	}
	return k.Request, nil
}

// call makes one call under the client's time-out and returns what was seen of it on the wire.
func (c *Client) call(ctx context.Context, do func(context.Context) error) (seen *exchange, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	seen = &exchange{}
	ctx = context.WithValue(ctx, exchangeKey{}, seen)
	defer func() {
		// The SDK panics on some malformed headers and error bodies. What was seen on the wire still tells how the call ended.
		if p := recover(); p != nil {
			err = errors.New("the Graph SDK could not read the answer")
		}
		seen.late = ctx.Err()
	}()
	return seen, do(ctx)
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
