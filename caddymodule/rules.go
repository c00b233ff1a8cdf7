package caddymodule

import (
	"fmt"
	"slices"
	"strings"
)

// ServeRule lets a device fetch one kind of path.
type ServeRule struct {
	// Path is the pattern a request path is compared with, ignoring case. It
	// may hold `{device.*}` placeholders, which are filled from the verified
	// certificate and, for `{device.attr.*}`, from the inventory alone, `*`, which matches any characters within one segment,
	// and a trailing `/*`, which matches any rest. Required.
	Path string `json:"path"`

	// Profile is the path of the profile to serve. It may hold the same
	// placeholders; each `*` stands for what the `*` at the same position of
	// Path matched. Default: Path.
	Profile string `json:"profile,omitempty"`

	// Vendors limits the rule to the devices that the trusts of these labels
	// vouch for. Default: those of all trusts.
	Vendors []string `json:"vendors,omitempty"`
}

// serveRule is a compiled ServeRule.
type serveRule struct {
	source   ServeRule
	path     []token
	profile  []token
	needsMAC bool // it can match only devices that have a MAC
	// usesDevice is set if the profile's name or the right to it depends on who
	// asks.
	usesDevice bool
	// ownProfile is set if the rule gives one profile to one device. An inventory
	// can then name another.
	ownProfile bool
	attrs      []string // the inventory's columns that it uses
}

// token is one piece of a pattern.
type token struct {
	kind tokenKind
	text string // the literal, or the placeholder's name
}

type tokenKind int

const (
	literal     tokenKind = iota
	placeholder           // filled from the device
	star                  // any characters but a slash
	rest                  // one or more characters, slashes included
)

// compile checks the rule and prepares it for matching.
func (r ServeRule) compile() (*serveRule, error) {
	path, err := parsePattern(r.Path)
	if err != nil {
		return nil, fmt.Errorf("serve %q: %w", r.Path, err)
	}
	profile := path
	if r.Profile != "" {
		profile, err = parsePattern(r.Profile)
		if err != nil {
			return nil, fmt.Errorf("serve %q: profile path %q: %w", r.Path, r.Profile, err)
		}
	}
	if wants, has := countStars(profile), countStars(path); wants > has {
		return nil, fmt.Errorf("serve %q: profile path %q has %d *, the request path only %d", r.Path, r.Profile, wants, has)
	}
	needsMAC := usesMAC(path) || usesMAC(profile)
	usesDevice := hasPlaceholder(path) || hasPlaceholder(profile)
	ownProfile := countStars(path) == 0 && (namesDevice(path) || namesDevice(profile))
	return &serveRule{
		source: r, path: path, profile: profile, needsMAC: needsMAC, usesDevice: usesDevice, ownProfile: ownProfile,
		attrs: append(attrsOf(path), attrsOf(profile)...),
	}, nil
}

// parsePattern splits a pattern into tokens.
func parsePattern(pattern string) ([]token, error) {
	if !strings.HasPrefix(pattern, "/") {
		return nil, fmt.Errorf("must begin with a slash")
	}
	if strings.HasSuffix(pattern, "/") {
		return nil, fmt.Errorf("ends with a slash, so it names no profile; end it with /* for everything below")
	}
	if !cleanPath(pattern) {
		return nil, fmt.Errorf("holds an empty segment, a dot segment, a backslash or a control character")
	}
	for segment := range strings.SplitSeq(pattern, "/") {
		if strings.Count(segment, "*") > 1 {
			return nil, fmt.Errorf("more than one * in the segment %q", segment)
		}
	}
	var tokens []token
	for s := pattern; s != ""; {
		var t token
		var n int
		switch {
		case s == "*" && strings.HasSuffix(pattern, "/*"):
			t, n = token{kind: rest}, 1
		case s[0] == '*':
			t, n = token{kind: star}, 1
		case s[0] == '{':
			end := strings.IndexByte(s, '}')
			if end < 0 {
				return nil, fmt.Errorf("{ without }")
			}
			name := s[1:end]
			if err := checkPlaceholder(name); err != nil {
				return nil, err
			}
			t, n = token{kind: placeholder, text: name}, end+1
		default:
			n = strings.IndexAny(s, "*{")
			if n < 0 {
				n = len(s)
			}
			t = token{kind: literal, text: s[:n]}
		}
		tokens = append(tokens, t)
		s = s[n:]
	}
	return tokens, nil
}

