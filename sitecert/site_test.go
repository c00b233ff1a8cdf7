package sitecert

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	dt "github.com/device-profile/caddy-device-profile/deviceauth/deviceauthtest"
)

const fqdn = "prov.example.com"

// config is one of a small key, to be fast.
func config(storage certmagic.Storage) Config {
	return Config{Subject: Subject{FQDN: fqdn, Organization: "Example"}, KeySize: 1024, Storage: storage}
}

func open(t *testing.T, c Config) *Site {
	t.Helper()
	s, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func parseCSR(t *testing.T, text string) *x509.CertificateRequest {
	t.Helper()
	block, rest := pem.Decode([]byte(text))
	if block == nil || len(rest) > 0 {
		t.Fatalf("no single PEM block: %q", text)
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := csr.CheckSignature(); err != nil {
		t.Fatal(err)
	}
	return csr
}

// vendor is the CA of a phone vendor: a root and an issuer below it.
type vendor struct{ root, issuer *dt.Identity }

func newVendor() vendor {
	root := dt.Must(dt.NewRoot(pkix.Name{CommonName: "Vendor Root"}, dt.RSA(1024)))
	return vendor{root, dt.Must(root.NewCA(pkix.Name{CommonName: "Vendor Issuing CA"}, dt.RSA(1024)))}
}

// sign signs a CSR.
func (v vendor) sign(t *testing.T, csr string, options ...dt.Option) *x509.Certificate {
	t.Helper()
	req := parseCSR(t, csr)
	names := dt.Template(func(c *x509.Certificate) { c.DNSNames, c.ExtKeyUsage = req.DNSNames, nil })
	return dt.Must(v.issuer.Issue(req.Subject, append([]dt.Option{names, dt.For(req.PublicKey)}, options...)...)).Cert
}

func install(t *testing.T, s *Site, certs ...*x509.Certificate) {
	t.Helper()
	if _, err := s.Install(t.Context(), dt.PEM(certs...)); err != nil {
		t.Fatal(err)
	}
}

func TestLifeOfACertificate(t *testing.T) {
	v, storage := newVendor(), newMemory()
	now := time.Now()
	c := config(storage)
	c.Now = func() time.Time { return now }
	s := open(t, c)

	// Before there is a certificate.
	first := s.CSR()
	if status := s.Status(); status.State != StateAwaiting || status.Renewal != nil {
		t.Errorf("at first: got %+v", status)
	}
	if leaf := s.Certificate().Leaf; leaf.VerifyHostname(fqdn) != nil || leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature) != nil {
		t.Errorf("at first: served %s, not a self-signed certificate for the FQDN", leaf.Subject)
	}
	if again := open(t, c); again.CSR() != first {
		t.Error("a second start made another CSR")
	}

	// The certificate comes.
	cert := v.sign(t, first, dt.Valid(now.Add(-time.Hour), now.AddDate(1, 0, 0)))
	install(t, s, cert, v.issuer.Cert, v.root.Cert)
	if status := s.Status(); status.State != StateActive || status.Issuer != "CN=Vendor Issuing CA" || len(status.Chain) != 3 || status.Note != "" {
		t.Errorf("installed: got %+v", status)
	}
	if served := s.Certificate(); !served.Leaf.Equal(cert) || len(served.Certificate) != 2 || !bytes.Equal(served.Certificate[1], v.issuer.Cert.Raw) {
		t.Errorf("installed: serving %d certificates of %s, want the leaf and its issuer", len(served.Certificate), served.Leaf.Subject)
	}

	// A renewal is prepared beside it, and asking again changes nothing.
	second, err := s.Renew(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if second == first || s.CSR() != second || dt.Must(s.Renew(t.Context())) != second {
		t.Error("the renewal's CSR is not one that stays")
	}
	if !s.Certificate().Leaf.Equal(cert) || s.Status().Renewal == nil {
		t.Errorf("with a renewal prepared: got %+v", s.Status())
	}

	// It replaces the live one once installed; much later its key is deleted.
	now = now.AddDate(0, 6, 0)
	renewed := v.sign(t, second, dt.Valid(now.Add(-time.Hour), now.AddDate(1, 0, 0)))
	install(t, s, renewed, v.issuer.Cert)
	if !s.Certificate().Leaf.Equal(renewed) || s.Status().Renewal != nil {
		t.Errorf("renewed: got %+v", s.Status())
	}
	if keys := storage.keys(t); len(keys) != 1 {
		t.Errorf("got keys %q, want that of the new certificate alone", keys)
	}
	if note := s.Status().Note; !strings.Contains(note, "CN=Vendor Root") {
		t.Errorf("got note %q, want it to name the root that phones need", note)
	}

	// Near its end, and past it.
	now = renewed.NotAfter.Add(-DefaultRenewBefore + time.Minute)
	if got := s.Status().State; got != StateExpiring {
		t.Errorf("30 days before the end: got %s", got)
	}
	now = renewed.NotAfter.Add(time.Second)
	if got := s.Status().State; got != StateExpired || !s.Certificate().Leaf.Equal(renewed) {
		t.Errorf("past the end: got %s", got)
	}
}

// The first certificate may also be issued again for the same CSR, and old ones
// are installable as long as their key is in use.
func TestReissued(t *testing.T) {
	v := newVendor()
	s := open(t, config(newMemory()))
	csr := s.CSR()
	for range 2 {
		cert := v.sign(t, csr)
		install(t, s, cert, v.issuer.Cert)
		if !s.Certificate().Leaf.Equal(cert) {
			t.Error("not served")
		}
	}
}

func TestChangedSubject(t *testing.T) {
	v, storage := newVendor(), newMemory()
	c := config(storage)
	first := open(t, c).CSR()
	publicKey := func(csr string) *rsa.PublicKey { return parseCSR(t, csr).PublicKey.(*rsa.PublicKey) }

	c.Organization = "Example Telecom"
	second := open(t, c).CSR()
	if csr := parseCSR(t, second); second == first || csr.Subject.Organization[0] != "Example Telecom" || !publicKey(first).Equal(csr.PublicKey) {
		t.Errorf("unsigned: got a CSR of %s, want a new one with the same key", csr.Subject)
	}
	// The vendor signs the first one after all.
	s := open(t, c)
	cert := v.sign(t, first)
	install(t, s, cert, v.issuer.Cert)
	if !s.Certificate().Leaf.Equal(cert) {
		t.Error("the certificate of the first CSR is not served")
	}

	c.Names = []string{"prov2.example.com"}
	s = open(t, c)
	if !s.Certificate().Leaf.Equal(cert) || s.Status().Renewal == nil || publicKey(s.CSR()).Equal(publicKey(first)) {
		t.Errorf("signed: got %+v, want a renewal prepared beside the certificate", s.Status())
	}
	third := s.CSR()
	c.Names = []string{"prov3.example.com"}
	s = open(t, c)
	if s.CSR() == third || !publicKey(s.CSR()).Equal(publicKey(third)) {
		t.Error("a renewal that is not signed yet: want a new CSR with the same key")
	}
	if keys := storage.keys(t); len(keys) != 2 {
		t.Errorf("got keys %q, want two", keys)
	}
}

// TestCrash kills the process at every change that it makes to the storage, and
// starts another one on what is left.
func TestCrash(t *testing.T) {
	v := newVendor()
	for _, tt := range []struct {
		name    string
		prepare func(t *testing.T, s *Site)
		change  func(ctx context.Context, c Config) error
	}{
		{name: "first start", change: func(ctx context.Context, c Config) error {
			_, err := Open(ctx, c)
			return err
		}},
		{name: "install", change: func(ctx context.Context, c Config) error {
			s, err := Open(ctx, c)
			if err != nil {
				return err
			}
			_, err = s.Install(ctx, dt.PEM(v.sign(t, s.CSR()), v.issuer.Cert))
			return err
		}},
		{name: "renew", prepare: func(t *testing.T, s *Site) { install(t, s, v.sign(t, s.CSR())) }, change: func(ctx context.Context, c Config) error {
			s, err := Open(ctx, c)
			if err != nil {
				return err
			}
			_, err = s.Renew(ctx)
			return err
		}},
		{name: "install renewal", prepare: func(t *testing.T, s *Site) {
			install(t, s, v.sign(t, s.CSR()))
			dt.Must(s.Renew(t.Context()))
		}, change: func(ctx context.Context, c Config) error {
			s, err := Open(ctx, c)
			if err != nil {
				return err
			}
			_, err = s.Install(ctx, dt.PEM(v.sign(t, s.CSR())))
			return err
		}},
		{name: "changed subject", prepare: func(t *testing.T, s *Site) { install(t, s, v.sign(t, s.CSR())) }, change: func(ctx context.Context, c Config) error {
			c.Locality = "San Jose"
			_, err := Open(ctx, c)
			return err
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			start := newMemory()
			if tt.prepare != nil || tt.name == "install" {
				s := open(t, config(start))
				if tt.prepare != nil {
					tt.prepare(t, s)
				}
			}
			// As old as it may get: unused keys may be deleted.
			later := func() time.Time { return time.Now().Add(48 * time.Hour) }
			for n := 1; ; n++ {
				died := false
				for _, before := range []bool{true, false} {
					disk := start.copy()
					process := &mortal{memory: disk, left: n, before: before}
					c := config(process)
					c.Now = later
					if err := tt.change(t.Context(), c); err != nil && !errors.Is(err, errDead) {
						t.Fatalf("change %d: %v", n, err)
					}
					died = died || process.dead
					checkAfterCrash(t, v, start, disk.copy())
				}
				if !died {
					if n < 3 {
						t.Errorf("only %d changes were made to the storage", n-1)
					}
					return
				}
			}
		})
	}
}

// checkAfterCrash starts a process on what is left, and holds that whatever was
// handed out before the crash still counts.
func checkAfterCrash(t *testing.T, v vendor, before, disk *memory) {
	t.Helper()
	var handedOut []string
	var live *x509.Certificate
	if len(before.data) > 0 {
		old := open(t, config(before.copy()))
		live = old.Certificate().Leaf
		handedOut = append(handedOut, old.CSR())
		if old.Status().State == StateAwaiting {
			live = nil // a self-signed one is made at each start
		}
	}
	s := open(t, config(disk))
	if live != nil && !s.Certificate().Leaf.Equal(live) {
		// Then it is the new one, for the CSR that was handed out.
		if !parseCSR(t, handedOut[0]).PublicKey.(*rsa.PublicKey).Equal(s.Certificate().Leaf.PublicKey) {
			t.Error("neither the old nor the new certificate is served")
		}
	}
	if live == nil || s.Certificate().Leaf.Equal(live) {
		for _, csr := range handedOut {
			if _, err := s.Install(t.Context(), dt.PEM(v.sign(t, csr))); err != nil {
				t.Errorf("a CSR handed out before the crash is worth nothing: %v", err)
			}
		}
	}
	if _, err := s.Renew(t.Context()); err != nil {
		t.Error(err)
	}
	install(t, s, v.sign(t, s.CSR()))
}

func TestBrokenStorage(t *testing.T) {
	v := newVendor()
	full, down := errors.New("no space left"), errors.New("connection refused")
	t.Run("at start", func(t *testing.T) {
		for _, storage := range []*broken{
			{memory: newMemory(), load: down}, {memory: newMemory(), store: full}, {memory: newMemory(), lock: down},
		} {
			_, err := Open(t.Context(), config(storage))
			if !errors.Is(err, down) && !errors.Is(err, full) || !strings.Contains(err.Error(), fqdn) {
				t.Errorf("got %v, want an error with the site and the cause", err)
			}
		}
	})
	t.Run("read-only", func(t *testing.T) {
		storage := newMemory()
		s := open(t, config(storage))
		cert := v.sign(t, s.CSR())
		install(t, s, cert)
		readOnly := &broken{memory: storage, store: full, lock: full}
		s = open(t, config(readOnly))
		if !s.Certificate().Leaf.Equal(cert) {
			t.Error("an installed certificate is not served from a read-only storage")
		}
		if _, err := s.Renew(t.Context()); !errors.Is(err, full) {
			t.Errorf("renewal: got %v", err)
		}
		if _, err := s.Install(t.Context(), dt.PEM(cert)); !errors.Is(err, full) {
			t.Errorf("install: got %v", err)
		}
		if !s.Certificate().Leaf.Equal(cert) || s.Status().Renewal != nil {
			t.Errorf("after the failures: got %+v", s.Status())
		}
	})
	t.Run("slow", func(t *testing.T) {
		storage := newMemory()
		s := open(t, config(storage))
		storage.lock <- struct{}{} // somebody has the lock
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := s.Renew(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the deadline", err)
		}
	})
	t.Run("damaged", func(t *testing.T) {
		for name, damage := range map[string]func(m *memory, s store){
			"record":  func(m *memory, s store) { m.data[s.recordKey()] = m.data[s.recordKey()][:40] },
			"version": func(m *memory, s store) { m.data[s.recordKey()] = []byte(`{"version":9,"current":{}}`) },
			"key": func(m *memory, s store) {
				for key := range m.data {
					if key != s.recordKey() {
						m.data[key] = m.data[key][:100]
					}
				}
			},
			"no key": func(m *memory, s store) {
				for key := range m.data {
					if key != s.recordKey() {
						delete(m.data, key)
					}
				}
			},
		} {
			storage := newMemory()
			good := open(t, config(storage))
			kept := storage.copy()
			damage(storage, good.store)
			damaged := len(storage.data)
			_, err := Open(t.Context(), config(storage))
			if err == nil || !strings.Contains(err.Error(), "device_profile/sites/"+fqdn) {
				t.Errorf("%s: got %v, want an error that names what is damaged", name, err)
			}
			if len(storage.data) != damaged {
				t.Errorf("%s: the storage was changed", name)
			}
			// An instance that has it in memory goes on, and recovers.
			if _, err := good.Refresh(t.Context()); name != "key" && name != "no key" && err == nil {
				t.Errorf("%s: a running instance did not notice", name)
			}
			if good.Certificate() == nil {
				t.Errorf("%s: a running instance serves nothing", name)
			}
			storage.data = kept.data
			if _, err := good.Refresh(t.Context()); err != nil {
				t.Errorf("%s: after the repair: %v", name, err)
			}
		}
	})
}

// TestWatch holds what an instance does by itself.
func TestWatch(t *testing.T) {
	v, storage := newVendor(), newMemory()
	now := time.Now()
	var log bytes.Buffer
	c := config(storage)
	c.Now = func() time.Time { return now }
	other := open(t, c)
	flaky := &broken{memory: storage}
	c.Storage, c.Logger = flaky, slog.New(slog.NewTextHandler(&log, nil))
	s := open(t, c)
	var events []Status
	w := watch{site: s, expiring: func(st Status) { events = append(events, st) }}
	look := func() string {
		log.Reset()
		w.look(t.Context())
		return log.String()
	}

	if got := look(); got != "" {
		t.Errorf("nothing to do: logged %s", got)
	}
	cert := v.sign(t, other.CSR(), dt.Valid(now.Add(-time.Hour), now.AddDate(1, 0, 0)))
	install(t, other, cert)
	if got := look(); !s.Certificate().Leaf.Equal(cert) || !strings.Contains(got, "another instance") {
		t.Errorf("what another instance installed is not served; logged %s", got)
	}

	// Storage goes away and comes back.
	flaky.load = errors.New("connection refused")
	if got := look(); !strings.Contains(got, "connection refused") || !s.Certificate().Leaf.Equal(cert) {
		t.Errorf("storage down: logged %q", got)
	}
	if got := look(); got != "" {
		t.Errorf("storage still down: logged %q again", got)
	}
	flaky.load = nil
	if got := look(); !strings.Contains(got, "works again") {
		t.Errorf("storage back: logged %q", got)
	}

	// 30 days before the end a renewal is prepared, and a warning given once a day.
	now = cert.NotAfter.Add(-DefaultRenewBefore + time.Minute)
	look()
	if len(events) != 1 || events[0].State != StateExpiring || events[0].Renewal == nil {
		t.Errorf("expiring: got events %+v", events)
	}
	csr := s.CSR()
	look()
	now = now.Add(23 * time.Hour)
	look()
	if len(events) != 1 {
		t.Errorf("within a day: got %d warnings, want 1", len(events))
	}
	now = now.Add(time.Hour)
	if got := look(); len(events) != 2 || !strings.Contains(got, "near its end") {
		t.Errorf("after a day: got %d warnings, want 2; logged %q", len(events), got)
	}
	if s.CSR() != csr {
		t.Error("the renewal's CSR does not stay the same")
	}

	// The renewal is installed elsewhere.
	if _, err := other.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	renewed := v.sign(t, csr, dt.Valid(now.Add(-time.Hour), now.AddDate(1, 0, 0)))
	install(t, other, renewed)
	look()
	if !s.Certificate().Leaf.Equal(renewed) || len(events) != 2 {
		t.Errorf("renewed elsewhere: got %+v", s.Status())
	}
}

func TestWatchStops(t *testing.T) {
	s := open(t, config(newMemory()))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		s.Watch(ctx, time.Millisecond, func(Status) {})
		close(done)
	}()
	cancel()
	<-done
}

// MD5 signatures are refused, SHA-1 ones are not: phones exist that know nothing else.
func TestSignatures(t *testing.T) {
	v := newVendor()
	s := open(t, config(newMemory()))
	install(t, s, v.sign(t, s.CSR(), dt.Hash(crypto.SHA1)), v.issuer.Cert)
	if got := s.Status().Signature; got != "SHA1-RSA" {
		t.Errorf("got %s", got)
	}
}
