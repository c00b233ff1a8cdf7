package profilesrc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/device-profile/caddy-device-profile/profilesrc"
	"github.com/device-profile/caddy-device-profile/profilesrc/profilesrctest"
)

// backend is a source whose state a test sets.
type backend struct {
	mu       sync.Mutex
	content  func(req profilesrc.Request) string
	err      error
	tag      string // as a validator; "" for none
	asked    atomic.Int64
	personal bool
	wait     chan struct{} // if set, answers wait for it
}

func (b *backend) Shared() bool { return !b.personal }

func (b *backend) Open(_ context.Context, req profilesrc.Request) (*profilesrc.Profile, error) {
	b.asked.Add(1)
	if b.wait != nil {
		<-b.wait
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return nil, b.err
	}
	if req.Known != nil && b.tag != "" && req.Known.Validator == b.tag {
		return nil, profilesrc.ErrNotModified
	}
	return &profilesrc.Profile{Body: io.NopCloser(strings.NewReader(b.content(req))), Size: -1, Validator: b.tag, Source: "backend"}, nil
}

func (b *backend) set(err error, tag string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err, b.tag = err, tag
}

func byName(req profilesrc.Request) string { return "content of " + req.Name.String() }

func byDevice(req profilesrc.Request) string { return req.Name.String() + " of " + req.Identity }

// clock is a time that a test sets.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Now()} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// cached is a cache under test, with what it told of its answers.
type cached struct {
	*profilesrc.Cache
	clock   *clock
	results []string
	log     *bytes.Buffer
}

