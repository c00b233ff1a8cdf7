package deviceauthtest

import (
	"crypto"
	"crypto/rand"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"time"
)

// revocationList and what is in it are RFC 5280's. crypto/x509 could make the
// sound ones among the CRLs that are wanted here.
type revocationList struct {
	TBS       tbsRevocationList
	Algorithm pkix.AlgorithmIdentifier
	Signature asn1.BitString
}

type tbsRevocationList struct {
	Version    int `asn1:"optional,default:0"`
	Algorithm  pkix.AlgorithmIdentifier
	Issuer     asn1.RawValue
	ThisUpdate time.Time        `asn1:"utc"`
	NextUpdate time.Time        `asn1:"utc,optional"`
	Revoked    []RevokedEntry   `asn1:"omitempty,optional"`
	Extensions []pkix.Extension `asn1:"omitempty,optional,explicit,tag:0"`
}

// RevokedEntry is an entry of a CRL.
type RevokedEntry struct {
	Serial     *big.Int
	At         time.Time        `asn1:"utc"`
	Extensions []pkix.Extension `asn1:"omitempty,optional"`
}

// crlSettings are what the options of a CRL set.
type crlSettings struct {
	tbs  tbsRevocationList
	hash crypto.Hash
}

// CRLOption changes a CRL that is about to be made.
type CRLOption func(*crlSettings)

// Revoke lists certificates.
func Revoke(ids ...*Identity) CRLOption {
	return func(s *crlSettings) {
		for _, id := range ids {
			RevokeEntry(RevokedEntry{Serial: id.Cert.SerialNumber, At: time.Now()})(s)
		}
	}
}

// RevokeEntry adds an entry.
func RevokeEntry(entry RevokedEntry) CRLOption {
	return func(s *crlSettings) {
		entry.At = entry.At.UTC().Truncate(time.Second)
		s.tbs.Revoked = append(s.tbs.Revoked, entry)
	}
}

// CRLHash signs the CRL with another hash than crypto.SHA256.
func CRLHash(hash crypto.Hash) CRLOption { return func(s *crlSettings) { s.hash = hash } }

// Updates sets when the CRL was issued, and when the next one will be; zero to
// leave that out. The default is a minute ago, and in a day.
func Updates(this, next time.Time) CRLOption {
	return func(s *crlSettings) {
		s.tbs.ThisUpdate, s.tbs.NextUpdate = this.UTC().Truncate(time.Second), next.UTC().Truncate(time.Second)
		if next.IsZero() {
			s.tbs.NextUpdate = time.Time{}
		}
	}
}

// CRLNumber sets the CRL number. The default is 1.
func CRLNumber(n int64) CRLOption {
	return CRLExtension(pkix.Extension{Id: oidCRLNumber, Value: Must(asn1.Marshal(big.NewInt(n)))})
}

// CRLExtension adds an extension, or replaces the one of its kind.
func CRLExtension(extension pkix.Extension) CRLOption {
	return func(s *crlSettings) {
		for i, old := range s.tbs.Extensions {
			if old.Id.Equal(extension.Id) {
				s.tbs.Extensions[i] = extension
				return
			}
		}
		s.tbs.Extensions = append(s.tbs.Extensions, extension)
	}
}

// CRLVersion1 leaves out version and extensions.
func CRLVersion1() CRLOption {
	return func(s *crlSettings) { s.tbs.Version, s.tbs.Extensions = 0, nil }
}

var (
	oidCRLNumber      = asn1.ObjectIdentifier{2, 5, 29, 20}
	oidAuthorityKeyID = asn1.ObjectIdentifier{2, 5, 29, 35}
)

// CRL makes a revocation list in DER, signed by this identity, whether or not
// that may sign CRLs.
func (i *Identity) CRL(options ...CRLOption) ([]byte, error) {
	s := &crlSettings{hash: crypto.SHA256}
	s.tbs = tbsRevocationList{Version: 1, Issuer: asn1.RawValue{FullBytes: i.Cert.RawSubject}}
	Updates(time.Now().Add(-time.Minute), time.Now().AddDate(0, 0, 1))(s)
	CRLNumber(1)(s)
	if len(i.Cert.SubjectKeyId) > 0 {
		id, err := asn1.Marshal(struct {
			ID []byte `asn1:"tag:0"`
		}{i.Cert.SubjectKeyId})
		if err != nil {
			return nil, err
		}
		CRLExtension(pkix.Extension{Id: oidAuthorityKeyID, Value: id})(s)
	}
	for _, option := range options {
		option(s)
	}
	var err error
	if s.tbs.Algorithm, err = algorithm(i.Key, s.hash); err != nil {
		return nil, err
	}
	signed, err := asn1.Marshal(s.tbs)
	if err != nil {
		return nil, err
	}
	h := s.hash.New()
	h.Write(signed)
	signature, err := i.Key.Sign(rand.Reader, h.Sum(nil), s.hash)
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(revocationList{s.tbs, s.tbs.Algorithm, asn1.BitString{Bytes: signature, BitLength: len(signature) * 8}})
}

// CRLPEM returns CRLs in PEM.
func CRLPEM(ders ...[]byte) []byte {
	var out []byte
	for _, der := range ders {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})...)
	}
	return out
}
