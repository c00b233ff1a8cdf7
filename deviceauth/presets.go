package deviceauth

import (
	"maps"
	"slices"
)

// presets are the vendors' identity rules. A value is taken only if a pattern
// matches all of it; MACs are checked beyond the patterns.
var presets = map[string]Identity{
	// Algo: CN = MAC (device certificate guide).
	"algo": {MAC: rules("CN", "")},

	// Cisco Unified IP phones with a manufacturing-installed certificate:
	// CN=CP-8841-SEP000E08AABBCC, serialNumber="PID:CP-8841 SN:FCH12345678".
	// The same CAs sign switches and access points, whose CN has no SEP part.
	"cisco_mic": {
		MAC: rules("CN", `(?i)[a-z0-9-]+-SEP([0-9a-f]{12})`),
		Model: append(
			rules("CN", `(?i)([a-z0-9-]+)-SEP[0-9a-f]{12}`),
			rules("serialNumber", `PID:(\S+)(?: .*)?`)...),
		Serial: rules("serialNumber", `(?:.* )?SN:(\S+)`),
	},

	// Cisco Small Business (SPA300, SPA500, WIP310, ATAs). The administration
	// guide has OU=SPA-962, L=<serial>, ST=<MAC>; certificates in the field have
	// OU=cisco.com and CN="SPA-525G2, MAC: 708105B37234, Serial: CBT153908BX".
	// The model is what follows "SPA-", as in the names the phones ask for.
	"cisco_spa": {
		MAC: append(
			rules("ST", ""),
			rules("CN", `(?i)(?:.*,)? *MAC: *([0-9a-f]{12}) *(?:,.*)?`)...),
		Model: append(
			rules("OU", `(?i:SPA-?)?([A-Za-z0-9-]*[0-9][A-Za-z0-9-]*)`),
			rules("CN", `(?i:SPA-?)?([A-Za-z0-9-]*[0-9][A-Za-z0-9-]*) *,.*`)...),
		Serial: rules("L", ""),
		Generic: append(
			rules("L", `(?i)ciscogeneric`),
			rules("ST", `(?i)ciscogeneric`)...),
	},

	// Grandstream: CN = MAC. The key of CN=GXE50XX ships in firmware.
	"grandstream": {MAC: rules("CN", ""), Generic: rules("CN", `(?i)GXE50XX`)},

	// Polycom: CN = MAC (device certificate technical bulletin).
	"polycom": {MAC: rules("CN", "")},

	// Snom: CN = MAC (mutual TLS how-to).
	"snom": {MAC: rules("CN", "")},

	// Yealink: CN = MAC in unique certificates; the generic one has a text
	// there (security certificates guide).
	"yealink": {MAC: rules("CN", ""), GenericWithoutMAC: true},
}

// rules returns one rule, for the tables above: their attributes and patterns
// are constants.
func rules(attribute, pattern string) []AttributeRule {
	a, err := ParseAttribute(attribute)
	if err != nil {
		panic(err)
	}
	rule := AttributeRule{Attribute: a}
	if pattern != "" {
		if rule.Pattern, err = ParsePattern(pattern); err != nil {
			panic(err)
		}
	}
	return []AttributeRule{rule}
}

// Preset returns the identity rule of a known vendor.
func Preset(vendor string) (Identity, bool) {
	identity, ok := presets[vendor]
	return identity, ok
}

// Presets lists the known vendors, sorted.
func Presets() []string { return slices.Sorted(maps.Keys(presets)) }
