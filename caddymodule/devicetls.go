package caddymodule

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

func init() {
	caddy.RegisterModule(new(DeviceTLS))
}

// DeviceTLS is a listener wrapper that lets phones in: it makes the TLS
// handshakes of its server's device_profile sites ask for a certificate, with
// the trusts' CAs as the hint which one; gives clients that send no server name
// the certificate of such a site; and, for sites with `legacy_tls`, accepts what
// old phones speak. It doesn't touch the connections themselves, and it has no
// settings: it finds the sites in the server's routes.
//
// Nothing changes for other sites on the same port. They keep Caddy's defaults,
// never ask for a certificate, and can't be reached over a connection that was
// made on the phones' terms: such a request gets 421 Misdirected Request.
//
// In a build that has another RSA than Go's (the module opensslrsa), it signs the
// handshakes of phones' sites; the log says so. In one whose QUIC can't work (Go's
// boringcrypto experiment), HTTP/3 is turned off for the server, with a warning.
//
// The device_profile directive adds this wrapper to its site's server. Only
// where a `servers` block in the global options lists wrappers of its own, it
// must be listed there too:
//
//	servers {
//		listener_wrappers {
//			device_tls
//		}
//	}
type DeviceTLS struct {
	server   *caddyhttp.Server
	guard    *guard
	policies []phonePolicy
	adjust   sync.Once
	logger   *zap.Logger
}

// phonePolicy is a TLS connection policy that is for phones.
type phonePolicy struct {
	policy *caddytls.ConnectionPolicy
	site   *site
	// certificateName is the site whose certificate a client gets that names
	// none, or "".
	certificateName string
}

// CaddyModule returns the Caddy module information.
func (*DeviceTLS) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "caddy.listeners.device_tls",
		New: func() caddy.Module { return new(DeviceTLS) },
	}
}

// UnmarshalCaddyfile reads the wrapper in a listener_wrappers block. Syntax:
//
//	device_tls
func (*DeviceTLS) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the name
	if d.NextArg() || d.NextBlock(0) {
		return d.Err("device_tls has no arguments or options")
	}
	return nil
}

// Provision gives the phones' sites connection policies of their own, ahead of
// all others. This is possible because listener wrappers are provisioned before
// connection policies are.
func (d *DeviceTLS) Provision(ctx caddy.Context) error {
	d.logger = ctx.Logger()
	srv, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || guardOf(srv) != nil {
		return nil // no HTTP server, or another site brought the wrapper already
	}
	d.server = srv
	sites := findSites(srv)
	d.guard = &guard{sites: sites, logger: d.logger}
	srv.Routes = slices.Insert(srv.Routes, 0, caddyhttp.Route{Handlers: []caddyhttp.MiddlewareHandler{d.guard}})
	if len(sites.phones) == 0 {
		return nil
	}
	if len(srv.TLSConnPolicies) == 0 {
		d.logger.Warn("the server has no TLS: device_profile refuses every request to it (no_tls)", zap.Strings("listen", srv.Listen))
		return nil
	}
	if err := errQUIC(); err != nil {
		if err := dropHTTP3(srv, err, d.logger); err != nil {
			return err
		}
	}
	if err := d.addPolicies(); err != nil {
		return err
	}
	if slices.ContainsFunc(sites.phones, func(s *site) bool { return s.legacy != nil }) {
		allowSHA1Handshakes(d.logger)
	}
	return nil
}

// addPolicies puts a policy for each site, and one for clients that send no
// server name, before the policies of the config.
func (d *DeviceTLS) addPolicies() error {
	srv, sites := d.server, d.guard.sites
	configured := srv.TLSConnPolicies
	var ahead caddytls.ConnectionPolicies
	add := func(s *site, matchers caddy.ModuleMap, certificateName string) error {
		policy, err := phonePolicyFrom(configured, s)
		if err != nil {
			return err
		}
		for id, raw := range matchers {
			policy.MatchersRaw[id] = raw
		}
		ahead = append(ahead, policy)
		d.policies = append(d.policies, phonePolicy{policy, s, certificateName})
		return nil
	}

	nameless := sites.nameless()
	certificateName := nameless.name
	if strings.Contains(certificateName, "*") {
		certificateName = ""
	}
	if err := add(nameless, caddy.ModuleMap{"sni": jsonList("")}, certificateName); err != nil {
		return err
	}
	for _, s := range sites.phones {
		matchers := make(caddy.ModuleMap)
		if s.name != "" {
			matchers["sni"] = jsonList(s.name)
		}
		if wildness(s.name) > 0 && len(sites.others) > 0 {
			not, _ := json.Marshal([]caddy.ModuleMap{{"sni": jsonList(sites.others...)}})
			matchers["not"] = not
		}
		if err := add(s, matchers, ""); err != nil {
			return err
		}
	}
	srv.TLSConnPolicies = append(ahead, configured...)
	return nil
}

// phonePolicyFrom copies the policy that the config has for the site, so that
// its settings stay in force. Its server-name matcher is left out.
func phonePolicyFrom(configured caddytls.ConnectionPolicies, s *site) (*caddytls.ConnectionPolicy, error) {
	policy := new(caddytls.ConnectionPolicy)
	for _, p := range configured {
		if policyServes(p, s.name) {
			*policy = *p
			break
		}
	}
	if policy.ClientAuthentication != nil {
		return nil, fmt.Errorf("site %s: its tls client_auth gets in the way of device_profile, which asks for certificates itself and verifies them: remove client_auth", s.name)
	}
	if s.legacy != nil && (policy.ProtocolMin == "tls1.3" || policy.ProtocolMax != "" && policy.ProtocolMax < "tls1.2") {
		return nil, fmt.Errorf("site %s: legacy_tls contradicts its tls protocols %s %s", s.name, policy.ProtocolMin, policy.ProtocolMax)
	}
	matchers := make(caddy.ModuleMap)
	for id, raw := range policy.MatchersRaw {
		if id != "sni" {
			matchers[id] = raw
		}
	}
	policy.MatchersRaw = matchers
	policy.ALPN = slices.Clone(policy.ALPN)
	return policy, nil
}

