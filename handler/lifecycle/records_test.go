package lifecycle

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/servicenow"
)

// A callout is what the stand-ins have on record of one stage instance. Nothing in it comes from the app.
type callout struct {
	entra.Callout
	created int                 // how many tickets were ever created for it
	tickets []servicenow.Ticket // those that are there
	told    []entra.Resume      // what Graph took
	refused []entra.Resume      // what Graph was told and did not take
}

func (c callout) key() string { return fmtKey(c.Request, c.ID) }

// callouts reads the records of a request.
func (w *world) callouts(request string) []callout {
	w.Helper()
	r, ok := w.entra.Request(request)
	if !ok {
		w.Fatalf("Entra has no request %s", request)
	}
	var out []callout
	for _, sent := range r.Callouts {
		c := callout{Callout: sent, created: w.serviceNow.Creations()[fmtKey(request, sent.ID)], tickets: w.serviceNow.ByCorrelation(fmtKey(request, sent.ID))}
		for _, told := range w.entra.Resumes(request) {
			switch {
			case !strings.EqualFold(told.StageInstance, sent.ID):
			case told.Accepted:
				c.told = append(c.told, told)
			default:
				c.refused = append(c.refused, told)
			}
		}
		out = append(out, c)
	}
	return out
}

// once fails the test unless each callout of the request has one ticket, and Graph took at most one answer to it.
func (w *world) once(request string) {
	w.Helper()
	for _, c := range w.callouts(request) {
		if c.created != 1 {
			w.Errorf("%s at %s: %d tickets were created, not one", request, c.Stage, c.created)
		}
		if len(c.told) > 1 {
			w.Errorf("%s at %s: Graph took %d answers", request, c.Stage, len(c.told))
		}
	}
}

// submit makes a request in Entra, of a person of its own unless it says whose. What people are called, and what they write, must never be logged.
func (w *world) submit(r entra.NewRequest) string {
	w.Helper()
	if r.Target == "" {
		name := random()
		u := w.entra.AddUser(entra.User{Name: "Given" + name + " Family" + name, Email: name + "@example.com", PrincipalName: name + "@corp.example.com"})
		w.check(w.serviceNow.AddUser(servicenow.User{UserName: u.PrincipalName, Name: u.Name, Email: u.Email}))
		w.log.forbid(name)
		r.Target = u.ObjectID
	}
	answer := "answer " + random()
	w.log.forbid(answer)
	r.Answers = append(r.Answers, entra.Answer{Question: "Which region?", Value: answer})
	r.Justification = answer
	id, err := w.entra.Submit(r)
	w.check(err)
	return id
}

// asked is submit, again where the first callout was not taken because the machine was slower than Entra is patient.
func (w *world) asked(r entra.NewRequest) string {
	w.Helper()
	for range 20 {
		if id := w.submit(r); w.taken(id) {
			return id
		}
	}
	w.Fatal("twenty requests, and the callout of none was answered in time")
	return ""
}

// taken waits for what becomes of the request's first callout, and says whether it was taken, or not because the machine was slower than Entra is patient.
func (w *world) taken(id string) bool {
	w.Helper()
	now, err := w.entra.Await(w.ctx, id, func(r entra.Request) bool {
		return r.State == entra.StatePendingApproval || len(r.Callouts) > 0 && (r.Callouts[0].Status != entra.StatusSent || len(r.Callouts[0].Attempts) > 0 && !r.Callouts[0].Waits)
	})
	w.check(err)
	if len(now.Callouts) == 0 || now.Callouts[0].Status != entra.StatusFailed {
		return true
	}
	for _, a := range now.Callouts[0].Attempts {
		if a.Status != 0 && a.Status != http.StatusServiceUnavailable {
			w.Fatalf("the callout was answered %d: %s", a.Status, a.Answer)
		}
		w.Logf("the callout was answered %d after %v: asking anew", a.Status, a.Took)
	}
	return false
}

// ledger is a request that calls out once and waits.
func (w *world) ledger() string {
	w.Helper()
	return w.asked(entra.NewRequest{Policy: w.sample.LedgerPolicy})
}

