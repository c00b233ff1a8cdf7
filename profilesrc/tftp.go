package profilesrc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// TFTPConfig says how a TFTP server is asked. Zero values stand for the
// defaults.
type TFTPConfig struct {
	// Address is the server's host name or IP address, and its port behind a
	// colon. Default port: 69. Required.
	Address string
	// Timeout is how long one packet is waited for before it is asked for again.
	// Default: 500ms. At most 255s.
	Timeout time.Duration
	// Retries is how often a packet is asked for again before the server counts
	// as down. Default: 8. At most 100.
	Retries int
	// Deadline is how long Open takes at most. It does not cover what is
	// streamed afterwards. Default: 15s.
	Deadline time.Duration
	// BlockSize is the block size asked for, in bytes, 512 to 65464. The server
	// may choose a smaller one. 512 makes the request one without options, for
	// servers that can't stand any. Default: 1428, which fits an Ethernet frame.
	BlockSize int
	// MaxSize is the largest profile accepted, in bytes. Default: DefaultMaxSize.
	MaxSize int64
}

// withDefaults checks the config and fills in the defaults.
func (c TFTPConfig) withDefaults() (TFTPConfig, error) {
	setDefault(&c.Timeout, 500*time.Millisecond)
	setDefault(&c.Retries, 8)
	setDefault(&c.Deadline, 15*time.Second)
	setDefault(&c.BlockSize, 1428)
	setDefault(&c.MaxSize, DefaultMaxSize)
	// The limits keep timeout times retries, which Close may wait for, sane.
	switch {
	case c.Timeout < 0 || c.Timeout > 255*time.Second:
		return c, fmt.Errorf("timeout %s is not within 0s and 255s", c.Timeout)
	case c.Retries < 0 || c.Retries > 100:
		return c, fmt.Errorf("retries %d is not within 0 and 100", c.Retries)
	case c.Deadline < 0:
		return c, fmt.Errorf("deadline %s is negative", c.Deadline)
	case c.BlockSize < minBlock || c.BlockSize > 65464:
		return c, fmt.Errorf("block_size %d is not within %d and 65464", c.BlockSize, minBlock)
	case c.MaxSize < 0:
		return c, fmt.Errorf("max_size %d is negative", c.MaxSize)
	}
	return c, nil
}

// errTFTPClosed is the end of what is under way when a source is closed.
var errTFTPClosed = errors.New("the source is closed")

// TFTP serves the files of a TFTP server (RFC 1350), in octet mode and with the
// options blksize (RFC 2348) and tsize (RFC 2349) where the server knows them.
//
// A server that is silent or out of reach is ErrUnavailable, as is one whose
// name can't be resolved. Its error "file not found" is fs.ErrNotExist. Every
// other error of the server, a malformed packet, and a transfer whose length is
// not the one announced are plain errors. A server that announces no length, and
// reports no error, can't be caught cutting a profile short.
//
// Not supported, for want of support in the TFTP library: windowsize (RFC 7440).
type TFTP struct {
	cfg        TFTPConfig
	host, port string

	ctx       context.Context // ends with Close
	end       context.CancelFunc
	mu        sync.Mutex // guards the beginning of transfers against Close
	transfers sync.WaitGroup
}

// NewTFTP returns the source of a TFTP server. Close it after use. The server is
// not asked for anything yet.
func NewTFTP(cfg TFTPConfig) (*TFTP, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("source tftp %s: %w", cfg.Address, err)
	}
	t := &TFTP{cfg: cfg}
	if t.host, t.port, err = splitTFTPAddress(cfg.Address); err != nil {
		return nil, fmt.Errorf("source tftp: address %q: %w", cfg.Address, err)
	}
	t.ctx, t.end = context.WithCancel(context.Background())
	return t, nil
}

