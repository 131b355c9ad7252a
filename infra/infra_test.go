// Package infra_test judges the compiled template, main.json: what it would make in Azure, and what it must never.
package infra_test

import (
	"encoding/json"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ticketbridge/handler/setup"
)

// A template is an ARM template as the Bicep compiler writes it, of a deployment or of a module in one.
type template struct {
	Parameters map[string]struct {
		Type string `json:"type"`
	} `json:"parameters"`
	Variables map[string]any      `json:"variables"`
	Resources map[string]resource `json:"resources"` // by symbolic name
	Outputs   map[string]struct {
		Type  string `json:"type"`
		Value any    `json:"value"`
	} `json:"outputs"`
}

type resource struct {
	Existing   bool           `json:"existing"`
	Type       string         `json:"type"`
	Name       string         `json:"name"`
	Scope      string         `json:"scope"`
	Kind       string         `json:"kind"`
	Condition  string         `json:"condition"`
	SKU        map[string]any `json:"sku"`
	Properties any            `json:"properties"` // an object, or an expression in a string
}

func TestOnlyTheseResourcesAreMade(t *testing.T) {
	t.Parallel()
	got := map[string]int{}
	for _, r := range made(t) {
		got[r.Type]++
	}
	want := map[string]int{
		"Microsoft.ManagedIdentity/userAssignedIdentities":          1,
		"Microsoft.Storage/storageAccounts":                         1,
		"Microsoft.Storage/storageAccounts/blobServices":            1,
		"Microsoft.Storage/storageAccounts/blobServices/containers": 1,
		"Microsoft.Authorization/roleAssignments":                   3, // each where the scope is; two of them loops
		"Microsoft.OperationalInsights/workspaces":                  1,
		"Microsoft.Insights/components":                             1,
		"Microsoft.Web/serverfarms":                                 1,
		"Microsoft.Web/sites":                                       1,
		"Microsoft.Web/sites/config":                                1,
		"Microsoft.Web/sites/basicPublishingCredentialsPolicies":    2,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the resources (- as they should be, + as they are):\n%s", d)
	}
}

func TestStorageTakesNoKeyNoPlainHTTPAndNoStranger(t *testing.T) {
	t.Parallel()
	account := only(t, "Microsoft.Storage/storageAccounts")
	for name, want := range map[string]any{
		"allowSharedKeyAccess": false, "allowBlobPublicAccess": false, "allowCrossTenantReplication": false, "defaultToOAuthAuthentication": true,
		"minimumTlsVersion": "TLS1_2", "supportsHttpsTrafficOnly": true,
	} {
		if got := at(account.Properties, name); got != want {
			t.Errorf("%s of the storage account is %v, not %v", name, got, want)
		}
	}
	if got := at(only(t, "Microsoft.Storage/storageAccounts/blobServices/containers").Properties, "publicAccess"); got != "None" {
		t.Errorf("the container of packages gives public access: %v", got)
	}
}

func TestLogsTakeNoKey(t *testing.T) {
	t.Parallel()
	if got := at(only(t, "Microsoft.Insights/components").Properties, "DisableLocalAuth"); got != true {
		t.Errorf("DisableLocalAuth of Application Insights is %v", got)
	}
	if got := at(only(t, "Microsoft.OperationalInsights/workspaces").Properties, "features", "disableLocalAuth"); got != true {
		t.Errorf("disableLocalAuth of the workspace is %v", got)
	}
}

func TestTheAppIsACustomHandlerOnFlexConsumptionOverTLSOnly(t *testing.T) {
	t.Parallel()
	plan := only(t, "Microsoft.Web/serverfarms")
	if plan.SKU["name"] != "FC1" || plan.SKU["tier"] != "FlexConsumption" || at(plan.Properties, "reserved") != true {
		t.Errorf("the plan is %v, reserved %v", plan.SKU, at(plan.Properties, "reserved"))
	}
	app := only(t, "Microsoft.Web/sites")
	if app.Kind != "functionapp,linux" {
		t.Errorf("the app is a %q", app.Kind)
	}
	for _, c := range []struct {
		want any
		path []string
	}{
		{true, []string{"httpsOnly"}},
		{"1.2", []string{"siteConfig", "minTlsVersion"}},
		{"1.2", []string{"siteConfig", "scmMinTlsVersion"}},
		{"Disabled", []string{"siteConfig", "ftpsState"}},
		{"custom", []string{"functionAppConfig", "runtime", "name"}},
		{"1.0", []string{"functionAppConfig", "runtime", "version"}},
		{"blobContainer", []string{"functionAppConfig", "deployment", "storage", "type"}},
		{"UserAssignedIdentity", []string{"functionAppConfig", "deployment", "storage", "authentication", "type"}},
		{"[parameters('identityId')]", []string{"keyVaultReferenceIdentity"}},
	} {
		if got := at(app.Properties, c.path...); got != c.want {
			t.Errorf("%s of the app is %v, not %v", strings.Join(c.path, "."), got, c.want)
		}
	}
	for _, r := range made(t) {
		if r.Type == "Microsoft.Web/sites/basicPublishingCredentialsPolicies" && at(r.Properties, "allow") != false {
			t.Errorf("publishing with user name and password is on: %s", r.Name)
		}
	}
}

