package workflow_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/servicenow"
)

// fates are all that can become of an effect.
func (e effect) fates() []fate {
	all := []fate{killedBefore, killedAfter, refused, lost, unheard, overdue}
	if e.doing == "advance" || e.doing == "sweep" { // an answer to a caller is due long before
		all = append(all, tardy)
	}
	return all
}

// crashSeed chooses what is not tried each time: the same in each run, so that a run that fails was made to by what was changed. CRASH_SEED is another choice,
// CRASH_SEED=random a new one each time, and CRASH_SEED=all tries everything.
var crashSeed = sync.OnceValues(func() (seed uint64, all bool) {
	switch s := os.Getenv("CRASH_SEED"); s {
	case "":
		return 1, false
	case "random":
		return rand.Uint64N(1_000_000), false
	case "all":
		return 0, true
	default:
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			panic("CRASH_SEED must be a number, random or all: " + s)
		}
		return n, false
	}
})

// chance is the same for the same seed and name.
func chance(name string) *rand.Rand {
	seed, _ := crashSeed()
	second := uint64(0)
	for _, b := range []byte(name) {
		second = second*31 + uint64(b)
	}
	return rand.New(rand.NewPCG(seed, second))
}

// undisturbed is the life of a kind to which nothing happens. Its effects are the crash points.
func undisturbed(t *testing.T, k kind) *life {
	t.Helper()
	var l *life
	inWorld(t, k.setup, func(w *world) {
		l = k.live(w, nil)
		l.report(t, w)
	})
	if len(l.effects) < 12 {
		t.Fatalf("only %d effects: %v", len(l.effects), l.effects)
	}
	return l
}

// oneIn says how many of the failures of a kind that is not of the core there are for one that is tried.
const oneIn = 10

// For each outside effect of each kind of life, and for each of its fates: the life lived again with it.
func TestAtEveryCrashPointOfEveryLifeNothingIsLostAndNothingHappensTwice(t *testing.T) {
	seed, everything := crashSeed()
	var kindsOfCore, points, possible, lived, hits atomic.Int64
	t.Run("kinds", func(t *testing.T) {
		for _, k := range kinds() {
			t.Run(k.String(), func(t *testing.T) {
				t.Parallel()
				if k.core() {
					kindsOfCore.Add(1)
				}
				choice := chance(k.String())
				effects := undisturbed(t, k).effects
				points.Add(int64(len(effects)))
				for n, e := range effects {
					for _, f := range e.fates() {
						possible.Add(1)
						if skip := choice.IntN(oneIn) > 0; skip && !everything && !k.core() {
							continue
						}
						inWorld(t, k.setup, func(w *world) {
							l := k.live(w, map[int]fate{n + 1: f})
							met := w.wire.met()
							if len(met) != 1 || met[0].effect != e {
								l.wrong("planned for %s, and hit %v", e, met)
							}
							l.checkTime(met)
							l.report(t, w)
							hits.Add(int64(len(met)))
						})
						lived.Add(1)
						if t.Failed() {
							t.Fatalf("CRASH_SEED=%d", seed)
						}
					}
				}
			})
		}
	})
	chosen := fmt.Sprintf("all of the core, 1 in %d of the others, CRASH_SEED=%d", oneIn, seed)
	if everything {
		chosen = "all"
	}
	t.Logf("counts: %d kinds of life (%d of the core) with %d crash points and %d failures at them; %d of these lived through (%s): %d hit",
		len(kinds()), kindsOfCore.Load(), points.Load(), possible.Load(), lived.Load(), chosen, hits.Load())
	if lived.Load() != hits.Load() {
		t.Errorf("%d failures were planned, and %d hit", lived.Load(), hits.Load())
	}
}

// checkTime holds the life to the promise that the sweep is quicker than the host, which brings a dead process's message back after ten minutes only.
func (l *life) checkTime(met []hit) {
	limit := 8 * time.Minute
	if len(met) == 1 && l.hintLost(met[0]) { // the next look at the ticket is due within ten minutes
		limit = 12 * time.Minute
	}
	if l.swept() { // so it was due to be found
		limit += 6 * time.Minute
	}
	if l.took > limit {
		l.wrong("it took %s", l.took)
	}
	if l.told > 14*time.Minute { // whoever was to tell them died, and the next look is due within ten minutes
		l.wrong("its tickets were told %s later", l.told)
	}
}

// hintLost says whether the process had heard that a ticket closed, and put nothing on record of it yet.
func (l *life) hintLost(h hit) bool {
	for i := h.number - 1; i >= 0; i-- {
		switch e := l.effects[i]; {
		case e.doing == "ticket closed":
			return true
		case i == h.number-1 && h.fate != killedAfter:
		case e.what == "transact correlations", e.what == "merge index":
			return false
		}
	}
	return false
}

