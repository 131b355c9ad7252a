package host

import (
	"bytes"
	"encoding/json"
	"html"
	"maps"
	"net/url"
	"slices"
	"strings"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/ticket"
	"ticketbridge/handler/workflow"
)

// closedFields are the properties that name a ticket, under every name that is known for them, as spelled makes them.
var closedFields = map[string]func(*workflow.Closed) *string{
	"correlationid": func(n *workflow.Closed) *string { return &n.CorrelationID },

	"accesspackageassignmentrequestid": func(n *workflow.Closed) *string { return &n.RequestID }, // the tutorial's column
	"requestid":                        func(n *workflow.Closed) *string { return &n.RequestID },

	"stageinstanceid":                func(n *workflow.Closed) *string { return &n.StageInstanceID }, // the tutorial's column
	"customextensionstageinstanceid": func(n *workflow.Closed) *string { return &n.StageInstanceID }, // the body of Graph's resume

	"table":        func(n *workflow.Closed) *string { return &n.Table },
	"tablename":    func(n *workflow.Closed) *string { return &n.Table },
	"sysclassname": func(n *workflow.Closed) *string { return &n.Table },
	"sysid":        func(n *workflow.Closed) *string { return &n.SysID },
}

// wrappers are properties whose object is looked into: "data" is that of Graph's resume, "result" that of the Table API, the others are
// what people call a record they send.
var wrappers = []string{"data", "result", "record", "current", "ticket", "body", "payload"}

// readClosed takes from a close notification what names the ticket. What ServiceNow sends is made by hand as often as not:
//
//   - {"table","sys_id","number","state","correlation_id"}, the companion app's, or any part of it that names the ticket;
//   - the three columns of Microsoft's tutorial, AccessPackageAssignmentRequestId, AccessPackageAssignmentStage and StageInstanceId, in any case,
//     with or without the u_ that ServiceNow puts before columns of one's own;
//   - the tutorial's own resume body, where only the URL was changed. It says {"data":{"customExtensionStageInstanceId",…}}, and the request's id stood
//     in the path of Graph's URL: here it is taken from the query (?requestId=…), where any of these may stand;
//   - each of them as JSON, as JSON that setStringParameter has XML-escaped, as JSON in a string, or as a form.
//
// Fields may be {"value","display_value"} or plain. The first naming that is valid counts, in the order of workflow.Closed. None is
// fault.Invalid, naming the field that is wrong or missing.
func readClosed(body []byte, query url.Values) (workflow.Closed, error) {
	var n workflow.Closed
	take(&n, object(body), 0)
	takeValues(&n, query)
	return valid(n)
}

// object reads a JSON object or a form from a body; nil when it is neither.
func object(body []byte) map[string]json.RawMessage {
	text := bytes.TrimSpace(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")))
	for range 3 { // as it is; out of a string, or unescaped; and the other of the two
		var o map[string]json.RawMessage
		if json.Unmarshal(text, &o) == nil {
			return o
		}
		var inner string
		var list []json.RawMessage
		switch {
		case json.Unmarshal(text, &inner) == nil:
			text = bytes.TrimSpace([]byte(inner))
		case json.Unmarshal(text, &list) == nil && len(list) == 1:
			text = list[0]
		case bytes.HasPrefix(text, []byte("{&")), bytes.HasPrefix(text, []byte("&")), bytes.HasPrefix(text, []byte("[{&")):
			text = bytes.TrimSpace([]byte(html.UnescapeString(string(text))))
		default:
			return form(text)
		}
	}
	return nil
}

// form reads application/x-www-form-urlencoded, whatever the Content-Type says: ServiceNow's default for it is JSON.
func form(text []byte) map[string]json.RawMessage {
	if !bytes.ContainsRune(text, '=') || bytes.ContainsAny(text, "{}<>\n") {
		return nil
	}
	values, err := url.ParseQuery(string(text))
	if err != nil {
		return nil
	}
	o := map[string]json.RawMessage{}
	for name, v := range values {
		if text, err := json.Marshal(v[0]); err == nil {
			o[name] = text
		}
	}
	return o
}

// take fills what n does not have yet from an object: from its own properties first, then from those it is wrapped in.
func take(n *workflow.Closed, o map[string]json.RawMessage, depth int) {
	names := slices.Sorted(maps.Keys(o)) // so that two spellings of one name always give the same
	for _, name := range names {
		set(n, name, leaf(o[name]))
	}
	if depth == 2 {
		return
	}
	for _, name := range names {
		if slices.Contains(wrappers, strings.ToLower(name)) {
			take(n, object(o[name]), depth+1)
		}
	}
}

func takeValues(n *workflow.Closed, values url.Values) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		set(n, name, values.Get(name))
	}
}

