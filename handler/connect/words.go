package connect

import (
	"fmt"
	"strings"
)

// Text is the plan in words, as somebody reads it who has to say yes.
func (p *Plan) Text() string {
	var b strings.Builder
	title := "Plan for the catalog %s:\n\n"
	if p.Undo {
		title = "Plan to undo what connect made in the catalog %s:\n\n"
	}
	fmt.Fprintf(&b, title, p.Catalog)
	counts := map[string]int{}
	policies := false
	for _, s := range p.Steps {
		counts[s.Do]++
		policies = policies || s.Do == Change && s.Kind == "policy"
		fmt.Fprintf(&b, "  %-7s %s\n", s.Do, s)
		for _, d := range s.Details {
			fmt.Fprintf(&b, "            %s\n", d)
		}
	}
	if len(p.Steps) > 0 {
		b.WriteByte('\n')
	}
	if policies {
		b.WriteString("Each policy is written back whole, as Graph wants it; nothing else in it changes.\n")
	}
	for _, n := range p.Notes {
		fmt.Fprintf(&b, "Note: %s\n", n)
	}
	if len(p.Problems) > 0 {
		for _, problem := range p.Problems {
			fmt.Fprintf(&b, "Problem: %s.\n", problem)
		}
		b.WriteString("Nothing is done while there is a problem.\n")
		return b.String()
	}
	switch {
	case p.Writes() == 0 && p.Undo:
		fmt.Fprintf(&b, "No change: there is nothing here that connect made under the name %q.\n", p.wish.Name)
	case p.Writes() == 0:
		b.WriteString("No change: all of it is as it shall be.\n")
	default:
		var parts []string
		for _, do := range []struct{ word, after string }{{Make, "to make"}, {Change, "to change"}, {Remove, "to remove"}} {
			if n := counts[do.word]; n > 0 {
				parts = append(parts, fmt.Sprintf("%d %s", n, do.after))
			}
		}
		if n := counts[Exists]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d as it shall be", n))
		}
		fmt.Fprintf(&b, "%s.\n", strings.Join(parts, ", "))
	}
	return b.String()
}

// String is a step in one line.
func (s Step) String() string {
	out := fmt.Sprintf("%s %q", s.Kind, s.Name)
	if s.Kind == "role" || s.Kind == "app role" {
		out = s.Kind + " " + s.Name
	}
	if s.Of != "" {
		out += fmt.Sprintf(" of the access package %q", s.Of)
	}
	if s.ID != "" {
		out += " (" + s.ID + ")"
	}
	return out
}

// Done is a step in one line, after it was done.
func (s Step) Done() string {
	return map[string]string{Make: "made", Change: "changed", Remove: "removed"}[s.Do] + " " + s.String()
}
