package deviceauth

import (
	"encoding/hex"
	"errors"
	"strings"
)

// MAC is a device's 48-bit hardware address.
type MAC [6]byte

var errMAC = errors.New("a MAC is 12 hex digits, bare or separated as in 00:0e:08:aa:bb:cc, 00-0e-08-aa-bb-cc or 000e.08aa.bbcc")

// ParseMAC reads 12 hex digits in either case, bare or with one kind of
// separator: "000e08aabbcc", "00:0E:08:AA:BB:CC", "00-0e-08-aa-bb-cc",
// "000e.08aa.bbcc".
func ParseMAC(s string) (MAC, error) {
	var mac MAC
	digits, ok := bareDigits(s)
	if !ok {
		return mac, errMAC
	}
	if n, err := hex.Decode(mac[:], []byte(digits)); err != nil || n != len(mac) {
		return MAC{}, errMAC
	}
	return mac, nil
}

// bareDigits removes the separators of the known notations.
func bareDigits(s string) (string, bool) {
	switch len(s) {
	case 12:
		return s, true
	case 14:
		return strings.ReplaceAll(s, ".", ""), s[4] == '.' && s[9] == '.'
	case 17:
		sep := s[2]
		if sep != ':' && sep != '-' {
			return "", false
		}
		for i := 2; i < len(s); i += 3 {
			if s[i] != sep {
				return "", false
			}
		}
		return strings.ReplaceAll(s, string(sep), ""), true
	}
	return "", false
}

// String returns 12 lower-case hex digits: "000e08aabbcc".
func (m MAC) String() string { return hex.EncodeToString(m[:]) }

// Upper returns 12 upper-case hex digits: "000E08AABBCC".
func (m MAC) Upper() string { return strings.ToUpper(m.String()) }

// Colon returns lower-case pairs with colons: "00:0e:08:aa:bb:cc".
func (m MAC) Colon() string { return m.pairs(':') }

// Dash returns lower-case pairs with dashes: "00-0e-08-aa-bb-cc".
func (m MAC) Dash() string { return m.pairs('-') }

func (m MAC) pairs(separator byte) string {
	b := make([]byte, 0, 17)
	for i := range m {
		if i > 0 {
			b = append(b, separator)
		}
		b = hex.AppendEncode(b, m[i:i+1])
	}
	return string(b)
}

// names reports whether m can be one device's own address: not all zeros, and
// no group or broadcast address.
func (m MAC) names() bool { return m != MAC{} && m[0]&1 == 0 }
