// Package lab makes a throw-away place to try device_profile in: device CAs of
// several makers, phones old and new with their certificates, profiles, and a
// site certificate. Nothing in it is for production.
package lab

import (
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/device-profile/caddy-device-profile/deviceauth/deviceauthtest"
)

// The host names of the lab's two sites. Phones know the first one alone.
const (
	Site  = "prov.example.com"
	Other = "www.example.com"
)

// MACs of the lab's phones.
const (
	CiscoMAC   = "000e08aabbcc"
	PolycomMAC = "0004f2aabbcc"
	YealinkMAC = "805ec0aabbcc"
)

// Lab is the material that is in the folder.
type Lab struct {
	Dir string

	// The device CAs. PolycomIssuing is two levels below Polycom.
	Cisco, Polycom, PolycomIssuing, Yealink *deviceauthtest.Identity

	// Phones that are genuine, and fit for the lab's config.
	SPA525, VVX, T54 *deviceauthtest.Identity
	// Generic is genuine, but in many phones alike.
	Generic *deviceauthtest.Identity
	// Expired is genuine, but has ended.
	Expired *deviceauthtest.Identity
	// Forged says the same as SPA525; its issuer only has the right name.
	Forged *deviceauthtest.Identity

	// SiteCA signs the sites' certificates, and is what phones trust.
	SiteCA *deviceauthtest.Identity
}

// marker is the file by which a lab's folder is known.
const marker = "this-folder-is-a-lab"

// claim refuses a folder with anything else in it than an earlier lab.
func (l *Lab) claim() error {
	entries, err := os.ReadDir(l.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(entries) > 0 {
		if _, err := os.Stat(l.Path(marker)); err != nil {
			return fmt.Errorf("%s is not empty, and no earlier lab", l.Dir)
		}
	}
	return l.Write(marker, []byte("Made anew by each demonstration: keep nothing here.\n"))
}

// Create fills a folder with a lab. The folder is made if need be; what an
// earlier lab left there is replaced.
func Create(dir string) (*Lab, error) {
	l := &Lab{Dir: dir}
	steps := []func() error{l.claim, l.makeCAs, l.makePhones, l.makeSites, l.writeProfiles}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, fmt.Errorf("making the lab: %w", err)
		}
	}
	return l, nil
}

// makeCAs makes the device CAs, each with the weaknesses of its time.
func (l *Lab) makeCAs() (err error) {
	old := []deviceauthtest.Option{deviceauthtest.RSA(1024), deviceauthtest.Hash(crypto.SHA1)}
	if l.Cisco, err = deviceauthtest.NewRoot(CiscoRootName, old...); err != nil {
		return err
	}
	if l.Polycom, err = deviceauthtest.NewRoot(caName("Polycom Inc.", "Polycom Root CA")); err != nil {
		return err
	}
	policy, err := l.Polycom.NewCA(caName("Polycom Inc.", "Polycom Policy CA"))
	if err != nil {
		return err
	}
	if l.PolycomIssuing, err = policy.NewCA(caName("Polycom Inc.", "Polycom Equipment Issuing CA 1")); err != nil {
		return err
	}
	if l.Yealink, err = deviceauthtest.NewRoot(caName("Yealink", "Yealink Root CA"), deviceauthtest.ECDSA(elliptic.P384())); err != nil {
		return err
	}
	revoked, err := l.Yealink.CRL(deviceauthtest.Updates(time.Now(), time.Now().AddDate(10, 0, 0)))
	if err != nil {
		return err
	}
	return errors.Join(
		l.Write("device-ca/yealink.crl", deviceauthtest.CRLPEM(revoked)),
		l.Write("device-ca/cisco-client-root.pem", deviceauthtest.PEM(l.Cisco.Cert)),
		l.Write("device-ca/polycom/root.pem", deviceauthtest.PEM(l.Polycom.Cert)),
		l.Write("device-ca/yealink/root.pem", deviceauthtest.PEM(l.Yealink.Cert)),
	)
}

