package ticket

import (
	"maps"
	"slices"
	"text/template"
	"text/template/parse"
)

// A Use is what one ticket of one rule asks of an instance.
type Use struct {
	Rule, Ticket, Table string

	Columns   map[string]int    // the columns that are written, with the length at which a text is cut; 0 for a reference
	Refers    map[string]string // of these, the table that a reference points to
	Judged    []string          // the columns that a file says the outcome stands in
	Cancelled []string          // the columns that cancelling writes
	Groups    []string          // the groups that are named, where the name is no template
	Users     []string          // likewise the users, by principal name or e-mail address

	Item      string   // what is ordered; "" for a record of the table
	Variables []string // of what is ordered, without the reference
	Reference string
}

// optional are the columns that the built-in texts fill in where a table has them: those that Microsoft's tutorial adds.
var optional = []string{"u_accesspackageassignmentrequestid", "u_accesspackageassignmentstage", "u_stageinstanceid"}

// Uses returns what the rules ask of an instance, in the order of the rules. The built-in rules ask for the same; they are one.
func (r *Rules) Uses() []Use {
	var out []Use
	known := BuiltIn()
	builtIn := false
	for i := range r.rules {
		one := &r.rules[i]
		name := one.name
		if one.matches != nil {
			if builtIn {
				continue
			}
			builtIn, name = true, "(built in)"
		}
		for _, e := range one.tickets {
			u := e.uses(known)
			u.Rule = name
			for _, column := range r.meaning(one.name, e.table, "").columns() {
				if !slices.Contains(known.Columns(e.table), column) && !slices.Contains(u.Judged, column) {
					u.Judged = append(u.Judged, column)
				}
			}
			if one.after.Cancel != nil {
				u.Cancelled = slices.Sorted(maps.Keys(one.after.Cancel(e.table)))
			}
			out = append(out, u)
		}
	}
	return out
}

func (e *entry) uses(known *Rules) Use {
	u := Use{Ticket: e.name, Table: e.table, Columns: map[string]int{}, Refers: map[string]string{}}
	text := func(column string) {
		limit, ok := e.limits[column]
		if !ok {
			limit = limitOf(column)
		}
		u.Columns[column] = limit
	}
	refer := func(column, table string) { u.Columns[column], u.Refers[column] = 0, table }
	if e.use {
		for column := range known.rules[0].tickets[0].fields {
			if !e.decides(column) && !slices.Contains(optional, column) {
				text(column)
			}
		}
		if column := userColumn(e.table); column != "" && !e.decides(column) {
			refer(column, "sys_user")
		}
	}
	for column := range e.fields {
		text(column)
	}
	for column := range e.users {
		refer(column, "sys_user")
	}
	for column, t := range e.people {
		refer(column, "sys_user")
		if s, ok := constant(t); ok {
			u.Users = append(u.Users, s)
		}
	}
	for column, t := range e.groups {
		refer(column, "sys_user_group")
		if s, ok := constant(t); ok {
			u.Groups = append(u.Groups, s)
		}
	}
	if e.item != nil {
		u.Item, u.Reference = e.item.item, e.item.reference
		u.Variables = slices.Sorted(maps.Keys(e.item.variables))
		if s, ok := constant(e.item.user); ok {
			u.Users = append(u.Users, s)
		}
	}
	slices.Sort(u.Groups)
	slices.Sort(u.Users)
	return u
}

// constant is what a template says whatever it is executed with; false for one that depends on that.
func constant(t *template.Template) (string, bool) {
	if t == nil || t.Tree == nil || len(t.Root.Nodes) != 1 {
		return "", false
	}
	n, ok := t.Root.Nodes[0].(*parse.TextNode)
	if !ok {
		return "", false
	}
	return oneLine(string(n.Text)), true
}
