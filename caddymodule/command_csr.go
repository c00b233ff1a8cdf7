package caddymodule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/device-profile/caddy-device-profile/sitecert"
)

// endpoint is the admin endpoint that a command talks to.
type endpoint struct{ address, config, adapter string }

func (e *endpoint) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&e.config, "config", "c", "", "Config file that names the admin address")
	cmd.Flags().StringVarP(&e.adapter, "adapter", "a", "", "Name of the config's adapter")
	cmd.Flags().StringVar(&e.address, "address", "", "Address of the admin endpoint, if not that of the config")
	cmd.SilenceUsage = true
}

// resolve finds out the address.
func (e *endpoint) resolve() (err error) {
	e.address, err = caddycmd.DetermineAdminAPIAddress(e.address, nil, e.config, e.adapter)
	return err
}

// ask sends a request to the admin endpoint and returns the answer's body.
func (e *endpoint) ask(method, path string, body io.Reader) ([]byte, error) {
	if err := e.resolve(); err != nil {
		return nil, err
	}
	resp, err := caddycmd.AdminAPIRequest(e.address, method, path, nil, body)
	if err != nil {
		return nil, adminError(err)
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

// adminError returns the sentence out of the JSON that an error of the admin
// endpoint quotes.
func adminError(err error) error {
	var answer struct{ Error string }
	_, quoted, _ := strings.Cut(err.Error(), ": {")
	if json.Unmarshal([]byte("{"+quoted), &answer) != nil || answer.Error == "" {
		return err
	}
	return errors.New(answer.Error)
}

// running reports whether there is something at the admin endpoint.
func (e *endpoint) running() bool {
	parsed, err := caddy.ParseNetworkAddress(e.address)
	if err != nil {
		return false
	}
	conn, err := net.DialTimeout(parsed.Network, parsed.JoinHostPort(0), time.Second)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

func sitePath(fqdn, what string) string {
	return sitesPath + "/" + url.PathEscape(fqdn) + "/" + what
}

func newCSRCommand() *cobra.Command {
	var e endpoint
	var renew bool
	cmd := &cobra.Command{
		Use:   "csr <fqdn>",
		Args:  cobra.ExactArgs(1),
		Short: "Prints the CSR of a site, for the phones' vendor to sign",
		Long: `
Prints the certificate request of a site with get_certificate csr, in PEM. If a
renewal is prepared, it is that of the renewal; --renew prepares one.

It asks the running server. If none runs, and --config names a config, it works on
that config's storage itself, making key and CSR if there are none yet. Run it as
the user that the server runs as then, who must be able to read the key.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			csr, err := e.csr(args[0], renew)
			if err == nil {
				_, err = cmd.OutOrStdout().Write(csr)
			}
			return err
		},
	}
	e.addFlags(cmd)
	cmd.Flags().BoolVar(&renew, "renew", false, "Prepare a renewal: another key and CSR beside the live ones")
	return cmd
}

func (e *endpoint) csr(fqdn string, renew bool) ([]byte, error) {
	if err := e.resolve(); err != nil {
		return nil, err
	}
	if e.config != "" && !e.running() {
		return offlineCSR(e.config, e.adapter, fqdn, renew)
	}
	if renew {
		return e.ask(http.MethodPost, sitePath(fqdn, "renewal"), nil)
	}
	return e.ask(http.MethodGet, sitePath(fqdn, "csr"), nil)
}

// offlineCSR works on the storage of a config that isn't running.
func offlineCSR(config, adapter, fqdn string, renew bool) ([]byte, error) {
	raw, _, _, err := caddycmd.LoadConfig(config, adapter)
	if err != nil {
		return nil, err
	}
	var cfg *caddy.Config
	if err := json.Unmarshal(raw, &cfg); err != nil {
		return nil, fmt.Errorf("%s: %w", config, err)
	}
	c, err := findCSR(cfg.AppsRaw["tls"], fqdn)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", config, err)
	}
	ctx, err := caddy.ProvisionContext(&caddy.Config{StorageRaw: cfg.StorageRaw})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", config, err)
	}
	if err := c.open(ctx); err != nil {
		return nil, err
	}
	if !renew {
		return []byte(c.site.CSR()), nil
	}
	csr, err := c.site.Renew(ctx)
	return []byte(csr), err
}

// findCSR returns the site's module in the JSON of the tls app.
func findCSR(tlsApp json.RawMessage, fqdn string) (*CSR, error) {
	var app struct {
		Automation struct {
			Policies []struct {
				Managers []json.RawMessage `json:"get_certificate"`
			}
		}
	}
	if tlsApp != nil {
		if err := json.Unmarshal(tlsApp, &app); err != nil {
			return nil, err
		}
	}
	for _, policy := range app.Automation.Policies {
		for _, raw := range policy.Managers {
			var manager struct {
				Via string
				CSR
			}
			if err := json.Unmarshal(raw, &manager); err == nil && manager.Via == "csr" && asciiName(manager.FQDN) == asciiName(fqdn) {
				return &manager.CSR, nil
			}
		}
	}
	return nil, fmt.Errorf("no site has get_certificate csr %s", fqdn)
}

func newInstallCommand() *cobra.Command {
	var e endpoint
	cmd := &cobra.Command{
		Use:   "install <fqdn> <file>",
		Args:  cobra.ExactArgs(2),
		Short: "Installs the certificate that the vendor signed for a site",
		Long: `
Sends a signed certificate, with its chain, to the running server, which checks it
and serves it from the next handshake on. The file may be PEM in any order, DER or
PKCS #7; "-" is standard input. If anything is wrong with it, nothing changes.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			upload, err := readUpload(cmd.InOrStdin(), args[1])
			if err != nil {
				return err
			}
			answer, err := e.ask(http.MethodPut, sitePath(args[0], "certificate"), bytes.NewReader(upload))
			if err != nil {
				return fmt.Errorf("%s: not installed: %w", args[1], err)
			}
			var status sitecert.Status
			if err := json.Unmarshal(answer, &status); err != nil {
				return fmt.Errorf("the server's answer: %w", err)
			}
			printStatus(cmd.OutOrStdout(), status)
			return nil
		},
	}
	e.addFlags(cmd)
	return cmd
}

// readUpload reads a file, up to a byte more than the server takes.
func readUpload(stdin io.Reader, name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(io.LimitReader(stdin, sitecert.MaxUpload+1))
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, sitecert.MaxUpload+1))
}

