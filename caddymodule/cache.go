package caddymodule

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/device-profile/caddy-device-profile/profilesrc"
)

// Cache remembers what the sources gave. However many phones ask for a profile
// at once, the sources are asked once; while they are down, phones get the last
// known profile. It outlives config reloads that leave sources, MaxSize and
// Persist as they are. One device's profile never gets to another.
type Cache struct {
	// Refresh is how old a profile may get before the sources are asked again.
	// Default: 5m.
	Refresh caddy.Duration `json:"refresh,omitempty"`

	// GracePeriod is how old the last known profile may get that is served
	// while the sources are down. Default: 7d.
	GracePeriod caddy.Duration `json:"grace_period,omitempty"`

	// MaxSize bounds what is remembered in memory, and again on disk, in bytes.
	// Default: 256 MiB.
	MaxSize int64 `json:"max_size,omitempty"`

	// MaxEntry is the largest profile that is remembered, in bytes; larger ones
	// are passed on as they come. Default: 32 MiB.
	MaxEntry int64 `json:"max_entry,omitempty"`

	// Persist is a folder where profiles are kept, too, so that the last known
	// ones outlive a restart. They are as secret there as they are at their
	// source. Default: memory alone.
	Persist string `json:"persist,omitempty"`
}

// stores are what the caches of all configs remember, by what determines it.
var stores = caddy.NewUsagePool()

// pooledStore is a store that is closed with the last config that uses it.
type pooledStore struct{ *profilesrc.Store }

// Destruct closes the store.
func (s pooledStore) Destruct() error { return s.Close() }

// provisionSources loads the sources, each behind a breaker, and puts the cache
// over them.
func (h *Handler) provisionSources(ctx caddy.Context) error {
	if len(h.SourcesRaw) == 0 {
		if h.Cache != nil {
			return fmt.Errorf("cache: there is no source whose answers it could remember")
		}
		return nil
	}
	fingerprint := h.storeFingerprint() // loading empties the raw config
	modules, err := ctx.LoadModule(h, "SourcesRaw")
	if err != nil {
		return fmt.Errorf("loading sources: %w", err)
	}
	var sources []profilesrc.Source
	var names []string
	for _, m := range modules.([]any) {
		name := sourceName(m)
		names = append(names, name)
		if s, ok := m.(interface{ attrs() []string }); ok {
			h.sourceAttrs = append(h.sourceAttrs, s.attrs()...)
		}
		h.explained = append(h.explained, namedSource{name, m.(profilesrc.Source)})
		sources = append(sources, profilesrc.NewBreaker(name, m.(profilesrc.Source), h.observer()))
	}
	h.source = profilesrc.NewChain(sources...)
	if h.Cache == nil {
		return nil
	}
	return h.provisionCache(ctx, fingerprint, names)
}

func (h *Handler) provisionCache(ctx caddy.Context, fingerprint string, names []string) error {
	store, _, err := stores.LoadOrNew(fingerprint, func() (caddy.Destructor, error) {
		store, err := profilesrc.NewStore(profilesrc.StoreConfig{
			MaxSize:   h.Cache.MaxSize,
			Folder:    caddy.NewReplacer().ReplaceKnown(h.Cache.Persist, ""),
			Namespace: strings.Join(names, "\n"),
		})
		return pooledStore{store}, err
	})
	if err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	h.store = fingerprint
	h.source, err = profilesrc.NewCache(store.(pooledStore).Store, h.source, profilesrc.CacheConfig{
		Refresh:     time.Duration(h.Cache.Refresh),
		GracePeriod: time.Duration(h.Cache.GracePeriod),
		MaxEntry:    h.Cache.MaxEntry,
		Observe:     func(result string) { cacheRequestsTotal.WithLabelValues(result).Inc() },
		Logger:      ctx.Slogger(),
	})
	return err
}

// storeFingerprint tells apart the stores whose answers could differ. It is a
// hash, as the config may hold passwords.
func (h *Handler) storeFingerprint() string {
	if h.Cache == nil {
		return ""
	}
	raw, _ := json.Marshal([]any{h.SourcesRaw, h.Cache.MaxSize, h.Cache.Persist}) // raw JSON marshals
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// Cleanup lets go of what outlives the config.
func (h *Handler) Cleanup() error {
	h.live.close()
	var errs []error
	if h.seen != nil {
		_, err := seen.Delete(seenKey)
		errs = append(errs, err)
	}
	if h.store != "" {
		_, err := stores.Delete(h.store)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// observer passes what sources do on to log and metrics.
func (h *Handler) observer() profilesrc.Observer {
	return profilesrc.Observer{
		Asked: countSource,
		Down: func(source string, down bool) {
			h.gauges.setDown(source, down)
			if down {
				h.logger.Error("source down: it is left alone, but for a try now and then", zap.String("source", source))
				return
			}
			h.logger.Info("source up again", zap.String("source", source))
		},
	}
}

// sourceName is what a source is called in logs and metrics.
func sourceName(module any) string {
	if s, ok := module.(fmt.Stringer); ok {
		return s.String()
	}
	return module.(caddy.Module).CaddyModule().ID.Name()
}

// UnmarshalCaddyfile reads the cache option. Syntax:
//
//	cache {
//		refresh      <duration>
//		grace_period <duration>
//		max_size     <size>
//		max_entry    <size>
//		persist      <folder>
//	}
func (c *Cache) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.ArgErr()
	}
	var seen []string
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if slices.Contains(seen, option) {
			return d.Errf("cache: duplicate option %s", option)
		}
		seen = append(seen, option)
		var err error
		switch option {
		case "refresh":
			c.Refresh, err = duration(d, option)
		case "grace_period":
			c.GracePeriod, err = duration(d, option)
		case "max_size":
			c.MaxSize, err = size(d, option)
		case "max_entry":
			c.MaxEntry, err = size(d, option)
		case "persist":
			c.Persist, err = oneWord(d)
		default:
			err = d.Errf("cache: unrecognized option %q", option)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
