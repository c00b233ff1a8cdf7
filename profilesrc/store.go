package profilesrc

import (
	"bytes"
	"fmt"
	"log/slog"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/sync/singleflight"
)

// DefaultStoreSize is the default of StoreConfig.MaxSize.
const DefaultStoreSize = 256 << 20

// entryOverhead is about what an entry takes beside its content and key, in
// bytes.
const entryOverhead = 512

// StoreConfig says what a store may hold.
type StoreConfig struct {
	// MaxSize bounds the store in memory, and again on disk, in bytes.
	// Default: DefaultStoreSize.
	MaxSize int64
	// Folder is where answers are kept on disk, too. Default: nowhere.
	Folder string
	// Namespace tells this store's answers on disk from those of others in the
	// same folder: it should name the sources.
	Namespace string
}

// Store is what caches remember. Caches of the same sources can share one, and
// it can outlive them.
type Store struct {
	entries *otter.Cache[string, *entry]
	flights singleflight.Group
	disk    *disk // nil without a folder
}

// entry is an answer of the sources. It doesn't change.
type entry struct {
	profile Profile // all but the body
	data    []byte
	missing error     // that there is no such profile; then there is no data
	fetched time.Time // when a source has said so last
	retry   time.Time // not to be asked again before, if the last try was in vain
	fault   error     // of the last try, if it was in vain
}

// sameAs reports whether two answers differ in nothing that is kept on disk, but
// in when they were confirmed.
func (e *entry) sameAs(other *entry) bool {
	if other == nil || other.missing != nil {
		return false
	}
	a, b := e.profile, other.profile
	return bytes.Equal(e.data, other.data) && a.ETag == b.ETag && a.Validator == b.Validator && a.ModTime.Equal(b.ModTime) &&
		a.ContentType == b.ContentType && a.ContentEncoding == b.ContentEncoding && a.Source == b.Source
}

// NewStore returns an empty store, but for what its folder has from earlier.
func NewStore(config StoreConfig) (*Store, error) {
	setDefault(&config.MaxSize, DefaultStoreSize)
	if config.MaxSize < 0 {
		return nil, fmt.Errorf("cache size %d: is negative", config.MaxSize)
	}
	entries, err := otter.New(&otter.Options[string, *entry]{
		MaximumWeight: uint64(config.MaxSize),
		Weigher: func(key string, e *entry) uint32 {
			return uint32(min(int64(len(key)+len(e.data)+entryOverhead), 1<<32-1)) //nolint:gosec // bounded
		},
	})
	if err != nil {
		return nil, fmt.Errorf("making a cache: %w", err)
	}
	s := &Store{entries: entries}
	if config.Folder != "" {
		if s.disk, err = openDisk(config); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Close closes the folder.
func (s *Store) Close() error {
	if s.disk == nil {
		return nil
	}
	return s.disk.root.Close()
}

// get returns what is known for a key, in memory or else on disk, or nil.
func (s *Store) get(key string, log *slog.Logger) *entry {
	if e, ok := s.entries.GetIfPresent(key); ok {
		return e
	}
	if s.disk == nil {
		return nil
	}
	e := s.disk.get(key, log)
	if e != nil {
		s.entries.Set(key, e)
	}
	return e
}

// put remembers an answer, and writes it to disk if its content is new there.
func (s *Store) put(key string, e, known *entry, log *slog.Logger) {
	s.entries.Set(key, e)
	switch {
	case s.disk == nil:
	case e.missing != nil:
		s.disk.remove(key, log)
	case e.fault != nil:
		// Nothing new.
	case e.sameAs(known):
		s.disk.touch(key, e.fetched, log)
	default:
		s.disk.put(key, e, log)
	}
}
