package servicenow

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode"

	"ticketbridge/handler/fault"
)

// FindUser looks an active user up, by principal name (ServiceNow's user_name) and then by e-mail; either may be "". That there is none, or
// more than one, is no error: found is false. What was found is remembered for a quarter of an hour, what was not for a minute.
func (c *Client) FindUser(ctx context.Context, principalName, email string) (sysID string, found bool, err error) {
	key := strings.ToLower(principalName) + "\n" + strings.ToLower(email)
	if id, known := c.users.get(key); known {
		return id, id != "", nil
	}
	for _, by := range []struct{ column, value string }{{"user_name", principalName}, {"email", email}} {
		if !queryable(by.value) {
			continue
		}
		if sysID, err = c.findUser(ctx, by.column, by.value); err != nil {
			return "", false, err
		}
		if sysID != "" {
			break
		}
	}
	c.users.put(key, sysID)
	return sysID, sysID != "", nil
}

// findUser returns the sys_id of the one active user whose column has the value, or "".
func (c *Client) findUser(ctx context.Context, column, value string) (string, error) {
	a, err := c.do(ctx, call{op: "find user", method: http.MethodGet, table: "sys_user", query: url.Values{
		"sysparm_query": {column + "=" + value + "^active=true"}, "sysparm_fields": {"sys_id,active," + column},
		"sysparm_limit": {"2"}, "sysparm_exclude_reference_link": {"true"},
	}})
	if err != nil {
		return "", err
	}
	rows, err := a.records()
	if err != nil {
		return "", err
	}
	for _, row := range rows {
		if !strings.EqualFold(row[column], value) || strings.EqualFold(row["active"], "false") || !validSysID(row["sys_id"]) {
			return "", &fault.Error{
				Op: "find user", Reason: fault.Misconfigured, Field: column, Status: a.status, Detail: "ServiceNow answered with users who were not asked for: the condition was ignored",
				Advice: "Let the integration user read and query user_name, email and active of sys_user.",
			}
		}
	}
	if len(rows) != 1 {
		return "", nil
	}
	return rows[0]["sys_id"], nil
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

// A userCache remembers look-ups. Its zero value is empty.
type userCache struct {
	mu   sync.Mutex
	seen map[string]userEntry
}

type userEntry struct {
	sysID string
	until time.Time
}

const maxUsers = 1000

func (u *userCache) get(key string) (sysID string, known bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	e, ok := u.seen[key]
	return e.sysID, ok && time.Now().Before(e.until)
}

func (u *userCache) put(key, sysID string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.seen == nil || len(u.seen) >= maxUsers {
		u.seen = map[string]userEntry{}
	}
	keep := 15 * time.Minute
	if sysID == "" {
		keep = time.Minute
	}
	u.seen[key] = userEntry{sysID, time.Now().Add(keep)}
}
