package deviceauth

import "crypto/x509"

// Answer is what one trust says of a certificate chain: a device, or a refusal.
type Answer struct {
	Vendor  string
	Device  *Device
	Refusal *Refusal
}

// Each returns what every trust says of the certificates that a client sent. It
// is for explanations: it remembers nothing, and each trust has a budget of its
// own.
func (v *Verifier) Each(certs []*x509.Certificate) []Answer {
	if len(certs) == 0 || len(certs) > maxSent {
		return nil
	}
	sent := make([]namedCert, len(certs))
	for i, cert := range certs {
		sent[i] = named(cert)
	}
	var answers []Answer
	for _, t := range v.trusts {
		verdict := t.judge(sent, &budget{checks: maxSignatureChecks}, v.now())
		answers = append(answers, Answer{t.Vendor, verdict.device, verdict.refusal})
	}
	return answers
}
