package storage

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// A clock learns from the answers of a storage account how far its clock is ahead of ours, so that all processes agree on the time. It is a
// policy of the clients' pipelines.
type clock struct{ ahead atomic.Int64 }

// Do sends the call on, and looks at the Date of its answer.
func (c *clock) Do(req *policy.Request) (*http.Response, error) {
	sent := time.Now()
	resp, err := req.Next()
	if err == nil {
		c.learn(resp.Header.Get("Date"), sent, time.Now())
	}
	return resp, err //nolint:wrapcheck // the pipeline's own errors
}

// learn takes what an answer says. A Date is cut to whole seconds and was written between sending and receiving, so it says between which bounds the
// difference lies; each answer narrows them, and in one that took long they lie too far apart to say anything new.
func (c *clock) learn(date string, sent, received time.Time) {
	at, err := http.ParseTime(date)
	if err != nil {
		return
	}
	low, high := int64(at.Sub(received)), int64(at.Add(time.Second).Sub(sent))
	for {
		held := c.ahead.Load()
		if c.ahead.CompareAndSwap(held, min(max(held, low), high)) {
			return
		}
	}
}

// Ahead returns how far the storage's clock is ahead of ours, negative when it is behind; 0 until something was asked of it, and for less than a
// second, which is more than the answers tell exactly.
func (s *Store) Ahead() time.Duration {
	if s.clock == nil {
		return 0
	}
	d := time.Duration(s.clock.ahead.Load())
	if d.Abs() < time.Second {
		return 0
	}
	return d
}
