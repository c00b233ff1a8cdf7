package deviceauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/md5"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
)

// SignatureStrength orders the hashes of certificate signatures.
type SignatureStrength int

// The strengths, strongest first, so that the zero value is the default.
const (
	// SHA256 is SHA-256 or better.
	SHA256 SignatureStrength = iota
	// SHA1 is SHA-1, for which collisions can be bought.
	SHA1
	// MD5 is MD5, for which collisions are easy.
	MD5
)

// String returns the name that stands in configs and logs.
func (s SignatureStrength) String() string {
	switch s {
	case SHA1:
		return "sha1"
	case MD5:
		return "md5"
	}
	return "sha256"
}

// strengthOf returns the strength of a signature.
func strengthOf(algorithm x509.SignatureAlgorithm) SignatureStrength {
	switch algorithm {
	case x509.MD5WithRSA:
		return MD5
	case x509.SHA1WithRSA, x509.ECDSAWithSHA1:
		return SHA1
	}
	return SHA256
}

// maxRSA bounds the keys that signatures are checked with, in bits.
const maxRSA = 8192

// minRSA is the smallest key that any policy may accept, in bits.
const minRSA = 1024

// minECDSA is the smallest curve that is accepted, in bits.
const minECDSA = 224

// checkSignature checks that issuer's key made the signature on cert, whatever
// its strength.
func checkSignature(cert, issuer *x509.Certificate) error {
	return checkSigned(issuer, cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature)
}

// checkSigned checks that issuer's key made the signature, whatever its strength.
// MD5 is checked by hand, as crypto/x509 refuses it.
func checkSigned(issuer *x509.Certificate, algorithm x509.SignatureAlgorithm, signed, signature []byte) error {
	if key, ok := issuer.PublicKey.(*rsa.PublicKey); ok {
		if bits := key.N.BitLen(); bits > maxRSA || bits < minRSA {
			return fmt.Errorf("issuer's RSA key has %d bits", bits)
		}
		if algorithm == x509.MD5WithRSA {
			sum := md5.Sum(signed)
			return rsa.VerifyPKCS1v15(key, crypto.MD5, sum[:], signature)
		}
	}
	// Unlike CheckSignatureFrom, this accepts SHA-1 and looks at nothing else.
	return issuer.CheckSignature(algorithm, signed, signature)
}

var errKeyKind = errors.New("has a key that is neither RSA, ECDSA nor Ed25519")

// keyFault returns an error if the certificate's key is weaker than the policy
// wants, or of a kind that is not accepted. rsaBits is 0 for other keys.
func keyFault(cert *x509.Certificate, weakestRSA int) (rsaBits int, err error) {
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		bits := key.N.BitLen()
		if bits < weakestRSA || bits > maxRSA {
			return bits, fmt.Errorf("has an RSA key of %d bits, accepted are %d to %d", bits, weakestRSA, maxRSA)
		}
		return bits, nil
	case *ecdsa.PublicKey:
		if bits := key.Curve.Params().BitSize; bits < minECDSA {
			return 0, fmt.Errorf("has an ECDSA key of %d bits", bits)
		}
		return 0, nil
	case ed25519.PublicKey:
		return 0, nil
	}
	return 0, errKeyKind
}

// KeyString describes the certificate's key for people: "RSA 1024", "ECDSA P-384".
func KeyString(cert *x509.Certificate) string {
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", key.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA " + key.Curve.Params().Name
	}
	return cert.PublicKeyAlgorithm.String()
}
