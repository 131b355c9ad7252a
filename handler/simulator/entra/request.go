package entra

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// The states of an assignment request (accessPackageRequestState). A request is over in all but the first three; at the stage
// "granted" it is delivered already, and over only when that stage is.
const (
	StateSubmitted       = "submitted"
	StatePendingApproval = "pendingApproval"
	StateDelivering      = "delivering"
	StateDelivered       = "delivered"
	StateDeliveryFailed  = "deliveryFailed"
	StateDenied          = "denied"
	StateCanceled        = "canceled"
)

// The statuses of a callout instance (customExtensionCalloutInstanceStatus).
const (
	StatusSent     = "calloutSent"
	StatusWaiting  = "waitingForCallback"
	StatusReceived = "callbackReceived"
	StatusFailed   = "calloutFailed"
	StatusTimedOut = "callbackTimedOut"
)

// A NewRequest is what somebody asks for in My Access, or an administrator in the portal.
type NewRequest struct {
	Type          string // accessPackageRequestType; default userAdd
	Policy        string // its package is the one that is asked for
	Target        string // object id of who gets or loses the package
	Requestor     string // object id; default the target
	Answers       []Answer
	Justification string
	Shape         Shape // how the callouts of this request depart from Microsoft's example
}

// An Answer answers a question of the policy.
type Answer struct{ Question, Value string }

// A Request is an assignment request as it stood when it was asked for.
type Request struct {
	ID, Type, State, Status string
	MyAccess                string // what My Access shows the requestor: "Pending", "Delivered", "Assignment failed", "Denied", "Canceled"
	Over                    bool   // nothing more will happen
	Package, PackageName    string
	Catalog, Policy         string
	Assignment              string // id of the assignment that it makes or ends
	Target, Requestor       User
	Answers                 []Answer
	Created, Completed      time.Time // Completed is zero until it is over
	Callouts                []Callout // oldest first, with those before the expiration of its assignment
}

// Waiting returns the callout that the request waits for; nil when it waits for none.
func (r Request) Waiting() *Callout {
	for i := range r.Callouts {
		if r.Callouts[i].Status == StatusWaiting && !r.Over {
			return &r.Callouts[i]
		}
	}
	return nil
}

// A Callout is one callout instance: a stage that called an extension.
type Callout struct {
	ID        string // the stage instance id
	Request   string
	Stage     string
	Extension string
	Status    string
	Detail    string // customExtensionStageInstanceDetail of the callback
	Waits     bool   // launch and wait
	Sent      time.Time
	Deadline  time.Time // of the callback; zero when it does not wait
	Body      json.RawMessage
	Attempts  []Attempt  // calls by entitlement management itself
	Relayed   []RelayRun // runs of the relay that it called, if it called one
}

// An Attempt is one HTTP call of a callout.
type Attempt struct {
	At     time.Time
	Took   time.Duration
	Status int    // 0 when no answer came in time
	Answer string // the answer's body, cut at 4 KiB
	Err    string // why there was no answer
	OK     bool   // the caller took it for a success
}

type request struct {
	Request
	shape    Shape
	callouts []*callout
	ended    chan struct{} // closed when the request is over
	approval chan bool
}

type callout struct {
	Callout
	done chan struct{} // closed by the callback, the time-out, or the end of the request
}

type assignment struct {
	id, pkg, policy, target, state, status string
	request                                string // the request that made it
	expires                                time.Time
	callouts                               []*callout // before its expiration
}

// ErrOver says that a request is over: there is nothing to withdraw, expire or approve.
var ErrOver = errors.New("entra: the request is over")

// ErrUnknown says that there is no request or callout of that id.
var ErrUnknown = errors.New("entra: no such request or callout")

