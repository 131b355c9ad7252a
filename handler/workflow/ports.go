package workflow

import (
	"context"
	"time"

	"ticketbridge/handler/callout"
	"ticketbridge/handler/correlation"
	"ticketbridge/handler/ticket"
)

// A Store keeps correlations, their callouts and timelines, and the list of open ones. Every error is a *fault.Error: NotFound,
// Exists, Conflict as said below; Unreachable, Throttled, Unauthorized, Forbidden or Misconfigured when the storage does not serve;
// Invalid when something is too large to be stored. All methods may be repeated.
type Store interface {
	// Create lists c among the open ones and then stores it with its pending events and the callout's body as it came, all or
	// nothing, and flushes c. It is Exists when a correlation with that key is stored already, which is then unchanged.
	// A listing whose correlation was never stored is harmless: see Unlist.
	Create(ctx context.Context, c *correlation.Correlation, body []byte) error

	// Load returns the correlation, or NotFound.
	Load(ctx context.Context, key correlation.Key) (*correlation.Correlation, error)

	// Callout returns the callout's body as it came, or NotFound.
	Callout(ctx context.Context, key correlation.Key) ([]byte, error)

	// Save stores c and its pending events in one transaction, provided nobody stored it since c was loaded; else it is Conflict
	// and nothing is stored. It flushes c. Properties that a newer version wrote are kept.
	Save(ctx context.Context, c *correlation.Correlation) error

	// Index makes the lists say what c says: its summary and due time among the open ones, or, when c.Settled, among the ended ones
	// of its day and no longer among the open ones.
	Index(ctx context.Context, c *correlation.Correlation) error

	// Unlist removes a key from the list of open ones.
	Unlist(ctx context.Context, key correlation.Key) error

	// Postpone changes the due time in the list of open ones, and nothing else. Not listed is not an error.
	Postpone(ctx context.Context, key correlation.Key, due time.Time) error

	// Due returns up to limit open ones that are due at the given time, in the order of their keys, beginning behind the cursor
	// ("" is the beginning), and the cursor of the next page ("" when there is none). It reads the list of open ones only.
	Due(ctx context.Context, at time.Time, cursor string, limit int) (page []correlation.Summary, next string, err error)

	// Ahead returns how far the storage's clock is ahead of ours. All that is kept there is dated by its clock: whoever works on the same storage then
	// agrees on when a lease ends, however far their own clocks are apart.
	Ahead() time.Duration

	// Mark returns what the sweep left there; the zero Mark when it left nothing.
	Mark(ctx context.Context) (Mark, error)

	// SaveMark stores m and sets its Version, provided nobody stored it since it was loaded; else it is Conflict.
	SaveMark(ctx context.Context, m *Mark) error

	// Purge removes up to most correlations that are settled and ended on a day that lies wholly before the given time, with all that belongs to
	// them, oldest day first. It says how many, through which day nothing is left, and whether there is more. It may be ended anywhere, and
	// goes on the next time.
	Purge(ctx context.Context, before time.Time, most int) (removed int, through time.Time, more bool, err error)

	// KeepUnreadable keeps a message for a person to look at. One that is kept already stays as it is.
	KeepUnreadable(ctx context.Context, u Unreadable) error
}

// A Queue takes messages for Advance.
type Queue interface {
	// Put enqueues text (JSON; how it is wrapped for the wire is the queue's business), to be delivered at least once, not before
	// delay has passed (at most 7 days). Errors as of Store.
	Put(ctx context.Context, text string, delay time.Duration) error

	// Poison returns up to most messages that the host has given up on, and hides them from others for some minutes.
	Poison(ctx context.Context, most int) ([]Poison, error)

	// DropPoison deletes one of them; that it is gone is no error.
	DropPoison(ctx context.Context, p Poison) error
}

// Rules choose the tickets for a callout and say what a ticket's fields mean; *ticket.Rules are the ones.
type Rules interface {
	// Choose returns the tickets that the callout needs. The deadline is when Entra gives up waiting; zero when nothing waits, or nobody
	// knows. Its errors are fault.Misconfigured: no rule matches, or a template fails.
	Choose(c *callout.Callout, deadline time.Time) (ticket.Choice, error)

	// Judge says what the fields of a ticket of the table mean under the rule of the given name. What is closed in a way that nobody mapped
	// is correlation.Unknown.
	Judge(rule, table string, fields map[string]string) ticket.Verdict

	// Aftercare says what is written back for the tickets of the rule of the given name; the zero Aftercare for a rule that is no longer there.
	Aftercare(rule string) ticket.Aftercare
}

