// Package infra_test judges the compiled template, main.json, the snapshots of what it would make in Azure, and the queries of the log that alerts and the workbook ask.
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
	Variables map[string]any      `json:"variables"`
	Resources map[string]resource `json:"resources"` // by symbolic name
	Outputs   map[string]struct {
		Value any `json:"value"`
	} `json:"outputs"`
}

type resource struct {
	Existing   bool   `json:"existing"`
	Type       string `json:"type"`
	Properties any    `json:"properties"` // an object, or an expression in a string
}

// What stands in the template in words, whatever the parameters are: every other GUID would be a role, or somebody who may call.
func TestTheTemplateNamesTheseIDsAndNoOther(t *testing.T) {
	t.Parallel()
	allowed := map[string]string{"810dcf14-1858-4bf2-8134-4c369fa3235b": "entitlement management, which calls the relay"}
	for role := range roles {
		allowed[role] = roles[role].name
	}
	guid := regexp.MustCompile(`[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}`)
	got := map[string]string{}
	for _, id := range guid.FindAllString(string(file(t)), -1) {
		got[id] = allowed[id]
	}
	if d := cmp.Diff(allowed, got); d != "" {
		t.Errorf("the ids (- as they should be, + as they are):\n%s", d)
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
	// What the host and App Service authentication need for themselves, and what the bindings name.
	read = append(read, "AzureWebJobsStorage__credential", "AzureWebJobsStorage__blobServiceUri", "APPLICATIONINSIGHTS_CONNECTION_STRING",
		"APPLICATIONINSIGHTS_AUTHENTICATION_STRING", "SWEEP_SCHEDULE", "OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID")
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
	// A key that the template asks for would end in a setting or an output; a secure parameter would be a secret somebody has to hold. The relay's is the only one: it is
	// read where it is put, and the workflow keeps it as what it is.
	found := regexp.MustCompile(`(?i)\blist[A-Za-z]*\(|"secure(?:string|object)"|SharedAccessSignature|AccountKey=`).FindAllString(string(file(t)), -1)
	if want := []string{"listKeys(", `"SecureString"`}; !slices.Equal(found, want) {
		t.Errorf("the template has %v, not %v", found, want)
	}
}

func TestOutputsAreWhatTheNextCommandsNeedAndNoSecret(t *testing.T) {
	t.Parallel()
	want := []string{
		"appUrl", "calloutUrl", "connectCommand", "consoleUrl", "functionAppName", "identityClientId", "identityObjectId", "relayObjectId", "relayResourceId", "storageAccountName", "ticketClosedUrl",
	}
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
	if !slices.ContainsFunc(made(t), func(r resource) bool { return r.Type == "Microsoft.Web/sites/config" && r.Properties == want }) {
		t.Errorf("the app's settings are not\n%s", want)
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

// at returns what is at a path of property names in v, nil where nothing is.
func at(v any, path ...string) any {
	for _, name := range path {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}
