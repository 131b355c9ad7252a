package companion_test

import (
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The page of the app lists what is in the package: whoever installs it on an instance wants to know first.
func TestTheAppsPageListsWhatIsInThePackage(t *testing.T) {
	t.Parallel()
	a := app(t)
	var want []string
	for name := range a.files {
		want = append(want, strings.TrimSpace(name+"  "+a.describe(name)))
	}
	slices.Sort(want)
	page, err := os.ReadFile(appFolder + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, found := strings.Cut(string(page), "<!-- contents -->\n```\n")
	list, _, ended := strings.Cut(list, "\n```")
	if !found || !ended {
		t.Fatal("the page has no list of contents after <!-- contents -->")
	}
	if d := cmp.Diff(want, strings.Split(list, "\n")); d != "" {
		t.Errorf("the list in %s/README.md (- as it should be, + as it is):\n%s\nThe whole list:\n%s", appFolder, d, strings.Join(want, "\n"))
	}
}

// describe says what a file of the package is, as people on the instance see it.
func (a *built) describe(name string) string {
	for _, r := range a.records {
		if r.file != name {
			continue
		}
		f := r.fields
		switch r.table {
		case "sys_security_acl":
			return f["operation"] + " " + f["name"]
		case "sys_security_acl_role":
			for _, acl := range a.all("sys_security_acl") {
				if acl.fields["sys_id"] == f["sys_security_acl"] {
					return acl.fields["operation"] + " " + acl.fields["name"]
				}
			}
		case "sys_dictionary", "sys_choice", "sys_documentation":
			return strings.Trim(f["name"]+"."+f["element"], ".")
		case "sys_rest_message_fn":
			return f["http_method"] + " " + f["function_name"]
		case "sys_module":
			return path.Base(f["path"])
		case "sys_atf_step":
			return f["display_name"]
		}
		for _, column := range []string{"name", "title"} {
			if f[column] != "" {
				if r.table == "sys_app_module" {
					column = "title"
				}
				return f[column]
			}
		}
	}
	return ""
}

// Rules on another scope's tables must be async [ServiceNow's documentation], and an app must not carry access rules for tables that are not its own: they
// would take the place of those that the table inherits, for everybody.
func TestThePackageTouchesNothingOnOthersTablesButItsColumnsAndAnAsyncRule(t *testing.T) {
	t.Parallel()
	a := app(t)
	scope := a.all("sys_app")[0].fields["sys_id"]
	for _, r := range a.records {
		if got := r.fields["sys_scope"]; got != "" && got != scope {
			t.Errorf("%s is of the scope %s", r.file, got)
		}
	}
	for _, r := range a.all("sys_script") {
		if f := r.fields; f["when"] != "async_always" && f["when"] != "async" || f["collection"] != "task" || f["action_update"] != "true" || f["action_insert"] != "false" || f["active"] != "true" {
			t.Errorf("the rule %s: %s %s", f["name"], f["when"], f["collection"])
		}
	}
	for _, r := range a.all("sys_security_acl") {
		table, field, _ := strings.Cut(r.fields["name"], ".")
		if table != "x_tkbr_bridge_outbox" && !strings.HasPrefix(field, "x_tkbr_bridge_") {
			t.Errorf("an access rule for %s", r.fields["name"])
		}
	}
	for _, r := range a.all("sys_dictionary") {
		if f := r.fields; f["name"] != "x_tkbr_bridge_outbox" && !strings.HasPrefix(f["element"], "x_tkbr_bridge_") {
			t.Errorf("the column %s.%s", f["name"], f["element"])
		}
	}
	// Table({augments}) would write this for task, and close it to web services.
	for name, text := range a.files {
		if strings.Contains(text, `ws_access="false"`) && !strings.Contains(text, `<element name="x_tkbr_bridge_outbox" type="collection"`) || strings.HasPrefix(name, "dictionary/task") {
			t.Errorf("%s changes whether web services reach a table", name)
		}
	}
}

func TestOneRoleIsForTheIntegrationUserAndSeesNoOutbox(t *testing.T) {
	t.Parallel()
	a := app(t)
	roles := map[string]string{}
	for _, r := range a.all("sys_user_role") {
		roles[r.fields["sys_id"]] = r.fields["name"]
	}
	granted := map[string][]string{}
	for _, r := range a.all("sys_security_acl_role") {
		for _, acl := range a.all("sys_security_acl") {
			if acl.fields["sys_id"] == r.fields["sys_security_acl"] {
				role := roles[r.fields["sys_user_role"]]
				granted[role] = append(granted[role], acl.fields["operation"]+" "+acl.fields["name"])
			}
		}
	}
	for role := range granted {
		slices.Sort(granted[role])
	}
	want := map[string][]string{
		"x_tkbr_bridge.admin": {"delete x_tkbr_bridge_outbox", "read x_tkbr_bridge_outbox", "write x_tkbr_bridge_outbox"},
		"x_tkbr_bridge.integration": {
			"write task.x_tkbr_bridge_request_id", "write task.x_tkbr_bridge_stage",
			"write task.x_tkbr_bridge_stage_instance_id", "write task.x_tkbr_bridge_user_object_id",
		},
	}
	if d := cmp.Diff(want, granted); d != "" {
		t.Errorf("the roles (- as they should be, + as they are):\n%s", d)
	}
}

func TestSecretsAreEncryptedEmptyAndLeftAloneByAnUpgrade(t *testing.T) {
	t.Parallel()
	a := app(t)
	if len(a.all("sys_properties")) != 7 {
		t.Errorf("%d properties", len(a.all("sys_properties")))
	}
	for _, r := range a.all("sys_properties") {
		f := r.fields
		secret := strings.HasSuffix(f["name"], "_key")
		if secret != (f["type"] == "password2") || secret && (f["value"] != "" || f["is_private"] != "true") {
			t.Errorf("%s: type %s, value %q, private %s", f["name"], f["type"], f["value"], f["is_private"])
		}
		if !strings.HasPrefix(r.file, "unload/") { // what the first installation loads, and no later one
			t.Errorf("an upgrade sets %s again: %s", f["name"], r.file)
		}
		if f["read_roles"] != "x_tkbr_bridge.admin" || f["write_roles"] != "x_tkbr_bridge.admin" {
			t.Errorf("%s is read by %s and written by %s", f["name"], f["read_roles"], f["write_roles"])
		}
	}
}

// The instance runs them on Rhino at the app's level; goja would run more.
func TestTheScriptsAreES5(t *testing.T) {
	t.Parallel()
	a := app(t)
	if level := a.all("sys_app")[0].fields["js_level"]; level != "helsinki_es5" {
		t.Errorf("the app's JavaScript level is %s", level)
	}
	quiet := regexp.MustCompile(`//[^\n]*|'(\\.|[^'\\])*'|"(\\.|[^"\\])*"|/\^[^\n]*?/[a-z]*\.test|/\[[^\n]*?\]/g`)
	newer := regexp.MustCompile("=>|`|\\b(let|const|class|async|await|of|yield)\\b|\\.\\.\\.|\\?\\?|\\?\\.")
	scripts := a.scripts()
	if len(scripts) != 5 {
		t.Errorf("%d scripts", len(scripts))
	}
	for name, text := range scripts {
		if found := newer.FindString(quiet.ReplaceAllString(text, "")); found != "" {
			t.Errorf("%s has %q, which ES5 does not know", name, found)
		}
	}
}

// scripts are all that the package has, by what they are.
func (a *built) scripts() map[string]string {
	out := map[string]string{}
	for _, r := range a.records {
		if r.fields["script"] != "" {
			out[r.table+" "+r.fields["name"]] = r.fields["script"]
		}
		if r.table == "sys_variable_value" && strings.Contains(r.fields["value"], "function") {
			out["test step"] = r.fields["value"]
		}
	}
	return out
}

func errorf(format string, args ...any) error { return fmt.Errorf(format, args...) }

// A property, role, column or test that the page of the installation does not name is one that nobody sets, grants, fills or runs.
func TestTheInstallationsPageNamesWhatAnAdministratorMeets(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/servicenow-app.md")
	if err != nil {
		t.Fatal(err)
	}
	a := app(t)
	named := func(what string) {
		if !strings.Contains(string(text), what) {
			t.Errorf("the page does not name %s", what)
		}
	}
	for _, table := range []string{"sys_properties", "sys_user_role", "sys_atf_test", "sys_script"} {
		for _, r := range a.all(table) {
			named(r.fields["name"])
		}
	}
	for _, r := range a.all("sys_dictionary") {
		if r.fields["name"] == "task" {
			named("`" + r.fields["element"] + "` | " + r.fields["column_label"] + " |")
		}
	}
}
