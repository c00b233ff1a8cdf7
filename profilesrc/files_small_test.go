package profilesrc_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"pgregory.net/rapid"

	"github.com/device-profile/caddy-device-profile/internal/testenv"
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

// later is a clock by which files that were just written have settled.
func later() time.Time { return time.Now().Add(time.Hour) }

// Whatever happens to files, the source has what the disk has.
func TestFilesFollowsTheDisk(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		folder := t.TempDir()
		source := openFiles(t, profilesrc.FilesConfig{Folder: folder, Now: later})
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
			"replace": func(rt *rapid.T) {
				temporary := filepath.Join(folder, "temporary")
				fatal(errors.Join(writeOld(temporary, contents.Draw(rt, "content"), next()), os.Rename(temporary, file())))
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

// isRemembered opens a file twice, and reports whether the second time gives the
// very memory of the first.
func isRemembered(t *testing.T, source profilesrc.Source, name string) bool {
	t.Helper()
	var opened [2]*profilesrc.Profile
	for i := range opened {
		var err error
		if opened[i], err = source.Open(t.Context(), nameOf(t, name)); err != nil {
			t.Fatal(err)
		}
		defer opened[i].Body.Close()
	}
	return sameMemory(opened[0], opened[1])
}

// sameMemory reports whether two profiles are in memory, at the same place.
func sameMemory(a, b *profilesrc.Profile) bool {
	return firstByte(a) != nil && firstByte(a) == firstByte(b)
}

func firstByte(p *profilesrc.Profile) *byte {
	inMemory, ok := p.Body.(interface{ Peek(int) ([]byte, error) })
	if !ok {
		return nil
	}
	data, err := inMemory.Peek(1)
	if err != nil {
		return nil
	}
	return &data[0]
}

func TestFilesMemory(t *testing.T) {
	for _, tt := range []struct {
		name   string
		memory int64
		now    func() time.Time
		at     time.Time // of its last modification
		size   int
		want   bool
	}{
		{"remembered", 0, later, longAgo, 8 << 10, true},
		{"of the largest size", 0, later, longAgo, 64 << 10, true},
		{"too large", 0, later, longAgo, 64<<10 + 1, false},
		{"off", -1, later, longAgo, 8 << 10, false},
		{"changed just now", 0, nil, time.Now(), 8 << 10, false},
		{"changed in the future", 0, later, time.Now().Add(2 * time.Hour), 8 << 10, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			folder := t.TempDir()
			source := openFiles(t, profilesrc.FilesConfig{Folder: folder, Memory: tt.memory, Now: tt.now})
			if err := writeOld(filepath.Join(folder, "a.cfg"), strings.Repeat("x", tt.size), tt.at); err != nil {
				t.Fatal(err)
			}
			if got := isRemembered(t, source, "a.cfg"); got != tt.want {
				t.Errorf("remembered: %v, want %v", got, tt.want)
			}
		})
	}
}

// A change that leaves a file's size and modification time as they were is seen
// all the same, and so is one of the owner.
func TestFilesChangeTime(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("known on Linux only")
	}
	folder := t.TempDir()
	file := filepath.Join(folder, "a.cfg")
	source := openFiles(t, profilesrc.FilesConfig{Folder: folder, Now: later})
	settle := func() { time.Sleep(20 * time.Millisecond) } // more than a tick of the kernel's clock
	for _, content := range []string{"before", "middle", "finish"} {
		if err := writeOld(file, content, longAgo); err != nil {
			t.Fatal(err)
		}
		if got, err := contentOf(t, source, "a.cfg"); err != nil || got != content {
			t.Errorf("got %q, %v, want %q", got, err, content)
		}
		settle()
	}
	testenv.NeedRoot(t) // to give a file away
	if !isRemembered(t, source, "a.cfg") {
		t.Error("is not remembered")
	}
	before, err := source.Open(t.Context(), nameOf(t, "a.cfg"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(file, 1, 1); err != nil {
		t.Fatal(err)
	}
	after, err := source.Open(t.Context(), nameOf(t, "a.cfg"))
	if err != nil {
		t.Fatal(err)
	}
	if sameMemory(before, after) {
		t.Error("is not read again after it got another owner")
	}
}

// What is remembered stays within its bound. What is too much is dropped soon,
// if not at once.
func TestFilesMemoryIsBounded(t *testing.T) {
	const size, room, files = 8 << 10, 10, 50
	folder := t.TempDir()
	source := openFiles(t, profilesrc.FilesConfig{Folder: folder, Memory: room * size, Now: later})
	opened := make([]*profilesrc.Profile, files)
	open := func(i int) *profilesrc.Profile {
		profile, err := source.Open(t.Context(), nameOf(t, fmt.Sprintf("%d.cfg", i)))
		if err != nil {
			t.Fatal(err)
		}
		return profile
	}
	for i := range files {
		if err := writeOld(filepath.Join(folder, fmt.Sprintf("%d.cfg", i)), strings.Repeat("x", size), longAgo); err != nil {
			t.Fatal(err)
		}
		opened[i] = open(i)
	}
	var remembered int
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		remembered = 0
		for i := range files {
			again := open(i)
			if sameMemory(again, opened[i]) {
				remembered++
			}
			opened[i] = again
		}
		if remembered <= room {
			return
		}
	}
	t.Errorf("%d files of %d bytes are remembered in %d bytes", remembered, size, room*size)
}

// What is remembered is no way around what the folder's root forbids, even if
// nothing about the file itself has changed.
func TestFilesMemoryStaysInside(t *testing.T) {
	outside, folder := t.TempDir(), t.TempDir()
	inside := filepath.Join(folder, "sub")
	source := openFiles(t, profilesrc.FilesConfig{Folder: folder, Now: later})
	if err := errors.Join(os.Mkdir(inside, 0o700), writeOld(filepath.Join(inside, "a.cfg"), "inside", longAgo)); err != nil {
		t.Fatal(err)
	}
	if !isRemembered(t, source, "sub/a.cfg") {
		t.Fatal("is not remembered")
	}
	moved := filepath.Join(outside, "sub")
	if err := errors.Join(os.Rename(inside, moved), os.Symlink(moved, inside)); err != nil {
		t.Fatal(err)
	}
	if got, err := contentOf(t, source, "sub/a.cfg"); err == nil {
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
// phone would take the half for the whole. It can be asked for again, and the
// source isn't down for it.
func TestFilesGetsShorter(t *testing.T) {
	source, err := profilesrc.NewFilesFS("memory", shrinking{fstest.MapFS{"a.cfg": {Data: []byte("<half")}, "empty": {}}}, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a.cfg", "empty"} {
		breaker := profilesrc.NewBreaker("files", source, profilesrc.Observer{Down: func(string, bool) { t.Errorf("%s: the source is down", name) }})
		for range 5 {
			if got, err := contentOf(t, breaker, name); !errors.Is(err, profilesrc.ErrUnavailable) || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: got %q, %v, want profilesrc.ErrUnavailable", name, got, err)
			}
		}
	}
}
