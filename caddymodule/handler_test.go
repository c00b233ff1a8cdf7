package caddymodule

import (
	"context"
	"testing"

	"github.com/device-profile/caddy-device-profile/internal/lab"
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
