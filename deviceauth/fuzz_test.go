package deviceauth

import (
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	dt "github.com/device-profile/caddy-device-profile/deviceauth/deviceauthtest"
)

func FuzzParseMAC(f *testing.F) {
	for _, seed := range []string{"000e08aabbcc", "00:0E:08:AA:BB:CC", "00-0e-08-aa-bb-cc", "000e.08aa.bbcc", "", "zz:zz:zz:zz:zz:zz", "000e08aabbcc\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		mac, err := ParseMAC(text)
		if err != nil {
			if mac != (MAC{}) {
				t.Errorf("%q: an error, and the MAC %s", text, mac)
			}
			return
		}
		digits := strings.ToLower(strings.NewReplacer(":", "", "-", "", ".", "").Replace(text))
		if mac.String() != digits {
			t.Errorf("%q became %s", text, mac)
		}
	})
}

// FuzzIdentity reads devices from arbitrary subject names, by every preset.
func FuzzIdentity(f *testing.F) {
	for _, name := range []pkix.Name{
		{CommonName: "0004f2aabbcc"},
		{CommonName: "CP-8841-SEP00562B043615", SerialNumber: "PID:CP-8841 SN:FCH12345678"},
		{CommonName: "SPA-525G2, MAC: 708105B37234, Serial: CBT153908BX", Province: []string{"708105B37234"}, Locality: []string{"CBT153908BX"}},
		{Locality: []string{"ciscogeneric"}},
		{CommonName: "GXE50XX"},
	} {
		f.Add(dt.Must(asn1.Marshal(name.ToRDNSequence())))
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		_ = nameKey(der) // must not fail for anything that is a name
		var rdns pkix.RDNSequence
		if _, err := asn1.Unmarshal(der, &rdns); err != nil {
			return
		}
		cert := new(x509.Certificate)
		cert.Subject.FillFromRDNSequence(&rdns)
		for vendor, preset := range presets {
			device, err := preset.Read(cert)
			var refusal *Refusal
			switch {
			case err != nil && !errors.As(err, &refusal):
				t.Errorf("%s: %v is no decision", vendor, err)
			case err == nil && (!device.HasMAC || !device.MAC.names()):
				t.Errorf("%s: device with the MAC %s", vendor, device.MAC)
			case err == nil && !subjectHolds(cert, device.MAC):
				t.Errorf("%s: the MAC %s is not in the subject %v", vendor, device.MAC, cert.Subject.Names)
			}
		}
	})
}

// subjectHolds reports whether the MAC's digits are in the subject at all.
func subjectHolds(cert *x509.Certificate, mac MAC) bool {
	for _, attribute := range cert.Subject.Names {
		text, _ := attribute.Value.(string)
		text = strings.ToLower(text)
		if strings.Contains(strings.NewReplacer(":", "", "-", "", ".", "").Replace(text), hex.EncodeToString(mac[:])) {
			return true
		}
	}
	return false
}

func FuzzParseAnchors(f *testing.F) {
	root := dt.Must(dt.NewRoot(pkix.Name{CommonName: "Root"}, dt.ECDSA(elliptic.P256())))
	leaf := dt.Must(root.Issue(pkix.Name{CommonName: "0004f2aabbcc"}, dt.ECDSA(elliptic.P256())))
	whole := dt.PEM(root.Cert)
	for _, seed := range [][]byte{whole, whole[:len(whole)/2], dt.PEM(root.Cert, leaf.Cert), root.Cert.Raw, nil, dt.Must(root.KeyPEM())} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		anchors, err := ParseAnchors("file", data)
		if err == nil && len(anchors) == 0 {
			t.Error("neither anchors nor an error")
		}
		for _, anchor := range anchors {
			if fault := CheckAnchor(anchor); fault != nil {
				t.Error(fault)
			}
		}
	})
}

// FuzzParseCRLs reads arbitrary CRLs. None of them may be believed but the one
// that was signed by a key that nobody has any more.
func FuzzParseCRLs(f *testing.F) {
	root := dt.Must(dt.NewRoot(pkix.Name{CommonName: "Root"}, dt.ECDSA(elliptic.P256())))
	signed := dt.Must(root.CRL(dt.Revoke(root)))
	believed := dt.Must(ParseCRLs("file", signed))[0]
	whole := dt.CRLPEM(signed)
	for _, seed := range [][]byte{whole, whole[:len(whole)/2], signed, signed[:len(signed)/2], dt.CRLPEM(signed, signed), dt.Must(root.CRL(dt.CRLVersion1())), dt.PEM(root.Cert), nil} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		crls, err := ParseCRLs("file", data)
		if (err == nil) == (len(crls) == 0) {
			t.Fatalf("%d CRLs, %v", len(crls), err)
		}
		if err == nil {
			_ = CheckSuccession(crls, crls)
		}
		for _, crl := range crls {
			trust := Trust{Vendor: "x", Anchors: []*x509.Certificate{root.Cert}, CRLs: []*CRL{crl}}
			if trust.Check() == nil && string(crl.signed) != string(believed.signed) {
				t.Errorf("%s is believed", crl)
			}
		}
	})
}

// FuzzVerify sends arbitrary certificates to a verifier that trusts a CA whose
// key nobody has any more: nothing but the one device it signed may pass.
func FuzzVerify(f *testing.F) {
	root := dt.Must(dt.NewRoot(pkix.Name{CommonName: "Root"}, dt.ECDSA(elliptic.P256())))
	phone := dt.Must(root.Issue(pkix.Name{CommonName: "0004f2aabbcc"}, dt.ECDSA(elliptic.P256())))
	other := dt.Must(dt.NewRoot(pkix.Name{CommonName: "Root"}, dt.ECDSA(elliptic.P256())))
	forged := dt.Must(other.Issue(pkix.Name{CommonName: "0004f2aabbcc"}, dt.ECDSA(elliptic.P256())))
	verifier := dt.Must(NewVerifier(Config{Trusts: []Trust{{
		Vendor: "x", Anchors: []*x509.Certificate{root.Cert}, Identity: presets["polycom"], WeakestSignature: MD5, WeakestRSA: 1024, AllowExpired: true,
	}}}))
	f.Add(phone.Cert.Raw, root.Cert.Raw)
	f.Add(forged.Cert.Raw, other.Cert.Raw)
	f.Add(forged.Cert.Raw, phone.Cert.Raw)
	f.Add(root.Cert.Raw, phone.Cert.Raw)
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var sent []*x509.Certificate
		for _, der := range [][]byte{first, second} {
			if cert, err := x509.ParseCertificate(der); err == nil {
				sent = append(sent, cert)
			}
		}
		device, err := verifier.Verify(sent)
		var refusal *Refusal
		if err != nil && !errors.As(err, &refusal) {
			t.Fatalf("%v is no decision", err)
		}
		if err == nil && string(sent[0].RawTBSCertificate) != string(phone.Cert.RawTBSCertificate) {
			t.Fatalf("%s passes for %s", sent[0].Subject, device.MAC)
		}
	})
}
