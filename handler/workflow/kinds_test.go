package workflow_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ticketbridge/handler/callout"
	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/servicenow"
	"ticketbridge/handler/ticket"
	"ticketbridge/handler/workflow"
)

// A kind of life: which stage calls out, whether it waits, how many tickets are opened, and what becomes of them.
type kind struct {
	stage   string
	waits   bool // launch and wait
	unsaid  bool // it waits, and its callout does not say so
	tickets int
	ending  ending
	after   bool // the first ticket is ordered from the catalog, for a group; open ones are reminded, and closed when nobody needs them; the detail is the rule's
}

// An ending is what people do with the tickets, or with the request.
type ending string

const (
	done          ending = "done"
	toDeny        ending = "not done, to deny"
	toCancel      ending = "not done, to cancel"
	toHold        ending = "not done, to hold"
	unmapped      ending = "closed in a way that nobody mapped"
	deleted       ending = "ticket deleted"
	silent        ending = "done without a notification"
	withdrawn     ending = "withdrawn in Entra"
	expired       ending = "expired in Entra"
	denialRefused ending = "not done, denial refused"
)

func (k kind) String() string {
	how := "launch and continue"
	if k.unsaid {
		how = "waits without saying so"
	} else if k.waits {
		how = "launch and wait"
	}
	after := ""
	if k.after {
		after = ", with aftercare"
	}
	return fmt.Sprintf("%s, %s, %d, %s"+after, strings.TrimPrefix(strings.TrimPrefix(k.stage, "assignmentRequest"), "assignment"), how, k.tickets, k.ending)
}

// core says whether every crash point of the kind is tried each time: those whose calls in their order are not those of another one.
func (k kind) core() bool {
	switch {
	case k.stage == entra.StageApproved && k.waits:
		return k.tickets != 2 || k.after || !k.unsaid && slices.Contains([]ending{done, toDeny, unmapped, withdrawn}, k.ending)
	case k.stage == entra.StageGranted && !k.waits:
		return k.ending == done || k.ending == unmapped
	case k.stage == entra.StageOneDay:
		return k.ending == done && k.tickets == 1
	default:
		return false
	}
}

// kinds are all that Entra has, with one ticket and with several.
func kinds() []kind {
	var all []kind
	for _, tickets := range []int{1, 2} {
		for _, stage := range []string{entra.StageCreated, entra.StageApproved, entra.StageGranted, entra.StageRemoved} {
			for _, e := range []ending{done, toDeny, toCancel, toHold, unmapped, deleted, silent, withdrawn, expired} {
				all = append(all, kind{stage: stage, waits: true, tickets: tickets, ending: e})
			}
		}
		for _, stage := range []string{
			entra.StageCreated, entra.StageApproved, entra.StageGranted, entra.StageRemoved, entra.StageFourteenDays, entra.StageOneDay,
		} {
			for _, e := range []ending{done, toDeny, unmapped, deleted} {
				all = append(all, kind{stage: stage, tickets: tickets, ending: e})
			}
		}
		for _, e := range []ending{done, toDeny} {
			all = append(all, kind{stage: entra.StageApproved, waits: true, unsaid: true, tickets: tickets, ending: e})
		}
		all = append(all, kind{stage: entra.StageApproved, waits: true, tickets: tickets, ending: denialRefused})
	}
	return append(all, kind{stage: entra.StageApproved, waits: true, tickets: 4, ending: done},
		kind{stage: entra.StageApproved, waits: true, tickets: 1, ending: done, after: true},
		kind{stage: entra.StageApproved, waits: true, tickets: 2, ending: withdrawn, after: true})
}

// end is how the life ends, and what Graph is told: "grant", a state, or nothing.
func (k kind) end() (state correlation.State, told string) {
	switch k.ending {
	case unmapped, deleted:
		return correlation.Held, ""
	case withdrawn:
		return correlation.Withdrawn, ""
	case expired:
		return correlation.Expired, ""
	}
	switch {
	case !k.waits:
		return correlation.Done, ""
	case k.ending == toDeny:
		return correlation.Denied, "Denied"
	case k.ending == toCancel:
		return correlation.Denied, "Canceled"
	case k.ending == toHold, k.ending == denialRefused:
		return correlation.Held, ""
	default:
		return correlation.Resumed, "grant"
	}
}

// swept says whether only the sweep can find out.
func (k kind) swept() bool {
	return slices.Contains([]ending{deleted, silent, withdrawn, expired}, k.ending)
}

