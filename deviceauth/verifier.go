package deviceauth

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// Trust is one device CA, the policy for what it signed, and the rule by
// which its certificates name a device. It vouches for nothing else.
type Trust struct {
	// Vendor is the label of this trust, e.g. "cisco_spa". Required.
	Vendor string
	// Anchors are the certificates believed without further proof, roots and
	// issuers alike. At least one. A path ends at the first anchor it reaches;
	// the anchor's key and dates are judged like the others, its signature isn't.
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
	// CRLs list certificates that are refused, in any order; of several CRLs by
	// one key of one issuer, the newest counts. Each must be signed by an anchor
	// that may sign CRLs, as strongly as the policy asks. Default: none.
	CRLs []*CRL
	// CRLRequired refuses devices unless each certificate between the device
	// and the anchor has a CRL of its issuer that is not past its nextUpdate.
	// Default: false.
	CRLRequired bool
}

// Check returns what is wrong with the trust, as NewVerifier would.
func (t Trust) Check() error {
	_, err := newTrust(t)
	return err
}

// Config holds a Verifier's settings.
type Config struct {
	// Trusts are tried in order; the first that accepts a chain decides. At
	// least one.
	Trusts []Trust
	// Now tells the time. Default: time.Now.
	Now func() time.Time
	// CacheSize bounds how many verified certificates are remembered, at less
	// than 1 kB each. Default: 100,000.
	CacheSize int
}

// Verifier decides which device a certificate chain belongs to. It remembers
// what it accepted, so that a device that comes back costs no signature checks.
// It is safe for concurrent use.
type Verifier struct {
	trusts []*trust
	now    func() time.Time
	cache  *cache
}

// NewVerifier returns a Verifier, or an error that names the trust and what
// is wrong with it.
func NewVerifier(cfg Config) (*Verifier, error) {
	if len(cfg.Trusts) == 0 {
		return nil, errors.New("no trust")
	}
	v := &Verifier{now: cfg.Now}
	if v.now == nil {
		v.now = time.Now
	}
	for _, t := range cfg.Trusts {
		ready, err := newTrust(t)
		if err != nil {
			return nil, fmt.Errorf("trust %s: %w", t.Vendor, err)
		}
		v.trusts = append(v.trusts, ready)
	}
	var err error
	v.cache, err = newCache(cfg.CacheSize)
	return v, err
}

// Verify decides which device sent certs, the certificates as the client sent
// them in the handshake. Only certs[0] is the device; the others may help to
// reach an anchor, but are never trusted. A decided no is a *Refusal.
//
// If every trust refuses, the refusal is the first that is not Untrusted: the
// one of a trust that knows the device's issuer.
func (v *Verifier) Verify(certs []*x509.Certificate) (*Device, error) {
	if len(certs) == 0 {
		return nil, &Refusal{Reason: NoCertificate, Detail: "the client sent no certificate"}
	}
	if len(certs) > maxSent {
		return nil, &Refusal{Reason: Untrusted, Detail: fmt.Sprintf("the client sent %d certificates, more than %d", len(certs), maxSent)}
	}
	now := v.now()
	key := keyOf(certs)
	if device, ok := v.cache.get(key, certs, v.trusts, now); ok {
		return device, nil
	}
	sent := make([]namedCert, len(certs))
	for i, cert := range certs {
		sent[i] = named(cert)
	}
	b := &budget{checks: maxSignatureChecks}
	var refusal *Refusal
	for i, t := range v.trusts {
		verdict := t.judge(sent, b, now)
		if verdict.refusal == nil {
			v.cache.put(key, certs, i, t, verdict, now)
			return verdict.device, nil
		}
		if refusal == nil || refusal.Reason == Untrusted && verdict.refusal.Reason != Untrusted {
			refusal = verdict.refusal
		}
	}
	return nil, refusal
}

// Anchors returns the anchors of all trusts, each once, for use as the hint
// list in a certificate request.
func (v *Verifier) Anchors() []*x509.Certificate {
	var all []*x509.Certificate
	seen := make(map[string]bool)
	for _, t := range v.trusts {
		for _, cert := range t.anchors.list {
			if !seen[string(cert.Raw)] {
				seen[string(cert.Raw)] = true
				all = append(all, cert)
			}
		}
	}
	return all
}

// CRLs returns the CRLs that count, trust by trust.
func (v *Verifier) CRLs() []*CRL {
	var all []*CRL
	for _, t := range v.trusts {
		all = append(all, t.revoked.list...)
	}
	return all
}

func fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}
