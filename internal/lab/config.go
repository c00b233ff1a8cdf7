package lab

import (
	"fmt"
	"net"
	"strings"
	"sync"
)

// given are the ports that FreePort has returned.
var given sync.Map

// FreePort returns a loopback port that was free a moment ago, and never the same
// twice: servers that share a port would take each other's connections, as Caddy
// lets them.
func FreePort() (int, error) {
	for {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		port := ln.Addr().(*net.TCPAddr).Port
		if err := ln.Close(); err != nil {
			return 0, err
		}
		if _, again := given.LoadOrStore(port, true); !again {
			return port, nil
		}
	}
}

// Caddyfile returns the config that the lab's server runs with. Its error page
// tells the reason of a refusal, which a server on the internet rather keeps to
// its log.
func (l *Lab) Caddyfile(port int) []byte {
	const text = `{
	admin off
	persist_config off
	auto_https disable_redirects
	skip_install_trust
	storage file_system "LAB/storage"
	log {
		output file "LAB/caddy.log"
	}
}

prov.example.com:PORT {
	bind 127.0.0.1
	tls "LAB/site/prov.example.com.pem" "LAB/site/prov.example.com.key"
	device_profile {
		trust cisco_spa "LAB/device-ca/cisco-client-root.pem" {
			weakest_signature sha1
			weakest_rsa 1024
		}
		trust polycom "LAB/device-ca/polycom"
		trust yealink "LAB/device-ca/yealink/*.pem"
		serve /{device.mac}.xml /{device.vendor}/{device.mac}.xml
		serve /{device.mac}.cfg /{device.vendor}/{device.mac}.cfg
		serve /000000000000.cfg /polycom/000000000000.cfg {
			vendor polycom
		}
		serve /spa{device.model}.cfg /bootstrap/{device.model}.xml
		serve /firmware/*
		source files "LAB/profiles"
		legacy_tls
	}
	handle_errors {
		respond "{device.reason}"
	}
}

www.example.com:PORT {
	bind 127.0.0.1
	tls "LAB/site/www.example.com.pem" "LAB/site/www.example.com.key"
	respond "the other site"
}
`
	replacer := strings.NewReplacer("LAB", l.Dir, "PORT", fmt.Sprint(port))
	return []byte(replacer.Replace(text))
}
