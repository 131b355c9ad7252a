package ticket

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"

	"ticketbridge/handler/callout"
	"ticketbridge/handler/correlation"
)

// keys are all keys that a rules file can have, by what they are of. The JSON Schema in docs names the same.
var keys = map[string][]string{
	"file":        {"version", "defaults", "status", "rules", "otherwise"},
	"defaults":    {"table", "use", "fields", "notDone", "writeBack"},
	"rule":        {"name", "match", "ignore", "tickets", "status", "notDone", "writeBack"},
	"match":       {"catalog", "package", "policy", "stage", "requestType"},
	"ticket":      {"name", "table", "catalogItem", "use", "fields", "status"},
	"catalogItem": {"item", "quantity", "requestedFor", "variables", "reference"},
	"field":       {"text", "max", "user", "group"},
	"outcomes":    {"done", "notDone", "open"},
	"writeBack":   {"entraDetail", "outcomeNote", "cancel", "remind"},
}

const (
	maxRules   = 500
	maxTickets = 20 // of a rule
	maxFields  = 100
	nameLength = 60
	detailLen  = 500 // of what approvers are shown
)

// cancelled are the fields that close a ticket of ServiceNow's own tables as cancelled.
var cancelled = map[string]map[string]string{
	"incident":       {"state": "8"},
	"sc_request":     {"request_state": "closed_cancelled"},
	"sc_req_item":    {"state": "4"},
	"sc_task":        {"state": "4"},
	"change_request": {"state": "4"},
}

// ReadFile reads a rules file, and calls it by its path in messages; see Load.
func ReadFile(path string) (*Rules, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the rules: %w", err)
	}
	return Load(path, text)
}

// Load reads rules from the text of a file; name is what the file is called in messages. Its error is FileErrors, all that is wrong with the file.
func Load(name string, text []byte) (*Rules, error) {
	r := &reader{file: name}
	root := r.parse(text)
	var out *Rules
	if root != nil {
		l := loader{reader: r, callout: ofCallout(), outcome: ofOutcome(), builtIn: BuiltIn(), names: map[string]place{}}
		out = l.rules(root)
	}
	if len(r.problems) > 0 {
		return nil, sorted(r.problems)
	}
	out.warnings = sorted(r.warnings)
	return out, nil
}

// A loader makes rules of a file's syntax tree.
type loader struct {
	*reader
	callout, outcome *templateKind
	builtIn          *Rules
	names            map[string]place // of rules
	defaults         settings
}

// settings are what defaults say, and what a rule may say otherwise.
type settings struct {
	table     string
	use       bool
	fields    columnSet
	notDone   string
	writeBack writeBack
}

// A columnSet is what is said of columns.
type columnSet struct {
	fields map[string]*template.Template
	limits map[string]int
	users  map[string]func(*callout.Callout) callout.Person
	people map[string]*template.Template
	groups map[string]*template.Template
	left   []string
	places map[string]place
}

type writeBack struct {
	detail  *template.Template
	noNote  bool
	cancel  map[string]map[string]string // by table
	after   Aftercare                    // only its Remind
	present []string                     // the keys that are there
}