// several are rules that open as many tickets as they are told, in tables of different meanings, and do with work that was not done, and after all that,
// what they are told.
type several struct {
	workflow.Rules
	tickets    int
	onRejected string
	after      ticket.Aftercare
	change     func([]ticket.Draft) // the drafts; nil leaves them as they are
}

var severalTables = []string{"sc_request", "incident", "change_request", "sc_task"}

func (r several) Choose(c *callout.Callout, deadline time.Time) (ticket.Choice, error) {
	choice, err := r.Rules.Choose(c, deadline)
	if err != nil {
		return choice, fmt.Errorf("several: %w", err)
	}
	first := choice.Drafts[0]
	for i := 1; i < r.tickets; i++ {
		choice.Drafts = append(choice.Drafts, ticket.Draft{
			Entry: fmt.Sprint("ticket-", i+1), Table: severalTables[i], Fields: map[string]string{"short_description": first.Fields["short_description"]},
		})
	}
	choice.OnRejected = r.onRejected
	if r.change != nil {
		r.change(choice.Drafts)
	}
	return choice, nil
}

func (r several) Aftercare(string) ticket.Aftercare { return r.after }

// setup is the world that the kind needs.
func (k kind) setup(s *setup) {
	r := several{Rules: builtIn(), tickets: k.tickets, onRejected: map[ending]string{toCancel: ticket.OnRejectedCancel, toHold: ticket.OnRejectedHold}[k.ending]}
	if r.onRejected == "" {
		r.onRejected = ticket.OnRejectedDeny
	}
	if k.after {
		s.now.Groups, s.now.Catalog = []string{desk}, []servicenow.CatalogItem{badgeItem}
		r.after = ticket.Aftercare{
			Cancel: cancelling, Remind: 30 * 24 * time.Hour, // longer than Entra waits, so that the first look reminds
			Detail: func(tickets []correlation.Ticket, o correlation.Outcome) (string, error) {
				return fmt.Sprintf("%d %s", len(tickets), o), nil
			},
		}
		r.change = orderFirst
		if k.ending == withdrawn {
			s.now.Notifications = nil // that of a ticket which we close ourselves would come at the same moment as what we do next: the effects have one order
		}
	}
	s.rules = r
	if k.ending == denialRefused {
		s.entra.RefuseDenialAt = []string{k.stage}
	}
}

// desk and badgeItem are what those kinds need of ServiceNow.
const desk = "Service Desk"

var badgeItem = servicenow.CatalogItem{Name: "Badge", Variables: []servicenow.Variable{{Name: "zone", Mandatory: true}, {Name: "reference"}}}

// orderFirst makes the first draft an order.
func orderFirst(drafts []ticket.Draft) {
	d := &drafts[0]
	d.Table, d.Users, d.Groups = "sc_req_item", nil, map[string]string{"assignment_group": desk}
	d.Fields = map[string]string{"short_description": d.Fields["short_description"]}
	d.Item = &ticket.Item{
		Item: badgeItem.Name, Quantity: 2, Variables: map[string]string{"zone": "north"}, Reference: "reference",
		RequestedFor: &ticket.Person{PrincipalName: "robin.marsh@example.com"},
	}
}

// A life is one that is lived in a world, with what was found wrong with it.
type life struct {
	kind
	key          correlation.Key
	acknowledged bool
	acted        bool          // people did what the kind says
	effects      []effect      // until it ended
	took         time.Duration // from what people did to the end
	told         time.Duration // from then on until the tickets knew it
	problems     []string
}

func (l *life) wrong(format string, args ...any) {
	l.problems = append(l.problems, fmt.Sprintf(format, args...))
}

// ask makes the request, and returns the key of the callout of the kind's stage.
func (k kind) ask(w *world) correlation.Key {
	w.Helper()
	pkg, extension := w.sample.Badge, w.sample.ContinueEngineering
	expiring := k.stage == entra.StageFourteenDays || k.stage == entra.StageOneDay
	switch {
	case k.waits:
		extension = w.sample.WaitEngineering
	case expiring:
		pkg, extension = w.sample.Ledger, w.sample.ExpiryFinance
	}
	r := entra.NewRequest{
		Policy: w.entra.AddPolicy(entra.Policy{PackageID: pkg, Name: "Of this kind", Stages: map[string]string{k.stage: extension}}),
		Target: w.sample.Robin.ObjectID, Shape: entra.Shape{NoCallback: k.unsaid},
	}
	if k.stage == entra.StageRemoved {
		r.Type = "userRemove"
	}
	if !expiring {
		return w.submit(r)
	}
	id, err := w.entra.Submit(r)
	if err != nil {
		w.Fatal(err)
	}
	synctest.Wait()
	instance, err := w.entra.WarnExpiring(id, k.stage)
	if err != nil {
		w.Fatal(err)
	}
	return correlation.Key{Request: id, Stage: instance}
}

