// Command bench measures what a phone's visit costs a server: in this plugin, in
// stock Caddy and in the other servers that it finds installed, each set up to
// tell phones apart by their certificates and to give each its own profile.
//
//	go run ./bench [-rounds 7] [-visits 300] [-only ours,nginx] [-json file] [-svg file]
//	go run ./bench -storm 20000
//
// It makes a fleet with certificates and profiles in a temporary folder, starts the
// servers as processes of their own, and plays phones against each in turn,
// several rounds of it. What it prints is the CPU time of the server's processes
// (user and system, from /proc) for each visit: medians of the rounds. Times of
// day differ from machine to machine and from minute to minute; the ratios of
// one run are what counts. It needs Linux.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/device-profile/caddy-device-profile"
)

// asCaddy makes this program be the caddy program.
const asCaddy = "DEVICE_PROFILE_BENCH_AS_CADDY"

// options are the command line.
type options struct {
	rounds, visits, storm  int
	only, kinds            string
	fast                   string
	jsonFile, svgFile, dir string
	profiles               string
	quiet, floors          bool
}

func main() {
	if os.Getenv(asCaddy) != "" {
		caddycmd.Main()
		return
	}
	if os.Getenv(asFloor) != "" {
		fmt.Fprintln(os.Stderr, serveFloor(os.Args[1], os.Args[2], os.Args[3]))
		os.Exit(1)
	}
	var o options
	flag.IntVar(&o.rounds, "rounds", 7, "how often each server is measured")
	flag.IntVar(&o.visits, "visits", 300, "visits in a round, for each server and kind")
	flag.IntVar(&o.storm, "storm", 0, "rather let this many phones come at once, and measure until all are served")
	flag.StringVar(&o.only, "only", "", "the servers to measure, of "+strings.Join(serverNames, ",")+"; all that are there by default")
	flag.StringVar(&o.kinds, "kinds", "", "the kinds of visits to measure, of "+strings.Join(kindNames(), ",")+"; all by default")
	flag.StringVar(&o.fast, "fast", "", "measure, too, a caddy `program` with this plugin that was built in another way")
	flag.StringVar(&o.jsonFile, "json", "", "write the figures to this `file`")
	flag.StringVar(&o.svgFile, "svg", "", "draw them into this `file`")
	flag.StringVar(&o.profiles, "pprof", "", "take a CPU profile of each kind of visit to each server in Go, into this `folder`")
	flag.BoolVar(&o.quiet, "quiet", false, "let no server log its visits; by default all do")
	flag.BoolVar(&o.floors, "floors", false, "measure, too, the least that Go's net/http and Caddy take for a visit")
	flag.Parse()
	if err := o.check(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		flag.Usage()
		os.Exit(2)
	}
	if err := o.run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// check refuses what makes no sense, rather than measure something else.
func (o *options) check() error {
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	if o.rounds < 1 || o.visits < 1 || o.storm < 0 {
		return errors.New("-rounds, -visits and -storm are above zero")
	}
	if o.storm > 0 && (o.kinds != "" || o.jsonFile != "" || o.svgFile != "" || o.profiles != "") {
		return errors.New("-storm goes without -kinds, -json, -svg and -pprof")
	}
	return errors.Join(known("-only", o.only, serverNames), known("-kinds", o.kinds, kindNames()))
}

// known returns an error if a list on the command line names what there is not.
func known(option, list string, names []string) error {
	if list == "" {
		return nil
	}
	for one := range strings.SplitSeq(list, ",") {
		if !slices.Contains(names, strings.TrimSpace(one)) {
			return fmt.Errorf("%s: there is no %q; there are %s", option, one, strings.Join(names, ", "))
		}
	}
	return nil
}

func (o *options) run() (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if o.dir, err = os.MkdirTemp("", "device-profile-bench"); err != nil {
		return err
	}
	defer os.RemoveAll(o.dir)
	// The workers of other servers run as users of their own.
	if err := os.Chmod(o.dir, 0o755); err != nil { //nolint:gosec // nothing in there is secret
		return err
	}
	f, err := newFleet(o.dir)
	if err != nil {
		return fmt.Errorf("making the fleet: %w", err)
	}
	back, err := startBackEnds(f)
	if err != nil {
		return err
	}
	defer back.stop()
	peers, err := o.startPeers(f, back)
	defer func() {
		for _, p := range peers {
			err = errors.Join(err, p.stop())
		}
	}()
	if err != nil {
		return err
	}
	if o.storm > 0 {
		return runStorm(ctx, f, peers, o.storm)
	}
	results, err := o.measure(ctx, f, back, peers)
	if err != nil {
		return err
	}
	if o.profiles != "" {
		if err := o.takeProfiles(f, peers); err != nil {
			return err
		}
	}
	return o.report(results)
}

// wanted reports whether a list on the command line names it, or nothing.
func wanted(list, name string) bool {
	if list == "" {
		return true
	}
	for one := range strings.SplitSeq(list, ",") {
		if strings.TrimSpace(one) == name {
			return true
		}
	}
	return false
}

func (o *options) report(results *results) error {
	results.markdown(os.Stdout)
	if o.jsonFile != "" {
		if err := writeFile(o.jsonFile, results.json); err != nil {
			return err
		}
	}
	if o.svgFile != "" {
		return writeFile(o.svgFile, results.svg)
	}
	return nil
}
