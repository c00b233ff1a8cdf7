package profilesrc_test

import (
	"bytes"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/device-profile/caddy-device-profile/profilesrc"
)

// TestTFTPStream holds what becomes of a body that is longer than Open fetches.
func TestTFTPStream(t *testing.T) {
	profile := noise(2 << 20)
	// breaksAt sends that much of the profile, then fail does its work.
	breaksAt := func(n int, size string, fail func(*rawPeer)) func(*rawPeer) {
		return func(p *rawPeer) {
			if !p.acknowledge("blksize", "8192", "tsize", size) {
				return
			}
			block := 1
			for ; block*8192 <= n; block++ {
				if !p.exchange(dataPacket(block, profile[block*8192-8192:block*8192]), block, p.send) {
					return
				}
			}
			fail(p)
		}
	}
	for name, tt := range map[string]struct {
		answer func(*rawPeer)
		kind   error
	}{
		"complete":       {breaksAt(0, strconv.Itoa(len(profile)), func(p *rawPeer) { p.deliver(profile, 8192, p.send) }), nil},
		"unknown size":   {breaksAt(0, "0", func(p *rawPeer) { p.deliver(profile, 8192, p.send) }), nil},
		"falls silent":   {breaksAt(3<<19, strconv.Itoa(len(profile)), func(*rawPeer) {}), profilesrc.ErrUnavailable},
		"reports error":  {breaksAt(3<<19, "0", func(p *rawPeer) { p.send(errorPacket(0, "disk failed")) }), errPlain},
		"ends too early": {breaksAt(3<<19, strconv.Itoa(len(profile)), func(p *rawPeer) { p.send(dataPacket(193, nil)) }), errPlain},
		"goes on":        {breaksAt(2<<20, strconv.Itoa(3<<19), func(*rawPeer) {}), errPlain},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := openAll(t, newTFTP(t, rawConfig(serveRawTFTP(t, tt.answer))), "a.bin")
			if kindOf(err) != tt.kind {
				t.Errorf("got %v, want %v", err, tt.kind)
			}
			if err == nil && !bytes.Equal(got, profile) {
				t.Errorf("got %d other bytes", len(got))
			}
			if err != nil && (len(got) < 1<<20 || !strings.Contains(err.Error(), ": a.bin: ")) {
				t.Errorf("%d bytes, then %v; want the error later, and with the profile's name", len(got), err)
			}
		})
	}
}

// TestTFTPEarlyEnd holds that the server hears of it when nobody wants the rest.
func TestTFTPEarlyEnd(t *testing.T) {
	profile := noise(3 << 20)
	for name, end := range map[string]func(*profilesrc.TFTP, io.Closer) error{
		"body closed":   func(_ *profilesrc.TFTP, body io.Closer) error { return body.Close() },
		"source closed": func(source *profilesrc.TFTP, _ io.Closer) error { return source.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan struct{})
			address := serveRawTFTP(t, func(p *rawPeer) {
				defer close(ended)
				if p.acknowledge("blksize", "8192", "tsize", strconv.Itoa(len(profile))) {
					p.deliver(profile, 8192, p.send) // returns on the client's error packet
				}
			})
			source := newTFTP(t, rawConfig(address))
			opened, err := source.Open(t.Context(), nameOf(t, "a.bin"))
			if err != nil {
				t.Fatal(err)
			}
			if opened.Size != int64(len(profile)) {
				t.Errorf("size %d, want %d", opened.Size, len(profile))
			}
			if err := end(source, opened.Body); err != nil {
				t.Error(err)
			}
			<-ended
			if _, err := io.Copy(io.Discard, opened.Body); err == nil {
				t.Error("reads to an end")
			}
		})
	}
}

// A server that acknowledges options for ever keeps the library busy: Open and
// Close return all the same.
func TestTFTPEndlessOptions(t *testing.T) {
	stop := make(chan struct{})
	address := serveRawTFTP(t, func(p *rawPeer) {
		for {
			p.send(oackPacket("blksize", "1428", "tsize", "100"))
			select {
			case <-stop:
				return
			default:
				p.receive(time.Second)
			}
		}
	})
	cfg := rawConfig(address)
	cfg.Deadline = 200 * time.Millisecond
	source, err := profilesrc.NewTFTP(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openAll(t, source, "a.cfg"); kindOf(err) != profilesrc.ErrUnavailable {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	if err := source.Close(); err == nil {
		t.Error("Close says that the transfer has ended")
	}
	close(stop)
	if err := source.Close(); err != nil {
		t.Error(err)
	}
	if _, err := openAll(t, source, "a.cfg"); kindOf(err) != errPlain {
		t.Errorf("after Close: got %v", err)
	}
}
