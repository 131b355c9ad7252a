package host

import (
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"
)

// A route is the template of an HTTP function: literals, {name}, {name?} and, at the end, {*name}.
type route struct {
	text     string
	segments []segment
}

type segment struct {
	name     string // of the parameter, or the literal
	param    bool
	optional bool
	rest     bool
}

// parseRoute reads a template, with the prefix of the app before it.
func parseRoute(text string) (*route, error) {
	r := &route{text: text}
	parts := strings.Split(text, "/")
	for i, p := range parts {
		s := segment{name: p}
		if inner, ok := strings.CutPrefix(p, "{"); ok {
			inner, ok = strings.CutSuffix(inner, "}")
			s.param = true
			s.name, s.rest = strings.CutPrefix(inner, "*")
			s.name, s.optional = strings.CutSuffix(s.name, "?")
			if last := i == len(parts)-1; !ok || s.name == "" || (s.rest || s.optional) && !last {
				return nil, fmt.Errorf("the stand-in cannot read the route %q", text)
			}
		}
		if strings.ContainsAny(s.name, "{}:=*?") || s.name == "" {
			return nil, fmt.Errorf("the stand-in cannot read the route %q", text)
		}
		r.segments = append(r.segments, s)
	}
	return r, nil
}

// param is what a route's parameter stands for in a path.
type param struct{ name, value string }

// match says whether a path, decoded, is of the route. Literals match in any case; one slash at the end is no difference.
func (r *route) match(path string) ([]param, bool) {
	path, ok := strings.CutPrefix(path, "/")
	if !ok {
		return nil, false
	}
	var params []param
	for i, s := range r.segments {
		if s.rest {
			return append(params, param{s.name, path}), true
		}
		part, rest, more := strings.Cut(path, "/")
		switch {
		case !s.param && !strings.EqualFold(part, s.name):
			return nil, false
		case s.param && part == "" && !s.optional:
			return nil, false
		case s.param && part != "":
			params = append(params, param{s.name, part})
		}
		if path = rest; more && rest != "" {
			continue
		}
		// The path is over: what is left of the route must be able to stand for nothing.
		left := r.segments[i+1:]
		return params, len(left) == 0 || left[0].optional || left[0].rest
	}
	return nil, false
}

// before says whether the route is tried before another one: literals before parameters, and the rest of the path last.
func (r *route) before(o *route) bool {
	weight := func(s segment) int {
		switch {
		case s.rest:
			return 2
		case s.param:
			return 1
		}
		return 0
	}
	for i := range min(len(r.segments), len(o.segments)) {
		if a, b := weight(r.segments[i]), weight(o.segments[i]); a != b {
			return a < b
		}
	}
	return len(r.segments) > len(o.segments)
}

// decodePath reads a path as the host's web server does: escapes are decoded, except that of the slash and those that are no UTF-8; then dot
// segments are resolved. Slashes in a row stay. It is false for a path that is refused: one with a NUL, or with what has to be an escape.
func decodePath(path string) (string, bool) {
	if strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "", false
	}
	var b strings.Builder
	for i := 0; i < len(path); {
		if path[i] != '%' {
			b.WriteByte(path[i])
			i++
			continue
		}
		octets, ends := escapes(path[i:])
		if len(octets) == 0 { // no escape after all
			b.WriteByte('%')
			i++
			continue
		}
		r, n := utf8.DecodeRune(octets)
		switch {
		case octets[0] == 0:
			return "", false
		case r == '/' || r == utf8.RuneError && n <= 1:
			b.WriteString(path[i : i+3])
			i += 3
		default:
			b.WriteRune(r)
			i += ends[n-1]
		}
	}
	return resolveDots(b.String()), true
}

// escapes returns the octets of the escapes that s begins with, at most as many as a character has, and where each of them ends.
func escapes(s string) (octets []byte, ends []int) {
	for i := 0; i+2 < len(s) && s[i] == '%' && len(octets) < utf8.UTFMax; i += 3 {
		c, err := url.PathUnescape(s[i : i+3])
		if err != nil {
			break
		}
		octets, ends = append(octets, c[0]), append(ends, i+3)
	}
	return octets, ends
}

// resolveDots takes out the segments . and .. of a path.
func resolveDots(path string) string {
	if !strings.Contains(path, "/.") {
		return path
	}
	var out []string
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i, p := range parts {
		last := i == len(parts)-1
		switch p {
		case ".":
		case "..":
			if len(out) > 0 {
				out = out[:len(out)-1]
			}
		default:
			out = append(out, p)
			continue
		}
		if last {
			out = append(out, "")
		}
	}
	return "/" + strings.Join(out, "/")
}

const (
	unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
	inPath     = unreserved + "!$&'()*+,;=:@/"
	upperHex   = "0123456789ABCDEF"
)

// escape writes every octet that is not among the allowed ones as an escape.
func escape(s, allowed string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; strings.IndexByte(allowed, c) >= 0 {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', upperHex[c>>4], upperHex[c&15]})
		}
	}
	return b.String()
}

// proxiedPath is how a decoded path goes to the handler in proxying: an escape that was left in it is escaped again.
func proxiedPath(path string) string { return escape(path, inPath) }

// forwardedPath is how it goes in forwarding: what looks like an escape stays one.
func forwardedPath(path string) string {
	var b strings.Builder
	for i := 0; i < len(path); {
		if octets, _ := escapes(path[i:min(i+3, len(path))]); len(octets) == 1 {
			b.WriteString(path[i : i+3])
			i += 3
			continue
		}
		b.WriteString(escape(path[i:i+1], inPath))
		i++
	}
	return b.String()
}

// pair is one key of a query, with its values.
type pair struct {
	key    string
	values []string
}

// parseQuery reads a query, keys in the order in which they came first.
func parseQuery(query string) []pair {
	var pairs []pair
	for part := range strings.SplitSeq(query, "&") {
		if part == "" {
			continue
		}
		k, v, _ := strings.Cut(part, "=")
		k, v = unescapeQuery(k), unescapeQuery(v)
		i := 0
		for i < len(pairs) && !strings.EqualFold(pairs[i].key, k) {
			i++
		}
		if i == len(pairs) {
			pairs = append(pairs, pair{key: k})
		}
		pairs[i].values = append(pairs[i].values, v)
	}
	return pairs
}

func unescapeQuery(s string) string {
	if u, err := url.QueryUnescape(s); err == nil {
		return u
	}
	return s
}

// forwardedQuery is how a query goes to the handler in forwarding: read, and written anew with one key each.
func forwardedQuery(query string) string {
	var parts []string
	for _, p := range parseQuery(query) {
		values := make([]string, len(p.values))
		for i, v := range p.values {
			values[i] = escape(v, unreserved)
		}
		parts = append(parts, escape(p.key, unreserved)+"="+strings.Join(values, ","))
	}
	return strings.Join(parts, "&")
}
