package ticket

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"text/template/parse"
	"time"

	"github.com/goccy/go-yaml/ast"

	"ticketbridge/handler/callout"
	"ticketbridge/handler/correlation"
)

// Templates are Go's, less what could run for long, fill the memory, or see anything but the view: no loops but over the answers (or the tickets), no loop in a
// loop, no templates of their own, and only the helpers below with Go's comparisons.

// What the execution of one template may cost: the text it writes, and what its helpers do and make.
const (
	maxText   = 256 << 10
	maxEffort = 8 << 20
)

// maxAnswers is how many answers a template can walk over; more than any policy has questions.
const maxAnswers = 500

var errTooMuch = errors.New("it makes too much text")

// An answerView is an answer as a template sees it.
type answerView struct{ Question, Answer string }

// A ticketView is a ticket as the template of entraDetail sees it.
type ticketView struct {
	Name    string // of the rule's ticket
	Table   string
	Number  string
	State   string // as in "request_state=closed_complete"
	Outcome string // done, not done, or unclear
	Notes   string // the close notes, on one line
	Link    string
}

// An outcomeView is what the template of entraDetail sees.
type outcomeView struct {
	Tickets []ticketView
	Outcome string
}

// A helper is a function of templates.
type helper struct {
	least, most int // how many values it takes, with the one that | hands on; most < 0 for any number
	gives       reflect.Type
}

var (
	textType   = reflect.TypeFor[string]()
	boolType   = reflect.TypeFor[bool]()
	numberType = reflect.TypeFor[int]()
)

var helpers = map[string]helper{
	"answer":   {1, 1, textType},
	"answers":  {0, 0, reflect.TypeFor[[]answerView]()},
	"deadline": {0, 2, textType},
	"default":  {2, 2, textType},
	"truncate": {2, 2, textType},
	"upper":    {1, 1, textType},
	"lower":    {1, 1, textType},
	"trim":     {1, 1, textType},
	"oneLine":  {1, 1, textType},
	"join":     {1, -1, textType},
	"contains": {2, 2, boolType},
	"replace":  {3, 3, textType},
	"print":    {0, -1, textType},
	// Go's own.
	"and": {1, -1, nil}, "or": {1, -1, nil}, "not": {1, 1, boolType}, "len": {1, 1, numberType},
	"eq": {2, -1, boolType}, "ne": {2, 2, boolType}, "lt": {2, 2, boolType}, "le": {2, 2, boolType}, "gt": {2, 2, boolType}, "ge": {2, 2, boolType},
}

// calloutHelpers need a callout; the others are there for entraDetail as well.
var calloutHelpers = []string{"answer", "answers", "deadline"}

// A scope is what one execution of a template works with.
type scope struct {
	answers  []answerView
	deadline time.Time
	effort   int
}

func newScope(c *callout.Callout, deadline time.Time) *scope {
	s := &scope{deadline: deadline}
	for _, a := range c.Answers[:min(len(c.Answers), maxAnswers)] {
		s.answers = append(s.answers, answerView{name(a.Question), clip(setIn(a.Value), answersLimit)})
	}
	return s
}

// setIn cleans an answer; its further lines are set in, so that none of them passes for a line of ours.
func setIn(s string) string { return strings.ReplaceAll(strings.TrimSpace(clean(s)), "\n", "\n    ") }

// spend counts what a helper did, and refuses what is too much.
func (s *scope) spend(text string) (string, error) {
	s.effort += 64 + len(text)
	if s.effort > maxEffort || len(text) > maxText {
		return "", errTooMuch
	}
	return text, nil
}

