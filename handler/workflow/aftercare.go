package workflow

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/ticket"
)

// What is written back is worth less than the request itself: it comes after that, and never makes it fail.
const (
	noteTries       = 9                  // attempts to put the outcome on a closed ticket: some 70 minutes, without the time in which nobody is served
	noteFor         = 3 * 24 * time.Hour // how long after the outcome such a note is still worth something
	remindTries     = 3                  // reminders of which nobody knows whether they came about
	closeNotesLimit = 1000               // characters kept of a ticket's close notes
	moment          = "2006-01-02 15:04 UTC"
)

// deleted is the state of a ticket that is no longer there.
const deleted = "deleted, or no longer to be seen by us"

func (s *step) aftercare() ticket.Aftercare { return s.Rules.Aftercare(s.c.Rule) }

// complete sets the columns of an order that was found: the attempt that made it may have ended before it could. That they are refused is for the timeline: people
// have the ticket. The error is one that time may mend.
func (s *step) complete(ctx context.Context, t correlation.Ticket, found ticket.Record) error {
	if t.Item == nil || len(t.Fields) == 0 {
		return nil
	}
	call, cancel := context.WithTimeout(ctx, s.p.CallTimeout)
	defer cancel()
	err := s.tickets().Update(call, t.Table, found.SysID, t.Fields)
	if err != nil && !fault.ReasonOf(err).Temporary() {
		s.c.Note(s.now(), "the columns of "+found.Number+" could not be set: "+brief(err), invocation(ctx))
		return nil
	}
	if err != nil {
		return fmt.Errorf("set the columns of %s: %w", found.Number, err)
	}
	return nil
}

// detail is what approvers see in Entra: what the rule says, or the tickets and what they came to.
func (s *step) detail(ctx context.Context) string {
	own := "no ServiceNow ticket"
	if states := s.states(); states != "" {
		own = "ServiceNow " + states
	}
	of := s.aftercare().Detail
	if of == nil {
		return own
	}
	text, err := of(slices.Clone(s.c.Tickets), s.c.Outcome)
	if err == nil && strings.TrimSpace(text) != "" {
		return text
	}
	why := "it is empty"
	if err != nil {
		why = brief(err)
	}
	if s.c.Attempts == 0 { // else the timeline has it
		s.c.Note(s.now(), "the rule's detail for approvers cannot be used, and ticketbridge's own takes its place: "+why, invocation(ctx))
	}
	return own
}

// toTell puts on record what the tickets are to be told of the state that was just entered, and takes the lease to do so: until it is over nobody else does.
func (s *step) toTell() {
	switch c := s.c; c.State {
	case correlation.Resumed, correlation.Denied, correlation.Done, correlation.Held:
		if s.aftercare().NoOutcomeNote {
			c.Forgive()
			break
		}
		c.Owe()
		for i := range c.Tickets {
			c.Tickets[i].Owed = c.Tickets[i].Owed && c.Tickets[i].State != deleted
		}
	default:
		c.Forgive()
	}
	if len(s.c.Untold())+len(s.c.Owing()) > 0 {
		s.c.Lease(s.owner, s.now().Add(s.tellLease()))
		s.mine = true
	}
}

// tellLease is how long one worker may be telling a ticket: a look, an attempt to close it, another look, and a note.
func (s *step) tellLease() time.Duration { return 4*s.p.CallTimeout + 5*time.Second }

