package servicenow

import (
	_ "embed"
	"net/http"

	"ticketbridge/handler/simulator/misbehave"
)

//go:embed hibernating.html
var hibernatingPage string

// SemaphoresExhausted is the 429 of an instance with no free worker: unlike that of a rate rule it says neither which
// limit nor when to come back.
func SemaphoresExhausted(match string, times int) misbehave.Fault {
	return misbehave.Fault{
		Match: match, Times: times, Status: http.StatusTooManyRequests, ContentType: "text/html;charset=UTF-8",
		Body: "<html><head><title>Error report</title></head><body><h1>HTTP Status 429 - Too Many Requests</h1></body></html>\n",
	}
}

// Hibernating is a developer instance asleep: every call is answered 200 with a page for people.
func Hibernating() misbehave.Fault {
	return misbehave.Fault{Status: http.StatusOK, ContentType: "text/html;charset=UTF-8", Body: hibernatingPage}
}

// Maintenance is an instance that is being upgraded: 503 with a page for people.
func Maintenance(times int) misbehave.Fault {
	return misbehave.Fault{
		Times: times, Status: http.StatusServiceUnavailable, ContentType: "text/html;charset=UTF-8",
		Body: "<html><head><title>Maintenance</title></head><body><h1>The instance is under maintenance</h1></body></html>\n",
	}
}

// CancelledTransaction is a call that ran into the time limit for transactions, about 60 s, after it took effect or before: ServiceNow
// has already said 200 when it gives up, and says so only in the body.
func CancelledTransaction(match string, times int, tookEffect bool) misbehave.Fault {
	const text = "Transaction cancelled: maximum execution time exceeded"
	return misbehave.Fault{
		Match: match, Times: times, Status: http.StatusOK, TakeEffect: tookEffect,
		Body: `{"result":[],"error":{"message":"` + text + `","detail":"` + text + ` Check logs for error trace or enable glide.rest.debug property to verify REST request processing"},"status":"failure"}`,
	}
}
