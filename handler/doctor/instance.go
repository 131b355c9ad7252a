package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/servicenow"
	"ticketbridge/handler/ticket"
)

// nowhere is a key that no correlation has: looking for its ticket finds none.
var nowhere = correlation.Key{Request: "00000000-0000-0000-0000-000000000000", Stage: "00000000-0000-0000-0000-000000000000"}

// signIn makes the call that each ticket begins with: it looks for one that is not there.
func (x *examination) signIn(ctx context.Context, r *report) {
	table := "sc_request"
	if x.Rules != nil {
		if uses := x.Rules.Uses(); len(uses) > 0 {
			table = uses[0].Table
		}
	}
	start := time.Now()
	_, err := x.ServiceNow.Find(ctx, table, nowhere.String())
	took := time.Since(start).Round(time.Millisecond)
	switch fault.ReasonOf(err) {
	case "", fault.Misconfigured, fault.Forbidden, fault.NotFound, fault.Refused: // who signed in, and may not: that is for the tables
		r.ok("", "signed in to %s with %s, in %s", host(x.ServiceNowURL), x.ServiceNowAuth, took)
	case fault.Unauthorized:
		r.failErr("", err, map[string]string{
			"client-credentials": "Check SERVICENOW_CLIENT_ID and SERVICENOW_CLIENT_SECRET against the entry in the instance's application registry.",
			"basic":              "Check SERVICENOW_USERNAME and SERVICENOW_PASSWORD, and that the user is active and not locked out.",
			"api-key":            "Check SERVICENOW_API_KEY, and that its user is active.",
			"entra":              "Check SERVICENOW_AUDIENCE, and the OIDC provider and the user for the app's identity in the instance.",
		}[x.ServiceNowAuth])
	default:
		r.failErr("", err, "Check SERVICENOW_URL, that the instance is awake, and the network between the app and it.")
	}
}

// instance looks at what the rules ask of the instance.
func (x *examination) instance(ctx context.Context, r *report) {
	found, err := Look(ctx, x.ServiceNow, x.ServiceNowTimeout, x.Rules.Uses())
	if err != nil {
		r.failErr("", err, "Check SERVICENOW_URL, and that the instance is awake; then try again.")
		return
	}
	var fine []string
	for _, f := range found {
		switch f.Kind {
		case OK:
			fine = append(fine, f.Of)
		case Warning:
			r.warn(f.Of, f.Remedy, "%s", f.Text)
		default:
			r.fail(f.Of, f.Remedy, "%s", f.Text)
		}
	}
	if len(r.lines) == 0 {
		r.ok("", "%s: %s", plural(len(fine), "thing"), strings.Join(fine, ", "))
	}
}

// testText stands in each ticket that the doctor creates.
const testText = "ticketbridge doctor: a test of what may be written here. Please close or delete it."

// create makes a ticket in each table of the rules, and writes a work note on it: whether the integration user may shows in no other way. Items of the
// Service Catalog are not ordered: that may start work.
func (x *examination) create(ctx context.Context, r *report) {
	var seen []string
	for _, u := range x.Rules.Uses() {
		if u.Item != "" || slices.Contains(seen, u.Table) {
			continue
		}
		seen = append(seen, u.Table)
		of := "table " + u.Table
		rec, err := x.ServiceNow.Create(ctx, ticket.Draft{Table: u.Table, Fields: map[string]string{"short_description": testText, "description": testText}}, "doctor/"+uuid.NewString())
		if err != nil {
			r.failErr(of, err, "Let the integration user create records of "+u.Table+" (a role such as itil or sn_request_write), or see which data policy or business rule says no.")
			continue
		}
		if err := x.ServiceNow.Note(ctx, u.Table, rec.SysID, testText); err != nil {
			saw, remedy := describe(err)
			r.fail(of, cmp.Or(remedy, "Let the integration user write the records of "+u.Table+" that it creates."), "%s was created, and can be written no more: %s", rec.Number, saw)
			continue
		}
		r.ok(of, "%s was created, read and written; close or delete it", rec.Number)
	}
	if len(seen) == 0 {
		r.ok("", "nothing to create: the rules only order items of the Service Catalog")
	}
}

