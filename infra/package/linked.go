package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/google/licensecheck"
)

// app is a built handler and what is linked into it.
type app struct {
	version string
	commit  time.Time
	system  string // as in linux/amd64
	hash    string // SHA-256 of the handler, in hexadecimal
	self    module // the program itself
	linked  []module
}

// A module is what one Go module, or Go's standard library, puts into the handler.
type module struct {
	path, version string
	sum           string // as in go.sum: h1: and the base64 of a SHA-256 over the names and hashes of the module's files. Empty for the standard library
	licence       string // an SPDX expression: all licences under which something linked stands
	texts         []text // the files that say so
}

type text struct {
	name    string // below the module's folder, with slashes
	content []byte
}

// standardLibrary is the name under which those who look for known flaws know what Go itself brings.
const standardLibrary = "stdlib"

// look reads from a built handler which modules are linked into it, and from their sources what licences they have.
func look(ctx context.Context, file, version string, commit time.Time) (*app, error) {
	binary, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("look at the handler: %w", err)
	}
	built, err := buildinfo.Read(bytes.NewReader(binary))
	if err != nil {
		return nil, fmt.Errorf("%s was not built by go: %w", file, err)
	}
	sources, err := list(ctx, built)
	if err != nil {
		return nil, err
	}
	a := &app{version: version, commit: commit, system: platform(built), hash: sum(binary)}
	if a.self, err = sources.module(built.Main.Path); err != nil {
		return nil, err
	}
	a.self.version = version
	for _, dep := range built.Deps {
		if dep.Replace != nil {
			return nil, fmt.Errorf("%s is replaced by %s in go.mod; the SBOM could not say by whom it is: take a published version", dep.Path, dep.Replace.Path)
		}
		m, err := sources.module(dep.Path)
		if err != nil {
			return nil, err
		}
		if m.version != dep.Version {
			return nil, fmt.Errorf("the handler holds %s %s, go.mod says %s: build it again from these sources", dep.Path, dep.Version, m.version)
		}
		m.sum = dep.Sum
		a.linked = append(a.linked, m)
	}
	std, err := sources.standard(built.GoVersion)
	if err != nil {
		return nil, err
	}
	a.linked = append(a.linked, std)
	return a, nil
}

// platform is what a handler was built for, as in linux/amd64.
func platform(built *debug.BuildInfo) string {
	return setting(built, "GOOS") + "/" + setting(built, "GOARCH")
}

func setting(built *debug.BuildInfo, key string) string {
	for _, s := range built.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

// sources are the folders whose packages are linked into the handler, by module.
type sources struct {
	root map[string]string // a module's folder
	vers map[string]string
	dirs map[string][]string // the folders of its linked packages
	goes string              // GOROOT
}

// list asks the go command for the packages that are linked on the handler's system. It needs no network: they were there to be compiled.
func list(ctx context.Context, built *debug.BuildInfo) (*sources, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-deps", "-json=Dir,Root,Goroot,Module", built.Path) //nolint:gosec // the path of a package of ours
	cmd.Env = append(os.Environ(), "GOOS="+setting(built, "GOOS"), "GOARCH="+setting(built, "GOARCH"), "CGO_ENABLED="+setting(built, "CGO_ENABLED"))
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list %s: %w: %s", built.Path, err, bytes.TrimSpace(said.Bytes()))
	}
	s := &sources{root: map[string]string{}, vers: map[string]string{}, dirs: map[string][]string{}}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			Dir, Root string
			Goroot    bool
			Module    *struct{ Path, Version, Dir string }
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return s, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list %s: %w", built.Path, err)
		}
		switch {
		case p.Goroot && p.Root != "":
			s.goes = p.Root
		case p.Module != nil:
			s.root[p.Module.Path], s.vers[p.Module.Path] = p.Module.Dir, p.Module.Version
			s.dirs[p.Module.Path] = append(s.dirs[p.Module.Path], p.Dir)
		}
	}
}

// module is a linked module with its licences.
func (s *sources) module(path string) (module, error) {
	root, ok := s.root[path]
	if !ok {
		return module{}, fmt.Errorf("the handler holds %s, which its sources do not need: build it again from these sources", path)
	}
	m := module{path: path, version: s.vers[path]}
	return m, m.read(root, s.dirs[path])
}

// standard is Go's standard library, with its licence.
func (s *sources) standard(goVersion string) (module, error) {
	m := module{path: standardLibrary, version: strings.TrimPrefix(goVersion, "go")}
	return m, m.read(s.goes, nil)
}

// legal are the names of files that say under which licence something stands, or what has to be handed on with it.
var legal = regexp.MustCompile(`(?i)^(un)?(licen[cs]e|copying|notice|copyright|patents)s?([-._].*)?$`)

// read collects what says under which licences the module's linked packages stand: the files in its own folder, and those beside linked packages
// below it, which were taken over from elsewhere.
func (m *module) read(root string, dirs []string) error {
	all := map[string]bool{root: true}
	for _, dir := range dirs {
		for ; len(dir) > len(root); dir = filepath.Dir(dir) {
			all[dir] = true
		}
	}
	var found []string
	for dir := range all {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("licences of %s: %w", m.path, err)
		}
		for _, e := range entries {
			if legal.MatchString(e.Name()) && e.Type().IsRegular() && filepath.Ext(e.Name()) != ".go" {
				found = append(found, filepath.Join(dir, e.Name()))
			}
		}
	}
	var ids []string
	for _, file := range found {
		content, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("licences of %s: %w", m.path, err)
		}
		name, err := filepath.Rel(root, file)
		if err != nil {
			return fmt.Errorf("licences of %s: %w", m.path, err)
		}
		m.texts = append(m.texts, text{filepath.ToSlash(name), content})
		ids = append(ids, recognised(filepath.Base(file), content)...)
	}
	slices.SortFunc(m.texts, func(a, b text) int { return strings.Compare(a.name, b.name) })
	slices.Sort(ids)
	if len(ids) == 0 {
		return fmt.Errorf("no licence of %s %s is recognised, and what has none may not be handed on: look at it in %s", m.path, m.version, root)
	}
	m.licence = strings.Join(slices.Compact(ids), " AND ")
	return nil
}

// recognised are the SPDX identifiers of the licences that a file grants. A notice tells of the licences of others and grants none.
func recognised(name string, content []byte) []string {
	if lower := strings.ToLower(name); strings.HasPrefix(lower, "notice") || strings.HasPrefix(lower, "patents") {
		return nil
	}
	found := licensecheck.Scan(content)
	if found.Percent < 75 { // what pkg.go.dev asks for
		return nil
	}
	var ids []string
	for _, m := range found.Match {
		ids = append(ids, m.ID)
	}
	return ids
}

// writeLicences writes all licences, the program's own first.
func (a *app) writeLicences(w io.Writer) error {
	const line = "================================================================================\n"
	_, err := fmt.Fprintf(w, "%s %s holds what is named here, under these licences.\n", a.self.path, a.version)
	for _, m := range append([]module{a.self}, a.linked...) {
		for _, t := range m.texts {
			if err == nil {
				_, err = fmt.Fprintf(w, "\n%s%s %s (%s): %s\n%s\n%s\n", line, m.path, m.version, m.licence, t.name, line, bytes.TrimSpace(t.content))
			}
		}
	}
	return err
}
