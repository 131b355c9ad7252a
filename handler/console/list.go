package console

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"ticketbridge/handler/correlation"
)

// A row is a line of a list.
type row struct {
	correlation.Summary
	Link     string
	Meaning  string
	Age      string // since it came
	InState  string // since it is as it is
	Changed  bool   // it has not been so since it came
	Left     string // until the deadline
	LeftTone string
	Took     string // from coming to ending
	Trouble  string // what does not work, while it is tried again
	Numbers  []number
}

type number struct{ Text, Link string }

func (c *console) row(s correlation.Summary, now time.Time) row {
	r := row{
		Summary: s, Link: c.link(s.Key), Meaning: stateMeaning(s.State), Age: span(now.Sub(s.Created)), InState: span(now.Sub(s.Since)),
		Took: span(s.Since.Sub(s.Created)), Changed: s.Since.Sub(s.Created) > now.Sub(s.Created)/20,
	}
	if !s.Deadline.IsZero() {
		r.Left, r.LeftTone = left(s.Deadline, now)
	}
	if retrying(s) {
		r.Trouble = fmt.Sprintf("%s; tried %s, and will be again", reasonWord(s.LastReason), times(s.Attempts))
	}
	for _, text := range strings.Split(s.Tickets, ", ") {
		if text == "" {
			continue
		}
		n := number{Text: text, Link: r.Link + "#tickets"}
		if c.config.TicketURL != nil {
			n.Link = cmp.Or(weblink(c.config.TicketURL(text)), n.Link)
		}
		r.Numbers = append(r.Numbers, n)
	}
	return r
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return strconv.Itoa(n) + " times"
}

func (c *console) link(k correlation.Key) string {
	return c.config.BasePath + "/requests/" + k.Request + "/" + k.Stage
}

// retrying says whether a step does not work for now.
func retrying(s correlation.Summary) bool {
	return s.Attempts > 0 && !s.State.Ended() && !s.State.NeedsPerson()
}

// The choices of a list beside the states themselves.
const (
	chooseNeeds    = "needs-you"
	chooseRetrying = "retrying"
)

// A choice is one of the states to filter by.
type choice struct {
	Name, Word, Tone string
	Count            int
	Link             string
	Current          bool
	X, Width         string // its part of the bar, in percent
}

type listPage struct {
	Total, Needs int
	Choices      []choice // those that are there
	All          []choice // to choose from
	Oldest, Next *row
	Query, State string
	Filtered     bool
	Waiting      []row // of this page
	NeedsYou     []row
	Matching     int
	Cut          bool // there are more than were read
	From, To     int
	Newer, Older string // links to the pages before and after
	RefreshLink  string
}

// list shows what is open.
func (c *console) list(w http.ResponseWriter, r *http.Request, v view) {
	q := r.URL.Query()
	p := listPage{Query: strings.TrimSpace(q.Get("q")), State: q.Get("state")}
	p.Filtered = p.Query != "" || p.State != ""
	all, cut, err := c.open(r.Context())
	if err != nil {
		c.failed(w, r, v, err)
		return
	}
	p.Total, p.Cut = len(all), cut
	c.glance(&p, all, v.Now, q)

	var matching []correlation.Summary
	for _, s := range all {
		if chosen(s, p.State) && found(s, p.Query) {
			matching = append(matching, s)
		}
	}
	if id, ok := requestID(p.Query); ok && len(matching) == 0 && p.State == "" {
		if stages, err := c.config.Store.Stages(r.Context(), id); err == nil && len(stages) > 0 { // it has ended
			http.Redirect(w, r, c.config.BasePath+"/requests/"+id, http.StatusSeeOther)
			return
		}
	}
	slices.SortStableFunc(matching, urgency)
	p.Matching = len(matching)

	n, _ := strconv.Atoi(q.Get("page"))
	n = min(max(n, 1), (len(matching)-1)/pageRows+1)
	first := (n - 1) * pageRows
	last := min(first+pageRows, len(matching))
	for _, s := range matching[first:last] {
		if s.State.NeedsPerson() {
			p.NeedsYou = append(p.NeedsYou, c.row(s, v.Now))
		} else {
			p.Waiting = append(p.Waiting, c.row(s, v.Now))
		}
	}
	p.From, p.To = first+1, last
	if n > 1 {
		p.Newer = c.with(q, "page", strconv.Itoa(n-1))
	}
	if last < len(matching) {
		p.Older = c.with(q, "page", strconv.Itoa(n+1))
	}
	if v.Refresh = refresh(q); v.Refresh == 0 {
		p.RefreshLink = c.with(q, "refresh", "10")
	} else {
		p.RefreshLink = c.with(q, "refresh", "")
	}
	v.Title, v.Section, v.Page = "Waiting", "waiting", p
	if p.Needs > 0 {
		v.Title = fmt.Sprintf("(%d) Waiting", p.Needs)
	}
	c.show(w, r, http.StatusOK, "list", v)
}

