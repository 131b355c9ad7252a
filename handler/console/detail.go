package console

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"ticketbridge/handler/callout"
	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
)

type detailPage struct {
	*correlation.Correlation
	Row      row
	Meaning  string
	Facts    []fact
	Tickets  []correlation.Ticket
	Timeline []event
	Answers  []callout.Answer
	Callout  string
	Odd      string // parts of the callout that could not be read
	Others   []row  // other stages of the same request
}

type fact struct {
	Name, Text string
	Code       string // an id, to be copied
	Note, Tone string
	Time       time.Time
}

type event struct {
	correlation.Event
	Tone  string
	Moved bool
	Day   string // when it is another than that of the event before
	After string // how long after the event before, when that is worth saying
	By    string // who, when it was not us
	Same  bool   // of the same invocation as the event before
}

// request shows a request: its only stage, or a list of them.
func (c *console) request(w http.ResponseWriter, r *http.Request, v view, id string) {
	id, ok := correlation.GUID(id)
	if !ok {
		c.unknown(w, r, v)
		return
	}
	stages, err := c.config.Store.Stages(r.Context(), id)
	if err != nil {
		c.failed(w, r, v, err)
		return
	}
	switch len(stages) {
	case 0:
		c.unknown(w, r, v)
	case 1:
		http.Redirect(w, r, c.link(stages[0].Key), http.StatusSeeOther)
	default:
		v.Title = "Request " + id
		v.Page = struct {
			ID   string
			Rows []row
		}{id, c.rows(stages, v.Now)}
		c.show(w, r, http.StatusOK, "request", v)
	}
}

// rows returns lines of stages, the first that came first.
func (c *console) rows(stages []*correlation.Correlation, now time.Time) []row {
	slices.SortStableFunc(stages, func(a, b *correlation.Correlation) int { return a.Created.Compare(b.Created) })
	out := make([]row, len(stages))
	for i, s := range stages {
		out[i] = c.row(s.Summary(), now)
		out[i].Untold = len(s.Untold()) > 0
	}
	return out
}

// detail shows one correlation.
func (c *console) detail(w http.ResponseWriter, r *http.Request, v view, request, stage string) {
	key, err := correlation.NewKey(request, stage)
	if err != nil {
		c.unknown(w, r, v)
		return
	}
	stages, err := c.config.Store.Stages(r.Context(), key.Request)
	if err != nil {
		c.failed(w, r, v, err)
		return
	}
	var cor *correlation.Correlation
	var others []*correlation.Correlation
	for _, s := range stages {
		if s.Key == key {
			cor = s
		} else {
			others = append(others, s)
		}
	}
	if cor == nil {
		c.unknown(w, r, v)
		return
	}
	events, err := c.config.Store.Timeline(r.Context(), key)
	if err != nil {
		c.failed(w, r, v, err)
		return
	}
	body, err := c.config.Store.Callout(r.Context(), key)
	if err != nil && !fault.Is(err, fault.NotFound) {
		c.failed(w, r, v, err)
		return
	}
	call, err := callout.Parse(body)
	if err != nil { // it is gone, or was taken by a version that could read it
		call = &callout.Callout{}
	}
	p := detailPage{
		Correlation: cor, Row: c.rows([]*correlation.Correlation{cor}, v.Now)[0], Meaning: stateMeaning(cor.State), Facts: facts(cor, call, v.Now), Tickets: cor.Tickets,
		Timeline: timeline(events), Answers: call.Answers, Callout: pretty(body), Odd: strings.Join(call.Problems, ", "), Others: c.rows(others, v.Now),
	}
	v.Title, v.Page = cor.PackageName, p
	if v.Title == "" {
		v.Title = "Request " + key.Request
	}
	if cor.State.Ended() {
		v.Section = "ended"
	} else {
		v.Section = "waiting"
	}
	c.show(w, r, http.StatusOK, "detail", v)
}

