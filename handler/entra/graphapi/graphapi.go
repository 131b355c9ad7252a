// Package graphapi calls Microsoft Graph in plain JSON: for what is read and written back whole, unknown properties included, which typed
// models do not promise. It also holds what every client of Graph shares: where Graph is, and what of its errors may be shown.
package graphapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"

	"ticketbridge/handler/fault"
)

// DefaultURL is Graph v1.0 in the public cloud.
const DefaultURL = "https://graph.microsoft.com/v1.0"

const (
	defaultTimeout = 30 * time.Second
	// maxAnswer is the largest answer that is read.
	maxAnswer = 16 << 20
	// A read is tried again when Graph is throttled or does not serve: so often, and when it does not ask for more patience than this.
	readRetries, patience = 3, 30 * time.Second
	// maxPages is a limit on what Graph may make us read of one list.
	maxPages = 1000
)

// Config says where Graph is and how to get its tokens.
type Config struct {
	GraphURL   string                 // with the version; "" is DefaultURL. Plain http is taken for this machine only
	Credential azcore.TokenCredential // required; its tokens are kept until they run out
	Timeout    time.Duration          // of one try of one call; 0 is 30 s
	Transport  http.RoundTripper      // nil is a copy of Go's default, with its proxy settings
}

// A Client calls Graph. It can be used by many goroutines. Its errors are fault.Errors with what Graph said as far as that may be shown, and
// without advice, which depends on who calls: Unreachable and Throttled after the retries of a read; Unclear for a write that was sent and got
// no usable answer; Unauthorized, Forbidden, NotFound, Exists (409) and Refused (what else Graph turns down). Code returns Graph's error code.
type Client struct {
	base     *url.URL
	pipeline runtime.Pipeline
	timeout  time.Duration
}

// New makes a client; nothing is called. Its errors are fault.Misconfigured and name the setting.
func New(c Config) (*Client, error) {
	base, scope, err := Service(c.GraphURL)
	if err != nil {
		return nil, err
	}
	if c.Credential == nil {
		return nil, &fault.Error{Op: opNew, Reason: fault.Misconfigured, Field: "AZURE_TENANT_ID", Detail: "there is no credential to get Graph's tokens with"}
	}
	if c.Transport == nil {
		c.Transport = http.DefaultTransport.(*http.Transport).Clone()
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	auth := runtime.NewBearerTokenPolicy(witness{c.Credential}, []string{scope}, &policy.BearerTokenOptions{InsecureAllowCredentialWithHTTP: base.Scheme == "http"})
	pipeline := runtime.NewPipeline("ticketbridge", "v1", runtime.PipelineOptions{PerRetry: []policy.Policy{auth}}, &policy.ClientOptions{
		Transport: &http.Client{
			Transport:     limited{c.Transport},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		Retry: policy.RetryOptions{
			MaxRetries: readRetries, TryTimeout: c.Timeout, RetryDelay: time.Second, MaxRetryDelay: patience,
			StatusCodes: []int{http.StatusTooManyRequests, http.StatusServiceUnavailable},
		},
		Telemetry: policy.TelemetryOptions{ApplicationID: "ticketbridge"},
	})
	return &Client{base: base, pipeline: pipeline, timeout: c.Timeout}, nil
}

const opNew = "make Graph client"

// Service reads GRAPH_URL and returns the scope of the tokens that go there: "https://graph.microsoft.us/.default" for Azure Government, and so
// on. A Graph on this machine is a stand-in, which takes the public cloud's tokens. Its errors are fault.Misconfigured.
func Service(graphURL string) (base *url.URL, scope string, err error) {
	if graphURL == "" {
		graphURL = DefaultURL
	}
	u, err := url.Parse(graphURL)
	bad := func(detail string) (*url.URL, string, error) {
		return nil, "", &fault.Error{Op: opNew, Reason: fault.Misconfigured, Field: "GRAPH_URL", Detail: detail + "; it must hold a URL as in " + DefaultURL}
	}
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return bad("holds no plain URL")
	}
	u.Path = strings.TrimRight(u.Path, "/")
	local := false
	switch u.Hostname() {
	case "localhost", "127.0.0.1", "::1":
		local = true
	}
	switch {
	case u.Scheme == "https" && !local:
		return u, "https://" + u.Host + "/.default", nil
	case local && (u.Scheme == "http" || u.Scheme == "https"):
		return u, "https://graph.microsoft.com/.default", nil
	default:
		return bad(fmt.Sprintf("holds %q, which is not https", graphURL))
	}
}

// Get reads one thing. The path begins with a slash, is relative to the version and escaped (Path does that); "into" is what json.Unmarshal takes,
// as a *json.RawMessage to have it as it came. op says what is being done, for an error.
func (c *Client) Get(ctx context.Context, op, path string, query url.Values, into any) error {
	_, err := c.call(ctx, op, http.MethodGet, c.address(path, query), nil, into)
	return err
}

// List reads every page of a list.
func (c *Client) List(ctx context.Context, op, path string, query url.Values) ([]json.RawMessage, error) {
	var all []json.RawMessage
	next := c.address(path, query)
	for range maxPages {
		var page struct {
			Value []json.RawMessage `json:"value"`
			Next  string            `json:"@odata.nextLink"`
		}
		header, err := c.call(ctx, op, http.MethodGet, next, nil, &page)
		if err != nil {
			return nil, err
		}
		if page.Value == nil { // an empty list is [], and something else is not a list
			return nil, &fault.Error{Op: op, Reason: fault.Unreachable, Status: http.StatusOK, Advice: adviseURL, Detail: "what answered does not answer with a list, as Graph does" + Support(header)}
		}
		all = append(all, page.Value...)
		if page.Next == "" {
			return all, nil
		}
		// A token must not follow a link to somebody else.
		u, err := url.Parse(page.Next)
		if err != nil || u.Scheme != c.base.Scheme || !strings.EqualFold(u.Host, c.base.Host) {
			return nil, &fault.Error{Op: op, Reason: fault.Refused, Detail: "the next page of the list is said to be at another server", Advice: adviseURL}
		}
		next = page.Next
	}
	return nil, &fault.Error{Op: op, Reason: fault.Refused, Detail: fmt.Sprintf("the list has more than %d pages", maxPages)}
}

// Post makes something, or calls an action. It is sent once.
func (c *Client) Post(ctx context.Context, op, path string, body, into any) error {
	_, err := c.call(ctx, op, http.MethodPost, c.address(path, nil), body, into)
	return err
}

// Put replaces something. It is sent once.
func (c *Client) Put(ctx context.Context, op, path string, body, into any) error {
	_, err := c.call(ctx, op, http.MethodPut, c.address(path, nil), body, into)
	return err
}

// Patch changes something. It is sent once.
func (c *Client) Patch(ctx context.Context, op, path string, body, into any) error {
	_, err := c.call(ctx, op, http.MethodPatch, c.address(path, nil), body, into)
	return err
}

// Delete removes something. It is sent once.
func (c *Client) Delete(ctx context.Context, op, path string) error {
	_, err := c.call(ctx, op, http.MethodDelete, c.address(path, nil), nil, nil)
	return err
}

// Path makes a path of names and ids: Path("catalogs", id) is "/catalogs/…", escaped.
func Path(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString("/" + url.PathEscape(p))
	}
	return b.String()
}

