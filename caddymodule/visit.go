package caddymodule

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/device-profile/caddy-device-profile/deviceauth"
	"github.com/device-profile/caddy-device-profile/inventory"
	"github.com/device-profile/caddy-device-profile/profilesrc"
)

// The reasons for a refusal beside those of package deviceauth.
const (
	reasonNoTLS             deviceauth.Reason = "no_tls"
	reasonPathNotAllowed    deviceauth.Reason = "path_not_allowed"
	reasonMethodNotAllowed  deviceauth.Reason = "method_not_allowed"
	reasonNotFound          deviceauth.Reason = "not_found"
	reasonSourceUnavailable deviceauth.Reason = "source_unavailable"
	reasonSourceFailed      deviceauth.Reason = "source_failed"
)

// retryAfter is what a phone is told to wait, in seconds, if a source or the
// inventory is down.
const retryAfter = "120"

// visit is one request on its way from certificate to answer.
type visit struct {
	start   time.Time
	path    string             // as requested; the request's own may be rewritten
	device  *deviceauth.Device // set once verified
	row     inventory.Row      // what the inventory has on the device
	rule    *serveRule         // the rule that gives the path
	name    profilesrc.Name    // the profile that the rule names
	source  string             // the source that gave it
	stale   error              // why it is the last known one, if it is
	age     time.Duration      // of a profile from the cache
	status  int
	bytes   int64
	refused *deviceauth.Refusal // set if the answer is no
	// observed is set if the decision had no consequences.
	observed bool
	broken   error // set if the transfer broke off after it had begun
}

// decide says which profile the request is for, or why not.
func (h *Handler) decide(v *visit, r *http.Request) error {
	if err := h.identify(v, r.TLS); err != nil {
		return err
	}
	if err := h.admit(r.Context(), v); err != nil {
		return err
	}
	return h.authorize(v, r)
}

// identify verifies the certificate chain of the connection.
func (h *Handler) identify(v *visit, state *tls.ConnectionState) error {
	if state == nil {
		return &deviceauth.Refusal{Reason: reasonNoTLS, Detail: "the request came without TLS"}
	}
	device, err := h.verifier().Verify(state.PeerCertificates)
	if err != nil {
		return err
	}
	v.device = device
	return nil
}

// authorize finds the profile that the request's path means for the device.
func (h *Handler) authorize(v *visit, r *http.Request) error {
	path, ok := requestPath(r)
	if !ok {
		return &deviceauth.Refusal{Reason: reasonPathNotAllowed, Detail: "the request path is malformed"}
	}
	var err error
	if v.rule, v.name, err = h.findProfile(asker{v.device, v.row}, path); err != nil {
		return err
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return &deviceauth.Refusal{Reason: reasonMethodNotAllowed, Detail: "only GET and HEAD are served"}
	}
	return nil
}

// findProfile returns the first rule that gives the path to the device, and the
// profile that it names.
func (h *Handler) findProfile(d asker, path string) (*serveRule, profilesrc.Name, error) {
	macMissed := false
	for _, rule := range h.rules {
		profile, ok := rule.match(d, path)
		if !ok {
			macMissed = macMissed || rule.needsMAC && !d.HasMAC
			continue
		}
		name, err := profilesrc.NewName(profile)
		if err != nil {
			return nil, name, &deviceauth.Refusal{Reason: reasonPathNotAllowed, Detail: err.Error()}
		}
		return rule, name, nil
	}
	refusal := &deviceauth.Refusal{Reason: reasonPathNotAllowed, Detail: "no serve rule gives this path to this device"}
	if macMissed {
		refusal.Reason, refusal.Detail = deviceauth.NoIdentity, "rules with a MAC don't apply, as the certificate gives none, and no other rule gives this path"
	}
	return nil, profilesrc.Name{}, refusal
}

