package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/servicenow"
	"ticketbridge/handler/storage"
)

// A narrator says in plain words what happens, as it happens: what the stand-ins' own records say, and what the app is trying.
type narrator struct {
	stand *standIns
	store *storage.Store // nil when the app is elsewhere
	out   io.Writer
	color bool

	mu      sync.Mutex // held while it looks and prints
	numbers map[string]int
	seen    map[string]string // what was last said of a thing
	resumes int
	sent    int
	notes   map[string]int
}

func newNarrator(stand *standIns, store *storage.Store, out io.Writer, color bool) *narrator {
	return &narrator{
		stand: stand, store: store, out: out, color: color,
		numbers: map[string]int{}, seen: map[string]string{}, notes: map[string]int{},
	}
}

// A line is one thing that happened.
type line struct {
	at   time.Time
	who  string
	text string
}

// The four who act.
const (
	inEntra      = "Entra"
	inServiceNow = "ServiceNow"
	inBridge     = "ticketbridge"
	person       = "person"
)

// run looks until ctx ends.
func (n *narrator) run(ctx context.Context) {
	tick := time.NewTicker(40 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			n.look()
			return
		case <-tick.C:
			n.look()
		}
	}
}

// say prints what somebody does who is no program.
func (n *narrator) say(format string, args ...any) {
	n.look()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.print(line{time.Now(), person, fmt.Sprintf(format, args...)})
}

// number is how a request is called in the story, from 1.
func (n *narrator) number(request string) string {
	request = strings.ToLower(request)
	if n.numbers[request] == 0 {
		n.numbers[request] = len(n.numbers) + 1
	}
	return fmt.Sprintf("#%d", n.numbers[request])
}

// named is number for whoever does not hold n.mu.
func (n *narrator) named(request string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.number(request)
}

func (n *narrator) print(l line) {
	text := fmt.Sprintf("%s  %-12s  %s", l.at.Local().Format("15:04:05.0"), l.who, l.text)
	if n.color {
		text = map[string]string{inEntra: "\033[34m", inServiceNow: "\033[32m", inBridge: "\033[35m", person: "\033[1m"}[l.who] + text + "\033[0m"
	}
	fmt.Fprintln(n.out, text)
}

// look prints what happened since it looked last.
func (n *narrator) look() {
	n.mu.Lock()
	defer n.mu.Unlock()
	var lines []line
	add := func(at time.Time, who, format string, args ...any) {
		lines = append(lines, line{at, who, fmt.Sprintf(format, args...)})
	}
	for _, r := range n.stand.entra.Requests() {
		n.request(r, add)
	}
	told := n.stand.entra.Resumes("")
	for _, r := range told[n.resumes:] {
		n.told(r, add)
	}
	n.resumes = len(told)
	for _, t := range n.stand.serviceNow.Tickets("task") {
		n.ticket(t, add)
	}
	sent := n.stand.serviceNow.Notifications()
	for _, s := range sent[n.sent:] {
		switch {
		case s.Status != 0:
			add(s.At, inServiceNow, "tells ticketbridge that %s closed: answered %d", s.Number, s.Status)
		case s.Err != nil:
			add(s.At, inServiceNow, "tells ticketbridge that %s closed: not heard (%v)", s.Number, s.Err)
		default:
			add(s.At, inServiceNow, "should tell ticketbridge that %s closed, and the message gets lost", s.Number)
		}
	}
	n.sent = len(sent)
	n.trying(add)
	slices.SortStableFunc(lines, func(a, b line) int { return a.at.Compare(b.at) })
	for _, l := range lines {
		n.print(l)
	}
}

// new says whether what is now said of a thing was not said before.
func (n *narrator) new(thing, now string) bool {
	if n.seen[thing] == now {
		return false
	}
	n.seen[thing] = now
	return true
}

type adder func(at time.Time, who, format string, args ...any)

func (n *narrator) request(r entra.Request, add adder) {
	name := n.number(r.ID)
	if n.new("request "+r.ID, "known") {
		add(r.Created, inEntra, "%s  %s", name, asked(r))
	}
	for _, c := range r.Callouts {
		if n.new("callout "+c.ID, "known") {
			waits := "and pauses the request"
			if !c.Waits {
				waits = "and goes on"
			}
			add(c.Sent, inEntra, "%s  calls out at %s %s", name, c.Stage, waits)
		}
		for i, a := range c.Attempts {
			if n.new(fmt.Sprint("attempt ", c.ID, i), "known") {
				add(a.At.Add(a.Took), inBridge, "%s  %s", name, answeredHow(a))
			}
		}
		if c.Status == entra.StatusTimedOut && n.new("late "+c.ID, "known") {
			add(time.Now(), inEntra, "%s  gives up waiting", name)
		}
	}
	if n.new("state "+r.ID, r.MyAccess) && r.MyAccess != "Pending" {
		at := r.Completed
		if at.IsZero() {
			at = time.Now()
		}
		what := ""
		if removing(r) {
			what = " (the removal)"
		}
		add(at, inEntra, "%s  %s sees: %s%s", name, r.Requestor.Name, r.MyAccess, what)
	}
}

