package deviceauth

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// Bounds on CRLs.
const (
	// MaxCRL is the largest file or answer that CRLs are read from, in bytes.
	// It has room for some 400,000 revoked certificates.
	MaxCRL = 16 << 20
	// maxCRLs is how many CRLs may be in one file.
	maxCRLs = 256
	// maxRevoked is how many revoked certificates a trust may have.
	maxRevoked = 1_000_000
)

// CRL is a certificate revocation list (RFC 5280, section 5). It counts for
// nothing until a [Trust] has checked who signed it.
type CRL struct {
	// Source is where it was read: a file's name or a URL.
	Source string
	// Issuer is the name of the CA that says to have issued it.
	Issuer pkix.Name
	// ThisUpdate is when it was issued.
	ThisUpdate time.Time
	// NextUpdate is by when the next one is issued, or zero.
	NextUpdate time.Time
	// Number is its CRL number, or nil.
	Number *big.Int

	issuer    string // name key
	keyID     string // of the key that signed it, as it says; may be empty
	revoked   map[string]revocation
	algorithm x509.SignatureAlgorithm
	signed    []byte
	signature []byte
}

// revocation is an entry of a CRL.
type revocation struct {
	at     int64 // Unix time
	reason int   // RFC 5280, section 5.3.1
}

// The extensions of CRLs and of their entries that are understood or named.
var (
	oidCRLNumber          = asn1.ObjectIdentifier{2, 5, 29, 20}
	oidReasonCode         = asn1.ObjectIdentifier{2, 5, 29, 21}
	oidInvalidityDate     = asn1.ObjectIdentifier{2, 5, 29, 24}
	oidDeltaCRL           = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidIssuingPoint       = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidCertificateIssuer  = asn1.ObjectIdentifier{2, 5, 29, 29}
	oidAuthorityKeyID     = asn1.ObjectIdentifier{2, 5, 29, 35}
	knownCRLExtensions    = []asn1.ObjectIdentifier{oidCRLNumber, oidAuthorityKeyID}
	knownEntryExtensions  = []asn1.ObjectIdentifier{oidReasonCode, oidInvalidityDate}
	errIndirect           = errors.New("is an indirect CRL (it lists other CAs' certificates), which is not supported")
	errDelta              = errors.New("is a delta CRL, which is not supported: use the complete one")
	errPartitioned        = errors.New("covers only some of its CA's certificates (issuing distribution point), which is not supported: use the complete CRL")
	errUnknownCRLSigner   = errors.New("is not among the trust's CA certificates: add it, if it is genuine")
	errVersion1           = errors.New("is a CRL of version 1, which is not supported: have it issued as version 2, with a CRL number")
	errTrailing           = errors.New("has data behind its end")
	errCRLSigning         = errors.New("may not sign CRLs by its key usage")
	errTooManyRevocations = fmt.Errorf("more than %d revoked certificates", maxRevoked)
)

// ParseCRLs reads the CRLs in PEM data, or the one in DER data; text around PEM
// blocks is ignored. There is at least one, or an error. Delta, indirect and
// partitioned CRLs, and those with critical extensions that are not understood,
// are errors. source stands in errors.
func ParseCRLs(source string, data []byte) ([]*CRL, error) {
	if len(data) > MaxCRL {
		return nil, fmt.Errorf("%s: is larger than %d bytes", source, MaxCRL)
	}
	ders, err := derBlocks(data, "CRL", "X509 CRL")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	if len(ders) > maxCRLs {
		return nil, fmt.Errorf("%s: holds %d CRLs, more than %d", source, len(ders), maxCRLs)
	}
	crls := make([]*CRL, len(ders))
	for i, der := range ders {
		if crls[i], err = parseCRL(source, der); err != nil {
			return nil, fmt.Errorf("%s: CRL %d %w", source, i+1, err)
		}
	}
	return crls, nil
}

func parseCRL(source string, der []byte) (*CRL, error) {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		if isVersion1(der) {
			return nil, errVersion1
		}
		return nil, fmt.Errorf("can't be read: %w", err)
	}
	if len(list.Raw) != len(der) {
		return nil, errTrailing
	}
	if err := crlExtensionFault(list); err != nil {
		return nil, err
	}
	crl := &CRL{
		Source: source, Issuer: list.Issuer, ThisUpdate: list.ThisUpdate, NextUpdate: list.NextUpdate, Number: list.Number,
		issuer: nameKey(list.RawIssuer), keyID: string(list.AuthorityKeyId),
		algorithm: list.SignatureAlgorithm, signed: list.RawTBSRevocationList, signature: list.Signature,
		revoked: make(map[string]revocation, len(list.RevokedCertificateEntries)),
	}
	for _, entry := range list.RevokedCertificateEntries {
		if err := entryFault(entry); err != nil {
			return nil, err
		}
		crl.revoked[serialKey(entry.SerialNumber)] = revocation{at: entry.RevocationTime.Unix(), reason: entry.ReasonCode}
	}
	return crl, nil
}

