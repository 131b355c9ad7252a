package ticket

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/template"
	"time"

	"ticketbridge/handler/callout"
	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
)

// Rules choose the tickets for a callout and say what a ticket's fields mean. They are immutable, and safe for concurrent use.
type Rules struct {
	rules    []rule             // the first that matches decides
	texts    []rule             // the built-in rules, whose texts fill in what a rule of a file leaves out
	meanings map[string]meaning // by table
	others   meaning            // of the tables that meanings does not have
	warnings FileErrors         // of the file
}

// A rule says which callouts it is for and which tickets they need.
type rule struct {
	name       string
	matches    func(*callout.Callout) bool
	match      match  // of a rule of a file, and then matches is nil
	onRejected string // "" for what the built-in rules do with such a callout
	tickets    []entry
	meanings   map[string]meaning // by table; goes before that of Rules
	after      Aftercare
}

// whyNot says in a sentence why the callout is not for the rule; "" when it is.
func (r *rule) whyNot(c *callout.Callout) string {
	if r.matches == nil {
		return r.match.whyNot(c)
	}
	if !r.matches(c) {
		return "it is for another stage or request type"
	}
	return ""
}

// An entry is one ticket of a rule.
type entry struct {
	name   string
	table  string
	use    bool                                             // the built-in rules' texts fill in the columns that are not given
	fields map[string]*template.Template                    // by column, executed with a *view
	limits map[string]int                                   // by column, where it is not that of limitOf
	users  map[string]func(*callout.Callout) callout.Person // by column
	people map[string]*template.Template                    // by column: users by a principal name or e-mail address
	groups map[string]*template.Template                    // by column
	left   []string                                         // columns that are left out, whoever fills them in
	item   *itemEntry
}

// An itemEntry is what an entry orders from the Service Catalog.
type itemEntry struct {
	item      string
	quantity  int
	variables map[string]*template.Template
	person    func(*callout.Callout) callout.Person // nil when named by user
	user      *template.Template
	reference string
}

// Choose returns the tickets that the callout needs. The deadline is when Entra gives up waiting; zero when nothing waits, or nobody knows.
// Its errors are fault.Misconfigured: no rule matches, or a template fails.
func (r *Rules) Choose(c *callout.Callout, deadline time.Time) (Choice, error) {
	for _, rule := range r.rules {
		if rule.whyNot(c) != "" {
			continue
		}
		texts := r.textsFor(c)
		out := Choice{Rule: rule.name, OnRejected: rule.onRejected}
		if out.OnRejected == "" {
			out.OnRejected = texts.onRejected
		}
		w := writer{c: c, rule: rule.name, view: newView(c, deadline, out.OnRejected, len(rule.tickets)), scope: newScope(c, deadline)}
		for _, e := range rule.tickets {
			d, err := w.draft(&e, texts)
			if err != nil {
				return Choice{}, err
			}
			out.Drafts = append(out.Drafts, d)
		}
		return out, nil
	}
	return Choice{}, misconfigured("", fmt.Sprintf("no rule matches stage %q and request type %q", clip(c.Stage, 100), clip(c.RequestType, 100)))
}

// textsFor is the built-in rule for the callout; there is none when r is built in itself.
func (r *Rules) textsFor(c *callout.Callout) *rule {
	for i := range r.texts {
		if r.texts[i].matches(c) {
			return &r.texts[i]
		}
	}
	return &rule{onRejected: OnRejectedHold}
}

// A writer writes the drafts of one callout.
type writer struct {
	c     *callout.Callout
	rule  string
	view  *view
	scope *scope
}

func (w *writer) draft(e *entry, texts *rule) (Draft, error) {
	d := Draft{Entry: e.name, Table: e.table, Fields: map[string]string{}}
	if e.use {
		for _, b := range texts.tickets {
			for column, t := range b.fields {
				if e.decides(column) {
					continue
				}
				if err := w.field(&d, e, column, t); err != nil {
					return Draft{}, err
				}
			}
			if column := userColumn(e.table); column != "" && !e.decides(column) {
				d.user(column, w.c.Assigned.Target)
			}
		}
	}
	for column, t := range e.fields {
		if err := w.field(&d, e, column, t); err != nil {
			return Draft{}, err
		}
	}
	for column, of := range e.users {
		d.user(column, of(w.c))
	}
	for column, t := range e.people {
		p, err := w.person(e, "column "+column, t)
		if err != nil {
			return Draft{}, err
		}
		d.user(column, p)
	}
	for column, t := range e.groups {
		text, err := w.text(e, "column "+column, t, nameLimit)
		if err != nil {
			return Draft{}, err
		}
		if text = oneLine(text); text != "" {
			if d.Groups == nil {
				d.Groups = map[string]string{}
			}
			d.Groups[column] = text
		}
	}
	if e.item != nil {
		item, err := w.item(e)
		if err != nil {
			return Draft{}, err
		}
		d.Item = item
	}
	return d, nil
}

// decides says whether the entry itself says what stands in the column.
func (e *entry) decides(column string) bool {
	_, text := e.fields[column]
	_, user := e.users[column]
	_, person := e.people[column]
	_, group := e.groups[column]
	return text || user || person || group || slices.Contains(e.left, column)
}

