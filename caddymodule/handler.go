package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/device-profile/caddy-device-profile/deviceauth"
	"github.com/device-profile/caddy-device-profile/inventory"
	"github.com/device-profile/caddy-device-profile/profilesrc"
)

func init() {
	caddy.RegisterModule(new(Handler))
}

// Handler gives each phone its own provisioning profile and refuses everyone
// else. On every request, resumed TLS sessions included, it
//
//  1. verifies the client's certificate chain against the trusts,
//  2. takes the device's MAC, model and serial from the verified certificate,
//     and looks the MAC up in the inventory, if there is one,
//  3. finds the first serve rule that gives the requested path to this device,
//  4. serves the profile that the rule names from the first source that has it,
//     or, without sources, rewrites the URI to the profile's path and calls the
//     next handler (reverse_proxy, file_server, templates, …).
//
// It needs the `device_tls` listener wrapper on its server, which asks phones
// for their certificates; the Caddyfile directive adds it by itself.
//
// Placeholders, set once the device is verified:
//
//	Placeholder             | Meaning
//	------------------------|--------------------------------------------
//	`{device.mac}`          | MAC, 12 lower-case hex digits
//	`{device.mac_upper}`    | MAC, 12 upper-case hex digits
//	`{device.mac_colon}`    | MAC, lower case, colons between the pairs
//	`{device.mac_dash}`     | MAC, lower case, dashes between the pairs
//	`{device.model}`        | model, as the certificate has it
//	`{device.serial}`       | serial number, as the certificate has it
//	`{device.vendor}`       | label of the trust that vouches for the device
//	`{device.fingerprint}`  | SHA-256 of the certificate, hex
//	`{device.attr.<column>}` | value of that column in the inventory
//	`{device.profile}`      | path of the profile that the rule names
//	`{device.source}`       | source that gave the profile
//	`{device.reason}`       | why the request was refused (on refusal only)
//	`{http.auth.user.id}`   | the MAC, so access logs have it as `user_id`
//
// Refusals are errors, so `handle_errors` sees them:
//
//	Status | Reasons
//	-------|-------------------------------------------------------------
//	403    | `no_tls` `no_certificate` `untrusted` `weak_signature`
//	       | `weak_key` `expired` `not_yet_valid` `key_usage`
//	       | `revoked` `revocation_unknown`
//	       | `generic_certificate` `no_identity` `unknown_device`
//	       | `blocked` `path_not_allowed`
//	404    | `not_found`
//	405    | `method_not_allowed`
//	502    | `source_failed`
//	503    | `source_unavailable` `inventory_unavailable`
//
// Each decision is one log record of the logger
// `http.handlers.device_profile`: "profile served", "profile not served" (the
// next handler or the transfer failed) or "device refused".
type Handler struct {
	// Trusts are the device CAs with their policies, tried in order; the first
	// that accepts a certificate decides. At least one.
	Trusts []*Trust `json:"trusts,omitempty"`

	// TrustRefresh is how often the files of trusts and their CRLs are looked at
	// again. What has changed is taken over as a whole or, if it is bad, not at
	// all, file by file. Default: 30s.
	TrustRefresh caddy.Duration `json:"trust_refresh,omitempty"`

	// DevicesRaw is the inventory: only devices that it lists are served.
	//
	// A device that it does not list, that has no MAC, or that another vendor's
	// trust vouches for than its row says, is refused (403 `unknown_device`),
	// and so is one whose state is `blocked` (403 `blocked`). While the inventory
	// can't tell, the answer is 503 `inventory_unavailable`.
	//
	// A row's profile takes the place of the profile path of rules that give one
	// profile to one device: those with the MAC, the serial number or the
	// fingerprint in one of their paths, and without `*`. The rule must still
	// give the requested path to the device. Other rules, for firmware, say, or
	// a model's common file, are as they are for everybody.
	//
	// Default: every verified device is served.
	DevicesRaw json.RawMessage `json:"devices,omitempty" caddy:"namespace=http.device_profile.inventories inline_key=inventory"`

	// Serve are the rules that give paths to devices; the first that matches
	// decides. At least one.
	Serve []ServeRule `json:"serve,omitempty"`

	// SourcesRaw are the places that profiles come from, asked in order; the
	// first that has the profile wins. Default: none, the next handler answers.
	SourcesRaw []json.RawMessage `json:"sources,omitempty" caddy:"namespace=http.device_profile.sources inline_key=source"`

	// Cache remembers what the sources gave. Default: they are asked each time.
	Cache *Cache `json:"cache,omitempty"`

	// Mode is `enforce`, or `observe`: decide and log, but pass every request on
	// to the next handler as it is. Default: `enforce`.
	Mode string `json:"mode,omitempty"`

	// Remember is how many devices the admin API's list of devices holds; of
	// several handlers, the largest counts. -1 for none. Default: 200000.
	Remember int `json:"remember,omitempty"`

	// LegacyTLS lets the phones of this site use what old phones need and
	// nobody else should. Default: nothing weaker than Caddy's own defaults.
	LegacyTLS *LegacyTLS `json:"legacy_tls,omitempty"`

	live        *trustSet
	inventory   inventory.Inventory // nil without one
	rules       []*serveRule
	sourceAttrs []string          // the inventory's columns that sources are told
	explained   []namedSource     // each source by itself, for explanations
	source      profilesrc.Source // the sources, behind the cache if there is one; nil in middleware mode
	store       string            // key of the cache's store, once it is ours
	seen        *seenDevices      // nil if none are remembered
	gauges      *gauges
	events      eventSink
	logger      *zap.Logger
}

