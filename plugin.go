// Package plugin adds device_profile to Caddy: import it for its side effects,
// or name this module in an xcaddy build. The modules themselves are in
// package caddymodule.
package plugin

import _ "github.com/device-profile/caddy-device-profile/caddymodule"
