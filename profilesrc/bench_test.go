package profilesrc_test

import (
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/device-profile/caddy-device-profile/profilesrc"
)

// benchmarkOpen opens a profile and reads it, one after the other and many at
// once.
func benchmarkOpen(b *testing.B, source profilesrc.Source, req profilesrc.Request) {
	open := func() error {
		profile, err := source.Open(context.Background(), req)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, profile.Body)
		profile.Body.Close()
		return err
	}
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := open(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("many", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := open(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}

// BenchmarkFiles compares a small file that is remembered with one that is read.
func BenchmarkFiles(b *testing.B) {
	folder := b.TempDir()
	if err := writeOld(filepath.Join(folder, "a.cfg"), strings.Repeat("x", 8<<10), longAgo); err != nil {
		b.Fatal(err)
	}
	for name, memory := range map[string]int64{"remembered": 0, "read": -1} {
		source := openFiles(b, profilesrc.FilesConfig{Folder: folder, Memory: memory, Now: later})
		b.Run(name, func(b *testing.B) { benchmarkOpen(b, source, nameOf(b, "a.cfg")) })
	}
}

// BenchmarkCache answers from the cache, and past it.
func BenchmarkCache(b *testing.B) {
	source := &backend{content: func(profilesrc.Request) string { return strings.Repeat("x", 8<<10) }}
	cache, err := profilesrc.NewCache(newStore(b, profilesrc.StoreConfig{}), source, profilesrc.CacheConfig{})
	if err != nil {
		b.Fatal(err)
	}
	for name, source := range map[string]profilesrc.Source{"hit": cache, "source": source} {
		b.Run(name, func(b *testing.B) { benchmarkOpen(b, source, by(b, "a.cfg", "phone", false)) })
	}
}
