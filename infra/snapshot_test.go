package infra_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ticketbridge/handler/setup"
)

// A snapshot is what a deployment with a parameters file of snapshots/ would make, as the Bicep compiler foresees it. What only Azure knows stays
// an expression, as does what differs from cloud to cloud.
type snapshot struct {
	PredictedResources []predicted       `json:"predictedResources"`
	Diagnostics        []any             `json:"diagnostics"`
	Outputs            map[string]string `json:"outputs"`
}

type predicted struct {
	ID         string            `json:"id"`
	Type       string            `json:"type"`
	Name       string            `json:"name"`
	Kind       string            `json:"kind"`
	SKU        map[string]any    `json:"sku"`
	Identity   map[string]any    `json:"identity"`
	Tags       map[string]string `json:"tags"`
	Properties any               `json:"properties"`
}

// always is what every variant makes.
var always = map[string]int{
	"Microsoft.ManagedIdentity/userAssignedIdentities":          1,
	"Microsoft.Storage/storageAccounts":                         1,
	"Microsoft.Storage/storageAccounts/blobServices":            1,
	"Microsoft.Storage/storageAccounts/blobServices/containers": 1,
	"Microsoft.Storage/storageAccounts/managementPolicies":      1,
	"Microsoft.Authorization/roleAssignments":                   4,
	"Microsoft.OperationalInsights/workspaces":                  1,
	"Microsoft.Insights/components":                             1,
	"Microsoft.Web/serverfarms":                                 1,
	"Microsoft.Web/sites":                                       1,
	"Microsoft.Web/sites/config":                                1,
	"Microsoft.Web/sites/basicPublishingCredentialsPolicies":    2,
}

// variants are the files of snapshots/, with what each makes beside what is always made.
var variants = map[string]map[string]int{
	"first": {"Microsoft.ManagedIdentity/userAssignedIdentities": 1}, // the relay's, before the relay
	"default": {
		"Microsoft.ManagedIdentity/userAssignedIdentities": 1, "Microsoft.Logic/workflows": 1, "Microsoft.Authorization/roleAssignments": 1,
		"Microsoft.Insights/actionGroups": 1, "Microsoft.Insights/scheduledQueryRules": 6, "Microsoft.Insights/metricAlerts": 1, "Microsoft.Insights/workbooks": 1,
	},
	"no-stored-secret": {
		"Microsoft.ManagedIdentity/userAssignedIdentities": 1, "Microsoft.Logic/workflows": 1, "Microsoft.Web/sites/config": 1,
		"Microsoft.Insights/actionGroups": 1, "Microsoft.Insights/scheduledQueryRules": 6, "Microsoft.Insights/metricAlerts": 1, "Microsoft.Insights/workbooks": 1,
	},
	"private-network": {
		"Microsoft.ManagedIdentity/userAssignedIdentities": 1, "Microsoft.Logic/workflows": 1, "Microsoft.Authorization/roleAssignments": 5,
		"Microsoft.Network/virtualNetworks": 1, "Microsoft.Network/privateEndpoints": 4, "Microsoft.Network/privateEndpoints/privateDnsZoneGroups": 4,
		"Microsoft.Network/privateDnsZones": 4, "Microsoft.Network/privateDnsZones/virtualNetworkLinks": 4,
	},
	"direct":       {},
	"always-ready": {"Microsoft.ManagedIdentity/userAssignedIdentities": 1, "Microsoft.Logic/workflows": 1, "Microsoft.Authorization/roleAssignments": 1},
	"long-names":   {"Microsoft.ManagedIdentity/userAssignedIdentities": 1, "Microsoft.Logic/workflows": 1},
}

func TestEachVariantMakesTheseResourcesAndNoOther(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("snapshots/*")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 2*len(variants) { // that each is there is seen below
		t.Errorf("snapshots/ holds %v, not a parameters file and a snapshot for each of %v", files, slices.Sorted(maps.Keys(variants)))
	}
	inEach(t, func(t *testing.T, name string, s snapshot) {
		if _, err := os.Stat("snapshots/" + name + ".bicepparam"); err != nil {
			t.Error(err)
		}
		want, got := maps.Clone(always), map[string]int{}
		for kind, n := range variants[name] {
			want[kind] += n
		}
		for _, r := range s.PredictedResources {
			got[r.Type]++
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("the resources (- as they should be, + as they are):\n%s", d)
		}
		if len(s.Diagnostics) > 0 {
			t.Errorf("the compiler says %v", s.Diagnostics)
		}
	})
}

