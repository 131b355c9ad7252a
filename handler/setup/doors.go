package setup

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"ticketbridge/handler/fault"
)

// A door is a function that others call.
type door struct {
	function string // the folder of its function.json, as we publish it
	route    string
	closed   bool   // something but the function key proves the caller
	field    string // the setting that would
	mend     string
}

// guarded refuses settings with which anybody could call the callout or the close notification: the Functions host asks for no key (its function.json says
// anonymous), and neither a token nor a signature is asked for either. The files are where the host looks for them: one folder deep beside host.json.
// Where there are none nobody is let in by them.
func (s *Settings) guarded() error {
	doors := []door{
		{"callout", "callout", s.CalloutAudience != "", "CALLOUT_AUDIENCE", "set CALLOUT_AUDIENCE, so that callers need a token"},
		{
			"ticketclosed", "ticket-closed", s.CloseAudience != "" || s.CloseHMACKey != "", "CLOSE_AUDIENCE",
			"set CLOSE_AUDIENCE and CLOSE_CALLERS, so that callers need a token, or CLOSE_HMAC_KEY, so that they sign",
		},
	}
	root := cmp.Or(s.AppRoot, ".") // as for the rules file
	folders, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return misconfigured("FUNCTIONS_APP_ROOT_PATH", "the folder "+root+" cannot be read, and so not who may call its functions: "+err.Error())
	}
	var wrong []error
	for _, folder := range folders {
		file := filepath.Join(root, folder.Name(), "function.json")
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			continue
		}
		f, readErr := readFunction(text)
		if err = cmp.Or(err, readErr); err != nil {
			wrong = append(wrong, misconfigured("FUNCTIONS_APP_ROOT_PATH", "it cannot be told who may call the function of "+file+"; it must be JSON, without comments: "+err.Error()))
			continue
		}
		for _, d := range doors {
			if !d.closed && f.anonymous && (strings.EqualFold(folder.Name(), d.function) || f.reaches(folder.Name(), d.route)) {
				wrong = append(wrong, misconfigured(d.field, fmt.Sprintf("is not set, and anybody can call the function %s: its authLevel in %s is not \"function\". Make it \"function\", or %s",
					folder.Name(), file, d.mend)))
			}
		}
	}
	return errors.Join(wrong...)
}

func misconfigured(field, detail string) error {
	return &fault.Error{Op: "read settings", Reason: fault.Misconfigured, Field: field, Detail: detail}
}

// A function is what of a function.json says who can call it.
type function struct {
	anonymous bool
	route     string // "" is the function's name
}

func readFunction(text []byte) (f function, err error) {
	var file struct {
		Bindings []struct {
			Type      string          `json:"type"`
			AuthLevel json.RawMessage `json:"authLevel"`
			Route     string          `json:"route"`
		} `json:"bindings"`
	}
	if err := json.Unmarshal(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")), &file); err != nil {
		return function{}, err
	}
	for _, b := range file.Bindings {
		if !strings.EqualFold(b.Type, "httpTrigger") {
			continue
		}
		// Left out, it means "function" (recorded on host 4.1037). Whatever else we do not know may let anybody in: the host also takes numbers.
		var level string
		known := b.AuthLevel == nil || json.Unmarshal(b.AuthLevel, &level) == nil && slices.Contains([]string{"function", "admin", "system"}, strings.ToLower(level))
		f.anonymous, f.route = f.anonymous || !known, b.Route
	}
	return f, nil
}

// reaches says whether the function gets, or may get, calls for /api/<route>: the program tells its functions apart by the path, not by the
// function that the host found for it.
func (f function) reaches(name, route string) bool {
	own := f.route
	if own == "" {
		own = name
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(strings.ToLower(strings.Trim(own, "/")), "api/"), "/")
	return first == route || strings.ContainsAny(first, "{%") // a parameter, or a setting
}