// splitTFTPAddress splits an address into its host and port.
func splitTFTPAddress(address string) (host, port string, err error) {
	const standard = "69"
	if _, err := netip.ParseAddr(address); err == nil {
		return address, standard, nil // IPv6 without brackets, too
	}
	host, port, err = net.SplitHostPort(address)
	if err != nil {
		// Without a port, or wrong with one as well.
		if host, port, err = net.SplitHostPort(address + ":" + standard); err != nil {
			return "", "", errors.New("is not of the form host:port")
		}
	}
	if host == "" || strings.ContainsAny(host, "/\\@?#{} \t\r\n") {
		return "", "", fmt.Errorf("%q is not a host", host)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", "", fmt.Errorf("%q is not a port", port)
	}
	return host, port, nil
}

// String returns the source's name for logs.
func (t *TFTP) String() string { return "tftp:" + t.cfg.Address }

// Shared reports that the answer is the same for every device that asks for a
// name.
func (t *TFTP) Shared() bool { return true }

// budget is how long a transfer goes on after the server's last packet.
func (t *TFTP) budget() time.Duration {
	return t.cfg.Timeout * time.Duration(t.cfg.Retries+1)
}

// Close ends all transfers, those of open profiles too, and waits until none is
// left. It fails if a server holds on to one: the library can't be told to hang
// up on a server that sends the same acknowledgement of options for ever.
func (t *TFTP) Close() error {
	t.mu.Lock()
	t.end()
	t.mu.Unlock()
	done := make(chan struct{})
	go func() {
		t.transfers.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-time.After(t.budget() + time.Second):
		return fmt.Errorf("source tftp %s: the server doesn't let a transfer end", t.cfg.Address)
	}
}

// Open asks the server for a profile. Profiles up to 1 MiB are fetched whole; of
// a larger one, what is left is streamed. A stream that breaks off ends in an
// error of Read. It goes no faster than it is read; servers give up if that
// makes them wait for long.
func (t *TFTP) Open(ctx context.Context, req Request) (*Profile, error) {
	late := fmt.Errorf("no profile within %s", t.cfg.Deadline)
	ctx, cancel := context.WithTimeoutCause(ctx, t.cfg.Deadline, late)
	defer cancel()
	if ctx.Err() != nil {
		return nil, t.fault(req.Name, endOf(ctx))
	}
	address, err := t.resolve(ctx)
	if err != nil {
		return nil, t.fault(req.Name, err)
	}
	transfer, body := newTFTPTransfer(t, address, req.Name)
	if !t.begin(func() { transfer.run(ctx) }) {
		return nil, t.fault(req.Name, errTFTPClosed)
	}
	// The library knows no context: the end of one reaches it with the next
	// block, or after its last retry.
	inTime := context.AfterFunc(ctx, func() { transfer.finish(endOf(ctx)) })
	profile := &Profile{Body: body, Size: -1, Source: t.String()}
	if err := hold(profile); err != nil {
		return nil, err // names the profile already, as an error of Read does
	}
	if !inTime() {
		profile.Body.Close()
		return nil, t.fault(req.Name, endOf(ctx))
	}
	if size := transfer.announced.Load(); size > 0 {
		profile.Size = size
	}
	return profile, nil
}

// begin starts a transfer in a goroutine that Close waits for, unless the source
// is closed.
func (t *TFTP) begin(transfer func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx.Err() != nil {
		return false
	}
	t.transfers.Go(transfer)
	return true
}

// resolve returns the server's IP address and port. The library would look the
// name up without an end.
func (t *TFTP) resolve(ctx context.Context) (string, error) {
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", t.host)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	best := ips[0]
	for _, ip := range ips {
		// As Go does for UDP: a silent IPv6 address would not be noticed.
		if ip.Unmap().Is4() {
			best = ip
			break
		}
	}
	return net.JoinHostPort(best.Unmap().String(), t.port), nil
}

// fault names the source and the profile.
func (t *TFTP) fault(name Name, err error) error {
	return fmt.Errorf("source tftp %s: %s: %w", t.cfg.Address, name, err)
}

// endOf says why a context ended, as a source's error.
func endOf(ctx context.Context) error {
	return fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
}

var (
	_ Source    = (*TFTP)(nil)
	_ io.Closer = (*TFTP)(nil)
)
