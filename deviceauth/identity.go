package deviceauth

import "regexp"

// Identity says where a certificate names its device.
type Identity struct {
	// MAC, Model and Serial are looked up in order; the first rule that
	// matches gives the value.
	MAC, Model, Serial []AttributeRule
	// Generic marks certificates that many devices share.
	Generic []AttributeRule
	// NoMAC says that the certificates hold no MAC, so that one without is
	// accepted. Default: a certificate without a MAC is refused.
	NoMAC bool
}

// AttributeRule takes a value from one attribute.
type AttributeRule struct {
	// Attribute is where to look.
	Attribute Attribute
	// Pattern matches the whole value; its first group, if it has one, is the
	// result. Default: any value, as it is.
	Pattern *regexp.Regexp
}

// Attribute names a place in a certificate: a type of subject RDN, or a kind
// of subject alternative name.
type Attribute struct{ name string }

// ParseAttribute reads an attribute's name: CN, O, OU, L, ST, C, serialNumber,
// emailAddress, a dotted OID, san.dns, san.uri or san.email.
func ParseAttribute(s string) (Attribute, error) { panic("not yet") }

// ParsePattern compiles an attribute pattern so that it matches whole values.
func ParsePattern(s string) (*regexp.Regexp, error) { panic("not yet") }

// Preset returns the identity rule of a known vendor.
func Preset(vendor string) (Identity, bool) { panic("not yet") }

// Presets lists the known vendors, sorted.
func Presets() []string { panic("not yet") }
