package caddymodule

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/device-profile/caddy-device-profile/internal/lab"
	"github.com/device-profile/caddy-device-profile/profilesrc"
)

// A client that ends its sending side after the request, as GnuTLS does at the
// end of its input, is no client that has gone.
func TestHalfClosed(t *testing.T) {
	l, err := lab.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	handler := polycomHandler(t, quietContext(t), l)
	request, halfClose := context.WithCancel(t.Context())
	halfClose()
	visitIn(t, request, handler, "/"+lab.PolycomMAC+".cfg", l.VVX.Certificates())
}

// A file that gets shorter between being opened and being read is no profile: a
// phone would take the half for the whole.
func TestProfileGetsShorter(t *testing.T) {
	name := filepath.Join(t.TempDir(), "profile.cfg")
	if err := os.WriteFile(name, []byte("<profile/>"), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, 5); err != nil {
		t.Fatal(err)
	}
	v := new(visit)
	rec := httptest.NewRecorder()
	err = v.answer(rec, httptest.NewRequest(http.MethodGet, "/", nil), &profilesrc.Profile{Body: file, Size: 10, Source: "files"})
	if err == nil || v.status != http.StatusBadGateway || rec.Body.Len() > 0 {
		t.Errorf("got %v, status %d and %q, want %d and nothing", err, v.status, rec.Body, http.StatusBadGateway)
	}
}
