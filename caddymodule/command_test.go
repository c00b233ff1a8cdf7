package caddymodule

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/device-profile/caddy-device-profile/internal/lab"
)

// run executes a subcommand of `caddy device` and returns what it prints.
func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := newDemoCommand()
	if args[0] == "inspect" {
		cmd = newInspectCommand()
	}
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SilenceErrors = true
	cmd.SetArgs(args[1:])
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestDemo(t *testing.T) {
	dir := t.TempDir()
	out, err := run(t, "demo", "--dir", dir)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	l := &lab.Lab{Dir: dir}
	for _, visitor := range l.Visitors() {
		if !strings.Contains(out, visitor.Who) || visitor.WantReason != "" && !strings.Contains(out, visitor.WantReason) {
			t.Errorf("the table lacks %s, %s:\n%s", visitor.Who, visitor.WantReason, out)
		}
	}
	if strings.Contains(out, "WRONG") || !strings.Contains(out, "All came out right") {
		t.Errorf("got:\n%s", out)
	}
	if _, err := os.Stat(l.Path("Caddyfile")); err != nil {
		t.Errorf("--dir keeps no Caddyfile: %v", err)
	}
}

// A visit that comes out otherwise than it should fails the demo.
func TestDemoFails(t *testing.T) {
	l, err := lab.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	port, err := lab.FreePort() // where nobody listens
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if wrong := play(&out, l, port); wrong == 0 || !strings.Contains(out.String(), "WRONG") {
		t.Errorf("%d visits came out wrong:\n%s", wrong, out.String())
	}
}

func TestInspect(t *testing.T) {
	l, err := lab.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.Path("Caddyfile"), l.Caddyfile(8443), 0o600); err != nil {
		t.Fatal(err)
	}
	both := readFile(t, l.Path("phones/vvx.pem")) + readFile(t, l.Path("phones/vvx.key"))
	if err := l.Write("phones/with-key.pem", []byte(both)); err != nil {
		t.Fatal(err)
	}
	if err := l.Write("phones/garbage.pem", []byte("garbage")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		phone  string
		path   string // "-" for no config either
		served bool
		words  []string
	}{
		{"ok/served", "spa525g2", "/000E08AABBCC.xml", true, []string{"cisco_spa", "000e08aabbcc", "525G2", "CBT153908BX", "rsa1024, sha1", "/{device.mac}.xml", "cisco_spa/000e08aabbcc.xml", "files", "served"}},
		{"ok/identity alone", "t54", "", true, []string{"yealink", "805ec0aabbcc", "verified"}},
		{"ok/key in the same file", "with-key", "/0004f2aabbcc.cfg", true, []string{"Polycom Root CA", "served"}},
		{"ok/presets", "spa525g2", "-", true, []string{"cisco_spa", "MAC 000e08aabbcc, model 525G2", "polycom", "no_identity", "RSA 1024", "SHA1-RSA"}},
		{"fail/other path", "vvx", "/000e08aabbcc.xml", false, []string{"polycom", "refused, 403 path_not_allowed"}},
		{"fail/malformed path", "vvx", "/a/../b", false, []string{"path_not_allowed", "malformed"}},
		{"fail/forged", "forged", "/000e08aabbcc.xml", false, []string{"refused, 403 untrusted", "was not signed by"}},
		{"fail/generic", "generic", "", false, []string{"cisco_spa", "refused, 403 generic_certificate"}},
		{"fail/missing profile", "vvx", "/firmware/none.bin", false, []string{"refused, 404 not_found", "firmware/none.bin"}},
		{"fail/no certificate", "garbage", "", false, nil},
		{"fail/no file", "nobody", "", false, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := []string{"inspect", l.Path("phones/" + tt.phone + ".pem")}
			if tt.path != "-" {
				args = append(args, "--config", l.Path("Caddyfile"))
			}
			if tt.path != "-" && tt.path != "" {
				args = append(args, "--path", tt.path)
			}
			out, err := run(t, args...)
			if (err == nil) != tt.served {
				t.Errorf("error %v, want served %v", err, tt.served)
			}
			for _, word := range tt.words {
				if !strings.Contains(out, word) {
					t.Errorf("lacks %q:\n%s", word, out)
				}
			}
			if strings.Contains(out, "PRIVATE") || strings.Contains(out, "only-for-") {
				t.Errorf("tells a key or a profile:\n%s", out)
			}
		})
	}
	t.Run("fail/path without config", func(t *testing.T) {
		if _, err := run(t, "inspect", l.Path("phones/vvx.pem"), "--path", "/a"); err == nil {
			t.Error("accepted")
		}
	})
}

func readFile(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The demo makes its lab nowhere but in a folder of its own.
func TestDemoSparesOtherFolders(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(mine, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, "demo", "--dir", dir); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v, want an error that names the folder", err)
	}
	if data, err := os.ReadFile(mine); err != nil || string(data) != "mine" {
		t.Errorf("the file in it is %q, %v", data, err)
	}
}
