package servicenow

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// systemUser is who changes records when no caller does.
const systemUser = "system"

// timeFormat is how ServiceNow writes a time, in UTC.
const timeFormat = "2006-01-02 15:04:05"

type record struct {
	table     *table
	fields    map[string]string
	variables map[string]string // of a requested item that was ordered
	ordered   bool              // it came from the catalog, so its item's flow watches over it
	created   time.Time
}

func (rec *record) id() string { return rec.fields["sys_id"] }

func (rec *record) active() bool { return rec.fields["active"] == "true" }

// closed is what the rule that notifies takes for closed: not active, or an incident that is resolved.
func (rec *record) closed() bool {
	return !rec.active() || rec.table.is("incident") && rec.fields["state"] == "6"
}

// insert makes a record of the given values, which go through the same rules as an update's. The lock is held.
func (i *Instance) insert(t *table, values map[string]string, by string) *record {
	now := time.Now()
	stamp := now.UTC().Format(timeFormat)
	rec := &record{table: t, fields: map[string]string{}, created: now}
	for name, c := range t.columns {
		rec.fields[name] = c.Default
	}
	rec.fields["sys_id"] = newID()
	rec.fields["sys_created_on"], rec.fields["sys_created_by"] = stamp, by
	rec.fields["sys_updated_on"], rec.fields["sys_updated_by"] = stamp, by
	rec.fields["sys_mod_count"] = "0"
	if t.is("task") {
		rec.fields["sys_class_name"] = t.name
		rec.fields["opened_at"] = stamp
		if u := i.userNamed(by); u != nil {
			rec.fields["opened_by"] = u.id()
		}
		if t.prefix != "" {
			counter := t
			for counter.parent != nil && counter.parent.prefix == t.prefix {
				counter = counter.parent
			}
			rec.fields["number"] = fmt.Sprintf("%s%07d", t.prefix, counter.next)
			counter.next++
		}
	}
	i.records[rec.id()] = rec
	i.change(rec, values, by, true, false)
	return rec
}

// change writes values to a record: what the table does not have and what may not be written is dropped without a word,
// and so is the end of a value that is too long. Then the instance's own rules run. The lock is held.
func (i *Instance) change(rec *record, values map[string]string, by string, inserting, silent bool) {
	before := map[string]string{"state": rec.fields["state"], "request_state": rec.fields["request_state"], "correlation_id": rec.fields["correlation_id"]}
	wasActive := rec.active()
	changed := inserting
	set := func(name, value string) {
		if rec.fields[name] != value {
			rec.fields[name] = value
			changed = true
		}
	}
	for name, value := range values {
		c := rec.table.columns[name]
		if c == nil || c.readOnly {
			continue
		}
		if c.Kind == Journal {
			if value != "" {
				i.insert(i.tables["sys_journal_field"], map[string]string{"name": rec.table.name, "element_id": rec.id(), "element": name, "value": value}, by)
				changed = true
			}
			continue
		}
		if value, ok := c.accept(value); ok {
			set(name, value)
		}
	}
	if !changed {
		return
	}
	now := time.Now().UTC().Format(timeFormat)
	if !inserting {
		count, _ := strconv.Atoi(rec.fields["sys_mod_count"])
		rec.fields["sys_mod_count"] = strconv.Itoa(count + 1)
		rec.fields["sys_updated_on"], rec.fields["sys_updated_by"] = now, by
	}
	if id := rec.fields["correlation_id"]; id != "" && id != before["correlation_id"] {
		i.creations[id]++
	}
	if rec.table.is("task") {
		i.runTaskRules(rec, values, before, wasActive, by, now)
		if !silent {
			i.notifyIfClosed(rec, before, wasActive, inserting)
		}
	}
}

// runTaskRules computes what follows from a task's state, and moves the flow of an ordered item on.
func (i *Instance) runTaskRules(rec *record, values, before map[string]string, wasActive bool, by, now string) {
	f := rec.fields
	if rec.table.is("incident") {
		// The two are kept equal; whichever was written counts.
		if v, written := values["incident_state"]; written && v != before["state"] && values["state"] == "" {
			f["state"] = f["incident_state"]
		}
		f["incident_state"] = f["state"]
		if f["state"] == "6" && before["state"] != "6" {
			f["resolved_at"] = now
			if u := i.userNamed(by); u != nil {
				f["resolved_by"] = u.id()
			}
		}
	}
	if rec.table.is("sc_request") && f["request_state"] != before["request_state"] {
		switch f["request_state"] {
		case "closed_complete":
			f["state"] = "3"
		case "closed_incomplete", "closed_cancelled", "closed_rejected":
			f["state"] = "4"
		default:
			if slices.Contains(rec.table.closed, f["state"]) {
				f["state"] = "1"
			}
		}
		f["stage"] = f["request_state"]
	}
	inactive := slices.Contains(rec.table.closed, f["state"]) || strings.HasPrefix(f["request_state"], "closed_")
	_, activeWritten := values["active"]
	if f["state"] != before["state"] || f["request_state"] != before["request_state"] {
		f["active"] = strconv.FormatBool(!inactive)
	} else if activeWritten && f["active"] == "true" && inactive {
		f["active"] = "false"
	}
	switch {
	case wasActive && !rec.active():
		f["closed_at"] = now
		if u := i.userNamed(by); u != nil {
			f["closed_by"] = u.id()
		}
	case !wasActive && rec.active():
		f["closed_at"], f["closed_by"] = "", ""
	}
	if wasActive && !rec.active() && rec.ordered {
		i.moveFlowOn(rec, by)
	}
}

