package profilesrc_test

import (
	"bytes"
	"io"
	"io/fs"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pin/tftp/v3"
	"go.uber.org/goleak"

	"github.com/device-profile/caddy-device-profile/profilesrc"
	"github.com/device-profile/caddy-device-profile/profilesrc/profilesrctest"
)

// newTFTP returns a source that is closed with t, and by then has nothing
// running.
func newTFTP(t testing.TB, cfg profilesrc.TFTPConfig) *profilesrc.TFTP {
	t.Helper()
	before := goleak.IgnoreCurrent()
	source, err := profilesrc.NewTFTP(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := source.Close(); err != nil {
			t.Error(err)
		}
		goleak.VerifyNone(t, before)
	})
	return source
}

// serveTFTP runs the library's own server on a port of ip until t ends, and
// returns its address.
func serveTFTP(t testing.TB, ip string, read func(name string, to io.ReaderFrom) error) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Fatal(err)
	}
	server := tftp.NewServer(read, nil)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(conn) }()
	t.Cleanup(func() {
		server.Shutdown()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return conn.LocalAddr().String()
}

func TestTFTPConformance(t *testing.T) {
	for name, ip := range map[string]string{"IPv4": "127.0.0.1", "IPv6": "::1"} {
		for block, size := range map[string]int{"default block": 0, "no options": 512, "large block": 16384} {
			t.Run(name+"/"+block, func(t *testing.T) {
				profilesrctest.TestSource(t, func(t *testing.T, files map[string][]byte) profilesrc.Source {
					address := serveTFTP(t, ip, func(name string, to io.ReaderFrom) error {
						data, ok := files[name]
						if !ok {
							return fs.ErrNotExist
						}
						_, err := to.ReadFrom(bytes.NewReader(data))
						return err
					})
					return newTFTP(t, profilesrc.TFTPConfig{Address: address, BlockSize: size})
				})
			})
		}
	}
}

func TestNewTFTPRefuses(t *testing.T) {
	for _, tt := range []struct {
		field string
		cfg   profilesrc.TFTPConfig
	}{
		{"address", profilesrc.TFTPConfig{}},
		{"address", profilesrc.TFTPConfig{Address: ":69"}},
		{"address", profilesrc.TFTPConfig{Address: "host:"}},
		{"address", profilesrc.TFTPConfig{Address: "host:0"}},
		{"address", profilesrc.TFTPConfig{Address: "host:65536"}},
		{"address", profilesrc.TFTPConfig{Address: "host:tftp"}},
		{"address", profilesrc.TFTPConfig{Address: "tftp://host"}},
		{"address", profilesrc.TFTPConfig{Address: "host/folder"}},
		{"address", profilesrc.TFTPConfig{Address: "two hosts"}},
		{"address", profilesrc.TFTPConfig{Address: "::1:x"}},
		{"address", profilesrc.TFTPConfig{Address: "[::1"}},
		{"timeout", profilesrc.TFTPConfig{Address: "host", Timeout: -1}},
		{"timeout", profilesrc.TFTPConfig{Address: "host", Timeout: time.Hour}},
		{"retries", profilesrc.TFTPConfig{Address: "host", Retries: -1}},
		{"retries", profilesrc.TFTPConfig{Address: "host", Retries: 101}},
		{"deadline", profilesrc.TFTPConfig{Address: "host", Deadline: -1}},
		{"block_size", profilesrc.TFTPConfig{Address: "host", BlockSize: 511}},
		{"block_size", profilesrc.TFTPConfig{Address: "host", BlockSize: 65465}},
		{"max_size", profilesrc.TFTPConfig{Address: "host", MaxSize: -1}},
	} {
		_, err := profilesrc.NewTFTP(tt.cfg)
		if err == nil || !strings.Contains(err.Error(), tt.field) {
			t.Errorf("%+v: got %v, want an error that names %s", tt.cfg, err, tt.field)
		}
	}
	for _, address := range []string{"host", "host:69", "127.0.0.1", "::1", "[::1]", "[::1]:6969", "fe80::1%lo", "[fe80::1%lo]:69"} {
		source, err := profilesrc.NewTFTP(profilesrc.TFTPConfig{Address: address})
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		if err := source.Close(); err != nil {
			t.Error(err)
		}
	}
}
