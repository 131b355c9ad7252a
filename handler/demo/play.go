package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/servicenow"
)

// A play is a morning of requests: people ask, approve, fulfil and change their minds, and things go wrong.
type play struct {
	stand *standIns
	story *narrator
	pause time.Duration // how long a person takes for one thing

	mu       sync.Mutex
	expected []expectation // in the order of the scenes
}

// An expectation is how a request should end, as the stand-ins' own records show it.
type expectation struct {
	scene   string
	request string
	access  string // what My Access shows the requestor
	stages  []stage
}

// A stage is what should have come of one callout.
type stage struct {
	ticket string // the state of its ticket, or of its two
	told   string // what Graph was told and took: "go on", "deny", "cancel", "" for nothing
}

const (
	complete   = "closed complete"
	incomplete = "closed incomplete"
)

// scenes are played side by side, each beginning a little after the one before.
func (p *play) scenes() []func(context.Context, *expectation) error {
	return []func(context.Context, *expectation) error{
		p.fromGrantToRemoval, p.approvedAndGranted, p.twoTickets, p.rejected, p.calledTwice, p.outage, p.closedInSilence, p.withdrawn, p.nothingWaits, p.fromTheCatalog, p.twoTeams,
	}
}

// run plays all scenes and returns when each has ended, or with the first that could not be played.
func (p *play) run(ctx context.Context) error {
	scenes := p.scenes()
	p.expected = make([]expectation, len(scenes), len(scenes)+1)
	errs := make([]error, len(scenes))
	var all sync.WaitGroup
	for i, scene := range scenes {
		all.Go(func() { errs[i] = scene(ctx, &p.expected[i]) })
		p.wait(ctx, 2)
	}
	all.Wait()
	return errors.Join(errs...)
}

// fromGrantToRemoval is one person's access from the request to the removal, with the warning before its end.
func (p *play) fromGrantToRemoval(ctx context.Context, e *expectation) error {
	e.scene, e.access = "a grant, and a warning before it ends", "Delivered"
	e.stages = []stage{{complete, "go on"}, {complete, ""}}
	s := p.stand.sample
	if err := p.fulfil(ctx, e, entra.NewRequest{
		Policy: s.LedgerPolicy, Target: s.Robin.ObjectID, Answers: []entra.Answer{{Question: "Which region?", Value: "EMEA"}},
	}); err != nil {
		return err
	}
	p.wait(ctx, 12)
	p.story.say("%s  half a year later: the access ends in 14 days", p.story.named(e.request))
	if _, err := p.stand.entra.WarnExpiring(e.request, entra.StageFourteenDays); err != nil {
		return err
	}
	if err := p.closeNext(ctx, e, 1, servicenow.Closing{Outcome: servicenow.Complete}); err != nil {
		return err
	}
	removal := expectation{scene: "a removal", access: "Delivered", stages: []stage{{complete, "go on"}}}
	err := p.fulfil(ctx, &removal, entra.NewRequest{Type: "userRemove", Policy: s.LedgerPolicy, Target: s.Robin.ObjectID})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expected = append(p.expected, removal)
	return err
}

func (p *play) approvedAndGranted(ctx context.Context, e *expectation) error {
	e.scene, e.access = "an approval, then a ticket that nothing waits for", "Delivered"
	e.stages = []stage{{complete, "go on"}, {complete, ""}}
	s := p.stand.sample
	if err := p.submit(e, entra.NewRequest{Policy: s.ClusterPolicy, Target: s.Kim.ObjectID}); err != nil {
		return err
	}
	if err := p.approve(ctx, e); err != nil {
		return err
	}
	for n := range 2 {
		if err := p.closeNext(ctx, e, n, servicenow.Closing{Outcome: servicenow.Complete}); err != nil {
			return err
		}
	}
	return p.over(ctx, e)
}

func (p *play) twoTickets(ctx context.Context, e *expectation) error {
	e.scene, e.access = "a ticket before the approval and one after", "Delivered"
	e.stages = []stage{{complete, "go on"}, {complete, "go on"}}
	s := p.stand.sample
	if err := p.submit(e, entra.NewRequest{Policy: s.PayrollPolicy, Target: s.Robin.ObjectID}); err != nil {
		return err
	}
	for n := range 2 {
		if err := p.closeNext(ctx, e, n, servicenow.Closing{Outcome: servicenow.Complete}); err != nil {
			return err
		}
	}
	return p.over(ctx, e)
}

func (p *play) rejected(ctx context.Context, e *expectation) error {
	e.scene, e.access = "work that was not done", "Denied"
	e.stages = []stage{{incomplete, "deny"}}
	s := p.stand.sample
	if err := p.submit(e, entra.NewRequest{Policy: s.PayrollPolicy, Target: s.Kim.ObjectID}); err != nil {
		return err
	}
	if err := p.closeNext(ctx, e, 0, servicenow.Closing{Outcome: servicenow.Incomplete, Notes: "No licence left"}); err != nil {
		return err
	}
	return p.over(ctx, e)
}

