package integration

import (
	"crypto/tls"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	dt "github.com/device-profile/caddy-device-profile/deviceauth/deviceauthtest"
	"github.com/device-profile/caddy-device-profile/internal/lab"
)

// resumeSite has two trusts, so that one can go.
const resumeSite = `
prov.example.com:PORT {
	bind 127.0.0.1
	tls "LAB/site/prov.example.com.pem" "LAB/site/prov.example.com.key"
	device_profile {
		TRUST
		trust cisco_spa "LAB/device-ca/cisco-client-root.pem" {
			weakest_signature sha1
			weakest_rsa 1024
		}
		serve /{device.mac}.cfg /polycom/{device.mac}.cfg
		source files "LAB/profiles"
		legacy_tls
	}
	handle_errors {
		respond "{device.reason}"
	}
}
`

// resumingClient is a phone that resumes its TLS session on each new connection.
func resumingClient(phone *dt.Identity, version uint16) *http.Client {
	cert := phone.TLS()
	cfg := &tls.Config{
		InsecureSkipVerify: true, // the server's certificate is not what this is about
		ServerName:         lab.Site,
		MinVersion:         version,
		MaxVersion:         version,
		ClientSessionCache: tls.NewLRUClientSessionCache(4),
		// Sent whatever CAs the server names.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil },
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}}
}

func (s *server) get(t *testing.T, client *http.Client, path string) (status int, body string, resumed bool) {
	t.Helper()
	status, body, resumed, err := s.tryGet(t, client, path)
	if err != nil {
		t.Fatal(err)
	}
	return status, body, resumed
}

func (s *server) tryGet(t *testing.T, client *http.Client, path string) (status int, body string, resumed bool, err error) {
	t.Helper()
	resp, err := client.Do(phoneRequest(t, s, path))
	if err != nil {
		return 0, "", false, err
	}
	defer resp.Body.Close()
	return resp.StatusCode, readAll(t, resp.Body), resp.TLS.DidResume, nil
}

// awaitStatus asks until the answer has the status. While a server is replaced,
// the old one may answer a last time, or hang up.
func (s *server) awaitStatus(t *testing.T, client *http.Client, path string, want int) {
	t.Helper()
	var status int
	var err error
	for ctx := timeout(t); ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		if status, _, _, err = s.tryGet(t, client, path); err == nil && status == want {
			return
		}
	}
	t.Fatalf("%s: got %d, %v, want %d in the end", path, status, err, want)
}

// TestResumedSession holds that a resumed session is worth no more than the
// certificate it began with.
func TestResumedSession(t *testing.T) {
	const polycom = `trust polycom "LAB/device-ca/polycom"`
	own, others := "/"+lab.PolycomMAC+".cfg", "/0004f2ddeeff.cfg"
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			l := newLab(t)
			s := startServer(t, l, replace(resumeSite, "TRUST", polycom))
			client := resumingClient(l.VVX, version)
			visit := func(path string, wantResumed bool, wantStatus int, wantReason string) {
				t.Helper()
				status, body, resumed := s.get(t, client, path)
				if resumed != wantResumed {
					t.Errorf("%s: resumed %v, want %v", path, resumed, wantResumed)
				}
				if status != wantStatus || wantReason != "" && body != wantReason {
					t.Errorf("%s: got %d %q, want %d %q", path, status, body, wantStatus, wantReason)
				}
			}
			visit(own, false, 200, "")
			visit(own, true, 200, "")
			visit(others, true, 403, "path_not_allowed")
			if err := s.load(replace(resumeSite, "TRUST", "")); err != nil {
				t.Fatal(err)
			}
			// The replaced server may still take a connection or two.
			s.awaitStatus(t, resumingClient(l.VVX, version), own, 403)
			visit(own, true, 403, "untrusted")
		})
	}
}

// TestReload holds that a bad config leaves the running one alone.
func TestReload(t *testing.T) {
	const polycom = `trust polycom "LAB/device-ca/polycom"`
	l := newLab(t)
	s := startServer(t, l, replace(resumeSite, "TRUST", polycom))
	client := resumingClient(l.VVX, tls.VersionTLS12)
	good, err := os.ReadFile(l.Path("device-ca/polycom/root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Write("device-ca/polycom/root.pem", good[:len(good)/2]); err != nil {
		t.Fatal(err)
	}
	err = s.load(replace(resumeSite, "TRUST", polycom))
	if err == nil || !strings.Contains(err.Error(), "root.pem") {
		t.Errorf("got %v, want an error that names the truncated file", err)
	}
	if status, body, _ := s.get(t, client, "/"+lab.PolycomMAC+".cfg"); status != 200 {
		t.Errorf("after a failed reload: got %d %q, want 200", status, body)
	}
}