func (l *loader) rules(root ast.Node) *Rules {
	out := &Rules{texts: l.builtIn.rules, meanings: maps.Clone(l.builtIn.meanings), others: l.builtIn.others}
	members, ok := l.mapping(root, "a rules file", keys["file"])
	if !ok {
		return out
	}
	of := map[string]ast.Node{}
	for _, m := range members {
		of[m.key] = m.value
	}
	if v, ok := of["version"]; !ok {
		l.bad(at(root), "the file says no version; it begins with version: 1")
	} else if s, ok := l.text(v, "the version, 1"); ok && s != "1" {
		l.bad(at(v), "found version %q; this program knows version 1", name(s))
	}
	l.defaults = settings{table: "sc_request", use: true}
	if v, ok := of["defaults"]; ok {
		l.readDefaults(v)
	}
	if v, ok := of["status"]; ok {
		tables, _ := l.mapping(v, "the status by table", nil)
		for _, m := range tables {
			if !ValidTable(m.key) {
				l.bad(m.at, "found %q; expected the name of a table, as in incident or u_access_work", name(m.key))
				continue
			}
			if s := l.status(m.value, "a status"); s != nil {
				out.meanings[m.key] = out.meaning("", m.key, "").extended(s)
			}
		}
	}
	otherwise := "builtin"
	if v, ok := of["otherwise"]; ok {
		otherwise = l.word(v, "builtin", "fail", "ignore")
	}
	list := l.ruleList(of["rules"])
	var all *rule // the rule that matches everything
	for _, n := range list {
		found := len(l.problems)
		made := l.rule(n, out)
		if made == nil || len(l.problems) > found { // of what is not as it was meant, nothing follows
			continue
		}
		switch {
		case all != nil:
			l.bad(at(n), "the rule %q is never reached: the rule %q before it matches everything", made.name, all.name)
		case made.match.everything():
			all = made
		default:
			for _, earlier := range out.rules {
				if earlier.match.covers(made.match) {
					l.warn(at(n), "the rule %q can never match: whatever it matches is matched by the rule %q before it", made.name, earlier.name)
					break
				}
			}
		}
		out.rules = append(out.rules, *made)
	}
	switch {
	case all != nil:
		if v, ok := of["otherwise"]; ok {
			l.warn(at(v), "this never applies: the rule %q matches everything", all.name)
		}
	case otherwise == "builtin":
		for _, b := range l.builtIn.rules {
			b.onRejected = l.defaults.notDone // "" for the built-in rule's own
			b.tickets = []entry{l.entry("ticket", l.defaults.table, l.defaults.use, columnSet{})}
			b.after = l.aftercare(l.defaults.writeBack)
			out.rules = append(out.rules, b)
		}
	case otherwise == "ignore":
		out.rules = append(out.rules, rule{name: "otherwise", match: match{}})
	}
	return out
}

func (l *loader) ruleList(n ast.Node) []ast.Node {
	switch n := n.(type) {
	case nil:
		return nil
	case *ast.SequenceNode:
		if len(n.Values) > maxRules {
			l.bad(at(n), "there are %d rules; at most %d are taken", len(n.Values), maxRules)
			return nil
		}
		return n.Values
	default:
		if n = l.plain(n); n != nil {
			l.bad(at(n), `found %s; expected a list of rules, each beginning with "- name:"`, describe(n))
		}
		return nil
	}
}

func (l *loader) readDefaults(n ast.Node) {
	members, _ := l.mapping(n, "defaults", keys["defaults"])
	for _, m := range members {
		switch m.key {
		case "table":
			if t := l.table(m.value); t != "" {
				l.defaults.table = t
			}
		case "use":
			l.defaults.use = l.word(m.value, "builtin", "nothing") != "nothing"
		case "fields":
			l.defaults.fields = l.fields(m.value)
		case "notDone":
			l.defaults.notDone = l.word(m.value, OnRejectedDeny, OnRejectedCancel, OnRejectedHold)
			if l.defaults.notDone == OnRejectedDeny {
				l.denies(at(m.value), match{}, "the defaults")
			}
		case "writeBack":
			l.defaults.writeBack = l.writeBack(m.value)
		}
	}
}

// rule reads one rule; nil when it is not even a mapping.
func (l *loader) rule(n ast.Node, in *Rules) *rule {
	members, ok := l.mapping(n, "a rule", keys["rule"])
	if !ok {
		return nil
	}
	of := map[string]member{}
	for _, m := range members {
		of[m.key] = m
	}
	out := &rule{match: match{}, onRejected: l.defaults.notDone}
	if m, ok := of["name"]; ok {
		out.name = l.ruleName(m.value)
	} else {
		l.bad(at(n), "the rule has no name; requests remember the rule that they came by")
	}
	if m, ok := of["match"]; ok {
		out.match = l.match(m.value)
	}
	if m, ok := of["notDone"]; ok {
		out.onRejected = l.word(m.value, OnRejectedDeny, OnRejectedCancel, OnRejectedHold)
		if out.onRejected == OnRejectedDeny {
			l.denies(at(m.value), out.match, fmt.Sprintf("the rule %q", out.name))
		}
	}
	back := l.defaults.writeBack
	if m, ok := of["writeBack"]; ok {
		back = back.with(l.writeBack(m.value))
	}
	out.after = l.aftercare(back)
	if m, ok := of["ignore"]; ok && l.boolean(m.value) {
		for _, other := range []string{"tickets", "status", "notDone", "writeBack"} {
			if o, ok := of[other]; ok {
				l.bad(o.at, `the rule ignores what it matches; %s says nothing then`, other)
			}
		}
		out.after = Aftercare{}
		return out
	}
	var own *status
	if m, ok := of["status"]; ok {
		own = l.status(m.value, "a status")
	}
	l.tickets(out, of["tickets"], own, in)
	return out
}

