package storage

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/workflow"
)

// What a row of the correlations table is, in its property Record.
const (
	recordCorrelation = "correlation" // row key: <stage instance id>
	recordEvent       = "event"       // row key: <stage instance id>_t_<number, eight digits>
	recordCallout     = "callout"     // row key: <stage instance id>_c
)

const (
	proseUnits  = 16000 // sentences are clipped to this, so that a long error text cannot keep a correlation from being stored
	ticketUnits = 30000 // of the tickets' JSON in one property
	ticketParts = 8     // properties that the tickets may take
)

// noTime stands for the zero time where a property must have a value: Table Storage knows no earlier one.
var noTime = minTime

// A record carries fields to or from the properties of an entity: each field is named once, for both directions.
type record struct {
	props   map[string]any
	writing bool
	merging bool // absent properties would keep what they held, so every field is written
	err     error
}

func reading(e entity) *record { return &record{props: e.props} }

func writing(kind string) *record {
	return &record{props: map[string]any{"Record": kind}, writing: true}
}

func (r *record) bad(name string) {
	if r.err == nil {
		r.err = &fault.Error{Op: "read entity", Reason: fault.Internal, Field: name, Detail: fmt.Sprintf("is stored as %T", r.props[name])}
	}
}

// text carries a string; one that is too long to be stored is found by checkEntity.
func text[T ~string](r *record, name string, v *T) {
	if r.writing {
		r.props[name] = clean(string(*v))
		return
	}
	switch p := r.props[name].(type) {
	case string:
		*v = T(p)
	case nil:
	default:
		r.bad(name)
	}
}

// prose carries a sentence for people.
func (r *record) prose(name string, v *string) {
	if r.writing {
		s := clip(clean(*v), proseUnits)
		v = &s
	}
	text(r, name, v)
}

func (r *record) flag(name string, v *bool) {
	if r.writing {
		r.props[name] = *v
		return
	}
	switch p := r.props[name].(type) {
	case bool:
		*v = p
	case nil:
	default:
		r.bad(name)
	}
}

func (r *record) number(name string, v *int) {
	if r.writing {
		r.props[name] = int32(min(*v, 1<<31-1)) //nolint:gosec // counts of things
		return
	}
	switch p := r.props[name].(type) {
	case int32:
		*v = int(p)
	case int64:
		*v = int(p)
	case nil:
	default:
		r.bad(name)
	}
}

func (r *record) time(name string, v *time.Time) {
	if r.writing {
		switch {
		case !v.IsZero():
			r.props[name] = instant(*v)
		case r.merging:
			r.props[name] = noTime
		}
		return
	}
	switch p := r.props[name].(type) {
	case time.Time:
		if !p.Equal(noTime) {
			*v = p
		}
	case nil:
	default:
		r.bad(name)
	}
}

// tickets carries the tickets as JSON, cut into several properties where it is long. What a newer version wrote about a ticket goes with it.
func (r *record) tickets(v *[]correlation.Ticket) {
	name := func(i int) string {
		if i == 0 {
			return "Tickets"
		}
		return "Tickets" + strconv.Itoa(i+1)
	}
	if !r.writing {
		var all string
		for i := range ticketParts {
			var part string
			text(r, name(i), &part)
			all += part
		}
		if all != "" {
			var read []storedTicket
			if err := json.Unmarshal([]byte(all), &read); err != nil && r.err == nil {
				r.err = &fault.Error{Op: "read entity", Reason: fault.Internal, Field: "Tickets", Detail: "is not the JSON of tickets", Err: err}
			}
			*v = make([]correlation.Ticket, len(read))
			for i := range read {
				(*v)[i] = correlation.Ticket(read[i])
			}
		}
		return
	}
	var parts []string
	if len(*v) > 0 {
		written := make([]storedTicket, len(*v))
		for i := range *v {
			written[i] = storedTicket((*v)[i])
		}
		b, err := json.Marshal(written)
		if err != nil {
			r.err = &fault.Error{Op: "write entity", Reason: fault.Internal, Field: "Tickets", Err: err}
			return
		}
		parts = chunks(clean(string(b)), ticketUnits)
	}
	if len(parts) > ticketParts {
		r.err = tooLarge("Tickets", fmt.Sprintf("have more than %d characters with their planned fields; they do not fit", ticketParts*ticketUnits))
		return
	}
	for i := range ticketParts {
		switch {
		case i < len(parts):
			r.props[name(i)] = parts[i]
		case r.merging:
			r.props[name(i)] = "" // what stood there when the tickets were longer
		}
	}
}

