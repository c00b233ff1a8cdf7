package deviceauth

import (
	"crypto/x509"
	"fmt"
	"time"
)

// revocations are the CRLs of a trust, once they are believed.
type revocations struct {
	list     []*CRL
	byIssuer map[string][]*CRL // by name key; several if the CA has several keys
}

// newRevocations checks the CRLs of a trust, and drops those that a newer one
// by the same key replaces.
func newRevocations(t *trust) (revocations, error) {
	r := revocations{byIssuer: make(map[string][]*CRL)}
	newest := make(map[string]*CRL)
	var order []string
	for _, crl := range t.Trust.CRLs {
		signer, err := t.crlSigner(crl)
		if err != nil {
			return r, fmt.Errorf("%s: %w", crl.Source, err)
		}
		key := crl.issuer + "\x00" + string(signer.RawSubjectPublicKeyInfo)
		if newest[key] == nil {
			order = append(order, key)
		} else if !newest[key].olderThan(crl) {
			continue
		}
		newest[key] = crl
	}
	revoked := 0
	for _, key := range order {
		crl := newest[key]
		r.list = append(r.list, crl)
		r.byIssuer[crl.issuer] = append(r.byIssuer[crl.issuer], crl)
		revoked += len(crl.revoked)
	}
	if revoked > maxRevoked {
		return r, errTooManyRevocations
	}
	return r, nil
}

// crlSigner returns the anchor that signed the CRL.
func (t *trust) crlSigner(crl *CRL) (*x509.Certificate, error) {
	err := errUnknownCRLSigner
	for _, anchor := range t.anchors.bySubject[crl.issuer] {
		if err = t.crlFault(crl, anchor.Certificate); err == nil {
			return anchor.Certificate, nil
		}
	}
	return nil, fmt.Errorf("the %s: its issuer %w", crl, err)
}

// crlFault says why issuer did not sign the CRL, or may not.
func (t *trust) crlFault(crl *CRL, issuer *x509.Certificate) error {
	if issuer.KeyUsage != 0 && issuer.KeyUsage&x509.KeyUsageCRLSign == 0 {
		return errCRLSigning
	}
	if _, err := keyFault(issuer, t.WeakestRSA); err != nil {
		return err
	}
	if strength := strengthOf(crl.algorithm); strength > t.WeakestSignature {
		return fmt.Errorf("signed it with %s, which this trust does not accept", strength)
	}
	if err := checkSigned(issuer, crl.algorithm, crl.signed, crl.signature); err != nil {
		return fmt.Errorf("did not sign it: %w", err)
	}
	return nil
}

// revocationFault returns what the CRLs have against the path, or else refusal,
// what others had against it. A certificate that is revoked is that first of all.
func (t *trust) revocationFault(p path, refusal *Refusal, now time.Time) *Refusal {
	if len(t.revoked.list) == 0 && !t.CRLRequired || refusal != nil && refusal.Reason == Untrusted {
		return refusal
	}
	for i, cert := range p {
		isAnchor := i == len(p)-1
		issuer := nameKey(cert.RawIssuer)
		if isAnchor && issuer == nameKey(cert.RawSubject) {
			break // a root has nobody above that could revoke it
		}
		crls := t.revoked.byIssuer[issuer]
		if fault := revokedFault(cert, crls); fault != nil {
			return fault
		}
		if t.CRLRequired && !isAnchor && refusal == nil {
			refusal = unknownFault(cert, crls, now)
		}
	}
	return refusal
}

// revokedFault refuses cert if a CRL lists it.
func revokedFault(cert *x509.Certificate, crls []*CRL) *Refusal {
	if len(crls) == 0 {
		return nil
	}
	serial := serialKey(cert.SerialNumber)
	for _, crl := range crls {
		if entry, ok := crl.revoked[serial]; ok {
			return &Refusal{Reason: Revoked, Detail: fmt.Sprintf("%s (serial %X) was revoked on %s: %s",
				cert.Subject, cert.SerialNumber, time.Unix(entry.at, 0).UTC().Format(time.DateTime), reasonText(entry.reason))}
		}
	}
	return nil
}

// unknownFault refuses cert unless a CRL of its issuer is there and up to date.
func unknownFault(cert *x509.Certificate, crls []*CRL, now time.Time) *Refusal {
	if len(crls) == 0 {
		return &Refusal{Reason: RevocationUnknown, Detail: fmt.Sprintf("there is no CRL of %s, which issued %s", cert.Issuer, cert.Subject)}
	}
	for _, crl := range crls {
		if crl.Overdue(now) {
			return &Refusal{Reason: RevocationUnknown, Detail: fmt.Sprintf("the %s is overdue since %s", crl, crl.NextUpdate.UTC().Format(time.DateTime))}
		}
	}
	return nil
}

// revokedEnd returns when the first CRL becomes overdue, if that matters and is
// before next.
func (t *trust) revokedEnd(now, next time.Time) time.Time {
	if !t.CRLRequired {
		return next
	}
	for _, crl := range t.revoked.list {
		if crl.NextUpdate.After(now) && crl.NextUpdate.Before(next) {
			next = crl.NextUpdate
		}
	}
	return next
}

// reasonTexts are the reason codes of RFC 5280, section 5.3.1.
var reasonTexts = []string{
	"no reason given", "key compromise", "CA compromise", "affiliation changed", "superseded",
	"cessation of operation", "certificate hold", "reason 7", "removed from CRL", "privilege withdrawn", "AA compromise",
}

func reasonText(code int) string {
	if code < 0 || code >= len(reasonTexts) {
		return fmt.Sprintf("reason %d", code)
	}
	return reasonTexts[code]
}
