package caddymodule

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/device-profile/caddy-device-profile/deviceauth"
)

// TestMetrics holds that all metrics are sound, in a registry that looks closely,
// and that several handlers and configs can share them.
func TestMetrics(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	for range 2 { // two handlers of a config
		g, err := registerMetrics(registry)
		if err != nil {
			t.Fatal(err)
		}
		g.setDown("tftp:x", true)
		g.setDown("tftp:x", false)
	}
	v := &visit{status: 403, refused: &deviceauth.Refusal{Reason: deviceauth.WeakKey, Device: &deviceauth.Device{Vendor: "test vendor", Weak: []string{"sha1"}}}}
	v.count(&tls.ConnectionState{Version: tls.VersionTLS10})
	if err := countHandshake(tls.ConnectionState{Version: tls.VersionTLS10}); err != nil {
		t.Error(err)
	}
	countSource("tftp:x", "found", time.Millisecond)
	countSource("tftp:x", "skipped", 0)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]int)
	for _, family := range families {
		got[strings.TrimPrefix(family.GetName(), "caddy_device_profile_")] = len(family.GetMetric())
	}
	for _, name := range []string{"requests_total", "weak_total", "handshakes_total", "source_requests_total", "source_duration_seconds", "source_down"} {
		if got[name] == 0 {
			t.Errorf("no %s in %v", name, got)
		}
	}
	if _, err := registerMetrics(prometheus.NewPedanticRegistry()); err != nil {
		t.Errorf("the next config: %v", err)
	}
}
