package setup

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"ticketbridge/handler/fault"
	"ticketbridge/handler/ticket"
)

// defaultRules is the rules file that is read, where there is one, when TICKETS_FILE names none.
const defaultRules = "tickets.yaml"

// RulesFile is the path of the rules file: that of TICKETS_FILE, or tickets.yaml, relative to the folder of host.json. It may not be there.
func (s *Settings) RulesFile() string {
	file := s.TicketsFile
	if file == "" {
		file = defaultRules
	}
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(s.AppRoot, file) // without a root, relative to the working directory, which is the same in the deployed app
}

// Rules reads the rules file; without one, and when none is named, the built-in rules apply. Its error is fault.Misconfigured, names the setting, and
// holds a line for each error of the file.
func (s *Settings) Rules() (*ticket.Rules, error) {
	file := s.RulesFile()
	rules, err := ticket.ReadFile(file)
	if err == nil {
		return rules, nil
	}
	wrong := &fault.Error{Op: "read settings", Reason: fault.Misconfigured, Field: "TICKETS_FILE", Advice: "Correct the file: `handler tickets check` says whether it is right."}
	problems, ok := errors.AsType[ticket.FileErrors](err)
	switch {
	case ok:
		wrong.Detail = fmt.Sprintf("the rules in %s are not right:\n%s", file, problems.Error())
	case errors.Is(err, fs.ErrNotExist) && s.TicketsFile == "":
		return ticket.BuiltIn(), nil
	case errors.Is(err, fs.ErrNotExist):
		wrong.Detail = fmt.Sprintf("holds %q; there is no such file beside host.json (looked for %s)", s.TicketsFile, file)
	default:
		wrong.Detail, wrong.Err = "the file "+file+" cannot be read", err
	}
	return nil, wrong
}