// The roles that anybody is given, and on what.
var roles = map[string]struct{ name, on string }{
	"b7e6dc6d-f1e8-4753-8033-0f276bb0955b": {"Storage Blob Data Owner", "Microsoft.Storage/storageAccounts"},
	"974c5e8b-45b9-4653-ba55-5f855dd0fb88": {"Storage Queue Data Contributor", "Microsoft.Storage/storageAccounts"},
	"0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3": {"Storage Table Data Contributor", "Microsoft.Storage/storageAccounts"},
	"3913510d-42f4-4e42-8a64-420c390055eb": {"Monitoring Metrics Publisher", "Microsoft.Insights/components"},
	"4633458b-17de-408a-b874-0445c86b69e6": {"Key Vault Secrets User", "Microsoft.KeyVault/vaults/secrets"},
}

func TestTheAppsIdentityGetsTheseRolesAndNobodyGetsAny(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, _ string, s snapshot) {
		app := one(t, s, "Microsoft.Web/sites").Name
		for _, r := range of(s, "Microsoft.Authorization/roleAssignments") {
			id, _ := at(r.Properties, "roleDefinitionId").(string)
			role, ok := roles[id[strings.LastIndex(id, "/")+1:]]
			scope, _, _ := strings.Cut(r.ID, "/providers/Microsoft.Authorization/")
			if !ok || kindOf(scope) != role.on || at(r.Properties, "description") != role.name {
				t.Errorf("the role %s on %s is given, called %v", id, scope, at(r.Properties, "description"))
			}
			who, _ := at(r.Properties, "principalId").(string)
			if !strings.HasPrefix(who, "[reference('/") || !strings.HasSuffix(who, "/userAssignedIdentities/"+app+"', '2024-11-30').principalId]") || at(r.Properties, "principalType") != "ServicePrincipal" {
				t.Errorf("the role %s is given to %s, a %v", role.name, who, at(r.Properties, "principalType"))
			}
		}
	})
}

// kindOf is the type of the resource with the id.
func kindOf(id string) string {
	parts := strings.Split(id[strings.LastIndex(id, "/providers/")+len("/providers/"):], "/")
	kind := parts[0]
	for i := 1; i < len(parts); i += 2 {
		kind += "/" + parts[i]
	}
	return kind
}

func TestNothingTakesAKeyAPasswordOrAnOldTLS(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, _ string, s snapshot) {
		identity := identityOf(t, one(t, s, "Microsoft.Web/sites"))
		for kind, properties := range map[string]map[string]any{
			"Microsoft.Storage/storageAccounts": {
				"allowSharedKeyAccess": false, "allowBlobPublicAccess": false, "allowCrossTenantReplication": false, "defaultToOAuthAuthentication": true,
				"minimumTlsVersion": "TLS1_2", "supportsHttpsTrafficOnly": true,
			},
			"Microsoft.Storage/storageAccounts/blobServices/containers": {"publicAccess": "None"},
			"Microsoft.Insights/components":                             {"DisableLocalAuth": true},
			"Microsoft.OperationalInsights/workspaces":                  {"features.disableLocalAuth": true},
			"Microsoft.Web/sites": {
				"httpsOnly": true, "siteConfig.minTlsVersion": "1.2", "siteConfig.scmMinTlsVersion": "1.2", "siteConfig.ftpsState": "Disabled",
				"keyVaultReferenceIdentity": identity,
			},
			"Microsoft.Web/sites/basicPublishingCredentialsPolicies": {"allow": false},
		} {
			for _, r := range of(s, kind) {
				for path, want := range properties {
					if got := at(r.Properties, strings.Split(path, ".")...); got != want {
						t.Errorf("%s of %s is %v, not %v", path, r.Name, got, want)
					}
				}
			}
		}
	})
}