// A Mark is what the sweep remembers from one run to the next, in the storage: the next run may be another process's.
type Mark struct {
	Cursor  string    // where a run that ran out of time stopped, in the list of open ones; "" when it came to the end
	Begun   time.Time // when the last run began
	Ended   time.Time // when a run last came to the end of the list
	Purged  time.Time // the day through which everything that ended was removed; zero when nothing was
	Version string    // the storage's ETag; "" before it was stored
}

// Overdue says whether the last sweep began too long ago. It does not say so when none has ever run: the app may have just begun.
func (m Mark) Overdue(now time.Time) bool {
	return !m.Begun.IsZero() && now.Sub(m.Begun) > SweepOverdue
}

// A Poison is a message that the host has given up on: delivered five times, and each time it failed or the process died over it.
type Poison struct {
	ID         string
	Receipt    string // with which it may be deleted
	Text       string // as Put took it; as it is on the wire when that is not base64
	InsertedOn time.Time
}

// An Unreadable is a message of the poison queue that names no correlation, kept for a person to look at.
type Unreadable struct {
	ID         string
	Text       string
	InsertedOn time.Time
	KeptOn     time.Time
	Reason     string // why it cannot be read
}

// Tickets are ServiceNow's. Every error is a *fault.Error: Unreachable (certainly nothing happened), Unclear (it may have happened),
// Throttled with After, Unauthorized, Forbidden, NotFound, Refused (a business rule or data policy said no), Misconfigured.
type Tickets interface {
	// Find returns the records of the table whose correlation_id is exactly the given one, oldest first, at most a handful; none is
	// no error. It compares the answer itself, since ServiceNow ignores a condition on a column that it does not have.
	Find(ctx context.Context, table, correlationID string) ([]ticket.Record, error)

	// Create creates the ticket, or orders its Item and sets its Fields, and returns it as ServiceNow has it. It sends the call that creates
	// once. Anything but a created record that Find finds is an error: Unclear unless it is certain that nothing was created.
	Create(ctx context.Context, d ticket.Draft, correlationID string) (ticket.Record, error)

	// Read returns the record as it is now; NotFound when it was deleted or may not be seen.
	Read(ctx context.Context, table, sysID string) (ticket.Record, error)

	// Note adds a work note.
	Note(ctx context.Context, table, sysID, text string) error

	// FindUser looks an active user up, by principal name and then by e-mail; either may be "". That there is none, or more than one, is no
	// error: found is false.
	FindUser(ctx context.Context, principalName, email string) (sysID string, found bool, err error)

	// FindGroup looks an active group up by its name, as FindUser does.
	FindGroup(ctx context.Context, name string) (sysID string, found bool, err error)

	// Update sets columns of a record. It sends the call once.
	Update(ctx context.Context, table, sysID string, fields map[string]string) error
}

// A Decision is what Graph is told about a paused request.
type Decision string

// The decisions.
const (
	Resume Decision = "resume" // go on
	Deny   Decision = "deny"   // data.state = Denied
	Cancel Decision = "cancel" // data.state = Canceled
)

// Requests are Entra's, through Graph. Every error is a *fault.Error: Unreachable, Unclear, Throttled, Unauthorized, Forbidden (the role is
// missing), NotFound (no such request), Refused (Graph turned it down).
type Requests interface {
	// Answer tells Graph the decision about a stage instance. It sends the call once; nil means that Graph accepted it.
	// The detail is shown to approvers: ticket number and outcome.
	Answer(ctx context.Context, key correlation.Key, stage string, d Decision, detail string) error

	// Read returns how the request stands.
	Read(ctx context.Context, key correlation.Key) (RequestStatus, error)

	// ReadMany returns how up to twenty requests stand, in one call. One that is not in the answer could not be asked about, or is not there any more. The
	// error is about the call, or the first of those that were turned away because there are too many.
	ReadMany(ctx context.Context, keys []correlation.Key) (map[correlation.Key]RequestStatus, error)

	// People returns what Graph says of the requestor and of whom the access is for, as far as it says it.
	People(ctx context.Context, key correlation.Key) ([]callout.Person, error)
}

// A RequestStatus is how a request stands in Entra. State and Status are Graph's accessPackageAssignmentRequest properties; Instance is the
// status of the callout instance that belongs to the stage instance: calloutSent, callbackReceived, calloutFailed, callbackTimedOut or
// waitingForCallback; "" when Graph lists none with that id.
type RequestStatus struct {
	State    string
	Status   string
	Instance string
}
