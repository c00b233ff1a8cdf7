package integration

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/device-profile/caddy-device-profile/internal/lab"
	"github.com/device-profile/caddy-device-profile/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m, caddycmd.Main) }

// cli runs a caddy command to its end.
func cli(t testing.TB, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := testenv.CaddyCommand(t, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// instance is a caddy process with a config of its own.
type instance struct {
	port       int
	admin      string // host and port
	config     string // file
	log        syncBuffer
	cmd        *exec.Cmd
	waitForEnd func() error
}

// syncBuffer is what a process has logged so far.
type syncBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// newInstance writes a config in which LAB, PORT and ADMIN stand for the lab's
// folder, a free port and the admin address.
func newInstance(t testing.TB, l *lab.Lab, caddyfile string) *instance {
	t.Helper()
	i := &instance{config: filepath.Join(t.TempDir(), "Caddyfile")}
	var ports [2]int
	for n := range ports {
		port, err := lab.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		ports[n] = port
	}
	i.port, i.admin = ports[0], "127.0.0.1:"+itoa(ports[1])
	text := replace(caddyfile, "LAB", l.Dir, "PORT", itoa(i.port), "ADMIN", i.admin)
	if err := os.WriteFile(i.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return i
}

// start runs the instance until the test ends.
func (i *instance) start(t testing.TB) {
	t.Helper()
	i.cmd = testenv.CaddyCommand(t, "run", "--config", i.config)
	i.cmd.Stderr = &i.log
	if err := i.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	i.waitForEnd = sync.OnceValue(i.cmd.Wait)
	t.Cleanup(func() {
		if err := i.stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(i.log.String())
		}
	})
	within(t, 20*time.Second, "the server accepts connections", func() bool {
		conn, err := net.Dial("tcp", "127.0.0.1:"+itoa(i.port))
		if err != nil {
			return false
		}
		conn.Close()
		return strings.Contains(i.log.String(), "serving initial configuration")
	})
}

func (i *instance) stop() error {
	_ = i.cmd.Process.Signal(os.Interrupt) // it may have ended
	err := i.waitForEnd()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && !exit.Exited() {
		return nil // killed by the test
	}
	return err
}

// within waits until something is so.
func within(t testing.TB, limit time.Duration, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}