func TestTheAppIsACustomHandlerOnFlexConsumption(t *testing.T) {
	t.Parallel()
	ready := map[string]float64{"direct": 1, "always-ready": 2} // with a relay none has to be warm
	inEach(t, func(t *testing.T, name string, s snapshot) {
		plan := one(t, s, "Microsoft.Web/serverfarms")
		if plan.SKU["name"] != "FC1" || plan.SKU["tier"] != "FlexConsumption" || at(plan.Properties, "reserved") != true {
			t.Errorf("the plan is %v, reserved %v", plan.SKU, at(plan.Properties, "reserved"))
		}
		app := one(t, s, "Microsoft.Web/sites")
		if app.Kind != "functionapp,linux" || app.Tags["azd-service-name"] != "handler" {
			t.Errorf("the app is a %q, for azd %q", app.Kind, app.Tags["azd-service-name"])
		}
		instances := []any{}
		if n := ready[name]; n > 0 {
			instances = append(instances, map[string]any{"name": "http", "instanceCount": n})
		}
		for path, want := range map[string]any{
			"runtime": map[string]any{"name": "custom", "version": "1.0"}, "scaleAndConcurrency.alwaysReady": instances,
			"deployment.storage.type": "blobContainer", "deployment.storage.authentication.type": "UserAssignedIdentity",
		} {
			if d := cmp.Diff(want, at(app.Properties, append([]string{"functionAppConfig"}, strings.Split(path, ".")...)...)); d != "" {
				t.Errorf("%s of the app (- as it should be, + as it is):\n%s", path, d)
			}
		}
	})
}

// publicCloud are the values of what differs from cloud to cloud in the relay, as "Workflows - Create" of Azure Resource Manager and the documentation of custom extensions have
// them: environment().resourceManager is https://management.azure.com/ there.
var publicCloud = strings.NewReplacer(
	`[format('{0}/{1}/', if(equals(environment().name, 'AzureChinaCloud'), 'https://sts.chinacloudapi.cn', 'https://sts.windows.net'), '`+tenant+`')]`, "https://sts.windows.net/"+tenant+"/",
	`[format('https://{0}', split(environment().resourceManager, '/')[2])]`, "https://management.azure.com",
	`[split(environment().resourceManager, '/')[2]]`, "management.azure.com",
)

const (
	tenant = "00000000-0000-0000-0000-0000000000ff"
	group  = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-identity-access-production"
)

