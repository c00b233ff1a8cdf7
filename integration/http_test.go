package integration

import (
	"crypto/tls"
	"io/fs"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/quic-go/quic-go/http3"

	dt "github.com/device-profile/caddy-device-profile/deviceauth/deviceauthtest"
	"github.com/device-profile/caddy-device-profile/internal/lab"
)

// filesSite serves files directly, and logs accesses.
const filesSite = `
prov.example.com:PORT {
	bind 127.0.0.1
	tls "LAB/site/prov.example.com.pem" "LAB/site/prov.example.com.key"
	log {
		output file "LAB/access.log"
	}
	header X-Before yes
	device_profile {
		trust polycom "LAB/device-ca/polycom"
		serve /{device.mac}.cfg /polycom/{device.mac}.cfg
		serve /any/* /*
		source files "LAB/profiles"
	}
	handle_errors {
		header X-Reason {device.reason}
		respond "{err.status_code}"
	}
}
`

func header(output, name string) string {
	for line := range strings.Lines(output) {
		key, value, ok := strings.Cut(line, ":")
		if ok && strings.EqualFold(key, name) {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// TestHTTP holds how profiles are answered, with curl.
func TestHTTP(t *testing.T) {
	l := newLab(t)
	own := "/" + lab.PolycomMAC + ".cfg"
	for name, content := range map[string]string{
		"a.xml": "<a/>", "a.bin": "plain words", "plain.cfg": "#!version:1.0.0.1\n", "root.cfg": "\n<phone1 reg=\"x\"/>", "declared.htm": "<?xml version=\"1.0\"?><settings/>",
		"page.htm": "<html><body>settings</body></html>", "gzip.cfg": "\x1f\x8b\x08\x00\x00", "empty.cfg": "", "A.XML": "<a/>",
	} {
		if err := l.Write("profiles/types/"+name, []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	s := startServer(t, l, filesSite)
	vvx := s.as("phones/vvx")
	get := func(path string, more ...string) reply { return curl(t, s, path, append(vvx, more...)...) }

	t.Run("content types", func(t *testing.T) {
		for name, want := range map[string]string{
			"a.xml": "text/xml", "A.XML": "text/xml", "a.bin": "application/octet-stream", "plain.cfg": "text/plain; charset=utf-8",
			"root.cfg": "text/xml", "declared.htm": "text/xml", "page.htm": "text/html; charset=utf-8", "gzip.cfg": "application/x-gzip", "empty.cfg": "text/plain; charset=utf-8",
		} {
			r := get("/any/types/" + name)
			if got := header(r.output, "Content-Type"); r.status != 200 || got != want {
				t.Errorf("%s: got %d %q, want 200 %q", name, r.status, got, want)
			}
		}
	})
	t.Run("HTTP/2", func(t *testing.T) {
		r := get(own, "--http2")
		if !strings.HasPrefix(r.output, "HTTP/2 200") {
			t.Errorf("got %s", r.output)
		}
		r = curl(t, s, own, "--http2")
		if !strings.HasPrefix(r.output, "HTTP/2 403") || header(r.output, "X-Reason") != "no_certificate" {
			t.Errorf("without a certificate: %s", r.output)
		}
	})
	t.Run("HEAD", func(t *testing.T) {
		r := get(own, "--head")
		if r.status != 200 || r.body != "" || header(r.output, "Content-Length") == "0" || header(r.output, "Content-Length") == "" {
			t.Errorf("got %s", r.output)
		}
	})
	t.Run("conditional", func(t *testing.T) {
		first := get(own)
		tag, modified := header(first.output, "ETag"), header(first.output, "Last-Modified")
		if tag == "" || modified == "" {
			t.Fatalf("got %s", first.output)
		}
		get(own, "-H", "If-None-Match: "+tag).want(t, 304, "")
		get(own, "-H", "If-Modified-Since: "+modified).want(t, 304, "")
		get(own, "-H", `If-None-Match: "other"`).want(t, 200, "")
		past := time.Now().Add(-time.Hour)
		if err := os.Chtimes(l.Path("profiles/polycom/"+lab.PolycomMAC+".cfg"), past, past); err != nil {
			t.Fatal(err)
		}
		get(own, "-H", "If-None-Match: "+tag).want(t, 200, "")
	})
	t.Run("ranges", func(t *testing.T) {
		if r := get("/any/types/a.bin", "-r", "6-10"); r.status != 206 || r.body != "words" {
			t.Errorf("got %s", r.output)
		}
		get("/any/types/a.bin", "-r", "1000-").want(t, 416, "")
	})
	t.Run("Allow", func(t *testing.T) {
		r := get(own, "-X", "PUT")
		if r.status != 405 || header(r.output, "Allow") != "GET, HEAD" {
			t.Errorf("got %s", r.output)
		}
	})
	t.Run("access log", func(t *testing.T) {
		data, err := os.ReadFile(l.Path("access.log"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(data), `"user_id":"`+lab.PolycomMAC+`"`) {
			t.Errorf("no user_id %s in the access log:\n%s", lab.PolycomMAC, data)
		}
		if !strings.Contains(string(data), `"user_id":""`) {
			t.Error("a refused request has a user_id, or is not logged")
		}
	})
	t.Run("HTTP/3", func(t *testing.T) {
		if boringcrypto() {
			// quic-go can't work with it; nobody may be told to try.
			s.awaitLogged(t, "this build of Caddy has no HTTP/3")
			if services := header(get(own, "--http2").output, "Alt-Svc"); services != "" {
				t.Errorf("Alt-Svc: %s", services)
			}
			return
		}
		askHTTP3(t, s, l, own)
	})
}

// boringcrypto reports whether the tests are built with Go's boringcrypto
// experiment.
func boringcrypto() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool {
		return s.Key == "GOEXPERIMENT" && strings.Contains(s.Value, "boringcrypto")
	})
}

func askHTTP3(t *testing.T, s *server, l *lab.Lab, path string) {
	for name, tt := range map[string]struct {
		phone  *dt.Identity
		status int
		reason string
	}{
		"ok/own profile":      {phone: l.VVX, status: 200},
		"fail/no certificate": {status: 403, reason: "no_certificate"},
		"fail/forged":         {phone: l.Forged, status: 403, reason: "untrusted"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := &tls.Config{InsecureSkipVerify: true, ServerName: lab.Site}
			if tt.phone != nil {
				cert := tt.phone.TLS()
				cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
			}
			transport := &http3.Transport{TLSClientConfig: cfg}
			defer transport.Close()
			req, err := http.NewRequestWithContext(timeout(t), http.MethodGet, "https://"+s.address()+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = lab.Site
			resp, err := transport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.ProtoMajor != 3 || resp.StatusCode != tt.status || resp.Header.Get("X-Reason") != tt.reason {
				t.Errorf("HTTP/%d, got %d %q, want %d %q", resp.ProtoMajor, resp.StatusCode, resp.Header.Get("X-Reason"), tt.status, tt.reason)
			}
		})
	}
}

// middlewareSite lets other handlers answer.
const middlewareSite = `
prov.example.com:PORT {
	bind 127.0.0.1
	tls "LAB/site/prov.example.com.pem" "LAB/site/prov.example.com.key"
	device_profile {
		trust polycom "LAB/device-ca/polycom"
		serve /{device.mac}.cfg /{device.vendor}/{device.mac}.cfg
		serve /any/* /*
	}
	NEXT
	handle_errors {
		respond "{device.reason}"
	}
}
http://:BACKEND {
	bind 127.0.0.1
	respond "{uri} for {header.X-Device-Mac} of {header.X-Device-Vendor}"
}
`

// TestMiddleware lets reverse_proxy, file_server and templates answer behind the
// handler.
func TestMiddleware(t *testing.T) {
	own := "/" + lab.PolycomMAC + ".cfg"
	for _, tt := range []struct {
		name, next, path string
		status           int
		body             string
	}{
		{
			name: "reverse_proxy", path: own + "?x=1", status: 200,
			next: "reverse_proxy 127.0.0.1:BACKEND {\nheader_up X-Device-MAC {device.mac}\nheader_up X-Device-Vendor {device.vendor}\n}",
			body: "/polycom/" + lab.PolycomMAC + ".cfg for " + lab.PolycomMAC + " of polycom",
		},
		{name: "file_server", next: "root LAB/profiles\nfile_server", path: "/any/template.txt", status: 200, body: "MAC {{placeholder `device.mac`}}"},
		{name: "templates", next: "root LAB/profiles\ntemplates\nfile_server", path: "/any/template.txt", status: 200, body: "MAC " + lab.PolycomMAC},
		{name: "not found", next: "root LAB/profiles\nfile_server", path: "/any/missing.txt", status: 404},
		{name: "refused before", next: "respond reached", path: "/0004f2ddeeff.cfg", status: 403, body: "path_not_allowed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t)
			if err := l.Write("profiles/template.txt", []byte("MAC {{placeholder `device.mac`}}")); err != nil {
				t.Fatal(err)
			}
			backend := itoa(dt.Must(lab.FreePort()))
			s := startServer(t, l, replace(middlewareSite, "NEXT", replace(tt.next, "BACKEND", backend), "BACKEND", backend))
			forged := append(s.as("phones/vvx"), "-H", "X-Device-MAC: 000000000001", "-H", "X-Device-Vendor: evil")
			curl(t, s, tt.path, forged...).want(t, tt.status, tt.body)
			if tt.status == 200 && len(s.awaitLogged(t, "profile served", `"source":"next"`, `"path":"`+strings.TrimSuffix(tt.path, "?x=1")+`"`, lab.PolycomMAC)) != 1 {
				t.Error("no record of it in the log")
			}
			if tt.status == 404 && len(s.awaitLogged(t, "profile not served", `"status":404`)) != 1 {
				t.Error("no record of the failure in the log")
			}
		})
	}
}

// folderFS is a file system module, as the filesystem global option wants one.
type folderFS struct {
	fs.FS `json:"-"`
	Root  string `json:"root"`
}

func init() { caddy.RegisterModule(new(folderFS)) }

func (*folderFS) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.fs.folder", New: func() caddy.Module { return new(folderFS) }}
}

func (f *folderFS) Provision(caddy.Context) error {
	f.FS = os.DirFS(f.Root)
	return nil
}

func (f *folderFS) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the module's name
	if !d.AllArgs(&f.Root) {
		return d.ArgErr()
	}
	return nil
}

// A file system of Caddy's serves as well as a folder.
func TestFileSystem(t *testing.T) {
	s := startServer(t, newLab(t), replace(filesSite, `source files "LAB/profiles"`, "source files profiles {\nfs lab\n}"))
	own := "/" + lab.PolycomMAC + ".cfg"
	r := curl(t, s, own, s.as("phones/vvx")...)
	r.want(t, 200, "")
	if len(s.awaitLogged(t, "profile served", `"source":"files:lab"`)) != 1 {
		t.Error("no record of it in the log")
	}
	if err := s.load(replace(filesSite, `source files "LAB/profiles"`, "source files profiles {\nfs missing\n}")); err == nil || !strings.Contains(err.Error(), `"missing"`) {
		t.Errorf("an unknown file system: got %v", err)
	}
}
