package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"ticketbridge/handler/callout"
	"ticketbridge/handler/correlation"
	"ticketbridge/handler/servicenow"
	"ticketbridge/handler/ticket"
)

type ticketsRender struct {
	output
	Callout  string    `arg:"" help:"The callout, as JSON, as Entra sends it; - reads it from standard input."`
	File     string    `short:"f" help:"The rules file. Default: TICKETS_FILE, or tickets.yaml."`
	Received time.Time `help:"When the callout came, as in 2026-11-24T12:00:00Z; default now. The deadline counts from there."`
}

// rendered is what the rules make of a callout, as JSON has it.
type rendered struct {
	File       string           `json:"file,omitempty"` // absent when the built-in rules apply
	Stage      string           `json:"stage"`
	Type       string           `json:"requestType"`
	Package    string           `json:"accessPackage"`
	Catalog    string           `json:"catalog"`
	Odd        []string         `json:"odd,omitempty"` // parts of the callout that were read as absent
	Considered []consideredRule `json:"considered"`
	Rule       string           `json:"rule"`
	Waits      bool             `json:"waits"`
	Deadline   time.Time        `json:"deadline,omitzero"`
	NotDone    string           `json:"notDone"`
	Tickets    []renderedTicket `json:"tickets"`
}

type consideredRule struct {
	Rule   string `json:"rule"`
	WhyNot string `json:"whyNot,omitempty"`
}

type renderedTicket struct {
	Name  string         `json:"name"`
	Table string         `json:"table"`
	Calls []renderedCall `json:"calls"`
}

type renderedCall struct {
	For    string          `json:"for"` // what the call is for
	Method string          `json:"method"`
	Path   string          `json:"path"` // with the query
	Body   json.RawMessage `json:"body,omitempty"`
}

func (c *ticketsRender) Run(p *program) error {
	in, err := c.read(p)
	if err != nil {
		return err
	}
	if in.Test {
		_, err := fmt.Fprintln(p.stdout, "this is a connection test: it is answered, and nothing is done")
		return err
	}
	rules, file, err := p.rules(c.File)
	if problems, ok := errors.AsType[ticket.FileErrors](err); ok {
		return fmt.Errorf("%s has %s:\n%w", file, plural(len(problems), "error"), problems)
	} else if err != nil {
		return err
	}
	out, err := c.render(p.ctx, rules, in)
	if err != nil {
		return err
	}
	out.File = file
	if c.Output == "json" {
		return printJSON(p.stdout, out)
	}
	return out.print(p.stdout)
}

