package caddymodule

import (
	"crypto/tls"
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/device-profile/caddy-device-profile/deviceauth"
)

// Counters belong to the process: each config has a registry of its own, and
// what was counted must outlive a reload. None has a device in a label.
var (
	requestsTotal = counter("requests_total",
		"Requests by the vendor of the device, the reason for a refusal (served if there is none) and the status.", "vendor", "reason", "status")
	weakTotal = counter("weak_total",
		"Requests whose certificate chain or connection had something weak about it that the config lets pass.", "vendor", "feature")
	handshakesTotal = counter("handshakes_total",
		"TLS handshakes on the phones' terms, resumed ones too, by version.", "version")
	sourceRequestsTotal = counter("source_requests_total",
		"Profiles asked of each source, by outcome.", "source", "outcome")
	trustReloadsTotal = counter("trust_reloads_total",
		"Changes of a trust's CA certificates and CRLs that were taken over, and looks at them that failed.", "vendor", "result")
	cacheRequestsTotal = counter("cache_requests_total",
		"Answers of the cache, by result.", "result")
	sourceSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "caddy", Subsystem: "device_profile", Name: "source_duration_seconds",
		Help: "How long each source took to answer.", Buckets: prometheus.ExponentialBuckets(0.0005, 4, 9),
	}, []string{"source"})
)

// gaugeFunc registers a gauge that is asked when somebody looks. Another of the
// same name and labels makes it superfluous.
func gaugeFunc(registry *prometheus.Registry, name, help string, labels prometheus.Labels, value func() float64) error {
	g := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "caddy", Subsystem: "device_profile", Name: name, Help: help, ConstLabels: labels}, value)
	return register(registry, &g)
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "caddy", Subsystem: "device_profile", Name: name, Help: help}, labels)
}

func gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "caddy", Subsystem: "device_profile", Name: name, Help: help}, labels)
}

// gauges tell how things stand, so they belong to the config.
type gauges struct {
	sourceDown *prometheus.GaugeVec
	anchorEnd  *prometheus.GaugeVec
}

// registerMetrics adds all metrics to the config's registry. Several handlers of
// a config share them.
func registerMetrics(registry *prometheus.Registry) (*gauges, error) {
	g := &gauges{
		sourceDown: gauge("source_down", "1 if the source is down and left alone, 0 if it was, and is back.", "source"),
		anchorEnd:  gauge("trust_anchor_end_timestamp_seconds", "When a CA certificate of a trust ends.", "vendor", "anchor"),
	}
	err := errors.Join(register(registry, &g.sourceDown), register(registry, &g.anchorEnd), register(registry, &sourceSeconds))
	for _, c := range []*prometheus.CounterVec{requestsTotal, weakTotal, handshakesTotal, sourceRequestsTotal, cacheRequestsTotal, trustReloadsTotal} {
		err = errors.Join(err, register(registry, &c))
	}
	return g, err
}

// register registers a collector, or takes the one that is registered already.
func register[C prometheus.Collector](registry *prometheus.Registry, collector *C) error {
	err := registry.Register(*collector)
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		*collector = already.ExistingCollector.(C)
		return nil
	}
	return err
}

// count counts a visit.
func (v *visit) count(state *tls.ConnectionState) {
	vendor, reason, weak := v.labels(state)
	requestsTotal.WithLabelValues(vendor, reason, strconv.Itoa(v.status)).Inc()
	for _, feature := range weak {
		weakTotal.WithLabelValues(vendor, feature).Inc()
	}
}

// labels are what a visit is counted by.
func (v *visit) labels(state *tls.ConnectionState) (vendor, reason string, weak []string) {
	reason = "served"
	device := v.device
	if v.refused != nil {
		reason = string(v.refused.Reason)
		if device == nil {
			device = v.refused.Device
		}
	}
	if device != nil {
		vendor = device.Vendor
	}
	return vendor, reason, weakness(device, state)
}

// countHandshake counts a handshake. It is tls.Config.VerifyConnection, which
// resumed handshakes call too.
func countHandshake(state tls.ConnectionState) error {
	handshakesTotal.WithLabelValues(versionName(state.Version)).Inc()
	return nil
}

func countSource(source, outcome string, took time.Duration) {
	sourceRequestsTotal.WithLabelValues(source, outcome).Inc()
	if outcome != "skipped" {
		sourceSeconds.WithLabelValues(source).Observe(took.Seconds())
	}
}

func (g *gauges) setDown(source string, down bool) {
	value := 0.0
	if down {
		value = 1
	}
	g.sourceDown.WithLabelValues(source).Set(value)
}

// setAnchors notes when the CA certificates of the trusts end.
func (g *gauges) setAnchors(trusts []deviceauth.Trust) {
	for _, trust := range trusts {
		for _, anchor := range trust.Anchors {
			g.anchorEnd.WithLabelValues(trust.Vendor, anchor.Subject.String()).Set(float64(anchor.NotAfter.Unix()))
		}
	}
}
