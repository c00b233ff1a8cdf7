package sitecert

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"time"
)

// selfSignedFor is how long a self-signed certificate lasts. It is made anew
// whenever an instance starts.
const selfSignedFor = 10 * 365 * 24 * time.Hour

// selfSign makes the certificate that is served before the CA's is there, so
// that the site can be reached and tried.
func (s *Site) selfSign(key *rsa.PrivateKey) (*tls.Certificate, error) {
	subject := s.config.Subject
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	dns, ips := subject.alternativeNames()
	now := s.config.Now()
	template := &x509.Certificate{
		SerialNumber:       serial,
		Subject:            subject.name(),
		DNSNames:           dns,
		IPAddresses:        ips,
		NotBefore:          now.Add(-24 * time.Hour), // the clocks of phones are often wrong
		NotAfter:           now.Add(selfSignedFor),
		KeyUsage:           x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage:        []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		SignatureAlgorithm: x509.SHA256WithRSA,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("making a self-signed certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("making a self-signed certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
