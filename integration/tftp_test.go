package integration

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/device-profile/caddy-device-profile/internal/testenv"
	"github.com/device-profile/caddy-device-profile/profilesrc"
)

// tftpServer is a real TFTP server's program.
type tftpServer struct {
	name string
	ip   string
	// port is the only one that the program can serve on, 0 if it can any.
	port       int
	blockSizes []int // to ask for
	command    tftpCommand
}

// tftpCommand returns the command that serves the files of a folder.
type tftpCommand func(t *testing.T, ip string, port int, folder string) *exec.Cmd

// atftpd 0.8 serves IPv4 alone when it runs on its own. dnsmasq knows no other port than 69.
var tftpServers = []tftpServer{
	{name: "atftpd", ip: "127.0.0.1", blockSizes: []int{512, 1428}, command: atftpdCommand},
	{name: "tftpd-hpa", ip: "127.0.0.1", blockSizes: []int{512, 1428}, command: tftpdHPACommand},
	{name: "tftpd-hpa over IPv6", ip: "::1", blockSizes: []int{8192}, command: tftpdHPACommand},
	{name: "dnsmasq", ip: "127.0.0.9", port: 69, blockSizes: []int{512, 1428}, command: dnsmasqCommand},
	{name: "dnsmasq over IPv6", ip: "::1", port: 69, blockSizes: []int{8192}, command: dnsmasqCommand},
}

// tftpPoorServers know fewer options than are asked for, or none.
var tftpPoorServers = []tftpServer{
	{name: "atftpd without options", ip: "127.0.0.1", command: with(atftpdCommand, "--no-blksize", "--no-tsize", "--no-timeout")},
	{name: "atftpd without tsize", ip: "127.0.0.1", command: with(atftpdCommand, "--no-tsize")},
	{name: "atftpd without blksize", ip: "127.0.0.1", command: with(atftpdCommand, "--no-blksize")},
	{name: "tftpd-hpa without options", ip: "127.0.0.1", command: with(tftpdHPACommand, "--refuse", "blksize", "--refuse", "tsize")},
	{name: "tftpd-hpa without tsize", ip: "127.0.0.1", command: with(tftpdHPACommand, "--refuse", "tsize")},
	{name: "dnsmasq without blksize", ip: "127.0.0.9", port: 69, command: with(dnsmasqCommand, "--tftp-no-blocksize")},
}

// with adds options to a server's command.
func with(command tftpCommand, options ...string) tftpCommand {
	return func(t *testing.T, ip string, port int, folder string) *exec.Cmd {
		cmd := command(t, ip, port, folder)
		cmd.Args = slices.Insert(cmd.Args, 1, options...)
		return cmd
	}
}

func atftpdCommand(t *testing.T, ip string, port int, folder string) *exec.Cmd {
	return exec.Command(testenv.Need(t, "atftpd"), "--daemon", "--no-fork", "--logfile", "-", "--user", "root.root", "--group", "root",
		"--bind-address", ip, "--port", itoa(port), folder)
}

func tftpdHPACommand(t *testing.T, ip string, port int, folder string) *exec.Cmd {
	return exec.Command(testenv.NeedKind(t, "in.tftpd", "tftp-hpa"), "--foreground", "--user", "root", "--secure",
		"--address", net.JoinHostPort(ip, itoa(port)), folder)
}

func dnsmasqCommand(t *testing.T, ip string, _ int, folder string) *exec.Cmd {
	return exec.Command(testenv.Need(t, "dnsmasq"), "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--log-facility=-", "--user=root",
		"--port=0", "--bind-interfaces", "--listen-address="+ip, "--enable-tftp", "--tftp-root="+folder)
}

// start runs the server until t ends, and returns its address. Of the folder, it
// must have the file 511.
func (s tftpServer) start(t *testing.T, folder string) string {
	t.Helper()
	testenv.NeedRoot(t)
	port := s.port
	if port == 0 {
		port = freeUDPPort(t, s.ip)
	}
	cmd := s.command(t, s.ip, port, folder)
	var log syncBuffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // says that it was killed
		if t.Failed() {
			t.Logf("%s: %s", cmd, log.String())
		}
	})
	address := net.JoinHostPort(s.ip, itoa(port))
	source := tftpSource(t, profilesrc.TFTPConfig{Address: address})
	within(t, 20*time.Second, "the server answers", func() bool {
		_, err := fetch(t, source, "511")
		return err == nil
	})
	return address
}

