// Package misbehave makes a stand-in misbehave on request: it delays calls, answers them with errors, cuts their
// connections, loses their answers and handles them twice, for tests and for a person with curl.
package misbehave

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// ControlPath is where [Desk.Handler] is to be mounted. [Desk.Middleware] never lets a call below it misbehave.
const ControlPath = "/_simulator/faults"

// Fault says which calls misbehave and how. The zero Fault matches every call and changes none.
//
// What happens to a matching call, in this order: OnHit; Delay; DropCall; the answer of Status, Body and the headers,
// unless TakeEffect; the call is handled (twice with Duplicate); AfterHandle; DelayAnswer; LoseAnswer; the answer.
type Fault struct {
	// Match selects calls by "METHOD path". Either part may be left out: "POST", "/oauth_token.do". A path with a *
	// must match as a whole, the * standing for any run of characters including slashes ("POST /v1.0/*/resume");
	// one without is a prefix. Empty matches every call.
	Match string
	// Skip lets this many matching calls pass before the first one is hit.
	Skip int
	// Times is how many matching calls are hit; 0 means all until the fault is removed.
	Times int

	// Delay passes before the call is handled. A caller that gives up meanwhile is not handled at all.
	Delay time.Duration
	// DelayAnswer passes after the call took effect, before its answer is sent.
	DelayAnswer time.Duration

	// Status answers the call instead of handling it; with a Body, RetryAfter or Header and no Status, it is 200.
	Status int
	// Body is the body of that answer.
	Body string
	// ContentType is the type of Body; empty means application/json.
	ContentType string
	// RetryAfter is the Retry-After header of that answer, in seconds or as an HTTP date, sent as it stands.
	RetryAfter string
	// Header holds more headers of that answer.
	Header map[string]string
	// TakeEffect handles the call all the same, and puts that answer in place of its own, as a gateway does that
	// gave up waiting.
	TakeEffect bool

	// DropCall cuts the connection without handling the call.
	DropCall bool
	// LoseAnswer handles the call, then cuts the connection without an answer.
	LoseAnswer bool
	// Duplicate handles the call twice, one after the other, and answers as the second.
	Duplicate bool

	// OnHit is called before anything else happens to the call, AfterHandle after the call took effect and before
	// its answer is sent. Only for use in process, for example to kill the caller at exactly that moment.
	OnHit, AfterHandle func()
}

// Standing is a fault on the desk and what it did so far.
type Standing struct {
	ID    int
	Fault Fault
	// Seen counts the matching calls, Hits those that misbehaved.
	Seen, Hits int
}

// Desk holds the faults of one stand-in. It is safe for concurrent use.
type Desk struct {
	mu     sync.Mutex
	next   int
	faults []*Standing
	hits   int
}

// New returns a desk with no faults.
func New() *Desk { return &Desk{} }

// Add puts a fault on the desk and returns a function that takes it off again. Of several faults that match a call,
// the one added first acts; those that are skipping or used up let the call pass on to the next.
func (d *Desk) Add(f Fault) (remove func()) {
	id := d.add(f)
	return func() { d.remove(id) }
}

func (d *Desk) add(f Fault) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.next++
	d.faults = append(d.faults, &Standing{ID: d.next, Fault: f})
	return d.next
}

func (d *Desk) remove(id int) (found bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := len(d.faults)
	d.faults = slices.DeleteFunc(d.faults, func(s *Standing) bool { return s.ID == id })
	return len(d.faults) < before
}

// Clear takes every fault off the desk. The total of [Desk.Hits] stays.
func (d *Desk) Clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = nil
}

// Hits is how many calls misbehaved since the desk was made.
func (d *Desk) Hits() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hits
}

// Faults lists what is on the desk, used up or not, in the order it was added.
func (d *Desk) Faults() []Standing {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := make([]Standing, len(d.faults))
	for i, s := range d.faults {
		list[i] = *s
	}
	return list
}

// take counts the call at each fault it matches and returns the one that acts, if any.
func (d *Desk) take(r *http.Request) (Fault, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.faults {
		if !matches(s.Fault.Match, r) {
			continue
		}
		s.Seen++
		if s.Seen <= s.Fault.Skip || s.Fault.Times > 0 && s.Hits >= s.Fault.Times {
			continue
		}
		s.Hits++
		d.hits++
		return s.Fault, true
	}
	return Fault{}, false
}

