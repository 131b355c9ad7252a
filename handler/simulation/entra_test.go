package simulation

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"ticketbridge/handler/callout"
	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/workflow"
)

// A request is an access package assignment request in the model of Entra. It goes through its stages one after the other.
type request struct {
	id, kind      string
	stages        []*stage
	at            int
	state, status string
	over          bool
	deleted       bool
	listed        bool // Graph lists callout instances with our ids
	skew          time.Duration
}

// A stage is one stage instance: one callout, and one correlation of ours.
type stage struct {
	*request
	key   correlation.Key
	name  string
	waits bool // launch and wait
	says  bool // and the callout says so
	wait  string
	body  []byte

	instance string // the status of the callout instance
	deadline time.Time
	answered bool // Entra has seen that its call was taken
	acked    bool // we answered 202 once

	tickets      int // how many the rule opens
	onRejected   string
	after        string
	refuseDenial bool // Graph turns a denial down
	refuseCreate bool // ServiceNow turns the ticket down, while the storm lasts
	abandoned    bool // nobody ever works on its tickets
	byHand       bool // a person has decided to resume it

	taken []workflow.Decision // the answers that Graph took
	other bool                // somebody else answered
}

const (
	sent     = "calloutSent"
	waiting  = "waitingForCallback"
	received = "callbackReceived"
	timedOut = "callbackTimedOut"
	noCall   = "calloutFailed"
)

// What is personal or secret in callouts, and must never be in a log.
const (
	personal = "@people.example"
	family   = "Quillfeather"
	answerIs = "between-you-and-me"
)

// newRequest lets somebody ask for something.
func (w *world) newRequest() {
	r := &request{
		id: w.guid(), kind: pick(w, "userAdd", "userAdd", "adminAdd", "onBehalfAdd", "userUpdate", "userExtend", "userRemove", "adminRemove"), state: "submitted", status: "Submitted",
		listed: w.chance(0.8), skew: w.between(-4*time.Minute, 4*time.Minute),
	}
	var names []string
	switch {
	case w.chance(0.06):
		names = []string{pick(w, callout.StageFourteenDays, callout.StageOneDay)}
	case r.kind == "userRemove" || r.kind == "adminRemove":
		names = []string{callout.StageRemoved}
	default:
		for _, name := range []string{callout.StageCreated, callout.StageApproved, callout.StageGranted} {
			if w.chance(0.5) {
				names = append(names, name)
			}
		}
		if len(names) == 0 {
			names = []string{callout.StageApproved}
		}
	}
	for _, name := range names {
		s := &stage{request: r, name: name, wait: pick(w, "PT1H", "PT6H", "P1D", "P1D", "P3D", "P3D", "P7D", "P14D")}
		s.key = correlation.Key{Request: r.id, Stage: w.guid()}
		expiring := name == callout.StageFourteenDays || name == callout.StageOneDay
		s.waits = !expiring && w.chance(0.85)
		s.says = s.waits && w.chance(0.93)
		s.tickets = pick(w, 1, 1, 1, 1, 2, 2, 3)
		if w.chance(0.04) {
			s.tickets = 0 // also where the request waits, which is a rule to be mended
		}
		s.onRejected = pick(w, "deny", "deny", "cancel", "hold")
		s.after = pick(w, plain, quiet, full, full)
		s.refuseDenial = w.chance(0.2)
		s.refuseCreate = w.chance(0.02)
		s.abandoned = w.chance(0.06)
		r.stages = append(r.stages, s)
	}
	w.requests = append(w.requests, r)
	w.begin(r)
	if w.chance(0.06) {
		w.after(w.between(time.Minute, 2*24*time.Hour), func() { w.leave(r) })
	}
}

// begin starts the request's next stage, or ends it.
func (w *world) begin(r *request) {
	if r.over {
		return
	}
	if r.at == len(r.stages) {
		r.over, r.state, r.status = true, "delivered", "Delivered"
		return
	}
	s := r.stages[r.at]
	r.at++
	switch s.name {
	case callout.StageCreated:
		r.state, r.status = "submitted", "Submitted"
	case callout.StageGranted, callout.StageFourteenDays, callout.StageOneDay:
		r.state, r.status = "delivered", "Delivered"
	default:
		r.state, r.status = "delivering", "Delivering"
	}
	wait, err := callout.ParseDuration(s.wait)
	if err != nil {
		panic(err)
	}
	s.instance = sent
	if s.waits {
		r.status = "WaitingForCallback"
		s.deadline = time.Now().Add(wait + r.skew)
		w.at(s.deadline, func() { w.timeOut(s) })
		w.lastDeadline = later(w.lastDeadline, s.deadline)
	}
	s.body = w.calloutBody(s)
	w.stages[s.key.String()] = s
	w.begun = append(w.begun, s)
	w.call(s, 1)
}

