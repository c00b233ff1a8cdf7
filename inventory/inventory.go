// Package inventory says which devices an operator knows, and what is kept of
// each: which profile is its own, whether it is shut out, and attributes such as
// its tenant or site.
//
// File reads an inventory from a file of CSV or JSON lines, and again whenever
// the file changes. Others can implement Inventory over what they have. Nothing
// here knows of Caddy.
package inventory

import (
	"context"

	"github.com/device-profile/caddy-device-profile/deviceauth"
)

// Inventory knows an operator's devices.
type Inventory interface {
	// Lookup returns the row of a MAC; ok is false if the inventory has none. An
	// error means that the inventory can't tell now. Lookup returns by the time
	// ctx ends, and may be called by many at once.
	Lookup(ctx context.Context, mac deviceauth.MAC) (row Row, ok bool, err error)
}

// State says what is to be done with a device.
type State string

// The states of devices.
const (
	Active  State = "active"
	Blocked State = "blocked"
)

// Row is what an inventory has on one device.
type Row struct {
	MAC deviceauth.MAC
	// Profile names the device's own profile, as profilesrc.NewName takes it. If
	// empty, the rule that serves the device names it.
	Profile string
	// State is Active or Blocked.
	State State
	// Vendor is the label of the trust that must vouch for the device. If empty,
	// any may.
	Vendor string
	// Attrs are the values of all other columns that are not empty.
	Attrs []Attr
}

// Attr is a column's value, neither of them empty.
type Attr struct{ Column, Value string }

// Attr returns the value of a column, or "".
func (r Row) Attr(column string) string {
	for _, a := range r.Attrs {
		if a.Column == column {
			return a.Value
		}
	}
	return ""
}
