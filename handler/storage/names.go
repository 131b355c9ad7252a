package storage

import (
	"fmt"
	"regexp"

	"ticketbridge/handler/fault"
)

// DefaultPrefix is that of our tables and queue when none is set.
const DefaultPrefix = "ticketbridge"

// The longest prefix with which every name is legal: names of queues have at most 63 characters, and the longest is that of the queue
// to which the Functions host moves poison messages, "<prefix>-advance-poison".
const maxPrefix = 63 - len("-advance-poison")

var plainPrefix = regexp.MustCompile(`^[a-z][a-z0-9]*$`)

// Names are those of our tables and our queue in a storage account.
type Names struct {
	Correlations string // the table of correlations with their timelines and callouts
	Index        string // the table of the lists: what is open, and what ended on each day
	Queue        string // the queue of messages for Advance
}

// NamesFor returns the names that begin with the prefix. It is fault.Misconfigured when one of them would not be legal.
func NamesFor(prefix string) (Names, error) {
	if !plainPrefix.MatchString(prefix) || len(prefix) > maxPrefix {
		held := "is not set"
		if prefix != "" {
			held = fmt.Sprintf("holds %.80q", prefix)
		}
		return Names{}, &fault.Error{
			Op: "name tables and queue", Reason: fault.Misconfigured, Field: "STORAGE_PREFIX",
			Detail: fmt.Sprintf("%s; it must hold 1 to %d lower-case letters and digits, the first a letter", held, maxPrefix),
		}
	}
	return Names{Correlations: prefix + "correlations", Index: prefix + "index", Queue: prefix + "-advance"}, nil
}