func (w *writer) field(d *Draft, e *entry, column string, t *template.Template) error {
	limit, ok := e.limits[column]
	if !ok {
		limit = limitOf(column)
	}
	text, err := w.text(e, "column "+column, t, limit)
	if err != nil {
		return err
	}
	if oneLined(column) {
		text = oneLine(text)
	}
	d.Fields[column] = text
	return nil
}

// text renders a template for what is named in its error.
func (w *writer) text(e *entry, what string, t *template.Template, limit int) (string, error) {
	text, err := w.view.render(t, w.scope, limit)
	if err != nil {
		return "", misconfigured(w.rule, fmt.Sprintf("the template of ticket %s, %s, fails: %s", e.name, what, err))
	}
	return text, nil
}

func (w *writer) person(e *entry, what string, t *template.Template) (callout.Person, error) {
	text, err := w.text(e, what, t, nameLimit)
	if err != nil {
		return callout.Person{}, err
	}
	p := callout.Person{PrincipalName: oneLine(text)}
	if strings.Contains(p.PrincipalName, "@") {
		p.Email = p.PrincipalName
	}
	return p, nil
}

func (w *writer) item(e *entry) (*Item, error) {
	out := &Item{Item: e.item.item, Quantity: e.item.quantity, Reference: e.item.reference}
	for variable, t := range e.item.variables {
		text, err := w.text(e, "variable "+variable, t, limitOf(""))
		if err != nil {
			return nil, err
		}
		if out.Variables == nil {
			out.Variables = map[string]string{}
		}
		out.Variables[variable] = text
	}
	var p callout.Person
	switch {
	case e.item.person != nil:
		p = e.item.person(w.c)
	case e.item.user != nil:
		var err error
		if p, err = w.person(e, "requestedFor", e.item.user); err != nil {
			return nil, err
		}
	}
	if p.PrincipalName != "" || p.Email != "" {
		out.RequestedFor = &Person{PrincipalName: p.PrincipalName, Email: p.Email}
	}
	return out, nil
}

// user has the person looked up for the column; of nobody there is nobody to look up.
func (d *Draft) user(column string, p callout.Person) {
	if p.PrincipalName == "" && p.Email == "" {
		return
	}
	if d.Users == nil {
		d.Users = map[string]Person{}
	}
	d.Users[column] = Person{PrincipalName: p.PrincipalName, Email: p.Email}
}

// userColumn is the column of a table that names whom a ticket is for; "" when there is none.
func userColumn(table string) string {
	switch table {
	case "sc_request", "sc_req_item":
		return "requested_for"
	case "incident":
		return "caller_id"
	case "change_request":
		return "requested_by"
	default:
		return ""
	}
}

func misconfigured(rule, detail string) error {
	if rule != "" {
		detail = "rule " + rule + ": " + detail
	}
	return &fault.Error{
		Op: "choose tickets", Reason: fault.Misconfigured, Detail: detail,
		Advice: "Correct the rules; then retry the request.",
	}
}

// A Considered is a rule that was looked at for a callout.
type Considered struct {
	Rule   string
	WhyNot string // "" for the rule that matches, which is the last
}

// Explain returns the rules in the order in which they are looked at, up to the one that matches the callout.
func (r *Rules) Explain(c *callout.Callout) []Considered {
	var out []Considered
	for i := range r.rules {
		why := r.rules[i].whyNot(c)
		out = append(out, Considered{r.rules[i].name, why})
		if why == "" {
			break
		}
	}
	return out
}

// Warnings are what is odd about the file, and may be meant.
func (r *Rules) Warnings() []Problem { return r.warnings }

// Judge says what the fields of a ticket mean: those of the table under the rule of the given name. A rule that is no longer there leaves the table's
// own meaning. Whatever is closed in a way that nobody mapped is Unknown.
func (r *Rules) Judge(rule, table string, fields map[string]string) Verdict {
	return r.meaning(rule, table, fields["sys_class_name"]).judge(fields)
}

func (r *Rules) meaning(rule, table, class string) meaning {
	if table == "task" && class != "" {
		table = class // read through the parent table, a ticket is still of its own class
	}
	for _, other := range r.rules {
		if m, ok := other.meanings[table]; ok && other.name == rule {
			return m
		}
	}
	if m, ok := r.meanings[table]; ok {
		return m
	}
	return r.others
}

// Aftercare says what is written back for the tickets of the rule of the given name; the zero Aftercare for a rule that is no longer there.
func (r *Rules) Aftercare(rule string) Aftercare {
	for i := range r.rules {
		if r.rules[i].name == rule {
			return r.rules[i].after
		}
	}
	return Aftercare{}
}

