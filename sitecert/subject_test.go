package sitecert

import (
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCSR(t *testing.T) {
	c := config(newMemory())
	c.KeySize = 2048
	c.Subject = Subject{
		FQDN: "PROV.Example.com", Names: []string{"prov2.example.com", "192.0.2.7", "prov.example.com"},
		Organization: "Müller, Söhne & Co. / Telekom", OrganizationalUnit: "VoIP=1", Locality: "San José", Province: "California", Country: "us", Email: "noc@example.com",
	}
	csr := parseCSR(t, open(t, c).CSR())
	if csr.SignatureAlgorithm.String() != "SHA256-RSA" || csr.PublicKey.(interface{ Size() int }).Size() != 256 {
		t.Errorf("got %s with a key of %d bytes", csr.SignatureAlgorithm, csr.PublicKey.(interface{ Size() int }).Size())
	}
	if diff := cmp.Diff([]string{"prov.example.com", "prov2.example.com"}, csr.DNSNames); diff != "" {
		t.Errorf("names:\n%s", diff)
	}
	if len(csr.IPAddresses) != 1 || !csr.IPAddresses[0].Equal(net.IPv4(192, 0, 2, 7)) {
		t.Errorf("got addresses %v", csr.IPAddresses)
	}
	got := make(map[string]string)
	for _, attribute := range csr.Subject.Names {
		got[attribute.Type.String()] = attribute.Value.(string)
	}
	want := map[string]string{
		"2.5.4.3": "prov.example.com", "2.5.4.10": "Müller, Söhne & Co. / Telekom", "2.5.4.11": "VoIP=1", "2.5.4.7": "San José",
		"2.5.4.8": "California", "2.5.4.6": "US", "1.2.840.113549.1.9.1": "noc@example.com",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("subject:\n%s", diff)
	}
}

func TestBadConfig(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(c *Config)
		want   string
	}{
		"no FQDN":        {func(c *Config) { c.FQDN = "" }, `FQDN ""`},
		"short name":     {func(c *Config) { c.FQDN = "prov" }, `"prov"`},
		"wildcard":       {func(c *Config) { c.FQDN = "*.example.com" }, "wildcard"},
		"address":        {func(c *Config) { c.FQDN = "192.0.2.1" }, "192.0.2.1"},
		"path":           {func(c *Config) { c.FQDN = "../example.com" }, "host name"},
		"long":           {func(c *Config) { c.FQDN = strings.Repeat("a.", 40) + "example.com" }, "common name"},
		"bad name":       {func(c *Config) { c.Names = []string{"a b.example.com"} }, "a b.example.com"},
		"country":        {func(c *Config) { c.Country = "USA" }, `country "USA"`},
		"email":          {func(c *Config) { c.Email = "NOC <noc@example.com>" }, "email"},
		"email, umlaut":  {func(c *Config) { c.Email = "nöc@example.com" }, "email"},
		"line break":     {func(c *Config) { c.Organization = "a\nb" }, "organization"},
		"too long":       {func(c *Config) { c.Organization = strings.Repeat("ä", 65) }, "64 characters"},
		"bad UTF-8":      {func(c *Config) { c.Locality = "\xff" }, "locality"},
		"small key":      {func(c *Config) { c.KeySize = 512 }, "512"},
		"large key":      {func(c *Config) { c.KeySize = 8192 }, "8192"},
		"negative renew": {func(c *Config) { c.RenewBefore = -1 }, "negative"},
	} {
		t.Run(name, func(t *testing.T) {
			storage := newMemory()
			c := config(storage)
			tt.change(&c)
			_, err := Open(t.Context(), c)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
			if len(storage.data) > 0 {
				t.Error("something was stored")
			}
		})
	}
}
