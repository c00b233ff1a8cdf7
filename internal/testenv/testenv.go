// Package testenv has what tests against real programs share.
package testenv

import (
	"os"
	"os/exec"
	"testing"
)

// Need returns the path of a program. Without it, the test is skipped, but
// fails where CI=true: what is skipped there, nobody checks.
func Need(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed", program)
	}
	t.Skipf("%s is not installed", program)
	return ""
}
