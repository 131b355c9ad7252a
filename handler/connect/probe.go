package connect

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// connectionTest is the callout of the Entra admin center's connection test.
const connectionTest = `{"Stage":"CustomExtensionConnectionTest"}`

// testTimeout is longer than Entra waits: a function that starts is told from one that is not there.
const testTimeout = 20 * time.Second

// Test sends a connection test to the function's URL and says in words what came of it. The caller has no token as entitlement management has one, so that
// to be asked for one is as good an answer as any.
func (c *Connector) Test(ctx context.Context, target string) (text string, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, testTimeout)
	defer cancel()
	at := plainURL(target)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(connectionTest))
	if err != nil {
		return "the function's URL cannot be called: " + at, false
	}
	req.Header.Set("Content-Type", "application/json")
	client := &http.Client{Transport: c.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	begun := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Sprintf("the function does not answer at %s; see that it is deployed and runs", at), false
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	_ = resp.Body.Close()
	took := time.Since(begun).Round(time.Millisecond)
	switch resp.StatusCode {
	case http.StatusAccepted:
		text, ok = fmt.Sprintf("a connection test was taken at %s", at), true
	case http.StatusUnauthorized, http.StatusForbidden:
		text, ok = fmt.Sprintf("the function answers at %s, and asks for a key or a token (status %d), which a connection test from here does not bring", at, resp.StatusCode), true
	case http.StatusNotFound:
		return fmt.Sprintf("nothing is at %s (status 404); the path is /api/callout", at), false
	default:
		return fmt.Sprintf("the function answers a connection test at %s with status %d, not 202", at, resp.StatusCode), false
	}
	if took > 2*time.Second {
		text += fmt.Sprintf("; it took %s, and Entra waits 2s at most: the next call should be quicker, or the plan must keep an instance ready", took.Round(100*time.Millisecond))
	}
	return text, ok
}