func (w *world) calloutBody(s *stage) []byte {
	person := map[string]any{
		"Id": w.guid(), "ObjectId": w.guid(), "DisplayName": "Nemo " + family, "Email": "nemo" + personal, "PrincipalName": pick(w, "nemo"+personal, "nobody@elsewhere.example"),
	}
	body := map[string]any{
		"AccessPackageAssignmentRequestId": s.key.Request, "CustomExtensionStageInstanceId": s.key.Stage, "Stage": s.name, "RequestType": s.kind,
		"State": s.state, "Status": s.status,
		"Answers":              []any{map[string]any{"AnsweredQuestion": map[string]any{"TextString": "Why?"}, "Value": answerIs}},
		"AccessPackage":        map[string]any{"Id": w.guid(), "DisplayName": packageName(s)},
		"AccessPackageCatalog": map[string]any{"Id": w.guid(), "DisplayName": "Everything"},
		"Assignment":           map[string]any{"Id": w.guid(), "State": s.state, "Target": person},
		"Requestor":            person,
	}
	if s.says {
		body["CallbackConfiguration"] = map[string]any{"DurationBeforeTimeout": s.wait}
	}
	text, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	return text
}

// call makes a callout: one attempt, and one more when no answer came in time. Behind a relay it is repeated more often.
func (w *world) call(s *stage, attempt int) {
	began := time.Now()
	answered := func(ok bool) {
		took := time.Since(began)
		if s.instance != sent || s.answered { // it is a repetition of a call that was answered, or too late
			return
		}
		if ok && took < time.Second && !w.troubled("callouts whose answer was lost", 0.03) {
			s.answered = true
			if s.waits {
				s.instance = waiting
			} else {
				w.after(w.between(0, time.Hour), func() { w.begin(s.request) })
			}
			if w.troubled("callouts repeated later", 0.15) {
				for range w.rng.IntN(3) + 1 {
					w.after(w.between(0, pick(w, time.Second, time.Minute, 30*time.Hour)), func() { w.call(s, 9) })
				}
			}
			return
		}
		if attempt < 2 || attempt < 5 && w.relay {
			w.count("callouts repeated at once")
			w.after(w.between(0, time.Duration(attempt)*3*time.Second), func() { w.call(s, attempt+1) })
			return
		}
		if attempt > 5 {
			return
		}
		w.count("callouts that Entra gave up")
		s.instance = noCall
		if s.waits && !s.over {
			s.over, s.state, s.status = true, "deliveryFailed", "CalloutFailed"
			return
		}
		w.after(w.between(0, time.Hour), func() { w.begin(s.request) })
	}
	in := w.some()
	if in == nil {
		w.after(w.between(0, time.Second), func() { answered(false) })
		return
	}
	w.start(in, "callout", s.key.String(), 750*time.Millisecond, func(ctx context.Context) error {
		_, err := in.workflow.Accept(ctx, s.body)
		return err
	}, func(err error, died bool) {
		if err == nil && !died {
			s.acked = true
			if _, err := w.store.Load(context.Background(), s.key); err != nil && !w.purged(s) {
				w.violate(s.key.String(), "202 was answered, and nothing is stored: %v", err)
			}
		}
		answered(err == nil && !died)
	})
	if attempt == 1 && w.troubled("callouts sent twice at the same time", 0.05) {
		w.call(s, 9)
	}
}

// timeOut ends the waiting.
func (w *world) timeOut(s *stage) {
	if s.instance != sent && s.instance != waiting || s.over {
		return
	}
	w.count("requests timed out")
	s.instance = timedOut
	s.over = true
	s.status = "Delivered"
	if s.name != callout.StageGranted {
		s.state, s.status = "deliveryFailed", "CallbackTimedOut"
	}
}

// waitsNow says whether the request waits for an answer to this stage.
func (s *stage) waitsNow() bool {
	return s.waits && !s.over && (s.instance == sent || s.instance == waiting)
}

// leave lets a request end without us.
func (w *world) leave(r *request) {
	if r.over {
		return
	}
	s := r.stages[max(0, r.at-1)]
	switch n := w.rng.IntN(10); {
	case n < 5:
		w.count("requests withdrawn")
		r.over, r.state, r.status = true, "canceled", "Canceled"
	case n < 7:
		w.count("requests denied in Entra")
		r.over, r.state, r.status = true, "denied", "Denied"
	case n < 8:
		w.count("requests deleted")
		r.over, r.deleted, r.state = true, true, "canceled"
	default:
		if s.instance == waiting {
			w.count("requests answered by somebody else")
			s.other = true
			s.instance = received
			w.after(w.between(0, 10*time.Minute), func() { w.begin(r) })
		}
	}
}

