// Package servicenow talks to a ServiceNow instance through its Table API and its Service Catalog: finds, creates, orders and reads tickets, writes work notes on
// them, looks users, groups and catalog items up, and says what a table or an item is like. Every call is made once, is bounded in time and size, and ends in a record or in a *fault.Error that says whether it may have happened.
package servicenow

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"ticketbridge/handler/fault"
	"ticketbridge/handler/ticket"
)

// A Client is one instance, as one user. It is safe for concurrent use.
type Client struct {
	base      *url.URL // without a slash at its end
	auth      authenticator
	transport http.RoundTripper
	timeout   time.Duration
	agent     string
	extra     http.Header // sent with every call
	columns   func(table string) []string
	slots     chan struct{} // one for each call that may be under way
	hide      redactor

	found lookups[string] // users and groups
	items lookups[CatalogItem]
}

// findLimit is how many records Find asks for: one is normal, a second one is worth a word, and more say that the condition was ignored.
const findLimit = 10

// correlationLimit is the length of the column correlation_id (ServiceNow's documentation of task).
const correlationLimit = 100

// Find returns the records of the table whose correlation_id is the given one, oldest first, at most ten; none is no error. A requested item that was
// ordered and did not get its correlation_id is found by the variable that carries it, and gets it.
//
// ServiceNow ignores a condition on a column that does not exist or may not be queried, and then every record matches. So correlation_id is asked for
// as well, and a record counts only when it says what was asked for. When there are records and none of them does, nothing is known: the
// ticket may lie behind the page. That is fault.Misconfigured, never "none", because "none" leads to a second ticket. Likewise ServiceNow leaves out records
// that we may not read, after counting them: an empty page of a list that is not empty is fault.Forbidden.
func (c *Client) Find(ctx context.Context, table, correlationID string) ([]ticket.Record, error) {
	k := call{op: "find ticket", method: http.MethodGet, table: table, success: http.StatusOK}
	if err := checkCorrelation(k.op, correlationID); err != nil {
		return nil, err
	}
	k.query = c.asking(table)
	k.query.Set("sysparm_query", "correlation_id="+correlationID+"^ORDERBYsys_created_on^ORDERBYsys_id") // the times are of whole seconds
	k.query.Set("sysparm_limit", strconv.Itoa(findLimit))
	a, err := c.do(ctx, k)
	if err != nil {
		return nil, err
	}
	rows, err := a.records()
	if err != nil {
		return nil, err
	}
	var found []ticket.Record
	for _, row := range rows {
		if row["correlation_id"] == correlationID && validSysID(row["sys_id"]) {
			found = append(found, c.record(table, row))
		}
	}
	switch {
	case len(found) > 0:
		return found, nil
	case len(rows) > 0:
		detail := "the condition on correlation_id was ignored: ServiceNow answered with other records"
		if _, ok := rows[0]["correlation_id"]; !ok {
			detail = "the records of " + table + " come without correlation_id: the table does not have the column, or we may not read it"
		}
		return nil, &fault.Error{
			Op: k.op, Reason: fault.Misconfigured, Field: "correlation_id", Detail: detail, Status: a.status,
			Advice: "Use a table that extends task, and let the integration user read and query correlation_id; until then no ticket is created, since it could not be found again.",
		}
	}
	if a.hidden() {
		return nil, &fault.Error{
			Op: k.op, Reason: fault.Forbidden, Detail: fmt.Sprintf("ServiceNow has records of %s with this correlation_id, and does not show them to us", table), Status: a.status,
			Advice: "Let the integration user read the records that it creates in " + table + "; then retry.",
		}
	}
	if table == orderedTable {
		return c.findOrdered(ctx, correlationID)
	}
	return nil, nil
}

// Create creates the ticket with the given correlation_id, or orders its Item from the Service Catalog, and returns it as ServiceNow has it. The call that
// creates is sent once; only after a 401, which did nothing, it is repeated with a new token.
//
// Only 201 with a record is a created ticket. A ticket that was created and cannot be found again (its correlation_id was dropped, cut or hidden, or
// it may not be read) is fault.Misconfigured or fault.Forbidden, naming it, and not fault.Unclear: looking would not find it, so that each further
// attempt would create another one.
func (c *Client) Create(ctx context.Context, d ticket.Draft, correlationID string) (ticket.Record, error) {
	k := call{op: "create ticket", method: http.MethodPost, table: d.Table, success: http.StatusCreated, changes: true}
	if err := checkCorrelation(k.op, correlationID); err != nil {
		return ticket.Record{}, err
	}
	if d.Item != nil {
		return c.order(ctx, d, correlationID)
	}
	k.query = c.asking(d.Table)
	k.body = maps.Clone(d.Fields)
	if k.body == nil {
		k.body = map[string]string{}
	}
	k.body["correlation_id"] = correlationID
	a, err := c.do(ctx, k)
	if err != nil {
		return ticket.Record{}, err
	}
	row, err := a.record()
	if err != nil {
		return ticket.Record{}, err
	}
	if !validSysID(row["sys_id"]) {
		return ticket.Record{}, &fault.Error{
			Op: k.op, Reason: fault.Forbidden, Status: a.status,
			Detail: "ServiceNow created a record of " + d.Table + " and does not show it to us",
			Advice: "Let the integration user read the records that it creates in " + d.Table + "; then retry, which finds the record by its correlation_id.",
		}
	}
	return c.carrying(a, row, correlationID, "created")
}

