// Package integration plays real TLS clients as phones against the server.
package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/device-profile/caddy-device-profile"
	"github.com/device-profile/caddy-device-profile/internal/lab"
)

// server is Caddy, running in this process on a loopback port.
type server struct {
	lab  *lab.Lab
	port int
}

// startServer runs the lab's server with another Caddyfile, in which LAB and
// PORT stand for the lab's folder and port. There can be only one at a time.
func startServer(t *testing.T, l *lab.Lab, caddyfile string) *server {
	t.Helper()
	port, err := lab.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	s := &server{lab: l, port: port}
	if err := s.load(caddyfile); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

const globalOptions = `{
	admin off
	persist_config off
	auto_https disable_redirects
	skip_install_trust
	storage file_system "LAB/storage"
	grace_period 1s
	filesystem lab folder "LAB"
	events {
		on device_refused test_log
		on device_profile_stale test_log
		on device_inventory_reload_failed test_log
	}
	log {
		output file "LAB/caddy.log"
		level DEBUG
	}
}
`

// load makes the server run with another config. If it is bad, the running one
// goes on.
func (s *server) load(caddyfile string) error {
	text := strings.NewReplacer("LAB", s.lab.Dir, "PORT", fmt.Sprint(s.port)).Replace(globalOptions + caddyfile)
	config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return err
	}
	for _, warning := range warnings {
		if !strings.Contains(warning.Message, "not formatted") {
			return fmt.Errorf("adapting: %s", warning)
		}
	}
	return caddy.Load(keepTickets(config), true)
}

// keepTickets keeps the keys of session tickets in storage, so that sessions
// outlive a reload. The Caddyfile has no option for it.
func keepTickets(config []byte) []byte {
	var c map[string]any
	if err := json.Unmarshal(config, &c); err != nil {
		panic(err) // the adapter's own JSON
	}
	apps := c["apps"].(map[string]any)
	tls, ok := apps["tls"].(map[string]any)
	if !ok {
		tls = make(map[string]any)
		apps["tls"] = tls
	}
	tls["session_tickets"] = map[string]any{"key_source": map[string]any{"provider": "distributed"}}
	config, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	return config
}

func (s *server) address() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// awaitLogged is logged, but waits for the first one: a record is written after
// the answer that it is about.
func (s *server) awaitLogged(t *testing.T, words ...string) (found []string) {
	t.Helper()
	within(t, 5*time.Second, fmt.Sprintf("a record with %q", words), func() bool {
		found = s.logged(t, words...)
		return len(found) > 0
	})
	return found
}

// logged returns the records in the server's log that hold all of the words.
func (s *server) logged(t *testing.T, words ...string) []string {
	t.Helper()
	data, err := os.ReadFile(s.lab.Path("caddy.log"))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
lines:
	for line := range strings.Lines(string(data)) {
		for _, word := range words {
			if !strings.Contains(line, word) {
				continue lines
			}
		}
		found = append(found, line)
	}
	return found
}

func newLab(t *testing.T) *lab.Lab {
	t.Helper()
	l, err := lab.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func replace(text string, oldNew ...string) string {
	return strings.NewReplacer(oldNew...).Replace(text)
}
