package servicenow

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"sync/atomic"

	"ticketbridge/handler/fault"
	"ticketbridge/handler/ticket"
)

// maxAnswer is the largest answer that is read: a page of ten records with a dozen columns is some 10 kB.
const maxAnswer = 1 << 20

// A call is one call of the Table API, or of another one at a path of its own.
type call struct {
	op      string
	method  string
	table   string // its own, or the one whose records it is about
	sysID   string
	path    string // of another API; "" for the Table API
	query   url.Values
	body    map[string]string
	payload any    // what is sent in place of body, whose values are all in there
	about   string // what the query names and no error may repeat
	success int    // the status that means success
	changes bool   // it changes something, so that an answer that got lost is unclear
}

// uncertain is the reason of a call that got no usable answer.
func (k call) uncertain() fault.Reason {
	if k.changes {
		return fault.Unclear
	}
	return fault.Unreachable
}

// do makes the call and returns the answer when it is the one that means success.
func (c *Client) do(ctx context.Context, k call) (*answer, error) {
	a, err := c.exchange(ctx, k)
	if err != nil {
		return nil, err
	}
	if err := a.check(); err != nil {
		return nil, err
	}
	return a, nil
}

// exchange makes the call and returns the answer, whatever it is. After a 401 the call is repeated once if there is another token.
func (c *Client) exchange(ctx context.Context, k call) (*answer, error) {
	if !ticket.ValidTable(k.table) {
		return nil, &fault.Error{Op: k.op, Reason: fault.Misconfigured, Field: "table", Detail: fmt.Sprintf("%q cannot be the name of a table", k.table)}
	}
	path := k.path
	if path == "" {
		path = "/api/now/v2/table/" + k.table
		if k.sysID != "" {
			path += "/" + k.sysID
		}
	}
	var body []byte
	if k.body != nil {
		if k.payload == nil {
			k.payload = k.body
		}
		var err error
		if body, err = json.Marshal(k.payload); err != nil {
			return nil, &fault.Error{Op: k.op, Reason: fault.Internal, Detail: "the fields cannot be written as JSON"}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if err := c.takeSlot(ctx, k.op); err != nil {
		return nil, err
	}
	defer func() { <-c.slots }()
	a, used, err := c.sendAs(ctx, k, path, body, "")
	if err == nil && a.status == http.StatusUnauthorized {
		// A 401 did nothing. It stands when there is no other token.
		again, _, renewErr := c.sendAs(ctx, k, path, body, used)
		if err = renewErr; again != nil {
			a = again
		}
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

// sendAs sends the call with what proves who we are, unless that is what was refused already: then the answer is nil.
func (c *Client) sendAs(ctx context.Context, k call, path string, body []byte, refused string) (a *answer, used string, err error) {
	name, value, err := c.auth.header(ctx, refused)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", k.op, err)
	}
	if value == refused {
		return nil, value, nil
	}
	address := c.base.String() + path
	if len(k.query) > 0 {
		address += "?" + k.query.Encode()
	}
	a, err = c.send(ctx, k, address, "application/json", body, http.Header{name: {value}})
	return a, value, err
}

// takeSlot waits until the call may be made; only half of its time, because a create that starts with the little time that is left ends as unclear.
func (c *Client) takeSlot(ctx context.Context, op string) error {
	patience, cancel := context.WithTimeout(ctx, c.timeout/2)
	defer cancel()
	select {
	case c.slots <- struct{}{}:
		return nil
	case <-patience.Done():
		return &fault.Error{
			Op: op, Reason: fault.Unreachable, Err: patience.Err(),
			Detail: fmt.Sprintf("not sent: %d calls to ServiceNow are under way, and none of them ended in time", cap(c.slots)),
		}
	}
}

// send sends one request and reads its answer, whatever its status. An error is Unreachable when it is certain that the request was never sent.
func (c *Client) send(ctx context.Context, k call, address, contentType string, body []byte, header http.Header) (*answer, error) {
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
	maps.Copy(req.Header, c.extra)
	maps.Copy(req.Header, header)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Content-Type", contentType) // without either, some instances answer 400, also to a GET
	req.Header.Set("User-Agent", c.agent)
	if ctx.Err() != nil {
		return nil, c.noAnswer(ctx, k, ctx.Err(), true)
	}
	res, err := c.transport.RoundTrip(req)
	if err != nil {
		return nil, c.noAnswer(ctx, k, err, looking.Load() && !connected.Load())
	}
	defer res.Body.Close()
	a := &answer{call: k, hide: &c.hide, status: res.StatusCode, header: res.Header}
	if a.body, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer+1)); err != nil {
		// Half an answer says nothing: whether a 404 is ServiceNow's own stands in its body.
		e := c.noAnswer(ctx, k, err, false)
		e.Status, e.After = a.status, after(a.status, a.header)
		return nil, e
	}
	if len(a.body) > maxAnswer {
		a.body, a.tooLarge = nil, true
	}
	return a, nil
}

// noAnswer says what a call without an answer means.
func (c *Client) noAnswer(ctx context.Context, k call, err error, nothingSent bool) *fault.Error {
	e := &fault.Error{Op: k.op, Reason: k.uncertain()}
	if nothingSent {
		e.Reason, e.Advice = fault.Unreachable, "Check SERVICENOW_URL, the network of the function, and HTTPS_PROXY if there is a proxy."
	}
	if alert, ok := errors.AsType[*net.OpError](err); ok && alert.Op == "remote error" && alert.Err != nil && slices.Contains(refusedCertificates, alert.Err.Error()) {
		// With TLS 1.3 the server looks at the certificate when we are done already, and has taken no call before.
		e.Reason, e.Detail = fault.Unauthorized, "the client certificate was not accepted: "+alert.Err.Error()
		e.Advice = "Check SERVICENOW_CERTIFICATE and SERVICENOW_PRIVATE_KEY, until when the certificate is valid, and that the instance trusts who issued it."
		return e
	}
	switch late := errors.Is(ctx.Err(), context.DeadlineExceeded) || errors.Is(err, context.DeadlineExceeded); {
	case late && nothingSent:
		e.Detail, e.Err = "no connection in time", context.DeadlineExceeded
	case late:
		e.Detail, e.Err = "no answer in time", context.DeadlineExceeded
	case ctx.Err() != nil:
		e.Detail, e.Err, e.Advice = "given up while it was under way", context.Canceled, ""
	case nothingSent:
		e.Detail = "cannot connect to " + c.base.Host + ": " + c.hide.clean(err.Error())
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		e.Detail = "the connection was cut before the answer was complete"
	default:
		e.Detail = "no answer: " + c.hide.clean(err.Error())
	}
	return e
}
