package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/device-profile/caddy-device-profile/profilesrc"
)

func init() {
	caddy.RegisterModule(new(HTTPSource))
}

// HTTPSource fetches profiles from an HTTP server, such as the one in a PBX. The
// profile's path is appended to the URL. Nothing of the phone's own request is
// sent: neither its headers nor its query.
//
//	Answer                             | Means
//	-----------------------------------|----------------------------------------
//	200                                | the profile
//	404, 410                           | has it not
//	408, 425, 429, 5xx, timeout,       | can't tell now (503 to the phone, or the
//	connection refused or broken       | last known profile of the cache)
//	all others, 401 and 403 too; more  | nonsense (502 to the phone)
//	than max_size; redirects elsewhere |
//
// Redirects are followed on the same scheme, host and port. A profile that comes
// with Content-Encoding is passed on with it, as it is.
//
// For several servers, health checks or retries, use no source, and Caddy's
// reverse_proxy behind device_profile.
type HTTPSource struct {
	// URL is what profile paths are appended to. Required.
	URL string `json:"url"`

	// Timeout is by when an answer must be there, up to the first MB of its
	// body, and how long the rest may pause. Default: 10s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// MaxSize is the largest profile accepted, in bytes. Default: 128 MiB.
	MaxSize int64 `json:"max_size,omitempty"`

	// HeaderUp is sent with each request. Values may hold the placeholders of
	// serve rules. Default: none.
	HeaderUp http.Header `json:"header_up,omitempty"`

	// Username and Password are sent as basic authentication. Default: none.
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`

	// TransportRaw says how to connect: client certificates, CAs, proxies and
	// so on, as in reverse_proxy. Default: that of reverse_proxy.
	TransportRaw json.RawMessage `json:"transport,omitempty" caddy:"namespace=http.reverse_proxy.transport inline_key=protocol"`

	http *profilesrc.HTTP
}

// CaddyModule returns the Caddy module information.
func (*HTTPSource) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.device_profile.sources.http",
		New: func() caddy.Module { return new(HTTPSource) },
	}
}

// Provision sets up the connection's transport.
func (s *HTTPSource) Provision(ctx caddy.Context) error {
	transport, err := s.transport(ctx)
	if err != nil {
		return fmt.Errorf("source http: loading transport: %w", err)
	}
	repl := caddy.NewReplacer()
	target, err := s.target(repl)
	if err != nil {
		return err
	}
	header := make(http.Header)
	for name, values := range s.HeaderUp {
		for _, value := range values {
			value = repl.ReplaceKnown(value, "")
			for _, placeholder := range textPlaceholders(value) {
				if err := checkPlaceholder(placeholder); err != nil {
					return fmt.Errorf("source http: header_up %s: %w", name, err)
				}
			}
			header.Add(name, value)
		}
	}
	s.http, err = profilesrc.NewHTTP(profilesrc.HTTPConfig{
		URL: target, Timeout: time.Duration(s.Timeout), MaxSize: s.MaxSize, Header: header, Transport: transport,
	})
	if err != nil {
		return fmt.Errorf("source http: %w", err)
	}
	return nil
}

func (s *HTTPSource) transport(ctx caddy.Context) (http.RoundTripper, error) {
	var module any
	var err error
	if s.TransportRaw == nil {
		module, err = ctx.LoadModuleByID("http.reverse_proxy.transport.http", nil)
	} else {
		module, err = ctx.LoadModule(s, "TransportRaw")
	}
	if err != nil {
		return nil, err
	}
	transport, ok := module.(http.RoundTripper)
	if !ok {
		return nil, fmt.Errorf("%T does not make HTTP requests", module)
	}
	return transport, nil
}

// target is the URL with the user information in it.
func (s *HTTPSource) target(repl *caddy.Replacer) (string, error) {
	target := repl.ReplaceKnown(s.URL, "")
	if s.Username == "" {
		return target, nil
	}
	parsed, err := url.Parse(target)
	if err != nil {
		return "", errors.New("source http: the URL can't be parsed")
	}
	if parsed.User != nil {
		return "", errors.New("source http: user and password are both in the URL and beside it")
	}
	parsed.User = url.UserPassword(repl.ReplaceKnown(s.Username, ""), repl.ReplaceKnown(s.Password, ""))
	return parsed.String(), nil
}

// attrs returns the inventory's columns that the headers use.
func (s *HTTPSource) attrs() (columns []string) {
	for _, values := range s.HeaderUp {
		for _, value := range values {
			for _, name := range textPlaceholders(value) {
				if column, ok := attrColumn(name); ok {
					columns = append(columns, column)
				}
			}
		}
	}
	return columns
}

// Open fetches a profile.
func (s *HTTPSource) Open(ctx context.Context, req profilesrc.Request) (*profilesrc.Profile, error) {
	return s.http.Open(ctx, req)
}

// String returns the source's name for logs.
func (s *HTTPSource) String() string { return s.http.String() }

// Shared reports whether no header tells the server who asks.
func (s *HTTPSource) Shared() bool { return s.http.Shared() }

// UnmarshalCaddyfile reads the source. Syntax:
//
//	http <url> {
//		timeout    <duration>
//		max_size   <size>
//		header_up  <name> <value>
//		basic_auth <user> <password>
//		transport  <module> ...
//	}
//
// header_up may be repeated.
func (s *HTTPSource) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the source's name
	if !d.AllArgs(&s.URL) {
		return d.ArgErr()
	}
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if seen[option] && option != "header_up" {
			return d.Errf("source http: duplicate option %s", option)
		}
		seen[option] = true
		if err := s.unmarshalOption(d, option); err != nil {
			return err
		}
	}
	return nil
}

func (s *HTTPSource) unmarshalOption(d *caddyfile.Dispenser, option string) (err error) {
	switch option {
	case "timeout":
		s.Timeout, err = duration(d, option)
	case "max_size":
		s.MaxSize, err = size(d, option)
	case "header_up":
		var name, value string
		if !d.AllArgs(&name, &value) {
			return d.ArgErr()
		}
		if s.HeaderUp == nil {
			s.HeaderUp = make(http.Header)
		}
		s.HeaderUp.Add(name, value)
		err = noBlock(d)
	case "basic_auth":
		if !d.AllArgs(&s.Username, &s.Password) {
			return d.ArgErr()
		}
		err = noBlock(d)
	case "transport":
		err = s.unmarshalTransport(d)
	default:
		err = d.Errf("source http: unrecognized option %q", option)
	}
	return err
}

func (s *HTTPSource) unmarshalTransport(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.ArgErr()
	}
	name := d.Val()
	module, err := caddyfile.UnmarshalModule(d, "http.reverse_proxy.transport."+name)
	if err != nil {
		return err
	}
	s.TransportRaw = caddyconfig.JSONModuleObject(module, "protocol", name, nil)
	return nil
}

// Interface guards.
var (
	_ caddy.Provisioner     = (*HTTPSource)(nil)
	_ caddyfile.Unmarshaler = (*HTTPSource)(nil)
	_ profilesrc.Source     = (*HTTPSource)(nil)
)
