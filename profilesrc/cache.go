package profilesrc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"sync/atomic"
	"time"
)

// The defaults of CacheConfig.
const (
	DefaultRefresh     = 5 * time.Minute
	DefaultGracePeriod = 7 * 24 * time.Hour
	DefaultMaxEntry    = 32 << 20
)

const (
	// missingFor is how long "has it not" is believed.
	missingFor = 10 * time.Second
	// retryAfter is how long a last known answer is given without asking again,
	// once the sources could not tell.
	retryAfter = 5 * time.Second
)

// CacheConfig says what a cache does.
type CacheConfig struct {
	// Refresh is how old an answer may get before the sources are asked again.
	// Default: DefaultRefresh.
	Refresh time.Duration
	// GracePeriod is how old the last known answer may get that is given while
	// the sources can't tell. Default: DefaultGracePeriod.
	GracePeriod time.Duration
	// MaxEntry is the largest profile that is remembered, in bytes. Larger ones
	// are passed on as they come. Default: DefaultMaxEntry.
	MaxEntry int64
	// Observe is told of each answer: hit, miss, revalidated or stale.
	// Default: nobody is.
	Observe func(result string)
	// Logger gets what goes wrong on disk. Default: none.
	Logger *slog.Logger
	// Now is the clock. Default: time.Now.
	Now func() time.Time
}

// Cache remembers the answers of a source. However many ask for a profile at
// once, the source is asked once. One device's answer never gets to another,
// unless both the rule that gives the name and the source are free of who asks.
type Cache struct {
	config CacheConfig
	store  *Store
	source Source
	shared bool
}

// NewCache returns a cache of the source's answers in the store.
func NewCache(store *Store, source Source, config CacheConfig) (*Cache, error) {
	if config.Refresh < 0 || config.GracePeriod < 0 || config.MaxEntry < 0 {
		return nil, errors.New("cache: a duration or size is negative")
	}
	setDefault(&config.Refresh, DefaultRefresh)
	setDefault(&config.GracePeriod, DefaultGracePeriod)
	setDefault(&config.MaxEntry, DefaultMaxEntry)
	if config.Observe == nil {
		config.Observe = func(string) {}
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	return &Cache{config, store, source, isShared(source)}, nil
}

// Open returns the profile from the store if it is fresh there, and otherwise
// asks the source.
func (c *Cache) Open(ctx context.Context, req Request) (*Profile, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("cache: %s: %w: %w", req.Name, ErrUnavailable, err)
	}
	key, ok := c.key(req)
	if !ok {
		return c.source.Open(ctx, req)
	}
	if e, ok := c.store.entries.GetIfPresent(key); ok && c.fresh(e) {
		return c.answer(e, true)
	}
	return c.share(ctx, key, req)
}

// key returns what the answer is remembered by. Without an identity, nothing may
// be remembered that could be for one device alone.
func (c *Cache) key(req Request) (key string, ok bool) {
	if req.Common && c.shared {
		return "\n" + req.Name.String(), true
	}
	return req.Identity + "\n" + req.Name.String(), req.Identity != ""
}

func (c *Cache) fresh(e *entry) bool {
	now := c.config.Now()
	if e.missing != nil {
		return now.Sub(e.fetched) < missingFor
	}
	return now.Sub(e.fetched) < c.config.Refresh || now.Before(e.retry)
}

// answer makes a profile, or an error, of an entry. asked says that no source
// was asked for it just now.
func (c *Cache) answer(e *entry, remembered bool) (*Profile, error) {
	if e.missing != nil {
		if remembered {
			c.config.Observe("hit")
		}
		return nil, e.missing
	}
	p := e.profile
	p.Body = newMemory(e.data)
	p.Stale = e.fault
	p.Cached = remembered || e.fault != nil
	if p.Cached {
		p.Age = max(0, c.config.Now().Sub(e.fetched))
	}
	switch {
	case e.fault != nil:
		c.config.Observe("stale")
	case remembered:
		c.config.Observe("hit")
	}
	return &p, nil
}

// fetched is what came of asking the source: an entry for everybody who waits,
// or, if it is too large for one, a profile for one of them.
type fetched struct {
	entry   *entry
	stream  *Profile
	claimed atomic.Bool
}

