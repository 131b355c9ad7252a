package workflow

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"ticketbridge/handler/callout"
	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/ticket"
)

// Advance takes the correlation that a message names as far as it can go now: chooses and opens its tickets, reads them, and tells Graph what
// they came to. Before each call that changes something outside, the intent to make it is on record, under a lease; whoever finds such an
// intent without a live lease looks whether it came about before he repeats it. What has to wait gets a later message. An error means that the
// storage did not serve: the message should be delivered again.
func (w *Workflow) Advance(ctx context.Context, m Message) error {
	if m.Key.IsZero() {
		key, err := w.keyOf(ctx, m)
		if err != nil || key.IsZero() {
			return err
		}
		m.Key = key
	}
	ctx = withKey(ctx, m.Key)
	owner, reminded := uuid.NewString(), map[string]bool{}
	for range 8 {
		err := w.pass(ctx, m, owner, reminded)
		switch reason := fault.ReasonOf(err); {
		case err == nil:
			w.sweepIfOverdue(ctx)
			return nil
		case reason == fault.Conflict:
			zerolog.Ctx(ctx).Debug().Err(err).Msg("somebody else changed it; reading it again")
		case reason == fault.Invalid:
			return w.giveUp(ctx, m.Key, err)
		case reason.Temporary() && m.Tries < maxTries:
			// A message that fails is delivered again at once, and poison after five times: as long as the queue serves, put it off ourselves.
			zerolog.Ctx(ctx).Warn().Err(err).Str("reason", string(reason)).Msg("the storage does not serve; the message is put off")
			if w.putOff(ctx, m, min(time.Second<<m.Tries, 5*time.Minute)) == nil {
				return nil
			}
			return err
		default:
			return err
		}
	}
	return w.putOff(ctx, m, time.Second)
}

// giveUp fails a correlation with which the storage cannot keep what came of it (a ticket's text that is too large, say).
func (w *Workflow) giveUp(ctx context.Context, key correlation.Key, cause error) error {
	c, err := w.Store.Load(ctx, key)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	if c.State.Ended() || c.State.NeedsPerson() {
		return cause
	}
	return w.giveUpOn(ctx, c, cause)
}

func (w *Workflow) giveUpOn(ctx context.Context, c *correlation.Correlation, cause error) error {
	s := &step{Workflow: w, p: w.Policy.withDefaults(), c: c}
	if _, err := s.fail(ctx, cause); err != nil {
		return err
	}
	if err := w.Store.Index(ctx, c); err != nil {
		return fmt.Errorf("bring the lists up to date: %w", err)
	}
	return nil
}

// keyOf finds whose ticket it is that a notification names by its sys_id alone: the ticket says so itself.
func (w *Workflow) keyOf(ctx context.Context, m Message) (correlation.Key, error) {
	p := w.Policy.withDefaults()
	call, cancel := context.WithTimeout(ctx, p.CallTimeout)
	defer cancel()
	rec, err := w.tickets().Read(call, m.Table, m.SysID)
	log := zerolog.Ctx(ctx).With().Str("table", m.Table).Str("sysId", m.SysID).Logger()
	if err != nil {
		if d, ok := p.delay(correlation.Key{Request: m.SysID}, m.Tries+1, fault.After(err)); ok && fault.ReasonOf(err).Temporary() {
			return correlation.Key{}, w.putOff(ctx, m, d)
		}
		log.Warn().Err(err).Msg("the ticket of a close notification cannot be read; the sweep will find it if it is ours")
		return correlation.Key{}, nil
	}
	key, err := correlation.ParseTicketID(rec.CorrelationID)
	if err != nil {
		log.Info().Msg("a ticket that is not ours closed")
		return correlation.Key{}, nil
	}
	return key, nil
}

// putOff sends m again, to be delivered after d. A message that was put off often enough is let go: the sweep sees to its correlation.
func (w *Workflow) putOff(ctx context.Context, m Message, d time.Duration) error {
	if m.Tries >= maxTries {
		return nil
	}
	m.Tries++
	m.Waiting = false // by then it is no news
	return w.send(ctx, m, d)
}

