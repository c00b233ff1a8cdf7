package profilesrc

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxName is the longest name in bytes: with the other fields of a request it
// fills a TFTP packet of 512 bytes.
const maxName = 504

// Name is the validated name of a profile: a clean, relative, slash-separated
// path. The zero Name is invalid; NewName is the only way to make one.
type Name struct{ path string }

// NewName validates path: with or without a leading slash, at most 504 bytes
// (what fits in a TFTP request), no "." or ".." segment, no empty segment, no
// NUL or other control character, no backslash, valid UTF-8.
func NewName(path string) (Name, error) {
	path = strings.TrimPrefix(path, "/")
	if fault := nameFault(path); fault != nil {
		return Name{}, fmt.Errorf("profile name %.80q: %w", path, fault)
	}
	return Name{path}, nil
}

func nameFault(path string) error {
	if len(path) > maxName {
		return fmt.Errorf("is longer than %d bytes", maxName)
	}
	if !utf8.ValidString(path) {
		return errors.New("is not valid UTF-8")
	}
	for _, c := range path {
		if c < ' ' || c == 0x7f || c == '\\' {
			return fmt.Errorf("holds the character %q", c)
		}
	}
	for segment := range strings.SplitSeq(path, "/") {
		switch segment {
		case "":
			return errors.New("has an empty segment")
		case ".", "..":
			return fmt.Errorf("has the segment %q", segment)
		}
	}
	return nil
}

// String returns the name without a leading slash. It is empty for the zero
// Name.
func (n Name) String() string { return n.path }
