package main

import (
	"archive/zip"
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// app is a built app's folder, its files written at the given time.
func app(at time.Time) fstest.MapFS {
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
	if !bytes.Equal(zipped(t, app(now)), zipped(t, app(then))) {
		t.Error("two zips of the same files differ")
	}
}

func TestOnlyTheHandlerCanBeRunAndLocalSettingsStayOut(t *testing.T) {
	t.Parallel()
	b := zipped(t, app(time.Now()))
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
		broken := app(time.Now())
		delete(broken, missing)
		if err := write(io.Discard, broken); err == nil || !strings.Contains(err.Error(), missing) {
			t.Errorf("without %s the error is %v; it must name it", missing, err)
		}
	}
	dir := t.TempDir()
	if err := run(dir, filepath.Join(dir, "dist.zip")); err == nil {
		t.Error("an empty folder was zipped")
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}
