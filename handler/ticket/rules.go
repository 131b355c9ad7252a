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
	meanings map[string]meaning // by table
	others   meaning            // of the tables that meanings does not have
}

// A rule says which callouts it is for and which tickets they need.
type rule struct {
	name       string
	matches    func(*callout.Callout) bool
	onRejected string
	tickets    []entry
	meanings   map[string]meaning // by table; goes before that of Rules
}

// An entry is one ticket of a rule.
type entry struct {
	name   string
	table  string
	fields map[string]*template.Template                    // by column, executed with a *view
	users  map[string]func(*callout.Callout) callout.Person // by column
}

// Choose returns the tickets that the callout needs. The deadline is when Entra gives up waiting; zero when nothing waits, or nobody knows.
// Its errors are fault.Misconfigured: no rule matches, or a template fails.
func (r *Rules) Choose(c *callout.Callout, deadline time.Time) (Choice, error) {
	for _, rule := range r.rules {
		if !rule.matches(c) {
			continue
		}
		v := newView(c, deadline, rule.onRejected)
		out := Choice{Rule: rule.name, OnRejected: rule.onRejected}
		for _, e := range rule.tickets {
			d := Draft{Entry: e.name, Table: e.table, Fields: map[string]string{}}
			for column, t := range e.fields {
				text, err := v.render(t, limitOf(column))
				if err != nil {
					return Choice{}, misconfigured(rule.name, fmt.Sprintf("the template of ticket %s, column %s, fails: %s", e.name, column, err))
				}
				d.Fields[column] = text
			}
			for column, of := range e.users {
				p := of(c)
				if p.PrincipalName == "" && p.Email == "" {
					continue // nobody to look up
				}
				if d.Users == nil {
					d.Users = map[string]Person{}
				}
				d.Users[column] = Person{PrincipalName: p.PrincipalName, Email: p.Email}
			}
			out.Drafts = append(out.Drafts, d)
		}
		return out, nil
	}
	return Choice{}, misconfigured("", fmt.Sprintf("no rule matches stage %q and request type %q", clip(c.Stage, 100), clip(c.RequestType, 100)))
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

// Aftercare says what is written back for the tickets of the rule of the given name.
func (r *Rules) Aftercare(string) Aftercare { return Aftercare{} }

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
	means  map[string]correlation.Outcome
}

// A needed column must hold one of the values, in lower case.
type needed struct {
	column string
	values []string
}

// A veto is a value that contradicts "done".
type veto struct {
	column string
	values []string // in lower case; a trailing * stands for any ending
	// done is what "done" becomes; what is not done, open or unknown becomes Rejected when rejects is set.
	done    correlation.Outcome
	rejects bool
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
	outcome, mapped := correlation.Unknown, false
	var said []string
	for _, d := range m.decide {
		value := fields[d.column]
		if value == "" {
			continue
		}
		said = append(said, said1(d.column, value))
		outcome, mapped = d.means[strings.ToLower(value)]
		break
	}
	switch closed := outcome == correlation.Fulfilled || outcome == correlation.Rejected; {
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
		if !matches(v.values, fields[v.column]) {
			continue
		}
		switch {
		case outcome == correlation.Fulfilled:
			outcome = v.done
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
	value = strings.ToLower(value)
	for _, v := range values {
		if start, ok := strings.CutSuffix(v, "*"); ok && strings.HasPrefix(value, start) || v == value {
			return true
		}
	}
	return false
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
