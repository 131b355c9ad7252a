package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/setup"
	"ticketbridge/handler/storage"
)

// requestsCommand looks into the storage that the environment names (AzureWebJobsStorage…, STORAGE_PREFIX). It shows ids, states and reasons,
// and no names of people: the console does.
type requestsCommand struct {
	List requestsList `cmd:"" help:"List what is open, or with --ended what ended on a day."`
	Show requestsShow `cmd:"" help:"Show one request: its stages, tickets and timeline."`
}

type output struct {
	Output string `short:"o" enum:"text,json" default:"text" help:"text or json."`
}

type requestsList struct {
	output
	Ended string `placeholder:"DAY" help:"Those that ended on this day (UTC), as in 2026-11-24, instead of the open ones."`
}

// row is a line of a list, as JSON has it.
type row struct {
	RequestID       string    `json:"requestId"`
	StageInstanceID string    `json:"stageInstanceId"`
	State           string    `json:"state"`
	Since           time.Time `json:"since"`
	Created         time.Time `json:"created"`
	Deadline        time.Time `json:"deadline,omitzero"`
	Stage           string    `json:"stage,omitempty"`
	RequestType     string    `json:"requestType,omitempty"`
	AccessPackage   string    `json:"accessPackage,omitempty"`
	Catalog         string    `json:"catalog,omitempty"`
	Tickets         string    `json:"tickets,omitempty"`
	Reason          string    `json:"reason,omitempty"`
	Advice          string    `json:"advice,omitempty"`
	Attempts        int       `json:"attempts,omitempty"`
}

func rowOf(s correlation.Summary) row {
	return row{
		s.Key.Request, s.Key.Stage, string(s.State), s.Since, s.Created, s.Deadline, s.Stage, s.RequestType, s.PackageName, s.CatalogName,
		s.Tickets, s.Reason, s.Advice, s.Attempts,
	}
}

func (c *requestsList) Run(p *program) error {
	store, err := p.store()
	if err != nil {
		return err
	}
	page := func(cursor string) ([]correlation.Summary, string, error) { return store.Open(p.ctx, cursor, 0) }
	if c.Ended != "" {
		day, err := time.Parse(time.DateOnly, c.Ended)
		if err != nil {
			return fmt.Errorf("--ended holds %q; it must hold a day, as in 2026-11-24", c.Ended)
		}
		page = func(cursor string) ([]correlation.Summary, string, error) { return store.Ended(p.ctx, day, cursor, 0) }
	}
	rows := []row{}
	for cursor, more := "", true; more; more = cursor != "" {
		var some []correlation.Summary
		if some, cursor, err = page(cursor); err != nil {
			return err
		}
		for _, s := range some {
			rows = append(rows, rowOf(s))
		}
	}
	if c.Output == "json" {
		return printJSON(p.stdout, rows)
	}
	if len(rows) == 0 {
		_, err := fmt.Fprintln(p.stdout, "none")
		return err
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STATE\tAGE\tREQUEST\tSTAGE\tACCESS PACKAGE\tTICKETS\tREASON")
	for _, r := range rows {
		fmt.Fprintln(w, strings.Join([]string{r.State, age(time.Since(r.Created)), r.RequestID, r.Stage, r.AccessPackage, r.Tickets, r.Reason}, "\t"))
	}
	return w.Flush()
}

type requestsShow struct {
	output
	ID string `arg:"" name:"request-id" help:"The access package assignment request's id; or <request id>/<stage instance id>, as tickets carry it."`
}

type shown struct {
	row
	Rule    string               `json:"rule,omitempty"`
	Outcome string               `json:"outcome,omitempty"`
	Tickets []correlation.Ticket `json:"ticketDetails"`
	Events  []event              `json:"timeline"`
}

type event struct {
	Seq        int       `json:"seq"`
	At         time.Time `json:"at"`
	Kind       string    `json:"kind"`
	From       string    `json:"from,omitempty"`
	To         string    `json:"to,omitempty"`
	By         string    `json:"by"`
	Text       string    `json:"text"`
	Reason     string    `json:"reason,omitempty"`
	Invocation string    `json:"invocationId,omitempty"`
}

func (c *requestsShow) Run(p *program) error {
	store, err := p.store()
	if err != nil {
		return err
	}
	request, stage, one := strings.Cut(c.ID, "/")
	all, err := store.Stages(p.ctx, request)
	if err != nil {
		return err
	}
	stages := []shown{}
	for _, s := range all {
		if one && !strings.EqualFold(s.Key.Stage, stage) {
			continue
		}
		events, err := store.Timeline(p.ctx, s.Key)
		if err != nil {
			return err
		}
		v := shown{row: rowOf(s.Summary()), Rule: s.Rule, Outcome: string(s.Outcome), Tickets: []correlation.Ticket{}}
		for _, t := range s.Tickets {
			t.Fields = nil // a planned ticket's text names people
			v.Tickets = append(v.Tickets, t)
		}
		for _, e := range events {
			v.Events = append(v.Events, event{e.Seq, e.At, e.Kind, string(e.From), string(e.To), e.By, e.Text, string(e.Reason), e.Invocation})
		}
		stages = append(stages, v)
	}
	if len(stages) == 0 {
		return fmt.Errorf("no request %s is known here", c.ID)
	}
	if c.Output == "json" {
		return printJSON(p.stdout, stages)
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	for i, s := range stages {
		if i > 0 {
			fmt.Fprintln(w)
		}
		line := func(name, value string) {
			if value != "" {
				fmt.Fprintln(w, name+"\t"+value)
			}
		}
		line("request", s.RequestID)
		line("stage instance", s.StageInstanceID)
		line("stage", s.Stage)
		line("request type", s.RequestType)
		line("access package", s.AccessPackage)
		line("state", s.State+", for "+age(time.Since(s.Since)))
		line("reason", s.Reason)
		line("advice", s.Advice)
		if !s.Deadline.IsZero() {
			line("deadline", s.Deadline.UTC().Format(time.RFC3339))
		}
		for _, t := range s.Tickets {
			line("ticket", strings.TrimSpace(t.Number+" "+t.State+" "+t.Link))
		}
		for _, e := range s.Events {
			line(e.At.UTC().Format(time.RFC3339), e.Text)
		}
	}
	return w.Flush()
}

func (p *program) store() (*storage.Store, error) {
	settings, err := setup.ReadStorage(p.environ)
	if err != nil {
		return nil, err
	}
	store, _, err := setup.Storage(settings)
	return store, err
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// age is a duration in the two largest units that say something.
func age(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
	}
}
