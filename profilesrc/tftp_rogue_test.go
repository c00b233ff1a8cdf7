package profilesrc_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/device-profile/caddy-device-profile/profilesrc"
)

// errPlain stands for an error that is neither fs.ErrNotExist nor
// ErrUnavailable.
var errPlain = errors.New("a plain error")

// kindOf sorts an error as the handler does.
func kindOf(err error) error {
	missing, unavailable := errors.Is(err, fs.ErrNotExist), errors.Is(err, profilesrc.ErrUnavailable)
	switch {
	case err == nil:
		return nil
	case missing && unavailable:
		return errors.New("both kinds at once")
	case missing:
		return fs.ErrNotExist
	case unavailable:
		return profilesrc.ErrUnavailable
	default:
		return errPlain
	}
}

// noise returns n bytes that don't repeat within blocks.
func noise(n int) []byte {
	data := make([]byte, n)
	random := rand.NewChaCha8([32]byte{1})
	random.Read(data) //nolint:errcheck // never fails
	return data
}

// TestTFTPRogue plays servers that do wrong. What comes of it is the whole
// profile, or an error that says what went wrong.
func TestTFTPRogue(t *testing.T) {
	profile := noise(10_000)
	size := strconv.Itoa(len(profile))
	// always acknowledges the same, and sends blocks of one size.
	always := func(blockSize int, options ...string) func(*rawPeer) {
		return func(p *rawPeer) {
			if p.acknowledge(options...) {
				p.deliver(profile, blockSize, p.send)
			}
		}
	}
	sends := func(packet ...byte) func(*rawPeer) {
		return func(p *rawPeer) { p.send(packet) }
	}
	plainly := func(p *rawPeer) { p.deliver(profile, 512, p.send) }
	servers := []struct {
		name   string
		answer func(*rawPeer)
		want   error  // nil for the profile
		cause  string // what the error says
	}{
		{"without options", plainly, nil, ""},
		{"with options", always(1428, "blksize", "1428", "tsize", size), nil, ""},
		{"smaller blocks", always(600, "blksize", "600", "tsize", size), nil, ""},
		{"larger blocks", always(8192, "blksize", "8192", "tsize", size), nil, ""},
		{"tsize alone", always(512, "tsize", size), nil, ""},
		{"tsize 0", always(1428, "blksize", "1428", "tsize", "0"), nil, ""},
		{"blksize alone", func(p *rawPeer) {
			if bytes.Contains(p.request, []byte("blksize")) {
				always(1428, "blksize", "1428")(p)
				return
			}
			plainly(p)
		}, nil, ""},
		{"refuses options", func(p *rawPeer) {
			if p.hasOptions() {
				p.send(errorPacket(8, "no options"))
				return
			}
			plainly(p)
		}, nil, ""},
		{"acknowledges no option", func(p *rawPeer) {
			if p.hasOptions() {
				p.send([]byte{0, 6})
				return
			}
			plainly(p)
		}, nil, ""},
		{"blksize alone, then none", func(p *rawPeer) {
			switch p.nth {
			case 1:
				p.acknowledge("blksize", "1428")
			case 2:
				p.send([]byte{0, 6})
			default:
				plainly(p)
			}
		}, nil, ""},
		{"always acknowledges none", sends(0, 6), errPlain, "acknowledges none"},
		{"refuses every option", sends(errorPacket(8, "none at all")...), errPlain, "none at all"},

		{"blksize 7", always(7, "blksize", "7", "tsize", size), errPlain, "announced 10000 bytes and sent 7"},
		{"blksize 70000", always(1428, "blksize", "70000", "tsize", size), errPlain, "announced"},
		{"blksize garbage", always(1428, "blksize", "much", "tsize", size), errPlain, "announced"},
		{"blksize empty", always(1428, "blksize", "", "tsize", size), errPlain, "announced"},
		{"blksize 7 alone", always(7, "blksize", "7"), errPlain, "tsize"},
		{"blksize 70000 alone", always(1428, "blksize", "70000"), errPlain, "tsize"},
		{"tsize garbage", always(1428, "blksize", "1428", "tsize", "much"), errPlain, "tsize"},
		{"tsize beyond 64 bits", always(1428, "blksize", "1428", "tsize", "99999999999999999999"), errPlain, "tsize"},
		{"tsize negative", always(1428, "blksize", "1428", "tsize", "-1"), errPlain, "-1 bytes"},
		{"tsize too small", always(1428, "blksize", "1428", "tsize", "9999"), errPlain, "announced"},
		{"tsize too large", always(1428, "blksize", "1428", "tsize", "10001"), errPlain, "announced 10001 bytes and sent 10000"},
		{"tsize beyond max_size", always(1428, "blksize", "1428", "tsize", "5000000"), errPlain, "max_size"},
		{"tsize beyond max_size, then silence", sends(oackPacket("tsize", "5000000")...), errPlain, "max_size"},
		{"unknown options", always(512, "speed", "high"), errPlain, "tsize"},
		{"OACK in pieces", sends(0, 6, 'b', 'l', 'k'), errPlain, "OACK"},

		{"silence", func(*rawPeer) {}, profilesrc.ErrUnavailable, "timeout"},
		{"silence after the options", sends(oackPacket("tsize", size)...), profilesrc.ErrUnavailable, "timeout"},
		{"silence in the midst", sends(dataPacket(1, profile[:512])...), profilesrc.ErrUnavailable, "timeout"},
		{"never the next block", func(p *rawPeer) {
			for p.send(dataPacket(1, profile[:512])); p.receive(time.Second) != nil; {
				p.send(dataPacket(1, profile[:512]))
			}
		}, profilesrc.ErrUnavailable, "timeout"},
		{"too slow", func(p *rawPeer) {
			for block := 1; ; block++ {
				p.send(dataPacket(block, profile[:512]))
				if p.receive(time.Second) == nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		}, profilesrc.ErrUnavailable, "no profile within 2s"},
		{"fails in the midst", func(p *rawPeer) {
			p.exchange(dataPacket(1, profile[:512]), 1, p.send)
			p.send(errorPacket(1, "disk failed"))
		}, errPlain, "disk failed"},
		{"never ends", func(p *rawPeer) {
			for block := 1; p.exchange(dataPacket(block, profile[:512]), block, p.send); block++ {
			}
		}, errPlain, "max_size"},

		{"empty packet", sends(), errPlain, "short packet"},
		{"one byte", sends(0), errPlain, "short packet"},
		{"short data", sends(0, 3, 0), errPlain, "short DATA"},
		{"short error", sends(0, 5, 0, 1), errPlain, "short ERROR"},
		{"unknown operation", sends(0, 9, 0, 1, 'x'), errPlain, "opcode"},
		{"requests and acknowledgements", func(p *rawPeer) {
			p.send([]byte{0, 1, 'a', 0, 'b', 0})
			p.send([]byte{0, 2, 'a', 0, 'b', 0})
			p.send([]byte{0, 4, 0, 1})
			plainly(p)
		}, nil, ""},
		{"refuses options in the midst", func(p *rawPeer) {
			p.exchange(dataPacket(1, profile[:512]), 1, p.send)
			p.send(errorPacket(8, "too late"))
		}, errPlain, "too late"},
		{"acknowledges none in the midst", func(p *rawPeer) {
			p.exchange(dataPacket(1, profile[:512]), 1, p.send)
			p.send([]byte{0, 6})
		}, errPlain, "OACK"},
		{"refuses options after their size", func(p *rawPeer) {
			if p.hasOptions() {
				p.acknowledge("blksize", "1428", "tsize", "77")
				p.send(errorPacket(8, "changed my mind"))
				return
			}
			plainly(p)
		}, nil, ""},
		{"garbage in the midst", func(p *rawPeer) {
			p.exchange(dataPacket(1, profile[:512]), 1, p.send)
			p.send([]byte{0xff, 0xff, 0xff, 0xff, 0xff})
		}, errPlain, "opcode"},
	}
	before := goleak.IgnoreCurrent()
	t.Run("servers", func(t *testing.T) {
		for _, tt := range servers {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				source, err := profilesrc.NewTFTP(rawConfig(serveRawTFTP(t, tt.answer)))
				if err != nil {
					t.Fatal(err)
				}
				got, err := openAll(t, source, "a.cfg")
				if kindOf(err) != tt.want || err == nil && !bytes.Equal(got, profile) {
					t.Errorf("got %d bytes, %v, want %v", len(got), err, tt.want)
				}
				if err != nil && !(strings.HasPrefix(err.Error(), "source tftp 127.0.0.1:") && strings.Contains(err.Error(), ": a.cfg: ") && strings.Contains(err.Error(), tt.cause)) {
					t.Errorf("error %q names not the source, the profile and %q", err, tt.cause)
				}
				if err := source.Close(); err != nil {
					t.Error(err)
				}
			})
		}
	})
	goleak.VerifyNone(t, before)
}