// Submit makes an assignment request and returns its id at once; its stages then run by themselves. A removal ends the assignment
// that the target has, or else one that is made up.
func (d *Directory) Submit(n NewRequest) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n.Type == "" {
		n.Type = "userAdd"
	}
	p := d.policy(n.Policy)
	if p == nil {
		return "", fmt.Errorf("entra: no policy %q", n.Policy)
	}
	target := d.user(n.Target)
	if target == nil {
		return "", fmt.Errorf("entra: no user %q", n.Target)
	}
	requestor := target
	if n.Requestor != "" {
		if requestor = d.user(n.Requestor); requestor == nil {
			return "", fmt.Errorf("entra: no user %q", n.Requestor)
		}
	}
	pkg := d.pkg(p.pkg)
	a := d.assignmentOf(pkg.ID, target.ObjectID)
	if a == nil {
		a = &assignment{
			id: uuid.NewString(), pkg: pkg.ID, policy: p.id, target: target.ObjectID, state: StateDelivering, status: "Delivering",
			expires: time.Now().Add(365 * 24 * time.Hour),
		}
		if removes(n.Type) {
			a.state, a.status = StateDelivered, "Delivered"
		}
		d.assignments = append(d.assignments, a)
	}
	r := &request{
		Request: Request{
			ID: uuid.NewString(), Type: n.Type, State: StateSubmitted, Status: "Submitted", MyAccess: "Pending",
			Package: pkg.ID, PackageName: pkg.Name, Catalog: pkg.CatalogID, Policy: p.id, Assignment: a.id,
			Target: *target, Requestor: *requestor, Answers: slices.Clone(n.Answers), Created: time.Now(),
		},
		shape: n.Shape, ended: make(chan struct{}), approval: make(chan bool, 1),
	}
	if a.request == "" {
		a.request = r.ID
	}
	d.requests = append(d.requests, r)
	d.notify()
	d.spawn(func() { d.live(r) })
	return r.ID, nil
}

func removes(requestType string) bool { return strings.HasSuffix(requestType, "Remove") }

func (d *Directory) assignmentOf(pkg, target string) *assignment {
	return find(d.assignments, func(a *assignment) bool {
		return a.pkg == pkg && a.target == target && a.state == StateDelivered
	})
}

func (d *Directory) assignment(id string) *assignment {
	return find(d.assignments, func(a *assignment) bool { return strings.EqualFold(a.id, id) })
}

func (d *Directory) request(id string) *request {
	return find(d.requests, func(r *request) bool { return strings.EqualFold(r.ID, id) })
}

// live takes a request through its stages. Whether the stage "created" calls out for a removal is not documented; here it does not.
func (d *Directory) live(r *request) {
	if removes(r.Type) {
		if d.move(r, StateDelivering, "Delivering") && d.stage(r, StageRemoved) {
			d.end(r, StateDelivered, "Delivered", "expired")
		}
		return
	}
	if !d.stage(r, StageCreated) || !d.approved(r) || !d.move(r, StateDelivering, "Delivering") || !d.stage(r, StageApproved) {
		return
	}
	d.mu.Lock()
	granted := d.hasStage(r, StageGranted)
	if granted && !r.Over { // access is given before the stage "granted"; whatever becomes of its callout
		r.State, r.Status, r.MyAccess = StateDelivered, "Delivered", "Delivered"
		if a := d.assignment(r.Assignment); a != nil {
			a.state, a.status = StateDelivered, "Delivered"
		}
		d.notify()
	}
	d.mu.Unlock()
	if !granted || d.stage(r, StageGranted) {
		d.end(r, StateDelivered, "Delivered", StateDelivered)
	}
}

// move puts a request in another state, unless it is over.
func (d *Directory) move(r *request, state, status string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.Over {
		return false
	}
	r.State, r.Status = state, status
	d.notify()
	return true
}

func (d *Directory) end(r *request, state, status, assigned string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.close(r, state, status, assigned)
}

// close ends a request, and puts its assignment in the state "assigned" unless that is ""; the caller holds d.mu. A request that is
// over stays as it is.
func (d *Directory) close(r *request, state, status, assigned string) {
	if r.Over {
		return
	}
	r.State, r.Status, r.Over, r.Completed = state, status, true, time.Now()
	r.MyAccess = map[string]string{
		StateDelivered: "Delivered", StateDeliveryFailed: "Assignment failed", StateDenied: "Denied", StateCanceled: "Canceled",
	}[state]
	if a := d.assignment(r.Assignment); a != nil {
		if assigned == "" && a.state == StateDelivering {
			assigned = StateDeliveryFailed // it was never given
		}
		if assigned != "" {
			a.state, a.status = assigned, strings.ToUpper(assigned[:1])+assigned[1:]
		}
	}
	close(r.ended)
	d.notify()
}

