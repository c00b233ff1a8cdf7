//go:build cgo

package opensslrsa

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/device-profile/caddy-device-profile"
	dt "github.com/device-profile/caddy-device-profile/deviceauth/deviceauthtest"
	"github.com/device-profile/caddy-device-profile/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m, caddycmd.Main) }

// needOpenSSL skips the test where there is no OpenSSL, but fails it in CI.
func needOpenSSL(t testing.TB) {
	t.Helper()
	if _, err := load(); err != nil {
		testenv.Lacking(t, err.Error())
	}
}

// newKeys returns a key and the same one that signs with OpenSSL.
func newKeys(t testing.TB, bits int) (*rsa.PrivateKey, crypto.Signer) {
	t.Helper()
	needOpenSSL(t)
	goKey, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := newKey(goKey)
	if err != nil {
		t.Fatal(err)
	}
	return goKey, signer
}

func digestOf(hash crypto.Hash) []byte {
	h := hash.New()
	fmt.Fprint(h, "a handshake")
	return h.Sum(nil)
}

// What is signed is what Go would sign, by many at once.
func TestSign(t *testing.T) {
	for _, bits := range []int{1024, 2048, 3072, 4096} {
		goKey, signer := newKeys(t, bits)
		if !goKey.PublicKey.Equal(signer.Public()) {
			t.Errorf("%d: another public key", bits)
		}
		for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
			t.Run(fmt.Sprintf("%d %s", bits, hash), func(t *testing.T) {
				digest := digestOf(hash)
				want, err := goKey.Sign(rand.Reader, digest, hash)
				if err != nil {
					t.Fatal(err)
				}
				var all sync.WaitGroup
				for range 8 {
					all.Go(func() {
						if got, err := signer.Sign(rand.Reader, digest, hash); err != nil || !bytes.Equal(got, want) {
							t.Errorf("PKCS #1 v1.5: got %x, %v, want %x", got, err, want)
						}
					})
				}
				all.Wait()
				pss := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
				if len(digest)*2+2 > bits/8 {
					return // too long for the key
				}
				signature, err := signer.Sign(rand.Reader, digest, pss)
				if err != nil {
					t.Fatal(err)
				}
				if err := rsa.VerifyPSS(&goKey.PublicKey, hash, digest, signature, pss); err != nil {
					t.Errorf("PSS: %v", err)
				}
			})
		}
	}
}

func TestSignRefuses(t *testing.T) {
	_, signer := newKeys(t, 2048)
	for name, opts := range map[string]crypto.SignerOpts{
		"PKCS #1 v1.5": crypto.SHA256,
		"PSS":          &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256},
	} {
		if signature, err := signer.Sign(rand.Reader, []byte("no digest"), opts); err == nil {
			t.Errorf("%s: %x for a digest of the wrong length", name, signature)
		}
	}
}

func TestNewKeyRefuses(t *testing.T) {
	goKey, _ := newKeys(t, 2048)
	three := *goKey
	three.Primes = append(three.Primes, three.Primes[0])
	bare := rsa.PrivateKey{PublicKey: goKey.PublicKey, D: goKey.D, Primes: goKey.Primes}
	for name, k := range map[string]*rsa.PrivateKey{"three primes": &three, "bare": &bare} {
		if signer, err := newKey(k); err == nil {
			t.Errorf("%s: got %v", name, signer)
		}
	}
}

// The key is good for all handshakes that Go's is good for.
func TestHandshakes(t *testing.T) {
	goKey, signer := newKeys(t, 2048)
	ca, err := dt.NewRoot(pkix.Name{CommonName: "Site CA"})
	if err != nil {
		t.Fatal(err)
	}
	site, err := ca.Issue(pkix.Name{CommonName: "prov.example.com"}, dt.Key(goKey), dt.Template(func(c *x509.Certificate) {
		c.DNSNames = []string{"prov.example.com"}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}))
	if err != nil {
		t.Fatal(err)
	}
	certificate := site.TLS()
	certificate.PrivateKey = signer
	roots := x509.NewCertPool()
	roots.AddCert(ca.Cert)
	for _, tt := range []struct {
		version, cipher uint16
	}{
		{tls.VersionTLS10, tls.TLS_RSA_WITH_AES_128_CBC_SHA},
		{tls.VersionTLS10, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA},
		{tls.VersionTLS11, tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA},
		{tls.VersionTLS12, tls.TLS_RSA_WITH_AES_256_CBC_SHA},
		{tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
		{tls.VersionTLS13, 0},
	} {
		t.Run(fmt.Sprint(tls.VersionName(tt.version), " ", tls.CipherSuiteName(tt.cipher)), func(t *testing.T) {
			ciphers := []uint16{tt.cipher}
			client, server := net.Pipe()
			defer client.Close()
			defer server.Close()
			served := make(chan error, 1)
			go func() {
				served <- tls.Server(server, &tls.Config{
					Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS10, CipherSuites: ciphers, SessionTicketsDisabled: true,
				}).Handshake()
			}()
			err := tls.Client(client, &tls.Config{
				ServerName: "prov.example.com", RootCAs: roots, MinVersion: tt.version, MaxVersion: tt.version, CipherSuites: ciphers,
			}).Handshake()
			if err := errors.Join(err, <-served); err != nil {
				t.Error(err)
			}
		})
	}
}

// Phones old and new get their profiles, and OpenSSL signs for them.
func TestDemo(t *testing.T) {
	needOpenSSL(t)
	dir := filepath.Join(t.TempDir(), "lab")
	cmd := testenv.CaddyCommand(t, "device", "demo", "--dir", dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	log, err := os.ReadFile(filepath.Join(dir, "caddy.log"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(log), `"rsa":"OpenSSL 3.`) {
		t.Errorf("the log does not say that OpenSSL signs:\n%s", log)
	}
}

func BenchmarkSign(b *testing.B) {
	goKey, signer := newKeys(b, 2048)
	digest := digestOf(crypto.SHA256)
	for _, k := range []struct {
		name string
		crypto.Signer
	}{{"Go", goKey}, {"OpenSSL", signer}} {
		b.Run(k.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := k.Sign(rand.Reader, digest, crypto.SHA256); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