func freeUDPPort(t *testing.T, ip string) int {
	t.Helper()
	conn, err := net.ListenPacket("udp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).Port
}

func tftpSource(t *testing.T, cfg profilesrc.TFTPConfig) *profilesrc.TFTP {
	t.Helper()
	source, err := profilesrc.NewTFTP(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := source.Close(); err != nil {
			t.Error(err)
		}
	})
	return source
}

// fetch opens a profile and reads it to its end.
func fetch(t *testing.T, source profilesrc.Source, name string) ([]byte, error) {
	t.Helper()
	n, err := profilesrc.NewName(name)
	if err != nil {
		t.Fatal(err)
	}
	profile, err := source.Open(t.Context(), profilesrc.Request{Name: n})
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(profile.Body)
	return data, errors.Join(err, profile.Body.Close())
}

// tftpFiles writes files of the given sizes, and some with names that are out of
// the ordinary.
func tftpFiles(t *testing.T, sizes ...int) (folder string, files map[string][]byte) {
	t.Helper()
	folder = t.TempDir()
	files = map[string][]byte{"folder/with space.cfg": []byte("profile"), "straße.cfg": []byte("profile"), "100%.cfg": []byte("profile")}
	random := rand.NewChaCha8([32]byte{})
	for _, size := range sizes {
		data := make([]byte, size)
		random.Read(data) //nolint:errcheck // never fails
		files[strconv.Itoa(size)] = data
	}
	for name, data := range files {
		file := filepath.Join(folder, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return folder, files
}

// wantFiles fetches all of the files, and some that are missing.
func wantFiles(t *testing.T, source *profilesrc.TFTP, files map[string][]byte) {
	t.Helper()
	for name, want := range files {
		got, err := fetch(t, source, name)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: got %d bytes, %v, want %d", name, len(got), err, len(want))
		}
	}
	for _, name := range []string{"missing.cfg", "folder/missing.cfg", "missing/512"} {
		if _, err := fetch(t, source, name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v, want fs.ErrNotExist", name, err)
		}
	}
}

// TestTFTP fetches from real servers. The largest file has more blocks of 512
// bytes than a block's number can count.
func TestTFTP(t *testing.T) {
	folder, files := tftpFiles(t, 0, 511, 512, 513, 64<<10, 40<<20)
	for _, server := range tftpServers {
		t.Run(server.name, func(t *testing.T) {
			address := server.start(t, folder)
			for _, size := range server.blockSizes {
				t.Run("in blocks of "+itoa(size), func(t *testing.T) {
					wantFiles(t, tftpSource(t, profilesrc.TFTPConfig{Address: address, BlockSize: size}), files)
				})
			}
		})
	}
}

func TestTFTPWithFewerOptions(t *testing.T) {
	folder, files := tftpFiles(t, 0, 511, 512, 513, 64<<10, 2<<20)
	for _, server := range tftpPoorServers {
		t.Run(server.name, func(t *testing.T) {
			wantFiles(t, tftpSource(t, profilesrc.TFTPConfig{Address: server.start(t, folder)}), files)
		})
	}
}

// tftpSite serves from a TFTP server.
const tftpSite = `
prov.example.com:PORT {
	bind 127.0.0.1
	tls "LAB/site/prov.example.com.pem" "LAB/site/prov.example.com.key"
	device_profile {
		trust polycom "LAB/device-ca/polycom"
		serve /any/* /*
		source tftp ADDRESS {
			timeout 100ms
			retries 4
			max_size 1000B
		}
	}
}
`

// TestTFTPSite holds what phones get of a TFTP server's answers.
func TestTFTPSite(t *testing.T) {
	folder, _ := tftpFiles(t, 511, 1001)
	up := tftpServers[0].start(t, folder)
	down := "127.0.0.1:" + itoa(freeUDPPort(t, "127.0.0.1"))
	for name, tt := range map[string]struct {
		address, path string
		status        int
		body, log     string
	}{
		"ok/profile":       {up, "/any/folder/with%20space.cfg", 200, "profile", `"source":"tftp:` + up + `"`},
		"fail/missing":     {up, "/any/missing.cfg", 404, "", "not_found"},
		"fail/too large":   {up, "/any/1001", 502, "", "is larger than max_size"},
		"fail/server down": {down, "/any/511", 503, "", "source tftp " + down + ": 511: source unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t, newLab(t), replace(tftpSite, "ADDRESS", tt.address))
			curl(t, s, tt.path, s.as("phones/vvx")...).want(t, tt.status, tt.body)
			s.awaitLogged(t, tt.log)
		})
	}
}
