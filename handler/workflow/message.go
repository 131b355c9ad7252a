package workflow

import (
	"encoding/json"
	"fmt"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/ticket"
)

// Why a message was sent: a word for the log, and for what Advance looks at.
const (
	WhyCallout = "callout" // a callout was remembered
	WhyClosed  = "closed"  // ServiceNow said that a ticket closed: a hint
	WhyRetry   = "retry"   // a step is to be tried again
	WhySweep   = "sweep"   // the sweep found it due
)

// maxDeaths bounds how many workers in a row may end over one step without a word; then it fails visibly. The host takes a message for poison after five.
const maxDeaths = 10

// maxTries bounds how often one message is put off because somebody else is at work on its correlation; then the sweep sees to it.
const maxTries = 20

// A Message asks Advance to look at one correlation. Anybody with the host's master key can send one: it is a hint of where to look,
// and nothing in it is believed.
type Message struct {
	Key    correlation.Key // the correlation; zero when only the ticket is known
	Table  string          // the ticket that closed, when only that is known
	SysID  string
	Why    string
	Tries  int // how often it was put off
	Origin string
	Sent   time.Time // by the storage's clock

	// Waiting says that Graph, when the sweep sent this, said that the request still waits, so that it need not be asked again.
	Waiting bool
}

// wire is a Message on the queue, under one property of its own: the Functions host merges a message's top-level properties into
// the trigger's metadata, where they would hide the host's.
type wire struct {
	Body *wireBody `json:"ticketbridge"`
}

type wireBody struct {
	Request string    `json:"request,omitempty"`
	Stage   string    `json:"stage,omitempty"`
	Table   string    `json:"table,omitempty"`
	SysID   string    `json:"sysId,omitempty"`
	Why     string    `json:"why,omitempty"`
	Tries   int       `json:"tries,omitempty"`
	Sent    time.Time `json:"sent,omitzero"`
	Waiting bool      `json:"waiting,omitempty"`
	Origin  string    `json:"origin,omitempty"` // the invocation that sent it, to follow a request through the logs
}

// Text returns the message as it is put on the queue.
func (m Message) Text() string {
	b, err := json.Marshal(wire{&wireBody{m.Key.Request, m.Key.Stage, m.Table, m.SysID, m.Why, m.Tries, m.Sent, m.Waiting, m.Origin}})
	if err != nil {
		panic(err) // strings and a number always encode
	}
	return string(b)
}

// ReadMessage reads what Text wrote. A text that names neither a correlation nor a ticket is fault.Invalid: no retry makes it better.
func ReadMessage(text []byte) (Message, error) {
	bad := func(detail string) (Message, error) {
		return Message{}, &fault.Error{Op: "read message", Reason: fault.Invalid, Field: "ticketbridge", Detail: detail}
	}
	var w wire
	if err := json.Unmarshal(text, &w); err != nil {
		return bad("the message is not JSON of ours")
	}
	if w.Body == nil {
		return bad("the message has no such property")
	}
	m := Message{Table: w.Body.Table, SysID: w.Body.SysID, Why: w.Body.Why, Tries: min(max(0, w.Body.Tries), maxTries), Origin: w.Body.Origin, Sent: w.Body.Sent, Waiting: w.Body.Waiting}
	switch {
	case w.Body.Request != "" || w.Body.Stage != "":
		key, err := correlation.NewKey(w.Body.Request, w.Body.Stage)
		if err != nil {
			return Message{}, fmt.Errorf("read message: %w", err)
		}
		m.Key = key
	case !ticket.ValidTable(m.Table) || !ticket.ValidSysID(m.SysID):
		return bad("it names neither a correlation nor a ticket")
	}
	return m, nil
}
