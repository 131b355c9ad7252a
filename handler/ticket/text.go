package ticket

import (
	"cmp"
	"fmt"
	"strings"
	"text/template"
	"time"
	"unicode"

	"ticketbridge/handler/callout"
	"ticketbridge/handler/correlation"
)

// ServiceNow's default lengths of the columns of task, in UTF-16 units, as its Java counts. A longer text would be cut there without a word.
func limitOf(column string) int {
	switch column {
	case "short_description":
		return 160
	case "correlation_display":
		return 100
	default:
		return 4000
	}
}

// oneLined says whether the column is a single line on ServiceNow's forms.
func oneLined(column string) bool {
	return column == "short_description" || column == "correlation_display"
}

// Names and the like are cut at this length, so that no single one of them pushes the rest out of the ticket.
const nameLimit = 200

// Answers are cut at this length, longer than any column that they are likely to be for: how much people write never makes a template fail.
const answersLimit = 32000

// A view is what a template sees of a callout: texts for people, each on one line except the answers, without control characters.
// What was not sent is "".
type view struct {
	Target       personView // whom it is about
	Requestor    personView // who asked for it
	Who          string     // the target in a word: the name, or what else there is
	For          string     // the same with principal name or e-mail
	Organization string     // the connected organization that person comes from
	By           string     // the requestor, when another person
	OnBehalf     bool
	Package      string
	PackageText  string // the package's description
	Catalog      string
	Policy       string
	Stage        string
	RequestType  string
	Family       string // add, update, extend or remove; "" when the request type is none of them
	Answers      string // a line "question: answer" for each
	Deadline     string // as in "2026-03-01 12:00 UTC"
	Effect       string // what closing the ticket does
	Waits        bool

	PackageID       string
	CatalogID       string
	PolicyID        string
	RequestID       string
	StageInstanceID string
}

// A personView is what a template sees of a person.
type personView struct{ Name, PrincipalName, Email, ObjectID, Organization string }

func newPersonView(p callout.Person) personView {
	return personView{name(p.Name), name(p.PrincipalName), name(p.Email), name(p.ObjectID), name(p.Organization.Name)}
}

// newView is what templates see of a callout whose rule opens so many tickets.
func newView(c *callout.Callout, deadline time.Time, onRejected string, tickets int) *view {
	target := c.Assigned.Target
	v := &view{
		Target:          newPersonView(target),
		Requestor:       newPersonView(c.By),
		Who:             short(target),
		For:             long(target),
		Organization:    name(target.Organization.Name),
		OnBehalf:        strings.HasPrefix(strings.ToLower(c.RequestType), "onbehalf"),
		Package:         cmp.Or(name(c.Package.Name), name(c.Package.ID), "access package without a name"),
		PackageText:     name(c.Package.Description),
		Catalog:         cmp.Or(name(c.Catalog.Name), name(c.Catalog.ID)),
		Policy:          cmp.Or(name(c.Assigned.Policy.Name), name(c.Assigned.Policy.ID)),
		Stage:           name(c.Stage),
		RequestType:     name(c.RequestType),
		Family:          family(c),
		Answers:         clip(answers(c.Answers), answersLimit),
		Waits:           c.WaitsForResume(),
		PackageID:       id(c.Package.ID),
		CatalogID:       id(c.Catalog.ID),
		PolicyID:        id(c.Assigned.Policy.ID),
		RequestID:       id(c.RequestID),
		StageInstanceID: id(c.StageInstanceID),
	}
	if !same(c.By, target) {
		v.By = long(c.By)
	}
	if !deadline.IsZero() {
		v.Deadline = deadline.UTC().Format(deadlineLayout)
	}
	v.Effect = effect(c, onRejected, tickets)
	return v
}

// effect says what closing the ticket does.
func effect(c *callout.Callout, onRejected string, tickets int) string {
	if c.Expiring() {
		return "Nothing in Microsoft Entra waits for this ticket."
	}
	notDone := "the request then stays paused, and an operator of ticketbridge decides"
	switch onRejected {
	case OnRejectedDeny:
		notDone = "the request is then denied"
	case OnRejectedCancel:
		notDone = "the request is then cancelled"
	}
	when := "The request waits in Microsoft Entra for this ticket."
	if !c.Waits {
		when = "If the request waits in Microsoft Entra for this ticket:"
	}
	goesOn := "the request then goes on"
	if tickets > 1 {
		goesOn = "the request goes on when its other tickets are done as well"
	}
	return when + "\nClose it as complete when the work is done: " + goesOn + "." +
		"\nClose it as incomplete, cancelled or rejected when it is not: " + notDone + "."
}

