package connect_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"ticketbridge/handler/callers"
	"ticketbridge/handler/correlation"
	"ticketbridge/handler/host"
	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/misbehave"
	"ticketbridge/handler/storage"
	"ticketbridge/handler/ticket"
	"ticketbridge/handler/workflow"
)

// From an empty tenant to a request that pauses, calls the handler's own door with a token that it takes, and is resumed by an identity that may: all of
// that by what connect made, and with the settings that it printed.
func TestARequestPausesCallsAndIsResumed(t *testing.T) {
	t.Parallel()
	for _, direct := range []bool{false, true} {
		t.Run(map[bool]string{false: "by the relay", true: "directly"}[direct], func(t *testing.T) {
			t.Parallel()
			var door http.Handler
			w := newWorld(t, func(c *entra.Config) {
				c.Transport = misbehave.Transport(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { door.ServeHTTP(rw, r) }))
			})
			wish := w.wish()
			if direct {
				wish.Relay, wish.RelayIdentity, wish.Function = "", "", "https://bridge.example.com/api/callout?code=key"
			}
			applied := w.connect(wish)
			set := map[string]string{}
			for _, line := range applied.Settings {
				name, value, _ := strings.Cut(line, "=")
				set[name] = value
			}
			gate, err := callers.New(callers.Config{
				Setting: "CALLOUT", TenantID: w.TenantID(), AuthorityHost: w.BaseURL(), Audience: set["CALLOUT_AUDIENCE"], Callers: []string{callers.EntitlementManagement},
				Relay: set["RELAY_PRINCIPAL_ID"], Role: set["CALLOUT_ROLE"], Transport: misbehave.Transport(w.Directory),
			})
			if err != nil {
				t.Fatal(err)
			}
			store, queue, err := storage.NewEmbedded(storage.DefaultPrefix)
			if err != nil {
				t.Fatal(err)
			}
			rules := ticket.BuiltIn()
			server := host.New(host.Config{
				Work: &workflow.Workflow{Store: store, Queue: queue, Rules: rules, Catalogs: []string{set["CATALOG_IDS"]}}, Callout: gate, Log: zerolog.Nop(),
			})
			door = server
			w.connector.Transport = misbehave.Transport(server)
			if direct {
				// Whoever tests has no token, and is asked for one.
				if said, ok := w.connector.Test(t.Context(), wish.Function); !ok || !strings.Contains(said, "asks for a key or a token (status 401)") {
					t.Errorf("the connection test: %v, %s", ok, said)
				}
			} else {
				w.AddRelay(entra.Relay{
					Subscription: subscription, ResourceGroup: "relay", Name: "ticket-relay", URL: "https://bridge.example.com/api/callout", Identity: w.relay.ClientID,
					Resource: set["CALLOUT_AUDIENCE"],
				})
			}

			id, err := w.Submit(entra.NewRequest{Policy: w.policy, Target: w.robin.ObjectID, Answers: []entra.Answer{{Question: "Which region?", Value: "EMEA"}}})
			if err != nil {
				t.Fatal(err)
			}
			r := w.await(id, func(r entra.Request) bool {
				return r.Over || r.Waiting() != nil && (direct || len(r.Callouts[0].Relayed) == 1 && r.Callouts[0].Relayed[0].Over)
			})
			if r.Waiting() == nil || time.Until(r.Callouts[0].Deadline) < 13*24*time.Hour {
				t.Fatalf("the request does not wait, or not for 14 days: %+v", r)
			}
			remembered, err := store.Stages(t.Context(), id)
			if err != nil || len(remembered) != 1 || remembered[0].State != correlation.Received || !remembered[0].Waits || remembered[0].Stage != entra.StageApproved {
				t.Fatalf("the handler remembered %+v, %v", remembered, err)
			}

			// The function's identity resumes it by the role that connect gave, and has no other.
			w.token = w.IssueToken(entra.Token{Audience: "https://graph.microsoft.com", ObjectID: w.app.ObjectID})
			w.through(misbehave.Transport(w.Directory))
			if err := w.connector.Graph.Post(t.Context(), "resume", "/identityGovernance/entitlementManagement/assignmentRequests/"+id+"/resume", json.RawMessage(`{
				"source": "ServiceNow", "type": "microsoft.graph.accessPackageCustomExtensionStage.assignmentRequestApproved", "data": {
				"@odata.type": "#microsoft.graph.accessPackageAssignmentRequestCallbackData", "stage": "assignmentRequestApproved",
				"customExtensionStageInstanceId": "`+remembered[0].Key.Stage+`", "customExtensionStageInstanceDetail": "REQ0010012 closed complete"}}`), nil); err != nil {
				t.Fatal(err)
			}
			if r = w.await(id, entra.IsOver); r.State != "delivered" {
				t.Errorf("the request ended %s", r.State)
			}

			// A removal tells the handler too, and waits for nobody.
			removal, err := w.Submit(entra.NewRequest{Type: "userRemove", Policy: w.policy, Target: w.robin.ObjectID})
			if err != nil {
				t.Fatal(err)
			}
			r = w.await(removal, func(r entra.Request) bool {
				return r.Over && (direct || len(r.Callouts[0].Relayed) == 1 && r.Callouts[0].Relayed[0].Over)
			})
			remembered, err = store.Stages(t.Context(), removal)
			if err != nil || r.Callouts[0].Waits || len(remembered) != 1 || remembered[0].Waits {
				t.Errorf("the removal: %+v; the handler remembered %+v, %v", r, remembered, err)
			}
		})
	}
}

func (w *world) await(id string, is func(entra.Request) bool) entra.Request {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	r, err := w.Await(ctx, id, is)
	if err != nil {
		now, _ := w.Request(id)
		w.t.Fatalf("%v: %+v", err, now)
	}
	return r
}