// request is what the sources are asked. What the inventory has them told of the
// device is part of who asks: with other values, they may answer otherwise.
func (h *Handler) request(v *visit) profilesrc.Request {
	identity := identityOf(v.device)
	for _, column := range h.sourceAttrs {
		identity += "\t" + v.row.Attr(column) // values hold no control characters
	}
	return profilesrc.Request{Name: v.name, Device: v.deviceValue, Identity: identity, Common: !v.rule.usesDevice}
}

// identityOf tells a device from all others. A phone that gets another
// certificate stays the same phone.
func identityOf(d *deviceauth.Device) string {
	if d.HasMAC {
		return d.Vendor + " " + d.MAC.String()
	}
	return d.Vendor + " " + d.Fingerprint
}

// deviceValue returns the value of one of rulePlaceholders, named without
// braces, or "".
func (v *visit) deviceValue(name string) string {
	value, _ := asker{v.device, v.row}.value(name)
	return value
}

// passOn lets the next handler answer for the profile's path.
func (v *visit) passOn(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	r.URL.Path, r.URL.RawPath = "/"+v.name.String(), ""
	r.URL.RawQuery = "" // a back end could take another device's name from it
	r.RequestURI = r.URL.RequestURI()
	return v.callNext(w, r, next)
}

// observe notes what would be decided, and lets the next handler answer the
// request as it is.
func (v *visit) observe(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, decision error) error {
	v.observed = true
	if decision != nil {
		v.refused = asRefusal(decision)
	}
	return v.callNext(w, r, next)
}

func (v *visit) callNext(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	v.source = "next"
	rec := caddyhttp.NewResponseRecorder(w, nil, nil)
	err := next.ServeHTTP(rec, r)
	v.status, v.bytes = rec.Status(), int64(rec.Size())
	var failed caddyhttp.HandlerError
	if errors.As(err, &failed) {
		v.status = failed.StatusCode
	}
	return err
}

// refuse turns a decided no into the error that Caddy's error routes get. This
// is the only place that does.
func (v *visit) refuse(w http.ResponseWriter, err error) error {
	v.refused = asRefusal(err)
	v.status = statusOf(v.refused.Reason)
	switch v.status {
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", "GET, HEAD")
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", retryAfter)
	}
	return caddyhttp.Error(v.status, v.refused)
}

// statusOf returns the status of a refusal.
func statusOf(reason deviceauth.Reason) int {
	switch reason {
	case reasonMethodNotAllowed:
		return http.StatusMethodNotAllowed
	case reasonNotFound:
		return http.StatusNotFound
	case reasonSourceUnavailable, reasonInventoryUnavailable:
		return http.StatusServiceUnavailable
	case reasonSourceFailed:
		return http.StatusBadGateway
	}
	return http.StatusForbidden
}

// asRefusal names the reason for an error of the verifier or of a source.
func asRefusal(err error) *deviceauth.Refusal {
	var refusal *deviceauth.Refusal
	switch {
	case errors.As(err, &refusal):
		return refusal
	case errors.Is(err, profilesrc.ErrUnavailable):
		return &deviceauth.Refusal{Reason: reasonSourceUnavailable, Detail: err.Error()}
	case errors.Is(err, fs.ErrNotExist):
		return &deviceauth.Refusal{Reason: reasonNotFound, Detail: err.Error()}
	default:
		return &deviceauth.Refusal{Reason: reasonSourceFailed, Detail: err.Error()}
	}
}

// placeholder gives the request's replacer the visit's values.
func (v *visit) placeholder(key string) (any, bool) {
	switch {
	case key == "http.auth.user.id":
		if v.device == nil || !v.device.HasMAC {
			return nil, false
		}
		return v.device.MAC.String(), true
	case !strings.HasPrefix(key, "device."):
		return nil, false
	case key == "device.reason":
		if v.refused == nil {
			return "", true
		}
		return string(v.refused.Reason), true
	case v.device == nil:
		return "", true
	case key == "device.profile":
		return v.name.String(), true
	case key == "device.source":
		return v.source, true
	}
	return asker{v.device, v.row}.value(key)
}
