package main

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/mattn/go-isatty"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/storage"
	"ticketbridge/handler/workflow"
)

// ordering is what each order of an operator takes.
type ordering struct {
	output
	By     string `placeholder:"NAME" help:"Who says so, for the timeline; without it the user of the operating system."`
	Reason string `required:"" placeholder:"TEXT" help:"Why, for the timeline: one line without personal data."`
}

type requestsRetry struct {
	ordering
	IDs    []string `arg:"" optional:"" name:"id" help:"Request ids, or <request id>/<stage instance id>."`
	Failed bool     `help:"All that have failed, as after an outage. Asks first."`
	Yes    bool     `help:"Do not ask."`
}

type requestsHold struct {
	ordering
	IDs []string `arg:"" name:"id" help:"Request ids, or <request id>/<stage instance id>."`
}

// deciding is what a person's decision takes.
type deciding struct {
	ordering
	ID  string `arg:"" name:"id" help:"The request's id, or <request id>/<stage instance id>."`
	Yes bool   `help:"Do not ask."`
}

type (
	requestsResume struct{ deciding }
	requestsDeny   struct{ deciding }
)

// order is one kind of order, for one stage.
type order func(ctx context.Context, key correlation.Key) (workflow.Ordered, error)

func (c *requestsRetry) Run(p *program) error {
	store, operator, err := p.operator()
	if err != nil {
		return err
	}
	if c.Failed == (len(c.IDs) > 0) {
		return errors.New("name the requests to retry, or say --failed for all that have failed")
	}
	if err := c.who(user.Current); err != nil {
		return err
	}
	retry := func(ctx context.Context, key correlation.Key) (workflow.Ordered, error) {
		return operator.Retry(ctx, key, c.By, c.Reason)
	}
	if !c.Failed {
		return c.giveAll(p, store, "retry", c.IDs, retry)
	}
	var keys []correlation.Key
	open := func(cursor string) ([]correlation.Summary, string, error) { return store.Open(p.ctx, cursor, 0) }
	if err := each(open, func(s correlation.Summary) error {
		if s.State == correlation.Failed {
			keys = append(keys, s.Key)
		}
		return nil
	}); err != nil {
		return err
	}
	if len(keys) > 0 && !c.Yes {
		if err := p.confirm(plural(len(keys), "request") + " failed, and will be tried again where they failed."); err != nil {
			return err
		}
	}
	r := c.report("retry")
	for _, key := range keys {
		if p.ctx.Err() != nil {
			break
		}
		r.add(key.String(), key, func() (workflow.Ordered, error) { return retry(p.ctx, key) })
	}
	return errors.Join(r.print(p), p.ctx.Err())
}

func (c *requestsHold) Run(p *program) error {
	store, operator, err := p.operator()
	if err != nil {
		return err
	}
	if err := c.who(user.Current); err != nil {
		return err
	}
	return c.giveAll(p, store, "hold", c.IDs, func(ctx context.Context, key correlation.Key) (workflow.Ordered, error) {
		return operator.Hold(ctx, key, c.By, c.Reason)
	})
}

func (c *requestsResume) Run(p *program) error { return c.decide(p, workflow.Resume) }
func (c *requestsDeny) Run(p *program) error   { return c.decide(p, workflow.Deny) }

func (c *deciding) decide(p *program, d workflow.Decision) error {
	store, operator, err := p.operator()
	if err != nil {
		return err
	}
	if err := c.who(user.Current); err != nil {
		return err
	}
	stage, err := p.stage(store, c.ID)
	if err != nil {
		return err
	}
	if !c.Yes {
		// Whether it may be done at all is tried on a copy: nobody is asked about what is refused, or is so already.
		try := *stage
		would, err := try.DecideBy(correlation.Order{By: c.By, Why: c.Reason, At: time.Now()}, string(d))
		if err != nil {
			return plain(err)
		}
		if would {
			if err := p.confirm(consequences(stage, d)); err != nil {
				return err
			}
		}
	}
	r := c.report(string(d))
	r.add(c.ID, stage.Key, func() (workflow.Ordered, error) { return operator.Decide(p.ctx, stage.Key, d, c.By, c.Reason) })
	return r.print(p)
}

