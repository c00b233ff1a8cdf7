package sitecert

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"slices"
	"strings"
	"time"
)

// findLeaf returns the certificate that is for the key, or nil.
func findLeaf(certs []*x509.Certificate, key *rsa.PublicKey) *x509.Certificate {
	for _, cert := range certs {
		if key.Equal(cert.PublicKey) {
			return cert
		}
	}
	return nil
}

// checkLeaf holds the site's own certificate against its name and the clock.
func checkLeaf(leaf *x509.Certificate, fqdn string, now time.Time) error {
	if !namesHost(leaf, fqdn) {
		return refuse(ReasonOtherName, "the certificate is for %s, not for %s", strings.Join(namesOf(leaf), ", "), fqdn)
	}
	return checkDates(leaf, now)
}

func checkDates(cert *x509.Certificate, now time.Time) error {
	if now.After(cert.NotAfter) {
		return refuse(ReasonExpired, "the certificate of %s ended on %s", cert.Subject, cert.NotAfter.UTC().Format(time.DateTime))
	}
	if now.Before(cert.NotBefore) {
		return refuse(ReasonNotYetValid, "the certificate of %s is valid from %s only", cert.Subject, cert.NotBefore.UTC().Format(time.DateTime))
	}
	return nil
}

// namesHost reports whether a SAN or the common name is the host. A common name
// may go on after a slash ("pv.example.net/mailto:admin@example.net"): the phones that
// read it so stop there.
func namesHost(cert *x509.Certificate, fqdn string) bool {
	if cert.VerifyHostname(fqdn) == nil {
		return true
	}
	return strings.EqualFold(commonHost(cert), fqdn)
}

func commonHost(cert *x509.Certificate) string {
	host, _, _ := strings.Cut(cert.Subject.CommonName, "/")
	return strings.TrimSpace(host)
}

// namesOf returns the hosts that a certificate names.
func namesOf(cert *x509.Certificate) []string {
	names := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	if host := commonHost(cert); host != "" && !slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, host) }) {
		names = append(names, host)
	}
	if len(names) == 0 {
		return []string{"no host"}
	}
	return names
}

// sortChain returns the leaf with its issuers behind it, each of which signs
// the one before. It refuses an upload in which anything is left over, and, if
// roots are given, one that doesn't end at one of them.
func sortChain(leaf *x509.Certificate, certs, roots []*x509.Certificate, now time.Time) ([]*x509.Certificate, error) {
	chain := []*x509.Certificate{leaf}
	rest := without(certs, leaf)
	for last := leaf; !selfSigned(last); last = chain[len(chain)-1] {
		if err := checkStrength(last); err != nil {
			return nil, err
		}
		issuer, err := findIssuer(last, rest)
		if err != nil {
			return nil, err
		}
		if issuer == nil {
			break
		}
		if err := checkDates(issuer, now); err != nil {
			return nil, err
		}
		chain = append(chain, issuer)
		rest = without(rest, issuer)
	}
	last := chain[len(chain)-1]
	switch {
	case len(chain) == 1 && selfSigned(leaf):
		return nil, refuse(ReasonIncompleteChain, "the certificate of %s is signed by itself, not by a CA", leaf.Subject)
	case len(rest) > 0 && !selfSigned(last):
		return nil, refuse(ReasonIncompleteChain, "the chain ends nowhere: %s, which signed %s, is not in the upload", last.Issuer, last.Subject)
	case len(rest) > 0:
		return nil, refuse(ReasonBrokenChain, "%s is no part of the certificate's chain", rest[0].Subject)
	}
	return chain, endsAt(last, roots)
}

// endsAt holds the end of a chain against the roots that phones are said to know.
func endsAt(last *x509.Certificate, roots []*x509.Certificate) error {
	if len(roots) == 0 || slices.ContainsFunc(roots, last.Equal) {
		return nil
	}
	if root, err := findIssuer(last, roots); err != nil || root == nil {
		return refuse(ReasonIncompleteChain, "the chain ends nowhere: %s, which signed %s, is neither in the upload nor among the roots", last.Issuer, last.Subject)
	}
	return nil
}

// findIssuer returns the certificate that signed cert, nil if none has the
// issuer's name, and an error if one has, but did not sign it or may not.
func findIssuer(cert *x509.Certificate, candidates []*x509.Certificate) (*x509.Certificate, error) {
	var fault error
	for _, issuer := range candidates {
		if !bytes.Equal(issuer.RawSubject, cert.RawIssuer) {
			continue
		}
		err := checkSignature(cert, issuer)
		if err == nil {
			return issuer, nil
		}
		fault = err
	}
	return nil, fault
}

// checkStrength refuses signatures that anybody can forge. SHA-1 is accepted: it
// is the best that some old phones know.
func checkStrength(cert *x509.Certificate) error {
	switch cert.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.MD2WithRSA:
		return refuse(ReasonWeakSignature, "the certificate of %s is signed with %s; ask the CA for SHA-256", cert.Subject, cert.SignatureAlgorithm)
	}
	return nil
}

// checkSignature reports why issuer did not sign cert.
func checkSignature(cert, issuer *x509.Certificate) error {
	if err := issuer.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
		return refuse(ReasonBrokenChain, "the certificate of %s was not signed by %s of the same name as its issuer", cert.Subject, issuer.Subject)
	}
	oldRoot := issuer.Version < 3 && selfSigned(issuer)
	if !issuer.IsCA && !oldRoot {
		return refuse(ReasonNotACA, "%s signed the certificate of %s, but is no CA", issuer.Subject, cert.Subject)
	}
	if issuer.KeyUsage != 0 && issuer.KeyUsage&x509.KeyUsageCertSign == 0 {
		return refuse(ReasonNotACA, "%s signed the certificate of %s, but may not sign certificates", issuer.Subject, cert.Subject)
	}
	return nil
}

func selfSigned(cert *x509.Certificate) bool { return bytes.Equal(cert.RawSubject, cert.RawIssuer) }

// without returns certs without any copy of one of them.
func without(certs []*x509.Certificate, one *x509.Certificate) []*x509.Certificate {
	return slices.DeleteFunc(slices.Clone(certs), one.Equal)
}
