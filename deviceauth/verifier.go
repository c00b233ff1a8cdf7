package deviceauth

import (
	"crypto/x509"
	"time"
)

// Trust is one device CA, the policy for what it signed, and the rule by
// which its certificates name a device. It vouches for nothing else.
type Trust struct {
	// Vendor is the label of this trust, e.g. "cisco_spa". Required.
	Vendor string
	// Anchors are the certificates believed without further proof, roots and
	// issuers alike. At least one.
	Anchors []*x509.Certificate
	// Identity says where the certificate names its device.
	Identity Identity
	// WeakestSignature is the weakest signature accepted in the chain.
	// Default: SHA256.
	WeakestSignature SignatureStrength
	// WeakestRSA is the smallest RSA key accepted in the chain, in bits.
	// Default: 2048. Floor: 1024.
	WeakestRSA int
	// AllowExpired accepts certificates of any age. Default: false.
	AllowExpired bool
	// ExpiredGrace accepts certificates for this long after their end.
	// Default: none.
	ExpiredGrace time.Duration
	// AnyExtendedKeyUsage accepts certificates whatever their extended key
	// usage. Default: false, so clientAuth, any, or none stated.
	AnyExtendedKeyUsage bool
	// AllowGeneric lets shared certificates through, without a MAC.
	// Default: false.
	AllowGeneric bool
}

// Config holds a Verifier's settings.
type Config struct {
	// Trusts are tried in order; the first that accepts a chain decides.
	Trusts []Trust
	// Now tells the time. Default: time.Now.
	Now func() time.Time
	// CacheSize bounds how many verified certificates are remembered.
	// Default: 100,000.
	CacheSize int
}

// Verifier decides which device a certificate chain belongs to.
// It is safe for concurrent use.
type Verifier struct{}

// NewVerifier returns a Verifier, or an error that names the trust and what
// is wrong with it.
func NewVerifier(cfg Config) (*Verifier, error) { panic("not yet") }

// Verify decides which device sent certs, the certificates as the client sent
// them in the handshake. Only certs[0] is the device; the others may help to
// reach an anchor, but are never trusted. A decided no is a *Refusal.
func (v *Verifier) Verify(certs []*x509.Certificate) (*Device, error) { panic("not yet") }

// Anchors returns the anchors of all trusts, each once, for use as the hint
// list in a certificate request.
func (v *Verifier) Anchors() []*x509.Certificate { panic("not yet") }
