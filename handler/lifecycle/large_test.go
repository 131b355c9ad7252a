package lifecycle

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	incoming "ticketbridge/handler/callout"
	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/servicenow"
)

// An intermediary takes Entra's callouts in the app's place, and does with each what the test wants, for as long as the test wants.
func (w *world) intermediary(take func(body []byte) error) (policy string) {
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = take(body)
		}
		if err != nil {
			http.Error(rw, err.Error(), http.StatusBadGateway)
			return
		}
		rw.WriteHeader(http.StatusAccepted)
	}))
	w.Cleanup(server.Close)
	extension := w.entra.AddExtension(entra.Extension{
		CatalogID: w.sample.Finance, Name: "Through an intermediary", URL: server.URL, Wait: 14 * 24 * time.Hour, Patience: time.Hour,
	})
	return w.entra.AddPolicy(entra.Policy{PackageID: w.sample.Ledger, Name: "Through an intermediary", Stages: map[string]string{entra.StageApproved: extension}})
}

// padded is a callout with one property more, so that it has so many bytes.
func padded(body []byte, size int) []byte {
	body = bytes.TrimSuffix(bytes.TrimSpace(body), []byte("}"))
	const name, end = `,"padding":"`, `"}`
	return fmt.Appendf(nil, "%s%s%s%s", body, name, strings.Repeat("x", size-len(body)-len(name)-len(end)), end)
}

func TestTheLargestCalloutIsTakenAndOneByteMoreIsRefusedBeforeAnythingIsStored(t *testing.T) {
	t.Parallel()
	for _, mode := range []struct {
		name string
		app  func(map[string]any)
	}{{"proxying", nil}, {"forwarding", forwarding}} {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			x := &wire{}
			w := newWorld(t, plan{app: mode.app, wire: x, settings: map[string]string{"CHECK_INTERVAL": "10m"}}) // nothing is looked at but what is sent here
			w.opened(w.ledger())                                                                                 // makes the tables
			address := w.front.url() + "/api/callout?code=" + url.QueryEscape(w.keys.Default)
			header := http.Header{"Authorization": {"Bearer " + w.entra.IssueToken(entra.Token{Audience: audience, AppID: entra.CallerID})}}
			large := make(chan []byte, 1)
			taken := make(chan struct{})
			policy := w.intermediary(func(body []byte) error {
				large <- body
				<-taken
				return nil
			})
			request, err := w.entra.Submit(entra.NewRequest{Policy: policy, Target: w.sample.Robin.ObjectID})
			w.check(err)
			body := <-large
			key := fmtKey(request, w.nth(request, 0).ID)

			x.watch(request, nil)
			for _, extra := range []int{1, 1 << 10, 4 << 20} {
				status, answered, text := w.post(address, header, padded(body, incoming.MaxBytes+extra))
				if status != http.StatusRequestEntityTooLarge || answered.Get("Content-Type") != "application/problem+json" ||
					!strings.Contains(text, fmt.Sprintf("at most %d bytes are taken", incoming.MaxBytes)) {
					t.Errorf("%d bytes too many are answered %d %s", extra, status, text)
				}
			}
			if _, known := w.shown(key); known || len(x.effects()) != 0 || len(w.serviceNow.ByCorrelation(key)) != 0 {
				t.Errorf("what was refused left something behind: %q", x.effects())
			}

			status, _, text := w.post(address, header, padded(body, incoming.MaxBytes))
			if status != http.StatusAccepted {
				t.Fatalf("%d bytes are answered %d %s", incoming.MaxBytes, status, text)
			}
			close(taken)
			w.closeTicket(request, 0, servicenow.Closing{Outcome: servicenow.Complete})
			if r := w.over(request); r.MyAccess != "Delivered" {
				t.Errorf("My Access shows %q", r.MyAccess)
			}
			w.becomes(key, "resumed")
			w.once(request)
			exported, err := w.command("requests", "export", key)
			w.check(err)
			if len(exported) < incoming.MaxBytes {
				t.Errorf("%d bytes of it are kept", len(exported))
			}
		})
	}
}
