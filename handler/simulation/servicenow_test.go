package simulation

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/ticket"
)

// A record is a ticket in the model of ServiceNow.
type record struct {
	ticket.Record
	truth   correlation.Outcome // what came of the work, whatever the columns say
	deleted bool
	done    bool // it was read while the work was done
	cursed  bool // it cannot be read while the storm lasts
	notes   []string
	marked  bool // its correlation_id is on it; without, an order is found by its variable
	again   bool // it was opened again
}

// tickets are workflow.Tickets on the model, for one instance.
type tickets struct{ w *world }

func (t tickets) Find(ctx context.Context, table, id string) (out []ticket.Record, err error) {
	var unmarked []*record
	err = t.w.pass(ctx, &t.w.servicenow, call{op: "find", about: keyOf(id)}, func() error {
		out, unmarked = nil, nil
		for _, r := range t.w.byID[id] {
			if r.Table == table && !r.deleted {
				out = append(out, r.seen())
				if !r.marked {
					unmarked = append(unmarked, r)
				}
			}
		}
		return nil
	})
	for _, r := range unmarked { // as the client does
		if err != nil {
			break
		}
		t.w.count("ServiceNow: an order found by its variable")
		if err = t.mark(ctx, r, nil); fault.Is(err, fault.Unclear) {
			err = &fault.Error{Op: "find", Reason: fault.Unreachable, Detail: "cannot be marked", Err: err}
		}
	}
	return out, err
}

// mark gives an order its correlation_id and columns.
func (t tickets) mark(ctx context.Context, r *record, fields map[string]string) error {
	return t.w.pass(ctx, &t.w.servicenow, call{op: "mark", about: keyOf(r.CorrelationID), changes: true}, func() error {
		if r.deleted {
			return &fault.Error{Op: "mark", Reason: fault.NotFound}
		}
		r.marked = true
		for column, value := range fields {
			r.Fields[column] = value
		}
		return nil
	})
}

func (t tickets) Create(ctx context.Context, d ticket.Draft, id string) (out ticket.Record, err error) {
	w := t.w
	s := w.stages[keyOf(id)]
	if s != nil {
		w.asPlanned(s, d, id)
	}
	var made *record
	err = w.pass(ctx, &w.servicenow, call{op: "create", about: keyOf(id), changes: true}, func() error {
		switch {
		case s == nil:
			w.violate("", "a ticket for %s, of which nobody called", id)
			return nil
		case s.refuseCreate && time.Now().Before(w.calm):
			w.count("ServiceNow: a business rule refuses a ticket")
			return &fault.Error{Op: "create", Reason: fault.Refused, Detail: "a business rule said no", Advice: "Mend the business rule."}
		}
		w.numbers++
		r := &record{truth: correlation.Pending, Record: ticket.Record{
			Table: d.Table, SysID: fmt.Sprintf("%016x%016x", w.rng.Uint64(), w.rng.Uint64()), Number: fmt.Sprintf("T%06d", w.numbers), CorrelationID: id,
		}}
		r.Fields = columns(r.Table, correlation.Pending, w)
		if r.marked = d.Item == nil; r.marked {
			for column, value := range d.Fields {
				r.Fields[column] = value
			}
		}
		w.byID[id] = append(w.byID[id], r)
		w.bySysID[r.SysID] = r
		w.records = append(w.records, r)
		w.one(id)
		r.cursed = w.chance(0.03)
		w.fulfil(s, r)
		out, made = r.seen(), r
		return nil
	})
	if err != nil || d.Item == nil || made == nil {
		return out, err
	}
	if err = t.mark(ctx, made, d.Fields); fault.ReasonOf(err).Temporary() {
		err = &fault.Error{Op: "create", Reason: fault.Unclear, Detail: "it was ordered, and then", Err: err}
	}
	return out, err
}

// asPlanned holds that what is created is what the rule said, however often the plan was read back.
func (w *world) asPlanned(s *stage, d ticket.Draft, id string) {
	ordered := id == s.key.TicketID(0) && s.after == full
	switch i := d.Item; {
	case ordered != (i != nil):
		w.violate(s.key.String(), "ticket %s is ordered: %t", id, i != nil)
	case ordered && (i.Item != badge || i.Quantity != s.tickets || i.Reference != reference || i.Variables["why"] != answerIs || i.RequestedFor == nil || i.RequestedFor.PrincipalName == ""):
		w.violate(s.key.String(), "ticket %s is ordered as %+v", id, i)
	case ordered && (d.Fields["assignment_group"] == "" || d.Fields["u_other_group"] != "" || d.Fields["short_description"] == ""):
		w.violate(s.key.String(), "ticket %s is ordered with %v", id, d.Fields)
	}
}

