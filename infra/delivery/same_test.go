package delivery

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdxlib"
)

// When the commit of the tests was made.
const committed = "2024-02-29T12:34:56Z"

// Everything that differs between two machines differs here: the folder, what of the history is there, the umask, the locale, the time zone, and what
// somebody has set for Go. The compiler's cache is shared, because the Graph SDK takes minutes.
func TestTheSameCommitIsTheSamePackageWhereverItIsMade(t *testing.T) {
	t.Parallel()
	origin := repository(t)
	here, there := filepath.Join(t.TempDir(), "here"), filepath.Join(t.TempDir(), "somewhere", "else", "with a longer name")
	git(t, origin, "clone", "-q", origin, here)
	git(t, origin, "clone", "-q", "--depth=1", "file://"+origin, there)
	azure := newDesk(t, "az", "func")
	commands := []struct {
		dir, umask, target string
		settings           []string
	}{
		{here, "022", "deploy RESOURCE_GROUP=rg PARAMETERS=ours.bicepparam", append(azure.environ(here), "PATH="+azure.bin+":"+os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC")},
		{there, "077", "package", []string{"LC_ALL=tr_TR.UTF-8", "TZ=Asia/Tokyo", "GOAMD64=v3", "GOFLAGS=-trimpath -tags=contracts", "GOEXPERIMENT=jsonv2", "GOOS=darwin", "GOARCH=arm64"}},
	}
	check(t, os.WriteFile(filepath.Join(here, "ours.bicepparam"), []byte("using 'infra/main.bicep'\n"), 0o600))
	t.Run("it is made", func(t *testing.T) {
		for _, c := range commands {
			t.Run("make "+c.target, func(t *testing.T) {
				t.Parallel()
				if out, err := said(t, c.dir, with(c.settings...), "bash", "-c", "umask "+c.umask+" && exec make "+c.target); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
			})
		}
	})
	if t.Failed() {
		return
	}
	for _, name := range []string{"dist.zip", "dist.spdx.json"} {
		a, b := contents(t, filepath.Join(here, name)), contents(t, filepath.Join(there, name))
		if !bytes.Equal(a, b) {
			t.Errorf("%s is %d and %d bytes, and they differ", name, len(a), len(b))
		}
	}
	files := unzipped(t, filepath.Join(here, "dist.zip"))
	t.Run("it holds what the app needs and nothing else", func(t *testing.T) { holds(t, here, files) })
	t.Run("Core Tools publish the same files", func(t *testing.T) {
		published := map[string][]byte{}
		check(t, fs.WalkDir(os.DirFS(azure.published), ".", func(name string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				published[name] = contents(t, filepath.Join(azure.published, name))
			}
			return err
		}))
		if !maps.EqualFunc(published, files, bytes.Equal) {
			t.Errorf("published were %v, and the package holds %v", slices.Sorted(maps.Keys(published)), slices.Sorted(maps.Keys(files)))
		}
	})
	t.Run("its SBOM is beside it too", func(t *testing.T) {
		if !bytes.Equal(files["sbom.spdx.json"], contents(t, filepath.Join(here, "dist.spdx.json"))) {
			t.Error("the SBOM beside the package is another one than that in it")
		}
	})
	t.Run("its SBOM names what is linked", func(t *testing.T) { names(t, here, files) })
	t.Run("its SBOM is SPDX 2.3", func(t *testing.T) { isSPDX(t, files["sbom.spdx.json"]) })
	t.Run("it carries all licences", func(t *testing.T) { carries(t, files) })
}

// repository makes a repository of the sources as they are here, of one commit that is the same each time.
func repository(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	check(t, err)
	dir := t.TempDir()
	listed, err := said(t, root, with(), "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	if err != nil {
		t.Fatalf("git ls-files: %v\n%s", err, listed)
	}
	for name := range strings.SplitSeq(strings.Trim(listed, "\x00"), "\x00") {
		from, to := filepath.Join(root, name), filepath.Join(dir, name)
		info, err := os.Lstat(from)
		if os.IsNotExist(err) { // taken away, and not yet said so to git
			continue
		}
		check(t, err)
		check(t, os.MkdirAll(filepath.Dir(to), 0o700))
		check(t, os.WriteFile(to, contents(t, from), info.Mode().Perm()))
	}
	git(t, dir, "init", "-q", "-b", "main")
	git(t, dir, "add", "-A")
	git(t, dir, "commit", "-q", "-m", "As it is")
	return dir
}

// git runs git with nobody's configuration.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, err := said(t, dir, with("GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_AUTHOR_NAME=x", "GIT_AUTHOR_EMAIL=x@example.com",
		"GIT_COMMITTER_NAME=x", "GIT_COMMITTER_EMAIL=x@example.com", "GIT_AUTHOR_DATE="+committed, "GIT_COMMITTER_DATE="+committed), "git", args...)
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(out)
}

