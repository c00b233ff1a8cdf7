package sitecert

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"

	"github.com/smallstep/pkcs7"
)

// MaxUpload is the largest upload that is looked at, in bytes.
const MaxUpload = 256 << 10

// maxCertificates bounds the certificates of an upload.
const maxCertificates = 16

// ParseUpload reads the certificates that a CA sent: in PEM, with any text
// around the blocks, in DER, or in PKCS #7 in either form. Errors are a *Refusal,
// and never hold any of the data.
func ParseUpload(data []byte) ([]*x509.Certificate, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, refuse(ReasonEmpty, "the upload is empty")
	}
	if len(data) > MaxUpload {
		return nil, refuse(ReasonTooLarge, "the upload is larger than %d kB", MaxUpload>>10)
	}
	// Looked for in the raw bytes, as the block may be one that can't be decoded.
	if bytes.Contains(data, []byte("PRIVATE KEY-----")) || isPrivateKey(data) {
		return nil, refuse(ReasonPrivateKey, "the upload holds a private key, which must never leave its machine; send the certificates alone")
	}
	certs, err := parsePEM(data)
	if err == nil && certs == nil {
		certs, err = parseDER(data, "the upload")
	}
	if err != nil {
		return nil, err
	}
	if len(certs) == 0 {
		return nil, refuse(ReasonNotACertificate, "the upload holds no certificate")
	}
	if len(certs) > maxCertificates {
		return nil, refuse(ReasonTooLarge, "the upload holds %d certificates, more than %d", len(certs), maxCertificates)
	}
	return certs, nil
}

// parsePEM returns nil if the data holds no PEM.
func parsePEM(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	// The decoder wants the first line of a block at the start of a line of its own.
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	number := 0
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		number++
		if len(certs) > maxCertificates {
			break
		}
		what := fmt.Sprintf("block %d of the upload", number)
		switch block.Type {
		case "CERTIFICATE", "X509 CERTIFICATE", "PKCS7", "CMS":
			found, err := parseDER(block.Bytes, what)
			if err != nil {
				return nil, err
			}
			certs = append(certs, found...)
		case "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST":
			return nil, refuse(ReasonCertificateRequest, "%s is a certificate request; the vendor's CA must sign it first", what)
		default:
			return nil, refuse(ReasonNotACertificate, "%s is a %q, not a certificate", what, printable(block.Type))
		}
	}
	if number == 0 && bytes.Contains(data, []byte("-----BEGIN ")) {
		return nil, refuse(ReasonNotACertificate, "the upload holds PEM that is truncated or damaged")
	}
	if open := bytes.Count(data, []byte("-----BEGIN ")); number > 0 && open != number && len(certs) <= maxCertificates {
		return nil, refuse(ReasonNotACertificate, "the upload holds %d PEM blocks, of which %d are truncated or damaged", open, open-number)
	}
	return certs, nil
}

// parseDER reads certificates, or a PKCS #7 container of some.
func parseDER(der []byte, what string) ([]*x509.Certificate, error) {
	certs, err := x509.ParseCertificates(der)
	if err == nil {
		return certs, nil
	}
	if container, err := pkcs7.Parse(der); err == nil {
		return container.Certificates, nil
	}
	if _, err := x509.ParseCertificateRequest(der); err == nil {
		return nil, refuse(ReasonCertificateRequest, "%s is a certificate request; the vendor's CA must sign it first", what)
	}
	return nil, refuse(ReasonNotACertificate, "%s is no certificate: %s", what, strings.TrimPrefix(err.Error(), "x509: "))
}

// isPrivateKey reports whether the data is a private key in DER.
func isPrivateKey(der []byte) bool {
	if _, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return true
	}
	if _, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return true
	}
	_, err := x509.ParseECPrivateKey(der)
	return err == nil
}

// printable keeps what somebody sent fit for one line of a log.
func printable(text string) string {
	const most = 64
	if len(text) > most {
		text = text[:most] + "…"
	}
	return strings.ToValidUTF8(text, "?")
}
