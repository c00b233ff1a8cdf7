package caddymodule

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/certmagic"
	"golang.org/x/net/idna"
)

// site is a host name whose requests reach a device_profile handler.
type site struct {
	name   string // in lower case and ASCII; may be a wildcard; "" for any name
	legacy *LegacyTLS
}

// siteMap knows the host names of a server: those of phones, and the others.
type siteMap struct {
	phones []*site // the most specific names first
	others []string
}

// findSites looks for device_profile handlers in the server's routes. The
// routes' own matchers are provisioned by then, their handlers not yet.
func findSites(srv *caddyhttp.Server) *siteMap {
	m := new(siteMap)
	for _, route := range srv.Routes {
		hosts := routeHosts(route)
		found := len(m.phones)
		for _, raw := range route.HandlersRaw {
			var handler any
			if json.Unmarshal(raw, &handler) == nil {
				m.walk(srv, handler, hosts, 0)
			}
		}
		if len(m.phones) == found {
			m.others = append(m.others, hosts...)
		}
	}
	m.others = slices.DeleteFunc(m.others, func(name string) bool { return name == "" || m.exact(name) != nil })
	slices.SortStableFunc(m.phones, func(a, b *site) int { return wildness(a.name) - wildness(b.name) })
	return m
}

// maxRouteDepth bounds the nesting of routes that is looked into.
const maxRouteDepth = 64

// walk looks for device_profile in the JSON of a handler or route. hosts are
// those that the routes around it are limited to.
func (m *siteMap) walk(srv *caddyhttp.Server, node any, hosts []string, depth int) {
	if depth > maxRouteDepth {
		return
	}
	switch node := node.(type) {
	case []any:
		for _, child := range node {
			m.walk(srv, child, hosts, depth+1)
		}
	case map[string]any:
		switch node["handler"] {
		case "device_profile":
			m.add(hosts, node["legacy_tls"])
			return
		case "invoke":
			m.walkNamed(srv, node["name"], hosts, depth)
			return
		}
		if inner, ok := jsonHosts(node["match"]); ok {
			hosts = inner
		}
		for _, child := range node {
			m.walk(srv, child, hosts, depth+1)
		}
	}
}

func (m *siteMap) walkNamed(srv *caddyhttp.Server, name any, hosts []string, depth int) {
	key, _ := name.(string)
	route := srv.NamedRoutes[key]
	if route == nil {
		return
	}
	for _, raw := range route.HandlersRaw {
		var handler any
		if json.Unmarshal(raw, &handler) == nil {
			m.walk(srv, handler, hosts, depth+1)
		}
	}
}

// add notes the hosts as phones' sites. No hosts means any host.
func (m *siteMap) add(hosts []string, legacyJSON any) {
	var legacy *LegacyTLS
	if legacyJSON != nil {
		raw, _ := json.Marshal(legacyJSON)
		legacy = new(LegacyTLS)
		_ = json.Unmarshal(raw, legacy) // a bad value is refused when the handler is loaded
	}
	if len(hosts) == 0 {
		hosts = []string{""}
	}
	for _, name := range hosts {
		s := m.exact(name)
		if s == nil {
			s = &site{name: name}
			m.phones = append(m.phones, s)
		}
		s.legacy = s.legacy.merge(legacy)
	}
}

// merge returns what either of two handlers of one site allows.
func (l *LegacyTLS) merge(other *LegacyTLS) *LegacyTLS {
	if l == nil {
		return other
	}
	if other == nil {
		return l
	}
	return &LegacyTLS{RC4: l.RC4 || other.RC4, TripleDES: l.TripleDES || other.TripleDES}
}

func (m *siteMap) exact(name string) *site {
	for _, s := range m.phones {
		if s.name == name {
			return s
		}
	}
	return nil
}

// find returns the phones' site that a host name, in lower case, belongs to, or
// nil. The TLS policies choose likewise: the most specific name wins.
func (m *siteMap) find(name string) *site {
	for _, s := range m.phones {
		if s.name != "" && !strings.Contains(s.name, "*") && s.name == name {
			return s
		}
	}
	if slices.ContainsFunc(m.others, func(other string) bool { return certmagic.MatchWildcard(name, other) }) {
		return nil
	}
	for _, s := range m.phones {
		if s.name == "" || certmagic.MatchWildcard(name, s.name) {
			return s
		}
	}
	return nil
}

// nameless returns the site for clients that send no server name: one that
// lets old phones in if there is one, else the first. nil if there is no site.
func (m *siteMap) nameless() *site {
	for _, s := range m.phones {
		if s.legacy != nil {
			return s
		}
	}
	if len(m.phones) == 0 {
		return nil
	}
	return m.phones[0]
}

// routeHosts returns the hosts that a top-level route is limited to, or none
// if it serves any host.
func routeHosts(route caddyhttp.Route) []string {
	var hosts []string
	for _, set := range route.MatcherSets {
		limited := false
		for _, matcher := range set {
			if m, ok := matcher.(*caddyhttp.MatchHost); ok {
				limited = true
				for _, name := range *m {
					hosts = append(hosts, asciiName(name))
				}
			}
		}
		if !limited {
			return nil
		}
	}
	return hosts
}

// jsonHosts is routeHosts for the JSON of a route's matcher sets. It reports
// false if they don't limit the host.
func jsonHosts(match any) ([]string, bool) {
	sets, _ := match.([]any)
	var hosts []string
	for _, set := range sets {
		matchers, _ := set.(map[string]any)
		names, ok := matchers["host"].([]any)
		if !ok {
			return nil, false
		}
		for _, name := range names {
			if text, ok := name.(string); ok {
				hosts = append(hosts, asciiName(text))
			}
		}
	}
	return hosts, len(hosts) > 0
}

// asciiName brings a host name of the config into the form in which clients
// send it.
func asciiName(name string) string {
	name = caddy.NewReplacer().ReplaceKnown(name, "")
	if ascii, err := idna.ToASCII(name); err == nil {
		name = ascii
	}
	return strings.ToLower(name)
}

// wildness orders names: exact ones, wildcards, any name.
func wildness(name string) int {
	switch {
	case name == "":
		return 2
	case strings.Contains(name, "*"):
		return 1
	}
	return 0
}