func contents(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	check(t, err)
	return text
}

// unzipped are the files of a package by name.
func unzipped(t *testing.T, name string) map[string][]byte {
	t.Helper()
	z, err := zip.OpenReader(name)
	check(t, err)
	defer z.Close()
	files := map[string][]byte{}
	for _, f := range z.File {
		in, err := f.Open()
		check(t, err)
		files[f.Name], err = io.ReadAll(in)
		check(t, err)
		if want := fs.FileMode(0o644); f.Name != "handler" && f.Mode() != want || f.Name == "handler" && f.Mode() != 0o755 {
			t.Errorf("%s has the mode %v", f.Name, f.Mode())
		}
	}
	return files
}

func holds(t *testing.T, dir string, files map[string][]byte) {
	want := map[string][]byte{}
	for in, out := range map[string]string{"host.json": "host.json", "tickets.yaml": "tickets.yaml"} {
		want[out] = contents(t, filepath.Join(dir, in))
	}
	functions, err := filepath.Glob(filepath.Join(dir, "functions", "*", "function.json"))
	check(t, err)
	for _, file := range functions {
		want[filepath.Base(filepath.Dir(file))+"/function.json"] = contents(t, file)
	}
	for name, content := range files {
		switch {
		case name == "handler" || name == "sbom.spdx.json" || name == "LICENSES.txt":
		case want[name] == nil:
			t.Errorf("it holds %s", name)
		case !bytes.Equal(want[name], content):
			t.Errorf("%s is not as in the sources", name)
		}
	}
	for _, name := range append(slices.Collect(maps.Keys(want)), "handler", "sbom.spdx.json", "LICENSES.txt") {
		if len(files[name]) == 0 {
			t.Errorf("it lacks %s", name)
		}
	}
}

// A document is what of an SBOM is looked at here, as it stands in the JSON.
type document struct {
	SPDXVersion, DataLicense, SPDXID, Name, DocumentNamespace string
	CreationInfo                                              struct {
		Created  string
		Creators []string
	}
	Packages []struct {
		Name, SPDXID, VersionInfo, DownloadLocation, LicenseDeclared, SourceInfo string
		FilesAnalyzed                                                            *bool
		PackageVerificationCode                                                  any
		Checksums                                                                []struct{ Algorithm, ChecksumValue string }
		ExternalRefs                                                             []struct{ ReferenceCategory, ReferenceType, ReferenceLocator string }
	}
	Relationships []struct{ SPDXElementID, RelationshipType, RelatedSPDXElement string }
}

func parsed(t *testing.T, text []byte) document {
	t.Helper()
	var d document
	check(t, json.Unmarshal(text, &d))
	return d
}

// names compares the SBOM with what the go command itself says of the binary.
func names(t *testing.T, dir string, files map[string][]byte) {
	binary := filepath.Join(dir, "dist", "handler")
	out, err := said(t, dir, with(), "go", "version", "-m", binary)
	if err != nil {
		t.Fatalf("go version -m: %v\n%s", err, out)
	}
	want := map[string]string{}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) == 4 && f[0] == "dep" {
			want[f[1]] = f[2] + " " + f[3]
		} else if len(f) == 2 && f[0] == binary+":" {
			want["stdlib"] = strings.TrimPrefix(f[1], "go") + " "
		}
	}
	if len(want) < 10 {
		t.Fatalf("the go command names %d modules:\n%s", len(want), out)
	}
	d := parsed(t, files["sbom.spdx.json"])
	got := map[string]string{}
	for _, p := range d.Packages[1:] {
		sum, _, _ := strings.Cut(strings.TrimPrefix(p.SourceInfo, "go.sum: "), " ")
		got[p.Name] = p.VersionInfo + " " + sum
		if purl := "pkg:golang/" + p.Name + "@" + strings.ReplaceAll(p.VersionInfo, "+", "%2B"); len(p.ExternalRefs) != 1 || p.ExternalRefs[0].ReferenceLocator != purl {
			t.Errorf("%s is found by %v, not by %s", p.Name, p.ExternalRefs, purl)
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("the SBOM names\n%v\nlinked are\n%v", got, want)
	}
	self := d.Packages[0]
	hash := sha256.Sum256(files["handler"])
	if self.Name != "ticketbridge" || len(self.Checksums) != 1 || self.Checksums[0].Algorithm != "SHA256" || self.Checksums[0].ChecksumValue != hex.EncodeToString(hash[:]) {
		t.Errorf("the program itself is %+v, and its hash is %x", self, hash)
	}
	if version := git(t, dir, "rev-parse", "--short=12", "HEAD"); self.VersionInfo != version {
		t.Errorf("the version is %q, and the commit %q", self.VersionInfo, version)
	}
	if said, err := said(t, dir, with(), binary, "version"); err == nil && !strings.Contains(said, self.VersionInfo) { // where this system can run it
		t.Errorf("the handler says that it is %s, the SBOM %s", said, self.VersionInfo)
	}
}

