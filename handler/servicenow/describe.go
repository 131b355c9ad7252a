package servicenow

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"ticketbridge/handler/fault"
)

// A Table is what a table of the instance is like, as far as reading shows it. Whether the integration user may create and write records of it shows only
// when it does.
type Table struct {
	Name    string
	Label   string
	Extends []string          // the tables that it extends, nearest first
	Columns map[string]Column // by name, those of the tables it extends as well
	Records Records           // whether we are shown its records
}

// Records says what we see of a table's records.
type Records string

// What is seen of them.
const (
	Shown  Records = "shown"  // at least one
	Hidden Records = "hidden" // there are some, and the first is not shown to us; it may be that only our own are
	None   Records = "none"   // there are none, or so it looks
)

// A Column is an entry of the instance's dictionary.
type Column struct {
	Name, Label string
	Type        string // as ServiceNow names it: string, integer, boolean, reference, glide_date_time, journal_input, …
	MaxLength   int    // in characters; 0 when it does not say
	Mandatory   bool   // forms insist on it; the Table API does not, unless a data policy does
	ReadOnly    bool
	Reference   string // the table that a reference points to
}

// maxParents ends the walk from a table to those it extends: task is two or three steps away.
const maxParents = 20

// maxColumns bounds how many columns are read; a task table has some two hundred.
const maxColumns = 2000

// Describe reads what a table is like: its columns and those of the tables that it extends, from the instance's dictionary. It is fault.Misconfigured when
// there is no such table, and fault.Forbidden when we may read neither the table nor its description. It changes nothing.
func (c *Client) Describe(ctx context.Context, table string) (Table, error) {
	const op = "describe table"
	out := Table{Name: table, Columns: map[string]Column{}}
	records, err := c.seen(ctx, op, table)
	if err != nil {
		return out, err
	}
	out.Records = records
	line, err := c.ancestry(ctx, op, &out)
	if err != nil {
		return out, err
	}
	rows, _, err := c.all(ctx, op, "sys_dictionary", "nameIN"+strings.Join(line, ",")+"^elementISNOTEMPTY^active=true",
		"name,element,column_label,internal_type,max_length,mandatory,read_only,reference", maxColumns)
	if err != nil {
		return out, unreadable(err)
	}
	slices.SortStableFunc(rows, func(a, b map[string]string) int { return slices.Index(line, a["name"]) - slices.Index(line, b["name"]) })
	for _, row := range rows {
		name := row["element"]
		if _, nearer := out.Columns[name]; nearer || name == "" || !slices.Contains(line, row["name"]) {
			continue
		}
		length, _ := strconv.Atoi(row["max_length"])
		out.Columns[name] = Column{
			Name: name, Label: row["column_label"], Type: row["internal_type"], MaxLength: max(0, length),
			Mandatory: row["mandatory"] == "true", ReadOnly: row["read_only"] == "true", Reference: row["reference"],
		}
	}
	if len(out.Columns) == 0 {
		return out, unreadable(&fault.Error{Op: op, Reason: fault.Forbidden, Detail: "the dictionary shows no columns of " + table})
	}
	return out, nil
}

// seen says whether we are shown records of a table. There being no such table is fault.Misconfigured.
func (c *Client) seen(ctx context.Context, op, table string) (Records, error) {
	rows, a, err := c.list(ctx, op, table, "", "sys_id", 1)
	switch {
	case err != nil:
		return "", err
	case len(rows) > 0:
		return Shown, nil
	case a.hidden():
		return Hidden, nil
	default:
		return None, nil
	}
}

// ancestry fills in the table's label and what it extends, and returns the table and all of these, nearest first.
func (c *Client) ancestry(ctx context.Context, op string, t *Table) ([]string, error) {
	line := []string{t.Name}
	query, want := "name="+t.Name, t.Name
	for range maxParents {
		rows, _, err := c.list(ctx, op, "sys_db_object", query, "sys_id,name,label,super_class", 1)
		if err != nil {
			return nil, unreadable(err)
		}
		if len(rows) == 0 || want != "" && rows[0]["name"] != want || want == "" && !strings.EqualFold("sys_id="+rows[0]["sys_id"], query) {
			return nil, unreadable(&fault.Error{Op: op, Reason: fault.Forbidden, Detail: "sys_db_object does not show us " + line[len(line)-1] + " or what it extends"})
		}
		if want != "" {
			t.Label, want = rows[0]["label"], ""
		} else {
			line = append(line, rows[0]["name"])
		}
		parent := rows[0]["super_class"]
		if !validSysID(parent) {
			break
		}
		query = "sys_id=" + parent
	}
	t.Extends = line[1:]
	return line, nil
}

// unreadable adds the advice for what may not be read of the instance's own description.
func unreadable(err error) error {
	e, ok := err.(*fault.Error) //nolint:errorlint // made here or by a call, and not wrapped
	if ok && (e.Reason == fault.Forbidden || e.Reason == fault.Misconfigured) {
		e.Advice = "Let whoever checks read sys_db_object and sys_dictionary (the role personalize_dictionary does); the integration user needs neither for its work."
	}
	return err
}

// list reads up to limit records of a table.
func (c *Client) list(ctx context.Context, op, table, query, fields string, limit int) ([]map[string]string, *answer, error) {
	k := call{op: op, method: http.MethodGet, table: table, success: http.StatusOK, query: url.Values{
		"sysparm_fields": {fields}, "sysparm_limit": {strconv.Itoa(limit)}, "sysparm_exclude_reference_link": {"true"}, "sysparm_display_value": {"false"},
	}}
	if query != "" {
		k.query.Set("sysparm_query", query)
	}
	a, err := c.do(ctx, k)
	if err != nil {
		return nil, nil, err
	}
	rows, err := a.records()
	return rows, a, err
}

// all is list for what counts as not there when it is missing: as many records as the limit are an error.
func (c *Client) all(ctx context.Context, op, table, query, fields string, limit int) ([]map[string]string, *answer, error) {
	rows, a, err := c.list(ctx, op, table, query, fields, limit)
	if err == nil && len(rows) >= limit {
		err = a.unusable("there are more records of " + table + " than are read")
	}
	return rows, a, err
}
