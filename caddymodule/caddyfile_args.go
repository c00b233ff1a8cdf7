package caddymodule

import (
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"
)

// oneWord reads an option's only argument.
func oneWord(d *caddyfile.Dispenser) (string, error) {
	var word string
	if !d.AllArgs(&word) {
		return "", d.ArgErr()
	}
	return word, noBlock(d)
}

// words reads an option's arguments, at least one.
func words(d *caddyfile.Dispenser) ([]string, error) {
	args := d.RemainingArgs()
	if len(args) == 0 {
		return nil, d.ArgErr()
	}
	return args, noBlock(d)
}

// number reads an option's only argument, a number above zero.
func number(d *caddyfile.Dispenser, option string) (int, error) {
	word, err := oneWord(d)
	if err != nil {
		return 0, err
	}
	value, err := strconv.Atoi(word)
	if err != nil || value <= 0 {
		return 0, d.Errf("%s: %q is not a number above zero", option, word)
	}
	return value, nil
}

// duration reads an option's only argument, a duration above zero.
func duration(d *caddyfile.Dispenser, option string) (caddy.Duration, error) {
	word, err := oneWord(d)
	if err != nil {
		return 0, err
	}
	value, err := caddy.ParseDuration(word)
	if err != nil || value <= 0 {
		return 0, d.Errf("%s: %q is not a duration", option, word)
	}
	return caddy.Duration(value), nil
}

// size reads an option's only argument, a number of bytes above zero.
func size(d *caddyfile.Dispenser, option string) (int64, error) {
	word, err := oneWord(d)
	if err != nil {
		return 0, err
	}
	value, ok := parseSize(word)
	if !ok {
		return 0, d.Errf("%s: %q is not a size", option, word)
	}
	return value, nil
}

// sizeOrOff reads an option's only argument, a number of bytes above zero or the
// word off, which is -1.
func sizeOrOff(d *caddyfile.Dispenser, option string) (int64, error) {
	word, err := oneWord(d)
	switch {
	case err != nil:
		return 0, err
	case word == "off":
		return -1, nil
	}
	value, ok := parseSize(word)
	if !ok {
		return 0, d.Errf("%s: %q is neither a size nor off", option, word)
	}
	return value, nil
}

func parseSize(word string) (int64, bool) {
	value, err := humanize.ParseBytes(word)
	return int64(value), err == nil && value > 0 && value <= 1<<62 //nolint:gosec // bounded
}

// noBlock refuses a block behind an option that has none.
func noBlock(d *caddyfile.Dispenser) error {
	if d.NextBlock(d.Nesting()) {
		return d.Errf("unexpected block with %q", d.Val())
	}
	return nil
}
