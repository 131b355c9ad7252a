package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
	"unicode/utf8"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/storage"
)

type requestsExport struct {
	IDs       []string `arg:"" optional:"" name:"id" help:"Request ids, or <request id>/<stage instance id>."`
	Open      bool     `help:"All that have not ended."`
	EndedFrom string   `placeholder:"DAY" help:"All that ended on this day (UTC) or later, as in 2026-11-24."`
	EndedTo   string   `placeholder:"DAY" help:"And not later than on this day; without it, until today."`
	Output    string   `short:"o" enum:"jsonl,json" default:"jsonl" help:"jsonl, an object on each line, or json, one array."`
	File      string   `placeholder:"PATH" help:"Write to this file, which only you may read, and not to the standard output."`
	Force     bool     `help:"Replace the file if there is one."`
}

// Help is shown with --help.
func (requestsExport) Help() string {
	return "An export holds all that is stored, with the callout as it came: names, e-mail addresses and answers of people. Keep it as you would keep those."
}

// exported is all that is stored of one stage instance. Its names are part of the export's format.
type exported struct {
	Schema          int                  `json:"schema"`
	RequestID       string               `json:"requestId"`
	StageInstanceID string               `json:"stageInstanceId"`
	State           correlation.State    `json:"state"`
	Since           time.Time            `json:"since"`
	Created         time.Time            `json:"created"`
	Reason          string               `json:"reason,omitempty"`
	Advice          string               `json:"advice,omitempty"`
	StoppedIn       correlation.State    `json:"stoppedIn,omitempty"`
	Stage           string               `json:"stage,omitempty"`
	RequestType     string               `json:"requestType,omitempty"`
	Waits           bool                 `json:"waits"`
	MayWait         bool                 `json:"mayWait"`
	Deadline        time.Time            `json:"deadline,omitzero"`
	AccessPackageID string               `json:"accessPackageId,omitempty"`
	AccessPackage   string               `json:"accessPackage,omitempty"`
	CatalogID       string               `json:"catalogId,omitempty"`
	Catalog         string               `json:"catalog,omitempty"`
	Target          string               `json:"target,omitempty"`
	Rule            string               `json:"rule,omitempty"`
	OnRejected      string               `json:"onRejected,omitempty"`
	Tickets         []correlation.Ticket `json:"tickets"`
	Outcome         correlation.Outcome  `json:"outcome,omitempty"`
	ResumeWith      string               `json:"resumeWith,omitempty"`
	Earlier         string               `json:"earlier,omitempty"`
	Attempts        int                  `json:"attempts,omitempty"`
	Deaths          int                  `json:"deaths,omitempty"`
	NextAttempt     time.Time            `json:"nextAttempt,omitzero"`
	LastReason      fault.Reason         `json:"lastReason,omitempty"`
	LastError       string               `json:"lastError,omitempty"`
	Settles         time.Time            `json:"settles,omitzero"`
	LeaseOwner      string               `json:"leaseOwner,omitempty"`
	LeaseUntil      time.Time            `json:"leaseUntil,omitzero"`
	Due             time.Time            `json:"due,omitzero"`
	Version         string               `json:"version"`
	Events          int                  `json:"events"`
	Timeline        []event              `json:"timeline"`
	CalloutHash     string               `json:"calloutSha256,omitempty"`
	Callout         json.RawMessage      `json:"callout,omitempty"`       // as it came, but for white space, when it is JSON
	CalloutBase64   []byte               `json:"calloutBase64,omitempty"` // byte by byte, when it is not
}

func exportOf(c *correlation.Correlation, events []correlation.Event, body []byte) exported {
	e := exported{
		Schema: c.Schema, RequestID: c.Key.Request, StageInstanceID: c.Key.Stage, State: c.State, Since: c.Since, Created: c.Created, Reason: c.Reason, Advice: c.Advice,
		StoppedIn: c.From, Stage: c.Stage, RequestType: c.RequestType, Waits: c.Waits, MayWait: c.MayWait, Deadline: c.Deadline,
		AccessPackageID: c.PackageID, AccessPackage: c.PackageName, CatalogID: c.CatalogID, Catalog: c.CatalogName, Target: c.TargetName,
		Rule: c.Rule, OnRejected: c.OnRejected, Tickets: c.Tickets, Outcome: c.Outcome, ResumeWith: c.ResumeWith, Earlier: c.Earlier,
		Attempts: c.Attempts, Deaths: c.Deaths, NextAttempt: c.NextAttempt, LastReason: c.LastReason, LastError: c.LastError, Settles: c.Settles,
		LeaseOwner: c.LeaseOwner, LeaseUntil: c.LeaseUntil, Due: c.Due, Version: c.Version, Events: c.Events, Timeline: eventsOf(events), CalloutHash: c.CalloutHash,
	}
	if e.Tickets == nil {
		e.Tickets = []correlation.Ticket{}
	}
	if json.Valid(body) && utf8.Valid(body) {
		e.Callout = body
	} else {
		e.CalloutBase64 = body
	}
	return e
}

