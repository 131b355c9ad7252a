package lifecycle

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ticketbridge/handler/simulator/entra"
)

// What `make package` makes of the built app is all that the app needs: unzipped where nothing else is, it does its work, and leaves the folder as it
// is, which Azure mounts for reading only.
func TestThePackageAloneDoesTheWholePath(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	unzip(t, packed(t), folder)
	before := hashes(t, folder)
	w := newWorld(t, plan{folder: folder})
	w.live(life{"approved, fulfilled", asking(ledgerPolicy), []ending{{stage: entra.StageApproved, act: done, told: "go on", state: "resumed"}}, "Delivered"})
	w.stop()
	if d := cmp.Diff(before, hashes(t, folder)); d != "" {
		t.Errorf("the app changed its folder (- before, + after):\n%s", d)
	}
}

// packed makes a package of a copy of what was built.
func packed(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	built, name := filepath.Join(dir, "built"), filepath.Join(dir, "dist.zip")
	if err := os.CopyFS(built, os.DirFS(dist(t))); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "run", "./infra/package", "-version", "test", "-time", "0", built, name) //nolint:gosec // our own program
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("package: %v\n%s", err, out)
	}
	return name
}

// unzip lays a package out with the run bits that it says, as Azure does.
func unzip(t *testing.T, name, dir string) {
	t.Helper()
	z, err := zip.OpenReader(name)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	for _, f := range z.File {
		to := filepath.Join(dir, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil { //nolint:gosec // as Azure lays it out
			t.Fatal(err)
		}
		in, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		var content bytes.Buffer
		if _, err := io.Copy(&content, in); err != nil { //nolint:gosec // our own zip
			t.Fatal(err)
		}
		if err := os.WriteFile(to, content.Bytes(), f.Mode()); err != nil {
			t.Fatal(err)
		}
	}
}

// hashes are those of all files below a folder, with their modes.
func hashes(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		content, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		sum := sha256.Sum256(content)
		all[name] = fmt.Sprintf("%v %x", info.Mode(), sum)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
