package deviceauth_test

import (
	"bytes"
	"crypto/elliptic"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/device-profile/caddy-device-profile/deviceauth"
	dt "github.com/device-profile/caddy-device-profile/deviceauth/deviceauthtest"
)

func TestReadAnchors(t *testing.T) {
	a := dt.Must(dt.NewRoot(cn("A"), dt.ECDSA(elliptic.P256())))
	b := dt.Must(dt.NewRoot(cn("B"), dt.ECDSA(elliptic.P256())))
	leaf := dt.Must(a.Issue(cn(phoneMAC), dt.ECDSA(elliptic.P256())))
	key := dt.Must(a.KeyPEM())
	both := dt.PEM(a.Cert, b.Cert)
	around := []byte("Bag Attributes\n" + strings.ReplaceAll(string(both), "\n", "\r\n") + "the end\n")

	folder := t.TempDir()
	write := func(name string, data []byte) {
		t.Helper()
		file := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("both.pem", both)
	write("around.pem", around)
	write("a.der", a.Cert.Raw)
	write("folder/a.pem", dt.PEM(a.Cert))
	write("folder/b.CRT", dt.PEM(b.Cert))
	write("folder/notes.txt", []byte("no certificate"))
	write("empty-folder/notes.txt", nil)
	write("empty.pem", nil)
	write("text.pem", []byte("just words"))
	write("truncated.pem", both[:len(both)-40])
	write("truncated-first.pem", append(bytes.Clone(both[:100]), dt.PEM(b.Cert)...))
	write("leaf.pem", dt.PEM(a.Cert, leaf.Cert))
	write("key.pem", append(dt.PEM(a.Cert), key...))
	write("garbage.pem", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	write("crl.pem", []byte("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"))
	write("huge.pem", make([]byte, 5<<20))

	for name, count := range map[string]int{
		"both.pem": 2, "around.pem": 2, "a.der": 1, "folder": 2, "folder/*.pem": 1, "folder/?.*": 2,
	} {
		t.Run("ok/"+name, func(t *testing.T) {
			anchors, err := deviceauth.ReadAnchors(filepath.Join(folder, name))
			if err != nil {
				t.Fatal(err)
			}
			if len(anchors) != count {
				t.Errorf("%d anchors, want %d", len(anchors), count)
			}
		})
	}
	for name, cause := range map[string]string{
		"missing.pem":         "no such file",
		"*.nothing":           "no file matches",
		"[":                   "syntax error",
		"empty-folder":        "holds no *.pem",
		"empty.pem":           "holds no certificate",
		"text.pem":            "holds no certificate",
		"truncated.pem":       "truncated",
		"truncated-first.pem": "truncated",
		"leaf.pem":            "not a CA certificate",
		"key.pem":             "private key",
		"garbage.pem":         "certificate 1",
		"crl.pem":             "not a certificate",
		"huge.pem":            "larger than",
	} {
		t.Run("fail/"+name, func(t *testing.T) {
			_, err := deviceauth.ReadAnchors(filepath.Join(folder, name))
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), cause) || !strings.Contains(err.Error(), name) {
				t.Errorf("error %q names not both the file and the cause (%s)", err, cause)
			}
			if bytes.Contains(key, []byte(err.Error())) {
				t.Error("the error quotes the key")
			}
		})
	}
}
