package caddymodule

import (
	"crypto"
	"crypto/rsa"
	"crypto/tls"

	lru "github.com/hashicorp/golang-lru/v2"
	"go.uber.org/zap"
)

// RSA is an implementation of RSA signatures that takes the place of Go's in the
// handshakes of phones' sites. A signature is most of what a first contact costs.
type RSA struct {
	// Name is what it and its version are called in logs.
	Name string
	// Signer returns a key that signs as the given one does. Unless it is a
	// crypto.Decrypter too, RSA key exchange fails with it.
	Signer func(*rsa.PrivateKey) (crypto.Signer, error)
}

// loadRSA is nil if RSA is Go's own.
var loadRSA func() (*RSA, error)

// UseRSA makes phones' sites sign with an implementation of RSA that a build
// brings with it. It is for init functions. load is called when a config with
// such sites starts; while it returns an error, crypto/rsa signs, which the log says.
func UseRSA(load func() (*RSA, error)) { loadRSA = load }

// maxSiteKeys is for how many sites' keys signers are remembered.
const maxSiteKeys = 64

// siteSigner signs with the RSA keys of sites.
type siteSigner struct {
	*RSA
	keys   *lru.Cache[*rsa.PrivateKey, crypto.Signer]
	logger *zap.Logger
}

// newSiteSigner returns nil if the build has nothing but Go's RSA, or it can't be
// used.
func newSiteSigner(logger *zap.Logger) *siteSigner {
	if loadRSA == nil {
		return nil
	}
	implementation, err := loadRSA()
	if err != nil {
		logger.Warn("phones' sites sign with crypto/rsa, as this build's other RSA can't be used", zap.Error(err))
		return nil
	}
	keys, err := lru.New[*rsa.PrivateKey, crypto.Signer](maxSiteKeys)
	if err != nil {
		panic(err) // the size is above zero
	}
	logger.Info("phones' sites sign with an RSA other than Go's", zap.String("rsa", implementation.Name))
	return &siteSigner{implementation, keys, logger}
}

// wrap makes the certificates that get returns sign with their other key.
func (s *siteSigner) wrap(get func(*tls.ClientHelloInfo) (*tls.Certificate, error)) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if s == nil {
		return get
	}
	return func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		certificate, err := get(hello)
		if err != nil || certificate == nil {
			return nil, err
		}
		key, ok := certificate.PrivateKey.(*rsa.PrivateKey)
		if !ok {
			return certificate, nil
		}
		signing := *certificate
		signing.PrivateKey = s.signer(key)
		return &signing, nil
	}
}

// signer returns what signs for a key, the key itself if the implementation can't
// take it.
func (s *siteSigner) signer(key *rsa.PrivateKey) crypto.Signer {
	if signer, ok := s.keys.Get(key); ok {
		return signer
	}
	signer, err := s.Signer(key)
	if err != nil {
		s.logger.Warn("a site's key signs with crypto/rsa", zap.Int("bits", key.N.BitLen()), zap.String("rsa", s.Name), zap.Error(err))
		signer = key
	}
	s.keys.Add(key, signer)
	return signer
}
