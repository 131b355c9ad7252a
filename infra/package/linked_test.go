package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// mit is the text of the licence called MIT, as this project's own.
func mit(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile("../../LICENSE")
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// laid is a module's folder with these files.
func laid(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		file := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil { //nolint:gosec // as folders of modules are
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const zeroBSD = `Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED WARRANTIES OF
MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT, INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES
WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR
IN CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE.`

func TestALicenceBelowCountsWhereWhatStandsBesideItIsLinked(t *testing.T) {
	t.Parallel()
	root := laid(t, map[string]string{
		"LICENSE": mit(t), "NOTICE.txt": "Here is something of somebody's.", "license.go": "package x", "taken/over/COPYING": zeroBSD, "unused/LICENSE": "Nobody may do anything.",
	})
	linked := []string{root, filepath.Join(root, "taken", "over", "deep")}
	if err := os.MkdirAll(linked[1], 0o755); err != nil { //nolint:gosec // as folders of modules are
		t.Fatal(err)
	}
	m := module{path: "example.com/x", version: "v1.0.0"}
	if err := m.read(root, linked); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, text := range m.texts {
		names = append(names, text.name)
	}
	if want := []string{"LICENSE", "NOTICE.txt", "taken/over/COPYING"}; !slices.Equal(names, want) || m.licence != "0BSD AND MIT" {
		t.Errorf("collected %v under %q, not %v under MIT and 0BSD", names, m.licence, want)
	}
}

func TestWhatStandsUnderNoKnownLicenceIsNotPacked(t *testing.T) {
	t.Parallel()
	for name, files := range map[string]map[string]string{
		"no licence":        {"readme.md": "Hello."},
		"an odd one":        {"LICENSE": "You may use this on Tuesdays."},
		"a notice alone":    {"NOTICE": mit(t)},
		"a line of licence": {"LICENSE": "All of this is ours and nobody else's, whatever they say, but what follows.\n" + strings.Repeat("No. ", 400) + mit(t)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := module{path: "example.com/odd", version: "v1.2.3"}
			if err := m.read(laid(t, files), nil); err == nil || !strings.Contains(err.Error(), "example.com/odd v1.2.3") {
				t.Errorf("the error is %v; it must name the module", err)
			}
		})
	}
}
