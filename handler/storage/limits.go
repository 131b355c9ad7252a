package storage

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"ticketbridge/handler/fault"
)

// What Microsoft documents for Table Storage and Queue Storage ("Understanding the Table service data model", "Performing entity group
// transactions", "Put Message").
const (
	pageSize        = 1000     // entities in one answer
	maxOperations   = 100      // operations in one transaction
	maxTransaction  = 4 << 20  // bytes of one transaction
	maxEntity       = 1 << 20  // bytes of one entity, by the documented way to count
	maxProperties   = 252      // beside the three system properties
	maxUnits        = 32 << 10 // UTF-16 code units of a string property
	maxBinary       = 64 << 10 // bytes of a binary property
	maxKey          = 512      // UTF-16 code units of a key: 1 KiB
	maxMessage      = 64 << 10 // bytes of a message's text on the wire
	maxMessages     = 32       // messages in one answer
	maxInvisible    = 7 * 24 * time.Hour
	messageLifetime = 7 * 24 * time.Hour
)

// MaxCallout is the size in bytes of the largest callout that can be stored: with its keys, and cut into properties of 64 KiB, it fills one entity.
const MaxCallout = 1048002

var (
	minTime = time.Date(1601, 1, 1, 0, 0, 0, 0, time.UTC)
	maxTime = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// checkTransaction says what of the operations Table Storage would not take: fault.Invalid, naming the property where it is one.
func checkTransaction(ops []operation) error {
	if len(ops) > maxOperations {
		return tooLarge("", fmt.Sprintf("is a transaction of %d operations; at most %d fit", len(ops), maxOperations))
	}
	total := 0
	for _, o := range ops {
		size, err := checkEntity(o.entity)
		if err != nil {
			return err
		}
		total += size
	}
	if total > maxTransaction {
		return tooLarge("", fmt.Sprintf("is a transaction of %d bytes; at most %d fit", total, maxTransaction))
	}
	return nil
}

// checkEntity says what of an entity Table Storage would not take, and returns how large it is on the wire, near enough.
func checkEntity(e entity) (wire int, err error) {
	for _, k := range []struct{ name, value string }{{"PartitionKey", e.partition}, {"RowKey", e.row}} {
		if !validKey(k.value) {
			return 0, tooLarge(k.name, fmt.Sprintf("%.80q cannot be a key of Table Storage", k.value))
		}
	}
	if len(e.props) > maxProperties {
		return 0, tooLarge("", fmt.Sprintf("is an entity of %d properties; at most %d fit", len(e.props), maxProperties))
	}
	size := 4 + 2*(units(e.partition)+units(e.row))
	wire = 1000 + len(e.partition) + len(e.row) // the headers of an operation
	for name, v := range e.props {
		size += 8 + 2*units(name)
		wire += len(name) + 8
		switch v := v.(type) {
		case string:
			n := units(v)
			if n > maxUnits {
				return 0, tooLarge(name, fmt.Sprintf("has %d characters; at most %d fit", n, maxUnits))
			}
			size += 4 + 2*n
			wire += len(v)
		case []byte:
			if len(v) > maxBinary {
				return 0, tooLarge(name, fmt.Sprintf("has %d bytes; at most %d fit", len(v), maxBinary))
			}
			size += 4 + len(v)
			wire += len(v)*4/3 + 30
		case time.Time:
			if v.Before(minTime) || v.After(maxTime) {
				return 0, tooLarge(name, "is a time before 1601 or after 9999")
			}
			size += 8
			wire += 60
		case int64, float64:
			size += 8
			wire += 50
		case int32:
			size += 4
			wire += 11
		case bool:
			size++
			wire += 5
		default:
			return 0, &fault.Error{Op: "check entity", Reason: fault.Internal, Field: name, Detail: fmt.Sprintf("a %T cannot be stored", v)}
		}
	}
	if size > maxEntity {
		return 0, tooLarge("", fmt.Sprintf("is an entity of %d bytes; at most %d fit", size, maxEntity))
	}
	return wire, nil
}

func tooLarge(field, detail string) error {
	return &fault.Error{Op: "check what is to be stored", Reason: fault.Invalid, Field: field, Detail: detail}
}

// validKey says whether s may be a partition or row key: at most 1 KiB, and none of / \ # ? and control characters.
func validKey(s string) bool {
	return units(s) <= maxKey && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return r < 0x20 || r >= 0x7f && r <= 0x9f || r == '/' || r == '\\' || r == '#' || r == '?'
	})
}

// units counts the UTF-16 code units of s, as Table Storage does.
func units(s string) int {
	n := 0
	for _, r := range s {
		if n++; r > 0xffff {
			n++
		}
	}
	return n
}

// clean replaces what Table Storage does not keep in a string: bytes that are no UTF-8, and control characters other than tabs and line ends.
func clean(s string) string {
	ok := func(r rune) bool {
		return r == '\t' || r == '\n' || r == '\r' || r >= 0x20 && r != 0xfffe && r != 0xffff
	}
	if utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !ok(r) }) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if ok(r) {
			return r
		}
		return utf8.RuneError
	}, s)
}

// clip shortens s to so many UTF-16 code units, the last of them an ellipsis.
func clip(s string, most int) string {
	if len(s) <= most || units(s) <= most {
		return s
	}
	n := 0
	for i, r := range s {
		n++
		if r > 0xffff {
			n++
		}
		if n >= most {
			return s[:i] + "…"
		}
	}
	return s
}

// chunks cuts s into pieces of at most so many UTF-16 code units; no piece for an empty string.
func chunks(s string, most int) []string {
	var out []string
	start, n := 0, 0
	for i, r := range s {
		w := 1
		if r > 0xffff {
			w = 2
		}
		if n+w > most {
			out = append(out, s[start:i])
			start, n = i, 0
		}
		n += w
	}
	if start < len(s) {
		out = append(out, s[start:])
	}
	return out
}

// instant brings t to what Table Storage keeps: UTC, in steps of 100 ns.
func instant(t time.Time) time.Time { return t.UTC().Truncate(100 * time.Nanosecond) }