func (s *scope) funcs() template.FuncMap {
	one := func(f func(string) string) func(string) (string, error) {
		return func(text string) (string, error) {
			s.effort += len(text)
			return s.spend(f(text))
		}
	}
	return template.FuncMap{
		"answer": func(question string) (string, error) {
			want := name(question)
			for _, a := range s.answers {
				if strings.EqualFold(a.Question, want) {
					return s.spend(a.Answer)
				}
			}
			return s.spend("")
		},
		"answers": func() ([]answerView, error) {
			_, err := s.spend("")
			return s.answers, err
		},
		"deadline": func(args ...string) (string, error) {
			pattern, offset, err := deadlineArgs(args)
			if err != nil || s.deadline.IsZero() {
				return "", err
			}
			return s.spend(s.deadline.UTC().Add(offset).Format(pattern))
		},
		"default": func(fallback, text string) (string, error) {
			if strings.TrimSpace(text) == "" {
				text = fallback
			}
			return s.spend(text)
		},
		"truncate": func(limit int, text string) (string, error) {
			if limit < 1 {
				return "", errors.New("truncate takes a number of characters from 1")
			}
			s.effort += len(text)
			return s.spend(clip(text, limit))
		},
		"upper": one(strings.ToUpper), "lower": one(strings.ToLower), "trim": one(strings.TrimSpace), "oneLine": one(oneLine),
		"join": func(between string, parts ...string) (string, error) {
			parts = slices.DeleteFunc(slices.Clone(parts), func(p string) bool { return strings.TrimSpace(p) == "" })
			size := len(between) * len(parts)
			for _, p := range parts {
				size += len(p)
			}
			if size > maxText {
				return "", errTooMuch
			}
			return s.spend(strings.Join(parts, between))
		},
		"contains": func(part, text string) (bool, error) {
			_, err := s.spend(text)
			return strings.Contains(strings.ToLower(text), strings.ToLower(part)), err
		},
		"replace": func(old, by, text string) (string, error) {
			if (strings.Count(text, old)+1)*len(by)+len(text) > maxText {
				return "", errTooMuch
			}
			s.effort += len(text)
			return s.spend(strings.ReplaceAll(text, old, by))
		},
		"print": func(parts ...any) (string, error) {
			size := 0
			for _, p := range parts {
				if text, ok := p.(string); ok {
					size += len(text)
				}
			}
			if size > maxText {
				return "", errTooMuch
			}
			return s.spend(fmt.Sprint(parts...))
		},
	}
}

// deadlineArgs reads the arguments of deadline: a pattern such as "yyyy-MM-dd HH:mm:ss", and how much later (earlier with a -) than the deadline.
func deadlineArgs(args []string) (layout string, offset time.Duration, err error) {
	if len(args) == 0 {
		return deadlineLayout, 0, nil
	}
	layout = strings.NewReplacer("yyyy", "2006", "MM", "01", "dd", "02", "HH", "15", "mm", "04", "ss", "05").Replace(args[0])
	rest := strings.NewReplacer("yyyy", "", "MM", "", "dd", "", "HH", "", "mm", "", "ss", "", "UTC", "", "T", "", "Z", "").Replace(args[0])
	if layout == args[0] || strings.Trim(rest, " -/.:,") != "" {
		return "", 0, fmt.Errorf(`%q is no pattern for a time; it is made of yyyy, MM, dd, HH, mm and ss, as in "yyyy-MM-dd HH:mm:ss" (UTC)`, clip(args[0], 40))
	}
	if len(args) > 1 {
		text, earlier := strings.CutPrefix(args[1], "-")
		if offset, err = days(text); err != nil {
			return "", 0, err
		}
		if earlier {
			offset = -offset
		}
	}
	return layout, offset, nil
}

// deadlineLayout is how people read a deadline.
const deadlineLayout = "2006-01-02 15:04 UTC"

// days reads a duration from a minute to a year: as in 90m, 24h or 2d.
func days(s string) (time.Duration, error) {
	bad := fmt.Errorf("%q is no length of time; expected one from 1m to 365d, as in 90m, 24h or 2d", clip(s, 40))
	var d time.Duration
	if n, ok := strings.CutSuffix(s, "d"); ok {
		v, err := strconv.Atoi(n)
		if err != nil || v < 1 || v > 365 {
			return 0, bad
		}
		d = time.Duration(v) * 24 * time.Hour
	} else {
		var err error
		if d, err = time.ParseDuration(s); err != nil {
			return 0, bad
		}
	}
	if d < time.Minute || d > 365*24*time.Hour {
		return 0, bad
	}
	return d, nil
}

// A limited builder takes so much text.
type limited struct{ strings.Builder }

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > maxText {
		return 0, errTooMuch
	}
	return l.Builder.Write(p)
}

