package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	dt "github.com/device-profile/caddy-device-profile/deviceauth/deviceauthtest"
	"github.com/device-profile/caddy-device-profile/internal/lab"
)

var codeBlock = regexp.MustCompile("(?ms)^```(caddyfile|json)\n(.*?)^```$")

// TestDocumentation loads every Caddyfile and JSON block of the documentation.
func TestDocumentation(t *testing.T) {
	files, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	root := systemFolder(t)
	for _, file := range append(files, "../README.md", "../CHANGELOG.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		blocks := codeBlock.FindAllStringSubmatch(string(text), -1)
		if strings.HasSuffix(file, "README.md") && len(blocks) < 7 {
			t.Errorf("only %d blocks in the README", len(blocks))
		}
		for i, block := range blocks {
			t.Run(filepath.Base(file)+"/"+itoa(i), func(t *testing.T) {
				if err := loadBlock(t, root, block[1], block[2]); err != nil {
					t.Errorf("%v in:\n%s", err, block[2])
				}
			})
		}
	}
}

// loadBlock provisions a config, with its files in root.
func loadBlock(t *testing.T, root, language, text string) error {
	text = strings.NewReplacer("/etc/caddy/", root+"/etc/", "/srv/", root+"/srv/").Replace(text)
	raw := []byte(text)
	if language == "caddyfile" {
		var warnings []caddyconfig.Warning
		var err error
		raw, warnings, err = caddyconfig.GetAdapter("caddyfile").Adapt(raw, nil)
		if err != nil {
			return err
		}
		for _, warning := range warnings {
			t.Error(warning)
		}
	}
	cfg := new(caddy.Config)
	if err := caddy.StrictUnmarshalJSON(raw, cfg); err != nil {
		return err
	}
	storage, err := json.Marshal(map[string]string{"module": "file_system", "root": root + "/storage"})
	if err != nil {
		return err
	}
	cfg.StorageRaw = storage
	return caddy.Validate(cfg)
}

// systemFolder has what the documentation's examples name, in etc and srv.
func systemFolder(t *testing.T) string {
	t.Helper()
	l := newLab(t)
	move := func(from, to string) {
		t.Helper()
		data, err := os.ReadFile(l.Path(from))
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Write(to, data); err != nil {
			t.Fatal(err)
		}
	}
	move("device-ca/cisco-client-root.pem", "etc/device-ca/cisco-client-root.pem")
	move("device-ca/polycom/root.pem", "etc/device-ca/polycom/root.pem")
	move("device-ca/yealink/root.pem", "etc/device-ca/yealink/root.pem")
	move("device-ca/yealink/root.pem", "etc/device-ca/snom.pem")
	move("device-ca/yealink/root.pem", "etc/device-ca/acme.pem")
	move("device-ca/yealink.crl", "etc/device-ca/yealink.crl")
	move("device-ca/yealink.crl", "etc/device-ca/acme.crl")
	move("site/prov.example.com.pem", "etc/site.pem")
	move("site/prov.example.com.key", "etc/site.key")
	move("profiles/bootstrap/525G2.xml", "srv/profiles/a.xml")
	move("profiles/bootstrap/525G2.xml", "srv/templates/phone.xml")
	move("devices.csv", "srv/devices.csv")
	return l.Dir
}

// TestExample runs Caddyfile.example as it is, but for its port, on the lab that
// the demo makes, and lets the demo's visitors visit.
func TestExample(t *testing.T) {
	t.Chdir(t.TempDir())
	l, err := lab.Create("lab")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(repository, "Caddyfile.example"))
	if err != nil {
		t.Fatal(err)
	}
	port := dt.Must(lab.FreePort())
	config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(strings.ReplaceAll(string(text), ":8443 {", ":"+itoa(port)+" {")), nil)
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	if err := caddy.Load(config, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	for _, visitor := range l.Visitors() {
		t.Run(visitor.Who, func(t *testing.T) {
			got := visitor.Visit(l, port)
			if got.Status != visitor.WantStatus || got.Reason != visitor.WantReason {
				t.Errorf("got %d %q %v, want %d %q", got.Status, got.Reason, got.Err, visitor.WantStatus, visitor.WantReason)
			}
		})
	}
}

// repository is the checkout's root.
var repository = func() string {
	dir, err := filepath.Abs("..")
	if err != nil {
		panic(err)
	}
	return dir
}()
