package simulation

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/workflow"
)

// violate says that a promise was broken. The first one ends the seed.
func (w *world) violate(about, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if about != "" {
		text = about + ": " + text
	}
	w.violations = append(w.violations, text)
	if w.broken == "" {
		w.broken = about
	}
}

// watch looks at each correlation that was stored in the last step.
func (w *world) watch() {
	for _, key := range w.dirty {
		w.inspect(key)
	}
	w.dirty = w.dirty[:0]
}

// A view is how a correlation stood when it was last looked at.
type view struct {
	state   correlation.State
	since   time.Time
	events  int
	settled bool
}

// inspect holds a stored correlation against its timeline and against how it stood before.
func (w *world) inspect(key string) {
	k, err := correlation.ParseTicketID(key)
	if err != nil {
		return
	}
	c, err := w.store.Load(context.Background(), k)
	if err != nil {
		if s := w.stages[key]; s == nil || !w.purged(s) {
			w.violate(key, "it was stored or removed, and cannot be read: %v", err)
		}
		return
	}
	was := w.views[key]
	w.views[key] = view{c.State, c.Since, c.Events, c.Settled()}
	switch {
	case c.Events < was.events:
		w.violate(key, "its timeline went back from %d to %d events", was.events, c.Events)
	case was.state.Ended() && c.State != was.state:
		w.violate(key, "it left its end %s for %s", was.state, c.State)
	}
	if c.State == was.state {
		return
	}
	if s := w.stages[key]; s != nil && s.waitsNow() && (c.State == correlation.Done || c.State == correlation.Expired || c.State == correlation.Withdrawn) {
		w.violate(key, "it is %s, and the request still waits in Entra", c.State)
	}
	events, err := w.store.Timeline(context.Background(), k)
	if err != nil {
		w.violate(key, "its timeline cannot be read: %v", err)
		return
	}
	w.timeline(key, c, events)
}

// timeline holds that there are no gaps in it and only legal moves.
func (w *world) timeline(key string, c *correlation.Correlation, events []correlation.Event) {
	state := correlation.State("")
	for i, e := range events {
		switch {
		case e.Seq != i+1:
			w.violate(key, "event %d of its timeline has the number %d", i+1, e.Seq)
		case e.From != state:
			w.violate(key, "event %d leaves %q, and the state was %q", e.Seq, e.From, state)
		case e.Kind == correlation.EventMove && i > 0 && !e.From.MayBecome(e.To):
			w.violate(key, "event %d moves from %s to %s", e.Seq, e.From, e.To)
		case e.Kind == correlation.EventOperator && (e.By != "Pat" || e.From.Ended()):
			w.violate(key, "event %d: %s moved %s to %s", e.Seq, e.By, e.From, e.To)
		case e.Kind != correlation.EventMove && e.Kind != correlation.EventOperator && e.From != e.To:
			w.violate(key, "event %d is no move, and goes from %s to %s", e.Seq, e.From, e.To)
		}
		state = e.To
	}
	if len(events) != c.Events || state != c.State {
		w.violate(key, "%d events end in %s; the correlation has %d and is %s", len(events), state, c.Events, c.State)
	}
}

// resting says whether nothing more can happen to a stage by itself.
func (w *world) resting(s *stage) bool {
	c, err := w.store.Load(context.Background(), s.key)
	if err != nil {
		return !s.acked || w.purged(s)
	}
	switch {
	case c.Settled():
		return true
	case s.says: // of a request that waits without saying so in its callout, Graph is asked when its tickets have closed
		return false
	case c.State.NeedsPerson():
		return true
	}
	return c.State == correlation.Open && slices.ContainsFunc(c.Tickets, func(t correlation.Ticket) bool {
		r := w.bySysID[t.SysID]
		return r != nil && r.truth == correlation.Pending && s.abandoned
	})
}

// purged says whether a stage instance may be gone, since it ended long enough ago.
func (w *world) purged(s *stage) bool {
	v := w.views[s.key.String()]
	return v.settled && w.policy.Retention > 0 && time.Since(v.since) >= w.policy.Retention
}

// finish holds at the end what must be true of every stage instance, in whatever way it ended.
func (w *world) finish() {
	open, ended := w.lists()
	for _, s := range w.begun {
		w.finished(s, open, ended)
	}
	for key := range open {
		if s := w.stages[key]; s == nil {
			w.violate(key, "it is listed as open, and nobody called for it")
		}
	}
	poison, err := w.queue.Queues().Get(context.Background(), w.queue.PoisonName(), 32, time.Second)
	if err != nil && !fault.Is(err, fault.NotFound) || len(poison) > 0 {
		w.violate("", "%d messages are still in the poison queue: %v", len(poison), err)
	}
	kept, err := w.store.Unreadable(context.Background())
	if err != nil || len(kept) != w.littered {
		w.violate("", "of %d messages that nobody can read %d are kept: %v", w.littered, len(kept), err)
	}
}

