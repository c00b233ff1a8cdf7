package sitecert

import "fmt"

// Reason is why an uploaded certificate is refused, in a word.
type Reason string

// The reasons.
const (
	ReasonEmpty              Reason = "empty"
	ReasonTooLarge           Reason = "too_large"
	ReasonPrivateKey         Reason = "private_key"
	ReasonCertificateRequest Reason = "certificate_request"
	ReasonNotACertificate    Reason = "not_a_certificate"
	ReasonOtherKey           Reason = "other_key"
	ReasonOtherName          Reason = "other_name"
	ReasonExpired            Reason = "expired"
	ReasonNotYetValid        Reason = "not_yet_valid"
	ReasonWeakSignature      Reason = "weak_signature"
	ReasonBrokenChain        Reason = "broken_chain"
	ReasonIncompleteChain    Reason = "incomplete_chain"
	ReasonNotACA             Reason = "not_a_ca"
)

// Refusal is the error for an upload that is not installed. Nothing has changed
// then.
type Refusal struct {
	Reason Reason
	// Detail is one sentence that names what is wrong with what. It holds
	// nothing of a key.
	Detail string
}

// Error returns the detail.
func (r *Refusal) Error() string { return r.Detail }

func refuse(reason Reason, format string, args ...any) *Refusal {
	return &Refusal{reason, fmt.Sprintf(format, args...)}
}
