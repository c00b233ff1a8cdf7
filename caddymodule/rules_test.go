package caddymodule

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/device-profile/caddy-device-profile/deviceauth"
	"github.com/device-profile/caddy-device-profile/profilesrc"
)

func device(mac, model string) *deviceauth.Device {
	d := &deviceauth.Device{Model: model, Serial: "CBT1", Vendor: "cisco_spa", Fingerprint: strings.Repeat("ab", 32)}
	if mac == "" {
		return d
	}
	parsed, err := deviceauth.ParseMAC(mac)
	if err != nil {
		panic(err)
	}
	d.MAC, d.HasMAC = parsed, true
	return d
}

// phone is the device of these tests.
var phone = device("000e08aabbcc", "525G2")

func compileRule(t testing.TB, path, profile string) *serveRule {
	t.Helper()
	rule, err := ServeRule{Path: path, Profile: profile}.compile()
	if err != nil {
		t.Fatal(err)
	}
	return rule
}

func TestRuleMatch(t *testing.T) {
	tests := []struct {
		name, path, profile string // the rule
		request             string
		want                string // the profile path, "" if refused
	}{
		{"ok/own MAC", "/{device.mac}.xml", "", "/000e08aabbcc.xml", "/000e08aabbcc.xml"},
		{"ok/case of the request", "/{device.mac}.xml", "", "/000E08AABBCC.XML", "/000e08aabbcc.xml"},
		{"ok/upper", "/SEP{device.mac_upper}.cnf.xml", "", "/sep000e08aabbcc.cnf.xml", "/SEP000E08AABBCC.cnf.xml"},
		{"ok/colons", "/{device.mac_colon}", "", "/00:0e:08:aa:bb:cc", "/00:0e:08:aa:bb:cc"},
		{"ok/dashes", "/{device.mac_dash}", "", "/00-0e-08-aa-bb-cc", "/00-0e-08-aa-bb-cc"},
		{"ok/model", "/spa{device.model}.cfg", "/bootstrap/{device.model}.xml", "/spa525g2.cfg", "/bootstrap/525G2.xml"},
		{"ok/vendor folder", "/{device.mac}.cfg", "/{device.vendor}/{device.mac}.cfg", "/000e08aabbcc.cfg", "/cisco_spa/000e08aabbcc.cfg"},
		{"ok/serial and fingerprint", "/{device.serial}", "/{device.fingerprint}", "/cbt1", "/" + strings.Repeat("ab", 32)},
		{"ok/rest", "/firmware/*", "", "/firmware/a/b.bin", "/firmware/a/b.bin"},
		{"ok/rest elsewhere", "/firmware/*", "/fw/7/*", "/firmware/a/b.bin", "/fw/7/a/b.bin"},
		{"ok/star in a segment", "/{device.mac}-*.cfg", "", "/000e08aabbcc-directory.cfg", "/000e08aabbcc-directory.cfg"},
		{"ok/star matches nothing", "/a*.cfg", "", "/a.cfg", "/a.cfg"},
		{"ok/two stars", "/*/x-*.cfg", "/*/y-*.cfg", "/a/x-b.cfg", "/a/y-b.cfg"},
		{"ok/dropped star", "/any/*", "/one.cfg", "/any/what", "/one.cfg"},
		{"ok/common file", "/*", "", "/000000000000.cfg", "/000000000000.cfg"},
		{"ok/own MAC in the rest", "/*", "", "/000e08aabbcc.cfg", "/000e08aabbcc.cfg"},
		{"ok/a hash", "/*", "", "/fw-" + strings.Repeat("0123456789abcdef", 4) + ".bin", "/fw-" + strings.Repeat("0123456789abcdef", 4) + ".bin"},
		{"ok/a time", "/*", "", "/fw20240101123000.bin", "/fw20240101123000.bin"},
		{"ok/a part number", "/*", "", "/3111-40450-001.sip.ld", "/3111-40450-001.sip.ld"},
		{"ok/a name of nine hex digits", "/*", "", "/000e08dde.eff", "/000e08dde.eff"},
		{"ok/a version", "/*", "", "/firmware-8.9.12-000.bin", "/firmware-8.9.12-000.bin"},

		{"fail/other MAC", "/{device.mac}.xml", "", "/000e08ddeeff.xml", ""},
		{"fail/more", "/{device.mac}.xml", "", "/000e08aabbcc.xml.bak", ""},
		{"fail/less", "/{device.mac}.xml", "", "/000e08aabbcc", ""},
		{"fail/star stays in its segment", "/a*.cfg", "", "/a/b.cfg", ""},
		{"fail/rest of nothing", "/firmware/*", "", "/firmware/", ""},
		{"fail/folder itself", "/firmware/*", "", "/firmware", ""},
		{"fail/other MAC in the rest", "/*", "", "/000e08ddeeff.cfg", ""},
		{"fail/in upper case", "/*", "", "/000E08DDEEFF.cfg", ""},
		{"fail/with colons", "/*", "", "/00:0e:08:dd:ee:ff.cfg", ""},
		{"fail/with dashes", "/*", "", "/x/00-0E-08-DD-EE-FF", ""},
		{"fail/with dots", "/*", "", "/000e.08dd.eeff.cfg", ""},
		{"fail/behind a word", "/*", "", "/cfg000e08ddeeff.xml", ""},
		{"fail/behind a word that ends like hex", "/*", "", "/spa000e08ddeeff.xml", ""},
		{"fail/before a word that begins like hex", "/*", "", "/000e08ddeefffoo", ""},
		{"fail/beside one's own", "/*", "", "/000e08aabbcc-000e08ddeeff.cfg", ""},
		{"fail/as a folder", "/*", "", "/000e08ddeeff/phone.cfg", ""},
		{"fail/in a segment", "/log-*.txt", "", "/log-000e08ddeeff.txt", ""},
		{"fail/more hex behind a dash", "/*", "", "/000e08ddeeff-dd.cfg", ""},
		{"fail/unicode that folds to ASCII", "/spa{device.model}.cfg", "", "/\u017fpa525g2.cfg", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := compileRule(t, tt.path, tt.profile).match(asker{Device: phone}, tt.request)
			if ok != (tt.want != "") || got != tt.want {
				t.Errorf("serve %s %s gives %q, %v for %s; want %q", tt.path, tt.profile, got, ok, tt.request, tt.want)
			}
		})
	}
}

