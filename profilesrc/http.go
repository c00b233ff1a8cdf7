package profilesrc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// The defaults of HTTPConfig.
const (
	DefaultHTTPTimeout = 10 * time.Second
	DefaultMaxSize     = 128 << 20
)

// maxRedirects is how many redirects are followed, all on the same host.
const maxRedirects = 5

// HTTPConfig says how profiles are fetched from an HTTP server.
type HTTPConfig struct {
	// URL is what profile names are appended to: scheme http or https, host,
	// and a path if need be. User information in it is sent as basic
	// authentication. Required.
	URL string
	// Timeout is by when an answer must be there, up to the first MB of its
	// body, and how long the rest may pause. Default: DefaultHTTPTimeout.
	Timeout time.Duration
	// MaxSize is the largest profile accepted, in bytes. Default: DefaultMaxSize.
	MaxSize int64
	// Header is sent with each request. In values, placeholders such as
	// {device.mac} stand for what was verified of the asking device. Nothing of
	// the device's own request is sent. Default: none.
	Header http.Header
	// Transport connects to the server. Default: http.DefaultTransport.
	Transport http.RoundTripper
}

// HTTP fetches profiles from an HTTP server.
type HTTP struct {
	config HTTPConfig
	base   *url.URL
	user   *url.Userinfo
	label  string
	client http.Client
	shared bool
}

// NewHTTP returns the source of an HTTP server.
func NewHTTP(config HTTPConfig) (*HTTP, error) {
	base, err := url.Parse(config.URL)
	if err != nil {
		return nil, errors.New("the URL can't be parsed") // the error would quote it, password and all
	}
	switch {
	case base.Scheme != "http" && base.Scheme != "https", base.Host == "":
		return nil, fmt.Errorf("URL %s: is not of the form http[s]://host[:port][/path]", base.Redacted())
	case base.RawQuery != "" || base.Fragment != "" || base.ForceQuery:
		return nil, fmt.Errorf("URL %s: has a query or a fragment, which profile names can't be appended to", base.Redacted())
	case config.Timeout < 0 || config.MaxSize < 0:
		return nil, fmt.Errorf("URL %s: the timeout or max_size is negative", base.Redacted())
	}
	setDefault(&config.Timeout, DefaultHTTPTimeout)
	setDefault(&config.MaxSize, DefaultMaxSize)
	s := &HTTP{config: config, base: base, user: base.User, shared: true}
	base.User = nil
	base.RawPath = ""
	s.label = "http:" + base.Host + strings.TrimSuffix(base.Path, "/")
	s.client = http.Client{Transport: config.Transport, CheckRedirect: s.checkRedirect}
	for _, values := range config.Header {
		for _, value := range values {
			s.shared = s.shared && !strings.Contains(value, "{device.")
		}
	}
	return s, nil
}

// String returns the source's name for logs.
func (s *HTTP) String() string { return s.label }

// Shared reports whether the answer is the same for every device that asks for
// a name.
func (s *HTTP) Shared() bool { return s.shared }

var errRedirect = errors.New("redirects more often, or elsewhere, than is followed")

// checkRedirect follows redirects on the server itself alone: what it says is
// trusted, what another host says is not.
func (s *HTTP) checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects || req.URL.Scheme != s.base.Scheme || req.URL.Host != s.base.Host {
		return errRedirect
	}
	return nil
}

// Open fetches the profile that the request names. Answers of 404 and 410 mean
// that there is none; 408, 425, 429, 5xx, timeouts and broken connections, that
// the server can't tell now.
func (s *HTTP) Open(ctx context.Context, req Request) (*Profile, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("source %s: %s: %w: %w", s.label, req.Name, ErrUnavailable, err)
	}
	transferring, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	defer stop()
	profile, err := s.open(transferring, cancel, req)
	if err != nil {
		cancel(err)
		return nil, fmt.Errorf("source %s: %s: %w", s.label, req.Name, err)
	}
	return profile, nil
}

// errSlow is why a transfer is cancelled that takes too long.
var errSlow = errors.New("no whole answer in time")

// open fetches the profile. ctx is that of the whole transfer; it ends with the
// body.
func (s *HTTP) open(ctx context.Context, cancel context.CancelCauseFunc, req Request) (*Profile, error) {
	httpReq, err := s.request(ctx, req)
	if err != nil {
		return nil, err
	}
	idle := time.AfterFunc(s.config.Timeout, func() { cancel(errSlow) })
	resp, err := s.client.Do(httpReq) //nolint:bodyclose // by hold, or whoever has the profile
	if err != nil {
		return nil, s.fault(ctx, err)
	}
	if err := checkStatus(resp, req); err != nil {
		resp.Body.Close()
		return nil, err
	}
	profile, err := s.profile(resp)
	if err != nil {
		resp.Body.Close()
		return nil, err
	}
	body := &transfer{ReadCloser: &capped{resp.Body, s.config.MaxSize}, cancel: cancel}
	profile.Body = body
	if err := hold(profile); err != nil {
		return nil, s.fault(ctx, err)
	}
	idle.Stop()
	body.idle, body.pause = idle, s.config.Timeout // from here on, only a pause counts
	return profile, nil
}

