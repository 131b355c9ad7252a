package host

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"ticketbridge/handler/simulator/misbehave"
)

// answerHeader marks, on its way over a desk, an answer that is none of the desk's own.
const answerHeader = "X-Simulator-Answer"

// through sends a call over a desk of faults. do handles it, with its body; errDropped is that the desk cut the connection. While nothing is on the
// desk, it is not there.
func through(ctx context.Context, desk *misbehave.Desk, r *request, do func(body io.Reader) (*answer, error)) (*answer, error) {
	if desk == nil || len(desk.Faults()) == 0 {
		return do(r.body)
	}
	var body []byte
	if r.body != nil {
		var err error
		if body, err = io.ReadAll(r.body); err != nil {
			return nil, err
		}
	}
	at, err := url.ParseRequestURI(r.target)
	if err != nil {
		return do(bytes.NewReader(body))
	}
	call := (&http.Request{
		Method: r.method, URL: at, Host: r.fields.get("Host"), RequestURI: r.target, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}).WithContext(ctx)
	for _, f := range r.fields {
		call.Header.Add(f.name, f.value)
	}

	var answers []*answer
	var failed error
	next := http.HandlerFunc(func(w http.ResponseWriter, call *http.Request) {
		var in io.Reader
		if r.body != nil {
			in = call.Body
		}
		a, err := do(in)
		if err == nil {
			err = a.gather()
		}
		if err != nil {
			failed = err
			panic(http.ErrAbortHandler)
		}
		w.Header().Set(answerHeader, strconv.Itoa(len(answers)))
		answers = append(answers, a)
		w.WriteHeader(a.status)
	})
	var got recorder
	if !got.serve(desk.Middleware(next), call) {
		return nil, errors.Join(errDropped, failed)
	}
	if n, err := strconv.Atoi(got.header.Get(answerHeader)); err == nil && n < len(answers) {
		return answers[n], nil
	}
	return got.answer(), nil
}

// gather reads an answer whole, and ends the exchange that it came from.
func (a *answer) gather() error {
	defer a.close()
	a.close = func() {}
	if a.body == nil {
		return nil
	}
	b, err := io.ReadAll(a.body)
	a.body = bytes.NewReader(b)
	return err
}

// recorder is what a desk answers into.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

func (r *recorder) Write(p []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.body.Write(p)
}

// serve is false when the desk cut the connection.
func (r *recorder) serve(h http.Handler, call *http.Request) (ok bool) {
	r.header = http.Header{}
	defer func() {
		if v := recover(); v != nil {
			if v != http.ErrAbortHandler { //nolint:errorlint // it is panicked with as it is
				panic(v)
			}
			ok = false
		}
	}()
	h.ServeHTTP(r, call)
	return true
}

// answer is the desk's own answer.
func (r *recorder) answer() *answer {
	a := &response{status: r.status, framing: framing{length: int64(r.body.Len())}, body: &r.body}
	for name, values := range r.header {
		for _, v := range values {
			a.fields = append(a.fields, field{name, v})
		}
	}
	return &answer{a, func() {}}
}
