package misbehave

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
)

// Transport calls h in process, without a network, so that a stand-in can be used under testing/synctest. A
// connection that h cuts by panicking with [http.ErrAbortHandler] is an error that wraps [io.ErrUnexpectedEOF]. A
// request whose context ends gets the context's error at once, and the handler sees its own context end, as it would
// behind a network. An answer is passed on whole, when the handler has returned.
func Transport(h http.Handler) http.RoundTripper { return transport{h} }

type transport struct{ handler http.Handler }

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		body, err = io.ReadAll(r.Body)
		_ = r.Body.Close()
		if err != nil {
			return nil, fmt.Errorf("reading the request body: %w", err)
		}
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	// The handler gets a context of its own, without the caller's values, which ends with the call.
	ctx, cancel := context.WithCancel(context.Background())
	arrived, err := asArrived(ctx, r, body)
	if err != nil {
		cancel()
		return nil, err
	}

	type outcome struct {
		rec *recorder
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		defer cancel()
		rec := newRecorder()
		var o outcome
		defer func() {
			switch p := recover(); p {
			case nil:
			case http.ErrAbortHandler:
				o = outcome{err: fmt.Errorf("the connection was cut: %w", io.ErrUnexpectedEOF)}
			default:
				o = outcome{err: fmt.Errorf("the handler panicked: %v: %w\n%s", p, io.ErrUnexpectedEOF, debug.Stack())}
			}
			done <- o
		}()
		t.handler.ServeHTTP(rec, arrived)
		rec.finish()
		o = outcome{rec: rec}
	}()

	select {
	case o := <-done:
		if o.err != nil {
			return nil, o.err
		}
		return o.rec.response(r), nil
	case <-r.Context().Done():
		cancel()
		return nil, r.Context().Err()
	}
}

// asArrived is the request as a server would have read it off the wire.
func asArrived(ctx context.Context, r *http.Request, body []byte) (*http.Request, error) {
	uri := r.URL.RequestURI()
	u, err := url.ParseRequestURI(uri)
	if err != nil {
		return nil, fmt.Errorf("reading the request address: %w", err)
	}
	host := r.Host
	if host == "" {
		host = r.URL.Host
	}
	header := r.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	if _, set := header["User-Agent"]; !set {
		header.Set("User-Agent", "Go-http-client/1.1")
	}
	method := r.Method
	if method == "" {
		method = http.MethodGet
	}
	arrived := &http.Request{
		Method: method, URL: u, RequestURI: uri, Host: host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: "127.0.0.1:0",
		Body: http.NoBody, ContentLength: int64(len(body)),
	}
	if len(body) > 0 {
		arrived.Body = io.NopCloser(bytes.NewReader(body))
		header.Set("Content-Length", strconv.Itoa(len(body)))
	}
	return arrived.WithContext(ctx), nil
}

func (rec *recorder) response(r *http.Request) *http.Response {
	body := rec.body.Bytes()
	if len(body) > 0 && rec.sent.Get("Content-Type") == "" {
		rec.sent.Set("Content-Type", http.DetectContentType(body))
	}
	if r.Method == http.MethodHead || rec.status == http.StatusNoContent || rec.status == http.StatusNotModified {
		body = nil
	}
	return &http.Response{
		Status:     strconv.Itoa(rec.status) + " " + http.StatusText(rec.status),
		StatusCode: rec.status,
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: rec.sent, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), Request: r,
	}
}