func matches(match string, r *http.Request) bool {
	method, path, _ := strings.Cut(strings.TrimSpace(match), " ")
	if strings.HasPrefix(method, "/") {
		method, path = "", method
	}
	if method != "" && method != "*" && !strings.EqualFold(method, r.Method) {
		return false
	}
	path = strings.TrimSpace(path)
	if !strings.Contains(path, "*") {
		return strings.HasPrefix(r.URL.Path, path)
	}
	return glob(path, r.URL.Path)
}

// glob reports whether s matches pattern as a whole, * standing for any run of characters.
func glob(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	first, last := parts[0], parts[len(parts)-1]
	rest, ok := strings.CutPrefix(s, first)
	if !ok {
		return false
	}
	for _, part := range parts[1 : len(parts)-1] {
		_, rest, ok = strings.Cut(rest, part)
		if !ok {
			return false
		}
	}
	return strings.HasSuffix(rest, last)
}

// Middleware lets the calls to next misbehave as the faults on the desk say. It cuts a connection by panicking with
// [http.ErrAbortHandler], which net/http's server and [Transport] both understand.
func (d *Desk) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == ControlPath || strings.HasPrefix(r.URL.Path, ControlPath+"/") {
			next.ServeHTTP(w, r)
			return
		}
		f, hit := d.take(r)
		if !hit {
			next.ServeHTTP(w, r)
			return
		}
		f.apply(w, r, next)
	})
}

func (f Fault) apply(w http.ResponseWriter, r *http.Request, next http.Handler) {
	// The whole call is on our side before anything else happens: net/http notices that a caller went away only
	// once the body has been read.
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if f.OnHit != nil {
		f.OnHit()
	}
	if !wait(r.Context(), f.Delay) || f.DropCall {
		panic(http.ErrAbortHandler)
	}
	ownAnswer := f.Status != 0 || f.Body != "" || f.RetryAfter != "" || len(f.Header) > 0
	if ownAnswer && !f.TakeEffect {
		f.answer(w)
		return
	}

	handled := handle(next, r, body)
	if f.Duplicate {
		handled = handle(next, r, body)
	}
	if f.AfterHandle != nil {
		f.AfterHandle()
	}
	if !wait(r.Context(), f.DelayAnswer) || f.LoseAnswer || handled.aborted {
		panic(http.ErrAbortHandler)
	}
	if ownAnswer {
		f.answer(w)
		return
	}
	maps.Copy(w.Header(), handled.sent)
	w.WriteHeader(handled.status)
	_, _ = w.Write(handled.body.Bytes())
}

func (f Fault) answer(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if f.ContentType != "" {
		h.Set("Content-Type", f.ContentType)
	}
	if f.RetryAfter != "" {
		h.Set("Retry-After", f.RetryAfter)
	}
	for k, v := range f.Header {
		h.Set(k, v)
	}
	status := f.Status
	if status == 0 {
		status = http.StatusOK
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, f.Body)
}

// wait lets d pass and reports whether the caller is still there.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// handle lets next handle the call to its end, even if the caller goes away meanwhile, and keeps the answer.
func handle(next http.Handler, r *http.Request, body []byte) (kept *recorder) {
	again := r.Clone(context.WithoutCancel(r.Context()))
	again.Body = io.NopCloser(bytes.NewReader(body))
	kept = newRecorder()
	defer func() {
		if p := recover(); p == http.ErrAbortHandler { //nolint:errorlint // what panics is this very value
			kept.aborted = true
		} else if p != nil {
			panic(p)
		}
	}()
	next.ServeHTTP(kept, again)
	kept.finish()
	return kept
}

// recorder keeps an answer in memory, with the headers as they stood when the status was written.
type recorder struct {
	header  http.Header
	sent    http.Header
	status  int
	body    bytes.Buffer
	aborted bool
}

func newRecorder() *recorder { return &recorder{header: http.Header{}} }

func (rec *recorder) Header() http.Header { return rec.header }

func (rec *recorder) WriteHeader(status int) {
	if rec.sent != nil || status < 200 {
		return
	}
	if status > 999 {
		panic(fmt.Sprintf("invalid WriteHeader code %d", status))
	}
	rec.status = status
	rec.sent = rec.header.Clone()
}

func (rec *recorder) Write(p []byte) (int, error) {
	rec.WriteHeader(http.StatusOK)
	return rec.body.Write(p)
}

// Flush is there because handlers ask for it; an answer that is kept is sent in one piece.
func (rec *recorder) Flush() { rec.WriteHeader(http.StatusOK) }

func (rec *recorder) finish() { rec.WriteHeader(http.StatusOK) }
