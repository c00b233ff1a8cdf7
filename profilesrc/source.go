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
	// Device holds what was verified of the asking device, by placeholder
	// name ("device.mac"), for sources that tell their back end who asks.
	Device map[string]string
}

// Profile is a source's answer.
type Profile struct {
	// Body is the content. It is also an io.Seeker where the source can seek.
	Body io.ReadCloser
	// Size is the content's length in bytes, -1 if unknown.
	Size int64
	// ModTime is when the content changed last, zero if unknown.
	ModTime time.Time
	// ETag is the content's entity tag as in HTTP, quotes included, or empty.
	ETag string
	// ContentType is the source's own idea of the content's type, or empty.
	ContentType string
	// ContentEncoding is the coding the content is in, e.g. "gzip", or empty.
	ContentEncoding string
	// Source names the source that gave the profile, for logs.
	Source string
}
