package caddymodule

import (
	"strings"

	"github.com/device-profile/caddy-device-profile/deviceauth"
)

// namesOtherDevice reports whether s holds the MAC of a device other than d:
// 12 hex digits standing alone, bare or with ':', '-' or '.' between pairs.
// All zeros are no device's MAC, but the usual name of a file for all phones.
//
// It keeps a rule with a generous wildcard from giving away other phones'
// profiles, so it errs on the side of refusing.
func namesOtherDevice(s string, d *deviceauth.Device) bool {
	s = strings.ToLower(s)
	for start := range s {
		digits, end := macAt(s, start)
		if digits == "" || !standsAlone(s, start, end) {
			continue
		}
		if digits != "000000000000" && (!d.HasMAC || digits != d.MAC.String()) {
			return true
		}
	}
	return false
}

// macAt reads 12 hex digits that begin at start, with at most one separator
// between each two pairs. It returns no digits if there are fewer.
func macAt(s string, start int) (digits string, end int) {
	var b [12]byte
	n, i := 0, start
	for i < len(s) && n < len(b) {
		switch c := s[i]; {
		case isHex(c):
			b[n] = c
			n++
		case n > 0 && n%2 == 0 && strings.IndexByte(":-.", c) >= 0 && i+1 < len(s) && isHex(s[i+1]):
			// a separator between two pairs
		default:
			return "", 0
		}
		i++
	}
	if n < len(b) {
		return "", 0
	}
	return string(b[:]), i
}

// standsAlone reports whether s[start:end] is not merely a part of a longer
// hex number. A letter from a to f beside it is no digit if it belongs to a
// word: the MAC in "spa000e08aabbcc" stands alone, although 'a' is before it.
func standsAlone(s string, start, end int) bool {
	return !digitBefore(s, start) && !digitAfter(s, end)
}

func digitBefore(s string, start int) bool {
	for i := start - 1; i >= 0; i-- {
		if !isHex(s[i]) {
			return i != start-1 && !isLetter(s[i])
		}
		if !isLetter(s[i]) {
			return true
		}
	}
	return start > 0
}

func digitAfter(s string, end int) bool {
	for i := end; i < len(s); i++ {
		if !isHex(s[i]) {
			return i != end && !isLetter(s[i])
		}
		if !isLetter(s[i]) {
			return true
		}
	}
	return end < len(s)
}

func isHex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' }

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' }
