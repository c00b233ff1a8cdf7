package profilesrc_test

import (
	"io/fs"
	"path"
	"strings"
	"testing"

	"github.com/device-profile/caddy-device-profile/profilesrc"
)

func TestNewName(t *testing.T) {
	for given, want := range map[string]string{
		"/0004f2aabbcc.cfg":      "0004f2aabbcc.cfg",
		"0004f2aabbcc.cfg":       "0004f2aabbcc.cfg",
		"/a/b/c d.xml":           "a/b/c d.xml",
		"/...cfg":                "...cfg",
		"/straße":                "straße",
		strings.Repeat("x", 504): strings.Repeat("x", 504),
	} {
		name, err := profilesrc.NewName(given)
		if err != nil || name.String() != want {
			t.Errorf("NewName(%q) = %q, %v; want %q", given, name, err, want)
		}
	}
	for _, given := range []string{
		"", "/", "//", "/a//b", "a/", "//etc/passwd", "..", "/../etc/passwd", "a/../b", "a/./b", ".", "a/..",
		"a\x00b", "a\nb", "a\x7fb", `a\b`, `..\..\x`, "a\xff", strings.Repeat("x", 505),
	} {
		if name, err := profilesrc.NewName(given); err == nil {
			t.Errorf("NewName(%q) = %q, want an error", given, name)
		} else if name != (profilesrc.Name{}) {
			t.Errorf("NewName(%q) fails, and yet names %q", given, name)
		}
	}
}

func FuzzNewName(f *testing.F) {
	for _, seed := range []string{"/a/b.cfg", "..", "/a/../b", "a\x00octet\x00", "//x", `\\host\x`, strings.Repeat("é", 253)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, given string) {
		name, err := profilesrc.NewName(given)
		if err != nil {
			return
		}
		s := name.String()
		if !fs.ValidPath(s) || path.Clean("/"+s) != "/"+s || len(s) > 504 || strings.ContainsAny(s, "\x00\\\r\n") {
			t.Errorf("NewName(%q) = %q", given, s)
		}
		if again, err := profilesrc.NewName(s); err != nil || again != name {
			t.Errorf("NewName(%q) = %q, %v: not itself", s, again, err)
		}
	})
}