// What a certificate says can't change the shape of a path.
func TestRuleFillsSafely(t *testing.T) {
	rule := compileRule(t, "/m/{device.model}", "/{device.model}/x")
	for _, model := range []string{"", "..", ".", "../..", "a/b", `a\b`, "a\x00", "a\n", "\xff", "/"} {
		if got, ok := rule.match(asker{Device: device("000e08aabbcc", model)}, "/m/"+model); ok {
			t.Errorf("model %q gives %q", model, got)
		}
	}
}

func TestRuleWithoutMAC(t *testing.T) {
	noMAC := device("", "525G2")
	h := &Handler{rules: []*serveRule{compileRule(t, "/{device.mac}.xml", ""), compileRule(t, "/firmware/*", "")}}
	if _, _, err := h.findProfile(asker{Device: noMAC}, "/firmware/a.bin"); err != nil {
		t.Errorf("a rule without a MAC: %v", err)
	}
	for path, want := range map[string]deviceauth.Reason{
		"/.xml":                  deviceauth.NoIdentity,
		"/000e08aabbcc.xml":      deviceauth.NoIdentity,
		"/firmware/000e08aabbcc": deviceauth.NoIdentity,
	} {
		_, _, err := h.findProfile(asker{Device: noMAC}, path)
		if refusal, ok := err.(*deviceauth.Refusal); !ok || refusal.Reason != want {
			t.Errorf("%s: got %v, want %s", path, err, want)
		}
	}
}

func TestRuleForVendors(t *testing.T) {
	rule, err := ServeRule{Path: "/{device.mac}.xml", Vendors: []string{"polycom", "snom"}}.compile()
	if err != nil {
		t.Fatal(err)
	}
	other := *phone
	if _, ok := rule.match(asker{Device: &other}, "/000e08aabbcc.xml"); ok {
		t.Error("matches for another vendor's device")
	}
	other.Vendor = "snom"
	if _, ok := rule.match(asker{Device: &other}, "/000e08aabbcc.xml"); !ok {
		t.Error("does not match for its vendor's device")
	}
}

func TestRuleCompileRefuses(t *testing.T) {
	for _, tt := range []struct{ path, profile, cause string }{
		{"", "", "slash"},
		{"firmware/*", "", "begin with a slash"},
		{"/firmware/", "", "/*"},
		{"/firmware/**", "", "more than one *"},
		{"/a*b*c", "", "more than one *"},
		{"/../x", "", "dot segment"},
		{"//x", "", "empty segment"},
		{"/{device.mac", "", "} "},
		{"/{device.mac}/{device.profile}", "", "unknown placeholder"},
		{"/{http.request.uri}", "", "unknown placeholder"},
		{"/{device.macs}", "", "unknown placeholder"},
		{"/{}", "", "unknown placeholder"},
		{"/a", "b", "begin with a slash"},
		{"/a", "/*", "request path only 0"},
		{"/a/*", "/{device.path}/*", "unknown placeholder"},
	} {
		_, err := ServeRule{Path: tt.path, Profile: tt.profile}.compile()
		if err == nil {
			t.Errorf("serve %q %q is accepted", tt.path, tt.profile)
			continue
		}
		if !strings.Contains(err.Error()+" ", tt.cause) || !strings.Contains(err.Error(), tt.path) {
			t.Errorf("serve %q %q: %v; want the rule and %q", tt.path, tt.profile, err, tt.cause)
		}
	}
}