// pass loads the correlation, advances it, and brings the lists up to date. It is fault.Conflict when somebody else changed the correlation meanwhile.
func (w *Workflow) pass(ctx context.Context, m Message, owner string, reminded map[string]bool) error {
	c, err := w.Store.Load(ctx, m.Key)
	if fault.Is(err, fault.NotFound) {
		zerolog.Ctx(ctx).Info().Str("why", m.Why).Msg("no such correlation")
		if m.Why != WhySweep {
			return nil
		}
		// Listed, never stored: the callout was not acknowledged. Should its repetition be storing it this very moment, list it again.
		if err := w.Store.Unlist(ctx, m.Key); err != nil {
			return fmt.Errorf("take off the list: %w", err)
		}
		if c, err = w.Store.Load(ctx, m.Key); fault.Is(err, fault.NotFound) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	if c.Schema > correlation.SchemaVersion || !c.State.Known() {
		zerolog.Ctx(ctx).Warn().Int("schema", c.Schema).Str("state", string(c.State)).Msg("a newer version wrote it and has to go on with it")
		return w.putOff(ctx, m, min(5*time.Second<<m.Tries, 5*time.Minute))
	}
	s := &step{Workflow: w, p: w.Policy.withDefaults(), c: c, m: m, owner: owner, reminded: reminded}
	if err := s.run(ctx); err != nil {
		return err
	}
	if !s.saved && !c.Settled() && m.Why != WhySweep && m.Why != WhyClosed { // these two were listed for an early look, should nobody come
		return nil
	}
	c.Due = s.due(s.now())
	if err := w.Store.Index(ctx, c); err != nil {
		return fmt.Errorf("bring the lists up to date: %w", err)
	}
	return nil
}

// step is one pass over one correlation.
type step struct {
	*Workflow
	p     Policy
	c     *correlation.Correlation
	m     Message
	owner string
	fresh bool          // the intent was put on record in this very pass, so nobody can have acted on it
	look  bool          // tickets may have changed while they were being opened: read them once they are open
	seen  RequestStatus // how the request stood when Graph was last asked in this pass
	saved bool
	mine  bool // the lease to tell the tickets was put on record in this very pass

	reminded map[string]bool // tickets that this invocation reminded, by sys_id, whether or not it came to put that on record
}

// run goes from state to state until something has to be waited for.
func (s *step) run(ctx context.Context) error {
	for {
		var next func(context.Context) (bool, error)
		switch s.c.State {
		case correlation.Received:
			next = s.plan
		case correlation.Opening:
			next = s.open
		case correlation.Open:
			next = s.check
		case correlation.Closed:
			next = s.decide
		case correlation.Resuming:
			next = s.answer
		case correlation.Held, correlation.Failed:
			next = s.undecided
		default:
			next = s.tell
		}
		again, err := next(ctx)
		if err != nil || !again {
			return err
		}
	}
}

// plan chooses the tickets, looks up the users and groups they refer to, and puts the intent to create them on record.
func (s *step) plan(ctx context.Context) (bool, error) {
	if s.early(s.now()) {
		return false, nil
	}
	if s.c.Waits && s.now().Sub(s.c.Created) > time.Hour { // it has waited for long: does anybody still want it?
		if ended, err := s.leftEntra(ctx); ended || err != nil {
			return ended, err
		}
	}
	body, err := s.Store.Callout(ctx, s.c.Key)
	if err != nil {
		return false, fmt.Errorf("read the callout: %w", err)
	}
	in, err := callout.Parse(body)
	if err != nil {
		return s.fail(ctx, err)
	}
	if err := s.findPeople(ctx, in); err != nil {
		return s.tryLater(ctx, err)
	}
	choice, err := s.Rules.Choose(in, s.c.Deadline)
	if err != nil {
		return s.fail(ctx, err)
	}
	if err := s.lookUp(ctx, choice.Drafts); err != nil {
		return s.tryLater(ctx, err)
	}
	now := s.now()
	s.c.Rule, s.c.OnRejected = choice.Rule, choice.OnRejected
	if len(choice.Drafts) == 0 {
		if s.c.Waits || s.c.MayWait {
			return s.fail(ctx, &fault.Error{
				Op: "choose tickets", Reason: fault.Misconfigured, Detail: "rule " + choice.Rule + " opens no ticket, and the request waits for one",
				Advice: "Give the rule a ticket, or take the extension out of the policy; then retry.",
			})
		}
		if err := s.c.Move(correlation.Done, now, "rule "+choice.Rule+" opens no ticket", invocation(ctx)); err != nil {
			return false, err
		}
		return false, s.save(ctx)
	}
	if err := s.Memory.paused(opCreate); err != nil {
		return s.tryLater(ctx, err)
	}
	s.c.Tickets = nil
	for _, d := range choice.Drafts {
		s.c.Tickets = append(s.c.Tickets, correlation.Ticket{Entry: d.Entry, Table: d.Table, Fields: d.Fields, Item: d.Item})
	}
	if err := s.c.Move(correlation.Opening, now, fmt.Sprintf("rule %s: about to open %s", choice.Rule, plural(len(choice.Drafts), "ticket")), invocation(ctx)); err != nil {
		return false, err
	}
	s.c.Lease(s.owner, now.Add(s.openLease()))
	s.fresh = true
	return true, s.save(ctx)
}

// lookUp puts the users and groups that the drafts refer to into their fields. A column whose person or group ServiceNow does not have, or not for us, stays
// empty, and the timeline says so: whom the ticket is for stands in its text as well, and a ticket without a group is better than none. The error is one
// that time may mend.
func (s *step) lookUp(ctx context.Context, drafts []ticket.Draft) error {
	for i := range drafts {
		d, of := &drafts[i], ""
		if len(drafts) > 1 {
			of = " (ticket " + d.Entry + ")"
		}
		if d.Fields == nil {
			d.Fields = map[string]string{}
		}
		for _, column := range slices.Sorted(maps.Keys(d.Users)) {
			who := d.Users[column]
			err := s.refer(ctx, d, column, of, "ServiceNow has no active user with that principal name or e-mail address, or more than one",
				func(ctx context.Context) (string, bool, error) {
					return s.tickets().FindUser(ctx, who.PrincipalName, who.Email)
				})
			if err != nil {
				return err
			}
		}
		for _, column := range slices.Sorted(maps.Keys(d.Groups)) {
			name := d.Groups[column]
			err := s.refer(ctx, d, column, of, fmt.Sprintf("ServiceNow has no active group named %q, or more than one", clip(name, 80)),
				func(ctx context.Context) (string, bool, error) { return s.tickets().FindGroup(ctx, name) })
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *step) refer(ctx context.Context, d *ticket.Draft, column, of, missing string, find func(context.Context) (string, bool, error)) error {
	call, cancel := context.WithTimeout(ctx, s.p.CallTimeout)
	defer cancel()
	sysID, found, err := find(call)
	switch {
	case err != nil && fault.ReasonOf(err).Temporary():
		return err
	case err != nil:
		s.c.Note(s.now(), column+" stays empty: "+brief(err)+of, invocation(ctx))
	case !found:
		s.c.Note(s.now(), column+" stays empty: "+missing+of, invocation(ctx))
	default:
		d.Fields[column] = sysID
	}
	return nil
}

// openLease is how long one worker may be creating tickets: one look, one create, and the time in which ServiceNow may finish a create whose
// answer nobody waits for any more.
func (s *step) openLease() time.Duration { return 2*s.p.CallTimeout + s.p.Settle }

// open creates the tickets that do not exist.
func (s *step) open(ctx context.Context) (bool, error) {
	if !s.fresh {
		if mine, err := s.takeOver(ctx, s.openLease(), opRead); !mine {
			return false, err
		}
		s.look = true
	}
	opened := 0
	for i := range s.c.Tickets {
		t := &s.c.Tickets[i]
		if t.SysID != "" {
			continue
		}
		if opened > 0 { // the tickets so far go on record, and the lease starts anew, before the next is created
			if !hasTime(ctx, 2*s.p.CallTimeout) {
				s.c.Release()
				return false, s.comeBack(ctx, 0)
			}
			s.c.Lease(s.owner, s.now().Add(s.openLease()))
			if err := s.save(ctx); err != nil {
				return false, err
			}
		}
		rec, err := s.ensure(ctx, i)
		if err != nil {
			return s.tryLater(ctx, err)
		}
		opened++
		t.SysID, t.Number, t.Link, t.Outcome = rec.SysID, rec.Number, rec.Link, correlation.Pending
		t.State = s.Rules.Judge(s.c.Rule, t.Table, rec.Fields).State
		t.Fields, t.Item = nil, nil
	}
	if err := s.c.Move(correlation.Open, s.now(), "open: "+s.numbers(), invocation(ctx)); err != nil {
		return false, err
	}
	return s.look, s.save(ctx)
}

// leaseFor is an error when the lease has less left than the call needs.
func (s *step) leaseFor(op string, need time.Duration) error {
	if s.c.LeaseUntil.Sub(s.now()) < need {
		return &fault.Error{Op: op, Reason: fault.Conflict, Detail: "the lease on the intent is running out"}
	}
	return nil
}

// ensure returns the i-th ticket: the one that exists, or a new one. Errors of ServiceNow.
func (s *step) ensure(ctx context.Context, i int) (ticket.Record, error) {
	t, id := s.c.Tickets[i], s.c.Key.TicketID(i)
	if !s.fresh {
		found, err := s.find(ctx, t.Table, id)
		if err != nil {
			return ticket.Record{}, err
		}
		if len(found) > 0 {
			s.c.Note(s.now(), "found the ticket that an earlier attempt had created: "+found[0].Number, invocation(ctx))
			for _, extra := range found[1:] {
				s.c.Note(s.now(), "there is a second ticket with the same correlation_id, which is not used: "+extra.Number, invocation(ctx))
			}
			return found[0], s.complete(ctx, t, found[0])
		}
	}
	// Whoever takes over after the lease must find what this call creates: so do not start it when the lease has too little left.
	if err := s.leaseFor("create ticket", s.p.CallTimeout+s.p.Settle); err != nil {
		return ticket.Record{}, err
	}
	call, cancel := context.WithTimeout(ctx, s.p.CallTimeout)
	defer cancel()
	rec, err := s.tickets().Create(call, ticket.Draft{Entry: t.Entry, Table: t.Table, Fields: t.Fields, Item: t.Item}, id)
	if err != nil {
		return ticket.Record{}, err
	}
	zerolog.Ctx(ctx).Info().Str("event", "ticketCreated").Str("table", t.Table).Str("number", rec.Number).Msg("ticket created")
	return rec, nil
}

func (s *step) find(ctx context.Context, table, id string) ([]ticket.Record, error) {
	call, cancel := context.WithTimeout(ctx, s.p.CallTimeout)
	defer cancel()
	return s.tickets().Find(call, table, id)
}

// check reads the tickets that were not yet seen closed.
func (s *step) check(ctx context.Context) (bool, error) {
	now := s.now()
	switch early := s.early(now); {
	case early && (s.m.Why == WhyRetry || s.c.LastReason == fault.Throttled || s.c.LastReason == fault.Paused):
		return false, nil // asked to stay away, we do, whoever says that a ticket closed: the next attempt will see it
	case s.m.Why == WhyCallout && !s.look:
		return false, nil // a repeated callout says nothing about tickets
	}
	changed := false
	for i := range s.c.Tickets {
		t := &s.c.Tickets[i]
		if t.Outcome != correlation.Pending && t.Outcome != "" {
			continue
		}
		v, err := s.read(ctx, t)
		if err != nil {
			return s.cannotRead(ctx, err)
		}
		if v.Outcome == correlation.Pending {
			continue
		}
		t.Outcome, t.State = v.Outcome, v.State
		changed = true
		s.c.Note(now, fmt.Sprintf("read %s: %s, %s", t.Number, v.State, v.Outcome), invocation(ctx))
	}
	outcome := correlation.Judge(s.c.Tickets)
	if outcome != correlation.Pending {
		s.c.Outcome = outcome
		if err := s.c.Move(correlation.Closed, now, "all tickets closed: "+s.numbers(), invocation(ctx)); err != nil {
			return false, err
		}
		return true, nil // decide saves
	}
	if s.c.LastReason != "" {
		s.c.Recovered(now, invocation(ctx))
		changed = true
	}
	if s.m.Why == WhySweep && s.c.Waits {
		if ended, err := s.stillAsked(ctx); ended || err != nil {
			return ended, err
		}
		if told, err := s.remind(ctx); told || err != nil {
			return false, err
		}
	}
	if changed {
		return false, s.save(ctx)
	}
	return false, nil
}

func (s *step) read(ctx context.Context, t *correlation.Ticket) (ticket.Verdict, error) {
	call, cancel := context.WithTimeout(ctx, s.p.CallTimeout)
	defer cancel()
	rec, err := s.tickets().Read(call, t.Table, t.SysID)
	if fault.Is(err, fault.NotFound) {
		return ticket.Verdict{Outcome: correlation.Unknown, State: deleted}, nil
	}
	if err != nil {
		return ticket.Verdict{}, fmt.Errorf("%s: %w", t.Number, err)
	}
	v := s.Rules.Judge(s.c.Rule, t.Table, rec.Fields)
	if v.Outcome != correlation.Pending && s.aftercare().Detail != nil {
		t.CloseNotes = clip(rec.Fields["close_notes"], closeNotesLimit)
	}
	return v, nil
}

// cannotRead keeps an open correlation open, with the reason, whatever the reason is: the ticket is there, people work on it, and only the
// reading has to be mended. After the last retry of its own it is left to the sweep.
func (s *step) cannotRead(ctx context.Context, cause error) (bool, error) {
	now := s.now()
	if fault.Is(cause, fault.Paused) {
		if s.m.Why == WhySweep && s.c.LastReason == fault.Paused {
			return false, nil // the sweep comes again
		}
		return s.wait(ctx, cause)
	}
	d, ok := s.p.delay(s.c.Key, s.c.Attempts+1, fault.After(cause))
	if !ok || !fault.ReasonOf(cause).Temporary() {
		if fault.ReasonOf(cause) == s.c.LastReason {
			zerolog.Ctx(ctx).Warn().Err(cause).Msg("ticket still cannot be read")
			return false, nil
		}
		s.c.Attempted(now, now.Add(s.p.CheckInterval), cause, invocation(ctx))
		return false, s.save(ctx)
	}
	s.c.Attempted(now, now.Add(d), cause, invocation(ctx))
	return false, s.comeBack(ctx, d)
}

// decide turns the tickets' outcome into the end, or into an intent to tell Graph.
func (s *step) decide(ctx context.Context) (bool, error) {
	now := s.now()
	c := s.c
	if s.early(now) {
		return false, nil
	}
	waits := c.Waits
	if c.MayWait && !waits && c.Outcome != correlation.Unknown {
		// The callout did not say whether the request waits. Only Graph knows; a request of which it does not say so is not resumed.
		st, err := s.status(ctx)
		if err != nil {
			return s.tryLater(ctx, err)
		}
		switch st {
		case waiting:
			waits = true
		case timedOut:
			return s.end(ctx, correlation.Expired, "the request had stopped waiting in Entra when the tickets closed")
		}
	}
	switch {
	case c.Outcome == correlation.Unknown:
		return s.hold(ctx, "a ticket was closed in a way that nobody mapped: "+s.states(),
			"Look at the ticket; then resume or deny the request by hand, or map the state in the rule.")
	case !waits:
		return s.end(ctx, correlation.Done, "nothing waits in Entra: "+s.states())
	case c.Outcome == correlation.Fulfilled:
		c.ResumeWith = string(Resume)
	case c.Outcome == correlation.Rejected && c.OnRejected == ticket.OnRejectedDeny:
		c.ResumeWith = string(Deny)
	case c.Outcome == correlation.Rejected && c.OnRejected == ticket.OnRejectedCancel:
		c.ResumeWith = string(Cancel)
	default:
		return s.hold(ctx, "the work was not done: "+s.states(), "Decide: deny the request, or have the work done and resume it by hand.")
	}
	if err := s.Memory.paused(opAnswer); err != nil {
		return s.tryLater(ctx, err)
	}
	if err := c.Move(correlation.Resuming, now, "about to tell Graph to "+c.ResumeWith+": "+s.states(), invocation(ctx)); err != nil {
		return false, err
	}
	c.Lease(s.owner, now.Add(s.answerLease()))
	s.fresh = true
	// The list still says when an open ticket is to be looked at. Should this process die now, the sweep is to come when the lease has ended: the host
	// brings the message back only after ten minutes.
	if err := s.Store.Postpone(ctx, c.Key, s.due(now)); err != nil {
		return false, fmt.Errorf("say when the intent is stuck: %w", err)
	}
	return true, s.save(ctx)
}

// answerLease is how long one worker may be telling Graph: a look, the answer, and a look at what became of it.
func (s *step) answerLease() time.Duration { return 3*s.p.GraphTimeout + 5*time.Second }

// answer tells Graph. On a retry it asks first.
func (s *step) answer(ctx context.Context) (bool, error) {
	c := s.c
	if !s.fresh {
		if mine, err := s.takeOver(ctx, s.answerLease(), opAsk); !mine {
			return false, err
		}
		st, err := s.status(ctx)
		if err != nil {
			return s.tryLater(ctx, err)
		}
		switch st {
		case answered:
			return s.foundAnswered(ctx, "Graph says that the request was answered: an earlier attempt had reached it")
		case timedOut:
			return s.end(ctx, correlation.Expired, "Entra stopped waiting before it could be told")
		case gone:
			return s.end(ctx, correlation.Withdrawn, "the request no longer waits in Entra")
		}
	}
	// Whoever takes over after the lease asks how the request stands; so do not begin what may outlast it.
	if err := s.leaseFor("tell Graph", s.p.GraphTimeout); err != nil {
		return s.tryLater(ctx, err)
	}
	d := Decision(c.ResumeWith)
	call, cancel := context.WithTimeout(ctx, s.p.GraphTimeout)
	err := s.requests().Answer(call, c.Key, c.Stage, d, s.detail(ctx))
	cancel()
	if err == nil {
		zerolog.Ctx(ctx).Info().Str("event", "answered").Str("decision", c.ResumeWith).Msg("Graph took the answer")
		return s.told(ctx, "Graph took the answer: "+c.ResumeWith)
	}
	err = fmt.Errorf("tell Graph to %s: %w", d, err)
	switch fault.ReasonOf(err) {
	case fault.Unclear, fault.Refused, fault.NotFound, fault.Conflict:
	default:
		return s.tryLater(ctx, err)
	}
	// Unclear or turned down: how does the request stand?
	st, readErr := s.status(ctx)
	if readErr != nil {
		if fault.Is(err, fault.Unclear) {
			return s.tryLater(ctx, err)
		}
		return s.tryLater(ctx, readErr) // it was turned down, and we do not know why: look again later
	}
	switch {
	case st == timedOut:
		return s.end(ctx, correlation.Expired, "Entra stopped waiting before it could be told")
	case st == gone:
		return s.end(ctx, correlation.Withdrawn, "the request no longer waits in Entra")
	case st == answered && fault.Is(err, fault.Unclear):
		return s.foundAnswered(ctx, "the answer to our call was lost; Graph says that the request was answered")
	case st == answered && !s.fresh:
		return s.foundAnswered(ctx, "Graph says that the request was answered: an earlier attempt had reached it")
	case st == answered:
		return s.end(ctx, correlation.Withdrawn, "the request had been answered in Entra by somebody else")
	case fault.Is(err, fault.Unclear) && (d == Resume || c.Attempts < denialTries):
		return s.tryLater(ctx, err)
	case d != Resume:
		return s.hold(ctx, "Graph refused to "+c.ResumeWith+" the request: "+brief(err),
			"The request stays paused and fails at its deadline, so nothing is granted. Deny it in Entra, or have the work done and resume it by hand.")
	default:
		return s.fail(ctx, &fault.Error{
			Op: "tell Graph to " + c.ResumeWith, Reason: fault.ReasonOf(err), Detail: "Graph does not take it, and says that the request still waits", Err: errors.New(brief(err)),
			Advice: "Look at the request in Entra (Identity Governance, the access package, Requests). Nothing is granted until it is resumed: retry it here, or deny it, before its deadline.",
		})
	}
}

// told ends a correlation whose answer Graph took.
func (s *step) told(ctx context.Context, text string) (bool, error) {
	if Decision(s.c.ResumeWith) == Resume {
		return s.end(ctx, correlation.Resumed, text)
	}
	return s.end(ctx, correlation.Denied, text)
}

// foundAnswered ends a correlation of which Graph says that it was answered, where we did not hear it take our answer. Another one may be the one that it
// has: a request that was denied was not resumed by us.
func (s *step) foundAnswered(ctx context.Context, text string) (bool, error) {
	d := Decision(s.c.ResumeWith)
	if before := Decision(s.c.Earlier); before != "" && before != d && s.seen.over() && s.seen.denied() == (before != Resume) {
		s.c.ResumeWith = string(before)
		return s.told(ctx, "Graph says that the request was answered: an attempt to "+string(before)+" it had reached it, before somebody decided to "+string(d)+" it by hand")
	}
	switch {
	case d == Resume && s.seen.denied():
		return s.end(ctx, correlation.Withdrawn, "the request had been denied or canceled in Entra by somebody else before it could be resumed")
	case d != Resume && !s.seen.over():
		return s.tryLater(ctx, &fault.Error{
			Op: "tell Graph to " + string(d), Reason: fault.Unclear, Detail: "Graph has an answer, and does not show yet which",
			Advice: "Look in Entra whether the request was denied; if it goes on, somebody else has answered it.",
		})
	case d != Resume && !s.seen.denied() && s.c.Stage != callout.StageGranted: // at that stage the access is given already
		return s.end(ctx, correlation.Withdrawn, "the request had been answered in Entra by somebody else before it could be told to "+string(d))
	default:
		return s.told(ctx, text)
	}
}

// undecided tells the tickets of one that is held, once, and looks whether Entra still waits.
func (s *step) undecided(ctx context.Context) (bool, error) {
	if _, err := s.tell(ctx); err != nil {
		return false, err
	}
	return s.stillAsked(ctx)
}

// stillAsked looks, for the sweep, whether a request has left Entra meanwhile, unless Graph just said that it waits; then nobody has to close its tickets, or to decide, any more.
func (s *step) stillAsked(ctx context.Context) (bool, error) {
	if s.m.Why != WhySweep || !s.c.Waits || s.toldWaiting(s.now()) {
		return false, nil
	}
	return s.leftEntra(ctx)
}

// leftEntra asks Graph whether the request still waits, and ends the correlation when it does not. That Graph cannot be asked changes nothing.
func (s *step) leftEntra(ctx context.Context) (bool, error) {
	st, err := s.status(ctx)
	if err != nil {
		zerolog.Ctx(ctx).Warn().Err(err).Msg("cannot ask Graph whether the request still waits")
		return false, nil
	}
	late := !s.c.Deadline.IsZero() && s.now().After(s.c.Deadline.Add(s.p.Grace))
	switch {
	case st == waiting || st == unsaid:
		return false, nil
	case st == timedOut || late && st != answered:
		_, err = s.end(ctx, correlation.Expired, "the deadline passed before the tickets closed; Entra has given up waiting")
	case st == answered && s.c.From == correlation.Resuming:
		_, err = s.end(ctx, correlation.Withdrawn, "the request was answered in Entra: by an answer of ours that was on its way when it was "+string(s.c.State)+", or by somebody else")
	case st == answered:
		_, err = s.end(ctx, correlation.Withdrawn, "the request was answered in Entra by somebody else")
	default:
		_, err = s.end(ctx, correlation.Withdrawn, "the request no longer waits in Entra")
	}
	return err == nil, err
}

// early says whether the step is not to be tried yet. A message may come a second before its time.
func (s *step) early(now time.Time) bool { return now.Before(s.c.NextAttempt.Add(-time.Second)) }

// takeOver takes the lease on an intent that was on record before this pass. It is false when somebody else is at work on it, or when it is not time
// yet; whoever put it on record has sent a message for later, and the sweep is behind that.
func (s *step) takeOver(ctx context.Context, lease time.Duration, op string) (bool, error) {
	now := s.now()
	if left := s.c.LeasedBy(s.owner, now); left > 0 {
		// As a rule he is done within a second or two; should he be dead, the lease has to end.
		return false, s.putOff(ctx, s.m, min(left, time.Second<<min(s.m.Tries, 20))+time.Second)
	}
	if s.early(now) {
		return false, nil
	}
	if s.c.Abandoned(s.owner, now) {
		if s.c.Died(now, invocation(ctx)); s.c.Deaths >= maxDeaths {
			return false, s.tooDeadly(ctx)
		}
	}
	if err := s.Memory.paused(op); err != nil {
		_, err = s.tryLater(ctx, err)
		return false, err
	}
	s.c.Lease(s.owner, now.Add(lease))
	if err := s.save(ctx); err != nil {
		return false, err // somebody else was quicker, or nobody knows of our lease
	}
	return true, nil
}

// tooDeadly gives up on a step over which one worker after the other ended: what crashes the process harms all the others. Its message is never poison to the
// host, since whoever finds the lease of a dead worker puts it off.
func (s *step) tooDeadly(ctx context.Context) error {
	if s.c.State.Ended() {
		s.giveUpTelling("whoever tried ended without a word, again and again", invocation(ctx))
		return s.save(ctx)
	}
	_, err := s.fail(ctx, &fault.Error{
		Op: "work on it (" + string(s.c.State) + ")", Reason: fault.Internal, Detail: fmt.Sprintf("the process ended over it, or lost the storage, %d times in a row", s.c.Deaths),
		Advice: "Look in the logs for processes that ended while they worked on this request id; when the cause is mended, retry the request.",
	})
	return err
}

// tryLater records a failed attempt and sends a message for the next one, or fails the correlation when there is none.
func (s *step) tryLater(ctx context.Context, cause error) (bool, error) {
	if fault.Is(cause, fault.Paused) {
		return s.wait(ctx, cause)
	}
	unclear := fault.Is(cause, fault.Unclear) && s.c.State == correlation.Opening
	if unclear {
		s.c.Settles = s.now().Add(s.p.Settle) // also for an operator, whom the delay does not keep
	}
	d, ok := s.p.delay(s.c.Key, s.c.Attempts+1, fault.After(cause))
	if !ok || !fault.ReasonOf(cause).Temporary() {
		return s.fail(ctx, cause)
	}
	if unclear {
		d = max(d, s.p.Settle)
	}
	now := s.now()
	s.c.Attempted(now, now.Add(d), cause, invocation(ctx))
	if err := s.comeBack(ctx, d); err != nil {
		return false, err
	}
	zerolog.Ctx(ctx).Warn().Err(cause).Str("reason", string(fault.ReasonOf(cause))).Int("attempt", s.c.Attempts).Dur("nextIn", d).Msg("will be tried again")
	return false, nil
}

// comeBack puts what was learnt on record, and sends a message to go on after d.
func (s *step) comeBack(ctx context.Context, d time.Duration) error {
	if err := s.save(ctx); err != nil {
		return err
	}
	return s.send(ctx, Message{Key: s.c.Key, Why: WhyRetry}, d)
}

// wait puts the step off until the other side may serve again.
func (s *step) wait(ctx context.Context, paused error) (bool, error) {
	now := s.now()
	d := fault.After(paused) + time.Second
	s.c.Paused(now, now.Add(d), paused, invocation(ctx))
	return false, s.comeBack(ctx, d)
}

func (s *step) fail(ctx context.Context, cause error) (bool, error) {
	reason, advice := fault.ReasonOf(cause), fault.Advice(cause)
	if advice == "" {
		advice = "Mend what the reason names; then retry the request (`handler requests retry`)."
	}
	text := brief(cause)
	if reason.Temporary() {
		text = fmt.Sprintf("retries used up (%d): %s", s.c.Attempts+1, text)
	}
	if err := s.c.Fail(s.now(), text, advice, reason, invocation(ctx)); err != nil {
		return false, err
	}
	return false, s.save(ctx)
}

// end moves to one of the ends and lets tell see to the tickets.
func (s *step) end(ctx context.Context, to correlation.State, text string) (bool, error) {
	if err := s.c.Move(to, s.now(), text, invocation(ctx)); err != nil {
		return false, err
	}
	s.toTell()
	return true, s.save(ctx)
}

// hold leaves it to a person, and has the tickets told so.
func (s *step) hold(ctx context.Context, text, advice string) (bool, error) {
	if err := s.c.Hold(s.now(), text, advice, invocation(ctx)); err != nil {
		return false, err
	}
	s.toTell()
	if err := s.save(ctx); err != nil {
		return false, err
	}
	return s.tell(ctx)
}

// save stores the correlation and logs its moves.
func (s *step) save(ctx context.Context) error {
	moves := s.c.Pending()
	s.c.Due = s.due(s.now())
	if err := s.Store.Save(ctx, s.c); err != nil {
		return fmt.Errorf("save: %w", err)
	}
	s.saved = true
	for _, e := range moves {
		if e.Kind == correlation.EventMove {
			zerolog.Ctx(ctx).Info().Str("event", "moved").Str("from", string(e.From)).Str("state", string(e.To)).
				Str("reason", string(e.Reason)).Dur("age", e.At.Sub(s.c.Created)).Msg("moved")
		}
	}
	return nil
}

// due returns when the sweep should look at the correlation.
func (s *step) due(now time.Time) time.Time {
	c := s.c
	switch {
	case c.State == correlation.Open:
		due := now.Add(s.p.CheckInterval)
		if last := c.Deadline.Add(s.p.Grace); !c.Deadline.IsZero() && now.Before(last) && last.Before(due) {
			due = last
		}
		if at, ok := s.remindAt(); ok && now.Before(at) && at.Before(due) {
			due = at
		}
		return due
	case c.State.NeedsPerson() && len(c.Owing()) == 0 && !c.Waits:
		return now.Add(24 * time.Hour)
	case c.State.NeedsPerson() && len(c.Owing()) == 0:
		return now.Add(s.p.CheckInterval)
	case c.LeaseUntil.After(c.NextAttempt):
		return c.LeaseUntil.Add(2 * time.Second)
	case !c.NextAttempt.IsZero():
		return c.NextAttempt.Add(s.p.Forgotten)
	default:
		return now.Add(s.p.Forgotten)
	}
}

// How a request stands, as far as it matters here.
type standing int

const (
	waiting  standing = iota // it waits for us
	unsaid                   // it is not over, and nothing says whether it waits
	answered                 // it was told to go on, or denied
	timedOut                 // Entra gave up waiting
	gone                     // it is over: withdrawn, denied, failed, delivered without us, deleted
)

// status asks Graph how the request stands.
func (s *step) status(ctx context.Context) (standing, error) {
	call, cancel := context.WithTimeout(ctx, s.p.GraphTimeout)
	defer cancel()
	r, err := s.requests().Read(call, s.c.Key)
	if fault.Is(err, fault.NotFound) {
		return gone, nil
	}
	if err != nil {
		return unsaid, fmt.Errorf("ask Graph how the request stands: %w", err)
	}
	s.seen = r
	return r.standing(), nil
}

// standing reads Graph's words. The callout instance says most: one that does not wait, of an extension that is launch and continue, stays
// calloutSent. Where Graph lists none with our id, the request itself decides.
func (r RequestStatus) standing() standing {
	switch strings.ToLower(r.Instance) {
	case "waitingforcallback":
		// At the stage "granted" the access is given already, and the request waits all the same.
		if r.over() && !r.granted() {
			return gone
		}
		return waiting
	case "callbackreceived":
		return answered
	case "callbacktimedout":
		return timedOut
	case "calloutfailed":
		return gone
	}
	switch {
	case r.over() && !r.granted():
		return gone
	case r.Instance == "" && strings.EqualFold(r.Status, "WaitingForCallback"):
		return waiting // at the stage "granted", too: there its state is delivered already
	case r.over():
		return gone
	default:
		return unsaid
	}
}

func (r RequestStatus) denied() bool {
	return strings.EqualFold(r.State, "denied") || strings.EqualFold(r.State, "canceled")
}

func (r RequestStatus) granted() bool {
	return strings.EqualFold(r.State, "delivered") || strings.EqualFold(r.State, "partiallyDelivered")
}

// over says whether the request has ended. Its states are those of accessPackageRequestState.
func (r RequestStatus) over() bool {
	return r.denied() || r.granted() || strings.EqualFold(r.State, "deliveryFailed")
}

func (s *step) numbers() string {
	var out []string
	for _, t := range s.c.Tickets {
		out = append(out, t.Number)
	}
	return strings.Join(out, ", ")
}

func (s *step) states() string {
	var out []string
	for _, t := range s.c.Tickets {
		if t.SysID != "" { // one that a person decided about may not have its tickets
			out = append(out, t.Number+" "+t.State)
		}
	}
	return strings.Join(out, ", ")
}

// hasTime says whether ctx leaves at least d, and a little to put the outcome on record.
func hasTime(ctx context.Context, d time.Duration) bool {
	end, ok := ctx.Deadline()
	return !ok || time.Until(end) > d+2*time.Second
}

// brief is an error for a person's eyes, without the chain of who called whom.
func brief(err error) string {
	if e, ok := errors.AsType[*fault.Error](err); ok {
		return e.Error()
	}
	return err.Error()
}

func clip(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