func TestTheRelayTakesCallsOfEntitlementManagementOnlyAndHandsThemOn(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, name string, s snapshot) {
		if variants[name]["Microsoft.Logic/workflows"] == 0 {
			return
		}
		relay := one(t, s, "Microsoft.Logic/workflows")
		text, err := json.Marshal(relay.Properties)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal([]byte(publicCloud.Replace(string(text))), &got); err != nil {
			t.Fatal(err)
		}
		identity := identityOf(t, relay)
		if !strings.HasSuffix(identity, "-relay") {
			t.Fatalf("the relay has the identity %s", identity)
		}
		hidden := map[string]any{"secureData": map[string]any{"properties": []any{"inputs", "outputs"}}}
		call := map[string]any{
			"method": "POST", "body": "@triggerBody()",
			"headers":     map[string]any{"Content-Type": "application/json", "x-functions-key": "@parameters('functionKey')"},
			"retryPolicy": map[string]any{"type": "exponential", "count": 20.0, "interval": "PT10S", "minimumInterval": "PT5S", "maximumInterval": "PT1H"},
		}
		if name == "no-stored-secret" { // the only one of them where callers need tokens
			call["authentication"] = map[string]any{"type": "ManagedServiceIdentity", "identity": identity, "audience": "api://00000000-0000-0000-0000-00000000000b"}
		}
		claim := func(name, value string) any { return map[string]any{"name": name, "value": value} }
		want := map[string]any{
			"state": "Enabled",
			"accessControl": map[string]any{"triggers": map[string]any{
				"sasAuthenticationPolicy": map[string]any{"state": "Disabled"},
				"openAuthenticationPolicies": map[string]any{"policies": map[string]any{"entitlementManagement": map[string]any{"type": "AADPOP", "claims": []any{
					claim("iss", "https://sts.windows.net/"+tenant+"/"), claim("aud", "https://management.azure.com"), claim("appid", "810dcf14-1858-4bf2-8134-4c369fa3235b"),
					claim("m", "POST"), claim("u", "management.azure.com"), claim("p", relay.ID),
				}}}},
			}},
			"runtimeConfiguration": map[string]any{"lifetime": map[string]any{"unit": "day", "count": 7.0}},
			"parameters": map[string]any{"functionKey": map[string]any{
				"value": "[listKeys('" + one(t, s, "Microsoft.Web/sites").ID + "/functions/callout', '2024-11-01').default]",
			}},
			"definition": map[string]any{
				"$schema":        "https://schema.management.azure.com/providers/Microsoft.Logic/schemas/2016-06-01/workflowdefinition.json#",
				"contentVersion": "1.0.0.0",
				"parameters":     map[string]any{"functionKey": map[string]any{"type": "SecureString"}},
				"triggers": map[string]any{"manual": map[string]any{
					"type": "Request", "kind": "Http", "inputs": map[string]any{"method": "POST", "schema": map[string]any{}}, "runtimeConfiguration": hidden,
				}},
				"actions": map[string]any{"forward": map[string]any{
					"type": "Http", "runAfter": map[string]any{}, "inputs": call, "limit": map[string]any{"timeout": "PT30S"},
					"operationOptions": "DisableAsyncPattern", "runtimeConfiguration": hidden,
				}},
				"outputs": map[string]any{},
			},
		}
		to, _ := at(got, "definition", "actions", "forward", "inputs", "uri").(string)
		if !strings.HasPrefix(to, "[format('{0}/api/callout', reference(") || !strings.HasSuffix(to, ".outputs.url.value)]") || !strings.Contains(to, "format('app-{0}'") {
			t.Errorf("it hands on to %s", to)
		}
		if inputs, ok := at(got, "definition", "actions", "forward", "inputs").(map[string]any); ok {
			delete(inputs, "uri")
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("the relay (- as it should be, + as it is):\n%s", d)
		}
		if s.Outputs["relayResourceId"] != relay.ID {
			t.Errorf("the output relayResourceId is %s", s.Outputs["relayResourceId"])
		}
	})
}

func TestTheRelaysResourceIDIsNoLongerThanEntraTakes(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, name string, s snapshot) {
		for _, r := range of(s, "Microsoft.Logic/workflows") {
			if len(r.ID) > 150 || name == "long-names" && len(r.ID) != 150 {
				t.Errorf("%s has %d characters", r.ID, len(r.ID))
			}
		}
	})
	// Where even one letter would be too much, the deployment fails and says so.
	v := compiled(t).Variables
	if id, _ := v["relayId"].(string); v["workflowIdLength"] != 150.0 || !strings.HasPrefix(id, "[if(lessOrEquals(length(variables('workflowId')), variables('workflowIdLength')), variables('workflowId'), fail(format('The resource id of the relay would have ") {
		t.Errorf("at most %v, in %s", v["workflowIdLength"], id)
	}
}

