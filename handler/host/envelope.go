package host

import (
	"encoding/json"
	"strconv"

	"ticketbridge/handler/fault"
)

// An envelope is how the host calls a queue or timer function. Its Metadata is mixed with a message's own properties, which win, so
// nothing in it is to be trusted.
type envelope struct {
	Data     map[string]json.RawMessage
	Metadata struct{ DequeueCount json.RawMessage }
}

// message takes the text of a queue message out of its envelope, where it is a JSON text in a JSON string (recorded on host 4.1037), and how often
// the host says that it was delivered. There is one binding, whatever its name. Text that is encoded less often is taken too.
func message(body []byte) (text []byte, dequeued string, err error) {
	var env envelope
	bad := func(detail string) ([]byte, string, error) {
		return nil, "", &fault.Error{Op: "read envelope", Reason: fault.Invalid, Field: "Data", Detail: detail}
	}
	if err := json.Unmarshal(body, &env); err != nil {
		return bad("the call is no envelope of the Functions host")
	}
	if len(env.Data) != 1 {
		return bad("the envelope should hold one binding, and holds " + strconv.Itoa(len(env.Data)))
	}
	for _, v := range env.Data {
		text = v
	}
	for range 2 {
		var inner string
		if json.Unmarshal(text, &inner) == nil {
			text = []byte(inner)
		}
	}
	return text, count(env.Metadata.DequeueCount), nil
}

// count returns a small number that is there as a number or as a string, and "" for anything else.
func count(v json.RawMessage) string {
	s := string(v)
	var text string
	if json.Unmarshal(v, &text) == nil {
		s = text
	}
	if n, err := strconv.ParseUint(s, 10, 16); err == nil {
		return strconv.FormatUint(n, 10)
	}
	return ""
}

// pastDue says whether the timer's envelope says that the call comes late.
func pastDue(body []byte) bool {
	var env envelope
	if json.Unmarshal(body, &env) != nil {
		return false
	}
	for _, v := range env.Data {
		var timer struct{ IsPastDue bool }
		if json.Unmarshal(v, &timer) == nil && timer.IsPastDue {
			return true
		}
	}
	return false
}
