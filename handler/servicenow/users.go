package servicenow

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode"

	"ticketbridge/handler/fault"
)

// FindUser looks an active user up, by principal name (ServiceNow's user_name) and, if that finds nobody, by e-mail; either may be "". That there is none, or
// more than one, is no error: found is false. It is fault.Misconfigured when ServiceNow ignored the condition and answered with anybody.
// Whoever was found is remembered for ten minutes, and that nobody was for one.
func (c *Client) FindUser(ctx context.Context, principalName, email string) (sysID string, found bool, err error) {
	for _, by := range []struct{ column, value string }{{"user_name", principalName}, {"email", email}} {
		if !queryable(by.value) {
			continue
		}
		if sysID, found, err = c.findOne(ctx, "find user", "sys_user", by.column, by.value); err != nil || found {
			return sysID, found, err
		}
	}
	return "", false, nil
}

// FindGroup looks an active group up by its name. Otherwise as FindUser.
func (c *Client) FindGroup(ctx context.Context, name string) (sysID string, found bool, err error) {
	if !queryableName(name) {
		return "", false, nil
	}
	return c.findOne(ctx, "find group", "sys_user_group", "name", name)
}

// findOne returns the sys_id of the one active record of the table whose column has the value, in whatever case, as it is remembered or as ServiceNow says.
func (c *Client) findOne(ctx context.Context, op, table, column, value string) (sysID string, found bool, err error) {
	return c.found.get(ctx, op, table+" "+column+" "+strings.ToLower(value), func(ctx context.Context) (string, bool, error) {
		ids, err := c.lookUp(ctx, op, table, column, value)
		if err != nil || len(ids) != 1 {
			return "", false, err
		}
		return ids[0], true, nil
	})
}

// lookUp returns the sys_ids of the active records of the table whose column has the value: none, one, or two for several.
func (c *Client) lookUp(ctx context.Context, op, table, column, value string) ([]string, error) {
	k := call{op: op, method: http.MethodGet, table: table, success: http.StatusOK, about: value, query: url.Values{
		"sysparm_query": {column + "=" + value + "^active=true"}, "sysparm_fields": {"sys_id,active," + column},
		"sysparm_limit": {"2"}, "sysparm_exclude_reference_link": {"true"}, "sysparm_display_value": {"false"},
	}}
	a, err := c.do(ctx, k)
	if err != nil {
		return nil, err
	}
	rows, err := a.records()
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, row := range rows {
		if strings.EqualFold(row[column], value) && !strings.EqualFold(row["active"], "false") && validSysID(row["sys_id"]) {
			ids = append(ids, row["sys_id"])
		}
	}
	if len(rows) >= 2 && len(ids) != 2 {
		return nil, &fault.Error{
			Op: k.op, Reason: fault.Misconfigured, Field: column, Status: a.status, Detail: "ServiceNow answered with records of " + table + " that were not asked for: the condition was ignored",
			Advice: "Let the integration user read and query " + column + " and active of " + table + ".",
		}
	}
	return ids, nil // one other row is somebody whose name the database takes for the same (é for e)
}

// hidden says that ServiceNow counted records and showed none: it leaves out what we may not read.
func (a *answer) hidden() bool {
	total, err := strconv.Atoi(a.header.Get("X-Total-Count"))
	return err == nil && total > 0
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

// queryableName says whether the name of a group or a catalog item, which administrators gave, may stand in a query after "name=". Such names hold spaces,
// brackets, colons and more; what ends the condition or is executed they do not.
func queryableName(name string) bool {
	if name == "" || len(name) > 200 || strings.TrimSpace(name) != name || strings.Contains(strings.ToLower(name), "javascript:") {
		return false
	}
	for _, r := range name {
		if r == '^' || r == unicode.ReplacementChar || !unicode.IsGraphic(r) {
			return false
		}
	}
	return true
}
