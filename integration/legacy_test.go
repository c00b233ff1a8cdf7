package integration

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/device-profile/caddy-device-profile/internal/lab"
	"github.com/device-profile/caddy-device-profile/internal/testenv"
)

// twoSites are a site of phones and another one on the same port.
const twoSites = `
prov.example.com:PORT {
	bind 127.0.0.1
	tls "LAB/site/prov.example.com.pem" "LAB/site/prov.example.com.key"
	device_profile {
		trust cisco_spa "LAB/device-ca/cisco-client-root.pem" {
			weakest_signature sha1
			weakest_rsa 1024
		}
		serve /{device.mac}.xml /cisco_spa/{device.mac}.xml
		source files "LAB/profiles"
		LEGACY
	}
	handle_errors {
		respond "{device.reason}"
	}
}
www.example.com:PORT {
	bind 127.0.0.1
	tls "LAB/site/www.example.com.pem" "LAB/site/www.example.com.key"
	respond "the other site"
}
`

func ciscoPhone(version, cipher string) phone {
	return phone{cert: "phones/spa525g2", version: version, cipher: cipher, path: "/" + lab.CiscoMAC + ".xml"}
}

// TestLegacyTLS holds what each form of legacy_tls lets in.
func TestLegacyTLS(t *testing.T) {
	l := newLab(t)
	for _, tt := range []struct {
		name, option        string
		old, rc4, tripleDES bool
	}{
		{name: "without"},
		{name: "legacy_tls", option: "legacy_tls", old: true},
		{name: "legacy_tls rc4", option: "legacy_tls rc4", old: true, rc4: true},
		{name: "legacy_tls 3des", option: "legacy_tls 3des", old: true, tripleDES: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := startServer(t, l, replace(twoSites, "LEGACY", tt.option))
			check := func(c client, p phone, allowed bool) {
				t.Helper()
				status := 0
				if allowed {
					status = 200
				}
				r := c.ask(t, s, p)
				if r.status != status {
					t.Errorf("%s, TLS %s, %q: got %d %q, want %d\n%s", c.name, p.version, p.cipher, r.status, r.body, status, r.output)
				}
			}
			for _, c := range clients {
				for _, version := range []string{"1.0", "1.1", "1.2"} {
					check(c, ciscoPhone(version, "RSA-AES128"), tt.old)
					check(c, ciscoPhone(version, "RSA-AES256"), tt.old)
				}
				check(c, ciscoPhone("1.0", ""), tt.old)
				check(c, ciscoPhone("1.2", ""), true)
				check(c, ciscoPhone("1.3", ""), true)
			}
			gnutls := clients[1] // OpenSSL is built without these ciphers
			for _, version := range []string{"1.0", "1.2"} {
				check(gnutls, ciscoPhone(version, "RSA-RC4"), tt.rc4)
				check(gnutls, ciscoPhone(version, "RSA-3DES"), tt.tripleDES)
			}
		})
	}
}

// TestSHA1Handshake plays phones that speak TLS 1.2 and sign with SHA-1 only.
func TestSHA1Handshake(t *testing.T) {
	t.Setenv("GODEBUG", "") // as if it had not been set for another site before
	s := startServer(t, newLab(t), replace(twoSites, "LEGACY", "legacy_tls"))
	for _, c := range clients {
		p := ciscoPhone("1.2", "RSA-AES128")
		p.sha1 = true
		c.ask(t, s, p).want(t, 200, "")
	}
	if len(s.awaitLogged(t, "SHA-1 handshake signatures are accepted")) == 0 {
		t.Error("the log does not say that SHA-1 handshake signatures are accepted")
	}
}

// TestOtherSite holds that phones change nothing for another site on the port.
func TestOtherSite(t *testing.T) {
	s := startServer(t, newLab(t), replace(twoSites, "LEGACY", "legacy_tls rc4 3des"))
	other := func(version, cipher, sni string) phone {
		return phone{version: version, cipher: cipher, sni: sni, path: "/", host: lab.Other}
	}
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			c.ask(t, s, other("1.3", "", lab.Other)).want(t, 200, "the other site")
			c.ask(t, s, other("1.2", "", lab.Other)).want(t, 200, "the other site")
			for _, version := range []string{"1.0", "1.1"} {
				c.ask(t, s, other(version, "", lab.Other)).want(t, 0, "")
			}
			c.ask(t, s, other("1.2", "RSA-AES128", lab.Other)).want(t, 0, "")

			// Its host over connections made on the phones' terms.
			c.ask(t, s, other("1.3", "", "")).want(t, 421, "")
			c.ask(t, s, other("1.0", "RSA-AES128", "")).want(t, 421, "")
			c.ask(t, s, other("1.0", "", lab.Site)).want(t, 421, "")
			c.ask(t, s, other("1.3", "", lab.Site)).want(t, 421, "")
			unknown := other("1.3", "", "")
			unknown.host = "nobody.example.com"
			c.ask(t, s, unknown).want(t, 421, "")
		})
	}
	t.Run("certificate request", func(t *testing.T) {
		for sni, asked := range map[string]bool{lab.Site: true, lab.Other: false, "nobody.example.com": false, "": true} {
			names := acceptedCAs(t, s, sni)
			if asked != strings.Contains(names, "Cisco Small Business Client Root") {
				t.Errorf("server name %q: asked for a certificate of %q, want asked %v", sni, names, asked)
			}
		}
	})
}

// acceptedCAs returns what OpenSSL prints of the server's certificate request.
func acceptedCAs(t *testing.T, s *server, sni string) string {
	t.Helper()
	name := []string{"-noservername"}
	if sni != "" {
		name = []string{"-servername", sni}
	}
	args := append([]string{"s_client", "-connect", s.address()}, name...)
	cmd := exec.CommandContext(timeout(t), testenv.Need(t, "openssl"), args...)
	out, _ := cmd.CombinedOutput()
	text := string(out)
	if strings.Contains(text, "No client certificate CA names sent") {
		return ""
	}
	_, text, ok := strings.Cut(text, "Acceptable client certificate CA names")
	if !ok {
		return ""
	}
	text, _, _ = strings.Cut(text, "---")
	return text
}

// A second site of phones that keeps the defaults can't be reached on the old
// terms of the first.
func TestTwoPhoneSites(t *testing.T) {
	second := replace(twoSites, "LEGACY", "legacy_tls",
		`respond "the other site"`, `device_profile {
		trust polycom "LAB/device-ca/polycom"
		serve /{device.mac}.cfg /polycom/{device.mac}.cfg
		source files "LAB/profiles"
	}
	handle_errors {
		respond "{device.reason}"
	}`)
	s := startServer(t, newLab(t), second)
	path := "/" + lab.PolycomMAC + ".cfg"
	for _, c := range clients {
		for _, tt := range []struct {
			version, cipher, sni string
			status               int
		}{
			{"1.3", "", lab.Other, 200},
			{"1.3", "", "", 200},
			{"1.2", "", lab.Site, 200},
			{"1.0", "", lab.Other, 0},
			{"1.0", "", "", 421},
			{"1.0", "", lab.Site, 421},
			{"1.2", "RSA-AES128", "", 421},
		} {
			p := phone{cert: "phones/vvx", version: tt.version, cipher: tt.cipher, sni: tt.sni, host: lab.Other, path: path}
			if r := c.ask(t, s, p); r.status != tt.status {
				t.Errorf("%s, TLS %s %s, server name %q: got %d %s, want %d\n%s", c.name, tt.version, tt.cipher, tt.sni, r.status, r.body, tt.status, r.output)
			}
		}
	}
}
