package servicenow

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"unicode"

	"ticketbridge/handler/fault"
)

// FindUser looks an active user up, by principal name (ServiceNow's user_name) and, if that finds nobody, by e-mail; either may be "". That there is none, or
// more than one, is no error: found is false. It is fault.Misconfigured when ServiceNow ignored the condition and answered with anybody.
func (c *Client) FindUser(ctx context.Context, principalName, email string) (sysID string, found bool, err error) {
	for _, by := range []struct{ column, value string }{{"user_name", principalName}, {"email", email}} {
		if !queryable(by.value) {
			continue
		}
		if sysID, err = c.findUser(ctx, by.column, by.value); err != nil || sysID != "" {
			return sysID, sysID != "", err
		}
	}
	return "", false, nil
}

// findUser returns the sys_id of the one active user whose column has the value, or "".
func (c *Client) findUser(ctx context.Context, column, value string) (string, error) {
	k := call{op: "find user", method: http.MethodGet, table: "sys_user", success: http.StatusOK, about: value, query: url.Values{
		"sysparm_query": {column + "=" + value + "^active=true"}, "sysparm_fields": {"sys_id,active," + column},
		"sysparm_limit": {"2"}, "sysparm_exclude_reference_link": {"true"}, "sysparm_display_value": {"false"},
	}}
	a, err := c.do(ctx, k)
	if err != nil {
		return "", err
	}
	rows, err := a.records()
	if err != nil {
		return "", err
	}
	matching := 0
	for _, row := range rows {
		if strings.EqualFold(row[column], value) && !strings.EqualFold(row["active"], "false") && validSysID(row["sys_id"]) {
			matching++
		}
	}
	switch {
	case len(rows) == 1 && matching == 1:
		return rows[0]["sys_id"], nil
	case len(rows) < 2, matching == 2: // nobody, somebody else whose name the database takes for the same (é for e), or several
		return "", nil
	}
	return "", &fault.Error{
		Op: k.op, Reason: fault.Misconfigured, Field: column, Status: a.status, Detail: "ServiceNow answered with users who were not asked for: the condition was ignored",
		Advice: "Let the integration user read and query user_name, email and active of sys_user.",
	}
}

// queryable says whether value may stand in a query. In ServiceNow ^ begins another condition, "javascript:" is executed, and operators may be words or
// signs; so nothing is let in but what names and addresses are made of. Who is called otherwise is not looked up.
func queryable(value string) bool {
	if value == "" || len(value) > 200 {
		return false
	}
	for _, r := range value {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-+'#@~!$&", r) {
			return false
		}
	}
	return true
}