func TestRequestPath(t *testing.T) {
	for _, target := range []string{"/a.cfg", "/a%20b.cfg", "/stra%C3%9Fe", "/a%2523", "/a..b", "/..."} {
		if got, ok := requestPath(request(t, target)); !ok || got == "" {
			t.Errorf("%s is refused", target)
		}
	}
	for _, target := range []string{
		"/../a", "/a/../b", "/a/..", "/%2e%2e/a", "/a/%2E%2e/b", "/a%2fb", "/a%2Fb", "/..%2f..%2fa", "/a%00b", "/a%0ab",
		`/a%5cb`, "//a", "/a//b", "/./a", "/a%ff", "/" + strings.Repeat("x", 512),
	} {
		if got, ok := requestPath(request(t, target)); ok {
			t.Errorf("%s is accepted as %q", target, got)
		}
	}
}

func request(t testing.TB, target string) *http.Request {
	t.Helper()
	u, err := url.ParseRequestURI(target)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Request{Method: http.MethodGet, URL: u}
}

// otherPhone finds the MAC 000e08ddeeff as a path's segment, in any notation.
// Separators stand between pairs: 000e08dde.eff is no MAC, nor is the part number
// in 3111-40450-001.sip.ld, although it has 12 digits.
var otherPhone = regexp.MustCompile(`(?i)(^|/)00[:.-]?0e[:.-]?08[:.-]?dd[:.-]?ee[:.-]?ff($|/)`)

// FuzzPathAgainstRules asks for arbitrary paths with generous rules. Whatever
// comes out must be a valid name, and never one that names another device.
func FuzzPathAgainstRules(f *testing.F) {
	for _, seed := range []string{"/000e08aabbcc.xml", "/firmware/a.bin", "/%2e%2e/x", "/000e08ddeeff.cfg", "/spa000e08ddeeff", "/00-0e-08-dd-ee-ff", "/a%2fb", "/a/../b", "/000e08dde.eff"} {
		f.Add(seed)
	}
	h := &Handler{rules: []*serveRule{
		compileRule(f, "/{device.mac}.xml", ""), compileRule(f, "/x-*.cfg", "/y/*.cfg"), compileRule(f, "/*", ""),
	}}
	f.Fuzz(func(t *testing.T, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		v := &visit{device: phone}
		if h.authorize(v, &http.Request{Method: http.MethodGet, URL: u}) != nil {
			return
		}
		name := v.name.String()
		if again, err := profilesrc.NewName(name); err != nil || again != v.name {
			t.Errorf("%q gives the name %q: %v", target, name, err)
		}
		if otherPhone.MatchString(name) {
			t.Errorf("%q gives another phone's %q", target, name)
		}
	})
}

// Every way to write another device's MAC as a word of its own is found.
func TestNamesOtherDevice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var mac deviceauth.MAC
		copy(mac[:], rapid.SliceOfN(rapid.Byte(), 6, 6).Draw(t, "mac"))
		if mac == phone.MAC || mac == (deviceauth.MAC{}) {
			t.Skip("no other device")
		}
		digits := mac.String()
		spelling := rapid.SampledFrom([]string{
			digits, mac.Upper(), mac.Colon(), mac.Dash(), digits[:4] + "." + digits[4:8] + "." + digits[8:], digits[:6] + "-" + digits[6:],
		}).Draw(t, "spelling")
		before := rapid.SampledFrom([]string{"", "cfg", "spa", "SEP", "phone-", "x/", "log_", "000e08aabbcc-"}).Draw(t, "before")
		after := rapid.SampledFrom([]string{"", ".cfg", "-directory.xml", "/x", "_1", "phone"}).Draw(t, "after")
		if !namesOtherDevice(before+spelling+after, phone) {
			t.Fatalf("%q is let through", before+spelling+after)
		}
	})
}

func BenchmarkRules(b *testing.B) {
	h := &Handler{rules: []*serveRule{
		compileRule(b, "/{device.mac}.xml", "/{device.vendor}/{device.mac}.xml"),
		compileRule(b, "/spa{device.model}.cfg", "/bootstrap/{device.model}.xml"),
		compileRule(b, "/firmware/*", ""),
	}}
	for name, path := range map[string]string{"first": "/000e08aabbcc.xml", "last": "/firmware/spa525g2-7.6.2.bin"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := h.findProfile(asker{Device: phone}, path); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
