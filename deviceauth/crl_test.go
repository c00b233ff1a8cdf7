package deviceauth_test

import (
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/device-profile/caddy-device-profile/deviceauth"
	dt "github.com/device-profile/caddy-device-profile/deviceauth/deviceauthtest"
)

// crlLab has a root, an issuer below it, a phone of each, and another phone.
type crlLab struct {
	root, issuing, direct, below, other *dt.Identity
}

func newCRLLab() *crlLab {
	ec := dt.ECDSA(elliptic.P256())
	l := &crlLab{root: dt.Must(dt.NewRoot(cn("Root"), ec))}
	l.issuing = dt.Must(l.root.NewCA(cn("Issuing"), ec))
	l.direct = dt.Must(l.root.Issue(cn("0004f2000001"), ec))
	l.below = dt.Must(l.issuing.Issue(cn("0004f2000002"), ec))
	l.other = dt.Must(l.issuing.Issue(cn("0004f2000003"), ec))
	return l
}

// parsed makes a CRL of what Identity.CRL returned.
func parsed(t *testing.T, ders ...[]byte) []*deviceauth.CRL {
	t.Helper()
	crls, err := deviceauth.ParseCRLs("file.crl", dt.CRLPEM(ders...))
	if err != nil {
		t.Fatal(err)
	}
	return crls
}

// wantOutcome checks that a phone is accepted (""), or refused for the reason.
func wantOutcome(t *testing.T, v *deviceauth.Verifier, phone *dt.Identity, want deviceauth.Reason) {
	t.Helper()
	device, err := v.Verify(phone.Certificates())
	if want != "" {
		if refusal := wantRefusal(t, err, want); refusal.Device == nil || refusal.Device.MAC.String() != phone.Cert.Subject.CommonName {
			t.Errorf("the refusal names %v, want %s", refusal.Device, phone.Cert.Subject.CommonName)
		}
		return
	}
	if err != nil || device.MAC.String() != phone.Cert.Subject.CommonName {
		t.Errorf("got %v, %v", device, err)
	}
}