func family(c *callout.Callout) string {
	if c.Removing() {
		return "remove"
	}
	for _, f := range []string{"Add", "Update", "Extend"} {
		if strings.HasSuffix(c.RequestType, f) {
			return strings.ToLower(f)
		}
	}
	return ""
}

// render executes t and cuts what is too long. The answers give way first, then the package's description and its name: the deadline, what closing
// the ticket does and the ids stay.
func (v *view) render(t *template.Template, s *scope, limit int) (string, error) {
	less := *v
	text, err := execute(t, &less, s.funcs())
	for _, part := range []*string{&less.Answers, &less.PackageText, &less.Package} {
		over := length(text) - limit
		if err != nil || over <= 0 {
			break
		}
		if *part != "" {
			*part = clip(*part, max(40, length(*part)-over))
			text, err = execute(t, &less, s.funcs())
		}
	}
	return clip(text, limit), err
}

// short names a person in a word.
func short(p callout.Person) string {
	if s := cmp.Or(name(p.Name), name(p.PrincipalName), name(p.Email)); s != "" {
		return s
	}
	if s := name(cmp.Or(p.ObjectID, p.ID)); s != "" {
		return "the user with id " + s
	}
	return "an unnamed user"
}

// long names a person with what tells namesakes apart. A person of whom nothing is known is "".
func long(p callout.Person) string {
	if p.Name == "" && p.PrincipalName == "" && p.Email == "" && p.ObjectID == "" && p.ID == "" {
		return ""
	}
	s := short(p)
	var more []string
	for _, x := range []string{name(p.PrincipalName), name(p.Email)} {
		if x != "" && !strings.EqualFold(x, s) && (len(more) == 0 || !strings.EqualFold(x, more[0])) {
			more = append(more, x)
		}
	}
	if len(more) > 0 {
		s += " (" + strings.Join(more, ", ") + ")"
	}
	return s
}

// same says whether both are one person, by the best that both have.
func same(a, b callout.Person) bool {
	for _, pair := range [][2]string{{a.ObjectID, b.ObjectID}, {a.ID, b.ID}, {a.PrincipalName, b.PrincipalName}, {a.Email, b.Email}, {a.Name, b.Name}} {
		if pair[0] != "" && pair[1] != "" {
			return strings.EqualFold(pair[0], pair[1])
		}
	}
	return false
}

func answers(list []callout.Answer) string {
	var b strings.Builder
	for _, a := range list {
		q, v := oneLine(a.Question), setIn(a.Value)
		if q == "" && v == "" {
			continue
		}
		fmt.Fprintf(&b, "- %s: %s\n", cmp.Or(q, "(no question)"), cmp.Or(v, "(no answer)"))
	}
	return strings.TrimRight(b.String(), "\n")
}

// id is a GUID as it is stored, or the text that was sent in its place.
func id(s string) string {
	if guid, ok := correlation.GUID(s); ok {
		return guid
	}
	return name(s)
}

// name is a text of one line and modest length.
func name(s string) string { return clip(oneLine(s), nameLimit) }

func oneLine(s string) string { return strings.Join(strings.Fields(clean(s)), " ") }

// clean takes out what is not text: control characters except line ends, characters that turn the reading direction, and bytes that are not UTF-8.
func clean(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u2028", "\n", "\u2029", "\n", "\u0085", "\n", "\v", "\n", "\f", "\n", "\t", " ").Replace(s)
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return r
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r), r == '\uFEFF':
			return -1
		default:
			return r
		}
	}, s)
}

// length counts s in UTF-16 units.
func length(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r > 0xFFFF {
			n++
		}
	}
	return n
}

// clip cuts s to limit UTF-16 units; the last is "…" where something was cut.
func clip(s string, limit int) string {
	if len(s) <= limit || length(s) <= limit {
		return s
	}
	n := 0
	for i, r := range s {
		w := 1
		if r > 0xFFFF {
			w = 2
		}
		if n+w > limit-1 {
			return strings.TrimRightFunc(s[:i], unicode.IsSpace) + "…"
		}
		n += w
	}
	return s
}
