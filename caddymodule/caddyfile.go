package caddymodule

import (
	"slices"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddytls"

	"github.com/device-profile/caddy-device-profile/profilesrc"
)

func init() {
	httpcaddyfile.RegisterDirective("device_profile", parseDirective)
	httpcaddyfile.RegisterDirectiveOrder("device_profile", httpcaddyfile.Before, "basic_auth")
}

// parseDirective sets up the handler, and beside it the listener wrapper that
// asks phones for their certificates. Syntax:
//
//	device_profile [<matcher>] {
//		trust <vendor> [<file|folder|glob>...] {
//			trust_pool <module> ...
//			identity <preset>
//			identity {
//				mac    <attribute> [<regexp>]
//				model  <attribute> [<regexp>]
//				serial <attribute> [<regexp>]
//			}
//			weakest_signature  sha256|sha1|md5
//			weakest_rsa        <bits>
//			expired            deny|allow|<duration>
//			extended_key_usage client|any
//			generic            deny|allow
//			crl                <file|url>...
//			crl_refresh        <duration>
//			crl_required
//		}
//		devices <file> {
//			refresh <duration>
//		}
//		devices <module> ...
//		trust_refresh <duration>
//		serve <request path> [<profile path>] {
//			vendor <label>...
//		}
//		source <module> ...
//		cache {
//			refresh      <duration>
//			grace_period <duration>
//			max_size     <size>
//			max_entry    <size>
//			persist      <folder>
//		}
//		mode enforce|observe
//		remember <number>|off
//		legacy_tls [rc4] [3des]
//	}
//
// trust, serve, source and, within identity, mac, model and serial may be
// repeated; their order counts.
func parseDirective(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	if !h.Next() {
		return nil, h.ArgErr()
	}
	matcher, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, err
	}
	handler := new(Handler)
	if err := handler.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	values := h.NewRoute(matcher, handler)
	return append(values, httpcaddyfile.ConfigValue{Class: "listener_wrapper", Value: new(DeviceTLS)}), nil
}

// UnmarshalCaddyfile reads the directive; see parseDirective for its syntax.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the directive's name
	if d.NextArg() {
		return d.ArgErr()
	}
	for d.NextBlock(0) {
		var err error
		switch d.Val() {
		case "trust":
			err = h.unmarshalTrust(d)
		case "devices":
			err = h.unmarshalDevices(d)
		case "trust_refresh":
			if h.TrustRefresh != 0 {
				return d.Err("duplicate option trust_refresh")
			}
			h.TrustRefresh, err = duration(d, "trust_refresh")
		case "serve":
			err = h.unmarshalServe(d)
		case "source":
			err = h.unmarshalSource(d)
		case "cache":
			err = h.unmarshalCache(d)
		case "mode":
			err = h.unmarshalMode(d)
		case "remember":
			err = h.unmarshalRemember(d)
		case "legacy_tls":
			err = h.unmarshalLegacyTLS(d)
		default:
			err = d.Errf("unrecognized option %q", d.Val())
		}
		if err != nil {
			return err
		}
	}
	if len(h.Trusts) == 0 {
		return d.Err("device_profile needs at least one trust")
	}
	if len(h.Serve) == 0 {
		return d.Err("device_profile needs at least one serve rule")
	}
	if h.Cache != nil && len(h.SourcesRaw) == 0 {
		return d.Err("cache: there is no source whose answers it could remember")
	}
	return nil
}

func (h *Handler) unmarshalServe(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) < 1 || len(args) > 2 {
		return d.ArgErr()
	}
	rule := ServeRule{Path: args[0]}
	if len(args) == 2 {
		rule.Profile = args[1]
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if d.Val() != "vendor" {
			return d.Errf("serve: unrecognized option %q", d.Val())
		}
		if len(rule.Vendors) > 0 {
			return d.Err("serve: duplicate option vendor")
		}
		if rule.Vendors = d.RemainingArgs(); len(rule.Vendors) == 0 {
			return d.ArgErr()
		}
	}
	if _, err := rule.compile(); err != nil {
		return d.WrapErr(err)
	}
	for _, other := range h.Serve {
		if other.Path == rule.Path && slices.Equal(other.Vendors, rule.Vendors) {
			return d.Errf("duplicate serve rule for %s", rule.Path)
		}
	}
	h.Serve = append(h.Serve, rule)
	return nil
}

func (h *Handler) unmarshalSource(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.ArgErr()
	}
	name := d.Val()
	id := "http.device_profile.sources." + name
	module, err := caddyfile.UnmarshalModule(d, id)
	if err != nil {
		return err
	}
	source, ok := module.(profilesrc.Source)
	if !ok {
		return d.Errf("module %s (%T) is not a profile source", id, module)
	}
	h.SourcesRaw = append(h.SourcesRaw, caddyconfig.JSONModuleObject(source, "source", name, nil))
	return nil
}

func (h *Handler) unmarshalMode(d *caddyfile.Dispenser) (err error) {
	if h.Mode != "" {
		return d.Err("duplicate option mode")
	}
	if h.Mode, err = oneWord(d); err == nil && h.Mode != modeEnforce && h.Mode != modeObserve {
		err = d.Errf("mode: %q is not %s or %s", h.Mode, modeEnforce, modeObserve)
	}
	return err
}