func (l *loader) ruleName(n ast.Node) string {
	s, ok := l.text(n, "a name for the rule")
	if !ok {
		return ""
	}
	s = oneLine(s)
	builtIn := slices.ContainsFunc(l.builtIn.rules, func(b rule) bool { return b.name == s })
	earlier, twice := l.names[s]
	switch {
	case s == "":
		l.bad(at(n), "the name is empty")
	case utf8.RuneCountInString(s) > nameLength:
		l.bad(at(n), "the name has %d characters; at most %d are taken", utf8.RuneCountInString(s), nameLength)
	case builtIn || s == "otherwise":
		l.bad(at(n), "the name %q is that of a built-in rule; choose another", s)
	case twice:
		l.bad(at(n), "the name %q is that of the rule in line %d already", s, earlier.line)
	default:
		l.names[s] = at(n)
	}
	return s
}

// tickets reads a rule's tickets, and what their fields mean.
func (l *loader) tickets(out *rule, m member, own *status, in *Rules) {
	if m.value == nil {
		out.tickets = []entry{l.entry("ticket", l.defaults.table, l.defaults.use, columnSet{})}
		if own != nil {
			out.meanings = map[string]meaning{l.defaults.table: in.meaning("", l.defaults.table, "").extended(own)}
		}
		return
	}
	nodes := l.sequence(m.value)
	switch {
	case len(nodes) > maxTickets:
		l.bad(at(m.value), "there are %d tickets; at most %d are opened for one request", len(nodes), maxTickets)
		return
	case len(nodes) == 0 && l.plainList(m.value):
		l.bad(at(m.value), "the list is empty; a rule that opens no ticket says ignore: true")
	}
	places := map[string]place{}
	said := map[string]place{} // tables with a status of their own
	for _, n := range nodes {
		e, s := l.ticket(n, len(nodes) == 1)
		if e == nil {
			continue
		}
		if _, twice := places[e.name]; twice && e.name != "" {
			l.bad(at(n), "two tickets of the rule are called %q; give each a name", e.name)
		}
		places[e.name] = at(n)
		out.tickets = append(out.tickets, *e)
		if own == nil && s == nil || e.table == "" {
			continue
		}
		if _, twice := said[e.table]; twice && s != nil {
			l.bad(s.at, "the tickets of a rule in one table share a status: say it once, of the first of them or of the rule")
			continue
		}
		if _, twice := said[e.table]; twice {
			continue
		}
		m := in.meaning("", e.table, "")
		for _, one := range []*status{own, s} {
			if one != nil {
				m = m.extended(one)
			}
		}
		if out.meanings == nil {
			out.meanings = map[string]meaning{}
		}
		out.meanings[e.table] = m
		if s != nil || own != nil {
			said[e.table] = at(n)
		}
	}
}

