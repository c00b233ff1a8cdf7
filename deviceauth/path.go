package deviceauth

import (
	"crypto/x509"
	"errors"
	"fmt"
)

// Bounds on the work that a client can cause. Device chains have two to four
// certificates; one visit needs as many signature checks as its chain has links.
const (
	// maxSent is how many certificates a client may send.
	maxSent = 10
	// maxPath is how many certificates a path may have, anchor included.
	maxPath = 8
	// maxSignatureChecks is how many signatures are checked for one client.
	maxSignatureChecks = 64
)

// path leads from the device's certificate to an anchor; every signature on it
// was checked, whatever its strength.
type path []*x509.Certificate

// namedCert is a certificate with the names that it chains by.
type namedCert struct {
	*x509.Certificate
	subject, issuer string
}

func named(cert *x509.Certificate) namedCert {
	return namedCert{cert, nameKey(cert.RawSubject), nameKey(cert.RawIssuer)}
}

// budget counts down the signature checks that one client may cause.
type budget struct{ checks int }

var (
	errNoIssuer = errors.New("there is no CA of that name among the trusts")
	errBudget   = fmt.Errorf("more than %d signatures would have to be checked", maxSignatureChecks)
)

// paths calls yield for each path from the device to one of the anchors, until
// yield returns false. sent are the certificates that the client sent; all but
// the first are mere helpers. It returns why there was no path, if there was none.
func (a *anchorSet) paths(sent []namedCert, b *budget, yield func(path) bool) error {
	s := &search{anchors: a, helpers: sent[1:], budget: b, yield: yield}
	s.extend(path{sent[0].Certificate}, sent[0], 0)
	if s.found {
		return nil
	}
	if s.fault == nil {
		return fmt.Errorf("%s says to be issued by %s: %w", sent[0].Subject, sent[0].Issuer, errNoIssuer)
	}
	return s.fault
}

// search is a depth-first search for paths.
type search struct {
	anchors *anchorSet
	helpers []namedCert
	budget  *budget
	yield   func(path) bool
	found   bool  // a path was yielded
	done    bool  // no more paths are wanted
	fault   error // the last thing that was wrong, while nothing is found
}

// extend looks for issuers of top, the last certificate of p. intermediates
// counts those between the device and the next issuer that a path length limits.
func (s *search) extend(p path, top namedCert, intermediates int) {
	for _, anchor := range s.anchors.bySubject[top.issuer] {
		if s.done {
			return
		}
		if p.has(anchor.Certificate) || !s.signed(top, anchor, intermediates) {
			continue
		}
		s.found = true
		s.done = !s.yield(append(p[:len(p):len(p)], anchor.Certificate))
	}
	if s.done {
		return
	}
	if len(p)+1 >= maxPath {
		s.fault = fmt.Errorf("no anchor within %d certificates", maxPath)
		return
	}
	for _, helper := range s.helpers {
		if s.done {
			return
		}
		if helper.subject != top.issuer || p.has(helper.Certificate) || !s.signed(top, helper, intermediates) {
			continue
		}
		below := intermediates
		if helper.subject != helper.issuer { // a self-issued one doesn't count
			below++
		}
		s.extend(append(p[:len(p):len(p)], helper.Certificate), helper, below)
	}
}

// signed reports whether issuer may sign certificates at this height of the
// path, and did sign cert.
func (s *search) signed(cert, issuer namedCert, intermediates int) bool {
	if fault := s.issuerFault(issuer.Certificate, intermediates); fault != "" {
		s.fault = fmt.Errorf("issuer %s %s", issuer.Subject, fault)
		return false
	}
	if s.budget.checks <= 0 {
		s.fault, s.done = errBudget, true
		return false
	}
	s.budget.checks--
	if err := checkSignature(cert.Certificate, issuer.Certificate); err != nil {
		s.fault = fmt.Errorf("%s was not signed by %s: %w", cert.Subject, issuer.Subject, err)
		return false
	}
	return true
}

func (s *search) issuerFault(issuer *x509.Certificate, intermediates int) string {
	anchor := s.anchors.has(issuer)
	if issuer.Version == 1 && anchor {
		return "" // checked when it was made an anchor
	}
	if issuer.Version == 1 {
		return "is of version 1"
	}
	if fault := caFault(issuer); fault != "" {
		return fault
	}
	if limit, ok := pathLength(issuer); ok && intermediates > limit {
		return fmt.Sprintf("allows %d certificates between itself and the device, there are %d", limit, intermediates)
	}
	return ""
}

// pathLength returns how many intermediates a CA allows below itself, if it
// says so.
func pathLength(cert *x509.Certificate) (int, bool) {
	if cert.MaxPathLen > 0 || cert.MaxPathLenZero {
		return cert.MaxPathLen, true
	}
	return 0, false
}

func (p path) has(cert *x509.Certificate) bool {
	for _, c := range p {
		if c.Equal(cert) {
			return true
		}
	}
	return false
}

// anchorSet holds the anchors of a trust.
type anchorSet struct {
	list      []*x509.Certificate
	bySubject map[string][]namedCert
	known     map[string]bool // by raw certificate
}

func newAnchorSet(anchors []*x509.Certificate) (*anchorSet, error) {
	set := &anchorSet{bySubject: make(map[string][]namedCert), known: make(map[string]bool)}
	for _, cert := range anchors {
		if err := CheckAnchor(cert); err != nil {
			return nil, err
		}
		if set.has(cert) {
			continue
		}
		set.known[string(cert.Raw)] = true
		set.list = append(set.list, cert)
		n := named(cert)
		set.bySubject[n.subject] = append(set.bySubject[n.subject], n)
	}
	if len(set.list) == 0 {
		return nil, errors.New("no trust anchor")
	}
	return set, nil
}

func (a *anchorSet) has(cert *x509.Certificate) bool { return a.known[string(cert.Raw)] }
