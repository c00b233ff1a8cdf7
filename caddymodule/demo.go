package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/spf13/cobra"

	"github.com/device-profile/caddy-device-profile/internal/lab"
)

func newDemoCommand() *cobra.Command {
	var dir string
	var serve bool
	cmd := &cobra.Command{
		Use:   "demo [--dir <folder>] [--serve]",
		Short: "Plays phones and intruders against a server in a throw-away lab",
		Long: `
Makes a lab of device CAs, phones' certificates, profiles and a site
certificate, runs the server on it on a free loopback port, plays phones old and
new and a few intruders against it, and prints what each asked for, what came
back, and why. It exits with 0 only if all of it came out right.

With --dir, the lab is made in that folder and stays there, with the Caddyfile
that was used. With --serve, the server goes on running until it is interrupted,
and lines to try with curl and openssl are printed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SilenceUsage = true
			return runDemo(cmd.OutOrStdout(), dir, serve)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "Make the lab in this folder, and keep it")
	cmd.Flags().BoolVar(&serve, "serve", false, "Go on serving, and print lines to try")
	return cmd
}

func runDemo(out io.Writer, dir string, serve bool) error {
	if dir == "" {
		temporary, err := os.MkdirTemp("", "device-demo-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(temporary)
		dir = temporary
	}
	l, err := lab.Create(dir)
	if err != nil {
		return err
	}
	port, err := startLab(l)
	if err != nil {
		return fmt.Errorf("starting the server: %w", err)
	}
	defer caddy.Stop() //nolint:errcheck // the process ends

	wrong := play(out, l, port)
	if serve {
		printHints(out, l, port)
		interrupted, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		<-interrupted.Done()
	}
	if wrong > 0 {
		return fmt.Errorf("%d visits came out wrong", wrong)
	}
	return nil
}

// startLab runs the server on the lab's Caddyfile and returns its port.
func startLab(l *lab.Lab) (port int, err error) {
	if port, err = lab.FreePort(); err != nil {
		return 0, err
	}
	caddyfile := l.Caddyfile(port)
	if err := os.WriteFile(l.Path("Caddyfile"), caddyfile, 0o600); err != nil {
		return 0, err
	}
	config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt(caddyfile, map[string]any{"filename": l.Path("Caddyfile")})
	if err != nil {
		return 0, err
	}
	if len(warnings) > 0 {
		return 0, errors.New(warnings[0].String())
	}
	return port, caddy.Load(config, true)
}

// play lets all of the lab's visitors visit, and prints a table of it. It
// returns how many of them got something else than they should.
func play(out io.Writer, l *lab.Lab, port int) (wrong int) {
	fmt.Fprintf(out, "https://%s:%d, lab in %s\n\n", lab.Site, port, l.Dir)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "WHO\tCONNECTION\tASKED FOR\tGOT\tWHY\t")
	for _, visitor := range l.Visitors() {
		got := visitor.Visit(l, port)
		mark := ""
		if got.Status != visitor.WantStatus || got.Reason != visitor.WantReason {
			mark = fmt.Sprintf("WRONG: expected %d %s %v", visitor.WantStatus, visitor.WantReason, got.Err)
			wrong++
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", visitor.Who, got.Connection, visitor.Path, got.What(), got.Why(), mark)
	}
	table.Flush() //nolint:errcheck // a terminal
	if wrong == 0 {
		fmt.Fprintln(out, "\nAll came out right: every genuine phone got its own profile, nobody else got anything.")
	}
	return wrong
}

// printHints prints lines for a shell.
func printHints(out io.Writer, l *lab.Lab, port int) {
	dir := "'" + strings.ReplaceAll(l.Dir, "'", `'\''`) + "'"
	fmt.Fprintf(out, `
The server goes on; Ctrl+C ends it. Its log: %[1]s/caddy.log

A phone fetches its profile, and then another phone's:
  curl --resolve %[2]s:%[3]d:127.0.0.1 --cacert %[1]s/site/ca.pem --cert %[1]s/phones/vvx.pem --key %[1]s/phones/vvx.key https://%[2]s:%[3]d/%[4]s.cfg
  curl --resolve %[2]s:%[3]d:127.0.0.1 --cacert %[1]s/site/ca.pem --cert %[1]s/phones/vvx.pem --key %[1]s/phones/vvx.key https://%[2]s:%[3]d/%[5]s.cfg

A phone of 2008 connects (TLS 1.0, RSA key exchange, no server name):
  printf 'GET /%[6]s.xml HTTP/1.1\r\nHost: %[2]s\r\nConnection: close\r\n\r\n' | openssl s_client -quiet -connect 127.0.0.1:%[3]d -noservername -tls1 -cipher 'AES128-SHA:@SECLEVEL=0' -cert %[1]s/phones/spa525g2.pem -key %[1]s/phones/spa525g2.key -CAfile %[1]s/site/ca.pem

Why would it get something, or not?
  caddy device inspect %[1]s/phones/generic.pem --config %[1]s/Caddyfile --path /%[6]s.xml
`, dir, lab.Site, port, lab.PolycomMAC, lab.YealinkMAC, lab.CiscoMAC)
}
