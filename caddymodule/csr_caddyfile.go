package caddymodule

import (
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// UnmarshalCaddyfile reads the module behind get_certificate. Syntax:
//
//	csr <fqdn> {
//		organization        <text>
//		organizational_unit <text>
//		locality            <text>
//		province            <text>
//		country             <two letters>
//		email               <address>
//		names               <name|address>...
//		key_size            <bits>
//		renew_before        <duration>
//		refresh             <duration>
//		root                <file|folder|glob>...
//	}
func (c *CSR) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the module's name
	if !d.AllArgs(&c.FQDN) {
		return d.ArgErr()
	}
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if seen[option] {
			return d.Errf("csr %s: duplicate option %s", c.FQDN, option)
		}
		seen[option] = true
		if err := c.unmarshalOption(d, option); err != nil {
			return err
		}
	}
	return nil
}

func (c *CSR) unmarshalOption(d *caddyfile.Dispenser, option string) (err error) {
	switch option {
	case "organization":
		c.Organization, err = oneWord(d)
	case "organizational_unit":
		c.OrganizationalUnit, err = oneWord(d)
	case "locality":
		c.Locality, err = oneWord(d)
	case "province":
		c.Province, err = oneWord(d)
	case "country":
		c.Country, err = oneWord(d)
	case "email":
		c.Email, err = oneWord(d)
	case "names":
		c.Names, err = words(d)
	case "root":
		c.RootFiles, err = words(d)
	case "key_size":
		var bits string
		if bits, err = oneWord(d); err != nil {
			return err
		}
		if c.KeySize, err = strconv.Atoi(bits); err != nil || c.KeySize <= 0 {
			return d.Errf("key_size: %q is not a number of bits", bits)
		}
	case "renew_before":
		c.RenewBefore, err = duration(d, option)
	case "refresh":
		c.Refresh, err = duration(d, option)
	default:
		err = d.Errf("csr %s: unrecognized option %q", c.FQDN, option)
	}
	return err
}

// words reads an option's arguments, at least one.
func words(d *caddyfile.Dispenser) ([]string, error) {
	args := d.RemainingArgs()
	if len(args) == 0 {
		return nil, d.ArgErr()
	}
	return args, noBlock(d)
}

// duration reads an option's only argument, a duration above zero.
func duration(d *caddyfile.Dispenser, option string) (caddy.Duration, error) {
	word, err := oneWord(d)
	if err != nil {
		return 0, err
	}
	value, err := caddy.ParseDuration(word)
	if err != nil || value <= 0 {
		return 0, d.Errf("%s: %q is not a duration", option, word)
	}
	return caddy.Duration(value), nil
}

// Interface guard.
var _ caddyfile.Unmarshaler = (*CSR)(nil)