// nth waits for the n-th callout of a request, counted from 0.
func (w *world) nth(request string, n int) entra.Callout {
	w.Helper()
	r, err := w.entra.Await(w.ctx, request, func(r entra.Request) bool { return len(r.Callouts) > n || r.Over })
	w.check(err)
	if len(r.Callouts) <= n {
		w.Fatalf("request %s is over (%s) before callout %d", request, r.MyAccess, n+1)
	}
	return r.Callouts[n]
}

// ticket waits for the ticket of the n-th callout of a request.
func (w *world) ticket(request string, n int) servicenow.Ticket {
	w.Helper()
	key := fmtKey(request, w.nth(request, n).ID)
	var found []servicenow.Ticket
	told := context.AfterFunc(w.ctx, func() { w.Logf("there is no ticket of %s. The log:\n%s", key, w.log.about(key)) })
	defer told()
	w.until("the ticket of "+key, func() bool {
		found = w.serviceNow.ByCorrelation(key)
		return len(found) > 0
	})
	return found[0]
}

// closeTicket closes the ticket of the n-th callout.
func (w *world) closeTicket(request string, n int, how servicenow.Closing) {
	w.Helper()
	w.check(w.serviceNow.Close(w.ticket(request, n).SysID, how))
}

// over waits until nothing more happens to the request in Entra.
func (w *world) over(request string) entra.Request {
	w.Helper()
	r, err := w.entra.Await(w.ctx, request, entra.IsOver)
	if err != nil {
		w.once(request) // perhaps that is why
		for _, c := range r.Callouts {
			s, _, _ := w.show(fmtKey(request, c.ID))
			w.Logf("%s is %q there, and here %q. Its timeline:\n%s\nThe log:\n%s", fmtKey(request, c.ID), c.Status, s.State, s.told(), w.log.about(fmtKey(request, c.ID)))
		}
		w.Fatal(err)
	}
	return r
}

// A stage is what `handler requests show -o json` says of a stage instance.
type stage struct {
	RequestID       string  `json:"requestId"`
	StageInstanceID string  `json:"stageInstanceId"`
	State           string  `json:"state"`
	Reason          string  `json:"reason"`
	Advice          string  `json:"advice"`
	Attempts        int     `json:"attempts"`
	Timeline        []event `json:"timeline"`
}

type event struct {
	Seq  int       `json:"seq"`
	At   time.Time `json:"at"`
	Kind string    `json:"kind"`
	From string    `json:"from"`
	To   string    `json:"to"`
	Text string    `json:"text"`
}

// command runs a command of the built handler on the world's storage and returns what it printed.
func (w *world) command(args ...string) (stdout string, err error) {
	cmd := exec.CommandContext(context.WithoutCancel(w.ctx), filepath.Join(w.app, "handler"), args...) //nolint:gosec // the program under test
	cmd.Env = []string{"AzureWebJobsStorage=" + w.connection, "STORAGE_PREFIX=" + w.settings["STORAGE_PREFIX"]}
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err = cmd.Run(); err != nil {
		err = fmt.Errorf("handler %s: %w: %s", strings.Join(args, " "), err, complaint.String())
	}
	return out.String(), err
}

// show asks the handler's own command for a stage instance; ok is false when it knows none.
func (w *world) show(key string) (s stage, ok bool, err error) {
	text, err := w.command("requests", "show", key, "-o", "json")
	if err != nil && strings.Contains(err.Error(), "is known here") {
		return stage{}, false, nil
	}
	if err != nil {
		return stage{}, false, err
	}
	if wrong := w.log.leaks(text); wrong != "" {
		return stage{}, false, fmt.Errorf("requests show prints something in which %s", wrong)
	}
	var all []stage
	if err := json.Unmarshal([]byte(text), &all); err != nil || len(all) != 1 {
		return stage{}, false, fmt.Errorf("requests show prints %d stage instances (%w)", len(all), err)
	}
	return all[0], true, nil
}

// shown is show for the test's own goroutine.
func (w *world) shown(key string) (s stage, ok bool) {
	w.Helper()
	s, ok, err := w.show(key)
	w.check(err)
	return s, ok
}

// listed is how many open requests the handler's own command lists.
func (w *world) listed() int {
	w.Helper()
	text, err := w.command("requests", "list", "-o", "json")
	w.check(err)
	var all []json.RawMessage
	w.check(json.Unmarshal([]byte(text), &all))
	return len(all)
}

