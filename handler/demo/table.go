package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"ticketbridge/handler/simulator/entra"
)

// An account is what the stand-ins' own records say of one callout: nothing in it comes from the app's storage.
type account struct {
	request entra.Request
	callout entra.Callout
	stage
	number           string // of the tickets
	asked            time.Time
	opened, closed   time.Time // of the ticket, or the last of two
	answered         time.Time // Graph was told
	tickets, answers int       // how many there are: as many as the rule has, and at most one
}

// accountOf reads the records of a request, callout by callout.
func (s *standIns) accountOf(request string) []account {
	r, ok := s.entra.Request(request)
	if !ok {
		return nil
	}
	var out []account
	for _, c := range r.Callouts {
		a := account{request: r, callout: c, asked: c.Sent}
		id := strings.ToLower(r.ID + "/" + c.ID)
		for _, id := range []string{id, id + "/2"} { // a rule's second ticket has its place behind the key
			list := s.serviceNow.ByCorrelation(id)
			a.tickets += max(len(list), s.serviceNow.Creations()[id])
			for _, t := range list {
				if a.number != "" {
					a.number, a.ticket = a.number+", ", a.ticket+", "
				}
				a.number, a.ticket, a.opened = a.number+t.Number, a.ticket+stateOf(t), t.Created
				a.closed, _ = time.Parse(time.DateTime, t.Fields["closed_at"])
			}
		}
		for _, told := range s.entra.Resumes(request) {
			if strings.EqualFold(told.StageInstance, c.ID) && told.Accepted {
				a.answers++
				a.told, a.answered = map[string]string{"": "go on", "Denied": "deny", "Canceled": "cancel"}[told.State], told.At
			}
		}
		out = append(out, a)
	}
	return out
}

// judge says what did not come as expected; nothing when all did.
func (s *standIns) judge(e expectation) []string {
	var wrong []string
	accounts := s.accountOf(e.request)
	r, _ := s.entra.Request(e.request)
	if r.MyAccess != e.access {
		wrong = append(wrong, fmt.Sprintf("My Access shows %q, not %q", r.MyAccess, e.access))
	}
	if len(accounts) != len(e.stages) {
		wrong = append(wrong, fmt.Sprintf("%d callouts, not %d", len(accounts), len(e.stages)))
	}
	for i, a := range accounts {
		if want := 1 + strings.Count(a.ticket, ","); a.tickets != want || i < len(e.stages) && strings.Count(e.stages[i].ticket, ",") != want-1 {
			wrong = append(wrong, fmt.Sprintf("%d tickets for one callout", a.tickets))
		}
		if a.answers > 1 {
			wrong = append(wrong, fmt.Sprintf("Graph took %d answers to one callout", a.answers))
		}
		if i < len(e.stages) && a.stage != e.stages[i] {
			wrong = append(wrong, fmt.Sprintf("ticket %q and Graph told %q, not %q and %q", a.ticket, a.told, e.stages[i].ticket, e.stages[i].told))
		}
	}
	return wrong
}

// summary prints what became of every request, and says how many did not end as they should.
func (p *play) summary(w io.Writer) (wrong int) {
	fmt.Fprintln(w, "\nWhat the stand-ins have on record (nothing here is from ticketbridge's own storage):")
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tFOR\tACCESS PACKAGE\tSTAGE\tTICKET\tIS\tGRAPH WAS TOLD\tMY ACCESS\tCALLED OUT\tOPENED\tCLOSED\tTOLD\t")
	tickets, told := 0, map[string]int{}
	expected := slices.Clone(p.expected)
	slices.SortStableFunc(expected, func(a, b expectation) int { return cmp.Compare(p.number(a.request), p.number(b.request)) })
	var complaints []string
	for _, e := range expected {
		problems := p.stand.judge(e)
		if len(problems) > 0 {
			wrong++
			complaints = append(complaints, fmt.Sprintf("%s (%s, request %s): %s", p.story.named(e.request), e.scene, e.request, strings.Join(problems, "; ")))
		}
		for i, a := range p.stand.accountOf(e.request) {
			name, verdict := p.story.named(e.request), "as it should"
			if i > 0 {
				name = ""
			}
			if len(problems) > 0 {
				verdict = "WRONG"
			}
			tickets += a.tickets
			told[a.told] += a.answers
			fmt.Fprintln(t, strings.Join([]string{
				name, a.request.Target.Name, a.request.PackageName, shortStage(a.callout.Stage), a.number, a.ticket, cmp.Or(a.told, "-"), a.request.MyAccess,
				clock(a.asked), clock(a.opened), clock(a.closed), clock(a.answered), verdict,
			}, "\t"))
		}
	}
	t.Flush()
	for _, c := range complaints {
		fmt.Fprintln(w, "\nnot as it should be: "+c)
	}
	ending := "all ended as they should"
	if wrong > 0 {
		ending = fmt.Sprintf("%d did not end as they should", wrong)
	}
	fmt.Fprintf(w, "\n%d requests, %d tickets, %d answers to Graph (%d go on, %d deny): %s.\n",
		len(expected), tickets, told["go on"]+told["deny"]+told["cancel"], told["go on"], told["deny"], ending)
	return wrong
}

// number orders requests as the story numbers them.
func (p *play) number(request string) int {
	p.story.mu.Lock()
	defer p.story.mu.Unlock()
	return p.story.numbers[strings.ToLower(request)]
}

// shortStage leaves away what the names of all stages have in common.
func shortStage(s string) string {
	for long, short := range map[string]string{
		entra.StageCreated: "created", entra.StageApproved: "approved", entra.StageGranted: "granted", entra.StageRemoved: "removed",
		entra.StageFourteenDays: "14 days before", entra.StageOneDay: "1 day before",
	} {
		if s == long {
			return short
		}
	}
	return s
}

func clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format(time.TimeOnly)
}
