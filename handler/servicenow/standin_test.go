package servicenow

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"ticketbridge/handler/fault"
	"ticketbridge/handler/simulator/misbehave"
	standin "ticketbridge/handler/simulator/servicenow"
	"ticketbridge/handler/ticket"
	"ticketbridge/handler/workflow"
)

var _ workflow.Tickets = (*Client)(nil)

const (
	correlationID = "7d1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a11/c0a6e2d4-52f7-4a9e-8f0e-1b6f9d3c2e77"
	otherID       = "00000000-0000-4000-8000-000000000001/00000000-0000-4000-8000-000000000002"
	aliceID       = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	password      = "Pa55:w&rd/é" // holds what a URL, base64 and JSON write in another way
	requests      = "/api/now/v2/table/sc_request"
)

var draft = ticket.Draft{Entry: "ticket", Table: "sc_request", Fields: map[string]string{
	"short_description": "Give access: Sales to Alice Example", "description": "For: Alice Example\nline <2>", "correlation_display": "ticketbridge",
	"requested_for": aliceID, "u_not_there": "dropped",
}}

// ordered is a draft of an order, of the item that knowing makes known.
var ordered = ticket.Draft{
	Entry: "item", Table: "sc_req_item", Fields: map[string]string{"short_description": "Access: Sales for Alice Example", "correlation_display": "ticketbridge"},
	Item: &ticket.Item{
		Item: "Access to an application", Quantity: 1, Reference: "correlation_id",
		Variables: map[string]string{"access_package": "Sales to Alice Example", "justification": "line <2>"},
	},
}

// knowing lets the client know the item without a call, so that the order is its next one.
func knowing(c *Client) {
	done := make(chan struct{})
	close(done)
	c.items.kept = map[string]*lookup[CatalogItem]{itemKey(ordered.Item.Item): {done: done, found: true, until: time.Now().Add(time.Hour), value: CatalogItem{
		SysID: aliceID, Variables: []Variable{{Name: "access_package", Mandatory: true}, {Name: "correlation_id"}},
	}}}
}

// site is a stand-in for an instance and a client of it.
type site struct {
	*standin.Instance
	*Client
	t *testing.T
}

// instanceOf makes a stand-in with the integration user "bridge", who may log in in each way.
func instanceOf(t *testing.T, change func(*standin.Config)) *standin.Instance {
	t.Helper()
	cfg := standin.Config{
		Users: []standin.User{
			{UserName: "bridge", Password: password, Name: "Ticket Bridge", WebServiceAccessOnly: true},
			{UserName: "alice@example.com", Name: "Alice Example", Email: "Alice@Example.com", SysID: aliceID},
		},
		OAuthClients: []standin.OAuthClient{{ID: "client", Secret: password, User: "bridge"}},
		APIKeys:      []standin.APIKey{{Key: password, User: "bridge"}},
		Groups:       []string{standin.SampleGroup},
		Catalog:      []standin.CatalogItem{standin.SampleItem()},
		Tables:       []standin.Table{{Name: "u_short", Columns: []standin.Column{{Name: "correlation_id", Max: 40}}}},
	}
	if change != nil {
		change(&cfg)
	}
	instance, err := standin.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return instance
}

// open makes a stand-in and a client that reaches it in process, as the user "bridge" with a password.
func open(t *testing.T, change func(*standin.Config)) *site {
	t.Helper()
	instance := instanceOf(t, change)
	return &site{instance, client(t, Config{HTTPClient: instance.Client()}), t}
}

var rules = ticket.BuiltIn()

// client makes a client that logs in with a password, unless the configuration says otherwise.
func client(t *testing.T, cfg Config) *Client {
	t.Helper()
	if cfg.URL == "" {
		cfg.URL = "https://instance.example"
	}
	if cfg.Columns = rules.Columns; cfg.Auth == "" {
		cfg.Auth, cfg.Username, cfg.Password = AuthBasic, "bridge", password
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// answered makes a client whose every call is answered by h, in process.
func answered(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	return client(t, Config{HTTPClient: &http.Client{Transport: misbehave.Transport(h)}})
}

// says answers every call with the status and body, as JSON.
func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

// failed checks that err is a *fault.Error with the reason, whose text has each of the words, and returns what is in it.
func failed(t *testing.T, err error, want fault.Reason, words ...string) fault.Error {
	t.Helper()
	e, ok := errors.AsType[*fault.Error](err)
	if !ok || e.Reason != want {
		t.Fatalf("ended in %v, want %s", err, want)
	}
	for _, w := range words {
		if !strings.Contains(err.Error()+" "+e.Advice, w) {
			t.Errorf("%q and its advice %q do not mention %q", err, e.Advice, w)
		}
	}
	return *e
}

func (s *site) create() ticket.Record {
	s.t.Helper()
	rec, err := s.Create(s.t.Context(), draft, correlationID)
	if err != nil {
		s.t.Fatal(err)
	}
	return rec
}

func (s *site) insert(table string, fields map[string]string) (sysID string) {
	s.t.Helper()
	id, err := s.Insert(table, fields)
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

func text(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
