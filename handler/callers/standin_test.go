package callers

import (
	"net/http"
	"testing"
	"time"

	"ticketbridge/handler/fault"
	standin "ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/misbehave"
)

// The stand-in's tokens and keys are written from Microsoft's documents by other hands than this package.
func TestOnTheStandInTokensAreJudgedAsByEntra(t *testing.T) {
	t.Parallel()
	d := standin.New(standin.Config{})
	t.Cleanup(d.Close)
	stop, err := d.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	start := func() *Verifier {
		v, err := New(Config{Setting: "CALLOUT", TenantID: d.TenantID(), AuthorityHost: d.BaseURL(), Audience: "api://" + appID, Callers: []string{callerID}, Patience: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	v := start()
	for _, tc := range []struct {
		name  string
		token standin.Token
		want  fault.Reason
	}{
		{"version 1", standin.Token{Audience: "api://" + appID, AppID: callerID}, ""},
		{"version 2", standin.Token{Audience: appID, AppID: callerID, Version: 2}, ""},
		{"another caller", standin.Token{Audience: appID, AppID: strangeID, Version: 2}, fault.Forbidden},
		{"another audience", standin.Token{Audience: "https://graph.microsoft.com", AppID: callerID}, fault.Unauthorized},
		{"expired", standin.Token{Audience: appID, AppID: callerID, Lifetime: -time.Hour}, fault.Unauthorized},
		{"a stranger's signature", standin.Token{Audience: appID, AppID: callerID, Stranger: true}, fault.Unauthorized},
		{"none", standin.Token{Audience: appID, AppID: callerID, Header: m{"alg": "none"}}, fault.Unauthorized},
		{"HS256", standin.Token{Audience: appID, AppID: callerID, Header: m{"alg": "HS256"}}, fault.Unauthorized},
		{"RS384", standin.Token{Audience: appID, AppID: callerID, Header: m{"alg": "RS384"}}, fault.Unauthorized},
		{"another tenant", standin.Token{Audience: appID, AppID: callerID, Claims: m{"tid": otherID}}, fault.Unauthorized},
	} {
		if err := v.Check(call("Bearer "+d.IssueToken(tc.token)), nil); fault.ReasonOf(err) != tc.want {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
	old := "Bearer " + d.IssueToken(standin.Token{Audience: appID, AppID: callerID})
	d.RotateKeys(true)
	if err := v.Check(call("Bearer "+d.IssueToken(standin.Token{Audience: appID, AppID: callerID})), nil); err != nil {
		t.Errorf("after a rotation: %v", err)
	}
	if err := v.Check(call(old), nil); err != nil {
		t.Errorf("an older token after a rotation: %v", err)
	}
	d.AuthorityFaults.Add(misbehave.Fault{Status: http.StatusServiceUnavailable})
	if err := v.Check(call(old), nil); err != nil {
		t.Errorf("during an outage: %v", err)
	}
	if err := start().Check(call(old), nil); !fault.Is(err, fault.Unreachable) {
		t.Errorf("a verifier without keys during an outage: %v, want unreachable", err)
	}
}
