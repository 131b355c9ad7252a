package console_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"ticketbridge/handler/console"
	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/storage"
	"ticketbridge/handler/workflow"
)

var _ console.Reader = (*storage.Store)(nil)

// store is a Reader of what a test puts into it. behind is what its list of open ones says although it is not so any more.
type store struct {
	all      []*correlation.Correlation
	events   map[correlation.Key][]correlation.Event
	callouts map[correlation.Key][]byte
	down     map[string]error // by method
	asked    []string         // methods
	behind   []correlation.Summary

	mark       workflow.Mark
	unreadable []workflow.Unreadable
}

func (s *store) Mark(context.Context) (workflow.Mark, error) { return s.mark, s.ask("Mark") }

func (s *store) Unreadable(context.Context) ([]workflow.Unreadable, error) {
	return s.unreadable, s.ask("Unreadable")
}

// ask notes that a method was called, and returns the error that it is to end in.
func (s *store) ask(method string) error {
	s.asked = append(s.asked, method)
	return s.down[method]
}

func (s *store) page(take func(*correlation.Correlation) bool, cursor string, limit int) ([]correlation.Summary, string, error) {
	slices.SortFunc(s.all, func(a, b *correlation.Correlation) int { return cmp.Compare(a.Key.String(), b.Key.String()) })
	var out []correlation.Summary
	for _, c := range s.all {
		if !take(c) || c.Key.String() <= cursor {
			continue
		}
		if len(out) == limit {
			return out, out[limit-1].Key.String(), nil
		}
		out = append(out, c.Summary())
	}
	return out, "", nil
}

func (s *store) Open(_ context.Context, cursor string, limit int) ([]correlation.Summary, string, error) {
	if err := s.ask("Open"); err != nil {
		return nil, "", err
	}
	out, next, err := s.page(func(c *correlation.Correlation) bool { return !c.Settled() }, cursor, limit)
	if cursor == "" {
		out = append(slices.Clone(s.behind), out...)
	}
	return out, next, err
}

func (s *store) Ended(_ context.Context, day time.Time, cursor string, limit int) ([]correlation.Summary, string, error) {
	if err := s.ask("Ended"); err != nil {
		return nil, "", err
	}
	return s.page(func(c *correlation.Correlation) bool {
		return c.Settled() && c.Since.UTC().Format(time.DateOnly) == day.Format(time.DateOnly)
	}, cursor, limit)
}

func (s *store) Stages(_ context.Context, requestID string) (out []*correlation.Correlation, err error) {
	if err := s.ask("Stages"); err != nil {
		return nil, err
	}
	id, ok := correlation.GUID(requestID)
	if !ok {
		return nil, &fault.Error{Op: "read request", Reason: fault.Invalid, Field: "requestId"}
	}
	for _, c := range s.all {
		if c.Key.Request == id {
			out = append(out, c)
		}
	}
	return out, nil
}

func (s *store) Timeline(_ context.Context, key correlation.Key) ([]correlation.Event, error) {
	return s.events[key], s.ask("Timeline")
}

func (s *store) Callout(_ context.Context, key correlation.Key) ([]byte, error) {
	if err := s.ask("Callout"); err != nil {
		return nil, err
	}
	b, ok := s.callouts[key]
	if !ok {
		return nil, &fault.Error{Op: "read callout", Reason: fault.NotFound}
	}
	return b, nil
}

// key makes up the n-th key.
func key(n int) correlation.Key {
	return correlation.Key{Request: fmt.Sprintf("7d1f0a52-6c1e-4e0b-9a3c-%012d", n), Stage: fmt.Sprintf("c0a6e2d4-52f7-4a9e-8f0e-%012d", n)}
}

