package profilesrc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/sony/gobreaker/v2"
)

const (
	// silentAfter is after how many failures in a row a source counts as down.
	silentAfter = 3
	// probeAfter is after how long one request is let through to a source that
	// is down, to see whether it is back.
	probeAfter = 5 * time.Second
)

// errNotThisOne is ErrUnavailable of a source that said so at once. Nobody has
// waited for it, and other profiles may well be there.
var errNotThisOne = fmt.Errorf("%w for this profile", ErrUnavailable)

// Observer is told what sources do. Functions that are nil are not called.
type Observer struct {
	// Asked is called after a source was asked, with what came of it: found,
	// not_modified, not_found, unavailable, failed, or skipped if it is down.
	Asked func(source, outcome string, took time.Duration)
	// Down is called when a source is found to be down, or up again.
	Down func(source string, down bool)
}

// Breaker is a source that isn't waited for while it is down: after a few
// failures in a row it is left alone, but for one request now and then.
type Breaker struct {
	name    string
	source  Source
	observe Observer
	breaker *gobreaker.CircuitBreaker[*Profile]
}

// NewBreaker returns a breaker for a source, called by its name in errors.
func NewBreaker(name string, source Source, observe Observer) *Breaker {
	b := &Breaker{name: name, source: source, observe: observe}
	b.breaker = gobreaker.NewCircuitBreaker[*Profile](gobreaker.Settings{
		Name:          name,
		Timeout:       probeAfter,
		ReadyToTrip:   func(counts gobreaker.Counts) bool { return counts.ConsecutiveFailures >= silentAfter },
		IsSuccessful:  answered,
		IsExcluded:    func(err error) bool { return errors.Is(err, context.Canceled) },
		OnStateChange: b.changed,
	})
	return b
}

// answered reports whether a source has answered, be it with an error.
func answered(err error) bool {
	return !errors.Is(err, ErrUnavailable) || errors.Is(err, errNotThisOne)
}

func (b *Breaker) changed(_ string, from, to gobreaker.State) {
	if b.observe.Down == nil || from == gobreaker.StateHalfOpen && to == gobreaker.StateOpen || to == gobreaker.StateHalfOpen {
		return // still down
	}
	b.observe.Down(b.name, to == gobreaker.StateOpen)
}

// Open asks the source, unless it is down.
func (b *Breaker) Open(ctx context.Context, req Request) (*Profile, error) {
	start := time.Now()
	profile, err := b.breaker.Execute(func() (*Profile, error) { return b.source.Open(ctx, req) })
	skipped := errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests)
	if skipped {
		err = fmt.Errorf("source %s: %s: not asked, since it was down a moment ago: %w", b.name, req.Name, ErrUnavailable)
	}
	if b.observe.Asked != nil {
		b.observe.Asked(b.name, outcome(err, skipped), time.Since(start))
	}
	return profile, err
}

func outcome(err error, skipped bool) string {
	switch {
	case err == nil:
		return "found"
	case skipped:
		return "skipped"
	case errors.Is(err, ErrNotModified):
		return "not_modified"
	case errors.Is(err, ErrUnavailable):
		return "unavailable"
	case errors.Is(err, fs.ErrNotExist):
		return "not_found"
	}
	return "failed"
}

// Shared reports whether the source's answers are the same for every device.
func (b *Breaker) Shared() bool { return isShared(b.source) }

// isShared reports whether a source says that its answers depend on the name
// alone. One that doesn't say is taken to tell devices apart.
func isShared(source Source) bool {
	s, ok := source.(interface{ Shared() bool })
	return ok && s.Shared()
}
