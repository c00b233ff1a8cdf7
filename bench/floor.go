package main

import (
	"crypto/tls"
	"net"
	"net/http"
	_ "net/http/pprof" // on the default mux
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Floors are the least that can be done in Go: what a visit costs before a server
// has decided, verified or logged anything, with profiles that are in memory. No
// plugin can take less than Caddy's own floor, and no Caddy less than that of
// net/http.

// asFloor makes this program be the server of net/http's floor. Its arguments are
// an address, another one for CPU profiles, and the fleet's folder.
const asFloor = "DEVICE_PROFILE_BENCH_AS_FLOOR"

func init() {
	caddy.RegisterModule(new(floor))
	httpcaddyfile.RegisterHandlerDirective("bench_floor", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		f := new(floor)
		return f, f.UnmarshalCaddyfile(h.Dispenser)
	})
}

// floor answers with the profile named by the certificate's CN, which nobody has
// verified.
type floor struct {
	Dir string `json:"dir"`

	profiles sync.Map // from name to content
}

// CaddyModule returns the Caddy module information.
func (*floor) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.bench_floor", New: func() caddy.Module { return new(floor) }}
}

// UnmarshalCaddyfile reads bench_floor * <folder of the profiles>.
func (f *floor) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the name
	if !d.AllArgs(&f.Dir) {
		return d.ArgErr()
	}
	return nil
}

// ServeHTTP sends the caller's profile, at its own path only.
func (f *floor) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	name := r.TLS.PeerCertificates[0].Subject.CommonName + ".cfg"
	if r.URL.Path != "/"+name {
		w.WriteHeader(http.StatusForbidden)
		return nil
	}
	data, err := f.profile(name)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	_, err = w.Write(data)
	return err
}

// profile reads a profile once.
func (f *floor) profile(name string) ([]byte, error) {
	if data, ok := f.profiles.Load(name); ok {
		return data.([]byte), nil
	}
	data, err := os.ReadFile(filepath.Join(f.Dir, name))
	if err == nil {
		f.profiles.Store(name, data)
	}
	return data, err
}

// serveFloor serves the floor with net/http alone.
func serveFloor(address, admin, dir string) error {
	go http.ListenAndServe(admin, nil) //nolint:errcheck,gosec // net/http/pprof; without it, no profile can be taken
	certificate, err := tls.LoadX509KeyPair(filepath.Join(dir, "site.pem"), filepath.Join(dir, "site.key"))
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	f := &floor{Dir: filepath.Join(dir, "profiles")}
	return http.Serve(tls.NewListener(listener, &tls.Config{
		Certificates:                []tls.Certificate{certificate},
		ClientAuth:                  tls.RequestClientCert,
		NextProtos:                  []string{"http/1.1"},
		DynamicRecordSizingDisabled: true,
	}), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := f.ServeHTTP(w, r, nil); err != nil {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
}
