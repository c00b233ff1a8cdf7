package profilesrc

import (
	"context"
	"errors"
	"io/fs"
)

// Chain asks several sources in order; the first that has the profile wins. A
// source that is down or fails doesn't hide a later one that has it.
type Chain struct{ sources []Source }

// NewChain returns the chain of the given sources.
func NewChain(sources ...Source) *Chain { return &Chain{sources} }

// Open asks the sources. If none has the profile, the error joins all of
// theirs, those that say "has it not" only if all do. It then is ErrUnavailable
// if a source could not tell, and no fs.ErrNotExist.
func (c *Chain) Open(ctx context.Context, req Request) (*Profile, error) {
	var missing, failed []error
	for _, source := range c.sources {
		profile, err := source.Open(ctx, req)
		switch {
		case err == nil, errors.Is(err, ErrNotModified):
			return profile, err
		case errors.Is(err, fs.ErrNotExist):
			missing = append(missing, err)
		default:
			failed = append(failed, err)
		}
	}
	if len(failed) > 0 {
		return nil, errors.Join(failed...)
	}
	if len(missing) == 0 {
		return nil, errors.New("no profile source")
	}
	return nil, errors.Join(missing...)
}

// Shared reports whether the answers of all sources are the same for every
// device.
func (c *Chain) Shared() bool {
	for _, source := range c.sources {
		if !isShared(source) {
			return false
		}
	}
	return true
}
