// Package deviceauthtest makes device CAs and phones' certificates in memory,
// good ones and bad ones, for tests and demonstrations. It can make what no
// sound CA would: MD5 signatures, version 1 certificates, issuers that are none.
package deviceauthtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"
)

// Identity is a certificate with its private key.
type Identity struct {
	Cert *x509.Certificate
	Key  crypto.Signer
	// Chain holds the issuers that are no roots, nearest first.
	Chain []*x509.Certificate
}

// settings are what the options of a certificate set.
type settings struct {
	template x509.Certificate
	newKey   func() (crypto.Signer, error)
	key      crypto.Signer
	hash     crypto.Hash
	v1       bool
	subject  []byte // DER, instead of the template's
}

// Option changes a certificate that is about to be made.
type Option func(*settings)

// RSA makes an RSA key of that many bits. The default is RSA(2048).
func RSA(bits int) Option {
	return func(s *settings) {
		s.newKey = func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, bits) }
	}
}

// ECDSA makes a key on the curve.
func ECDSA(curve elliptic.Curve) Option {
	return func(s *settings) {
		s.newKey = func() (crypto.Signer, error) { return ecdsa.GenerateKey(curve, rand.Reader) }
	}
}

// Key uses a key that there is already.
func Key(key crypto.Signer) Option { return func(s *settings) { s.key = key } }

// For makes the certificate for a public key whose private key somebody else has,
// as a CA does with a CSR.
func For(public crypto.PublicKey) Option { return Key(publicOnly{public}) }

type publicOnly struct{ public crypto.PublicKey }

func (p publicOnly) Public() crypto.PublicKey { return p.public }

func (publicOnly) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("somebody else has the private key")
}

// Hash signs the certificate with crypto.MD5, SHA1, SHA256 (the default),
// SHA384 or SHA512.
func Hash(hash crypto.Hash) Option { return func(s *settings) { s.hash = hash } }

// Valid sets the certificate's dates. The default is an hour ago to in ten
// years.
func Valid(from, until time.Time) Option {
	return func(s *settings) { s.template.NotBefore, s.template.NotAfter = from, until }
}

// CA makes the certificate that of a CA, with no limit on the path below it.
func CA() Option {
	return func(s *settings) {
		s.template.BasicConstraintsValid, s.template.IsCA = true, true
		s.template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
		s.template.ExtKeyUsage = nil
		s.template.MaxPathLen = -1
	}
}

// PathLength limits the intermediates below a CA.
func PathLength(n int) Option {
	return func(s *settings) { s.template.MaxPathLen, s.template.MaxPathLenZero = n, n == 0 }
}

// Version1 leaves out all extensions, as in certificates of version 1.
func Version1() Option { return func(s *settings) { s.v1 = true } }

// RawSubject sets the subject's DER encoding.
func RawSubject(der []byte) Option { return func(s *settings) { s.subject = der } }

// Template changes anything else.
func Template(change func(*x509.Certificate)) Option {
	return func(s *settings) { change(&s.template) }
}

// NewRoot makes a self-signed CA.
func NewRoot(subject pkix.Name, options ...Option) (*Identity, error) {
	return issue(nil, subject, append([]Option{CA()}, options...))
}

// NewCA makes a CA below this one.
func (i *Identity) NewCA(subject pkix.Name, options ...Option) (*Identity, error) {
	return issue(i, subject, append([]Option{CA()}, options...))
}

// Issue makes a device's certificate for client authentication.
func (i *Identity) Issue(subject pkix.Name, options ...Option) (*Identity, error) {
	return issue(i, subject, options)
}

// SelfSigned makes a certificate that nobody else signed, and that is no CA.
func SelfSigned(subject pkix.Name, options ...Option) (*Identity, error) {
	return issue(nil, subject, options)
}

func issue(issuer *Identity, subject pkix.Name, options []Option) (*Identity, error) {
	s := &settings{hash: crypto.SHA256}
	s.template = x509.Certificate{
		Subject:     subject,
		NotBefore:   time.Now().Add(-time.Hour).Truncate(time.Second),
		NotAfter:    time.Now().AddDate(10, 0, 0).Truncate(time.Second),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	RSA(2048)(s)
	for _, option := range options {
		option(s)
	}
	if s.template.SerialNumber == nil {
		serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
		if err != nil {
			return nil, err
		}
		s.template.SerialNumber = serial
	}
	if s.key == nil {
		key, err := s.newKey()
		if err != nil {
			return nil, fmt.Errorf("making a key for %s: %w", subject, err)
		}
		s.key = key
	}
	if s.subject != nil {
		s.template.RawSubject = s.subject
	}
	made := &Identity{Key: s.key}
	parent, parentKey := &s.template, s.key
	if issuer != nil {
		parent, parentKey = issuer.Cert, issuer.Key
		if issuer.Chain != nil || !selfIssued(issuer.Cert) {
			made.Chain = append([]*x509.Certificate{issuer.Cert}, issuer.Chain...)
		}
	}
	cert, err := sign(s, parent, parentKey)
	if err != nil {
		return nil, fmt.Errorf("signing the certificate of %s: %w", subject, err)
	}
	made.Cert = cert
	return made, nil
}

func selfIssued(cert *x509.Certificate) bool {
	return string(cert.RawSubject) == string(cert.RawIssuer)
}

// Certificates returns the certificate and the issuers that a client sends.
func (i *Identity) Certificates() []*x509.Certificate {
	return append([]*x509.Certificate{i.Cert}, i.Chain...)
}

// TLS returns the certificate as a client of crypto/tls uses it, issuers
// included.
func (i *Identity) TLS() tls.Certificate {
	c := tls.Certificate{PrivateKey: i.Key, Leaf: i.Cert}
	for _, cert := range i.Certificates() {
		c.Certificate = append(c.Certificate, cert.Raw)
	}
	return c
}

// PEM returns certificates in PEM.
func PEM(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, cert := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	return out
}

// KeyPEM returns the private key in PEM, as PKCS #8.
func (i *Identity) KeyPEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(i.Key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// Must returns v, and panics if there is an error. It is for tests.
func Must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
