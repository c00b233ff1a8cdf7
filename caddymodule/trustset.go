package caddymodule

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/device-profile/caddy-device-profile/deviceauth"
)

// defaultTrustRefresh is the default of Handler.TrustRefresh.
const defaultTrustRefresh = 30 * time.Second

// overdueEvery is how often a CRL past its nextUpdate is pointed out.
const overdueEvery = 24 * time.Hour

// trustSet holds the trusts of a handler as their files are now. What is bad is
// not taken over: the last good one stays in use, file by file.
type trustSet struct {
	verifier atomic.Pointer[deviceauth.Verifier] // of the last good trusts
	trusts   []*liveTrust
	gauges   *gauges
	logger   *zap.Logger
	stop     context.CancelFunc
	watching sync.WaitGroup

	failing map[string]string    // what is said to be wrong, by what it is about
	overdue map[string]time.Time // when a CRL was pointed out
}

// liveTrust is a trust, and what it is read from.
type liveTrust struct {
	config  *Trust
	pool    []*x509.Certificate // of its trust_pool, which is read once
	sources []*crlSource
	good    deviceauth.Trust
}

// newTrustSet reads the trusts, and gives an error if anything is bad.
func newTrustSet(ctx caddy.Context, trusts []*Trust, gauges *gauges) (*trustSet, error) {
	s := &trustSet{gauges: gauges, logger: ctx.Logger(), failing: make(map[string]string), overdue: make(map[string]time.Time)}
	for _, t := range trusts {
		live, err := s.load(ctx, t)
		if err != nil {
			return nil, fmt.Errorf("trust %s: %w", t.Vendor, err)
		}
		s.trusts = append(s.trusts, live)
	}
	return s, s.swap()
}

// swap makes the last good trusts those that decide, from the next request on.
func (s *trustSet) swap() error {
	trusts := make([]deviceauth.Trust, len(s.trusts))
	for i, t := range s.trusts {
		trusts[i] = t.good
	}
	verifier, err := deviceauth.NewVerifier(deviceauth.Config{Trusts: trusts})
	if err != nil {
		return err
	}
	s.verifier.Store(verifier)
	s.gauges.setAnchors(trusts)
	return nil
}

func (s *trustSet) load(ctx caddy.Context, config *Trust) (*liveTrust, error) {
	t := &liveTrust{config: config}
	var err error
	if t.good, err = config.settings(); err != nil {
		return nil, err
	}
	if t.pool, err = config.loadPool(ctx); err != nil {
		return nil, err
	}
	if t.good.Anchors, err = t.readAnchors(); err != nil {
		return nil, err
	}
	repl := caddy.NewReplacer()
	for _, name := range config.CRL {
		source, err := newCRLSource(repl.ReplaceKnown(name, ""), time.Duration(config.CRLRefresh), ctx.Storage)
		if err != nil {
			return nil, err
		}
		t.sources = append(t.sources, source)
	}
	for _, source := range t.sources {
		if err := s.begin(ctx, t, source); err != nil {
			return nil, fmt.Errorf("crl: %w", err)
		}
	}
	return t, nil
}

// begin reads a source for the first time. What is in storage helps out, and
// holds that nobody plays an older CRL.
func (s *trustSet) begin(ctx context.Context, t *liveTrust, source *crlSource) error {
	var missing error
	if source.url {
		missing = source.restore(ctx, t.accept(source))
	}
	source.look(ctx)
	_, err := source.decide(t.accept(source))
	if err == nil {
		return nil
	}
	if source.crls == nil {
		if missing != nil {
			return fmt.Errorf("%w; %w", err, missing)
		}
		return err
	}
	s.report(t.config.Vendor, source.name, err)
	return nil
}

// accept returns what decides on new CRLs of a source: the trust as a whole, and
// the source's last ones.
func (t *liveTrust) accept(source *crlSource) func([]*deviceauth.CRL) error {
	return func(crls []*deviceauth.CRL) error {
		candidate := t.good
		candidate.CRLs = slices.Clone(crls)
		for _, other := range t.sources {
			if other != source {
				candidate.CRLs = append(candidate.CRLs, other.crls...)
			}
		}
		if err := candidate.Check(); err != nil {
			return err
		}
		if err := deviceauth.CheckSuccession(crls, source.crls); err != nil {
			return err
		}
		t.good = candidate
		return nil
	}
}

func (t *liveTrust) readAnchors() ([]*x509.Certificate, error) {
	anchors := slices.Clone(t.pool)
	repl := caddy.NewReplacer()
	for _, pattern := range t.config.PEMFiles {
		found, err := deviceauth.ReadAnchors(repl.ReplaceKnown(pattern, ""))
		if err != nil {
			return nil, err
		}
		anchors = append(anchors, found...)
	}
	if len(anchors) == 0 {
		return nil, errors.New("no CA certificates: name a PEM file, a folder, or a trust_pool that holds some")
	}
	return anchors, nil
}

