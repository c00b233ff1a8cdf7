// Package deviceauth decides which phone a TLS client certificate belongs to.
//
// A phone proves who it is with a certificate that its maker signed when it
// was made. A [Verifier] holds one [Trust] for each maker: the certificates
// that are believed, how weak the chain below them may be, and the [Identity]
// rule that says where the maker writes the device's MAC. Verify returns the
// [Device], or a [*Refusal] that says why not.
//
// Old device CAs sign with SHA-1 or MD5, reuse expired certificates and encode
// one name in different string types. crypto/x509 refuses all of that for good
// reasons, so this package builds and checks paths itself, as RFC 5280 section 6
// asks, and lets each Trust allow single weaknesses. Where a certificate states
// name or policy constraints, crypto/x509 has to accept the path too.
package deviceauth