func (c *ticketsRender) read(p *program) (*callout.Callout, error) {
	var source io.Reader = p.stdin
	if c.Callout != "-" {
		f, err := os.Open(c.Callout)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		source = f
	}
	body, err := io.ReadAll(io.LimitReader(source, callout.MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the callout: %w", err)
	}
	return callout.Parse(body)
}

func (c *ticketsRender) render(ctx context.Context, rules *ticket.Rules, in *callout.Callout) (*rendered, error) {
	key, err := correlation.NewKey(in.RequestID, in.StageInstanceID)
	if err != nil {
		return nil, err
	}
	out := &rendered{
		Stage: in.Stage, Type: in.RequestType, Package: in.Package.Name, Catalog: in.Catalog.Name, Odd: in.Problems,
		Waits: in.WaitsForResume(), Tickets: []renderedTicket{},
	}
	if out.Waits {
		received := c.Received
		if received.IsZero() {
			received = time.Now()
		}
		out.Deadline = received.UTC().Add(cmp.Or(in.Wait, 14*24*time.Hour)) // Entra's longest, when it does not say
	}
	for _, one := range rules.Explain(in) {
		out.Considered = append(out.Considered, consideredRule{one.Rule, one.WhyNot})
	}
	choice, err := rules.Choose(in, out.Deadline)
	if err != nil {
		return nil, err
	}
	out.Rule, out.NotDone = choice.Rule, choice.OnRejected
	calls, err := callsOf(ctx, rules, choice.Drafts, key)
	if err != nil {
		return nil, err
	}
	for i, d := range choice.Drafts {
		out.Tickets = append(out.Tickets, renderedTicket{d.Entry, d.Table, calls[i]})
	}
	return out, nil
}

// callsOf has the client make the calls for the drafts, to an instance that is not there, in the order in which they are made: all look-ups come first, and
// nothing is looked up twice.
func callsOf(ctx context.Context, rules *ticket.Rules, drafts []ticket.Draft, key correlation.Key) ([][]renderedCall, error) {
	n := &nobody{sysIDs: map[string]string{}}
	client, err := servicenow.New(servicenow.Config{
		URL: "https://instance.example", Auth: servicenow.AuthBasic, Username: "nobody", Password: "nothing", Columns: rules.Columns, HTTPClient: &http.Client{Transport: n},
	})
	if err != nil {
		return nil, err
	}
	calls := make([][]renderedCall, len(drafts))
	for i, d := range drafts {
		refer := func(column, what string, find func() (string, bool, error)) error {
			n.purpose = "look the " + what + " for " + column + " up"
			id, found, err := find()
			if found {
				d.Fields[column] = id
			}
			return err
		}
		for _, column := range slices.Sorted(maps.Keys(d.Users)) {
			if err := refer(column, "user", func() (string, bool, error) {
				return client.FindUser(ctx, d.Users[column].PrincipalName, d.Users[column].Email)
			}); err != nil {
				return nil, err
			}
		}
		for _, column := range slices.Sorted(maps.Keys(d.Groups)) {
			if err := refer(column, "group", func() (string, bool, error) { return client.FindGroup(ctx, d.Groups[column]) }); err != nil {
				return nil, err
			}
		}
		calls[i] = n.taken()
	}
	for i, d := range drafts {
		n.purpose = "create the ticket"
		if d.Item != nil {
			n.purpose = "order the item, and set its fields"
			n.variables = append(slices.Sorted(maps.Keys(d.Item.Variables)), d.Item.Reference)
		}
		if _, err := client.Create(ctx, d, key.TicketID(i)); err != nil {
			return nil, fmt.Errorf("ticket %s: %w", d.Entry, err)
		}
		calls[i] = append(calls[i], n.taken()...)
	}
	return calls, nil
}

// nobody is an instance that is not there: it keeps the calls, and answers each as if all were well, with sys_ids of its own making.
type nobody struct {
	purpose   string
	variables []string // of the item that is ordered
	calls     []renderedCall
	sysIDs    map[string]string // what stands for what
}

var itemPath = regexp.MustCompile(`^/api/sn_sc/servicecatalog/items/(\w+)(/order_now)?$`)

func (n *nobody) RoundTrip(req *http.Request) (*http.Response, error) {
	call := renderedCall{For: n.purpose, Method: req.Method, Path: req.URL.RequestURI()}
	sent := map[string]any{}
	if req.Body != nil {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		if len(body) > 0 {
			call.Body = body
			if err := json.Unmarshal(body, &sent); err != nil {
				return nil, err
			}
		}
	}
	n.calls = append(n.calls, call)
	status, result := n.answer(req, sent)
	body, err := json.Marshal(map[string]any{"result": result})
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(body)), Request: req,
	}, nil
}