// A storedTicket is a ticket whose JSON has what this version does not know of it, too.
type storedTicket correlation.Ticket

func (t storedTicket) MarshalJSON() ([]byte, error) {
	known, err := json.Marshal(correlation.Ticket(t))
	if err != nil || len(t.Newer) == 0 {
		return known, err
	}
	newer, err := json.Marshal(t.Newer)
	return slices.Concat(known[:len(known)-1], []byte(","), newer[1:]), err
}

func (t *storedTicket) UnmarshalJSON(b []byte) error {
	if err := json.Unmarshal(b, (*correlation.Ticket)(t)); err != nil {
		return err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	maps.DeleteFunc(all, func(name string, _ json.RawMessage) bool { return ticketFields[strings.ToLower(name)] })
	if len(all) > 0 {
		t.Newer = all
	}
	return nil
}

// ticketFields are the names, in lower case, that this version reads of a ticket's JSON.
var ticketFields = func() map[string]bool {
	out := map[string]bool{}
	for f := range reflect.TypeFor[correlation.Ticket]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		out[strings.ToLower(name)] = true
	}
	return out
}()

func (r *record) correlation(c *correlation.Correlation) {
	r.number("Schema", &c.Schema)
	text(r, "State", &c.State)
	r.time("Since", &c.Since)
	r.prose("Reason", &c.Reason)
	r.prose("Advice", &c.Advice)
	r.time("Created", &c.Created)

	text(r, "Stage", &c.Stage)
	text(r, "RequestType", &c.RequestType)
	r.flag("Waits", &c.Waits)
	r.flag("MayWait", &c.MayWait)
	r.time("Deadline", &c.Deadline)
	text(r, "PackageID", &c.PackageID)
	text(r, "PackageName", &c.PackageName)
	text(r, "CatalogID", &c.CatalogID)
	text(r, "CatalogName", &c.CatalogName)
	text(r, "TargetName", &c.TargetName)

	text(r, "Rule", &c.Rule)
	text(r, "OnRejected", &c.OnRejected)
	r.tickets(&c.Tickets)
	text(r, "Outcome", &c.Outcome)
	text(r, "ResumeWith", &c.ResumeWith)
	text(r, "Earlier", &c.Earlier)
	text(r, "CalloutHash", &c.CalloutHash)

	r.number("Attempts", &c.Attempts)
	r.number("Deaths", &c.Deaths)
	r.time("NextAttempt", &c.NextAttempt)
	text(r, "LeaseOwner", &c.LeaseOwner)
	r.time("LeaseUntil", &c.LeaseUntil)
	r.prose("LastError", &c.LastError)
	text(r, "LastReason", &c.LastReason)
	text(r, "From", &c.From)
	r.time("Settles", &c.Settles)

	r.time("Due", &c.Due)
	r.number("Events", &c.Events)
}

func (r *record) event(e *correlation.Event) {
	r.number("Seq", &e.Seq)
	r.time("At", &e.At)
	text(r, "Kind", &e.Kind)
	text(r, "From", &e.From)
	text(r, "To", &e.To)
	text(r, "By", &e.By)
	r.prose("Text", &e.Text)
	text(r, "Reason", &e.Reason)
	text(r, "Invocation", &e.Invocation)
}

func (r *record) summary(s *correlation.Summary) {
	text(r, "State", &s.State)
	r.time("Since", &s.Since)
	r.time("Created", &s.Created)
	r.time("Deadline", &s.Deadline)
	r.time("Due", &s.Due)
	text(r, "Stage", &s.Stage)
	text(r, "RequestType", &s.RequestType)
	text(r, "PackageName", &s.PackageName)
	text(r, "CatalogName", &s.CatalogName)
	text(r, "TargetName", &s.TargetName)
	r.prose("Tickets", &s.Tickets)
	r.prose("Reason", &s.Reason)
	r.prose("Advice", &s.Advice)
	r.number("Attempts", &s.Attempts)
	text(r, "LastReason", &s.LastReason)
}

func (r *record) mark(m *workflow.Mark) {
	text(r, "Cursor", &m.Cursor)
	r.time("Begun", &m.Begun)
	r.time("Ended", &m.Ended)
	r.time("Purged", &m.Purged)
}

func (r *record) unreadable(u *workflow.Unreadable) {
	r.body("ID", &u.ID)
	r.body("Text", &u.Text)
	r.time("InsertedOn", &u.InsertedOn)
	r.time("KeptOn", &u.KeptOn)
	r.prose("Reason", &u.Reason)
}

