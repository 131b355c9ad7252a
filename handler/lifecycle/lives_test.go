package lifecycle

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/misbehave"
	"ticketbridge/handler/simulator/servicenow"
)

// A life is a request from its submission to its end, and what the stand-ins should have on record then.
type life struct {
	name    string
	request func(w *world) entra.NewRequest
	stages  []ending
	access  string // what My Access shows at the end; "Pending" for one that waits for a person
}

// An ending is what becomes of one callout.
type ending struct {
	stage string
	act   func(w *world, request string, n int) // what happens once its ticket is there
	told  string                                // what Graph is told and takes: "go on", "Denied"; "" for nothing
	state string                                // what the app's own record says at the end
}

func closing(how servicenow.Closing) func(*world, string, int) {
	return func(w *world, request string, n int) { w.Helper(); w.closeTicket(request, n, how) }
}

var (
	done      = closing(servicenow.Closing{Outcome: servicenow.Complete})
	notDone   = closing(servicenow.Closing{Outcome: servicenow.Incomplete, Notes: "No licence left"})
	cancelled = closing(servicenow.Closing{Outcome: servicenow.Cancelled})
	rejected  = closing(servicenow.Closing{Outcome: servicenow.Rejected})
	silently  = closing(servicenow.Closing{Outcome: servicenow.Complete, Silent: true})
	oddly     = closing(servicenow.Closing{Fields: map[string]string{"active": "false"}})
	deleted   = func(w *world, request string, n int) {
		w.Helper()
		w.check(w.serviceNow.Delete(w.ticket(request, n).SysID))
	}
	expired = func(w *world, request string, n int) {
		w.Helper()
		w.ticket(request, n)
		w.check(w.entra.Expire(request))
	}
	withdrawn = func(w *world, request string, n int) {
		w.Helper()
		w.ticket(request, n)
		w.check(w.entra.Withdraw(request))
	}
)

// refusedDenial lets Graph refuse to deny the request, as it may at some stages: Microsoft's pages disagree at which.
func refusedDenial(w *world, request string, n int) {
	w.Helper()
	w.entra.GraphFaults.Add(misbehave.Fault{
		Match: "POST /v1.0/identityGovernance/entitlementManagement/assignmentRequests/" + request + "/resume", Status: http.StatusBadRequest,
		Body: `{"error":{"code":"BadRequest","message":"The request cannot be denied at this stage."}}`,
	})
	notDone(w, request, n)
}

func asking(policy func(entra.Sample) string) func(*world) entra.NewRequest {
	return func(w *world) entra.NewRequest { return entra.NewRequest{Policy: policy(w.sample)} }
}

func removing(policy func(entra.Sample) string) func(*world) entra.NewRequest {
	return func(w *world) entra.NewRequest { return entra.NewRequest{Type: "userRemove", Policy: policy(w.sample)} }
}

func shaped(s entra.Shape) func(*world) entra.NewRequest {
	return func(w *world) entra.NewRequest { return entra.NewRequest{Policy: w.sample.LedgerPolicy, Shape: s} }
}

// waitingWhenGranted adds a package whose requests wait for a ticket after the access was given.
func waitingWhenGranted(w *world) entra.NewRequest {
	pkg := w.entra.AddPackage(entra.Package{CatalogID: w.sample.Finance, Name: "Vault key"})
	return entra.NewRequest{Policy: w.entra.AddPolicy(entra.Policy{PackageID: pkg, Name: "Everybody", Stages: map[string]string{entra.StageGranted: w.sample.WaitFinance}})}
}

func ledgerPolicy(s entra.Sample) string  { return s.LedgerPolicy }
func payrollPolicy(s entra.Sample) string { return s.PayrollPolicy }
func clusterPolicy(s entra.Sample) string { return s.ClusterPolicy }
func badgePolicy(s entra.Sample) string   { return s.BadgePolicy }

const pending = "Pending"

