package profilesrc_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/device-profile/caddy-device-profile/profilesrc"
)

// rawTFTP is a TFTP server of which a test writes every packet.
type rawTFTP struct {
	t       testing.TB
	conn    *net.UDPConn
	answer  func(*rawPeer)
	mu      sync.Mutex
	closed  bool
	peers   []*net.UDPConn
	running sync.WaitGroup
}

// rawPeer is the server's end of one transfer, on a port of its own.
type rawPeer struct {
	conn    *net.UDPConn
	client  netip.AddrPort
	request []byte // as it came
	nth     int    // the requests count from 1
}

// serveRawTFTP calls answer for each request until t ends, and returns the
// server's address. Requests that the client repeats are ignored.
func serveRawTFTP(t testing.TB, answer func(*rawPeer)) string {
	t.Helper()
	s := &rawTFTP{t: t, conn: listenUDP(t, "127.0.0.1"), answer: answer}
	s.running.Go(s.serve)
	t.Cleanup(func() {
		s.conn.Close()
		s.mu.Lock()
		s.closed = true
		for _, conn := range s.peers {
			conn.Close()
		}
		s.mu.Unlock()
		s.running.Wait()
	})
	return s.conn.LocalAddr().String()
}

func listenUDP(t testing.TB, ip string) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(ip)})
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func (s *rawTFTP) serve() {
	seen := make(map[netip.AddrPort]bool)
	buffer := make([]byte, 2048)
	for {
		n, client, err := s.conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return // closed
		}
		if seen[client] {
			continue
		}
		seen[client] = true
		peer := &rawPeer{client: client, request: bytes.Clone(buffer[:n]), nth: len(seen)}
		peer.conn = listenUDP(s.t, "127.0.0.1")
		s.mu.Lock()
		if s.closed {
			peer.conn.Close()
		}
		s.peers = append(s.peers, peer.conn)
		s.mu.Unlock()
		s.running.Go(func() { s.answer(peer) })
	}
}

// hasOptions tells if the client asked with options.
func (p *rawPeer) hasOptions() bool { return bytes.Contains(p.request, []byte("tsize")) }

func (p *rawPeer) send(packet []byte) {
	_, _ = p.conn.WriteToUDPAddrPort(packet, p.client) // may be closed
}

// receive returns the client's next packet, or nil if none comes for a while.
func (p *rawPeer) receive(wait time.Duration) []byte {
	buffer := make([]byte, 2048)
	_ = p.conn.SetReadDeadline(time.Now().Add(wait)) // fails if closed, as reading then does
	n, _, err := p.conn.ReadFromUDPAddrPort(buffer)
	if err != nil {
		return nil
	}
	return buffer[:n]
}

// exchange sends a packet, again if need be, until the client acknowledges the
// block.
func (p *rawPeer) exchange(packet []byte, block int, send func([]byte)) bool {
	for range 100 {
		send(packet)
		for {
			answer := p.receive(20 * time.Millisecond)
			if answer == nil {
				break
			}
			if answer[1] == 5 {
				return false // the client has enough
			}
			if binary.BigEndian.Uint16(answer[2:]) == uint16(block) {
				return true
			}
		}
	}
	return false
}

// deliver sends data in blocks, each by way of send.
func (p *rawPeer) deliver(data []byte, blockSize int, send func([]byte)) {
	for block := 1; ; block++ {
		n := min(blockSize, len(data))
		if !p.exchange(dataPacket(block, data[:n]), block, send) || n < blockSize {
			return
		}
		data = data[n:]
	}
}

// acknowledge sends an OACK and waits until the client agrees.
func (p *rawPeer) acknowledge(options ...string) bool {
	return p.exchange(oackPacket(options...), 0, p.send)
}

func dataPacket(block int, data []byte) []byte {
	return append([]byte{0, 3, byte(block >> 8), byte(block)}, data...)
}

func errorPacket(code int, message string) []byte {
	return append([]byte{0, 5, byte(code >> 8), byte(code)}, message+"\x00"...)
}

// oackPacket acknowledges options, given as names and values in turn.
func oackPacket(options ...string) []byte {
	return append([]byte{0, 6}, strings.Join(options, "\x00")+"\x00"...)
}

// rawConfig is for tests that wait for silence.
func rawConfig(address string) profilesrc.TFTPConfig {
	return profilesrc.TFTPConfig{Address: address, Timeout: 50 * time.Millisecond, Retries: 9, Deadline: 2 * time.Second, MaxSize: 4 << 20}
}

// openAll opens a profile and reads it to its end.
func openAll(t testing.TB, source profilesrc.Source, name string) ([]byte, error) {
	t.Helper()
	n, err := profilesrc.NewName(name)
	if err != nil {
		t.Fatal(err)
	}
	profile, err := source.Open(t.Context(), profilesrc.Request{Name: n})
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(profile.Body)
	if profile.Size != -1 && err == nil && profile.Size != int64(len(data)) {
		err = fmt.Errorf("%d bytes where size is %d", len(data), profile.Size)
	}
	return data, errors.Join(err, profile.Body.Close())
}