// body carries a text that may be long and may hold anything: as bytes, in as many properties as it takes.
func (r *record) body(name string, v *string) {
	if !r.writing {
		var all []byte
		for i := 0; ; i++ {
			part, ok := r.props[name+strconv.Itoa(i)].([]byte)
			if !ok {
				break
			}
			all = append(all, part...)
		}
		*v = string(all)
		return
	}
	for i, rest := 0, []byte(*v); len(rest) > 0; i++ {
		n := min(len(rest), maxBinary)
		r.props[name+strconv.Itoa(i)] = rest[:n]
		rest = rest[n:]
	}
}

// correlationOf reads a correlation back.
func correlationOf(e entity) (*correlation.Correlation, error) {
	key, err := correlation.NewKey(e.partition, e.row)
	if err != nil {
		return nil, &fault.Error{Op: "read entity", Reason: fault.Internal, Detail: "its keys are not those of a correlation", Err: err}
	}
	c := &correlation.Correlation{Key: key}
	r := reading(e)
	r.correlation(c)
	c.Flushed(e.etag)
	return c, r.err
}

// correlationRow is the row of c; write is the id of this writing, by which it can be recognised. A merge sets every property that c has
// and keeps those it does not know.
func correlationRow(c *correlation.Correlation, write string, merge bool) (operation, error) {
	r := writing(recordCorrelation)
	r.merging = merge
	r.correlation(c)
	r.props["Write"] = write
	op := operation{entity: entity{partition: c.Key.Request, row: c.Key.Stage, props: r.props}}
	if merge {
		op.does, op.etag = merges, c.Version
	}
	return op, r.err
}

func eventRow(k correlation.Key, ev correlation.Event) operation {
	r := writing(recordEvent)
	r.event(&ev)
	return operation{entity: entity{partition: k.Request, row: fmt.Sprintf("%s_t_%08d", k.Stage, ev.Seq), props: r.props}}
}

func calloutRow(k correlation.Key, body []byte) operation {
	r := writing(recordCallout)
	size, text := len(body), string(body)
	r.number("Size", &size)
	r.body("Body", &text)
	return operation{entity: entity{partition: k.Request, row: k.Stage + "_c", props: r.props}}
}

func bodyOf(e entity) ([]byte, error) {
	r := reading(e)
	var size int
	var body string
	r.number("Size", &size)
	r.body("Body", &body)
	if r.err == nil && len(body) != size {
		r.err = &fault.Error{Op: "read callout", Reason: fault.Internal, Detail: fmt.Sprintf("%d of its %d bytes are stored", len(body), size)}
	}
	return []byte(body), r.err
}

// The partitions of the index table: what is open, what ended on the day of the given time (UTC), what the sweep remembers, and the messages
// that nobody could read.
const (
	openList       = "open"
	endedLists     = "ended-" // with the day after it
	sweepRow       = "sweep"
	unreadableRows = "unreadable"
)

func endedList(at time.Time) string { return endedLists + at.UTC().Format(time.DateOnly) }

func indexRow(k correlation.Key) string { return k.Request + "_" + k.Stage }

// listing is the row of a list. One that is due at no particular time is due at once, so that nothing is forgotten.
func listing(list string, s correlation.Summary) entity {
	r := writing("summary")
	r.merging = true
	r.summary(&s)
	if s.Due.IsZero() {
		r.props["Due"] = noTime
	}
	return entity{partition: list, row: indexRow(s.Key), props: r.props}
}

// summaryOf reads a row of a list. One with an error and a key holds what could be read, and says so.
func summaryOf(e entity) (correlation.Summary, error) {
	var s correlation.Summary
	key, err := indexKey(e.row)
	if err != nil {
		return s, &fault.Error{Op: "read list", Reason: fault.Internal, Detail: "a row key is not that of a correlation", Err: err}
	}
	s.Key = key
	r := reading(e)
	r.summary(&s)
	if r.err != nil {
		s.LastReason, s.Reason = fault.Internal, "This line of the list cannot be read: "+r.err.Error()
	}
	return s, r.err
}

func indexKey(row string) (correlation.Key, error) {
	const guid = 36
	if len(row) != 2*guid+1 || row[guid] != '_' {
		return correlation.Key{}, fmt.Errorf("%.80q is not <request id>_<stage instance id>", row)
	}
	return correlation.NewKey(row[:guid], row[guid+1:])
}