// tell writes the ending on the tickets that were left open, or closes them with it where the rule says how, and the outcome on those that have closed. It
// returns false: nothing follows from it.
func (s *step) tell(ctx context.Context) (bool, error) {
	left, owing := s.c.Untold(), s.c.Owing()
	if len(left)+len(owing) == 0 {
		return false, nil
	}
	if !s.mine {
		if mine, err := s.takeOver(ctx, s.tellLease(), opNote); !mine {
			return false, err
		}
	}
	gaveUp := false
	for n, i := range slices.Concat(left, owing) {
		t := &s.c.Tickets[i]
		of, most := s.tellEnd, len(s.p.Backoff)+1
		if n >= len(left) {
			of, most = s.tellOutcome, noteTries
		}
		if noTime := (n > 0 || s.mine) && !hasTime(ctx, s.p.CallTimeout); n > 0 || noTime { // what was told goes on record, and the lease begins anew
			if noTime {
				s.c.Release()
				return false, s.comeBack(ctx, 0)
			}
			s.c.Lease(s.owner, s.now().Add(s.tellLease()))
			if err := s.save(ctx); err != nil {
				return false, err
			}
		}
		s.mine = false
		said, err := of(ctx, t)
		now := s.now()
		switch {
		case fault.Is(err, fault.Paused):
			return s.wait(ctx, err)
		case err != nil:
			d, ok := s.p.delay(s.c.Key, s.c.Attempts+1, fault.After(err))
			if ok && s.c.Attempts+1 < most && fault.ReasonOf(err).Temporary() {
				s.c.Attempted(now, now.Add(d), fmt.Errorf("tell ticket %s: %w", t.Number, err), invocation(ctx))
				return false, s.comeBack(ctx, d)
			}
			gaveUp = true
			s.c.Note(now, fmt.Sprintf("ticket %s could not be told: %s", t.Number, brief(err)), invocation(ctx))
		default:
			s.c.Note(now, said, invocation(ctx))
		}
		if n < len(left) {
			t.Told = true
		} else {
			t.Owed, t.Noted = false, s.c.State
		}
	}
	if gaveUp {
		s.c.Forget()
	} else {
		s.c.Recovered(s.now(), invocation(ctx))
	}
	s.c.Release()
	return false, s.save(ctx)
}

// giveUpTelling forgets what the tickets were to be told.
func (s *step) giveUpTelling(why, invocation string) {
	for _, i := range s.c.Untold() {
		s.c.Tickets[i].Told = true
		s.c.Note(s.now(), "ticket "+s.c.Tickets[i].Number+" could not be told: "+why, invocation)
	}
	for _, i := range s.c.Owing() {
		s.c.Note(s.now(), "ticket "+s.c.Tickets[i].Number+" could not be told what became of the request: "+why, invocation)
	}
	s.c.Forgive()
	s.c.Forget()
}

// tellEnd tells a ticket that was left open of the end: by closing it, where the rule says how to, or else by a work note. It returns what it did.
func (s *step) tellEnd(ctx context.Context, t *correlation.Ticket) (string, error) {
	text := "Microsoft Entra no longer waits for this ticket (" + string(s.c.State) + "): " + s.c.Reason + "."
	var fields map[string]string
	if cancel := s.aftercare().Cancel; cancel != nil && (s.c.State == correlation.Withdrawn || s.c.State == correlation.Expired) {
		fields = maps.Clone(cancel(t.Table))
	}
	if len(fields) > 0 {
		v, err := s.read(ctx, t)
		switch {
		case err == nil && v.Outcome != correlation.Pending:
			t.State, t.Outcome = v.State, v.Outcome
			return "ticket " + t.Number + " is closed, and is left as it is: " + v.State, nil
		case err != nil && fault.ReasonOf(err).Temporary():
			return "", err
		case err == nil:
			fields["work_notes"] = text + " It is closed for that."
			call, stop := context.WithTimeout(ctx, s.p.CallTimeout)
			defer stop()
			if err = s.tickets().Update(call, t.Table, t.SysID, fields); err == nil {
				return s.saidClosed(ctx, t), nil
			}
			if fault.ReasonOf(err).Temporary() {
				return "", err
			}
		}
		s.c.Note(s.now(), fmt.Sprintf("ticket %s cannot be closed, and gets a work note only: %s", t.Number, brief(err)), invocation(ctx))
	}
	return "told ticket " + t.Number, s.note(ctx, t, text+" Closing it changes nothing in Entra.")
}

// saidClosed looks whether a ticket that we closed is closed: ServiceNow leaves out the columns that we may not write, and says nothing.
func (s *step) saidClosed(ctx context.Context, t *correlation.Ticket) string {
	v, err := s.read(ctx, t)
	switch {
	case err != nil:
		return "closed ticket " + t.Number + ", which nobody needs any more; it could not be read since"
	case v.Outcome == correlation.Pending:
		return "told ticket " + t.Number + "; it was to be closed, and is still open (" + v.State + "): may the integration user write the columns that close it?"
	default:
		t.State = v.State
		return "closed ticket " + t.Number + ", which nobody needs any more: " + v.State
	}
}

