package caddymodule

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/device-profile/caddy-device-profile/deviceauth"
)

// DefaultRemember is the default of Handler.Remember, in devices.
const DefaultRemember = 200_000

// maxRemembered bounds what is remembered of a text that a client chooses, in
// bytes.
const maxRemembered = 160

// seenDevice is what is remembered of a device.
type seenDevice struct {
	MAC            string    `json:"mac,omitempty"`
	Vendor         string    `json:"vendor"`
	Model          string    `json:"model,omitempty"`
	Serial         string    `json:"serial,omitempty"`
	Fingerprint    string    `json:"fingerprint"`
	CertificateEnd time.Time `json:"certificate_end"`
	Status         int       `json:"status"`
	Reason         string    `json:"reason,omitempty"`
	Path           string    `json:"path"`
	TLSVersion     string    `json:"tls_version"`
	Weak           []string  `json:"weak,omitempty"`
	UserAgent      string    `json:"user_agent,omitempty"` // as the client says
	RemoteIP       string    `json:"remote_ip"`
	FirstSeen      time.Time `json:"first_seen"`
	LastSeen       time.Time `json:"last_seen"`
	Served         int64     `json:"served"`
	Refused        int64     `json:"refused"`
}

// seenDevices remembers the devices that came last. Only those are remembered
// that a trust anchor vouches for: nobody else can fill it.
type seenDevices struct {
	mu      sync.Mutex
	most    int
	devices *simplelru.LRU[string, *seenDevice]
}

// seen are the devices that this process has seen, whatever its config was.
var seen = caddy.NewUsagePool()

// seenKey is the key of the one object in seen.
const seenKey = "devices"

func newSeenDevices(most int) *seenDevices {
	devices, err := simplelru.NewLRU[string, *seenDevice](most, nil)
	if err != nil {
		panic(err) // most is above zero
	}
	return &seenDevices{most: most, devices: devices}
}

// Destruct does nothing; it makes the devices fit for a pool.
func (*seenDevices) Destruct() error { return nil }

// provisionSeen takes part in what all handlers remember. The one with the
// largest bound sets it.
func (h *Handler) provisionSeen() error {
	most := h.Remember
	if most == 0 {
		most = DefaultRemember
	}
	if most < 0 {
		return nil
	}
	pooled, loaded, err := seen.LoadOrNew(seenKey, func() (caddy.Destructor, error) { return newSeenDevices(most), nil })
	if err != nil {
		return err
	}
	h.seen = pooled.(*seenDevices)
	if loaded {
		h.seen.grow(most)
	}
	return nil
}

// grow makes room for more devices. What is there stays.
func (s *seenDevices) grow(most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if most > s.most {
		s.devices.Resize(most)
		s.most = most
	}
}

// note remembers a visit.
func (s *seenDevices) note(v *visit, r *http.Request) {
	device := v.device
	if device == nil && v.refused != nil {
		device = v.refused.Device
	}
	if device == nil {
		return
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	key := identityOf(device)
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.devices.Get(key)
	if !ok {
		d = &seenDevice{Vendor: device.Vendor, FirstSeen: now}
		s.devices.Add(key, d)
	}
	d.update(device, v, r, now)
}

func (d *seenDevice) update(device *deviceauth.Device, v *visit, r *http.Request, now time.Time) {
	if device.HasMAC {
		d.MAC = device.MAC.String()
	}
	d.Model, d.Serial = remembered(device.Model), remembered(device.Serial)
	d.Fingerprint = device.Fingerprint
	d.CertificateEnd = device.Chain[0].NotAfter.UTC()
	d.Status, d.Reason, d.Path = v.status, "", remembered(v.path)
	d.TLSVersion = versionName(r.TLS.Version)
	d.Weak = weakness(device, r.TLS)
	d.UserAgent = remembered(r.UserAgent())
	d.RemoteIP = remoteIP(r)
	d.LastSeen = now
	if v.refused == nil {
		d.Served++
		return
	}
	d.Reason = string(v.refused.Reason)
	d.Refused++
}

// remembered cuts a text to what is remembered of it. The copy holds on to
// nothing longer.
func remembered(text string) string {
	if len(text) > maxRemembered {
		text = strings.ToValidUTF8(text[:maxRemembered], "")
	}
	return strings.Clone(text)
}

// page returns devices, those that came last first, and how many there are.
func (s *seenDevices) page(offset, limit int) (devices []seenDevice, total int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := s.devices.Keys()
	slices.Reverse(keys)
	total = len(keys)
	for _, key := range keys[min(offset, total):min(offset+limit, total)] {
		d, _ := s.devices.Peek(key)
		devices = append(devices, *d)
	}
	return devices, total
}