// request makes the request for a profile. Nothing in it is the device's own.
func (s *HTTP) request(ctx context.Context, req Request) (*http.Request, error) {
	target := *s.base
	target.Path = strings.TrimSuffix(target.Path, "/") + "/" + req.Name.String()
	httpReq, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, err
	}
	header := httpReq.Header
	// As it is: the transport would unpack what the server has packed.
	header.Set("Accept-Encoding", "identity")
	header.Set("User-Agent", "caddy-device-profile")
	for name, values := range s.config.Header {
		header.Del(name)
		for _, value := range values {
			value = fill(value, req)
			if !httpguts.ValidHeaderFieldValue(value) {
				return nil, fmt.Errorf("the value of header %s can't be sent: the certificate holds %s", name, printable(value))
			}
			header.Add(name, value)
		}
	}
	if host := header.Get("Host"); host != "" {
		httpReq.Host = host
	}
	if s.user != nil {
		password, _ := s.user.Password()
		httpReq.SetBasicAuth(s.user.Username(), password)
	}
	if known := req.Known; known != nil && known.Source == s.label {
		setIfAny(header, "If-None-Match", known.Validator)
		if !known.ModTime.IsZero() {
			header.Set("If-Modified-Since", known.ModTime.UTC().Format(http.TimeFormat))
		}
	}
	return httpReq, nil
}

func setIfAny(header http.Header, name, value string) {
	if value != "" {
		header.Set(name, value)
	}
}

// fill puts values of the device in the place of placeholders.
func fill(text string, req Request) string {
	var filled strings.Builder
	for {
		before, rest, ok := strings.Cut(text, "{device.")
		filled.WriteString(before)
		name, after, closed := strings.Cut(rest, "}")
		if !ok || !closed {
			return filled.String()
		}
		filled.WriteString(req.value("device." + name))
		text = after
	}
}

// checkStatus turns all answers but a profile into errors.
func checkStatus(resp *http.Response, req Request) error {
	switch status := resp.StatusCode; {
	case status == http.StatusOK:
		return nil
	case status == http.StatusNotModified && req.Known != nil:
		return ErrNotModified
	case status == http.StatusNotFound, status == http.StatusGone:
		return fmt.Errorf("answered %s: %w", resp.Status, fs.ErrNotExist)
	case status >= 500, status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests:
		return fmt.Errorf("answered %s: %w", resp.Status, errNotThisOne)
	default:
		return fmt.Errorf("answered %s", resp.Status)
	}
}

// profile reads the answer's header.
func (s *HTTP) profile(resp *http.Response) (*Profile, error) {
	if resp.ContentLength > s.config.MaxSize {
		return nil, fmt.Errorf("%d bytes: %w", resp.ContentLength, errTooLarge)
	}
	p := &Profile{
		Size:            resp.ContentLength,
		ETag:            entityTag(resp.Header.Get("ETag")),
		ContentType:     resp.Header.Get("Content-Type"),
		ContentEncoding: resp.Header.Get("Content-Encoding"),
		Source:          s.label,
	}
	p.Validator = p.ETag
	if t, err := http.ParseTime(resp.Header.Get("Last-Modified")); err == nil {
		p.ModTime = t
	}
	return p, nil
}

// entityTag returns the tag, or nothing if it is not one.
func entityTag(tag string) string {
	opaque := strings.TrimPrefix(tag, "W/")
	if len(opaque) < 2 || opaque[0] != '"' || opaque[len(opaque)-1] != '"' || strings.Contains(opaque[1:len(opaque)-1], `"`) {
		return ""
	}
	return tag
}

// fault says what went wrong with a transfer. The server can't tell now, unless
// it is clear that it answered nonsense.
func (s *HTTP) fault(ctx context.Context, err error) error {
	if urlErr, ok := errors.AsType[*url.Error](err); ok {
		err = urlErr.Err // the rest is the method and the URL
	}
	if cause := context.Cause(ctx); cause != nil && cause != context.Canceled { //nolint:errorlint // set by cancel
		err = cause
	}
	if errors.Is(err, errTooLarge) || errors.Is(err, errRedirect) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// transfer is a body that ends its request when it is closed, or pauses too
// long.
type transfer struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
	idle   *time.Timer // nil until the beginning is read
	pause  time.Duration
}

// Read reads, and gives the server another while for the next bytes.
func (t *transfer) Read(p []byte) (int, error) {
	if t.idle != nil {
		t.idle.Reset(t.pause)
		defer t.idle.Stop()
	}
	return t.ReadCloser.Read(p)
}

// Close ends the request.
func (t *transfer) Close() error {
	defer t.cancel(nil)
	return t.ReadCloser.Close()
}