func (h *Handler) unmarshalRemember(d *caddyfile.Dispenser) error {
	if h.Remember != 0 {
		return d.Err("duplicate option remember")
	}
	word, err := oneWord(d)
	if err != nil {
		return err
	}
	if word == "off" {
		h.Remember = -1
		return nil
	}
	if h.Remember, err = strconv.Atoi(word); err != nil || h.Remember <= 0 {
		return d.Errf("remember: %q is neither a number of devices nor off", word)
	}
	return nil
}

func (h *Handler) unmarshalCache(d *caddyfile.Dispenser) error {
	if h.Cache != nil {
		return d.Err("duplicate option cache")
	}
	h.Cache = new(Cache)
	return h.Cache.UnmarshalCaddyfile(d)
}

func (h *Handler) unmarshalLegacyTLS(d *caddyfile.Dispenser) error {
	if h.LegacyTLS != nil {
		return d.Err("duplicate option legacy_tls")
	}
	h.LegacyTLS = new(LegacyTLS)
	for d.NextArg() {
		switch {
		case d.Val() == "rc4" && !h.LegacyTLS.RC4:
			h.LegacyTLS.RC4 = true
		case d.Val() == "3des" && !h.LegacyTLS.TripleDES:
			h.LegacyTLS.TripleDES = true
		default:
			return d.Errf("legacy_tls: unrecognized or duplicate word %q, known are rc4 and 3des", d.Val())
		}
	}
	return noBlock(d)
}

func (h *Handler) unmarshalTrust(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) == 0 {
		return d.ArgErr()
	}
	t := &Trust{Vendor: args[0], PEMFiles: args[1:]}
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if seen[option] {
			return d.Errf("trust %s: duplicate option %s", t.Vendor, option)
		}
		seen[option] = true
		if err := t.unmarshalOption(d, option); err != nil {
			return err
		}
	}
	// What the words mean is checked here too, so that the error has a line.
	if len(t.PEMFiles) == 0 && t.TrustPoolRaw == nil {
		return d.Errf("trust %s: neither a file of CA certificates nor a trust_pool", t.Vendor)
	}
	if _, err := t.settings(); err != nil {
		return d.Errf("trust %s: %w", t.Vendor, err)
	}
	h.Trusts = append(h.Trusts, t)
	return nil
}

func (t *Trust) unmarshalOption(d *caddyfile.Dispenser, option string) error {
	var err error
	switch option {
	case "trust_pool":
		return t.unmarshalTrustPool(d)
	case "identity":
		return t.unmarshalIdentity(d)
	case "weakest_signature":
		t.WeakestSignature, err = oneWord(d)
	case "weakest_rsa":
		t.WeakestRSA, err = number(d, option)
	case "expired":
		t.Expired, err = oneWord(d)
	case "extended_key_usage":
		t.ExtendedKeyUsage, err = oneWord(d)
	case "generic":
		t.Generic, err = oneWord(d)
	case "crl":
		if t.CRL = d.RemainingArgs(); len(t.CRL) == 0 {
			return d.ArgErr()
		}
		err = noBlock(d)
	case "crl_refresh":
		t.CRLRefresh, err = duration(d, option)
	case "crl_required":
		if d.NextArg() {
			return d.ArgErr()
		}
		t.CRLRequired, err = true, noBlock(d)
	default:
		err = d.Errf("trust %s: unrecognized option %q", t.Vendor, option)
	}
	return err
}

func (t *Trust) unmarshalTrustPool(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.ArgErr()
	}
	name := d.Val()
	id := "tls.ca_pool.source." + name
	module, err := caddyfile.UnmarshalModule(d, id)
	if err != nil {
		return err
	}
	pool, ok := module.(caddytls.CA)
	if !ok {
		return d.Errf("module %s (%T) is not a pool of CA certificates", id, module)
	}
	t.TrustPoolRaw = caddyconfig.JSONModuleObject(pool, "provider", name, nil)
	return nil
}

func (t *Trust) unmarshalIdentity(d *caddyfile.Dispenser) error {
	t.Identity = new(Identity)
	if d.NextArg() {
		t.Identity.Preset = d.Val()
		if d.NextArg() {
			return d.ArgErr()
		}
		return noBlock(d)
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		what := d.Val()
		args := d.RemainingArgs()
		if len(args) < 1 || len(args) > 2 {
			return d.ArgErr()
		}
		a := Attribute{Attribute: args[0]}
		if len(args) == 2 {
			a.Pattern = args[1]
		}
		switch what {
		case "mac":
			t.Identity.MAC = append(t.Identity.MAC, a)
		case "model":
			t.Identity.Model = append(t.Identity.Model, a)
		case "serial":
			t.Identity.Serial = append(t.Identity.Serial, a)
		default:
			return d.Errf("identity: unrecognized option %q", what)
		}
	}
	return nil
}

// Interface guards.
var (
	_ caddyfile.Unmarshaler = (*Handler)(nil)
	_ caddy.Module          = (*Handler)(nil)
)
