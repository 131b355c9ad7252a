package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/host"
	"ticketbridge/handler/simulator/servicenow"
	"ticketbridge/handler/storage"
)

func TestTheMorningEndsAsItShouldAndSaysSoFromTheStandInsRecords(t *testing.T) {
	var out, errs bytes.Buffer
	if err := run(t.Context(), []string{"-once"}, &out, &errs); err != nil {
		t.Fatalf("%v\n%s%s", err, out.String(), errs.String())
	}
	story, table, ok := strings.Cut(out.String(), "What the stand-ins have on record")
	if !ok {
		t.Fatalf("no table:\n%s", out.String())
	}
	for _, step := range []string{
		"pauses the request", "it knows this call, and changes nothing", "ServiceNow goes down", "could not do it yet, and will try again",
		"ServiceNow is back", "the access ends in 14 days", `gives "Ledger reader" back`, "nobody is told", "withdraws the request", "tells Graph: deny", "has a new ticket RITM", "the other team closes CHG",
	} {
		if !strings.Contains(story, step) {
			t.Errorf("the story does not say %q", step)
		}
	}
	if rows := strings.Count(table, "as it should\n"); rows != 16 || strings.Contains(table, "WRONG") {
		t.Errorf("%d rows are as they should:\n%s", rows, table)
	}
	if !strings.HasSuffix(strings.TrimSpace(table), "12 requests, 17 tickets, 12 answers to Graph (11 go on, 1 deny): all ended as they should.") {
		t.Errorf("the table ends in %q", table[strings.LastIndex(strings.TrimSpace(table), "\n")+1:])
	}
}

// The table would be worth nothing if it could not say that something is wrong.
func TestWhatDidNotEndAsItShouldIsSaid(t *testing.T) {
	stand, err := startStandIns(false)
	if err != nil {
		t.Fatal(err)
	}
	defer stand.stop()
	stand.callOut("http://127.0.0.1:9", "", false) // nobody is there
	story := newNarrator(stand, nil, io.Discard, false)
	id, err := stand.entra.Submit(entra.NewRequest{Policy: stand.sample.LedgerPolicy, Target: stand.sample.Robin.ObjectID})
	if err != nil {
		t.Fatal(err)
	}
	r, err := stand.entra.Await(t.Context(), id, entra.IsOver)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // two tickets, where one is right
		if _, err := stand.serviceNow.Insert("sc_request", map[string]string{"correlation_id": r.ID + "/" + r.Callouts[0].ID}); err != nil {
			t.Fatal(err)
		}
	}
	for _, tk := range stand.serviceNow.Tickets("task") {
		if err := stand.serviceNow.Close(tk.SysID, servicenow.Closing{Outcome: servicenow.Complete}); err != nil {
			t.Fatal(err)
		}
	}
	story.look()
	p := &play{stand: stand, story: story, expected: []expectation{{scene: "nobody at home", request: id, access: "Delivered", stages: []stage{{complete, "go on"}}}}}
	var out strings.Builder
	if wrong := p.summary(&out); wrong != 1 {
		t.Errorf("%d are wrong", wrong)
	}
	for _, want := range []string{"WRONG", `not "Delivered"`, "2 tickets for one callout", `Graph told ""`, "1 did not end as they should"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, out.String())
		}
	}
}

// What `make start` does, with the stand-in host in place of Core Tools.
func TestTheExampleSettingsServeBesideTheStandIns(t *testing.T) {
	dist, azurite := os.Getenv("HANDLER_DIST"), os.Getenv("AZURITE_CONNECTION_STRING")
	if dist == "" || azurite == "" {
		t.Fatal("HANDLER_DIST and AZURITE_CONNECTION_STRING name the built app and a running Azurite: make test sets them")
	}
	var file struct{ Values map[string]string }
	text, err := os.ReadFile(filepath.Join("..", "..", "local.settings.json.example"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	settings := file.Values
	settings["AzureWebJobsStorage"], settings["STORAGE_PREFIX"] = azurite, "example"
	_, queue, err := storage.NewAzure(storage.Settings{ConnectionString: azurite, Prefix: "example"})
	if err != nil {
		t.Fatal(err)
	}
	stand, err := startStandIns(true)
	if err != nil {
		t.Fatal(err)
	}
	defer stand.stop()
	stand.callOut(coreToolsURL, "", false)
	log := &bytes.Buffer{}
	h, err := host.Start(t.Context(), host.Config{
		App: os.DirFS(dist), Dir: dist, Settings: settings, Queues: host.Account(queue.Queues()),
		Address: strings.TrimPrefix(coreToolsURL, "http://"), Keys: host.Keys{Off: true},
		Log: func(e host.Entry) { log.WriteString(e.Text + "\n") },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p := &play{stand: stand, story: newNarrator(stand, nil, io.Discard, false), pause: time.Millisecond}
	e := expectation{scene: "a grant", access: "Delivered", stages: []stage{{complete, "go on"}}}
	if err := p.fulfil(ctx, &e, entra.NewRequest{Policy: stand.sample.LedgerPolicy, Target: stand.sample.Kim.ObjectID}); err != nil {
		h.Stop()
		t.Fatalf("%v\n%s", err, log.String())
	}
	if wrong := stand.judge(e); len(wrong) > 0 {
		t.Error(wrong)
	}
}

func TestTheCommandLineIsReadStrictly(t *testing.T) {
	for _, args := range [][]string{{"-once", "-stand-ins"}, {"now"}, {"-twice"}} {
		if err := run(t.Context(), args, io.Discard, io.Discard); err == nil {
			t.Errorf("%v is taken", args)
		}
	}
}
