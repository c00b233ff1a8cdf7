package deviceauth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/device-profile/caddy-device-profile/deviceauth"
	dt "github.com/device-profile/caddy-device-profile/deviceauth/deviceauthtest"
)

const phoneMAC = "0004f2aabbcc"

var now = time.Now()

func cn(name string) pkix.Name { return pkix.Name{CommonName: name} }

func preset(name string) deviceauth.Identity {
	identity, ok := deviceauth.Preset(name)
	if !ok {
		panic(name)
	}
	return identity
}

// byCN trusts anchors, by a policy, for certificates whose CN is the MAC.
func byCN(policy deviceauth.Trust, anchors ...*dt.Identity) deviceauth.Trust {
	if policy.Vendor == "" {
		policy.Vendor = "polycom"
	}
	policy.Identity = preset("polycom")
	for _, a := range anchors {
		policy.Anchors = append(policy.Anchors, a.Cert)
	}
	return policy
}

func newVerifier(t *testing.T, trusts ...deviceauth.Trust) *deviceauth.Verifier {
	t.Helper()
	v, err := deviceauth.NewVerifier(deviceauth.Config{Trusts: trusts})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// certs puts the first certificate of each identity in a row.
func certs(ids ...*dt.Identity) []*x509.Certificate {
	list := make([]*x509.Certificate, len(ids))
	for i, id := range ids {
		list[i] = id.Cert
	}
	return list
}

// wantRefusal checks that err is a refusal for the reason.
func wantRefusal(t *testing.T, err error, reason deviceauth.Reason) *deviceauth.Refusal {
	t.Helper()
	var refusal *deviceauth.Refusal
	if !errors.As(err, &refusal) {
		t.Fatalf("got %v, want a refusal for %s", err, reason)
	}
	if refusal.Reason != reason {
		t.Fatalf("refused for %v, want %s", refusal, reason)
	}
	return refusal
}

func TestVerifyPolicy(t *testing.T) {
	root := dt.Must(dt.NewRoot(cn("Root")))
	sha1Root := dt.Must(dt.NewRoot(cn("Root SHA-1"), dt.RSA(1024), dt.Hash(crypto.SHA1)))
	ecRoot := dt.Must(dt.NewRoot(cn("Root EC"), dt.ECDSA(elliptic.P384()), dt.Hash(crypto.SHA384)))
	lax := deviceauth.Trust{WeakestSignature: deviceauth.MD5, WeakestRSA: 1024}
	old := []dt.Option{dt.RSA(1024), dt.Hash(crypto.SHA1)}
	ended := func(ago time.Duration) dt.Option { return dt.Valid(now.AddDate(-5, 0, 0), now.Add(-ago)) }
	usage := func(usages ...x509.ExtKeyUsage) dt.Option {
		return dt.Template(func(c *x509.Certificate) { c.ExtKeyUsage = usages })
	}

	tests := []struct {
		name    string
		root    *dt.Identity
		policy  deviceauth.Trust
		options []dt.Option
		want    deviceauth.Reason // "" if accepted
		weak    []string
	}{
		{name: "ok/sha256 rsa2048", root: root},
		{name: "ok/ecdsa p384 leaf", root: ecRoot, options: []dt.Option{dt.ECDSA(elliptic.P384())}},
		{name: "ok/ecdsa sha1 if allowed", root: ecRoot, policy: deviceauth.Trust{WeakestSignature: deviceauth.SHA1}, options: []dt.Option{dt.Hash(crypto.SHA1)}, weak: []string{"sha1"}},
		{name: "ok/sha1 rsa1024 if allowed", root: sha1Root, policy: deviceauth.Trust{WeakestSignature: deviceauth.SHA1, WeakestRSA: 1024}, options: old, weak: []string{"rsa1024", "sha1"}},
		{name: "ok/md5 if allowed", root: sha1Root, policy: lax, options: []dt.Option{dt.RSA(1024), dt.Hash(crypto.MD5)}, weak: []string{"md5", "rsa1024"}},
		{name: "fail/sha1 by default", root: root, options: []dt.Option{dt.Hash(crypto.SHA1)}, want: deviceauth.WeakSignature, weak: []string{"sha1"}},
		{name: "fail/md5 where sha1 is allowed", root: root, policy: deviceauth.Trust{WeakestSignature: deviceauth.SHA1}, options: []dt.Option{dt.Hash(crypto.MD5)}, want: deviceauth.WeakSignature, weak: []string{"md5"}},
		{name: "fail/rsa1024 by default", root: root, options: []dt.Option{dt.RSA(1024)}, want: deviceauth.WeakKey, weak: []string{"rsa1024"}},
		{name: "fail/rsa1024 anchor by default", root: sha1Root, want: deviceauth.WeakKey, weak: []string{"rsa1024"}},
		{name: "fail/rsa1536 below 2000", root: root, policy: deviceauth.Trust{WeakestRSA: 2000}, options: []dt.Option{dt.RSA(1536)}, want: deviceauth.WeakKey, weak: []string{"rsa1536"}},
		{name: "fail/expired by default", root: root, options: []dt.Option{ended(time.Hour)}, want: deviceauth.Expired, weak: []string{"expired"}},
		{name: "ok/expired if allowed", root: root, policy: deviceauth.Trust{AllowExpired: true}, options: []dt.Option{ended(time.Hour)}, weak: []string{"expired"}},
		{name: "ok/expired within grace", root: root, policy: deviceauth.Trust{ExpiredGrace: 2 * time.Hour}, options: []dt.Option{ended(time.Hour)}, weak: []string{"expired"}},
		{name: "fail/grace over", root: root, policy: deviceauth.Trust{ExpiredGrace: 30 * time.Minute}, options: []dt.Option{ended(time.Hour)}, want: deviceauth.Expired, weak: []string{"expired"}},
		{name: "fail/not yet valid, whatever is allowed", root: root, policy: deviceauth.Trust{AllowExpired: true}, options: []dt.Option{dt.Valid(now.Add(time.Hour), now.AddDate(1, 0, 0))}, want: deviceauth.NotYetValid},
		{name: "ok/no key usage stated", root: root, options: []dt.Option{usage()}},
		{name: "ok/any usage", root: root, options: []dt.Option{usage(x509.ExtKeyUsageAny)}},
		{name: "fail/server only", root: root, options: []dt.Option{usage(x509.ExtKeyUsageServerAuth)}, want: deviceauth.KeyUsage},
		{name: "ok/server only, any allowed", root: root, policy: deviceauth.Trust{AnyExtendedKeyUsage: true}, options: []dt.Option{usage(x509.ExtKeyUsageServerAuth)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			phone := dt.Must(tt.root.Issue(cn(phoneMAC), tt.options...))
			device, err := newVerifier(t, byCN(tt.policy, tt.root)).Verify(certs(phone))
			if tt.want != "" {
				device = wantRefusal(t, err, tt.want).Device
			} else if err != nil {
				t.Fatal(err)
			}
			if device == nil || !device.HasMAC || device.MAC.String() != phoneMAC {
				t.Fatalf("device %+v, want the MAC %s: an anchor vouches for it", device, phoneMAC)
			}
			if diff := cmp.Diff(tt.weak, device.Weak); diff != "" {
				t.Errorf("weak (-want +got):\n%s", diff)
			}
		})
	}
}

func TestVerifyPaths(t *testing.T) {
	root := dt.Must(dt.NewRoot(cn("Root")))
	policyCA := dt.Must(root.NewCA(cn("Policy CA")))
	issuing := dt.Must(policyCA.NewCA(cn("Issuing CA")))
	phone := dt.Must(issuing.Issue(cn(phoneMAC)))
	impostor := dt.Must(dt.NewRoot(cn("Root")))
	forged := dt.Must(impostor.Issue(cn(phoneMAC)))
	genuine := dt.Must(root.Issue(cn(phoneMAC)))
	stranger := dt.Must(dt.SelfSigned(cn("aabbccddeeff")))
	noRoom := dt.Must(root.NewCA(cn("No room below"), dt.PathLength(0)))
	tooDeep := dt.Must(dt.Must(noRoom.NewCA(cn("Too deep"))).Issue(cn(phoneMAC)))
	noFlag := dt.Must(root.NewCA(cn("No CA flag"), dt.Template(func(c *x509.Certificate) { c.IsCA = false })))
	noSign := dt.Must(root.NewCA(cn("May not sign"), dt.Template(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature })))
	oldCA := dt.Must(root.NewCA(cn("Old version"), dt.Version1()))
	critical := dt.Must(root.Issue(cn(phoneMAC), dt.Template(func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
	})))
	long := root
	for range 9 {
		long = dt.Must(long.NewCA(cn("Deeper"), dt.ECDSA(elliptic.P256())))
	}

	tests := []struct {
		name    string
		anchors []*dt.Identity
		sent    []*x509.Certificate
		want    deviceauth.Reason
		length  int
	}{
		{name: "ok/three levels, all sent", anchors: certIDs(root), sent: phone.Certificates(), length: 4},
		{name: "ok/in another order", anchors: certIDs(root), sent: certs(phone, policyCA, issuing), length: 4},
		{name: "ok/root sent too", anchors: certIDs(root), sent: certs(phone, issuing, policyCA, root), length: 4},
		{name: "ok/nothing sent, all are anchors", anchors: certIDs(root, policyCA, issuing), sent: certs(phone), length: 2},
		{name: "ok/issuer alone is anchor", anchors: certIDs(issuing), sent: certs(phone), length: 2},
		{name: "ok/forged issuer beside the true one", anchors: certIDs(root), sent: certs(genuine, impostor), length: 2},
		{name: "fail/intermediates missing", anchors: certIDs(root), sent: certs(phone), want: deviceauth.Untrusted},
		{name: "fail/intermediate is no anchor", anchors: certIDs(stranger2(t)), sent: phone.Certificates(), want: deviceauth.Untrusted},
		{name: "fail/self-signed", anchors: certIDs(root), sent: certs(stranger), want: deviceauth.Untrusted},
		{name: "fail/forged issuer of the same name", anchors: certIDs(root), sent: certs(forged), want: deviceauth.Untrusted},
		{name: "fail/forged issuer sent along", anchors: certIDs(root), sent: certs(forged, impostor), want: deviceauth.Untrusted},
		{name: "fail/victim's certificate behind one's own", anchors: certIDs(root), sent: certs(stranger, genuine), want: deviceauth.Untrusted},
		{name: "fail/a device as issuer", anchors: certIDs(root), sent: certs(dt.Must(genuine.Issue(cn("aabbccddeeff"))), genuine), want: deviceauth.Untrusted},
		{name: "fail/path too long", anchors: certIDs(root), sent: tooDeep.Certificates(), want: deviceauth.Untrusted},
		{name: "fail/issuer without CA flag", anchors: certIDs(root), sent: dt.Must(noFlag.Issue(cn(phoneMAC))).Certificates(), want: deviceauth.Untrusted},
		{name: "fail/issuer may not sign certificates", anchors: certIDs(root), sent: dt.Must(noSign.Issue(cn(phoneMAC))).Certificates(), want: deviceauth.Untrusted},
		{name: "fail/issuer of version 1 sent", anchors: certIDs(root), sent: dt.Must(oldCA.Issue(cn(phoneMAC))).Certificates(), want: deviceauth.Untrusted},
		{name: "fail/the anchor itself", anchors: certIDs(root), sent: certs(root), want: deviceauth.Untrusted},
		{name: "fail/unknown critical extension", anchors: certIDs(root), sent: certs(critical), want: deviceauth.Untrusted},
		{name: "fail/more levels than any vendor has", anchors: certIDs(root), sent: dt.Must(long.Issue(cn(phoneMAC))).Certificates()[:10], want: deviceauth.Untrusted},
		{name: "fail/more certificates than any phone has", anchors: certIDs(root), sent: slices.Repeat(certs(genuine), 11), want: deviceauth.Untrusted},
		{name: "fail/none", anchors: certIDs(root), sent: nil, want: deviceauth.NoCertificate},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			device, err := newVerifier(t, byCN(deviceauth.Trust{}, tt.anchors...)).Verify(tt.sent)
			if tt.want != "" {
				if refusal := wantRefusal(t, err, tt.want); refusal.Device != nil {
					t.Errorf("the refusal names device %+v, for whom nobody vouches", refusal.Device)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(device.Chain) != tt.length {
				t.Errorf("chain of %d certificates, want %d", len(device.Chain), tt.length)
			}
		})
	}
}

