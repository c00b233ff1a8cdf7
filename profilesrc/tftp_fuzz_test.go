package profilesrc_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/device-profile/caddy-device-profile/profilesrc"
)

// FuzzTFTP answers the client's packets with arbitrary ones. In the input, a
// packet stands behind its length.
func FuzzTFTP(f *testing.F) {
	join := func(packets ...[]byte) []byte {
		var all []byte
		for _, packet := range packets {
			all = append(append(all, byte(len(packet))), packet...)
		}
		return all
	}
	for _, seed := range [][]byte{
		join(dataPacket(1, []byte("profile"))),
		join(oackPacket("tsize", "7"), dataPacket(1, []byte("profile"))),
		join(oackPacket("blksize", "600", "tsize", "0"), dataPacket(1, nil)),
		join(oackPacket("blksize", "7"), oackPacket("tsize", "-1"), oackPacket("BLKSIZE", "")),
		join(errorPacket(8, "options"), dataPacket(1, []byte("profile"))),
		join(errorPacket(1, "missing")),
		join(nil, []byte{0}, []byte{0, 6, 0, 0}),
		nil,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, packets []byte) {
		left := packets
		address := serveRawTFTP(t, func(p *rawPeer) {
			if p.nth > 1 {
				return // one transfer has them all, or they'd race
			}
			for len(left) > 0 {
				n := min(int(left[0]), len(left)-1)
				p.send(left[1 : 1+n])
				left = left[1+n:]
				p.receive(time.Millisecond)
			}
		})
		source, err := profilesrc.NewTFTP(profilesrc.TFTPConfig{
			Address: address, Timeout: time.Millisecond, Retries: 2, Deadline: time.Second, MaxSize: 100,
		})
		if err != nil {
			t.Fatal(err)
		}
		data, err := openAll(t, source, "a.cfg")
		if len(data) > 100 {
			t.Errorf("%d bytes, more than max_size", len(data))
		}
		if errors.Is(err, fs.ErrNotExist) && errors.Is(err, profilesrc.ErrUnavailable) {
			t.Errorf("both kinds at once: %v", err)
		}
		if err == nil && !bytes.Contains(packets, data) {
			t.Errorf("%q was never sent", data)
		}
		if err := source.Close(); err != nil {
			t.Error(err)
		}
	})
}

// BenchmarkTFTP fetches 8 MiB with the source, and with atftp.
func BenchmarkTFTP(b *testing.B) {
	file := noise(8 << 20)
	address := serveTFTP(b, "127.0.0.1", func(_ string, to io.ReaderFrom) error {
		_, err := to.ReadFrom(bytes.NewReader(file))
		return err
	})
	for _, blockSize := range []int{512, 1428, 8192} {
		b.Run("source/"+strconv.Itoa(blockSize), func(b *testing.B) {
			source := newTFTP(b, profilesrc.TFTPConfig{Address: address, BlockSize: blockSize})
			b.SetBytes(int64(len(file)))
			for b.Loop() {
				if data, err := openAll(b, source, "a.bin"); err != nil || len(data) != len(file) {
					b.Fatal(len(data), err)
				}
			}
		})
		b.Run("atftp/"+strconv.Itoa(blockSize), func(b *testing.B) { benchmarkATFTP(b, address, blockSize, len(file)) })
	}
}

func benchmarkATFTP(b *testing.B, address string, blockSize, size int) {
	atftp, err := exec.LookPath("atftp")
	if err != nil {
		b.Skip(err)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(size))
	for b.Loop() {
		out, err := exec.Command(atftp, "--option", "blksize "+strconv.Itoa(blockSize), "--get", "-r", "a.bin", "-l", os.DevNull, host, port).CombinedOutput()
		if err != nil {
			b.Fatalf("%v: %s", err, out)
		}
	}
}
