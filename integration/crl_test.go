package integration

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"

	dt "github.com/device-profile/caddy-device-profile/deviceauth/deviceauthtest"
	"github.com/device-profile/caddy-device-profile/internal/lab"
	"github.com/device-profile/caddy-device-profile/internal/testenv"
)

// crlSite refuses what the Yealink root revokes.
const crlSite = `
prov.example.com:PORT {
	bind 127.0.0.1
	tls "LAB/site/prov.example.com.pem" "LAB/site/prov.example.com.key"
	device_profile {
		trust yealink "LAB/device-ca/yealink" {
			crl "CRL"
			crl_refresh 100ms
			crl_required
		}
		trust_refresh 100ms
		serve /{device.mac}.cfg /{device.vendor}/{device.mac}.cfg
		source files "LAB/profiles"
	}
	handle_errors {
		respond "{device.reason}"
	}
}
`

// revokingCA is the configuration of the CA of OpenSSL's that issues CRLs.
const revokingCA = `[ca]
default_ca = yealink
[yealink]
certificate = LAB/device-ca/yealink/root.pem
private_key = LAB/ca/root.key
database = LAB/ca/index.txt
crlnumber = LAB/ca/crlnumber
default_md = sha384
default_crl_days = 7
crl_extensions = extensions
[extensions]
authorityKeyIdentifier = keyid
`

// opensslRun runs OpenSSL.
func opensslRun(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(timeout(t), testenv.Need(t, "openssl"), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// newCRLLab is a lab whose Yealink CA OpenSSL can use.
func newCRLLab(t *testing.T) *lab.Lab {
	t.Helper()
	l := newLab(t)
	for name, data := range map[string][]byte{
		"ca/openssl.cnf": []byte(replace(revokingCA, "LAB", l.Dir)), "ca/root.key": dt.Must(l.Yealink.KeyPEM()), "ca/index.txt": nil, "ca/crlnumber": []byte("01\n"),
	} {
		if err := l.Write(name, data); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// issueCRL has OpenSSL revoke phones and write a new CRL, in place of the old.
func issueCRL(t *testing.T, l *lab.Lab, form string, revoked ...string) {
	t.Helper()
	for _, phone := range revoked {
		opensslRun(t, "ca", "-config", l.Path("ca/openssl.cnf"), "-revoke", l.Path(phone+".pem"), "-crl_reason", "keyCompromise")
	}
	opensslRun(t, "ca", "-config", l.Path("ca/openssl.cnf"), "-gencrl", "-out", l.Path("ca/new.pem"))
	opensslRun(t, "crl", "-in", l.Path("ca/new.pem"), "-outform", form, "-out", l.Path("ca/new.crl"))
	if err := os.Rename(l.Path("ca/new.crl"), l.Path("ca/yealink.crl")); err != nil {
		t.Fatal(err)
	}
}

// TestCRLSwap holds that a phone that is revoked while it has a connection gets
// nothing more: not on that connection, not on a resumed one, not on a new one.
func TestCRLSwap(t *testing.T) {
	path := "/" + lab.YealinkMAC + ".cfg"
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, form := range []string{"PEM", "DER"} {
			t.Run(tls.VersionName(version)+"/"+form, func(t *testing.T) {
				l := newCRLLab(t)
				other := dt.Must(l.Yealink.Issue(l.T54.Cert.Subject))
				if err := l.WriteIdentity("phones/other", other); err != nil {
					t.Fatal(err)
				}
				issueCRL(t, l, form)
				s := startServer(t, l, replace(crlSite, "CRL", l.Path("ca/yealink.crl")))
				resuming := resumingClient(l.T54, version)
				kept := keptAliveClient(l.T54, version)
				s.get(t, resuming, path)
				for range 2 {
					if status, body, resumed := s.get(t, resuming, path); status != 200 || !resumed {
						t.Fatalf("before: got %d %q, resumed %v", status, body, resumed)
					}
					if status, body, _ := s.get(t, kept.Client, path); status != 200 {
						t.Fatalf("before: got %d %q", status, body)
					}
				}
				issueCRL(t, l, form, "phones/t54")
				s.awaitLogged(t, `"msg":"trust reloaded`, `"revoked":1`)
				if status, body, _ := s.get(t, kept.Client, path); status != 403 || body != "revoked" {
					t.Errorf("kept alive: got %d %q", status, body)
				}
				if n := kept.connections.Load(); n != 1 {
					t.Errorf("%d connections, want the first one alone", n)
				}
				if status, body, resumed := s.get(t, resuming, path); status != 403 || body != "revoked" || !resumed {
					t.Errorf("resumed: got %d %q, resumed %v", status, body, resumed)
				}
				for _, c := range clients {
					c.ask(t, s, phone{cert: "phones/t54", version: "1.2", sni: lab.Site, path: path}).want(t, 403, "revoked")
					c.ask(t, s, phone{cert: "phones/other", version: "1.2", sni: lab.Site, path: path}).want(t, 200, "")
				}
				record := s.awaitLogged(t, `"reason":"revoked"`)[0]
				for _, word := range []string{lab.YealinkMAC, "key compromise", `"vendor":"yealink"`} {
					if !strings.Contains(record, word) {
						t.Errorf("the record lacks %s: %s", word, record)
					}
				}
			})
		}
	}
}

// keptAlive is a phone that stays connected.
type keptAlive struct {
	*http.Client
	connections atomic.Int32
}

func keptAliveClient(phone *dt.Identity, version uint16) *keptAlive {
	k := new(keptAlive)
	k.Client = resumingClient(phone, version)
	transport := k.Client.Transport.(*http.Transport)
	transport.DisableKeepAlives = false
	k.Client.Transport = traced{transport, &k.connections}
	return k
}

// traced counts the connections that requests begin.
type traced struct {
	*http.Transport
	connections *atomic.Int32
}

func (t traced) RoundTrip(r *http.Request) (*http.Response, error) {
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if !info.Reused {
			t.connections.Add(1)
		}
	}}
	return t.Transport.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
}

// TestCRLByURL holds that a restart while the URL is down goes by the last good
// CRL, and that one without any refuses to start.
func TestCRLByURL(t *testing.T) {
	l := newCRLLab(t)
	path := "/" + lab.YealinkMAC + ".cfg"
	issueCRL(t, l, "DER")
	up := new(atomic.Bool)
	ca := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !up.Load() {
			http.Error(w, "down", http.StatusBadGateway)
			return
		}
		data, err := os.ReadFile(l.Path("ca/yealink.crl"))
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(data)
	}))
	defer ca.Close()
	site := replace(crlSite, "CRL", ca.URL+"/yealink.crl")

	if err := (&server{lab: l, port: dt.Must(lab.FreePort())}).load(site); err == nil || !strings.Contains(err.Error(), "502 Bad Gateway") {
		_ = caddy.Stop()
		t.Fatalf("down, and nothing in storage: got %v", err)
	}
	up.Store(true)
	s := startServer(t, l, site)
	curl(t, s, path, s.as("phones/t54")...).want(t, 200, "")
	issueCRL(t, l, "PEM", "phones/t54")
	s.awaitLogged(t, `"msg":"trust reloaded`, `"revoked":1`)
	curl(t, s, path, s.as("phones/t54")...).want(t, 403, "revoked")
	up.Store(false)
	s.awaitLogged(t, `"msg":"trust not reloaded`, "502 Bad Gateway")
	curl(t, s, path, s.as("phones/t54")...).want(t, 403, "revoked")
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := s.load(site); err != nil {
		t.Fatal(err)
	}
	curl(t, s, path, s.as("phones/t54")...).want(t, 403, "revoked")
}
