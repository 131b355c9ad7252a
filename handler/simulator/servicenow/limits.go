package servicenow

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// RateRule limits a user's calls per hour of the clock. Of several rules that match a call, one for the user goes before
// one for everybody, then the lowest limit.
type RateRule struct {
	// User is a User ID; empty is a rule for all, each counted apart.
	User string
	// Method and Path select calls; Path is a prefix such as "/api/now/v2/table/sc_request". Empty matches all.
	Method, Path string
	PerHour      int

	sysID string
}

type rates struct {
	rules  []RateRule
	window time.Time // start of the hour that is counted
	counts map[string]int
}

// SetRateRules replaces the rate rules and begins counting anew.
func (i *Instance) SetRateRules(rules ...RateRule) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.rates = rates{rules: slices.Clone(rules)}
	for n := range i.rates.rules {
		i.rates.rules[n].sysID = newID()
	}
}

// limit counts the call, tells the caller of the rule that applies, and refuses what is too much.
func (i *Instance) limit(w http.ResponseWriter, r *http.Request, user *record) *apiError {
	i.mu.Lock()
	defer i.mu.Unlock()
	name := user.fields["user_name"]
	var rule *RateRule
	for n := range i.rates.rules {
		candidate := &i.rates.rules[n]
		if candidate.User != "" && !strings.EqualFold(candidate.User, name) || candidate.Method != "" && candidate.Method != r.Method ||
			!strings.HasPrefix(r.URL.Path, candidate.Path) {
			continue
		}
		if rule == nil || rule.User == "" && candidate.User != "" || (rule.User == "") == (candidate.User == "") && candidate.PerHour < rule.PerHour {
			rule = candidate
		}
	}
	if rule == nil {
		return nil
	}
	now := time.Now()
	hour := now.Truncate(time.Hour)
	if !hour.Equal(i.rates.window) || i.rates.counts == nil {
		i.rates.window, i.rates.counts = hour, map[string]int{}
	}
	reset := hour.Add(time.Hour)
	h := w.Header()
	h.Set("X-RateLimit-Limit", strconv.Itoa(rule.PerHour))
	h.Set("X-RateLimit-Reset", strconv.FormatInt(reset.Unix(), 10))
	h.Set("X-RateLimit-Rule", rule.sysID)
	key := rule.sysID + " " + name
	if i.rates.counts[key] >= rule.PerHour {
		wait := int(reset.Sub(now).Round(time.Second) / time.Second)
		h.Set("Retry-After", strconv.Itoa(max(1, wait)))
		return &apiError{http.StatusTooManyRequests, "Rate limit exceeded", fmt.Sprintf("Rate limit of %d requests per hour exceeded", rule.PerHour)}
	}
	i.rates.counts[key]++
	return nil
}
