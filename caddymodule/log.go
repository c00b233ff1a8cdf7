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
	// Inline, as a list of fields would have to be made for each visit.
	entry.Write(zap.Inline(zapcore.ObjectMarshalerFunc(func(record zapcore.ObjectEncoder) error {
		v.writeLog(record, r, err)
		return nil
	})))
}

// writeLog writes what is known of the visit.
func (v *visit) writeLog(record zapcore.ObjectEncoder, r *http.Request, err error) {
	add := func(key, value string) {
		if value != "" {
			record.AddString(key, value)
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
	record.AddInt("status", v.status)
	if v.observed {
		record.AddBool("would_refuse", v.refused != nil)
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
		record.AddBool("stale", true)
		record.AddDuration("age", v.age)
	}
	if r.TLS != nil {
		add("tls_version", versionName(r.TLS.Version))
	}
	if weak := weakness(device, r.TLS); len(weak) > 0 {
		zap.Strings("weak", weak).AddTo(record)
	}
	add("remote_ip", remoteIP(r))
	record.AddInt64("bytes", v.bytes)
	record.AddDuration("duration", time.Since(v.start))
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
	switch version { // those of nearly every visit
	case tls.VersionTLS12:
		return "tls1.2"
	case tls.VersionTLS13:
		return "tls1.3"
	}
	return strings.ToLower(strings.ReplaceAll(tls.VersionName(version), " ", ""))
}

func remoteIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