func set(n *workflow.Closed, name, value string) {
	field, ok := closedFields[spelled(name)]
	if value = strings.TrimSpace(value); !ok || value == "" {
		return
	}
	if p := field(n); *p == "" {
		*p = value
	}
}

// spelled returns a name as closedFields has it: in lower case, without the u_ of a column that somebody added and without separators.
func spelled(name string) string {
	name = strings.TrimPrefix(strings.ToLower(strings.TrimSpace(name)), "u_")
	return strings.NewReplacer("_", "", "-", "", " ", "").Replace(name)
}

// leaf reads a field: a string, or ServiceNow's object with its value.
func leaf(v json.RawMessage) string {
	var s string
	if json.Unmarshal(v, &s) == nil {
		return s
	}
	var o struct {
		Value string `json:"value"`
	}
	if json.Unmarshal(v, &o) == nil {
		return o.Value
	}
	return ""
}

// valid keeps the first naming that can be one of ours.
func valid(n workflow.Closed) (workflow.Closed, error) {
	if key, err := correlation.ParseTicketID(n.CorrelationID); err == nil {
		return workflow.Closed{CorrelationID: key.String()}, nil
	}
	if key, err := correlation.NewKey(n.RequestID, n.StageInstanceID); err == nil {
		return workflow.Closed{RequestID: key.Request, StageInstanceID: key.Stage}, nil
	}
	if ticket.ValidTable(n.Table) && ticket.ValidSysID(n.SysID) {
		return workflow.Closed{Table: n.Table, SysID: strings.ToLower(n.SysID)}, nil
	}
	bad := func(field, detail string) (workflow.Closed, error) {
		return workflow.Closed{}, &fault.Error{Op: "read notification", Reason: fault.Invalid, Field: field, Detail: detail}
	}
	const ways = "send correlation_id, or table and sys_id, or AccessPackageAssignmentRequestId and StageInstanceId (in the body or in the query)"
	switch {
	case n.CorrelationID != "":
		return bad("correlation_id", "is not <request id>/<stage instance id>; "+ways)
	case n.StageInstanceID != "" && n.RequestID == "":
		return bad("AccessPackageAssignmentRequestId", "is missing beside the stage instance id; "+ways)
	case n.RequestID != "" && n.StageInstanceID == "":
		return bad("StageInstanceId", "is missing beside the request id; "+ways)
	case n.RequestID != "":
		field := "StageInstanceId"
		if _, ok := correlation.GUID(n.RequestID); !ok {
			field = "AccessPackageAssignmentRequestId"
		}
		return bad(field, "is not a GUID")
	case n.Table != "" && !ticket.ValidTable(n.Table):
		return bad("table", "is not the name of a table")
	case n.SysID != "" && !ticket.ValidSysID(n.SysID):
		return bad("sys_id", "must be 32 hexadecimal digits")
	case n.SysID != "":
		return bad("table", "is missing beside sys_id; "+ways)
	case n.Table != "":
		return bad("sys_id", "is missing beside table; "+ways)
	default:
		return bad("correlation_id", "nothing here names a ticket; "+ways)
	}
}

// keyOf returns the correlation that a valid notification names; zero when it names a ticket.
func keyOf(n workflow.Closed) correlation.Key {
	if key, err := correlation.ParseTicketID(n.CorrelationID); err == nil {
		return key
	}
	key, _ := correlation.NewKey(n.RequestID, n.StageInstanceID)
	return key
}
