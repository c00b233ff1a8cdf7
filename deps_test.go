package plugin

import (
	"os/exec"
	"strings"
	"testing"
)

// TestCoreKnowsNoCaddy holds that what decides and what fetches can be used, and
// read, without Caddy.
func TestCoreKnowsNoCaddy(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "./deviceauth/...", "./profilesrc/...", "./inventory/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), "crypto/x509\n") {
		t.Fatalf("no list of dependencies: %s", out)
	}
	for dependency := range strings.Lines(string(out)) {
		if strings.HasPrefix(dependency, "github.com/caddyserver/") || strings.Contains(dependency, "/caddymodule") {
			t.Errorf("depends on %s", dependency)
		}
	}
}