// one holds that there is one ticket with a correlation_id. One that was deleted before anybody could put it on record is not to be found, and so is
// created anew.
func (w *world) one(id string) {
	n := len(w.byID[id])
	for _, r := range w.byID[id] {
		if r.deleted && n > 1 {
			n--
			w.count("tickets created anew, since the first was deleted before it was on record")
		}
	}
	if n > 1 {
		w.violate(keyOf(id), "%d tickets with the correlation_id %s", n, id)
	}
}

func (t tickets) Read(ctx context.Context, table, sysID string) (out ticket.Record, err error) {
	w := t.w
	r := w.bySysID[sysID]
	c := call{op: "read"}
	if r != nil {
		c.about = keyOf(r.CorrelationID)
	}
	err = w.pass(ctx, &w.servicenow, c, func() error {
		switch {
		case r == nil, r.deleted, r.Table != table:
			return &fault.Error{Op: "read", Reason: fault.NotFound}
		case r.cursed && time.Now().Before(w.calm):
			w.count("ServiceNow: a ticket that cannot be read")
			return &fault.Error{Op: "read", Reason: pick(w, fault.Unreachable, fault.Forbidden), Detail: "not this one"}
		}
		r.done = r.done || r.truth == correlation.Fulfilled
		out = r.seen()
		return nil
	})
	return out, err
}

func (t tickets) Note(ctx context.Context, table, sysID, text string) error {
	w := t.w
	r := w.bySysID[sysID]
	c := call{op: "note", changes: true}
	if r != nil {
		c.about = keyOf(r.CorrelationID)
	}
	return w.pass(ctx, &w.servicenow, c, func() error {
		if r == nil || r.deleted || r.Table != table {
			return &fault.Error{Op: "note", Reason: fault.NotFound}
		}
		w.noted(r, text)
		return nil
	})
}

// noted puts a work note on a ticket, and holds that it is one that belongs there now.
func (w *world) noted(r *record, text string) {
	r.notes = append(r.notes, text)
	s := w.stages[keyOf(r.CorrelationID)]
	outcome := strings.Contains(text, "was told") || strings.Contains(text, "has to look") || strings.Contains(text, "is on record")
	switch reminder := strings.Contains(text, "stops waiting"); {
	case s == nil:
		w.violate("", "a note on a ticket that is nobody's: %q", text)
	case reminder && (s.after != full || s.deadline.IsZero()):
		w.violate(s.key.String(), "ticket %s is reminded", r.Number)
	case reminder && (time.Now().After(s.deadline.Add(15*time.Minute)) || time.Now().Before(s.deadline.Add(-remind-15*time.Minute))):
		w.violate(s.key.String(), "ticket %s is reminded of %s", r.Number, s.deadline)
	case outcome && s.after == quiet:
		w.violate(s.key.String(), "ticket %s gets a note that its rule does not want: %q", r.Number, text)
	case reminder:
		w.count("notes: reminders")
	case outcome:
		w.count("notes: outcomes")
	default:
		w.count("notes: endings")
	}
}

func (t tickets) FindUser(ctx context.Context, principalName, _ string) (sysID string, found bool, err error) {
	err = t.w.pass(ctx, &t.w.servicenow, call{op: "find user"}, func() error {
		found = strings.HasSuffix(principalName, personal)
		sysID = strings.Repeat("ab", 16)
		return nil
	})
	return sysID, found, err
}

func (t tickets) FindGroup(ctx context.Context, name string) (sysID string, found bool, err error) {
	err = t.w.pass(ctx, &t.w.servicenow, call{op: "find group"}, func() error {
		sysID, found = strings.Repeat("cd", 16), name == desk
		return nil
	})
	return sysID, found, err
}

func (t tickets) Update(ctx context.Context, table, sysID string, fields map[string]string) error {
	r := t.w.bySysID[sysID]
	c := call{op: "update", changes: true}
	if r != nil {
		c.about = keyOf(r.CorrelationID)
	}
	return t.w.pass(ctx, &t.w.servicenow, c, func() error {
		if r == nil || r.deleted || r.Table != table {
			return &fault.Error{Op: "update", Reason: fault.NotFound}
		}
		for column, value := range fields {
			if column == "work_notes" {
				t.w.noted(r, value)
				continue
			}
			r.Fields[column] = value
		}
		switch {
		case fields["active"] != "false": // the columns of an order
		case r.truth == correlation.Pending:
			t.w.count("tickets closed with their request")
			r.truth = correlation.Rejected
		default:
			t.w.count("tickets that somebody closed between our look and our closing them")
		}
		return nil
	})
}

