package deviceauth

import "fmt"

// Reason says in one word why a device was refused. Reasons are part of the
// operator's interface: they stand in log lines, metrics and error pages, so
// their spelling never changes.
type Reason string

// The reasons a [Verifier] refuses a certificate for.
const (
	// NoCertificate means that the client sent no certificate at all.
	NoCertificate Reason = "no_certificate"
	// Untrusted means that no path leads to a trust anchor: an unknown or
	// forged issuer, a broken signature, an issuer that is no CA, a path that
	// is too long or needed too much work.
	Untrusted Reason = "untrusted"
	// WeakSignature means that a signature in the chain is below the weakest
	// one that the trust accepts.
	WeakSignature Reason = "weak_signature"
	// WeakKey means that a key in the chain is below the smallest one that the
	// trust accepts, or of a kind that is not accepted at all.
	WeakKey Reason = "weak_key"
	// Expired means that a certificate in the chain ended, grace included.
	Expired Reason = "expired"
	// NotYetValid means that a certificate in the chain has not begun.
	NotYetValid Reason = "not_yet_valid"
	// KeyUsage means that the certificate is not for client authentication.
	KeyUsage Reason = "key_usage"
	// Revoked means that a CRL of the trust lists a certificate in the chain.
	Revoked Reason = "revoked"
	// RevocationUnknown means that the trust requires CRLs, and for a
	// certificate in the chain there is none, or none that is up to date.
	RevocationUnknown Reason = "revocation_unknown"
	// GenericCertificate means that many devices share this certificate and
	// its key, so it names none of them.
	GenericCertificate Reason = "generic_certificate"
	// NoIdentity means that the certificate is genuine but holds no MAC where
	// the identity rule looks for it.
	NoIdentity Reason = "no_identity"
)

// Refusal is the decision "no". Any other error from a [Verifier] means that
// it could not decide.
type Refusal struct {
	// Reason is the one-word cause.
	Reason Reason
	// Detail names the certificate and the cause in a short sentence. It holds
	// nothing secret, but it may quote what an unverified certificate says.
	Detail string
	// Device is what the certificate says of its device, set only where a
	// trust anchor vouches for it and the policy refused it all the same (too
	// old, too weak, wrong usage, shared). Never serve anything by it.
	Device *Device
}

// Error returns the reason and the detail.
func (r *Refusal) Error() string { return fmt.Sprintf("%s: %s", r.Reason, r.Detail) }
