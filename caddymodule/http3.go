package caddymodule

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"slices"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

const protocolHTTP3 = "h3"

// errQUIC returns why this program can't speak QUIC, or nil. Built with Go's
// boringcrypto experiment it can't: quic-go encrypts its address tokens with
// [cipher.NewGCMWithRandomNonce], which takes no other AES than Go's own, so
// every connection would break off after its handshake.
func errQUIC() error {
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		return err
	}
	_, err = cipher.NewGCMWithRandomNonce(block)
	return err
}

// dropHTTP3 takes HTTP/3 off the server's protocols, for the reason why, so that
// clients aren't told of what would fail. Phones don't miss it.
func dropHTTP3(srv *caddyhttp.Server, why error, logger *zap.Logger) error {
	lists := append([][]string{srv.Protocols}, srv.ListenProtocols...)
	dropped := false
	for i, protocols := range lists {
		if !slices.Contains(protocols, protocolHTTP3) {
			continue
		}
		dropped = true
		if lists[i] = slices.DeleteFunc(slices.Clone(protocols), isHTTP3); len(lists[i]) == 0 {
			return fmt.Errorf("protocols %s: this build of Caddy has no HTTP/3: %w", protocolHTTP3, why)
		}
	}
	if !dropped {
		return nil
	}
	srv.Protocols = lists[0]
	if srv.ListenProtocols != nil {
		srv.ListenProtocols = lists[1:]
	}
	logger.Warn("this build of Caddy has no HTTP/3: it is turned off for the server", zap.Strings("listen", srv.Listen), zap.Error(why))
	return nil
}

func isHTTP3(protocol string) bool { return protocol == protocolHTTP3 }
