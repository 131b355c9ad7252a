package console

import (
	"fmt"
	"net/url"
	"time"
	"unicode"
	"unicode/utf8"

	"ticketbridge/handler/callout"
	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
)

// Tones are the colours of the pages: a class of style.css.
const (
	toneBusy = "busy" // we are at work
	toneWait = "wait" // people are
	toneGood = "good"
	toneBad  = "bad" // a person has to decide
	toneWarn = "warn"
	toneOff  = "off"
)

// stateWord says a state in plain words.
func stateWord(s correlation.State) string {
	switch s {
	case correlation.Received:
		return "Received"
	case correlation.Opening:
		return "Opening ticket"
	case correlation.Open:
		return "Ticket open"
	case correlation.Closed:
		return "Ticket closed"
	case correlation.Resuming:
		return "Answering Entra"
	case correlation.Resumed:
		return "Resumed"
	case correlation.Denied:
		return "Denied"
	case correlation.Done:
		return "Done"
	case correlation.Expired:
		return "Expired"
	case correlation.Withdrawn:
		return "Withdrawn"
	case correlation.Held:
		return "Held"
	case correlation.Failed:
		return "Failed"
	default:
		return string(s) // of a newer version
	}
}

// stateMeaning says a state for somebody who does not know the words, and claims nothing that is not on record: an intent is none of its
// outcome, and that access was granted is Entra's to say.
func stateMeaning(s correlation.State) string {
	switch s {
	case correlation.Received:
		return "Remembered. Which tickets it needs is decided next."
	case correlation.Opening:
		return "A ticket is to be opened in ServiceNow; not every one is known to exist yet."
	case correlation.Open:
		return "Waits for its ticket in ServiceNow to be closed."
	case correlation.Closed:
		return "Every ticket was seen closed. What follows from that is decided next."
	case correlation.Resuming:
		return "Entra is being told how the tickets ended, and has not confirmed it yet."
	case correlation.Resumed:
		return "Entra was told to go on with the request, and took it."
	case correlation.Denied:
		return "Entra was told not to go on with the request, and took it."
	case correlation.Done:
		return "Nothing waited in Entra, and nothing is left to do."
	case correlation.Expired:
		return "Entra's deadline passed before it was told to go on."
	case correlation.Withdrawn:
		return "The request no longer waits in Entra, and not because of us."
	case correlation.Held:
		return "It waits for a person to decide how it goes on."
	case correlation.Failed:
		return "It cannot go on by itself until somebody mends what is wrong."
	default:
		return "A newer version of this program is at work on it."
	}
}

// stateTone is the colour of a state. Of what is done nobody says here whether the work was: that it has ended is no good news.
func stateTone(s correlation.State) string {
	switch s {
	case correlation.Received, correlation.Opening, correlation.Closed, correlation.Resuming:
		return toneBusy
	case correlation.Open:
		return toneWait
	case correlation.Resumed:
		return toneGood
	case correlation.Held, correlation.Failed:
		return toneBad
	case correlation.Denied, correlation.Expired:
		return toneWarn
	default:
		return toneOff
	}
}

func stageWord(s string) string {
	switch s {
	case callout.StageCreated:
		return "Request created"
	case callout.StageApproved:
		return "Request approved"
	case callout.StageGranted:
		return "Access granted"
	case callout.StageRemoved:
		return "Access removed"
	case callout.StageFourteenDays:
		return "Expires in 14 days"
	case callout.StageOneDay:
		return "Expires in 1 day"
	case "":
		return "No stage given"
	default:
		return s
	}
}

func requestTypeWord(s string) string {
	switch s {
	case "userAdd":
		return "asked for by the user"
	case "userUpdate":
		return "changed by the user"
	case "userExtend":
		return "extended by the user"
	case "userRemove":
		return "removed by the user"
	case "adminAdd":
		return "given by an administrator"
	case "adminUpdate":
		return "changed by an administrator"
	case "adminRemove":
		return "removed by an administrator"
	case "systemAdd":
		return "given by a rule"
	case "systemUpdate":
		return "changed by a rule"
	case "systemRemove":
		return "removed by a rule"
	case "onBehalfAdd":
		return "asked for on somebody's behalf"
	case "approverRemove":
		return "removed by an approver"
	case "", "notSpecified":
		return ""
	default:
		return s
	}
}

