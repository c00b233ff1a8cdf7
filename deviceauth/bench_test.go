package deviceauth

import (
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"runtime"
	"testing"
	"time"

	dt "github.com/device-profile/caddy-device-profile/deviceauth/deviceauthtest"
	"github.com/device-profile/caddy-device-profile/internal/testenv"
)

// BenchmarkVerify compares a phone's first visit, for each kind of chain, with
// its later ones.
func BenchmarkVerify(b *testing.B) {
	name := pkix.Name{CommonName: "0004f2aabbcc"}
	rsa2048 := dt.Must(dt.NewRoot(pkix.Name{CommonName: "RSA"}))
	old := dt.Must(dt.NewRoot(pkix.Name{CommonName: "Old"}, dt.RSA(1024), dt.Hash(crypto.SHA1)))
	p384 := dt.Must(dt.NewRoot(pkix.Name{CommonName: "EC"}, dt.ECDSA(elliptic.P384()), dt.Hash(crypto.SHA384)))
	levels := dt.Must(dt.Must(rsa2048.NewCA(pkix.Name{CommonName: "Policy"})).NewCA(pkix.Name{CommonName: "Issuing"}))
	phones := map[string]*dt.Identity{
		"sha256-rsa2048":    dt.Must(rsa2048.Issue(name)),
		"sha1-rsa1024":      dt.Must(old.Issue(name, dt.RSA(1024), dt.Hash(crypto.SHA1))),
		"md5-rsa1024":       dt.Must(old.Issue(name, dt.RSA(1024), dt.Hash(crypto.MD5))),
		"sha384-ecdsa-p384": dt.Must(p384.Issue(name, dt.ECDSA(elliptic.P384()), dt.Hash(crypto.SHA384))),
		"three-level":       dt.Must(levels.Issue(name)),
	}
	verifier := dt.Must(NewVerifier(Config{Trusts: []Trust{{
		Vendor: "x", Identity: presets["polycom"], WeakestSignature: MD5, WeakestRSA: 1024,
		Anchors: []*x509.Certificate{rsa2048.Cert, old.Cert, p384.Cert},
	}}}))
	benchmarkVisits(b, verifier, phones)
}

// BenchmarkIdentity reads who a device is from its certificate, in the form of
// each vendor, which is done once for each certificate.
func BenchmarkIdentity(b *testing.B) {
	root := dt.Must(dt.NewRoot(pkix.Name{CommonName: "Root"}))
	for preset, subject := range map[string]pkix.Name{
		"cisco_spa": {
			Province: []string{"708105B37234"}, Locality: []string{"CBT153908BX"}, OrganizationalUnit: []string{"cisco.com"},
			CommonName: "SPA-525G2, MAC: 708105B37234, Serial: CBT153908BX",
		},
		"cisco_mic": {CommonName: "CP-8841-SEP00562B043615", SerialNumber: "PID:CP-8841 SN:FCH12345678"},
		"polycom":   {CommonName: "0004f2aabbcc"},
	} {
		cert := dt.Must(root.Issue(subject)).Cert
		b.Run(preset, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := presets[preset].Read(cert); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkVerifyWithCRL is BenchmarkVerify for a trust with a CRL of 100,000
// certificates, which it requires.
func BenchmarkVerifyWithCRL(b *testing.B) {
	root := dt.Must(dt.NewRoot(pkix.Name{CommonName: "RSA"}))
	verifier := dt.Must(NewVerifier(Config{Trusts: []Trust{{
		Vendor: "x", Identity: presets["polycom"], Anchors: []*x509.Certificate{root.Cert},
		CRLs: dt.Must(ParseCRLs("x", largeCRL(root, 100_000))), CRLRequired: true,
	}}}))
	benchmarkVisits(b, verifier, map[string]*dt.Identity{"sha256-rsa2048": dt.Must(root.Issue(pkix.Name{CommonName: "0004f2aabbcc"}))})
}

// BenchmarkParseCRL reads a CRL of 100,000 certificates, and says what one of
// them takes in memory.
func BenchmarkParseCRL(b *testing.B) {
	const entries = 100_000
	der := largeCRL(dt.Must(dt.NewRoot(pkix.Name{CommonName: "RSA"})), entries)
	before := testenv.Heap()
	crls := dt.Must(ParseCRLs("x", der))
	held := testenv.Heap() - before
	b.ReportAllocs()
	b.SetBytes(int64(len(der)))
	for b.Loop() {
		crls = dt.Must(ParseCRLs("x", der))
	}
	b.ReportMetric(float64(held)/entries, "B/entry")
	runtime.KeepAlive(crls)
}

// largeCRL lists serial numbers of 16 bytes.
func largeCRL(ca *dt.Identity, entries int) []byte {
	first := new(big.Int).Lsh(big.NewInt(1), 120)
	var options []dt.CRLOption
	for i := range entries {
		options = append(options, dt.RevokeEntry(dt.RevokedEntry{Serial: new(big.Int).Add(first, big.NewInt(int64(i))), At: time.Now()}))
	}
	return dt.Must(ca.CRL(options...))
}

func benchmarkVisits(b *testing.B, verifier *Verifier, phones map[string]*dt.Identity) {
	for kind, phone := range phones {
		sent := phone.Certificates()
		b.Run(kind+"/first", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				verifier.cache.entries.Purge()
				if _, err := verifier.Verify(sent); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(kind+"/again", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := verifier.Verify(sent); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
