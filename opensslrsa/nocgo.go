//go:build !cgo

package opensslrsa

import (
	"errors"

	"github.com/device-profile/caddy-device-profile/caddymodule"
)

func init() {
	caddymodule.UseRSA(func() (*caddymodule.RSA, error) {
		return nil, errors.New("opensslrsa was built without cgo")
	})
}
