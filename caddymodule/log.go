package caddymodule

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/device-profile/caddy-device-profile/deviceauth"
)

// log writes the one record of a decision. It never holds profile contents.
func (h *Handler) log(v *visit, r *http.Request, err error) {
	level, message := zapcore.InfoLevel, "profile served"
	switch {
	case v.observed && v.refused != nil:
		level, message = zapcore.WarnLevel, "device would be refused"
	case v.observed:
		message = "profile would be served"
	case v.refused != nil:
		level, message = zapcore.WarnLevel, "device refused"
	case err != nil || v.broken != nil || v.status >= 400:
		level, message = zapcore.WarnLevel, "profile not served"
	}
	entry := h.logger.Check(level, message)
	if entry == nil {
		return
	}
	entry.Write(v.logFields(r, err)...)
}

// logFields returns what is known of the visit.
func (v *visit) logFields(r *http.Request, err error) []zap.Field {
	fields := make([]zap.Field, 0, 18)
	add := func(key, value string) {
		if value != "" {
			fields = append(fields, zap.String(key, value))
		}
	}
	device := v.device
	if v.refused != nil {
		add("reason", string(v.refused.Reason))
		add("detail", v.refused.Detail)
		if device == nil {
			device = v.refused.Device
		}
	} else if err := errors.Join(err, v.broken, v.stale); err != nil {
		add("detail", err.Error())
	}
	fields = append(fields, zap.Int("status", v.status))
	if v.observed {
		fields = append(fields, zap.Bool("would_refuse", v.refused != nil))
	}
	if device != nil {
		if device.HasMAC {
			add("mac", device.MAC.String())
		}
		add("model", device.Model)
		add("serial", device.Serial)
		add("vendor", device.Vendor)
		add("fingerprint", device.Fingerprint)
	}
	add("path", v.path)
	add("profile", v.name.String())
	add("source", v.source)
	if v.stale != nil {
		fields = append(fields, zap.Bool("stale", true), zap.Duration("age", v.age))
	}
	if r.TLS != nil {
		add("tls_version", versionName(r.TLS.Version))
	}
	if weak := weakness(device, r.TLS); len(weak) > 0 {
		fields = append(fields, zap.Strings("weak", weak))
	}
	add("remote_ip", remoteIP(r))
	return append(fields,
		zap.Int64("bytes", v.bytes),
		zap.Duration("duration", time.Since(v.start)))
}

// weakness lists what is weak about the device's chain and its connection.
func weakness(d *deviceauth.Device, state *tls.ConnectionState) []string {
	var weak []string
	if d != nil {
		weak = slices.Clone(d.Weak)
	}
	if state != nil && state.Version < tls.VersionTLS12 {
		weak = append(weak, versionName(state.Version))
	}
	return weak
}

// versionName is the version as Caddy's config spells it: tls1.0, tls1.3, …
func versionName(version uint16) string {
	return strings.ToLower(strings.ReplaceAll(tls.VersionName(version), " ", ""))
}

func remoteIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