// execute runs a template on what it may see.
func execute(t *template.Template, data any, funcs template.FuncMap) (string, error) {
	own, err := t.Clone() // helpers belong to one execution, templates to all
	if err != nil {
		return "", fmt.Errorf("clone: %w", err)
	}
	var b limited
	if err := own.Funcs(funcs).Execute(&b, data); err != nil {
		return "", fmt.Errorf("execute: %w", err)
	}
	return strings.TrimSpace(b.String()), nil
}

// A templateKind says what a template is executed with.
type templateKind struct {
	root    reflect.Type
	helpers []string
	lists   string // over what it can loop
	until   time.Time
	trial   []trial
}

type trial struct {
	data  any
	funcs func() template.FuncMap
}

// ofCallout are the templates of fields; ofOutcome is that of entraDetail.
func ofCallout() *templateKind {
	k := &templateKind{root: reflect.TypeFor[view](), lists: "answers"}
	for h := range helpers {
		k.helpers = append(k.helpers, h)
	}
	full := &callout.Callout{
		RequestID: "7d1f0a52-6c1e-4e0b-9a3c-000000000002", StageInstanceID: "c0a6e2d4-52f7-4a9e-8f0e-000000000002", Stage: callout.StageApproved, RequestType: "userAdd",
		Waits: true, Answers: []callout.Answer{{Question: "Which region?", Value: "EMEA"}},
		Package: callout.Named{Name: "Package", Description: "Description"}, Catalog: callout.Named{Name: "Catalog"},
		Assigned: callout.Assignment{Target: callout.Person{Name: "Robin", Email: "robin@example.com"}, Policy: callout.Named{Name: "Policy"}},
		By:       callout.Person{Name: "Kim", Email: "kim@example.com"},
	}
	k.until = time.Date(2026, 3, 15, 12, 0, 0, 0, time.UTC)
	until := k.until
	for _, c := range []*callout.Callout{full, {}} {
		k.trial = append(k.trial, trial{newView(c, until, OnRejectedHold, 1), func() template.FuncMap { return newScope(c, until).funcs() }})
		until = time.Time{}
	}
	slices.Sort(k.helpers)
	return k
}

func ofOutcome() *templateKind {
	k := &templateKind{root: reflect.TypeFor[outcomeView](), lists: ".Tickets"}
	for h := range helpers {
		if !slices.Contains(calloutHelpers, h) {
			k.helpers = append(k.helpers, h)
		}
	}
	slices.Sort(k.helpers)
	for _, v := range []*outcomeView{
		newOutcomeView([]correlation.Ticket{{Entry: "ticket", Table: "incident", Number: "INC0010001", State: "state=6", Outcome: correlation.Fulfilled, CloseNotes: "Done."}}, correlation.Fulfilled),
		newOutcomeView(nil, correlation.Unknown),
	} {
		k.trial = append(k.trial, trial{v, func() template.FuncMap { return (&scope{}).funcs() }})
	}
	return k
}

func newOutcomeView(tickets []correlation.Ticket, outcome correlation.Outcome) *outcomeView {
	v := &outcomeView{Outcome: outcomeWord(outcome)}
	for _, t := range tickets {
		v.Tickets = append(v.Tickets, ticketView{Name: t.Entry, Table: t.Table, Number: t.Number, State: oneLine(t.State), Outcome: outcomeWord(t.Outcome), Notes: oneLine(t.CloseNotes), Link: t.Link})
	}
	return v
}

func outcomeWord(o correlation.Outcome) string {
	switch o {
	case correlation.Fulfilled:
		return "done"
	case correlation.Rejected:
		return "not done"
	case correlation.Pending:
		return "open"
	default:
		return "unclear"
	}
}