func (p *play) calledTwice(ctx context.Context, e *expectation) error {
	e.scene, e.access = "a callout that comes twice", "Delivered"
	e.stages = []stage{{complete, "go on"}}
	s := p.stand.sample
	if err := p.submit(e, entra.NewRequest{Policy: s.LedgerPolicy, Target: s.Sasha.ObjectID}); err != nil {
		return err
	}
	if _, err := p.ticket(ctx, e, 0); err != nil {
		return err
	}
	r, _ := p.stand.entra.Request(e.request)
	p.story.say("%s  Entra did not hear the answer, and sends the same call again", p.story.named(e.request))
	if _, err := p.stand.entra.RepeatCallout(r.Callouts[0].ID); err != nil {
		return err
	}
	if err := p.closeNext(ctx, e, 0, servicenow.Closing{Outcome: servicenow.Complete}); err != nil {
		return err
	}
	return p.over(ctx, e)
}

func (p *play) outage(ctx context.Context, e *expectation) error {
	e.scene, e.access = "an outage of ServiceNow", "Delivered"
	e.stages = []stage{{complete, "go on"}}
	p.story.say("ServiceNow goes down for maintenance: every call gets 503")
	heal := p.stand.serviceNow.Faults.Add(servicenow.Maintenance(0))
	defer heal()
	s := p.stand.sample
	if err := p.submit(e, entra.NewRequest{Policy: s.LedgerPolicy, Target: s.Kim.ObjectID}); err != nil {
		return err
	}
	p.wait(ctx, 5)
	p.story.say("ServiceNow is back")
	heal()
	if err := p.closeNext(ctx, e, 0, servicenow.Closing{Outcome: servicenow.Complete}); err != nil {
		return err
	}
	return p.over(ctx, e)
}

func (p *play) closedInSilence(ctx context.Context, e *expectation) error {
	e.scene, e.access = "a ticket closed without a word", "Delivered"
	e.stages = []stage{{complete, "go on"}, {complete, "go on"}}
	s := p.stand.sample
	if err := p.submit(e, entra.NewRequest{Policy: s.PayrollPolicy, Target: s.Sasha.ObjectID, Shape: entra.Shape{CamelCase: true}}); err != nil {
		return err
	}
	t, err := p.ticket(ctx, e, 0)
	if err != nil {
		return err
	}
	p.wait(ctx, 2)
	p.story.say("%s  a script closes %s so that no rule of ServiceNow runs, and nobody is told", p.story.named(e.request), t.Number)
	if err := p.stand.serviceNow.Close(t.SysID, servicenow.Closing{Outcome: servicenow.Complete, Silent: true}); err != nil {
		return err
	}
	if err := p.closeNext(ctx, e, 1, servicenow.Closing{Outcome: servicenow.Complete}); err != nil {
		return err
	}
	return p.over(ctx, e)
}

func (p *play) withdrawn(ctx context.Context, e *expectation) error {
	e.scene, e.access = "a request that is withdrawn", "Canceled"
	e.stages = []stage{{"requested", ""}} // the ticket stays open, with a note for whoever looks at it
	s := p.stand.sample
	if err := p.submit(e, entra.NewRequest{Policy: s.ClusterPolicy, Target: s.Robin.ObjectID}); err != nil {
		return err
	}
	if err := p.approve(ctx, e); err != nil {
		return err
	}
	t, err := p.ticket(ctx, e, 0)
	if err != nil {
		return err
	}
	p.wait(ctx, 2)
	p.story.say("%s  %s does not want it any more, and withdraws the request", p.story.named(e.request), s.Robin.Name)
	if err := p.stand.entra.Withdraw(e.request); err != nil {
		return err
	}
	return p.until(ctx, "a note on "+t.Number, func() bool {
		now, err := p.stand.serviceNow.Ticket(t.SysID)
		return err == nil && len(now.Notes) > len(t.Notes)
	})
}

func (p *play) nothingWaits(ctx context.Context, e *expectation) error {
	e.scene, e.access = "a ticket that nothing waits for", "Delivered"
	e.stages = []stage{{complete, ""}}
	s := p.stand.sample
	if err := p.submit(e, entra.NewRequest{Policy: s.BadgePolicy, Target: s.Kim.ObjectID}); err != nil {
		return err
	}
	return p.closeNext(ctx, e, 0, servicenow.Closing{Outcome: servicenow.Complete})
}

// fromTheCatalog is ordered from the Service Catalog, as tickets.yaml says.
func (p *play) fromTheCatalog(ctx context.Context, e *expectation) error {
	e.scene, e.access = "an item ordered from the Service Catalog", "Delivered"
	e.stages = []stage{{complete, "go on"}}
	return p.fulfil(ctx, e, entra.NewRequest{
		Policy: p.stand.expense, Target: p.stand.sample.Robin.ObjectID, Answers: []entra.Answer{{Question: "Why is it needed?", Value: "Month end"}},
	})
}

