package caddymodule

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/device-profile/caddy-device-profile/deviceauth"
	"github.com/device-profile/caddy-device-profile/inventory"
)

// asker is who asks: a verified device, and what the inventory has on it.
type asker struct {
	*deviceauth.Device
	row inventory.Row
}

// value returns the value of one of rulePlaceholders, named without braces. It is
// empty if the device has no such value.
func (a asker) value(name string) (value string, known bool) {
	if column, ok := attrColumn(name); ok {
		return a.row.Attr(column), true
	}
	return deviceValue(a.Device, name)
}

// attrColumn returns the inventory's column that a placeholder, named without
// braces, stands for.
func attrColumn(name string) (string, bool) {
	column, ok := strings.CutPrefix(name, "device.attr.")
	return column, ok
}

// checkPlaceholder refuses all but rulePlaceholders, named without braces.
func checkPlaceholder(name string) error {
	if column, ok := attrColumn(name); ok {
		lower, err := inventory.Column(column)
		switch {
		case err != nil:
			return fmt.Errorf("placeholder {%s}: %w", name, err)
		case lower != column:
			return fmt.Errorf("placeholder {%s}: columns of the inventory are named in lower case", name)
		}
		return nil
	}
	if _, ok := deviceValue(new(deviceauth.Device), name); !ok {
		return fmt.Errorf("unknown placeholder {%s}: known are %s", name, strings.Join(rulePlaceholders, " "))
	}
	return nil
}

var placeholderPattern = regexp.MustCompile(`\{([^{}]*)\}`)

// textPlaceholders returns the placeholders in a text, without braces.
func textPlaceholders(text string) (names []string) {
	for _, match := range placeholderPattern.FindAllStringSubmatch(text, -1) {
		names = append(names, match[1])
	}
	return names
}

// rulePlaceholders are the placeholders that serve rules may use: those that
// the verified certificate alone fills, and the inventory.
var rulePlaceholders = []string{
	"{device.mac}", "{device.mac_upper}", "{device.mac_colon}", "{device.mac_dash}",
	"{device.model}", "{device.serial}", "{device.vendor}", "{device.fingerprint}",
	"{device.attr.<column>}",
}

// deviceValue returns the value of one of rulePlaceholders that the certificate
// fills, named without braces. It is empty if the device has no such value.
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
