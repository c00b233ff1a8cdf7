package profilesrc_test

import (
	"bytes"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"
)

// TestTFTPLossyNetwork loses every tenth packet, both ways, and delivers others
// twice, late or in the wrong order.
func TestTFTPLossyNetwork(t *testing.T) {
	profile := noise(64 << 10)
	for name, network := range map[string]func(p *rawPeer) func([]byte){
		"lost": func(p *rawPeer) func([]byte) {
			random := rand.New(rand.NewPCG(1, 2))
			return func(packet []byte) {
				if random.IntN(10) != 0 {
					p.send(packet)
				}
				if random.IntN(10) == 0 {
					p.receive(20 * time.Millisecond) // and forget the acknowledgement
				}
			}
		},
		"doubled": func(p *rawPeer) func([]byte) {
			return func(packet []byte) {
				p.send(packet)
				p.send(packet)
			}
		},
		"late": func(p *rawPeer) func([]byte) {
			previous := []byte{0, 4, 0, 0}
			return func(packet []byte) {
				p.send(packet)
				p.send(previous)
				previous = packet
			}
		},
		"out of order": func(p *rawPeer) func([]byte) {
			return func(packet []byte) {
				block := int(packet[2])<<8 | int(packet[3])
				p.send(dataPacket(block+1, []byte("the block after the next")))
				p.send(packet)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			address := serveRawTFTP(t, func(p *rawPeer) {
				send := network(p)
				if p.hasOptions() && !p.exchange(oackPacket("blksize", "1428", "tsize", strconv.Itoa(len(profile))), 0, p.send) {
					return
				}
				p.deliver(profile, 1428, send)
			})
			cfg := rawConfig(address)
			cfg.Retries, cfg.Deadline = 20, time.Minute
			got, err := openAll(t, newTFTP(t, cfg), "a.cfg")
			if err != nil || !bytes.Equal(got, profile) {
				t.Errorf("got %d bytes, %v, want %d", len(got), err, len(profile))
			}
		})
	}
}

// What comes from another port or address than the server's is not the profile.
func TestTFTPStrangers(t *testing.T) {
	profile := noise(5000)
	for name, ip := range map[string]string{"another port": "127.0.0.1", "another address": "127.0.0.2"} {
		t.Run(name, func(t *testing.T) {
			address := serveRawTFTP(t, func(p *rawPeer) {
				stranger := listenUDP(t, ip)
				defer stranger.Close()
				forge := func(packet []byte) { _, _ = stranger.WriteToUDPAddrPort(packet, p.client) }
				if ip != "127.0.0.1" { // the first answer tells the server's port
					forge(errorPacket(1, "forged"))
					forge(dataPacket(1, []byte("forged")))
				}
				p.exchange(dataPacket(1, profile[:512]), 1, p.send)
				forge([]byte("garbage"))
				forge(errorPacket(1, "forged"))
				p.exchange(dataPacket(2, profile[512:1024]), 2, func(packet []byte) {
					forge(dataPacket(2, []byte("forged")))
					p.send(packet)
				})
				for block := 3; block*512-512 < len(profile); block++ {
					p.exchange(dataPacket(block, profile[block*512-512:min(block*512, len(profile))]), block, p.send)
				}
			})
			got, err := openAll(t, newTFTP(t, rawConfig(address)), "a.cfg")
			if err != nil || !bytes.Equal(got, profile) {
				t.Errorf("got %d bytes, %v, want %d", len(got), err, len(profile))
			}
		})
	}
}
