// Package testenv has what tests against real programs share.
package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// Need returns the path of a program. Without it, the test is skipped, but
// fails where CI=true: what is skipped there, nobody checks.
func Need(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		Lacking(t, program+" is not installed")
	}
	return path
}

// NeedKind is Need for a program that several packages have by the same name:
// the first on the PATH whose answer to -V speaks of kind.
func NeedKind(t testing.TB, program, kind string) string {
	t.Helper()
	for _, folder := range filepath.SplitList(os.Getenv("PATH")) {
		path := filepath.Join(folder, program)
		version, _ := exec.Command(path, "-V").CombinedOutput() // some exit with an error
		if strings.Contains(string(version), kind) {
			return path
		}
	}
	Lacking(t, program+" of "+kind+" is not installed")
	return ""
}

// NeedRoot is Need for the rights of root.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		Lacking(t, "not run as root")
	}
}

// Lacking skips the test for want of something, but fails it where CI=true.
func Lacking(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// asCaddy makes the test's program be the caddy program.
const asCaddy = "DEVICE_PROFILE_TEST_AS_CADDY"

// Main is for a TestMain. It runs the tests or, in a process that CaddyCommand
// made, the caddy program.
func Main(m *testing.M, caddy func()) {
	if os.Getenv(asCaddy) != "" {
		caddy()
		return
	}
	os.Exit(m.Run())
}

// CaddyCommand returns the caddy program with arguments, to be run with a home of
// its own. The package's TestMain must call Main.
func CaddyCommand(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	home := t.TempDir()
	cmd.Env = append(os.Environ(), asCaddy+"=yes", "HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_DATA_HOME="+home)
	return cmd
}

// Heap returns how many bytes are in use after a garbage collection.
func Heap() int64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
