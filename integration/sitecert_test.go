package integration

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/device-profile/caddy-device-profile/internal/lab"
	"github.com/device-profile/caddy-device-profile/internal/testenv"
	"github.com/device-profile/caddy-device-profile/sitecert"
)

// csrSites are a site of phones whose certificate the vendor signs, and another.
const csrSites = `{
	admin ADMIN
	persist_config off
	auto_https disable_redirects
	storage file_system "LAB/storage"
}
prov.example.com:PORT {
	bind 127.0.0.1
	tls {
		get_certificate csr prov.example.com {
			organization        "Müller, Söhne & Co. / Telekom"
			organizational_unit VoIP
			locality            "San José"
			province            California
			country             us
			email               noc@example.com
			names               prov2.example.com
			refresh             1s
		}
	}
	device_profile {
		trust cisco_spa "LAB/device-ca/cisco-client-root.pem" {
			weakest_signature sha1
			weakest_rsa 1024
		}
		serve /{device.mac}.xml /cisco_spa/{device.mac}.xml
		source files "LAB/profiles"
		legacy_tls
	}
	handle_errors {
		respond "{device.reason}"
	}
}
pv.example.net:PORT {
	bind 127.0.0.1
	tls {
		get_certificate csr pv.example.net {
			key_size 1024
		}
	}
	respond "the other one"
}
`

