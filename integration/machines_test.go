package integration

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/device-profile/caddy-device-profile/internal/lab"
)

// machineConfig is that of one of several machines behind a load balancer that
// sends the PROXY protocol.
const machineConfig = `{
	admin ADMIN
	persist_config off
	auto_https disable_redirects
	skip_install_trust
	storage file_system "LAB/storage"
	servers {
		listener_wrappers {
			proxy_protocol {
				allow 127.0.0.1/32
			}
			tls
			device_tls
		}
	}
}
prov.example.com:PORT {
	bind 127.0.0.1
	tls "LAB/site/prov.example.com.pem" "LAB/site/prov.example.com.key"
	device_profile {
		trust polycom "LAB/device-ca/polycom"
		serve /{device.mac}.cfg /polycom/{device.mac}.cfg
		source files "LAB/profiles"
	}
}
`

// newMachine is an instance whose session ticket keys are in the storage, too.
func newMachine(t *testing.T, l *lab.Lab) *instance {
	t.Helper()
	i := newInstance(t, l, machineConfig)
	caddyfile, err := os.ReadFile(i.config)
	if err != nil {
		t.Fatal(err)
	}
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(caddyfile, nil)
	if err != nil {
		t.Fatal(err)
	}
	i.config = filepath.Join(filepath.Dir(i.config), "caddy.json")
	if err := os.WriteFile(i.config, keepTickets(config), 0o600); err != nil {
		t.Fatal(err)
	}
	i.start(t)
	return i
}

// A phone that a load balancer brings to one machine, then to the other, resumes
// its session there, gets its own profile from both, and is logged with its own
// address.
func TestSeveralMachines(t *testing.T) {
	l := newLab(t)
	machines := []*instance{newMachine(t, l), newMachine(t, l)}
	const phoneAddress = "192.0.2.7"
	client := resumingClient(l.VVX, 0)
	transport := client.Transport.(*http.Transport)
	turn := 0
	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", machines[turn%len(machines)].port))
		if err != nil {
			return nil, err
		}
		turn++
		_, err = fmt.Fprintf(conn, "PROXY TCP4 %s 127.0.0.1 40000 443\r\n", phoneAddress)
		return conn, err
	}
	want, err := os.ReadFile(l.Path("profiles/polycom/" + lab.PolycomMAC + ".cfg"))
	if err != nil {
		t.Fatal(err)
	}
	for visit := range 4 {
		resp, err := client.Get("https://" + lab.Site + "/" + lab.PolycomMAC + ".cfg")
		if err != nil {
			t.Fatal(err)
		}
		body := readAll(t, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK || body != string(want) {
			t.Errorf("visit %d: status %d and %q", visit, resp.StatusCode, body)
		}
		if resp.TLS.DidResume != (visit > 0) {
			t.Errorf("visit %d: resumed: %v", visit, resp.TLS.DidResume)
		}
	}
	for n, machine := range machines {
		within(t, 5*time.Second, fmt.Sprintf("machine %d logs two visits of %s", n, phoneAddress), func() bool {
			return strings.Count(machine.log.String(), `"remote_ip":"`+phoneAddress+`"`) == 2
		})
	}
}