func certIDs(ids ...*dt.Identity) []*dt.Identity { return ids }

func stranger2(t *testing.T) *dt.Identity {
	t.Helper()
	return dt.Must(dt.NewRoot(cn("Somebody else"), dt.ECDSA(elliptic.P256())))
}

// A weak link must not lend its weakness to the links above it.
func TestVerifyWeakLinkAboveStrongOne(t *testing.T) {
	root := dt.Must(dt.NewRoot(cn("Root")))
	md5CA := dt.Must(root.NewCA(cn("Signed with MD5"), dt.Hash(crypto.MD5)))
	phone := dt.Must(md5CA.Issue(cn(phoneMAC)))
	_, err := newVerifier(t, byCN(deviceauth.Trust{WeakestSignature: deviceauth.SHA1}, root)).Verify(phone.Certificates())
	wantRefusal(t, err, deviceauth.WeakSignature)
	if _, err = newVerifier(t, byCN(deviceauth.Trust{WeakestSignature: deviceauth.MD5}, root)).Verify(phone.Certificates()); err != nil {
		t.Fatal(err)
	}
	// An anchor's own signature proves nothing, so its strength doesn't matter.
	if _, err = newVerifier(t, byCN(deviceauth.Trust{}, md5CA)).Verify(phone.Certificates()); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyVersion1Root(t *testing.T) {
	root := dt.Must(dt.NewRoot(cn("VPN"), dt.RSA(1024), dt.Hash(crypto.MD5), dt.Version1()))
	phone := dt.Must(root.Issue(cn("000b82aabbcc"), dt.RSA(1024), dt.Hash(crypto.MD5)))
	policy := deviceauth.Trust{Vendor: "grandstream", WeakestSignature: deviceauth.MD5, WeakestRSA: 1024}
	device, err := newVerifier(t, byCN(policy, root)).Verify(certs(phone))
	if err != nil {
		t.Fatal(err)
	}
	if got := device.MAC.String(); got != "000b82aabbcc" {
		t.Errorf("MAC %s", got)
	}
}

// Constraints and weak links don't go together: crypto/x509, which alone judges
// constraints, refuses weak links.
func TestVerifyConstraints(t *testing.T) {
	constrained := func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical = true
		c.PermittedDNSDomains = []string{"phones.example"}
	}
	inside := dt.Template(func(c *x509.Certificate) { c.DNSNames = []string{"a.phones.example"} })
	outside := dt.Template(func(c *x509.Certificate) { c.DNSNames = []string{"a.elsewhere.example"} })
	root := dt.Must(dt.NewRoot(cn("Root")))
	ca := dt.Must(root.NewCA(cn("Constrained"), dt.Template(constrained)))
	v := newVerifier(t, byCN(deviceauth.Trust{WeakestSignature: deviceauth.SHA1}, root))

	if _, err := v.Verify(dt.Must(ca.Issue(cn(phoneMAC), inside)).Certificates()); err != nil {
		t.Errorf("within the constraints: %v", err)
	}
	_, err := v.Verify(dt.Must(ca.Issue(cn(phoneMAC), outside)).Certificates())
	wantRefusal(t, err, deviceauth.Untrusted)
	_, err = v.Verify(dt.Must(ca.Issue(cn(phoneMAC), inside, dt.Hash(crypto.SHA1))).Certificates())
	wantRefusal(t, err, deviceauth.Untrusted)
}