// delivered says whether Entra has called as often as it will, and whether a call was answered with 202.
func (l *life) delivered(w *world) (over, acknowledged bool) {
	r, _ := w.entra.Request(l.key.Request)
	for _, c := range r.Callouts {
		if strings.EqualFold(c.ID, l.key.Stage) {
			acknowledged = slices.ContainsFunc(c.Attempts, func(a entra.Attempt) bool { return a.OK })
			return acknowledged || len(c.Attempts) == 2, acknowledged
		}
	}
	return false, false
}

// act is what people do once the tickets are open.
func (l *life) act(w *world) {
	w.Helper()
	how := func(i int) servicenow.Closing {
		c := servicenow.Closing{Outcome: servicenow.Complete, Silent: l.ending == silent}
		switch last := i == l.tickets-1; {
		case last && slices.Contains([]ending{toDeny, toCancel, toHold, denialRefused}, l.ending):
			c.Outcome = servicenow.Cancelled
		case i == 0 && l.ending == unmapped:
			c = servicenow.Closing{Fields: map[string]string{"request_state": "closed_somehow", "active": "false"}}
		}
		return c
	}
	if l.after {
		time.Sleep(11 * time.Minute)
		w.pass(20 * time.Second) // a sweep looks at the open tickets, and reminds people of the deadline
	}
	for i := range l.tickets {
		last := i == l.tickets-1
		switch {
		case last && l.swept():
			w.pass(20 * time.Second)
			time.Sleep(11 * time.Minute) // nobody sweeps meanwhile: those before this one are not what this is about
		case i > 0:
			w.pass(20 * time.Second)
		}
		var err error
		switch {
		case last && l.ending == withdrawn:
			err = w.entra.Withdraw(l.key.Request)
		case last && l.ending == expired:
			err = w.entra.Expire(l.key.Request)
		case last && l.ending == deleted:
			for _, t := range w.now.ByCorrelation(l.key.TicketID(i)) {
				err = w.now.Delete(t.SysID)
			}
		default:
			w.closeOne(l.key, i, how(i))
		}
		if err != nil {
			w.Fatal(err)
		}
	}
	synctest.Wait()
}

// live lives a life of the kind to its end, under the plan, and finds what is wrong with it.
func (k kind) live(w *world, plan map[int]fate) *life {
	w.Helper()
	w.restarts = true
	l := &life{kind: k}
	w.wire.expect(plan)
	l.key = k.ask(w)
	if !w.run(time.Minute, func() bool { over, _ := l.delivered(w); return over }) {
		w.Fatal("Entra does not end its calls")
	}
	_, l.acknowledged = l.delivered(w)
	if !l.acknowledged && w.load(l.key) == nil {
		w.run(10*time.Minute, func() bool { return w.load(l.key) != nil }) // a call that takes effect past its deadline
	}
	if w.load(l.key) == nil {
		l.effects = w.wire.effects()
		l.checkNever(w)
		return l
	}
	end, _ := l.end()
	gaveUp := !l.acknowledged && l.waits // Entra did, and it was remembered all the same
	switch {
	case gaveUp && l.unsaid:
		end = correlation.Done // nobody asks before the ticket closes
	case gaveUp:
		end = correlation.Withdrawn
	}
	opened := w.run(3*time.Hour, func() bool {
		s := w.load(l.key).State
		return s == correlation.Open || s.Ended() || s.NeedsPerson()
	})
	if got := w.load(l.key).State; !opened || got != correlation.Open && l.acknowledged {
		l.wrong("it is %s and not open", got)
		l.effects = w.wire.ended()
		return l
	}
	start := time.Now()
	if !gaveUp || l.unsaid {
		l.act(w)
		l.acted = true
		start = time.Now()
	}
	if !w.run(3*time.Hour, func() bool { return w.load(l.key).State == end }) {
		l.wrong("it is %s and not %s", w.load(l.key).State, end)
	}
	l.took = time.Since(start)
	if !w.run(3*time.Hour, func() bool { c := w.load(l.key); return len(c.Untold())+len(c.Owing()) == 0 }) {
		l.wrong("not all of its tickets were told: %+v", w.load(l.key).Tickets)
	}
	l.told = time.Since(start) - l.took
	l.effects = w.wire.ended()
	w.pass(26 * time.Minute) // what lay in the queue for a dead process, and the lists
	l.check(w, end)
	return l
}

