package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"ticketbridge/handler/callers"
	"ticketbridge/handler/fault"
)

// setSetting is the command that sets an app setting.
func setSetting(name, value string) string {
	return fmt.Sprintf("az functionapp config appsettings set -g <group> -n <app> --settings %s=%s", name, value)
}

// settings reports each of the problems that whoever read them found, one of each setting.
func (x *examination) settings(_ context.Context, r *report) {
	var seen []string
	for _, err := range flat(x.Problems) {
		e, ok := errors.AsType[*fault.Error](err)
		if !ok {
			r.fail("", "Correct the settings; see the table in README.md.", "%s", err)
			continue
		}
		if slices.Contains(seen, e.Field) {
			continue
		}
		seen = append(seen, e.Field)
		remedy := e.Advice
		if remedy == "" && e.Field != "" {
			remedy = setSetting(e.Field, "…")
		}
		if remedy == "" {
			remedy = "Correct the settings; see the table in README.md."
		}
		r.fail(e.Field, remedy, "%s", e.Detail)
	}
	if len(r.lines) == 0 {
		r.ok("", "they can be used")
	}
}

// flat takes joined errors apart.
func flat(errs []error) []error {
	var out []error
	for _, err := range errs {
		if many, ok := err.(interface{ Unwrap() []error }); ok {
			out = append(out, flat(many.Unwrap())...)
		} else if err != nil {
			out = append(out, err)
		}
	}
	return out
}

func (x *examination) rules(_ context.Context, r *report) {
	switch {
	case x.RulesError != nil:
		saw, _, more := strings.Cut(detail(x.RulesError), "\n")
		if more {
			first, _, _ := strings.Cut(detail(x.RulesError)[len(saw)+1:], "\n")
			saw = strings.TrimSuffix(saw, ":") + ": " + first
		}
		r.fail("", "Correct the file: `handler tickets check` says all that is wrong with it.", "%s", saw)
	case x.Rules == nil:
		r.skip("", "not checked, because settings are not right")
	case x.RulesFile == "":
		r.ok("", "there is no rules file: the built-in rules apply")
	default:
		if odd := x.Rules.Warnings(); len(odd) > 0 {
			r.warn("", "See `handler tickets check`, and correct the file or leave it as it is meant.", "%s can be used, with %s; the first: %s", x.RulesFile, plural(len(odd), "warning"), odd[0].Text)
			return
		}
		r.ok("", "%s is right", x.RulesFile)
	}
}

func detail(err error) string {
	if e, ok := errors.AsType[*fault.Error](err); ok {
		return e.Detail
	}
	return err.Error()
}

// doors says what the two endpoints ask of whoever calls them. What the Functions host asks for stands in the functions' own files, which the start checks.
func (x *examination) doors(_ context.Context, r *report) {
	if x.CalloutAudience != "" {
		r.ok("callout", "asks for a function key, and a token for %s", x.CalloutAudience)
	} else {
		r.ok("callout", "asks for a function key")
	}
	switch {
	case x.CloseAudience != "" && x.CloseSigned:
		r.ok("ticket-closed", "asks for a function key, a token for %s, and a signature", x.CloseAudience)
	case x.CloseAudience != "":
		r.ok("ticket-closed", "asks for a function key, and a token for %s", x.CloseAudience)
	case x.CloseSigned:
		r.ok("ticket-closed", "asks for a function key, and a signature")
	default:
		r.warn("ticket-closed", "Let ServiceNow sign its calls: "+setSetting("CLOSE_HMAC_KEY", "$(openssl rand -base64 32)")+", and give the same key to the companion app.",
			"asks for a function key only: whoever has it can have tickets looked at, though not closed")
	}
}

// keys looks whether the tenant's keys can be had, with which the tokens of callers are checked.
func (x *examination) keys(ctx context.Context, r *report) {
	if x.CalloutAudience == "" && x.CloseAudience == "" {
		r.ok("", "not needed: no door asks for a token")
		return
	}
	if x.TenantID == "" {
		r.skip("", "not checked, because settings are not right: AZURE_TENANT_ID")
		return
	}
	authority := strings.TrimRight(x.AuthorityHost, "/")
	if authority == "" {
		authority = callers.PublicAuthority
	}
	const remedy = "Check AZURE_TENANT_ID and AZURE_AUTHORITY_HOST, and that the app's network lets it reach the authority. Until the keys can be had every callout is answered 503."
	status, body, err := x.get(ctx, authority+"/"+x.TenantID+"/discovery/v2.0/keys", "")
	var keys struct {
		Keys []json.RawMessage `json:"keys"`
	}
	switch {
	case err != nil:
		r.fail("", remedy, "%s does not answer: %s", host(authority), err)
	case status != http.StatusOK || json.Unmarshal(body, &keys) != nil || len(keys.Keys) == 0:
		r.fail("", remedy, "%s answers with status %d and no keys for tenant %s", host(authority), status, x.TenantID)
	default:
		r.ok("", "%s of tenant %s from %s", plural(len(keys.Keys), "key"), x.TenantID, host(authority))
	}
}

// get makes a call without a client of ours. The error says no more than why there was no answer.
func (x *examination) get(ctx context.Context, address, token string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, nil, errors.New("the address is none")
	}
	req.Header.Set("Accept", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := x.http.Do(req)
	if err != nil {
		return 0, nil, silence(ctx, err)
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(io.LimitReader(resp.Body, 4<<20)); err != nil {
		return 0, nil, silence(ctx, err)
	}
	return resp.StatusCode, body, nil
}
