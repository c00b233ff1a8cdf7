package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/device-profile/caddy-device-profile/internal/lab"
)

// peer is a server that phones are played against.
type peer struct {
	*process
	name, title string
	ours        bool
	address     string
	admin       string
	pprof       bool // at its admin address
	can         func(*kind) bool
	rows        int // of its inventory, 0 without one
	command     func(*peer, *strings.Replacer) (*exec.Cmd, error)
}

// serverNames are what the servers are called on the command line. Others have
// flags of their own.
var serverNames = []string{"ours", "caddy", "nginx", "apache"}

// candidates are all servers that can be measured.
func (o *options) candidates() []*peer {
	all := func(*kind) bool { return true }
	peers := []*peer{
		{name: "ours", title: "device_profile", ours: true, pprof: true, can: all, command: o.ownCaddy(ourConfig)},
		{name: "caddy", title: "stock Caddy", pprof: true, can: func(k *kind) bool { return plain(k) || k.host == httpSite }, command: o.ownCaddy(stockConfig)},
		{name: "nginx", title: "nginx", can: func(k *kind) bool { return !k.tftp && k.rows == 0 }, command: o.nginx},
		{name: "apache", title: "Apache", can: func(k *kind) bool { return plain(k) || k.legacy }, command: o.apache},
	}
	peers = slices.DeleteFunc(peers, func(p *peer) bool { return !wanted(o.only, p.name) })
	if o.fast != "" {
		fast := &peer{name: "fast", title: "device_profile, fast build", ours: true, pprof: true, can: all, command: o.fastCaddy}
		place := slices.IndexFunc(peers, func(p *peer) bool { return p.ours }) + 1
		peers = slices.Insert(peers, place, fast)
	}
	if o.floors {
		peers = append(peers,
			&peer{name: "floor", title: "least in Caddy", pprof: true, can: ownProfile, command: o.ownCaddy(floorConfig)},
			&peer{name: "nethttp", title: "least in net/http", pprof: true, can: ownProfile, command: o.goFloor})
	}
	return peers
}

// startPeers starts our server and all others that are installed. Those that
// run are returned even with an error.
func (o *options) startPeers(f *fleet, back *backEnds) ([]*peer, error) {
	var peers []*peer
	for _, p := range o.candidates() {
		phones, err := f.phones(2)
		if err != nil {
			return peers, err
		}
		err = o.start(f, back, p, phones)
		if errors.Is(err, exec.ErrNotFound) {
			fmt.Fprintf(os.Stderr, "%s is not installed\n", p.title)
			continue
		}
		if p.process != nil {
			peers = append(peers, p)
		}
		if err != nil {
			return peers, fmt.Errorf("%s: %w", p.title, err)
		}
	}
	if len(peers) == 0 {
		return nil, errors.New("none of the servers is installed")
	}
	return peers, nil
}

// start starts a server, and checks it with two phones.
func (o *options) start(f *fleet, back *backEnds, p *peer, phones []*phone) error {
	port, err := lab.FreePort()
	if err != nil {
		return err
	}
	admin, err := lab.FreePort()
	if err != nil {
		return err
	}
	p.address, p.admin = net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), net.JoinHostPort("127.0.0.1", strconv.Itoa(admin))
	level := "INFO"
	if o.quiet {
		level = "ERROR"
	}
	inventory := ""
	if p.rows > 0 {
		inventory = fmt.Sprintf("devices %q", filepath.Join(f.dir, inventoryFile(p.rows)))
	}
	cmd, err := p.command(p, strings.NewReplacer("DIR", f.dir, "NAME", p.name, "VERBOSITY", level, "PORT", strconv.Itoa(port),
		"ADMIN", strconv.Itoa(admin), "HTTP", back.http, "TFTP", back.tftp, "INVENTORY", inventory))
	if err != nil {
		return err
	}
	if p.process, err = startProcess(cmd, filepath.Join(f.dir, p.name+".out"), p.address); err != nil {
		return err
	}
	return p.check(phones)
}