// ticket reads one ticket of a rule.
func (l *loader) ticket(n ast.Node, only bool) (*entry, *status) {
	members, ok := l.mapping(n, "a ticket", keys["ticket"])
	if !ok {
		return nil, nil
	}
	table, use := l.defaults.table, l.defaults.use
	var tableAt *place
	var item *itemEntry
	var entryName string
	var columns columnSet
	var own *status
	for _, m := range members {
		switch m.key {
		case "name":
			if s, ok := l.text(m.value, "a name for the ticket"); ok {
				if entryName = oneLine(s); entryName == "" || utf8.RuneCountInString(entryName) > nameLength {
					l.bad(at(m.value), "the name of a ticket has 1 to %d characters", nameLength)
				}
			}
		case "table":
			table = l.table(m.value)
			p := at(m.value)
			tableAt = &p
		case "catalogItem":
			item = l.item(m.value)
		case "use":
			use = l.word(m.value, "builtin", "nothing") != "nothing"
		case "fields":
			columns = l.fields(m.value)
		case "status":
			own = l.status(m.value, "a status")
		}
	}
	if slices.ContainsFunc(members, func(m member) bool { return m.key == "catalogItem" }) {
		if tableAt != nil && table != "sc_req_item" && table != "" {
			l.bad(*tableAt, "found the table %s beside a catalogItem; what is ordered is a record of sc_req_item: leave the table out", table)
		}
		table = "sc_req_item"
	} else if table == "sc_req_item" {
		p := at(n)
		if tableAt != nil {
			p = *tableAt
		}
		l.warn(p, "a record of sc_req_item that is not ordered starts no flow in ServiceNow; order a catalogItem")
	}
	if entryName == "" {
		if entryName = "ticket"; !only {
			entryName = table
		}
	}
	e := l.entry(entryName, table, use, columns)
	e.item = item
	return &e, own
}

// entry is a ticket with the defaults in what its own columns leave open.
func (l *loader) entry(name, table string, use bool, own columnSet) entry {
	e := entry{
		name: name, table: table, use: use, fields: map[string]*template.Template{}, limits: map[string]int{},
		users: map[string]func(*callout.Callout) callout.Person{}, people: map[string]*template.Template{}, groups: map[string]*template.Template{},
	}
	for _, set := range []columnSet{own, l.defaults.fields} {
		for column := range set.places {
			if e.decides(column) {
				continue
			}
			if t, ok := set.fields[column]; ok {
				e.fields[column] = t
				if n, ok := set.limits[column]; ok {
					e.limits[column] = n
				}
			}
			if f, ok := set.users[column]; ok {
				e.users[column] = f
			}
			if t, ok := set.people[column]; ok {
				e.people[column] = t
			}
			if t, ok := set.groups[column]; ok {
				e.groups[column] = t
			}
			if slices.Contains(set.left, column) {
				e.left = append(e.left, column)
			}
		}
	}
	return e
}

func (l *loader) table(n ast.Node) string {
	s, ok := l.text(n, "the name of a table")
	if !ok {
		return ""
	}
	if !ValidTable(s) {
		hint := meant(s, []string{"incident", "sc_request", "sc_req_item", "sc_task", "change_request"})
		l.bad(at(n), "found %q%s; expected the name of a table, as in incident or u_access_work: lower-case letters, digits and _", name(s), hint)
		return ""
	}
	if near := meant(s, slices.Sorted(maps.Keys(tables))); near != "" && tables[s].decide == nil && !strings.HasPrefix(s, "u_") && !strings.HasPrefix(s, "x_") {
		l.warn(at(n), "the table %s is not one of ServiceNow's ticket tables%s", s, near)
	}
	return s
}

// item reads an order from the Service Catalog.
func (l *loader) item(n ast.Node) *itemEntry {
	members, ok := l.mapping(n, "a catalogItem", keys["catalogItem"])
	if !ok {
		return nil
	}
	out := &itemEntry{quantity: 1, person: target}
	var variables []string
	for _, m := range members {
		switch m.key {
		case "item":
			if s, ok := l.text(m.value, "the name or sys_id of a catalog item"); ok {
				if out.item = oneLine(s); out.item == "" {
					l.bad(at(m.value), "the catalog item is empty; expected its name or sys_id")
				}
			}
		case "quantity":
			s, ok := l.text(m.value, "a number from 1 to 100")
			if q, err := strconv.Atoi(s); ok && (err != nil || q < 1 || q > 100) {
				l.bad(at(m.value), "found %q; expected a number from 1 to 100", name(s))
			} else if ok {
				out.quantity = q
			}
		case "requestedFor":
			out.person, out.user = l.user(m.value)
		case "variables":
			list, _ := l.mapping(m.value, "variables", nil)
			if len(list) > maxFields {
				l.bad(m.at, "there are %d variables; at most %d are taken", len(list), maxFields)
				continue
			}
			out.variables = map[string]*template.Template{}
			for _, v := range list {
				if !variableName(v.key) {
					l.bad(v.at, "found %q; expected the name of a variable: letters, digits and _", name(v.key))
					continue
				}
				variables = append(variables, v.key)
				if t := l.template(v.value, l.callout, "a template for the variable "+v.key); t != nil {
					out.variables[v.key] = t
				}
			}
		case "reference":
			s, ok := l.text(m.value, "the name of the variable that carries the correlation_id")
			if ok && !variableName(s) {
				l.bad(at(m.value), "found %q; expected the name of a variable: letters, digits and _", name(s))
			}
			out.reference = s
		}
	}
	if !slices.ContainsFunc(members, func(m member) bool { return m.key == "item" }) {
		l.bad(at(n), "the catalogItem names no item")
	}
	if !slices.ContainsFunc(members, func(m member) bool { return m.key == "reference" }) {
		l.bad(at(n), "the catalogItem names no reference: the variable of the item that carries the correlation_id; an order of which ServiceNow's answer is lost is found again by it")
	} else if slices.Contains(variables, out.reference) {
		l.bad(at(n), "the variable %s carries the correlation_id (see reference) and a template; take one of them out", out.reference)
	}
	return out
}