// policyServes reports whether a configured policy is for the name.
func policyServes(p *caddytls.ConnectionPolicy, name string) bool {
	raw, ok := p.MatchersRaw["sni"]
	if !ok {
		return true
	}
	var names []string
	if json.Unmarshal(raw, &names) != nil {
		return false
	}
	return slices.ContainsFunc(names, func(n string) bool {
		return asciiName(n) == name || certmagic.MatchWildcard(name, asciiName(n))
	})
}

// WrapListener returns the listener as it is. It runs after the policies were
// provisioned and before the first connection, which makes it the place to
// adjust what Caddy's config can't express.
func (d *DeviceTLS) WrapListener(ln net.Listener) net.Listener {
	d.adjust.Do(d.adjustPolicies)
	return ln
}

func (d *DeviceTLS) adjustPolicies() {
	if len(d.policies) == 0 {
		return
	}
	anchors := d.guard.anchors()
	signer := newSiteSigner(d.logger)
	for _, p := range d.policies {
		cfg := p.policy.TLSConfig
		cfg.ClientAuth = tls.RequestClientCert // the handler verifies, on every request
		cfg.ClientCAs = anchors
		cfg.VerifyConnection = countHandshake // Caddy's own is for client_auth, which is refused
		// Phones use a profile once all of it is there, so records need not begin
		// small: that would take a system call for each kB.
		cfg.DynamicRecordSizingDisabled = true
		if p.site.legacy != nil {
			allowLegacy(cfg, p.site.legacy)
		}
		if p.certificateName != "" {
			cfg.GetCertificate = withServerName(cfg.GetCertificate, p.certificateName)
		}
		cfg.GetCertificate = signer.wrap(cfg.GetCertificate)
	}
	for _, s := range d.guard.sites.phones {
		d.logger.Info("phones may connect",
			zap.String("site", s.name),
			zap.Bool("legacy_tls", s.legacy != nil),
			zap.Bool("without_server_name", s == d.guard.sites.nameless()))
	}
}

// allowLegacy extends cfg by what old phones speak. Ciphers that the config
// already has go first in Go's own order of preference all the same.
func allowLegacy(cfg *tls.Config, legacy *LegacyTLS) {
	cfg.MinVersion = tls.VersionTLS10
	for _, id := range legacyCiphers(legacy) {
		if !slices.Contains(cfg.CipherSuites, id) {
			cfg.CipherSuites = append(cfg.CipherSuites, id)
		}
	}
}

// legacyCiphers are the cipher suites of legacy_tls: those with AES-CBC and
// SHA-1, the only ones that TLS 1.0 and Go share, and those asked for by name.
func legacyCiphers(legacy *LegacyTLS) []uint16 {
	ciphers := []uint16{
		tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
		tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
		tls.TLS_RSA_WITH_AES_128_CBC_SHA,
		tls.TLS_RSA_WITH_AES_256_CBC_SHA,
	}
	if legacy.RC4 {
		ciphers = append(ciphers, tls.TLS_ECDHE_RSA_WITH_RC4_128_SHA, tls.TLS_RSA_WITH_RC4_128_SHA)
	}
	if legacy.TripleDES {
		ciphers = append(ciphers, tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA)
	}
	return ciphers
}

// withServerName makes get believe that the client asked for name. With no
// server name, certmagic would look at the catch-all policy alone, and never
// find the certificate that the site was given.
func withServerName(get func(*tls.ClientHelloInfo) (*tls.Certificate, error), name string) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		named := *hello
		named.ServerName = name
		return get(&named)
	}
}

// allowSHA1Handshakes lets phones sign their TLS 1.2 handshake with SHA-1, when
// they know nothing better. Go has no switch for it but the process-wide one.
func allowSHA1Handshakes(logger *zap.Logger) {
	const setting = "tlssha1=1"
	current := os.Getenv("GODEBUG")
	if slices.Contains(strings.Split(current, ","), setting) {
		return
	}
	if current != "" {
		current += ","
	}
	if err := os.Setenv("GODEBUG", current+setting); err != nil {
		logger.Error("phones that sign with SHA-1 only will fail in TLS 1.2", zap.Error(err))
		return
	}
	logger.Warn("legacy_tls: SHA-1 handshake signatures are accepted in TLS 1.2, by the whole process")
}

// anchors returns the CAs of all handlers of the server, as the hint to phones
// which certificate to send. Verification never uses it.
func (g *guard) anchors() *x509.CertPool {
	pool := x509.NewCertPool()
	for _, h := range g.handlers {
		for _, cert := range h.verifier().Anchors() {
			pool.AddCert(cert)
		}
	}
	return pool
}

func jsonList(names ...string) json.RawMessage {
	raw, _ := json.Marshal(names)
	return raw
}

// Interface guards.
var (
	_ caddy.Provisioner     = (*DeviceTLS)(nil)
	_ caddy.ListenerWrapper = (*DeviceTLS)(nil)
	_ caddyfile.Unmarshaler = (*DeviceTLS)(nil)
)