// consequences says on what somebody is about to decide, and what will come of it.
func consequences(c *correlation.Correlation, d workflow.Decision) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintln(w, name+"\t"+value)
		}
	}
	line("request", c.Key.String())
	line("stage", c.Stage)
	line("access package", c.PackageName)
	line("catalog", c.CatalogName)
	line("state", string(c.State)+", for "+age(time.Since(c.Since)))
	line("reason", c.Summary().Reason)
	open := 0
	for _, t := range c.Tickets {
		line("ticket", ticketLine(t))
		if t.SysID != "" && (t.Outcome == correlation.Pending || t.Outcome == "") {
			open++
		}
	}
	if len(c.Tickets) == 0 {
		line("ticket", "none")
	}
	_ = w.Flush()
	b.WriteByte('\n')
	if d == workflow.Resume {
		b.WriteString("Entra will be told to go on with the request: access is granted, or removed, as if the work were done.")
	} else {
		b.WriteString("Entra will be told to deny the request, for good.")
	}
	if open > 0 {
		fmt.Fprintf(&b, " %s still open, and will get a work note that nobody waits any more.", map[bool]string{true: "The ticket is", false: plural(open, "ticket") + " are"}[open == 1])
	}
	if c.MayWait && !c.Waits {
		b.WriteString(" The callout did not say that the request waits; Entra turns it down if it does not.")
	}
	return b.String()
}

// confirm shows what will be done, and asks for a yes on the terminal.
func (p *program) confirm(what string) error {
	if fd := p.stdin.Fd(); !isatty.IsTerminal(fd) && !isatty.IsCygwinTerminal(fd) {
		return errors.New("nobody can be asked, since the standard input is no terminal; say --yes when it is to be done all the same")
	}
	fmt.Fprintf(p.stderr, "%s\nType yes to go on: ", what)
	answer := make(chan string, 1)
	go func() { answer <- p.line() }()
	select {
	case said := <-answer:
		if strings.TrimSpace(said) != "yes" {
			return errors.New("not confirmed; nothing was done")
		}
		return nil
	case <-p.ctx.Done():
		fmt.Fprintln(p.stderr)
		return errors.New("interrupted; nothing was done")
	}
}

// line reads one line of the standard input, and no byte more.
func (p *program) line() string {
	var b strings.Builder
	for one := make([]byte, 1); b.Len() < 1000; {
		if n, err := p.stdin.Read(one); n == 0 || err != nil || one[0] == '\n' {
			break
		}
		b.WriteByte(one[0])
	}
	return b.String()
}

// who fills in the user of the operating system when nobody is named.
func (c *ordering) who(current func() (*user.User, error)) error {
	if c.By != "" {
		return nil
	}
	u, err := current()
	if err != nil || u.Username == "" {
		return errors.New("the operating system does not say who you are; say it with --by")
	}
	c.By = u.Username
	return nil
}

// stage returns the stage that an id names: its only one, or the only one that has not ended.
func (p *program) stage(store *storage.Store, id string) (*correlation.Correlation, error) {
	all, err := p.stages(store, id)
	if err != nil {
		return nil, err
	}
	if len(all) == 1 {
		return all[0], nil
	}
	var live []*correlation.Correlation
	var names []string
	for _, c := range all {
		names = append(names, fmt.Sprintf("%s (%s)", c.Key, c.State))
		if !c.State.Ended() {
			live = append(live, c)
		}
	}
	if len(live) == 1 {
		return live[0], nil
	}
	return nil, fmt.Errorf("the request has several stages, of which %d have not ended; name one of them:\n%s", len(live), strings.Join(names, "\n"))
}

