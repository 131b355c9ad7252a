package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// pack writes the zip of the folder dir to the file name. The file is there only when it is whole.
func pack(dir, name string) error {
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

// complete is an error where the folder has no handler or no host.json.
func complete(app fs.FS) error {
	for _, name := range []string{"host.json", handler} {
		if _, err := fs.Stat(app, name); err != nil {
			return fmt.Errorf("this is no built app, make build makes one: %w", err)
		}
	}
	return nil
}

// write writes the zip of an app's folder. It is an error when the folder has no handler, no host.json, or anything that the app does not need:
// what lies about on the machine of whoever builds it must not get into Azure. Settings for local runs stay out.
func write(w io.Writer, app fs.FS) error {
	if err := complete(app); err != nil {
		return err
	}
	z := zip.NewWriter(w)
	err := fs.WalkDir(app, ".", func(name string, entry fs.DirEntry, err error) error { // in the order of the names' bytes
		switch {
		case err != nil:
			return err
		case entry.IsDir() || name == "local.settings.json":
			return nil
		case !entry.Type().IsRegular():
			return fmt.Errorf("%s is no plain file", name)
		case !needed(name):
			return fmt.Errorf("%s is nothing that the app needs: make build makes the folder anew, without it", name)
		}
		return add(z, app, name)
	})
	if err != nil {
		return err
	}
	return z.Close()
}

// needed says whether a file of the app's folder belongs into the package.
func needed(name string) bool {
	switch name {
	case "host.json", handler, sbom, licences, "tickets.yaml":
		return true
	}
	return path.Base(name) == "function.json" && strings.Count(name, "/") == 1 // the host looks one folder deep
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

// judge says what a package is, and for which system. It is an error when that is no package, or its handler cannot be run.
//
// Flex Consumption runs linux/amd64 only; another handler would be published without a complaint and never start. Microsoft's pages name no other
// processor for it: "Linux x64" is all that https://azure.github.io/azure-functions-golang-worker/guides/container-images/ has for the platform's
// image (August 2026). A package for arm64 can be made all the same, for a Functions host elsewhere.
func judge(name string, stdout io.Writer) (system string, err error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("look at the package: %w", err)
	}
	z, err := zip.NewReader(bytes.NewReader(text), int64(len(text)))
	if err != nil {
		return "", fmt.Errorf("%s is no package: %w", name, err)
	}
	if err := complete(z); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	in, err := z.Open(handler)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	defer func() { _ = in.Close() }()
	if info, err := in.Stat(); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	} else if info.Mode().Perm()&0o111 == 0 {
		return "", fmt.Errorf("%s: nobody may run its handler: make package makes one that can be run", name)
	}
	binary, err := io.ReadAll(in)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	built, err := buildinfo.Read(bytes.NewReader(binary))
	if err != nil {
		return "", fmt.Errorf("%s: its handler was not built by go: %w", name, err)
	}
	system = platform(built)
	_, err = fmt.Fprintf(stdout, "%s: %s, %s, SHA-256 %s\n", name, system, built.GoVersion, sum(text))
	return system, err
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}
