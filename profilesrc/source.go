package profilesrc

import (
	"context"
	"errors"
	"io"
	"time"
)

// ErrUnavailable means that a source cannot tell now whether it has the
// profile: it is down, too slow, or overloaded. Asking again later may help.
var ErrUnavailable = errors.New("source unavailable")

// ErrNotModified means that the answer is still the request's Known one.
var ErrNotModified = errors.New("profile not modified")

// setDefault gives a setting its default, if it is not set.
func setDefault[T comparable](value *T, otherwise T) {
	var zero T
	if *value == zero {
		*value = otherwise
	}
}

// Source gives profiles by name.
type Source interface {
	// Open returns the profile that req names. The caller closes its Body.
	//
	// The error is, or wraps, fs.ErrNotExist if the source has no such
	// profile, and ErrUnavailable if it cannot tell now. Any other error means
	// that the source answered nonsense or too much. Errors name the source
	// and the profile, never its content. Open returns by the time ctx ends.
	Open(ctx context.Context, req Request) (*Profile, error)
}

// Request asks a source for one profile.
type Request struct {
	// Name is the profile's name.
	Name Name
	// Device returns what was verified of the asking device, by placeholder
	// name ("device.mac"), or "" if it has no such value. It is for sources that
	// tell their back end who asks. It is nil if nobody does.
	Device func(placeholder string) string
	// Identity tells the asking device from all others.
	Identity string
	// Common is set if the name is for whichever device asks.
	Common bool
	// Known is an earlier answer that the asker still has. A source that finds
	// its own answer unchanged returns ErrNotModified. Default: none.
	Known *Profile
}

// value returns a value of the asking device.
func (r Request) value(placeholder string) string {
	if r.Device == nil {
		return ""
	}
	return r.Device(placeholder)
}

// Profile is a source's answer.
type Profile struct {
	// Body is the content. It is also an io.Seeker where the source can seek, and
	// has the Peek of a bufio.Reader where it is in memory.
	Body io.ReadCloser
	// Size is the content's length in bytes, -1 if unknown.
	Size int64
	// ModTime is when the content changed last, zero if unknown.
	ModTime time.Time
	// ETag is the content's entity tag as in HTTP, quotes included, or empty.
	ETag string
	// Validator is the back end's own entity tag, by which it can be asked
	// whether the content has changed. Empty if it has none.
	Validator string
	// ContentType is the source's own idea of the content's type, or empty.
	ContentType string
	// ContentEncoding is the coding the content is in, e.g. "gzip", or empty.
	ContentEncoding string
	// Source names the source that gave the profile, for logs.
	Source string

	// Cached is set if the answer is from a cache, Age old by then.
	Cached bool
	Age    time.Duration
	// Stale is set if a cache gave its last known answer because the sources
	// could not tell; it is their error.
	Stale error
}
