package profilesrc_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/device-profile/caddy-device-profile/profilesrc"
	"github.com/device-profile/caddy-device-profile/profilesrc/profilesrctest"
)

func openFolder(t *testing.T, folder string) *profilesrc.Files {
	t.Helper()
	return openFiles(t, profilesrc.FilesConfig{Folder: folder})
}

func openFiles(t testing.TB, config profilesrc.FilesConfig) *profilesrc.Files {
	t.Helper()
	files, err := profilesrc.OpenFiles(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := files.Close(); err != nil {
			t.Error(err)
		}
	})
	return files
}

func writeFiles(t *testing.T, folder string, files map[string][]byte) {
	t.Helper()
	for name, data := range files {
		file := filepath.Join(folder, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, data, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

func nameOf(t testing.TB, name string) profilesrc.Request {
	t.Helper()
	n, err := profilesrc.NewName(name)
	if err != nil {
		t.Fatal(err)
	}
	return profilesrc.Request{Name: n}
}

func TestFilesConformance(t *testing.T) {
	t.Run("folder", func(t *testing.T) {
		profilesrctest.TestSource(t, func(t *testing.T, files map[string][]byte) profilesrc.Source {
			folder := t.TempDir()
			writeFiles(t, folder, files)
			return openFolder(t, folder)
		})
	})
	t.Run("folder, nothing remembered", func(t *testing.T) {
		profilesrctest.TestSource(t, func(t *testing.T, files map[string][]byte) profilesrc.Source {
			folder := t.TempDir()
			writeFiles(t, folder, files)
			return openFiles(t, profilesrc.FilesConfig{Folder: folder, Memory: -1})
		})
	})
	t.Run("file system", func(t *testing.T) {
		profilesrctest.TestSource(t, func(t *testing.T, files map[string][]byte) profilesrc.Source {
			fsys := fstest.MapFS{}
			for name, data := range files {
				fsys["profiles/"+name] = &fstest.MapFile{Data: data}
			}
			source, err := profilesrc.NewFilesFS("memory", fsys, "profiles")
			if err != nil {
				t.Fatal(err)
			}
			return source
		})
	})
}

func TestFilesStaysInside(t *testing.T) {
	outside := t.TempDir()
	writeFiles(t, outside, map[string][]byte{"secret.cfg": []byte("secret")})
	folder := t.TempDir()
	writeFiles(t, folder, map[string][]byte{"real/inside.cfg": []byte("inside")})
	links := map[string]string{
		"absolute.cfg": filepath.Join(outside, "secret.cfg"),
		"relative.cfg": "../" + filepath.Base(outside) + "/secret.cfg",
		"folder":       outside,
		"inside.cfg":   "real/inside.cfg",
		"loop.cfg":     "loop.cfg",
	}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	source := openFolder(t, folder)
	for _, name := range []string{"absolute.cfg", "relative.cfg", "folder/secret.cfg", "loop.cfg"} {
		profile, err := source.Open(t.Context(), nameOf(t, name))
		if err == nil {
			profile.Body.Close()
			t.Errorf("%s was opened", name)
			continue
		}
		if strings.Contains(err.Error(), outside) || strings.Contains(err.Error(), folder) {
			t.Errorf("%s: the error tells a path on disk: %v", name, err)
		}
	}
	profile, err := source.Open(t.Context(), nameOf(t, "inside.cfg"))
	if err != nil {
		t.Fatalf("a link within the folder: %v", err)
	}
	profile.Body.Close()
}

func TestFilesServesRegularFilesAlone(t *testing.T) {
	folder := t.TempDir()
	writeFiles(t, folder, map[string][]byte{"folder/x": nil})
	if err := syscall.Mkfifo(filepath.Join(folder, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	source := openFolder(t, folder)
	for _, name := range []string{"folder", "fifo", "folder/x/y", strings.Repeat("x", 300)} {
		if _, err := source.Open(t.Context(), nameOf(t, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%.20s: got %v, want fs.ErrNotExist", name, err)
		}
	}
}

func TestFilesTagChanges(t *testing.T) {
	folder := t.TempDir()
	source := openFolder(t, folder)
	tags := make(map[string]bool)
	for i, content := range []string{"one", "two", "three"} {
		writeFiles(t, folder, map[string][]byte{"a.cfg": []byte(content)})
		at := time.Unix(int64(1000+i/2), 0) // the third differs in size alone
		if err := os.Chtimes(filepath.Join(folder, "a.cfg"), at, at); err != nil {
			t.Fatal(err)
		}
		profile, err := source.Open(t.Context(), nameOf(t, "a.cfg"))
		if err != nil {
			t.Fatal(err)
		}
		profile.Body.Close()
		if !profile.ModTime.Equal(at) {
			t.Errorf("time %s, want %s", profile.ModTime, at)
		}
		tags[profile.ETag] = true
	}
	if len(tags) != 2 { // "one" and "two" have the same size and time
		t.Errorf("tags %v, want two different ones", tags)
	}
}

func TestFilesRefusesToStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	writeFiles(t, filepath.Dir(file), map[string][]byte{"file": nil})
	for _, folder := range []string{filepath.Join(t.TempDir(), "missing"), file} {
		if _, err := profilesrc.OpenFiles(profilesrc.FilesConfig{Folder: folder}); err == nil || !strings.Contains(err.Error(), folder) {
			t.Errorf("got %v, want an error that names %s", err, folder)
		}
	}
	for _, folder := range []string{"missing", "file", "../up"} {
		if _, err := profilesrc.NewFilesFS("memory", fstest.MapFS{"file": {}}, folder); err == nil || !strings.Contains(err.Error(), "memory") {
			t.Errorf("%s: got %v, want an error that names the file system", folder, err)
		}
	}
}
