package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"ticketbridge/handler/fault"
	"ticketbridge/handler/servicenow"
	"ticketbridge/handler/setup"
	"ticketbridge/handler/ticket"
)

// ticketsCommand works on the rules file: the one that is named, or that of TICKETS_FILE, or tickets.yaml in the working directory.
type ticketsCommand struct {
	Check  ticketsCheck  `cmd:"" help:"Say what is wrong with a rules file, or odd about it."`
	Render ticketsRender `cmd:"" help:"Show what the rules make of a callout: which rule matches, why the others before it do not, and the calls that would be made, without making them."`
}

// rulesFile is the path of the rules file to look at; found is false when there is none, and none was named.
func (p *program) rulesFile(named string) (file string, found bool) {
	if named != "" {
		return named, true
	}
	settings := setup.ReadRules(p.environ)
	file = settings.RulesFile()
	if here, err := os.Getwd(); err == nil { // as people call it
		if short, err := filepath.Rel(here, file); err == nil && !strings.HasPrefix(short, "..") {
			file = short
		}
	}
	_, err := os.Stat(file)
	return file, settings.TicketsFile != "" || err == nil
}

// rules reads the rules; file is "" when they are the built-in ones.
func (p *program) rules(named string) (rules *ticket.Rules, file string, err error) {
	file, found := p.rulesFile(named)
	if !found {
		return ticket.BuiltIn(), "", nil
	}
	rules, err = ticket.ReadFile(file)
	return rules, file, err
}

type ticketsCheck struct {
	output
	File string `arg:"" optional:"" help:"The rules file. Default: TICKETS_FILE, or tickets.yaml."`
	Live bool   `help:"Look in the instance of the settings as well whether its tables, columns, groups, users and catalog items are there. Nothing is changed."`
}

// checked is what a check found, as JSON has it.
type checked struct {
	File     string           `json:"file,omitempty"` // absent when there is none, so that the built-in rules apply
	OK       bool             `json:"ok"`
	Errors   []ticket.Problem `json:"errors"`
	Warnings []ticket.Problem `json:"warnings"`
	Live     []finding        `json:"live,omitempty"`
}

func (c *ticketsCheck) Run(p *program) error {
	rules, file, err := p.rules(c.File)
	out := checked{File: file, Errors: []ticket.Problem{}, Warnings: []ticket.Problem{}}
	problems, ok := errors.AsType[ticket.FileErrors](err)
	if err != nil && !ok {
		return err
	}
	out.Errors = append(out.Errors, problems...)
	if err == nil {
		out.Warnings = append(out.Warnings, rules.Warnings()...)
		if c.Live {
			if out.Live, err = c.live(p, rules); err != nil {
				return err
			}
		}
	}
	wrong := slices.ContainsFunc(out.Live, func(f finding) bool { return f.Kind == "error" })
	out.OK = len(out.Errors) == 0 && !wrong
	if c.Output == "json" {
		if err := printJSON(p.stdout, out); err != nil {
			return err
		}
	} else if len(out.Errors) == 0 {
		out.print(p.stdout)
	}
	switch {
	case len(out.Errors) > 0 && c.Output == "json":
		return fmt.Errorf("%s has %s", file, plural(len(out.Errors), "error"))
	case len(out.Errors) > 0:
		return fmt.Errorf("%s has %s:\n%w", file, plural(len(out.Errors), "error"), problems)
	case wrong:
		return errors.New("the instance does not have what the rules ask for")
	default:
		return nil
	}
}