// tellOutcome puts on a closed ticket what became of the request. It returns what it did.
func (s *step) tellOutcome(ctx context.Context, t *correlation.Ticket) (string, error) {
	if s.now().Sub(s.c.Since) > noteFor {
		return "ticket " + t.Number + " is no longer told what became of the request: it ended days ago", nil
	}
	var text string
	switch s.c.State {
	case correlation.Resumed:
		text = "Microsoft Entra was told: the request goes on."
	case correlation.Denied:
		text = "Microsoft Entra was told: the request is denied."
		if Decision(s.c.ResumeWith) == Cancel {
			text = "Microsoft Entra was told: the request is canceled."
		}
	case correlation.Done:
		text = "That this ticket is closed is on record. Nothing waited for it in Microsoft Entra."
	default:
		text = "A person has to look at the request: " + s.c.Reason + "."
		if s.c.Waits {
			text += " Until then it stays paused in Microsoft Entra."
		}
	}
	return "told ticket " + t.Number + " what became of the request", s.note(ctx, t, text)
}

func (s *step) note(ctx context.Context, t *correlation.Ticket, text string) error {
	call, cancel := context.WithTimeout(ctx, s.p.CallTimeout)
	defer cancel()
	if err := s.tickets().Note(call, t.Table, t.SysID, text); err != nil {
		return fmt.Errorf("work note on %s: %w", t.Number, err)
	}
	return nil
}

// remindAt is when the open tickets are to be reminded of the deadline; ok is false when they are not to be.
func (s *step) remindAt() (at time.Time, ok bool) {
	before := s.aftercare().Remind
	return s.c.Deadline.Add(-before), before > 0 && s.c.Waits && !s.c.Deadline.IsZero()
}

// remind puts a work note on the open tickets that says when Entra stops waiting, once that is near. A reminder that does not work is left to the next look:
// it must not keep anybody from reading the tickets. It says whether it stored the correlation.
func (s *step) remind(ctx context.Context) (bool, error) {
	now := s.now()
	at, ok := s.remindAt()
	if !ok || now.Before(at) || !now.Before(s.c.Deadline) || s.c.LeasedBy(s.owner, now) > 0 {
		return false, nil
	}
	if s.c.Abandoned(s.owner, now) {
		s.c.Died(now, invocation(ctx))
	}
	var open []*correlation.Ticket
	for i := range s.c.Tickets {
		if t := &s.c.Tickets[i]; (t.Outcome == correlation.Pending || t.Outcome == "") && !t.Reminded {
			open = append(open, t)
		}
	}
	if len(open) > 0 && s.c.Deaths >= maxDeaths {
		for _, t := range open {
			t.Reminded = true
		}
		s.c.Note(now, "nobody is reminded of the deadline: whoever tried ended without a word, again and again", invocation(ctx))
		return true, s.save(ctx)
	}
	if len(open) == 0 || s.Memory.holdsBack(opNote) {
		return false, nil
	}
	s.c.Lease(s.owner, now.Add(s.tellLease()))
	if err := s.save(ctx); err != nil {
		return false, err
	}
	text := "Microsoft Entra stops waiting for this ticket on " + s.c.Deadline.UTC().Format(moment) + ". Unless it is closed by then, the request fails."
	for _, t := range open {
		if s.leaseFor("remind", s.p.CallTimeout) != nil || !hasTime(ctx, s.p.CallTimeout) {
			break // the next look is soon enough
		}
		var err error
		if !s.reminded[t.SysID] {
			err = s.note(ctx, t, text)
		}
		switch reason := fault.ReasonOf(err); {
		case err == nil:
			t.Reminded = true
			s.reminded[t.SysID] = true
			s.c.Note(s.now(), "reminded ticket "+t.Number+" of the deadline", invocation(ctx))
			continue
		case reason == fault.Unclear:
			t.Reminds++
			t.Reminded = t.Reminds >= remindTries
		default:
			t.Reminded = !reason.Temporary()
		}
		if t.Reminded {
			s.c.Note(s.now(), fmt.Sprintf("ticket %s could not be reminded of the deadline: %s", t.Number, brief(err)), invocation(ctx))
		} else {
			zerolog.Ctx(ctx).Warn().Err(err).Str("number", t.Number).Msg("a reminder did not work; the next look tries again")
		}
	}
	s.c.Deaths = 0
	s.c.Release()
	return true, s.save(ctx)
}
