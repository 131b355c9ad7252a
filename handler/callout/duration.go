package callout

import (
	"errors"
	"regexp"
	"strconv"
	"time"
)

var isoDuration = regexp.MustCompile(`^P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:\.\d+)?S)?)?$`)

// ParseDuration reads an ISO 8601 duration of weeks, days, hours, minutes and seconds, as in "P14D" or "PT5M". Years and months have no
// fixed length and are refused, as is a duration of nothing or of more than a year.
func ParseDuration(s string) (time.Duration, error) {
	bad := errors.New(`is not an ISO 8601 duration such as "P14D" or "PT1H"`)
	m := isoDuration.FindStringSubmatch(s)
	if m == nil {
		return 0, bad
	}
	units := []time.Duration{7 * 24 * time.Hour, 24 * time.Hour, time.Hour, time.Minute, time.Second}
	var d time.Duration
	for i, u := range units {
		if m[i+1] == "" {
			continue
		}
		n, err := strconv.Atoi(m[i+1])
		if err != nil || n > int(366*24*time.Hour/u) {
			return 0, bad
		}
		d += time.Duration(n) * u
	}
	if d <= 0 || d > 366*24*time.Hour {
		return 0, bad
	}
	return d, nil
}
