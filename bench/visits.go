package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// atOnce is how many phones are playing at a time: enough to keep a server busy,
// so that what it costs to wait for work is not counted as work.
const atOnce = 8

// kind is a kind of visit.
type kind struct {
	name, title string
	host        string
	version     uint16
	ciphers     []uint16
	path        string // of the profile, if it is not the phone's own
	// fresh phones come for the first time; resumed ones have a session from
	// an earlier visit; others keep their connection.
	fresh, resumed bool
	share          float64 // of the command line's visits
	legacy         bool
	tftp           bool
	rows           int // of the inventory, if the server has one
}

var gcm = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}

// kinds are all kinds of visits, in the table's order.
var kinds = []kind{
	{name: "tls12", title: "first contact, TLS 1.2", fresh: true, version: tls.VersionTLS12, ciphers: gcm, share: 1},
	{name: "tls13", title: "first contact, TLS 1.3", fresh: true, version: tls.VersionTLS13, share: 1},
	{name: "tls10", title: "first contact, TLS 1.0, RSA key exchange", fresh: true, version: tls.VersionTLS10, ciphers: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}, share: 1, legacy: true},
	{name: "resumed", title: "returning phone, TLS 1.2", resumed: true, version: tls.VersionTLS12, ciphers: gcm, share: 1},
	{name: "keepalive", title: "keep-alive", version: tls.VersionTLS12, ciphers: gcm, share: 10},
	{name: "firmware", title: "keep-alive, firmware of 10 MB", version: tls.VersionTLS12, ciphers: gcm, path: "/firmware/10M.bin", share: 0.1},
	{name: "http", title: "keep-alive, HTTP back end", host: httpSite, version: tls.VersionTLS12, ciphers: gcm, share: 5},
	{name: "http-cached", title: "keep-alive, HTTP back end, cached", host: cachedHTTP, version: tls.VersionTLS12, ciphers: gcm, share: 10},
	{name: "tftp", title: "keep-alive, TFTP back end", host: tftpSite, version: tls.VersionTLS12, ciphers: gcm, share: 2, tftp: true},
	{name: "tftp-cached", title: "keep-alive, TFTP back end, cached", host: cachedTFTP, version: tls.VersionTLS12, ciphers: gcm, share: 10, tftp: true},
	{name: "inventory-10k", title: "keep-alive, inventory of 10,000", version: tls.VersionTLS12, ciphers: gcm, share: 10, rows: 10_000},
	{name: "inventory-100k", title: "keep-alive, inventory of 100,000", version: tls.VersionTLS12, ciphers: gcm, share: 10, rows: 100_000},
	{name: "inventory-1M", title: "keep-alive, inventory of 1,000,000", version: tls.VersionTLS12, ciphers: gcm, share: 10, rows: 1_000_000},
}

func kindNames() (names []string) {
	for _, k := range kinds {
		names = append(names, k.name)
	}
	return names
}

// plain are visits of modern phones for profiles in files, without an inventory.
func plain(k *kind) bool { return !k.legacy && k.host == "" && k.rows == 0 }

// count returns how many visits of the kind there are in a round.
func (k *kind) count(visits int) int { return max(atOnce, int(float64(visits)*k.share)) }

// connection is a phone's connection to a server.
type connection struct {
	*tls.Conn
	reader *bufio.Reader
	phone  *phone
}

// connect makes the handshake as a phone does, with the session of an earlier
// visit if there is one. Whom it talks to is not checked: that is the phone's
// cost, not the server's.
func connect(address string, k *kind, p *phone, sessions tls.ClientSessionCache) (*connection, error) {
	conn, err := net.DialTimeout("tcp", address, 30*time.Second)
	if err != nil {
		return nil, err
	}
	// Nothing takes longer, not even in a storm.
	if err := conn.SetDeadline(time.Now().Add(5 * time.Minute)); err != nil {
		return nil, err
	}
	host := k.host
	if host == "" {
		host = site
	}
	c := tls.Client(conn, &tls.Config{
		ServerName:         host,
		InsecureSkipVerify: true,
		MinVersion:         k.version,
		MaxVersion:         k.version,
		CipherSuites:       k.ciphers,
		CurvePreferences:   []tls.CurveID{tls.X25519, tls.CurveP256}, // what phones know
		ClientSessionCache: sessions,
		// Sent whatever CAs the server names.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &p.certificate, nil },
	})
	if err := c.Handshake(); err != nil {
		conn.Close()
		return nil, err
	}
	return &connection{Conn: c, reader: bufio.NewReader(c), phone: p}, nil
}

// get asks for a path, and returns status and content.
func (c *connection) get(path string, last bool) (int, []byte, error) {
	resp, err := c.request(path, last)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, data, err
}

func (c *connection) request(path string, last bool) (*http.Response, error) {
	after := "keep-alive"
	if last {
		after = "close"
	}
	_, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: Bench/1.0 (%s)\r\nConnection: %s\r\n\r\n", path, c.host(), c.phone.mac, after)
	if err != nil {
		return nil, err
	}
	return http.ReadResponse(c.reader, nil)
}

func (c *connection) host() string { return c.ConnectionState().ServerName }

// visit gets what the phone should get, and nothing else.
func (c *connection) visit(k *kind, last bool) error {
	if k.path != "" {
		return c.download(k.path, firmwareSize)
	}
	status, data, err := c.get("/"+c.phone.mac+".cfg", last)
	if err != nil {
		return err
	}
	if status != http.StatusOK || !bytes.Equal(data, c.phone.profile) {
		return fmt.Errorf("phone %s got %d with %d bytes, not its profile", c.phone.mac, status, len(data))
	}
	return nil
}

func (c *connection) download(path string, size int64) error {
	resp, err := c.request(path, false)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || n != size) {
		err = fmt.Errorf("%s: got %d with %d bytes", path, resp.StatusCode, n)
	}
	return err
}

// visitOnce is a visit with a connection of its own.
func visitOnce(address string, k *kind, p *phone, sessions tls.ClientSessionCache) (resumed bool, err error) {
	c, err := connect(address, k, p, sessions)
	if err != nil {
		return false, err
	}
	defer c.Close()
	return c.ConnectionState().DidResume, c.visit(k, true)
}

// inParallel calls play for each number below n, some at a time.
func inParallel(n, at int, play func(i int) error) error {
	errs := make([]error, n)
	next := make(chan int)
	var all sync.WaitGroup
	for range min(n, at) {
		all.Go(func() {
			for i := range next {
				errs[i] = play(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	all.Wait()
	return errors.Join(errs...)
}
