package sitecert

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	dt "github.com/device-profile/caddy-device-profile/deviceauth/deviceauthtest"
)

func pemBlock(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func der(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, cert := range certs {
		out = append(out, cert.Raw...)
	}
	return out
}

// TestUploads holds what of a vendor's answer can be installed, and that the rest
// is refused with its reason and changes nothing.
func TestUploads(t *testing.T) {
	v, storage := newVendor(), newMemory()
	s := open(t, config(storage))
	csr, now := s.CSR(), time.Now()
	leaf := v.sign(t, csr)
	issuer, root := v.issuer.Cert, v.root.Cert
	container := dt.Must(pkcs7.DegenerateCertificate(der(leaf, issuer, root)))
	slash := dt.Template(func(c *x509.Certificate) {
		c.Subject, c.DNSNames = pkix.Name{CommonName: strings.ToUpper(fqdn) + "/mailto:admin@example.com"}, nil
	})

	for name, upload := range map[string][]byte{
		"leaf alone":       dt.PEM(leaf),
		"chain":            dt.PEM(leaf, issuer),
		"with root":        dt.PEM(leaf, issuer, root),
		"any order":        dt.PEM(root, leaf, issuer),
		"twice":            dt.PEM(leaf, issuer, issuer, leaf),
		"CRLF":             bytes.ReplaceAll(dt.PEM(leaf, issuer), []byte("\n"), []byte("\r\n")),
		"text around":      []byte("Dear customer,\n\nsubject=CN = x\n" + string(dt.PEM(leaf)) + "and its issuer:\n" + string(dt.PEM(issuer)) + "Regards\n"),
		"byte order mark":  append([]byte("\ufeff"), dt.PEM(leaf)...),
		"DER":              leaf.Raw,
		"DER, several":     der(leaf, issuer),
		"PKCS #7 in DER":   container,
		"PKCS #7 in PEM":   pemBlock("PKCS7", container),
		"wildcard":         dt.PEM(v.sign(t, csr, dt.Template(func(c *x509.Certificate) { c.DNSNames = []string{"*.example.com"} }))),
		"name in CN alone": dt.PEM(v.sign(t, csr, dt.Template(func(c *x509.Certificate) { c.DNSNames = nil }))),
		"CN with a slash":  dt.PEM(v.sign(t, csr, slash)),
	} {
		t.Run("ok/"+name, func(t *testing.T) {
			status, err := s.Install(t.Context(), upload)
			if err != nil {
				t.Fatal(err)
			}
			if served := s.Certificate().Leaf; !served.PublicKey.(interface{ Equal(crypto.PublicKey) bool }).Equal(parseCSR(t, csr).PublicKey) || status.State != StateActive {
				t.Errorf("serving %s, state %s", served.Subject, status.State)
			}
		})
	}
	install(t, s, leaf, issuer)

	other := newVendor() // same names, other keys
	stranger := dt.Must(v.issuer.Issue(pkix.Name{CommonName: fqdn}, dt.RSA(1024)))
	notCA := dt.Must(v.root.Issue(pkix.Name{CommonName: "Not A CA"}, dt.RSA(1024)))
	noSigner := dt.Must(v.root.NewCA(pkix.Name{CommonName: "May Not Sign"}, dt.RSA(1024), dt.Template(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature })))
	expiredCA := dt.Must(v.root.NewCA(pkix.Name{CommonName: "Old CA"}, dt.RSA(1024), dt.Valid(now.Add(-48*time.Hour), now.Add(-time.Hour))))
	selfSigned := dt.Must(dt.SelfSigned(pkix.Name{CommonName: fqdn}, dt.Key(s.state.Load().key))).Cert
	keyPEM := dt.Must(stranger.KeyPEM())
	keyBlock, _ := pem.Decode(keyPEM)
	csrBlock, _ := pem.Decode([]byte(csr))
	for name, tt := range map[string]struct {
		upload []byte
		reason Reason
	}{
		"empty":                     {nil, ReasonEmpty},
		"white space":               {[]byte(" \r\n"), ReasonEmpty},
		"garbage":                   {bytes.Repeat([]byte{0x30, 0x82}, 500), ReasonNotACertificate},
		"text":                      {[]byte("<html>404 not found</html>"), ReasonNotACertificate},
		"10 MB":                     {bytes.Repeat([]byte("x"), 10<<20), ReasonTooLarge},
		"many":                      {bytes.Repeat(dt.PEM(leaf), 40), ReasonTooLarge},
		"truncated":                 {dt.PEM(leaf)[:300], ReasonNotACertificate},
		"truncated issuer":          {append(dt.PEM(leaf), dt.PEM(issuer)[:300]...), ReasonNotACertificate},
		"damaged":                   {pemBlock("CERTIFICATE", leaf.Raw[:200]), ReasonNotACertificate},
		"another block":             {append(dt.PEM(leaf), pemBlock("X509 CRL", []byte{1})...), ReasonNotACertificate},
		"request":                   {[]byte(csr), ReasonCertificateRequest},
		"request in DER":            {csrBlock.Bytes, ReasonCertificateRequest},
		"request behind":            {append(dt.PEM(leaf), csr...), ReasonCertificateRequest},
		"private key":               {keyPEM, ReasonPrivateKey},
		"private key behind":        {append(dt.PEM(leaf), keyPEM...), ReasonPrivateKey},
		"private key, damaged":      {append(dt.PEM(leaf), keyPEM[:200]...), ReasonPrivateKey},
		"private key in DER":        {keyBlock.Bytes, ReasonPrivateKey},
		"other key":                 {dt.PEM(stranger.Cert, issuer), ReasonOtherKey},
		"CA alone":                  {dt.PEM(issuer), ReasonOtherKey},
		"other name":                {dt.PEM(v.sign(t, csr, dt.Template(func(c *x509.Certificate) { c.Subject.CommonName, c.DNSNames = "www.example.com", nil }))), ReasonOtherName},
		"longer name":               {dt.PEM(v.sign(t, csr, dt.Template(func(c *x509.Certificate) { c.Subject.CommonName, c.DNSNames = fqdn+".evil.example", nil }))), ReasonOtherName},
		"expired":                   {dt.PEM(v.sign(t, csr, dt.Valid(now.Add(-48*time.Hour), now.Add(-time.Hour)))), ReasonExpired},
		"not yet valid":             {dt.PEM(v.sign(t, csr, dt.Valid(now.Add(time.Hour), now.Add(48*time.Hour)))), ReasonNotYetValid},
		"expired issuer":            {dt.PEM(vendor{v.root, expiredCA}.sign(t, csr), expiredCA.Cert), ReasonExpired},
		"MD5":                       {dt.PEM(v.sign(t, csr, dt.Hash(crypto.MD5)), issuer), ReasonWeakSignature},
		"MD5, leaf alone":           {dt.PEM(v.sign(t, csr, dt.Hash(crypto.MD5))), ReasonWeakSignature},
		"issuer of the same name":   {dt.PEM(leaf, other.issuer.Cert, other.root.Cert), ReasonBrokenChain},
		"root of the same name":     {dt.PEM(leaf, issuer, other.root.Cert), ReasonBrokenChain},
		"one too many":              {dt.PEM(leaf, issuer, root, dt.Must(dt.NewRoot(pkix.Name{CommonName: "Another"}, dt.RSA(1024))).Cert), ReasonBrokenChain},
		"issuer missing, root sent": {dt.PEM(leaf, root), ReasonIncompleteChain},
		"self-signed":               {dt.PEM(selfSigned), ReasonIncompleteChain},
		"issuer is no CA":           {dt.PEM(vendor{v.root, notCA}.sign(t, csr), notCA.Cert), ReasonNotACA},
		"issuer may not sign":       {dt.PEM(vendor{v.root, noSigner}.sign(t, csr), noSigner.Cert), ReasonNotACA},
	} {
		t.Run("fail/"+name, func(t *testing.T) {
			before := storage.copy().data
			_, err := s.Install(t.Context(), tt.upload)
			refusal, ok := errors.AsType[*Refusal](err)
			if !ok || refusal.Reason != tt.reason {
				t.Fatalf("got %v, want refused for %s", err, tt.reason)
			}
			if !s.Certificate().Leaf.Equal(leaf) {
				t.Error("another certificate is served")
			}
			for key, value := range storage.data {
				if !bytes.Equal(before[key], value) {
					t.Errorf("%s was changed in storage", key)
				}
			}
			if text := err.Error(); len(text) > 400 || strings.ContainsAny(text, "\n\x00") || strings.Contains(text, string(keyPEM[60:80])) {
				t.Errorf("the error is not fit to show: %q", text)
			}
		})
	}
}

