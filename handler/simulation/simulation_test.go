package simulation

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	oneSeed    = flag.Uint64("seed", 0, "play this seed only")
	lifecycles = flag.Int("lifecycles", 2200, "how many stage instances to simulate at least")
	firstSeed  = flag.Uint64("first", 1, "the first seed of those that are played")
	clockSkew  = flag.Duration("skew", 4*time.Minute, "how far the instances' clocks are from the true time, at most")
	part       = flag.String("part", "", "set by the test itself: which of the seeds this process plays, and where it puts the results")
)

// TestWhateverHappensNothingIsLostAndNothingIsDoneTwice plays seed after seed until there were enough lifecycles. Each processor plays a part
// of the seeds in a process of its own, since the source of UUIDs is one for a whole process.
func TestWhateverHappensNothingIsLostAndNothingIsDoneTwice(t *testing.T) {
	if *oneSeed != 0 {
		began := time.Now()
		report(t, []result{simulate(t, *oneSeed, *clockSkew, false)}, began)
		return
	}
	if *part != "" {
		playPart(t)
		return
	}
	began := time.Now()
	parts := runtime.NumCPU()
	results := make([][]result, parts)
	var all sync.WaitGroup
	for i := range parts {
		all.Go(func() {
			file := filepath.Join(t.TempDir(), "results.json")
			self, err := os.Executable()
			if err != nil {
				t.Error(err)
				return
			}
			cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$", "-test.v", fmt.Sprintf("-part=%d/%d/%s", i, parts, file),
				fmt.Sprintf("-lifecycles=%d", *lifecycles), fmt.Sprintf("-first=%d", *firstSeed), "-skew="+clockSkew.String())
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("part %d of %d: %v\n%s", i+1, parts, err, out)
				return
			}
			text, err := os.ReadFile(file)
			if err == nil {
				err = json.Unmarshal(text, &results[i])
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	report(t, slices.Concat(results...), began)
}

// playPart plays every n-th seed, and leaves the results in a file.
func playPart(t *testing.T) {
	t.Helper()
	var i, n int
	var file string
	fields := strings.SplitN(*part, "/", 3)
	if _, err := fmt.Sscanf(fields[0]+" "+fields[1], "%d %d", &i, &n); err != nil {
		t.Fatal(err)
	}
	file = fields[2]
	var results []result
	broken := 0
	for seed, lived := *firstSeed+uint64(i), 0; lived < *lifecycles/n+1 && broken < 3; seed += uint64(n) {
		r := simulate(t, seed, *clockSkew, false)
		if len(r.Violations) > 0 {
			broken++
		}
		lived += r.Lifecycles
		results = append(results, r)
	}
	text, err := json.Marshal(results)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// report prints what was simulated, and fails the test for each seed that broke a promise.
func report(t *testing.T, results []result, began time.Time) {
	t.Helper()
	slices.SortFunc(results, func(a, b result) int { return cmp.Compare(a.Seed, b.Seed) })
	sum := result{Faults: map[string]int{}, Ends: map[string]int{}}
	for _, r := range results {
		sum.Requests += r.Requests
		sum.Lifecycles += r.Lifecycles
		sum.Steps += r.Steps
		sum.Days += r.Days
		sum.Logged += r.Logged
		sum.MostNotes = max(sum.MostNotes, r.MostNotes)
		for k, n := range r.Faults {
			sum.Faults[k] += n
		}
		for k, n := range r.Ends {
			sum.Ends[k] += n
		}
		if len(r.Violations) > 0 {
			if len(sum.Violations) == 0 {
				t.Logf("the first promise was broken in seed %d, within %d lifecycles", r.Seed, sum.Lifecycles)
			}
			sum.Violations = append(sum.Violations, r.Violations...)
			t.Errorf("seed %d broke a promise:\n  %s\nreplay: go test ./handler/simulation -run '^%s$' -v -seed=%d -skew=%s\n%s",
				r.Seed, strings.Join(r.Violations, "\n  "), t.Name(), r.Seed, *clockSkew, r.Story)
		}
	}
	faults := 0
	for _, n := range sum.Faults {
		faults += n
	}
	t.Logf("counts: simulated %d seeds: %d requests, %d lifecycles, %d steps, %.0f days, %d lines of log; the same work note at most %d times; %d faults and oddities; %d violations; took %s",
		len(results), sum.Requests, sum.Lifecycles, sum.Steps, sum.Days, sum.Logged, sum.MostNotes, faults, len(sum.Violations), time.Since(began).Round(time.Millisecond))
	t.Logf("counts: lifecycles by their end: %s", counts(sum.Ends))
	t.Logf("counts: faults and oddities: %s", counts(sum.Faults))
}

func counts(m map[string]int) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%s %d", k, m[k]))
	}
	return strings.Join(out, "; ")
}

// A failure that cannot be played again helps nobody.
func TestASeedIsPlayedTheSameEachTimeAndAnotherOneIsNot(t *testing.T) {
	seen := map[uint64]uint64{}
	for seed := *firstSeed; seed < *firstSeed+4; seed++ {
		a, b := simulate(t, seed, *clockSkew, true), simulate(t, seed, *clockSkew, true)
		if a.Trace != b.Trace || a.Steps != b.Steps || !maps.Equal(a.Ends, b.Ends) || !maps.Equal(a.Faults, b.Faults) {
			for i := range min(len(a.lines), len(b.lines)) {
				if a.lines[i] != b.lines[i] {
					t.Errorf("seed %d, line %d of the trace:\n%s\nand the second time\n%s", seed, i+1, a.lines[i], b.lines[i])
					break
				}
			}
			t.Fatalf("seed %d: %d steps and %d steps, %d and %d lines", seed, a.Steps, b.Steps, len(a.lines), len(b.lines))
		}
		if other, ok := seen[a.Trace]; ok {
			t.Errorf("seeds %d and %d are the same", other, seed)
		}
		seen[a.Trace] = seed
	}
}
