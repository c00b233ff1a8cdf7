package deviceauth_test

import (
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"testing"

	"github.com/device-profile/caddy-device-profile/deviceauth"
	dt "github.com/device-profile/caddy-device-profile/deviceauth/deviceauthtest"
)

var oidSerial = []int{2, 5, 4, 5}

func TestPresets(t *testing.T) {
	cisco := func(cn string) pkix.Name {
		return pkix.Name{
			Country: []string{"US"}, Province: []string{"708105B37234"}, Locality: []string{"CBT153908BX"},
			Organization: []string{"Cisco Systems, Inc."}, OrganizationalUnit: []string{"cisco.com"}, CommonName: cn,
		}
	}
	tests := []struct {
		name, preset       string
		subject            pkix.Name
		want               deviceauth.Reason
		mac, model, serial string
	}{
		{name: "ok/guide", preset: "cisco_spa", subject: pkix.Name{OrganizationalUnit: []string{"SPA-962"}, Locality: []string{"88012BA01234"}, Province: []string{"000e08abcdef"}}, mac: "000e08abcdef", model: "962", serial: "88012BA01234"},
		{name: "ok/field", preset: "cisco_spa", subject: cisco("SPA-525G2, MAC: 708105B37234, Serial: CBT153908BX"), mac: "708105b37234", model: "525G2", serial: "CBT153908BX"},
		{name: "ok/MAC in CN alone", preset: "cisco_spa", subject: pkix.Name{Province: []string{"California"}, CommonName: "SPA504G, MAC: 708105B37234, Serial: X"}, mac: "708105b37234", model: "504G"},
		{name: "ok/not an SPA", preset: "cisco_spa", subject: pkix.Name{OrganizationalUnit: []string{"WIP310"}, Province: []string{"000e08abcdef"}}, mac: "000e08abcdef", model: "WIP310"},
		{name: "fail/generic", preset: "cisco_spa", subject: pkix.Name{OrganizationalUnit: []string{"cisco.com"}, Locality: []string{"ciscogeneric"}, Province: []string{"ciscogeneric"}}, want: deviceauth.GenericCertificate},
		{name: "fail/generic by L alone", preset: "cisco_spa", subject: pkix.Name{Locality: []string{"CiscoGeneric"}, Province: []string{"000e08abcdef"}}, want: deviceauth.GenericCertificate},
		{name: "fail/MAC as part of a word", preset: "cisco_spa", subject: pkix.Name{CommonName: "X, NOTMAC: 708105B37234"}, want: deviceauth.NoIdentity},
		{name: "ok/MIC", preset: "cisco_mic", subject: pkix.Name{CommonName: "CP-8841-SEP00562B043615", SerialNumber: "PID:CP-8841 SN:FCH12345678"}, mac: "00562b043615", model: "CP-8841", serial: "FCH12345678"},
		{name: "fail/switch with a MIC", preset: "cisco_mic", subject: pkix.Name{CommonName: "WS-C3560-00562B043615", SerialNumber: "PID:WS-C3560 SN:FCH1"}, want: deviceauth.NoIdentity},
		{name: "ok/upper case", preset: "polycom", subject: cn("0004F2AABBCC"), mac: "0004f2aabbcc"},
		{name: "fail/name", preset: "polycom", subject: cn("Polycom Phone"), want: deviceauth.NoIdentity},
		{name: "fail/MAC and more", preset: "polycom", subject: cn("0004f2aabbcc.evil"), want: deviceauth.NoIdentity},
		{name: "fail/all zeros", preset: "polycom", subject: cn("000000000000"), want: deviceauth.NoIdentity},
		{name: "fail/broadcast", preset: "polycom", subject: cn("ffffffffffff"), want: deviceauth.NoIdentity},
		{name: "fail/MAC in another attribute", preset: "polycom", subject: pkix.Name{Organization: []string{"0004f2aabbcc"}, CommonName: "x"}, want: deviceauth.NoIdentity},
		{name: "ok/unique", preset: "yealink", subject: cn("805ec0aabbcc"), mac: "805ec0aabbcc"},
		{name: "fail/generic", preset: "yealink", subject: cn("Yealink Equipment"), want: deviceauth.GenericCertificate},
		{name: "ok", preset: "snom", subject: cn("000413AABBCC"), mac: "000413aabbcc"},
		{name: "ok", preset: "grandstream", subject: cn("000b82aabbcc"), mac: "000b82aabbcc"},
		{name: "fail/shared key", preset: "grandstream", subject: cn("GXE50XX"), want: deviceauth.GenericCertificate},
		{name: "fail/other name", preset: "grandstream", subject: cn("HT801"), want: deviceauth.NoIdentity},
		{name: "ok", preset: "algo", subject: cn("0022eeaabbcc"), mac: "0022eeaabbcc"},
	}
	root := dt.Must(dt.NewRoot(cn("Root"), dt.ECDSA(elliptic.P256())))
	for _, tt := range tests {
		t.Run(tt.preset+"/"+tt.name, func(t *testing.T) {
			cert := dt.Must(root.Issue(tt.subject, dt.Key(root.Key))).Cert
			device, err := preset(tt.preset).Read(cert)
			if tt.want != "" {
				wantRefusal(t, err, tt.want)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if device.MAC.String() != tt.mac || device.Model != tt.model || device.Serial != tt.serial {
				t.Errorf("MAC %s model %q serial %q, want %s %q %q", device.MAC, device.Model, device.Serial, tt.mac, tt.model, tt.serial)
			}
		})
	}
}

func TestTwoMACsAreNone(t *testing.T) {
	subject := pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{
		{Type: []int{2, 5, 4, 3}, Value: "0004f2aabbcc"}, {Type: []int{2, 5, 4, 3}, Value: "0004f2ddeeff"},
	}}
	cert := dt.Must(dt.SelfSigned(subject, dt.ECDSA(elliptic.P256()))).Cert
	_, err := preset("polycom").Read(cert)
	wantRefusal(t, err, deviceauth.NoIdentity)
}