func countStars(tokens []token) int {
	n := 0
	for _, t := range tokens {
		if t.kind == star || t.kind == rest {
			n++
		}
	}
	return n
}

// match reports whether path, a decoded request path, is one that the rule
// gives to the device, and the path of its profile if so.
func (r *serveRule) match(d asker, path string) (profile string, ok bool) {
	if len(r.source.Vendors) > 0 && !slices.Contains(r.source.Vendors, d.Vendor) {
		return "", false
	}
	filled, ok := fill(r.path, d)
	if !ok {
		return "", false
	}
	var captures []string
	captures, ok = matchTokens(filled, path, captures)
	if !ok {
		return "", false
	}
	for _, c := range captures {
		if namesOtherDevice(c, d.Device) {
			return "", false
		}
	}
	if r.ownProfile && d.row.Profile != "" {
		return d.row.Profile, true
	}
	target, ok := fill(r.profile, d)
	if !ok {
		return "", false
	}
	var b strings.Builder
	for _, t := range target {
		if t.kind == literal {
			b.WriteString(t.text)
			continue
		}
		b.WriteString(captures[0])
		captures = captures[1:]
	}
	return b.String(), true
}

// usesMAC reports whether tokens hold a placeholder of the device's MAC.
func usesMAC(tokens []token) bool {
	return slices.ContainsFunc(tokens, func(t token) bool {
		return t.kind == placeholder && strings.HasPrefix(t.text, "device.mac")
	})
}

// namesDevice reports whether tokens hold a placeholder that no other device of
// its vendor fills alike.
func namesDevice(tokens []token) bool {
	return usesMAC(tokens) || slices.ContainsFunc(tokens, func(t token) bool {
		return t.kind == placeholder && (t.text == "device.serial" || t.text == "device.fingerprint")
	})
}

// attrsOf returns the inventory's columns that tokens have placeholders for.
func attrsOf(tokens []token) (columns []string) {
	for _, t := range tokens {
		if column, ok := attrColumn(t.text); ok && t.kind == placeholder {
			columns = append(columns, column)
		}
	}
	return columns
}

func hasPlaceholder(tokens []token) bool {
	return slices.ContainsFunc(tokens, func(t token) bool { return t.kind == placeholder })
}

// sharesMACs reports whether the rule gives one profile to whichever vendor's
// device has a MAC. With several vendors, each could then speak for the MACs of
// the others.
func (r *serveRule) sharesMACs() bool {
	byVendor := slices.Contains(r.profile, token{kind: placeholder, text: "device.vendor"})
	return r.needsMAC && !byVendor && len(r.source.Vendors) != 1
}

// fill replaces the placeholders by the device's values. It fails if the
// device lacks one, or if a value could change the path's shape: certificates
// are signed by the vendor, but not for what a path is made of, and an
// inventory may be somebody's spreadsheet.
func fill(tokens []token, d asker) ([]token, bool) {
	filled := make([]token, len(tokens))
	for i, t := range tokens {
		if t.kind == placeholder {
			value, _ := d.value(t.text)
			if !safeSegment(value) {
				return nil, false
			}
			t = token{kind: literal, text: value}
		}
		filled[i] = t
	}
	return filled, true
}

// matchTokens matches s against literals and wildcards, and appends what each
// wildcard matched to captures.
func matchTokens(tokens []token, s string, captures []string) ([]string, bool) {
	if len(tokens) == 0 {
		return captures, s == ""
	}
	t := tokens[0]
	switch t.kind {
	case rest:
		return append(captures, s), s != ""
	case star:
		end := strings.IndexByte(s, '/')
		if end < 0 {
			end = len(s)
		}
		for n := end; n >= 0; n-- {
			if got, ok := matchTokens(tokens[1:], s[n:], append(captures, s[:n])); ok {
				return got, true
			}
		}
		return nil, false
	default:
		if len(s) < len(t.text) || !equalFoldASCII(s[:len(t.text)], t.text) {
			return nil, false
		}
		return matchTokens(tokens[1:], s[len(t.text):], captures)
	}
}

// equalFoldASCII compares two strings of one length, ignoring the case of
// ASCII letters alone: other letters fold in ways that file systems don't.
func equalFoldASCII(a, b string) bool {
	for i := range len(a) {
		if lowerASCII(a[i]) != lowerASCII(b[i]) {
			return false
		}
	}
	return true
}

func lowerASCII(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
