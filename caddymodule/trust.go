package caddymodule

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddytls"

	"github.com/device-profile/caddy-device-profile/deviceauth"
)

// Trust is one vendor's device CA: which certificates to believe, how weak
// they may be, and where they name the device. It vouches for its own vendor's
// identities only. Where a single weakness of a chain is allowed, everything
// else about it is still checked.
type Trust struct {
	// Vendor labels the devices in logs, metrics and `{device.vendor}`, and
	// picks the identity preset of that name: algo, cisco_mic, cisco_spa,
	// grandstream, polycom, snom or yealink. Required.
	Vendor string `json:"vendor"`

	// PEMFiles are files, folders or globs of CA certificates, roots and
	// issuers alike; each is a trust anchor.
	PEMFiles []string `json:"pem_files,omitempty"`

	// TrustPoolRaw gives the CA certificates through a module that exposes
	// them: file, storage, http, pki_root, pki_intermediate, inline, combined.
	// At least one of PEMFiles and TrustPoolRaw is required.
	TrustPoolRaw json.RawMessage `json:"trust_pool,omitempty" caddy:"namespace=tls.ca_pool.source inline_key=provider"`

	// Identity says where the certificates name their device.
	// Default: the preset called Vendor.
	Identity *Identity `json:"identity,omitempty"`

	// WeakestSignature is the weakest signature accepted inside the chain:
	// `sha256`, `sha1` or `md5`. Default: `sha256`.
	WeakestSignature string `json:"weakest_signature,omitempty"`

	// WeakestRSA is the smallest RSA key accepted, in bits; 1024 is the floor.
	// Default: 2048.
	WeakestRSA int `json:"weakest_rsa,omitempty"`

	// Expired says what to do with certificates past their end: `deny`,
	// `allow`, or a duration for which they are accepted still. Default: `deny`.
	Expired string `json:"expired,omitempty"`

	// ExtendedKeyUsage is `client` to accept certificates for clientAuth, for
	// any usage and those that state none, or `any` to accept all.
	// Default: `client`.
	ExtendedKeyUsage string `json:"extended_key_usage,omitempty"`

	// CRL are files and URLs of certificate revocation lists, in PEM or DER,
	// complete ones of version 2. Each is signed by one of the CA certificates
	// above, so that issuing CAs with CRLs of their own are named there. What
	// they list is refused (`revoked`), also by a CRL past its nextUpdate.
	// They are read again while Caddy runs. Default: none.
	CRL []string `json:"crl,omitempty"`

	// CRLRefresh is how often URLs in CRL are asked. Default: 1h.
	CRLRefresh caddy.Duration `json:"crl_refresh,omitempty"`

	// CRLRequired refuses phones (`revocation_unknown`) unless there is a CRL of
	// each CA between the phone and the trust anchor, the anchor's included, that
	// is not past its nextUpdate. Default: false.
	CRLRequired bool `json:"crl_required,omitempty"`

	// Generic is `allow` to let certificates through that many devices share.
	// They get no MAC, so rules with a MAC don't apply to them.
	// Default: `deny`.
	Generic string `json:"generic,omitempty"`
}

// Identity says where certificates name their device: a preset or rules.
type Identity struct {
	// Preset is the name of a vendor's identity rules.
	Preset string `json:"preset,omitempty"`
	// MAC lists where the MAC is, tried in order. Default: the certificates
	// hold none, so that rules with a MAC never apply.
	MAC []Attribute `json:"mac,omitempty"`
	// Model lists where the model is, tried in order.
	Model []Attribute `json:"model,omitempty"`
	// Serial lists where the serial number is, tried in order.
	Serial []Attribute `json:"serial,omitempty"`
}

// Attribute is a place in a certificate.
type Attribute struct {
	// Attribute is a type of subject RDN (CN, O, OU, L, ST, C, serialNumber,
	// emailAddress, or a dotted OID), san.dns, san.uri or san.email.
	Attribute string `json:"attribute"`
	// Pattern is a regular expression (RE2) that must match the whole value;
	// its first group is the result. Default: any value, as it is.
	Pattern string `json:"pattern,omitempty"`
}

// settings is the trust without its anchors and CRLs, or what is wrong with it.
func (t *Trust) settings() (deviceauth.Trust, error) {
	trust := deviceauth.Trust{Vendor: t.Vendor, WeakestRSA: t.WeakestRSA, CRLRequired: t.CRLRequired}
	if t.Vendor == "" {
		return trust, errors.New("no vendor label")
	}
	var err error
	if trust.Identity, err = t.identity(); err != nil {
		return trust, err
	}
	return trust, t.policy(&trust)
}

