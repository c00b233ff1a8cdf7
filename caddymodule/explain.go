package caddymodule

import (
	"context"
	"crypto/x509"
	"net/http"
	"net/url"

	"github.com/device-profile/caddy-device-profile/deviceauth"
)

// explanation is what a handler would do for a device, and why.
type explanation struct {
	Device  *deviceauth.Device  // as the trusts see it, if one vouches for it
	Refused *deviceauth.Refusal // nil if the device is served
	Status  int
	Path    string
	Rule    string // the serve rule that gives the path
	Profile string
	Source  string // where the profile is, or what answers for it
}

// explain goes the way of a request, without one: certs are what the device
// sends, path is what it asks for ("" to stop at its identity).
func (h *Handler) explain(ctx context.Context, certs []*x509.Certificate, path string) explanation {
	v := new(visit)
	e := explanation{Path: path}
	err := h.explainSteps(ctx, v, &e, certs)
	e.Device, e.Profile, e.Source = v.device, v.name.String(), v.source
	e.Status = http.StatusOK
	if err != nil {
		e.Refused = asRefusal(err)
		e.Status = statusOf(e.Refused.Reason)
		if e.Device == nil {
			e.Device = e.Refused.Device
		}
	}
	return e
}

func (h *Handler) explainSteps(ctx context.Context, v *visit, e *explanation, certs []*x509.Certificate) error {
	device, err := h.verifier.Verify(certs)
	if err != nil {
		return err
	}
	v.device = device
	if e.Path == "" {
		return nil
	}
	target, err := url.ParseRequestURI(e.Path)
	if err != nil {
		return &deviceauth.Refusal{Reason: reasonPathNotAllowed, Detail: "the request path is malformed"}
	}
	if err := h.authorize(v, &http.Request{Method: http.MethodGet, URL: target}); err != nil {
		return err
	}
	e.Rule = v.rule.source.Path
	if h.source == nil {
		v.source = "the next handler"
		return nil
	}
	profile, err := h.sources.Open(ctx, v.request()) // not from the cache: what is there now
	if err != nil {
		return err
	}
	v.source = profile.Source
	return profile.Body.Close()
}
