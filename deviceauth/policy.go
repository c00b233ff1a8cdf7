package deviceauth

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

// trust is a Trust that is ready for use.
type trust struct {
	Trust
	anchors *anchorSet
	revoked revocations
}

func newTrust(t Trust) (*trust, error) {
	if t.WeakestRSA == 0 {
		t.WeakestRSA = 2048
	}
	if t.WeakestRSA < minRSA {
		return nil, fmt.Errorf("weakest RSA key of %d bits is below the floor of %d", t.WeakestRSA, minRSA)
	}
	if t.ExpiredGrace < 0 {
		return nil, fmt.Errorf("negative grace period %s", t.ExpiredGrace)
	}
	anchors, err := newAnchorSet(t.Anchors)
	if err != nil {
		return nil, err
	}
	ready := &trust{Trust: t, anchors: anchors}
	ready.revoked, err = newRevocations(ready)
	return ready, err
}

// verdict is what a trust says of a chain.
type verdict struct {
	device  *Device
	refusal *Refusal  // nil if the trust accepts the device
	until   time.Time // when the acceptance ends
}

// judge decides on what the client sent by this trust alone.
func (t *trust) judge(sent []namedCert, b *budget, now time.Time) verdict {
	var best verdict
	err := t.anchors.paths(sent, b, func(p path) bool {
		v := t.judgePath(p, now)
		if best.refusal == nil || v.refusal == nil {
			best = v
		}
		return v.refusal != nil // look for a better path
	})
	if err != nil {
		return verdict{refusal: &Refusal{Reason: Untrusted, Detail: err.Error()}}
	}
	return best
}

// judgePath applies the trust's policy and its identity rule to a path whose
// signatures are in order.
func (t *trust) judgePath(p path, now time.Time) verdict {
	weak, refusal := t.applyPolicy(p, now)
	refusal = t.revocationFault(p, refusal, now)
	device, identityRefusal := t.identify(p)
	if device.generic {
		weak = append(weak, "generic")
	}
	slices.Sort(weak)
	device.Weak = weak
	if refusal == nil {
		refusal = identityRefusal
	}
	if refusal != nil && refusal.Reason != Untrusted {
		refusal.Device = &device.Device
	}
	return verdict{device: &device.Device, refusal: refusal, until: t.end(p, now)}
}

// applyPolicy checks everything about a path that is not its structure. It
// returns what is weak about it, and a refusal if that is too weak.
func (t *trust) applyPolicy(p path, now time.Time) (weak []string, refusal *Refusal) {
	for i, cert := range p {
		if fault := t.certificateFault(cert, now); fault != nil && refusal == nil {
			fault.Detail = fmt.Sprintf("%s %s", cert.Subject, fault.Detail)
			refusal = fault
		}
		isAnchor := i == len(p)-1
		if strength := strengthOf(cert.SignatureAlgorithm); strength != SHA256 && !isAnchor { // an anchor's own signature proves nothing
			weak = append(weak, strength.String())
			if strength > t.WeakestSignature && (refusal == nil || refusal.Reason != Untrusted) {
				refusal = &Refusal{Reason: WeakSignature, Detail: fmt.Sprintf("%s is signed with %s", cert.Subject, strength)}
			}
		}
		if now.After(cert.NotAfter) {
			weak = append(weak, "expired")
		}
	}
	if bits := smallestRSA(p); bits > 0 && bits < 2048 {
		weak = append(weak, fmt.Sprintf("rsa%d", bits))
	}
	if refusal == nil {
		refusal = t.usageFault(p)
	}
	if refusal == nil {
		refusal = constraintFault(p, now)
	}
	slices.Sort(weak)
	return slices.Compact(weak), refusal
}

// certificateFault returns what the policy has against one certificate.
func (t *trust) certificateFault(cert *x509.Certificate, now time.Time) *Refusal {
	if len(cert.UnhandledCriticalExtensions) > 0 {
		return &Refusal{Reason: Untrusted, Detail: fmt.Sprintf("has the unknown critical extension %s", cert.UnhandledCriticalExtensions[0])}
	}
	if _, err := keyFault(cert, t.WeakestRSA); err != nil {
		return &Refusal{Reason: WeakKey, Detail: err.Error()}
	}
	if now.Before(cert.NotBefore) {
		return &Refusal{Reason: NotYetValid, Detail: fmt.Sprintf("begins on %s", cert.NotBefore.UTC().Format(time.DateTime))}
	}
	if end, limited := t.endOf(cert); limited && now.After(end) {
		return &Refusal{Reason: Expired, Detail: fmt.Sprintf("ended on %s", cert.NotAfter.UTC().Format(time.DateTime))}
	}
	return nil
}

// endOf returns when the policy stops to accept a certificate for its age.
func (t *trust) endOf(cert *x509.Certificate) (time.Time, bool) {
	if t.AllowExpired {
		return time.Time{}, false
	}
	return cert.NotAfter.Add(t.ExpiredGrace), true
}

// foreseeable is for how long a verdict holds that nothing ends.
const foreseeable = 365 * 24 * time.Hour

// end returns the time up to which a verdict on the path holds: the next end of
// a certificate, or of the grace that follows it, or of a CRL that is required.
func (t *trust) end(p path, now time.Time) time.Time {
	next := t.revokedEnd(now, now.Add(foreseeable))
	for _, cert := range p {
		for _, end := range []time.Time{cert.NotAfter, cert.NotAfter.Add(t.ExpiredGrace)} {
			if end.After(now) && end.Before(next) {
				next = end
			}
		}
	}
	return next
}

// usageFault checks extended key usages. A CA that states some limits what is
// below it, as in crypto/x509.
func (t *trust) usageFault(p path) *Refusal {
	if t.AnyExtendedKeyUsage {
		return nil
	}
	for _, cert := range p {
		if len(cert.ExtKeyUsage)+len(cert.UnknownExtKeyUsage) == 0 ||
			slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageClientAuth) ||
			slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageAny) {
			continue
		}
		return &Refusal{Reason: KeyUsage, Detail: fmt.Sprintf("%s is not for client authentication", cert.Subject)}
	}
	return nil
}

func smallestRSA(p path) int {
	smallest := 0
	for _, cert := range p {
		bits, _ := keyFault(cert, minRSA)
		if bits > 0 && (smallest == 0 || bits < smallest) {
			smallest = bits
		}
	}
	return smallest
}

// identified is a device, and whether many share its certificate.
type identified struct {
	Device
	generic bool
}

// identify applies the identity rule to the device's certificate.
func (t *trust) identify(p path) (identified, *Refusal) {
	d, err := t.Identity.read(p[0])
	d.Vendor, d.Chain = t.Vendor, p
	if d.generic && t.AllowGeneric {
		return d, nil
	}
	return d, err
}
