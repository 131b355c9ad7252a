package entra

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"ticketbridge/handler/simulator/misbehave"
)

// CallerID is the application id of entitlement management: "appid" or "azp" of its tokens.
const CallerID = "810dcf14-1858-4bf2-8134-4c369fa3235b"

// answerLimit is how much of an answer is kept.
const answerLimit = 4 << 10

// A Relay is a Consumption Logic App with a Request trigger and one HTTP action, which forwards the body unchanged. Its trigger
// answers entitlement management with 202 as soon as the run has begun, whatever becomes of it.
type Relay struct {
	Subscription  string // made up when empty
	ResourceGroup string // default "relay"
	Name          string // of the workflow; an Extension names it
	URL           string // where the HTTP action sends to
	Identity      string // client id of the managed identity whose token it sends; "" for none
	Resource      string // audience of that token
	FunctionKey   string // sent as x-functions-key; "" for none
	Retries       int    // of the HTTP action; 0 means Logic Apps' default of 4, a negative number none
	Workflow      Workflow
}

// A RelayRun is one run of a relay.
type RelayRun struct {
	ID        string
	Started   time.Time
	Attempts  []Attempt
	Over      bool
	Succeeded bool
}

// AddRelay puts a relay in the directory, for extensions to name.
func (d *Directory) AddRelay(r Relay) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r.Subscription = orNew(r.Subscription)
	if r.ResourceGroup == "" {
		r.ResourceGroup = "relay"
	}
	d.relays = append(d.relays, &r)
}

func (d *Directory) relay(name string) *Relay {
	return find(d.relays, func(r *Relay) bool { return r.Name == name })
}

// delivery is what a call needs of its extension, read at one moment.
type delivery struct {
	url, resource string
	relay         *Relay
	patience      time.Duration
	retries       int
}

func (d *Directory) delivery(x *extension) delivery {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := delivery{patience: x.patience(), retries: x.retries(), url: x.text("endpointConfiguration", "targetUrl")}
	if x.text("authenticationConfiguration", "@odata.type") == "#microsoft.graph.azureAdTokenAuthentication" {
		v.resource = x.text("authenticationConfiguration", "resourceId")
	}
	v.relay = find(d.relays, func(r *Relay) bool {
		return r.Name == x.text("endpointConfiguration", "logicAppWorkflowName") &&
			r.Subscription == x.text("endpointConfiguration", "subscriptionId") &&
			r.ResourceGroup == x.text("endpointConfiguration", "resourceGroupName")
	})
	return v
}

// deliver calls the extension, with its retries, and says whether a call succeeded.
func (d *Directory) deliver(x *extension, c *callout) bool {
	for range 1 + d.delivery(x).retries {
		if d.call(x, c, c.Body).OK {
			return true
		}
		if d.ctx.Err() != nil {
			return false
		}
	}
	return false
}

// call sends a body to the extension once, with the extension's patience, and keeps the attempt with the callout unless that is nil.
func (d *Directory) call(x *extension, c *callout, body json.RawMessage) Attempt {
	v := d.delivery(x)
	var a Attempt
	if v.relay != nil {
		a = Attempt{At: time.Now(), Status: d.relayAnswer(v.relay)}
		if a.OK = a.Status == http.StatusAccepted; a.OK {
			d.startRelay(v.relay, c, body)
		}
	} else {
		header := http.Header{}
		var err error
		if v.resource != "" {
			var token string
			if token, err = d.calloutToken(v.resource); err == nil {
				header.Set("Authorization", "Bearer "+token)
			}
		}
		if err != nil {
			a = Attempt{At: time.Now(), Err: err.Error()}
		} else {
			a = d.post(v.url, header, body, v.patience)
		}
		a.OK = a.Status == http.StatusAccepted || d.cfg.AnySuccess && a.Status/100 == 2
	}
	if c != nil {
		d.mu.Lock()
		c.Attempts = append(c.Attempts, a)
		d.notify()
		d.mu.Unlock()
	}
	return a
}

