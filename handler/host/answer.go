package host

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/rs/zerolog"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/workflow"
)

// triggerBody is what the host wants of a queue or timer function, in full: an answer of another type is a failure, an empty one or "null" hangs
// until the host's functionTimeout, which then kills the process (recorded on host 4.1037). It says the same after a failure, which
// the status alone tells.
const triggerBody = `{"Outputs":{},"Logs":[],"ReturnValue":null}`

// retryAfter is what a caller is told when nobody knows better.
const retryAfter = 2 * time.Second

// An answer is what goes back to the host, and what the log says of the invocation.
type answer struct {
	status  int
	header  http.Header
	body    []byte
	whole   bool // header and body are the console's own
	problem *problemBody

	err      error
	private  bool // err may repeat what was sent
	key      correlation.Key
	why      string // why a message was sent
	dequeued string // how often it was delivered, as the host says
	late     bool   // the timer's call is past due
	swept    *workflow.Swept
}

// problemBody is an error as RFC 9457 has it, with two members of our own.
type problemBody struct {
	Type       string `json:"type"`
	Title      string `json:"title"`
	Status     int    `json:"status"`
	Detail     string `json:"detail,omitempty"`
	Field      string `json:"field,omitempty"`        // the property, header or setting that is wrong
	Invocation string `json:"invocationId,omitempty"` // to find the log
}

func problem(status int, field, detail string) answer {
	return answer{status: status, problem: &problemBody{
		Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail, Field: field,
	}}
}

// problemOf is the problem of a call that is itself wrong: it says what the error says.
func problemOf(status int, err error) answer {
	if e, ok := errors.AsType[*fault.Error](err); ok {
		return problem(status, e.Field, e.Detail)
	}
	return problem(status, "", "")
}

// unavailable is the problem of a call that should be made again, after the given time; 0 is not known.
func unavailable(detail string, after time.Duration) answer {
	if after <= 0 {
		after = retryAfter
	}
	a := problem(http.StatusServiceUnavailable, "", detail)
	a.header = http.Header{"Retry-After": {strconv.Itoa(int(math.Ceil(after.Seconds())))}}
	return a
}

func accepted(body receiptBody) answer {
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // strings and a bool always encode
	}
	return answer{status: http.StatusAccepted, header: http.Header{"Content-Type": {"application/json"}}, body: text}
}

// write sends the answer.
func (a *answer) write(w http.ResponseWriter, r *http.Request, trigger bool) {
	h := w.Header()
	for name, values := range a.header {
		h[name] = values
	}
	body := a.body
	switch {
	case trigger:
		h.Set("Content-Type", "application/json")
		body = []byte(triggerBody)
	case a.problem != nil:
		text, err := json.Marshal(a.problem)
		if err != nil {
			panic(err) // strings and a number always encode
		}
		h.Set("Content-Type", "application/problem+json")
		body = text
	}
	if !a.whole {
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
	}
	if a.status == http.StatusNoContent || a.status == http.StatusNotModified {
		w.WriteHeader(a.status)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(a.status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // nobody is there to hear otherwise
	}
}

// log writes the invocation's line. It never holds a path, a query, a body or a name; of what a caller sent wrong, the field only.
func (a *answer) log(log *zerolog.Logger, took time.Duration, calls *workflow.Calls) {
	level := zerolog.InfoLevel
	switch {
	case a.status >= 500:
		level = zerolog.ErrorLevel
	case a.status >= 400:
		level = zerolog.WarnLevel
	}
	e := log.WithLevel(level).Str("event", "invocation").Int("status", a.status).Float64("ms", milliseconds(took))
	if !a.key.IsZero() {
		e.Str("requestId", a.key.Request).Str("stageInstanceId", a.key.Stage)
	}
	if a.why != "" {
		e.Str("why", a.why)
	}
	if a.dequeued != "" {
		e.Str("dequeueCount", a.dequeued)
	}
	if a.late {
		e.Bool("pastDue", true)
	}
	if a.swept != nil {
		e.Int("sent", a.swept.Sent).Bool("cut", a.swept.Cut).Int("poisoned", a.swept.Poisoned).Int("unreadable", a.swept.Unreadable).Int("purged", a.swept.Purged)
	}
	if m := calls.Of(workflow.ServiceNow); m.Calls > 0 {
		e.Int("serviceNowCalls", m.Calls).Int("serviceNowFailed", m.Failed).Float64("serviceNowMs", milliseconds(m.Took))
	}
	if m := calls.Of(workflow.Graph); m.Calls > 0 {
		e.Int("graphCalls", m.Calls).Int("graphFailed", m.Failed).Float64("graphMs", milliseconds(m.Took))
	}
	if a.err != nil {
		e.Str("reason", string(fault.ReasonOf(a.err)))
		if f, ok := errors.AsType[*fault.Error](a.err); ok && f.Field != "" {
			e.Str("field", f.Field)
		}
		if !a.private {
			e.Err(a.err)
		}
		if advice := fault.Advice(a.err); advice != "" {
			e.Str("advice", advice)
		}
	}
	e.Msg("invocation ended")
}

func milliseconds(d time.Duration) float64 { return math.Round(float64(d)/1e4) / 100 }