// loadPool returns the certificates of the trust_pool, if there is one.
func (t *Trust) loadPool(ctx caddy.Context) ([]*x509.Certificate, error) {
	if t.TrustPoolRaw == nil {
		return nil, nil
	}
	pool, err := ctx.LoadModule(t, "TrustPoolRaw")
	if err != nil {
		return nil, fmt.Errorf("loading trust_pool: %w", err)
	}
	provider, ok := pool.(caddytls.CertificateProvider)
	if !ok {
		return nil, fmt.Errorf("trust_pool %T does not tell which certificates it holds", pool)
	}
	return provider.Certificates(), nil
}

func (t *Trust) identity() (deviceauth.Identity, error) {
	if t.Identity == nil {
		identity, ok := deviceauth.Preset(t.Vendor)
		if !ok {
			return identity, fmt.Errorf("no identity preset has this name (there are %v): add an identity", deviceauth.Presets())
		}
		return identity, nil
	}
	if t.Identity.Preset != "" {
		if len(t.Identity.MAC)+len(t.Identity.Model)+len(t.Identity.Serial) > 0 {
			return deviceauth.Identity{}, fmt.Errorf("identity: has both the preset %s and rules", t.Identity.Preset)
		}
		identity, ok := deviceauth.Preset(t.Identity.Preset)
		if !ok {
			return identity, fmt.Errorf("identity: unknown preset %q, there are %v", t.Identity.Preset, deviceauth.Presets())
		}
		return identity, nil
	}
	return t.Identity.rules()
}

func (i *Identity) rules() (identity deviceauth.Identity, err error) {
	if len(i.MAC)+len(i.Model)+len(i.Serial) == 0 {
		return identity, errors.New("identity: neither a preset nor a rule for mac, model or serial")
	}
	if identity.MAC, err = attributeRules("mac", i.MAC); err != nil {
		return identity, err
	}
	if identity.Model, err = attributeRules("model", i.Model); err != nil {
		return identity, err
	}
	if identity.Serial, err = attributeRules("serial", i.Serial); err != nil {
		return identity, err
	}
	identity.NoMAC = len(i.MAC) == 0
	return identity, nil
}

func attributeRules(what string, attributes []Attribute) ([]deviceauth.AttributeRule, error) {
	var rules []deviceauth.AttributeRule
	for _, a := range attributes {
		attribute, err := deviceauth.ParseAttribute(a.Attribute)
		if err != nil {
			return nil, fmt.Errorf("identity: %s: %w", what, err)
		}
		rule := deviceauth.AttributeRule{Attribute: attribute}
		if a.Pattern != "" {
			if rule.Pattern, err = deviceauth.ParsePattern(a.Pattern); err != nil {
				return nil, fmt.Errorf("identity: %s: %w", what, err)
			}
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

// policy translates the options that say how weak a chain may be.
func (t *Trust) policy(trust *deviceauth.Trust) error {
	switch t.WeakestSignature {
	case "", "sha256":
		trust.WeakestSignature = deviceauth.SHA256
	case "sha1":
		trust.WeakestSignature = deviceauth.SHA1
	case "md5":
		trust.WeakestSignature = deviceauth.MD5
	default:
		return fmt.Errorf("weakest_signature: %q is not sha256, sha1 or md5", t.WeakestSignature)
	}
	switch t.Expired {
	case "", "deny":
	case "allow":
		trust.AllowExpired = true
	default:
		grace, err := caddy.ParseDuration(t.Expired)
		if err != nil || grace <= 0 {
			return fmt.Errorf("expired: %q is not deny, allow or a duration", t.Expired)
		}
		trust.ExpiredGrace = grace
	}
	switch t.ExtendedKeyUsage {
	case "", "client":
	case "any":
		trust.AnyExtendedKeyUsage = true
	default:
		return fmt.Errorf("extended_key_usage: %q is not client or any", t.ExtendedKeyUsage)
	}
	switch t.Generic {
	case "", "deny":
	case "allow":
		trust.AllowGeneric = true
	default:
		return fmt.Errorf("generic: %q is not deny or allow", t.Generic)
	}
	if len(t.CRL) == 0 && (t.CRLRequired || t.CRLRefresh != 0) {
		return errors.New("crl_required and crl_refresh need a crl")
	}
	if t.CRLRefresh < 0 {
		return fmt.Errorf("crl_refresh: %s is negative", time.Duration(t.CRLRefresh))
	}
	if t.WeakestRSA != 0 && t.WeakestRSA < 1024 {
		return fmt.Errorf("weakest_rsa: %d bits are below the floor of 1024", t.WeakestRSA)
	}
	return nil
}