// carrying returns the record of the answer's row, which was made as the word says, provided it carries the correlation_id by which it is found again.
func (c *Client) carrying(a *answer, row map[string]string, correlationID, made string) (ticket.Record, error) {
	table := a.table
	rec := c.record(table, row)
	kept, ok := row["correlation_id"]
	if ok && kept == correlationID {
		return rec, nil
	}
	name := rec.SysID
	if number.MatchString(rec.Number) {
		name = rec.Number
	}
	detail := fmt.Sprintf("%s was %s, and its correlation_id reads back as %d characters other than the %d sent", name, made, len(kept), len(correlationID))
	switch {
	case !ok:
		detail = name + " was " + made + " without a correlation_id that we can read: " + table + " does not have the column, or we may not write or read it"
	case kept == "":
		detail = name + " was " + made + ", and its correlation_id is empty: a business rule cleared it, or we may not write it"
	case strings.HasPrefix(correlationID, kept):
		detail = fmt.Sprintf("%s was %s, and its correlation_id was cut to %d of %d characters", name, made, len(kept), len(correlationID))
	}
	return ticket.Record{}, &fault.Error{
		Op: a.op, Reason: fault.Misconfigured, Field: "correlation_id", Detail: detail, Status: a.status,
		Advice: "Make correlation_id of " + table + " a column of 100 characters that the integration user may write and read. " +
			"Then cancel this ticket, or set its correlation_id to " + correlationID + "; then retry.",
	}
}

// number is what can be the number of a ticket.
var number = regexp.MustCompile(`^[A-Za-z]{1,10}[0-9]{1,20}$`)

// Read returns the record as it is now. It is fault.NotFound when ServiceNow itself says that there is none: it was deleted, or may not be seen.
func (c *Client) Read(ctx context.Context, table, sysID string) (ticket.Record, error) {
	k := call{op: "read ticket", method: http.MethodGet, table: table, sysID: sysID, success: http.StatusOK, query: c.asking(table)}
	if err := checkSysID(k); err != nil {
		return ticket.Record{}, err
	}
	a, err := c.do(ctx, k)
	if err != nil {
		return ticket.Record{}, err
	}
	row, err := a.record()
	if err != nil {
		return ticket.Record{}, err
	}
	if !strings.EqualFold(row["sys_id"], sysID) {
		return ticket.Record{}, a.unusable("the answer is not the record that was asked for")
	}
	return c.record(table, row), nil
}

// Note adds a work note. It is sent once; after fault.Unclear it may be there.
func (c *Client) Note(ctx context.Context, table, sysID, text string) error {
	if r := []rune(text); len(r) > noteLimit {
		text = string(r[:noteLimit-1]) + "…"
	}
	return c.patch(ctx, "add work note", table, sysID, map[string]string{"work_notes": text})
}

// Update sets columns of a record. It is sent once; after fault.Unclear it may have happened, and may be repeated.
func (c *Client) Update(ctx context.Context, table, sysID string, fields map[string]string) error {
	return c.patch(ctx, "update ticket", table, sysID, fields)
}

func (c *Client) patch(ctx context.Context, op, table, sysID string, fields map[string]string) error {
	k := call{
		op: op, method: http.MethodPatch, table: table, sysID: sysID, success: http.StatusOK, changes: true,
		query: url.Values{"sysparm_fields": {"sys_id"}}, body: maps.Clone(fields),
	}
	if err := checkSysID(k); err != nil {
		return err
	}
	a, err := c.do(ctx, k)
	if err != nil {
		return err
	}
	_, err = a.record()
	return err
}

// noteLimit keeps a work note within ServiceNow's default length of a journal entry.
const noteLimit = 4000

// Link returns the address of a record for people, within the instance's own frame.
func (c *Client) Link(table, sysID string) string {
	return c.base.String() + "/nav_to.do?uri=" + url.QueryEscape("/"+table+".do?sys_id="+url.QueryEscape(sysID))
}

// asking returns the parameters that ask for the columns needed, as values rather than display values, references as plain sys_ids.
func (c *Client) asking(table string) url.Values {
	columns := []string{"sys_id", "number", "correlation_id", "sys_class_name", "state", "active", "approval", "close_code"}
	for _, name := range c.columns(table) {
		if !slices.Contains(columns, name) {
			columns = append(columns, name)
		}
	}
	return url.Values{
		"sysparm_fields":                 {strings.Join(columns, ",")},
		"sysparm_exclude_reference_link": {"true"},
		"sysparm_display_value":          {"false"},
	}
}

func (c *Client) record(table string, row map[string]string) ticket.Record {
	return ticket.Record{
		Table: table, SysID: row["sys_id"], Number: row["number"], CorrelationID: row["correlation_id"],
		Link: c.Link(table, row["sys_id"]), Fields: row,
	}
}

// checkCorrelation lets nothing into a query but what our own ids are made of. In a query of ServiceNow ^ begins another condition.
func checkCorrelation(op, id string) error {
	ok := id != "" && len(id) <= correlationLimit
	for i := range len(id) {
		ch := id[i]
		ok = ok && (ch >= '0' && ch <= '9' || ch >= 'a' && ch <= 'z' || ch >= 'A' && ch <= 'Z' || ch == '-' || ch == '/')
	}
	if !ok {
		return &fault.Error{Op: op, Reason: fault.Internal, Field: "correlation_id", Detail: "is not one of our ids"}
	}
	return nil
}

func checkSysID(k call) error {
	if !validSysID(k.sysID) {
		return &fault.Error{Op: k.op, Reason: fault.Invalid, Field: "sys_id", Detail: "must be 32 letters and digits"}
	}
	return nil
}

// validSysID says whether s can be a sys_id: 32 hexadecimal digits, or what somebody imported with letters of its own choice.
func validSysID(s string) bool {
	if len(s) != 32 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}