func (w *world) lists() (open, ended map[string]correlation.Summary) {
	open, ended = map[string]correlation.Summary{}, map[string]correlation.Summary{}
	all := func(into map[string]correlation.Summary, list func(cursor string) ([]correlation.Summary, string, error)) {
		for cursor := ""; ; {
			page, next, err := list(cursor)
			if err != nil {
				panic(err)
			}
			for _, s := range page {
				if _, twice := into[s.Key.String()]; twice {
					w.violate(s.Key.String(), "it is listed twice")
				}
				into[s.Key.String()] = s
			}
			if cursor = next; next == "" {
				return
			}
		}
	}
	all(open, func(cursor string) ([]correlation.Summary, string, error) {
		return w.store.Open(context.Background(), cursor, 0)
	})
	for day := w.began.Add(-24 * time.Hour); !day.After(time.Now().Add(24 * time.Hour)); day = day.Add(24 * time.Hour) {
		all(ended, func(cursor string) ([]correlation.Summary, string, error) {
			return w.store.Ended(context.Background(), day, cursor, 0)
		})
	}
	return open, ended
}

func (w *world) finished(s *stage, open, ended map[string]correlation.Summary) {
	key := s.key.String()
	c, err := w.store.Load(context.Background(), s.key)
	if err != nil && w.purged(s) {
		w.ends["removed later"]++
		w.ends[string(w.views[key].state)]++
		if _, isOpen := open[key]; isOpen {
			w.violate(key, "it was removed, and is listed as open")
		}
		return
	}
	if err != nil {
		if s.acked {
			w.violate(key, "202 was answered, and it is not stored: %v", err)
		}
		w.ends["never remembered, never acknowledged"]++
		return
	}
	w.ends[string(c.State)]++
	events, err := w.store.Timeline(context.Background(), s.key)
	if err != nil {
		w.violate(key, "its timeline cannot be read: %v", err)
	}
	w.timeline(key, c, events)

	// It has ended, or is to be seen.
	o, isOpen := open[key]
	e, isEnded := ended[key]
	switch {
	case c.Settled() && (isOpen || !isEnded):
		w.violate(key, "it is %s; listed as open: %t, as ended: %t", c.State, isOpen, isEnded)
	case !c.Settled() && (!isOpen || isEnded):
		w.violate(key, "it is %s and not settled; listed as open: %t, as ended: %t", c.State, isOpen, isEnded)
	case isOpen && (o.State != c.State || o.Reason == "" && c.State.NeedsPerson() || o.Advice == "" && c.State.NeedsPerson()):
		w.violate(key, "it is %s, and the list says %s: %q, %q", c.State, o.State, o.Reason, o.Advice)
	case isEnded && e.State != c.State:
		w.violate(key, "it is %s, and the list says %s", c.State, e.State)
	case c.State.Ended() && c.Reason == "":
		w.violate(key, "it is %s without a reason", c.State)
	case s.says && !c.Settled():
		w.violate(key, "it is %s, days after everything was well and its time over", c.State)
	case !c.Settled() && !w.resting(s):
		w.violate(key, "it is %s, days after everything was well", c.State)
	}

	// The tickets that it has are the rule's, each once.
	for i := range c.Tickets {
		t, list := c.Tickets[i], w.byID[s.key.TicketID(i)]
		list = slices.DeleteFunc(slices.Clone(list), func(r *record) bool { return r.deleted && r.SysID != t.SysID })
		if len(list) > 1 || t.SysID != "" && (len(list) != 1 || list[0].SysID != t.SysID || list[0].Number != t.Number) {
			w.violate(key, "ticket %d is %q, and ServiceNow has %d", i+1, t.Number, len(list))
		}
		open := t.Outcome == correlation.Pending || t.Outcome == ""
		if (c.State == correlation.Expired || c.State == correlation.Withdrawn) && t.SysID != "" && open && (!t.Told || len(list[0].notes) == 0 && !list[0].deleted) {
			w.violate(key, "it is %s, and ticket %s was not told", c.State, t.Number)
		}
		if t.SysID != "" && len(list) == 1 {
			w.writtenBack(s, c, t, list[0])
		}
	}
	if c.State == correlation.Held && len(c.Owing()) > 0 {
		w.violate(key, "it is held, and days after everything was well its tickets do not know")
	}
	for i := range s.tickets {
		if list := w.byID[s.key.TicketID(i)]; len(list) > 0 && i >= len(c.Tickets) {
			w.violate(key, "ServiceNow has ticket %d, of which the correlation does not know", i+1)
		}
	}

	// What it says that Graph was told is what Graph was told.
	granted := slices.Contains(s.taken, workflow.Resume)
	denied := len(s.taken) > 0 && !granted
	switch {
	case c.State == correlation.Resumed && !granted && !s.other:
		w.violate(key, "it is resumed, and Graph took no such answer")
	case c.State == correlation.Denied && !denied && !s.other:
		w.violate(key, "it is denied, and Graph took no such answer")
	case granted && c.State == correlation.Denied, denied && c.State == correlation.Resumed:
		w.violate(key, "it is %s, and Graph was told %s", c.State, s.taken)
	case c.State == correlation.Done && (len(s.taken) > 0 || s.waits && !s.over && s.instance == waiting):
		w.violate(key, "it is done; Graph was told %s, and the request is %s", s.taken, s.instance)
	case len(s.taken) > 0 && !c.State.Ended():
		w.violate(key, "it is %s, and Graph was told %s", c.State, s.taken)
	case len(s.taken) > 0 && c.State != correlation.Resumed && c.State != correlation.Denied:
		// Where Graph does not list the callout instance, an answer of ours whose own answer was lost cannot be told from somebody else's; nor can it where a
		// person stopped it meanwhile.
		stopped := slices.ContainsFunc(events, func(e correlation.Event) bool { return e.From == correlation.Resuming && e.To.NeedsPerson() })
		if s.listed && !s.deleted && !stopped {
			w.violate(key, "it is %s, and Graph was told %s", c.State, s.taken)
		}
		w.ends["told, and recorded as "+string(c.State)]++
	}
}