func (c *checked) print(w io.Writer) {
	switch {
	case c.File == "":
		fmt.Fprintln(w, "there is no rules file: the built-in rules apply")
	case len(c.Warnings) == 0:
		fmt.Fprintln(w, c.File+" is right")
	default:
		fmt.Fprintf(w, "%s can be used, with %s:\n", c.File, plural(len(c.Warnings), "warning"))
		for _, one := range c.Warnings {
			fmt.Fprintln(w, one.String())
		}
	}
	if c.Live == nil {
		return
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range c.Live {
		fmt.Fprintf(t, "%s\t%s\t%s\n", f.Kind, f.Of, f.Text)
	}
	_ = t.Flush()
}

// A finding is what a look into the instance showed.
type finding struct {
	Kind string `json:"kind"` // ok, warning or error
	Of   string `json:"of"`   // the table, the group, …
	Text string `json:"text"`
}

// live looks up in the instance what the rules ask of it.
func (c *ticketsCheck) live(p *program, rules *ticket.Rules) ([]finding, error) {
	settings, err := setup.Read(p.environ)
	if err != nil {
		return nil, fmt.Errorf("the settings are not right:\n%w", err)
	}
	client, err := settings.ServiceNow(rules)
	if err != nil {
		return nil, err
	}
	l := live{client: client, timeout: settings.ServiceNowTimeout, asked: map[string]bool{}}
	return l.look(p.ctx, rules.Uses())
}

// A live check looks into an instance.
type live struct {
	client  *servicenow.Client
	timeout time.Duration
	asked   map[string]bool
	found   []finding
}

func (l *live) add(kind, of, format string, args ...any) {
	f := finding{kind, of, fmt.Sprintf(format, args...)}
	if !slices.Contains(l.found, f) {
		l.found = append(l.found, f)
	}
}

// look asks for everything once. Its error is one that says nothing of the rules: the instance does not serve us.
func (l *live) look(ctx context.Context, uses []ticket.Use) ([]finding, error) {
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
			if err := l.lookUp(ctx, "group "+name, "error", func(ctx context.Context) (string, bool, error) { return l.client.FindGroup(ctx, name) }); err != nil {
				return nil, err
			}
		}
		for _, name := range u.Users {
			if err := l.lookUp(ctx, "user "+name, "warning", func(ctx context.Context) (string, bool, error) { return l.client.FindUser(ctx, name, name) }); err != nil {
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

// table describes a table; nil when that cannot be done, which is a finding.
func (l *live) table(ctx context.Context, name string) (*servicenow.Table, error) {
	ctx, cancel := context.WithTimeout(ctx, 4*l.timeout) // it takes some calls
	defer cancel()
	t, err := l.client.Describe(ctx, name)
	of := "table " + name
	switch {
	case err == nil:
	case fault.Is(err, fault.Misconfigured), fault.Is(err, fault.NotFound):
		l.add("error", of, "%s", sentence(err))
		return nil, nil
	case fault.Is(err, fault.Forbidden):
		l.add("warning", of, "it cannot be looked at: %s", sentence(err))
		return nil, nil
	default:
		return nil, err
	}
	if _, ok := t.Columns["correlation_id"]; !ok {
		l.add("error", of, "it has no column correlation_id, by which tickets are found again; use a table that extends task")
	}
	if t.Records == servicenow.Hidden {
		l.add("warning", of, "there are records, and we are shown none of those that were asked for; the integration user has to read the records that it creates")
	}
	l.add("ok", of, "%s, %s", t.Label, plural(len(t.Columns), "column"))
	return &t, nil
}

func (l *live) columns(u ticket.Use, t *servicenow.Table) {
	for column, limit := range u.Columns {
		of := u.Table + "." + column
		in, ok := t.Columns[column]
		switch refers := u.Refers[column]; {
		case !ok && u.Rule == "(built in)":
			l.add("warning", of, "the table has no such column; what the built-in texts say there is dropped")
		case !ok:
			l.add("error", of, "the table has no such column: what rule %s says there would be dropped without a word", u.Rule)
		case refers != "" && in.Reference != refers:
			l.add("error", of, "it does not refer to %s, as rule %s has it", refers, u.Rule)
		case refers == "" && in.Reference != "":
			l.add("warning", of, "it refers to %s: a text of rule %s is taken there only when it is a sys_id", in.Reference, u.Rule)
		case in.ReadOnly:
			l.add("warning", of, "it is read-only in the dictionary")
		case refers == "" && in.MaxLength > 0 && in.MaxLength < limit && in.Type == "string":
			l.add("warning", of, "it holds %d characters, and texts are cut at %d; say {text: …, max: %d} in rule %s", in.MaxLength, limit, in.MaxLength, u.Rule)
		}
	}
	for _, column := range u.Judged {
		if _, ok := t.Columns[column]; !ok {
			l.add("error", u.Table+"."+column, "the table has no such column, by which rule %s judges", u.Rule)
		}
	}
	for _, column := range u.Cancelled {
		if _, ok := t.Columns[column]; !ok {
			l.add("error", u.Table+"."+column, "the table has no such column, with which rule %s cancels", u.Rule)
		}
	}
	for _, c := range t.Columns {
		if _, filled := u.Columns[c.Name]; c.Mandatory && !filled && c.Name != "number" {
			l.add("warning", u.Table+"."+c.Name, "it is mandatory on forms, and rule %s leaves it empty", u.Rule)
		}
	}
	slices.SortStableFunc(l.found, func(a, b finding) int { return strings.Compare(tableOf(a.Of), tableOf(b.Of)) })
}

// tableOf sorts columns behind their table.
func tableOf(of string) string { return strings.TrimPrefix(of, "table ") }

func (l *live) lookUp(ctx context.Context, of, missing string, find func(context.Context) (string, bool, error)) error {
	if l.asked[of] {
		return nil
	}
	l.asked[of] = true
	ctx, cancel := context.WithTimeout(ctx, 2*l.timeout)
	defer cancel()
	_, found, err := find(ctx)
	switch {
	case err != nil && fault.ReasonOf(err).Temporary():
		return err
	case err != nil:
		l.add("error", of, "%s", sentence(err))
	case !found:
		l.add(missing, of, "there is no active one of this name, or more than one, or its name cannot be asked for")
	default:
		l.add("ok", of, "it is there")
	}
	return nil
}

func (l *live) item(ctx context.Context, u ticket.Use) error {
	ctx, cancel := context.WithTimeout(ctx, 4*l.timeout)
	defer cancel()
	item, err := l.client.Item(ctx, u.Item)
	of := "catalog item " + u.Item
	switch {
	case err != nil && fault.ReasonOf(err).Temporary():
		return err
	case err != nil:
		l.add("error", of, "%s", sentence(err))
		return nil
	}
	var names []string
	for _, v := range item.Variables {
		names = append(names, v.Name)
		if v.Mandatory && v.Name != u.Reference && !slices.Contains(u.Variables, v.Name) {
			l.add("error", of, "its variable %s is mandatory, and rule %s does not fill it in", v.Name, u.Rule)
		}
	}
	for _, v := range slices.Concat(u.Variables, []string{u.Reference}) {
		if !slices.Contains(names, v) {
			l.add("error", of, "it has no variable %s, which rule %s fills in; it has %s", v, u.Rule, strings.Join(names, ", "))
		}
	}
	l.add("ok", of, "it can be ordered, %s", plural(len(names), "variable"))
	return nil
}

// sentence is what an error found and what to do about it.
func sentence(err error) string {
	e, ok := errors.AsType[*fault.Error](err)
	if !ok {
		return err.Error()
	}
	return strings.TrimSpace(strings.TrimSuffix(e.Detail, ".") + ". " + e.Advice)
}