// The roles that the app's identity may have, with what each is scoped to. Another GUID anywhere in the template is another role.
func TestTheIdentityGetsTheseRolesAndNoOther(t *testing.T) {
	t.Parallel()
	allowed := map[string]string{
		"b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "Storage Blob Data Owner",
		"974c5e8b-45b9-4653-ba55-5f855dd0fb88": "Storage Queue Data Contributor",
		"0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3": "Storage Table Data Contributor",
		"3913510d-42f4-4e42-8a64-420c390055eb": "Monitoring Metrics Publisher",
		"4633458b-17de-408a-b874-0445c86b69e6": "Key Vault Secrets User",
	}
	guid := regexp.MustCompile(`[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}`)
	got := map[string]string{}
	for _, id := range guid.FindAllString(string(file(t)), -1) {
		got[id] = allowed[id]
	}
	if d := cmp.Diff(allowed, got); d != "" {
		t.Errorf("the roles (- as they should be, + as they are):\n%s", d)
	}

	scopes := map[string]bool{}
	for _, r := range made(t) {
		if r.Type != "Microsoft.Authorization/roleAssignments" {
			continue
		}
		scopes[regexp.MustCompile(`'(Microsoft\.[A-Za-z/]+)'`).FindStringSubmatch(r.Scope + " 'Microsoft.None'")[1]] = true
		if at(r.Properties, "principalId") != "[parameters('principalId')]" || at(r.Properties, "principalType") != "ServicePrincipal" {
			t.Errorf("a role goes to %v, a %v", at(r.Properties, "principalId"), at(r.Properties, "principalType"))
		}
		if id, _ := at(r.Properties, "roleDefinitionId").(string); !strings.HasPrefix(id, "[subscriptionResourceId('Microsoft.Authorization/roleDefinitions', ") {
			t.Errorf("the role is %s", id)
		}
	}
	// No wider than the one account, the one component and the one secret.
	want := map[string]bool{"Microsoft.Storage/storageAccounts": true, "Microsoft.Insights/components": true, "Microsoft.KeyVault/vaults/secrets": true}
	if !maps.Equal(scopes, want) {
		t.Errorf("roles are scoped to %v, not %v", scopes, want)
	}

	main := compiled(t)
	for name, module := range main.Resources {
		given := at(module.Properties, "parameters", "principalId", "value")
		if given != nil && given != "[reference('identity').principalId]" {
			t.Errorf("the module %s gives roles to %v", name, given)
		}
	}
	if c := main.Resources["secrets"].Condition; c != "[not(empty(parameters('keyVaultName')))]" {
		t.Errorf("the role in the Key Vault is given on the condition %q", c)
	}
}

// Flex Consumption refuses these, or goes wrong with them.
func TestNoSettingIsSetThatFlexConsumptionForbids(t *testing.T) {
	t.Parallel()
	forbidden := regexp.MustCompile(`(?i)FUNCTIONS_WORKER_RUNTIME|FUNCTIONS_EXTENSION_VERSION|WEBSITE_[A-Z_]+|SCM_DO_BUILD_DURING_DEPLOYMENT|ENABLE_ORYX_BUILD|linuxFxVersion`)
	if found := forbidden.FindAllString(string(file(t)), -1); len(found) > 0 {
		t.Errorf("the template has %v", found)
	}
}

func TestEverySettingThatTheHandlerReadsIsSet(t *testing.T) {
	t.Parallel()
	set := settings(t)
	fromAzure := []string{ // set by Azure itself, or another way to say what is set
		"FUNCTIONS_CUSTOMHANDLER_PORT", "WEBSITE_HOSTNAME", "WEBSITE_INSTANCE_ID", "WEBSITE_SKU", "WEBSITE_AUTH_ENABLED", "IDENTITY_ENDPOINT", "FUNCTIONS_APP_ROOT_PATH", "AzureWebJobsStorage", "AzureWebJobsStorage__accountName",
	}
	handlers := reflect.TypeFor[setup.Settings]()
	var read []string
	for i := range handlers.NumField() {
		name, _, _ := strings.Cut(handlers.Field(i).Tag.Get("env"), ",")
		read = append(read, name)
	}
	// What the host needs for itself, and what the bindings name.
	read = append(read, "AzureWebJobsStorage__credential", "AzureWebJobsStorage__blobServiceUri", "APPLICATIONINSIGHTS_CONNECTION_STRING",
		"APPLICATIONINSIGHTS_AUTHENTICATION_STRING", "SWEEP_SCHEDULE")
	for _, name := range read {
		if _, ok := set[name]; name != "" && !ok && !slices.Contains(fromAzure, name) {
			t.Errorf("%s is not set", name)
		}
	}
	for name := range set {
		if !slices.Contains(read, name) {
			t.Errorf("%s is set, and nothing reads it", name)
		}
	}
	want := map[string]string{
		"AzureWebJobsStorage__credential":           "managedidentity",
		"AzureWebJobsStorage__clientId":             "[reference('identity').clientId]",
		"AZURE_CLIENT_ID":                           "[reference('identity').clientId]",
		"APPLICATIONINSIGHTS_AUTHENTICATION_STRING": "[format('ClientId={0};Authorization=AAD', reference('identity').clientId)]",
		"STORAGE_PREFIX":                            "[parameters('storagePrefix')]",
		"SWEEP_SCHEDULE":                            "[parameters('sweepSchedule')]",
	}
	for name, value := range want {
		if set[name] != value {
			t.Errorf("%s is %s, not %s", name, set[name], value)
		}
	}
}

