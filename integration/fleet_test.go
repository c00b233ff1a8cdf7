package integration

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/google/go-cmp/cmp"

	dt "github.com/device-profile/caddy-device-profile/deviceauth/deviceauthtest"
	"github.com/device-profile/caddy-device-profile/internal/lab"
)

// fleetSite has an old rule behind the handler, that knows a password.
const fleetSite = `
prov.example.com:PORT {
	bind 127.0.0.1
	tls "LAB/site/prov.example.com.pem" "LAB/site/prov.example.com.key"
	header >X-Device "{device.mac} {device.vendor} {device.reason}"
	device_profile {
		trust polycom "LAB/device-ca/polycom"
		trust cisco_spa "LAB/device-ca/cisco-client-root.pem" {
			weakest_signature sha1
			weakest_rsa 1024
		}
		serve /{device.mac}.cfg /{device.vendor}/{device.mac}.cfg
		source files "LAB/profiles"
		legacy_tls
		MODE
	}
	respond "old rule for {http.request.uri}"
	handle_errors {
		respond "{device.reason}"
	}
}
`

// TestObserve holds that observing decides and logs as ever, and changes nothing.
func TestObserve(t *testing.T) {
	s := startServer(t, newLab(t), replace(fleetSite, "MODE", "mode observe"))
	own, others := "/"+lab.PolycomMAC+".cfg?x=1", "/0004f2ddeeff.cfg"
	for _, tt := range []struct {
		name, path, cert, method string
		device, log              string
	}{
		{"its own", own, "phones/vvx", "GET", lab.PolycomMAC + " polycom ", `"msg":"profile would be served"`},
		{"another's", others, "phones/vvx", "GET", lab.PolycomMAC + " polycom path_not_allowed", `"reason":"path_not_allowed"`},
		{"upload", own, "phones/vvx", "PUT", lab.PolycomMAC + " polycom method_not_allowed", `"reason":"method_not_allowed"`},
		{"forged", own, "phones/t54", "GET", "  untrusted", `"reason":"untrusted"`},
		{"no certificate", own, "", "GET", "  no_certificate", `"reason":"no_certificate"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := []string{"-X", tt.method}
			if tt.cert != "" {
				args = append(args, s.as(tt.cert)...)
			}
			r := curl(t, s, tt.path, args...)
			r.want(t, 200, "old rule for "+tt.path)
			if got := header(r.output, "X-Device"); strings.TrimSpace(got) != strings.TrimSpace(tt.device) {
				t.Errorf("placeholders: got %q, want %q", got, tt.device)
			}
			would := `"would_refuse":true`
			if tt.name == "its own" {
				would = `"would_refuse":false`
			}
			s.awaitLogged(t, tt.log, would, `"status":200`)
		})
	}
}

// eventLog is an event handler that remembers.
type eventLog struct{}

var loggedEvents = make(chan caddy.Event, 100)

func init() { caddy.RegisterModule(new(eventLog)) }

func (*eventLog) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.test_log", New: func() caddy.Module { return new(eventLog) }}
}

func (*eventLog) Handle(_ context.Context, e caddy.Event) error {
	select {
	case loggedEvents <- e:
	default: // nobody reads them
	}
	return nil
}

func (*eventLog) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the module's name
	return nil
}

// admin asks the admin API of this process.
func admin(t *testing.T, method, path, upload string) (status int, body string) {
	t.Helper()
	rec := httptest.NewRecorder()
	req := httptest.NewRequest(method, path, strings.NewReader(upload))
	mux := http.NewServeMux()
	module := dt.Must(caddy.GetModule("admin.api.device_profile"))
	for _, route := range module.New().(caddy.AdminRouter).Routes() {
		mux.HandleFunc(route.Pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := route.Handler.ServeHTTP(w, r); err != nil {
				http.Error(w, err.Error(), err.(caddy.APIError).HTTPStatus) //nolint:errorlint // as Caddy does
			}
		})
	}
	mux.ServeHTTP(rec, req)
	return rec.Code, rec.Body.String()
}

// forgetEvents drops those of earlier tests.
func forgetEvents() {
	for len(loggedEvents) > 0 {
		<-loggedEvents
	}
}

// wantEvent waits for an event, that of a refusal with its reason.
func wantEvent(t *testing.T, name string, reason any, want map[string]any) {
	t.Helper()
	for {
		select {
		case e := <-loggedEvents:
			if e.Name() != name || e.Data["reason"] != reason {
				continue
			}
			for key, value := range want {
				if e.Data[key] != value {
					t.Errorf("event %s %v: %s is %v, want %v", name, reason, key, e.Data[key], value)
				}
			}
			return
		case <-time.After(5 * time.Second):
			t.Fatalf("no event %s %v", name, reason)
		}
	}
}

// seenDevice is what the test looks at of a device in the list.
type seenDevice struct {
	MAC, Vendor, Reason, Path string
	TLSVersion                string `json:"tls_version"`
	Weak                      []string
	UserAgent                 string    `json:"user_agent"`
	CertificateEnd            time.Time `json:"certificate_end"`
	Status                    int
	Served, Refused           int64
}

// TestFleet holds what an operator sees of a fleet, and that reloads don't lose
// any of it.
func TestFleet(t *testing.T) {
	l := newLab(t)
	s := startServer(t, l, replace(fleetSite, "MODE", ""))
	forgetEvents()
	own := "/" + lab.PolycomMAC + ".cfg"
	counts := func() map[string]float64 {
		active := caddy.ActiveContext()
		got := make(map[string]float64)
		for _, family := range dt.Must(active.GetMetricsRegistry().Gather()) {
			if !strings.HasPrefix(family.GetName(), "caddy_device_profile_") {
				continue
			}
			for _, metric := range family.GetMetric() {
				name := strings.TrimPrefix(family.GetName(), "caddy_device_profile_")
				for _, label := range metric.GetLabel() {
					name += " " + label.GetValue()
					if strings.Contains(strings.ToLower(label.GetValue()), lab.PolycomMAC) {
						t.Errorf("%s: a device is in a label", name)
					}
				}
				got[name] = metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
			}
		}
		return got
	}
	before := counts()
	visits := func() {
		curl(t, s, own, s.as("phones/vvx")...).want(t, 200, "")
		curl(t, s, "/0004f2ddeeff.cfg", append(s.as("phones/vvx"), "-A", "PolyVVX/1.0 "+strings.Repeat("x", 500))...).want(t, 403, "path_not_allowed")
		curl(t, s, own, s.as("phones/t54")...)
		curl(t, s, own).want(t, 403, "no_certificate")
		clients[1].ask(t, s, ciscoPhone("1.0", "")).want(t, 403, "path_not_allowed")
	}
	visits()
	wantEvent(t, "device_refused", "path_not_allowed", map[string]any{"mac": lab.PolycomMAC, "vendor": "polycom", "status": 403, "path": "/0004f2ddeeff.cfg", "would_refuse": false})
	wantEvent(t, "device_refused", "no_certificate", map[string]any{"mac": nil, "vendor": nil, "status": 403, "path": own})
	for range 2 {
		if err := s.load(replace(fleetSite, "MODE", "") + "# changed\n"); err != nil {
			t.Fatal(err)
		}
	}
	visits()
	want := map[string]float64{
		"requests_total served 200 polycom":             2,
		"requests_total path_not_allowed 403 polycom":   2,
		"requests_total path_not_allowed 403 cisco_spa": 2,
		"requests_total no_certificate 403 ":            2,
		"weak_total sha1 cisco_spa":                     2,
		"weak_total rsa1024 cisco_spa":                  2,
		"weak_total tls1.0 cisco_spa":                   2,
		"handshakes_total tls1.0":                       2,
	}
	within(t, 5*time.Second, "all is counted", func() bool {
		now := counts()
		for name, n := range want {
			if now[name]-before[name] != n {
				t.Logf("%s: %v, want %v more than %v", name, now[name], n, before[name])
				return false
			}
		}
		return true
	})
	if end := counts()["trust_anchor_end_timestamp_seconds "+l.Cisco.Cert.Subject.String()+" cisco_spa"]; end != float64(l.Cisco.Cert.NotAfter.Unix()) {
		t.Errorf("the end of an anchor: got %v, want %v in %v", end, l.Cisco.Cert.NotAfter.Unix(), counts())
	}

	status, body := admin(t, "GET", "/device_profile/devices?limit=2", "")
	var list struct {
		Total   int
		Devices []seenDevice
	}
	if err := json.Unmarshal([]byte(body), &list); err != nil || status != 200 || list.Total != 2 || len(list.Devices) != 2 {
		t.Fatalf("got %d %s", status, body)
	}
	vvx := list.Devices[1] // the Cisco phone came last
	if !strings.HasPrefix(vvx.UserAgent, "PolyVVX") || len(vvx.UserAgent) > 200 {
		t.Errorf("user agent %q", vvx.UserAgent)
	}
	vvx.UserAgent = ""
	if diff := cmp.Diff(seenDevice{
		MAC: lab.PolycomMAC, Vendor: "polycom", Reason: "path_not_allowed", Path: "/0004f2ddeeff.cfg", TLSVersion: "tls1.3",
		CertificateEnd: l.VVX.Cert.NotAfter.UTC(), Status: 403, Served: 2, Refused: 2,
	}, vvx); diff != "" {
		t.Errorf("device (-want +got):\n%s", diff)
	}
	if status, body := admin(t, "GET", "/device_profile/devices?offset=1&limit=1", ""); status != 200 || strings.Count(body, `"mac"`) != 1 || !strings.Contains(body, lab.PolycomMAC) {
		t.Errorf("second page: got %d %s", status, body)
	}
	if status, _ := admin(t, "GET", "/device_profile/devices?offset=-1", ""); status != 400 {
		t.Errorf("bad offset: got %d", status)
	}
}

// TestDashboards holds that dashboard and alert rules name metrics that the
// README knows.
func TestDashboards(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(repository, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	metric := regexp.MustCompile(`caddy_device_profile_[a-z_]+`)
	for _, file := range []string{"docs/grafana-dashboard.json", "docs/alerts.yml"} {
		text, err := os.ReadFile(filepath.Join(repository, file))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, ".json") && !json.Valid(text) {
			t.Errorf("%s is no JSON", file)
		}
		names := metric.FindAllString(string(text), -1)
		if len(names) < 5 {
			t.Errorf("%s names only %d metrics", file, len(names))
		}
		for _, name := range names {
			if !strings.Contains(string(readme), "`"+strings.TrimSuffix(name, "_bucket")+"{") {
				t.Errorf("%s: the README knows no %s", file, name)
			}
		}
	}
}