func TestRevocation(t *testing.T) {
	l := newCRLLab()
	fresh := time.Now().Add(-time.Minute)
	day := time.Now().AddDate(0, 0, 1)
	overdue := dt.Updates(time.Now().AddDate(0, 0, -8), time.Now().Add(-time.Hour))
	both := []*dt.Identity{l.root, l.issuing}
	reissued := dt.Must(dt.NewRoot(cn("ROOT  "), dt.Key(l.root.Key), dt.ECDSA(elliptic.P256()))) // the name re-encoded
	tests := []struct {
		name     string
		anchors  []*dt.Identity
		required bool
		crls     [][]byte
		phone    *dt.Identity
		want     deviceauth.Reason
	}{
		{name: "ok/no CRL", phone: l.below},
		{name: "ok/not listed", crls: [][]byte{dt.Must(l.root.CRL(dt.Revoke(l.other)))}, phone: l.direct},
		{name: "ok/empty CRL", crls: [][]byte{dt.Must(l.root.CRL())}, phone: l.direct},
		{name: "fail/phone", crls: [][]byte{dt.Must(l.root.CRL(dt.Revoke(l.other, l.direct)))}, phone: l.direct, want: deviceauth.Revoked},
		{name: "fail/phone, by an issuer that is an anchor", anchors: both, crls: [][]byte{dt.Must(l.issuing.CRL(dt.Revoke(l.below)))}, phone: l.below, want: deviceauth.Revoked},
		{name: "ok/another issuer's CRL has the serial", anchors: both, crls: [][]byte{dt.Must(l.root.CRL(dt.Revoke(l.below)))}, phone: l.below},
		{name: "fail/issuer below the anchor", crls: [][]byte{dt.Must(l.root.CRL(dt.Revoke(l.issuing)))}, phone: l.below, want: deviceauth.Revoked},
		{name: "fail/issuer that is an anchor itself", anchors: both, crls: [][]byte{dt.Must(l.root.CRL(dt.Revoke(l.issuing)))}, phone: l.below, want: deviceauth.Revoked},
		{name: "ok/a root that lists itself", crls: [][]byte{dt.Must(l.root.CRL(dt.Revoke(l.root)))}, phone: l.direct},
		{name: "fail/name encoded otherwise", anchors: []*dt.Identity{l.root, reissued}, crls: [][]byte{dt.Must(reissued.CRL(dt.Revoke(l.direct)))}, phone: l.direct, want: deviceauth.Revoked},
		{name: "fail/overdue CRL counts", crls: [][]byte{dt.Must(l.root.CRL(dt.Revoke(l.direct), overdue))}, phone: l.direct, want: deviceauth.Revoked},
		{name: "ok/overdue CRL, not listed", crls: [][]byte{dt.Must(l.root.CRL(overdue))}, phone: l.direct},
		{name: "ok/the newer CRL counts", crls: [][]byte{
			dt.Must(l.root.CRL(dt.CRLNumber(2), dt.Updates(fresh, day))),
			dt.Must(l.root.CRL(dt.Revoke(l.direct), dt.Updates(fresh.Add(-time.Hour), day))),
		}, phone: l.direct},
		{name: "fail/the newer CRL counts", crls: [][]byte{
			dt.Must(l.root.CRL(dt.Updates(fresh.Add(-time.Hour), day))),
			dt.Must(l.root.CRL(dt.CRLNumber(2), dt.Revoke(l.direct), dt.Updates(fresh, day))),
		}, phone: l.direct, want: deviceauth.Revoked},
		{name: "fail/of one second, the higher number counts", crls: [][]byte{
			dt.Must(l.root.CRL(dt.CRLNumber(300), dt.Revoke(l.direct), dt.Updates(fresh, day))),
			dt.Must(l.root.CRL(dt.CRLNumber(2), dt.Updates(fresh, day))),
		}, phone: l.direct, want: deviceauth.Revoked},
		{name: "ok/required and there", required: true, crls: [][]byte{dt.Must(l.root.CRL())}, phone: l.direct},
		{name: "ok/required, without a nextUpdate", required: true, crls: [][]byte{dt.Must(l.root.CRL(dt.Updates(fresh, time.Time{})))}, phone: l.direct},
		{name: "fail/required, none", required: true, phone: l.direct, want: deviceauth.RevocationUnknown},
		{name: "fail/required, none of the issuer", required: true, crls: [][]byte{dt.Must(l.root.CRL())}, phone: l.below, want: deviceauth.RevocationUnknown},
		{name: "ok/required, up to the anchor", required: true, anchors: both, crls: [][]byte{dt.Must(l.issuing.CRL())}, phone: l.below},
		{name: "fail/required, overdue", required: true, crls: [][]byte{dt.Must(l.root.CRL(overdue))}, phone: l.direct, want: deviceauth.RevocationUnknown},
		{name: "fail/required, overdue and listed", required: true, crls: [][]byte{dt.Must(l.root.CRL(overdue, dt.Revoke(l.direct)))}, phone: l.direct, want: deviceauth.Revoked},
		{name: "fail/required, one missing, the issuer revoked", required: true, crls: [][]byte{dt.Must(l.root.CRL(dt.Revoke(l.issuing)))}, phone: l.below, want: deviceauth.Revoked},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			anchors := tt.anchors
			if anchors == nil {
				anchors = []*dt.Identity{l.root}
			}
			trust := byCN(deviceauth.Trust{CRLRequired: tt.required}, anchors...)
			if len(tt.crls) > 0 {
				trust.CRLs = parsed(t, tt.crls...)
			}
			v := newVerifier(t, trust)
			for range 2 { // the second time from memory, if it is remembered
				wantOutcome(t, v, tt.phone, tt.want)
			}
		})
	}
}