// lives are every stage with every outcome that it can have.
var lives = []life{
	{"created and approved, both fulfilled", asking(payrollPolicy), []ending{
		{stage: entra.StageCreated, act: done, told: "go on", state: "resumed"}, {stage: entra.StageApproved, act: done, told: "go on", state: "resumed"},
	}, "Delivered"},
	{"created, not done", asking(payrollPolicy), []ending{{stage: entra.StageCreated, act: notDone, told: "Denied", state: "denied"}}, "Denied"},
	{"created, closed oddly", asking(payrollPolicy), []ending{{stage: entra.StageCreated, act: oddly, state: "held"}}, pending},
	{"created, ticket deleted", asking(payrollPolicy), []ending{{stage: entra.StageCreated, act: deleted, state: "held"}}, pending},
	{"created, Graph refuses the denial", asking(payrollPolicy), []ending{{stage: entra.StageCreated, act: refusedDenial, state: "held"}}, pending},
	{"created, timed out", asking(payrollPolicy), []ending{{stage: entra.StageCreated, act: expired, state: "expired"}}, "Assignment failed"},
	{"created, withdrawn", asking(payrollPolicy), []ending{{stage: entra.StageCreated, act: withdrawn, state: "withdrawn"}}, "Canceled"},

	{"approved, fulfilled", asking(ledgerPolicy), []ending{{stage: entra.StageApproved, act: done, told: "go on", state: "resumed"}}, "Delivered"},
	{"approved, closed without a word", asking(ledgerPolicy), []ending{{stage: entra.StageApproved, act: silently, told: "go on", state: "resumed"}}, "Delivered"},
	{"approved, not done", asking(ledgerPolicy), []ending{{stage: entra.StageApproved, act: notDone, told: "Denied", state: "denied"}}, "Denied"},
	{"approved, cancelled", asking(ledgerPolicy), []ending{{stage: entra.StageApproved, act: cancelled, told: "Denied", state: "denied"}}, "Denied"},
	{"approved, rejected", asking(ledgerPolicy), []ending{{stage: entra.StageApproved, act: rejected, told: "Denied", state: "denied"}}, "Denied"},
	{"approved, closed oddly", asking(ledgerPolicy), []ending{{stage: entra.StageApproved, act: oddly, state: "held"}}, pending},
	{"approved, ticket deleted", asking(ledgerPolicy), []ending{{stage: entra.StageApproved, act: deleted, state: "held"}}, pending},
	{"approved, timed out", asking(ledgerPolicy), []ending{{stage: entra.StageApproved, act: expired, state: "expired"}}, "Assignment failed"},
	{"approved, withdrawn", asking(ledgerPolicy), []ending{{stage: entra.StageApproved, act: withdrawn, state: "withdrawn"}}, "Canceled"},
	{"approved by somebody, then granted", asking(clusterPolicy), []ending{
		{stage: entra.StageApproved, act: done, told: "go on", state: "resumed"}, {stage: entra.StageGranted, act: done, state: "done"},
	}, "Delivered"},
	{"a callout in another shape", shaped(entra.Shape{CamelCase: true, UpperIDs: true, NoEmail: true, NullAnswers: true, TimeoutDuration: true, Extra: map[string]any{"x": 1}}), []ending{
		{stage: entra.StageApproved, act: done, told: "go on", state: "resumed"},
	}, "Delivered"},
	{"a callout that does not say that it waits", shaped(entra.Shape{NoCallback: true}), []ending{{stage: entra.StageApproved, act: done, told: "go on", state: "resumed"}}, "Delivered"},

	{"granted, launch and continue", asking(badgePolicy), []ending{{stage: entra.StageGranted, act: done, state: "done"}}, "Delivered"},
	{"granted, launch and continue, not done", asking(badgePolicy), []ending{{stage: entra.StageGranted, act: notDone, state: "done"}}, "Delivered"},
	{"granted, launch and continue, closed oddly", asking(badgePolicy), []ending{{stage: entra.StageGranted, act: oddly, state: "held"}}, "Delivered"},
	{"granted and waiting, fulfilled", waitingWhenGranted, []ending{{stage: entra.StageGranted, act: done, told: "go on", state: "resumed"}}, "Delivered"},
	{"granted and waiting, not done", waitingWhenGranted, []ending{{stage: entra.StageGranted, act: notDone, state: "held"}}, "Delivered"},

	{"removed, fulfilled", removing(ledgerPolicy), []ending{{stage: entra.StageRemoved, act: done, told: "go on", state: "resumed"}}, "Delivered"},
	{"removed, not done", removing(ledgerPolicy), []ending{{stage: entra.StageRemoved, act: notDone, state: "held"}}, pending},
	{"removed, closed oddly", removing(ledgerPolicy), []ending{{stage: entra.StageRemoved, act: oddly, state: "held"}}, pending},
	{"removed, timed out", removing(ledgerPolicy), []ending{{stage: entra.StageRemoved, act: expired, state: "expired"}}, "Assignment failed"},
	{"removed, launch and continue", removing(badgePolicy), []ending{{stage: entra.StageRemoved, act: done, state: "done"}}, "Delivered"},

	{"warned 14 days and one day before the end", asking(ledgerPolicy), []ending{
		{stage: entra.StageApproved, act: done, told: "go on", state: "resumed"},
		{stage: entra.StageFourteenDays, act: done, state: "done"},
		{stage: entra.StageOneDay, act: done, state: "done"},
	}, "Delivered"},
	{"warned, not done", asking(ledgerPolicy), []ending{
		{stage: entra.StageApproved, act: done, told: "go on", state: "resumed"},
		{stage: entra.StageFourteenDays, act: notDone, state: "done"},
		{stage: entra.StageOneDay, act: oddly, state: "held"},
	}, "Delivered"},
}

