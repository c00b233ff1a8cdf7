package deviceauthtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"

	// The hashes that certificates are signed with here.
	_ "crypto/md5"
	_ "crypto/sha1"
	_ "crypto/sha256"
	_ "crypto/sha512"
)

// certificate and tbsCertificate are RFC 5280's, as far as they have to be taken
// apart and put together again.
type certificate struct {
	TBS       tbsCertificate
	Algorithm pkix.AlgorithmIdentifier
	Signature asn1.BitString
}

type tbsCertificate struct {
	Version    int `asn1:"optional,explicit,default:0,tag:0"`
	Serial     *big.Int
	Algorithm  pkix.AlgorithmIdentifier
	Issuer     asn1.RawValue
	Validity   asn1.RawValue
	Subject    asn1.RawValue
	PublicKey  asn1.RawValue
	Extensions []pkix.Extension `asn1:"omitempty,optional,explicit,tag:3"`
}

type algorithmKey struct {
	ecdsa bool
	hash  crypto.Hash
}

// signatureOIDs are from RFC 3279, RFC 4055 and RFC 5758.
var signatureOIDs = map[algorithmKey]asn1.ObjectIdentifier{
	{false, crypto.MD5}:    {1, 2, 840, 113549, 1, 1, 4},
	{false, crypto.SHA1}:   {1, 2, 840, 113549, 1, 1, 5},
	{false, crypto.SHA256}: {1, 2, 840, 113549, 1, 1, 11},
	{false, crypto.SHA384}: {1, 2, 840, 113549, 1, 1, 12},
	{false, crypto.SHA512}: {1, 2, 840, 113549, 1, 1, 13},
	{true, crypto.SHA1}:    {1, 2, 840, 10045, 4, 1},
	{true, crypto.SHA256}:  {1, 2, 840, 10045, 4, 3, 2},
	{true, crypto.SHA384}:  {1, 2, 840, 10045, 4, 3, 3},
	{true, crypto.SHA512}:  {1, 2, 840, 10045, 4, 3, 4},
}

// sign makes the certificate. crypto/x509 builds it, but refuses MD5 and version
// 1; so its signed part is adjusted and signed again here.
func sign(s *settings, parent *x509.Certificate, parentKey crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, &s.template, parent, s.key.Public(), parentKey)
	if err != nil {
		return nil, err
	}
	var c certificate
	if _, err := asn1.Unmarshal(der, &c); err != nil {
		return nil, err
	}
	if s.v1 {
		c.TBS.Version, c.TBS.Extensions = 0, nil
	}
	if c.Algorithm, err = algorithm(parentKey, s.hash); err != nil {
		return nil, err
	}
	c.TBS.Algorithm = c.Algorithm
	tbs, err := asn1.Marshal(c.TBS)
	if err != nil {
		return nil, err
	}
	h := s.hash.New()
	h.Write(tbs)
	signature, err := parentKey.Sign(rand.Reader, h.Sum(nil), s.hash)
	if err != nil {
		return nil, err
	}
	c.Signature = asn1.BitString{Bytes: signature, BitLength: len(signature) * 8}
	if der, err = asn1.Marshal(c); err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func algorithm(key crypto.Signer, hash crypto.Hash) (pkix.AlgorithmIdentifier, error) {
	var id pkix.AlgorithmIdentifier
	switch key.(type) {
	case *rsa.PrivateKey:
		id = pkix.AlgorithmIdentifier{Algorithm: signatureOIDs[algorithmKey{false, hash}], Parameters: asn1.NullRawValue}
	case *ecdsa.PrivateKey:
		id = pkix.AlgorithmIdentifier{Algorithm: signatureOIDs[algorithmKey{true, hash}]}
	}
	if id.Algorithm == nil {
		return id, fmt.Errorf("can't sign with %T and %s", key, hash)
	}
	return id, nil
}
