package servicenow

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Ticket is a task record as the instance has it.
type Ticket struct {
	Table         string // its own class
	SysID         string
	Number        string
	CorrelationID string
	Created       time.Time
	Active        bool
	Fields        map[string]string // values, not display values
	Notes         []Note            // newest first
}

// Note is an entry of a journal field.
type Note struct{ Element, Text, By, At string }

// ErrNoTicket says that there is no such ticket, or no longer.
var ErrNoTicket = errors.New("there is no such ticket")

// Tickets lists the tickets of a table and of those that extend it, oldest first; "task" is all.
func (i *Instance) Tickets(table string) []Ticket {
	return i.tickets(func(rec *record) bool { return rec.table.is(table) })
}

// ByCorrelation lists the tickets that carry the correlation id, oldest first.
func (i *Instance) ByCorrelation(id string) []Ticket {
	return i.tickets(func(rec *record) bool { return id != "" && rec.fields["correlation_id"] == id })
}

func (i *Instance) tickets(wanted func(*record) bool) []Ticket {
	i.mu.Lock()
	defer i.mu.Unlock()
	list := []Ticket{}
	for _, rec := range i.records {
		if rec.table.is("task") && wanted(rec) {
			list = append(list, i.ticket(rec))
		}
	}
	slices.SortFunc(list, func(a, b Ticket) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Number, b.Number))
	})
	return list
}

// Ticket is the ticket with that sys_id, or [ErrNoTicket].
func (i *Instance) Ticket(sysID string) (Ticket, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	rec, err := i.task(sysID)
	if err != nil {
		return Ticket{}, err
	}
	return i.ticket(rec), nil
}

func (i *Instance) task(sysID string) (*record, error) {
	rec := i.records[sysID]
	if rec == nil || !rec.table.is("task") {
		return nil, fmt.Errorf("%w: %s", ErrNoTicket, sysID)
	}
	return rec, nil
}

func (i *Instance) ticket(rec *record) Ticket {
	t := Ticket{
		Table: rec.table.name, SysID: rec.id(), Number: rec.fields["number"], CorrelationID: rec.fields["correlation_id"],
		Created: rec.created, Active: rec.active(), Fields: maps.Clone(rec.fields),
	}
	for _, entry := range i.journal(rec.id(), "") {
		f := entry.fields
		t.Notes = append(t.Notes, Note{Element: f["element"], Text: f["value"], By: f["sys_created_by"], At: f["sys_created_on"]})
	}
	return t
}

// Creations is how many records ever carried each correlation id, deleted ones included: more than one is a ticket too many.
func (i *Instance) Creations() map[string]int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return maps.Clone(i.creations)
}

// Insert makes a record as somebody else on the instance would, and returns its sys_id.
func (i *Instance) Insert(table string, values map[string]string) (sysID string, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	t := i.tables[table]
	if t == nil || t.virtual {
		return "", fmt.Errorf("there is no table %q to insert into", table)
	}
	return i.insert(t, values, systemUser).id(), nil
}

// Closing is how a ticket is closed.
type Closing struct {
	// Outcome writes the fields that people use in that table; empty writes only Fields and Notes.
	Outcome Outcome
	// Notes are the close notes.
	Notes string
	// Fields are written too, after those of Outcome.
	Fields map[string]string
	// Silent changes the ticket as a script with setWorkflow(false) does: nobody is notified.
	Silent bool
	// By is the User ID of who closes; default "system".
	By string
}

// Close closes a ticket, or changes it in any other way. The error is [ErrNoTicket] or says that the table has no such outcome.
func (i *Instance) Close(sysID string, how Closing) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	rec, err := i.task(sysID)
	if err != nil {
		return fmt.Errorf("closing a ticket: %w", err)
	}
	values := map[string]string{}
	if how.Outcome != "" {
		outcome, known := rec.table.outcomes[how.Outcome]
		if !known {
			return fmt.Errorf("closing a ticket: %s has no outcome %q", rec.table.name, how.Outcome)
		}
		maps.Copy(values, outcome)
	}
	if how.Notes != "" {
		values["close_notes"] = how.Notes
	}
	maps.Copy(values, how.Fields)
	i.change(rec, values, cmp.Or(how.By, systemUser), false, how.Silent)
	return nil
}

// Delete removes a ticket; nobody is notified. The error is [ErrNoTicket].
func (i *Instance) Delete(sysID string) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	rec, err := i.task(sysID)
	if err != nil {
		return fmt.Errorf("deleting a ticket: %w", err)
	}
	i.remove(rec)
	return nil
}

// CloseResolved is the scheduled job that closes incidents which were resolved at least this long ago; ServiceNow's own
// waits a week.
func (i *Instance) CloseResolved(after time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, rec := range i.records {
		resolved, err := time.Parse(timeFormat, rec.fields["resolved_at"])
		if rec.table.is("incident") && rec.fields["state"] == "6" && err == nil && time.Since(resolved) >= after {
			i.change(rec, map[string]string{"state": "7"}, systemUser, false, false)
		}
	}
}
