package storage

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
)

// What the operator is advised to do.
const (
	adviseRoles = "Give the function's identity the roles Storage Table Data Contributor and Storage Queue Data Contributor on the storage account, " +
		"and check the account's network rules."
	adviseKey = "Check the AzureWebJobsStorage settings: the account's keys may have been rotated, or the identity is one of another tenant. " +
		"A clock that is wrong by more than 15 minutes has the same effect."
	adviseURL = "Check the storage account's name and addresses in the AzureWebJobsStorage settings, and what stands between the function and it."
)

// A refusal is an answer of the storage that is not a success.
type refusal struct {
	status int
	code   string        // of Microsoft's tables of error codes; "" when what answered does not answer as storage does
	id     string        // x-ms-request-id, which Microsoft's support asks for
	after  time.Duration // Retry-After
}

func (r *refusal) Error() string { return fmt.Sprintf("status %d, code %s", r.status, r.code) }

// refusalOf returns the refusal in err's chain, or nil.
func refusalOf(err error) *refusal {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r
	}
	e, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok {
		return nil
	}
	r := &refusal{status: e.StatusCode, code: e.ErrorCode}
	if e.RawResponse != nil {
		r.from(e.RawResponse.Header)
	}
	return r
}

func (r *refusal) from(h http.Header) {
	if id, ok := correlation.GUID(h.Get("x-ms-request-id")); ok {
		r.id = id
	}
	r.after = retryAfter(h)
}

// retryAfter reads how long to wait: whole seconds, or a date.
func retryAfter(h http.Header) time.Duration {
	v := h.Get("Retry-After")
	if n, err := strconv.Atoi(v); err == nil {
		return max(0, time.Duration(n)*time.Second)
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(0, time.Until(t))
	}
	return 0
}

// faultOf says how a call ended that did not end well. The SDK's errors are not passed on: they hold whole answers, and those of the network
// URLs, which may have a signature in them.
func faultOf(op string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*fault.Error](err); ok {
		return e
	}
	if r := refusalOf(err); r != nil {
		return r.fault(op)
	}
	e := &fault.Error{Op: op, Reason: fault.Unreachable}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		e.Detail = "no answer came in the time there was"
		e.Err = context.DeadlineExceeded
		if errors.Is(err, context.Canceled) {
			e.Err = context.Canceled
		}
		return e
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	e.Detail = "no answer came: " + clip(clean(err.Error()), 300)
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		e.Advice = adviseURL
	}
	return e
}

var plainCode = regexp.MustCompile(`^[A-Za-z0-9]{1,80}$`)

// fault translates an answer. Microsoft documents the codes under "Table service error codes", "Queue service error codes" and "Common REST
// API error codes".
func (r *refusal) fault(op string) error {
	e := &fault.Error{Op: op, Status: r.status, After: r.after, Reason: fault.Unreachable}
	if plainCode.MatchString(r.code) {
		e.Detail = r.code
	}
	if r.id != "" {
		e.Detail = strings.TrimSpace(e.Detail + " (request id " + r.id + ")")
	}
	switch r.code {
	case "TableNotFound", "ResourceNotFound", "EntityNotFound", "QueueNotFound", "MessageNotFound", "PopReceiptMismatch":
		e.Reason = fault.NotFound
		return e
	case "EntityAlreadyExists", "TableAlreadyExists", "QueueAlreadyExists":
		e.Reason = fault.Exists
		return e
	case "UpdateConditionNotSatisfied", "ConditionNotMet":
		e.Reason = fault.Conflict
		return e
	case "EntityTooLarge", "PropertyValueTooLarge", "RequestBodyTooLarge", "MessageTooLarge", "TooManyProperties", "ContentLengthExceeded":
		e.Reason = fault.Invalid
		return e
	case "ServerBusy":
		e.Reason = fault.Throttled
		return e
	case "AuthenticationFailed", "InvalidAuthenticationInfo", "NoAuthenticationInformation":
		e.Reason, e.Advice = fault.Unauthorized, adviseKey
		return e
	case "KeyBasedAuthenticationNotPermitted":
		e.Reason, e.Field = fault.Misconfigured, settingConnection
		e.Advice = "The storage account takes no keys: use an identity, with " + settingAccount + " in place of the connection string."
		return e
	}
	switch s := r.status; {
	case s == http.StatusUnauthorized:
		e.Reason, e.Advice = fault.Unauthorized, adviseRoles
	case s == http.StatusForbidden:
		e.Reason, e.Advice = fault.Forbidden, adviseRoles
	case s == http.StatusTooManyRequests:
		e.Reason = fault.Throttled
	case s == http.StatusPreconditionFailed:
		e.Reason = fault.Conflict
	case s == http.StatusRequestEntityTooLarge:
		e.Reason = fault.Invalid
	case s == http.StatusConflict || s >= 500 || s == http.StatusRequestTimeout:
		// A table or queue of this name is being deleted, or the account is being made: it will do later.
	case r.code == "" || s < 400:
		e.Advice = adviseURL // not the storage's words: a 404 of a proxy must not pass for an entity that does not exist
		e.Detail = strings.TrimSpace("what answered does not answer as storage does " + e.Detail)
	default:
		e.Reason = fault.Internal
	}
	return e
}

// A batch is what the storage answered to a transaction: aztables reads it and returns neither the ETags nor what was refused.
type batch struct{ etags []string }

// readBatch reads the answer to a transaction that asks for it in its context. A refused operation becomes a *refusal.
func readBatch(req *policy.Request) (*http.Response, error) {
	b, ok := req.Raw().Context().Value(batchKey{}).(*batch)
	if !ok {
		return req.Next()
	}
	resp, err := req.Next()
	if err != nil || resp.StatusCode != http.StatusAccepted {
		return resp, err
	}
	body, err := runtime.Payload(resp)
	if err != nil {
		return nil, err
	}
	b.etags, err = parseBatch(body, resp.Header)
	if err != nil {
		return nil, err
	}
	return resp, nil
}

var statusLine = regexp.MustCompile(`^HTTP/1\.[01] (\d{3})\b`)

// parseBatch reads the answers to the single operations in the answer to a transaction, and returns their ETags. They are found by their
// status lines: between these, emulators do not write MIME parts as the service does.
func parseBatch(body []byte, outer http.Header) (etags []string, err error) {
	in := textproto.NewReader(bufio.NewReader(bytes.NewReader(body)))
	found := false
	for {
		line, err := in.ReadLine()
		if err != nil {
			break
		}
		m := statusLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		found = true
		status, _ := strconv.Atoi(m[1])
		etag := ""
		for {
			line, err = in.ReadLine()
			if name, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(strings.TrimSpace(name), "ETag") {
				etag = strings.TrimSpace(value)
			}
			if err != nil || line == "" {
				break
			}
		}
		if status < 300 {
			etags = append(etags, etag)
			continue
		}
		r := &refusal{status: status, code: codeIn(in)}
		r.from(outer)
		return nil, r
	}
	if !found {
		return nil, &refusal{status: http.StatusAccepted}
	}
	return etags, nil
}

// codeIn returns the error code in the JSON of a refused operation.
func codeIn(in *textproto.Reader) string {
	for {
		line, err := in.ReadLine()
		var body struct {
			Error struct {
				Code string `json:"code"`
			} `json:"odata.error"`
		}
		if json.Unmarshal([]byte(line), &body) == nil && body.Error.Code != "" {
			return body.Error.Code
		}
		if err != nil || strings.HasPrefix(line, "--") {
			return ""
		}
	}
}
