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
	"ticketbridge/handler/workflow"
)

// A row is a line of a list.
type row struct {
	correlation.Summary
	Link     string
	Meaning  string
	Age      string // since it came
	InState  string // since it is as it is
	Changed  bool   // that is notably less
	Left     string // until the deadline; "" when nothing waits (any more)
	LeftTone string
	By       string // the deadline as a date
	Took     string // from coming to ending
	Untold   bool   // it has ended, and its tickets are still to be told
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
		r.By = near(s.Deadline, now)
		if !s.State.Ended() {
			r.Left, r.LeftTone = left(s.Deadline, now)
		}
	}
	if retrying(s) {
		r.Trouble = fmt.Sprintf("Tried %s, and will be again: %s", times(s.Attempts), reasonWord(s.LastReason))
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

// retrying says whether a step does not work for now. One that ended keeps the attempts to tell its tickets.
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
	Unswept                  string // for how long no sweep has run, when that is too long
	NeverSwept               bool
	Unreadable               int
	Total, Needs             int
	Choices                  []choice // those that are there
	All                      []choice // to choose from
	Oldest, Next             *row
	Query, State             string
	Filtered                 bool
	NeedsYou, Waiting        []row // of this page
	NeedsYouAll, WaitingAll  int   // on all pages
	Matching                 int
	Cut                      bool // there are more than were read
	Pages                    pages
	RefreshLink              string
	Ended                    []row // today's last
	EndedAll                 int
	EndedCut                 bool
	EndedLink, YesterdayLink string
}

