package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/storage"
	"ticketbridge/handler/workflow"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"handler": main})
}

// TestCommandLine runs the scripts in testdata: the program as people use it. Each has a storage of its own on Azurite, which the environment names
// as an app's settings do.
func TestCommandLine(t *testing.T) {
	azurite := os.Getenv("AZURITE_CONNECTION_STRING")
	if azurite == "" {
		t.Fatal("AZURITE_CONNECTION_STRING is not set: run `make test`, or `.ci/with-azurite go test ./handler`")
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			var id [6]byte
			_, _ = rand.Read(id[:])
			env.Setenv("AzureWebJobsStorage", azurite)
			env.Setenv("STORAGE_PREFIX", "cli"+hex.EncodeToString(id[:]))
			env.Values["tenant"] = &tenant{}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"remember": remember, "queued": queued, "swept": swept, "unreadable": unreadable, "healthy": healthy,
			"tenant": startTenant, "sign-in-as": signInAs, "dump": dump, "written": written, "says": says,
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// The requests that remember puts into the storage.
var (
	openRequest   = correlation.Key{Request: "7d1f0a52-6c1e-4e0b-9a3c-000000000001", Stage: "c0a6e2d4-52f7-4a9e-8f0e-000000000001"}
	failedRequest = correlation.Key{Request: "7d1f0a52-6c1e-4e0b-9a3c-000000000002", Stage: "c0a6e2d4-52f7-4a9e-8f0e-000000000002"}
	endedRequest  = correlation.Key{Request: "7d1f0a52-6c1e-4e0b-9a3c-000000000003", Stage: "c0a6e2d4-52f7-4a9e-8f0e-000000000003"}
	twoStages     = correlation.Key{Request: endedRequest.Request, Stage: "c0a6e2d4-52f7-4a9e-8f0e-000000000004"}
)

// remember puts four stage instances into the script's storage: one with an open ticket, one that failed, and two of one request, of which the first
// was resumed at noon on 2026-11-24 and the second failed a day later. Everywhere where names may stand, they do: "Ada Example" is on none of the
// lists.
func remember(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: remember")
	}
	s, _, err := storage.NewAzure(storage.Settings{ConnectionString: ts.Getenv("AzureWebJobsStorage"), Prefix: ts.Getenv("STORAGE_PREFIX")})
	ts.Check(err)
	noon := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	ticket := correlation.Ticket{
		Entry: "ticket", Table: "sc_request", SysID: "9d385017c611228701d22104cc95c371", Number: "REQ0010001",
		Link: "https://example.service-now.com/nav_to.do?uri=REQ0010001", State: "request_state=requested", Outcome: correlation.Pending,
	}
	planned := correlation.Ticket{Entry: "ticket", Table: "sc_request", Fields: map[string]string{"short_description": "Grant access to Ada Example"}, Item: &correlation.Item{
		Item: "Access to an application", Quantity: 1, Variables: map[string]string{"who": "Ada Example"}, RequestedFor: &correlation.Person{PrincipalName: "ada@example.com"},
	}}
	ts.Check(keep(s, openRequest, time.Now().UTC().Add(-26*time.Hour-10*time.Second), func(c *correlation.Correlation, at time.Time) error {
		c.Deadline = time.Date(2099, 12, 8, 12, 0, 0, 0, time.UTC)
		c.Rule, c.Tickets = "grant", []correlation.Ticket{ticket}
		return errors.Join(
			c.Move(correlation.Opening, at.Add(time.Second), "rule grant: about to open 1 ticket", "925687c6-0000-4000-8000-000000000001"),
			c.Move(correlation.Open, at.Add(2*time.Second), "open: REQ0010001", ""))
	}))
	ts.Check(keep(s, failedRequest, time.Now().UTC().Add(-90*time.Second), func(c *correlation.Correlation, at time.Time) error {
		c.Rule, c.Tickets = "grant", []correlation.Ticket{planned}
		return errors.Join(
			c.Move(correlation.Opening, at.Add(time.Second), "rule grant: about to open 1 ticket", ""),
			c.Fail(at.Add(2*time.Second), "ServiceNow refuses us", "Give the integration user the role itil; then retry.", fault.Forbidden, ""))
	}))
	ts.Check(keep(s, endedRequest, noon, func(c *correlation.Correlation, at time.Time) error {
		ticket.State, ticket.Outcome, ticket.CloseNotes = "request_state=closed_complete", correlation.Fulfilled, "Ada has it"
		c.Rule, c.Tickets, c.Outcome = "grant", []correlation.Ticket{ticket}, correlation.Fulfilled
		return errors.Join(
			c.Move(correlation.Opening, at.Add(time.Second), "rule grant: about to open 1 ticket", ""),
			c.Move(correlation.Open, at.Add(2*time.Second), "open: REQ0010001", ""),
			c.Move(correlation.Closed, at.Add(3*time.Second), "all tickets closed: REQ0010001", ""),
			c.Move(correlation.Resuming, at.Add(4*time.Second), "about to tell Graph to resume", ""),
			c.Move(correlation.Resumed, at.Add(5*time.Second), "Graph took the answer: resume", ""))
	}))
	ts.Check(keep(s, twoStages, noon.Add(24*time.Hour), func(c *correlation.Correlation, at time.Time) error {
		return c.Fail(at.Add(time.Second), "no rule matches", "Correct the rules; then retry the request.", fault.Misconfigured, "")
	}))
}

// queued takes the messages off the script's queue, and expects so many.
func queued(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: queued COUNT")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	_, q, err := storage.NewAzure(storage.Settings{ConnectionString: ts.Getenv("AzureWebJobsStorage"), Prefix: ts.Getenv("STORAGE_PREFIX")})
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	messages, err := q.Queues().Get(ctx, q.Name(), 32, time.Hour)
	if err != nil && !fault.Is(err, fault.NotFound) {
		ts.Fatalf("%v", err)
	}
	for _, m := range messages {
		ts.Check(q.Queues().Delete(ctx, q.Name(), m.ID, m.PopReceipt))
	}
	if len(messages) != want {
		ts.Fatalf("%d messages, want %d", len(messages), want)
	}
}

// swept says that a sweep began so long ago.
func swept(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: swept AGE")
	}
	ago, err := time.ParseDuration(args[0])
	ts.Check(err)
	s, _, err := storage.NewAzure(storage.Settings{ConnectionString: ts.Getenv("AzureWebJobsStorage"), Prefix: ts.Getenv("STORAGE_PREFIX")})
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	m, err := s.Mark(ctx)
	ts.Check(err)
	m.Begun = time.Now().UTC().Add(-ago)
	ts.Check(s.SaveMark(ctx, &m))
}

