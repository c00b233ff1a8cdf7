package caddymodule

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/device-profile/caddy-device-profile/deviceauth"
	dt "github.com/device-profile/caddy-device-profile/deviceauth/deviceauthtest"
)

// TestSeenDevices holds that the list is bounded, keeps those that came last, and
// holds nobody whom no trust vouches for.
func TestSeenDevices(t *testing.T) {
	cert := dt.Must(dt.SelfSigned(pkix.Name{CommonName: "x"}, dt.RSA(1024))).Cert
	s := newSeenDevices(3)
	visited := func(mac, agent string, refused *deviceauth.Refusal) {
		v := &visit{path: "/" + strings.Repeat("x", 500), status: 200, refused: refused}
		if mac != "" {
			v.device = &deviceauth.Device{MAC: dt.Must(deviceauth.ParseMAC(mac)), HasMAC: true, Vendor: "snom", Chain: []*x509.Certificate{cert}}
		}
		r := httptest.NewRequest("GET", "https://x/", nil)
		r.TLS = &tls.ConnectionState{Version: tls.VersionTLS12}
		r.Header.Set("User-Agent", agent)
		s.note(v, r)
	}
	for i := range 5 {
		visited(fmt.Sprintf("00041300000%d", i), "snom/"+strings.Repeat("ä", 300), nil)
	}
	visited("000413000003", "snom", &deviceauth.Refusal{Reason: reasonPathNotAllowed})
	visited("", "stranger", &deviceauth.Refusal{Reason: deviceauth.Untrusted})
	devices, total := s.page(0, 10)
	var macs []string
	for _, d := range devices {
		macs = append(macs, d.MAC)
		if len(d.Path) > maxRemembered || len(d.UserAgent) > maxRemembered || !strings.HasPrefix(d.UserAgent, "snom") {
			t.Errorf("%s: remembered are %d bytes of the path, %q", d.MAC, len(d.Path), d.UserAgent)
		}
	}
	if got := strings.Join(macs, " "); total != 3 || got != "000413000003 000413000004 000413000002" {
		t.Errorf("got %d devices: %s", total, got)
	}
	if d := devices[0]; d.Served != 1 || d.Refused != 1 || d.Reason != "path_not_allowed" {
		t.Errorf("got %+v", d)
	}
	s.grow(4)
	s.grow(2)
	visited("000413000009", "snom", nil)
	if _, total := s.page(0, 10); total != 4 {
		t.Errorf("with more room: got %d devices, want 4", total)
	}
	if devices, _ := s.page(3, 10); len(devices) != 1 || devices[0].MAC != "000413000002" {
		t.Errorf("last page: got %+v", devices)
	}
	if devices, _ := s.page(9, 10); len(devices) != 0 {
		t.Errorf("beyond the end: got %+v", devices)
	}
}