// moveFlowOn closes the item when its last task is closed and the request when its last item is. As flows are often
// built, an item whose task was closed incomplete is complete all the same.
func (i *Instance) moveFlowOn(rec *record, by string) {
	open := func(table, column, id string) bool {
		for _, other := range i.records {
			if other.table.name == table && other.fields[column] == id && other.active() {
				return true
			}
		}
		return false
	}
	switch rec.table.name {
	case "sc_task":
		item := i.records[rec.fields["request_item"]]
		if item != nil && item.active() && !open("sc_task", "request_item", item.id()) {
			i.change(item, map[string]string{"state": "3", "stage": "complete"}, by, false, false)
		}
	case "sc_req_item":
		request := i.records[rec.fields["request"]]
		if request == nil || !request.active() || open("sc_req_item", "request", request.id()) {
			return
		}
		outcome := "closed_complete"
		for _, other := range i.records {
			if other.table.name == "sc_req_item" && other.fields["request"] == request.id() && other.fields["state"] != "3" {
				outcome = "closed_incomplete"
			}
		}
		i.change(request, map[string]string{"request_state": outcome}, by, false, false)
	}
}

// accept is the value as the column keeps it; false when the column keeps its old one.
func (c *Column) accept(value string) (string, bool) {
	switch c.Kind {
	case Boolean:
		switch strings.ToLower(value) {
		case "true", "1":
			return "true", true
		case "false", "0", "":
			return "false", true
		}
		return "", false
	case Integer:
		if _, err := strconv.Atoi(value); err != nil && value != "" {
			return "", false
		}
		return value, true
	case Reference:
		return cut(value, 32), true
	case DateTime:
		if value == "" {
			return "", true
		}
		for _, layout := range []string{timeFormat, time.DateOnly} {
			if at, err := time.Parse(layout, value); err == nil {
				return at.Format(timeFormat), true
			}
		}
		return "", false
	}
	if c.Max <= 255 {
		return cut(value, c.Max), true
	}
	return value, true
}

func cut(s string, characters int) string {
	if utf8.RuneCountInString(s) <= characters {
		return s
	}
	return string([]rune(s)[:characters])
}

// displayOf is what people see of a field.
func (i *Instance) displayOf(rec *record, name string) string {
	c, value := rec.table.columns[name], rec.fields[name]
	if c == nil {
		return ""
	}
	switch {
	case c.Kind == Reference:
		if to := i.records[value]; to != nil && to.table.is(c.Refers) {
			return to.fields[to.table.display]
		}
		return value
	case c.Kind == Journal:
		var b strings.Builder
		for _, entry := range i.journal(rec.id(), name) {
			fmt.Fprintf(&b, "%s - %s (%s)\n%s\n\n", entry.fields["sys_created_on"], entry.fields["sys_created_by"], c.Label, entry.fields["value"])
		}
		return b.String()
	case name == "sys_class_name":
		return rec.table.label
	}
	for _, choice := range c.Choices {
		if choice.Value == value {
			return choice.Label
		}
	}
	return value
}

// journal lists the entries of a record's journal field, newest first.
func (i *Instance) journal(id, element string) []*record {
	var list []*record
	for _, rec := range i.records {
		if rec.table.name == "sys_journal_field" && rec.fields["element_id"] == id && (element == "" || rec.fields["element"] == element) {
			list = append(list, rec)
		}
	}
	slices.SortFunc(list, func(a, b *record) int { return b.created.Compare(a.created) })
	return list
}

// remove deletes a record. The lock is held.
func (i *Instance) remove(rec *record) { delete(i.records, rec.id()) }

// userNamed finds a user by the User ID. The lock is held.
func (i *Instance) userNamed(name string) *record {
	if name == "" {
		return nil
	}
	for _, rec := range i.records {
		if rec.table.name == "sys_user" && strings.EqualFold(rec.fields["user_name"], name) {
			return rec
		}
	}
	return nil
}