// checkNever checks a life that never began: nobody was told that it would.
func (l *life) checkNever(w *world) {
	w.pass(26 * time.Minute)
	if l.acknowledged || w.load(l.key) != nil {
		l.wrong("acknowledged, and lost")
	}
	if n := len(w.now.Creations()); n > 0 {
		l.wrong("%d tickets for nothing", n)
	}
	if page, _, err := w.store.Open(context.Background(), "", 10); err != nil || len(page) > 0 {
		l.wrong("on the list of open ones: %+v, %v", page, err)
	}
	l.checkQueue(w)
}

func (l *life) checkQueue(w *world) {
	for _, p := range w.poisoned {
		l.wrong("poison: %s", p)
	}
	if left, err := w.queue.Queues().Get(context.Background(), w.queue.Name(), 32, time.Hour); err != nil && !fault.Is(err, fault.NotFound) || len(left) > 0 {
		l.wrong("%d messages are left (%v)", len(left), err)
	}
}

// check checks what always holds, against the stand-ins' own records.
func (l *life) check(w *world, end correlation.State) {
	c := w.load(l.key)
	if c.State != end {
		l.wrong("it is %s and not %s", c.State, end)
	}
	l.checkTickets(w, c)
	if l.after {
		l.checkAfter(w, c)
	}
	l.checkAnswers(w, c)
	l.checkTimeline(w, c)
	l.checkLists(w, c)
	l.checkQueue(w)
}

func (l *life) checkTickets(w *world, c *correlation.Correlation) {
	creations := w.now.Creations()
	for i := range l.tickets {
		id := l.key.TicketID(i)
		if n := creations[id]; n > 1 || n == 0 && (l.acknowledged || c.State == correlation.Done) {
			l.wrong("ticket %d was created %d times", i+1, n)
		}
		delete(creations, id)
		if c.State != correlation.Withdrawn && c.State != correlation.Expired {
			continue
		}
		for _, t := range w.now.ByCorrelation(id) {
			notes := 0
			for _, n := range workNotes(t) {
				if strings.Contains(n, "no longer waits") {
					notes++
				}
			}
			closed := !t.Active && l.acted && (!l.after || i == 0 && l.tickets > 1) // by people
			if !closed && notes == 0 || closed && notes > 0 || notes > 1 && !l.again(w) {
				l.wrong("ticket %d, active %v, was told of the end %d times", i+1, t.Active, notes)
			}
		}
	}
	if len(creations) > 0 {
		l.wrong("tickets nobody planned: %v", creations)
	}
}

// again says whether a failure of this life may have made a note come twice.
func (l *life) again(w *world) bool {
	return slices.ContainsFunc(w.wire.met(), func(h hit) bool {
		return strings.Contains(h.effect.what, "PATCH") || strings.Contains(h.effect.what, "transact")
	})
}

// checkAfter checks the order, and what was written back.
func (l *life) checkAfter(w *world, c *correlation.Correlation) {
	ordered := w.now.Tickets("sc_req_item")
	if len(ordered) != 1 && c.State != correlation.Received {
		l.wrong("%d orders", len(ordered))
	}
	for _, t := range ordered {
		if v := w.now.Variables(t.SysID); v["zone"] != "north" || v["reference"] != l.key.String() || t.CorrelationID != l.key.String() || t.Fields["quantity"] != "2" {
			l.wrong("the order is %+v with %v", t, v)
		}
		if t.Fields["assignment_group"] == "" || t.Fields["short_description"] == "" || t.Fields["requested_for"] != robinID {
			l.wrong("the columns of the order are %v", t.Fields)
		}
	}
	for i := range l.tickets {
		id := l.key.TicketID(i)
		for _, t := range w.now.ByCorrelation(id) {
			count := map[string]int{}
			for _, n := range workNotes(t) {
				for _, what := range []string{"stops waiting", "no longer waits", "was told"} {
					if strings.Contains(n, what) {
						count[what]++
					}
				}
			}
			hit := len(w.wire.met()) > 0
			switch {
			case count["stops waiting"] == 0 && !hit && l.acknowledged, count["stops waiting"] > 1 && !l.again(w):
				l.wrong("ticket %d was reminded %d times", i+1, count["stops waiting"])
			case c.State == correlation.Resumed && (count["was told"] == 0 || count["was told"] > 1 && !l.again(w)):
				l.wrong("ticket %d was told of the outcome %d times", i+1, count["was told"])
			case c.State == correlation.Withdrawn && t.Active:
				l.wrong("ticket %d is still open", i+1)
			}
		}
	}
	for _, r := range w.entra.Resumes(l.key.Request) {
		if want := fmt.Sprintf("%d %s", l.tickets, correlation.Fulfilled); r.Accepted && r.Detail != want {
			l.wrong("approvers see %q and not %q", r.Detail, want)
		}
	}
}

