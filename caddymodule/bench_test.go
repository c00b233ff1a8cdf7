package caddymodule

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/device-profile/caddy-device-profile/deviceauth"
	"github.com/device-profile/caddy-device-profile/deviceauth/deviceauthtest"
	"github.com/device-profile/caddy-device-profile/internal/lab"
	"github.com/device-profile/caddy-device-profile/internal/testenv"
)

// BenchmarkHandler compares a request for a profile with one for the same file
// that Caddy's own file server answers: what is more is verification and rules.
func BenchmarkHandler(b *testing.B) {
	l, err := lab.Create(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	ctx := quietContext(b)
	handler := polycomHandler(b, ctx, l)
	handler.(*Handler).logger = zap.NewNop()
	fileServer := loadHandler(b, ctx, "file_server", `{"root": "`+l.Path("profiles")+`"}`)
	own, file := "/"+lab.PolycomMAC+".cfg", "/polycom/"+lab.PolycomMAC+".cfg"
	sent := l.VVX.Certificates()

	b.Run("file_server", func(b *testing.B) { benchmarkVisit(b, fileServer, file, sent) })
	b.Run("device_profile/again", func(b *testing.B) { benchmarkVisit(b, handler, own, sent) })
	remembering := loadHandler(b, ctx, "device_profile", `{
		"trusts": [{"vendor": "polycom", "pem_files": ["`+l.Path("device-ca/polycom")+`"]}],
		"serve": [{"path": "/{device.mac}.cfg", "profile": "/{device.vendor}/{device.mac}.cfg"}],
		"sources": [{"source": "files", "root": "`+l.Path("profiles")+`"}],
		"cache": {}
	}`)
	remembering.(*Handler).logger = zap.NewNop()
	b.Run("device_profile/cached", func(b *testing.B) { benchmarkVisit(b, remembering, own, sent) })
	b.Run("device_profile/first", func(b *testing.B) {
		// Two phones push each other out of a memory that has room for one.
		h := *handler.(*Handler)
		trusts := []deviceauth.Trust{h.live.trusts[0].good}
		verifier, err := deviceauth.NewVerifier(deviceauth.Config{Trusts: trusts, CacheSize: 1})
		if err != nil {
			b.Fatal(err)
		}
		h.live = new(trustSet)
		h.live.verifier.Store(verifier)
		other, err := l.PolycomIssuing.Issue(pkix.Name{CommonName: "0004f2ddeeff"})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			b.StopTimer()
			if _, err := h.verifier().Verify(other.Certificates()); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
			visitOnce(b, &h, own, sent)
		}
	})
}

// BenchmarkDeviceMemory lets distinct devices come once each, and says what is
// remembered of one: that it was verified, and its line in the list of devices.
func BenchmarkDeviceMemory(b *testing.B) {
	l, err := lab.Create(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	handler := polycomHandler(b, quietContext(b), l)
	handler.(*Handler).logger = zap.NewNop()
	device := func(i int) (path string, sent []*x509.Certificate) {
		mac := fmt.Sprintf("0004f2%06x", i)
		phone, err := l.PolycomIssuing.Issue(pkix.Name{CommonName: mac}, deviceauthtest.Key(l.VVX.Key))
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Write("profiles/polycom/"+mac+".cfg", []byte("<profile/>")); err != nil {
			b.Fatal(err)
		}
		return "/" + mac + ".cfg", phone.Certificates()
	}
	path, sent := device(0)
	visitOnce(b, handler, path, sent) // what is there once, whoever comes
	before := testenv.Heap()
	devices := 0
	for b.Loop() {
		devices++
		path, sent := device(devices)
		visitOnce(b, handler, path, sent)
	}
	b.ReportMetric(float64(testenv.Heap()-before)/float64(devices), "B/device")
	runtime.KeepAlive(handler)
}

// quietContext is that of a config in which modules can be loaded, until the test
// ends. Without one, they would write debug records, and be timed doing so.
func quietContext(tb testing.TB) caddy.Context {
	tb.Helper()
	provisioned, err := caddy.ProvisionContext(&caddy.Config{
		Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{Level: "ERROR"}}}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(provisioned)
	tb.Cleanup(cancel)
	return ctx
}

// polycomHandler serves the lab's profiles to its Polycom phones.
func polycomHandler(b testing.TB, ctx caddy.Context, l *lab.Lab) caddyhttp.MiddlewareHandler {
	b.Helper()
	return loadHandler(b, ctx, "device_profile", `{
		"trusts": [{"vendor": "polycom", "pem_files": ["`+l.Path("device-ca/polycom")+`"]}],
		"serve": [{"path": "/{device.mac}.cfg", "profile": "/{device.vendor}/{device.mac}.cfg"}],
		"sources": [{"source": "files", "root": "`+l.Path("profiles")+`"}]
	}`)
}

func loadHandler(b testing.TB, ctx caddy.Context, name, config string) caddyhttp.MiddlewareHandler {
	b.Helper()
	module, err := ctx.LoadModuleByID("http.handlers."+name, json.RawMessage(config))
	if err != nil {
		b.Fatal(err)
	}
	return module.(caddyhttp.MiddlewareHandler)
}

func benchmarkVisit(b *testing.B, h caddyhttp.MiddlewareHandler, path string, sent []*x509.Certificate) {
	b.ReportAllocs()
	for b.Loop() {
		visitOnce(b, h, path, sent)
	}
}

func visitOnce(b testing.TB, h caddyhttp.MiddlewareHandler, path string, sent []*x509.Certificate) {
	visitIn(b, context.Background(), h, path, sent)
}

func visitIn(b testing.TB, ctx context.Context, h caddyhttp.MiddlewareHandler, path string, sent []*x509.Certificate) {
	req := httptest.NewRequestWithContext(ctx, http.MethodGet, "https://"+lab.Site+path, nil)
	req.TLS = &tls.ConnectionState{Version: tls.VersionTLS12, PeerCertificates: sent}
	repl := caddyhttp.NewTestReplacer(req)
	ctx = context.WithValue(req.Context(), caddy.ReplacerCtxKey, repl)
	ctx = context.WithValue(ctx, caddyhttp.OriginalRequestCtxKey, *req)
	req = req.WithContext(ctx)
	rec := httptest.NewRecorder()
	if err := h.ServeHTTP(rec, req, nil); err != nil {
		b.Fatal(err)
	}
	if rec.Code != http.StatusOK {
		b.Fatalf("status %d", rec.Code)
	}
}
