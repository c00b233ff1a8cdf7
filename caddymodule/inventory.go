package caddymodule

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/device-profile/caddy-device-profile/deviceauth"
	"github.com/device-profile/caddy-device-profile/inventory"
)

// The reasons for a refusal by the inventory.
const (
	reasonUnknownDevice        deviceauth.Reason = "unknown_device"
	reasonBlocked              deviceauth.Reason = "blocked"
	reasonInventoryUnavailable deviceauth.Reason = "inventory_unavailable"
)

const inventories = "http.device_profile.inventories"

// columned is an inventory that knows its columns when it is loaded.
type columned interface {
	// Require returns an error if a column is missing, and makes the inventory
	// keep it from now on.
	Require(columns ...string) error
	// Unbound reports whether rows have profiles, but no vendor.
	Unbound() bool
}

// provisionInventory loads the inventory, and holds rules and sources against its
// columns.
func (h *Handler) provisionInventory(ctx caddy.Context) error {
	columns := slices.Clone(h.sourceAttrs)
	for _, rule := range h.rules {
		columns = append(columns, rule.attrs...)
	}
	if h.DevicesRaw == nil {
		if len(columns) > 0 {
			return fmt.Errorf("{device.attr.%s} is used, but without devices there is no inventory to take it from", columns[0])
		}
		return nil
	}
	module, err := ctx.LoadModule(h, "DevicesRaw")
	if err != nil {
		return fmt.Errorf("loading devices: %w", err)
	}
	var ok bool
	if h.inventory, ok = module.(inventory.Inventory); !ok {
		return fmt.Errorf("devices: module %T is no inventory", module)
	}
	known, ok := module.(columned)
	if !ok {
		return nil
	}
	if err := known.Require(columns...); err != nil {
		return fmt.Errorf("devices: %w", err)
	}
	h.warnUnbound(known)
	return nil
}

// warnUnbound warns if the profile that a row names is there for whichever
// vendor's CA speaks for the row's MAC.
func (h *Handler) warnUnbound(known columned) {
	if !h.manyVendors() || !known.Unbound() {
		return
	}
	for _, rule := range h.rules {
		if rule.ownProfile && len(rule.source.Vendors) != 1 {
			h.logger.Warn("every vendor's CA can speak for any MAC of the inventory here; add a vendor column to it, or vendor to the rule",
				zap.String("serve", rule.source.Path))
			return
		}
	}
}

// admit looks the device up in the inventory, and refuses it unless it is known
// and active.
func (h *Handler) admit(ctx context.Context, v *visit) error {
	if h.inventory == nil {
		return nil
	}
	refuse := func(reason deviceauth.Reason, detail string) error {
		return &deviceauth.Refusal{Reason: reason, Detail: detail}
	}
	if !v.device.HasMAC {
		return refuse(reasonUnknownDevice, "the certificate gives no MAC, and the inventory lists devices by it")
	}
	// See serve for why the phone's own context does not count.
	row, ok, err := h.inventory.Lookup(context.WithoutCancel(ctx), v.device.MAC)
	switch {
	case err != nil:
		return refuse(reasonInventoryUnavailable, err.Error())
	case !ok:
		return refuse(reasonUnknownDevice, "the inventory does not list this MAC")
	case row.Vendor != "" && row.Vendor != v.device.Vendor:
		return refuse(reasonUnknownDevice, fmt.Sprintf("the inventory lists this MAC for vendor %q, but the trust that vouches for the certificate is %q", row.Vendor, v.device.Vendor))
	}
	v.row = row
	if row.State != inventory.Active {
		return refuse(reasonBlocked, "the inventory has it as "+string(row.State))
	}
	return nil
}

// unmarshalDevices reads the devices option: the name of an inventory module with
// its arguments, or in short the file of module file.
func (h *Handler) unmarshalDevices(d *caddyfile.Dispenser) error {
	if h.DevicesRaw != nil {
		return d.Err("duplicate option devices")
	}
	if !d.NextArg() {
		return d.ArgErr()
	}
	name := d.Val()
	if _, err := caddy.GetModule(inventories + "." + name); err != nil {
		if isWord(name) {
			return d.Errf("devices: this Caddy has no module %s.%s; a file of that name is written ./%s", inventories, name, name)
		}
		name = "file"
		d.Prev() // it is the module's argument
	}
	module, err := caddyfile.UnmarshalModule(d, inventories+"."+name)
	if err != nil {
		return err
	}
	if _, ok := module.(inventory.Inventory); !ok {
		return d.Errf("devices: module %s (%T) is no inventory", name, module)
	}
	h.DevicesRaw = caddyconfig.JSONModuleObject(module, "inventory", name, nil)
	return nil
}

// isWord reports whether s could be the name of a module: neither a path nor a
// file with an extension nor a placeholder.
func isWord(s string) bool {
	return !strings.ContainsAny(s, `./\{`)
}
