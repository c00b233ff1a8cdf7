package caddymodule

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/spf13/cobra"

	"github.com/device-profile/caddy-device-profile/deviceauth"
)

func newInspectCommand() *cobra.Command {
	var config, adapter, path string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect <cert.pem> [--config <file> [--adapter <name>]] [--path <request path>]",
		Short: "Says what a phone with this certificate would get, and why",
		Long: `
Reads a phone's certificate, with any issuers that the phone sends behind it, and
says what is in it and what each known vendor's identity rule makes of it.

With --config, it also says what every device_profile in that config decides: the
answer of each trust, the phone's identity, what is weak about it, and with --path
rule by rule which gives the path and why not, the profile, what each source says,
and what log and metrics would. The config is loaded but not run; profiles are
looked for where it says, not in the cache.

With --config, it exits with 0 only if one of them serves the phone, or, without
--path, accepts its certificate.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cmd.SilenceUsage = true
			if asJSON && config == "" {
				return errors.New("--json needs --config, whose verdict it prints")
			}
			return inspect(cmd.OutOrStdout(), args[0], config, adapter, path, asJSON)
		},
	}
	cmd.Flags().StringVarP(&config, "config", "c", "", "Config to judge by")
	cmd.Flags().StringVarP(&adapter, "adapter", "a", "", "Name of the config's adapter")
	cmd.Flags().StringVar(&path, "path", "", "Request path to judge, as the phone sends it")
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print the verdicts as JSON")
	return cmd
}

func inspect(out io.Writer, file, config, adapter, path string, asJSON bool) error {
	certs, err := readChain(file)
	if err != nil {
		return err
	}
	if path != "" && config == "" {
		return errors.New("--path needs --config, whose rules it is compared with")
	}
	if config == "" {
		printCertificate(out, certs)
		printPresets(out, certs[0])
		return nil
	}
	handlers, err := loadHandlers(config, adapter)
	if err != nil {
		return err
	}
	verdicts := explainAll(context.Background(), handlers, certs, path)
	if err := printVerdicts(out, certs, verdicts, asJSON); err != nil {
		return err
	}
	if !slices.ContainsFunc(verdicts, func(e explanation) bool { return e.refused == nil }) {
		return errors.New("the phone is refused")
	}
	return nil
}

func printVerdicts(out io.Writer, certs []*x509.Certificate, verdicts []explanation, asJSON bool) error {
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(verdicts)
	}
	printCertificate(out, certs)
	for i, e := range verdicts {
		fmt.Fprintf(out, "\ndevice_profile %d of %d, in server %s\n", i+1, len(verdicts), e.Server)
		e.print(out)
	}
	return nil
}

// placedHandler is a handler with the name of its server.
type placedHandler struct {
	*Handler
	server string
}

func explainAll(ctx context.Context, handlers []placedHandler, certs []*x509.Certificate, path string) []explanation {
	verdicts := make([]explanation, len(handlers))
	for i, h := range handlers {
		verdicts[i] = h.explain(ctx, certs, path)
		verdicts[i].Server = h.server
	}
	return verdicts
}

// readChain reads the certificates that a device sends, its own first.
func readChain(file string) ([]*x509.Certificate, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return parseChain(file, data)
}

// parseChain reads certificates in PEM, or else DER. name is where they are from.
func parseChain(name string, data []byte) ([]*x509.Certificate, error) {
	var err error
	var certs []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue // a key in the same file, say
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: certificate %d: %w", name, len(certs)+1, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		if certs, err = x509.ParseCertificates(data); err != nil || len(certs) == 0 {
			return nil, fmt.Errorf("%s: holds no certificate in PEM or DER", name)
		}
	}
	return certs, nil
}

// loadHandlers provisions a config, without running it, and returns the
// handlers in it, server by server.
func loadHandlers(file, adapter string) ([]placedHandler, error) {
	raw, _, _, err := caddycmd.LoadConfig(file, adapter)
	if err != nil {
		return nil, err
	}
	var cfg *caddy.Config
	if err := json.Unmarshal(raw, &cfg); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	// The sites' own certificates don't matter here, and must not be managed.
	delete(cfg.AppsRaw, "tls")
	cfg.Logging = &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{Level: "ERROR"}}}}
	ctx, err := caddy.ProvisionContext(cfg)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	app, err := ctx.App("http")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	handlers := handlersOf(app.(*caddyhttp.App))
	if len(handlers) == 0 {
		return nil, fmt.Errorf("%s: has no device_profile", file)
	}
	return handlers, nil
}

// handlersOf returns the handlers of all servers.
func handlersOf(app *caddyhttp.App) []placedHandler {
	var handlers []placedHandler
	for _, name := range sortedKeys(app.Servers) {
		if guard := guardOf(app.Servers[name]); guard != nil {
			for _, h := range guard.handlers {
				handlers = append(handlers, placedHandler{h, name})
			}
		}
	}
	return handlers
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// fieldWriter prints aligned lines of a name and a value.
type fieldWriter struct{ *tabwriter.Writer }

func newFieldWriter(out io.Writer) fieldWriter {
	return fieldWriter{tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
}

// field prints a line, unless the value is empty.
func (w fieldWriter) field(name, value string) {
	if value != "" {
		fmt.Fprintf(w, "  %s\t%s\n", name, value)
	}
}

func printCertificate(out io.Writer, certs []*x509.Certificate) {
	cert := certs[0]
	w := newFieldWriter(out)
	defer w.Flush()
	fmt.Fprintln(w, "certificate")
	w.field("subject", cert.Subject.String())
	w.field("issuer", cert.Issuer.String())
	w.field("valid", cert.NotBefore.UTC().Format(time.DateOnly)+" to "+cert.NotAfter.UTC().Format(time.DateOnly))
	w.field("key", deviceauth.KeyString(cert))
	w.field("signature", cert.SignatureAlgorithm.String())
	for _, more := range certs[1:] {
		w.field("sent with it", fmt.Sprintf("%s, issued by %s", more.Subject, more.Issuer))
	}
}

// printPresets says what the known vendors' rules find in the certificate.
func printPresets(out io.Writer, cert *x509.Certificate) {
	w := newFieldWriter(out)
	defer w.Flush()
	fmt.Fprintln(w, "\nidentity by preset, if its CA vouched for this certificate")
	for _, name := range deviceauth.Presets() {
		preset, _ := deviceauth.Preset(name)
		device, err := preset.Read(cert)
		var refusal *deviceauth.Refusal
		if errors.As(err, &refusal) {
			w.field(name, "- ("+string(refusal.Reason)+")")
			continue
		}
		w.field(name, deviceString(device))
	}
}

func deviceString(d *deviceauth.Device) string {
	var parts []string
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, name+" "+value)
		}
	}
	if d.HasMAC {
		add("MAC", d.MAC.String())
	}
	add("model", d.Model)
	add("serial", d.Serial)
	return strings.Join(parts, ", ")
}

func (e explanation) print(out io.Writer) {
	w := newFieldWriter(out)
	defer w.Flush()
	for _, t := range e.Trusts {
		verdict := "accepts the certificate"
		if !t.Accepts {
			verdict = t.Reason + ": " + t.Detail
		}
		w.field("trust "+t.Vendor, verdict)
	}
	if d := e.Device; d != nil {
		w.field("vendor", d.Vendor)
		w.field("anchor", d.Anchor)
		w.field("MAC", d.MAC)
		w.field("model", d.Model)
		w.field("serial", d.Serial)
		w.field("fingerprint", d.Fingerprint)
		w.field("weak", strings.Join(d.Weak, ", "))
	}
	if r := e.Row; r != nil {
		w.field("inventory", r.State)
		w.field("inventory profile", r.Profile)
		w.field("inventory vendor", r.Vendor)
		for _, column := range sortedKeys(r.Attrs) {
			w.field("inventory "+column, r.Attrs[column])
		}
	}
	w.field("path", e.Path)
	for _, r := range e.Rules {
		verdict := "gives this path to this device"
		if !r.Matches {
			verdict = "no: " + r.Why
		}
		w.field("rule "+r.Serve, verdict)
	}
	w.field("profile", e.Profile)
	for _, s := range e.Sources {
		w.field("source "+s.Source, strings.TrimSuffix(s.Outcome+": "+s.Detail, ": "))
	}
	for _, metric := range e.Metrics {
		w.field("counts as", metric)
	}
	if e.Log != nil {
		record, _ := json.Marshal(e.Log) // made of strings and numbers
		w.field("logs", string(record))
	}
	switch {
	case e.refused != nil:
		w.field("verdict", fmt.Sprintf("refused, %d %s", e.Status, e.Reason))
		w.field("because", e.Detail)
	case e.Path == "":
		w.field("verdict", "verified; add --path to see what it would get")
	default:
		w.field("verdict", "served")
	}
}
