package caddymodule

import (
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/device-profile/caddy-device-profile/deviceauth"
	dt "github.com/device-profile/caddy-device-profile/deviceauth/deviceauthtest"
)

// trustLab has a CA in root.pem, a phone that can be revoked and one that stays.
type trustLab struct {
	t          *testing.T
	dir        string
	root       *dt.Identity
	lost, kept *dt.Identity
	issued     int64 // CRLs so far
	set        *trustSet
	log        *observer.ObservedLogs
}

func newTrustLab(t *testing.T) *trustLab {
	t.Helper()
	ec := dt.ECDSA(elliptic.P256())
	l := &trustLab{t: t, dir: t.TempDir(), root: dt.Must(dt.NewRoot(pkix.Name{CommonName: "Root"}, ec))}
	l.lost = dt.Must(l.root.Issue(pkix.Name{CommonName: "000413000001"}, ec))
	l.kept = dt.Must(l.root.Issue(pkix.Name{CommonName: "000413000002"}, ec))
	l.write("root.pem", dt.PEM(l.root.Cert))
	return l
}

func (l *trustLab) file(name string) string { return filepath.Join(l.dir, name) }

func (l *trustLab) write(name string, data []byte) {
	l.t.Helper()
	if err := os.WriteFile(l.file(name), data, 0o600); err != nil {
		l.t.Fatal(err)
	}
}

// crl makes a CRL newer than those before.
func (l *trustLab) crl(revoked ...*dt.Identity) []byte {
	l.t.Helper()
	l.issued++
	at := time.Now().Add(time.Duration(l.issued-1000) * time.Second)
	return dt.CRLPEM(dt.Must(l.root.CRL(dt.Revoke(revoked...), dt.CRLNumber(l.issued), dt.Updates(at, at.AddDate(0, 0, 1)))))
}

// open reads the trust, as at a start of Caddy.
func (l *trustLab) open(crls ...string) error {
	l.t.Helper()
	storage, err := json.Marshal(map[string]string{"module": "file_system", "root": l.file("storage")})
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, err := caddy.ProvisionContext(&caddy.Config{StorageRaw: storage, Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{Level: "FATAL"}}}}})
	if err != nil {
		l.t.Fatal(err)
	}
	metrics, err := registerMetrics(ctx.GetMetricsRegistry())
	if err != nil {
		l.t.Fatal(err)
	}
	set, err := newTrustSet(ctx, []*Trust{{Vendor: "snom", PEMFiles: []string{l.file("root.pem")}, CRL: crls, CRLRefresh: 1}}, metrics)
	if err != nil {
		return err
	}
	core, log := observer.New(zap.InfoLevel)
	l.set, l.log = set, log
	l.set.logger = zap.New(core)
	return nil
}

// wants checks what the phones get: the lost one is revoked, or not.
func (l *trustLab) wants(lostReason deviceauth.Reason) {
	l.t.Helper()
	got := deviceauth.Reason("")
	if _, err := l.set.verifier.Load().Verify(l.lost.Certificates()); err != nil {
		got = err.(*deviceauth.Refusal).Reason
	}
	if got != lostReason {
		l.t.Errorf("the lost phone: got %q, want %q", got, lostReason)
	}
	if _, err := l.set.verifier.Load().Verify(l.kept.Certificates()); err != nil {
		l.t.Errorf("the other phone: %v", err)
	}
}

// wantsLogged checks the records since the last call.
func (l *trustLab) wantsLogged(levels string, words ...string) {
	l.t.Helper()
	var got []string
	text := ""
	for _, entry := range l.log.TakeAll() {
		got = append(got, entry.Level.String())
		text += entry.Message
		for key, value := range entry.ContextMap() {
			text += " " + key + "=" + strings.TrimSpace(toString(value))
		}
	}
	if strings.Join(got, " ") != levels {
		l.t.Errorf("records %v, want %q: %s", got, levels, text)
	}
	for _, word := range words {
		if !strings.Contains(text, word) {
			l.t.Errorf("the log does not mention %q: %s", word, text)
		}
	}
}

func toString(value any) string {
	raw, _ := json.Marshal(value)
	return string(raw)
}

// badCRLs are files that must never be taken over.
func (l *trustLab) badCRLs() map[string]struct {
	data  []byte
	cause string
} {
	other := dt.Must(dt.NewRoot(pkix.Name{CommonName: "Root"}, dt.ECDSA(elliptic.P256())))
	stranger := dt.Must(dt.NewRoot(pkix.Name{CommonName: "Stranger"}, dt.ECDSA(elliptic.P256())))
	delta := dt.CRLExtension(pkix.Extension{Id: []int{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}})
	good := l.crl()
	return map[string]struct {
		data  []byte
		cause string
	}{
		"empty":       {nil, "holds no CRL"},
		"text":        {[]byte("<html>Bad Gateway</html>"), "holds no CRL"},
		"truncated":   {good[:len(good)/2], "truncated"},
		"certificate": {dt.PEM(l.root.Cert), "not a CRL"},
		"forged":      {dt.CRLPEM(dt.Must(other.CRL())), "did not sign"},
		"stranger":    {dt.CRLPEM(dt.Must(stranger.CRL())), "not among"},
		"delta":       {dt.CRLPEM(dt.Must(l.root.CRL(delta))), "delta"},
		"version 1":   {dt.CRLPEM(dt.Must(l.root.CRL(dt.CRLVersion1()))), "version 1"},
		"too large":   {make([]byte, deviceauth.MaxCRL+1), "larger"},
	}
}

