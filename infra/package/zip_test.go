package main

import (
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// folder is a built app's folder, its files written at the given time.
func folder(at time.Time) fstest.MapFS {
	file := func(text string, mode fs.FileMode) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(text), Mode: mode, ModTime: at}
	}
	return fstest.MapFS{
		"sweep/function.json":   file("{}", 0o755),
		"host.json":             file("{}", 0o600),
		"handler":               file("\x7fELF", 0o644), // as a build on Windows leaves it
		"callout/function.json": file("{}", 0o644),
		"local.settings.json":   file("secret", 0o644),
	}
}

func zipped(t *testing.T, app fs.FS) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b, app); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestTheSameFilesMakeTheSameBytesWheneverTheyWereWritten(t *testing.T) {
	t.Parallel()
	now, then := time.Now(), time.Date(2020, 2, 29, 1, 2, 3, 4, time.FixedZone("", 3600))
	if !bytes.Equal(zipped(t, folder(now)), zipped(t, folder(then))) {
		t.Error("two zips of the same files differ")
	}
}

func TestOnlyTheHandlerCanBeRunAndLocalSettingsStayOut(t *testing.T) {
	t.Parallel()
	b := zipped(t, folder(time.Now()))
	r, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range r.File {
		got = append(got, f.Mode().String()+" "+f.Name)
	}
	want := []string{"-rw-r--r-- callout/function.json", "-rwxr-xr-x handler", "-rw-r--r-- host.json", "-rw-r--r-- sweep/function.json"}
	if !slices.Equal(got, want) {
		t.Errorf("the zip holds\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	in, err := r.Open("handler")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(in); err != nil || string(text) != "\x7fELF" {
		t.Errorf("the handler in the zip is %q (%v)", text, err)
	}
}

func TestAFolderThatIsNoBuiltAppIsRefusedAndLeavesNoFile(t *testing.T) {
	t.Parallel()
	for _, missing := range []string{"handler", "host.json"} {
		broken := folder(time.Now())
		delete(broken, missing)
		if err := write(io.Discard, broken); err == nil || !strings.Contains(err.Error(), missing) {
			t.Errorf("without %s the error is %v; it must name it", missing, err)
		}
	}
	dir := t.TempDir()
	if err := pack(dir, filepath.Join(dir, "dist.zip")); err == nil {
		t.Error("an empty folder was zipped")
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

func TestWhatTheAppDoesNotNeedIsRefusedByName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"notes.txt", "callout/function.json.bak", ".env", "callout/deeper/function.json", "function.json", "handler.exe"} {
		cluttered := folder(time.Now())
		cluttered[name] = &fstest.MapFile{Data: []byte("?")}
		if err := write(io.Discard, cluttered); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("with %s the error is %v; it must name it", name, err)
		}
	}
}

// packed is a package whose handler is a real Go program, this test, in which one word is another of the same length.
func packed(t *testing.T, mode fs.FileMode, word, another string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "dist.zip")
	out, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(out)
	for file, content := range map[string][]byte{"host.json": []byte("{}"), handler: bytes.ReplaceAll(binary, []byte(word), []byte(another))} {
		header := &zip.FileHeader{Name: file}
		header.SetMode(mode)
		w, err := z.CreateHeader(header)
		if err == nil {
			_, err = w.Write(content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(z.Close(), out.Close()); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestOnlyAPackageThatFlexConsumptionCanRunPassesTheCheck(t *testing.T) {
	t.Parallel()
	here := "GOARCH=" + runtime.GOARCH
	system := runtime.GOOS + "/" + runtime.GOARCH
	for _, c := range []struct {
		name, file, refused string
	}{
		{"the handler's run bit is missing", packed(t, 0o644, "", ""), "nobody may run its handler"},
		{"another processor", packed(t, 0o755, here, "GOARCH=arm99"), "arm99"},
		{"there is none", filepath.Join(t.TempDir(), "none.zip"), "none.zip"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if err := run(t.Context(), []string{"-check", c.file}, io.Discard); err == nil || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("the error is %v; it must say %q", err, c.refused)
			}
		})
	}
	var said strings.Builder
	got, err := judge(packed(t, 0o755, "", ""), &said)
	if err != nil || got != system || !strings.Contains(said.String(), system+", "+runtime.Version()) {
		t.Errorf("it is for %q, not for %s: %s (%v)", got, system, said.String(), err)
	}
}

func TestWhatTheCommandLineLacksIsNamed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args  []string
		named string
	}{
		{[]string{"dist", "dist.zip"}, "-version"},
		{[]string{"-version", "v1", "dist", "dist.zip"}, "-time"},
		{[]string{"-version", "v1", "-time", "0", "dist"}, "two"},
		{[]string{"-version", "v1", "-time", "0", "dist", "dist.tar"}, "dist.tar"},
	} {
		if err := run(t.Context(), c.args, io.Discard); err == nil || !strings.Contains(err.Error(), c.named) {
			t.Errorf("%v: the error is %v; it must name %s", c.args, err, c.named)
		}
	}
}
