package lab

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/device-profile/caddy-device-profile/deviceauth/deviceauthtest"
)

// Visitor is somebody who asks the lab's server for something.
type Visitor struct {
	Who  string
	Path string
	// Host is the site asked for, in the request and, unless NoServerName is
	// set, in the handshake. Default: Site.
	Host         string
	NoServerName bool
	// Certificates is what the visitor sends; it proves the first one's key.
	// Default: none.
	Certificates []*deviceauthtest.Identity
	// Legacy makes the visitor speak TLS 1.0 with RSA key exchange and nothing
	// better.
	Legacy bool
	// MaxVersion is the best TLS version that the visitor speaks.
	// Default: TLS 1.3.
	MaxVersion uint16

	// WantStatus and WantReason are what should come back. Status 0 means that
	// the handshake fails.
	WantStatus int
	WantReason string
}

// Visitors returns who visits in the demonstration.
func (l *Lab) Visitors() []Visitor {
	cisco, vvx, t54 := "/"+CiscoMAC+".xml", "/"+PolycomMAC+".cfg", "/"+YealinkMAC+".cfg"
	spa := func(who, path string, status int, reason string) Visitor {
		return Visitor{Who: who, Path: path, Certificates: sends(l.SPA525), Legacy: true, NoServerName: true, WantStatus: status, WantReason: reason}
	}
	return []Visitor{
		{Who: "Yealink T54W", Path: t54, Certificates: sends(l.T54), WantStatus: 200},
		spa("Cisco SPA525G2 of 2008", cisco, 200, ""),
		spa("the same, for the first time", "/spa525G2.cfg", 200, ""),
		spa("the same, for firmware", "/firmware/spa525g2-7.6.2.bin", 200, ""),
		{Who: "Polycom VVX, three-level CA", Path: vvx, Certificates: sends(l.VVX), MaxVersion: tls.VersionTLS12, WantStatus: 200},
		{Who: "the same, common file", Path: "/000000000000.cfg", Certificates: sends(l.VVX), MaxVersion: tls.VersionTLS12, WantStatus: 200},
		spa("SPA525G2, another's profile", "/000e08ddeeff.xml", 403, "path_not_allowed"),
		spa("SPA525G2, through firmware", "/firmware/../cisco_spa/000e08ddeeff.xml", 403, "path_not_allowed"),
		{Who: "Yealink T54W, Polycom's file", Path: vvx, Certificates: sends(l.T54), WantStatus: 403, WantReason: "path_not_allowed"},
		{Who: "forged, same names", Path: cisco, Certificates: sends(l.Forged), WantStatus: 403, WantReason: "untrusted"},
		{Who: "forged, true one appended", Path: cisco, Certificates: sends(l.Forged, l.SPA525), WantStatus: 403, WantReason: "untrusted"},
		{Who: "generic certificate", Path: cisco, Certificates: sends(l.Generic), WantStatus: 403, WantReason: "generic_certificate"},
		{Who: "expired certificate", Path: t54, Certificates: sends(l.Expired), WantStatus: 403, WantReason: "expired"},
		{Who: "no certificate", Path: cisco, WantStatus: 403, WantReason: "no_certificate"},
		{Who: "browser, other site", Path: "/", Host: Other, WantStatus: 200},
		{Who: "TLS 1.0, other site", Path: "/", Host: Other, Legacy: true, WantStatus: 0},
		{Who: "no server name, other site", Path: "/", Host: Other, NoServerName: true, WantStatus: 421},
	}
}

func sends(ids ...*deviceauthtest.Identity) []*deviceauthtest.Identity { return ids }

// Answer is what came back.
type Answer struct {
	Status     int
	Reason     string
	Bytes      int
	Connection string
	Err        error
}

// What says what came back, in a few words.
func (a Answer) What() string {
	if a.Status == 0 {
		return "no connection"
	}
	if a.Status == http.StatusOK {
		return fmt.Sprintf("%d, %d bytes", a.Status, a.Bytes)
	}
	return fmt.Sprint(a.Status)
}

// Why says why it was refused, in a word.
func (a Answer) Why() string {
	switch {
	case a.Status == 0:
		return "handshake failed"
	case a.Status == http.StatusMisdirectedRequest:
		return "misdirected"
	}
	return a.Reason
}

// Visit plays the visitor against the server on a loopback port.
func (v Visitor) Visit(l *Lab, port int) Answer {
	host := v.Host
	if host == "" {
		host = Site
	}
	transport := &http.Transport{
		// Its own dialing would always send a server name.
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			dialer := tls.Dialer{Config: v.tlsConfig(l, host)}
			return dialer.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		},
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
	req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("https://%s:%d/", host, port), nil)
	if err != nil {
		return Answer{Err: err}
	}
	req.URL.Opaque = v.Path // as it is, dots and all
	resp, err := client.Do(req)
	if err != nil {
		return Answer{Err: err, Connection: "-"}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	a := Answer{Status: resp.StatusCode, Bytes: len(body), Err: err, Connection: describe(resp.TLS)}
	if resp.StatusCode >= 400 {
		a.Reason = string(body)
	}
	return a
}

func (v Visitor) tlsConfig(l *Lab, host string) *tls.Config {
	cfg := &tls.Config{
		ServerName: host,
		RootCAs:    x509.NewCertPool(),
		MaxVersion: v.MaxVersion,
		// Sent whatever the server asks for: intruders do.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return v.certificate(), nil },
	}
	cfg.RootCAs.AddCert(l.SiteCA.Cert)
	if v.NoServerName {
		// Without a name to send, Go can't verify the server by itself.
		cfg.ServerName, cfg.InsecureSkipVerify = "", true
		cfg.VerifyConnection = func(state tls.ConnectionState) error {
			_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: cfg.RootCAs, DNSName: Site})
			return err
		}
	}
	if v.Legacy {
		cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS10, tls.VersionTLS10
		cfg.CipherSuites = []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}
	}
	return cfg
}

// certificate is the first identity's, with all the others' behind it.
func (v Visitor) certificate() *tls.Certificate {
	if len(v.Certificates) == 0 {
		return new(tls.Certificate)
	}
	cert := v.Certificates[0].TLS()
	for _, id := range v.Certificates[1:] {
		cert.Certificate = append(cert.Certificate, id.Cert.Raw)
	}
	return &cert
}

func describe(state *tls.ConnectionState) string {
	version := strings.TrimPrefix(tls.VersionName(state.Version), "TLS ")
	return fmt.Sprintf("%s %s", version, strings.TrimPrefix(tls.CipherSuiteName(state.CipherSuite), "TLS_"))
}
