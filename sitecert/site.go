package sitecert

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
)

// The bounds of KeySize, in bits, and its default.
const (
	MinKeySize     = 1024
	MaxKeySize     = 4096
	DefaultKeySize = 2048
)

// DefaultRenewBefore is the default of Config.RenewBefore.
const DefaultRenewBefore = 30 * 24 * time.Hour

// Config says what a site's certificate is to be.
type Config struct {
	Subject
	// KeySize is the size of keys made from now on, in bits.
	// Default: DefaultKeySize.
	KeySize int
	// RenewBefore is how long before its end a certificate counts as
	// expiring. Default: DefaultRenewBefore.
	RenewBefore time.Duration
	// Roots are the certificates that phones know: the chain of an installed
	// certificate must end at one. Default: it may end anywhere.
	Roots []*x509.Certificate
	// Storage holds all state.
	Storage certmagic.Storage
	// Logger gets what is done beside reading, and what fails without failing
	// the caller. Default: none.
	Logger *slog.Logger
	// Now is the clock. Default: time.Now.
	Now func() time.Time
}

// Site is one site's key and certificate. It is safe for concurrent use.
type Site struct {
	config Config
	store  store
	log    *slog.Logger
	access sync.Mutex // one at a time reads and writes the storage, and then the state
	state  atomic.Pointer[state]
}

// state is what an instance knows of a site. It doesn't change.
type state struct {
	record *record
	raw    []byte // the record, as stored
	key    *rsa.PrivateKey
	chain  []*x509.Certificate // as installed, or empty
	serve  *tls.Certificate
}

// Open returns the site with what storage has of it. What is missing it makes:
// a key and a CSR at first, another CSR if the subject has changed. Any number
// of instances may do so at once; they end up with the same key.
func Open(ctx context.Context, config Config) (*Site, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	s := &Site{config: config, store: store{config.Storage, config.FQDN, config.Now}, log: config.Logger.With("site", config.FQDN)}
	rec, raw, err := s.store.load(ctx)
	if err == nil && !s.subjectChanged(rec) {
		err = s.adopt(ctx, rec, raw) // storage may be read-only
	} else if err == nil {
		err = s.update(ctx, s.complete)
	}
	if errors.Is(err, fs.ErrNotExist) {
		// There is nothing yet, or another instance has just replaced the key.
		err = s.update(ctx, s.complete)
	}
	if err != nil {
		return nil, fmt.Errorf("site %s: %w", config.FQDN, err)
	}
	if bits := s.Status().KeySize; bits != config.KeySize {
		s.log.Warn("the key has another size than the config says, which holds for the next key", "bits", bits, "key_size", config.KeySize)
	}
	return s, nil
}