// check holds that the server gives a phone its own profile and not another's:
// one that doesn't is not comparable.
func (p *peer) check(phones []*phone) error {
	k := &kinds[0]
	c, err := connect(p.address, k, phones[0], nil)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.visit(k, false); err != nil {
		return err
	}
	status, _, err := c.get("/"+phones[1].mac+".cfg", true)
	if err == nil && status != http.StatusForbidden {
		err = fmt.Errorf("a phone that asked for another's profile got %d, not 403", status)
	}
	return err
}

func (o *options) caddy(program, name, config string, r *strings.Replacer) (*exec.Cmd, error) {
	file := filepath.Join(o.dir, name+".caddyfile")
	if err := os.WriteFile(file, []byte(r.Replace(config)), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(program, "run", "--config", file, "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), asCaddy+"=yes", "HOME="+o.dir, "XDG_CONFIG_HOME="+o.dir, "XDG_DATA_HOME="+o.dir)
	return cmd, nil
}

// ownCaddy starts this program as caddy: all that do are built alike.
func (o *options) ownCaddy(config string) func(*peer, *strings.Replacer) (*exec.Cmd, error) {
	return func(p *peer, r *strings.Replacer) (*exec.Cmd, error) {
		program, err := os.Executable()
		if err != nil {
			return nil, err
		}
		return o.caddy(program, p.name, config, r)
	}
}

func (o *options) fastCaddy(p *peer, r *strings.Replacer) (*exec.Cmd, error) {
	return o.caddy(o.fast, p.name, ourConfig, r)
}

// ownProfile are the visits that the floors can answer.
func ownProfile(k *kind) bool { return plain(k) && k.path == "" }

func (o *options) goFloor(p *peer, _ *strings.Replacer) (*exec.Cmd, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, p.address, p.admin, o.dir)
	cmd.Env = append(os.Environ(), asFloor+"=yes")
	return cmd, nil
}

func (o *options) nginx(_ *peer, r *strings.Replacer) (*exec.Cmd, error) {
	program, err := find("nginx")
	if err != nil {
		return nil, err
	}
	config := r.Replace(nginxConfig)
	if o.quiet {
		config = strings.Replace(config, "access_log "+o.dir+"/nginx.visits visit;", "access_log off;", 1)
	}
	file := filepath.Join(o.dir, "nginx.conf")
	err = errors.Join(os.Mkdir(filepath.Join(o.dir, "nginx-temp"), 0o755), os.WriteFile(file, []byte(config), 0o600))
	return exec.Command(program, "-p", o.dir, "-e", filepath.Join(o.dir, "nginx.log"), "-c", file), err
}

func (o *options) apache(_ *peer, r *strings.Replacer) (*exec.Cmd, error) {
	program, err := find("apache2", "httpd")
	if err != nil {
		return nil, err
	}
	modules, err := apacheModules()
	if err != nil {
		return nil, err
	}
	config := strings.ReplaceAll(r.Replace(apacheConfig), "MODULES", modules)
	if o.quiet {
		config = strings.Replace(config, "CustomLog", "#CustomLog", 1)
	}
	file := filepath.Join(o.dir, "apache.conf")
	return exec.Command(program, "-D", "FOREGROUND", "-f", file), os.WriteFile(file, []byte(config), 0o600)
}

// apacheModules returns the folder where distributions put Apache's modules.
func apacheModules() (string, error) {
	for _, dir := range []string{"/usr/lib/apache2/modules", "/usr/lib64/httpd/modules", "/usr/lib/httpd/modules"} {
		if _, err := os.Stat(filepath.Join(dir, "mod_ssl.so")); err == nil {
			return dir, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return "", fmt.Errorf("mod_ssl of Apache: %w", exec.ErrNotFound)
}

// find looks for a program, also where only root has its path.
func find(names ...string) (string, error) {
	for _, name := range names {
		for _, file := range []string{name, "/usr/sbin/" + name} {
			if path, err := exec.LookPath(file); err == nil {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("%s: %w", names[0], exec.ErrNotFound)
}
