package servicenow

import (
	"fmt"
	"net/http"
	"net/textproto"
	"regexp"
	"strings"
)

// ourHeaders may not be set: they are the client's own, or change what ServiceNow makes of a call. With a cookie an overloaded instance drops calls,
// and with X-no-response-body nobody hears what was created.
var ourHeaders = []string{
	"Accept", "Accept-Encoding", "Authorization", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Cookie", "Expect", "Host", "Proxy-Authorization",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade", "User-Agent", "X-Http-Method-Override", "X-No-Response-Body", "X-Sn-Apikey", "X-Usertoken",
}

var (
	headerName  = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
	beginsField = regexp.MustCompile("^\\s*[!#$%&'*+.^_`|~0-9A-Za-z-]+\\s*:")
)

// extraHeaders reads SERVICENOW_HEADERS: "Name: value" on each line, or separated by commas. In one line, a comma before what does not begin with a name
// and a colon belongs to the value.
func extraHeaders(text string) (http.Header, error) {
	const field = "SERVICENOW_HEADERS"
	var lines []string
	if text = strings.TrimSpace(strings.ReplaceAll(text, `\n`, "\n")); strings.Contains(text, "\n") {
		lines = strings.Split(text, "\n")
	} else {
		for part := range strings.SplitSeq(text, ",") {
			if len(lines) > 0 && !beginsField.MatchString(part) && strings.TrimSpace(part) != "" {
				lines[len(lines)-1] += "," + part
			} else {
				lines = append(lines, part)
			}
		}
	}
	out := http.Header{}
	for n, line := range lines {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		switch {
		case !ok || !headerName.MatchString(name) || value == "" || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
			return nil, setting(field, fmt.Sprintf("holds as number %d what is not a header; it must hold Name: value on each line, or separated by commas", n+1)) // not shown: it may be a secret
		case isOurs(name):
			return nil, setting(field, "holds "+textproto.CanonicalMIMEHeaderKey(name)+", which is the client's own and cannot be set")
		}
		out.Add(name, value)
	}
	return out, nil
}

func isOurs(name string) bool {
	for _, ours := range ourHeaders {
		if strings.EqualFold(ours, name) {
			return true
		}
	}
	return false
}