func TestWhatMayBeCalledFromOutsideIsTheAppOnlyInAPrivateNetwork(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, name string, s snapshot) {
		private := name == "private-network"
		account, subnet := one(t, s, "Microsoft.Storage/storageAccounts").Properties, at(one(t, s, "Microsoft.Web/sites").Properties, "virtualNetworkSubnetId")
		open, rule := "Enabled", "Allow"
		if private {
			open, rule = "Disabled", "Deny"
		}
		if at(account, "publicNetworkAccess") != open || at(account, "networkAcls", "defaultAction") != rule || at(account, "networkAcls", "bypass") != "None" {
			t.Errorf("public access to storage is %v, %v", at(account, "publicNetworkAccess"), at(account, "networkAcls"))
		}
		if text, _ := subnet.(string); private != strings.Contains(text, ".outputs.appSubnetId.value") {
			t.Errorf("the app's subnet is %v", subnet)
		}
		if !private {
			return
		}
		reached := map[string]string{}
		for _, r := range of(s, "Microsoft.Network/privateEndpoints") {
			for _, c := range at(r.Properties, "privateLinkServiceConnections").([]any) {
				to, _ := at(c, "properties", "privateLinkServiceId").(string)
				reached[at(c, "properties", "groupIds").([]any)[0].(string)] = regexp.MustCompile(`\.outputs\.\w+\.value\]$`).FindString(to)
			}
			if subnet, _ := at(r.Properties, "subnet", "id").(string); !strings.Contains(subnet, ".outputs.endpointsSubnetId.value") {
				t.Errorf("%s is in %s", r.Name, subnet)
			}
		}
		want := map[string]string{"blob": ".outputs.id.value]", "queue": ".outputs.id.value]", "table": ".outputs.id.value]", "vault": ".outputs.vaultId.value]"}
		if d := cmp.Diff(want, reached); d != "" {
			t.Errorf("the private endpoints (- as they should be, + as they are):\n%s", d)
		}
		var zones []string
		for _, r := range of(s, "Microsoft.Network/privateDnsZones") {
			zones = append(zones, r.Name)
		}
		slices.Sort(zones)
		if want := []string{
			"[format('privatelink.{0}.{1}', 'blob', environment().suffixes.storage)]", "[format('privatelink.{0}.{1}', 'queue', environment().suffixes.storage)]",
			"[format('privatelink.{0}.{1}', 'table', environment().suffixes.storage)]", "[replace(environment().suffixes.keyvaultDns, '.vault.', 'privatelink.vaultcore.')]",
		}; !slices.Equal(zones, want) {
			t.Errorf("the zones are %v", zones)
		}
		subnets, _ := at(one(t, s, "Microsoft.Network/virtualNetworks").Properties, "subnets").([]any)
		delegated, _ := at(subnets[0], "properties", "delegations").([]any)
		if len(subnets) != 2 || len(delegated) != 1 || at(delegated[0], "properties", "serviceName") != "Microsoft.App/environments" {
			t.Errorf("the subnets are %v", subnets)
		}
	})
}

func TestTheConsoleIsThereWithASignInOnlyAndTheFunctionsAskForTheirKeysThemselves(t *testing.T) {
	t.Parallel()
	const console = "00000000-0000-0000-0000-00000000000d"
	inEach(t, func(t *testing.T, name string, s snapshot) {
		var sign []predicted
		for _, r := range of(s, "Microsoft.Web/sites/config") {
			if strings.HasSuffix(r.Name, "/authsettingsV2") {
				sign = append(sign, r)
			}
		}
		set := appSettings(t, s)
		if name != "no-stored-secret" {
			if len(sign) > 0 || set["CONSOLE_AUTH"] != "" || s.Outputs["consoleUrl"] != "" {
				t.Errorf("there is a console: %v, %q, %q", sign, set["CONSOLE_AUTH"], s.Outputs["consoleUrl"])
			}
			return
		}
		if len(sign) != 1 || set["CONSOLE_AUTH"] != "easyauth" || !strings.Contains(set["OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID"], ").clientId") {
			t.Fatalf("there is no console: %v, %q, %q", sign, set["CONSOLE_AUTH"], set["OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID"])
		}
		want := map[string]any{
			"platform": map[string]any{"enabled": true},
			"globalValidation": map[string]any{
				"requireAuthentication": false, "unauthenticatedClientAction": "AllowAnonymous", "excludedPaths": []any{"/api/callout", "/api/ticket-closed"},
			},
			"httpSettings": map[string]any{"requireHttps": true},
			"identityProviders": map[string]any{"azureActiveDirectory": map[string]any{
				"enabled": true,
				"registration": map[string]any{
					"clientId": console, "clientSecretSettingName": "OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID",
					"openIdIssuer": "[uri(environment().authentication.loginEndpoint, '" + tenant + "/v2.0')]",
				},
				"validation": map[string]any{"allowedAudiences": []any{console, "api://00000000-0000-0000-0000-00000000000b", "00000000-0000-0000-0000-00000000000b"}},
			}},
			"login": map[string]any{"preserveUrlFragmentsForLogins": false, "tokenStore": map[string]any{"enabled": false}},
		}
		if d := cmp.Diff(want, sign[0].Properties); d != "" {
			t.Errorf("App Service authentication (- as it should be, + as it is):\n%s", d)
		}
	})
}

