package inventory

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/device-profile/caddy-device-profile/deviceauth"
	"github.com/device-profile/caddy-device-profile/profilesrc"
)

// maxValue bounds a value, in bytes.
const maxValue = 1024

// Column returns the name of a column as it is used: in lower case. It consists of
// letters of ASCII, digits, '_' and '-'.
func Column(name string) (string, error) {
	name = strings.ToLower(strings.TrimSpace(name))
	bad := func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-'
	}
	switch {
	case name == "":
		return "", errors.New("a column has no name")
	case strings.ContainsFunc(name, bad):
		return "", fmt.Errorf("the column name %.80q has other characters than letters, digits, _ and -", name)
	}
	return name, nil
}

// Set sets the value of a column, which Column has named: mac, profile, state and
// vendor are fields of the row, all others attributes. Errors name the column, but
// no attribute's value: it may be a secret.
func (r *Row) Set(column, value string) error {
	value = strings.TrimSpace(value)
	if err := checkValue(value); err != nil {
		return fmt.Errorf("%s %w", column, err)
	}
	var err error
	switch column {
	case "mac":
		r.MAC, err = parseMAC(value)
	case "profile":
		r.Profile, err = parseProfile(value)
	case "state":
		r.State, err = parseState(value)
	case "vendor":
		r.Vendor = value
	default:
		if value != "" {
			r.Attrs = append(r.Attrs, Attr{column, value})
		}
	}
	return err
}

// checkValue refuses what could not become part of a path or a header.
func checkValue(value string) error {
	if len(value) > maxValue {
		return fmt.Errorf("has more than %d bytes", maxValue)
	}
	if !utf8.ValidString(value) {
		return errors.New("is not valid UTF-8")
	}
	for _, c := range value {
		switch {
		case c < ' ', c == 0x7f:
			return fmt.Errorf("holds the control character %q", c)
		case c == utf8.RuneError:
			return errors.New("holds U+FFFD, which stands for text that was once decoded wrongly")
		}
	}
	return nil
}

func parseMAC(value string) (deviceauth.MAC, error) {
	mac, err := deviceauth.ParseMAC(value)
	switch {
	case err != nil:
		return mac, fmt.Errorf("mac %.80q: %w", value, err)
	case mac == deviceauth.MAC{}, mac[0]&1 != 0:
		return mac, fmt.Errorf("mac %q is all zeros or a group address: no device has it", value)
	}
	return mac, nil
}

func parseProfile(value string) (string, error) {
	if value == "" {
		return "", nil
	}
	if strings.Contains(value, "{device.") {
		return "", fmt.Errorf("profile %.80q holds a placeholder: they are filled in serve rules, not here", value)
	}
	name, err := profilesrc.NewName(value)
	if err != nil {
		return "", err
	}
	return name.String(), nil
}

func parseState(value string) (State, error) {
	switch state := State(strings.ToLower(value)); state {
	case "", Active:
		return Active, nil
	case Blocked:
		return Blocked, nil
	}
	return "", fmt.Errorf("state %.80q is neither active nor blocked", value)
}