func variableName(s string) bool {
	return s != "" && len(s) <= 100 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}

func target(c *callout.Callout) callout.Person    { return c.Assigned.Target }
func requestor(c *callout.Callout) callout.Person { return c.By }

// user reads who a user is: target, requestor, or a template for a principal name or an e-mail address.
func (l *loader) user(n ast.Node) (func(*callout.Callout) callout.Person, *template.Template) {
	s, ok := scalar(n)
	switch {
	case ok && s == "target":
		return target, nil
	case ok && s == "requestor":
		return requestor, nil
	case ok && !strings.ContainsAny(s, "@{"):
		l.bad(at(n), "found %q%s; expected target, requestor, or a template for a principal name or an e-mail address", name(s), meant(s, []string{"target", "requestor"}))
		return nil, nil
	}
	return nil, l.template(n, l.callout, "target, requestor, or a template for a principal name or an e-mail address")
}

// Columns that are set by ServiceNow, or by ticketbridge itself.
var taken = map[string]string{
	"correlation_id": "ticketbridge finds its tickets by it",
	"number":         "ServiceNow gives it", "sys_id": "ServiceNow gives it", "sys_class_name": "it follows from the table",
}

// The columns of ServiceNow's own ticket tables that rules are likely to fill in, to tell a slip of the pen; those that refer to something, with what.
var usual = map[string]string{
	"short_description": "", "description": "", "category": "", "subcategory": "", "impact": "", "urgency": "", "priority": "", "contact_type": "", "due_date": "",
	"work_notes": "", "comments": "", "close_notes": "", "special_instructions": "", "correlation_display": "", "approval": "", "state": "", "type": "", "risk": "",
	"justification": "", "implementation_plan": "", "backout_plan": "", "test_plan": "", "start_date": "", "end_date": "", "work_start": "", "work_end": "", "reason": "",
	"expected_start": "", "requested_date": "", "request_state": "", "stage": "", "active": "", "severity": "", "close_code": "", "parent": "", "location": "", "company": "",
	"requested_for": "user", "caller_id": "user", "requested_by": "user", "assigned_to": "user", "opened_by": "user", "assignment_group": "group",
	"business_service": "", "cmdb_ci": "", "service_offering": "",
	"u_accesspackageassignmentrequestid": "", "u_accesspackageassignmentstage": "", "u_stageinstanceid": "",
}

// column says whether s can be the name of a column.
func (r *reader) column(at place, s string) bool {
	if !ValidTable(s) {
		r.bad(at, "found %q%s; expected the name of a column: lower-case letters, digits and _", name(s), meant(s, slices.Sorted(maps.Keys(usual))))
		return false
	}
	return true
}

