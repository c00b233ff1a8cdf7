//go:build cgo

package opensslrsa

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"io"
	"math/big"
	"runtime"
	"sync"

	"github.com/golang-fips/openssl/v2"
	"github.com/golang-fips/openssl/v2/bbig"

	"github.com/device-profile/caddy-device-profile/caddymodule"
)

// library is the shared library of OpenSSL 3, in the system's library path.
const library = "libcrypto.so.3"

func init() { caddymodule.UseRSA(sync.OnceValues(load)) }

func load() (*caddymodule.RSA, error) {
	if err := openssl.Init(library); err != nil {
		return nil, fmt.Errorf("loading %s: %w", library, err)
	}
	return &caddymodule.RSA{Name: openssl.VersionText(), Signer: newKey}, nil
}

// key is an RSA key that signs with OpenSSL. All else it does as Go does.
type key struct {
	*rsa.PrivateKey
	openssl *openssl.PrivateKeyRSA
}

// slots bounds how many signatures are made at once. More would gain nothing, but
// each call into C that waits for a processor holds a thread of its own.
var slots = make(chan struct{}, runtime.GOMAXPROCS(0))

func newKey(k *rsa.PrivateKey) (crypto.Signer, error) {
	if len(k.Primes) != 2 {
		return nil, fmt.Errorf("the key has %d primes, not 2", len(k.Primes))
	}
	values := k.Precomputed
	if values.Dp == nil {
		return nil, fmt.Errorf("the key has no precomputed values")
	}
	inC, err := openssl.NewPrivateKeyRSA(
		bbig.Enc(k.N), bbig.Enc(big.NewInt(int64(k.E))), bbig.Enc(k.D),
		bbig.Enc(k.Primes[0]), bbig.Enc(k.Primes[1]),
		bbig.Enc(values.Dp), bbig.Enc(values.Dq), bbig.Enc(values.Qinv))
	if err != nil {
		return nil, fmt.Errorf("OpenSSL does not take the key: %w", err)
	}
	signer := &key{k, inC}
	if err := signer.try(); err != nil {
		return nil, fmt.Errorf("OpenSSL does not sign with the key: %w", err)
	}
	return signer, nil
}

// try makes a signature of each kind. OpenSSL may be set up to take keys that it
// doesn't sign with.
func (k *key) try() error {
	digest := make([]byte, crypto.SHA256.Size())
	_, err := k.Sign(rand.Reader, digest, crypto.SHA256)
	if err == nil {
		_, err = k.Sign(rand.Reader, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256})
	}
	return err
}

// Sign signs a digest with SHA-2. Others, which TLS before 1.2 needs, are left to
// Go, as OpenSSL may be set up to refuse them.
func (k *key) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	switch hash := opts.HashFunc(); hash {
	case crypto.SHA256, crypto.SHA384, crypto.SHA512:
		slots <- struct{}{}
		defer func() { <-slots }()
		if pss, ok := opts.(*rsa.PSSOptions); ok {
			return openssl.SignRSAPSS(k.openssl, hash, digest, pss.SaltLength)
		}
		return openssl.SignRSAPKCS1v15(k.openssl, hash, digest)
	}
	return k.PrivateKey.Sign(random, digest, opts)
}