// Quote writes a text as OData wants it in a $filter: 'Robin”s catalog'.
func Quote(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// address writes the query as Graph documents it: with dollar signs, and spaces that no server takes for a plus.
func (c *Client) address(path string, query url.Values) string {
	u := strings.TrimRight(c.base.String(), "/") + path
	if len(query) > 0 {
		u += "?" + strings.NewReplacer("%24", "$", "+", "%20").Replace(query.Encode())
	}
	return u
}

// call makes one call, and reads its answer into "into" unless that is nil.
func (c *Client) call(ctx context.Context, op, method, address string, body, into any) (http.Header, error) {
	read := method == http.MethodGet
	if !read {
		ctx = policy.WithRetryOptions(ctx, policy.RetryOptions{MaxRetries: -1, TryTimeout: c.timeout})
	}
	req, err := runtime.NewRequest(ctx, method, address)
	if err != nil {
		return nil, &fault.Error{Op: op, Reason: fault.Internal, Detail: "the call could not be made", Err: err}
	}
	req.Raw().Header.Set("Accept", "application/json")
	if body != nil {
		encoded, err := json.Marshal(body)
		if err == nil {
			err = req.SetBody(streaming.NopCloser(bytes.NewReader(encoded)), "application/json")
		}
		if err != nil {
			return nil, &fault.Error{Op: op, Reason: fault.Internal, Detail: "the body could not be written", Err: err}
		}
	}
	resp, err := c.pipeline.Do(req)
	if err != nil {
		return nil, c.lost(ctx, op, read, err)
	}
	defer resp.Body.Close()
	answer, err := runtime.Payload(resp)
	if err != nil {
		return nil, c.lost(ctx, op, read, err)
	}
	if resp.StatusCode >= 300 {
		return nil, refused(op, read, resp, answer)
	}
	if into == nil {
		return resp.Header, nil
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return nil, &fault.Error{Op: op, Reason: lostIn(read), Status: resp.StatusCode, Detail: "what answered does not answer as Graph does", Advice: adviseURL}
	}
	return resp.Header, nil
}

// lostIn is the reason for a call that was sent and has no usable answer: a write may have happened.
func lostIn(read bool) fault.Reason {
	if read {
		return fault.Unreachable
	}
	return fault.Unclear
}

// lost says why there is no answer.
func (c *Client) lost(ctx context.Context, op string, read bool, err error) error {
	if failed, ok := errors.AsType[*tokenError](err); ok {
		return CredentialFault(op, failed.err, ctx.Err())
	}
	e := &fault.Error{Op: op, Reason: lostIn(read), Detail: "the call was sent, and no whole answer came"}
	if dial, ok := errors.AsType[*net.OpError](err); ok && dial.Op == "dial" {
		e.Reason, e.Detail = fault.Unreachable, "there was no connection to Graph, so nothing was sent"
	}
	e.Err = Cause(err, "")
	return e
}

// witness marks what the credential said, so that it is not taken for Graph's silence, and is not tried again.
type witness struct{ azcore.TokenCredential }

func (w witness) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	t, err := w.TokenCredential.GetToken(ctx, o)
	if err == nil && t.Token == "" {
		err = errors.New("the credential gave an empty token")
	}
	if err != nil {
		return t, &tokenError{err}
	}
	return t, nil
}

type tokenError struct{ err error }

func (n *tokenError) Error() string { return n.err.Error() }
func (n *tokenError) Unwrap() error { return n.err }
func (n *tokenError) NonRetriable() {}

// limited is a transport that lets nobody make us read without end.
type limited struct{ next http.RoundTripper }

func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = &capped{ReadCloser: resp.Body, left: maxAnswer}
	return resp, nil
}

type capped struct {
	io.ReadCloser
	left int64
}

func (c *capped) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	if c.left -= int64(n); c.left < 0 {
		return 0, fmt.Errorf("the answer has more than %d bytes", maxAnswer)
	}
	return n, err
}