// fields reads what stands in a ticket's columns.
func (l *loader) fields(n ast.Node) columnSet {
	out := columnSet{
		fields: map[string]*template.Template{}, limits: map[string]int{}, users: map[string]func(*callout.Callout) callout.Person{},
		people: map[string]*template.Template{}, groups: map[string]*template.Template{}, places: map[string]place{},
	}
	members, _ := l.mapping(n, "fields", nil)
	if len(members) > maxFields {
		l.bad(at(n), "there are %d fields; at most %d are taken", len(members), maxFields)
		return out
	}
	for _, m := range members {
		if why, ok := taken[m.key]; ok {
			l.bad(m.at, "the column %s cannot be set: %s", m.key, why)
			continue
		}
		if !l.column(m.at, m.key) {
			continue
		}
		refers, known := usual[m.key]
		if !known && !strings.HasPrefix(m.key, "u_") && !strings.HasPrefix(m.key, "x_") {
			if near := meant(m.key, slices.Sorted(maps.Keys(usual))); near != "" {
				l.warn(m.at, "the column %s is none of ServiceNow's ticket tables'%s; what a table does not have is dropped without a word", m.key, near)
			}
		}
		out.places[m.key] = m.at
		switch v := l.plain(m.value).(type) {
		case nil:
		case *ast.NullNode:
			out.left = append(out.left, m.key)
		case *ast.MappingNode, *ast.MappingValueNode:
			l.field(&out, m.key, v)
		default:
			if t := l.template(v, l.callout, "a template, or one of text, user and group"); t != nil {
				out.fields[m.key] = t
				if s, _ := scalar(v); refers != "" && !ValidSysID(s) {
					l.warn(at(v), "%s refers to a %s: a text is taken there only when it is a sys_id; say {%s: …}", m.key, refers, refers)
				}
				l.tooLong(v, m.key, limitOf(m.key), t)
			}
		}
	}
	return out
}

// field reads a column that is not just a text.
func (l *loader) field(out *columnSet, column string, n ast.Node) {
	found := len(l.problems)
	members, _ := l.mapping(n, "a field", keys["field"])
	if len(l.problems) > found {
		return
	}
	of := map[string]member{}
	for _, m := range members {
		of[m.key] = m
	}
	kinds := 0
	for _, k := range []string{"text", "user", "group"} {
		if _, ok := of[k]; ok {
			kinds++
		}
	}
	if kinds != 1 {
		l.bad(at(n), "a field is one of text (with max, if need be), user and group")
		return
	}
	if m, ok := of["max"]; ok {
		s, isText := l.text(m.value, "a number from 1 to 65000")
		limit, err := strconv.Atoi(s)
		switch {
		case !isText:
		case err != nil || limit < 1 || limit > 65000:
			l.bad(at(m.value), "found %q; expected a number from 1 to 65000", name(s))
		case of["text"].value == nil:
			l.bad(m.at, "max is for a text")
		default:
			out.limits[column] = limit
		}
	}
	switch {
	case of["text"].value != nil:
		t := l.template(of["text"].value, l.callout, "a template")
		if t == nil {
			return
		}
		out.fields[column] = t
		limit, own := out.limits[column]
		if !own {
			limit = limitOf(column)
		} else if limit > limitOf(column) && limitOf(column) < 4000 {
			l.warn(of["max"].at, "%s has %d characters in ServiceNow, unless somebody made it longer; more is cut there", column, limitOf(column))
		}
		l.tooLong(of["text"].value, column, limit, t)
	case of["user"].value != nil:
		who, t := l.user(of["user"].value)
		switch {
		case who != nil:
			out.users[column] = who
		case t != nil:
			out.people[column] = t
		}
	case of["group"].value != nil:
		if t := l.template(of["group"].value, l.callout, "the name of a group, or a template for it"); t != nil {
			out.groups[column] = t
		}
	}
}

// tooLong warns of a text that is cut even when nothing is filled into it.
func (l *loader) tooLong(n ast.Node, column string, limit int, t *template.Template) {
	text, err := execute(t, newView(&callout.Callout{}, l.callout.until, OnRejectedHold, 1), l.callout.trial[1].funcs())
	if err == nil && length(text) > limit {
		l.warn(at(n), "the text for %s has %d characters without what is filled in; it is cut at %d", column, length(text), limit)
	}
}

