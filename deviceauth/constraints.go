package deviceauth

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"
	"time"
)

// constraintOIDs are the extensions by which a CA limits what is below it:
// name constraints, policy constraints, inhibit any-policy.
var constraintOIDs = []asn1.ObjectIdentifier{{2, 5, 29, 30}, {2, 5, 29, 36}, {2, 5, 29, 54}}

// constraintFault has crypto/x509 judge a path on which somebody states
// constraints. It refuses weak signatures and names that are not equal byte by
// byte, and so do we then: there is no sound way around it.
func constraintFault(p path, now time.Time) *Refusal {
	if !slices.ContainsFunc(p, hasConstraints) {
		return nil
	}
	opts := x509.VerifyOptions{
		Roots:         x509.NewCertPool(),
		Intermediates: x509.NewCertPool(),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny}, // judged before
		CurrentTime:   commonTime(p, now),                      // so are dates
	}
	opts.Roots.AddCert(p[len(p)-1])
	for _, cert := range p[1 : len(p)-1] {
		opts.Intermediates.AddCert(cert)
	}
	if _, err := p[0].Verify(opts); err != nil {
		return &Refusal{Reason: Untrusted, Detail: fmt.Sprintf("a CA states constraints, and the chain fails them: %v", err)}
	}
	return hostFault(p)
}

// hostFault checks e-mail addresses and URIs against permitted hosts. To
// crypto/x509, a permitted host includes all hosts below it; to RFC 5280
// (section 4.2.1.10), only if it begins with a dot.
func hostFault(p path) *Refusal {
	for i, ca := range p {
		for _, cert := range p[:i] {
			for _, uri := range cert.URIs {
				if !hostPermitted(uri.Hostname(), ca.PermittedURIDomains) {
					return &Refusal{Reason: Untrusted, Detail: fmt.Sprintf("%s does not permit the URI %s", ca.Subject, uri)}
				}
			}
			for _, address := range cert.EmailAddresses {
				if !addressPermitted(address, ca.PermittedEmailAddresses) {
					return &Refusal{Reason: Untrusted, Detail: fmt.Sprintf("%s does not permit the e-mail address %s", ca.Subject, address)}
				}
			}
		}
	}
	return nil
}

func addressPermitted(address string, permitted []string) bool {
	_, host, _ := strings.Cut(address, "@")
	mailbox := func(constraint string) bool { return strings.Contains(constraint, "@") }
	hosts := slices.DeleteFunc(slices.Clone(permitted), mailbox)
	if len(permitted) > 0 && len(hosts) == 0 {
		return slices.Contains(permitted, address)
	}
	return slices.Contains(permitted, address) || hostPermitted(host, hosts)
}

func hostPermitted(host string, permitted []string) bool {
	if len(permitted) == 0 {
		return true
	}
	host = strings.ToLower(host)
	return slices.ContainsFunc(permitted, func(constraint string) bool {
		constraint = strings.ToLower(constraint)
		return host == constraint || strings.HasPrefix(constraint, ".") && strings.HasSuffix(host, constraint)
	})
}

func hasConstraints(cert *x509.Certificate) bool {
	for _, extension := range cert.Extensions {
		if slices.ContainsFunc(constraintOIDs, extension.Id.Equal) {
			return true
		}
	}
	return false
}

// commonTime is now, or the time nearest to it at which the whole path is valid,
// if the policy accepts expired certificates. If there is no such time,
// crypto/x509 refuses.
func commonTime(p path, now time.Time) time.Time {
	for _, cert := range p {
		if cert.NotAfter.Before(now) {
			now = cert.NotAfter
		}
	}
	return now
}