func (c *requestsExport) Run(p *program) (err error) {
	from, to, err := c.days(time.Now().UTC())
	if err != nil {
		return err
	}
	store, err := p.store()
	if err != nil {
		return err
	}
	out, done, err := c.open(p.stdout)
	if err != nil {
		return err
	}
	defer func() { err = done(err) }()
	x := &exporter{program: p, store: store, out: out, array: c.Output == "json"}
	if err := x.begin(); err != nil {
		return err
	}
	for _, id := range c.IDs {
		stages, err := p.stages(store, id)
		if err != nil {
			return err
		}
		for _, s := range stages {
			if err := x.write(s); err != nil {
				return err
			}
		}
	}
	if c.Open {
		if err := x.list(func(cursor string) ([]correlation.Summary, string, error) { return store.Open(p.ctx, cursor, 0) }); err != nil {
			return err
		}
	}
	if c.EndedFrom != "" {
		for day := from; !day.After(to); day = day.AddDate(0, 0, 1) {
			if err := x.list(func(cursor string) ([]correlation.Summary, string, error) { return store.Ended(p.ctx, day, cursor, 0) }); err != nil {
				return err
			}
		}
	}
	return x.end()
}

// days reads what is to be exported.
func (c *requestsExport) days(now time.Time) (from, to time.Time, err error) {
	switch {
	case c.EndedTo != "" && c.EndedFrom == "":
		return from, to, errors.New("--ended-to needs --ended-from")
	case len(c.IDs) == 0 && !c.Open && c.EndedFrom == "":
		return from, to, errors.New("say what to export: request ids, --open, or --ended-from with --ended-to")
	case len(c.IDs) > 0 && (c.Open || c.EndedFrom != ""):
		return from, to, errors.New("export either the requests that are named, or lists of them")
	case c.EndedFrom == "":
		return from, to, nil
	}
	if from, err = day("--ended-from", c.EndedFrom); err != nil {
		return from, to, err
	}
	to = now
	if c.EndedTo != "" {
		if to, err = day("--ended-to", c.EndedTo); err != nil {
			return from, to, err
		}
	}
	if to.Before(from) {
		return from, to, fmt.Errorf("no day lies from %s to %s", from.Format(time.DateOnly), to.Format(time.DateOnly))
	}
	return from, to, nil
}

// open returns what to write to. done is to be called with what the writing came to, and returns what the export came to: a file is there whole, or not
// at all, and nobody else may read it.
func (c *requestsExport) open(stdout io.Writer) (out io.Writer, done func(error) error, err error) {
	if c.File == "" {
		return stdout, func(err error) error { return err }, nil
	}
	if _, err := os.Lstat(c.File); err == nil && !c.Force {
		return nil, nil, fmt.Errorf("there is a %s already; say --force to replace it", c.File)
	}
	f, err := os.CreateTemp(filepath.Dir(c.File), "."+filepath.Base(c.File)+".*") // it makes files for their owner alone
	if err != nil {
		return nil, nil, err
	}
	return f, func(err error) error {
		defer os.Remove(f.Name())
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
		if c.Force {
			return os.Rename(f.Name(), c.File)
		}
		if err := os.Link(f.Name(), c.File); err != nil { // which a rename would replace
			return fmt.Errorf("nothing was exported: %w", err)
		}
		return nil
	}, nil
}

// exporter writes one stage instance after the other, and holds no more than one.
type exporter struct {
	*program
	store *storage.Store
	out   io.Writer
	array bool
	count int
}

func (x *exporter) begin() error {
	if !x.array {
		return nil
	}
	_, err := io.WriteString(x.out, "[")
	return err
}

func (x *exporter) list(page func(cursor string) ([]correlation.Summary, string, error)) error {
	return each(page, func(s correlation.Summary) error {
		c, err := x.store.Load(x.ctx, s.Key)
		if fault.Is(err, fault.NotFound) {
			return nil // listed and never stored, or removed meanwhile
		}
		if err != nil {
			return err
		}
		return x.write(c)
	})
}

func (x *exporter) write(c *correlation.Correlation) error {
	events, err := x.store.Timeline(x.ctx, c.Key)
	if err != nil {
		return err
	}
	body, err := x.store.Callout(x.ctx, c.Key)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	var b bytes.Buffer
	switch {
	case x.array && x.count > 0:
		b.WriteString(",\n")
	case x.array:
		b.WriteString("\n")
	}
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(exportOf(c, events, body)); err != nil {
		return err
	}
	line := b.Bytes()
	if x.array {
		line = bytes.TrimSuffix(line, []byte("\n"))
	}
	x.count++
	_, err = x.out.Write(line)
	return err
}

func (x *exporter) end() error {
	if x.array {
		if _, err := io.WriteString(x.out, "\n]\n"); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(x.stderr, "exported %s\n", plural(x.count, "stage instance"))
	return err
}
