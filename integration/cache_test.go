package integration

import (
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/device-profile/caddy-device-profile/internal/lab"
)

// TestCacheOutlivesReload holds that what is known stays known when the config
// changes, unless the sources do.
func TestCacheOutlivesReload(t *testing.T) {
	var asked atomic.Int64
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		io.WriteString(w, "profile")
	}))
	t.Cleanup(backend.Close)
	config := replace(sourceSite, "SOURCE", "source http "+backend.URL+"\ncache")
	s := startServer(t, newLab(t), config)
	own := "/" + lab.PolycomMAC + ".cfg"
	visit := func(wantAsked int64) {
		t.Helper()
		curl(t, s, own, s.as("phones/vvx")...).want(t, 200, "profile")
		if got := asked.Load(); got != wantAsked {
			t.Errorf("the back end was asked %d times, want %d", got, wantAsked)
		}
	}
	reload := func(config string) {
		t.Helper()
		if err := s.load(config); err != nil {
			t.Fatal(err)
		}
	}
	visit(1)
	visit(1)
	for range 2 {
		reload(replace(config, "serve /any/*", "serve /any/* \n# changed"))
		visit(1)
		reload(config)
		visit(1)
	}
	reload(replace(config, "cache", "source files \"LAB/profiles\"\ncache"))
	visit(2)
}

// TestLargeFile holds that a file over max_entry is passed on as it comes: the
// server, which is in this process, never holds much of it.
func TestLargeFile(t *testing.T) {
	const size, limit = 300 << 20, 100 << 20
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.CopyN(w, zeros{}, size) //nolint:errcheck // the client sees it
	}))
	t.Cleanup(backend.Close)
	l := newLab(t)
	s := startServer(t, l, replace(sourceSite, "SOURCE", "source http "+backend.URL+" {\nmax_size 1GiB\n}\ncache {\nmax_entry 8MiB\n}"))
	base := heap(true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		resp, err := resumingClient(l.VVX, 0).Do(phoneRequest(t, s, "/any/firmware.bin"))
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != size {
			t.Errorf("got %d bytes, %v, want %d", n, err, int64(size))
		}
	}()
	var peak uint64
	for running := true; running; {
		select {
		case <-done:
			running = false
		case <-time.After(20 * time.Millisecond):
		}
		peak = max(peak, heap(false))
	}
	if peak > base+limit {
		t.Errorf("the heap grew by %d MB for a file of %d MB, want at most %d", (peak-base)>>20, size>>20, limit>>20)
	}
}

// heap is the size of the heap in bytes, without garbage if collected is set.
func heap(collected bool) uint64 {
	if collected {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

// zeros is a reader without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func phoneRequest(t *testing.T, s *server, path string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+s.address()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = lab.Site
	return req
}
