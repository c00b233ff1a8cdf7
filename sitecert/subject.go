package sitecert

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Subject is what a certificate is asked for. Fields that are empty are left
// out of the CSR.
type Subject struct {
	// FQDN is the site's host name: the common name and the first SAN.
	FQDN string `json:"fqdn"`
	// Names are further SANs: host names or IP addresses.
	Names []string `json:"names,omitempty"`

	Organization       string `json:"organization,omitempty"`
	OrganizationalUnit string `json:"organizational_unit,omitempty"`
	Locality           string `json:"locality,omitempty"`
	Province           string `json:"province,omitempty"`
	// Country is the two-letter code of ISO 3166.
	Country string `json:"country,omitempty"`
	// Email is the contact address. It stands in the subject, as emailAddress.
	Email string `json:"email,omitempty"`
}

// Upper bounds of RFC 5280, appendix A.1, in characters.
const (
	maxCommonName   = 64
	maxOrganization = 64
	maxLocality     = 128
	maxEmail        = 255
)

// normalize brings host names and country into the form in which they are
// compared, and refuses what no CA would sign.
func (s *Subject) normalize() error {
	name, err := hostName(s.FQDN)
	if err != nil {
		return fmt.Errorf("FQDN %q: %w", s.FQDN, err)
	}
	if len(name) > maxCommonName {
		return fmt.Errorf("FQDN %q: is longer than the %d characters of a common name", s.FQDN, maxCommonName)
	}
	s.FQDN = name
	names := make([]string, 0, len(s.Names))
	for _, given := range s.Names {
		n := given
		if net.ParseIP(given) == nil {
			if n, err = hostName(given); err != nil {
				return fmt.Errorf("name %q: %w", given, err)
			}
		}
		if n != s.FQDN && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	s.Names = names
	for _, field := range []struct {
		name, value string
		most        int
	}{
		{"organization", s.Organization, maxOrganization},
		{"organizational_unit", s.OrganizationalUnit, maxOrganization},
		{"locality", s.Locality, maxLocality},
		{"province", s.Province, maxLocality},
	} {
		if err := checkText(field.value, field.most); err != nil {
			return fmt.Errorf("%s %q: %w", field.name, field.value, err)
		}
	}
	s.Country = strings.ToUpper(s.Country)
	if s.Country != "" && !isCountry(s.Country) {
		return fmt.Errorf("country %q: is no two-letter code", s.Country)
	}
	return checkEmail(s.Email)
}

// hostName returns a host name in lower case and ASCII.
func hostName(name string) (string, error) {
	if strings.Contains(name, "*") {
		return "", errors.New("wildcards are not signed by phone vendors")
	}
	ascii, err := idna.Lookup.ToASCII(name)
	if err != nil {
		return "", errors.New("is no host name")
	}
	if !strings.Contains(ascii, ".") || net.ParseIP(ascii) != nil {
		return "", errors.New("is no fully qualified host name")
	}
	return strings.ToLower(ascii), nil
}

func checkText(value string, most int) error {
	if !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) {
		return errors.New("holds characters that can't be printed")
	}
	if utf8.RuneCountInString(value) > most {
		return fmt.Errorf("is longer than %d characters", most)
	}
	return nil
}

func isCountry(code string) bool {
	return len(code) == 2 && 'A' <= code[0] && code[0] <= 'Z' && 'A' <= code[1] && code[1] <= 'Z'
}

func checkEmail(email string) error {
	if email == "" {
		return nil
	}
	address, err := mail.ParseAddress(email)
	if err != nil || address.Address != email || len(email) > maxEmail || strings.ContainsFunc(email, func(r rune) bool { return r > unicode.MaxASCII }) {
		return fmt.Errorf("email %q: is no plain e-mail address", email)
	}
	return nil
}

// equal compares subjects; having no names is the same as having none yet.
func (s Subject) equal(other Subject) bool {
	names := slices.Equal(s.Names, other.Names)
	s.Names, other.Names = nil, nil
	return names && reflect.DeepEqual(s, other)
}

var oidEmailAddress = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1} // RFC 2985, section 5.2.1

// name returns the distinguished name.
func (s *Subject) name() pkix.Name {
	name := pkix.Name{CommonName: s.FQDN}
	for _, field := range []struct {
		to    *[]string
		value string
	}{
		{&name.Organization, s.Organization},
		{&name.OrganizationalUnit, s.OrganizationalUnit},
		{&name.Locality, s.Locality},
		{&name.Province, s.Province},
		{&name.Country, s.Country},
	} {
		if field.value != "" {
			*field.to = []string{field.value}
		}
	}
	if s.Email != "" {
		name.ExtraNames = []pkix.AttributeTypeAndValue{{
			Type:  oidEmailAddress,
			Value: asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte(s.Email)},
		}}
	}
	return name
}

// alternativeNames returns the SANs: the FQDN first.
func (s *Subject) alternativeNames() (dns []string, ips []net.IP) {
	dns = []string{s.FQDN}
	for _, name := range s.Names {
		if ip := net.ParseIP(name); ip != nil {
			ips = append(ips, ip)
			continue
		}
		dns = append(dns, name)
	}
	return dns, ips
}

// requestPEM makes the CSR, signed with SHA-256.
func (s *Subject) requestPEM(key *rsa.PrivateKey) (string, error) {
	dns, ips := s.alternativeNames()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:            s.name(),
		DNSNames:           dns,
		IPAddresses:        ips,
		SignatureAlgorithm: x509.SHA256WithRSA,
	}, key)
	if err != nil {
		return "", fmt.Errorf("making the CSR for %s: %w", s.FQDN, err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), nil
}
