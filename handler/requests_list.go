package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/storage"
	"ticketbridge/handler/workflow"
)

type requestsList struct {
	output
	Ended      string   `placeholder:"DAY" help:"Those that ended on this day (UTC), as in 2026-11-24, instead of the open ones."`
	State      []string `placeholder:"STATE" help:"Only those in one of these states, as in failed,held."`
	Catalog    string   `placeholder:"NAME" help:"Only those of this catalog."`
	OlderThan  string   `placeholder:"AGE" help:"Only those that came longer ago than this, as in 90m, 12h or 3d."`
	Unreadable bool     `help:"Instead of requests the messages that the host gave up on and that name no request."`
	Forget     string   `placeholder:"MESSAGE" help:"With --unreadable: remove this message, once somebody has looked at it."`
}

func (c *requestsList) Run(p *program) error {
	store, err := p.store()
	if err != nil {
		return err
	}
	if c.Unreadable {
		if c.Ended+c.Catalog+c.OlderThan != "" || len(c.State) > 0 {
			return errors.New("--unreadable lists messages, of which none of the other options says anything")
		}
		return c.unreadable(p, store)
	}
	if c.Forget != "" {
		return errors.New("--forget goes with --unreadable only: no request is ever forgotten by hand")
	}
	wanted, err := c.filter(time.Now())
	if err != nil {
		return err
	}
	page := func(cursor string) ([]correlation.Summary, string, error) { return store.Open(p.ctx, cursor, 0) }
	if c.Ended != "" {
		ended, err := day("--ended", c.Ended)
		if err != nil {
			return err
		}
		page = func(cursor string) ([]correlation.Summary, string, error) {
			return store.Ended(p.ctx, ended, cursor, 0)
		}
	}
	var list []correlation.Summary
	if err := each(page, func(s correlation.Summary) error {
		if wanted(s) {
			list = append(list, s)
		}
		return nil
	}); err != nil {
		return err
	}
	urgent(list, c.Ended != "")
	rows, missed := []row{}, false
	for _, s := range list {
		rows = append(rows, rowOf(s))
		missed = missed || c.Ended == "" && time.Since(s.Created) > workflow.SweepOverdue
	}
	if c.Output == "json" {
		if err := printJSON(p.stdout, rows); err != nil {
			return err
		}
		return warn(p.ctx, p.stderr, store, missed)
	}
	if len(rows) == 0 {
		if _, err := fmt.Fprintln(p.stdout, "none"); err != nil {
			return err
		}
		return warn(p.ctx, p.stdout, store, false)
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STATE\tAGE\tREQUEST\tSTAGE\tACCESS PACKAGE\tTICKETS\tREASON")
	for _, r := range rows {
		fmt.Fprintln(w, strings.Join([]string{r.State, age(time.Since(r.Created)), r.RequestID, r.Stage, r.AccessPackage, r.Tickets, r.Reason}, "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return warn(p.ctx, p.stdout, store, missed)
}

// urgent sorts what needs a person before the rest, and what came first before what came later; what ended, by its end.
func urgent(list []correlation.Summary, ended bool) {
	rank := func(s correlation.Summary) int {
		if s.State.NeedsPerson() {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(list, func(a, b correlation.Summary) int {
		if ended {
			return a.Since.Compare(b.Since)
		}
		return cmp.Or(cmp.Compare(rank(a), rank(b)), a.Created.Compare(b.Created))
	})
}

// filter returns what the options ask for.
func (c *requestsList) filter(now time.Time) (func(correlation.Summary) bool, error) {
	for _, s := range c.State {
		if !correlation.State(s).Known() {
			return nil, fmt.Errorf("--state holds %q; the states are %s", s, words(correlation.States))
		}
	}
	before := now
	if c.OlderThan != "" {
		d, err := span(c.OlderThan)
		if err != nil {
			return nil, err
		}
		before = now.Add(-d)
	}
	return func(s correlation.Summary) bool {
		return (len(c.State) == 0 || slices.Contains(c.State, string(s.State))) &&
			(c.Catalog == "" || strings.EqualFold(c.Catalog, s.CatalogName)) &&
			(c.OlderThan == "" || s.Created.Before(before))
	}, nil
}

func words(states []correlation.State) string {
	var out []string
	for _, s := range states {
		out = append(out, string(s))
	}
	return strings.Join(out, ", ")
}

// span reads an age: what Go calls a duration, or days.
func span(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n int
		n, err = strconv.Atoi(days)
		d = time.Duration(n) * 24 * time.Hour
		if n > 36500 {
			err = strconv.ErrRange
		}
	}
	if err != nil || d < 0 {
		return 0, fmt.Errorf("--older-than holds %q; it must hold an age, as in 90m, 12h or 3d", s)
	}
	return d, nil
}

// warn says what a list does not show: that no sweep runs, which everything that nobody reports waits for, and that there are messages nobody can read.
// That none has ever run is said when it is missed: something on the list should have been looked at.
func warn(ctx context.Context, w io.Writer, store *storage.Store, missed bool) error {
	mark, err := store.Mark(ctx)
	if err != nil {
		return err
	}
	kept, err := store.Unreadable(ctx)
	if err != nil {
		return err
	}
	switch now := time.Now(); {
	case mark.Begun.IsZero() && missed:
		fmt.Fprintln(w, "warning: no sweep has ever run, and what nobody reports waits for one; is the setting SWEEP_SCHEDULE there?")
	case mark.Overdue(now):
		fmt.Fprintf(w, "warning: the last sweep began %s ago, and what nobody reports waits for one; does the function app run, with the setting SWEEP_SCHEDULE?\n", age(now.Sub(mark.Begun)))
	}
	if n := len(kept); n > 0 {
		fmt.Fprintf(w, "warning: %s cannot be read; see `handler requests list --unreadable`\n", plural(n, "message"))
	}
	return nil
}

// message is an unreadable one, as JSON has it.
type message struct {
	ID         string    `json:"id"`
	Text       string    `json:"text"`
	InsertedOn time.Time `json:"insertedOn"`
	KeptOn     time.Time `json:"keptOn"`
	Reason     string    `json:"reason"`
}

func (c *requestsList) unreadable(p *program, store *storage.Store) error {
	kept, err := store.Unreadable(p.ctx)
	if err != nil {
		return err
	}
	if c.Forget != "" {
		if !slices.ContainsFunc(kept, func(u workflow.Unreadable) bool { return u.ID == c.Forget }) {
			return fmt.Errorf("no message %q is kept; see `handler requests list --unreadable`", c.Forget)
		}
		if err := store.ForgetUnreadable(p.ctx, c.Forget); err != nil {
			return err
		}
		kept = slices.DeleteFunc(kept, func(u workflow.Unreadable) bool { return u.ID == c.Forget })
	}
	if c.Output == "json" {
		out := []message{}
		for _, u := range kept {
			out = append(out, message(u))
		}
		return printJSON(p.stdout, out)
	}
	if len(kept) == 0 {
		_, err := fmt.Fprintln(p.stdout, "none")
		return err
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "AGE\tMESSAGE\tREASON\tTEXT")
	for _, u := range kept {
		fmt.Fprintf(w, "%s\t%s\t%s\t%.200q\n", age(time.Since(u.InsertedOn)), u.ID, u.Reason, u.Text) // whatever it holds, quoted
	}
	return w.Flush()
}
