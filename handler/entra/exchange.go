package entra

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// maxAnswer is the largest answer that is read; those asked for have a few hundred bytes.
const maxAnswer = 1 << 20

// exchange is what was seen on the wire of one call. The SDK's own errors lose the status of an answer that is not JSON, and do not tell
// whether anything was sent.
type exchange struct {
	credential error // getting a token failed
	tried      bool  // it came to sending
	sent       bool  // the request may have reached the other side, and no answer came
	status     int   // of the answer; 0 when there was none
	header     http.Header
	body       []byte // of an answer with an error status
	bearer     string // the Authorization header that was sent, to keep it out of errors
	late       error  // the call's context had ended
}

type exchangeKey struct{}

func seenBy(ctx context.Context) *exchange {
	if x, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		return x
	}
	return &exchange{}
}

// witness notes that it was the credential that failed.
type witness struct{ azcore.TokenCredential }

func (w witness) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	t, err := w.TokenCredential.GetToken(ctx, o)
	if err == nil && t.Token == "" {
		err = errors.New("the credential gave an empty token")
	}
	if err != nil {
		seenBy(ctx).credential = err
	}
	return t, err
}

// observer is the transport below the SDK: it sends a body with its length, reads the answer whole, and notes what it saw.
type observer struct{ next http.RoundTripper }

func (o *observer) RoundTrip(r *http.Request) (*http.Response, error) {
	x := seenBy(r.Context())
	x.tried, x.sent, x.status, x.header, x.body = true, false, 0, nil, nil
	x.bearer = r.Header.Get("Authorization")
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	var asked, connected atomic.Bool // a dial may outlive the round trip
	trace := &httptrace.ClientTrace{
		GetConn: func(string) { asked.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	}
	r = r.Clone(httptrace.WithClientTrace(r.Context(), trace))
	r.Header.Set("User-Agent", "ticketbridge")
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, fmt.Errorf("reading our own body: %w", err)
		}
		_ = r.Body.Close()
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	resp, err := o.next.RoundTrip(r)
	if err != nil {
		// Certain is only that nothing was sent without a connection. A transport that knows no traces has to say itself that it could not dial.
		dial, ok := errors.AsType[*net.OpError](err)
		x.sent = connected.Load() || !asked.Load() && !(ok && dial.Op == "dial")
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	_ = resp.Body.Close()
	if err == nil && len(body) > maxAnswer {
		err = fmt.Errorf("the answer has more than %d bytes", maxAnswer)
	}
	if err != nil && resp.StatusCode < 400 {
		x.sent = true
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	x.status, x.header = resp.StatusCode, resp.Header
	if resp.StatusCode >= 400 {
		x.body = body
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return resp, nil
}
