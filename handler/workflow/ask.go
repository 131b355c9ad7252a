package workflow

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"ticketbridge/handler/callout"
	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
)

const (
	askAtOnce   = 20 // requests that Graph is asked about in one call: as many as it takes in a batch
	denialTries = 9  // attempts to deny without a clear answer before it is left to a person, some 70 minutes: Graph may not be able to at this stage
	peopleTry   = 3  // attempts to look people up before a ticket is opened without what they would have said
)

// askInBatches asks Graph how the requests of a page of the sweep stand, and returns those of which it says that they still wait. One that does not wait any more, or could not
// be asked about, is not among them: whoever gets its message asks for himself, and acts on that answer only.
func (w *Workflow) askInBatches(ctx context.Context, page []correlation.Summary) map[correlation.Key]bool {
	var keys []correlation.Key
	for _, sum := range page {
		if w.asksInSweep(sum) {
			keys = append(keys, sum.Key)
		}
	}
	wait := map[correlation.Key]bool{}
	for batch := range slices.Chunk(keys, askAtOnce) {
		if !hasTime(ctx, w.Policy.withDefaults().GraphTimeout+sweepReserve) {
			break
		}
		for key, st := range w.askAbout(ctx, batch) {
			if s := st.standing(); s == waiting || s == unsaid {
				wait[key] = true
			}
		}
	}
	return wait
}

// asksInSweep says whether the message for it would have Graph asked how the request stands.
func (w *Workflow) asksInSweep(sum correlation.Summary) bool {
	return !sum.Deadline.IsZero() && (sum.State == correlation.Open || sum.State.NeedsPerson()) && w.now().Before(sum.Deadline)
}

func (w *Workflow) askAbout(ctx context.Context, keys []correlation.Key) map[correlation.Key]RequestStatus {
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, correlationKey, keys[0]), w.Policy.withDefaults().GraphTimeout)
	defer cancel()
	stand, err := w.requests().ReadMany(ctx, keys)
	if err != nil {
		zerolog.Ctx(ctx).Warn().Err(err).Int("count", len(keys)).Msg("cannot ask Graph in a batch whether requests still wait; each is asked about by itself")
	}
	return stand
}

// toldWaiting says whether the sweep has just heard from Graph that the request still waits.
func (s *step) toldWaiting(now time.Time) bool {
	age := now.Sub(s.m.Sent)
	return s.m.Waiting && age >= 0 && age < s.p.CheckInterval
}

// findPeople asks Graph for what the callout does not say of whom it is about: the e-mail address and the principal name. Microsoft's own samples of the callout have them in
// some places and not in others. Without them the ticket is opened all the same. The error is one that time may mend.
func (s *step) findPeople(ctx context.Context, in *callout.Callout) error {
	target, by := &in.Assigned.Target, &in.By
	lacks := func(p *callout.Person) bool { return p.ObjectID != "" && p.Email == "" && p.PrincipalName == "" }
	if s.NoLookUp || !lacks(target) && !lacks(by) {
		return nil
	}
	call, cancel := context.WithTimeout(ctx, s.p.GraphTimeout)
	defer cancel()
	people, err := s.requests().People(call, s.c.Key)
	switch {
	case err != nil && fault.ReasonOf(err).Temporary() && (fault.Is(err, fault.Paused) || s.c.Attempts+1 < peopleTry):
		return err
	case err != nil:
		s.c.Note(s.now(), "the callout has neither e-mail address nor principal name of a person, and Graph could not be asked: "+brief(err), invocation(ctx))
		return nil
	}
	found := false
	for _, p := range []*callout.Person{target, by} {
		if !lacks(p) {
			continue
		}
		for _, known := range people {
			if known.ObjectID == "" || !strings.EqualFold(known.ObjectID, p.ObjectID) {
				continue
			}
			p.Email, p.PrincipalName = known.Email, known.PrincipalName
			found = found || !lacks(p)
		}
	}
	if !found {
		s.c.Note(s.now(), "neither the callout nor Graph has an e-mail address or a principal name of the person", invocation(ctx))
	}
	return nil
}