// watch looks after the trusts until ctx ends.
func (s *trustSet) watch(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		s.save(ctx)
		s.warnOverdue(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			s.look(ctx)
		}
	}
}

// look takes over what has changed, as far as it is good.
func (s *trustSet) look(ctx context.Context) {
	var reading sync.WaitGroup // a slow URL keeps nobody waiting but the set
	for _, t := range s.trusts {
		for _, source := range t.sources {
			reading.Go(func() { source.look(ctx) })
		}
	}
	reading.Wait()
	if ctx.Err() != nil {
		return
	}
	var changed []*liveTrust
	for _, t := range s.trusts {
		if s.update(t) {
			changed = append(changed, t)
		}
	}
	if len(changed) == 0 {
		return
	}
	if err := s.swap(); err != nil { // each trust was checked, so it can't be
		s.logger.Error("trusts not taken over", zap.Error(err))
		return
	}
	for _, t := range changed {
		s.announce(t)
	}
}

// announce tells of a trust that was taken over.
func (s *trustSet) announce(t *liveTrust) {
	trustReloadsTotal.WithLabelValues(t.config.Vendor, "taken").Inc()
	revoked := 0
	for _, crl := range t.good.CRLs {
		revoked += crl.Entries()
	}
	s.logger.Info("trust reloaded: its files or CRLs have changed", zap.String("trust", t.config.Vendor),
		zap.Int("ca_certificates", len(t.good.Anchors)), zap.Int("crls", len(t.good.CRLs)), zap.Int("revoked", revoked))
}

// update reads one trust again, and reports whether it has changed.
func (s *trustSet) update(t *liveTrust) bool {
	changed, err := t.updateAnchors()
	s.report(t.config.Vendor, "CA certificates", err)
	for _, source := range t.sources {
		taken, err := source.decide(t.accept(source))
		if source.found.asked {
			s.report(t.config.Vendor, source.name, err)
		}
		changed = changed || taken
	}
	return changed
}

func (t *liveTrust) updateAnchors() (changed bool, err error) {
	anchors, err := t.readAnchors()
	if err != nil || slices.EqualFunc(anchors, t.good.Anchors, (*x509.Certificate).Equal) {
		return false, err
	}
	candidate := t.good
	candidate.Anchors = anchors
	if err := candidate.Check(); err != nil {
		return false, err
	}
	t.good = candidate
	return true, nil
}

// report counts what is wrong, and logs it if that was not said already.
func (s *trustSet) report(vendor, what string, err error) {
	key := vendor + "\x00" + what
	if err == nil {
		if s.failing[key] != "" {
			s.logger.Info("trust: good again", zap.String("trust", vendor), zap.String("of", what))
		}
		delete(s.failing, key)
		return
	}
	trustReloadsTotal.WithLabelValues(vendor, "failed").Inc()
	if s.failing[key] == err.Error() {
		return
	}
	s.failing[key] = err.Error()
	s.logger.Error("trust not reloaded: the last good one stays in use", zap.String("trust", vendor), zap.String("of", what), zap.Error(err))
}

// save keeps what URLs gave for a restart while they are down.
func (s *trustSet) save(ctx context.Context) {
	for _, t := range s.trusts {
		for _, source := range t.sources {
			if err := source.save(ctx); err != nil && ctx.Err() == nil {
				s.logger.Warn("CRL not kept in storage: a restart needs its URL", zap.String("crl", source.name), zap.Error(err))
			}
		}
	}
}

// warnOverdue points out CRLs past their nextUpdate, once a day.
func (s *trustSet) warnOverdue(now time.Time) {
	for _, t := range s.trusts {
		for _, crl := range t.good.CRLs {
			key := t.config.Vendor + "\x00" + crl.Source + "\x00" + crl.Issuer.String()
			if !crl.Overdue(now) || now.Sub(s.overdue[key]) < overdueEvery {
				continue
			}
			s.overdue[key] = now
			consequence := "it counts all the same"
			if t.good.CRLRequired {
				consequence = "phones are refused until there is a newer one"
			}
			s.logger.Warn("CRL is past its nextUpdate: "+consequence, zap.String("trust", t.config.Vendor),
				zap.String("crl", crl.Source), zap.String("issuer", crl.Issuer.String()), zap.Time("next_update", crl.NextUpdate))
		}
	}
}

// close ends the watch.
func (s *trustSet) close() {
	if s == nil || s.stop == nil {
		return
	}
	s.stop()
	s.watching.Wait()
}