func (l *life) checkAnswers(w *world, c *correlation.Correlation) {
	_, told := l.end()
	if c.State != correlation.Resumed && c.State != correlation.Denied {
		told = ""
	}
	var accepted []string
	for _, r := range w.entra.Resumes(l.key.Request) {
		if !strings.EqualFold(r.StageInstance, l.key.Stage) {
			continue
		}
		if len(accepted) > 0 && !slices.ContainsFunc(w.wire.met(), func(h hit) bool { return h.fate == tardy && strings.HasPrefix(h.effect.what, "Graph POST") }) {
			l.wrong("Graph was told again, without being asked: %+v", r)
		}
		if r.Accepted && r.Grants() {
			accepted = append(accepted, "grant")
		} else if r.Accepted {
			accepted = append(accepted, r.State)
		}
	}
	if want := strings.Fields(told); !slices.Equal(accepted, want) {
		l.wrong("it is %s, and Graph accepted %q instead of %q", c.State, accepted, want)
	}
	if r, _ := w.entra.Request(l.key.Request); l.waits && c.State.Ended() && !r.Over {
		l.wrong("it is %s, and the request in Entra is still %s, %s", c.State, r.State, r.Status)
	}
}

func (l *life) checkTimeline(w *world, c *correlation.Correlation) {
	events, err := w.store.Timeline(context.Background(), l.key)
	if err != nil {
		w.Fatal(err)
	}
	state := correlation.State("")
	for i, e := range events {
		switch {
		case e.Seq != i+1:
			l.wrong("event %d is in place %d", e.Seq, i+1)
		case e.From != state && i > 0, e.Kind != correlation.EventMove && e.From != e.To, e.Kind == correlation.EventMove && i > 0 && !e.From.MayBecome(e.To):
			l.wrong("event %d, %s: from %s to %s after %s", e.Seq, e.Kind, e.From, e.To, state)
		case e.Text == "":
			l.wrong("event %d says nothing", e.Seq)
		}
		state = e.To
	}
	if len(events) != c.Events || state != c.State {
		l.wrong("%d events ending in %s; the correlation says %d and %s", len(events), state, c.Events, c.State)
	}
}

// checkLists holds the lists against the correlation: it is on one of them, as it is.
func (l *life) checkLists(w *world, c *correlation.Correlation) {
	on := func(page []correlation.Summary, _ string, err error) int {
		if err != nil {
			w.Fatal(err)
		}
		n := 0
		for _, s := range page {
			if s.Key == l.key && s.State == c.State {
				n++
			} else {
				l.wrong("a list says %+v", s)
			}
		}
		return n
	}
	open, ended := on(w.store.Open(context.Background(), "", 100)), on(w.store.Ended(context.Background(), c.Since, "", 100))
	if want := c.State.Ended(); open == 1 == want || ended == 1 != want {
		l.wrong("it is %s, and %d times on the list of open ones, %d times on that of ended ones", c.State, open, ended)
	}
	if c.State.NeedsPerson() && (c.Reason == "" || c.Advice == "") {
		l.wrong("%s without a reason (%q) or advice (%q)", c.State, c.Reason, c.Advice)
	}
}

// report fails the test with all that is known of a life that went wrong.
func (l *life) report(t testing.TB, w *world) {
	t.Helper()
	if len(l.problems) == 0 {
		return
	}
	var what strings.Builder
	for i, e := range w.wire.effects() {
		fmt.Fprintf(&what, "%3d %s\n", i+1, e)
	}
	t.Errorf("%s\nhit: %s\n%s\n%stimeline:\n%seffects:\n%s", l.kind, w.wire.met(), strings.Join(l.problems, "\n"), failures(w), w.timeline(l.key), what.String())
}

func failures(w *world) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out strings.Builder
	for _, err := range w.failures {
		fmt.Fprintf(&out, "an error to the host: %v\n", err)
	}
	return out.String()
}
