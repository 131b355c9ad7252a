package host

import (
	"net/http"
	"slices"
	"strings"

	"ticketbridge/handler/callout"
)

// A function is one of those that the Functions host binds, or the probe.
type function struct {
	name    string
	methods []string
	limit   int  // the largest body taken, in bytes
	trigger bool // called by the host itself, with an envelope
}

// The functions. Names and routes are those in the folders' function.json.
var (
	probe        = &function{name: "probe", methods: []string{http.MethodGet, http.MethodHead}}
	calloutFn    = &function{name: "callout", methods: []string{http.MethodPost}, limit: callout.MaxBytes}
	ticketClosed = &function{name: "ticketclosed", methods: []string{http.MethodPost}, limit: 64 << 10}
	advance      = &function{name: "advance", methods: []string{http.MethodPost}, limit: 1 << 20, trigger: true}
	sweep        = &function{name: "sweep", methods: []string{http.MethodPost}, limit: 1 << 20, trigger: true}
	console      = &function{name: "console", methods: []string{http.MethodGet, http.MethodHead, http.MethodPost}, limit: 64 << 10}
)

// consolePath is where the console is; its routes match in any case, as all of the host's do.
const consolePath = "/api/console"

// route returns the function that a request target is for, and for the console what follows consolePath; nil when it is for none.
//
// The target is the one on the request line, and it is compared as it came. The host lets anybody through to the console, and hands on
// "/api/console/..%2fcallout" and "/api/console/..%2f..%2fadvance" as they are (recorded on host 4.1037; "%252f" when it proxies): whoever decodes
// and cleans such a path runs another function without its key. No path of ours needs an escape, so one that has any is nobody's.
func route(target string) (fn *function, rest string) {
	path, _, _ := strings.Cut(target, "?")
	if !plain(path) {
		return nil, ""
	}
	switch path { // the host's own calls come in one spelling
	case "/":
		return probe, ""
	case "/advance":
		return advance, ""
	case "/sweep":
		return sweep, ""
	}
	switch {
	case strings.EqualFold(path, "/api/callout"):
		return calloutFn, ""
	case strings.EqualFold(path, "/api/ticket-closed"):
		return ticketClosed, ""
	case len(path) >= len(consolePath) && strings.EqualFold(path[:len(consolePath)], consolePath):
		if rest = path[len(consolePath):]; rest == "" || rest[0] == '/' {
			return console, rest
		}
	}
	return nil, ""
}

// plain says whether a path consists of segments of letters, digits, "-", "_", "~" and ".", none of which is empty (but for the last), "."
// or "..": it means the same whether or not somebody decodes or cleans it.
func plain(path string) bool {
	if path == "" || path[0] != '/' {
		return false
	}
	for i := range len(path) {
		switch c := path[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '~', c == '.', c == '/':
		default:
			return false
		}
	}
	segments := strings.Split(path[1:], "/")
	for i, s := range segments {
		if s == "." || s == ".." || (s == "" && i < len(segments)-1) {
			return false
		}
	}
	return true
}

func (f *function) takes(method string) bool { return slices.Contains(f.methods, method) }
