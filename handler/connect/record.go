package connect

import (
	"encoding/json"
	"strings"
)

// What connect makes says so in its description (an application in its notes), and holds there what has to be put back when it is undone. There is
// nowhere else to keep that: another person, on another machine, may undo it.

const (
	description = "Opens a ticket in ServiceNow through ticketbridge."
	marker      = "Made by ticketbridge connect; -undo removes it, and reads this text: "
)

// record is what undoing needs to know.
type record struct {
	Managers []string   `json:"managers,omitempty"` // principals that got the role "Access package assignment manager"
	Replaced []replaced `json:"replaced,omitempty"`
}

// replaced is an extension of somebody else that had the place of ours.
type replaced struct {
	Policy    string `json:"policy"`
	Stage     string `json:"stage"`
	Extension string `json:"extension"`
	Type      string `json:"type"`
}

func (r record) text() string {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // strings only
	}
	return description + " " + marker + string(b)
}

// readRecord says whether connect made the thing with this description, and what is on record there.
func readRecord(text string) (r record, ours bool) {
	_, rest, found := strings.Cut(text, marker)
	if !found || json.Unmarshal([]byte(strings.TrimSpace(rest)), &r) != nil {
		return record{}, false
	}
	return r, true
}

// appNotes are an application's: it has nothing on record.
func appNotes() string { return marker + "{}" }
