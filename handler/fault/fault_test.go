package fault

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"
)

var reasons = []Reason{
	Unreachable, Throttled, Unclear, Conflict, Unauthorized, Forbidden, NotFound, Exists, Refused, Invalid, Misconfigured, Internal,
}

func TestEachReasonDecidesWhetherToTryAgainAndWhatTheCallerGets(t *testing.T) {
	t.Parallel()
	for reason, want := range map[Reason]struct {
		temporary bool
		status    int
	}{
		Unreachable: {true, 503}, Throttled: {true, 503}, Unclear: {true, 503}, Conflict: {true, 503}, Unauthorized: {true, 401},
		Forbidden: {false, 403}, NotFound: {false, 404}, Invalid: {false, 400},
		Exists: {false, 500}, Refused: {false, 500}, Misconfigured: {false, 500}, Internal: {false, 500},
	} {
		if got := reason.Temporary(); got != want.temporary {
			t.Errorf("%s: temporary %v", reason, got)
		}
		if got := Status(&Error{Reason: reason}); got != want.status {
			t.Errorf("%s: status %d, want %d", reason, got, want.status)
		}
	}
	if got := Status(nil); got != 200 {
		t.Errorf("no error: status %d", got)
	}
	if got := Status(io.EOF); got != 500 {
		t.Errorf("an error of somebody else's: status %d", got)
	}
}

func TestTheReasonIsFoundThroughWhateverWrapsIt(t *testing.T) {
	t.Parallel()
	inner := &Error{Op: "find ticket", Reason: Throttled, After: time.Minute, Advice: "wait", Err: io.ErrUnexpectedEOF}
	for _, err := range []error{inner, fmt.Errorf("look: %w", inner), errors.Join(io.EOF, fmt.Errorf("a: %w", fmt.Errorf("b: %w", inner)))} {
		if ReasonOf(err) != Throttled || !Is(err, Throttled) || Is(err, Unclear) || After(err) != time.Minute || Advice(err) != "wait" || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%v: %s, after %s, advice %q", err, ReasonOf(err), After(err), Advice(err))
		}
	}
	// The outer of two decides: whoever wrapped it knew more.
	if err := (&Error{Reason: Unclear, Err: inner}); ReasonOf(err) != Unclear || After(err) != 0 || Advice(err) != "" {
		t.Errorf("%s, after %s, advice %q", ReasonOf(err), After(err), Advice(err))
	}
	if ReasonOf(nil) != "" || ReasonOf(io.EOF) != Internal || After(io.EOF) != 0 || Advice(nil) != "" {
		t.Error("an error that is none of ours has a reason")
	}
	for _, r := range reasons {
		if Is(nil, r) || Is(io.EOF, r) && r != Internal {
			t.Errorf("no error, or somebody else's, is %s", r)
		}
	}
}

func TestAnErrorReadsAsASentence(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]*Error{
		"internal":               {Reason: Internal},
		"create ticket: refused": {Op: "create ticket", Reason: Refused},
		"read settings: misconfigured (NAME): is not set": {Op: "read settings", Reason: Misconfigured, Field: "NAME", Detail: "is not set", Advice: "Set it.", After: time.Hour},
		"read ticket: unclear, status 502: nothing usable: unexpected EOF": {
			Op: "read ticket", Reason: Unclear, Status: 502, Detail: "nothing usable", Err: io.ErrUnexpectedEOF,
		},
	} {
		if got := e.Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
