package csdl

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// An Expr is a part of a $filter: Path, Literal, Compare, Logic, Not, Call or Lambda.
type Expr interface{ isExpr() }

// A Path names a property, and properties within it.
type Path struct{ Names []string }

// A Literal is a value: nil, bool, string, json.Number, Guid or time.Time.
type Literal struct{ Value any }

// A Guid is a GUID as it stands in a $filter, without quotes.
type Guid string

// Compare is eq, ne, gt, ge, lt or le.
type Compare struct {
	Op          string
	Left, Right Expr
}

// Logic is and, or.
type Logic struct {
	Op          string
	Left, Right Expr
}

// Not negates.
type Not struct{ Of Expr }

// Call is startswith, endswith, contains, tolower or toupper.
type Call struct {
	Name string
	Args []Expr
}

// Lambda is path/any(x: …) or path/all(x: …).
type Lambda struct {
	Over Path
	All  bool
	Var  string
	Of   Expr
}

func (Path) isExpr()    {}
func (Literal) isExpr() {}
func (Compare) isExpr() {}
func (Logic) isExpr()   {}
func (Not) isExpr()     {}
func (Call) isExpr()    {}
func (Lambda) isExpr()  {}

// arity of the functions that are understood; the first answer is a boolean, or a string.
var functions = map[string]struct {
	arity   int
	boolean bool
}{
	"startswith": {2, true}, "endswith": {2, true}, "contains": {2, true}, "tolower": {1, false}, "toupper": {1, false},
}

// ParseFilter reads a $filter.
func ParseFilter(text string) (Expr, error) {
	tokens, err := lex(text)
	if err != nil {
		return nil, err
	}
	p := &filterParser{tokens: tokens}
	e, err := p.or()
	if err != nil {
		return nil, err
	}
	if p.peek() != "" {
		return nil, fmt.Errorf("unexpected %q", p.peek())
	}
	return e, nil
}

// lex splits a filter into words, quoted strings (kept with their quotes), and the marks ( ) , :
func lex(text string) ([]string, error) {
	var out []string
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == ' ' || c == '\t':
			i++
		case strings.IndexByte("(),", c) >= 0:
			out = append(out, text[i:i+1])
			i++
		case c == '\'':
			end := i + 1
			for {
				n := strings.IndexByte(text[end:], '\'')
				if n < 0 {
					return nil, errors.New("a string without its closing quote")
				}
				end += n + 1
				if end < len(text) && text[end] == '\'' { // a doubled quote stands for one
					end++
					continue
				}
				break
			}
			out = append(out, text[i:end])
			i = end
		default:
			n := strings.IndexAny(text[i:], " \t(),'")
			if n < 0 {
				n = len(text) - i
			}
			out = append(out, text[i:i+n])
			i += n
		}
	}
	return out, nil
}

type filterParser struct {
	tokens []string
	depth  int
}

func (p *filterParser) peek() string {
	if len(p.tokens) == 0 {
		return ""
	}
	return p.tokens[0]
}

func (p *filterParser) next() string {
	t := p.peek()
	if t != "" {
		p.tokens = p.tokens[1:]
	}
	return t
}

func (p *filterParser) expect(token string) error {
	if got := p.next(); got != token {
		return fmt.Errorf("want %q, found %q", token, got)
	}
	return nil
}

func (p *filterParser) or() (Expr, error) {
	if p.depth++; p.depth > 50 {
		return nil, errors.New("too deep")
	}
	defer func() { p.depth-- }()
	return p.chain("or", func() (Expr, error) { return p.chain("and", p.comparison) })
}

func (p *filterParser) chain(op string, part func() (Expr, error)) (Expr, error) {
	left, err := part()
	if err != nil {
		return nil, err
	}
	for p.peek() == op {
		p.next()
		right, err := part()
		if err != nil {
			return nil, err
		}
		left = Logic{Op: op, Left: left, Right: right}
	}
	return left, nil
}

func (p *filterParser) comparison() (Expr, error) {
	if p.peek() == "not" {
		p.next()
		if p.depth++; p.depth > 50 {
			return nil, errors.New("too deep")
		}
		defer func() { p.depth-- }()
		of, err := p.comparison()
		return Not{Of: of}, err
	}
	left, err := p.operand()
	if err != nil {
		return nil, err
	}
	switch op := p.peek(); op {
	case "eq", "ne", "gt", "ge", "lt", "le":
		p.next()
		right, err := p.operand()
		return Compare{Op: op, Left: left, Right: right}, err
	default:
		return left, nil
	}
}

var (
	numberForm = regexp.MustCompile(`^-?\d+(\.\d+)?$`)
	nameForm   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_.]*)*$`)
)

func (p *filterParser) operand() (Expr, error) {
	word := p.next()
	switch {
	case word == "":
		return nil, errors.New("it ends too early")
	case word == "(":
		e, err := p.or()
		if err != nil {
			return nil, err
		}
		return e, p.expect(")")
	case word[0] == '\'':
		return Literal{strings.ReplaceAll(word[1:len(word)-1], "''", "'")}, nil
	case word == "true", word == "false":
		return Literal{word == "true"}, nil
	case word == "null":
		return Literal{nil}, nil
	case guidForm.MatchString(word):
		return Literal{Guid(strings.ToLower(word))}, nil
	case numberForm.MatchString(word):
		return Literal{json.Number(word)}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, word); err == nil {
		return Literal{t}, nil
	}
	if p.peek() == "(" {
		return p.call(word)
	}
	if !nameForm.MatchString(word) {
		return nil, fmt.Errorf("%q is neither a property nor a value", word)
	}
	return Path{strings.Split(word, "/")}, nil
}

func (p *filterParser) call(name string) (Expr, error) {
	p.next() // the parenthesis
	for _, quantifier := range []string{"/any", "/all"} {
		if over, ok := strings.CutSuffix(name, quantifier); ok && nameForm.MatchString(over) {
			return p.lambda(over, quantifier == "/all")
		}
	}
	f, ok := functions[name]
	if !ok {
		return nil, fmt.Errorf("there is no function %q", name)
	}
	call := Call{Name: name}
	for {
		arg, err := p.or()
		if err != nil {
			return nil, err
		}
		call.Args = append(call.Args, arg)
		if p.peek() != "," {
			break
		}
		p.next()
	}
	if len(call.Args) != f.arity {
		return nil, fmt.Errorf("%s takes %d arguments, not %d", name, f.arity, len(call.Args))
	}
	return call, p.expect(")")
}

func (p *filterParser) lambda(over string, all bool) (Expr, error) {
	l := Lambda{Over: Path{strings.Split(over, "/")}, All: all}
	if p.peek() == ")" && !all { // any() asks only whether there is one
		p.next()
		return l, nil
	}
	name, rest, ok := strings.Cut(p.next(), ":")
	if !ok || !nameForm.MatchString(name) || strings.Contains(name, "/") {
		return nil, errors.New("any and all want a variable, as in any(x:x/id eq '…')")
	}
	l.Var = name
	if rest != "" {
		p.tokens = append([]string{rest}, p.tokens...)
	}
	of, err := p.or()
	if err != nil {
		return nil, err
	}
	l.Of = of
	return l, p.expect(")")
}