// makePhones makes the phones' certificates, as their makers would.
func (l *Lab) makePhones() (err error) {
	old := []deviceauthtest.Option{deviceauthtest.RSA(1024), deviceauthtest.Hash(crypto.SHA1)}
	if l.SPA525, err = l.Cisco.Issue(CiscoName(CiscoMAC, "SPA-525G2", "CBT153908BX"), old...); err != nil {
		return err
	}
	if l.VVX, err = l.PolycomIssuing.Issue(pkix.Name{Organization: []string{"Polycom Inc."}, CommonName: PolycomMAC}); err != nil {
		return err
	}
	yealink := func(mac string) pkix.Name {
		return pkix.Name{Country: []string{"CN"}, Organization: []string{"Yealink"}, CommonName: mac}
	}
	if l.T54, err = l.Yealink.Issue(yealink(YealinkMAC)); err != nil {
		return err
	}
	ended := deviceauthtest.Valid(time.Now().AddDate(-10, 0, 0), time.Now().AddDate(0, -1, 0))
	if l.Expired, err = l.Yealink.Issue(yealink(YealinkMAC), ended); err != nil {
		return err
	}
	generic := pkix.Name{OrganizationalUnit: []string{"cisco.com"}, Locality: []string{"ciscogeneric"}, Province: []string{"ciscogeneric"}, CommonName: "SPA525G2"}
	if l.Generic, err = l.Cisco.Issue(generic, old...); err != nil {
		return err
	}
	impostor, err := deviceauthtest.NewRoot(CiscoRootName, old...)
	if err != nil {
		return err
	}
	if l.Forged, err = impostor.Issue(CiscoName(CiscoMAC, "SPA-525G2", "CBT153908BX"), old...); err != nil {
		return err
	}
	return errors.Join(
		l.WriteIdentity("phones/spa525g2", l.SPA525),
		l.WriteIdentity("phones/vvx", l.VVX),
		l.WriteIdentity("phones/t54", l.T54),
		l.WriteIdentity("phones/expired", l.Expired),
		l.WriteIdentity("phones/generic", l.Generic),
		l.WriteIdentity("phones/forged", l.Forged),
	)
}

// makeSites makes the sites' certificates. Old phones want RSA.
func (l *Lab) makeSites() (err error) {
	if l.SiteCA, err = deviceauthtest.NewRoot(caName("Example Phone Maker", "Provisioning Site CA")); err != nil {
		return err
	}
	for _, name := range []string{Site, Other} {
		site, err := l.SiteCA.Issue(pkix.Name{CommonName: name}, deviceauthtest.Template(func(c *x509.Certificate) {
			c.DNSNames = []string{name}
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
			c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
			c.NotAfter = time.Now().AddDate(1, 0, 0)
		}))
		if err != nil {
			return err
		}
		if err := l.WriteIdentity("site/"+name, site); err != nil {
			return err
		}
	}
	return l.Write("site/ca.pem", deviceauthtest.PEM(l.SiteCA.Cert))
}

func (l *Lab) writeProfiles() error {
	profile := func(what string) []byte {
		return fmt.Appendf(nil, "<?xml version=\"1.0\"?>\n<profile for=%q>\n  <sip-password>only-for-%s</sip-password>\n</profile>\n", what, what)
	}
	return errors.Join(
		l.Write("profiles/cisco_spa/"+CiscoMAC+".xml", profile(CiscoMAC)),
		l.Write("profiles/cisco_spa/000e08ddeeff.xml", profile("000e08ddeeff")),
		l.Write("profiles/polycom/"+PolycomMAC+".cfg", profile(PolycomMAC)),
		l.Write("profiles/polycom/000000000000.cfg", profile("all")),
		l.Write("profiles/yealink/"+YealinkMAC+".cfg", []byte("#!version:1.0.0.1\naccount.1.password = only-for-"+YealinkMAC+"\n")),
		l.Write("profiles/bootstrap/525G2.xml", profile("525G2")),
		l.Write("profiles/firmware/spa525g2-7.6.2.bin", make([]byte, 64<<10)),
		l.Write("devices.csv", fmt.Appendf(nil, "mac,vendor,tenant\n%s,cisco_spa,acme\n%s,polycom,acme\n%s,yealink,umbrella\n", CiscoMAC, PolycomMAC, YealinkMAC)),
	)
}

// CiscoRootName is the name of the lab's Cisco root.
var CiscoRootName = pkix.Name{
	Country: []string{"US"}, Organization: []string{"Cisco Systems, Inc."}, CommonName: "Cisco Small Business Client Root",
}

var oidEmail = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}

// CiscoName is the subject of a Cisco Small Business phone as seen in the field.
func CiscoName(mac, model, serial string) pkix.Name {
	upper := strings.ToUpper(mac)
	return pkix.Name{
		Country:            []string{"US"},
		Province:           []string{upper},
		Locality:           []string{serial},
		Organization:       []string{"Cisco Systems, Inc."},
		OrganizationalUnit: []string{"cisco.com"},
		CommonName:         fmt.Sprintf("%s, MAC: %s, Serial: %s", model, upper, serial),
		ExtraNames:         []pkix.AttributeTypeAndValue{{Type: oidEmail, Value: "linksys-certadmin@cisco.com"}},
	}
}

func caName(organization, name string) pkix.Name {
	return pkix.Name{Organization: []string{organization}, CommonName: name}
}

// Path returns the path of a file in the lab.
func (l *Lab) Path(name string) string { return filepath.Join(l.Dir, filepath.FromSlash(name)) }

// WriteIdentity writes a certificate, with its issuers, and its key to
// name.pem and name.key.
func (l *Lab) WriteIdentity(name string, id *deviceauthtest.Identity) error {
	key, err := id.KeyPEM()
	if err != nil {
		return err
	}
	return errors.Join(
		l.Write(name+".pem", deviceauthtest.PEM(id.Certificates()...)),
		l.Write(name+".key", key),
	)
}

// Write writes a file into the lab.
func (l *Lab) Write(name string, data []byte) error {
	file := l.Path(name)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o600)
}
