package deviceauth

import "crypto/x509"

// ReadAnchors reads the trust anchors that pattern names: a PEM file, a folder
// of them (*.pem, *.crt, *.cer), or a glob. Errors name the file.
func ReadAnchors(pattern string) ([]*x509.Certificate, error) { panic("not yet") }

// ParseAnchors reads trust anchors from PEM data. name stands in errors.
func ParseAnchors(name string, data []byte) ([]*x509.Certificate, error) { panic("not yet") }

// CheckAnchor returns an error unless cert may be a trust anchor: a CA
// certificate, or a self-signed version 1 root.
func CheckAnchor(cert *x509.Certificate) error { panic("not yet") }