// mostNotes is how often the same note may stand on a ticket, with all that can go wrong: answers that are lost, and processes that die over a note.
const mostNotes = 6

// writtenBack holds what must stand on a ticket in the end.
func (w *world) writtenBack(s *stage, c *correlation.Correlation, t correlation.Ticket, r *record) {
	key := s.key.String()
	count := map[string]int{}
	for _, n := range r.notes {
		count[n]++
	}
	for n, times := range count {
		w.mostNotes = max(w.mostNotes, times)
		if times > mostNotes {
			w.violate(key, "on ticket %s %d times: %q", t.Number, times, n)
		}
	}
	closed := t.Outcome != correlation.Pending && t.Outcome != ""
	switch c.State {
	case correlation.Resumed, correlation.Denied, correlation.Done:
		if closed && s.after != quiet && !r.deleted && (t.Owed || t.Noted != c.State) {
			w.violate(key, "it is %s, and ticket %s was not told what became of it: %+v", c.State, t.Number, t)
		}
	case correlation.Expired, correlation.Withdrawn:
		// A ticket that could not be read at that time got a note only.
		if s.after == full && t.Told && r.truth == correlation.Pending && !r.deleted && !r.again && !r.cursed {
			w.violate(key, "it is %s, and ticket %s is still open", c.State, t.Number)
		}
	}
	if s.after == full && t.Table == "sc_req_item" && !r.deleted && (!r.marked || r.Fields["assignment_group"] == "") {
		w.violate(key, "the order %s was not finished: %v", t.Number, r.Fields)
	}
}

// A log is where the workflow's log goes: nobody reads it but for what must not be in it.
type log struct{ w *world }

func (l log) Write(line []byte) (int, error) {
	l.w.logged++
	for _, secret := range [][]byte{[]byte(personal), []byte(family), []byte(answerIs)} {
		if bytes.Contains(line, secret) {
			l.w.violate("", "personal data in the log: %s", line)
		}
	}
	return len(line), nil
}

// story is what is known about a correlation, for whoever has to find out why it went wrong.
func (w *world) story(key string) string {
	var b strings.Builder
	k, err := correlation.ParseTicketID(key)
	if err != nil {
		return ""
	}
	if s := w.stages[key]; s != nil {
		fmt.Fprintf(&b, "stage %s of a %s: waits %t, says so %t (%s), instance %s, request %s/%s over %t; %d tickets, %s when rejected, acknowledged %t, by hand %t, Graph took %s\n",
			s.name, s.kind, s.waits, s.says, s.wait, s.instance, s.state, s.status, s.over, s.tickets, s.onRejected, s.acked, s.byHand, s.taken)
	}
	for _, r := range w.records {
		if strings.HasPrefix(r.CorrelationID, key) {
			fmt.Fprintf(&b, "ticket %s %s: %s, deleted %t, read as done %t, %d notes\n", r.Number, r.CorrelationID, r.truth, r.deleted, r.done, len(r.notes))
		}
	}
	if c, err := w.store.Load(context.Background(), k); err == nil {
		fmt.Fprintf(&b, "state %s since %s: %s; attempts %d, next %s, lease %s until %s, due %s\n", c.State, c.Since.Sub(w.began), c.Reason, c.Attempts,
			c.NextAttempt.Sub(w.began), c.LeaseOwner, c.LeaseUntil.Sub(w.began), c.Due.Sub(w.began))
	}
	events, _ := w.store.Timeline(context.Background(), k)
	for _, e := range events {
		fmt.Fprintf(&b, "%4d %16s %-8s %s→%s %s: %s\n", e.Seq, e.At.Sub(w.began), e.Kind, e.From, e.To, e.By, e.Text)
	}
	if t := w.last[key]; t != nil {
		b.WriteString("the last calls about it:\n")
		for _, m := range t.all() {
			fmt.Fprintln(&b, m)
		}
	}
	return b.String()
}
