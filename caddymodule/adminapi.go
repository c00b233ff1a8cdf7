package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
	"go.uber.org/zap"

	"github.com/device-profile/caddy-device-profile/sitecert"
)

func init() {
	caddy.RegisterModule(new(adminAPI))
}

// adminAPI adds endpoints to Caddy's admin API:
//
//	POST /device_profile/explain?path=<path>        what the running config would give to a certificate
//	                                                (the body, in PEM or DER), and why, as JSON
//	GET  /device_profile/devices                    devices seen by this process, newest first, as JSON;
//	                                                ?offset= and ?limit= (100 by default) page through it
//
// and for the sites whose certificate comes from `get_certificate csr` in the
// running config:
//
//	GET  /device_profile/sites                      states, as JSON
//	GET  /device_profile/sites/<fqdn>               one site's state, as JSON
//	GET  /device_profile/sites/<fqdn>/csr           the CSR to be signed, in PEM
//	PUT  /device_profile/sites/<fqdn>/certificate   installs a certificate; its state, as JSON
//	POST /device_profile/sites/<fqdn>/renewal       prepares a renewal; its CSR, in PEM
//
// Errors are JSON with `error`, a sentence, and for a refused certificate with
// `reason`, a word. No endpoint tells anything of a private key.
type adminAPI struct {
	logger *zap.Logger
}

// CaddyModule returns the Caddy module information.
func (*adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.device_profile",
		New: func() caddy.Module { return new(adminAPI) },
	}
}

// Provision sets the module up.
func (a *adminAPI) Provision(ctx caddy.Context) error {
	a.logger = ctx.Logger(a)
	return nil
}

const (
	sitesPath   = "/device_profile/sites"
	devicesPath = "/device_profile/devices"
	explainPath = "/device_profile/explain"
)

// Routes returns the endpoints.
func (a *adminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: explainPath, Handler: caddy.AdminHandlerFunc(a.serveExplain)},
		{Pattern: devicesPath, Handler: caddy.AdminHandlerFunc(a.serveDevices)},
		{Pattern: sitesPath, Handler: caddy.AdminHandlerFunc(a.serveSites)},
		{Pattern: sitesPath + "/{fqdn}", Handler: caddy.AdminHandlerFunc(a.serveSite)},
		{Pattern: sitesPath + "/{fqdn}/csr", Handler: caddy.AdminHandlerFunc(a.serveCSR)},
		{Pattern: sitesPath + "/{fqdn}/certificate", Handler: caddy.AdminHandlerFunc(a.serveCertificate)},
		{Pattern: sitesPath + "/{fqdn}/renewal", Handler: caddy.AdminHandlerFunc(a.serveRenewal)},
	}
}

// The page size of the list of devices, by default and at most.
const (
	devicesPage    = 100
	maxDevicesPage = 10_000
)

// devicesAnswer is a page of the list of devices.
type devicesAnswer struct {
	Total   int          `json:"total"`
	Offset  int          `json:"offset"`
	Devices []seenDevice `json:"devices"`
}

func (a *adminAPI) serveDevices(w http.ResponseWriter, r *http.Request) error {
	if err := allow(w, r, http.MethodGet); err != nil {
		return err
	}
	offset, err := queryNumber(r, "offset", 0, math.MaxInt32)
	if err != nil {
		return err
	}
	limit, err := queryNumber(r, "limit", devicesPage, maxDevicesPage)
	if err != nil {
		return err
	}
	answer := devicesAnswer{Offset: offset, Devices: []seenDevice{}}
	seen.Range(func(_, value any) bool {
		if devices, total := value.(*seenDevices).page(offset, limit); total > 0 {
			answer.Devices, answer.Total = devices, total
		}
		return true
	})
	return writeJSON(w, http.StatusOK, answer)
}

// queryNumber reads a number of the query, from 0 to most.
func queryNumber(r *http.Request, name string, otherwise, most int) (int, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > most {
		return 0, caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf("%s: %q is not a number from 0 to %d", name, text, most)}
	}
	return n, nil
}

// maxChain is the largest certificate chain that is explained, in bytes.
const maxChain = 256 << 10

func (a *adminAPI) serveExplain(w http.ResponseWriter, r *http.Request) error {
	if err := allow(w, r, http.MethodPost); err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(r.Body, maxChain))
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf("reading the certificate: %w", err)}
	}
	certs, err := parseChain("the request", data)
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	app, err := caddy.ActiveContext().AppIfConfigured("http")
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: errors.New("the running config has no device_profile")}
	}
	verdicts := explainAll(r.Context(), handlersOf(app.(*caddyhttp.App)), certs, r.URL.Query().Get("path"))
	return writeJSON(w, http.StatusOK, verdicts)
}

