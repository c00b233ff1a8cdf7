package caddymodule

import (
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
		c.KeySize, err = number(d, option)
	case "renew_before":
		c.RenewBefore, err = duration(d, option)
	case "refresh":
		c.Refresh, err = duration(d, option)
	default:
		err = d.Errf("csr %s: unrecognized option %q", c.FQDN, option)
	}
	return err
}

// Interface guard.
var _ caddyfile.Unmarshaler = (*CSR)(nil)
