// Command package makes the zip that is deployed from the app's folder: the same bytes for the same files, wherever and whenever it runs,
// with the run bit on the handler alone.
package main

import (
	"archive/zip"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// handler is the one entry that Azure starts; host.json names it.
const handler = "handler"

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: package FOLDER FILE.zip")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "package:", err)
		os.Exit(1)
	}
}

// run writes the zip of the folder dir to the file name. The file is there only when it is whole.
func run(dir, name string) error {
	out, err := os.CreateTemp(filepath.Dir(name), ".package-*")
	if err != nil {
		return fmt.Errorf("make the zip: %w", err)
	}
	defer func() { _ = os.Remove(out.Name()) }()
	if err := write(out, os.DirFS(dir)); err != nil {
		_ = out.Close()
		return fmt.Errorf("zip %s: %w", dir, err)
	}
	if err := out.Chmod(0o644); err != nil {
		return fmt.Errorf("zip %s: %w", dir, err)
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("zip %s: %w", dir, err)
	}
	return os.Rename(out.Name(), name)
}

// write writes the zip of an app's folder. It is an error when the folder has no handler, no host.json, or something that is no plain file.
// Settings for local runs stay out.
func write(w io.Writer, app fs.FS) error {
	for _, name := range []string{"host.json", handler} {
		if _, err := fs.Stat(app, name); err != nil {
			return fmt.Errorf("this is no built app: %w", err)
		}
	}
	z := zip.NewWriter(w)
	err := fs.WalkDir(app, ".", func(name string, entry fs.DirEntry, err error) error { // in the order of the names
		switch {
		case err != nil:
			return err
		case entry.IsDir() || name == "local.settings.json":
			return nil
		case !entry.Type().IsRegular():
			return fmt.Errorf("%s is no plain file", name)
		}
		return add(z, app, name)
	})
	if err != nil {
		return err
	}
	return z.Close()
}

func add(z *zip.Writer, app fs.FS, name string) error {
	in, err := app.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	header := &zip.FileHeader{
		Name: name, Method: zip.Deflate,
		Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC), // the first that a zip can hold
	}
	header.SetMode(0o644)
	if name == handler {
		header.SetMode(0o755)
	}
	out, err := z.CreateHeader(header)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return err
}
