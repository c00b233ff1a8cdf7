package integration

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	dt "github.com/device-profile/caddy-device-profile/deviceauth/deviceauthtest"
	"github.com/device-profile/caddy-device-profile/internal/lab"
	"github.com/device-profile/caddy-device-profile/internal/testenv"
)

// sourceSite serves from SOURCE alone.
const sourceSite = `
prov.example.com:PORT {
	bind 127.0.0.1
	tls "LAB/site/prov.example.com.pem" "LAB/site/prov.example.com.key"
	device_profile {
		trust polycom "LAB/device-ca/polycom"
		serve /{device.mac}.cfg /polycom/{device.mac}.cfg
		serve /any/* /*
		SOURCE
	}
	handle_errors {
		respond "{device.reason}"
	}
}
`

// nginxConfig is a provisioning server that wants to know who asks.
const nginxConfig = `
daemon off;
master_process off;
pid LAB/nginx.pid;
error_log LAB/nginx.log;
events {}
http {
	access_log off;
	client_body_temp_path LAB/nginx-temp;
	proxy_temp_path LAB/nginx-temp;
	fastcgi_temp_path LAB/nginx-temp;
	uwsgi_temp_path LAB/nginx-temp;
	scgi_temp_path LAB/nginx-temp;
	server {
		listen 127.0.0.1:BACKEND;
		location / {
			root LAB/profiles;
			add_header X-Seen "$http_x_device_mac $http_user_agent $http_cookie $http_authorization";
		}
		location /forbidden/ { return 403; }
		location /broken/ { return 500; }
		location /login/ { return 302 http://127.0.0.1:1/; }
		location /who { default_type text/plain; return 200 "$http_x_device_mac $remote_user $http_x_forged"; }
	}
}
`

// startNginx runs nginx until the returned function stops it.
func startNginx(t *testing.T, l *lab.Lab, port string) (stop func()) {
	t.Helper()
	if err := l.Write("nginx.conf", []byte(replace(nginxConfig, "LAB", l.Dir, "BACKEND", port))); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(testenv.Need(t, "nginx"), "-c", l.Path("nginx.conf"), "-p", l.Dir, "-e", l.Path("nginx.log"))
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // killed
		close(ended)
	}()
	stop = func() {
		_ = cmd.Process.Kill()
		<-ended
	}
	t.Cleanup(stop)
	within(t, 10*time.Second, "nginx listens", func() bool {
		select {
		case <-ended:
			t.Fatal(out.String())
		default:
		}
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
	return stop
}

// TestNginx holds a real provisioning server behind the site: its good and bad
// answers, its end, and its return.
func TestNginx(t *testing.T) {
	l := newLab(t)
	content := make(map[string][]byte)
	for name, size := range map[string]int{"0": 0, "511": 511, "64k": 64 << 10, "40M.bin": 40 << 20} {
		content[name] = make([]byte, size)
		rand.Read(content[name]) //nolint:errcheck // never fails
		if err := l.Write("profiles/"+name, content[name]); err != nil {
			t.Fatal(err)
		}
	}
	backend := itoa(dt.Must(lab.FreePort()))
	stop := startNginx(t, l, backend)
	s := startServer(t, l, replace(sourceSite, "SOURCE", `source http http://127.0.0.1:`+backend+` {
			basic_auth prov secret
			header_up X-Device-MAC {device.mac}
			timeout 2s
		}
		cache {
			refresh 1s
			persist "LAB/cache"
		}`))
	vvx := s.as("phones/vvx")
	get := func(path string, more ...string) reply { return curl(t, s, path, append(vvx, more...)...) }

	for name, want := range content {
		out, err := exec.Command(testenv.Need(t, "curl"), append([]string{
			"-sS", "--fail", "--max-time", "60", "--cacert", l.Path("site/ca.pem"), "--resolve", lab.Site + ":" + itoa(s.port) + ":127.0.0.1", "https://" + lab.Site + ":" + itoa(s.port) + "/any/" + name,
		}, vvx...)...).Output()
		if err != nil || !bytes.Equal(out, want) {
			t.Errorf("%s: %d bytes, %v, want %d", name, len(out), err, len(want))
		}
	}
	get("/any/who", "-H", "X-Device-MAC: 000000000001", "-H", "X-Forged: yes", "-u", "evil:word").want(t, 200, lab.PolycomMAC+" prov")
	get("/any/missing.cfg").want(t, 404, "not_found")
	get("/any/forbidden/x.cfg").want(t, 502, "source_failed")
	get("/any/login/x.cfg").want(t, 502, "source_failed")
	r := get("/any/broken/x.cfg")
	r.want(t, 503, "source_unavailable")
	if header(r.output, "Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	if tag := header(get("/any/64k").output, "ETag"); tag == "" {
		t.Error("nginx's entity tag is lost")
	} else if r := get("/any/64k", "-H", "If-None-Match: "+tag); r.status != 304 {
		t.Errorf("asked with the entity tag: got %d", r.status)
	}

	// It goes, and what was known stays; it comes back, and so do fresh ones.
	own := "/" + lab.PolycomMAC + ".cfg"
	get(own).want(t, 200, "")
	forgetEvents()
	stop()
	time.Sleep(1100 * time.Millisecond)
	r = get(own)
	r.want(t, 200, "")
	if age := header(r.output, "Age"); age == "" || age == "0" {
		t.Errorf("the last known one is of age %q", age)
	}
	wantEvent(t, "device_profile_stale", nil, map[string]any{"mac": lab.PolycomMAC, "profile": "polycom/" + lab.PolycomMAC + ".cfg", "source": "http:127.0.0.1:" + backend})
	record := s.awaitLogged(t, `"stale":true`, lab.PolycomMAC)[0]
	if !strings.Contains(record, "connection refused") || !strings.Contains(record, "profile served") {
		t.Errorf("got %s", record)
	}
	for _, name := range []string{"a", "b", "c"} {
		get("/any/never-asked-"+name).want(t, 503, "source_unavailable")
	}
	s.awaitLogged(t, "source down")
	if err := l.Write("profiles/polycom/"+lab.PolycomMAC+".cfg", []byte("fresh")); err != nil {
		t.Fatal(err)
	}
	startNginx(t, l, backend)
	within(t, 20*time.Second, "a fresh profile", func() bool { return strings.HasPrefix(get(own).body, "fresh") })
	s.awaitLogged(t, "source up again")
	if files, err := os.ReadDir(l.Path("cache")); err != nil || len(files) == 0 {
		t.Errorf("nothing is kept on disk: %v", err)
	}
}

// A provisioning server that wants a client certificate gets one.
func TestSourceClientCertificate(t *testing.T) {
	l := newLab(t)
	phones := x509.NewCertPool()
	phones.AddCert(l.Polycom.Cert)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "for ", r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	cert := dt.Must(tls.LoadX509KeyPair(l.Path("site/prov.example.com.pem"), l.Path("site/prov.example.com.key")))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: phones}
	server.StartTLS()
	t.Cleanup(server.Close)
	s := startServer(t, l, replace(sourceSite, "SOURCE", "source http "+server.URL+` {
			transport http {
				tls_server_name prov.example.com
				tls_trust_pool file "LAB/site/ca.pem"
				tls_client_auth "LAB/phones/vvx.pem" "LAB/phones/vvx.key"
			}
		}`))
	curl(t, s, "/"+lab.PolycomMAC+".cfg", s.as("phones/vvx")...).want(t, 200, "for "+lab.PolycomMAC)
}
