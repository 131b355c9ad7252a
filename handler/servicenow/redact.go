package servicenow

import (
	"encoding/base64"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"unicode"
)

// A redactor takes out of a text what must not be logged.
type redactor struct {
	secrets []string // fixed when the client is made

	mu     sync.Mutex
	tokens [2]string // the current one and the one before
}

// add hides the values, also as they stand in a URL or in base64.
func (r *redactor) add(values ...string) {
	for _, v := range values {
		if v != "" {
			r.secrets = append(r.secrets, v, url.QueryEscape(v), url.PathEscape(v), base64.StdEncoding.EncodeToString([]byte(v)))
		}
	}
}

func (r *redactor) token(token string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tokens[0] != token {
		r.tokens[0], r.tokens[1] = token, r.tokens[0]
	}
}

var (
	email    = regexp.MustCompile(`[^\s<>"'(),;:]+@[^\s<>"'(),;:]+`)
	userInfo = regexp.MustCompile(`//[^/\s@"']*@`)
)

// clean returns text on one line, at most 200 characters of it, with secrets and e-mail addresses taken out.
func (r *redactor) clean(text string) string {
	text = strings.ToValidUTF8(text, "") // first, lest two halves of a secret come together
	r.mu.Lock()
	hidden := append([]string{}, r.secrets...)
	hidden = append(hidden, r.tokens[0], r.tokens[1])
	r.mu.Unlock()
	for _, h := range hidden {
		if h != "" {
			text = strings.ReplaceAll(text, h, "…")
		}
	}
	text = userInfo.ReplaceAllString(text, "//…@")
	text = email.ReplaceAllString(text, "…")
	text = strings.Map(func(c rune) rune {
		if unicode.IsControl(c) || unicode.IsSpace(c) {
			return ' '
		}
		return c
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > 200 {
		text = string(runes[:199]) + "…"
	}
	return text
}
