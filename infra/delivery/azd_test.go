package delivery

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// A hook is a command that azd runs.
type hook struct{ Shell, Run string }

// azureYAML is what of azure.yaml may be there.
type azureYAML struct {
	Name     string
	Infra    struct{ Provider, Path, Module string }
	Services map[string]struct {
		Project, Host, Language, Dist string
		Hooks                         map[string]hook
	}
	Hooks map[string]hook
}

// What azd does with it was read in its source (https://github.com/Azure/azure-dev, August 2026): a service in a language of its own is not built, a
// dist that ends in .zip is uploaded as it is, and the app is the resource with the tag azd-service-name.
func TestAzdPublishesThePackageToTheAppThatTheTemplateMakes(t *testing.T) {
	t.Parallel()
	var a azureYAML
	check(t, yaml.UnmarshalWithOptions(contents(t, "../../azure.yaml"), &a, yaml.Strict()))
	service, ok := a.Services["handler"]
	if !ok || len(a.Services) != 1 || service.Host != "function" || service.Language != "custom" || service.Project != "." {
		t.Fatalf("the services are %+v", a.Services)
	}
	tagged := regexp.MustCompile(`'azd-service-name', '([^']*)'`).FindStringSubmatch(string(contents(t, "../main.json")))
	if len(tagged) != 2 || tagged[1] != "handler" {
		t.Errorf("the template's tag is %q", tagged)
	}
	if _, err := os.Stat(filepath.Join("../..", a.Infra.Path, a.Infra.Module+".bicepparam")); err != nil || a.Infra.Provider != "bicep" {
		t.Errorf("azd would not find the parameters of %+v: %v", a.Infra, err)
	}
	// What the hook makes is what is uploaded: make would build it into this very file.
	made, err := exec.CommandContext(t.Context(), "make", "-C", "../..", "-n", "package", "GOARCH=amd64").CombinedOutput()
	check(t, err)
	if pack := service.Hooks["prepackage"]; pack.Shell != "sh" || pack.Run != "make package GOARCH=amd64" || !strings.Contains(string(made), " dist "+service.Dist) {
		t.Errorf("the hook runs %q, which makes\n%s\nand what is uploaded is %q", pack.Run, made, service.Dist)
	}
	// The relay comes with a second look at the resources, once: from then on the environment says that the app is published.
	if after := service.Hooks["postdeploy"]; after.Shell != "sh" || !strings.Contains(after.Run, "azd env set APP_PUBLISHED true && azd provision") {
		t.Errorf("after the app is published, %q runs", after.Run)
	}
	if parameters := string(contents(t, "../main.bicepparam")); !strings.Contains(parameters, "\nparam appPublished = bool(readEnvironmentVariable('APP_PUBLISHED', 'false'))\n") {
		t.Error("the parameters do not ask the environment whether the app is published")
	}
	if before := a.Hooks["preprovision"]; before.Shell != "sh" || before.Run != "infra/deploy parameters" {
		t.Errorf("before the resources are made, %q runs", before.Run)
	}
}
