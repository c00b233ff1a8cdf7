package caddymodule

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/certmagic"
	"github.com/google/go-cmp/cmp"

	dt "github.com/device-profile/caddy-device-profile/deviceauth/deviceauthtest"
	"github.com/device-profile/caddy-device-profile/sitecert"
)

func TestAdaptCSR(t *testing.T) {
	const everything = `csr prov.example.com {
		organization Example
		organizational_unit VoIP
		locality "San José"
		province California
		country us
		email noc@example.com
		names prov2.example.com 192.0.2.1
		key_size 1024
		renew_before 60d
		refresh 5s
		root a.pem b/
	}`
	for name, tt := range map[string]struct{ caddyfile, json string }{
		"name alone": {"csr prov.example.com", `{"fqdn":"prov.example.com"}`},
		"everything": {everything, `{"fqdn":"prov.example.com","names":["prov2.example.com","192.0.2.1"],"organization":"Example","organizational_unit":"VoIP","locality":"San José","province":"California","country":"us","email":"noc@example.com",` +
			`"key_size":1024,"renew_before":5184000000000000,"refresh":5000000000,"root_files":["a.pem","b/"]}`},
	} {
		t.Run(name, func(t *testing.T) {
			c := new(CSR)
			if err := c.UnmarshalCaddyfile(caddyfile.NewTestDispenser(tt.caddyfile)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.json, string(caddyconfig.JSON(c, nil))); diff != "" {
				t.Errorf("JSON (-want +got):\n%s", diff)
			}
			if err := caddy.StrictUnmarshalJSON([]byte(tt.json), new(CSR)); err != nil {
				t.Error(err)
			}
		})
	}
	for name, tt := range map[string]struct{ caddyfile, cause string }{
		"no name":          {"csr", "argument"},
		"two names":        {"csr a.example.com b.example.com", "argument"},
		"unknown option":   {"csr a.example.com {\ncompany x\n}", `"company"`},
		"duplicate":        {"csr a.example.com {\ncountry us\ncountry de\n}", "duplicate option country"},
		"missing argument": {"csr a.example.com {\nnames\n}", "argument"},
		"surplus argument": {"csr a.example.com {\ncountry us de\n}", "argument"},
		"unexpected block": {"csr a.example.com {\nnames b.example.com {\nx\n}\n}", "block"},
		"bad key size":     {"csr a.example.com {\nkey_size big\n}", `"big"`},
		"bad duration":     {"csr a.example.com {\nrenew_before soon\n}", `"soon"`},
		"negative":         {"csr a.example.com {\nrefresh -1s\n}", `"-1s"`},
	} {
		t.Run("fail/"+name, func(t *testing.T) {
			err := new(CSR).UnmarshalCaddyfile(caddyfile.NewTestDispenser(tt.caddyfile))
			if err == nil || !strings.Contains(err.Error(), tt.cause) || !strings.Contains(err.Error(), "Testfile:") {
				t.Errorf("error %v names not both the cause (%s) and the line", err, tt.cause)
			}
		})
	}
}

func TestProvisionCSR(t *testing.T) {
	dir := configFolder(t)
	site := func(options string) string {
		return "prov.example.com {\n\ttls {\n\t\tget_certificate csr prov.example.com {\n" + options + "\n}\n}\n}\n"
	}
	if err := validate(t, dir, site("root DIR/root.pem\nkey_size 1024")); err != nil {
		t.Error(err)
	}
	for name, tt := range map[string]struct{ caddyfile, cause string }{
		"country":      {site("country Germany"), `"GERMANY"`},
		"key size":     {site("key_size 512"), "512"},
		"missing root": {site("root DIR/nobody.pem"), "nobody.pem"},
		"leaf as root": {site("root DIR/leaf.pem"), "leaf.pem"},
		"wildcard":     {strings.ReplaceAll(site(""), "prov.", "*."), "wildcard"},
	} {
		t.Run("fail/"+name, func(t *testing.T) {
			if err := validate(t, dir, tt.caddyfile); err == nil || !strings.Contains(err.Error(), tt.cause) {
				t.Errorf("got %v, want an error with %s", err, tt.cause)
			}
		})
	}
	t.Run("fail/storage", func(t *testing.T) {
		if err := os.RemoveAll(filepath.Join(dir, "storage")); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "storage"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := validate(t, dir, site("")); err == nil || !strings.Contains(err.Error(), "site prov.example.com") || !strings.Contains(err.Error(), "storage") {
			t.Errorf("got %v, want an error that names the site and the storage", err)
		}
	})
	if err := new(CSR).Cleanup(); err != nil {
		t.Errorf("cleaning up a zero value: %v", err)
	}
}

// eventRecorder is an event handler that hands events to a test.
type eventRecorder struct{}

var recordedEvents = make(chan caddy.Event, 8)

