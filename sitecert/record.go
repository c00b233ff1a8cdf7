package sitecert

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
)

// record is all that is known of a site but its keys. It is stored as one
// value, so that a change happens at once or not at all. Keys are stored before
// the record that names them, never overwritten, and deleted only once no record
// names them any more: whenever a process dies, no key is lost that a CSR or a
// certificate is for.
type record struct {
	Version int      `json:"version"`
	Current *request `json:"current"`
	Renewal *request `json:"renewal,omitempty"`
}

// recordVersion is the version of the stored form.
const recordVersion = 1

// request is a key with its CSR and, once installed, its certificate.
type request struct {
	// Key is the name of the key's file in storage.
	Key     string    `json:"key"`
	Subject Subject   `json:"subject"`
	Created time.Time `json:"created"`
	// CSR and Chain are in PEM. The chain begins with the site's certificate.
	CSR       string    `json:"csr"`
	Chain     string    `json:"chain,omitempty"`
	Installed time.Time `json:"installed,omitzero"`
}

// store reads and writes the state of one site.
type store struct {
	storage certmagic.Storage
	fqdn    string
	now     func() time.Time
}

func (s store) folder() string {
	return path.Join("device_profile", "sites", certmagic.StorageKeys.Safe(s.fqdn))
}

func (s store) recordKey() string { return path.Join(s.folder(), "site.json") }

func (s store) keysFolder() string { return path.Join(s.folder(), "keys") }

func (s store) keyKey(name string) string { return path.Join(s.keysFolder(), name) }

func (s store) lockName() string { return "device_profile_site_" + s.fqdn }

// load returns the record, with its stored form. A site without one yields
// fs.ErrNotExist.
func (s store) load(ctx context.Context) (*record, []byte, error) {
	raw, err := s.storage.Load(ctx, s.recordKey())
	if err != nil {
		return nil, nil, fmt.Errorf("reading %s from storage: %w", s.recordKey(), err)
	}
	rec := new(record)
	if err := json.Unmarshal(raw, rec); err != nil {
		return nil, nil, fmt.Errorf("%s in storage is damaged: %w", s.recordKey(), err)
	}
	if rec.Version != recordVersion || rec.Current == nil {
		return nil, nil, fmt.Errorf("%s in storage is of version %d, which this program doesn't know", s.recordKey(), rec.Version)
	}
	return rec, raw, nil
}

// save commits the record, and returns its stored form.
func (s store) save(ctx context.Context, rec *record) ([]byte, error) {
	raw, err := json.MarshalIndent(rec, "", "\t")
	if err != nil {
		return nil, err
	}
	if err := s.storage.Store(ctx, s.recordKey(), raw); err != nil {
		return nil, fmt.Errorf("writing %s to storage: %w", s.recordKey(), err)
	}
	return raw, nil
}

// newKey makes a key and stores it.
func (s store) newKey(ctx context.Context, bits int) (name string, key *rsa.PrivateKey, err error) {
	key, err = rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return "", nil, fmt.Errorf("making a key of %d bits: %w", bits, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", nil, fmt.Errorf("making a key of %d bits: %w", bits, err)
	}
	name = s.now().UTC().Format(keyTime) + "-" + rand.Text()[:8] + ".pem"
	data := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := s.storage.Store(ctx, s.keyKey(name), data); err != nil {
		return "", nil, fmt.Errorf("writing the private key to storage: %w", err)
	}
	return name, key, nil
}

// loadKey reads a key.
func (s store) loadKey(ctx context.Context, name string) (*rsa.PrivateKey, error) {
	data, err := s.storage.Load(ctx, s.keyKey(name))
	if err != nil {
		return nil, fmt.Errorf("reading the private key %s from storage: %w", s.keyKey(name), err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("the private key %s in storage is damaged", s.keyKey(name))
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the private key %s in storage is damaged", s.keyKey(name)) // what is wrong with it could quote it
	}
	rsaKey, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("the private key %s in storage is no RSA key", s.keyKey(name))
	}
	return rsaKey, nil
}

// keyTime is the form of the time with which a key's name begins.
const keyTime = "20060102T150405"

// keepUnused is how long a key is kept that no record names. Locks of a storage
// can fail: another process may be about to commit a record that names it.
const keepUnused = 24 * time.Hour

// deleteUnused deletes old keys that the record doesn't name: those of
// certificates that were replaced, and of processes that died before they could
// commit one.
func (s store) deleteUnused(ctx context.Context, rec *record) error {
	keys, err := s.storage.List(ctx, s.keysFolder(), false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listing %s in storage: %w", s.keysFolder(), err)
	}
	var faults []error
	for _, key := range keys {
		name := path.Base(key)
		if name == rec.Current.Key || rec.Renewal != nil && name == rec.Renewal.Key {
			continue
		}
		stamp, _, _ := strings.Cut(name, "-")
		if made, err := time.Parse(keyTime, stamp); err == nil && s.now().Sub(made) > keepUnused {
			faults = append(faults, s.storage.Delete(ctx, key))
		}
	}
	return errors.Join(faults...)
}
