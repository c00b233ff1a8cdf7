package caddymodule

import (
	"crypto/x509/pkix"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	dt "github.com/device-profile/caddy-device-profile/deviceauth/deviceauthtest"
)

// validate loads a Caddyfile as `caddy validate` does: all of it, but for
// listening. DIR stands for the folder.
func validate(t *testing.T, dir, caddyfile string) error {
	t.Helper()
	text := strings.ReplaceAll(caddyfile, "DIR", dir)
	raw, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), nil)
	if err != nil {
		return err
	}
	var cfg *caddy.Config
	if err := json.Unmarshal(raw, &cfg); err != nil {
		t.Fatal(err)
	}
	cfg.StorageRaw = json.RawMessage(`{"module":"file_system","root":"` + filepath.Join(dir, "storage") + `"}`)
	return caddy.Validate(cfg)
}

// configFolder holds CA certificates, good and bad, and profiles.
func configFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	root := dt.Must(dt.NewRoot(pkix.Name{CommonName: "Root"}))
	leaf := dt.Must(root.Issue(pkix.Name{CommonName: "000413aabbcc"}))
	good := dt.PEM(root.Cert)
	for name, data := range map[string][]byte{
		"root.pem": good, "empty.pem": nil, "truncated.pem": good[:len(good)/2], "leaf.pem": dt.PEM(leaf.Cert), "profiles/a.cfg": []byte("a"), "no-ca/x.txt": nil,
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func siteWith(options string) string {
	return "prov.example.com {\n\ttls internal\n\tdevice_profile {\n" + options + "\n\t}\n}\n"
}

const goodOptions = "trust snom DIR/root.pem\nserve /{device.mac}.cfg\nsource files DIR/profiles\n"

func TestProvision(t *testing.T) {
	dir := configFolder(t)
	t.Setenv("DEVICE_CA", dir+"/root.pem")
	for name, caddyfile := range map[string]string{
		"good":                   siteWith(goodOptions),
		"environment":            siteWith("trust snom {env.DEVICE_CA}\nserve /a\n"),
		"trust_pool":             siteWith("trust snom {\ntrust_pool file DIR/root.pem\n}\nserve /a\n"),
		"wrapper named globally": "{\nservers {\nlistener_wrappers {\ndevice_tls\n}\n}\n}\n" + siteWith(goodOptions),
		"behind a PROXY":         "{\nservers {\nlistener_wrappers {\nproxy_protocol\ntls\ndevice_tls\n}\n}\n}\n" + siteWith(goodOptions),
		"any host":               strings.Replace(siteWith(goodOptions), "prov.example.com", "https://", 1),
		"wildcard host":          strings.Replace(siteWith(goodOptions), "prov.example.com", "*.example.com", 1),
		"plain HTTP":             "http://prov.example.com {\ndevice_profile {\n" + goodOptions + "}\n}\n",
		"protocols up to 1.2":    strings.Replace(siteWith(goodOptions+"legacy_tls"), "tls internal", "tls internal {\nprotocols tls1.2 tls1.2\n}", 1),
	} {
		t.Run("ok/"+name, func(t *testing.T) {
			if err := validate(t, dir, caddyfile); err != nil {
				t.Error(err)
			}
		})
	}
	for name, tt := range map[string]struct {
		caddyfile string
		causes    []string
	}{
		"missing file":         {siteWith("trust snom DIR/nobody.pem\nserve /a"), []string{"trust snom", "nobody.pem"}},
		"empty file":           {siteWith("trust snom DIR/empty.pem\nserve /a"), []string{"empty.pem", "no certificate"}},
		"truncated file":       {siteWith("trust snom DIR/truncated.pem\nserve /a"), []string{"truncated.pem", "truncated"}},
		"leaf as anchor":       {siteWith("trust snom DIR/leaf.pem\nserve /a"), []string{"leaf.pem", "not a CA"}},
		"folder without CA":    {siteWith("trust snom DIR/no-ca\nserve /a"), []string{"no-ca"}},
		"trust_pool without":   {siteWith("trust snom {\ntrust_pool file\n}\nserve /a"), []string{"no "}},
		"pool of the system":   {siteWith("trust snom {\ntrust_pool system\n}\nserve /a"), []string{"trust_pool"}},
		"missing CRL":          {siteWith("trust snom DIR/root.pem {\ncrl DIR/no.crl\n}\nserve /a"), []string{"trust snom", "no.crl"}},
		"folder as CRL":        {siteWith("trust snom DIR/root.pem {\ncrl DIR/profiles\n}\nserve /a"), []string{"trust snom", "profiles", "regular"}},
		"CRL that is none":     {siteWith("trust snom DIR/root.pem {\ncrl DIR/root.pem\n}\nserve /a"), []string{"trust snom", "root.pem", "not a CRL"}},
		"CRL by LDAP":          {siteWith("trust snom DIR/root.pem {\ncrl ldap://ca/x\n}\nserve /a"), []string{"trust snom", "ldap://ca/x"}},
		"CRL's server is down": {siteWith("trust snom DIR/root.pem {\ncrl http://127.0.0.1:1/a.crl\n}\nserve /a"), []string{"trust snom", "127.0.0.1:1", "storage"}},
		"unknown vendor":       {siteWith("trust snom DIR/root.pem\nserve /a {\nvendor polycom\n}"), []string{"polycom"}},
		"missing folder":       {siteWith("trust snom DIR/root.pem\nserve /a\nsource files DIR/nowhere"), []string{"source files", "nowhere"}},
		"bad URL":              {siteWith("trust snom DIR/root.pem\nserve /a\nsource http pbx.example.com"), []string{"source http", "http[s]://"}},
		"unknown placeholder":  {siteWith("trust snom DIR/root.pem\nserve /a\nsource http http://pbx {\nheader_up X-URI {http.request.uri}\n}"), []string{"header_up X-Uri", "{http.request.uri}"}},
		"bad cache folder":     {siteWith("trust snom DIR/root.pem\nserve /a\nsource files DIR/profiles\ncache {\npersist DIR/root.pem\n}"), []string{"cache folder", "root.pem"}},
		"TFTP server's port":   {siteWith("trust snom DIR/root.pem\nserve /a\nsource tftp host:0"), []string{"source tftp", "host:0"}},
		"TFTP block size":      {siteWith("trust snom DIR/root.pem\nserve /a\nsource tftp host {\nblock_size 100\n}"), []string{"source tftp host", "block_size 100"}},
		"missing file system":  {siteWith("trust snom DIR/root.pem\nserve /a\nsource files {\nfs nowhere\n}"), []string{"nowhere"}},
		"wrapper replaced":     {"{\nservers {\ntrusted_proxies static private_ranges\n}\n}\n" + siteWith(goodOptions), []string{"device_tls", "listener_wrappers"}},
		"client_auth":          {strings.Replace(siteWith(goodOptions), "tls internal", "tls internal {\nclient_auth {\nmode request\n}\n}", 1), []string{"client_auth", "prov.example.com"}},
		"contradicts TLS 1.3":  {strings.Replace(siteWith(goodOptions+"legacy_tls"), "tls internal", "tls internal {\nprotocols tls1.3\n}", 1), []string{"legacy_tls", "tls1.3"}},
		"wrapper with options": {"{\nservers {\nlistener_wrappers {\ndevice_tls x\n}\n}\n}\n" + siteWith(goodOptions), []string{"device_tls"}},
	} {
		t.Run("fail/"+name, func(t *testing.T) {
			err := validate(t, dir, tt.caddyfile)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, cause := range tt.causes {
				if !strings.Contains(err.Error(), cause) {
					t.Errorf("error %q does not mention %s", err, cause)
				}
			}
		})
	}
	t.Run("fail/unreadable file", func(t *testing.T) {
		if os.Getuid() == 0 {
			// Root reads everything; a folder in the place of a file does it too.
			if err := os.Mkdir(filepath.Join(dir, "unreadable.pem"), 0o700); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(filepath.Join(dir, "unreadable.pem"), nil, 0o000); err != nil {
			t.Fatal(err)
		}
		err := validate(t, dir, siteWith("trust snom DIR/unreadable.pem\nserve /a"))
		if err == nil || !strings.Contains(err.Error(), "unreadable.pem") {
			t.Errorf("got %v, want an error that names unreadable.pem", err)
		}
	})
}

// JSON that the Caddyfile can't express is refused too.
func TestProvisionJSON(t *testing.T) {
	for name, tt := range map[string]struct{ json, cause string }{
		"no trust":           {`{}`, "no trust"},
		"no label":           {`{"trusts":[{"pem_files":["x"]}]}`, "no vendor label"},
		"no CA":              {`{"trusts":[{"vendor":"snom"}]}`, "no CA certificates"},
		"preset and rules":   {`{"trusts":[{"vendor":"snom","pem_files":["x"],"identity":{"preset":"snom","mac":[{"attribute":"CN"}]}}]}`, "both"},
		"unknown pool":       {`{"trusts":[{"vendor":"snom","trust_pool":{"provider":"nobody"}}]}`, "nobody"},
		"negative refresh":   {`{"trusts":[{"vendor":"snom","pem_files":["x"],"crl":["y"],"crl_refresh":-1}]}`, "negative"},
		"negative look":      {`{"trust_refresh":-1,"trusts":[{"vendor":"snom","pem_files":["ROOT"]}],"serve":[{"path":"/a"}]}`, "negative"},
		"weak RSA":           {`{"trusts":[{"vendor":"snom","pem_files":["x"],"weakest_rsa":512}]}`, "floor"},
		"source without one": {`{"sources":[{"source":"files"}],"trusts":[{"vendor":"snom","pem_files":["ROOT"]}],"serve":[{"path":"/a"}]}`, "no folder"},
		"no serve":           {`{"trusts":[{"vendor":"snom","pem_files":["ROOT"]}]}`, "no serve rule"},
		"bad mode":           {`{"mode":"watch"}`, "watch"},
		"bad rule":           {`{"trusts":[{"vendor":"snom","pem_files":["ROOT"]}],"serve":[{"path":"a"}]}`, "slash"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := configFolder(t)
			ctx := quietContext(t)
			raw := strings.ReplaceAll(tt.json, "ROOT", filepath.Join(dir, "root.pem"))
			_, err := ctx.LoadModuleByID("http.handlers.device_profile", json.RawMessage(raw))
			if err == nil || !strings.Contains(err.Error(), tt.cause) {
				t.Errorf("got %v, want an error that mentions %q", err, tt.cause)
			}
		})
	}
}

// Caddy cleans up what it could not provision, too.
func TestCleanupOfZeroValues(t *testing.T) {
	for _, module := range []caddy.CleanerUpper{new(FilesSource), new(TFTPSource), new(FileInventory), new(Handler)} {
		if err := module.Cleanup(); err != nil {
			t.Errorf("%T: %v", module, err)
		}
	}
}