// isSPDX holds the SBOM against what the specification says must be there (https://spdx.github.io/spdx-spec/v2.3/), and against SPDX's own reader.
func isSPDX(t *testing.T, text []byte) {
	d := parsed(t, text)
	if d.SPDXVersion != "SPDX-2.3" || d.DataLicense != "CC0-1.0" || d.SPDXID != "SPDXRef-DOCUMENT" || d.Name == "" { // 6.1 to 6.4
		t.Errorf("the head is %q %q %q %q", d.SPDXVersion, d.DataLicense, d.SPDXID, d.Name)
	}
	if at, err := url.Parse(d.DocumentNamespace); err != nil || !at.IsAbs() || strings.Contains(d.DocumentNamespace, "#") { // 6.5
		t.Errorf("the namespace %q is no URI: %v", d.DocumentNamespace, err)
	}
	if d.CreationInfo.Created != committed { // 6.9; and by no clock
		t.Errorf("created %q, not when the commit was, %s", d.CreationInfo.Created, committed)
	}
	if _, err := time.Parse("2006-01-02T15:04:05Z", d.CreationInfo.Created); err != nil {
		t.Error(err)
	}
	creator := regexp.MustCompile(`^(Tool: \S+-\S+|(Person|Organization): .+)$`)
	if len(d.CreationInfo.Creators) == 0 || !creator.MatchString(d.CreationInfo.Creators[0]) { // 6.8
		t.Errorf("the creators are %q", d.CreationInfo.Creators)
	}
	ids := map[string]bool{"SPDXRef-DOCUMENT": true}
	id := regexp.MustCompile(`^SPDXRef-[a-zA-Z0-9.-]+$`)
	for _, p := range d.Packages { // 7.1, 7.2, 7.7, 7.8, 7.9
		if p.Name == "" || !id.MatchString(p.SPDXID) || ids[p.SPDXID] || p.DownloadLocation == "" {
			t.Errorf("a package lacks something, or has another's id: %+v", p)
		}
		if p.FilesAnalyzed == nil || *p.FilesAnalyzed || p.PackageVerificationCode != nil {
			t.Errorf("%s counts as if its files were listed", p.Name)
		}
		ids[p.SPDXID] = true
	}
	related := map[string]string{}
	for _, r := range d.Relationships { // 11.1
		if !ids[r.SPDXElementID] || !ids[r.RelatedSPDXElement] {
			t.Errorf("%+v is between unknown ones", r)
		}
		related[r.RelatedSPDXElement] = r.SPDXElementID + " " + r.RelationshipType
	}
	for i, p := range d.Packages {
		want := d.Packages[0].SPDXID + " DEPENDS_ON"
		if i == 0 {
			want = "SPDXRef-DOCUMENT DESCRIBES"
		}
		if related[p.SPDXID] != want {
			t.Errorf("%s is there because of %q, not of %q", p.Name, related[p.SPDXID], want)
		}
	}
	read, err := spdxjson.Read(bytes.NewReader(text))
	check(t, err)
	check(t, spdxlib.ValidateDocument(read))
}

// The licences under which what is linked may stand. Another one has to be read by a person first: may it be handed on with a program under MIT, and
// what has to be handed on with it?
var allowed = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "MIT"}

func carries(t *testing.T, files map[string][]byte) {
	licences := string(files["LICENSES.txt"])
	for _, p := range parsed(t, files["sbom.spdx.json"]).Packages {
		for licence := range strings.SplitSeq(p.LicenseDeclared, " AND ") {
			if !slices.Contains(allowed, licence) {
				t.Errorf("%s stands under %q", p.Name, licence)
			}
		}
		head := "\n" + p.Name + " " + p.VersionInfo + " (" + p.LicenseDeclared + "): "
		_, after, found := strings.Cut(licences, head)
		_, body, _ := strings.Cut(after, strings.Repeat("=", 80)+"\n")
		body, _, _ = strings.Cut(body, strings.Repeat("=", 80))
		if !found || len(body) < 1000 {
			t.Errorf("the licence of %s is %d bytes long", p.Name, len(body))
		}
	}
}
