package servicenow

import (
	"bytes"
	"cmp"
	"embed"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

//go:embed page
var pageFiles embed.FS

// closedShown is how many closed tickets the list shows.
const closedShown = 100

type frame struct {
	Title, Instance, Base string
	CSS                   template.CSS
	Refresh               int // seconds
	Notice                string
}

type listPage struct {
	frame
	Heading  string
	Tables   []tableLink
	Sections []listSection
}

type tableLink struct {
	Href, Label string
	Count       int
	Current     bool
}

type listSection struct {
	ID, Title, Empty string
	Rows             []listRow
	More             int // how many there are, when not all are shown
}

type listRow struct{ Href, Number, Table, Short, For, State, Tone, Created, Age string }

type ticketPage struct {
	frame
	Number, TableLabel, Short, State, Tone, Action string
	Open                                           bool
	CloseNotes, Notifies                           string
	Fields, More, System, Variables                []formField
	Outcomes                                       []outcomeButton
	Notes                                          []Note
}

type formField struct {
	Name, Label, Value, Hint string
	Long, Broad, ReadOnly    bool
	Rows                     int
	Choices                  []formChoice
}

type formChoice struct {
	Choice
	Selected bool
}

type outcomeButton struct{ Value, Label, Tone string }

type missingPage struct {
	frame
	Heading, Text string
}

// notices are what the page says after an action; the address names them, so that it can say nothing else.
var notices = map[string]string{
	"saved": "Saved.", "noted": "Note added.", "deleted": "The ticket was deleted.",
	"complete": "Closed as complete.", "incomplete": "Closed as incomplete.", "cancelled": "Cancelled.", "rejected": "Rejected.",
}

// recordPath is the address of a ticket or a list, as ServiceNow's own: incident.do, incident_list.do.
var recordPath = regexp.MustCompile(`^/([a-z0-9_]+?)(_list)?\.do$`)

type pages struct {
	instance  *Instance
	templates *template.Template
	css       template.CSS
}

// page serves people: the list of tickets at / and {table}_list.do, a ticket at {table}.do?sys_id=…, and the links that
// ServiceNow makes of them (nav_to.do?uri=…).
func (i *Instance) page() http.Handler {
	css, err := pageFiles.ReadFile("page/style.css")
	if err != nil {
		panic(err) // embedded
	}
	p := &pages{instance: i, templates: template.Must(template.ParseFS(pageFiles, "page/*.html")), css: template.CSS(css)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { p.list(w, r, "task") })
	mux.HandleFunc("GET /nav_to.do", func(w http.ResponseWriter, r *http.Request) { p.navigate(w, r, r.URL.Query().Get("uri")) })
	mux.HandleFunc("GET /now/nav/ui/classic/params/target/{target}", func(w http.ResponseWriter, r *http.Request) { p.navigate(w, r, r.PathValue("target")) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		m := recordPath.FindStringSubmatch(r.URL.Path)
		switch {
		case m == nil:
			p.missing(w, r, "There is no such page", "")
		case m[2] != "":
			p.list(w, r, m[1])
		case r.Method == http.MethodPost:
			p.act(w, r, r.URL.Query().Get("sys_id"))
		default:
			p.ticket(w, r, m[1], r.URL.Query().Get("sys_id"))
		}
	})
	return mux
}

func (p *pages) frame(title string, r *http.Request) frame {
	return frame{Title: title, Instance: p.instance.cfg.Name, Base: p.instance.cfg.BasePath, CSS: p.css, Notice: notices[r.URL.Query().Get("done")]}
}

func (p *pages) show(w http.ResponseWriter, status int, name string, data any) {
	var b bytes.Buffer
	if err := p.templates.ExecuteTemplate(&b, name, data); err != nil {
		http.Error(w, "showing the page: "+err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'self'")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

func (p *pages) missing(w http.ResponseWriter, r *http.Request, heading, text string) {
	p.show(w, http.StatusNotFound, "missing", missingPage{p.frame(heading, r), heading, text})
}

// navigate follows a link of ServiceNow's own shell, to a ticket or a list and to nowhere else.
func (p *pages) navigate(w http.ResponseWriter, r *http.Request, target string) {
	u, err := url.Parse("/" + strings.TrimLeft(target, "/"))
	if err != nil || !recordPath.MatchString(u.Path) {
		p.missing(w, r, "There is no such page", "")
		return
	}
	http.Redirect(w, r, p.instance.cfg.BasePath+u.Path+"?"+u.RawQuery, http.StatusFound)
}

func (p *pages) href(t Ticket) string {
	return p.instance.cfg.BasePath + "/" + t.Table + ".do?sys_id=" + t.SysID
}

func (p *pages) list(w http.ResponseWriter, r *http.Request, name string) {
	i := p.instance
	i.mu.Lock()
	t := i.tables[name]
	i.mu.Unlock()
	if t == nil || !t.is("task") {
		p.missing(w, r, "There is no such list", "")
		return
	}
	all := i.Tickets("task")
	slices.Reverse(all) // the newest first
	counts := map[string]int{}
	open := listSection{ID: "open", Title: "Open", Empty: "No open tickets."}
	closed := listSection{ID: "closed", Title: "Closed", Empty: "No closed tickets."}
	now := time.Now()
	i.mu.Lock()
	for _, ticket := range all {
		rec := i.records[ticket.SysID]
		if rec == nil {
			continue
		}
		counts[ticket.Table]++
		if !rec.table.is(name) {
			continue
		}
		row := listRow{
			Href: p.href(ticket), Number: cmp.Or(ticket.Number, "(no number)"), Table: rec.table.label, Short: ticket.Fields["short_description"],
			For: i.personFor(rec), Created: ticket.Fields["sys_created_on"] + " UTC", Age: age(now.Sub(ticket.Created)),
		}
		row.State, row.Tone = i.stateOf(rec)
		switch {
		case ticket.Active:
			open.Rows = append(open.Rows, row)
		default:
			closed.More++
			if len(closed.Rows) < closedShown {
				closed.Rows = append(closed.Rows, row)
			}
		}
	}
	if closed.More == len(closed.Rows) {
		closed.More = 0
	}
	page := listPage{frame: p.frame("Tickets", r), Heading: "Tickets", Sections: []listSection{open, closed}}
	page.Refresh = 5
	page.Tables = []tableLink{{Href: i.cfg.BasePath + "/", Label: "All", Count: len(all), Current: name == "task"}}
	for _, table := range slices.Sorted(maps.Keys(counts)) {
		page.Tables = append(page.Tables, tableLink{i.cfg.BasePath + "/" + table + "_list.do", i.tables[table].label, counts[table], table == name && name != "task"})
	}
	i.mu.Unlock()
	if page.Notice != "" {
		page.Refresh = 0 // the notice is to be read
	}
	p.show(w, http.StatusOK, "list", page)
}

// personFor is whom the ticket is for.
func (i *Instance) personFor(rec *record) string {
	for _, column := range []string{"requested_for", "caller_id", "requested_by"} {
		if rec.fields[column] != "" {
			return i.displayOf(rec, column)
		}
	}
	for _, column := range []string{"request_item", "request"} {
		if to := i.records[rec.fields[column]]; to != nil {
			return i.personFor(to)
		}
	}
	return ""
}

// stateOf is the state as people see it and the tone it is shown in.
func (i *Instance) stateOf(rec *record) (state, tone string) {
	column := "state"
	if rec.table.is("sc_request") {
		column = "request_state"
	}
	state = i.displayOf(rec, column)
	done := true
	for name, value := range rec.table.outcomes[Complete] {
		done = done && (rec.fields[name] == value || name == "close_code")
	}
	switch {
	case done || rec.table.is("incident") && rec.fields["state"] == "7":
		return state, "good"
	case rec.active():
		return state, "open"
	case rec.fields[column] == rec.table.columns[column].Default:
		return state + ", inactive", "bad"
	}
	return state, "bad"
}

func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// firstFields are shown first, in this order; the rest follows as the table has it.
var firstFields = []string{
	"number", "request_state", "state", "approval", "requested_for", "caller_id", "requested_by", "cat_item", "request", "request_item",
	"short_description", "description", "correlation_id", "correlation_display",
}

func (p *pages) ticket(w http.ResponseWriter, r *http.Request, name, sysID string) {
	i := p.instance
	ticket, err := i.Ticket(sysID)
	if err != nil {
		p.missing(w, r, "Record not found", "It was deleted, or never was.")
		return
	}
	i.mu.Lock()
	rec := i.records[sysID]
	if rec == nil || !rec.table.is(name) {
		i.mu.Unlock()
		p.missing(w, r, "Record not found", "It was deleted, or never was.")
		return
	}
	page := ticketPage{
		frame: p.frame(ticket.Number, r), Number: cmp.Or(ticket.Number, "(no number)"), TableLabel: rec.table.label, Short: ticket.Fields["short_description"],
		Action: p.href(ticket), Open: ticket.Active, CloseNotes: ticket.Fields["close_notes"], Notes: ticket.Notes,
	}
	page.State, page.Tone = i.stateOf(rec)
	for _, b := range []outcomeButton{{"complete", "Close complete", "good"}, {"incomplete", "Close incomplete", "bad"}, {"rejected", "Reject", "bad"}, {"cancelled", "Cancel", ""}} {
		if _, offered := rec.table.outcomes[Outcome(b.Value)]; offered {
			page.Outcomes = append(page.Outcomes, b)
		}
	}
	order := slices.Clone(firstFields)
	for _, column := range rec.table.order {
		if !slices.Contains(order, column) {
			order = append(order, column)
		}
	}
	for _, column := range order {
		c := rec.table.columns[column]
		if c == nil || c.Kind == Journal || column == "close_notes" && ticket.Active {
			continue
		}
		f := formField{Name: column, Label: c.Label, Value: rec.fields[column], Hint: column}
		if strings.HasPrefix(column, "sys_") {
			f.Value = i.displayOf(rec, column)
			page.System = append(page.System, f)
			continue
		}
		switch {
		case c.Kind == Reference:
			f.Value, f.ReadOnly = i.displayOf(rec, column), true
			if rec.fields[column] != "" {
				f.Hint = rec.fields[column]
			}
		case len(c.Choices) > 0 || c.Kind == Boolean:
			f.Choices = formChoices(c, f.Value)
		case c.Kind == DateTime || column == "number":
			f.ReadOnly = true
		case c.Max > 255:
			f.Long, f.Rows = true, min(12, max(2, strings.Count(f.Value, "\n")+2))
		case c.Max >= 100:
			f.Broad = true
		}
		if rec.fields[column] == "" && !slices.Contains(firstFields, column) {
			page.More = append(page.More, f)
		} else {
			page.Fields = append(page.Fields, f)
		}
	}
	for _, variable := range slices.Sorted(maps.Keys(rec.variables)) {
		page.Variables = append(page.Variables, formField{Label: variable, Value: rec.variables[variable]})
	}
	i.mu.Unlock()
	page.Notifies = i.notifier.hosts()
	if ticket.CorrelationID == "" && ticket.Fields["u_stageinstanceid"] == "" {
		page.Notifies = ""
	}
	p.show(w, http.StatusOK, "ticket", page)
}

func formChoices(c *Column, value string) []formChoice {
	offered := c.Choices
	if c.Kind == Boolean {
		offered = choices("true", "Yes", "false", "No")
	}
	var list []formChoice
	known := false
	for _, choice := range offered {
		known = known || choice.Value == value
		list = append(list, formChoice{choice, choice.Value == value})
	}
	if !known {
		list = append([]formChoice{{Choice{value, cmp.Or(value, "– none –")}, true}}, list...)
	}
	return list
}

// hosts are those that the rules notify.
func (n *notifier) hosts() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var hosts []string
	for _, rule := range n.rules {
		if u, err := url.Parse(rule.URL); err == nil && !slices.Contains(hosts, u.Host) {
			hosts = append(hosts, u.Host)
		}
	}
	return strings.Join(hosts, ", ")
}

// act does what a button of the ticket's page says.
func (p *pages) act(w http.ResponseWriter, r *http.Request, sysID string) {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "reading the form: "+err.Error(), http.StatusBadRequest)
		return
	}
	i := p.instance
	ticket, err := i.Ticket(sysID)
	if err != nil {
		p.missing(w, r, "Record not found", "It was deleted, or never was.")
		return
	}
	action := r.PostForm.Get("action")
	how := Closing{By: "page"}
	// A browser sends line ends as CR LF.
	typed := func(name string) string { return strings.ReplaceAll(r.PostForm.Get(name), "\r\n", "\n") }
	fields := map[string]string{}
	for name := range r.PostForm {
		if column, ok := strings.CutPrefix(name, "f."); ok && typed(name) != ticket.Fields[column] {
			fields[column] = typed(name)
		}
	}
	note := typed("work_note")
	to, done := p.href(ticket), action
	switch action {
	case "save":
		how.Fields, done = fields, "saved"
		if notes := typed("close_notes"); r.PostForm.Has("close_notes") && notes != ticket.Fields["close_notes"] {
			fields["close_notes"] = notes
		}
	case "note":
		how.Fields, done = map[string]string{"work_notes": note}, "noted"
	case "delete":
		err = i.Delete(sysID)
		to, done = i.cfg.BasePath+"/", "deleted"
	default:
		how.Outcome, how.Notes = Outcome(action), typed("close_notes")
		if note != "" {
			how.Fields = map[string]string{"work_notes": note}
		}
	}
	if action != "delete" {
		err = i.Close(sysID, how)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	separator := "?"
	if strings.Contains(to, "?") {
		separator = "&"
	}
	http.Redirect(w, r, to+separator+"done="+done, http.StatusSeeOther)
}
