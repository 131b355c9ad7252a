package simulation

import (
	"context"
	"slices"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/workflow"
)

// look lets an operator look at what is open, and do something about some of it: as a rule about what waits for a person, now and then about
// anything. He works with the commands, which are a process of their own.
func (w *world) look() {
	w.after(w.between(10*time.Minute, w.operators), w.look)
	open, _, err := w.store.Open(context.Background(), "", 0)
	if err != nil {
		panic(err)
	}
	var list []correlation.Summary
	for _, s := range open {
		if s.State.NeedsPerson() && w.chance(0.3) || w.chance(0.02) && time.Now().Before(w.calm) {
			list = append(list, s)
		}
	}
	for _, s := range list {
		w.order(s)
		if w.chance(0.1) {
			w.order(s) // and a colleague as well
		}
	}
}

func (w *world) order(sum correlation.Summary) {
	s := w.stages[sum.Key.String()]
	if s == nil {
		return // it was never acknowledged: there is nothing to see but its listing
	}
	move := pick(w, "retry", "retry", "retry", "hold", "resume", "deny", "deny")
	in := &instance{name: "operator"}
	w.desks = append(w.desks, in)
	skew := w.between(-w.skew, w.skew)
	operator := workflow.Operator{Store: skewed{w.store, skew, w.between(-time.Second, time.Second)}, Queue: skewedQueue{w.queue, w, skew}, Policy: w.policy}
	if move == "resume" {
		s.byHand = true // from here on it is this person's word
	}
	w.start(in, "operator "+move, sum.Key.String(), time.Minute, func(ctx context.Context) error {
		var err error
		switch move {
		case "retry":
			_, err = operator.Retry(ctx, sum.Key, "Pat", "it should work now")
		case "hold":
			_, err = operator.Hold(ctx, sum.Key, "Pat", "I want to look at it first")
		case "resume":
			_, err = operator.Decide(ctx, sum.Key, workflow.Resume, "Pat", "the work was done otherwise")
		case "deny":
			_, err = operator.Decide(ctx, sum.Key, workflow.Deny, "Pat", "it is not wanted")
		}
		return err
	}, func(err error, died bool) {
		w.desks = slices.DeleteFunc(w.desks, func(other *instance) bool { return other == in })
		switch {
		case died, fault.ReasonOf(err).Temporary():
			w.count("operator: " + move + " that did not work")
		case err != nil:
			w.count("operator: " + move + " refused")
		default:
			w.count("operator: " + move)
		}
	})
}