// unreadable keeps two messages that nobody can read.
func unreadable(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: unreadable")
	}
	s, _, err := storage.NewAzure(storage.Settings{ConnectionString: ts.Getenv("AzureWebJobsStorage"), Prefix: ts.Getenv("STORAGE_PREFIX")})
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	now := time.Now().UTC()
	ts.Check(s.KeepUnreadable(ctx, workflow.Unreadable{ID: "one", Text: "\x1b[31mhello\n", InsertedOn: now.Add(-3 * time.Hour), KeptOn: now, Reason: "the message is not JSON of ours"}))
	ts.Check(s.KeepUnreadable(ctx, workflow.Unreadable{ID: "two", Text: `{"x":1}`, InsertedOn: now.Add(-2 * time.Hour), KeptOn: now, Reason: "the message has no such property"}))
}

func keep(s *storage.Store, key correlation.Key, at time.Time, live func(*correlation.Correlation, time.Time) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c := correlation.New(key, at, "callout received: assignmentRequestApproved, userAdd; the request waits for a resume", "")
	c.Stage, c.RequestType, c.Waits = "assignmentRequestApproved", "userAdd", true
	c.PackageName, c.CatalogName, c.TargetName = "Ledger reader", "Finance", "Ada Example"
	if err := s.Create(ctx, c, []byte(`{"Assignment":{"Target":{"DisplayName":"Ada Example","Email":"ada@example.com"}}}`)); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if err := live(c, at); err != nil {
		return err
	}
	if err := s.Save(ctx, c); err != nil {
		return fmt.Errorf("save: %w", err)
	}
	return s.Index(ctx, c)
}