// Bad input at start refuses to start; at reload, it changes nothing and is
// logged once.
func TestTrustBadCRL(t *testing.T) {
	l := newTrustLab(t)
	file := l.file("a.crl")
	if err := l.open(file); err == nil || !strings.Contains(err.Error(), "a.crl") {
		t.Errorf("missing: got %v", err)
	}
	bad := l.badCRLs()
	for name, tt := range bad {
		l.write("a.crl", tt.data)
		err := l.open(file)
		if err == nil || !strings.Contains(err.Error(), tt.cause) || !strings.Contains(err.Error(), "a.crl") || !strings.Contains(err.Error(), "trust snom") {
			t.Errorf("start, %s: got %v, want an error that names the trust and the file and mentions %q", name, err, tt.cause)
		}
	}
	good := l.crl(l.lost)
	l.write("a.crl", good)
	if err := l.open(file); err != nil {
		t.Fatal(err)
	}
	verifier := l.set.verifier.Load()
	for name, tt := range bad {
		t.Run(name, func(t *testing.T) {
			l.t = t
			l.write("a.crl", tt.data)
			l.set.look(t.Context())
			l.set.look(t.Context())
			l.wantsLogged("error", "a.crl", tt.cause)
			l.wants(deviceauth.Revoked)
			l.write("a.crl", good)
			l.set.look(t.Context())
			l.wantsLogged("info", "good again")
			if l.set.verifier.Load() != verifier {
				t.Error("the verifier was replaced")
			}
		})
	}
	l.t = t
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	l.set.look(t.Context())
	l.wantsLogged("error", "a.crl", "no such file")
	l.wants(deviceauth.Revoked)
}

// A file that changes is taken over; an older CRL is not.
func TestTrustCRLChanges(t *testing.T) {
	l := newTrustLab(t)
	older, begin, revoked, back := l.crl(), l.crl(), l.crl(l.lost), l.crl()
	l.write("a.crl", begin)
	if err := l.open(l.file("a.crl")); err != nil {
		t.Fatal(err)
	}
	l.wants("")
	for _, step := range []struct {
		data   []byte
		reason deviceauth.Reason
		levels string
		word   string
	}{
		{begin, "", "", ""},
		{revoked, deviceauth.Revoked, "info", "trust reloaded"},
		{begin, deviceauth.Revoked, "error", "older than the one in use"},
		{older, deviceauth.Revoked, "error", "older than the one in use"},
		{revoked, deviceauth.Revoked, "info", "good again"},
		{back, "", "info", "trust reloaded"},
	} {
		l.write("a.crl", step.data)
		l.set.look(t.Context())
		l.wants(step.reason)
		l.wantsLogged(step.levels, step.word)
	}
}

// CA files that change are taken over as a whole, or not at all; a bad one
// doesn't keep a CRL from being taken over.
func TestTrustFilesChange(t *testing.T) {
	l := newTrustLab(t)
	l.write("a.crl", l.crl())
	if err := l.open(l.file("a.crl")); err != nil {
		t.Fatal(err)
	}
	good := dt.PEM(l.root.Cert)
	stranger := dt.Must(dt.NewRoot(pkix.Name{CommonName: "Second"}, dt.ECDSA(elliptic.P256())))
	phone := dt.Must(stranger.Issue(pkix.Name{CommonName: "000413000003"}))
	accepted := func() bool {
		_, err := l.set.verifier.Load().Verify([]*x509.Certificate{phone.Cert})
		return err == nil
	}
	for name, data := range map[string][]byte{"truncated": good[:len(good)/2], "empty": {}, "no CA": dt.PEM(l.kept.Cert), "the CRL's issuer gone": dt.PEM(stranger.Cert)} {
		l.write("root.pem", data)
		l.set.look(t.Context())
		l.set.look(t.Context())
		l.wantsLogged("error", "CA certificates")
		l.wants("")
		if accepted() {
			t.Errorf("%s: the second CA's phone is accepted", name)
		}
		l.write("root.pem", good)
		l.set.look(t.Context())
		l.wantsLogged("info", "good again")
	}
	l.write("root.pem", []byte("rubbish"))
	l.write("a.crl", l.crl(l.lost))
	l.set.look(t.Context())
	l.wantsLogged("error info", "root.pem", "trust reloaded")
	l.wants(deviceauth.Revoked)
	l.write("root.pem", append(good, dt.PEM(stranger.Cert)...))
	l.set.look(t.Context())
	l.wantsLogged("info info", "trust reloaded")
	if !accepted() {
		t.Error("the second CA's phone is refused")
	}
	l.wants(deviceauth.Revoked)
}

