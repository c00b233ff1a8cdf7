package caddymodule

import (
	"strings"

	"github.com/device-profile/caddy-device-profile/deviceauth"
)

// rulePlaceholders are the placeholders that serve rules may use: those that
// the verified certificate alone fills.
var rulePlaceholders = []string{
	"{device.mac}", "{device.mac_upper}", "{device.mac_colon}", "{device.mac_dash}",
	"{device.model}", "{device.serial}", "{device.vendor}", "{device.fingerprint}",
}

// deviceValue returns the value of one of rulePlaceholders, named without
// braces. It is empty if the device has no such value.
func deviceValue(d *deviceauth.Device, name string) (value string, known bool) {
	if strings.HasPrefix(name, "device.mac") && !d.HasMAC {
		switch name {
		case "device.mac", "device.mac_upper", "device.mac_colon", "device.mac_dash":
			return "", true
		}
		return "", false
	}
	switch name {
	case "device.mac":
		return d.MAC.String(), true
	case "device.mac_upper":
		return d.MAC.Upper(), true
	case "device.mac_colon":
		return d.MAC.Colon(), true
	case "device.mac_dash":
		return d.MAC.Dash(), true
	case "device.model":
		return d.Model, true
	case "device.serial":
		return d.Serial, true
	case "device.vendor":
		return d.Vendor, true
	case "device.fingerprint":
		return d.Fingerprint, true
	}
	return "", false
}
