package profilesrc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/device-profile/caddy-device-profile/profilesrc"
	"github.com/device-profile/caddy-device-profile/profilesrc/profilesrctest"
)

func newHTTP(t *testing.T, config profilesrc.HTTPConfig) *profilesrc.HTTP {
	t.Helper()
	if config.Transport == nil {
		transport := new(http.Transport)
		t.Cleanup(transport.CloseIdleConnections)
		config.Transport = transport
	}
	source, err := profilesrc.NewHTTP(config)
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// serve starts an HTTP server and returns its URL.
func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

func TestHTTPConformance(t *testing.T) {
	profilesrctest.TestSource(t, func(t *testing.T, files map[string][]byte) profilesrc.Source {
		url := serve(t, func(w http.ResponseWriter, r *http.Request) {
			data, ok := files[strings.TrimPrefix(r.URL.Path, "/provision/")]
			if !ok || r.URL.RawQuery != "" {
				http.NotFound(w, r)
				return
			}
			w.Write(data)
		})
		return newHTTP(t, profilesrc.HTTPConfig{URL: url + "/provision/"})
	})
}

// verdict says what an error of Open means.
func verdict(err error) string {
	switch {
	case err == nil:
		return "profile"
	case errors.Is(err, profilesrc.ErrNotModified):
		return "not modified"
	case errors.Is(err, profilesrc.ErrUnavailable):
		return "unavailable"
	case errors.Is(err, fs.ErrNotExist):
		return "missing"
	}
	return "failed"
}

// open asks for a profile and reads it.
func open(t *testing.T, source profilesrc.Source, req profilesrc.Request) (*profilesrc.Profile, string, error) {
	t.Helper()
	profile, err := source.Open(t.Context(), req)
	if err != nil {
		return nil, "", err
	}
	defer profile.Body.Close()
	data, err := io.ReadAll(profile.Body)
	return profile, string(data), err
}

// TestHTTPAnswers holds what a back end's good and bad answers mean.
func TestHTTPAnswers(t *testing.T) {
	const timeout = 300 * time.Millisecond
	pause := func(r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-time.After(10 * timeout):
		}
	}
	large := strings.Repeat("x", 2<<20)
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	redirect := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) }
	}
	for name, tt := range map[string]struct {
		handler http.HandlerFunc
		want    string
		cause   string
	}{
		"404":           {status(404), "missing", "404"},
		"410":           {status(410), "missing", "410"},
		"401":           {status(401), "failed", "401"},
		"403":           {status(403), "failed", "403"},
		"400":           {status(400), "failed", "400"},
		"204":           {status(204), "failed", "204"},
		"206":           {status(206), "failed", "206"},
		"304 unasked":   {status(304), "failed", "304"},
		"408":           {status(408), "unavailable", "408"},
		"429":           {status(429), "unavailable", "429"},
		"500":           {status(500), "unavailable", "500"},
		"503":           {status(503), "unavailable", "503"},
		"redirect loop": {redirect("/a.cfg"), "failed", "redirects"},
		"redirect away": {redirect("http://127.0.0.1:1/a.cfg"), "failed", "redirects"},
		"redirect to https": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://"+r.Host+"/a.cfg", http.StatusFound)
		}, "failed", "redirects"},
		"redirect here": {func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/a.cfg" {
				http.Redirect(w, r, "/b.cfg", http.StatusMovedPermanently)
			}
		}, "profile", ""},
		"slow header": {func(_ http.ResponseWriter, r *http.Request) { pause(r) }, "unavailable", "in time"},
		"slow body": {func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "half")
			w.(http.Flusher).Flush()
			pause(r)
		}, "unavailable", "in time"},
		"truncated": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10")
			io.WriteString(w, "half")
		}, "unavailable", "EOF"},
		"wrong length": {func(w http.ResponseWriter, _ *http.Request) {
			conn, _, _ := http.NewResponseController(w).Hijack()
			defer conn.Close()
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\nshort")
		}, "unavailable", "EOF"},
		"hangs up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "unavailable", "EOF"},
		"no HTTP": {func(w http.ResponseWriter, _ *http.Request) {
			conn, _, _ := http.NewResponseController(w).Hijack()
			defer conn.Close()
			io.WriteString(conn, "220 ftp ready\r\n")
		}, "unavailable", "malformed"},
		"too large, says so": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(len(large)))
			io.WriteString(w, large)
		}, "failed", "max_size"},
		"too large": {func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			io.WriteString(w, large)
		}, "failed", "max_size"},
	} {
		t.Run(name, func(t *testing.T) {
			source := newHTTP(t, profilesrc.HTTPConfig{URL: serve(t, tt.handler), Timeout: timeout, MaxSize: 1 << 19})
			_, _, err := open(t, source, nameOf(t, "a.cfg"))
			if got := verdict(err); got != tt.want {
				t.Errorf("got %s (%v), want %s", got, err, tt.want)
			}
			if err != nil && (!strings.Contains(err.Error(), tt.cause) || !strings.Contains(err.Error(), source.String()+": a.cfg")) {
				t.Errorf("error %q names not the source, the profile and the cause (%s)", err, tt.cause)
			}
		})
	}
	t.Run("connection refused", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ln.Close()
		_, _, err = open(t, newHTTP(t, profilesrc.HTTPConfig{URL: "http://" + ln.Addr().String()}), nameOf(t, "a.cfg"))
		if verdict(err) != "unavailable" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("caller gives up", func(t *testing.T) {
		source := newHTTP(t, profilesrc.HTTPConfig{URL: serve(t, func(_ http.ResponseWriter, r *http.Request) { pause(r) }), Timeout: time.Minute})
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := source.Open(ctx, nameOf(t, "a.cfg")); verdict(err) != "unavailable" {
			t.Errorf("got %v", err)
		}
	})
}