// template reads a template, and tries it. nil when it is not one.
func (r *reader) template(n ast.Node, kind *templateKind, what string) *template.Template {
	text, ok := r.text(n, what)
	if !ok {
		return nil
	}
	found := len(r.problems)
	c := checker{r: r, node: n, text: text, kind: kind}
	trees := map[string]*parse.Tree{}
	tree := parse.New("text")
	tree.Mode = parse.SkipFuncCheck // unknown ones are named with their places
	tree, err := tree.Parse(text, "", "", trees)
	if err != nil {
		line, message := templateError(err)
		c.bad(c.lineOffset(line), "the template cannot be read: %s", message)
		return nil
	}
	for defined := range trees {
		if defined != "text" {
			c.bad(strings.Index(text, defined), `"define" and "block" are not taken in templates`)
		}
	}
	c.list(tree.Root, kind.root, 0)
	if len(r.problems) > found {
		return nil
	}
	t, err := template.New("text").Option("missingkey=error").Funcs((&scope{}).funcs()).Parse(text)
	if err != nil {
		_, message := templateError(err)
		c.bad(0, "the template cannot be read: %s", message)
		return nil
	}
	for _, one := range kind.trial {
		if _, err := execute(t, one.data, one.funcs()); err != nil {
			line, message := templateError(err)
			c.bad(c.lineOffset(line), "the template fails when it is tried: %s", message)
			return nil
		}
	}
	return t
}

var templateMessage = regexp.MustCompile(`(?s)template: text:(\d+)(?::\d+)?: (?:executing "text" at )?(.*)$`)

// templateError takes the line, and what is wrong there, out of an error of text/template.
func templateError(err error) (line int, message string) {
	m := templateMessage.FindStringSubmatch(err.Error())
	if m == nil {
		return 1, oneLine(err.Error())
	}
	line, _ = strconv.Atoi(m[1])
	return line, name(m[2])
}

// A checker looks a template over before it is ever executed.
type checker struct {
	r    *reader
	node ast.Node
	text string
	kind *templateKind
}

func (c *checker) bad(offset int, format string, args ...any) {
	c.r.bad(c.r.within(c.node, c.text, offset), format, args...)
}

// lineOffset is where a line of the template begins.
func (c *checker) lineOffset(line int) int {
	offset := 0
	for ; line > 1; line-- {
		i := strings.IndexByte(c.text[offset:], '\n')
		if i < 0 {
			break
		}
		offset += i + 1
	}
	return offset
}

// within is the place in the file of an offset into a text; that of the text where it cannot be told.
func (r *reader) within(n ast.Node, text string, offset int) place {
	p := at(n)
	offset = max(0, min(offset, len(text)))
	before := text[:offset]
	if l, ok := n.(*ast.LiteralNode); ok {
		if !strings.HasPrefix(l.Start.Value, "|") {
			return p
		}
		line := p.line + 1 + strings.Count(before, "\n")
		if line > len(r.lines) {
			return p
		}
		indent := 0
		for _, s := range r.lines[p.line:] {
			if strings.TrimSpace(s) != "" {
				indent = len(s) - len(strings.TrimLeft(s, " "))
				break
			}
		}
		return place{line, indent + 1 + len([]rune(before[strings.LastIndexByte(before, '\n')+1:]))}
	}
	if p.line > len(r.lines) {
		return p
	}
	source := []rune(r.lines[p.line-1])
	for _, quote := range []int{1, 0} {
		from := p.column - 1 + quote
		if from <= len(source) && strings.HasPrefix(string(source[from:]), text) {
			return place{p.line, from + 1 + len([]rune(before))}
		}
	}
	return p
}

func (c *checker) list(l *parse.ListNode, dot reflect.Type, loops int) {
	if l == nil {
		return
	}
	for _, n := range l.Nodes {
		switch n := n.(type) {
		case *parse.ActionNode:
			c.pipe(n.Pipe, dot)
		case *parse.IfNode:
			c.pipe(n.Pipe, dot)
			c.list(n.List, dot, loops)
			c.list(n.ElseList, dot, loops)
		case *parse.WithNode:
			of := c.pipe(n.Pipe, dot)
			c.list(n.List, of, loops)
			c.list(n.ElseList, dot, loops)
		case *parse.RangeNode:
			of := c.pipe(n.Pipe, dot)
			switch {
			case !c.loopable(n.Pipe):
				c.bad(int(n.Pipe.Position()), `a "range" goes over %s only`, c.kind.lists)
			case loops > 0:
				c.bad(int(n.Position()), `a "range" within a "range" is not taken`)
			}
			if of != nil && of.Kind() == reflect.Slice {
				of = of.Elem()
			}
			c.list(n.List, of, loops+1)
			c.list(n.ElseList, dot, loops)
		case *parse.TemplateNode:
			c.bad(int(n.Position()), `"template" is not taken in templates`)
		case *parse.TextNode, *parse.CommentNode, *parse.BreakNode, *parse.ContinueNode:
		default:
			c.bad(int(n.Position()), "this is not taken in templates")
		}
	}
}

