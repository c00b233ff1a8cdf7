package caddymodule

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
)

// route is a top-level route as a server has it when its listener wrappers are
// provisioned: with its matchers, and its handlers still in JSON.
func route(handler string, hosts ...string) caddyhttp.Route {
	r := caddyhttp.Route{HandlersRaw: []json.RawMessage{json.RawMessage(handler)}}
	if len(hosts) > 0 {
		m := caddyhttp.MatchHost(hosts)
		r.MatcherSets = caddyhttp.MatcherSets{{&m}}
	}
	return r
}

const (
	device1 = `{"handler":"subroute","routes":[{"handle":[{"handler":"device_profile"}]}]}`
	legacy1 = `{"handler":"subroute","routes":[{"handle":[{"handler":"device_profile","legacy_tls":{"rc4":true}}]}]}`
	plain1  = `{"handler":"static_response"}`
)

func TestFindSites(t *testing.T) {
	tests := []struct {
		name     string
		routes   []caddyhttp.Route
		named    map[string]*caddyhttp.Route
		phones   []string // names that reach a phones' site, as site/legacy
		others   []string // names that don't
		nameless string
	}{
		{
			name:   "one site beside another",
			routes: []caddyhttp.Route{route(device1, "prov.example.com"), route(plain1, "www.example.com")},
			phones: []string{"prov.example.com"}, others: []string{"www.example.com", "nobody.example.com", ""}, nameless: "prov.example.com",
		},
		{
			name:   "legacy goes first without a name",
			routes: []caddyhttp.Route{route(device1, "a.example.com"), route(legacy1, "b.example.com")},
			phones: []string{"a.example.com", "b.example.com"}, nameless: "b.example.com",
		},
		{
			name:   "wildcard, with an exception",
			routes: []caddyhttp.Route{route(plain1, "www.example.com"), route(device1, "*.example.com")},
			phones: []string{"a.example.com"}, others: []string{"www.example.com", "a.b.example.com"}, nameless: "*.example.com",
		},
		{
			name:   "any host, with an exception",
			routes: []caddyhttp.Route{route(plain1, "www.example.com"), route(device1)},
			phones: []string{"a.example.com", "anything"}, others: []string{"www.example.com"},
		},
		{
			name: "host matched within a wildcard site",
			routes: []caddyhttp.Route{route(`{"handler":"subroute","routes":[{"match":[{"host":["Prov.Example.com"]}],"handle":[{"handler":"device_profile"}]},
				{"handle":[{"handler":"static_response"}]}]}`, "*.example.com")},
			phones: []string{"prov.example.com"}, others: []string{"www.example.com"}, nameless: "prov.example.com",
		},
		{
			name:   "in a named route",
			routes: []caddyhttp.Route{route(`{"handler":"invoke","name":"phones"}`, "prov.example.com")},
			named:  map[string]*caddyhttp.Route{"phones": {HandlersRaw: []json.RawMessage{json.RawMessage(device1)}}},
			phones: []string{"prov.example.com"}, nameless: "prov.example.com",
		},
		{
			name:   "a named route that invokes itself",
			routes: []caddyhttp.Route{route(`{"handler":"invoke","name":"loop"}`, "a.example.com")},
			named:  map[string]*caddyhttp.Route{"loop": {HandlersRaw: []json.RawMessage{json.RawMessage(`{"handler":"invoke","name":"loop"}`)}}},
			others: []string{"a.example.com"},
		},
		{
			name:   "no phones",
			routes: []caddyhttp.Route{route(plain1, "www.example.com")},
			others: []string{"www.example.com"},
		},
		{
			name:   "unicode name",
			routes: []caddyhttp.Route{route(device1, "telefoné.example.com")},
			phones: []string{"xn--telefon-hya.example.com"}, nameless: "xn--telefon-hya.example.com",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sites := findSites(&caddyhttp.Server{Routes: tt.routes, NamedRoutes: tt.named})
			for _, name := range tt.phones {
				if sites.find(name) == nil {
					t.Errorf("%q reaches no phones' site", name)
				}
			}
			for _, name := range tt.others {
				if s := sites.find(name); s != nil {
					t.Errorf("%q reaches the phones' site %q", name, s.name)
				}
			}
			nameless := ""
			if s := sites.nameless(); s != nil {
				nameless = s.name
			}
			if diff := cmp.Diff(tt.nameless, nameless); diff != "" {
				t.Errorf("site without a name (-want +got):\n%s", diff)
			}
		})
	}
}

func TestGuard(t *testing.T) {
	g := &guard{logger: zap.NewNop(), sites: findSites(&caddyhttp.Server{Routes: []caddyhttp.Route{
		route(legacy1, "old.example.com"), route(device1, "new.example.com"), route(plain1, "www.example.com"),
	}})}
	modern := tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256}
	tls10 := tls.ConnectionState{Version: tls.VersionTLS10, CipherSuite: tls.TLS_RSA_WITH_AES_128_CBC_SHA}
	rc4 := tls.ConnectionState{Version: tls.VersionTLS12, CipherSuite: tls.TLS_RSA_WITH_RC4_128_SHA}
	tripleDES := tls.ConnectionState{Version: tls.VersionTLS12, CipherSuite: tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA}
	for _, tt := range []struct {
		name, serverName, host string
		state                  tls.ConnectionState
		want                   bool
	}{
		{"its own site", "new.example.com", "new.example.com", modern, true},
		{"with a port", "new.example.com", "NEW.example.com:8443", modern, true},
		{"other site", "www.example.com", "www.example.com", modern, true},
		{"phones' site over the other's connection", "www.example.com", "new.example.com", modern, true}, // then without a certificate
		{"no name", "", "new.example.com", modern, true},
		{"no name, old TLS", "", "new.example.com", tls10, false},
		{"no name, old TLS, old site", "", "old.example.com", tls10, true},
		{"no name, RC4, old site", "", "old.example.com", rc4, true},
		{"no name, 3DES, old site that has RC4 alone", "", "old.example.com", tripleDES, false},
		{"no name, other site", "", "www.example.com", modern, false},
		{"no name, unknown site", "", "nobody.example.com", modern, false},
		{"no name, no host", "", "", modern, false},
		{"phones' name, other site", "new.example.com", "www.example.com", modern, false},
		{"old site's name and TLS, new site", "old.example.com", "new.example.com", tls10, false},
		{"upper-case name", "OLD.example.com", "www.example.com", tls10, false},
		{"address", "", "127.0.0.1:443", modern, false},
		{"IPv6 address", "", "[::1]:443", modern, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			state := tt.state
			state.ServerName = tt.serverName
			if got := g.allows(&http.Request{Host: tt.host, TLS: &state}); got != tt.want {
				t.Errorf("server name %q, host %q: allowed %v, want %v", tt.serverName, tt.host, got, tt.want)
			}
		})
	}
	if !g.allows(&http.Request{Host: "www.example.com"}) {
		t.Error("plain HTTP is refused")
	}
}