// put adds a correlation that came at the given time.
func (s *store) put(n int, came time.Time, build func(*correlation.Correlation)) *correlation.Correlation {
	c := correlation.New(key(n), came, "callout received: assignmentRequestApproved, userAdd; the request waits for a resume", "acd6b61f-5329-45ca-8257-0b6f0f52e277")
	c.Stage, c.RequestType, c.Waits = "assignmentRequestApproved", "userAdd", true
	c.Deadline = came.Add(14 * 24 * time.Hour)
	c.OnRejected, c.Rule = "deny", "built-in"
	c.PackageID, c.CatalogID = "0b9d4f5e-1111-4222-8333-444455556666", "0b9d4f5e-7777-4888-8999-000011112222"
	build(c)
	if s.events == nil {
		s.events, s.callouts = map[correlation.Key][]correlation.Event{}, map[correlation.Key][]byte{}
	}
	s.all = append(s.all, c)
	s.events[c.Key] = c.Pending()
	body, err := json.Marshal(map[string]any{
		"AccessPackageAssignmentRequestId": c.Key.Request, "CustomExtensionStageInstanceId": c.Key.Stage, "Stage": c.Stage, "RequestType": c.RequestType,
		"AccessPackage": map[string]any{"Id": c.PackageID, "DisplayName": c.PackageName}, "Requestor": map[string]any{"DisplayName": "Morgan Example"},
		"Assignment": map[string]any{"AssignmentPolicy": map[string]any{"DisplayName": "Everybody, with approval"}},
		"Answers": []any{
			map[string]any{"AnsweredQuestion": map[string]any{"TextString": "For what do you need it?"}, "Value": "The quarter's closing,\nwith Robin"},
			map[string]any{"AnsweredQuestion": map[string]any{"TextString": "Until when?"}, "Value": nil},
		},
	})
	must(err)
	s.callouts[c.Key] = body
	return c
}

func (s *store) ticket(c *correlation.Correlation, n int, o correlation.Outcome, state string) {
	c.Tickets = append(c.Tickets, correlation.Ticket{
		Entry: "request", Table: "sc_request", SysID: fmt.Sprintf("%032x", n), Number: fmt.Sprintf("REQ%07d", n), State: state, Outcome: o,
		Link: fmt.Sprintf("https://example.service-now.com/sc_request.do?sys_id=%032x", n),
	})
}