// Columns returns the columns to read so that Judge can judge a ticket of the table, whichever rule it comes from.
func (r *Rules) Columns(table string) []string {
	var out []string
	add := func(m meaning) {
		for _, c := range m.columns() {
			if !slices.Contains(out, c) {
				out = append(out, c)
			}
		}
	}
	add(r.meaning("", table, ""))
	if slices.ContainsFunc(r.rules, func(one rule) bool { return one.after.Detail != nil }) {
		out = append(out, "close_notes")
	}
	for _, rule := range r.rules {
		if m, ok := rule.meanings[table]; ok {
			add(m)
		}
	}
	if table == "task" {
		for _, t := range slices.Sorted(maps.Keys(r.meanings)) {
			add(r.meanings[t])
		}
	}
	return out
}

// A meaning says what the values of a table's columns mean. Every column that matters is looked at, and the doubtful reading wins.
type meaning struct {
	// decide are the columns that say how the work stands; the first that is not empty decides.
	decide []reading
	// veto are columns that can contradict the one that decided.
	veto []veto
	// inactive is set where a closed state needs active to be false as well: in tables whose values may mean something else.
	inactive bool
	// need are columns that must hold one of these values for "done" to be believed.
	need []needed
}

// A reading maps the values of one column. A value that is not in it is one that nobody mapped.
type reading struct {
	column string
	means  map[string]correlation.Outcome // by value in lower case
	own    []ownValue                     // what a file says of the column; goes before means
}

// An ownValue is what a file says of values.
type ownValue struct {
	values pattern
	means  correlation.Outcome
}

// of says what the value means, and whether a file says so.
func (r reading) of(value string) (outcome correlation.Outcome, mapped, own bool) {
	for _, wild := range []bool{false, true} {
		for _, o := range r.own {
			if strings.Contains(string(o.values), "*") == wild && o.values.matches(value) {
				return o.means, true, true
			}
		}
	}
	outcome, mapped = r.means[strings.ToLower(value)]
	return outcome, mapped, false
}

// A needed column must hold one of the values, in lower case.
type needed struct {
	column string
	values []string
}

// A veto is a value that contradicts what another column says.
type veto struct {
	column string
	values []string // in lower case; a * stands for any characters
	except []string // values that are none of them after all
	// done is what "done" becomes, "" for done; what is not done, open or unknown becomes Rejected when rejects is set.
	done    correlation.Outcome
	rejects bool
	// notDone is what "not done" becomes; "" for not done.
	notDone correlation.Outcome
}

func (m meaning) columns() []string {
	out := []string{"sys_class_name", "active"}
	for _, d := range m.decide {
		out = append(out, d.column)
	}
	for _, v := range m.veto {
		out = append(out, v.column)
	}
	for _, n := range m.need {
		out = append(out, n.column)
	}
	return out
}

func (m meaning) judge(fields map[string]string) Verdict {
	active, knownActive := parseBool(fields["active"])
	outcome, mapped, own := correlation.Unknown, false, false
	var said []string
	for _, d := range m.decide {
		value := fields[d.column]
		if value == "" {
			continue
		}
		said = append(said, said1(d.column, value))
		outcome, mapped, own = d.of(value)
		break
	}
	if !mapped {
		outcome = correlation.Unknown
	}
	switch closed := outcome == correlation.Fulfilled || outcome == correlation.Rejected; {
	case closed && own: // the file says that this value is an end, whatever active says
	case closed && m.inactive && active:
		outcome = correlation.Pending
		said = append(said, "active=true")
	case closed && m.inactive && !knownActive:
		outcome = correlation.Unknown
		said = append(said, "active cannot be read")
	case closed:
	case knownActive && !active:
		outcome = correlation.Unknown
		said = append(said, "active=false")
	case mapped, active: // also in a state that nobody mapped, as long as the record is active
		outcome = correlation.Pending
	default:
		outcome = correlation.Unknown
	}
	for _, n := range m.need {
		if outcome == correlation.Fulfilled && !matches(n.values, fields[n.column]) {
			outcome = correlation.Unknown
			said = append(said, said1(n.column, fields[n.column]))
		}
	}
	for _, v := range m.veto {
		if !matches(v.values, fields[v.column]) || matches(v.except, fields[v.column]) {
			continue
		}
		switch {
		case outcome == correlation.Fulfilled && v.done != "":
			outcome = v.done
		case outcome == correlation.Rejected && v.notDone != "":
			outcome = v.notDone
		case v.rejects:
			outcome = correlation.Rejected
		default:
			continue
		}
		said = append(said, said1(v.column, fields[v.column]))
	}
	if len(said) == 0 {
		said = []string{"no state to be read"}
	}
	return Verdict{Outcome: outcome, State: strings.Join(slices.Compact(said), ", ")}
}

func matches(values []string, value string) bool {
	return slices.ContainsFunc(values, func(v string) bool { return pattern(v).matches(value) })
}

// said1 is one column and its value for the timeline. States are short words; whatever else stands there is cut.
func said1(column, value string) string {
	if value == "" {
		value = "(empty)"
	}
	return column + "=" + clip(oneLine(value), 40)
}

// parseBool reads a boolean column: the Table API sends "true" and "false", and 1 and 0 are seen behind gateways.
func parseBool(s string) (value, known bool) {
	switch strings.ToLower(s) {
	case "true", "1":
		return true, true
	case "false", "0":
		return false, true
	default:
		return false, false
	}
}