// crlServer answers with what it is told to.
type crlServer struct {
	*httptest.Server
	mu       sync.Mutex
	data     []byte
	status   int
	redirect string
	answered []int
}

func newCRLServer(t *testing.T) *crlServer {
	s := new(crlServer)
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *crlServer) set(status int, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.data, s.answered = status, data, nil
}

func (s *crlServer) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := s.status
	if s.redirect != "" {
		http.Redirect(w, r, s.redirect, http.StatusFound)
		return
	}
	tag := `"` + toString(len(s.data)) + `"`
	w.Header().Set("ETag", tag)
	if status == http.StatusOK && r.Header.Get("If-None-Match") == tag {
		status = http.StatusNotModified
	}
	s.answered = append(s.answered, status)
	w.WriteHeader(status)
	if status == http.StatusOK {
		_, _ = w.Write(s.data)
	}
}

// A URL is asked again, keeps its last good answer, and that outlives restarts.
func TestTrustCRLByURL(t *testing.T) {
	l := newTrustLab(t)
	server := newCRLServer(t)
	url := server.URL + "/a.crl"
	server.set(http.StatusNotFound, nil)
	if err := l.open(url); err == nil || !strings.Contains(err.Error(), "404") || !strings.Contains(err.Error(), "storage") {
		t.Fatalf("down, and nothing in storage: got %v", err)
	}
	older, begin, revoked := l.crl(), l.crl(), l.crl(l.lost)
	server.set(http.StatusOK, begin)
	if err := l.open(url); err != nil {
		t.Fatal(err)
	}
	l.wants("")
	if _, err := os.Stat(l.file("storage/device_profile/crls")); err == nil {
		t.Error("storage is written to before the config runs")
	}
	l.set.look(t.Context())
	if got := toString(server.answered); got != "[200,304]" {
		t.Errorf("answers %s, want a conditional request", got)
	}
	server.set(http.StatusOK, revoked)
	l.set.look(t.Context())
	l.wantsLogged("info", "trust reloaded")
	l.wants(deviceauth.Revoked)
	l.set.save(t.Context())
	l.wantsLogged("")

	for name, tt := range l.badCRLs() {
		server.set(http.StatusOK, tt.data)
		l.set.look(t.Context())
		l.wantsLogged("error", "/a.crl", tt.cause)
		l.wants(deviceauth.Revoked)
		server.set(http.StatusServiceUnavailable, nil)
		l.set.look(t.Context())
		l.wantsLogged("error", "503")
		restarted := *l
		if err := restarted.open(url); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		restarted.wants(deviceauth.Revoked)
	}
	// A restart doesn't fall for an older CRL, either.
	server.set(http.StatusOK, older)
	if err := l.open(url); err != nil {
		t.Fatal(err)
	}
	l.wants(deviceauth.Revoked)
	server.set(http.StatusOK, revoked)
	l.set.look(t.Context())
	l.wantsLogged("info", "good again")
	server.set(http.StatusServiceUnavailable, nil)
	l.set.look(t.Context())
	l.wantsLogged("error", "503")
	// What is in storage is checked like all else.
	stored, err := filepath.Glob(l.file("storage/device_profile/crls/*"))
	if err != nil || len(stored) != 1 {
		t.Fatal(stored, err)
	}
	if err := os.WriteFile(stored[0], []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.open(url); err == nil || !strings.Contains(err.Error(), "holds no CRL") {
		t.Errorf("rubbish in storage: got %v", err)
	}
}

func TestTrustCRLRedirects(t *testing.T) {
	l := newTrustLab(t)
	server, other := newCRLServer(t), newCRLServer(t)
	other.set(http.StatusOK, l.crl())
	for target, cause := range map[string]string{other.URL + "/a.crl": "another host", "/a.crl": "too often"} {
		server.redirect = target
		if err := l.open(server.URL + "/b.crl"); err == nil || !strings.Contains(err.Error(), cause) {
			t.Errorf("redirect to %s: got %v, want %q", target, err, cause)
		}
	}
	for name, cause := range map[string]string{"ldap://ca/x": "http or https", "http:///x": "http or https", "https://u:secret@ca/x": "password"} {
		err := l.open(name)
		if err == nil || !strings.Contains(err.Error(), cause) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v, want %q", name, err, cause)
		}
	}
}

// A CRL past its nextUpdate is pointed out once a day.
func TestTrustCRLOverdue(t *testing.T) {
	l := newTrustLab(t)
	past := time.Now().AddDate(0, 0, -3)
	l.write("a.crl", dt.CRLPEM(dt.Must(l.root.CRL(dt.Revoke(l.lost), dt.Updates(past, past.AddDate(0, 0, 1))))))
	if err := l.open(l.file("a.crl")); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for _, at := range []time.Duration{0, time.Minute, 25 * time.Hour} {
		l.set.warnOverdue(now.Add(at))
	}
	l.wantsLogged("warn warn", "nextUpdate", "a.crl")
	l.wants(deviceauth.Revoked)
}
