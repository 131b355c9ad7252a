package delivery

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

type workflow struct {
	On          map[string]any
	Permissions map[string]string
	Env         map[string]string
	Jobs        map[string]job
}

type job struct {
	Needs       []string
	If          string
	Environment string
	Permissions map[string]string
	Steps       []struct {
		Uses, Run string
		With      map[string]any
		Env       map[string]string
	}
}

func read(t *testing.T) (workflow, string) {
	t.Helper()
	files, err := filepath.Glob("../../.github/workflows/*")
	check(t, err)
	if len(files) != 1 {
		t.Fatalf("the workflows are %v; this test knows one", files)
	}
	text := contents(t, files[0])
	var w workflow
	check(t, yaml.Unmarshal(text, &w))
	return w, string(text)
}

func TestTheWorkflowTestsAndPacksEachChangeAndDeploysWhatItTestedAndPacked(t *testing.T) {
	t.Parallel()
	w, _ := read(t)
	if on := slices.Sorted(maps.Keys(w.On)); !slices.Equal(on, []string{"pull_request", "push", "workflow_dispatch"}) {
		t.Errorf("it runs on %v", on) // pull_request_target would run strangers' code with our rights
	}
	runs := map[string][]string{}
	for name, j := range w.Jobs {
		for _, s := range j.Steps {
			if s.Run != "" {
				runs[name] = append(runs[name], s.Run)
			}
		}
	}
	want := map[string][]string{"test": {"make lint", "az bicep install --version " + compiler(t), "make infra", "make test"}, "package": {"make package"}, "deploy": {"infra/deploy"}}
	if !maps.EqualFunc(runs, want, slices.Equal) {
		t.Errorf("the jobs run %v, not %v", runs, want)
	}
	deploy := w.Jobs["deploy"]
	if !slices.Equal(deploy.Needs, []string{"test", "package"}) || deploy.Environment != "azure" {
		t.Errorf("it deploys after %v, in the environment %q", deploy.Needs, deploy.Environment)
	}
	if want := "github.event_name == 'workflow_dispatch' || (github.event_name == 'push' && startsWith(github.ref, 'refs/tags/v'))"; deploy.If != want {
		t.Errorf("it deploys if %s", deploy.If)
	}
	for _, s := range w.Jobs["package"].Steps {
		if strings.HasPrefix(s.Uses, "actions/upload-artifact@") && s.With["path"] != "dist.zip\ndist.spdx.json\n" {
			t.Errorf("kept is %q", s.With["path"])
		}
		if strings.HasPrefix(s.Uses, "actions/checkout@") && s.With["fetch-depth"] != uint64(0) {
			t.Errorf("the version is made of a history %v deep", s.With["fetch-depth"])
		}
	}
	if s := deploy.Steps[len(deploy.Steps)-1]; s.Env["PACKAGE"] != "dist.zip" {
		t.Errorf("what is deployed is %q", s.Env["PACKAGE"])
	}
}

func TestTheWorkflowHasNoSecretAndEachJobOnlyTheRightsItNeeds(t *testing.T) {
	t.Parallel()
	w, text := read(t)
	if strings.Contains(text, "secrets.") {
		t.Error("it uses a secret")
	}
	if w.Permissions == nil || len(w.Permissions) != 0 {
		t.Errorf("a job that says nothing has the rights %v", w.Permissions)
	}
	for name, j := range w.Jobs {
		want := map[string]string{"contents": "read"}
		if name == "deploy" {
			want["id-token"] = "write"
		}
		if !maps.Equal(j.Permissions, want) {
			t.Errorf("the job %s has the rights %v, not %v", name, j.Permissions, want)
		}
		signedIn := false
		for _, s := range j.Steps {
			if strings.Contains(s.Run, "${{") {
				t.Errorf("what a branch is called could be run as a command: %s", s.Run)
			}
			if strings.HasPrefix(s.Uses, "actions/checkout@") && s.With["persist-credentials"] != false {
				t.Errorf("the job %s leaves its token in the checkout", name)
			}
			if strings.HasPrefix(s.Uses, "azure/login@") {
				signedIn = true
				with := map[string]any{
					"client-id": "${{ vars.AZURE_CLIENT_ID }}", "tenant-id": "${{ vars.AZURE_TENANT_ID }}", "subscription-id": "${{ vars.AZURE_SUBSCRIPTION_ID }}",
				}
				if !maps.Equal(s.With, with) {
					t.Errorf("it signs in with %v", s.With)
				}
			}
		}
		if signedIn != (name == "deploy") {
			t.Errorf("the job %s signs in to Azure: %v", name, signedIn)
		}
	}
}

func TestTheWorkflowNamesEachActionByItsCommit(t *testing.T) {
	t.Parallel()
	w, text := read(t)
	pinned := regexp.MustCompile(`uses: ([\w-]+/[\w-]+@[0-9a-f]{40}) # v\d+\.\d+\.\d+\n`).FindAllStringSubmatch(text, -1)
	var known []string
	for _, p := range pinned {
		known = append(known, p[1])
	}
	for name, j := range w.Jobs {
		for _, s := range j.Steps {
			if s.Uses != "" && !slices.Contains(known, s.Uses) {
				t.Errorf("the job %s uses %s, by no commit with its version beside it", name, s.Uses)
			}
		}
	}
}

func TestTheWorkflowBuildsWithOneGoThatTheModuleTakes(t *testing.T) {
	t.Parallel()
	w, _ := read(t)
	needed := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(contents(t, "../../go.mod"))
	if version := w.Env["GO_VERSION"]; len(needed) != 2 || !regexp.MustCompile(`^`+regexp.QuoteMeta(string(needed[1]))+`\.\d+$`).MatchString(version) {
		t.Errorf("it builds with Go %q, which is no version of the module's Go %s", version, needed[1:])
	}
}

// compiler is the version of Bicep with which the template was compiled, as in v0.49.2.
func compiler(t *testing.T) string {
	t.Helper()
	var template struct {
		Metadata struct {
			Generator struct{ Version string } `json:"_generator"`
		}
	}
	check(t, json.Unmarshal(contents(t, "../main.json"), &template))
	version := strings.Split(template.Metadata.Generator.Version, ".")
	if len(version) != 4 {
		t.Fatalf("main.json was compiled with %q", template.Metadata.Generator.Version)
	}
	return "v" + strings.Join(version[:3], ".")
}
