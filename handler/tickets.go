package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"ticketbridge/handler/doctor"
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
		fmt.Fprintf(t, "%s\t%s\t%s\n", f.Kind, f.Of, strings.TrimSpace(strings.TrimSuffix(f.Text, ".")+". "+f.Remedy))
	}
	_ = t.Flush()
}

// A finding is what a look into the instance showed.
type finding struct {
	Kind   string `json:"kind"` // ok, warning or error
	Of     string `json:"of"`   // the table, the group, …
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"`
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
	found, err := doctor.Look(p.ctx, client, settings.ServiceNowTimeout, rules.Uses())
	if err != nil {
		return nil, err
	}
	out := []finding{}
	for _, f := range found {
		kind := map[doctor.Kind]string{doctor.OK: "ok", doctor.Warning: "warning", doctor.Failure: "error"}[f.Kind]
		out = append(out, finding{kind, f.Of, f.Text, f.Remedy})
	}
	return out, nil
}