// share asks the source, together with everybody else who wants the same.
func (c *Cache) share(ctx context.Context, key string, req Request) (*Profile, error) {
	done := c.store.flights.DoChan(key, func() (any, error) { return c.fetch(context.WithoutCancel(ctx), key, req) })
	select {
	case result := <-done:
		if result.Err != nil {
			return nil, result.Err
		}
		got := result.Val.(*fetched)
		switch {
		case got.entry != nil:
			return c.answer(got.entry, false)
		case got.claimed.CompareAndSwap(false, true):
			return got.stream, nil
		}
		return c.source.Open(ctx, req)
	case <-ctx.Done():
		go func() {
			// Nobody may be left to close it.
			if got, ok := (<-done).Val.(*fetched); ok && got.stream != nil && got.claimed.CompareAndSwap(false, true) {
				got.stream.Body.Close()
			}
		}()
		return nil, fmt.Errorf("cache: %s: %w: %w", req.Name, ErrUnavailable, ctx.Err())
	}
}

// fetch asks the source and remembers what it says.
func (c *Cache) fetch(ctx context.Context, key string, req Request) (*fetched, error) {
	known := c.store.get(key, c.config.Logger)
	if known != nil && c.fresh(known) {
		return &fetched{entry: known}, nil // from disk, or somebody was quicker
	}
	if known != nil && known.data != nil {
		req.Known = &known.profile
	}
	profile, err := c.source.Open(ctx, req)
	if err == nil {
		got, readErr := c.read(profile)
		if readErr == nil {
			c.config.Observe("miss")
			if got.entry != nil {
				c.store.put(key, got.entry, known, c.config.Logger)
			}
			return got, nil
		}
		err = readErr
	}
	e, err := c.outcome(known, err)
	if err != nil {
		return nil, err
	}
	c.store.put(key, e, known, c.config.Logger)
	return &fetched{entry: e}, nil
}

// outcome makes an entry of an error, if it is one that is remembered.
func (c *Cache) outcome(known *entry, err error) (*entry, error) {
	now := c.config.Now()
	hasKnown := known != nil && known.data != nil
	switch {
	case errors.Is(err, ErrNotModified) && hasKnown:
		c.config.Observe("revalidated")
		return &entry{profile: known.profile, data: known.data, fetched: now}, nil
	case errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrUnavailable):
		c.config.Observe("miss")
		return &entry{missing: err, fetched: now}, nil
	case errors.Is(err, ErrUnavailable) && hasKnown && now.Sub(known.fetched) < c.config.GracePeriod:
		return &entry{profile: known.profile, data: known.data, fetched: known.fetched, retry: now.Add(retryAfter), fault: err}, nil
	}
	c.config.Observe("miss")
	return nil, err
}

// read reads a profile that is small enough to be remembered.
func (c *Cache) read(p *Profile) (*fetched, error) {
	if p.Size > c.config.MaxEntry {
		return &fetched{stream: p}, nil
	}
	data, err := content(p.Body, c.config.MaxEntry+1)
	if err != nil {
		p.Body.Close()
		if !errors.Is(err, errTooLarge) {
			err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		return nil, fmt.Errorf("source %s: %w", p.Source, err)
	}
	if int64(len(data)) > c.config.MaxEntry {
		p.Body = &streamed{io.MultiReader(bytes.NewReader(data), p.Body), p.Body}
		return &fetched{stream: p}, nil
	}
	if err := p.Body.Close(); err != nil {
		return nil, fmt.Errorf("source %s: %w: %w", p.Source, ErrUnavailable, err)
	}
	p.keep(data)
	e := &entry{profile: *p, data: data, fetched: c.config.Now()}
	e.profile.Body = nil
	return &fetched{entry: e}, nil
}

// content returns a body's content, up to a number of bytes.
func content(body io.Reader, most int64) ([]byte, error) {
	if m, ok := body.(memory); ok && int64(len(m.data)) < most {
		return m.data, nil
	}
	return io.ReadAll(io.LimitReader(body, most))
}

// Shared reports whether the source's answers are the same for every device.
func (c *Cache) Shared() bool { return c.shared }
