package caddymodule

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// guard is the first handler of a server with phones' sites. A client chooses
// by its handshake whose terms a connection is made on, and by its Host header
// whom it talks to; guard refuses the combinations by which somebody could reach
// a site on weaker terms than its own.
type guard struct {
	sites    *siteMap
	handlers []*Handler // those of the server
	logger   *zap.Logger
}

// guardOf returns the server's guard, or nil if it has no device_tls wrapper.
func guardOf(srv *caddyhttp.Server) *guard {
	if len(srv.Routes) == 0 || len(srv.Routes[0].Handlers) == 0 {
		return nil
	}
	g, _ := srv.Routes[0].Handlers[0].(*guard)
	return g
}

var errMisdirected = errors.New("this host is not served over a connection made for phones")

// ServeHTTP answers 421 if the request's host may not be reached over its
// connection.
func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if !g.allows(r) {
		g.logger.Warn("request misdirected",
			zap.String("host", r.Host), zap.String("server_name", r.TLS.ServerName), zap.Int("status", http.StatusMisdirectedRequest),
			zap.String("path", r.URL.Path), zap.String("tls_version", versionName(r.TLS.Version)), zap.String("remote_ip", remoteIP(r)))
		return caddyhttp.Error(http.StatusMisdirectedRequest, errMisdirected)
	}
	return next.ServeHTTP(w, r)
}

func (g *guard) allows(r *http.Request) bool {
	if r.TLS == nil {
		return true
	}
	asked := g.sites.find(hostName(r.Host))
	if serverName := strings.ToLower(r.TLS.ServerName); serverName != "" {
		named := g.sites.find(serverName)
		if named == nil || named == asked {
			return true // made on Caddy's terms, or on those of the site itself
		}
	}
	if asked == nil {
		return len(g.sites.phones) == 0
	}
	return !needsLegacy(r.TLS) || asked.legacy != nil && asked.legacy.allows(r.TLS.CipherSuite)
}

// needsLegacy reports whether only legacy_tls makes such a connection possible.
func needsLegacy(state *tls.ConnectionState) bool {
	return state.Version < tls.VersionTLS12 ||
		state.Version == tls.VersionTLS12 && slices.Contains(allLegacyCiphers, state.CipherSuite)
}

var allLegacyCiphers = legacyCiphers(&LegacyTLS{RC4: true, TripleDES: true})

func (l *LegacyTLS) allows(cipher uint16) bool {
	return !slices.Contains(allLegacyCiphers, cipher) || slices.Contains(legacyCiphers(l), cipher)
}

// hostName returns the host of a Host header in lower case, without the port.
func hostName(hostport string) string {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	return strings.ToLower(host)
}

var _ caddyhttp.MiddlewareHandler = (*guard)(nil)
