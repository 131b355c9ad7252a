package servicenow

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"

	"ticketbridge/handler/fault"
)

// maxAnswer is the largest answer that is read: a page of ten records with a dozen columns is some 10 kB.
const maxAnswer = 1 << 20

// A call is one call of the Table API.
type call struct {
	op      string
	method  string
	table   string
	sysID   string
	query   url.Values
	body    map[string]string
	changes bool // it changes something, so that an answer that got lost is unclear
}

// uncertain is the reason of a call that got no usable answer.
func (k call) uncertain() fault.Reason {
	if k.changes {
		return fault.Unclear
	}
	return fault.Unreachable
}

// do makes the call and returns the answer when it is the one that means success. A 401 did nothing: it is repeated once if there is another token.
func (c *Client) do(ctx context.Context, k call) (*answer, error) {
	if !validTable(k.table) {
		return nil, &fault.Error{Op: k.op, Reason: fault.Misconfigured, Field: "table", Detail: fmt.Sprintf("%q cannot be the name of a table", k.table)}
	}
	path := "/api/now/v2/table/" + k.table
	if k.sysID != "" {
		path += "/" + k.sysID
	}
	var body []byte
	if k.body != nil {
		var err error
		if body, err = json.Marshal(k.body); err != nil {
			return nil, &fault.Error{Op: k.op, Reason: fault.Internal, Detail: "the fields cannot be written as JSON"}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return nil, &fault.Error{
			Op: k.op, Reason: fault.Unreachable, Err: context.Cause(ctx),
			Detail: fmt.Sprintf("not sent: %d calls to ServiceNow are under way, and none of them ended in time", cap(c.slots)),
		}
	}
	refused := ""
	for {
		name, value, err := c.auth.header(ctx, refused)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.op, err)
		}
		if value == refused { // there is no other
			return nil, unauthorized(k)
		}
		a, err := c.send(ctx, k, c.base.String()+path+"?"+k.query.Encode(), "application/json", body, map[string]string{name: value})
		if err != nil {
			return nil, err
		}
		if a.status == http.StatusUnauthorized && refused == "" {
			refused = value
			continue
		}
		if err := a.check(); err != nil {
			return nil, err
		}
		return a, nil
	}
}

// send sends one request and reads its answer, whatever its status. An error is Unreachable when it is certain that the request was never sent.
func (c *Client) send(ctx context.Context, k call, address, contentType string, body []byte, header map[string]string) (*answer, error) {
	// The transport says when it looks for a connection and when it has one: without one nothing was sent. One that says neither is not trusted with that.
	var looking, connected atomic.Bool
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { looking.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(traced, k.method, address, reader)
	if err != nil {
		return nil, &fault.Error{Op: k.op, Reason: fault.Internal, Detail: "the request cannot be built"}
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Content-Type", contentType) // without either, some instances answer 400, also to a GET
	req.Header.Set("User-Agent", c.agent)
	for name, value := range header {
		req.Header.Set(name, value)
	}
	if ctx.Err() != nil {
		return nil, c.noAnswer(ctx, k, ctx.Err(), true)
	}
	res, err := c.http.Do(req)
	if err != nil {
		nothingSent := looking.Load() && !connected.Load() || !looking.Load() && neverConnected(err)
		return nil, c.noAnswer(ctx, k, err, nothingSent)
	}
	defer res.Body.Close()
	a := &answer{call: k, hide: &c.hide, status: res.StatusCode, header: res.Header}
	if a.body, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer+1)); err != nil {
		// What the status already says stands, except that it went well.
		if res.StatusCode < 300 {
			return nil, c.noAnswer(ctx, k, err, false)
		}
		a.body = nil
	}
	if len(a.body) > maxAnswer {
		a.body, a.tooLarge = nil, true
	}
	return a, nil
}

// neverConnected says whether err comes from before there was a connection.
func neverConnected(err error) bool {
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return true
	}
	op, ok := errors.AsType[*net.OpError](err)
	return ok && (op.Op == "dial" || op.Op == "proxyconnect")
}

// noAnswer says what a call without an answer means.
func (c *Client) noAnswer(ctx context.Context, k call, err error, nothingSent bool) error {
	e := &fault.Error{Op: k.op, Reason: k.uncertain()}
	if nothingSent {
		e.Reason = fault.Unreachable
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // its text has the address with the query, which may name people
	}
	cert, badCert := errors.AsType[*tls.CertificateVerificationError](err)
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	const network = "Check SERVICENOW_URL, the network of the function, and HTTPS_PROXY if there is a proxy."
	switch late := errors.Is(ctx.Err(), context.DeadlineExceeded) || errors.Is(err, context.DeadlineExceeded); {
	case late && nothingSent:
		e.Detail, e.Err, e.Advice = "no connection in time", context.DeadlineExceeded, network
	case late:
		e.Detail, e.Err = "no answer in time", context.DeadlineExceeded
	case ctx.Err() != nil:
		e.Detail, e.Err = "given up while it was under way", context.Canceled
	case badCert:
		e.Detail = "the certificate of " + c.base.Host + " is not trusted: " + c.hide.clean(cert.Err.Error())
		e.Advice = "Check SERVICENOW_URL, and what stands between the function and the instance."
	case noTLS:
		e.Detail = c.base.Host + " does not speak TLS"
		e.Advice = "Check SERVICENOW_URL, and what stands between the function and the instance."
	case neverConnected(err):
		e.Detail = "cannot connect: " + c.hide.clean(err.Error())
		e.Advice = network
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		e.Detail = "the connection was cut before the answer was complete"
	default:
		e.Detail = "no answer: " + c.hide.clean(err.Error())
	}
	return e
}