func newStore(t testing.TB, config profilesrc.StoreConfig) *profilesrc.Store {
	t.Helper()
	store, err := profilesrc.NewStore(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

func newCache(t *testing.T, source profilesrc.Source, store profilesrc.StoreConfig, config profilesrc.CacheConfig) *cached {
	t.Helper()
	c := &cached{clock: newClock(), log: new(bytes.Buffer)}
	var mu sync.Mutex
	config.Now = c.clock.Now
	config.Logger = slog.New(slog.NewTextHandler(c.log, nil))
	config.Observe = func(result string) {
		mu.Lock()
		defer mu.Unlock()
		c.results = append(c.results, result)
	}
	var err error
	if c.Cache, err = profilesrc.NewCache(newStore(t, store), source, config); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *cached) wantResults(t *testing.T, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, c.results); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	c.results = nil
}

// by is a request for a name, from a device, by a rule for whoever asks or not.
func by(t testing.TB, name, identity string, common bool) profilesrc.Request {
	req := nameOf(t, name)
	req.Identity, req.Common = identity, common
	return req
}

func TestCacheConformance(t *testing.T) {
	for name, common := range map[string]bool{"common": true, "bypassed": false} {
		t.Run(name, func(t *testing.T) {
			profilesrctest.TestSource(t, func(t *testing.T, files map[string][]byte) profilesrc.Source {
				folder := t.TempDir()
				writeFiles(t, folder, files)
				chain := profilesrc.NewChain(openFolder(t, t.TempDir()), openFolder(t, folder))
				c := newCache(t, chain, profilesrc.StoreConfig{Folder: t.TempDir()}, profilesrc.CacheConfig{})
				return sourceFunc(func(ctx context.Context, req profilesrc.Request) (*profilesrc.Profile, error) {
					req.Common = common
					return c.Open(ctx, req)
				})
			})
		})
	}
}

// TestCacheLife holds what becomes of an answer over time.
func TestCacheLife(t *testing.T) {
	b := &backend{content: byName}
	c := newCache(t, b, profilesrc.StoreConfig{}, profilesrc.CacheConfig{Refresh: time.Minute, GracePeriod: time.Hour})
	req := by(t, "a.cfg", "", true)
	want := func(content string, cached bool, age time.Duration, stale bool) {
		t.Helper()
		p, data, err := open(t, c, req)
		if err != nil || data != content || p.Cached != cached || p.Age != age || (p.Stale != nil) != stale {
			t.Errorf("got %q, %+v, %v; want %q, cached %v, age %s, stale %v", data, p, err, content, cached, age, stale)
		}
	}
	const content = "content of a.cfg"
	want(content, false, 0, false)
	c.clock.pass(59 * time.Second)
	want(content, true, 59*time.Second, false)
	c.wantResults(t, "miss", "hit")
	c.clock.pass(time.Second)
	b.content = func(profilesrc.Request) string { return "changed" }
	want("changed", false, 0, false)
	c.wantResults(t, "miss")

	// With a validator, what is unchanged is not sent again.
	b.set(nil, `"v1"`)
	c.clock.pass(time.Minute)
	want("changed", false, 0, false)
	c.clock.pass(time.Minute)
	want("changed", false, 0, false)
	c.wantResults(t, "miss", "revalidated")

	// The source goes down: the last known one is given, and asked again only
	// now and then.
	down := fmt.Errorf("connection refused: %w", profilesrc.ErrUnavailable)
	b.set(down, `"v1"`)
	c.clock.pass(10 * time.Minute)
	asked := b.asked.Load()
	want("changed", true, 10*time.Minute, true)
	want("changed", true, 10*time.Minute, true)
	if got := b.asked.Load() - asked; got != 1 {
		t.Errorf("asked %d times while it is down, want 1", got)
	}
	c.clock.pass(6 * time.Second)
	want("changed", true, 10*time.Minute+6*time.Second, true)
	if got := b.asked.Load() - asked; got != 2 {
		t.Errorf("asked %d times while it is down, want 2", got)
	}
	c.wantResults(t, "stale", "stale", "stale")

	// It comes back, with something new.
	b.set(nil, `"v2"`)
	c.clock.pass(6 * time.Second)
	want("changed", false, 0, false)

	// Nonsense is no outage, and after the grace period there is nothing more.
	b.set(errors.New("answered 403"), "")
	c.clock.pass(time.Minute)
	if _, _, err := open(t, c, req); verdict(err) != "failed" {
		t.Errorf("nonsense: got %v", err)
	}
	b.set(down, "")
	c.clock.pass(time.Hour)
	if _, _, err := open(t, c, req); verdict(err) != "unavailable" {
		t.Errorf("after the grace period: got %v", err)
	}

	// "Has it not" is believed for seconds, and ends what was known.
	b.set(fs.ErrNotExist, "")
	asked = b.asked.Load()
	for range 3 {
		if _, _, err := open(t, c, req); verdict(err) != "missing" {
			t.Errorf("missing: got %v", err)
		}
	}
	if got := b.asked.Load() - asked; got != 1 {
		t.Errorf("asked %d times for what is missing, want 1", got)
	}
	c.clock.pass(11 * time.Second)
	b.set(down, "")
	if _, _, err := open(t, c, req); verdict(err) != "unavailable" {
		t.Errorf("deleted, then down: got %v", err)
	}
}

// TestCacheKeepsDevicesApart holds that an answer gets to nobody but the device
// that it was for, unless rule and source are free of who asks.
func TestCacheKeepsDevicesApart(t *testing.T) {
	for name, tt := range map[string]struct {
		personal, common, shared bool
	}{
		"source and rule for anybody": {false, true, true},
		"rule for the device":         {false, false, false},
		"source for the device":       {true, true, false},
		"both for the device":         {true, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := &backend{content: byDevice, personal: tt.personal}
			folder := t.TempDir()
			c := newCache(t, b, profilesrc.StoreConfig{Folder: folder}, profilesrc.CacheConfig{})
			for range 2 {
				for _, device := range []string{"polycom 1", "polycom 2", "snom 1"} {
					_, data, err := open(t, c, by(t, "a.cfg", device, tt.common))
					want := "a.cfg of " + device
					if tt.shared {
						want = "a.cfg of polycom 1"
					}
					if err != nil || data != want {
						t.Errorf("%s: got %q, %v, want %q", device, data, err, want)
					}
				}
			}
			want := int64(3)
			if tt.shared {
				want = 1
			}
			if got := b.asked.Load(); got != want {
				t.Errorf("asked %d times, want %d", got, want)
			}
		})
	}
	t.Run("a device without a name", func(t *testing.T) {
		b := &backend{content: byDevice}
		c := newCache(t, b, profilesrc.StoreConfig{}, profilesrc.CacheConfig{})
		for range 2 {
			if _, _, err := open(t, c, by(t, "a.cfg", "", false)); err != nil {
				t.Fatal(err)
			}
		}
		if got := b.asked.Load(); got != 2 {
			t.Errorf("asked %d times, want each time", got)
		}
	})
}

// However many ask at once, the source is asked once.
func TestCacheSingleFlight(t *testing.T) {
	b := &backend{content: byName, wait: make(chan struct{})}
	c := newCache(t, b, profilesrc.StoreConfig{}, profilesrc.CacheConfig{})
	var all sync.WaitGroup
	for i := range 1000 {
		req := by(t, "firmware.bin", fmt.Sprint("device ", i), true)
		all.Go(func() {
			if _, data, err := open(t, c, req); err != nil || data != "content of firmware.bin" {
				t.Errorf("got %q, %v", data, err)
			}
		})
	}
	close(b.wait)
	all.Wait()
	if got := b.asked.Load(); got != 1 {
		t.Errorf("asked %d times, want 1", got)
	}
}