// loopable says whether it is the kind's one list, plainly.
func (c *checker) loopable(p *parse.PipeNode) bool {
	return len(p.Cmds) == 1 && len(p.Cmds[0].Args) == 1 && strings.Trim(p.Cmds[0].Args[0].String(), "()$") == c.kind.lists
}

// pipe looks at a pipeline, and says what it gives; nil when that is not known.
func (c *checker) pipe(p *parse.PipeNode, dot reflect.Type) (gives reflect.Type) {
	if p == nil {
		return nil
	}
	for i, command := range p.Cmds {
		given := 0
		if i > 0 {
			given = 1
		}
		gives = nil
		for j, arg := range command.Args {
			of := c.argument(arg, dot, j == 0, len(command.Args)-1+given, command)
			if j == 0 {
				gives = of
			}
		}
	}
	return gives
}

func (c *checker) argument(n parse.Node, dot reflect.Type, first bool, given int, command *parse.CommandNode) reflect.Type {
	switch n := n.(type) {
	case *parse.IdentifierNode:
		h, known := helpers[n.Ident]
		if !known || !slices.Contains(c.kind.helpers, n.Ident) {
			c.bad(int(n.Position()), "there is no helper %q%s; there are %s", name(n.Ident), meant(n.Ident, c.kind.helpers), and(c.kind.helpers))
			return nil
		}
		if !first {
			given = 0
		}
		if given < h.least || h.most >= 0 && given > h.most {
			c.bad(int(n.Position()), "%s takes %s, and is given %d", n.Ident, count(h), given)
		}
		if first && n.Ident == "deadline" {
			c.deadline(command)
		}
		return h.gives
	case *parse.FieldNode:
		return c.fields(n, n.Ident, dot)
	case *parse.VariableNode:
		if n.Ident[0] == "$" {
			return c.fields(n, n.Ident[1:], c.kind.root)
		}
		return nil
	case *parse.ChainNode:
		c.argument(n.Node, dot, true, 0, command)
		return nil
	case *parse.PipeNode:
		return c.pipe(n, dot)
	case *parse.DotNode:
		return dot
	case *parse.StringNode:
		return textType
	case *parse.NumberNode:
		return numberType
	case *parse.BoolNode:
		return boolType
	default:
		return nil
	}
}

func count(h helper) string {
	switch {
	case h.most < 0:
		return fmt.Sprintf("%d or more values", h.least)
	case h.least == h.most && h.least == 1:
		return "1 value"
	case h.least == h.most:
		return fmt.Sprintf("%d values", h.least)
	default:
		return fmt.Sprintf("%d to %d values", h.least, h.most)
	}
}

// deadline looks at a pattern that is written out.
func (c *checker) deadline(command *parse.CommandNode) {
	var args []string
	for _, n := range command.Args[1:] {
		s, ok := n.(*parse.StringNode)
		if !ok {
			return
		}
		args = append(args, s.Text)
	}
	if _, _, err := deadlineArgs(args); err != nil {
		c.bad(int(command.Args[1].Position()), "deadline: %s", err)
	}
}

// fields follows the names behind a value.
func (c *checker) fields(n parse.Node, names []string, of reflect.Type) reflect.Type {
	for _, f := range names {
		if of == nil {
			return nil
		}
		if of.Kind() != reflect.Struct {
			c.bad(int(n.Position()), "there is no .%s here: what stands before it is a plain value", name(f))
			return nil
		}
		field, ok := of.FieldByName(f)
		if !ok {
			var known []string
			for i := range of.NumField() {
				known = append(known, of.Field(i).Name)
			}
			hint := strings.Replace(meant(f, known), `"`, `".`, 1)
			c.bad(int(n.Position()), "there is no .%s%s; there are .%s", name(f), hint, strings.Join(known, ", ."))
			return nil
		}
		of = field.Type
	}
	return of
}
