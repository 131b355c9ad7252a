package doctor

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// What Entra waits for the answer to a callout unless the extension says otherwise, and what it takes for a yes.
const (
	entraWaits = time.Second
	accepted   = http.StatusAccepted
)

// connectionTest is what entitlement management sends when somebody tries the connection: it is answered, and nothing is remembered.
const connectionTest = `{"Stage":"CustomExtensionConnectionTest"}`

// try sends a connection test to the app, as Entra would, twice: the first may have to wake it.
func (x *examination) try(ctx context.Context, r *report) {
	if x.AppURL == "" {
		app := "<app>.azurewebsites.net"
		if x.AppHost != "" {
			app = x.AppHost
		}
		r.skip("", "not checked, because it was not asked for: handler doctor -url https://%s, with the function's key in CALLOUT_KEY or typed in after -key", app)
		return
	}
	address := strings.TrimRight(x.AppURL, "/")
	if !calls(address) {
		address += calloutPath
	}
	first, err := x.send(ctx, address)
	if err != nil {
		r.fail("", "See that the app runs: az functionapp show -g <group> -n <app> --query state; and that this machine may reach it (access restrictions).", "no answer: %s", err)
		return
	}
	if !x.answered(r, first) {
		return
	}
	second, err := x.send(ctx, address)
	if err != nil {
		r.fail("", "Look at the log of the app.", "answered once, and then not: %s", err)
		return
	}
	const awake = "Keep an instance ready: az functionapp scale config always-ready set -g <group> -n <app> --settings http=1; and give the extension timeoutInMilliseconds 2000 and maximumRetries 1."
	switch ms := func(d time.Duration) string { return d.Round(time.Millisecond).String() }; {
	case second.took > entraWaits:
		r.warn("", awake, "answered with status %d in %s, and Entra waits for %s", second.status, ms(second.took), entraWaits)
	case first.took > entraWaits:
		r.warn("", awake, "answered with status %d in %s, and Entra waits for %s; once awake in %s", first.status, ms(first.took), entraWaits, ms(second.took))
	default:
		r.ok("", "%s, in %s and %s; Entra waits for %s", first.says(), ms(first.took), ms(second.took), entraWaits)
	}
}

// reply is what the app answered.
type reply struct {
	status    int
	challenge string
	took      time.Duration
}

func (a reply) says() string {
	if a.status == accepted {
		return "the connection test was accepted"
	}
	return "it asks for a token, as it is set up to, which only Entra and the relay have"
}

// answered says whether the answer is one that a well-built app gives; another is reported.
func (x *examination) answered(r *report, a reply) bool {
	bearer := strings.HasPrefix(strings.ToLower(a.challenge), "bearer")
	const key = "Use the key that this says: az functionapp function keys list -g <group> -n <app> --function-name callout --query default -o tsv"
	switch {
	case a.status == accepted && x.CalloutAudience != "":
		r.fail("", "Restart the app, so that it reads its settings: az functionapp restart -g <group> -n <app>", "it took a call without a token, though CALLOUT_AUDIENCE is set here")
	case a.status == accepted, a.status == http.StatusUnauthorized && bearer && x.CalloutAudience != "":
		return true
	case a.status == http.StatusUnauthorized && bearer:
		r.fail("", "Set CALLOUT_AUDIENCE here as the app has it: az functionapp config appsettings list -g <group> -n <app>", "it asks for a token, and CALLOUT_AUDIENCE is not set here")
	case a.status == http.StatusUnauthorized && x.AppKey == "":
		r.fail("", key+"; put it into CALLOUT_KEY.", "status 401: it asks for a function key, and none was given")
	case a.status == http.StatusUnauthorized:
		r.fail("", key, "status 401: the function key is not right")
	case a.status == http.StatusNotFound:
		r.fail("", "Check -url, and publish the app: make deploy", "status 404: there is no function callout")
	case a.status == http.StatusServiceUnavailable:
		r.fail("", "Look at the lines above: the app says 503 when its storage, or the tenant's keys, do not answer.", "status 503: it does not take calls now")
	default:
		r.fail("", "Look at the log of the app.", "status %d, where Entra takes nothing but %d", a.status, accepted)
	}
	return false
}

// send makes the call. The key goes into a header, which no log has.
func (x *examination) send(ctx context.Context, address string) (reply, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(connectionTest))
	if err != nil {
		return reply{}, fmt.Errorf("%s is no address", host(address))
	}
	req.Header.Set("Content-Type", "application/json")
	if x.AppKey != "" {
		req.Header.Set("x-functions-key", x.AppKey)
	}
	start := time.Now()
	resp, err := x.http.Do(req)
	if err != nil {
		return reply{}, silence(ctx, err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	return reply{resp.StatusCode, resp.Header.Get("WWW-Authenticate"), time.Since(start)}, nil
}