func asked(r entra.Request) string {
	what := fmt.Sprintf("%s asks for %q", r.Requestor.Name, r.PackageName)
	if removing(r) {
		what = fmt.Sprintf("%s gives %q back", r.Requestor.Name, r.PackageName)
	}
	for _, a := range r.Answers {
		what += fmt.Sprintf(" (%s %s)", a.Question, a.Value)
	}
	return what
}

func removing(r entra.Request) bool { return strings.HasSuffix(r.Type, "Remove") }

func answeredHow(a entra.Attempt) string {
	took := a.Took.Round(time.Millisecond)
	if a.Status == 0 {
		return fmt.Sprintf("is not reached: %s, after %s", a.Err, took)
	}
	var said struct {
		State     string
		Duplicate bool
	}
	_ = json.Unmarshal([]byte(a.Answer), &said)
	switch {
	case said.Duplicate:
		return fmt.Sprintf("answers %d in %s: it knows this call, and changes nothing", a.Status, took)
	case a.OK:
		return fmt.Sprintf("answers %d in %s: remembered", a.Status, took)
	default:
		return fmt.Sprintf("answers %d in %s", a.Status, took)
	}
}

func (n *narrator) told(r entra.Resume, add adder) {
	what := map[string]string{"": "go on", "Denied": "deny", "Canceled": "cancel"}[r.State]
	if !r.Accepted {
		add(r.At, inBridge, "%s  tells Graph: %s; Graph answers %d (%s)", n.number(r.Request), what, r.Status, cmp.Or(r.Problem, "changes nothing"))
		return
	}
	add(r.At, inBridge, "%s  tells Graph: %s (%s)", n.number(r.Request), what, r.Detail)
}

func (n *narrator) ticket(t servicenow.Ticket, add adder) {
	key, err := correlation.ParseTicketID(t.CorrelationID)
	if err != nil {
		return
	}
	name := n.number(key.Request)
	if n.new("ticket "+t.SysID, "known") {
		add(t.Created, inServiceNow, "%s  has a new ticket %s: %s", name, t.Number, t.Fields["short_description"])
	}
	if !t.Active && n.new("closed "+t.SysID, "closed") {
		add(time.Now(), inServiceNow, "%s  %s is closed: %s", name, t.Number, stateOf(t))
	}
	for i := len(t.Notes) - 1 - n.notes[t.SysID]; i >= 0; i-- { // the newest stands first
		if t.Notes[i].Element == "work_notes" {
			add(time.Now(), inBridge, "%s  writes on %s: %s", name, t.Number, t.Notes[i].Text)
		}
	}
	n.notes[t.SysID] = len(t.Notes)
}

// stateOf is a ticket's state in ServiceNow's words.
func stateOf(t servicenow.Ticket) string {
	if label := map[string]string{"incident 6": "resolved", "sc_req_item 3": "closed complete", "change_request 3": "closed"}[t.Table+" "+t.Fields["state"]]; label != "" {
		return label
	}
	return strings.ReplaceAll(cmp.Or(t.Fields["request_state"], t.Fields["state"]), "_", " ")
}

// trying says what the app could not do yet, and what it has given to a person.
func (n *narrator) trying(add adder) {
	if n.store == nil {
		return
	}
	open, _, err := n.store.Open(context.Background(), "", 0)
	if err != nil {
		return
	}
	for _, s := range open {
		if s.Attempts > 0 && n.new("trying "+s.Key.String(), fmt.Sprint(s.Attempts)) {
			add(time.Now(), inBridge, "%s  could not do it yet, and will try again: %s", n.number(s.Key.Request), s.Reason)
		}
		if s.State.NeedsPerson() && n.new("person "+s.Key.String(), string(s.State)) {
			add(time.Now(), inBridge, "%s  leaves it to a person: %s", n.number(s.Key.Request), s.Reason)
		}
	}
}