// A long body is streamed; if it breaks off or pauses, the reader gets to know.
func TestHTTPStreams(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 1<<18) // 4 MiB
	for name, tt := range map[string]struct {
		send string
		then func(r *http.Request)
		want string
	}{
		"whole":     {long, nil, "whole"},
		"truncated": {long[:3<<20], nil, "EOF"},
		"pauses":    {long[:3<<20], func(r *http.Request) { <-r.Context().Done() }, "in time"},
	} {
		t.Run(name, func(t *testing.T) {
			source := newHTTP(t, profilesrc.HTTPConfig{Timeout: 500 * time.Millisecond, URL: serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Length", strconv.Itoa(len(long)))
				io.WriteString(w, tt.send)
				w.(http.Flusher).Flush()
				if tt.then != nil {
					tt.then(r)
				}
			})})
			profile, data, err := open(t, source, nameOf(t, "firmware.bin"))
			if profile.Size != int64(len(long)) {
				t.Errorf("size %d, want %d", profile.Size, len(long))
			}
			if tt.want == "whole" && (err != nil || data != long) || tt.want != "whole" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %d bytes, %v, want %s", len(data), err, tt.want)
			}
		})
	}
}

// TestHTTPRequest holds what the back end gets to see, and what it doesn't.
func TestHTTPRequest(t *testing.T) {
	var got *http.Request
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		w.Header().Set("ETag", `"v1"`)
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Content-Type", "text/x-profile")
		if r.Header.Get("If-None-Match") == `"v1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		io.WriteString(w, "\x1f\x8bpacked")
	})
	source := newHTTP(t, profilesrc.HTTPConfig{
		URL:    strings.Replace(url, "http://", "http://user:pass%20word@", 1) + "/base/",
		Header: http.Header{"X-Device-MAC": {"{device.mac} of {device.vendor}"}, "Host": {"pbx.example.com"}},
	})
	req := nameOf(t, "a b/100%?x#ä.cfg")
	req.Device = func(name string) string {
		return map[string]string{"device.mac": "0004f2aabbcc", "device.vendor": "polycom"}[name]
	}
	profile, data, err := open(t, source, req)
	if err != nil {
		t.Fatal(err)
	}
	if got.RequestURI != "/base/a%20b/100%25%3Fx%23%C3%A4.cfg" || got.Method != http.MethodGet || got.Host != "pbx.example.com" {
		t.Errorf("asked %s %s of %s", got.Method, got.RequestURI, got.Host)
	}
	if user, password, _ := got.BasicAuth(); user != "user" || password != "pass word" {
		t.Errorf("authenticated as %s, %s", user, password)
	}
	if mac := got.Header.Get("X-Device-MAC"); mac != "0004f2aabbcc of polycom" {
		t.Errorf("X-Device-MAC: %s", mac)
	}
	if data != "\x1f\x8bpacked" || profile.ContentEncoding != "gzip" || profile.ContentType != "text/x-profile" || profile.ETag != `"v1"` || profile.ModTime.Year() != 2006 {
		t.Errorf("got %q as %+v", data, profile)
	}
	if source.Shared() {
		t.Error("a source that tells who asks says that its answers are for everybody")
	}

	req.Known = profile
	if _, _, err := open(t, source, req); verdict(err) != "not modified" || got.Header.Get("If-Modified-Since") != "Mon, 02 Jan 2006 15:04:05 GMT" {
		t.Errorf("asked again: %v", err)
	}
	other := *profile
	other.Source = "http:elsewhere"
	req.Known = &other
	if _, _, err := open(t, source, req); err != nil || got.Header.Get("If-None-Match") != "" {
		t.Errorf("another source's validators were sent: %v", err)
	}
	req.Device = func(string) string { return "a\r\nX-Evil: yes" }
	if _, _, err := open(t, source, req); verdict(err) != "failed" || !strings.Contains(err.Error(), "X-Device-Mac") && !strings.Contains(err.Error(), "X-Device-MAC") {
		t.Errorf("a value with a line break: got %v", err)
	}
}

func TestHTTPConfig(t *testing.T) {
	for url, cause := range map[string]string{
		"":                               "form",
		"pbx.example.com":                "form",
		"ftp://pbx.example.com/":         "form",
		"http:///path":                   "form",
		"http://pbx.example.com/?mac=":   "query",
		"http://pbx.example.com/#x":      "fragment",
		"http://u:secret@pbx/%zz":        "parsed",
		"http://u:secret@pbx.test/x?a=b": "query",
	} {
		_, err := profilesrc.NewHTTP(profilesrc.HTTPConfig{URL: url})
		if err == nil || !strings.Contains(err.Error(), cause) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: got %v, want an error about its %s, without the password", url, err, cause)
		}
	}
	source := newHTTP(t, profilesrc.HTTPConfig{URL: "http://u:secret@127.0.0.1:1/x"})
	if _, _, err := open(t, source, nameOf(t, "a.cfg")); err == nil || strings.Contains(fmt.Sprint(err, source), "secret") {
		t.Errorf("got %v of %s, want an error without the password", err, source)
	}
}
