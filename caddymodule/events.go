package caddymodule

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
)

// The events of the handler, its inventory and the sites' certificates.
const (
	// eventExpiring has the data fqdn, state and not_after.
	eventExpiring = "device_site_certificate_expiring"
	// eventReloadFailed has the data file and error.
	eventReloadFailed = "device_inventory_reload_failed"
	// eventRefused has the data mac, vendor, reason, status, path, remote_ip and
	// would_refuse.
	eventRefused = "device_refused"
	// eventStale has the data mac, vendor, profile, source and age.
	eventStale = "device_profile_stale"
)

// eventSink emits events, if there is anybody to hear them.
type eventSink struct {
	ctx caddy.Context
	app *caddyevents.App
	// started is set once the config runs. Before, nobody would hear, and the app
	// is not to be asked who would.
	started *atomic.Bool
}

func newEventSink(ctx caddy.Context) (eventSink, error) {
	app, err := ctx.App("events")
	if err != nil {
		return eventSink{}, fmt.Errorf("getting the events app: %w", err)
	}
	sink := eventSink{ctx, app.(*caddyevents.App), new(atomic.Bool)}
	return sink, sink.app.On("started", eventFunc(func() { sink.started.Store(true) }))
}

// eventFunc is a function that handles an event.
type eventFunc func()

// Handle calls f.
func (f eventFunc) Handle(context.Context, caddy.Event) error {
	f()
	return nil
}

// wanted reports whether anybody would hear an event.
func (e eventSink) wanted(event string) bool { return e.started.Load() && e.app.ShouldEmit(event) }

// emit emits an event.
func (e eventSink) emit(event string, data map[string]any) {
	if e.wanted(event) {
		e.app.Emit(e.ctx, event, data)
	}
}

// visit tells of a visit that was refused, or got the last known profile.
func (e eventSink) visit(v *visit, r *http.Request) {
	switch {
	case v.refused != nil && e.wanted(eventRefused):
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
		e.emit(eventRefused, data)
	case v.stale != nil && e.wanted(eventStale):
		e.emit(eventStale, map[string]any{
			"mac": v.deviceValue("device.mac"), "vendor": v.device.Vendor, "profile": v.name.String(), "source": v.source, "age": v.age.Seconds(),
		})
	}
}