// A revoked certificate is that, whatever else is wrong with it, unless nobody
// vouches for it.
func TestRevokedComesFirst(t *testing.T) {
	l := newCRLLab()
	expired := dt.Must(l.root.Issue(cn(phoneMAC), dt.Valid(now.AddDate(-2, 0, 0), now.Add(-time.Hour))))
	trust := byCN(deviceauth.Trust{CRLRequired: true}, l.root)
	trust.CRLs = parsed(t, dt.Must(l.root.CRL(dt.Revoke(expired))))
	wantOutcome(t, newVerifier(t, trust), expired, deviceauth.Revoked)

	forger := dt.Must(dt.NewRoot(cn("Root"), dt.ECDSA(elliptic.P256())))
	forged := dt.Must(forger.Issue(cn(phoneMAC), dt.Template(func(c *x509.Certificate) { c.SerialNumber = expired.Cert.SerialNumber })))
	_, err := newVerifier(t, trust).Verify(certs(forged))
	wantRefusal(t, err, deviceauth.Untrusted)
}

// An acceptance that needed a CRL ends with it.
func TestRequiredCRLRunsOut(t *testing.T) {
	l := newCRLLab()
	clock := time.Now()
	trust := byCN(deviceauth.Trust{CRLRequired: true}, l.root)
	trust.CRLs = parsed(t, dt.Must(l.root.CRL(dt.Updates(clock.Add(-time.Hour), clock.Add(time.Hour)))))
	v := dt.Must(deviceauth.NewVerifier(deviceauth.Config{Trusts: []deviceauth.Trust{trust}, Now: func() time.Time { return clock }}))
	wantOutcome(t, v, l.direct, "")
	clock = clock.Add(2 * time.Hour)
	wantOutcome(t, v, l.direct, deviceauth.RevocationUnknown)
}

// Who signed a CRL, and how, is judged by the trust.
func TestCRLSigner(t *testing.T) {
	root := dt.Must(dt.NewRoot(cn("Root")))
	old := dt.Must(dt.NewRoot(cn("Old"), dt.RSA(1024), dt.Hash(crypto.SHA1)))
	mute := dt.Must(dt.NewRoot(cn("Mute"), dt.Template(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign })))
	v1 := dt.Must(dt.NewRoot(cn("V1"), dt.Version1()))
	forger := dt.Must(dt.NewRoot(cn("Root")))
	broken := dt.Must(root.CRL())
	broken[len(broken)-1] ^= 1
	lax := deviceauth.Trust{WeakestSignature: deviceauth.MD5, WeakestRSA: 1024}
	for name, tt := range map[string]struct {
		anchor *dt.Identity
		policy deviceauth.Trust
		crl    []byte
		cause  string // "" if the CRL is believed
	}{
		"ok/root":                    {anchor: root, crl: dt.Must(root.CRL())},
		"ok/version 1 root":          {anchor: v1, crl: dt.Must(v1.CRL())},
		"ok/sha1 if allowed":         {anchor: old, policy: lax, crl: dt.Must(old.CRL(dt.CRLHash(crypto.SHA1)))},
		"ok/md5 if allowed":          {anchor: old, policy: lax, crl: dt.Must(old.CRL(dt.CRLHash(crypto.MD5)))},
		"fail/sha1":                  {anchor: root, crl: dt.Must(root.CRL(dt.CRLHash(crypto.SHA1))), cause: "sha1"},
		"fail/md5":                   {anchor: root, policy: deviceauth.Trust{WeakestSignature: deviceauth.SHA1}, crl: dt.Must(root.CRL(dt.CRLHash(crypto.MD5))), cause: "md5"},
		"fail/rsa1024":               {anchor: old, crl: dt.Must(old.CRL()), cause: "1024"},
		"fail/no cRLSign":            {anchor: mute, crl: dt.Must(mute.CRL()), cause: "may not sign CRLs"},
		"fail/unknown issuer":        {anchor: root, crl: dt.Must(old.CRL()), cause: "not among"},
		"fail/forged":                {anchor: root, crl: dt.Must(forger.CRL()), cause: "did not sign it"},
		"fail/broken signature":      {anchor: root, crl: broken, cause: "did not sign it"},
		"fail/issuer below the root": {anchor: root, crl: dt.Must(dt.Must(root.NewCA(cn("Issuing"))).CRL()), cause: "add it"},
	} {
		t.Run(name, func(t *testing.T) {
			trust := byCN(tt.policy, tt.anchor)
			trust.CRLs = parsed(t, tt.crl)
			_, err := deviceauth.NewVerifier(deviceauth.Config{Trusts: []deviceauth.Trust{trust}})
			if tt.cause == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.cause) || !strings.Contains(err.Error(), "file.crl") {
				t.Errorf("got %v, want an error that names file.crl and mentions %q", err, tt.cause)
			}
		})
	}
}