// The handler's own reading of its settings says whether they would start it.
func TestTheHandlerStartsWithTheSettingsOfEachVariant(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, name string, s snapshot) {
		environ := []string{"FUNCTIONS_APP_ROOT_PATH=" + t.TempDir(), "FUNCTIONS_CUSTOMHANDLER_PORT=7072", "WEBSITE_SKU=FlexConsumption"}
		for setting, value := range appSettings(t, s) {
			switch { // as Azure would have it
			case value == "environment().authentication.loginEndpoint":
				value = "https://login.microsoftonline.com/"
			case strings.HasSuffix(value, ").clientId") || strings.HasSuffix(value, ").principalId"):
				value = "00000000-0000-0000-0000-00000000000f"
			case strings.Contains(value, ".outputs."):
				value = "https://ticketbridge.example.net/"
			case setup.Secret(setting) && value != "":
				value = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA=="
			}
			environ = append(environ, setting+"="+value)
		}
		settings, err := setup.Read(environ)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := settings.Callers(); err != nil {
			t.Error(err)
		}
		if want := name == "no-stored-secret"; (settings.RelayPrincipal != "") != want {
			t.Errorf("RELAY_PRINCIPAL_ID is %q", settings.RelayPrincipal)
		}
	})
}

func TestNoSecretStandsInASettingOrInAnOutput(t *testing.T) {
	t.Parallel()
	vaults := map[string]int{"default": 1, "always-ready": 1, "private-network": 5} // the others have none
	inEach(t, func(t *testing.T, name string, s snapshot) {
		references := 0
		for setting, value := range appSettings(t, s) {
			switch {
			case strings.HasPrefix(value, "@Microsoft.KeyVault(VaultName=example-vault;SecretName=servicenow-"):
				references++
			case setup.Secret(setting) && value != "":
				t.Errorf("%s is %s, no reference to a Key Vault", setting, value)
			case strings.Contains(value, "list"):
				t.Errorf("%s asks for a key: %s", setting, value)
			}
		}
		if references != vaults[name] {
			t.Errorf("%d settings refer to a Key Vault, not %d", references, vaults[name])
		}
		for output, value := range s.Outputs {
			if found := regexp.MustCompile(`(?i)list[a-z]*\(|secret|password|accountkey|connectionstring`).FindString(value); found != "" {
				t.Errorf("the output %s speaks of a %s: %s", output, found, value)
			}
		}
	})
}

// What does not take tags in Azure.
var untagged = regexp.MustCompile(`^Microsoft\.(Authorization/|Storage/storageAccounts/|Web/sites/|Network/privateEndpoints/)`)

func TestEverythingThatCanHaveTagsHasThem(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"no-stored-secret", "private-network"} { // all types between them
		s := read(t, name)
		for _, r := range s.PredictedResources {
			if has := r.Tags["owner"] == "identity"; has == untagged.MatchString(r.Type) {
				t.Errorf("%s of %s has the tags %v", r.Name, name, r.Tags)
			}
		}
	}
}

// The package that runs is never newer than the last deployment: a policy that deletes by age would take it away.
func TestNothingDeletesThePackageThatRuns(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, _ string, s snapshot) {
		rules, _ := at(one(t, s, "Microsoft.Storage/storageAccounts/managementPolicies").Properties, "policy", "rules").([]any)
		if len(rules) != 1 {
			t.Fatalf("there are %d rules", len(rules))
		}
		left := map[string]any{"delete": map[string]any{"daysAfterCreationGreaterThan": 30.0}}
		if d := cmp.Diff(map[string]any{"snapshot": left, "version": left}, at(rules[0], "definition", "actions")); d != "" {
			t.Errorf("what is done to old blobs (- as it should be, + as it is):\n%s", d)
		}
	})
}