// check normalizes the config and fills in defaults.
func (c *Config) check() error {
	if err := c.normalize(); err != nil {
		return err
	}
	if c.KeySize == 0 {
		c.KeySize = DefaultKeySize
	}
	if c.KeySize < MinKeySize || c.KeySize > MaxKeySize {
		return fmt.Errorf("key size %d: is not between %d and %d bits", c.KeySize, MinKeySize, MaxKeySize)
	}
	if c.RenewBefore == 0 {
		c.RenewBefore = DefaultRenewBefore
	}
	if c.RenewBefore < 0 {
		return fmt.Errorf("renew before %s: is negative", c.RenewBefore)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return nil
}

// FQDN returns the site's name, in lower case and ASCII.
func (s *Site) FQDN() string { return s.config.FQDN }

// Names returns the further names of the certificate that is asked for.
func (s *Site) Names() []string { return s.config.Names }

// Certificate returns what is to be served: the installed certificate, or a
// self-signed one before there is one. It costs nothing.
func (s *Site) Certificate() *tls.Certificate { return s.state.Load().serve }

// CSR returns the request that waits to be signed, in PEM: that of the renewal
// if one is prepared.
func (s *Site) CSR() string {
	rec := s.state.Load().record
	if rec.Renewal != nil {
		return rec.Renewal.CSR
	}
	return rec.Current.CSR
}

// update changes the record under the site's lock and commits it, unless
// change says that there is nothing to do.
func (s *Site) update(ctx context.Context, change func(context.Context, *record) (changed bool, err error)) error {
	s.access.Lock()
	defer s.access.Unlock()
	if err := s.store.storage.Lock(ctx, s.store.lockName()); err != nil {
		return fmt.Errorf("locking the storage: %w", err)
	}
	defer func() {
		// Given back even if the caller has stopped waiting.
		if unlockErr := s.store.storage.Unlock(context.WithoutCancel(ctx), s.store.lockName()); unlockErr != nil {
			s.log.Error("the storage lock could not be given back", "error", unlockErr)
		}
	}()
	rec, raw, err := s.store.load(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		rec, err = &record{Version: recordVersion}, nil
	}
	if err != nil {
		return err
	}
	changed, err := change(ctx, rec)
	if err != nil {
		return err
	}
	if changed {
		if raw, err = s.store.save(ctx, rec); err != nil {
			return err
		}
		if err := s.store.deleteUnused(ctx, rec); err != nil {
			s.log.Warn("keys that are no longer used could not be deleted", "error", err)
		}
	}
	return s.adopt(ctx, rec, raw)
}

// complete makes what the record lacks: the first key and CSR, or a CSR for
// the subject as it is now.
func (s *Site) complete(ctx context.Context, rec *record) (bool, error) {
	if rec.Current != nil {
		return s.followSubject(ctx, rec)
	}
	var err error
	rec.Current, err = s.newRequest(ctx)
	s.log.Info("making a private key and a CSR", "key_size", s.config.KeySize)
	return true, err
}

func (s *Site) newRequest(ctx context.Context) (*request, error) {
	name, key, err := s.store.newKey(ctx, s.config.KeySize)
	if err != nil {
		return nil, err
	}
	req := &request{Key: name}
	return req, s.ask(req, key)
}

// ask makes the request's CSR for the subject as it is now.
func (s *Site) ask(req *request, key *rsa.PrivateKey) (err error) {
	req.Subject, req.Created = s.config.Subject, s.config.Now().UTC().Truncate(time.Second)
	req.CSR, err = req.Subject.requestPEM(key)
	return err
}

// subjectChanged reports whether the config asks for something else than the
// newest CSR does.
func (s *Site) subjectChanged(rec *record) bool {
	newest := rec.Current
	if rec.Renewal != nil {
		newest = rec.Renewal
	}
	return !newest.Subject.equal(s.config.Subject)
}

// followSubject asks for the subject that the config has now. A key that no
// certificate is for yet is kept: the vendor may be signing an earlier CSR.
func (s *Site) followSubject(ctx context.Context, rec *record) (bool, error) {
	if !s.subjectChanged(rec) {
		return false, nil
	}
	req := rec.Renewal
	if req == nil && rec.Current.Chain == "" {
		req = rec.Current
	}
	if req == nil {
		s.log.Warn("the subject has changed: preparing a renewal; the installed certificate stays in use until the new one is installed")
		return s.prepare(ctx, rec)
	}
	key, err := s.store.loadKey(ctx, req.Key)
	if err != nil {
		return false, err
	}
	s.log.Warn("the subject has changed: making a new CSR with the same key")
	return true, s.ask(req, key)
}

// prepare makes the key and CSR of a renewal, unless there is one.
func (s *Site) prepare(ctx context.Context, rec *record) (bool, error) {
	if rec.Renewal != nil {
		return false, nil
	}
	var err error
	rec.Renewal, err = s.newRequest(ctx)
	return true, err
}

// Renew prepares a second key and CSR beside the live ones, and returns the CSR.
// If one is prepared already, it is that one: the vendor may be signing it.
func (s *Site) Renew(ctx context.Context) (string, error) {
	if err := s.update(ctx, s.prepare); err != nil {
		return "", fmt.Errorf("site %s: preparing a renewal: %w", s.FQDN(), err)
	}
	return s.CSR(), nil
}

// Install checks a certificate that the CA sent (see ParseUpload), with its
// chain, and puts it into use, here at once and in other instances when they
// look next. The error is a *Refusal if the certificate is to blame, in which
// case nothing has changed.
func (s *Site) Install(ctx context.Context, upload []byte) (*Status, error) {
	certs, err := ParseUpload(upload)
	if err != nil {
		return nil, err
	}
	err = s.update(ctx, func(ctx context.Context, rec *record) (bool, error) { return s.install(ctx, rec, certs) })
	if err != nil {
		if refusal, ok := errors.AsType[*Refusal](err); ok {
			return nil, refusal
		}
		return nil, fmt.Errorf("site %s: installing the certificate: %w", s.FQDN(), err)
	}
	status := s.Status()
	return &status, nil
}

func (s *Site) install(ctx context.Context, rec *record, certs []*x509.Certificate) (bool, error) {
	if rec.Current == nil {
		return false, errors.New("its key and CSR have vanished from storage")
	}
	req, leaf, err := s.match(ctx, rec, certs)
	if err != nil {
		return false, err
	}
	now := s.config.Now()
	if err := checkLeaf(leaf, s.FQDN(), now); err != nil {
		return false, err
	}
	chain, err := sortChain(leaf, certs, s.config.Roots, now)
	if err != nil {
		return false, err
	}
	req.Chain, req.Installed = encode(chain), now.UTC().Truncate(time.Second)
	if req == rec.Renewal {
		rec.Current, rec.Renewal = req, nil
	}
	return true, nil
}

// match finds the request whose key one of the certificates is for.
func (s *Site) match(ctx context.Context, rec *record, certs []*x509.Certificate) (*request, *x509.Certificate, error) {
	for _, req := range []*request{rec.Renewal, rec.Current} {
		if req == nil {
			continue
		}
		key, err := s.store.loadKey(ctx, req.Key)
		if err != nil {
			return nil, nil, err
		}
		if leaf := findLeaf(certs, &key.PublicKey); leaf != nil {
			return req, leaf, nil
		}
	}
	return nil, nil, refuse(ReasonOtherKey, "the certificate of %s is not for the key of a CSR of %s", certs[0].Subject, s.FQDN())
}

// Refresh takes over what another instance has changed, and reports whether
// there was something.
func (s *Site) Refresh(ctx context.Context) (bool, error) {
	s.access.Lock()
	defer s.access.Unlock()
	rec, raw, err := s.store.load(ctx)
	if err != nil {
		return false, fmt.Errorf("site %s: %w", s.FQDN(), err)
	}
	if bytes.Equal(raw, s.state.Load().raw) {
		return false, nil
	}
	if err := s.adopt(ctx, rec, raw); err != nil {
		return false, fmt.Errorf("site %s: %w", s.FQDN(), err)
	}
	return true, nil
}

// adopt makes the record the instance's state.
func (s *Site) adopt(ctx context.Context, rec *record, raw []byte) error {
	key, err := s.store.loadKey(ctx, rec.Current.Key)
	if err != nil {
		return err
	}
	next := &state{record: rec, raw: raw, key: key}
	if rec.Current.Chain == "" {
		next.serve, err = s.selfSign(key)
	} else if next.chain, err = parseInstalled(rec.Current.Chain, key); err == nil {
		next.serve = serving(next.chain, key)
	}
	if err != nil {
		return err
	}
	s.state.Store(next)
	return nil
}

// parseInstalled reads a chain that was installed for the key.
func parseInstalled(chainPEM string, key *rsa.PrivateKey) ([]*x509.Certificate, error) {
	chain, err := parsePEM([]byte(chainPEM))
	if err != nil || len(chain) == 0 || !key.PublicKey.Equal(chain[0].PublicKey) {
		return nil, errors.New("the certificate in storage is damaged, or not for the key there")
	}
	return chain, nil
}

// serving returns the chain as it is sent: without a root, which phones have
// themselves or won't believe.
func serving(chain []*x509.Certificate, key *rsa.PrivateKey) *tls.Certificate {
	cert := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		if c != chain[0] && selfSigned(c) {
			continue
		}
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return cert
}

func encode(chain []*x509.Certificate) string {
	var text strings.Builder
	for _, cert := range chain {
		_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}) // a Builder takes everything
	}
	return text.String()
}