func TestEachStageEndsAsItsTicketDoes(t *testing.T) {
	t.Parallel()
	for _, mode := range []struct {
		name string
		app  func(map[string]any)
	}{{"proxying", nil}, {"forwarding", forwarding}} {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, plan{app: mode.app})
			t.Run("lives", func(t *testing.T) {
				for _, l := range lives {
					t.Run(l.name, func(t *testing.T) {
						t.Parallel()
						of(w, t).live(l)
					})
				}
			})
			// When all have ended: what waits for a person, and nothing else, is open.
			held := 0
			for _, l := range lives {
				held += len(slices.Collect(func(yield func(ending) bool) {
					for _, e := range l.stages {
						if e.state == "held" && !yield(e) {
							return
						}
					}
				}))
			}
			w.until(fmt.Sprintf("%d open ones", held), func() bool { return w.listed() == held })
		})
	}
}

// of is the same world for a test within the test that made it.
func of(w *world, t *testing.T) *world {
	within := &world{
		TB: t, ctx: w.ctx, entra: w.entra, sample: w.sample, serviceNow: w.serviceNow, store: w.store, queue: w.queue, connection: w.connection, app: w.app,
		settings: w.settings, keys: w.keys, timers: w.timers, front: w.front, log: w.log, inError: w.inError, said: w.said, hosts: w.hosts,
	}
	return within
}

// live plays a life and compares its end with what the stand-ins have on record.
func (w *world) live(l life) {
	w.Helper()
	request := w.asked(l.request(w))
	for n, e := range l.stages {
		if e.stage == entra.StageFourteenDays || e.stage == entra.StageOneDay {
			w.over(request)
			_, err := w.entra.WarnExpiring(request, e.stage)
			w.check(err)
		}
		if e.stage == entra.StageApproved && n == 0 {
			r, err := w.entra.Await(w.ctx, request, func(r entra.Request) bool { return len(r.Callouts) > 0 || r.State == entra.StatePendingApproval })
			w.check(err)
			if len(r.Callouts) == 0 {
				w.check(w.entra.Approve(request))
			}
		}
		if c := w.nth(request, n); c.Stage != e.stage {
			w.Fatalf("callout %d is at %s, not at %s", n+1, c.Stage, e.stage)
		}
		e.act(w, request, n)
		s := w.becomes(fmtKey(request, w.nth(request, n).ID), e.state)
		if e.state == "held" {
			w.heldForGood(request, n, s)
		}
	}
	w.ended(request, l)
}