func TestEachAlertTellsBothTheGroupThatIsMadeAndTheOneThatIsNamed(t *testing.T) {
	t.Parallel()
	s := read(t, "no-stored-secret")
	made := group + "/providers/Microsoft.Insights/actionGroups/ticketbridge"
	named := "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/operations/providers/Microsoft.Insights/actionGroups/on-call"
	for _, r := range of(s, "Microsoft.Insights/scheduledQueryRules") {
		if d := cmp.Diff([]any{made, named}, at(r.Properties, "actions", "actionGroups")); d != "" {
			t.Errorf("%s tells (- as it should be, + as it is):\n%s", r.Name, d)
		}
		if at(r.Properties, "enabled") != true || at(r.Properties, "description") == "" {
			t.Errorf("%s is %v", r.Name, r.Properties)
		}
	}
	for _, r := range of(s, "Microsoft.Insights/metricAlerts") {
		if d := cmp.Diff([]any{map[string]any{"actionGroupId": made}, map[string]any{"actionGroupId": named}}, at(r.Properties, "actions")); d != "" {
			t.Errorf("%s tells (- as it should be, + as it is):\n%s", r.Name, d)
		}
	}
	mail, _ := at(one(t, s, "Microsoft.Insights/actionGroups").Properties, "emailReceivers").([]any)
	if len(mail) != 1 || at(mail[0], "emailAddress") != "access@example.com" {
		t.Errorf("the group tells %v", mail)
	}
}

// appSettings are the app settings of a snapshot: what they hold, or the expression of which Azure makes it.
func appSettings(t *testing.T, s snapshot) map[string]string {
	t.Helper()
	var text string
	for _, r := range of(s, "Microsoft.Web/sites/config") {
		if strings.HasSuffix(r.Name, "/appsettings") {
			text, _ = r.Properties.(string)
		}
	}
	set := map[string]string{}
	const before, between = "createObject('key', '", "', 'value', "
	for {
		_, rest, ok := strings.Cut(text, before)
		if !ok {
			break
		}
		name, rest, _ := strings.Cut(rest, between)
		value := expression(rest)
		text = rest[len(value):]
		if literal, ok := strings.CutPrefix(value, "'"); ok {
			value = strings.ReplaceAll(strings.TrimSuffix(literal, "'"), "''", "'")
		}
		set[name] = value
	}
	if len(set) < 30 {
		t.Fatalf("the app's settings cannot be read: %v", set)
	}
	return set
}

// expression is the one that text begins with.
func expression(text string) string {
	depth, quoted := 0, false
	for i, c := range text {
		switch {
		case c == '\'':
			quoted = !quoted // a quote within a literal is doubled
		case quoted:
		case c == '(':
			depth++
		case c == ')' && depth == 0, c == ',' && depth == 0:
			return text[:i]
		case c == ')':
			depth--
		}
	}
	return text
}

func inEach(t *testing.T, judge func(*testing.T, string, snapshot)) {
	t.Helper()
	for name := range variants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			judge(t, name, read(t, name))
		})
	}
}

func read(t *testing.T, name string) (s snapshot) {
	t.Helper()
	text, err := os.ReadFile("snapshots/" + name + ".snapshot.json")
	if err != nil {
		t.Fatalf("%v; make infra writes it", err)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func of(s snapshot, kind string) (found []predicted) {
	for _, r := range s.PredictedResources {
		if r.Type == kind {
			found = append(found, r)
		}
	}
	return found
}

func one(t *testing.T, s snapshot, kind string) predicted {
	t.Helper()
	found := of(s, kind)
	if len(found) != 1 {
		t.Fatalf("there are %d resources of the type %s, not one", len(found), kind)
	}
	return found[0]
}

// identityOf is the only identity that a resource has.
func identityOf(t *testing.T, r predicted) string {
	t.Helper()
	ids := slices.Collect(maps.Keys(r.Identity))
	all, _ := r.Identity["userAssignedIdentities"].(map[string]any)
	if r.Identity["type"] != "UserAssigned" || len(ids) != 2 || len(all) != 1 {
		t.Fatalf("%s has the identities %v", r.Name, r.Identity)
	}
	return slices.Collect(maps.Keys(all))[0]
}