// A Finding is what a look into an instance showed.
type Finding struct {
	Kind   Kind   // OK, Warning or Failure
	Of     string // the table, the group, …
	Text   string
	Remedy string // of a warning and a failure
}

// Look looks up in an instance what the rules ask of it, each thing once. One call may take as long as the time-out says. It only reads. Its error is one
// that says nothing of the rules: the instance does not serve us.
func Look(ctx context.Context, client *servicenow.Client, timeout time.Duration, uses []ticket.Use) ([]Finding, error) {
	l := look{client: client, timeout: timeout, asked: map[string]bool{}}
	return l.all(ctx, uses)
}

// A look goes through an instance.
type look struct {
	client  *servicenow.Client
	timeout time.Duration
	asked   map[string]bool
	found   []Finding
}

func (l *look) add(kind Kind, of, remedy, format string, args ...any) {
	f := Finding{kind, of, fmt.Sprintf(format, args...), remedy}
	if !slices.Contains(l.found, f) {
		l.found = append(l.found, f)
	}
}

// addError adds what an error says, with its own advice if it has one.
func (l *look) addError(kind Kind, of, prefix string, err error, remedy string) {
	saw, advice := err.Error(), ""
	if e, ok := errors.AsType[*fault.Error](err); ok {
		saw, advice = e.Detail, e.Advice
	}
	l.add(kind, of, cmp.Or(advice, remedy), "%s%s", prefix, saw)
}

func (l *look) all(ctx context.Context, uses []ticket.Use) ([]Finding, error) {
	tables := map[string]*servicenow.Table{}
	for _, u := range uses {
		t, known := tables[u.Table]
		if !known {
			var err error
			if t, err = l.table(ctx, u.Table); err != nil {
				return nil, err
			}
			tables[u.Table] = t
		}
		if t != nil {
			l.columns(u, t)
		}
		for _, name := range u.Groups {
			if err := l.lookUp(ctx, "group "+name, Failure, func(ctx context.Context) (string, bool, error) { return l.client.FindGroup(ctx, name) }); err != nil {
				return nil, err
			}
		}
		for _, name := range u.Users {
			if err := l.lookUp(ctx, "user "+name, Warning, func(ctx context.Context) (string, bool, error) { return l.client.FindUser(ctx, name, name) }); err != nil {
				return nil, err
			}
		}
		if u.Item != "" {
			if err := l.item(ctx, u); err != nil {
				return nil, err
			}
		}
	}
	return l.found, nil
}

// What mends what is found most.
const (
	letRead   = "Let the integration user read the records that it creates there."
	nameOther = "Correct the name in the rules, or add the column to the table."
)

// table describes a table; nil when that cannot be done, which is a finding.
func (l *look) table(ctx context.Context, name string) (*servicenow.Table, error) {
	ctx, cancel := context.WithTimeout(ctx, 4*l.timeout) // it takes some calls
	defer cancel()
	t, err := l.client.Describe(ctx, name)
	of := "table " + name
	switch {
	case err == nil:
	case fault.Is(err, fault.Misconfigured), fault.Is(err, fault.NotFound):
		l.addError(Failure, of, "", err, "Correct the table's name in the rules, or let the integration user read it.")
		return nil, nil
	case fault.Is(err, fault.Forbidden):
		l.addError(Warning, of, "it cannot be looked at: ", err, letRead)
		return nil, nil
	default:
		return nil, err
	}
	if _, ok := t.Columns["correlation_id"]; !ok {
		l.add(Failure, of, "Use a table that extends task.", "it has no column correlation_id, by which tickets are found again")
	}
	if t.Records == servicenow.Hidden {
		l.add(Warning, of, letRead, "there are records, and we are shown none of those that were asked for")
	}
	l.add(OK, of, "", "%s, %s", t.Label, plural(len(t.Columns), "column"))
	return &t, nil
}

