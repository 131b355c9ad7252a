package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/setup"
	"ticketbridge/handler/storage"
	"ticketbridge/handler/workflow"
)

// requestsCommand works on the storage that the environment names (AzureWebJobsStorage…, STORAGE_PREFIX). Lists show ids, states and reasons,
// and no names of people: the console does, and an export.
type requestsCommand struct {
	List   requestsList   `cmd:"" help:"List what is open, what needs a person first; or what ended on a day."`
	Show   requestsShow   `cmd:"" help:"Show one request: its stages, tickets and timeline."`
	Retry  requestsRetry  `cmd:"" help:"Have it tried again: what failed goes on where it failed, what is held where it was held, what waits for its next attempt at once."`
	Hold   requestsHold   `cmd:"" help:"Do nothing with it until somebody says retry, resume or deny."`
	Resume requestsResume `cmd:"" help:"Have Entra told to go on with the request, whatever its tickets came to."`
	Deny   requestsDeny   `cmd:"" help:"Have Entra told to deny the request, whatever its tickets came to."`
	Export requestsExport `cmd:"" help:"Write all that is stored of requests, personal data included, as JSON."`
}

type output struct {
	Output string `short:"o" enum:"text,json" default:"text" help:"text or json."`
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

func (p *program) store() (*storage.Store, error) {
	store, _, err := p.operator()
	return store, err
}

// operator returns the store, and what makes an operator's moves on it.
func (p *program) operator() (*storage.Store, workflow.Operator, error) {
	settings, err := setup.ReadStorage(p.environ)
	if err != nil {
		return nil, workflow.Operator{}, err
	}
	store, queue, err := setup.Storage(settings)
	if err != nil {
		return nil, workflow.Operator{}, err
	}
	return store, workflow.Operator{Store: store, Queue: queue, Policy: workflow.Policy{CheckInterval: settings.CheckInterval}}, nil
}

// stages returns the stages of a request, or the one that the id names when it is <request id>/<stage instance id>.
func (p *program) stages(store *storage.Store, id string) ([]*correlation.Correlation, error) {
	request, stage, one := strings.Cut(id, "/")
	all, err := store.Stages(p.ctx, request)
	if err != nil {
		return nil, err
	}
	var out []*correlation.Correlation
	for _, c := range all {
		if !one || strings.EqualFold(c.Key.Stage, strings.TrimSpace(stage)) {
			out = append(out, c)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no request %s is known here", id)
	}
	return out, nil
}

// each visits all of a list, page by page.
func each(page func(cursor string) ([]correlation.Summary, string, error), visit func(correlation.Summary) error) error {
	for cursor, more := "", true; more; more = cursor != "" {
		some, next, err := page(cursor)
		if err != nil {
			return err
		}
		cursor = next
		for _, s := range some {
			if err := visit(s); err != nil {
				return err
			}
		}
	}
	return nil
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

// day reads the value of an option that is a day, UTC.
func day(option, value string) (time.Time, error) {
	t, err := time.Parse(time.DateOnly, value)
	if err != nil {
		return t, fmt.Errorf("%s holds %q; it must hold a day, as in 2026-11-24", option, value)
	}
	return t, nil
}

// plural counts things.
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