// The values of Handler.Mode.
const (
	modeEnforce = "enforce"
	modeObserve = "observe"
)

// LegacyTLS allows TLS 1.0 and 1.1, RSA key exchange with AES-CBC, and, for the
// whole process, handshake signatures with SHA-1 in TLS 1.2.
type LegacyTLS struct {
	// RC4 allows RC4 ciphers too. Default: false.
	RC4 bool `json:"rc4,omitempty"`
	// TripleDES allows 3DES ciphers too. Default: false.
	TripleDES bool `json:"3des,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.device_profile",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision loads the trusts, compiles the rules and opens the sources.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	if h.Mode != "" && h.Mode != modeEnforce && h.Mode != modeObserve {
		return fmt.Errorf("mode: %q is not %s or %s", h.Mode, modeEnforce, modeObserve)
	}
	var err error
	if h.gauges, err = registerMetrics(ctx.GetMetricsRegistry()); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	if h.events, err = newEventSink(ctx); err != nil {
		return err
	}
	if err := h.provisionSeen(); err != nil {
		return err
	}
	if err := h.provisionVerifier(ctx); err != nil {
		return err
	}
	if err := h.provisionRules(); err != nil {
		return err
	}
	if err := h.provisionSources(ctx); err != nil {
		return err
	}
	if err := h.provisionInventory(ctx); err != nil {
		return err
	}
	if err := h.register(ctx); err != nil {
		return err
	}
	return h.watchTrusts(ctx)
}

func (h *Handler) provisionVerifier(ctx caddy.Context) error {
	if len(h.Trusts) == 0 {
		return errors.New("no trust: device_profile needs the CA certificates of at least one vendor")
	}
	if h.TrustRefresh < 0 {
		return fmt.Errorf("trust_refresh: %s is negative", time.Duration(h.TrustRefresh))
	}
	var err error
	h.live, err = newTrustSet(ctx, h.Trusts, h.gauges)
	return err
}

// verifier decides by the trusts as they are now.
func (h *Handler) verifier() *deviceauth.Verifier { return h.live.verifier.Load() }

// watchTrusts has changes of the trusts' files and CRLs taken over, once the
// config runs.
func (h *Handler) watchTrusts(ctx caddy.Context) error {
	every := time.Duration(h.TrustRefresh)
	if every == 0 {
		every = defaultTrustRefresh
	}
	var watching context.Context
	watching, h.live.stop = context.WithCancel(ctx)
	return h.events.app.On("started", eventFunc(func() {
		h.live.watching.Go(func() { h.live.watch(watching, every) })
	}))
}

func (h *Handler) provisionRules() error {
	if len(h.Serve) == 0 {
		return errors.New("no serve rule: device_profile would refuse every path")
	}
	for _, r := range h.Serve {
		rule, err := r.compile()
		if err != nil {
			return err
		}
		for _, vendor := range r.Vendors {
			if !slices.ContainsFunc(h.Trusts, func(t *Trust) bool { return t.Vendor == vendor }) {
				return fmt.Errorf("serve %q: no trust is called %s", r.Path, vendor)
			}
		}
		if rule.sharesMACs() && h.manyVendors() {
			h.logger.Warn("every vendor's CA can speak for any MAC here; add vendor to the rule, or {device.vendor} to its profile path",
				zap.String("serve", r.Path))
		}
		h.rules = append(h.rules, rule)
	}
	return nil
}

func (h *Handler) manyVendors() bool {
	return slices.ContainsFunc(h.Trusts, func(t *Trust) bool { return t.Vendor != h.Trusts[0].Vendor })
}

// register makes the handler known to the device_tls wrapper of its server.
// A server without one never asks a phone for its certificate, and would so
// refuse them all: better to refuse such a config.
func (h *Handler) register(ctx caddy.Context) error {
	srv, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return nil // provisioned outside of a server
	}
	guard := guardOf(srv)
	if guard == nil {
		return errors.New("its server has no device_tls listener wrapper, so phones would never be asked for their certificates. " +
			"In a Caddyfile, device_profile must stand in the site itself, not in handle or route; and a servers global option, " +
			"which replaces the wrappers of its sites, must name it: listener_wrappers { device_tls }")
	}
	guard.handlers = append(guard.handlers, h)
	return nil
}

// ServeHTTP decides on one request and answers it.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	v := &visit{start: time.Now(), path: r.URL.Path}
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	repl.Map(v.placeholder)
	err := h.serve(v, w, r, next)
	h.report(v, r, err)
	if v.broken != nil {
		// Cut the connection, so that no phone takes a half for the whole.
		panic(http.ErrAbortHandler)
	}
	return err
}

// report tells of a decision in log, metrics, events and the list of devices.
func (h *Handler) report(v *visit, r *http.Request, err error) {
	h.log(v, r, err)
	v.count(r.TLS)
	h.events.visit(v, r)
	if h.seen != nil {
		h.seen.note(v, r)
	}
}

// serve goes from the certificate to the answer, step by step.
func (h *Handler) serve(v *visit, w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	err := h.decide(v, r)
	if h.Mode == modeObserve {
		return v.observe(w, r, next, err)
	}
	if err != nil {
		return v.refuse(w, err)
	}
	if h.source == nil {
		return v.passOn(w, r, next)
	}
	// A phone may end its sending side after the request, which net/http takes
	// for a phone that has gone. Sources have deadlines of their own.
	profile, err := h.source.Open(context.WithoutCancel(r.Context()), h.request(v))
	if err != nil {
		return v.refuse(w, err)
	}
	return v.answer(w, r, profile)
}

// Interface guards.
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