// open reads the open ones; cut says that there are more.
func (c *console) open(ctx context.Context) (all []correlation.Summary, cut bool, err error) {
	for cursor := ""; ; {
		page, next, err := c.config.Store.Open(ctx, cursor, readStep)
		if err != nil {
			return nil, false, fmt.Errorf("read what is open: %w", err)
		}
		all = append(all, page...)
		if next == "" || len(all) >= readMost {
			return all, next != "", nil
		}
		cursor = next
	}
}

// glance fills in what the top of the page says of everything that is open.
func (c *console) glance(p *listPage, all []correlation.Summary, now time.Time, q url.Values) {
	counts := map[correlation.State]int{}
	inTrouble := 0
	var oldest, next *correlation.Summary
	for i := range all {
		s := &all[i]
		counts[s.State]++
		if retrying(*s) {
			inTrouble++
		}
		if s.State.NeedsPerson() {
			p.Needs++
		}
		if oldest == nil || s.Created.Before(oldest.Created) {
			oldest = s
		}
		if !s.Deadline.IsZero() && !s.State.Ended() && (next == nil || s.Deadline.Before(next.Deadline)) {
			next = s
		}
	}
	if oldest != nil {
		r := c.row(*oldest, now)
		p.Oldest = &r
	}
	if next != nil {
		r := c.row(*next, now)
		p.Next = &r
	}
	states := slices.Clone(correlation.States)
	for s := range counts { // of a newer version
		if !s.Known() {
			states = append(states, s)
		}
	}
	slices.SortStableFunc(states, func(a, b correlation.State) int { return cmp.Compare(place(a), place(b)) })
	x := 0.0
	for _, s := range states {
		ch := choice{Name: string(s), Word: stateWord(s), Tone: stateTone(s), Count: counts[s], Link: c.only(q, string(s)), Current: p.State == string(s)}
		if ch.Count > 0 {
			width := 100 * float64(ch.Count) / float64(len(all))
			ch.X, ch.Width = fmt.Sprintf("%.2f", x), fmt.Sprintf("%.2f", width)
			x += width
			p.Choices = append(p.Choices, ch)
		}
		if ch.Count > 0 || ch.Current || (s.Known() && !s.Ended()) {
			p.All = append(p.All, ch)
		}
	}
	p.All = append([]choice{
		{Name: chooseNeeds, Word: "Needs you", Count: p.Needs, Current: p.State == chooseNeeds},
		{Name: chooseRetrying, Word: "Being tried again", Count: inTrouble, Current: p.State == chooseRetrying},
	}, p.All...)
	if inTrouble > 0 {
		p.Choices = append(p.Choices, choice{
			Name: chooseRetrying, Word: "being tried again", Tone: toneWarn, Count: inTrouble, Link: c.only(q, chooseRetrying), Current: p.State == chooseRetrying,
		})
	}
}

// place orders states by how much they concern a person.
func place(s correlation.State) int {
	if s.NeedsPerson() {
		return -1
	}
	return 0
}

func chosen(s correlation.Summary, state string) bool {
	switch state {
	case "":
		return true
	case chooseNeeds:
		return s.State.NeedsPerson()
	case chooseRetrying:
		return retrying(s)
	default:
		return string(s.State) == state
	}
}