func (eventRecorder) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.test_recorder", New: func() caddy.Module { return new(eventRecorder) }}
}

func (eventRecorder) Handle(_ context.Context, e caddy.Event) error {
	recordedEvents <- e
	return nil
}

func init() { caddy.RegisterModule(eventRecorder{}) }

// TestExpiring holds what a running config says of a certificate near its end,
// and that a reload which fails leaves the admin API with the sites that run.
func TestExpiring(t *testing.T) {
	storage := t.TempDir()
	open := func(fqdn string) *sitecert.Site {
		return dt.Must(sitecert.Open(t.Context(), sitecert.Config{Subject: sitecert.Subject{FQDN: fqdn}, KeySize: 1024, Storage: &certmagic.FileStorage{Path: storage}}))
	}
	site := open("prov.example.com")
	block, _ := pem.Decode([]byte(site.CSR()))
	request := dt.Must(x509.ParseCertificateRequest(block.Bytes))
	root := dt.Must(dt.NewRoot(pkix.Name{CommonName: "Root"}))
	end := time.Now().Add(20 * 24 * time.Hour).Truncate(time.Second)
	cert := dt.Must(root.Issue(request.Subject, dt.For(request.PublicKey), dt.Valid(time.Now().Add(-time.Hour), end))).Cert
	if _, err := site.Install(t.Context(), dt.PEM(cert)); err != nil {
		t.Fatal(err)
	}

	config := func(organization string) []byte {
		return fmt.Appendf(nil, `{
			"admin": {"disabled": true, "config": {"persist": false}},
			"logging": {"logs": {"default": {"level": "ERROR"}}},
			"storage": {"module": "file_system", "root": %q},
			"apps": {
				"events": {"subscriptions": [{"events": ["device_site_certificate_expiring"], "handlers": [{"handler": "test_recorder"}]}]},
				"tls": {"automation": {"policies": [{"get_certificate": [
					{"via": "csr", "fqdn": "prov.example.com", "organization": %q, "key_size": 1024},
					{"via": "csr", "fqdn": "pv.example.net", "key_size": 1024}
				]}]}}
			}
		}`, storage, organization)
	}
	if err := caddy.Load(config(""), true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	select {
	case e := <-recordedEvents:
		data := e.Data
		if data["fqdn"] != "prov.example.com" || data["state"] != "expiring" || !data["not_after"].(time.Time).Equal(end) {
			t.Errorf("got event %v", data)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no event")
	}

	get := func(path string) (int, string) {
		rec := httptest.NewRecorder()
		req := httptest.NewRequest(http.MethodGet, path, nil)
		mux := http.NewServeMux()
		for _, route := range new(adminAPI).Routes() {
			mux.HandleFunc(route.Pattern, func(w http.ResponseWriter, r *http.Request) {
				if err := route.Handler.ServeHTTP(w, r); err != nil {
					w.WriteHeader(err.(caddy.APIError).HTTPStatus)
				}
			})
		}
		mux.ServeHTTP(rec, req)
		return rec.Code, rec.Body.String()
	}
	_, before := get(sitesPath)
	var states []sitecert.Status
	if err := json.Unmarshal([]byte(before), &states); err != nil || len(states) != 2 || states[0].State != sitecert.StateExpiring || states[0].Renewal == nil || states[1].State != sitecert.StateAwaiting {
		t.Errorf("sites: got %s, want one that expires with a renewal prepared, and one that waits", before)
	}
	if err := caddy.Load(config("a\nb"), true); err == nil {
		t.Fatal("a bad organization was accepted")
	}
	if _, after := get(sitesPath); after != before {
		t.Errorf("after a failed reload: got %s, want %s", after, before)
	}

	active := caddy.ActiveContext()
	families := dt.Must(active.GetMetricsRegistry().Gather())
	got := make(map[string]float64)
	for _, family := range families {
		if family.GetName() == "caddy_device_profile_site_certificate_end_timestamp_seconds" {
			for _, metric := range family.GetMetric() {
				got[metric.GetLabel()[0].GetValue()] = metric.GetGauge().GetValue()
			}
		}
	}
	if diff := cmp.Diff(map[string]float64{"prov.example.com": float64(end.Unix()), "pv.example.net": 0}, got); diff != "" {
		t.Errorf("metric:\n%s", diff)
	}

	// Each manager answers for its own names alone.
	c := &CSR{site: open("prov.example.com")}
	for name, want := range map[string]bool{"prov.example.com": true, "PROV.example.com": true, "": true, "pv.example.net": false, "x.prov.example.com": false} {
		cert, err := c.GetCertificate(t.Context(), &tls.ClientHelloInfo{ServerName: name})
		if err != nil || (cert != nil) != want {
			t.Errorf("server name %q: got %v, %v, want a certificate: %v", name, cert != nil, err, want)
		}
	}
}