func TestVerifyTrusts(t *testing.T) {
	root := dt.Must(dt.NewRoot(cn("Shared Root")))
	other := dt.Must(dt.NewRoot(cn("Other Root")))
	spaName := pkix.Name{Province: []string{"000E08AABBCC"}, Locality: []string{"CBT1"}, OrganizationalUnit: []string{"SPA-962"}}
	trusts := []deviceauth.Trust{
		{Vendor: "first", Anchors: certs(root), Identity: preset("cisco_mic")},
		{Vendor: "second", Anchors: certs(root), Identity: preset("cisco_spa")},
		{Vendor: "third", Anchors: certs(other), Identity: preset("polycom")},
	}
	v := newVerifier(t, trusts...)

	t.Run("ok/the trust whose rule fits", func(t *testing.T) {
		device, err := v.Verify(certs(dt.Must(root.Issue(spaName))))
		if err != nil {
			t.Fatal(err)
		}
		if device.Vendor != "second" || device.MAC.String() != "000e08aabbcc" || device.Model != "962" || device.Serial != "CBT1" {
			t.Errorf("device %+v", device)
		}
	})
	t.Run("fail/another vendor's root, by this vendor's rule", func(t *testing.T) {
		_, err := v.Verify(certs(dt.Must(other.Issue(spaName))))
		wantRefusal(t, err, deviceauth.NoIdentity)
	})
	t.Run("fail/the reason of the trust that knows the issuer", func(t *testing.T) {
		expired := dt.Valid(now.AddDate(-2, 0, 0), now.AddDate(-1, 0, 0))
		_, err := v.Verify(certs(dt.Must(other.Issue(cn(phoneMAC), expired))))
		wantRefusal(t, err, deviceauth.Expired)
	})
	t.Run("anchors/each once", func(t *testing.T) {
		if diff := cmp.Diff(2, len(v.Anchors())); diff != "" {
			t.Error(diff)
		}
	})
}

