package deviceauth

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
)

// Identity says where a certificate names its device.
type Identity struct {
	// MAC, Model and Serial are looked up in order; the first rule that finds
	// a value gives it.
	MAC, Model, Serial []AttributeRule
	// Generic marks certificates that many devices share.
	Generic []AttributeRule
	// GenericWithoutMAC says that a certificate without a MAC is one that many
	// devices share.
	GenericWithoutMAC bool
	// NoMAC says that the certificates hold no MAC, so that one without is
	// accepted. Default: a certificate without a MAC is refused.
	NoMAC bool
}

// AttributeRule takes a value from one attribute.
type AttributeRule struct {
	// Attribute is where to look.
	Attribute Attribute
	// Pattern, as made by ParsePattern, matches the whole value; its first
	// group, if it has one, is the result. Default: any value, as it is.
	Pattern *regexp.Regexp
}

// Attribute names a place in a certificate: a type of subject RDN, or a kind
// of subject alternative name.
type Attribute struct {
	name string
	oid  asn1.ObjectIdentifier // nil for subject alternative names
}

// String returns the attribute's name as it was given.
func (a Attribute) String() string { return a.name }

// attributeOIDs are the RDN types that have a name here (RFC 4519, RFC 2985).
var attributeOIDs = map[string]asn1.ObjectIdentifier{
	"CN":           {2, 5, 4, 3},
	"serialNumber": {2, 5, 4, 5},
	"C":            {2, 5, 4, 6},
	"L":            {2, 5, 4, 7},
	"ST":           {2, 5, 4, 8},
	"O":            {2, 5, 4, 10},
	"OU":           {2, 5, 4, 11},
	"emailAddress": {1, 2, 840, 113549, 1, 9, 1},
}

// ParseAttribute reads an attribute's name: CN, O, OU, L, ST, C, serialNumber,
// emailAddress, a dotted OID, san.dns, san.uri or san.email.
func ParseAttribute(s string) (Attribute, error) {
	switch s {
	case "san.dns", "san.uri", "san.email":
		return Attribute{name: s}, nil
	}
	if oid, ok := attributeOIDs[s]; ok {
		return Attribute{name: s, oid: oid}, nil
	}
	oid, ok := parseOID(s)
	if !ok {
		return Attribute{}, fmt.Errorf("unknown attribute %q: known are CN O OU L ST C serialNumber emailAddress san.dns san.uri san.email, and dotted OIDs", s)
	}
	return Attribute{name: s, oid: oid}, nil
}

func parseOID(s string) (asn1.ObjectIdentifier, bool) {
	parts := strings.Split(s, ".")
	if len(parts) < 2 {
		return nil, false
	}
	oid := make(asn1.ObjectIdentifier, len(parts))
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil {
			return nil, false
		}
		oid[i] = int(n)
	}
	return oid, true
}

// ParsePattern compiles an attribute pattern, a regular expression in RE2
// syntax, so that it matches whole values only.
func ParsePattern(s string) (*regexp.Regexp, error) {
	// Compiled alone first: unbalanced groups must not eat the anchors.
	if _, err := syntax.Parse(s, syntax.Perl); err != nil {
		return nil, fmt.Errorf("pattern %q: %w", s, err)
	}
	return regexp.Compile(`\A(?:` + s + `)\z`)
}

// values returns all values that the certificate has for the attribute.
func (a Attribute) values(cert *x509.Certificate) []string {
	switch a.name {
	case "san.dns":
		return cert.DNSNames
	case "san.email":
		return cert.EmailAddresses
	case "san.uri":
		uris := make([]string, len(cert.URIs))
		for i, uri := range cert.URIs {
			uris[i] = uri.String()
		}
		return uris
	}
	var values []string
	for _, attribute := range cert.Subject.Names {
		if text, ok := attribute.Value.(string); ok && attribute.Type.Equal(a.oid) {
			values = append(values, text)
		}
	}
	return values
}

// find returns what the rule takes from the certificate: one result for each
// value that matches.
func (r AttributeRule) find(cert *x509.Certificate) []string {
	var found []string
	for _, value := range r.Attribute.values(cert) {
		if r.Pattern == nil {
			found = append(found, value)
			continue
		}
		switch groups := r.Pattern.FindStringSubmatch(value); len(groups) {
		case 0: // no match
		case 1:
			found = append(found, groups[0])
		default:
			found = append(found, groups[1])
		}
	}
	return found
}

// firstText returns the first value that any of the rules finds, or "".
func firstText(rules []AttributeRule, cert *x509.Certificate) string {
	for _, rule := range rules {
		for _, value := range rule.find(cert) {
			if value != "" {
				return value
			}
		}
	}
	return ""
}

// readMAC returns the MAC that the first rule to find one finds. It fails if
// that rule finds two different ones.
func readMAC(rules []AttributeRule, cert *x509.Certificate) (mac MAC, ok bool, err error) {
	for _, rule := range rules {
		for _, value := range rule.find(cert) {
			found, parseErr := ParseMAC(value)
			if parseErr != nil || !found.names() {
				continue
			}
			if ok && found != mac {
				return MAC{}, false, fmt.Errorf("%s holds two MACs, %s and %s", rule.Attribute, mac, found)
			}
			mac, ok = found, true
		}
		if ok {
			return mac, true, nil
		}
	}
	return MAC{}, false, nil
}

// isGeneric reports whether many devices share the certificate.
func (i Identity) isGeneric(cert *x509.Certificate, hasMAC bool) bool {
	if i.GenericWithoutMAC && !hasMAC {
		return true
	}
	for _, rule := range i.Generic {
		if len(rule.find(cert)) > 0 {
			return true
		}
	}
	return false
}

// Read returns what the certificate says of its device by this rule, verified
// or not. The error is a *Refusal with GenericCertificate or NoIdentity.
func (i Identity) Read(cert *x509.Certificate) (*Device, error) {
	d, refusal := i.read(cert)
	if refusal != nil {
		return nil, refusal
	}
	return &d.Device, nil
}

func (i Identity) read(cert *x509.Certificate) (identified, *Refusal) {
	d := identified{Device: Device{
		Model:       firstText(i.Model, cert),
		Serial:      firstText(i.Serial, cert),
		Fingerprint: fingerprint(cert),
	}}
	mac, hasMAC, err := readMAC(i.MAC, cert)
	if err != nil {
		return d, &Refusal{Reason: NoIdentity, Detail: err.Error()}
	}
	if i.isGeneric(cert, hasMAC) {
		d.generic = true
		return d, &Refusal{Reason: GenericCertificate, Detail: fmt.Sprintf("%s is the certificate of many devices", cert.Subject)}
	}
	if !hasMAC && !i.NoMAC {
		return d, &Refusal{Reason: NoIdentity, Detail: fmt.Sprintf("%s holds no MAC where the identity rule looks", cert.Subject)}
	}
	d.MAC, d.HasMAC = mac, hasMAC
	return d, nil
}