// heldForGood lets everything go by that could move a request which waits for a person, and then says whether it was moved.
func (w *world) heldForGood(request string, n int, s stage) {
	w.Helper()
	key := fmtKey(s.RequestID, s.StageInstanceID)
	if s.Reason == "" || s.Advice == "" {
		w.Errorf("%s is held, and says neither why nor what to do: %q, %q", key, s.Reason, s.Advice)
	}
	w.notify(key)
	w.sweeps(2)
	if now, _ := w.shown(key); now.State != "held" {
		w.Errorf("%s was held, and is %s now", key, now.State)
	}
	c := w.callouts(request)[n]
	if len(c.told) > 0 {
		w.Errorf("%s is held, and Graph took %+v", key, c.told)
	}
	if c.Waits && c.Status != entra.StatusWaiting {
		w.Errorf("%s is held, and its callout is %s", key, c.Status)
	}
}

// notify tells the app that a ticket closed, as ServiceNow does.
func (w *world) notify(key string) {
	w.Helper()
	token, _ := w.closersToken(w.ctx)
	header := http.Header{"X-Functions-Key": {w.keys.Default}, "Authorization": {"Bearer " + token}}
	if status, _, body := w.post(w.front.url()+"/api/ticket-closed", header, []byte(`{"correlation_id":"`+key+`"}`)); status != http.StatusAccepted {
		w.Errorf("the notification of %s is answered %d: %s", key, status, body)
	}
}

// ended compares the stand-ins' records of a request with what they should be.
func (w *world) ended(request string, l life) {
	w.Helper()
	r, _ := w.entra.Request(request)
	if r.MyAccess != l.access {
		r, err := w.entra.Await(w.ctx, request, func(r entra.Request) bool { return r.MyAccess == l.access })
		if err != nil {
			w.Errorf("My Access shows %q, not %q", r.MyAccess, l.access)
		}
	}
	w.once(request)
	all := w.callouts(request)
	if len(all) != len(l.stages) {
		w.Fatalf("%d callouts, not %d", len(all), len(l.stages))
	}
	for n, c := range all {
		e := l.stages[n]
		told := ""
		for _, r := range c.told {
			if told = r.State; r.Grants() {
				told = "go on"
			}
			if r.Source == "" || !strings.Contains(r.Detail, c.tickets[0].Number) {
				w.Errorf("%s: Graph was told %q by %q, without the ticket's number", e.stage, r.Detail, r.Source)
			}
			if wrong := w.log.leaks(r.Detail); wrong != "" {
				w.Errorf("%s: what approvers see: %s", e.stage, wrong)
			}
		}
		if told != e.told {
			w.Errorf("%s: Graph took %q, not %q", e.stage, told, e.told)
		}
		for _, a := range c.Attempts {
			if a.Status != http.StatusAccepted && a.Status != http.StatusServiceUnavailable && a.Err == "" {
				w.Errorf("%s: the callout was answered %d: %s", e.stage, a.Status, a.Answer)
			}
		}
		if len(c.tickets) == 1 { // the people at it are told what came of it, once
			var notes []string
			w.until("a work note on "+c.tickets[0].Number, func() bool {
				notes = workNotes(w.ticket(request, n))
				return len(notes) > 0
			})
			if len(notes) != 1 {
				w.Errorf("%s: the work notes on the ticket are %q", e.stage, notes)
			}
		}
	}
}