// giveAll gives the order to each, and tells of each; what was wrong with one keeps nothing from the others.
func (c *ordering) giveAll(p *program, store *storage.Store, name string, ids []string, give order) error {
	r := c.report(name)
	for _, id := range ids {
		stage, err := p.stage(store, id)
		if err != nil {
			r.failed(id, correlation.Key{}, err)
			continue
		}
		r.add(id, stage.Key, func() (workflow.Ordered, error) { return give(p.ctx, stage.Key) })
	}
	return r.print(p)
}

// report is what became of the orders of one command.
type report struct {
	name string
	json bool
	rows []ordered
	errs []error
}

// ordered is what became of one order, as JSON has it.
type ordered struct {
	Given           string    `json:"given"` // the id as it was given
	RequestID       string    `json:"requestId,omitempty"`
	StageInstanceID string    `json:"stageInstanceId,omitempty"`
	Order           string    `json:"order"`
	Was             string    `json:"was,omitempty"`
	State           string    `json:"state,omitempty"`
	Changed         bool      `json:"changed"`
	NextAttempt     time.Time `json:"nextAttempt,omitzero"`
	Text            string    `json:"text,omitempty"`
	Error           string    `json:"error,omitempty"`
}

func (c *ordering) report(name string) *report { return &report{name: name, json: c.Output == "json"} }

func (r *report) add(given string, key correlation.Key, give func() (workflow.Ordered, error)) {
	o, err := give()
	if err != nil {
		r.failed(given, key, err)
		return
	}
	r.rows = append(r.rows, ordered{
		Given: given, RequestID: key.Request, StageInstanceID: key.Stage, Order: r.name, Was: string(o.Was), State: string(o.Correlation.State), Changed: o.Changed,
		NextAttempt: o.Correlation.NextAttempt, Text: outcome(r.name, o),
	})
}

func (r *report) failed(given string, key correlation.Key, err error) {
	err = plain(err)
	r.rows = append(r.rows, ordered{Given: given, RequestID: key.Request, StageInstanceID: key.Stage, Order: r.name, Error: err.Error()})
	r.errs = append(r.errs, fmt.Errorf("%s: %w", given, err))
}

func (r *report) print(p *program) error {
	if r.json {
		if r.rows == nil {
			r.rows = []ordered{}
		}
		return errors.Join(append(r.errs, printJSON(p.stdout, r.rows))...)
	}
	if len(r.rows) == 0 {
		_, err := fmt.Fprintln(p.stdout, "none")
		return err
	}
	for _, o := range r.rows {
		if o.Error == "" {
			fmt.Fprintf(p.stdout, "%s/%s: %s\n", o.RequestID, o.StageInstanceID, o.Text)
		}
	}
	if len(r.rows) > 1 {
		fmt.Fprintf(p.stderr, "%s: %d done, %d not\n", r.name, len(r.rows)-len(r.errs), len(r.errs))
	}
	return errors.Join(r.errs...)
}

// outcome says what became of an order.
func outcome(name string, o workflow.Ordered) string {
	c := o.Correlation
	when := "at once"
	if !c.NextAttempt.IsZero() {
		when = "at " + c.NextAttempt.UTC().Format(time.RFC3339) + ", when a ticket that may still be coming about is there"
	}
	switch {
	case !o.Changed && o.Sent && name == "retry":
		return fmt.Sprintf("is %s already, and is looked at %s", c.State, when)
	case !o.Changed && o.Sent:
		return fmt.Sprintf("is %s already: Entra is being told to %s", c.State, c.ResumeWith)
	case !o.Changed:
		return fmt.Sprintf("is %s already, since %s", c.State, c.Since.UTC().Format(time.RFC3339))
	case c.State == correlation.Held:
		return fmt.Sprintf("was %s, and is held", o.Was)
	case name == "retry":
		return fmt.Sprintf("was %s, is %s, and is tried %s", o.Was, c.State, when)
	default:
		return fmt.Sprintf("was %s; Entra is being told to %s", o.Was, c.ResumeWith)
	}
}

// plain adds the advice to what an order was refused for.
func plain(err error) error {
	if advice := fault.Advice(err); advice != "" {
		return fmt.Errorf("%w. %s", err, advice)
	}
	return err
}