func (l *look) columns(u ticket.Use, t *servicenow.Table) {
	for column, limit := range u.Columns {
		of := u.Table + "." + column
		in, ok := t.Columns[column]
		if u.Rule == "(built in)" && strings.HasPrefix(column, "u_") {
			continue // one of those that Microsoft's tutorial adds, for ids: filled in where a table has it
		}
		switch refers := u.Refers[column]; {
		case !ok && u.Rule == "(built in)":
			l.add(Warning, of, "Add the column, or leave it out in a rules file.", "the table has no such column; what the built-in texts say there is dropped")
		case !ok:
			l.add(Failure, of, nameOther, "the table has no such column: what rule %s says there would be dropped without a word", u.Rule)
		case refers != "" && in.Reference != refers:
			l.add(Failure, of, "Name a column that refers to "+refers+", or give a text.", "it does not refer to %s, as rule %s has it", refers, u.Rule)
		case refers == "" && in.Reference != "":
			l.add(Warning, of, "Say {user: …} or {group: …}.", "it refers to %s: a text of rule %s is taken there only when it is a sys_id", in.Reference, u.Rule)
		case in.ReadOnly:
			l.add(Warning, of, "Leave it out of the rule, or let the integration user write it.", "it is read-only in the dictionary")
		case refers == "" && in.MaxLength > 0 && in.MaxLength < limit && in.Type == "string":
			l.add(Warning, of, fmt.Sprintf("Say {text: …, max: %d} in rule %s.", in.MaxLength, u.Rule), "it holds %d characters, and texts are cut at %d", in.MaxLength, limit)
		}
	}
	for _, column := range u.Judged {
		if _, ok := t.Columns[column]; !ok {
			l.add(Failure, u.Table+"."+column, nameOther, "the table has no such column, by which rule %s judges", u.Rule)
		}
	}
	for _, column := range u.Cancelled {
		if _, ok := t.Columns[column]; !ok {
			l.add(Failure, u.Table+"."+column, nameOther, "the table has no such column, with which rule %s cancels", u.Rule)
		}
	}
	for _, c := range t.Columns {
		if _, filled := u.Columns[c.Name]; c.Mandatory && !filled && c.Name != "number" {
			l.add(Warning, u.Table+"."+c.Name, "Fill it in in the rule, if a data policy insists on it as well.", "it is mandatory on forms, and rule %s leaves it empty", u.Rule)
		}
	}
	slices.SortStableFunc(l.found, func(a, b Finding) int { return strings.Compare(tableOf(a.Of), tableOf(b.Of)) })
}

// tableOf sorts columns behind their table.
func tableOf(of string) string { return strings.TrimPrefix(of, "table ") }

func (l *look) lookUp(ctx context.Context, of string, missing Kind, find func(context.Context) (string, bool, error)) error {
	if l.asked[of] {
		return nil
	}
	l.asked[of] = true
	ctx, cancel := context.WithTimeout(ctx, 2*l.timeout)
	defer cancel()
	const remedy = "Correct the name in the rules, or make it in the instance."
	_, found, err := find(ctx)
	switch {
	case err != nil && fault.ReasonOf(err).Temporary():
		return err
	case err != nil:
		l.addError(Failure, of, "", err, remedy)
	case !found:
		l.add(missing, of, remedy, "there is no active one of this name, or more than one, or its name cannot be asked for")
	default:
		l.add(OK, of, "", "it is there")
	}
	return nil
}

func (l *look) item(ctx context.Context, u ticket.Use) error {
	ctx, cancel := context.WithTimeout(ctx, 4*l.timeout)
	defer cancel()
	item, err := l.client.Item(ctx, u.Item)
	of := "catalog item " + u.Item
	switch {
	case err != nil && fault.ReasonOf(err).Temporary():
		return err
	case err != nil:
		l.addError(Failure, of, "", err, "Correct the item's name in the rules.")
		return nil
	}
	var names []string
	for _, v := range item.Variables {
		names = append(names, v.Name)
		if v.Mandatory && v.Name != u.Reference && !slices.Contains(u.Variables, v.Name) {
			l.add(Failure, of, "Give it a value under variables.", "its variable %s is mandatory, and rule %s does not fill it in", v.Name, u.Rule)
		}
	}
	for _, v := range slices.Concat(u.Variables, []string{u.Reference}) {
		if !slices.Contains(names, v) {
			l.add(Failure, of, "Correct the variable's name in the rules, or add it to the item.", "it has no variable %s, which rule %s fills in; it has %s", v, u.Rule, strings.Join(names, ", "))
		}
	}
	l.add(OK, of, "", "it can be ordered, %s", plural(len(names), "variable"))
	return nil
}
