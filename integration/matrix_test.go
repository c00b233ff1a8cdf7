package integration

import (
	"crypto"
	"crypto/elliptic"
	"crypto/x509/pkix"
	"testing"

	dt "github.com/device-profile/caddy-device-profile/deviceauth/deviceauthtest"
	"github.com/device-profile/caddy-device-profile/internal/lab"
)

// matrixSite is a site whose phones all have a certificate with CN=MAC.
const matrixSite = `
prov.example.com:PORT {
	bind 127.0.0.1
	tls "LAB/site/prov.example.com.pem" "LAB/site/prov.example.com.key"
	device_profile {
		trust polycom "LAB/matrix-ca" {
			POLICY
		}
		serve /{device.mac}.cfg /polycom/{device.mac}.cfg
		source files "LAB/profiles"
		LEGACY
	}
	handle_errors {
		respond "{device.reason}"
	}
}
`

// kinds are the kinds of device certificates, and why the default policy refuses
// them.
var kinds = []struct {
	name    string
	root    []dt.Option
	options []dt.Option
	reason  string
}{
	{name: "sha256-rsa2048"},
	{name: "sha1-rsa1024", root: []dt.Option{dt.RSA(1024), dt.Hash(crypto.SHA1)}, options: []dt.Option{dt.RSA(1024), dt.Hash(crypto.SHA1)}, reason: "weak_signature"},
	{name: "md5-rsa1024", root: []dt.Option{dt.RSA(1024), dt.Hash(crypto.MD5)}, options: []dt.Option{dt.RSA(1024), dt.Hash(crypto.MD5)}, reason: "weak_signature"},
	{name: "sha384-ecdsa-p384", root: []dt.Option{dt.ECDSA(elliptic.P384()), dt.Hash(crypto.SHA384)}, options: []dt.Option{dt.ECDSA(elliptic.P384()), dt.Hash(crypto.SHA384)}},
}

func newMatrixLab(t *testing.T) *lab.Lab {
	t.Helper()
	l := newLab(t)
	for _, kind := range kinds {
		root := dt.Must(dt.NewRoot(pkix.Name{CommonName: "Root " + kind.name}, kind.root...))
		phone := dt.Must(root.Issue(pkix.Name{CommonName: lab.PolycomMAC}, kind.options...))
		if err := l.Write("matrix-ca/"+kind.name+".pem", dt.PEM(root.Cert)); err != nil {
			t.Fatal(err)
		}
		if err := l.WriteIdentity("matrix/"+kind.name, phone); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// TestMatrix plays every kind of phone, with every TLS version, with and
// without a server name, against a site that lets old phones in and against one
// that keeps the defaults.
func TestMatrix(t *testing.T) {
	l := newMatrixLab(t)
	for _, policy := range []struct {
		name, policy, legacy string
		lax                  bool
	}{
		{name: "lax", policy: "weakest_signature md5\nweakest_rsa 1024", legacy: "legacy_tls", lax: true},
		{name: "strict"},
	} {
		t.Run(policy.name, func(t *testing.T) {
			s := startServer(t, l, replace(matrixSite, "POLICY", policy.policy, "LEGACY", policy.legacy))
			for _, c := range clients {
				for _, version := range []string{"1.0", "1.1", "1.2", "1.3"} {
					for _, sni := range []string{lab.Site, ""} {
						for _, kind := range kinds {
							t.Run(c.name+"/"+version+"/sni="+sni+"/"+kind.name, func(t *testing.T) {
								status, reason := 200, ""
								switch {
								case c.name == "openssl" && version == "1.3" && kind.name == "md5-rsa1024":
									// OpenSSL itself withholds such a certificate in TLS 1.3.
									status, reason = 403, "no_certificate"
								case policy.lax:
								case version < "1.2":
									status = 0
								case kind.reason != "":
									status, reason = 403, kind.reason
								}
								p := phone{cert: "matrix/" + kind.name, version: version, sni: sni, path: "/" + lab.PolycomMAC + ".cfg"}
								c.ask(t, s, p).want(t, status, reason)
								if status != 0 && reason != "no_certificate" {
									wantExplained(t, s, p.cert, p.path, status, reason)
								}
							})
						}
					}
				}
			}
		})
	}
}
