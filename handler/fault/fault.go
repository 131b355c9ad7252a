// Package fault is the one error type that crosses every boundary of the handler. Its reason decides whether a step is
// tried again, which status a caller gets, which word the log and the metric carry, and what the operator is advised to do.
package fault

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// A Reason says in one word why something did not work. It is stable: logs, metrics, alerts and the console use it.
type Reason string

// The reasons. Those for which Temporary answers true are worth another try, unchanged.
const (
	Unreachable   Reason = "unreachable"   // no connection, a time-out, a 5xx: nobody is at home, or not for now
	Throttled     Reason = "throttled"     // the other side asked us to slow down
	Paused        Reason = "paused"        // not tried: the other side serves nobody at the moment
	Unclear       Reason = "unclear"       // sent, and no usable answer: it may have happened; look before sending again
	Conflict      Reason = "conflict"      // somebody else changed the record first: read it again
	Unauthorized  Reason = "unauthorized"  // our credentials were not accepted
	Forbidden     Reason = "forbidden"     // accepted, and not allowed to do this
	NotFound      Reason = "notFound"      // the thing does not exist, or we may not see it
	Exists        Reason = "exists"        // it was there before
	Refused       Reason = "refused"       // understood and turned down: sending it again changes nothing
	Invalid       Reason = "invalid"       // the caller's input is wrong
	Misconfigured Reason = "misconfigured" // a setting, a rule or the set-up of the other side is wrong
	Internal      Reason = "internal"      // a bug of ours
)

// An Error is a Reason with what is needed to act on it. It never holds a secret or personal data: it is logged and shown.
type Error struct {
	Op     string        // what was being done, as in "create ticket"
	Reason Reason        // why it did not work
	Field  string        // the field of the input, or the setting, that is wrong; may be empty
	Detail string        // one sentence for people: what was found
	Advice string        // one sentence for the operator: what to do; may be empty
	After  time.Duration // how long the other side asked us to wait (Retry-After); 0 when it did not say
	Status int           // the HTTP status it answered; 0 when there was none
	Err    error         // the cause; may be nil
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.Op != "" {
		b.WriteString(e.Op)
		b.WriteString(": ")
	}
	b.WriteString(string(e.Reason))
	if e.Field != "" {
		b.WriteString(" (" + e.Field + ")")
	}
	if e.Status != 0 {
		fmt.Fprintf(&b, ", status %d", e.Status)
	}
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Temporary says whether the same step may succeed later without anybody changing anything.
// Unauthorized counts: credentials are rotated, and an hour of patience saves a night of failed requests.
func (r Reason) Temporary() bool {
	switch r {
	case Unreachable, Throttled, Paused, Unclear, Conflict, Unauthorized:
		return true
	default:
		return false
	}
}

// ReasonOf returns the reason of the first Error in err's chain; Internal for any other error, and "" for nil.
func ReasonOf(err error) Reason {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	return Internal
}

// Is says whether err carries the reason.
func Is(err error, r Reason) bool { return err != nil && ReasonOf(err) == r }

// After returns how long the other side asked us to wait; 0 when it did not say.
func After(err error) time.Duration {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.After
	}
	return 0
}

// Advice returns what the operator should do about err; "" when nothing is known.
func Advice(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Advice
	}
	return ""
}

// Status returns the status with which our own endpoints answer a caller whose call ended in err.
func Status(err error) int {
	switch ReasonOf(err) {
	case "":
		return http.StatusOK
	case Invalid:
		return http.StatusBadRequest
	case Unauthorized:
		return http.StatusUnauthorized
	case Forbidden:
		return http.StatusForbidden
	case NotFound:
		return http.StatusNotFound
	case Unreachable, Throttled, Paused, Unclear, Conflict:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}
