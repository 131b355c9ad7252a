package storage

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
)

// dated answers every call as an account whose clock is ahead, after the time that a call takes.
type dated struct{ ahead time.Duration }

func (d *dated) Do(req *http.Request) (*http.Response, error) {
	time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
	at := time.Now().Add(d.ahead)
	time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
	return &http.Response{
		Request: req, StatusCode: 404, Header: http.Header{"Date": {at.UTC().Format(http.TimeFormat)}, "Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(`{"odata.error":{"code":"ResourceNotFound"}}`)),
	}, nil
}

// Whatever our own clock says, and when it is set meanwhile: after a few answers we know the storage's to a tenth of a second.
func TestTheStoragesClockIsKnownFromItsAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		account := &dated{}
		s, _, err := NewAzure(Settings{ConnectionString: "UseDevelopmentStorage=true", Prefix: "clock", Transport: account})
		if err != nil {
			t.Fatal(err)
		}
		if s.Ahead() != 0 {
			t.Errorf("before anything was asked: %s", s.Ahead())
		}
		for _, ahead := range []time.Duration{3 * time.Minute, -7 * time.Minute, 0, 2500 * time.Millisecond} {
			account.ahead = ahead
			for n := range 40 {
				time.Sleep(time.Duration(rand.IntN(3000)) * time.Millisecond)
				if _, err := s.Load(context.Background(), correlation.Key{Request: "r", Stage: "s"}); !fault.Is(err, fault.NotFound) {
					t.Fatal(err)
				}
				if off := s.Ahead() - ahead; n == 0 && off.Abs() > 2200*time.Millisecond || n == 39 && off.Abs() > 200*time.Millisecond {
					t.Errorf("%s ahead: after %d answers it is taken for %s", ahead, n+1, s.Ahead())
				}
			}
		}
	})
}

func TestADateThatIsNoneTeachesNothing(t *testing.T) {
	c := &clock{}
	now := time.Now()
	for _, date := range []string{"", "yesterday", now.String()} {
		c.learn(date, now, now)
	}
	c.learn(now.Add(time.Hour).UTC().Format(http.TimeFormat), now, now.Add(2*time.Hour)) // it took too long to say anything
	if got := time.Duration(c.ahead.Load()); got != 0 {
		t.Errorf("it is taken for %s", got)
	}
}