// becomes waits until the handler's own record of a stage instance is in the state, and checks its timeline.
func (w *world) becomes(key, state string) stage {
	w.Helper()
	var s stage
	for s.State != state {
		now, _, err := w.show(key)
		switch {
		case w.ctx.Err() != nil:
			w.Fatalf("%s is %q and does not become %q. Its timeline:\n%s\nThe log:\n%s", key, s.State, state, s.told(), w.log.about(key))
		case err != nil:
			w.Fatal(err)
		}
		if s = now; s.State != state {
			w.next(key)
		}
	}
	for _, wrong := range gaps(s) {
		w.Errorf("the timeline of %s: %s", key, wrong)
	}
	return s
}

// next waits until the handler logs that a stage instance moved, or a while: what a killed handler did it may not have logged.
func (w *world) next(key string) {
	ctx, cancel := context.WithTimeout(w.ctx, time.Second)
	defer cancel()
	about := func(l line) bool { return l.key() == key && l.str("event") == "moved" }
	_ = w.log.await(ctx, len(w.log.all(about))+1, about)
}

// told is a timeline for whoever reads a failure.
func (s stage) told() string {
	var b strings.Builder
	for _, e := range s.Timeline {
		fmt.Fprintf(&b, "  %d %s %s→%s: %s\n", e.Seq, e.At.Format("15:04:05.000"), e.From, e.To, e.Text)
	}
	return b.String()
}

// gaps says what does not follow in a timeline.
func gaps(s stage) (wrong []string) {
	state, at := "", time.Time{}
	for i, e := range s.Timeline {
		if e.Seq != i+1 {
			wrong = append(wrong, fmt.Sprintf("event %d is numbered %d", i+1, e.Seq))
		}
		if e.From != state {
			wrong = append(wrong, fmt.Sprintf("event %d (%s) begins in %q, the one before ended in %q", i+1, e.Text, e.From, state))
		}
		if e.Kind != "move" && e.Kind != "operator" && e.To != e.From {
			wrong = append(wrong, fmt.Sprintf("event %d (%s) is no move and changes the state", i+1, e.Text))
		}
		if e.At.Add(time.Second).Before(at) { // what a process learns of the storage's clock is right to a second
			wrong = append(wrong, fmt.Sprintf("event %d (%s) was before the one before it", i+1, e.Text))
		}
		state, at = e.To, e.At
	}
	if state != s.State {
		wrong = append(wrong, fmt.Sprintf("it ends in %q, and the state is %q", state, s.State))
	}
	return wrong
}

// moves are the states that a timeline went through.
func (s stage) moves() []string {
	var out []string
	for _, e := range s.Timeline {
		if e.Kind == "move" {
			out = append(out, e.To)
		}
	}
	return out
}

// says whether the timeline has an event with this text in it.
func (s stage) says(text string) bool {
	return slices.ContainsFunc(s.Timeline, func(e event) bool { return strings.Contains(e.Text, text) })
}

// workNotes are the work notes on a ticket.
func workNotes(t servicenow.Ticket) (out []string) {
	for _, n := range t.Notes {
		if n.Element == "work_notes" {
			out = append(out, n.Text)
		}
	}
	return out
}

func TestWhatDoesNotFollowInATimelineIsFound(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	good := func() stage {
		return stage{State: "opening", Timeline: []event{
			{Seq: 1, At: at, Kind: "move", To: "received"},
			{Seq: 2, At: at, Kind: "seen", From: "received", To: "received"},
			{Seq: 3, At: at.Add(time.Second), Kind: "move", From: "received", To: "opening"},
		}}
	}
	if wrong := gaps(good()); len(wrong) != 0 {
		t.Fatalf("a good one is not taken: %q", wrong)
	}
	for name, change := range map[string]func(*stage){
		"an event that is missing":        func(s *stage) { s.Timeline = append(s.Timeline[:1], s.Timeline[2:]...) },
		"a move that is missing":          func(s *stage) { s.Timeline[2].From = "open" },
		"a state without its move":        func(s *stage) { s.State = "open" },
		"a time before the one before it": func(s *stage) { s.Timeline[2].At = at.Add(-2 * time.Second) },
		"a note that moves":               func(s *stage) { s.Timeline[2].Kind = "seen" },
		"nothing at all":                  func(s *stage) { s.Timeline = nil },
	} {
		s := good()
		if change(&s); len(gaps(s)) == 0 {
			t.Errorf("%s is not found", name)
		}
	}
}
