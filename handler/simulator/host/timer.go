package host

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/robfig/cron/v3"
)

// A schedule is when a timer function is to run.
type schedule interface {
	// next is the first time after another one.
	next(after time.Time) time.Time
	// minutely says whether the runs are never less than a minute apart: only then the host remembers when it ran.
	minutely(from time.Time) bool
	String() string
}

// timerOptions are those of a timer function.
type timerOptions struct {
	schedule  schedule
	onStartup bool
	monitor   bool // when it ran is remembered
}

// fixed is a schedule of equal distances.
type fixed time.Duration

func (d fixed) next(after time.Time) time.Time { return after.Add(time.Duration(d)) }
func (d fixed) minutely(time.Time) bool        { return time.Duration(d) >= time.Minute }
func (d fixed) String() string                 { return "Constant: " + spanText(time.Duration(d)) }

// crontab is a schedule in NCRONTAB: six fields, the first of them seconds, or five without it.
type crontab struct {
	spec *cron.SpecSchedule
	text string
}

func (c crontab) next(after time.Time) time.Time {
	for t := after.UTC(); ; {
		if t = c.spec.Next(t); t.IsZero() {
			return forever
		}
		// The parser's schedule takes a day that either field names, NCRONTAB one that both do.
		if c.spec.Dom&(1<<uint(t.Day())) != 0 && c.spec.Dow&(1<<uint(t.Weekday())) != 0 {
			return t
		}
	}
}

func (c crontab) minutely(from time.Time) bool {
	at := c.next(from)
	for range 10 {
		then := c.next(at)
		if then.Sub(at) < time.Minute {
			return false
		}
		at = then
	}
	return true
}

func (c crontab) String() string { return "Cron: '" + c.text + "'" }

// parseSchedule reads a schedule: NCRONTAB, or a duration.
func parseSchedule(text string) (schedule, error) {
	if d, err := timeSpan(text); err == nil && d > 0 {
		return fixed(d), nil
	}
	bad := fmt.Errorf("The schedule expression '%s' was not recognized as a valid cron expression or timespan string.", text) //nolint:staticcheck // the host's words
	if n := len(strings.Fields(text)); n != 5 && n != 6 || strings.ContainsAny(text, "?@=") {
		return nil, bad
	}
	parser := cron.NewParser(cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)
	s, err := parser.Parse(text)
	if err != nil {
		return nil, bad
	}
	spec := s.(*cron.SpecSchedule)
	spec.Location = time.UTC
	return crontab{spec, text}, nil
}

// State is what the host keeps in blob storage: when each timer last ran, and which host may run it. The zero value is an empty one. A lock ends with
// its host, also when that crashed, where Azure would wait for its lease to end.
type State struct {
	mu     sync.Mutex
	status map[string]status
	locks  map[string]*Host
	freed  chan struct{} // closed at the next unlock
}

// status is that of a timer.
type status struct{ last, next, updated time.Time }

// year1 is .NET's first moment, which is no time at all.
var year1 time.Time

// load returns what is known of a timer.
func (s *State) load(timer string) (status, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, ok := s.status[timer]
	return st, ok
}

func (s *State) store(timer string, st status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status == nil {
		s.status = map[string]status{}
	}
	s.status[timer] = st
}

// lock waits until the timer is this host's alone.
func (s *State) lock(ctx context.Context, timer string, h *Host) bool {
	for {
		s.mu.Lock()
		if s.locks == nil {
			s.locks, s.freed = map[string]*Host{}, make(chan struct{})
		}
		if s.locks[timer] == nil {
			s.locks[timer] = h
			s.mu.Unlock()
			return true
		}
		freed := s.freed
		s.mu.Unlock()
		select {
		case <-freed:
		case <-ctx.Done():
			return false
		}
	}
}

// unlock gives up all that a host has.
func (s *State) unlock(h *Host) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.locks == nil {
		return
	}
	for t, o := range s.locks {
		if o == h {
			delete(s.locks, t)
		}
	}
	close(s.freed)
	s.freed = make(chan struct{})
}

// tick runs a timer function when it is due, until the host stops. Runs never overlap.
func (h *Host) tick(f *function) {
	if !h.c.State.lock(h.taking, f.name, h) {
		return
	}
	t := f.timer
	h.log(Information, "Host.Triggers.Timer", "The '%s' timer is using the schedule '%s' and the local time zone: '(UTC) Coordinated Universal Time'", f.name, t.schedule)
	now := time.Now()
	pastDue := t.monitor && h.checkPastDue(f, now)
	due := t.schedule.next(now)
	switch {
	case pastDue:
		h.log(Information, "Host.Triggers.Timer", "Function '%s' is past due on startup. Executing now.", f.name)
		due = now
	case t.onStartup:
		h.log(Information, "Host.Triggers.Timer", "Function '%s' is configured to run on startup. Executing now.", f.name)
		due = now
	}
	for sleep(h.taking, max(0, time.Until(due))) {
		fired := time.Now()
		ran := make(chan struct{})
		h.trigger(func(ctx context.Context) {
			defer close(ran)
			_ = h.runTimer(ctx, f, pastDue, nil, "Timer fired at "+offsetTime(fired))
		})
		<-ran
		due, pastDue = t.schedule.next(fired), false
		if t.monitor && h.alive.Err() == nil {
			h.c.State.store(f.name, status{fired, due, fired})
		}
	}
}

// checkPastDue says whether a run was missed while no host was there. What is not known yet is remembered.
func (h *Host) checkPastDue(f *function, now time.Time) bool {
	s := f.timer.schedule
	st, ok := h.c.State.load(f.name)
	if !ok {
		if !f.timer.onStartup {
			h.c.State.store(f.name, status{year1, s.next(now), now})
		}
		return false
	}
	since := st.last
	if since.IsZero() {
		since = st.updated
	}
	if expected := s.next(since); !st.next.Equal(expected) { // the schedule is another one
		if now.After(expected) {
			expected = s.next(now)
		}
		st = status{year1, expected, now}
		h.c.State.store(f.name, st)
	}
	return now.After(st.next)
}

// runTimer calls a timer function. An error is that it failed. An operator may give an input, which is of no use.
func (h *Host) runTimer(ctx context.Context, f *function, pastDue bool, input *string, reason string) error {
	id := uuid.NewString()
	_, err := invoke(ctx, h, f, id, reason, func(ctx context.Context) (*result, error) {
		var metadata object
		if input != nil {
			metadata.set(f.binding, quoted(*input))
		}
		metadata.set("sys", sys(f))
		var known any
		if f.timer.monitor {
			st, ok := h.c.State.load(f.name)
			if !ok {
				st.next = f.timer.schedule.next(time.Now())
			}
			known = object{{"Last", offsetTime(st.last)}, {"Next", offsetTime(st.next)}, {"LastUpdated", offsetTime(st.updated)}}
		}
		data := object{{"Schedule", object{{"AdjustForDST", true}}}, {"ScheduleStatus", known}, {"IsPastDue", pastDue}}
		return h.post(ctx, f, id, envelope(f, data, metadata))
	})
	return err
}

var errNoTimer = errors.New("there is no such timer function")

// FireTimer lets a timer function run now, out of turn, as an operator does, and returns when it has run: an error is that it failed.
func (h *Host) FireTimer(ctx context.Context, function string) error {
	for _, f := range h.app.functions {
		if f.kind != timerKind || f.err != nil || f.name != function {
			continue
		}
		done := make(chan error, 1)
		h.trigger(func(ctx context.Context) { done <- h.runTimer(ctx, f, false, nil, programmatically) })
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errNoTimer
}
