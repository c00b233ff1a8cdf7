// Package caddymodule is everything about device_profile that knows Caddy: the
// handler, the listener wrapper, the profile sources and the commands. What
// decides is in package deviceauth, what fetches in package profilesrc.
package caddymodule
