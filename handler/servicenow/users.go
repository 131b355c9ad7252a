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
		if sysID, err = c.findOne(ctx, "find user", "sys_user", by.column, by.value); err != nil || sysID != "" {
			return sysID, sysID != "", err
		}
	}
	return "", false, nil
}

// FindGroup looks an active group up by its name. Otherwise as FindUser.
func (c *Client) FindGroup(ctx context.Context, name string) (sysID string, found bool, err error) {
	if !queryable(strings.NewReplacer(" ", "", "(", "", ")", "", ",", "", "/", "").Replace(name)) {
		return "", false, nil
	}
	sysID, err = c.findOne(ctx, "find group", "sys_user_group", "name", name)
	return sysID, sysID != "", err
}

// findOne returns the sys_id of the one active record of the table whose column has the value, or "".
func (c *Client) findOne(ctx context.Context, op, table, column, value string) (string, error) {
	k := call{op: op, method: http.MethodGet, table: table, success: http.StatusOK, about: value, query: url.Values{
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
		Op: k.op, Reason: fault.Misconfigured, Field: column, Status: a.status, Detail: "ServiceNow answered with records of " + table + " that were not asked for: the condition was ignored",
		Advice: "Let the integration user read and query " + column + " and active of " + table + ".",
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
