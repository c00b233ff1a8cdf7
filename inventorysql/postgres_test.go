package inventorysql

import (
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/device-profile/caddy-device-profile/internal/testenv"
)

// postgres is a PostgreSQL server of the test's own.
type postgres struct {
	bin, dir string
	port     int
	as       *syscall.SysProcAttr
	server   *exec.Cmd
}

// newPostgres makes a database cluster, and starts its server.
func newPostgres(t *testing.T) *postgres {
	t.Helper()
	p := &postgres{bin: postgresBin(t), port: freePort(t)}
	var err error
	if p.dir, err = os.MkdirTemp("", "pg"); err != nil { // t.TempDir is not for other users
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(p.dir) })
	p.dropRoot(t)
	init := p.command("initdb", "-D", p.dir+"/data", "-U", "prov", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale", "C")
	if out, err := init.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	p.start(t)
	t.Cleanup(func() { p.kill(t) })
	return p
}

// postgresBin is the folder of the server's programs: Debian has them beside the
// path.
func postgresBin(t *testing.T) string {
	t.Helper()
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path)
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		testenv.Need(t, "initdb")
	}
	return filepath.Dir(found[len(found)-1])
}

// dropRoot lets the server run as somebody else, since it refuses to run as root.
func (p *postgres) dropRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		return
	}
	somebody, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	uid, gid := userID(t, somebody.Uid), userID(t, somebody.Gid)
	if err := os.Chown(p.dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	p.as = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}

func userID(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (p *postgres) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(p.bin, name), args...)
	cmd.Dir, cmd.SysProcAttr = p.dir, p.as
	return cmd
}

func (p *postgres) dsn() string {
	return fmt.Sprintf("postgres://prov:hunter2@127.0.0.1:%d/postgres?sslmode=disable", p.port)
}

// start starts the server and waits until it answers.
func (p *postgres) start(t *testing.T) {
	t.Helper()
	p.server = p.command("postgres", "-D", p.dir+"/data", "-h", "127.0.0.1", "-p", strconv.Itoa(p.port), "-k", p.dir, "-F")
	var said strings.Builder
	p.server.Stderr = &said
	if err := p.server.Start(); err != nil {
		t.Fatal(err)
	}
	db := open(t, "pgx", p.dsn())
	defer db.Close()
	within(t, "the server's start", func() bool { return db.Ping() == nil })
}

// kill ends the server as a power cut would, and all that it has started.
func (p *postgres) kill(t *testing.T) {
	t.Helper()
	if p.server == nil {
		return
	}
	if err := p.server.Process.Signal(syscall.SIGQUIT); err != nil { // "immediate shutdown"
		t.Error(err)
	}
	p.server.Wait() //nolint:errcheck // it was killed
	p.server = nil
}

func open(t *testing.T, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// within waits until something is so. How long is no matter, but for ever.
func within(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}
