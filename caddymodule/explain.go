package caddymodule

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"go.uber.org/zap/zapcore"

	"github.com/device-profile/caddy-device-profile/deviceauth"
	"github.com/device-profile/caddy-device-profile/profilesrc"
)

// explanation is what a handler would do for a device, and why.
type explanation struct {
	Server  string         `json:"server"`
	Verdict string         `json:"verdict"` // served, refused, or verified if there is no path
	Status  int            `json:"status"`
	Reason  string         `json:"reason,omitempty"`
	Detail  string         `json:"detail,omitempty"`
	Device  *deviceReport  `json:"device,omitempty"`
	Trusts  []trustReport  `json:"trusts"`
	Row     *rowReport     `json:"inventory,omitempty"`
	Path    string         `json:"path,omitempty"`
	Rules   []ruleReport   `json:"rules,omitempty"`
	Profile string         `json:"profile,omitempty"`
	Sources []sourceReport `json:"sources,omitempty"`
	Metrics []string       `json:"metrics,omitempty"`
	Log     map[string]any `json:"log,omitempty"`
	refused *deviceauth.Refusal
}

// deviceReport is the device as the trusts see it, if one vouches for it.
type deviceReport struct {
	Vendor      string   `json:"vendor"`
	Anchor      string   `json:"anchor"`
	MAC         string   `json:"mac,omitempty"`
	Model       string   `json:"model,omitempty"`
	Serial      string   `json:"serial,omitempty"`
	Fingerprint string   `json:"fingerprint"`
	Weak        []string `json:"weak,omitempty"`
}

// rowReport is what the inventory has on the device.
type rowReport struct {
	State   string            `json:"state"`
	Profile string            `json:"profile,omitempty"`
	Vendor  string            `json:"vendor,omitempty"`
	Attrs   map[string]string `json:"attrs,omitempty"`
}

// trustReport is what one trust says of the certificate.
type trustReport struct {
	Vendor  string `json:"vendor"`
	Accepts bool   `json:"accepts"`
	Reason  string `json:"reason,omitempty"`
	Detail  string `json:"detail,omitempty"`
}

// ruleReport is what one rule says of the path.
type ruleReport struct {
	Serve   string `json:"serve"`
	Matches bool   `json:"matches"`
	Why     string `json:"why,omitempty"` // it doesn't
}

// sourceReport is what one source says of the profile.
type sourceReport struct {
	Source  string `json:"source"`
	Outcome string `json:"outcome"` // found, not_found, unavailable or failed
	Detail  string `json:"detail,omitempty"`
}

// explain goes the way of a request, without one: certs are what the device
// sends, path is what it asks for ("" to stop at its identity).
func (h *Handler) explain(ctx context.Context, certs []*x509.Certificate, path string) explanation {
	e := explanation{Path: path, Status: http.StatusOK, Verdict: "served"}
	for _, answer := range h.verifier().Each(certs) {
		report := trustReport{Vendor: answer.Vendor, Accepts: answer.Refusal == nil}
		if answer.Refusal != nil {
			report.Reason, report.Detail = string(answer.Refusal.Reason), answer.Refusal.Detail
		}
		e.Trusts = append(e.Trusts, report)
	}
	v := &visit{path: path}
	req := &http.Request{Method: http.MethodGet, URL: &url.URL{}}
	err := h.explainSteps(ctx, v, &e, certs, req)
	e.Profile = v.name.String()
	if path == "" {
		e.Verdict = "verified"
	}
	if err != nil {
		v.refused = asRefusal(err)
		e.refused = v.refused
		e.Status, e.Verdict = statusOf(v.refused.Reason), "refused"
		e.Reason, e.Detail = string(v.refused.Reason), v.refused.Detail
	}
	v.status = e.Status
	e.Device, e.Row = reportDevice(v), reportRow(v)
	if path != "" || err != nil {
		e.Log, e.Metrics = v.wouldLog(req), v.wouldCount()
	}
	return e
}

func (h *Handler) explainSteps(ctx context.Context, v *visit, e *explanation, certs []*x509.Certificate, req *http.Request) error {
	device, err := h.verifier().Verify(certs)
	if err != nil {
		return err
	}
	v.device = device
	if err := h.admit(ctx, v); err != nil {
		return err
	}
	if e.Path == "" {
		return nil
	}
	target, err := url.ParseRequestURI(e.Path)
	if err != nil {
		return &deviceauth.Refusal{Reason: reasonPathNotAllowed, Detail: "the request path is malformed"}
	}
	req.URL = target
	v.path = target.Path
	err = h.authorize(v, req)
	e.Rules = h.reportRules(v, target.Path)
	if err != nil {
		return err
	}
	return h.explainSources(ctx, v, e)
}