func (a *adminAPI) serveSites(w http.ResponseWriter, r *http.Request) error {
	if err := allow(w, r, http.MethodGet); err != nil {
		return err
	}
	statuses := []sitecert.Status{}
	for _, site := range runningSites() {
		statuses = append(statuses, site.Status())
	}
	return writeJSON(w, http.StatusOK, statuses)
}

func (a *adminAPI) serveSite(w http.ResponseWriter, r *http.Request) error {
	site, err := requestedSite(w, r, http.MethodGet)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, site.Status())
}

func (a *adminAPI) serveCSR(w http.ResponseWriter, r *http.Request) error {
	site, err := requestedSite(w, r, http.MethodGet)
	if err != nil {
		return err
	}
	return writeCSR(w, site.CSR())
}

func (a *adminAPI) serveRenewal(w http.ResponseWriter, r *http.Request) error {
	site, err := requestedSite(w, r, http.MethodPost)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), storageTimeout)
	defer cancel()
	csr, err := site.Renew(ctx)
	if err != nil {
		return err
	}
	a.logger.Info("renewal prepared", zap.String("site", site.FQDN()))
	return writeCSR(w, csr)
}

func (a *adminAPI) serveCertificate(w http.ResponseWriter, r *http.Request) error {
	site, err := requestedSite(w, r, http.MethodPut)
	if err != nil {
		return err
	}
	upload, err := io.ReadAll(io.LimitReader(r.Body, sitecert.MaxUpload+1))
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf("reading the upload: %w", err)}
	}
	ctx, cancel := context.WithTimeout(r.Context(), storageTimeout)
	defer cancel()
	status, err := site.Install(ctx, upload)
	if refusal, ok := errors.AsType[*sitecert.Refusal](err); ok {
		a.logger.Warn("certificate refused", zap.String("site", site.FQDN()), zap.String("reason", string(refusal.Reason)), zap.String("detail", refusal.Detail))
		return writeJSON(w, refusalStatus(refusal), map[string]string{"error": refusal.Detail, "reason": string(refusal.Reason)})
	}
	if err != nil {
		return err
	}
	a.logger.Info("certificate installed", zap.String("site", site.FQDN()), zap.String("issuer", status.Issuer), zap.Time("not_after", status.NotAfter))
	return writeJSON(w, http.StatusOK, status)
}

func refusalStatus(refusal *sitecert.Refusal) int {
	if refusal.Reason == sitecert.ReasonTooLarge {
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusUnprocessableEntity
}

// runningSites returns the sites of the running config, by name. It asks for the
// running config each time: after a reload that failed, this API still belongs to
// the config that did not come to run.
func runningSites() []*sitecert.Site {
	app, err := caddy.ActiveContext().AppIfConfigured("tls")
	if err != nil {
		return nil
	}
	automation := app.(*caddytls.TLS).Automation
	if automation == nil {
		return nil
	}
	sites := make(map[string]*sitecert.Site)
	for _, policy := range automation.Policies {
		for _, manager := range policy.Managers {
			if c, ok := manager.(*CSR); ok {
				sites[c.site.FQDN()] = c.site
			}
		}
	}
	var sorted []*sitecert.Site
	for _, name := range sortedKeys(sites) {
		sorted = append(sorted, sites[name])
	}
	return sorted
}

// requestedSite returns the site that the request's path names.
func requestedSite(w http.ResponseWriter, r *http.Request, method string) (*sitecert.Site, error) {
	if err := allow(w, r, method); err != nil {
		return nil, err
	}
	name, sites := r.PathValue("fqdn"), runningSites()
	at := slices.IndexFunc(sites, func(s *sitecert.Site) bool { return s.FQDN() == asciiName(name) })
	if at < 0 {
		return nil, caddy.APIError{HTTPStatus: http.StatusNotFound, Err: fmt.Errorf("no site of the running config has get_certificate csr %q", name)}
	}
	return sites[at], nil
}

func allow(w http.ResponseWriter, r *http.Request, method string) error {
	if r.Method == method || method == http.MethodGet && r.Method == http.MethodHead {
		return nil
	}
	w.Header().Set("Allow", method)
	return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: fmt.Errorf("method %s is not allowed here, only %s", r.Method, method)}
}

func writeJSON(w http.ResponseWriter, status int, value any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	return json.NewEncoder(w).Encode(value)
}

func writeCSR(w http.ResponseWriter, csr string) error {
	w.Header().Set("Content-Type", "application/pkcs10") // RFC 5967
	_, err := io.Copy(w, strings.NewReader(csr))
	return err
}

// Interface guards.
var (
	_ caddy.Provisioner = (*adminAPI)(nil)
	_ caddy.AdminRouter = (*adminAPI)(nil)
)