// What is no CRL, or none that is understood, is refused by name.
func TestParseCRLsRefuses(t *testing.T) {
	root := dt.Must(dt.NewRoot(cn("Root"), dt.ECDSA(elliptic.P256())))
	good := dt.Must(root.CRL(dt.Revoke(root)))
	extension := func(critical bool, value []byte, oid ...int) dt.CRLOption {
		return dt.CRLExtension(pkix.Extension{Id: oid, Critical: critical, Value: value})
	}
	entry := func(oid ...int) dt.CRLOption {
		return dt.RevokeEntry(dt.RevokedEntry{Serial: big.NewInt(7), At: time.Now(), Extensions: []pkix.Extension{{Id: oid, Critical: true, Value: []byte{5, 0}}}})
	}
	point := func(tag int) []byte {
		return dt.Must(asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: []byte{0xff}}}))
	}
	pem := dt.CRLPEM(good)
	for name, tt := range map[string]struct {
		data  []byte
		cause string
	}{
		"nothing":               {nil, "holds no CRL"},
		"text":                  {[]byte("<html>502 Bad Gateway</html>"), "holds no CRL"},
		"truncated PEM":         {pem[:len(pem)/2], "truncated"},
		"truncated DER":         {good[:len(good)/2], "CRL 1"},
		"trailing data":         {append(good[:len(good):len(good)], 0), "behind its end"},
		"a certificate":         {dt.PEM(root.Cert), "not a CRL"},
		"a certificate in DER":  {root.Cert.Raw, "CRL 1"},
		"a certificate with it": {append(dt.CRLPEM(good), dt.PEM(root.Cert)...), "PEM block 2"},
		"a key":                 {dt.Must(root.KeyPEM()), "private key"},
		"second CRL bad":        {dt.CRLPEM(good, good[:20]), "CRL 2"},
		"version 1":             {dt.Must(root.CRL(dt.CRLVersion1())), "version 1"},
		"delta":                 {dt.Must(root.CRL(extension(true, []byte{2, 1, 1}, 2, 5, 29, 27))), "delta"},
		"indirect":              {dt.Must(root.CRL(extension(true, point(4), 2, 5, 29, 28))), "indirect"},
		"indirect entry":        {dt.Must(root.CRL(entry(2, 5, 29, 29))), "indirect"},
		"only for users":        {dt.Must(root.CRL(extension(true, point(1), 2, 5, 29, 28))), "complete"},
		"critical extension":    {dt.Must(root.CRL(extension(true, []byte{5, 0}, 1, 2, 3, 4))), "1.2.3.4"},
		"critical in an entry":  {dt.Must(root.CRL(entry(1, 2, 3, 5))), "1.2.3.5"},
		"too large":             {make([]byte, deviceauth.MaxCRL+1), "larger"},
		"too many":              {dt.CRLPEM(many(300, good)...), "300"},
		"number is no number":   {dt.Must(root.CRL(extension(false, []byte{5, 0}, 2, 5, 29, 20))), "CRL 1"},
	} {
		t.Run(name, func(t *testing.T) {
			crls, err := deviceauth.ParseCRLs("file.crl", tt.data)
			if err == nil || crls != nil || !strings.HasPrefix(err.Error(), "file.crl: ") || !strings.Contains(err.Error(), tt.cause) {
				t.Errorf("got %v, %v, want an error that names file.crl and mentions %q", crls, err, tt.cause)
			}
		})
	}
	t.Run("ok/extensions that are not critical", func(t *testing.T) {
		parsed(t, dt.Must(root.CRL(extension(false, []byte{5, 0}, 1, 2, 3, 4))))
	})
	t.Run("ok/text around PEM, several", func(t *testing.T) {
		if crls := dt.Must(deviceauth.ParseCRLs("x", append([]byte("Certificate Revocation List (CRL):\n"), dt.CRLPEM(good, good)...))); len(crls) != 2 || crls[0].Entries() != 1 {
			t.Errorf("got %v", crls)
		}
	})
	t.Run("ok/DER", func(t *testing.T) {
		if crls := dt.Must(deviceauth.ParseCRLs("x", good)); len(crls) != 1 || crls[0].Number.Int64() != 1 {
			t.Errorf("got %v", crls)
		}
	})
}

