package deviceauth

import (
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	dt "github.com/device-profile/caddy-device-profile/deviceauth/deviceauthtest"
)

// A bundle of CAs of one name that all seem to sign each other makes the number
// of paths explode. The work must not.
func TestWorkIsBounded(t *testing.T) {
	name := pkix.Name{CommonName: "Every CA"}
	anchor := dt.Must(dt.NewRoot(name, dt.ECDSA(elliptic.P256())))
	first := dt.Must(dt.NewRoot(name, dt.ECDSA(elliptic.P256())))
	sent := []*x509.Certificate{dt.Must(first.Issue(pkix.Name{CommonName: "0004f2aabbcc"}, dt.ECDSA(elliptic.P256()))).Cert}
	for range maxSent - 1 { // different certificates for one name and key
		sent = append(sent, dt.Must(dt.NewRoot(name, dt.Key(first.Key))).Cert)
	}
	ready, err := newTrust(Trust{Vendor: "x", Anchors: []*x509.Certificate{anchor.Cert}, Identity: presets["polycom"]})
	if err != nil {
		t.Fatal(err)
	}
	var names []namedCert
	for _, cert := range sent {
		names = append(names, named(cert))
	}
	b := &budget{checks: maxSignatureChecks}
	v := ready.judge(names, b, time.Now())
	if v.refusal == nil || v.refusal.Reason != Untrusted || !strings.Contains(v.refusal.Detail, "signatures") {
		t.Errorf("got %+v, want untrusted for too many signatures", v.refusal)
	}
	if b.checks != 0 {
		t.Errorf("%d checks left: the bundle was meant to use them all up", b.checks)
	}
}

// Names that differ only in string type, case or white space chain.
func TestNamesChain(t *testing.T) {
	encode := func(tag int, text string) []byte {
		value := asn1.RawValue{Class: asn1.ClassUniversal, Tag: tag, Bytes: []byte(text)}
		oid := dt.Must(asn1.Marshal(asn1.ObjectIdentifier{2, 5, 4, 3}))
		attribute := dt.Must(asn1.Marshal(struct{ OID, Value asn1.RawValue }{asn1.RawValue{FullBytes: oid}, value}))
		set := dt.Must(asn1.Marshal(asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagSet, IsCompound: true, Bytes: attribute}))
		return dt.Must(asn1.Marshal(asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagSequence, IsCompound: true, Bytes: set}))
	}
	root := dt.Must(dt.NewRoot(pkix.Name{}, dt.RawSubject(encode(asn1.TagPrintableString, "Device  Root CA"))))
	for name, subject := range map[string][]byte{
		"string type": encode(asn1.TagUTF8String, "Device  Root CA"),
		"old string":  encode(asn1.TagT61String, "Device  Root CA"),
		"case":        encode(asn1.TagPrintableString, "DEVICE  ROOT ca"),
		"white space": encode(asn1.TagPrintableString, " Device Root CA "),
		"all of it":   encode(asn1.TagUTF8String, "device ROOT   CA "),
	} {
		t.Run(name, func(t *testing.T) {
			// The same key under a re-encoded name is the CA that signs.
			signer := dt.Must(dt.NewRoot(pkix.Name{}, dt.RawSubject(subject), dt.Key(root.Key)))
			phone := dt.Must(signer.Issue(pkix.Name{CommonName: "0004f2aabbcc"}))
			v := dt.Must(NewVerifier(Config{Trusts: []Trust{{Vendor: "x", Anchors: []*x509.Certificate{root.Cert}, Identity: presets["polycom"]}}}))
			if _, err := v.Verify([]*x509.Certificate{phone.Cert}); err != nil {
				t.Error(err)
			}
		})
	}
	if nameKey(encode(asn1.TagUTF8String, "Device Root CB")) == nameKey(root.Cert.RawSubject) {
		t.Error("another name has the same key")
	}
}

func TestMACRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var mac MAC
		copy(mac[:], rapid.SliceOfN(rapid.Byte(), 6, 6).Draw(t, "bytes"))
		digits := mac.String()
		for _, text := range []string{digits, mac.Upper(), mac.Colon(), mac.Dash(), digits[:4] + "." + digits[4:8] + "." + digits[8:]} {
			got, err := ParseMAC(text)
			if err != nil || got != mac {
				t.Fatalf("ParseMAC(%q) = %v, %v; want %v", text, got, err, mac)
			}
		}
	})
}

func TestParseMACRefuses(t *testing.T) {
	for _, text := range []string{
		"", "000e08aabbc", "000e08aabbccd", "000e08aabbcg", "00:0e:08:aa:bb-cc", "00:0e:08:aa:bb:cc:dd", "000e:08aa:bbcc",
		" 000e08aabbcc", "000e08aabbcc\n", "00.0e.08.aa.bb.cc", "0x0e08aabbcc", "０００ｅ",
	} {
		if mac, err := ParseMAC(text); err == nil {
			t.Errorf("ParseMAC(%q) = %v", text, mac)
		}
	}
}
