package caddymodule

import (
	"context"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/device-profile/caddy-device-profile/profilesrc"
)

func init() {
	caddy.RegisterModule(new(TFTPSource))
}

// TFTPSource serves profiles from a TFTP server. A profile is asked for by its
// name, without a leading slash, in octet mode.
//
// The server is asked for larger blocks (RFC 2348) and for the size in advance
// (RFC 2349); servers that know neither are served too. Several blocks on the way
// at once (windowsize, RFC 7440) are not supported by the TFTP library. Names
// too long for a request with options go without them.
//
//	what the server does                     what the phone gets
//	-----------------------------------------------------------------
//	error 1, file not found                  404
//	no answer, within retries or deadline    503
//	any other error, too much, another       502
//	length than announced, nonsense
//
// Profiles up to 1 MiB are fetched before the phone gets an answer. Of a larger
// one, the rest is passed on as it comes; if the server fails by then, the phone's
// transfer breaks off.
//
// TFTP knows no passwords and no encryption: keep the server on a network of its
// own, or on this machine. The transfers' packets come from ports of the
// server's choice, which a firewall in between must let through.
type TFTPSource struct {
	// Address is the server's host name or IP address, optionally with a colon
	// and a port. Default port: 69. Required.
	Address string `json:"address,omitempty"`

	// Timeout is how long one packet is waited for before it is asked for
	// again. At most 255s. Default: 500ms.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// Retries is how often a packet is asked for again before the server counts
	// as down. At most 100. Default: 8.
	Retries int `json:"retries,omitempty"`

	// Deadline is how long the server may take until a profile, or the first
	// MiB of it, is there. Default: 15s.
	Deadline caddy.Duration `json:"deadline,omitempty"`

	// BlockSize is the size of a block to ask for, in bytes: 512 to 65464. 512
	// asks without any option, for servers that can't stand options; some then
	// can't send more than 32 MiB. Blocks larger than the network's packets cost
	// more where packets get lost. Default: 1428, which fits an Ethernet frame.
	BlockSize int `json:"block_size,omitempty"`

	// MaxSize is the largest profile accepted, in bytes. Default: 134217728
	// (128 MiB).
	MaxSize int64 `json:"max_size,omitempty"`

	tftp *profilesrc.TFTP
}

// CaddyModule returns the Caddy module information.
func (*TFTPSource) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.device_profile.sources.tftp",
		New: func() caddy.Module { return new(TFTPSource) },
	}
}

// Provision sets the source up. The server need not be there yet.
func (s *TFTPSource) Provision(caddy.Context) error {
	tftp, err := profilesrc.NewTFTP(s.config(caddy.NewReplacer().ReplaceKnown(s.Address, "")))
	if err != nil {
		return err // names the source
	}
	s.tftp = tftp
	return nil
}

func (s *TFTPSource) config(address string) profilesrc.TFTPConfig {
	return profilesrc.TFTPConfig{
		Address:   address,
		Timeout:   time.Duration(s.Timeout),
		Retries:   s.Retries,
		Deadline:  time.Duration(s.Deadline),
		BlockSize: s.BlockSize,
		MaxSize:   s.MaxSize,
	}
}

// Cleanup ends the transfers.
func (s *TFTPSource) Cleanup() error {
	if s.tftp == nil {
		return nil
	}
	return s.tftp.Close()
}

// Open asks the server for a profile.
func (s *TFTPSource) Open(ctx context.Context, req profilesrc.Request) (*profilesrc.Profile, error) {
	return s.tftp.Open(ctx, req)
}

// String returns the source's name for logs.
func (s *TFTPSource) String() string { return s.tftp.String() }

// Shared reports that a file is the same for every device.
func (s *TFTPSource) Shared() bool { return s.tftp.Shared() }

// UnmarshalCaddyfile reads the source. Syntax:
//
//	tftp <host[:port]> {
//		timeout    <duration>
//		retries    <number>
//		deadline   <duration>
//		block_size <bytes>
//		max_size   <size>
//	}
func (s *TFTPSource) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the source's name
	if !d.AllArgs(&s.Address) {
		return d.ArgErr()
	}
	seen := make(map[string]bool)
	for d.NextBlock(0) {
		option := d.Val()
		if seen[option] {
			return d.Errf("source tftp: duplicate option %s", option)
		}
		seen[option] = true
		if err := s.unmarshalOption(d, option); err != nil {
			return err
		}
	}
	return nil
}

func (s *TFTPSource) unmarshalOption(d *caddyfile.Dispenser, option string) (err error) {
	switch option {
	case "timeout":
		s.Timeout, err = duration(d, option)
	case "retries":
		s.Retries, err = number(d, option)
	case "deadline":
		s.Deadline, err = duration(d, option)
	case "block_size":
		s.BlockSize, err = number(d, option)
	case "max_size":
		s.MaxSize, err = size(d, option)
	case "window_size", "windowsize":
		err = d.Errf("source tftp: %s is not supported by the TFTP library", option)
	default:
		err = d.Errf("source tftp: unrecognized option %q", option)
	}
	return err
}

// Interface guards.
var (
	_ caddy.Provisioner     = (*TFTPSource)(nil)
	_ caddy.CleanerUpper    = (*TFTPSource)(nil)
	_ caddyfile.Unmarshaler = (*TFTPSource)(nil)
	_ profilesrc.Source     = (*TFTPSource)(nil)
)
