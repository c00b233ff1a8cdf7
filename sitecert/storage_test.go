package sitecert

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/certmagic"
)

// memory is a storage whose processes can die and whose writes can fail.
type memory struct {
	mu   sync.Mutex
	data map[string][]byte
	lock chan struct{}
}

func newMemory() *memory {
	return &memory{data: make(map[string][]byte), lock: make(chan struct{}, 1)}
}

// copy returns a storage with the same content, and no locks, as after the death
// of all that held one.
func (m *memory) copy() *memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := newMemory()
	maps.Copy(c.data, m.data)
	return c
}

func (m *memory) Lock(ctx context.Context, _ string) error {
	select {
	case m.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *memory) Unlock(context.Context, string) error {
	<-m.lock
	return nil
}

func (m *memory) Store(_ context.Context, key string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data[key] = slices.Clone(value)
	return nil
}

func (m *memory) Load(_ context.Context, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	value, ok := m.data[key]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return value, nil
}

func (m *memory) Delete(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.data, key)
	return nil
}

func (m *memory) Exists(ctx context.Context, key string) bool {
	_, err := m.Load(ctx, key)
	return err == nil
}

func (m *memory) List(_ context.Context, folder string, _ bool) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []string
	for key := range m.data {
		if path.Dir(key) == folder {
			keys = append(keys, key)
		}
	}
	if keys == nil {
		return nil, fs.ErrNotExist
	}
	return keys, nil
}

func (m *memory) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	value, err := m.Load(ctx, key)
	return certmagic.KeyInfo{Key: key, Size: int64(len(value)), IsTerminal: true}, err
}

// keys returns the private keys that are stored.
func (m *memory) keys(t *testing.T) []string {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []string
	for key := range m.data {
		if strings.Contains(key, "/keys/") {
			keys = append(keys, key)
		}
	}
	return keys
}

var errDead = errors.New("killed")

// mortal is a process's view of a storage. The process dies at its nth change of
// the storage: before it, or after it. From then on nothing works.
type mortal struct {
	*memory
	left   int  // changes until death
	before bool // die before the change, not after
	dead   bool
}

// change does one change, unless the process is dead or dies of it.
func (m *mortal) change(do func() error) error {
	if m.dead {
		return errDead
	}
	m.left--
	if m.left > 0 {
		return do()
	}
	m.dead = true
	if !m.before {
		_ = do()
	}
	return errDead
}

func (m *mortal) Lock(ctx context.Context, name string) error {
	return m.change(func() error { return m.memory.Lock(ctx, name) })
}

func (m *mortal) Unlock(ctx context.Context, name string) error {
	return m.change(func() error { return m.memory.Unlock(ctx, name) })
}

func (m *mortal) Store(ctx context.Context, key string, value []byte) error {
	return m.change(func() error { return m.memory.Store(ctx, key, value) })
}

func (m *mortal) Delete(ctx context.Context, key string) error {
	return m.change(func() error { return m.memory.Delete(ctx, key) })
}

func (m *mortal) Load(ctx context.Context, key string) ([]byte, error) {
	if m.dead {
		return nil, errDead
	}
	return m.memory.Load(ctx, key)
}

// broken is a storage of which some methods fail.
type broken struct {
	*memory
	load, store, lock error
}

func (b *broken) Load(ctx context.Context, key string) ([]byte, error) {
	if b.load != nil {
		return nil, b.load
	}
	return b.memory.Load(ctx, key)
}

func (b *broken) Store(ctx context.Context, key string, value []byte) error {
	if b.store != nil {
		return b.store
	}
	return b.memory.Store(ctx, key, value)
}

func (b *broken) Lock(ctx context.Context, name string) error {
	if b.lock != nil {
		return b.lock
	}
	return b.memory.Lock(ctx, name)
}