func TestTFTPErrorCodes(t *testing.T) {
	for code := range 10 {
		want := errPlain
		if code == 1 {
			want = fs.ErrNotExist
		}
		for name, message := range map[string]string{
			"text": "no such thing", "empty": "", "junk": "no\x1b[31m\nthing\x00code: 1, message: \xff", "long": strings.Repeat("very long ", 50),
		} {
			t.Run(fmt.Sprintf("%d/%s", code, name), func(t *testing.T) {
				address := serveRawTFTP(t, func(p *rawPeer) { p.send(errorPacket(code, message)) })
				_, err := openAll(t, newTFTP(t, rawConfig(address)), "a.cfg")
				if kindOf(err) != want {
					t.Fatalf("got %v, want %v", err, want)
				}
				if text := err.Error(); strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c > '~' }) || len(text) > 300 {
					t.Errorf("unfit for a log: %q", text)
				}
			})
		}
	}
}

// TestTFTPNames holds that the server reads the very name, with options where
// they fit.
func TestTFTPNames(t *testing.T) {
	for name, options := range map[string]bool{
		"a.cfg": true, "/leading/slash.cfg": true, "with space.cfg": true, "100%2f.cfg": true, "straße/ключ.cfg": true, "q?x=1&y=#2": true,
		strings.Repeat("n", 482): true, strings.Repeat("n", 483): false, strings.Repeat("n", 504): false,
	} {
		t.Run(fmt.Sprintf("%.20s, %d bytes", name, len(name)), func(t *testing.T) {
			requests := make(chan *rawPeer, 1)
			address := serveRawTFTP(t, func(p *rawPeer) {
				requests <- p
				p.deliver([]byte("profile"), 512, p.send)
			})
			if got, err := openAll(t, newTFTP(t, rawConfig(address)), name); err != nil || string(got) != "profile" {
				t.Fatalf("got %q, %v", got, err)
			}
			p := <-requests
			want := "\x00\x01" + strings.TrimPrefix(name, "/") + "\x00octet\x00"
			rest, ok := strings.CutPrefix(string(p.request), want)
			if !ok || (rest == "") == options {
				t.Errorf("the request %q, want %q and options: %t", p.request, want, options)
			}
		})
	}
}
