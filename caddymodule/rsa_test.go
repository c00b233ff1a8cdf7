package caddymodule

import (
	"crypto"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	dt "github.com/device-profile/caddy-device-profile/deviceauth/deviceauthtest"
)

// countingKey counts what it signs.
type countingKey struct {
	*rsa.PrivateKey
	signed *atomic.Int64
}

func (k countingKey) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	k.signed.Add(1)
	return k.PrivateKey.Sign(random, digest, opts)
}

// useRSA makes the tests' build have another RSA.
func useRSA(t *testing.T, load func() (*RSA, error)) {
	before := loadRSA
	UseRSA(load)
	t.Cleanup(func() { loadRSA = before })
}

// handshake connects a client to a server with certificates from get.
func handshake(t *testing.T, get func(*tls.ClientHelloInfo) (*tls.Certificate, error), version uint16) {
	t.Helper()
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	served := make(chan error, 1)
	go func() {
		served <- tls.Server(server, &tls.Config{GetCertificate: get, MinVersion: tls.VersionTLS10, SessionTicketsDisabled: true}).Handshake()
	}()
	err := tls.Client(client, &tls.Config{ServerName: "prov.example.com", InsecureSkipVerify: true, MinVersion: version, MaxVersion: version}).Handshake()
	if err := errors.Join(err, <-served); err != nil {
		t.Error(err)
	}
}

func TestSiteSigner(t *testing.T) {
	ca, err := dt.NewRoot(pkix.Name{CommonName: "Site CA"})
	if err != nil {
		t.Fatal(err)
	}
	withRSA, err := ca.Issue(pkix.Name{CommonName: "prov.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	withCurve, err := ca.Issue(pkix.Name{CommonName: "prov.example.com"}, dt.ECDSA(elliptic.P256()))
	if err != nil {
		t.Fatal(err)
	}
	getter := func(id *dt.Identity) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		certificate := id.TLS()
		return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &certificate, nil }
	}
	var made, signed atomic.Int64
	works := func() (*RSA, error) {
		return &RSA{"quick", func(k *rsa.PrivateKey) (crypto.Signer, error) {
			made.Add(1)
			return countingKey{k, &signed}, nil
		}}, nil
	}
	for _, tt := range []struct {
		name        string
		load        func() (*RSA, error)
		site        *dt.Identity
		made, signs int64
		warnings    int
	}{
		{"none", nil, withRSA, 0, 0, 0},
		{"another", works, withRSA, 1, 2, 0},
		{"no RSA key", works, withCurve, 0, 0, 0},
		{"not there", func() (*RSA, error) { return nil, errors.New("no library") }, withRSA, 0, 0, 1},
		{"takes no key", func() (*RSA, error) {
			return &RSA{"picky", func(*rsa.PrivateKey) (crypto.Signer, error) {
				made.Add(1)
				return nil, errors.New("no such key")
			}}, nil
		}, withRSA, 1, 0, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			made.Store(0)
			signed.Store(0)
			useRSA(t, tt.load)
			core, logs := observer.New(zapcore.WarnLevel)
			get := newSiteSigner(zap.New(core)).wrap(getter(tt.site))
			handshake(t, get, tls.VersionTLS12)
			handshake(t, get, tls.VersionTLS13)
			if made.Load() != tt.made || signed.Load() != tt.signs {
				t.Errorf("%d keys were made and %d signatures, want %d and %d", made.Load(), signed.Load(), tt.made, tt.signs)
			}
			if logs.Len() != tt.warnings {
				t.Errorf("%d warnings, want %d: %v", logs.Len(), tt.warnings, logs.All())
			}
		})
	}
	t.Run("no certificate", func(t *testing.T) {
		useRSA(t, works)
		for _, want := range []error{errors.New("no certificate"), nil} {
			get := newSiteSigner(zap.NewNop()).wrap(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, want })
			if certificate, err := get(new(tls.ClientHelloInfo)); certificate != nil || !errors.Is(err, want) {
				t.Errorf("got %v, %v, want %v", certificate, err, want)
			}
		}
	})
}