// With roots configured, a chain must lead to one of them.
func TestRoots(t *testing.T) {
	v, other := newVendor(), newVendor()
	c := config(newMemory())
	c.Roots = []*x509.Certificate{v.root.Cert}
	s := open(t, c)
	leaf := v.sign(t, s.CSR())
	for name, upload := range map[string][]byte{
		"leaf alone": dt.PEM(leaf),
		"other root": dt.PEM(other.sign(t, s.CSR()), other.issuer.Cert, other.root.Cert),
		"same name":  dt.PEM(other.sign(t, s.CSR()), other.issuer.Cert),
	} {
		_, err := s.Install(t.Context(), upload)
		if refusal, ok := errors.AsType[*Refusal](err); !ok || refusal.Reason != ReasonIncompleteChain {
			t.Errorf("%s: got %v, want refused for %s", name, err, ReasonIncompleteChain)
		}
	}
	for _, chain := range [][]*x509.Certificate{{leaf, v.issuer.Cert}, {leaf, v.issuer.Cert, v.root.Cert}} {
		install(t, s, chain...)
	}
	if note := s.Status().Note; note != "" {
		t.Errorf("got note %q, want none", note)
	}
}

func FuzzParseUpload(f *testing.F) {
	v := newVendor()
	container := dt.Must(pkcs7.DegenerateCertificate(der(v.issuer.Cert, v.root.Cert)))
	for _, seed := range [][]byte{nil, dt.PEM(v.issuer.Cert, v.root.Cert), der(v.issuer.Cert), container, pemBlock("PKCS7", container), dt.Must(v.root.KeyPEM())} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		certs, err := ParseUpload(data)
		if _, ok := errors.AsType[*Refusal](err); err != nil && !ok {
			t.Errorf("got %v, not a refusal", err)
		}
		if (err == nil) != (len(certs) > 0) || len(certs) > maxCertificates {
			t.Errorf("got %d certificates and error %v", len(certs), err)
		}
	})
}
