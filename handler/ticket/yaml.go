package ticket

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// A Problem is one thing that is wrong, or odd, at one place of a rules file.
type Problem struct {
	File   string `json:"file"`
	Line   int    `json:"line"`   // from 1
	Column int    `json:"column"` // from 1, in characters
	Text   string `json:"text"`
}

func (p Problem) String() string {
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Text)
}

// FileErrors are all that is wrong with a file, in the order of their places: a line for each.
type FileErrors []Problem

func (p FileErrors) Error() string {
	var lines []string
	for _, one := range p {
		lines = append(lines, one.String())
	}
	return strings.Join(lines, "\n")
}

// The largest file that is read, and how deep it may be nested. The parser's time grows with the square of both.
const (
	maxFile  = 128 << 10
	maxDepth = 20
)

type place struct{ line, column int }

// A reader reads a file's syntax tree and keeps what is wrong with it.
type reader struct {
	file     string
	lines    []string
	problems FileErrors
	warnings FileErrors
}

func (r *reader) bad(at place, format string, args ...any) {
	r.problems = append(r.problems, Problem{r.file, at.line, at.column, fmt.Sprintf(format, args...)})
}

func (r *reader) warn(at place, format string, args ...any) {
	r.warnings = append(r.warnings, Problem{r.file, at.line, at.column, fmt.Sprintf(format, args...)})
}

// sorted puts problems in the order of their places, each once.
func sorted(p FileErrors) FileErrors {
	slices.SortStableFunc(p, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return slices.Compact(p)
}

// parse returns the root of the file's one document; nil when there is none, which may be a problem.
func (r *reader) parse(text []byte) (root ast.Node) {
	start := place{1, 1}
	defer func() {
		if v := recover(); v != nil { // the parser is not ours
			r.bad(start, "this cannot be read as YAML")
			root = nil
		}
	}()
	switch {
	case len(text) > maxFile:
		r.bad(start, "the file has %d bytes; at most %d are read", len(text), maxFile)
		return nil
	case !utf8.Valid(text):
		r.bad(start, "the file is not UTF-8")
		return nil
	}
	source := strings.TrimPrefix(string(text), "\ufeff")
	r.lines = strings.Split(strings.ReplaceAll(source, "\r\n", "\n"), "\n")
	tokens := lexer.Tokenize(source)
	if at, deep := tooDeep(tokens); deep {
		r.bad(at, "this is nested more than %d deep", maxDepth)
		return nil
	}
	f, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey()) // we name all of them
	if err != nil {
		var syntax interface {
			GetMessage() string
			GetToken() *token.Token
		}
		if errors.As(err, &syntax) && syntax.GetToken() != nil {
			start = placeOf(syntax.GetToken())
			r.bad(start, "this is not YAML: %s%s", oneLine(syntax.GetMessage()), r.hint(start))
			return nil
		}
		r.bad(start, "this is not YAML: %s", name(err.Error()))
		return nil
	}
	for _, d := range f.Docs {
		if d.Body == nil {
			continue
		}
		if root != nil {
			r.bad(at(d.Body), "a second document begins here; a rules file has one")
			break
		}
		root = d.Body
	}
	if root == nil {
		r.bad(start, "the file is empty; it begins with version: 1")
	}
	return root
}

// unquoted is how values begin that YAML takes for something else than a text.
var unquoted = regexp.MustCompile(`(?:^\s*-|[:,\[])\s+(\{\{|[*&!%@\x60])`)

// hint says what is likely to be wrong with a line that is not YAML.
func (r *reader) hint(at place) string {
	if at.line > len(r.lines) {
		return ""
	}
	line := r.lines[at.line-1]
	switch m := unquoted.FindStringSubmatch(line); {
	case m != nil:
		return "; a text that begins with " + m[1] + " goes into quotes"
	case strings.Contains(line[:len(line)-len(strings.TrimLeft(line, " \t"))], "\t"):
		return "; lines are set in by spaces, not by tabs"
	default:
		return ""
	}
}

// tooDeep looks for nesting on one line, and of brackets: the only ways to nest deeply in a small file.
func tooDeep(tokens token.Tokens) (place, bool) {
	depth, line, onLine := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			line, onLine = t.Position.Line, 0
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.SequenceEntryType, token.MappingKeyType, token.AnchorType, token.TagType:
			onLine++
		case token.MappingValueType:
			if depth == 0 {
				onLine++
			}
		default:
		}
		if depth > maxDepth || onLine > maxDepth {
			return placeOf(t), true
		}
	}
	return place{}, false
}

func placeOf(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{1, 1}
	}
	return place{max(1, t.Position.Line), max(1, t.Position.Column)}
}

// at is where a node begins: a mapping in its first key.
func at(n ast.Node) place {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return at(n.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return at(n.Key)
	}
	return placeOf(n.GetToken())
}

// A member is one key of a mapping with its value.
type member struct {
	key   string
	at    place // of the key
	value ast.Node
}

