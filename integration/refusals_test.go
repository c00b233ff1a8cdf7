package integration

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	dt "github.com/device-profile/caddy-device-profile/deviceauth/deviceauthtest"
	"github.com/device-profile/caddy-device-profile/internal/lab"
)

// refusalSite trusts three makers, one of them with a grace period.
const refusalSite = `
http://prov.example.com:PLAIN {
	bind 127.0.0.1
	device_profile {
		trust polycom "LAB/device-ca/polycom"
		serve /{device.mac}.cfg
		source files "LAB/profiles"
	}
	handle_errors {
		respond "{device.reason}"
	}
}
prov.example.com:PORT {
	bind 127.0.0.1
	tls "LAB/site/prov.example.com.pem" "LAB/site/prov.example.com.key"
	device_profile {
		trust cisco_spa "LAB/device-ca/cisco-client-root.pem" {
			weakest_signature sha1
			weakest_rsa 1024
		}
		trust polycom "LAB/device-ca/polycom"
		trust yealink "LAB/device-ca/yealink" {
			expired 48h
		}
		trust grandstream "LAB/extra-ca/grandstream.pem"
		serve /{device.mac}.xml /cisco_spa/{device.mac}.xml {
			vendor cisco_spa
		}
		serve /{device.mac}.cfg /{device.vendor}/{device.mac}.cfg
		serve /any/*
		source files "LAB/profiles"
		legacy_tls
	}
	handle_errors {
		respond "{device.reason}"
	}
}
`