// seen is the record as an answer holds it.
func (r *record) seen() ticket.Record {
	out := r.Record
	out.Fields = map[string]string{}
	for k, v := range r.Fields {
		out.Fields[k] = v
	}
	return out
}

// columns are what a ticket's columns hold when the work came to that.
func columns(table string, truth correlation.Outcome, w *world) map[string]string {
	f := map[string]string{"sys_class_name": table, "active": "true", "approval": "approved"}
	column := "state"
	if table == "sc_request" {
		column = "request_state"
	}
	words := map[string]map[correlation.Outcome][]string{
		"sc_request": {
			correlation.Pending: {"submitted", "in_process"}, correlation.Fulfilled: {"closed_complete"},
			correlation.Rejected: {"closed_incomplete", "closed_cancelled", "closed_rejected"}, correlation.Unknown: {"closed_otherwise"},
		},
		"incident": {
			correlation.Pending: {"1", "2", "3"}, correlation.Fulfilled: {"6", "7"}, correlation.Rejected: {"8"}, correlation.Unknown: {"42"},
		},
		"sc_task": {
			correlation.Pending: {"-5", "1", "2"}, correlation.Fulfilled: {"3"}, correlation.Rejected: {"4", "7"}, correlation.Unknown: {"42"},
		},
	}
	words["sc_req_item"] = words["sc_task"]
	f[column] = pick(w, words[table][truth]...)
	if truth != correlation.Pending {
		f["active"] = "false"
	}
	return f
}

// fulfil lets people work on a ticket: it closes after minutes, hours or days, or never, in one way or another, and some are opened again.
func (w *world) fulfil(s *stage, r *record) {
	if s.abandoned {
		return
	}
	work := w.between(30*time.Second, pick(w, 10*time.Minute, 3*time.Hour, 20*time.Hour))
	if w.chance(0.1) {
		work = w.between(time.Hour, 10*24*time.Hour)
	}
	w.lastDeadline = later(w.lastDeadline, time.Now().Add(work+24*time.Hour)) // it may be opened once more
	w.after(work, func() { w.close(s, r) })
	if w.chance(0.05) { // somebody says that it closed, and it did not
		w.after(w.between(0, work), func() {
			w.count("notifications forged")
			w.notify(r)
		})
	}
}

// close closes a ticket, and tells the handler, as a rule.
func (w *world) close(s *stage, r *record) {
	if r.deleted || r.truth != correlation.Pending {
		return
	}
	switch n := w.rng.IntN(100); {
	case n < 62:
		r.truth = correlation.Fulfilled
	case n < 78:
		r.truth = correlation.Rejected
	case n < 88:
		r.truth = correlation.Unknown
		w.count("tickets closed in a way that nobody mapped")
	case n < 94:
		r.deleted, r.truth = true, correlation.Unknown
		w.count("tickets deleted")
	default:
		r.truth = correlation.Fulfilled
		w.count("tickets opened again")
		w.after(w.between(time.Second, time.Hour), func() {
			if r.deleted {
				return
			}
			r.truth, r.again = correlation.Pending, true
			maps.Copy(r.Fields, columns(r.Table, correlation.Pending, w))
			w.after(w.between(time.Minute, 5*time.Hour), func() { w.close(s, r) })
		})
	}
	maps.Copy(r.Fields, columns(r.Table, r.truth, w))
	if !r.marked {
		return // the companion app tells of what carries a correlation_id
	}
	switch n := w.rng.IntN(100); {
	case n < 20:
		w.count("notifications lost")
	case n < 35:
		w.count("notifications repeated")
		for range w.rng.IntN(4) + 1 {
			w.after(w.between(0, time.Minute), func() { w.notify(r) })
		}
		w.notify(r)
	case n < 45:
		w.count("notifications late")
		w.after(w.between(time.Minute, 3*time.Hour), func() { w.notify(r) })
	default:
		w.after(w.latency(), func() { w.notify(r) })
	}
}

func keyOf(ticketID string) string {
	if len(ticketID) < 73 {
		return ""
	}
	return ticketID[:73]
}