func TestSecretsAreOnlyEverReferencesToAKeyVault(t *testing.T) {
	t.Parallel()
	for name, value := range settings(t) {
		if setup.Secret(name) && !strings.Contains(value, "variables('secretReference')") {
			t.Errorf("%s is %s, no reference to a Key Vault", name, value)
		}
	}
	reference, _ := compiled(t).Variables["secretReference"].(string)
	want := "[mapValues(variables('secretNames'), lambda('secret', if(or(empty(parameters('keyVaultName')), empty(lambdaVariables('secret'))), '', " +
		"format('@Microsoft.KeyVault(VaultName={0};SecretName={1})', parameters('keyVaultName'), lambdaVariables('secret')))))]"
	if reference != want {
		t.Errorf("secretReference is\n%s\nnot\n%s", reference, want)
	}
	// A key that the template asks for would end in a setting or an output; a secure parameter would be a secret somebody has to hold.
	if found := regexp.MustCompile(`(?i)\blist[A-Za-z]*\(|secureString|secureObject|SharedAccessSignature|AccountKey=`).FindAllString(string(file(t)), -1); len(found) > 0 {
		t.Errorf("the template has %v", found)
	}
}

func TestOutputsAreWhatTheNextCommandsNeedAndNoSecret(t *testing.T) {
	t.Parallel()
	want := []string{"calloutUrl", "consoleUrl", "functionAppName", "identityClientId", "identityObjectId", "storageAccountName", "ticketClosedUrl"}
	outputs := compiled(t).Outputs
	if got := slices.Sorted(maps.Keys(outputs)); !slices.Equal(got, want) {
		t.Errorf("the outputs are %v, not %v", got, want)
	}
	for name, output := range outputs {
		text, _ := output.Value.(string)
		if found := regexp.MustCompile(`(?i)connectionString|secret|key|password|token`).FindString(text); found != "" {
			t.Errorf("the output %s speaks of a %s: %s", name, found, text)
		}
	}
}

// settings returns the app settings that main gives to the module of the app, as it states them: values or expressions.
func settings(t *testing.T) map[string]string {
	t.Helper()
	given, ok := at(compiled(t).Resources["app"].Properties, "parameters", "settings", "value").(map[string]any)
	if !ok || len(given) == 0 {
		t.Fatal("the module of the app is given no settings")
	}
	set := map[string]string{}
	for name, value := range given {
		set[name], _ = value.(string)
	}
	// All of them arrive in the app, but for the empty ones.
	want := "[toObject(filter(items(parameters('settings')), lambda('setting', not(empty(lambdaVariables('setting').value)))), " +
		"lambda('setting', lambdaVariables('setting').key), lambda('setting', lambdaVariables('setting').value))]"
	if got := only(t, "Microsoft.Web/sites/config").Properties; got != want {
		t.Errorf("the app's settings are\n%s\nnot\n%s", got, want)
	}
	return set
}

func file(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile("main.json")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func compiled(t *testing.T) template {
	t.Helper()
	var main template
	if err := json.Unmarshal(file(t), &main); err != nil {
		t.Fatal(err)
	}
	return main
}

// made returns every resource that the template and its modules make, without the modules themselves.
func made(t *testing.T) []resource {
	t.Helper()
	var found []resource
	var walk func(template)
	walk = func(tm template) {
		for _, r := range tm.Resources {
			switch {
			case r.Existing:
			case r.Type == "Microsoft.Resources/deployments":
				text, err := json.Marshal(at(r.Properties, "template"))
				if err != nil {
					t.Fatal(err)
				}
				var inner template
				if err := json.Unmarshal(text, &inner); err != nil {
					t.Fatal(err)
				}
				walk(inner)
			default:
				found = append(found, r)
			}
		}
	}
	walk(compiled(t))
	return found
}

// only returns the one resource of a type.
func only(t *testing.T, kind string) resource {
	t.Helper()
	var found []resource
	for _, r := range made(t) {
		if r.Type == kind {
			found = append(found, r)
		}
	}
	if len(found) != 1 {
		t.Fatalf("there are %d resources of the type %s, not one", len(found), kind)
	}
	return found[0]
}

// at returns what is at a path of property names in v, nil where nothing is.
func at(v any, path ...string) any {
	for _, name := range path {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}
