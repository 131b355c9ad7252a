package delivery

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	signedIn = "az account show --output none"
	groupIs  = "az group show --name rg --output none"
	publish  = "func azure functionapp publish ticketbridge-x1y2 --custom --no-build"
	outputs  = "az deployment group show --resource-group rg --name ticketbridge --query properties.outputs --output jsonc"
)

// resources is how the template is deployed: before the app is published, and after it, when the Functions host has the key that the relay sends.
func resources(published string) string {
	return "az deployment group create --resource-group rg --name ticketbridge --parameters infra/ours.bicepparam --parameters appPublished=" + published +
		" --query [properties.outputs.functionAppName.value, properties.outputs.relayResourceId.value] --output tsv"
}

// oneDeploy is how a given package gets into an app on Flex Consumption: the Azure CLI uploads it as it is.
func oneDeploy(app string) string {
	return "az functionapp deployment source config-zip --resource-group rg --name " + app + " --src earlier.zip --output none"
}

func TestDeployAsksForEachThingInItsOrderAndSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	group := "RESOURCE_GROUP=rg"
	ours := "PARAMETERS=infra/ours.bicepparam"
	earlier := "PACKAGE=earlier.zip"
	both := []string{"az", "func"}
	for _, c := range []struct {
		name     string
		commands []string // the only ones of Azure's that are installed; nil is both
		args     []string
		settings []string
		asked    []string // in this order, and nothing else
		fails    string   // what the message must say; "" is success
	}{
		{name: "the whole", settings: []string{group, ours}, asked: []string{signedIn, groupIs, resources("false"), publish, "in dist", resources("true"), outputs}},
		{name: "without a relay", settings: []string{group, ours, "RELAY_IN_AZURE="}, asked: []string{signedIn, groupIs, resources("false"), publish, "in dist", outputs}},
		{name: "a given package", commands: []string{"az"}, settings: []string{group, ours, earlier}, asked: []string{signedIn, groupIs, resources("false"), oneDeploy("ticketbridge-x1y2"), resources("true"), outputs}},
		{name: "the way back", commands: []string{"az"}, settings: []string{group, earlier, "APP_NAME=bridge-1"}, asked: []string{signedIn, groupIs, oneDeploy("bridge-1")}},
		{name: "the app alone", settings: []string{group, "APP_NAME=ticketbridge-x1y2"}, asked: []string{signedIn, groupIs, publish, "in dist"}},
		{name: "a look beforehand changes nothing", args: []string{"check"}, settings: []string{group, ours}, asked: []string{signedIn, groupIs}},
		{name: "a look at the parameters needs no Azure", commands: []string{}, args: []string{"parameters"}, settings: []string{ours}},

		{name: "no Azure CLI", commands: []string{"func"}, settings: []string{group, ours}, fails: "https://learn.microsoft.com/cli/azure/install-azure-cli"},
		{name: "no Core Tools", commands: []string{"az"}, settings: []string{group, ours}, fails: "npm install -g azure-functions-core-tools@4"},
		{name: "no resource group said", settings: []string{ours}, fails: "make deploy RESOURCE_GROUP="},
		{name: "no parameters file", settings: []string{group, "PARAMETERS=infra/theirs.bicepparam"}, fails: "there is no parameters file infra/theirs.bicepparam"},
		{name: "the example's parameters", settings: []string{group}, fails: "infra/main.bicepparam still names https://example.service-now.com"},
		{name: "the example's parameters for azd", commands: []string{}, args: []string{"parameters"}, fails: "infra/main.bicepparam still names https://example.service-now.com"},
		{name: "no such package", settings: []string{group, ours, "PACKAGE=none.zip"}, fails: "there is no package none.zip"},
		{name: "not signed in", settings: []string{group, ours, "REFUSED=az account"}, asked: []string{signedIn}, fails: "az login"},
		{name: "no such resource group", settings: []string{group, ours, "REFUSED=az group"}, asked: []string{signedIn, groupIs}, fails: "az group create --name rg --location"},
		{name: "the resources are refused", settings: []string{group, ours, "REFUSED=az deployment group create"}, asked: []string{signedIn, groupIs, resources("false")}, fails: "the app is as it was"},
		{name: "a template without the app's name", settings: []string{group, ours, "APP_IN_AZURE="}, asked: []string{signedIn, groupIs, resources("false")}, fails: "functionAppName"},
		{
			name: "the relay is refused", settings: []string{group, ours, "REFUSED=" + strings.Split(resources("true"), " --query")[0]},
			asked: []string{signedIn, groupIs, resources("false"), publish, "in dist", resources("true")}, fails: "the app is published, but the relay was not deployed",
		},
		{
			name: "the app is not published", settings: []string{group, ours, "REFUSED=func"}, asked: []string{signedIn, groupIs, resources("false"), publish, "in dist"},
			fails: "the app was not published",
		},
		{
			name: "the package is not published", settings: []string{group, ours, earlier, "REFUSED=az functionapp"},
			asked: []string{signedIn, groupIs, resources("false"), oneDeploy("ticketbridge-x1y2")}, fails: "the app was not published",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.commands == nil {
				c.commands = both
			}
			d := newDesk(t, c.commands...)
			root := deployable(t)
			out, err := said(t, root, append(append(d.environ(root), "PATH="+d.bin+":"+plain(t)), c.settings...), filepath.Join(root, "infra", "deploy"), c.args...)
			if got := d.calls(t); !slices.Equal(got, c.asked) {
				t.Errorf("asked was\n%s\nnot\n%s\n(%v: %s)", strings.Join(got, "\n"), strings.Join(c.asked, "\n"), err, out)
			}
			if (err != nil) != (c.fails != "") || !strings.Contains(out, c.fails) {
				t.Errorf("it says (%v)\n%s\nand should say %q", err, out, c.fails)
			}
		})
	}
}

// deployable is a folder with the script, parameters, and something built.
func deployable(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"infra", "dist"} {
		check(t, os.Mkdir(filepath.Join(root, dir), 0o700))
	}
	check(t, os.WriteFile(filepath.Join(root, "infra", "deploy"), contents(t, "../deploy"), 0o700)) //nolint:gosec // it is to be run
	for name, text := range map[string][]byte{
		"infra/main.bicepparam": contents(t, "../main.bicepparam"),
		"infra/ours.bicepparam": []byte("// Not https://example.service-now.com but ours.\nusing 'main.bicep'\nparam serviceNowUrl = 'https://ours.service-now.com'\n"),
		"dist/handler":          []byte("a program"), "earlier.zip": []byte("a package"),
	} {
		check(t, os.WriteFile(filepath.Join(root, name), text, 0o600))
	}
	return root
}

// plain is a folder with what every system has, and neither az nor func.
func plain(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"bash", "basename", "cp", "dirname", "env", "grep"} {
		at, err := exec.LookPath(name)
		check(t, err)
		check(t, os.Symlink(at, filepath.Join(dir, name)))
	}
	return dir
}

func TestTheTemplateHasWhatDeployGivesItAndAsksItFor(t *testing.T) {
	t.Parallel()
	var template struct{ Parameters, Outputs map[string]any }
	check(t, json.Unmarshal(contents(t, "../main.json"), &template))
	if template.Parameters["appPublished"] == nil || template.Outputs["functionAppName"] == nil || template.Outputs["relayResourceId"] == nil {
		t.Error("the template lacks the parameter appPublished, or an output of functionAppName and relayResourceId")
	}
}