func TestNewVerifierRefuses(t *testing.T) {
	root := dt.Must(dt.NewRoot(cn("Root")))
	leaf := dt.Must(root.Issue(cn(phoneMAC)))
	for name, cfg := range map[string]deviceauth.Config{
		"no trust":          {},
		"no anchor":         {Trusts: []deviceauth.Trust{byCN(deviceauth.Trust{})}},
		"device as anchor":  {Trusts: []deviceauth.Trust{byCN(deviceauth.Trust{}, leaf)}},
		"rsa below floor":   {Trusts: []deviceauth.Trust{byCN(deviceauth.Trust{WeakestRSA: 512}, root)}},
		"negative grace":    {Trusts: []deviceauth.Trust{byCN(deviceauth.Trust{ExpiredGrace: -1}, root)}},
		"negative capacity": {Trusts: []deviceauth.Trust{byCN(deviceauth.Trust{}, root)}, CacheSize: -1},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := deviceauth.NewVerifier(cfg); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func TestVerifyOtherKeys(t *testing.T) {
	root := dt.Must(dt.NewRoot(cn("Root"), dt.ECDSA(elliptic.P256())))
	small := dt.Must(root.Issue(cn(phoneMAC), dt.ECDSA(elliptic.P224())))
	if _, ok := small.Key.(*ecdsa.PrivateKey); !ok {
		t.Fatalf("key %T", small.Key)
	}
	if _, err := newVerifier(t, byCN(deviceauth.Trust{}, root)).Verify(certs(small)); err != nil {
		t.Errorf("P-224: %v", err)
	}
}