// list shows what is open, and what ended last.
func (c *console) list(w http.ResponseWriter, r *http.Request, v view) {
	q := r.URL.Query()
	p := listPage{Query: strings.TrimSpace(q.Get("q")), State: q.Get("state")}
	p.Filtered = p.Query != "" || p.State != ""
	today := v.Now.Truncate(24 * time.Hour)
	open, cut, err := read(func(cursor string) ([]correlation.Summary, string, error) {
		return c.config.Store.Open(r.Context(), cursor, readStep)
	})
	if err != nil {
		c.failed(w, r, v, err)
		return
	}
	ended, endedCut, err := c.endedOn(r.Context(), today)
	if err != nil {
		c.failed(w, r, v, err)
		return
	}
	if err := c.health(r.Context(), &p, open, v.Now); err != nil {
		c.failed(w, r, v, err)
		return
	}
	// The two are written one after the other: what is on both has ended.
	over := map[correlation.Key]bool{}
	for _, s := range ended {
		over[s.Key] = true
	}
	open = slices.DeleteFunc(open, func(s correlation.Summary) bool { return over[s.Key] })
	p.Total, p.Cut = len(open), cut
	c.glance(&p, open, v.Now, q)

	var matching []correlation.Summary
	for _, s := range open {
		if chosen(s, p.State) && found(s, p.Query) {
			matching = append(matching, s)
		}
	}
	if id, ok := requestID(p.Query); ok && len(matching) == 0 && p.State == "" {
		stages, err := c.config.Store.Stages(r.Context(), id)
		if err != nil {
			c.failed(w, r, v, err)
			return
		}
		if len(stages) > 0 { // it has ended
			http.Redirect(w, r, c.config.BasePath+"/requests/"+id, http.StatusSeeOther)
			return
		}
	}
	slices.SortFunc(matching, urgency)
	p.Matching = len(matching)
	for _, s := range matching {
		if s.State.NeedsPerson() {
			p.NeedsYouAll++
		}
	}
	p.WaitingAll = p.Matching - p.NeedsYouAll
	var first, last int
	p.Pages, first, last = paged(len(matching), q, func(page string) string { return c.with(q, "page", page) })
	for _, s := range matching[first:last] {
		if s.State.NeedsPerson() {
			p.NeedsYou = append(p.NeedsYou, c.row(s, v.Now))
		} else {
			line := c.row(s, v.Now)
			line.Untold = s.State.Ended()
			p.Waiting = append(p.Waiting, line)
		}
	}
	if !p.Filtered {
		p.EndedAll, p.EndedCut = len(ended), endedCut
		p.EndedLink, p.YesterdayLink = c.day(today, ""), c.day(today.AddDate(0, 0, -1), "")
		if !endedCut { // else nobody knows which were the last
			for _, s := range ended[:min(lastRows, len(ended))] {
				p.Ended = append(p.Ended, c.row(s, v.Now))
			}
		}
	}
	if v.Refresh == 0 {
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

// health says what is wrong with the app itself: no sweep runs, or there are messages that nobody can read.
func (c *console) health(ctx context.Context, p *listPage, open []correlation.Summary, now time.Time) error {
	mark, err := c.config.Store.Mark(ctx)
	if err != nil {
		return fmt.Errorf("read when the last sweep ran: %w", err)
	}
	unreadable, err := c.config.Store.Unreadable(ctx)
	if err != nil {
		return err
	}
	p.Unreadable = len(unreadable)
	if mark.Begun.IsZero() {
		p.NeverSwept = slices.ContainsFunc(open, func(s correlation.Summary) bool { return now.Sub(s.Created) > workflow.SweepOverdue })
	} else if mark.Overdue(now) {
		p.Unswept = span(now.Sub(mark.Begun))
	}
	return nil
}

// read reads a list; cut says that there is more.
func read(next func(cursor string) ([]correlation.Summary, string, error)) (all []correlation.Summary, cut bool, err error) {
	for cursor := ""; ; {
		page, then, err := next(cursor)
		if err != nil {
			return nil, false, fmt.Errorf("read a list: %w", err)
		}
		all = append(all, page...)
		if then == "" || len(all) >= readMost {
			return all, then != "", nil
		}
		cursor = then
	}
}

// endedOn reads what ended on a day, the last first.
func (c *console) endedOn(ctx context.Context, day time.Time) (all []correlation.Summary, cut bool, err error) {
	all, cut, err = read(func(cursor string) ([]correlation.Summary, string, error) {
		return c.config.Store.Ended(ctx, day, cursor, readStep)
	})
	slices.SortFunc(all, func(a, b correlation.Summary) int {
		return cmp.Or(b.Since.Compare(a.Since), cmp.Compare(a.Key.String(), b.Key.String()))
	})
	return all, cut, err
}

// pages says which part of a list is shown.
type pages struct {
	From, To, Of  int
	Before, After string // links; "" when there is none
}

// paged returns which of n are on the page that a query asks for; one that does not exist is the nearest that does.
func paged(n int, q url.Values, link func(page string) string) (p pages, first, last int) {
	page, _ := strconv.Atoi(q.Get("page"))
	page = min(max(page, 1), max(n-1, 0)/pageRows+1)
	first = (page - 1) * pageRows
	last = min(first+pageRows, n)
	p = pages{From: first + 1, To: last, Of: n}
	if page > 1 {
		p.Before = link(strconv.Itoa(page - 1))
	}
	if last < n {
		p.After = link(strconv.Itoa(page + 1))
	}
	return p, first, last
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

// place orders states by how much they concern a person. What ended is open while its tickets are still to be told.
func place(s correlation.State) int {
	switch {
	case s.NeedsPerson():
		return -1
	case s.Ended():
		return 1
	default:
		return 0
	}
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
	Day           time.Time
	Today, Future bool
	Rows          []row
	Total         int
	Cut           bool // there are more than were read
	Before, After string
	BeforeDay     time.Time
	AfterDay      time.Time
	Max           string
	Tally         []choice
	Pages         pages
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
	all, cut, err := c.endedOn(r.Context(), day)
	if err != nil {
		c.failed(w, r, v, err)
		return
	}
	p := endedPage{
		Day: day, Today: day.Equal(today), Future: day.After(today), Total: len(all), Cut: cut,
		BeforeDay: day.AddDate(0, 0, -1), AfterDay: day.AddDate(0, 0, 1), Max: date(today),
	}
	p.Before = c.day(p.BeforeDay, "")
	if day.Before(today) {
		p.After = c.day(p.AfterDay, "")
	}
	counts := map[correlation.State]int{}
	for _, s := range all {
		counts[s.State]++
	}
	for _, s := range correlation.States {
		if counts[s] > 0 {
			p.Tally = append(p.Tally, choice{Word: stateWord(s), Tone: stateTone(s), Count: counts[s]})
		}
	}
	var first, last int
	p.Pages, first, last = paged(len(all), q, func(page string) string { return c.day(day, page) })
	for _, s := range all[first:last] {
		p.Rows = append(p.Rows, c.row(s, v.Now))
	}
	v.Title, v.Section, v.Page = "Ended on "+date(day), "ended", p
	c.show(w, r, http.StatusOK, "ended", v)
}

func (c *console) day(day time.Time, page string) string {
	q := url.Values{"day": {date(day)}}
	if page != "" {
		q.Set("page", page)
	}
	return c.config.BasePath + "/ended?" + q.Encode()
}
