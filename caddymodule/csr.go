package caddymodule

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/device-profile/caddy-device-profile/deviceauth"
	"github.com/device-profile/caddy-device-profile/sitecert"
)

func init() {
	caddy.RegisterModule(new(CSR))
}

// CSR gives a site the server certificate that old phones trust: one that the
// phones' maker signed from the operator's CSR. On first start it makes a private
// key and the CSR; once the signed certificate is installed, through the admin
// API or `caddy device install`, it serves that, from the next handshake on.
// Before, it serves a self-signed certificate for the FQDN, which no phone trusts.
//
// Key, CSR and certificate are in Caddy's storage, below
// device_profile/sites/<fqdn>/. All instances on one storage share them.
//
// From RenewBefore before the certificate's end, a second key and CSR are
// prepared beside the live ones, a warning is logged each day, and the event
// `device_site_certificate_expiring` is emitted with the data `fqdn`, `state` and
// `not_after`. The metric
// caddy_device_profile_site_certificate_end_timestamp_seconds has the end date.
//
//	State                  | Meaning
//	-----------------------|--------------------------------------------------
//	`awaiting_certificate` | the CSR is there, its certificate is not
//	`active`               | the certificate is served
//	`expiring`             | the same, but it ends within RenewBefore
//	`expired`              | it has ended, and is served all the same
//
// It is for the site's own names only, and doesn't renew by itself: the vendor has
// to sign.
type CSR struct {
	// Subject is what the certificate is asked for. When it changes, a new CSR
	// is made: with the same key if no certificate is installed for that yet,
	// otherwise as a renewal.
	sitecert.Subject

	// KeySize is the size of RSA keys made from now on, in bits: 1024 to 4096.
	// Default: 2048.
	KeySize int `json:"key_size,omitempty"`

	// RenewBefore is how long before its end a certificate counts as expiring.
	// Default: 30d.
	RenewBefore caddy.Duration `json:"renew_before,omitempty"`

	// Refresh is how often storage is asked what other instances have
	// installed. Default: 10s.
	Refresh caddy.Duration `json:"refresh,omitempty"`

	// RootFiles are PEM files, folders or globs of the CA certificates that the
	// phones know. The chain of an installed certificate must end at one of
	// them. Default: none, it may end anywhere.
	RootFiles []string `json:"root_files,omitempty"`

	site  *sitecert.Site
	stop  context.CancelFunc
	watch sync.WaitGroup
}

// defaultSiteRefresh is the default of CSR.Refresh.
const defaultSiteRefresh = 10 * time.Second

// storageTimeout bounds what one change takes, if the storage is slow.
const storageTimeout = 30 * time.Second

// CaddyModule returns the Caddy module information.
func (*CSR) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "tls.get_certificate.csr",
		New: func() caddy.Module { return new(CSR) },
	}
}

// Provision opens the site in storage, making key and CSR if need be, and begins
// to look after it.
func (c *CSR) Provision(ctx caddy.Context) error {
	if c.Refresh < 0 {
		return fmt.Errorf("refresh %s: is negative", time.Duration(c.Refresh))
	}
	if err := c.open(ctx); err != nil {
		return err
	}
	c.warn(ctx)
	if err := c.register(ctx); err != nil {
		return err
	}
	events, err := newEventSink(ctx)
	if err != nil {
		return err
	}
	expiring := func(status sitecert.Status) {
		events.emit(eventExpiring, map[string]any{
			"fqdn": status.FQDN, "state": string(status.State), "not_after": status.NotAfter,
		})
	}
	refresh := time.Duration(c.Refresh)
	if refresh == 0 {
		refresh = defaultSiteRefresh
	}
	var watching context.Context
	watching, c.stop = context.WithCancel(ctx)
	// Before the config runs, nobody would hear the event.
	return events.app.On("started", eventFunc(func() {
		c.watch.Go(func() { c.site.Watch(watching, refresh, expiring) })
	}))
}

// open opens the site in the storage of the context's config.
func (c *CSR) open(ctx caddy.Context) error {
	roots, err := readRoots(c.RootFiles)
	if err != nil {
		return err
	}
	opening, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	c.site, err = sitecert.Open(opening, sitecert.Config{
		Subject:     c.Subject,
		KeySize:     c.KeySize,
		RenewBefore: time.Duration(c.RenewBefore),
		Roots:       roots,
		Storage:     ctx.Storage(),
		Logger:      ctx.Slogger(),
	})
	return err
}

func readRoots(files []string) ([]*x509.Certificate, error) {
	repl := caddy.NewReplacer()
	var roots []*x509.Certificate
	for _, pattern := range files {
		found, err := deviceauth.ReadAnchors(repl.ReplaceKnown(pattern, ""))
		if err != nil {
			return nil, fmt.Errorf("root: %w", err)
		}
		roots = append(roots, found...)
	}
	return roots, nil
}

func (c *CSR) warn(ctx caddy.Context) {
	status := c.site.Status()
	log := ctx.Slogger().With("site", status.FQDN)
	if status.KeySize < sitecert.DefaultKeySize {
		log.Warn("the site's RSA key is weak: have it only if the phones can't do with a longer one", "bits", status.KeySize)
	}
	if status.State == sitecert.StateAwaiting {
		log.Warn("serving a self-signed certificate until the vendor's is installed: get the CSR with caddy device csr " + status.FQDN)
	}
}

// register adds the end of the certificate to the config's metrics.
func (c *CSR) register(ctx caddy.Context) error {
	return gaugeFunc(ctx.GetMetricsRegistry(), "site_certificate_end_timestamp_seconds",
		"When the site's installed certificate ends; 0 while there is none.",
		prometheus.Labels{"fqdn": c.site.FQDN()},
		func() float64 {
			status := c.site.Status()
			if status.State == sitecert.StateAwaiting {
				return 0
			}
			return float64(status.NotAfter.Unix())
		})
}

// Cleanup stops looking after the site.
func (c *CSR) Cleanup() error {
	if c.stop != nil {
		c.stop()
		c.watch.Wait()
	}
	return nil
}

// GetCertificate returns the site's certificate for its own names, and for
// clients that send none.
func (c *CSR) GetCertificate(_ context.Context, hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := hello.ServerName
	if name != "" && !strings.EqualFold(name, c.site.FQDN()) && !slices.ContainsFunc(c.site.Names(), func(n string) bool { return strings.EqualFold(n, name) }) {
		return nil, nil // another manager's, or nobody's
	}
	return c.site.Certificate(), nil
}

// Interface guards.
var (
	_ caddy.Provisioner  = (*CSR)(nil)
	_ caddy.CleanerUpper = (*CSR)(nil)
	_ certmagic.Manager  = (*CSR)(nil)
)
