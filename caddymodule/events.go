package caddymodule

import (
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
)

// The events of the handler.
const (
	// eventRefused has the data mac, vendor, reason, status, path, remote_ip and
	// would_refuse.
	eventRefused = "device_refused"
	// eventStale has the data mac, vendor, profile, source and age.
	eventStale = "device_profile_stale"
)

// eventSink emits the handler's events, if there is anybody to hear them.
type eventSink struct {
	ctx caddy.Context
	app *caddyevents.App
}

func newEventSink(ctx caddy.Context) (eventSink, error) {
	app, err := ctx.App("events")
	if err != nil {
		return eventSink{}, fmt.Errorf("getting the events app: %w", err)
	}
	return eventSink{ctx, app.(*caddyevents.App)}, nil
}

// emit tells of a visit that was refused, or got the last known profile.
func (e eventSink) emit(v *visit, r *http.Request) {
	switch {
	case v.refused != nil && e.app.ShouldEmit(eventRefused):
		device := v.device
		if device == nil {
			device = v.refused.Device
		}
		data := map[string]any{
			"reason": string(v.refused.Reason), "status": v.status, "path": v.path, "remote_ip": remoteIP(r), "would_refuse": v.observed,
		}
		if device != nil {
			data["vendor"] = device.Vendor
			if device.HasMAC {
				data["mac"] = device.MAC.String()
			}
		}
		e.app.Emit(e.ctx, eventRefused, data)
	case v.stale != nil && e.app.ShouldEmit(eventStale):
		e.app.Emit(e.ctx, eventStale, map[string]any{
			"mac": v.deviceValue("device.mac"), "vendor": v.device.Vendor, "profile": v.name.String(), "source": v.source, "age": v.age.Seconds(),
		})
	}
}