// explainSources asks the sources, not the cache: what is there now.
func (h *Handler) explainSources(ctx context.Context, v *visit, e *explanation) error {
	if h.source == nil {
		v.source = "next"
		e.Sources = []sourceReport{{Source: "next", Outcome: "asked", Detail: "no source: the next handler answers"}}
		return nil
	}
	var asked []profilesrc.Source
	for _, s := range h.explained {
		asked = append(asked, reporting{s, e})
	}
	profile, err := profilesrc.NewChain(asked...).Open(ctx, h.request(v))
	if err != nil {
		return err
	}
	v.source = profile.Source
	return profile.Body.Close()
}

// namedSource is a source with its name.
type namedSource struct {
	name   string
	source profilesrc.Source
}

// reporting is a source whose answer is noted in an explanation.
type reporting struct {
	namedSource
	e *explanation
}

// Open asks the source.
func (s reporting) Open(ctx context.Context, req profilesrc.Request) (*profilesrc.Profile, error) {
	profile, err := s.source.Open(ctx, req)
	report := sourceReport{Source: s.name, Outcome: "found"}
	switch {
	case err == nil:
	case errors.Is(err, profilesrc.ErrUnavailable):
		report.Outcome = "unavailable"
	case errors.Is(err, fs.ErrNotExist):
		report.Outcome = "not_found"
	default:
		report.Outcome = "failed"
	}
	if err != nil {
		report.Detail = err.Error()
	}
	s.e.Sources = append(s.e.Sources, report)
	return profile, err
}

// reportRules says of each rule, up to the one that decides, what it has to do
// with the path.
func (h *Handler) reportRules(v *visit, path string) []ruleReport {
	var reports []ruleReport
	for _, rule := range h.rules {
		report := ruleReport{Serve: rule.source.Path, Matches: rule == v.rule}
		if rule.source.Profile != "" {
			report.Serve += " " + rule.source.Profile
		}
		if !report.Matches {
			report.Why = rule.whyNot(asker{v.device, v.row}, path)
		}
		reports = append(reports, report)
		if report.Matches {
			break
		}
	}
	return reports
}

// whyNot says why the rule doesn't give the path to the device.
func (r *serveRule) whyNot(d asker, path string) string {
	if len(r.source.Vendors) > 0 && !slices.Contains(r.source.Vendors, d.Vendor) {
		return "is for " + strings.Join(r.source.Vendors, ", ") + " alone"
	}
	if r.needsMAC && !d.HasMAC {
		return "needs a MAC, and the certificate gives none"
	}
	filled, ok := fill(r.path, d)
	if !ok {
		return "needs a value that certificate or inventory don't give, or not in a form fit for a path"
	}
	captures, ok := matchTokens(filled, path, nil)
	if !ok {
		return "is " + patternString(filled) + " for this device"
	}
	if slices.ContainsFunc(captures, func(c string) bool { return namesOtherDevice(c, d.Device) }) {
		return "what * matches holds another device's MAC"
	}
	return "names no profile that is fit to be served"
}

// patternString is a filled pattern as it is written.
func patternString(tokens []token) string {
	var b strings.Builder
	for _, t := range tokens {
		if t.kind == literal {
			b.WriteString(t.text)
			continue
		}
		b.WriteByte('*')
	}
	return b.String()
}

func reportDevice(v *visit) *deviceReport {
	d := v.device
	if d == nil && v.refused != nil {
		d = v.refused.Device
	}
	if d == nil {
		return nil
	}
	report := &deviceReport{Vendor: d.Vendor, Model: d.Model, Serial: d.Serial, Fingerprint: d.Fingerprint, Weak: d.Weak}
	if d.HasMAC {
		report.MAC = d.MAC.String()
	}
	if len(d.Chain) > 0 {
		report.Anchor = d.Chain[len(d.Chain)-1].Subject.String()
	}
	return report
}

func reportRow(v *visit) *rowReport {
	if v.row.State == "" {
		return nil
	}
	report := &rowReport{State: string(v.row.State), Profile: v.row.Profile, Vendor: v.row.Vendor}
	for _, a := range v.row.Attrs {
		if report.Attrs == nil {
			report.Attrs = make(map[string]string)
		}
		report.Attrs[a.Column] = a.Value
	}
	return report
}

// wouldLog returns the fields of the log record, but for those of the connection.
func (v *visit) wouldLog(r *http.Request) map[string]any {
	fields := zapcore.NewMapObjectEncoder()
	v.writeLog(fields, r, nil)
	for _, name := range []string{"bytes", "duration", "remote_ip"} {
		delete(fields.Fields, name)
	}
	return fields.Fields
}

// wouldCount returns the metrics that the request would count in.
func (v *visit) wouldCount() []string {
	vendor, reason, weak := v.labels(nil)
	metrics := []string{fmt.Sprintf("caddy_device_profile_requests_total{vendor=%q,reason=%q,status=\"%d\"}", vendor, reason, v.status)}
	for _, feature := range weak {
		metrics = append(metrics, fmt.Sprintf("caddy_device_profile_weak_total{vendor=%q,feature=%q}", vendor, feature))
	}
	return metrics
}
