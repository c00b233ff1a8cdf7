package profilesrc

// Name is the validated name of a profile: a clean, relative, slash-separated
// path. The zero Name is invalid; NewName is the only way to make one.
type Name struct{ path string }

// NewName validates path: with or without a leading slash, at most 504 bytes
// (what fits in a TFTP request), no "." or ".." segment, no empty segment, no
// NUL or other control character, no backslash, valid UTF-8.
func NewName(path string) (Name, error) { panic("not yet") }

// String returns the name without a leading slash.
func (n Name) String() string { return n.path }