// embedded returns what s has in the storage that runs in this process.
func (s *store) embedded(t testing.TB) *storage.Store {
	t.Helper()
	to, _, err := storage.NewEmbedded(storage.DefaultPrefix)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range s.all {
		if err := to.Create(t.Context(), c, s.callouts[c.Key]); err != nil {
			t.Fatal(err)
		}
		if err := to.Index(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// must is for moves that are legal.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// aMorning is a store with something in every state.
func aMorning(t testing.TB, now time.Time) *store {
	t.Helper()
	const by = "acd6b61f-5329-45ca-8257-0b6f0f52e277"
	s := &store{}
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	opened := func(c *correlation.Correlation, at time.Time, n int) {
		must(c.Move(correlation.Opening, at, "1 ticket is to be opened by the built-in rule", by))
		must(c.Move(correlation.Open, at.Add(2*time.Second), fmt.Sprintf("REQ%07d opened", n), by))
		s.ticket(c, n, correlation.Pending, "request_state=requested")
	}
	s.put(1, ago(12*time.Second), func(c *correlation.Correlation) {
		c.PackageName, c.CatalogName, c.TargetName = "Engineering laptops", "Workplace", "Jordan Example"
	})
	s.put(2, ago(3*time.Minute), func(c *correlation.Correlation) {
		c.PackageName, c.CatalogName, c.TargetName = "SAP Finance reader", "Finance", "Robin Example"
		must(c.Move(correlation.Opening, ago(3*time.Minute-time.Second), "1 ticket is to be opened by the built-in rule", by))
		for i := range 3 {
			at := ago(time.Duration(150-40*i) * time.Second)
			c.Attempted(at, at.Add(40*time.Second), &fault.Error{Op: "create ticket", Reason: fault.Unreachable, Status: 503, Detail: "the instance is hibernating"}, by)
		}
		c.Advice = "See whether the ServiceNow instance is up; nothing is lost meanwhile."
	})
	for i, d := range []time.Duration{26 * time.Hour, 49 * time.Hour, 13*24*time.Hour + 4*time.Hour} {
		s.put(10+i, ago(d), func(c *correlation.Correlation) {
			c.PackageName = []string{"Warehouse scanner", "Data centre access, building 7", "Payroll clerk"}[i]
			c.CatalogName, c.TargetName = []string{"Logistics", "Facilities", "Human resources"}[i], []string{"Kim Example", "Sasha Example", "Noor Example"}[i]
			opened(c, ago(d-5*time.Second), 10012+i)
		})
	}
	s.put(20, ago(5*time.Hour), func(c *correlation.Correlation) {
		c.PackageName, c.CatalogName, c.TargetName = "Contractor badge", "Facilities", "Alex Example"
		c.Waits, c.Deadline, c.Stage, c.RequestType = false, time.Time{}, "assignmentFourteenDaysBeforeExpiration", "systemUpdate"
		opened(c, ago(5*time.Hour-4*time.Second), 10031)
	})
	s.put(30, ago(2*24*time.Hour), func(c *correlation.Correlation) {
		c.PackageName, c.CatalogName, c.TargetName = "Treasury payments", "Finance", "Charlie Example"
		opened(c, ago(2*24*time.Hour-3*time.Second), 10020)
		c.Note(ago(2*24*time.Hour-time.Minute), "the callout came again; it changes nothing", by)
		c.Note(ago(61*time.Minute), "ServiceNow says that REQ0010020 closed", by)
		c.Tickets[0].Outcome, c.Tickets[0].State = correlation.Unknown, "request_state=closed_duplicate"
		must(c.Hold(ago(61*time.Minute-time.Second), "REQ0010020 closed as request_state=closed_duplicate, which nobody mapped",
			"Look at the ticket, then resume or deny the request.", by))
	})
	s.put(31, ago(30*time.Hour), func(c *correlation.Correlation) {
		c.PackageName, c.CatalogName, c.TargetName = "Research cluster", "Science", "Toni Example"
		must(c.Move(correlation.Opening, ago(30*time.Hour-time.Second), "1 ticket is to be opened by the built-in rule", by))
		must(c.Fail(ago(29*time.Hour), "ServiceNow refused to create the ticket: a data policy wants an assignment group", "Give the rule an assignment_group, then retry.", fault.Refused, by))
	})
	s.put(40, ago(90*time.Second), func(c *correlation.Correlation) {
		c.PackageName, c.CatalogName, c.TargetName = "Customer records", "Sales", "Max Example"
		opened(c, ago(80*time.Second), 10040)
		c.Tickets[0].Outcome, c.Tickets[0].State = correlation.Fulfilled, "request_state=closed_complete"
		must(c.Move(correlation.Closed, ago(9*time.Second), "REQ0010040 is closed complete", by))
		must(c.Move(correlation.Resuming, ago(8*time.Second), "Entra is to be told to resume", by))
	})
	texts := map[correlation.State]string{
		correlation.Resumed: "Graph took the answer: resume", correlation.Denied: "Graph took the answer: deny",
		correlation.Done:    "nothing waits in Entra: request_state=closed_complete",
		correlation.Expired: "Entra stopped waiting before it could be told", correlation.Withdrawn: "the request no longer waits in Entra",
	}
	for i, state := range []correlation.State{correlation.Resumed, correlation.Denied, correlation.Done, correlation.Expired, correlation.Withdrawn} {
		s.put(50+i, ago(time.Duration(20+i)*time.Minute), func(c *correlation.Correlation) {
			c.PackageName, c.CatalogName, c.TargetName = fmt.Sprintf("Package %d", i+1), "Catalog", "Sam Example"
			opened(c, ago(time.Duration(19+i)*time.Minute), 10050+i)
			switch state {
			case correlation.Expired, correlation.Withdrawn:
				must(c.Move(state, now, texts[state], by))
				c.Tickets[0].Told = true
			default:
				c.Tickets[0].Outcome, c.Tickets[0].State = correlation.Fulfilled, "request_state=closed_complete"
				if state == correlation.Denied {
					c.Tickets[0].Outcome, c.Tickets[0].State = correlation.Rejected, "request_state=closed_rejected"
				}
				must(c.Move(correlation.Closed, now, "all tickets closed: "+c.Tickets[0].Number, by))
				if state != correlation.Done {
					must(c.Move(correlation.Resuming, now, "about to tell Graph", by))
				}
				must(c.Move(state, now, texts[state], by))
			}
		})
	}
	return s
}