// facts lists what is known, in the order in which somebody asks.
func facts(c *correlation.Correlation, call *callout.Callout, now time.Time) []fact {
	var out []fact
	add := func(f fact) {
		if f.Text+f.Code != "" {
			out = append(out, f)
		}
	}
	add(fact{Name: "For", Text: c.TargetName})
	if call.By.Name != c.TargetName {
		add(fact{Name: "Asked for by", Text: call.By.Name})
	}
	add(fact{Name: "Access package", Text: c.PackageName, Code: c.PackageID})
	add(fact{Name: "Catalog", Text: c.CatalogName, Code: c.CatalogID})
	add(fact{Name: "Policy", Text: call.Assigned.Policy.Name})
	add(fact{Name: "Stage", Text: stageWord(c.Stage), Note: requestTypeWord(c.RequestType)})
	add(fact{Name: "Came", Text: when(c.Created), Note: span(now.Sub(c.Created)) + " ago", Time: c.Created})
	if !c.Deadline.IsZero() {
		f := fact{Name: "Deadline", Text: when(c.Deadline), Time: c.Deadline}
		if !c.State.Ended() {
			f.Note, f.Tone = left(c.Deadline, now)
		}
		add(f)
	}
	switch {
	case c.Waits:
		add(fact{Name: "Kind", Text: "Launch and wait", Note: "the request is paused until Entra is told, or its deadline"})
	case c.MayWait:
		add(fact{Name: "Kind", Text: "Launch and continue, it seems", Note: "the callout does not say; Entra is asked before it is told anything"})
	default:
		add(fact{Name: "Kind", Text: "Launch and continue", Note: "nothing waits for the answer"})
	}
	if c.From != "" {
		add(fact{Name: "Stopped while", Text: stateWord(c.From), Note: "a retry goes on from there"})
	}
	add(fact{Name: "Rule", Text: c.Rule, Note: rejectedWord(c.OnRejected)})
	if retrying(c.Summary()) && !c.NextAttempt.IsZero() {
		add(fact{Name: "Next try", Text: soon(c.NextAttempt, now), Time: c.NextAttempt})
	}
	if c.LeaseOwner != "" && now.Before(c.LeaseUntil) {
		add(fact{Name: "At work", Text: "an instance of ours", Note: "until " + clock(c.LeaseUntil) + " at the latest"})
	}
	if !c.Due.IsZero() && !c.Settled() {
		add(fact{Name: "Looked at again", Text: soon(c.Due, now), Note: "by the sweep, if nothing happens before", Time: c.Due})
	}
	add(fact{Name: "Request id", Code: c.Key.Request})
	add(fact{Name: "Stage instance id", Code: c.Key.Stage})
	return out
}

func soon(t, now time.Time) string {
	if d := t.Sub(now); d > 0 {
		return "in " + span(d)
	}
	return "now"
}

func rejectedWord(s string) string {
	switch s {
	case "deny":
		return "a ticket that is not done denies the request"
	case "cancel":
		return "a ticket that is not done cancels the request"
	case "hold":
		return "a ticket that is not done is held for a person"
	default:
		return s
	}
}

// us is who events are by unless it was an operator.
const us = "ticketbridge"

// timeline marks where days begin and how long things took.
func timeline(events []correlation.Event) []event {
	out := make([]event, len(events))
	for i, e := range events {
		out[i] = event{Event: e, Moved: e.Kind == correlation.EventMove || e.Kind == correlation.EventOperator && e.From != e.To}
		switch {
		case out[i].Moved:
			out[i].Tone = stateTone(e.To)
		case e.Kind == correlation.EventAttempt:
			out[i].Tone = toneWarn
		default:
			out[i].Tone = toneOff
		}
		if e.By != us {
			out[i].By = e.By
		}
		if i == 0 || date(events[i-1].At) != date(e.At) {
			out[i].Day = e.At.UTC().Format("Monday, 2 January 2006")
		}
		if i > 0 {
			out[i].Same = e.Invocation == events[i-1].Invocation
			if d := e.At.Sub(events[i-1].At); d >= time.Minute {
				out[i].After = span(d) + " later"
			}
		}
	}
	return out
}

// pretty indents a body that is JSON; another is shown as it is.
func pretty(body []byte) string {
	var b bytes.Buffer
	if json.Indent(&b, bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")), "", "  ") == nil {
		return b.String()
	}
	if !utf8.Valid(body) {
		return strings.ToValidUTF8(string(body), "�")
	}
	return string(body)
}