func outcomeWord(o correlation.Outcome) string {
	switch o {
	case correlation.Fulfilled:
		return "Fulfilled"
	case correlation.Rejected:
		return "Not done"
	case correlation.Unknown:
		return "Unclear"
	default:
		return "Open"
	}
}

func outcomeTone(o correlation.Outcome) string {
	switch o {
	case correlation.Fulfilled:
		return toneGood
	case correlation.Rejected:
		return toneWarn
	case correlation.Unknown:
		return toneBad
	default:
		return toneWait
	}
}

func reasonWord(r fault.Reason) string {
	switch r {
	case fault.Unreachable:
		return "the other side is not there for now"
	case fault.Throttled:
		return "we were asked to slow down"
	case fault.Paused:
		return "the other side serves nobody for now; it was not tried"
	case fault.Unclear:
		return "no usable answer came back"
	case fault.Conflict:
		return "somebody else changed it first"
	case fault.Unauthorized:
		return "our credentials were not accepted"
	case fault.Forbidden:
		return "we are not allowed to"
	case fault.NotFound:
		return "it does not exist"
	case fault.Exists:
		return "it was there before"
	case fault.Refused:
		return "it was turned down"
	case fault.Invalid:
		return "the input is wrong"
	case fault.Misconfigured:
		return "something is set up wrongly"
	case fault.Internal:
		return "a bug of ours"
	default:
		return string(r)
	}
}

func kindWord(kind string) string {
	switch kind {
	case correlation.EventMove:
		return "Step"
	case correlation.EventAttempt:
		return "Attempt"
	case correlation.EventSeen:
		return "Seen"
	case correlation.EventOperator:
		return "Operator"
	default:
		return kind
	}
}

// span says a length of time in its two largest units, as in "3 d 4 h", where no number is parted from its unit.
func span(d time.Duration) string {
	if d < 0 {
		d = -d
	}
	units := []struct {
		name string
		size time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"min", time.Minute}, {"s", time.Second}}
	d = d.Truncate(time.Second)
	for i, u := range units {
		if d < u.size {
			continue
		}
		out := fmt.Sprintf("%d\u00a0%s", d/u.size, u.name)
		if rest := d % u.size; i+1 < len(units) && u.size > time.Minute && rest >= units[i+1].size {
			out += fmt.Sprintf(" %d\u00a0%s", rest/units[i+1].size, units[i+1].name)
		}
		return out
	}
	return "0\u00a0s"
}

// when is a time as people read it, in UTC; date is its day, clock its time of day, stamp what machines read.
func when(t time.Time) string  { return t.UTC().Format("2 Jan 2006, 15:04") }
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
func date(t time.Time) string  { return t.UTC().Format("2006-01-02") }
func clock(t time.Time) string { return t.UTC().Format("15:04:05") }

// near is a time that is near to now, without the year unless it is another.
func near(t, now time.Time) string {
	if t.UTC().Year() == now.UTC().Year() {
		return t.UTC().Format("2 Jan, 15:04")
	}
	return when(t)
}

// sentence begins a text of ours with a capital letter.
func sentence(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	if r == utf8.RuneError {
		return s
	}
	return string(unicode.ToUpper(r)) + s[n:]
}

// left says how long until a deadline, and how urgent that is.
func left(deadline, now time.Time) (text, tone string) {
	d := deadline.Sub(now)
	switch {
	case d < 0:
		return "passed " + span(d) + " ago", toneBad
	case d < 24*time.Hour:
		return "in " + span(d), toneWarn
	default:
		return "in " + span(d), ""
	}
}

// weblink returns s when it is a web page's address, and "" otherwise.
func weblink(s string) string {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" {
		return ""
	}
	return s
}
