package deviceauth

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	dt "github.com/device-profile/caddy-device-profile/deviceauth/deviceauthtest"
)

// cacheLab is a verifier with a clock, and a phone with a three-level chain.
type cacheLab struct {
	verifier *Verifier
	now      time.Time
	phone    *dt.Identity
}

func newCacheLab(t *testing.T, policy Trust, ends time.Time) *cacheLab {
	t.Helper()
	l := &cacheLab{now: time.Now()}
	root := dt.Must(dt.NewRoot(pkix.Name{CommonName: "Root"}))
	issuing := dt.Must(root.NewCA(pkix.Name{CommonName: "Issuing"}))
	l.phone = dt.Must(issuing.Issue(pkix.Name{CommonName: "0004f2aabbcc"}, dt.Valid(l.now.Add(-time.Hour), ends)))
	policy.Vendor, policy.Identity, policy.Anchors = "x", presets["polycom"], []*x509.Certificate{root.Cert}
	l.verifier = dt.Must(NewVerifier(Config{Trusts: []Trust{policy}, Now: func() time.Time { return l.now }}))
	return l
}

// visit verifies the phone, and tells whether that came from memory.
func (l *cacheLab) visit() (device *Device, remembered bool, err error) {
	sent := l.phone.Certificates()
	_, remembered = l.verifier.cache.get(keyOf(sent), sent, l.verifier.trusts, l.now)
	device, err = l.verifier.Verify(sent)
	return device, remembered, err
}

func TestCacheGivesTheSameDevice(t *testing.T) {
	l := newCacheLab(t, Trust{}, time.Now().AddDate(1, 0, 0))
	first, remembered, err := l.visit()
	if err != nil || remembered {
		t.Fatalf("first visit: remembered %v, %v", remembered, err)
	}
	second, remembered, err := l.visit()
	if err != nil || !remembered {
		t.Fatalf("second visit: remembered %v, %v", remembered, err)
	}
	equal := cmp.Comparer(func(a, b *x509.Certificate) bool { return a.Equal(b) })
	if diff := cmp.Diff(first, second, equal, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("the device from memory differs (-first +second):\n%s", diff)
	}
}

func TestCacheEndsWithTheCertificate(t *testing.T) {
	end := time.Now().Add(24 * time.Hour).Truncate(time.Second)
	for name, tt := range map[string]struct {
		policy Trust
		after  time.Duration // after the certificate's end
		want   Reason
	}{
		"fail/expired":       {after: time.Second, want: Expired},
		"fail/grace over":    {policy: Trust{ExpiredGrace: time.Hour}, after: time.Hour + time.Second, want: Expired},
		"ok/within grace":    {policy: Trust{ExpiredGrace: time.Hour}, after: time.Minute},
		"ok/expired allowed": {policy: Trust{AllowExpired: true}, after: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			l := newCacheLab(t, tt.policy, end)
			if _, _, err := l.visit(); err != nil {
				t.Fatal(err)
			}
			l.now = end.Add(tt.after)
			device, remembered, err := l.visit()
			if remembered {
				t.Error("remembered past the certificate's end")
			}
			if tt.want != "" {
				if refusal, ok := err.(*Refusal); !ok || refusal.Reason != tt.want {
					t.Errorf("got %v, want %s", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Contains(device.Weak, "expired") {
				t.Errorf("weak %v, want expired", device.Weak)
			}
			if _, remembered, _ = l.visit(); !remembered {
				t.Error("an accepted expired device is not remembered")
			}
		})
	}
}

func TestCacheDistrustsAClockThatGoesBack(t *testing.T) {
	l := newCacheLab(t, Trust{}, time.Now().AddDate(1, 0, 0))
	if _, _, err := l.visit(); err != nil {
		t.Fatal(err)
	}
	l.now = l.now.Add(-2 * time.Hour)
	if _, _, err := l.visit(); err == nil || err.(*Refusal).Reason != NotYetValid {
		t.Errorf("got %v, want %s", err, NotYetValid)
	}
}

func TestCacheKeepsNoRefusals(t *testing.T) {
	l := newCacheLab(t, Trust{}, time.Now().Add(-time.Minute))
	for range 2 {
		if _, _, err := l.visit(); err == nil {
			t.Fatal("accepted")
		}
	}
	if n := l.verifier.cache.entries.Len(); n != 0 {
		t.Errorf("%d entries", n)
	}
}

// The key covers every certificate sent, so that nobody gets a verdict that
// depended on other helpers.
func TestCacheKeyCoversAllCertificates(t *testing.T) {
	l := newCacheLab(t, Trust{}, time.Now().AddDate(1, 0, 0))
	sent := l.phone.Certificates()
	keys := map[cacheKey]bool{keyOf(sent): true, keyOf(sent[:1]): true, keyOf([]*x509.Certificate{sent[1], sent[0]}): true}
	if len(keys) != 3 {
		t.Errorf("%d different keys of 3", len(keys))
	}
}
