package deviceauth

import "crypto/x509"

// Device is a phone whose certificate chain was verified.
type Device struct {
	// MAC is the device's hardware address, the zero MAC if HasMAC is false.
	MAC MAC
	// HasMAC is false for devices whose identity rule asks for no MAC, and for
	// shared certificates that the trust lets through.
	HasMAC bool
	// Model and Serial are what the certificate says, or empty.
	Model, Serial string
	// Vendor is the label of the trust that vouches for the device.
	Vendor string
	// Fingerprint is the lower-case hex SHA-256 of the device's certificate.
	Fingerprint string
	// Weak lists what the trust's policy let pass, sorted: "expired",
	// "generic", "md5", "rsa1024" (the smallest RSA size found), "sha1".
	Weak []string
	// Chain leads from the device's own certificate to the trust anchor.
	Chain []*x509.Certificate
}
