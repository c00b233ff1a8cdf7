package integration

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/device-profile/caddy-device-profile/internal/lab"
)

const inventorySite = `
prov.example.com:PORT {
	bind 127.0.0.1
	tls "LAB/site/prov.example.com.pem" "LAB/site/prov.example.com.key"
	device_profile {
		trust polycom "LAB/device-ca/polycom"
		devices "LAB/devices.csv"
		serve /{device.mac}.cfg
		serve /{device.attr.tenant}/* /tenants/{device.attr.tenant}/*
		serve /firmware/*
	}
	header >X-Tenant {device.attr.tenant}
	respond "{device.profile} {device.attr.version}"
	handle_errors {
		respond "{device.reason}"
	}
}
`

// publish puts another inventory in the place of the one before.
func publish(t *testing.T, l *lab.Lab, text string) {
	t.Helper()
	if err := l.Write("devices.new", []byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(l.Path("devices.new"), l.Path("devices.csv")); err != nil {
		t.Fatal(err)
	}
}

// fleet is an inventory that begins with the phones of a storm.
func fleet(n, version int) string {
	var b strings.Builder
	b.WriteString("mac,profile,tenant,version\n")
	for i := range n {
		fmt.Fprintf(&b, "0004f2%06x,own/%d.cfg,t%d,v%d\n", i, i, i%7, version)
	}
	return b.String()
}

// TestInventory goes through what an inventory decides.
func TestInventory(t *testing.T) {
	l := newLab(t)
	publish(t, l, "mac,tenant,profile,state,vendor,version\n"+lab.PolycomMAC+",acme,a/b.cfg,,polycom,1\n")
	s := startServer(t, l, inventorySite)
	vvx := s.as("phones/vvx")
	want := func(path string, status int, body string) {
		t.Helper()
		if got := curl(t, s, path, vvx...); got.status != status || got.body != body {
			t.Errorf("%s: got %d %q, want %d %q", path, got.status, got.body, status, body)
		}
	}
	own := "/" + lab.PolycomMAC + ".cfg"
	want(own, 200, "a/b.cfg 1")
	want("/acme/logo.bmp", 200, "tenants/acme/logo.bmp 1")
	want("/firmware/x.bin", 200, "firmware/x.bin 1")
	want("/a/b.cfg", 403, "path_not_allowed") // the rule gives the path, not the row
	want("/other/logo.bmp", 403, "path_not_allowed")
	want("/acme/"+lab.CiscoMAC+".cfg", 403, "path_not_allowed")
	want("/"+lab.CiscoMAC+".cfg", 403, "path_not_allowed")
	if got := curl(t, s, own, vvx...); !strings.Contains(strings.ToLower(got.output), "x-tenant: acme") {
		t.Errorf("no tenant in the header: %s", got.output)
	}

	// What comes in time is decided by the file of the day, on open connections too.
	becomes := func(row, word string) {
		t.Helper()
		publish(t, l, "mac,tenant,profile,state,vendor,version\n"+row+"\n")
		within(t, time.Minute, word, func() bool { return curl(t, s, own, vvx...).body == word })
	}
	becomes(lab.PolycomMAC+",acme,a/b.cfg,blocked,,2", "blocked")
	becomes(lab.PolycomMAC+",acme,,active,,3", lab.PolycomMAC+".cfg 3")
	becomes(lab.PolycomMAC+",acme,,,snom,4", "unknown_device")
	becomes(lab.CiscoMAC+",acme,,,,5", "unknown_device")
	becomes(lab.PolycomMAC+",acme,,,,6", lab.PolycomMAC+".cfg 6")
	s.awaitLogged(t, "device refused", `"reason":"blocked"`, lab.PolycomMAC)
	s.awaitLogged(t, "device refused", `"reason":"unknown_device"`, "snom", "polycom")

	// A bad one changes nothing, and says so, with line and column.
	forgetEvents()
	publish(t, l, "mac,tenant,version\n"+lab.PolycomMAC+",acme,7\n"+lab.PolycomMAC+",acme,8\n")
	s.awaitLogged(t, `"level":"error"`, "inventory not reloaded", "devices.csv:3:1: mac "+lab.PolycomMAC+" is listed twice")
	wantEvent(t, "device_inventory_reload_failed", nil, map[string]any{"file": l.Path("devices.csv")})
	wantMetrics(t, `inventory_reload_failed{file="`+l.Path("devices.csv")+`"}`, `inventory_rows{file="`+l.Path("devices.csv")+`"}`)
	want(own, 200, lab.PolycomMAC+".cfg 6")
	publish(t, l, "mac,version\n"+lab.PolycomMAC+",9\n")
	s.awaitLogged(t, `"level":"error"`, "inventory not reloaded", "no column tenant")
	want(own, 200, lab.PolycomMAC+".cfg 6")
	// Neither does a config that needs what isn't there.
	if err := s.load(replace(inventorySite, "{device.attr.version}", "", "{device.attr.tenant}/*", "{device.attr.site}/*")); err == nil || !strings.Contains(err.Error(), "no column site") {
		t.Errorf("a config with an unknown column: %v", err)
	}
	want(own, 200, lab.PolycomMAC+".cfg 6")
}

// TestInventoryReloads replaces inventory and config while a fleet is asking: each
// phone gets its own profile each time.
func TestInventoryReloads(t *testing.T) {
	const rows = 100_000
	l := newLab(t)
	publish(t, l, fleet(rows, 0))
	s := startServer(t, l, inventorySite)
	phones := stormPhones(t, l, 100)
	var stop atomic.Bool
	var answers atomic.Int64
	var all sync.WaitGroup
	for i, p := range phones {
		all.Go(func() {
			for !stop.Load() {
				status, body, err := p.get(s, "/"+p.mac+".cfg")
				if want := fmt.Sprintf("own/%d.cfg v", i); err != nil || status != 200 || !strings.HasPrefix(body, want) {
					t.Errorf("%s: got %d %q, %v; want %s", p.mac, status, body, err, want)
					return
				}
				answers.Add(1)
			}
		})
	}
	for version := 1; version <= 3; version++ {
		publish(t, l, fleet(rows, version))
		within(t, time.Minute, fmt.Sprintf("version %d", version), func() bool {
			_, body, err := phones[0].get(s, "/"+phones[0].mac+".cfg")
			return err == nil && strings.HasSuffix(body, fmt.Sprintf(" v%d", version))
		})
		publish(t, l, fleet(rows, version)+"nonsense\n")
		within(t, time.Minute, "a complaint", func() bool { return len(s.logged(t, "inventory not reloaded")) == version })
		publish(t, l, fleet(rows, version))
		within(t, time.Minute, "peace", func() bool { return len(s.logged(t, "inventory reloaded")) >= 2*version })
		if err := s.load(replace(inventorySite, "/firmware/*", fmt.Sprintf("/firmware%d/*", version))); err != nil {
			t.Error(err)
		}
	}
	stop.Store(true)
	all.Wait()
	t.Logf("%d answers", answers.Load())
}
