package console_test

import (
	"net/http"
	"testing"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
)

func TestWhatOperatorsDidIsShownWithWhoAndWhy(t *testing.T) {
	atNoon(t, func(t *testing.T) {
		s := &store{}
		came := time.Now().Add(-time.Hour)
		order := func(why string, after time.Duration) correlation.Order {
			return correlation.Order{By: "kim@example.com", Why: why, At: came.Add(after)}
		}
		s.put(1, came, func(c *correlation.Correlation) {
			must(c.Fail(came.Add(time.Minute), "no rule matches", "correct the rules", fault.Misconfigured, ""))
			_, err := c.RetryBy(order("the rules are corrected", 2*time.Minute))
			must(err)
			c.Attempted(came.Add(3*time.Minute), came.Add(4*time.Hour), &fault.Error{Op: "find user", Reason: fault.Unreachable}, "")
			_, err = c.RetryBy(order("it is up again", 4*time.Minute))
			must(err)
			_, err = c.HoldBy(order("the manager asks for time", 5*time.Minute))
			must(err)
		})
		s.put(2, came, func(c *correlation.Correlation) {
			must(c.Fail(came.Add(time.Minute), "no rule matches", "correct the rules", fault.Misconfigured, ""))
			_, err := c.DecideBy(order("left the company", 2*time.Minute), correlation.ByHandDeny)
			must(err)
		})
		for kind, h := range map[string]http.Handler{"stand-in": open(t, s), "embedded storage": open(t, s.embedded(t))} {
			get(t, h, at(1)).want(t, kind, 200,
				"Received by kim@example.com To be tried again by hand, in received: the rules are corrected",
				"Operator by kim@example.com To be tried now, by hand, after failed attempt 1: it is up again",
				"Held by kim@example.com Held by hand: the manager asks for time",
				"What to do: Nothing is done with it until somebody says retry, resume or deny.",
				"Stopped while Received",
			)
			get(t, h, at(2)).want(t, kind, 200, "Answering Entra by kim@example.com Graph is to be told to deny, by hand: left the company")
		}
	})
}