func TestCustomIdentity(t *testing.T) {
	rule := func(attribute, pattern string) []deviceauth.AttributeRule {
		a, err := deviceauth.ParseAttribute(attribute)
		if err != nil {
			t.Fatal(err)
		}
		r := deviceauth.AttributeRule{Attribute: a}
		if pattern != "" {
			if r.Pattern, err = deviceauth.ParsePattern(pattern); err != nil {
				t.Fatal(err)
			}
		}
		return []deviceauth.AttributeRule{r}
	}
	subject := pkix.Name{CommonName: "phone 0004f2aabbcc", ExtraNames: []pkix.AttributeTypeAndValue{{Type: oidSerial, Value: "S1"}}}
	cert := dt.Must(dt.SelfSigned(subject, dt.ECDSA(elliptic.P256()), dt.Template(func(c *x509.Certificate) {
		c.DNSNames = []string{"0004f2000001.phones.example"}
		c.EmailAddresses = []string{"0004f2000002@phones.example"}
		c.URIs = []*url.URL{{Scheme: "urn", Opaque: "mac:0004f2000003"}}
	}))).Cert
	for name, tt := range map[string]struct {
		rules []deviceauth.AttributeRule
		want  string
	}{
		"group":       {rule("CN", `phone ([0-9a-f]{12})`), "0004f2aabbcc"},
		"san.dns":     {rule("san.dns", `([^.]+)\.phones\.example`), "0004f2000001"},
		"san.email":   {rule("san.email", `(.*)@.*`), "0004f2000002"},
		"san.uri":     {rule("san.uri", `urn:mac:(.*)`), "0004f2000003"},
		"dotted OID":  {rule("2.5.4.3", `phone (.*)`), "0004f2aabbcc"},
		"whole value": {append(rule("CN", `[0-9a-f]{12}`), rule("san.dns", `(?m)([0-9a-f]{12})\..*$`)...), "0004f2000001"},
	} {
		t.Run(name, func(t *testing.T) {
			device, err := deviceauth.Identity{MAC: tt.rules}.Read(cert)
			if err != nil {
				t.Fatal(err)
			}
			if device.MAC.String() != tt.want {
				t.Errorf("MAC %s, want %s", device.MAC, tt.want)
			}
		})
	}
	t.Run("no MAC at all", func(t *testing.T) {
		device, err := deviceauth.Identity{Serial: rule("serialNumber", ""), NoMAC: true}.Read(cert)
		if err != nil || device.HasMAC || device.Serial != "S1" {
			t.Errorf("device %+v, %v", device, err)
		}
	})
}

func TestParseAttributeAndPatternRefuse(t *testing.T) {
	for _, name := range []string{"", "cn", "san.ip", "2", "2.x", "2.5.4.99999999999", "DC"} {
		if a, err := deviceauth.ParseAttribute(name); err == nil {
			t.Errorf("attribute %q became %v", name, a)
		}
	}
	for _, pattern := range []string{"(", "a)|(b", "[z-a]"} {
		if p, err := deviceauth.ParsePattern(pattern); err == nil {
			t.Errorf("pattern %q became %v", pattern, p)
		}
	}
}

// Every pattern matches whole values, whatever flags it sets.
func TestPatternsMatchWholeValues(t *testing.T) {
	for _, pattern := range []string{"a|b", "(?m)^a$", "(?s)a"} {
		re, err := deviceauth.ParsePattern(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, value := range []string{"a\nx", "x\na", "xa", "ax", "ab"} {
			if re.MatchString(value) {
				t.Errorf("%s matches %q", pattern, value)
			}
		}
		if !re.MatchString("a") {
			t.Errorf("%s does not match a", pattern)
		}
	}
}