// Two effects of one life go wrong. The second may be one that comes only because of the first, or may not come any more.
func TestAfterTwoFailuresInOneLifeNothingIsLostAndNothingHappensTwice(t *testing.T) {
	const pairs, workers = 600, 4
	seed, _ := crashSeed()
	var both, first, changed atomic.Int64
	all := kinds()
	t.Run("pairs", func(t *testing.T) {
		for part := range workers {
			t.Run(fmt.Sprint("part ", part+1), func(t *testing.T) {
				t.Parallel()
				choice := chance(fmt.Sprint("pairs ", part))
				known := map[kind][]effect{}
				for range pairs / workers {
					k := all[choice.IntN(len(all))]
					if known[k] == nil {
						known[k] = undisturbed(t, k).effects
					}
					effects := known[k]
					a := choice.IntN(len(effects))
					b := a + 1 + choice.IntN(len(effects)-a+4)
					fates := effect{doing: "advance"}.fates()
					plan := map[int]fate{a + 1: effects[a].fates()[choice.IntN(len(effects[a].fates()))], b + 1: fates[choice.IntN(len(fates))]}
					inWorld(t, k.setup, func(w *world) {
						l := k.live(w, plan)
						met := w.wire.met()
						if len(met) == 0 || met[0].effect != effects[a] {
							l.wrong("planned for %s, and hit %v", effects[a], met)
						}
						l.report(t, w)
						switch {
						case len(met) == 2:
							both.Add(1)
							if b >= len(effects) || met[1].effect != effects[b] {
								changed.Add(1)
							}
						default:
							first.Add(1)
						}
					})
					if t.Failed() {
						t.Fatalf("CRASH_SEED=%d", seed)
					}
				}
			})
		}
	})
	t.Logf("counts: %d pairs of failures (CRASH_SEED=%d): both hit in %d, of which in %d the second hit another effect than it would have without the first; in %d the life ended before the second",
		both.Load()+first.Load(), seed, both.Load(), changed.Load(), first.Load())
	if both.Load() < pairs/2 {
		t.Errorf("only %d of %d pairs were hit twice", both.Load(), pairs)
	}
}

// Each message comes ten times at the same time, to two instances, and each effect takes its time, so that they meet everywhere.
func TestAMessageThatComesTenTimesDoesWhatItDoesOnce(t *testing.T) {
	seed, _ := crashSeed()
	var messages atomic.Int64
	t.Run("kinds", func(t *testing.T) {
		for _, k := range kinds() {
			if !k.core() && k.stage != "assignmentRequestRemoved" {
				continue
			}
			t.Run(k.String(), func(t *testing.T) {
				t.Parallel()
				inWorld(t, k.setup, func(w *world) {
					w.another()
					w.copies = 9
					choice := chance("ten times " + k.String())
					w.wire.pause = func(e effect) time.Duration {
						if e.doing == "callout" || e.doing == "ticket closed" {
							return 0
						}
						return time.Duration(choice.IntN(400)) * time.Millisecond
					}
					l := k.live(w, nil)
					l.report(t, w)
					for _, e := range l.effects {
						if e == (effect{"advance", "get correlations"}) {
							messages.Add(1)
						}
					}
				})
				if t.Failed() {
					t.Fatalf("CRASH_SEED=%d", seed)
				}
			})
		}
	})
	t.Logf("counts: %d deliveries (CRASH_SEED=%d)", messages.Load(), seed)
}

// A message over which the process dies, or that fails, each time: the host gives up on it after five, and the sweep makes that visible.
func TestAMessageThatFailsFiveTimesEndsAsAFailedRequestThatAPersonSees(t *testing.T) {
	for _, dies := range []bool{false, true} {
		t.Run(map[bool]string{false: "the storage serves neither tables nor queue", true: "the process dies"}[dies], func(t *testing.T) {
			t.Parallel()
			inWorld(t, nil, func(w *world) {
				w.restarts = true
				w.silent = dies // else the sweep sends another message, and that one does not come five times
				well := w.opened()
				w.tap.reset(func(_ int, op string) fate {
					switch {
					case dies && op == "find user":
						return killedBefore
					case !dies && (op == "load" || op == "put" && w.called("load") > 0):
						return refused
					}
					return passes
				})
				key := w.submit(entra.NewRequest{Policy: w.sample.LedgerPolicy})
				if !w.run(2*time.Hour, func() bool { return len(w.poisoned) > 0 }) {
					w.Fatalf("no poison\n%s", w.timeline(key))
				}
				w.tap.reset(nil)
				w.silent = false
				c := w.until(key, correlation.Failed)
				if c.Reason == "" || c.Advice == "" || len(w.poisoned) != 1 {
					t.Errorf("failed because %q, advice %q, poison %q", c.Reason, c.Advice, w.poisoned)
				}
				if open, _ := w.lists(key); !open {
					t.Error("it is not on the list of open ones")
				}
				w.check(key)
				w.close(well, servicenow.Closing{Outcome: servicenow.Complete}) // the others go on
				w.until(well, correlation.Resumed)
				w.check(well)
				if n := w.left(); n > 0 {
					t.Errorf("%d messages are left in the poison queue", n)
				}
			})
		})
	}
}
