package profilesrc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pin/tftp/v3"
)

// minBlock is the block size of a transfer without options.
const minBlock = 512

// maxRequest is the longest request with options, in bytes (RFC 2347).
const maxRequest = 512

// errNoOptions means that the server refuses the request for its options.
var errNoOptions = errors.New("the server refuses the options")

// errNoSize means that the server acknowledges the options, but not tsize as it
// should. Then nothing tells whether library and server agree on the block size.
var errNoSize = errors.New("the server acknowledges options without a proper tsize")

// tftpTransfer is one profile on its way from the server. The library writes the
// blocks to it.
type tftpTransfer struct {
	source  *TFTP
	address string
	name    Name
	pipe    *io.PipeWriter // to the profile's body

	received  int64
	announced atomic.Int64 // size by the server's own account, 0 if unknown
}

// newTFTPTransfer returns a transfer, and the body that it goes to.
func newTFTPTransfer(source *TFTP, address string, name Name) (*tftpTransfer, io.ReadCloser) {
	body, pipe := io.Pipe()
	return &tftpTransfer{source: source, address: address, name: name, pipe: pipe}, body
}

// run fetches the profile until it is complete, it fails, or nobody wants it any
// more. ctx is that of Open.
func (tr *tftpTransfer) run(ctx context.Context) {
	stop := context.AfterFunc(tr.source.ctx, func() { tr.finish(errTFTPClosed) })
	defer stop()
	tr.finish(tr.fetch(ctx))
}

// finish ends the body: with an error of Read, unless the profile is complete. Of
// several ends, the first counts.
func (tr *tftpTransfer) finish(err error) {
	if err != nil {
		err = tr.source.fault(tr.name, err)
	}
	tr.pipe.CloseWithError(err)
}

// tftpOptions are the options of a request.
type tftpOptions struct {
	blockSize int // 0 for none
	size      bool
}

// fetch asks with options first, and with fewer if the server can't handle them.
// Nothing was received by then, so that Open waits still; whether it has given up
// is what ctx tells.
func (tr *tftpTransfer) fetch(ctx context.Context) (err error) {
	defer recovered(&err)
	options := tr.options()
	for {
		err = tr.ask(options)
		switch {
		case errors.Is(err, errNoSize) && options.blockSize != 0:
			// A server that knows blksize alone now acknowledges nothing; one that
			// still does is broken.
			options.blockSize = 0
		case errors.Is(err, errNoOptions) && options.size:
			options = tftpOptions{}
		default:
			return err
		}
		if ctx.Err() != nil {
			return endOf(ctx)
		}
	}
}

// options returns the options to ask with. The library would write beyond the
// end of its packet if a long name left no room for them.
func (tr *tftpTransfer) options() tftpOptions {
	size := tr.source.cfg.BlockSize
	request := "RR" + tr.name.String() + "\x00octet\x00blksize\x00" + strconv.Itoa(size) + "\x00tsize\x000\x00"
	if size == minBlock || len(request) > maxRequest {
		return tftpOptions{}
	}
	return tftpOptions{blockSize: size, size: true}
}

// ask makes one request and receives what comes.
func (tr *tftpTransfer) ask(options tftpOptions) error {
	tr.announced.Store(0)
	client, err := tftp.NewClient(tr.address)
	if err != nil {
		return err
	}
	client.SetTimeout(tr.source.cfg.Timeout)
	client.SetRetries(tr.source.cfg.Retries)
	client.SetBackoff(func(int) time.Duration { return 0 }) // the timeout is wait enough
	client.SetBlockSize(options.blockSize)
	client.RequestTSize(options.size)
	incoming, err := client.Receive(tr.name.String(), "octet")
	if err != nil {
		return tr.meaning(err)
	}
	if err := tr.accept(incoming, options); err != nil {
		// Not waited for: a server that falls silent now would hold the answer up.
		tr.source.transfers.Go(func() { hangUp(incoming, err) })
		return err
	}
	if _, err := incoming.WriteTo(tr); err != nil {
		return tr.meaning(err)
	}
	if want := tr.announced.Load(); want > 0 && tr.received != want {
		return fmt.Errorf("the server announced %d bytes and sent %d", want, tr.received)
	}
	return nil
}

// accept looks at the size that the server announces. A size of 0 says nothing:
// it is also what the library returns if the server ignored the options.
func (tr *tftpTransfer) accept(incoming io.WriterTo, options tftpOptions) error {
	announced, ok := incoming.(tftp.IncomingTransfer)
	if !ok {
		return errors.New("the TFTP library returns no size")
	}
	size, ok := announced.Size()
	switch {
	case !ok && options.size:
		return errNoSize
	case !ok:
		return nil
	case size < 0:
		return fmt.Errorf("the server announces %d bytes", size)
	case size > tr.source.cfg.MaxSize:
		return errTooLarge
	}
	tr.announced.Store(size)
	return nil
}

// Write takes the next bytes of the profile. Its error goes to the server, too.
func (tr *tftpTransfer) Write(p []byte) (int, error) {
	tr.received += int64(len(p))
	if tr.received > tr.source.cfg.MaxSize {
		return 0, errTooLarge
	}
	if size := tr.announced.Load(); size > 0 && tr.received > size {
		return 0, errors.New("is larger than announced")
	}
	if len(p) == 0 {
		return 0, nil // the last block of a profile that fills its blocks
	}
	return tr.pipe.Write(p)
}

// meaning tells what an error of the library stands for: it has types for those
// of the network alone.
func (tr *tftpTransfer) meaning(err error) error {
	if _, ok := errors.AsType[net.Error](err); ok {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if err.Error() == "short OACK packet: 2" && tr.received == 0 {
		// The packet ends behind its type, as atftpd's does if all options asked
		// for are switched off.
		return fmt.Errorf("%w: it acknowledges none", errNoOptions)
	}
	code, message, ok := serverError(err)
	if !ok {
		return err
	}
	// In the midst of a transfer, every code just means that it failed.
	switch {
	case code == 1 && tr.received == 0:
		return fmt.Errorf("%w: the server says %s", fs.ErrNotExist, message)
	case code == 8 && tr.received == 0:
		return fmt.Errorf("%w: %s", errNoOptions, message)
	default:
		return fmt.Errorf("the server answers with error %d %s", code, message)
	}
}

// serverError takes an error packet of the server from the library's text for
// it. The message is made fit for a log.
func serverError(err error) (code int, message string, ok bool) {
	text, ok := strings.CutPrefix(err.Error(), "code: ")
	if !ok {
		return 0, "", false
	}
	number, message, ok := strings.Cut(text, ", message: ")
	code, err = strconv.Atoi(number)
	if !ok || err != nil {
		return 0, "", false
	}
	message, _, _ = strings.Cut(message, "\x00") // as far as the packet goes
	return code, printable(message), true
}

// hangUp tells the server why its answer is not wanted. It is the library's only
// way to end a transfer.
func hangUp(incoming io.WriterTo, why error) {
	var err error
	defer recovered(&err)
	_, _ = incoming.WriteTo(refusing{why}) // comes back with why
}

// refusing refuses what is written to it.
type refusing struct{ why error }

func (r refusing) Write([]byte) (int, error) { return 0, r.why }

// recovered, when deferred, makes a panic of the library an error.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("the TFTP library panicked: %v", p)
	}
}
