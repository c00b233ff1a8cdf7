package main

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	dt "github.com/device-profile/caddy-device-profile/deviceauth/deviceauthtest"
)

// site is the host name of the servers. The others are those of sites whose
// profiles are not files: behind HTTP and TFTP, asked each time or remembered.
const (
	site       = "prov.example.com"
	httpSite   = "http.example.com"
	cachedHTTP = "cached-http.example.com"
	tftpSite   = "tftp.example.com"
	cachedTFTP = "cached-tftp.example.com"
)

const (
	profileSize  = 8 << 10  // of a phone, in bytes
	firmwareSize = 10 << 20 // in bytes
)

// fleet makes phones: certificates of one device CA, and a profile for each.
type fleet struct {
	dir    string
	device *dt.Identity // the device CA
	key    *dt.Identity // whose key all phones share; their certificates differ
	filler []byte       // what profiles consist of
	made   int
}

// phone is a phone and what it should get.
type phone struct {
	mac         string
	certificate tls.Certificate
	profile     []byte
}

func newFleet(dir string) (*fleet, error) {
	f := &fleet{dir: dir}
	var err error
	if f.device, err = dt.NewRoot(pkix.Name{Organization: []string{"Bench Phones"}, CommonName: "Bench Device CA"}); err != nil {
		return nil, err
	}
	if f.key, err = f.device.Issue(pkix.Name{CommonName: "key of all phones"}); err != nil {
		return nil, err
	}
	siteCA, err := dt.NewRoot(pkix.Name{CommonName: "Bench Site CA"})
	if err != nil {
		return nil, err
	}
	server, err := siteCA.Issue(pkix.Name{CommonName: site}, dt.Template(func(c *x509.Certificate) {
		c.DNSNames = []string{site, httpSite, cachedHTTP, tftpSite, cachedTFTP}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}))
	if err != nil {
		return nil, err
	}
	key, err := server.KeyPEM()
	if err != nil {
		return nil, err
	}
	random := make([]byte, profileSize/2)
	rand.Read(random) //nolint:errcheck // never fails
	f.filler = fmt.Appendf(nil, "%x", random)
	firmware := bytes.Repeat(f.filler, firmwareSize/len(f.filler))
	return f, errors.Join(
		f.write("device-ca.pem", dt.PEM(f.device.Cert)),
		f.write("site.pem", dt.PEM(server.Cert)),
		f.write("site.key", key),
		f.write("profiles/firmware/10M.bin", firmware))
}

func (f *fleet) write(name string, data []byte) error {
	file := filepath.Join(f.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o644)
}

// inventory writes an inventory of so many devices. The first phones are among
// them, those that keep their connections too.
func (f *fleet) inventory(rows int) error {
	var b bytes.Buffer
	b.WriteString("mac,state,profile,tenant\n")
	for i := range rows {
		fmt.Fprintf(&b, "%s,active,/%s.cfg,tenant-%d\n", fleetMAC(i), fleetMAC(i), i%1000)
	}
	return f.write(inventoryFile(rows), b.Bytes())
}

func inventoryFile(rows int) string { return fmt.Sprintf("devices-%d.csv", rows) }

func fleetMAC(i int) string { return fmt.Sprintf("0004f2%06x", i) }

// phones makes n phones that no server has seen.
func (f *fleet) phones(n int) ([]*phone, error) {
	phones := make([]*phone, n)
	errs := make([]error, n)
	var all sync.WaitGroup
	gate := make(chan struct{}, runtime.NumCPU())
	for i := range phones {
		mac := fleetMAC(f.made + i)
		all.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			phones[i], errs[i] = f.phone(mac)
		})
	}
	all.Wait()
	f.made += n
	return phones, errors.Join(errs...)
}

func (f *fleet) phone(mac string) (*phone, error) {
	id, err := f.device.Issue(pkix.Name{CommonName: mac}, dt.Key(f.key.Key))
	if err != nil {
		return nil, err
	}
	p := &phone{mac: mac, certificate: id.TLS()}
	p.profile = append(fmt.Appendf(nil, "<profile mac=%q>\n", mac), f.filler...)
	return p, f.write("profiles/"+mac+".cfg", p.profile)
}
