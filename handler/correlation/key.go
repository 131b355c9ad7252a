package correlation

import (
	"fmt"
	"strings"

	"ticketbridge/handler/fault"
)

// A Key names one correlation: an access package assignment request and one stage instance of it. Both are GUIDs in lower
// case, so a Key may be put in a URL, a table key or a query of ServiceNow without escaping.
type Key struct {
	Request string // access package assignment request id
	Stage   string // custom extension stage instance id
}

// NewKey validates both ids and brings them to lower case. Its errors are fault.Invalid and name the callout's field.
func NewKey(request, stage string) (Key, error) {
	r, ok := GUID(request)
	if !ok {
		return Key{}, invalidID("AccessPackageAssignmentRequestId", request)
	}
	s, ok := GUID(stage)
	if !ok {
		return Key{}, invalidID("CustomExtensionStageInstanceId", stage)
	}
	return Key{Request: r, Stage: s}, nil
}

func invalidID(field, value string) error {
	detail := "is missing; it must be a GUID"
	if value != "" {
		detail = fmt.Sprintf("%q is not a GUID", clip(value, 60))
	}
	return &fault.Error{Op: "read ids", Reason: fault.Invalid, Field: field, Detail: detail}
}

// String returns "<request id>/<stage instance id>": 73 characters, the correlation_id of the first ticket.
func (k Key) String() string { return k.Request + "/" + k.Stage }

// IsZero says whether k names nothing.
func (k Key) IsZero() bool { return k == Key{} }

// TicketID returns the correlation_id of the ticket with this place in the rule: that of the first is the key itself, further ones
// get "/2", "/3", … It stays far below ServiceNow's limit of 100 characters for the column.
func (k Key) TicketID(index int) string {
	if index == 0 {
		return k.String()
	}
	return fmt.Sprintf("%s/%d", k, index+1)
}

// ParseTicketID reads a correlation_id back; whatever follows the key after a further slash is the ticket's place and is not
// part of it. An id that is not ours is fault.Invalid.
func ParseTicketID(id string) (Key, error) {
	parts := strings.SplitN(id, "/", 3)
	if len(parts) < 2 {
		return Key{}, &fault.Error{
			Op: "read ids", Reason: fault.Invalid, Field: "correlation_id",
			Detail: fmt.Sprintf("%q is not <request id>/<stage instance id>", clip(id, 100)),
		}
	}
	k, err := NewKey(parts[0], parts[1])
	if err != nil {
		return Key{}, &fault.Error{
			Op: "read ids", Reason: fault.Invalid, Field: "correlation_id",
			Detail: fmt.Sprintf("%q is not <request id>/<stage instance id>", clip(id, 100)),
		}
	}
	return k, nil
}

// GUID returns s in the one spelling we store, 8-4-4-4-12 in lower case. Braces, "urn:uuid:" and undashed forms are not what Entra
// sends, and are refused rather than guessed at: ok is false.
func GUID(s string) (id string, ok bool) {
	s = strings.ToLower(strings.TrimSpace(s))
	if len(s) != 36 {
		return "", false
	}
	for i := range len(s) {
		c := s[i]
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return "", false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return "", false
			}
		}
	}
	return s, true
}

func clip(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n]) + "…"
}
