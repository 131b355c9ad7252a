package lifecycle

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// A wire stands between the handlers of a world and everybody whom they call: the storage, ServiceNow and Graph. It sees each call whole, and lists
// the effects of one life in the order in which they arrive: what is written to tables and queues about its request, and each call of ServiceNow and
// Graph. Reads of the storage are not among them: whoever dies over one has done nothing since the effect before.
type wire struct {
	mu    sync.Mutex
	about string // the id of the request; "" while nobody's effects count
	seen  []string
	met   func(n int, effect string) fate // what becomes of the n-th, counted from 0; nil lets all pass

	every    func(service string, r *http.Request, body []byte) // sees each call before it goes on; nil sees none
	answered func(service string, r *http.Request, body, answer []byte)
}

// A fate is what becomes of a call: whether it arrives and whether its answer gets back, and what happens then.
type fate struct {
	hit     bool // the answer gets lost
	arrives bool
	then    func() // before the connection breaks
}

// before puts the wire before everybody whom the settings name.
func (x *wire) before(t testing.TB, settings map[string]string) {
	t.Helper()
	put := func(service string) func(http.Handler) http.Handler {
		return func(next http.Handler) http.Handler { return x.serve(service, next) }
	}
	settings["AzureWebJobsStorage"] = throughStorage(t, settings["AzureWebJobsStorage"], put("storage"))
	settings["SERVICENOW_URL"] = through(t, settings["SERVICENOW_URL"], put("ServiceNow"))
	settings["GRAPH_URL"] = through(t, settings["GRAPH_URL"], put("Graph"))
}

func (x *wire) serve(service string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		if x.every != nil {
			x.every(service, r, body)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		f := x.note(service, r, body)
		if !f.hit {
			x.hand(w, r, service, body, next)
			return
		}
		if f.arrives {
			next.ServeHTTP(httptest.NewRecorder(), r.WithContext(context.WithoutCancel(r.Context())))
		}
		f.then()
		panic(http.ErrAbortHandler)
	})
}

// hand hands a call on, and its answer back.
func (x *wire) hand(w http.ResponseWriter, r *http.Request, service string, body []byte, next http.Handler) {
	if x.answered == nil {
		next.ServeHTTP(w, r)
		return
	}
	kept := httptest.NewRecorder()
	next.ServeHTTP(kept, r)
	x.answered(service, r, body, kept.Body.Bytes())
	maps.Copy(w.Header(), kept.Header())
	w.WriteHeader(kept.Code)
	_, _ = w.Write(kept.Body.Bytes())
}

// note lists an effect, and returns its fate.
func (x *wire) note(service string, r *http.Request, body []byte) fate {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.about == "" || !isEffect(service, r, body, x.about) {
		return fate{}
	}
	effect := effectName(service, r, body)
	x.seen = append(x.seen, effect)
	if x.met == nil {
		return fate{}
	}
	return x.met(len(x.seen)-1, effect)
}

// watch begins to list the effects of a request.
func (x *wire) watch(request string, met func(int, string) fate) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.about, x.met = strings.ToLower(request), met
}

// effects are those that were listed.
func (x *wire) effects() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return append([]string(nil), x.seen...)
}

func isEffect(service string, r *http.Request, body []byte, request string) bool {
	switch {
	case service == "Graph":
		return true
	case service == "ServiceNow":
		return strings.HasPrefix(r.URL.Path, "/api/") // not the token
	case r.Method == http.MethodGet:
		return false
	default:
		return strings.Contains(strings.ToLower(r.URL.Path+r.URL.RawQuery+messageText(body)), request)
	}
}

var (
	messageBody = regexp.MustCompile(`<MessageText>([^<]*)</MessageText>`)
	stateInBody = regexp.MustCompile(`"[Ss]tate":"([A-Za-z]+)"`) // of a row, and of what Graph is told
	idInPath    = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}(_[0-9a-f-]{36})?|[0-9a-f]{32}`)
	ourTable    = regexp.MustCompile(`life[0-9a-f]{16}-?`)
)

// messageText is what a body says: of a queue message what it carries.
func messageText(body []byte) string {
	m := messageBody.FindSubmatch(body)
	if m == nil {
		return string(body)
	}
	text, err := base64.StdEncoding.DecodeString(string(m[1]))
	if err != nil {
		return string(m[1])
	}
	return string(text)
}

// effectName is what an effect is called, the same in every run: without ids and names that are made up.
func effectName(service string, r *http.Request, body []byte) string {
	path := strings.TrimPrefix(strings.ToLower(r.URL.Path), "/devstoreaccount1")
	path = idInPath.ReplaceAllString(ourTable.ReplaceAllString(path, ""), "*")
	name := fmt.Sprintf("%s %s %s", service, r.Method, path)
	if m := stateInBody.FindSubmatch(body); m != nil && service != "ServiceNow" {
		name += " " + string(m[1])
	}
	return name
}
