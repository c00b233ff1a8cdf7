package caddymodule

import (
	"errors"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// sourceMetrics tell what the sources and the cache do. None of them has a
// device in a label.
type sourceMetrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	down     *prometheus.GaugeVec
	cache    *prometheus.CounterVec
}

// newSourceMetrics registers the metrics with the config's registry. Each config
// has a registry of its own, which several handlers share.
func newSourceMetrics(ctx caddy.Context) (*sourceMetrics, error) {
	m := &sourceMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "caddy", Subsystem: "device_profile", Name: "source_requests_total",
			Help: "Profiles asked of each source, by outcome.",
		}, []string{"source", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "caddy", Subsystem: "device_profile", Name: "source_duration_seconds",
			Help: "How long each source took to answer.", Buckets: prometheus.ExponentialBuckets(0.0005, 4, 9),
		}, []string{"source"}),
		down: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "caddy", Subsystem: "device_profile", Name: "source_down",
			Help: "1 if the source is down and left alone, 0 if it was, and is back.",
		}, []string{"source"}),
		cache: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "caddy", Subsystem: "device_profile", Name: "cache_requests_total",
			Help: "Answers of the cache, by result.",
		}, []string{"result"}),
	}
	registry := ctx.GetMetricsRegistry()
	return m, errors.Join(
		register(registry, &m.requests),
		register(registry, &m.seconds),
		register(registry, &m.down),
		register(registry, &m.cache),
	)
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

func (m *sourceMetrics) asked(source, outcome string, took time.Duration) {
	m.requests.WithLabelValues(source, outcome).Inc()
	if outcome != "skipped" {
		m.seconds.WithLabelValues(source).Observe(took.Seconds())
	}
}

func (m *sourceMetrics) setDown(source string, down bool) {
	value := 0.0
	if down {
		value = 1
	}
	m.down.WithLabelValues(source).Set(value)
}