func many(n int, der []byte) [][]byte {
	list := make([][]byte, n)
	for i := range list {
		list[i] = der
	}
	return list
}

// A CRL may be followed by a newer one alone.
func TestCheckSuccession(t *testing.T) {
	l := newCRLLab()
	day := time.Now().AddDate(0, 0, 1)
	at := func(ca *dt.Identity, hour int, number int64) []byte {
		return dt.Must(ca.CRL(dt.CRLNumber(number), dt.Updates(time.Now().Add(time.Duration(hour-24)*time.Hour), day)))
	}
	inUse := [][]byte{at(l.root, 10, 10), at(l.issuing, 10, 10)}
	for name, tt := range map[string]struct {
		next  [][]byte
		cause string
	}{
		"ok/the same":           {inUse, ""},
		"ok/newer":              {[][]byte{at(l.issuing, 11, 11), at(l.root, 11, 11)}, ""},
		"ok/one newer":          {[][]byte{at(l.root, 11, 11), inUse[1]}, ""},
		"ok/numbers begin anew": {[][]byte{at(l.root, 11, 1), inUse[1]}, ""},
		"ok/newer beside older": {[][]byte{at(l.root, 9, 9), at(l.root, 11, 11), inUse[1]}, ""},
		"fail/older":            {[][]byte{at(l.root, 9, 9), inUse[1]}, "older"},
		"fail/the second older": {[][]byte{inUse[0], at(l.issuing, 9, 9)}, "Issuing"},
		"fail/one gone":         {inUse[:1], "is no more"},
		"fail/another's":        {[][]byte{inUse[0], dt.Must(dt.Must(dt.NewRoot(cn("Issuing"))).CRL())}, "is no more"},
	} {
		t.Run(name, func(t *testing.T) {
			err := deviceauth.CheckSuccession(parsed(t, tt.next...), parsed(t, inUse...))
			if tt.cause == "" && err != nil || tt.cause != "" && (err == nil || !strings.Contains(err.Error(), tt.cause)) {
				t.Errorf("got %v, want %q", err, tt.cause)
			}
		})
	}
}

// Serial numbers are told apart by their value, sign included.
func TestSerialNumbers(t *testing.T) {
	l := newCRLLab()
	for _, revoked := range []int64{-5, 5, 0x2d05, 256, 1} {
		for _, serial := range []int64{5, 0x2d05, 256, 1} {
			phone := dt.Must(l.root.Issue(cn(phoneMAC), dt.ECDSA(elliptic.P256()), dt.Template(func(c *x509.Certificate) { c.SerialNumber = big.NewInt(serial) })))
			trust := byCN(deviceauth.Trust{}, l.root)
			trust.CRLs = parsed(t, dt.Must(l.root.CRL(dt.RevokeEntry(dt.RevokedEntry{Serial: big.NewInt(revoked), At: time.Now()}))))
			want := deviceauth.Reason("")
			if serial == revoked {
				want = deviceauth.Revoked
			}
			wantOutcome(t, newVerifier(t, trust), phone, want)
		}
	}
}