// closeCounter counts how many bodies are open.
type closeCounter struct {
	io.Reader
	open *atomic.Int64
	once sync.Once
}

func (c *closeCounter) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return nil
}

// Profiles over max_entry are passed on as they come, to each who asks.
func TestCacheLargeProfiles(t *testing.T) {
	large := strings.Repeat("x", 4096)
	for name, size := range map[string]int64{"size known": 4096, "size unknown": -1} {
		t.Run(name, func(t *testing.T) {
			var bodies atomic.Int64
			source := sourceFunc(func(context.Context, profilesrc.Request) (*profilesrc.Profile, error) {
				bodies.Add(1)
				return &profilesrc.Profile{Body: &closeCounter{Reader: strings.NewReader(large), open: &bodies}, Size: size, Source: "x"}, nil
			})
			c := newCache(t, source, profilesrc.StoreConfig{}, profilesrc.CacheConfig{MaxEntry: 1024})
			var all sync.WaitGroup
			for range 50 {
				all.Go(func() {
					if p, data, err := open(t, c, by(t, "firmware.bin", "x", true)); err != nil || data != large || p.Cached {
						t.Errorf("got %d bytes, %v", len(data), err)
					}
				})
			}
			all.Wait()
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := c.Open(ctx, by(t, "firmware.bin", "x", true)); err == nil {
				t.Error("a profile for somebody who has gone")
			}
			if got := bodies.Load(); got != 0 {
				t.Errorf("%d bodies are left open", got)
			}
		})
	}
}

// A body that breaks off is no answer: the last known one is given.
func TestCacheBrokenBody(t *testing.T) {
	var body io.Reader = strings.NewReader("whole")
	source := sourceFunc(func(context.Context, profilesrc.Request) (*profilesrc.Profile, error) {
		return &profilesrc.Profile{Body: io.NopCloser(body), Size: -1, Source: "x"}, nil
	})
	c := newCache(t, source, profilesrc.StoreConfig{}, profilesrc.CacheConfig{Refresh: time.Minute})
	req := by(t, "a.cfg", "x", true)
	if _, data, err := open(t, c, req); err != nil || data != "whole" {
		t.Fatal(data, err)
	}
	c.clock.pass(time.Hour)
	body = io.MultiReader(strings.NewReader("ha"), errorReader{})
	if p, data, err := open(t, c, req); err != nil || data != "whole" || p.Stale == nil {
		t.Errorf("got %q, %v, want the last known one", data, err)
	}
}

type errorReader struct{}

func (errorReader) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

// TestPersist holds that what was known outlives a restart during an outage.
func TestPersist(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "cache")
	b := &backend{content: byDevice, tag: `"v1"`}
	start := func(store profilesrc.StoreConfig) *cached {
		store.Folder = folder
		return newCache(t, b, store, profilesrc.CacheConfig{Refresh: time.Minute, GracePeriod: time.Hour})
	}
	first := start(profilesrc.StoreConfig{Namespace: "sources"})
	for _, device := range []string{"d1", "d2"} {
		if _, _, err := open(t, first, by(t, "a.cfg", device, false)); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(folder + "/*")
	if err != nil || len(files) != 2 {
		t.Fatalf("got files %q, %v, want 2", files, err)
	}
	for _, file := range append(files, folder) {
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: mode %v, %v: others may read it", file, info.Mode(), err)
		}
	}

	b.set(profilesrc.ErrUnavailable, "")
	second := start(profilesrc.StoreConfig{Namespace: "sources"})
	second.clock.pass(30 * time.Minute)
	if p, data, err := open(t, second, by(t, "a.cfg", "d1", false)); err != nil || data != "a.cfg of d1" || p.Stale == nil || p.Age < 29*time.Minute {
		t.Errorf("after a restart: got %q, %+v, %v", data, p, err)
	}
	if _, _, err := open(t, second, by(t, "a.cfg", "d3", false)); verdict(err) != "unavailable" {
		t.Errorf("a device that was not known: got %v", err)
	}
	if _, _, err := open(t, start(profilesrc.StoreConfig{Namespace: "others"}), by(t, "a.cfg", "d1", false)); verdict(err) != "unavailable" {
		t.Errorf("another namespace: got %v", err)
	}
	second.clock.pass(time.Hour)
	if _, _, err := open(t, second, by(t, "a.cfg", "d1", false)); verdict(err) != "unavailable" {
		t.Errorf("after the grace period: got %v", err)
	}

	// A confirmation counts from when it was given, after a restart too.
	b.set(nil, `"v1"`)
	if _, _, err := open(t, second, by(t, "a.cfg", "d1", false)); err != nil {
		t.Error(err)
	}
	b.set(profilesrc.ErrUnavailable, "")
	third := start(profilesrc.StoreConfig{Namespace: "sources"})
	third.clock.pass(2 * time.Hour)
	if p, _, err := open(t, third, by(t, "a.cfg", "d1", false)); err != nil || p.Age > 40*time.Minute {
		t.Errorf("confirmed before the restart: got %+v, %v", p, err)
	}

	// What is missing at the source is deleted.
	b.set(fs.ErrNotExist, "")
	fourth := start(profilesrc.StoreConfig{Namespace: "sources"})
	fourth.clock.pass(2 * time.Hour)
	if _, _, err := open(t, fourth, by(t, "a.cfg", "d2", false)); verdict(err) != "missing" {
		t.Errorf("missing: got %v", err)
	}
	if files, _ := filepath.Glob(folder + "/*"); len(files) != 1 {
		t.Errorf("got files %q, want 1", files)
	}
}