// approved waits for Approve or Reject where the policy wants an approval.
func (d *Directory) approved(r *request) bool {
	d.mu.Lock()
	if r.Over {
		d.mu.Unlock()
		return false
	}
	settings, _ := d.policy(r.Policy).body["requestApprovalSettings"].(map[string]any)
	if required, _ := settings["isApprovalRequiredForAdd"].(bool); !required || strings.HasPrefix(r.Type, "admin") {
		d.mu.Unlock()
		return true
	}
	r.State, r.Status = StatePendingApproval, "PendingApproval"
	d.notify()
	d.mu.Unlock()
	select {
	case yes := <-r.approval:
		if !yes {
			d.end(r, StateDenied, "Denied", "")
		}
		return yes
	case <-r.ended:
		return false
	case <-d.ctx.Done():
		return false
	}
}

func (d *Directory) hasStage(r *request, stage string) bool {
	return slices.ContainsFunc(d.policy(r.Policy).stages, func(s stageSetting) bool { return s.stage == stage })
}

// stage calls the extension of a stage, if there is one, and waits for the callback if it is launch and wait. It says whether
// the request goes on.
func (d *Directory) stage(r *request, stage string) bool {
	d.mu.Lock()
	if r.Over {
		d.mu.Unlock()
		return false
	}
	i := slices.IndexFunc(d.policy(r.Policy).stages, func(s stageSetting) bool { return s.stage == stage })
	if i < 0 {
		d.mu.Unlock()
		return true
	}
	x := d.extension(d.policy(r.Policy).stages[i].extension)
	if x == nil { // deleted meanwhile
		d.close(r, StateDeliveryFailed, "CustomExtensionNotFound", StateDeliveryFailed)
		d.mu.Unlock()
		return false
	}
	before := r.Status
	c := d.newCallout(x, r.ID, stage)
	r.callouts = append(r.callouts, c)
	if c.Waits {
		r.Status = "WaitingForCallback"
	}
	c.Body = d.calloutBody(r, c, x)
	d.notify()
	d.mu.Unlock()

	ok := d.deliver(x, c)

	d.mu.Lock()
	if c.Status == StatusSent { // the callback may have come before our call was answered
		switch {
		case !ok:
			c.Status = StatusFailed
		case c.Waits:
			c.Status = StatusWaiting
		}
	}
	failed := c.Status == StatusFailed
	if failed && c.Waits && !d.cfg.GoOnAfterFailedCallout {
		d.close(r, StateDeliveryFailed, "CalloutFailed", StateDeliveryFailed)
	}
	d.notify()
	d.mu.Unlock()

	if c.Waits && !failed {
		deadline := time.NewTimer(time.Until(c.Deadline))
		defer deadline.Stop()
		select {
		case <-c.done:
		case <-r.ended:
		case <-deadline.C:
			d.mu.Lock()
			d.timeOut(r, c)
			d.mu.Unlock()
		case <-d.ctx.Done():
			return false
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.Over {
		return false
	}
	r.Status = before
	d.notify()
	return true
}

// newCallout makes a callout instance; the caller holds d.mu.
func (d *Directory) newCallout(x *extension, request, stage string) *callout {
	c := &callout{
		Callout: Callout{
			ID: uuid.NewString(), Request: request, Stage: stage, Extension: x.id, Status: StatusSent, Sent: time.Now(),
		},
		done: make(chan struct{}),
	}
	if wait := x.wait(); wait > 0 && !expiring(stage) {
		c.Waits, c.Deadline = true, c.Sent.Add(wait)
	}
	d.callouts[strings.ToLower(c.ID)] = c
	return c
}

// timeOut fails a request whose callback did not come; the caller holds d.mu.
func (d *Directory) timeOut(r *request, c *callout) bool {
	if r.Over || c.Status != StatusWaiting && c.Status != StatusSent {
		return false
	}
	c.Status = StatusTimedOut
	d.close(r, StateDeliveryFailed, "CallbackTimedOut", StateDeliveryFailed)
	close(c.done)
	return true
}

// Expire lets the callback that the request waits for time out now. Without one it returns ErrOver.
func (d *Directory) Expire(id string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.request(id)
	if r == nil {
		return ErrUnknown
	}
	for _, c := range r.callouts {
		if c.Waits && d.timeOut(r, c) {
			return nil
		}
	}
	return ErrOver
}

// Withdraw cancels a request, as its requestor does in My Access.
func (d *Directory) Withdraw(id string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.request(id)
	switch {
	case r == nil:
		return ErrUnknown
	case r.Over:
		return ErrOver
	}
	d.cancel(r)
	return nil
}

// cancel ends a request as canceled. What its waiting callout instance then shows is not documented: Config.WithdrawnStatus says.
func (d *Directory) cancel(r *request) {
	for _, c := range r.callouts {
		if (c.Status == StatusWaiting || c.Status == StatusSent && c.Waits) && d.cfg.WithdrawnStatus != "" {
			c.Status = d.cfg.WithdrawnStatus
		}
	}
	d.close(r, StateCanceled, "Canceled", "")
}

// Approve lets a request that waits for an approver go on.
func (d *Directory) Approve(id string) error { return d.decide(id, true) }

// Reject denies a request that waits for an approver.
func (d *Directory) Reject(id string) error { return d.decide(id, false) }

func (d *Directory) decide(id string, yes bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.request(id)
	switch {
	case r == nil:
		return ErrUnknown
	case r.State != StatePendingApproval || len(r.approval) > 0:
		return ErrOver
	}
	r.approval <- yes
	return nil
}

// WarnExpiring calls out for the assignment that a request made, as entitlement management does 14 days and one day before it
// expires. It returns the callout instance's id when the calls are over.
func (d *Directory) WarnExpiring(id, stage string) (string, error) {
	d.mu.Lock()
	r := d.request(id)
	if r == nil {
		d.mu.Unlock()
		return "", ErrUnknown
	}
	a := d.assignment(r.Assignment)
	i := slices.IndexFunc(d.policy(a.policy).stages, func(s stageSetting) bool { return s.stage == stage })
	if !expiring(stage) || i < 0 || a.state != StateDelivered {
		state := a.state
		d.mu.Unlock()
		return "", fmt.Errorf("entra: the assignment is %s, or its policy calls nobody at %q", state, stage)
	}
	x := d.extension(d.policy(a.policy).stages[i].extension)
	c := d.newCallout(x, r.ID, stage)
	a.callouts = append(a.callouts, c)
	c.Body = d.calloutBody(r, c, x)
	d.notify()
	d.mu.Unlock()
	ok := d.deliver(x, c)
	d.mu.Lock()
	defer d.mu.Unlock()
	if !ok {
		c.Status = StatusFailed
	}
	d.notify()
	return c.ID, nil
}

// RepeatCallout sends a callout instance once more, with the same body, as a retry after a lost answer would. It changes no state.
func (d *Directory) RepeatCallout(id string) (Attempt, error) {
	d.mu.Lock()
	c := d.callouts[strings.ToLower(id)]
	if c == nil {
		d.mu.Unlock()
		return Attempt{}, ErrUnknown
	}
	x := d.extension(c.Extension)
	d.mu.Unlock()
	if x == nil {
		return Attempt{}, ErrUnknown
	}
	return d.call(x, c, c.Body), nil
}

// Request returns a request as it stands.
func (d *Directory) Request(id string) (Request, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.request(id)
	if r == nil {
		return Request{}, false
	}
	return d.snapshot(r), true
}

// Requests returns every request, oldest first.
func (d *Directory) Requests() []Request {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []Request
	for _, r := range d.requests {
		out = append(out, d.snapshot(r))
	}
	return out
}

// Await returns a request as soon as "is" holds for it. Its error is that of ctx, or ErrUnknown.
func (d *Directory) Await(ctx context.Context, id string, is func(Request) bool) (Request, error) {
	for {
		d.mu.Lock()
		changed := d.changed
		r := d.request(id)
		if r == nil {
			d.mu.Unlock()
			return Request{}, ErrUnknown
		}
		s := d.snapshot(r)
		d.mu.Unlock()
		if is(s) {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return s, fmt.Errorf("waiting for request %s, which is %s (%s): %w", id, s.State, s.Status, ctx.Err())
		}
	}
}

// IsOver holds for a request to which nothing more will happen.
func IsOver(r Request) bool { return r.Over }

// IsWaiting holds for a request that waits for a callback.
func IsWaiting(r Request) bool { return r.Waiting() != nil }

func (d *Directory) snapshot(r *request) Request {
	s := r.Request
	s.Answers = slices.Clone(r.Answers)
	all := slices.Clone(r.callouts)
	if a := d.assignment(r.Assignment); a != nil {
		for _, c := range a.callouts {
			if c.Request == r.ID { // further requests may have found the assignment there
				all = append(all, c)
			}
		}
	}
	for _, c := range all {
		cc := c.Callout
		cc.Attempts, cc.Relayed = slices.Clone(c.Attempts), slices.Clone(c.Relayed)
		for i := range cc.Relayed {
			cc.Relayed[i].Attempts = slices.Clone(cc.Relayed[i].Attempts)
		}
		s.Callouts = append(s.Callouts, cc)
	}
	return s
}