// post sends a body and waits for the whole answer as long as patience lasts.
func (d *Directory) post(url string, header http.Header, body []byte, patience time.Duration) Attempt {
	a := Attempt{At: time.Now()}
	ctx, cancel := context.WithTimeout(d.ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		a.Err = err.Error()
		return a
	}
	req.Header = header
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	resp, err := d.transport.RoundTrip(req)
	if err == nil {
		var answer []byte
		answer, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		if err == nil {
			a.Status, a.Answer = resp.StatusCode, string(answer[:min(len(answer), answerLimit)])
		}
	}
	a.Took = time.Since(a.At)
	if err != nil {
		a.Err = err.Error()
		if ctx.Err() != nil && d.ctx.Err() == nil {
			a.Err = fmt.Sprintf("no answer within %v", patience)
		}
	}
	return a
}

// relayPatience is Logic Apps' limit for a synchronous HTTP action.
const relayPatience = 2 * time.Minute

// startRelay begins a run, which goes on by itself.
func (d *Directory) startRelay(r *Relay, c *callout, body json.RawMessage) {
	run := RelayRun{ID: uuid.NewString(), Started: time.Now()}
	update := func(change func(*RelayRun)) { change(&run) }
	if c != nil {
		d.mu.Lock()
		c.Relayed = append(c.Relayed, run)
		i := len(c.Relayed) - 1
		d.mu.Unlock()
		update = func(change func(*RelayRun)) {
			d.mu.Lock()
			defer d.mu.Unlock()
			change(&c.Relayed[i])
			d.notify()
		}
	}
	retries := r.Retries
	if retries == 0 {
		retries = 4
	}
	d.spawn(func() {
		succeeded := false
		for try := 0; try <= max(retries, 0); try++ {
			if try > 0 && !d.pause(d.relayDelay(try)) {
				break
			}
			a := d.relayCall(r, run.ID, body)
			update(func(run *RelayRun) { run.Attempts = append(run.Attempts, a) })
			succeeded = a.OK
			// Logic Apps retries what 408, 429 and 5xx answer, and what nobody answers.
			if a.Status != 0 && a.Status != 408 && a.Status != 429 && a.Status < 500 {
				break
			}
		}
		update(func(run *RelayRun) { run.Over, run.Succeeded = true, succeeded })
	})
}

func (d *Directory) relayCall(r *Relay, run string, body json.RawMessage) Attempt {
	header := http.Header{
		"User-Agent": {"azure-logic-apps/1.0 (workflow " + r.Name + "; version 1)"}, "X-Ms-Workflow-Run-Id": {run},
		"X-Ms-Workflow-Name": {r.Name}, "X-Ms-Client-Tracking-Id": {run}, "X-Ms-Action-Tracking-Id": {uuid.NewString()},
	}
	if r.FunctionKey != "" {
		header.Set("x-functions-key", r.FunctionKey)
	}
	if r.Identity != "" {
		token, err := d.identityToken(r.Identity, r.Resource)
		if err != nil {
			return Attempt{At: time.Now(), Err: err.Error()}
		}
		header.Set("Authorization", "Bearer "+token)
	}
	a := d.post(r.URL, header, body, relayPatience)
	a.OK = a.Status/100 == 2
	return a
}

// relayDelay is the wait before a retry, counted from 1: exponential from Config.RelayInterval, at most six times that, as Logic
// Apps' default policy (7.5 s, at most 45 s) without its chance.
func (d *Directory) relayDelay(retry int) time.Duration {
	return min(d.cfg.RelayInterval<<(retry-1), 6*d.cfg.RelayInterval)
}

// pause waits, and says whether the directory is still open then.
func (d *Directory) pause(wait time.Duration) bool {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-d.ctx.Done():
		return false
	}
}

// outgoing puts a desk of faults before calls that go out, as it stands before those that come in.
type outgoing struct {
	desk    *misbehave.Desk
	through http.RoundTripper
}

func (o outgoing) RoundTrip(r *http.Request) (*http.Response, error) {
	var failure atomic.Pointer[error]
	forward := http.HandlerFunc(func(w http.ResponseWriter, in *http.Request) {
		out := r.Clone(in.Context())
		out.Body = in.Body
		resp, err := o.through.RoundTrip(out)
		if err != nil {
			failure.Store(&err)
			panic(http.ErrAbortHandler)
		}
		defer resp.Body.Close()
		maps.Copy(w.Header(), resp.Header)
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	})
	resp, err := misbehave.Transport(o.desk.Middleware(forward)).RoundTrip(r)
	if cause := failure.Load(); err != nil && cause != nil {
		return nil, *cause
	}
	return resp, err
}