// TestRefusals sends what is not genuine, not allowed or not well-formed. In the
// end, the log has one record for each, and no profile's content.
func TestRefusals(t *testing.T) {
	l := newLab(t)
	writeStrangers(t, l)
	plain := dt.Must(lab.FreePort())
	s := startServer(t, l, replace(refusalSite, "PLAIN", itoa(plain)))

	own := "/" + lab.PolycomMAC + ".cfg"
	cisco := "/" + lab.CiscoMAC + ".xml"
	yealink := "/" + lab.YealinkMAC + ".cfg"
	tests := []struct {
		name, cert, path, method string
		status                   int
		reason                   string
	}{
		{name: "ok/own profile", cert: "phones/vvx", path: own, status: 200},
		{name: "ok/own profile, in upper case", cert: "phones/vvx", path: strings.ToUpper(own), status: 200},
		{name: "ok/expired within grace", cert: "extra/within-grace", path: yealink, status: 200},
		{name: "ok/HEAD", cert: "phones/vvx", path: own, method: "HEAD", status: 200},

		{name: "fail/no certificate", path: own, status: 403, reason: "no_certificate"},
		{name: "fail/self-signed", cert: "extra/self-signed", path: own, status: 403, reason: "untrusted"},
		{name: "fail/forged issuer of the same name", cert: "phones/forged", path: cisco, status: 403, reason: "untrusted"},
		{name: "fail/victim's certificate appended", cert: "extra/appended", path: own, status: 403, reason: "untrusted"},
		{name: "fail/victim's certificate behind one's own genuine one", cert: "extra/genuine-appended", path: own, status: 403, reason: "path_not_allowed"},
		{name: "fail/a phone as issuer", cert: "extra/phone-as-issuer", path: own, status: 403, reason: "untrusted"},
		{name: "fail/path length exceeded", cert: "extra/too-deep", path: own, status: 403, reason: "untrusted"},
		{name: "fail/issuer without CA flag", cert: "extra/no-ca-flag", path: own, status: 403, reason: "untrusted"},
		{name: "fail/expired", cert: "extra/expired", path: own, status: 403, reason: "expired"},
		{name: "fail/grace over", cert: "phones/expired", path: yealink, status: 403, reason: "expired"},
		{name: "fail/not yet valid", cert: "extra/not-yet-valid", path: yealink, status: 403, reason: "not_yet_valid"},
		{name: "fail/wrong key usage", cert: "extra/server-usage", path: own, status: 403, reason: "key_usage"},
		{name: "fail/weak signature", cert: "extra/weak-signature", path: own, status: 403, reason: "weak_signature"},
		{name: "fail/weak key", cert: "extra/weak-key", path: own, status: 403, reason: "weak_key"},
		{name: "fail/generic Cisco", cert: "phones/generic", path: cisco, status: 403, reason: "generic_certificate"},
		{name: "fail/generic Yealink", cert: "extra/generic-yealink", path: yealink, status: 403, reason: "generic_certificate"},
		{name: "fail/Grandstream GXE50XX", cert: "extra/gxe50xx", path: own, status: 403, reason: "generic_certificate"},
		{name: "fail/another vendor's root claims this MAC", cert: "extra/claims-cisco", path: cisco, status: 403, reason: "path_not_allowed"},
		{name: "fail/another vendor's root, this vendor's form", cert: "extra/cisco-form", path: cisco, status: 403, reason: "no_identity"},
		{name: "fail/another's profile", cert: "phones/vvx", path: "/0004f2ddeeff.cfg", status: 403, reason: "path_not_allowed"},
		{name: "fail/another's profile by wildcard", cert: "phones/vvx", path: "/any/0004f2ddeeff.cfg", status: 403, reason: "path_not_allowed"},
		{name: "fail/dots", cert: "phones/vvx", path: "/any/../polycom/" + lab.PolycomMAC + ".cfg", status: 403, reason: "path_not_allowed"},
		{name: "fail/encoded dots", cert: "phones/vvx", path: "/any/%2e%2e/polycom/x", status: 403, reason: "path_not_allowed"},
		{name: "fail/encoded slash", cert: "phones/vvx", path: "/any%2fx", status: 403, reason: "path_not_allowed"},
		{name: "fail/NUL", cert: "phones/vvx", path: own + "%00.xml", status: 403, reason: "path_not_allowed"},
		{name: "fail/too long", cert: "phones/vvx", path: "/any/" + strings.Repeat("x", 600), status: 403, reason: "path_not_allowed"},
		{name: "fail/missing", cert: "phones/vvx", path: "/any/missing.bin", status: 404, reason: "not_found"},
		{name: "fail/POST", cert: "phones/vvx", path: own, method: "POST", status: 405, reason: "method_not_allowed"},
		{name: "fail/POST to another's", cert: "phones/vvx", path: "/0004f2ddeeff.cfg", method: "POST", status: 403, reason: "path_not_allowed"},
	}
	for _, c := range clients {
		for _, tt := range tests {
			t.Run(c.name+"/"+tt.name, func(t *testing.T) {
				logged := func() []string { return s.logged(t, `"logger":"http.handlers.device_profile"`, `"status":`) }
				before := len(logged())
				p := phone{cert: tt.cert, version: "1.2", sni: lab.Site, path: tt.path, method: tt.method}
				c.ask(t, s, p).want(t, tt.status, tt.reason)
				within(t, 5*time.Second, "a record of it", func() bool { return len(logged()) > before })
				records := logged()[before:]
				if len(records) != 1 {
					t.Fatalf("%d log records, want 1:\n%s", len(records), records)
				}
				wantWords(t, records[0], tt.status, tt.reason)
				if tt.method == "" {
					wantExplained(t, s, tt.cert, tt.path, tt.status, tt.reason)
				}
			})
		}
	}
	t.Run("fail/plain HTTP", func(t *testing.T) {
		r := plainHTTP(t, plain, own)
		r.want(t, 403, "no_tls")
	})
	if leaks := s.logged(t, "only-for-"); len(leaks) > 0 {
		t.Errorf("profile contents in the log: %s", leaks)
	}
	if leaks := s.logged(t, "PRIVATE"); len(leaks) > 0 {
		t.Errorf("keys in the log: %s", leaks)
	}
}

// wantWords checks a log record for what the decision was.
func wantWords(t *testing.T, record string, status int, reason string) {
	t.Helper()
	words := []string{`"msg":"profile served"`, `"level":"info"`}
	if reason != "" {
		words = []string{`"msg":"device refused"`, `"level":"warn"`, `"reason":"` + reason + `"`}
	}
	for _, word := range append(words, `"status":`+itoa(status), `"tls_version":"tls1.2"`, `"remote_ip":"127.0.0.1"`) {
		if !strings.Contains(record, word) {
			t.Errorf("the record lacks %s: %s", word, record)
		}
	}
}