func (n *nobody) answer(req *http.Request, sent map[string]any) (status int, result any) {
	if m := itemPath.FindStringSubmatch(req.URL.Path); m != nil {
		if m[2] != "" {
			return http.StatusOK, map[string]any{"request_id": n.sysID("the request that was ordered"), "request_number": "REQ0000000", "table": "sc_request"}
		}
		variables := []any{}
		for _, v := range n.variables {
			variables = append(variables, map[string]any{"name": v})
		}
		return http.StatusOK, map[string]any{"sys_id": m[1], "type": "catalog_item", "variables": variables}
	}
	table, record, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/api/now/v2/table/"), "/")
	row := map[string]any{}
	asked := url.Values{}
	for condition := range strings.SplitSeq(req.URL.Query().Get("sysparm_query"), "^") {
		if column, value, ok := strings.Cut(condition, "="); ok {
			asked.Set(column, value)
		}
	}
	for column := range strings.SplitSeq(req.URL.Query().Get("sysparm_fields"), ",") {
		row[column] = asked.Get(column)
	}
	maps.Copy(row, sent)
	switch {
	case req.Method == http.MethodPost:
		row["sys_id"], row["number"] = n.sysID("the ticket"), "TKT0000000"
		return http.StatusCreated, row
	case record != "":
		row["sys_id"] = record
		return http.StatusOK, row
	case table == "io_set_item", table == "item_option_new": // an item without sets of variables
		return http.StatusOK, []any{}
	}
	what := map[string]string{"sys_user": "the user ", "sys_user_group": "the group ", "sc_cat_item": "the catalog item ", "sc_req_item": "the requested item"}[table]
	for _, column := range []string{"user_name", "email", "name"} {
		what += asked.Get(column)
	}
	row["sys_id"] = n.sysID(what)
	return http.StatusOK, []any{row}
}

// sysID makes a sys_id that stands for something.
func (n *nobody) sysID(what string) string {
	for id, of := range n.sysIDs {
		if of == what {
			return id
		}
	}
	id := fmt.Sprintf("%032x", 0xf000000000000000+uint64(len(n.sysIDs)))
	n.sysIDs[id] = what
	return id
}

// taken returns the calls since the last time, in which each sys_id of our making is replaced by what it stands for.
func (n *nobody) taken() []renderedCall {
	var out []renderedCall
	for _, c := range n.calls {
		for id, what := range n.sysIDs {
			name := "[sys_id of " + what + "]"
			c.Path = strings.ReplaceAll(c.Path, id, name)
			quoted, _ := json.Marshal(name)
			c.Body = bytes.ReplaceAll(c.Body, []byte(id), quoted[1:len(quoted)-1])
		}
		out = append(out, c)
	}
	n.calls = nil
	return out
}

func (r *rendered) print(out io.Writer) error {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintln(w, name+"\t"+value)
		}
	}
	file := r.File
	if file == "" {
		file = "none: the built-in rules apply"
	}
	line("rules file", file)
	line("stage", r.Stage)
	line("request type", r.Type)
	line("access package", oneLine(r.Package))
	line("catalog", oneLine(r.Catalog))
	for _, odd := range r.Odd {
		line("read as absent", odd)
	}
	for _, c := range r.Considered {
		if c.WhyNot == "" {
			line("rule "+c.Rule, "matches")
		} else {
			line("rule "+c.Rule, "no: "+c.WhyNot)
		}
	}
	if r.Waits {
		line("deadline", r.Deadline.Format(time.RFC3339))
	}
	line("not done", r.NotDone)
	if len(r.Tickets) == 0 {
		line("tickets", "none")
		if r.Waits {
			line("", "the request waits for one: it would fail, for a person to see")
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for i, t := range r.Tickets {
		fmt.Fprintf(&b, "\nticket %d of %d: %s, table %s\n", i+1, len(r.Tickets), t.Name, t.Table)
		purpose := ""
		for _, c := range t.Calls {
			if c.For != purpose {
				purpose = c.For
				fmt.Fprintf(&b, "\n  # %s\n", purpose)
			}
			fmt.Fprintf(&b, "  %s %s\n", c.Method, c.Path)
			if len(c.Body) > 0 {
				var pretty bytes.Buffer
				if err := json.Indent(&pretty, c.Body, "  ", "  "); err != nil {
					return err
				}
				fmt.Fprintf(&b, "  %s\n", pretty.String())
			}
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
