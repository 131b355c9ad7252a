package main

import (
	"cmp"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"ticketbridge/handler/correlation"
)

type requestsShow struct {
	output
	ID string `arg:"" name:"request-id" help:"The access package assignment request's id; or <request id>/<stage instance id>, as tickets carry it."`
}

type shown struct {
	row
	StoppedIn   string               `json:"stoppedIn,omitempty"` // of one that failed or is held: where
	NextAttempt time.Time            `json:"nextAttempt,omitzero"`
	Rule        string               `json:"rule,omitempty"`
	Outcome     string               `json:"outcome,omitempty"`
	Tickets     []correlation.Ticket `json:"ticketDetails"`
	Events      []event              `json:"timeline"`
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

func eventsOf(list []correlation.Event) []event {
	var out []event
	for _, e := range list {
		out = append(out, event{e.Seq, e.At, e.Kind, string(e.From), string(e.To), e.By, e.Text, string(e.Reason), e.Invocation})
	}
	return out
}

func (c *requestsShow) Run(p *program) error {
	store, err := p.store()
	if err != nil {
		return err
	}
	all, err := p.stages(store, c.ID)
	if err != nil {
		return err
	}
	var stages []shown
	for _, s := range all {
		events, err := store.Timeline(p.ctx, s.Key)
		if err != nil {
			return err
		}
		v := shown{
			row: rowOf(s.Summary()), StoppedIn: string(s.From), NextAttempt: s.NextAttempt, Rule: s.Rule, Outcome: string(s.Outcome),
			Tickets: []correlation.Ticket{}, Events: eventsOf(events),
		}
		for _, t := range s.Tickets {
			t.Fields, t.Item, t.CloseNotes = nil, nil, "" // what is planned names people, and so may what somebody wrote
			v.Tickets = append(v.Tickets, t)
		}
		stages = append(stages, v)
	}
	if c.Output == "json" {
		return printJSON(p.stdout, stages)
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	for i, s := range stages {
		if i > 0 {
			fmt.Fprintln(w)
		}
		s.print(w)
	}
	return w.Flush()
}

func (s *shown) print(w *tabwriter.Writer) {
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
	line("stopped while", s.StoppedIn)
	line("reason", s.Reason)
	line("advice", s.Advice)
	if !s.NextAttempt.IsZero() {
		line("next attempt", s.NextAttempt.UTC().Format(time.RFC3339))
	}
	if !s.Deadline.IsZero() {
		line("deadline", s.Deadline.UTC().Format(time.RFC3339))
	}
	for _, t := range s.Tickets {
		line("ticket", ticketLine(t))
	}
	for _, e := range s.Events {
		text := e.Text
		if e.Kind == correlation.EventOperator {
			text += " (" + e.By + ")"
		}
		line(e.At.UTC().Format(time.RFC3339), text)
	}
}

// ticketLine says what is known of a ticket; of one that is planned only, that there may be none.
func ticketLine(t correlation.Ticket) string {
	if t.SysID == "" {
		return "planned in " + t.Table + ", not known to exist"
	}
	return strings.Join(strings.Fields(cmp.Or(t.Number, t.SysID)+" "+t.State+" "+t.Link), " ")
}
