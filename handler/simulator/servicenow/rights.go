package servicenow

import (
	"net/http"
	"slices"
	"strings"
)

// Operation is what a caller does with a record.
type Operation string

// The operations that rights and policies tell apart.
const (
	Create Operation = "create"
	Read   Operation = "read"
	Write  Operation = "write"
	Delete Operation = "delete"
)

// Denial takes a right away from a user, as an ACL does. What may not be read looks as if it were not there: 404, or
// missing from a list. What may not be created, written or deleted is 403. A field that may not be written is dropped
// without a word, one that may not be read is left out.
type Denial struct {
	Table     string // of the record or a parent of its table
	Operation Operation
	// Query limits the denial to the records that match this encoded query; empty is all.
	Query string
	// Field limits it to one field.
	Field string
}

// User is a record of sys_user, and what it may not do.
type User struct {
	// SysID is chosen when empty.
	SysID string
	// UserName is the User ID; for a managed identity its object id.
	UserName string
	// Password allows basic authentication; empty does not.
	Password string
	Name     string
	Email    string
	Inactive bool
	// WebServiceAccessOnly marks a user that cannot log in to the pages.
	WebServiceAccessOnly bool
	Denied               []Denial
}

// Policy is a data policy or a business rule that refuses a write with 403.
type Policy struct {
	Table     string
	Operation Operation
	// Mandatory are fields that must not be empty afterwards.
	Mandatory []string
	// Abort is the name of a business rule that refuses every such operation.
	Abort string
}

// SetPolicies replaces the data policies and business rules.
func (i *Instance) SetPolicies(policies ...Policy) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.policies = slices.Clone(policies)
}

// SetDenied replaces what a user may not do; a user who is not there stays so.
func (i *Instance) SetDenied(userName string, denied ...Denial) {
	i.auth.mu.Lock()
	defer i.auth.mu.Unlock()
	i.auth.denied[strings.ToLower(userName)] = slices.Clone(denied)
}

func (i *Instance) may(user *record, op Operation, rec *record) bool {
	for _, d := range i.auth.deniedTo(user) {
		if d.Field != "" || d.Operation != op || !rec.table.is(d.Table) {
			continue
		}
		if d.Query == "" {
			return false
		}
		if q, nothing := i.parseQuery(rec.table, d.Query, true); !nothing && i.matches(q, rec) {
			return false
		}
	}
	return true
}

func (i *Instance) mayField(user *record, op Operation, t *table, field string) bool {
	for _, d := range i.auth.deniedTo(user) {
		if d.Field == field && d.Operation == op && t.is(d.Table) {
			return false
		}
	}
	return true
}

func (i *Instance) policy(t *table, op Operation, rec *record, values map[string]string) *apiError {
	for _, p := range i.policies {
		if !t.is(p.Table) || p.Operation != op {
			continue
		}
		if p.Abort != "" {
			return &apiError{
				http.StatusForbidden, "Operation Failed",
				"Operation against file '" + t.name + "' was aborted by Business Rule '" + p.Abort + "'. Business Rule Stack:" + p.Abort,
			}
		}
		var missing []string
		for _, name := range p.Mandatory {
			value, written := values[name]
			if !written && rec != nil {
				value = rec.fields[name]
			}
			if value == "" {
				missing = append(missing, t.labelOf(name))
			}
		}
		if len(missing) > 0 {
			return &apiError{http.StatusForbidden, "Operation Failed", "Data Policy Exception: Following fields are mandatory: " + strings.Join(missing, ", ")}
		}
	}
	return nil
}

func (t *table) labelOf(column string) string {
	if c := t.columns[column]; c != nil {
		return c.Label
	}
	return column
}