// writeStrangers adds to the lab all who are to be refused.
func writeStrangers(t *testing.T, l *lab.Lab) {
	t.Helper()
	save := func(name string, id *dt.Identity, more ...*dt.Identity) {
		t.Helper()
		both := *id
		for _, other := range more {
			both.Chain = append(both.Chain[:len(both.Chain):len(both.Chain)], other.Cert)
		}
		if err := l.WriteIdentity("extra/"+name, &both); err != nil {
			t.Fatal(err)
		}
	}
	mac := pkix.Name{CommonName: lab.PolycomMAC}
	yealink := pkix.Name{CommonName: lab.YealinkMAC}
	now := time.Now()

	stranger := dt.Must(dt.SelfSigned(pkix.Name{CommonName: "0004f2000001"}))
	save("self-signed", dt.Must(dt.SelfSigned(mac)))
	save("appended", stranger, l.VVX)
	save("genuine-appended", dt.Must(l.PolycomIssuing.Issue(pkix.Name{CommonName: "0004f2000001"})), l.VVX)
	save("phone-as-issuer", dt.Must(l.VVX.Issue(pkix.Name{CommonName: "0004f2000001"})))
	noRoom := dt.Must(l.Polycom.NewCA(pkix.Name{CommonName: "No room below"}, dt.PathLength(0)))
	save("too-deep", dt.Must(dt.Must(noRoom.NewCA(pkix.Name{CommonName: "Too deep"})).Issue(mac)))
	noFlag := dt.Must(l.Polycom.NewCA(pkix.Name{CommonName: "No CA"}, dt.Template(func(c *x509.Certificate) { c.IsCA = false })))
	save("no-ca-flag", dt.Must(noFlag.Issue(mac)))
	save("expired", dt.Must(l.PolycomIssuing.Issue(mac, dt.Valid(now.AddDate(-2, 0, 0), now.Add(-time.Hour)))))
	save("within-grace", dt.Must(l.Yealink.Issue(yealink, dt.Valid(now.AddDate(-2, 0, 0), now.Add(-time.Hour)))))
	save("not-yet-valid", dt.Must(l.Yealink.Issue(yealink, dt.Valid(now.Add(time.Hour), now.AddDate(1, 0, 0)))))
	save("server-usage", dt.Must(l.PolycomIssuing.Issue(mac, dt.Template(func(c *x509.Certificate) {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}))))
	save("weak-signature", dt.Must(l.PolycomIssuing.Issue(mac, dt.Hash(sha1))))
	save("weak-key", dt.Must(l.PolycomIssuing.Issue(mac, dt.RSA(1024))))
	save("generic-yealink", dt.Must(l.Yealink.Issue(pkix.Name{CommonName: "Yealink Equipment"})))
	save("claims-cisco", dt.Must(l.PolycomIssuing.Issue(pkix.Name{CommonName: lab.CiscoMAC})))
	save("cisco-form", dt.Must(l.PolycomIssuing.Issue(lab.CiscoName(lab.CiscoMAC, "SPA-525G2", "CBT153908BX"))))
	grandstream := dt.Must(dt.NewRoot(pkix.Name{CommonName: "VPN"}))
	save("gxe50xx", dt.Must(grandstream.Issue(pkix.Name{CommonName: "GXE50XX"})))
	if err := l.Write("extra-ca/grandstream.pem", dt.PEM(grandstream.Cert)); err != nil {
		t.Fatal(err)
	}
}

// wantExplained holds that the running config explains what it does as it does it.
func wantExplained(t *testing.T, s *server, cert, path string, status int, reason string) {
	t.Helper()
	if cert == "" {
		return // there is nothing to explain
	}
	chain, err := os.ReadFile(s.lab.Path(cert + ".pem"))
	if err != nil {
		t.Fatal(err)
	}
	code, body := admin(t, "POST", "/device_profile/explain?path="+url.QueryEscape(path), string(chain))
	type verdict struct {
		Status  int
		Reason  string
		Verdict string
		Trusts  []any
	}
	var verdicts []verdict
	if err := json.Unmarshal([]byte(body), &verdicts); err != nil || code != 200 || len(verdicts) == 0 {
		t.Fatalf("explain: got %d %s", code, body)
	}
	// A site without TLS, if there is one, has fewer trusts.
	got := slices.MaxFunc(verdicts, func(a, b verdict) int { return len(a.Trusts) - len(b.Trusts) })
	if got.Status != status || got.Reason != reason || (got.Verdict == "served") != (status == 200) {
		t.Errorf("explained as %+v, want %d %s", got, status, reason)
	}
}
