package storage

import (
	"context"
	"errors"
	"time"
)

// An entity is one row of a table. Property values are string, bool, int32, int64, float64, time.Time or []byte.
type entity struct {
	partition, row string
	etag           string // as it was read; of a merge in a transaction, the version it must still have
	props          map[string]any
}

// tables is what the Store needs of Table Storage. A table need not be made before it is written to, and one that was never written to is
// empty. Every error is a *fault.Error: NotFound, Exists and Conflict as said below, Invalid when something is too large, and those of a
// storage that does not serve. Exists and Conflict carry errRepeated when they may be the answer to an earlier sending of the same call.
type tables interface {
	// get returns one entity, or NotFound.
	get(ctx context.Context, table, partition, row string) (entity, error)
	// insert adds an entity, or is Exists.
	insert(ctx context.Context, table string, e entity) error
	// merge sets the given properties of an entity, whatever its version, and keeps the others; or is NotFound.
	merge(ctx context.Context, table string, e entity) error
	// put is merge, and insert when there is no such entity.
	put(ctx context.Context, table string, e entity) error
	// remove deletes an entity, whatever its version, or is NotFound.
	remove(ctx context.Context, table, partition, row string) error
	// query returns entities in the order of their keys, and where to go on; "" when there are no more. A page may be empty and not be the
	// last.
	query(ctx context.Context, table string, q query) (page []entity, next string, err error)
	// transact does all operations, on one partition, or none, and returns the new ETags in order, "" for what is deleted. It is Exists when
	// an entity to be inserted is there, Conflict when one to be merged or deleted has another version, NotFound when that is not there.
	transact(ctx context.Context, table string, ops []operation) (etags []string, err error)
}

// What an operation of a transaction does with its entity.
type verb int

const (
	inserts verb = iota // it is not there
	merges              // it is there with the same etag, and keeps the properties that are not given
	deletes             // it is there with the same etag, or with any when that is ""
)

type operation struct {
	does verb
	entity
}

// A query selects entities of one partition, or of all in a range.
type query struct {
	partition   string
	first, end  string    // when partition is "": first <= partition key < end
	from, below string    // from <= row key < below; "" is no bound
	after       string    // row key > after; "" is no bound
	record      string    // the property Record has this value; "" is any
	due         time.Time // the property Due is not later than this; zero is any
	keys        bool      // without properties
	top         int       // at most so many, and never more than pageSize
	next        string    // as the page before said: a partition key, a line end and a row key
}

// errRepeated says that a call was sent more than once, since an answer was missing: what the last answer complains about may be our own doing.
var errRepeated = errors.New("the call was sent more than once")

// queues is what is needed of Queue Storage, for the Queue and for whoever polls one. Texts are as on the wire. Durations are whole
// seconds. Every error is a *fault.Error: NotFound when there is no such queue, or no such message with that pop receipt.
type queues interface {
	create(ctx context.Context, queue string) error
	put(ctx context.Context, queue, text string, visibleIn, ttl time.Duration) error
	get(ctx context.Context, queue string, most int, invisible time.Duration) ([]QueueMessage, error)
	extend(ctx context.Context, queue, id, popReceipt string, invisible time.Duration) (newReceipt string, err error)
	remove(ctx context.Context, queue, id, popReceipt string) error
	// depth returns how many messages there are, near enough.
	depth(ctx context.Context, queue string) (int, error)
}
