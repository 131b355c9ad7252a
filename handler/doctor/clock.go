package doctor

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// How far a clock may be off. Callers' tokens and signatures are taken for 5 minutes beyond their time, and tokens of ours by others likewise.
const (
	skewOdd   = 2 * time.Minute
	skewWrong = 5 * time.Minute
)

// A reading is what a clock shows, compared with ours.
type reading struct {
	of    string
	ahead time.Duration
}

// clock compares the clocks of those that we talk to with our own, by the Date of an answer, whatever it is. When all that answer differ alike, ours is wrong.
func (x *examination) clock(ctx context.Context, r *report) {
	var mu sync.Mutex
	var seen []reading
	var wait sync.WaitGroup
	for of, address := range map[string]string{"Graph": x.GraphURL + "/organization", "ServiceNow": x.ServiceNowURL} {
		if host(address) == "" {
			continue
		}
		wait.Go(func() {
			if ahead, ok := x.ahead(ctx, address); ok {
				mu.Lock()
				defer mu.Unlock()
				seen = append(seen, reading{of, ahead})
			}
		})
	}
	wait.Wait()
	if x.Store != nil {
		seen = append(seen, reading{"storage", x.Store.Ahead().Round(time.Second)})
	}
	slices.SortFunc(seen, func(a, b reading) int { return strings.Compare(a.of, b.of) })
	if len(seen) == 0 {
		r.skip("", "not checked, because nobody answered")
		return
	}
	var wrong []reading
	var names []string
	for _, one := range seen {
		names = append(names, one.of)
		if one.ahead.Abs() > skewOdd {
			wrong = append(wrong, one)
		}
	}
	if len(wrong) == 0 {
		r.ok("", "those of %s agree with this machine's", strings.Join(names, ", "))
		return
	}
	if len(wrong) == len(seen) && len(seen) > 1 && alike(wrong) {
		r.clock("this machine", -wrong[0].ahead, "Set this machine's clock: timedatectl set-ntp true")
		return
	}
	for _, one := range wrong {
		remedy := "Have the instance's administrators look at the server's clock, or at what answers in its place."
		if one.of != "ServiceNow" {
			remedy = "Look at what answers in its place (a proxy?), and at this machine's clock: timedatectl set-ntp true"
		}
		r.clock(one.of, one.ahead, remedy)
	}
}

func (r *report) clock(of string, ahead time.Duration, remedy string) {
	kind, word := Warning, "ahead"
	if ahead.Abs() > skewWrong {
		kind = Failure
	}
	if ahead < 0 {
		word = "behind"
	}
	r.add(kind, of, remedy, "its clock is %s %s; tokens and signatures are taken within %s", ahead.Abs().Round(time.Second), word, skewWrong)
}

// alike says whether the readings differ by less than what two calls do.
func alike(list []reading) bool {
	low, high := list[0].ahead, list[0].ahead
	for _, one := range list {
		low, high = min(low, one.ahead), max(high, one.ahead)
	}
	return high-low < 30*time.Second
}

// ahead asks for nothing, as nobody, and looks at the date of the answer.
func (x *examination) ahead(ctx context.Context, address string) (time.Duration, bool) {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, address, nil)
	if err != nil {
		return 0, false
	}
	sent := time.Now()
	resp, err := x.http.Do(req)
	if err != nil {
		return 0, false
	}
	_ = resp.Body.Close()
	took := time.Since(sent)
	at, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil || took > skewOdd/2 {
		return 0, false
	}
	return at.Sub(sent.Add(took / 2)).Round(time.Second), true
}