// requests are workflow.Requests on the model.
type requests struct{ w *world }

func (g requests) Answer(ctx context.Context, key correlation.Key, name string, d workflow.Decision, detail string) error {
	w := g.w
	s := w.stages[key.String()]
	if s == nil {
		w.violate("", "an answer for %s, of which nobody called", key)
		return nil
	}
	if d == workflow.Resume && !s.byHand {
		w.mayGrant(s)
		if own := strings.HasPrefix(detail, "ServiceNow T"); own == (s.after == full) || !own && detail != fmt.Sprintf("%d by the rule", s.tickets) {
			w.violate(key.String(), "approvers see %q", detail)
		}
	}
	return w.pass(ctx, &w.graph, call{op: "answer " + string(d), about: key.String(), changes: true}, func() error {
		refuse := func(what string) error {
			return &fault.Error{Op: "answer", Reason: fault.Refused, Detail: what, Status: 400}
		}
		switch {
		case s.deleted:
			return &fault.Error{Op: "answer", Reason: fault.NotFound, Status: 404}
		case w.noRole:
			w.count("Graph: the role is missing")
			return &fault.Error{Op: "answer", Reason: fault.Forbidden, Status: 403, Advice: "Give the function's identity the role."}
		case name != s.name || !s.waitsNow():
			return refuse("the request does not wait for a callback")
		case d != workflow.Resume && s.refuseDenial:
			w.count("Graph: a denial refused")
			return refuse("the request cannot be denied at this stage")
		}
		s.taken = append(s.taken, d)
		if len(s.taken) > 1 {
			w.violate(key.String(), "Graph took %d answers", len(s.taken))
		}
		s.instance = received
		switch d {
		case workflow.Resume:
			w.after(w.between(0, 10*time.Minute), func() { w.begin(s.request) })
			if s.name != callout.StageGranted {
				s.status = "Delivering"
			}
		case workflow.Deny:
			s.over, s.state, s.status = true, "denied", "Denied"
		case workflow.Cancel:
			s.over, s.state, s.status = true, "canceled", "Canceled"
		}
		return nil
	})
}

func (g requests) Read(ctx context.Context, key correlation.Key) (out workflow.RequestStatus, err error) {
	w := g.w
	s := w.stages[key.String()]
	err = w.pass(ctx, &w.graph, call{op: "ask", about: key.String()}, func() error {
		if s == nil || s.deleted {
			return &fault.Error{Op: "ask", Reason: fault.NotFound, Status: 404}
		}
		out = workflow.RequestStatus{State: s.state, Status: s.status}
		if s.listed {
			out.Instance = s.instance
		}
		return nil
	})
	return out, err
}

// ReadMany is a batch: one call that may fail, in which each step may be turned away by itself.
func (g requests) ReadMany(ctx context.Context, keys []correlation.Key) (map[correlation.Key]workflow.RequestStatus, error) {
	w := g.w
	stand := map[correlation.Key]workflow.RequestStatus{}
	err := w.pass(ctx, &w.graph, call{op: "ask many", about: keys[0].String()}, func() error {
		for _, key := range keys {
			s := w.stages[key.String()]
			if s == nil || s.deleted || w.troubled("Graph: a step of a batch turned away", 0.05) {
				continue
			}
			st := workflow.RequestStatus{State: s.state, Status: s.status}
			if s.listed {
				st.Instance = s.instance
			}
			stand[key] = st
		}
		return nil
	})
	return stand, err
}

func (g requests) People(ctx context.Context, key correlation.Key) (people []callout.Person, err error) {
	w := g.w
	err = w.pass(ctx, &w.graph, call{op: "people", about: key.String()}, func() error {
		if s := w.stages[key.String()]; s == nil || s.deleted {
			return &fault.Error{Op: "people", Reason: fault.NotFound, Status: 404}
		}
		return nil
	})
	return people, err
}

// mayGrant holds that a request is resumed only when each of its tickets was read while its work was done.
func (w *world) mayGrant(s *stage) {
	for i := range s.tickets {
		id := s.key.TicketID(i)
		if !slices.ContainsFunc(w.byID[id], func(r *record) bool { return r.done }) {
			w.violate(s.key.String(), "about to be granted, and ticket %s was never read as done", id)
		}
	}
	if s.tickets == 0 {
		w.violate(s.key.String(), "about to be granted without a ticket")
	}
}

func packageName(s *stage) string {
	return fmt.Sprintf("Package %d %s %s", s.tickets, s.onRejected, s.after)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
