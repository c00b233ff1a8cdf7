// Package profilesrctest holds the contract of profilesrc.Source as a test suite
// that every source passes.
package profilesrctest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"sync"
	"testing"

	"github.com/device-profile/caddy-device-profile/profilesrc"
)

// TestSource checks the contract. newSource returns a source that has the given
// files and no others; what it needs is cleaned up with t.
func TestSource(t *testing.T, newSource func(t *testing.T, files map[string][]byte) profilesrc.Source) {
	files := map[string][]byte{
		"0004f2aabbcc.cfg":        []byte("one profile"),
		"folder/0004f2aabbcc.cfg": []byte("another profile"),
		"with space.cfg":          []byte("a name with a space"),
		"straße.cfg":              []byte("a name beyond ASCII"),
		"100%.cfg":                []byte("a name with a percent sign"),
		"q?x=1&y=#2.cfg":          []byte("a name like a query"),
	}
	for name, size := range map[string]int{"empty": 0, "511": 511, "512": 512, "513": 513, "64k": 64 << 10} {
		data := make([]byte, size)
		rand.Read(data) //nolint:errcheck // never fails
		files[name] = data
	}
	source := newSource(t, files)

	for name, want := range files {
		t.Run("content/"+name, func(t *testing.T) { wantContent(t, source, name, want) })
	}
	t.Run("missing", func(t *testing.T) {
		for _, name := range []string{"missing.cfg", "folder/missing.cfg", "missing/0004f2aabbcc.cfg"} {
			profile, err := source.Open(t.Context(), request(t, name))
			if !errors.Is(err, fs.ErrNotExist) || errors.Is(err, profilesrc.ErrUnavailable) {
				t.Errorf("%s: got %v, %v, want fs.ErrNotExist alone", name, profile, err)
			}
		}
	})
	t.Run("context has ended", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		profile, err := source.Open(ctx, request(t, "0004f2aabbcc.cfg"))
		if err == nil {
			profile.Body.Close()
			t.Fatal("a profile all the same")
		}
		if errors.Is(err, fs.ErrNotExist) {
			t.Errorf("says that there is no profile: %v", err)
		}
	})
	t.Run("many at once", func(t *testing.T) {
		var all sync.WaitGroup
		for range 20 {
			for name, want := range files {
				all.Go(func() { wantContent(t, source, name, want) })
			}
		}
		all.Wait()
	})
	t.Run("unread and closed twice", func(t *testing.T) {
		profile, err := source.Open(t.Context(), request(t, "64k"))
		if err != nil {
			t.Fatal(err)
		}
		if err := profile.Body.Close(); err != nil {
			t.Error(err)
		}
		_ = profile.Body.Close() // may complain, must not fail otherwise
	})
}

func wantContent(t *testing.T, source profilesrc.Source, name string, want []byte) {
	t.Helper()
	profile, err := source.Open(t.Context(), request(t, name))
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	defer profile.Body.Close()
	got, err := io.ReadAll(profile.Body)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes, %v; want %d bytes", name, len(got), err, len(want))
	}
	if profile.Size != -1 && profile.Size != int64(len(want)) {
		t.Errorf("%s: size %d, want %d or -1", name, profile.Size, len(want))
	}
	if profile.Source == "" {
		t.Errorf("%s: the source has no name", name)
	}
	seeker, ok := profile.Body.(io.Seeker)
	if !ok || len(want) == 0 {
		return
	}
	if _, err := seeker.Seek(1, io.SeekStart); err != nil {
		t.Errorf("%s: seeking: %v", name, err)
	}
	if got, err := io.ReadAll(profile.Body); err != nil || !bytes.Equal(got, want[1:]) {
		t.Errorf("%s: after seeking to 1: %d bytes, %v", name, len(got), err)
	}
}

func request(t *testing.T, name string) profilesrc.Request {
	t.Helper()
	n, err := profilesrc.NewName(name)
	if err != nil {
		t.Fatal(err)
	}
	return profilesrc.Request{Name: n}
}