// mapping reads a mapping of the keys given, or of any when there are none. what is what it is called in messages, as in "a match". Each key that is
// unknown or comes twice is a problem; the others are returned, in their order.
func (r *reader) mapping(n ast.Node, what string, known []string) ([]member, bool) {
	var values []*ast.MappingValueNode
	switch n := r.plain(n).(type) {
	case nil:
		return nil, false
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	case *ast.NullNode:
		r.bad(at(n), "found nothing; expected %s%s", what, takes(known))
		return nil, false
	default:
		r.bad(at(n), "found %s; expected %s%s", describe(n), what, takes(known))
		return nil, false
	}
	var out []member
	for _, v := range values {
		key, ok := scalar(v.Key)
		switch {
		case v.Key == nil || !ok:
			r.bad(at(v), "found a key that is not a plain text")
		case v.Key.IsMergeKey():
			r.bad(at(v.Key), `merge keys ("<<") are not taken; write the keys out, or put them into "defaults"`)
		case slices.ContainsFunc(out, func(m member) bool { return m.key == key }):
			r.bad(at(v.Key), "the key %q is here twice", name(key))
		case len(known) > 0 && !slices.Contains(known, key):
			r.bad(at(v.Key), "unknown key %q%s; the keys of %s are %s", name(key), meant(key, known), what, and(known))
		default:
			out = append(out, member{key, at(v.Key), v.Value})
		}
	}
	return out, true
}

func takes(known []string) string {
	if len(known) == 0 {
		return ""
	}
	return ", whose keys are " + and(known)
}

// sequence reads a list, or one element in its place.
func (r *reader) sequence(n ast.Node) []ast.Node {
	switch n := r.plain(n).(type) {
	case nil:
		return nil
	case *ast.SequenceNode:
		return n.Values
	default:
		return []ast.Node{n}
	}
}

// plain returns a node itself; nil, and a problem, for what YAML can do beyond plain values.
func (r *reader) plain(n ast.Node) ast.Node {
	switch n := n.(type) {
	case nil:
		return nil
	case *ast.AliasNode:
		r.bad(at(n), `aliases ("*name") are not taken; a text that begins with * goes into quotes, as in "*"`)
	case *ast.AnchorNode:
		r.bad(at(n), `anchors ("&name") are not taken; a text that begins with & goes into quotes`)
	case *ast.TagNode:
		r.bad(at(n), `tags ("!name") are not taken; a text that begins with ! goes into quotes`)
	default:
		return n
	}
	return nil
}

// text reads a text. A number or true and false are taken as they are written.
func (r *reader) text(n ast.Node, what string) (string, bool) {
	n = r.plain(n)
	if n == nil {
		return "", false
	}
	s, ok := scalar(n)
	if !ok {
		more := ""
		if m, isMap := n.(*ast.MappingNode); isMap && m.IsFlowStyle {
			more = `; a text that begins with { goes into quotes`
		}
		r.bad(at(n), "found %s; expected %s%s", describe(n), what, more)
	}
	return s, ok
}

// word reads one of the words.
func (r *reader) word(n ast.Node, words ...string) string {
	s, ok := r.text(n, list(words))
	if ok && !slices.Contains(words, s) {
		r.bad(at(n), "found %q%s; expected %s", name(s), meant(s, words), list(words))
		return ""
	}
	return s
}

func (r *reader) boolean(n ast.Node) bool {
	n = r.plain(n)
	if b, ok := n.(*ast.BoolNode); ok {
		return b.Value
	}
	if n != nil {
		r.bad(at(n), "found %s; expected true or false", describe(n))
	}
	return false
}

// scalar is what a scalar says, as it is written.
func scalar(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	case *ast.MergeKeyNode:
		return n.GetToken().Value, true
	case *ast.MappingKeyNode:
		return scalar(n.Value)
	default:
		return "", false
	}
}

// describe names what was found.
func describe(n ast.Node) string {
	switch n := n.(type) {
	case *ast.NullNode:
		return "nothing"
	case *ast.SequenceNode:
		return "a list"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	default:
		if s, ok := scalar(n); ok {
			return fmt.Sprintf("%q", clip(oneLine(s), 60))
		}
		return "something else"
	}
}

// list names alternatives: "a, b or c".
func list(words []string) string { return joined(words, " or ") }

// and names all of them: "a, b and c".
func and(words []string) string { return joined(words, " and ") }

func joined(words []string, last string) string {
	switch n := len(words); n {
	case 0:
		return "nothing"
	case 1:
		return words[0]
	default:
		return strings.Join(words[:n-1], ", ") + last + words[n-1]
	}
}

// meant is the words' nearest to what was written, in brackets; "" when none is near.
func meant(written string, words []string) string {
	best, least := "", 3
	for _, w := range words {
		if d := distance(strings.ToLower(written), strings.ToLower(w)); d < least && d <= max(1, len(w)/3) {
			best, least = w, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// distance is how many letters have to be inserted, deleted, replaced or swapped with their neighbour to make b of a.
func distance(a, b string) int {
	if len(a) > 60 || len(b) > 60 {
		return 60
	}
	x, y := []rune(a), []rune(b)
	rows := make([][]int, len(x)+1)
	for i := range rows {
		rows[i] = make([]int, len(y)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(x); i++ {
		for j := 1; j <= len(y); j++ {
			change := 1
			if x[i-1] == y[j-1] {
				change = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+change)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(x)][len(y)]
}