// openssl runs the program and returns what it prints.
func openssl(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.Command(testenv.Need(t, "openssl"), args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// opensslCA is a vendor's CA, made and run with OpenSSL.
type opensslCA struct{ dir string }

func newOpensslCA(t testing.TB) opensslCA {
	ca := opensslCA{t.TempDir()}
	openssl(t, "", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", ca.path("ca.key"), "-out", ca.path("ca.pem"), "-subj", "/CN=Vendor Root/O=Vendor", "-days", "365")
	return ca
}

func (ca opensslCA) path(name string) string { return filepath.Join(ca.dir, name) }

// sign signs a CSR and returns the certificate's file.
func (ca opensslCA) sign(t testing.TB, csr string) string {
	t.Helper()
	if err := os.WriteFile(ca.path("site.csr"), []byte(csr), 0o600); err != nil {
		t.Fatal(err)
	}
	openssl(t, "", "x509", "-req", "-in", ca.path("site.csr"), "-CA", ca.path("ca.pem"), "-CAkey", ca.path("ca.key"), "-CAcreateserial", "-copy_extensions", "copy", "-days", "200", "-out", ca.path("site.pem"))
	return ca.path("site.pem")
}

// served returns the chain that the instance serves, asked for as a phone does.
func (i *instance) served(t testing.TB, serverName string) []*x509.Certificate {
	t.Helper()
	conn, err := tls.Dial("tcp", "127.0.0.1:"+itoa(i.port), &tls.Config{ServerName: serverName, InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates
}

// admins returns what curl got of the admin API.
func (i *instance) admins(t testing.TB, method, path, upload string) (status int, body string) {
	t.Helper()
	args := []string{"-sS", "-i", "--max-time", "20", "-X", method, "http://" + i.admin + path}
	if upload != "" {
		args = append(args, "-H", "Expect:", "--data-binary", "@"+upload)
	}
	out, err := exec.Command(testenv.Need(t, "curl"), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("curl: %v\n%s", err, out)
	}
	r := parseReply(string(out))
	return r.status, r.body
}

// TestSiteCertificate goes the operator's way: from the CSR to the certificate
// that phones see, and on to its renewal, with real programs all along.
func TestSiteCertificate(t *testing.T) {
	l, ca := newLab(t), newOpensslCA(t)
	site := newInstance(t, l, csrSites)

	// The CSR is there before the server runs, and it is the server's.
	csr, stderr, err := cli(t, "device", "csr", lab.Site, "--config", site.config)
	if err != nil {
		t.Fatal(err, stderr)
	}
	site.start(t)
	again, stderr, err := cli(t, "device", "csr", lab.Site, "--config", site.config)
	if err != nil || again != csr {
		t.Errorf("the running server has another CSR: %v %s", err, stderr)
	}
	text := openssl(t, csr, "req", "-verify", "-noout", "-text", "-nameopt", "utf8,sep_multiline")
	for _, want := range []string{
		"verify OK", "O=Müller, Söhne & Co. / Telekom", "OU=VoIP", "L=San José", "ST=California", "C=US", "CN=prov.example.com", "emailAddress=noc@example.com",
		"DNS:prov.example.com, DNS:prov2.example.com", "sha256WithRSAEncryption", "(2048 bit)",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the CSR lacks %q:\n%s", want, text)
		}
	}

	// Before there is a certificate, a self-signed one is served.
	if chain := site.served(t, lab.Site); chain[0].Issuer.CommonName != lab.Site || chain[0].VerifyHostname(lab.Site) != nil {
		t.Errorf("before the certificate: got %s of %s", chain[0].Subject, chain[0].Issuer)
	}
	s := &server{lab: l, port: site.port}
	old := ciscoPhone("1.0", "RSA-AES128") // RSA key exchange decrypts with the key, the others sign; no server name
	for _, c := range clients {
		c.ask(t, s, old).want(t, 200, "")
	}
	kept := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{ServerName: lab.Site, InsecureSkipVerify: true}}}
	t.Cleanup(kept.CloseIdleConnections)
	ask := func() *http.Response {
		resp, err := kept.Get("https://127.0.0.1:" + itoa(site.port) + "/")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		readAll(t, resp.Body)
		return resp
	}
	before := ask().TLS.PeerCertificates[0]

	// A second instance on the same storage has the same key.
	other := newInstance(t, l, csrSites)
	other.start(t)
	if _, body := other.admins(t, "GET", "/device_profile/sites/"+lab.Site+"/csr", ""); strings.TrimSpace(body) != strings.TrimSpace(csr) {
		t.Errorf("the second instance has another CSR: %s", body)
	}

	// Installed by the command line, the next handshake serves it, here at once
	// and in the other instance by itself. Connections live on.
	report, stderr, err := cli(t, "device", "install", lab.Site, ca.sign(t, csr), "--address", site.admin)
	if err != nil || !strings.Contains(report, "active") || !strings.Contains(report, "CN=Vendor Root") {
		t.Fatalf("install: %v %s\n%s", err, stderr, report)
	}
	signed := site.served(t, lab.Site)[0]
	if signed.Issuer.CommonName != "Vendor Root" {
		t.Fatalf("after install: still served %s of %s", signed.Subject, signed.Issuer)
	}
	if !ask().TLS.PeerCertificates[0].Equal(before) {
		t.Error("the connection from before did not live on")
	}
	within(t, 15*time.Second, "the other instance serves the certificate", func() bool { return other.served(t, lab.Site)[0].Equal(signed) })
	openssl(t, "", "verify", "-CAfile", ca.path("ca.pem"), "-verify_hostname", "prov2.example.com", ca.path("site.pem"))
	for _, c := range clients {
		for _, p := range []phone{old, ciscoPhone("1.2", ""), ciscoPhone("1.3", "")} {
			c.ask(t, s, p).want(t, 200, "")
		}
	}
	if pv := site.served(t, "pv.example.net")[0]; pv.Subject.CommonName != "pv.example.net" {
		t.Errorf("the other site serves %s", pv.Subject)
	}

	// What must not be installed changes nothing.
	key := filepath.Join(ca.dir, "ca.key")
	large := filepath.Join(ca.dir, "large")
	if err := os.WriteFile(large, bytes.Repeat([]byte("x"), 10<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{key: "private_key", ca.path("ca.pem"): "other_key", ca.path("site.csr"): "certificate_request", large: "too_large", site.config: "not_a_certificate"} {
		status, body := site.admins(t, "PUT", "/device_profile/sites/"+lab.Site+"/certificate", file)
		var answer struct{ Error, Reason string }
		if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Reason != want || answer.Error == "" || status != 422 && status != 413 {
			t.Errorf("%s: got %d %s, want refused for %s", file, status, body, want)
		}
		if _, stderr, err := cli(t, "device", "install", lab.Site, file, "--address", site.admin); err == nil || !strings.Contains(stderr, answer.Error) {
			t.Errorf("%s: install ended with %v, %q; want the sentence %q", file, err, stderr, answer.Error)
		}
	}
	if !site.served(t, lab.Site)[0].Equal(signed) {
		t.Error("a refused certificate is served")
	}

	// The renewal goes by curl alone.
	status, renewal := site.admins(t, "POST", "/device_profile/sites/"+lab.Site+"/renewal", "")
	if status != 200 || strings.TrimSpace(renewal) == strings.TrimSpace(csr) {
		t.Fatalf("renewal: got %d %s", status, renewal)
	}
	if !site.served(t, lab.Site)[0].Equal(signed) {
		t.Error("preparing a renewal changed what is served")
	}
	list, _, _ := cli(t, "device", "sites", "--address", site.admin)
	if !strings.Contains(list, "active") || !strings.Contains(list, "CSR of ") || !strings.Contains(list, "awaiting_certificate") {
		t.Errorf("sites: got\n%s", list)
	}
	if status, body := site.admins(t, "PUT", "/device_profile/sites/"+lab.Site+"/certificate", ca.sign(t, renewal)); status != 200 {
		t.Errorf("installing the renewal: got %d %s", status, body)
	}
	if renewed := site.served(t, lab.Site)[0]; renewed.Equal(signed) || renewed.Issuer.CommonName != "Vendor Root" {
		t.Errorf("after the renewal: served %s of %s", renewed.Subject, renewed.Issuer)
	}
	var states []sitecert.Status
	if _, body := site.admins(t, "GET", "/device_profile/sites", ""); json.Unmarshal([]byte(body), &states) != nil || len(states) != 2 || states[0].State != sitecert.StateActive || states[0].Renewal != nil {
		t.Errorf("sites: got %s", body)
	}

	checkSecrecy(t, l, ca, site, other)
	for path, want := range map[string]int{
		"/device_profile/sites/nobody.example.com/csr": 404, "/device_profile/sites/" + lab.Site + "/key": 404, "/device_profile/sites/" + lab.Site + "/keys": 404, "/device_profile/sites/" + lab.Site + "/certificate": 405,
	} {
		if status, body := site.admins(t, "GET", path, ""); status != want || strings.Contains(body, "PRIVATE") {
			t.Errorf("GET %s: got %d %s, want %d", path, status, body, want)
		}
	}
}

// checkSecrecy holds that keys are readable by their owner alone, and that
// nothing of one is in the logs.
func checkSecrecy(t *testing.T, l *lab.Lab, ca opensslCA, instances ...*instance) {
	t.Helper()
	keys, err := filepath.Glob(l.Path("storage/device_profile/sites/*/keys/*"))
	if err != nil || len(keys) == 0 {
		t.Fatalf("no keys in storage: %v", err)
	}
	for _, key := range append(keys, ca.path("ca.key")) {
		if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v, want 0600", key, info.Mode(), err)
		}
		data, err := os.ReadFile(key)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			for _, i := range instances {
				if line = strings.TrimSpace(line); !strings.HasPrefix(line, "-----") && strings.Contains(i.log.String(), line) {
					t.Errorf("a line of the key %s is in the log", key)
				}
			}
		}
	}
}

// BenchmarkSiteCertificate compares a handshake with the site certificate of
// get_certificate csr with one with the certificate of `tls <cert> <key>`.
func BenchmarkSiteCertificate(b *testing.B) {
	dir := b.TempDir()
	l, err := lab.Create(dir)
	if err != nil {
		b.Fatal(err)
	}
	site := newInstance(b, l, csrSites+`
www.example.com:PORT {
	bind 127.0.0.1
	tls "LAB/site/www.example.com.pem" "LAB/site/www.example.com.key"
	respond "a file"
}
`)
	site.start(b)
	csr, _, err := cli(b, "device", "csr", lab.Site, "--address", site.admin)
	if err != nil {
		b.Fatal(err)
	}
	if _, stderr, err := cli(b, "device", "install", lab.Site, newOpensslCA(b).sign(b, csr), "--address", site.admin); err != nil {
		b.Fatal(stderr)
	}
	for _, tt := range []struct{ name, site string }{{"file", lab.Other}, {"csr", lab.Site}} {
		b.Run(tt.name, func(b *testing.B) {
			for b.Loop() {
				site.served(b, tt.site)
			}
		})
	}
}