// isVersion1 reports whether der looks like a CRL without a version.
func isVersion1(der []byte) bool {
	var list struct {
		TBS       struct{ Algorithm pkix.AlgorithmIdentifier }
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	_, err := asn1.Unmarshal(der, &list)
	return err == nil
}

func crlExtensionFault(list *x509.RevocationList) error {
	for _, extension := range list.Extensions {
		switch {
		case extension.Id.Equal(oidDeltaCRL):
			return errDelta
		case extension.Id.Equal(oidIssuingPoint):
			return issuingPointFault(extension.Value)
		case extension.Critical && !slices.ContainsFunc(knownCRLExtensions, extension.Id.Equal):
			return fmt.Errorf("has the critical extension %s, which is not supported", extension.Id)
		}
	}
	return nil
}

// issuingPointFault says why an issuing distribution point (RFC 5280, section
// 5.2.5) is not supported.
func issuingPointFault(value []byte) error {
	var point struct {
		Name       asn1.RawValue  `asn1:"optional,tag:0"`
		OnlyUsers  bool           `asn1:"optional,tag:1"`
		OnlyCAs    bool           `asn1:"optional,tag:2"`
		Reasons    asn1.BitString `asn1:"optional,tag:3"`
		Indirect   bool           `asn1:"optional,tag:4"`
		Attributes bool           `asn1:"optional,tag:5"`
	}
	if _, err := asn1.Unmarshal(value, &point); err == nil && point.Indirect {
		return errIndirect
	}
	return errPartitioned
}

func entryFault(entry x509.RevocationListEntry) error {
	for _, extension := range entry.Extensions {
		if extension.Id.Equal(oidCertificateIssuer) {
			return errIndirect
		}
		if extension.Critical && !slices.ContainsFunc(knownEntryExtensions, extension.Id.Equal) {
			return fmt.Errorf("has an entry with the critical extension %s, which is not supported", extension.Id)
		}
	}
	return nil
}

// serialKey is a serial number as a key of a map. Bytes never begins with 0.
func serialKey(serial *big.Int) string {
	if serial.Sign() < 0 {
		return "\x00" + string(serial.Bytes())
	}
	return string(serial.Bytes())
}

// Entries returns how many certificates the CRL lists.
func (c *CRL) Entries() int { return len(c.revoked) }

// Overdue reports whether the CRL is past its nextUpdate.
func (c *CRL) Overdue(now time.Time) bool { return !c.NextUpdate.IsZero() && now.After(c.NextUpdate) }

// String names the CRL by its issuer, number and date.
func (c *CRL) String() string {
	number := "without a number"
	if c.Number != nil {
		number = "number " + c.Number.String()
	}
	return fmt.Sprintf("CRL of %s, %s, of %s", c.Issuer, number, c.ThisUpdate.UTC().Format(time.DateTime))
}

// olderThan orders the CRLs of one issuer by their date, then by their number.
func (c *CRL) olderThan(other *CRL) bool {
	if !c.ThisUpdate.Equal(other.ThisUpdate) {
		return c.ThisUpdate.Before(other.ThisUpdate)
	}
	return c.Number != nil && other.Number != nil && c.Number.Cmp(other.Number) < 0
}

// CheckSuccession returns an error unless crls may take the place of last: each
// issuer of last must be there still, and with no older CRL.
func CheckSuccession(crls, last []*CRL) error {
	for _, old := range last {
		same := func(c *CRL) bool { return c.issuer == old.issuer && c.keyID == old.keyID }
		i := slices.IndexFunc(crls, same)
		if i < 0 {
			return fmt.Errorf("%s: a CRL of %s was there, and is no more", old.Source, old.Issuer)
		}
		if newest := newestOf(crls[i:], same); newest.olderThan(old) {
			return fmt.Errorf("%s: the %s is older than the one in use, of %s", newest.Source, newest, old.ThisUpdate.UTC().Format(time.DateTime))
		}
	}
	return nil
}

func newestOf(crls []*CRL, belongs func(*CRL) bool) *CRL {
	newest := crls[0]
	for _, c := range crls[1:] {
		if belongs(c) && newest.olderThan(c) {
			newest = c
		}
	}
	return newest
}
