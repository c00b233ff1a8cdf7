package integration

import (
	"crypto/tls"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	dt "github.com/device-profile/caddy-device-profile/deviceauth/deviceauthtest"
	"github.com/device-profile/caddy-device-profile/internal/lab"
)

// stormSize is how many phones ask at once.
const stormSize = 2000

// stormPhone keeps its connection, as phones do that poll.
type stormPhone struct {
	mac    string
	client *http.Client
}

func stormPhones(t *testing.T, l *lab.Lab, n int) []stormPhone {
	phones := make([]stormPhone, n)
	for i := range phones {
		mac := fmt.Sprintf("0004f2%06x", i)
		// One key for all, to be quick; the certificates differ.
		id := dt.Must(l.PolycomIssuing.Issue(pkix.Name{CommonName: mac}, dt.Key(l.VVX.Key)))
		cert := id.TLS()
		transport := &http.Transport{TLSClientConfig: &tls.Config{ServerName: lab.Site, InsecureSkipVerify: true, Certificates: []tls.Certificate{cert}}}
		t.Cleanup(transport.CloseIdleConnections)
		phones[i] = stormPhone{mac, &http.Client{Transport: transport, Timeout: time.Minute}}
	}
	return phones
}

func (p stormPhone) get(s *server, path string) (status int, body string, err error) {
	req, err := http.NewRequest(http.MethodGet, "https://"+s.address()+path, nil)
	if err != nil {
		return 0, "", err
	}
	req.Host = lab.Site
	resp, err := p.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data), err
}

// storm lets all phones ask for their own profile, some at a time, and checks
// that each gets its own.
func storm(t *testing.T, s *server, phones []stormPhone) {
	t.Helper()
	var all sync.WaitGroup
	gate := make(chan struct{}, 200)
	for _, p := range phones {
		all.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			status, body, err := p.get(s, "/"+p.mac+".cfg")
			if err != nil || status != 200 || !strings.HasPrefix(body, "/polycom/"+p.mac+".cfg for "+p.mac+",") {
				t.Errorf("%s: got %d %q, %v", p.mac, status, body, err)
			}
		})
	}
	all.Wait()
}

// TestStorm kills the back end while a fleet is asking: every phone whose profile
// was known gets it, none another's, and fresh ones come as soon as the back end
// is back.
func TestStorm(t *testing.T) {
	l := newLab(t)
	address := "127.0.0.1:" + itoa(dt.Must(lab.FreePort()))
	var version, served atomic.Int64
	kill := make(chan struct{}, 1)
	start := func() *http.Server {
		backend := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if served.Add(1) == stormSize*3/2 {
				kill <- struct{}{}
			}
			fmt.Fprintf(w, "%s for %s, version %d", r.URL.Path, r.Header.Get("X-Device-Mac"), version.Load())
		})}
		ln, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		go backend.Serve(ln) //nolint:errcheck // closed
		t.Cleanup(func() { backend.Close() })
		return backend
	}
	backend := start()
	s := startServer(t, l, replace(sourceSite, "SOURCE", `source http http://`+address+` {
			header_up X-Device-MAC {device.mac}
		}
		source files "LAB/profiles"
		cache {
			refresh 1s
		}`))
	phones := stormPhones(t, l, stormSize)
	storm(t, s, phones)

	time.Sleep(1100 * time.Millisecond) // all is due to be asked for again
	go func() {
		<-kill
		backend.Close()
	}()
	storm(t, s, phones)
	if len(s.logged(t, `"stale":true`)) == 0 {
		t.Fatal("the back end was not missed")
	}
	storm(t, s, phones)

	version.Add(1)
	start()
	first := phones[0]
	within(t, 15*time.Second, "a fresh profile", func() bool {
		_, body, err := first.get(s, "/"+first.mac+".cfg")
		return err == nil && strings.HasSuffix(body, "version 1")
	})
	time.Sleep(6 * time.Second) // by when the last known ones are asked for again
	storm(t, s, phones)
	for _, p := range phones {
		if _, body, err := p.get(s, "/"+p.mac+".cfg"); err != nil || !strings.HasSuffix(body, "version 1") {
			t.Fatalf("%s: got %q, %v, want a fresh profile", p.mac, body, err)
		}
	}
	wantMetrics(t, `cache_requests_total{result="stale"}`, `cache_requests_total{result="hit"}`, `source_requests_total{outcome="found",source="http:`+address+`"}`,
		`source_requests_total{outcome="skipped",source="http:`+address+`"}`, `source_requests_total{outcome="unavailable",source="http:`+address+`"}`)
}

// wantMetrics holds that each of these is above zero, and that no metric names a
// device.
func wantMetrics(t *testing.T, names ...string) {
	t.Helper()
	active := caddy.ActiveContext()
	got := make(map[string]float64)
	for _, family := range dt.Must(active.GetMetricsRegistry().Gather()) {
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, label := range metric.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", label.GetName(), label.GetValue()))
			}
			got[family.GetName()+"{"+strings.Join(labels, ",")+"}"] = metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
		}
	}
	for _, name := range names {
		if got["caddy_device_profile_"+name] <= 0 {
			t.Errorf("%s is %v, want more than 0", name, got["caddy_device_profile_"+name])
		}
	}
	for name := range got {
		if strings.Contains(name, "0004f2") {
			t.Errorf("a device is in the metric %s", name)
		}
	}
}

// TestOneTransfer holds that a file which all phones ask for at once is fetched
// once.
func TestOneTransfer(t *testing.T) {
	l := newLab(t)
	var fetched atomic.Int64
	url := "http://127.0.0.1:" + itoa(dt.Must(lab.FreePort()))
	backend := &http.Server{Addr: strings.TrimPrefix(url, "http://"), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fetched.Add(1)
		time.Sleep(300 * time.Millisecond) // as long as a slow server takes
		io.WriteString(w, strings.Repeat("firmware", 1<<17))
	})}
	go backend.ListenAndServe() //nolint:errcheck // closed
	t.Cleanup(func() { backend.Close() })
	s := startServer(t, l, replace(sourceSite, "SOURCE", "source http "+url+"\ncache"))
	phones := stormPhones(t, l, 300)
	var all sync.WaitGroup
	for _, p := range phones {
		all.Go(func() {
			if status, body, err := p.get(s, "/any/firmware.bin"); err != nil || status != 200 || len(body) != 1<<20 {
				t.Errorf("%s: got %d, %d bytes, %v", p.mac, status, len(body), err)
			}
		})
	}
	all.Wait()
	if got := fetched.Load(); got != 1 {
		t.Errorf("fetched %d times, want once", got)
	}
}