// twoTeams have a ticket each, as tickets.yaml says, and the request waits for both.
func (p *play) twoTeams(ctx context.Context, e *expectation) error {
	e.scene, e.access = "two tickets for two teams", "Delivered"
	e.stages = []stage{{"resolved, closed", "go on"}}
	if err := p.submit(e, entra.NewRequest{
		Policy: p.stand.warehouse, Target: p.stand.sample.Kim.ObjectID, Answers: []entra.Answer{{Question: "Which gate?", Value: "North"}},
	}); err != nil {
		return err
	}
	first, err := p.ticket(ctx, e, 0)
	if err != nil {
		return err
	}
	var second servicenow.Ticket
	if err := p.until(ctx, "the second ticket of request "+e.request, func() bool {
		found := p.stand.serviceNow.ByCorrelation(first.CorrelationID + "/2")
		if len(found) == 0 {
			return false
		}
		second = found[0]
		return true
	}); err != nil {
		return err
	}
	p.wait(ctx, 2)
	p.story.say("%s  one team does what %s asks for, and closes it", p.story.named(e.request), first.Number)
	if err := p.stand.serviceNow.Close(first.SysID, servicenow.Closing{Outcome: servicenow.Complete}); err != nil {
		return err
	}
	p.wait(ctx, 4)
	p.story.say("%s  the other team closes %s as well", p.story.named(e.request), second.Number)
	if err := p.stand.serviceNow.Close(second.SysID, servicenow.Closing{Outcome: servicenow.Complete, Fields: map[string]string{"close_code": "successful"}}); err != nil {
		return err
	}
	return p.over(ctx, e)
}

// approve lets the approver say yes when they have read the request.
func (p *play) approve(ctx context.Context, e *expectation) error {
	if _, err := p.stand.entra.Await(ctx, e.request, func(r entra.Request) bool { return r.State == entra.StatePendingApproval }); err != nil {
		return fmt.Errorf("%s: request %s does not wait for an approval: %w", e.scene, e.request, err)
	}
	p.wait(ctx, 2)
	p.story.say("%s  the approver says yes", p.story.named(e.request))
	return p.stand.entra.Approve(e.request)
}

// fulfil submits a request, closes its one ticket as done, and waits for its end.
func (p *play) fulfil(ctx context.Context, e *expectation, r entra.NewRequest) error {
	if err := p.submit(e, r); err != nil {
		return err
	}
	if err := p.closeNext(ctx, e, 0, servicenow.Closing{Outcome: servicenow.Complete}); err != nil {
		return err
	}
	return p.over(ctx, e)
}

func (p *play) submit(e *expectation, r entra.NewRequest) (err error) {
	e.request, err = p.stand.entra.Submit(r)
	return err
}

// closeNext closes the ticket of the n-th callout, counted from 0, when a person has had time to do the work.
func (p *play) closeNext(ctx context.Context, e *expectation, n int, how servicenow.Closing) error {
	t, err := p.ticket(ctx, e, n)
	if err != nil {
		return err
	}
	p.wait(ctx, 2)
	if how.Outcome == servicenow.Complete {
		p.story.say("%s  does what %s asks for, and closes it", p.story.named(e.request), t.Number)
	} else {
		p.story.say("%s  cannot do what %s asks for (%s), and closes it so", p.story.named(e.request), t.Number, how.Notes)
	}
	return p.stand.serviceNow.Close(t.SysID, how)
}

// ticket waits for the ticket of the n-th callout.
func (p *play) ticket(ctx context.Context, e *expectation, n int) (t servicenow.Ticket, err error) {
	err = p.until(ctx, fmt.Sprintf("ticket %d of request %s", n+1, e.request), func() bool {
		r, _ := p.stand.entra.Request(e.request)
		if len(r.Callouts) <= n {
			return false
		}
		found := p.stand.serviceNow.ByCorrelation(strings.ToLower(r.ID + "/" + r.Callouts[n].ID))
		if len(found) == 0 {
			return false
		}
		t = found[0]
		return true
	})
	return t, err
}

func (p *play) over(ctx context.Context, e *expectation) error {
	if _, err := p.stand.entra.Await(ctx, e.request, entra.IsOver); err != nil {
		return fmt.Errorf("%s: request %s is not over: %w", e.scene, e.request, err)
	}
	return nil
}

// until asks again and again.
func (p *play) until(ctx context.Context, what string, is func() bool) error {
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

// wait is the time that a person takes for n things.
func (p *play) wait(ctx context.Context, n int) {
	t := time.NewTimer(time.Duration(n) * p.pause)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