func printStatus(out io.Writer, status sitecert.Status) {
	w := newFieldWriter(out)
	defer w.Flush()
	fmt.Fprintf(w, "%s: %s\n", status.FQDN, status.State)
	w.field("subject", status.Subject)
	w.field("issuer", status.Issuer)
	w.field("names", strings.Join(status.Names, ", "))
	w.field("valid", status.NotBefore.Format(time.DateOnly)+" to "+status.NotAfter.Format(time.DateOnly))
	w.field("key", fmt.Sprintf("RSA %d", status.KeySize))
	w.field("signature", status.Signature)
	for _, subject := range status.Chain {
		w.field("chain", subject)
	}
	w.field("note", status.Note)
}

func newSitesCommand() *cobra.Command {
	var e endpoint
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "sites",
		Args:  cobra.ExactArgs(0),
		Short: "Lists the sites whose certificate a phones' vendor signs",
		Long: `
Lists the sites of the running server with get_certificate csr, and where the
certificate of each stands.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			answer, err := e.ask(http.MethodGet, sitesPath, nil)
			if err != nil {
				return err
			}
			if asJSON {
				_, err = cmd.OutOrStdout().Write(answer)
				return err
			}
			var statuses []sitecert.Status
			if err := json.Unmarshal(answer, &statuses); err != nil {
				return fmt.Errorf("the server's answer: %w", err)
			}
			return printSites(cmd.OutOrStdout(), statuses)
		},
	}
	e.addFlags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print what the admin API answers")
	return cmd
}

func printSites(out io.Writer, statuses []sitecert.Status) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SITE\tSTATE\tEND\tISSUER\tRENEWAL")
	for _, status := range statuses {
		end, issuer, renewal := "-", "-", "-"
		if status.State != sitecert.StateAwaiting {
			end, issuer = status.NotAfter.Format(time.DateOnly), status.Issuer
		}
		if status.Renewal != nil {
			renewal = "CSR of " + status.Renewal.Created.Format(time.DateOnly)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", status.FQDN, status.State, end, issuer, renewal)
	}
	return w.Flush()
}
