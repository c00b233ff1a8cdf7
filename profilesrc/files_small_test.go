package profilesrc_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"pgregory.net/rapid"

	"github.com/device-profile/caddy-device-profile/profilesrc"
)

// contentOf returns what the source has under a name.
func contentOf(t *testing.T, source profilesrc.Source, name string) (string, error) {
	t.Helper()
	profile, err := source.Open(t.Context(), nameOf(t, name))
	if err != nil {
		return "", err
	}
	defer profile.Body.Close()
	data, err := io.ReadAll(profile.Body)
	return string(data), err
}

// writeOld writes a file that was last changed at a time that is long ago.
func writeOld(file, content string, at time.Time) error {
	return errors.Join(os.WriteFile(file, []byte(content), 0o600), os.Chtimes(file, at, at))
}

var longAgo = time.Unix(1_000_000_000, 0)

// Whatever happens to files, the source has what the disk has.
func TestFilesFollowsTheDisk(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		folder := t.TempDir()
		source := openFolder(t, folder)
		names := rapid.SampledFrom([]string{"a.cfg", "b.cfg"})
		contents := rapid.StringN(0, 3, -1)
		changes := 0
		next := func() time.Time {
			changes++
			return longAgo.Add(time.Duration(changes) * time.Nanosecond)
		}
		file := func() string { return filepath.Join(folder, names.Draw(rt, "name")) }
		fatal := func(err error) {
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				rt.Fatal(err)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"write": func(rt *rapid.T) { fatal(writeOld(file(), contents.Draw(rt, "content"), next())) },
			"now":   func(rt *rapid.T) { fatal(os.WriteFile(file(), []byte(contents.Draw(rt, "content")), 0o600)) },
			"replace": func(rt *rapid.T) {
				temporary := filepath.Join(folder, "temporary")
				fatal(errors.Join(writeOld(temporary, contents.Draw(rt, "content"), longAgo), os.Rename(temporary, file())))
			},
			"remove": func(*rapid.T) { fatal(os.Remove(file())) },
			"": func(rt *rapid.T) {
				for _, name := range []string{"a.cfg", "b.cfg"} {
					want, wantErr := os.ReadFile(filepath.Join(folder, name))
					got, err := contentOf(t, source, name)
					if got != string(want) || errors.Is(err, fs.ErrNotExist) != errors.Is(wantErr, fs.ErrNotExist) {
						rt.Fatalf("%s: got %q, %v; the disk has %q, %v", name, got, err, want, wantErr)
					}
				}
			},
		})
	})
}

// A change that a look at the file can't tell shows whether its content is
// remembered.
func TestFilesMemory(t *testing.T) {
	for _, tt := range []struct {
		name   string
		memory int64
		at     time.Time
		size   int
		want   string
	}{
		{"remembered", 0, longAgo, 8 << 10, "before"},
		{"of the largest size", 0, longAgo, 64 << 10, "before"},
		{"too large", 0, longAgo, 64<<10 + 1, "after"},
		{"off", -1, longAgo, 8 << 10, "after"},
		{"changed just now", 0, time.Now(), 8 << 10, "after"},
		{"changed in the future", 0, time.Now().Add(time.Hour), 8 << 10, "after"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			folder := t.TempDir()
			source := openFiles(t, profilesrc.FilesConfig{Folder: folder, Memory: tt.memory})
			var got string
			for _, word := range []string{"before", "after"} {
				if err := writeOld(filepath.Join(folder, "a.cfg"), fmt.Sprintf("%-*s", tt.size, word), tt.at); err != nil {
					t.Fatal(err)
				}
				var err error
				if got, err = contentOf(t, source, "a.cfg"); err != nil {
					t.Fatal(err)
				}
			}
			if want := fmt.Sprintf("%-*s", tt.size, tt.want); got != want {
				t.Errorf("got %.10q and so on, want %.10q", got, want)
			}
		})
	}
}

// What is remembered stays within its bound. What is too much is dropped soon,
// if not at once.
func TestFilesMemoryIsBounded(t *testing.T) {
	const size, room, files = 8 << 10, 10, 50
	folder := t.TempDir()
	source := openFiles(t, profilesrc.FilesConfig{Folder: folder, Memory: room * size})
	write := func(word string) {
		for i := range files {
			if err := writeOld(filepath.Join(folder, fmt.Sprintf("%d.cfg", i)), fmt.Sprintf("%-*s", size, word), longAgo); err != nil {
				t.Fatal(err)
			}
		}
	}
	remembered := func() (n int) {
		for i := range files {
			got, err := contentOf(t, source, fmt.Sprintf("%d.cfg", i))
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(got, "before") {
				n++
			}
		}
		return n
	}
	write("before")
	remembered()
	write("after")
	var got int
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if got = remembered(); got < room {
			return
		}
	}
	t.Errorf("%d files of %d bytes are remembered in %d bytes", got, size, room*size)
}

// What is remembered is no way around what the folder's root forbids.
func TestFilesMemoryStaysInside(t *testing.T) {
	outside, folder := t.TempDir(), t.TempDir()
	inside := filepath.Join(folder, "a.cfg")
	source := openFolder(t, folder)
	if err := writeOld(inside, "inside", longAgo); err != nil {
		t.Fatal(err)
	}
	if got, err := contentOf(t, source, "a.cfg"); got != "inside" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
	moved := filepath.Join(outside, "a.cfg")
	if err := errors.Join(os.Rename(inside, moved), os.Symlink(moved, inside)); err != nil {
		t.Fatal(err)
	}
	if got, err := contentOf(t, source, "a.cfg"); err == nil {
		t.Errorf("got %q through a link out of the folder", got)
	}
}

// shrinking has files that are shorter than they say.
type shrinking struct{ fstest.MapFS }

func (s shrinking) Open(name string) (fs.File, error) {
	file, err := s.MapFS.Open(name)
	return shrunk{file}, err
}

type shrunk struct{ fs.File }

func (s shrunk) Stat() (fs.FileInfo, error) {
	info, err := s.File.Stat()
	return longer{info}, err
}

type longer struct{ fs.FileInfo }

func (l longer) Size() int64 { return l.FileInfo.Size() + 5 }

// A file that gets shorter between being opened and being read is no profile: a
// phone would take the half for the whole.
func TestFilesGetsShorter(t *testing.T) {
	source, err := profilesrc.NewFilesFS("memory", shrinking{fstest.MapFS{"a.cfg": {Data: []byte("<half")}, "empty": {}}}, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a.cfg", "empty"} {
		got, err := contentOf(t, source, name)
		if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, profilesrc.ErrUnavailable) {
			t.Errorf("%s: got %q, %v, want an error that the source failed", name, got, err)
		}
	}
}