// found says whether every word of the query is somewhere in what the list shows.
func found(s correlation.Summary, query string) bool {
	text := strings.ToLower(strings.Join([]string{
		s.Key.String(), s.PackageName, s.CatalogName, s.TargetName, s.Tickets, s.Reason, s.Advice, s.Stage, stageWord(s.Stage), stateWord(s.State), s.RequestType,
	}, "\n"))
	for _, word := range strings.Fields(strings.ToLower(query)) {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return true
}

// requestID reads the id of a request, or of one of its stages, from a query.
func requestID(query string) (string, bool) {
	if key, err := correlation.ParseTicketID(query); err == nil {
		return key.Request, true
	}
	return correlation.GUID(query)
}

// urgency puts what needs a person first, then what has the nearest deadline, then what came first.
func urgency(a, b correlation.Summary) int {
	none := func(s correlation.Summary) int {
		if s.Deadline.IsZero() {
			return 1
		}
		return 0
	}
	return cmp.Or(
		cmp.Compare(place(a.State), place(b.State)),
		cmp.Compare(none(a), none(b)),
		a.Deadline.Compare(b.Deadline),
		a.Created.Compare(b.Created),
		cmp.Compare(a.Key.String(), b.Key.String()),
	)
}

// refresh returns after how many seconds the page should load itself again.
func refresh(q url.Values) int {
	n, err := strconv.Atoi(q.Get("refresh"))
	if err != nil || n < 2 || n > 3600 {
		return 0
	}
	return n
}

// with returns a link to the list with one thing changed.
func (c *console) with(q url.Values, name, value string) string {
	out := url.Values{}
	for _, keep := range []string{"q", "state", "page", "refresh"} {
		if v := q.Get(keep); v != "" {
			out.Set(keep, v)
		}
	}
	out.Set(name, value)
	if value == "" {
		out.Del(name)
	}
	if len(out) == 0 {
		return c.config.BasePath
	}
	return c.config.BasePath + "?" + out.Encode()
}

// only returns a link to the list with one state, from its first page.
func (c *console) only(q url.Values, state string) string {
	out := url.Values{"q": {q.Get("q")}, "refresh": {q.Get("refresh")}}
	if q.Get("state") == state { // choosing it again lets go of it
		state = ""
	}
	return c.with(out, "state", state)
}

type endedPage struct {
	Day                time.Time
	Today              bool
	Rows               []row
	Before, After      string // links to other days
	BeforeDay, NextDay time.Time
	More, First        string
	Min, Max           string
	Tally              []choice
}

// ended shows what ended on one day.
func (c *console) ended(w http.ResponseWriter, r *http.Request, v view) {
	q := r.URL.Query()
	today := v.Now.Truncate(24 * time.Hour)
	day := today
	if text := q.Get("day"); text != "" {
		var err error
		if day, err = time.Parse(time.DateOnly, text); err != nil {
			c.message(w, r, v, http.StatusBadRequest, "This is not a day", "A day is written like 2006-01-02.")
			return
		}
	}
	cursor := q.Get("after")
	page, next, err := c.config.Store.Ended(r.Context(), day, cursor, pageRows)
	if err != nil {
		c.failed(w, r, v, err)
		return
	}
	slices.SortStableFunc(page, func(a, b correlation.Summary) int { return b.Since.Compare(a.Since) })
	p := endedPage{Day: day, Today: day.Equal(today), BeforeDay: day.AddDate(0, 0, -1), NextDay: day.AddDate(0, 0, 1), Max: date(today)}
	p.Before = c.day(p.BeforeDay, "")
	if day.Before(today) {
		p.After = c.day(p.NextDay, "")
	}
	if cursor != "" {
		p.First = c.day(day, "")
	}
	if next != "" {
		p.More = c.day(day, next)
	}
	counts := map[correlation.State]int{}
	for _, s := range page {
		counts[s.State]++
		p.Rows = append(p.Rows, c.row(s, v.Now))
	}
	for _, s := range correlation.States {
		if counts[s] > 0 {
			p.Tally = append(p.Tally, choice{Word: stateWord(s), Tone: stateTone(s), Count: counts[s]})
		}
	}
	v.Title, v.Section, v.Page = "Ended on "+date(day), "ended", p
	c.show(w, r, http.StatusOK, "ended", v)
}

func (c *console) day(day time.Time, after string) string {
	q := url.Values{"day": {date(day)}}
	if after != "" {
		q.Set("after", after)
	}
	return c.config.BasePath + "/ended?" + q.Encode()
}
