package companion_test

import (
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"ticketbridge/handler/callers"
	"ticketbridge/handler/correlation"
	"ticketbridge/handler/simulator/servicenow"
)

// A page is docs/servicenow-by-hand.md: its blocks, by the comment before them.
func page(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/servicenow-by-hand.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := map[string]string{}
	for _, m := range regexp.MustCompile("(?s)<!-- ([a-z-]+) -->\n```[a-z]*\n(.*?)\n```").FindAllStringSubmatch(string(text), -1) {
		blocks[m[1]] = m[2]
	}
	return blocks
}

// block returns one that must be there.
func block(t *testing.T, blocks map[string]string, name string) string {
	t.Helper()
	if blocks[name] == "" {
		t.Fatalf("the page has no block %s", name)
	}
	return blocks[name]
}

// hers is the page's address, on the app of these tests.
func hers(address string) string {
	return strings.ReplaceAll(address, "<app>.azurewebsites.net", "ticketbridge.example")
}

// Somebody builds what the page says: its REST message, its action, as they are printed, and a ticket is closed.
func TestWhatThePageSaysWorksAsItIsPrinted(t *testing.T) {
	t.Parallel()
	blocks := page(t)
	for name, c := range map[string]struct {
		close    callers.Config
		endpoint string // block
		content  string // block
		escapes  bool   // the action uses setStringParameter
		token    bool
	}{
		"the tutorial's body, function key": {callers.Config{}, "endpoint", "content-tutorial", false, false},
		"the tutorial's body, OAuth":        {callers.Config{Audience: audience, Callers: []string{closerID}}, "endpoint", "content-tutorial", false, true},
		"the tutorial's body, XML-escaped":  {callers.Config{}, "endpoint", "content-tutorial", true, false},
		"the short body":                    {callers.Config{}, "endpoint-short", "content-short", false, false},
		"the short body, XML-escaped":       {callers.Config{}, "endpoint-short", "content-short", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := message{
				endpoint: hers(block(t, blocks, c.endpoint)), method: "post", content: block(t, blocks, c.content),
				header: http.Header{"Content-Type": {"application/json"}, "X-Functions-Key": {functionKey}},
			}
			if len(block(t, blocks, c.endpoint)) > 200 {
				t.Errorf("the endpoint has %d characters; ServiceNow takes 200", len(m.endpoint))
			}
			action := block(t, blocks, "action")
			if c.escapes {
				action = strings.ReplaceAll(action, "setStringParameterNoEscape", "setStringParameter")
			}
			inWorld(t, c.close, func(w *world) {
				if c.token {
					m.header.Set("Authorization", "Bearer "+w.instance.token())
				}
				w.instance.messages = map[string]message{"Resume ELM WorkFlow/RESUME": m}
				key, ticket := w.opened()
				if err := w.instance.tickets.Close(ticket.SysID, complete); err != nil {
					w.Fatal(err)
				}
				closed := w.instance.ticket(ticket.SysID)
				w.instance.run(action, nil, map[string]any{
					"inputs": map[string]any{ // dragged from the ticket's columns, as the page says
						"accesspkgassignmentrequestid":   closed.Fields["u_accesspackageassignmentrequestid"],
						"customextensionstageinstanceid": closed.Fields["u_stageinstanceid"],
						"assignmentstage":                closed.Fields["u_accesspackageassignmentstage"],
					},
					"outputs": map[string]any{},
				})
				w.work()
				if s := w.door.statuses(); len(s) != 1 || s[0] != http.StatusAccepted || w.resumed(key) != 1 || w.state(key) != correlation.Resumed {
					w.Errorf("answered %v, resumed %d times, and it is %s: %s", s, w.resumed(key), w.state(key), w.door.calls[0].body)
				}
			})
		})
	}
}

// The tutorial's trigger runs at every update: what comes too early, or again, does nothing.
func TestTheTutorialsTriggerDoesNoHarmAtEveryUpdate(t *testing.T) {
	t.Parallel()
	blocks := page(t)
	inWorld(t, callers.Config{}, func(w *world) {
		w.instance.messages = map[string]message{"Resume ELM WorkFlow/RESUME": {
			endpoint: hers(block(t, blocks, "endpoint")), method: "post", content: block(t, blocks, "content-tutorial"),
			header: http.Header{"Content-Type": {"application/json"}, "X-Functions-Key": {functionKey}},
		}}
		key, ticket := w.opened()
		for _, how := range []servicenow.Closing{{Notes: "begun"}, {Notes: "nearly"}, complete, {Notes: "once more"}} {
			if err := w.instance.tickets.Close(ticket.SysID, how); err != nil {
				w.Fatal(err)
			}
			f := w.instance.ticket(ticket.SysID).Fields
			w.instance.run(block(t, blocks, "action"), nil, map[string]any{
				"inputs": map[string]any{
					"accesspkgassignmentrequestid": f["u_accesspackageassignmentrequestid"], "customextensionstageinstanceid": f["u_stageinstanceid"],
					"assignmentstage": f["u_accesspackageassignmentstage"],
				},
				"outputs": map[string]any{},
			})
			w.work()
			if want := map[bool]int{true: 1}[!w.instance.ticket(ticket.SysID).Active]; w.resumed(key) != want {
				w.Errorf("after %+v: resumed %d times, not %d", how, w.resumed(key), want)
			}
		}
	})
}
