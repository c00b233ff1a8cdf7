// Package testenv has what tests against real programs share.
package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Need returns the path of a program. Without it, the test is skipped, but
// fails where CI=true: what is skipped there, nobody checks.
func Need(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		lacking(t, program+" is not installed")
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
	lacking(t, program+" of "+kind+" is not installed")
	return ""
}

// NeedRoot is Need for the rights of root.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		lacking(t, "not run as root")
	}
}

func lacking(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}