// denies warns of denials that would be untrue.
func (l *loader) denies(p place, m match, who string) {
	var untrue []string
	for _, one := range []struct{ says, stage, requestType string }{
		{"at the stage granted, where the access is there already", callout.StageGranted, "userAdd"},
		{"at the stage removed, where nothing was asked for", callout.StageRemoved, "userRemove"},
		{"of a removal, which would then stand in Entra as turned down", callout.StageApproved, "userRemove"},
	} {
		if m.may(one.stage, one.requestType) {
			untrue = append(untrue, one.says)
		}
	}
	if len(untrue) > 0 {
		l.warn(p, "notDone: deny of %s also denies %s; without notDone such requests are held for a person", who, strings.Join(untrue, "; "))
	}
}

// writeBack reads what is written back.
func (l *loader) writeBack(n ast.Node) writeBack {
	var out writeBack
	members, _ := l.mapping(n, "writeBack", keys["writeBack"])
	for _, m := range members {
		out.present = append(out.present, m.key)
		switch m.key {
		case "entraDetail":
			out.detail = l.template(m.value, l.outcome, "a template for what approvers see in Entra")
		case "outcomeNote":
			out.noNote = !l.boolean(m.value)
		case "remind":
			s, ok := l.text(m.value, "how long before the deadline, as in 24h")
			if !ok {
				continue
			}
			d, err := days(s)
			if err != nil {
				l.bad(at(m.value), "%s", err)
			}
			out.after.Remind = d
		case "cancel":
			out.cancel = l.cancel(m.value)
		}
	}
	return out
}

// cancel reads the fields that close a ticket whose request is gone: by table, or true for those of ServiceNow's own tables.
func (l *loader) cancel(n ast.Node) map[string]map[string]string {
	if b, ok := n.(*ast.BoolNode); ok {
		if !b.Value {
			return nil
		}
		return cancelled
	}
	if n = l.plain(n); n == nil {
		return nil
	}
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
	default:
		l.bad(at(n), "found %s; expected true, false, or the fields by table, as in {incident: {state: 8}}", describe(n))
		return nil
	}
	members, _ := l.mapping(n, "the fields by table", nil)
	out := map[string]map[string]string{}
	for _, m := range members {
		if !ValidTable(m.key) {
			l.bad(m.at, "found %q; expected the name of a table, as in incident or u_access_work", name(m.key))
			continue
		}
		columns, _ := l.mapping(m.value, "the fields of "+m.key, nil)
		out[m.key] = map[string]string{}
		for _, c := range columns {
			if why, ok := taken[c.key]; ok {
				l.bad(c.at, "the column %s cannot be set: %s", c.key, why)
				continue
			}
			s, ok := l.text(c.value, "a value")
			switch {
			case !l.column(c.at, c.key) || !ok:
			case strings.Contains(s, "{{"):
				l.bad(at(c.value), "found a template; the fields of cancel are plain values")
			case length(s) > limitOf(c.key):
				l.bad(at(c.value), "the value has %d characters; at most %d are taken", length(s), limitOf(c.key))
			default:
				out[m.key][c.key] = s
			}
		}
	}
	return out
}

// with is what is said by both, where b goes before.
func (w writeBack) with(b writeBack) writeBack {
	for _, key := range b.present {
		switch key {
		case "entraDetail":
			w.detail = b.detail
		case "outcomeNote":
			w.noNote = b.noNote
		case "remind":
			w.after.Remind = b.after.Remind
		case "cancel":
			w.cancel = b.cancel
		}
	}
	return w
}

// aftercare is what is written back, as the workflow asks for it.
func (l *loader) aftercare(w writeBack) Aftercare {
	out := Aftercare{NoOutcomeNote: w.noNote, Remind: w.after.Remind}
	if w.cancel != nil {
		fields := w.cancel
		out.Cancel = func(table string) map[string]string { return maps.Clone(fields[table]) }
	}
	if t := w.detail; t != nil {
		out.Detail = func(tickets []correlation.Ticket, outcome correlation.Outcome) (string, error) {
			text, err := execute(t, newOutcomeView(tickets, outcome), (&scope{}).funcs())
			if err != nil {
				return "", misconfigured("", fmt.Sprintf("the template of entraDetail fails: %s", err))
			}
			return clip(oneLine(text), detailLen), nil
		}
	}
	return out
}
