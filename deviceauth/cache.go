package deviceauth

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"slices"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// defaultCacheSize is how many accepted devices are remembered by default.
const defaultCacheSize = 100_000

// cache remembers accepted devices by the certificates they sent. It keeps no
// parsed certificate, since a visit brings its own, and no refusals, since
// anybody can cause those.
type cache struct {
	entries *lru.Cache[cacheKey, *accepted]
}

// cacheKey is a hash over all certificates that a client sent.
type cacheKey [sha256.Size]byte

// accepted is what is remembered of a device.
type accepted struct {
	device      Device // without Chain
	trust       int    // index into the verifier's trusts
	path        []int8 // n is the client's certificate n, ^n the trust's anchor n
	from, until time.Time
}

func newCache(size int) (*cache, error) {
	if size == 0 {
		size = defaultCacheSize
	}
	entries, err := lru.New[cacheKey, *accepted](size)
	return &cache{entries}, err
}

func keyOf(certs []*x509.Certificate) cacheKey {
	h := sha256.New()
	var length [4]byte
	for _, cert := range certs {
		binary.BigEndian.PutUint32(length[:], uint32(len(cert.Raw)))
		h.Write(length[:])
		h.Write(cert.Raw)
	}
	var key cacheKey
	h.Sum(key[:0])
	return key
}

// get returns the device that sent certs, if it is known and nothing that its
// acceptance depended on has ended, or has not begun, since.
func (c *cache) get(key cacheKey, certs []*x509.Certificate, trusts []*trust, now time.Time) (*Device, bool) {
	entry, ok := c.entries.Get(key)
	if !ok {
		return nil, false
	}
	if now.Before(entry.from) || !now.Before(entry.until) {
		c.entries.Remove(key)
		return nil, false
	}
	device := entry.device
	anchors := trusts[entry.trust].anchors.list
	device.Chain = make([]*x509.Certificate, len(entry.path))
	for i, n := range entry.path {
		if n < 0 {
			device.Chain[i] = anchors[^n]
		} else {
			device.Chain[i] = certs[n]
		}
	}
	return &device, true
}

// put remembers a device that trust number n accepted. A chain with an anchor
// beyond what an entry can name is not remembered.
func (c *cache) put(key cacheKey, certs []*x509.Certificate, n int, t *trust, v verdict, now time.Time) {
	entry := &accepted{device: *v.device, trust: n, from: now, until: v.until}
	entry.device.Chain = nil
	for _, cert := range v.device.Chain {
		place := slices.IndexFunc(certs, cert.Equal)
		if place < 0 {
			place = ^slices.IndexFunc(t.anchors.list, cert.Equal)
		}
		if place < -128 || place > 127 {
			return
		}
		entry.path = append(entry.path, int8(place))
	}
	c.entries.Add(key, entry)
}
