package integration

import (
	"testing"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/goleak"
)

// TestNoGoroutineLeft holds that reloads and a stop leave nothing running.
func TestNoGoroutineLeft(t *testing.T) {
	l := newLab(t)
	site := replace(twoSites, "LEGACY", "legacy_tls") + `
pv.example.com:PORT {
	bind 127.0.0.1
	tls {
		get_certificate csr pv.example.com
	}
}
`
	run := func() {
		s := startServer(t, l, site)
		clients[0].ask(t, s, ciscoPhone("1.2", "")).want(t, 200, "")
		if err := s.load(site + "# changed\n"); err != nil {
			t.Fatal(err)
		}
		if err := caddy.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	run() // Caddy itself starts some that stay as long as the process
	before := goleak.IgnoreCurrent()
	run()
	// Caddy's own storage locks notice within seconds that they are released.
	locks := goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh")
	goleak.VerifyNone(t, before, locks)
}