// TestPersistDamage holds that damaged files are dropped, with a word in the log,
// and that those who write to the folder can't mix up devices.
func TestPersistDamage(t *testing.T) {
	for name, damage := range map[string]func(data []byte) []byte{
		"empty":     func([]byte) []byte { return nil },
		"truncated": func(data []byte) []byte { return data[:len(data)-3] },
		"changed":   func(data []byte) []byte { return bytes.Replace(data, []byte("a.cfg of"), []byte("b.cfg of"), 1) },
		"no JSON":   func(data []byte) []byte { return append([]byte("x"), data...) },
		"other key": func(data []byte) []byte { return bytes.Replace(data, []byte("d1"), []byte("d2"), 1) },
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			b := &backend{content: byDevice}
			if _, _, err := open(t, newCache(t, b, profilesrc.StoreConfig{Folder: folder}, profilesrc.CacheConfig{}), by(t, "a.cfg", "d1", false)); err != nil {
				t.Fatal(err)
			}
			files, _ := filepath.Glob(folder + "/*")
			data, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(files[0], damage(data), 0o600); err != nil {
				t.Fatal(err)
			}
			b.set(profilesrc.ErrUnavailable, "")
			c := newCache(t, b, profilesrc.StoreConfig{Folder: folder}, profilesrc.CacheConfig{})
			if p, data, err := open(t, c, by(t, "a.cfg", "d1", false)); verdict(err) != "unavailable" {
				t.Errorf("got %q, %+v, %v", data, p, err)
			}
			if !strings.Contains(c.log.String(), "damaged") || strings.Contains(c.log.String(), "a.cfg of") {
				t.Errorf("got log %q, want a word of it, without the content", c.log)
			}
			if left, _ := filepath.Glob(folder + "/*"); len(left) > 0 {
				t.Errorf("%q is still there", left)
			}
		})
	}
}

// TestPersistBounds holds that the folder stays within max_size, and that a
// folder which can't be written hurts nobody.
func TestPersistBounds(t *testing.T) {
	folder := t.TempDir()
	for name, text := range map[string]string{"README": "not ours", "half" + ".unfinished": "of a process that died"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b := &backend{content: func(profilesrc.Request) string { return strings.Repeat("x", 1000) }}
	c := newCache(t, b, profilesrc.StoreConfig{Folder: folder, MaxSize: 20_000}, profilesrc.CacheConfig{})
	for i := range 100 {
		c.clock.pass(time.Second)
		if _, _, err := open(t, c, by(t, fmt.Sprint(i, ".cfg"), "d", false)); err != nil {
			t.Fatal(err)
		}
	}
	var total int64
	files, _ := os.ReadDir(folder)
	for _, file := range files {
		info, err := file.Info()
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	if total > 20_000 || len(files) < 10 {
		t.Errorf("%d files with %d bytes, want at most 20000", len(files), total)
	}
	if data, err := os.ReadFile(filepath.Join(folder, "README")); err != nil || string(data) != "not ours" {
		t.Errorf("a file that is not the cache's: %q, %v", data, err)
	}
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	if _, _, err := open(t, c, by(t, "new.cfg", "d", false)); err != nil || !strings.Contains(c.log.String(), "can't be kept") {
		t.Errorf("folder gone: got %v, log %q", err, c.log)
	}
}
