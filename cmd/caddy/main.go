// Command caddy is Caddy's standard distribution with device_profile built in.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/device-profile/caddy-device-profile"
)

func main() { caddycmd.Main() }
