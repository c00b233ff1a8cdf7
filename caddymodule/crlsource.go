package caddymodule

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/device-profile/caddy-device-profile/deviceauth"
)

const (
	// defaultCRLRefresh is the default of Trust.CRLRefresh.
	defaultCRLRefresh = time.Hour
	// crlRetry is when a URL that failed is tried again, at the latest.
	crlRetry = time.Minute
	// crlTimeout bounds one fetch, connecting included.
	crlTimeout = 15 * time.Second
)

// crlSource is a file or a URL with CRLs, and what it gave last.
type crlSource struct {
	name    string
	url     bool
	every   time.Duration     // between two fetches
	storage certmagic.Storage // of a URL
	client  *http.Client      // of a URL

	crls  []*deviceauth.CRL // the last good ones
	sum   [sha256.Size]byte // of the data that they were read from
	store []byte            // the data, until it is in storage
	next  time.Time         // when to fetch again

	found    crlAnswer // what was read, until it is decided on
	etag     string    // of the last good answer
	modified string
}

// crlAnswer is what a source holds now.
type crlAnswer struct {
	asked          bool
	data           []byte // nil if nothing is new
	etag, modified string
	err            error
}

func newCRLSource(name string, every time.Duration, storage func() certmagic.Storage) (*crlSource, error) {
	s := &crlSource{name: name, every: every}
	if !strings.Contains(name, "://") {
		return s, nil
	}
	target, err := url.Parse(name)
	if err != nil || target.Scheme != "http" && target.Scheme != "https" || target.Host == "" {
		return nil, fmt.Errorf("crl %s: is neither a file nor an http or https URL", name)
	}
	if target.User != nil {
		return nil, fmt.Errorf("crl %s: a password in the URL is not supported", target.Redacted())
	}
	s.url, s.storage = true, storage()
	if s.every == 0 {
		s.every = defaultCRLRefresh
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true // the next fetch is far away
	s.client = &http.Client{Transport: transport, Timeout: crlTimeout, CheckRedirect: sameHost}
	return s, nil
}

// sameHost refuses redirects to other hosts: the config names the one that is meant.
func sameHost(req *http.Request, via []*http.Request) error {
	if first := via[0].URL; req.URL.Host != first.Host || req.URL.Scheme != first.Scheme {
		return fmt.Errorf("redirects to another host, %s", req.URL.Host)
	}
	if len(via) > 5 {
		return errors.New("redirects too often")
	}
	return nil
}

// look reads what the source holds now. A URL is not asked before its time.
func (s *crlSource) look(ctx context.Context) {
	s.found = crlAnswer{}
	if !s.url {
		s.found.data, s.found.err = readCRLFile(s.name)
		s.found.asked = true
		return
	}
	if time.Now().Before(s.next) {
		return
	}
	s.found = s.fetch(ctx)
	s.found.asked = true
	s.next = time.Now().Add(s.every)
	if s.found.err != nil {
		s.tryAgainSoon()
	}
}

func (s *crlSource) tryAgainSoon() { s.next = time.Now().Add(min(s.every, crlRetry)) }

func readCRLFile(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: is no regular file", name)
	}
	if info.Size() > deviceauth.MaxCRL {
		return nil, fmt.Errorf("%s: is larger than %d bytes", name, deviceauth.MaxCRL)
	}
	data, err := os.ReadFile(name)
	if data == nil {
		data = []byte{} // empty is not unchanged
	}
	return data, err
}

func (s *crlSource) fetch(ctx context.Context) crlAnswer {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.name, nil)
	if err != nil {
		return crlAnswer{err: err}
	}
	setIfAny(req.Header, "If-None-Match", s.etag)
	setIfAny(req.Header, "If-Modified-Since", s.modified)
	resp, err := s.client.Do(req)
	if err != nil {
		return crlAnswer{err: err}
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotModified && s.crls != nil {
		return crlAnswer{}
	}
	if resp.StatusCode != http.StatusOK {
		return crlAnswer{err: fmt.Errorf("%s: answered %s", s.name, resp.Status)}
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, deviceauth.MaxCRL+1))
	if err != nil {
		return crlAnswer{err: fmt.Errorf("%s: %w", s.name, err)}
	}
	return crlAnswer{data: data, etag: resp.Header.Get("ETag"), modified: resp.Header.Get("Last-Modified")}
}

// decide takes over what was found, if accept does. It reports whether that is
// anything new.
func (s *crlSource) decide(accept func([]*deviceauth.CRL) error) (changed bool, err error) {
	defer func() { s.found.data = nil }()
	if s.found.err != nil || s.found.data == nil {
		return false, s.found.err
	}
	sum := sha256.Sum256(s.found.data)
	if s.crls != nil && sum == s.sum {
		return false, nil
	}
	crls, err := deviceauth.ParseCRLs(s.name, s.found.data)
	if err == nil {
		err = accept(crls)
	}
	if err != nil {
		s.tryAgainSoon()
		return false, err
	}
	s.crls, s.sum, s.etag, s.modified = crls, sum, s.found.etag, s.found.modified
	if s.url {
		s.store = s.found.data
	}
	return true, nil
}

// storageKey is where the last good answer of a URL is kept.
func (s *crlSource) storageKey() string {
	sum := sha256.Sum256([]byte(s.name))
	return "device_profile/crls/" + hex.EncodeToString(sum[:]) + ".crl"
}

// restore takes over the last good answer that is in storage, if accept does.
func (s *crlSource) restore(ctx context.Context, accept func([]*deviceauth.CRL) error) error {
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	data, err := s.storage.Load(ctx, s.storageKey())
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("no earlier one is in storage")
	}
	if err != nil {
		return fmt.Errorf("reading the earlier one in storage: %w", err)
	}
	s.found = crlAnswer{data: data}
	if _, err := s.decide(accept); err != nil {
		return fmt.Errorf("the earlier one in storage: %w", err)
	}
	s.store = nil // it is there
	return nil
}

// save puts a new answer of a URL into storage.
func (s *crlSource) save(ctx context.Context) error {
	if s.store == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	if err := s.storage.Store(ctx, s.storageKey(), s.store); err != nil {
		return err
	}
	s.store = nil
	return nil
}
