package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/device-profile/caddy-device-profile/deviceauth"
	"github.com/device-profile/caddy-device-profile/inventory"
)

func init() {
	caddy.RegisterModule(new(FileInventory))
}

// FileInventory is an inventory in a file of CSV, whose first row names the
// columns, or of JSON lines, an object in each.
//
//	Column     | Meaning
//	-----------|-------------------------------------------------------------
//	`mac`      | MAC of the device, in any usual notation. Required, and unique
//	`profile`  | path of the device's own profile; if empty, the rule's
//	`state`    | `active` or `blocked`; if empty, `active`
//	`vendor`   | label of the trust that must vouch for it; if empty, any
//	all others | `{device.attr.<column>}`, in lower case
//
// The file is read again when it changes. A file with anything wrong in it is not
// used: at start Caddy refuses to start, and later goes on with the last good
// one, until the file is good again. The same goes for a file without a column
// that rules or sources use. The log says line and column.
//
// Replace the file by renaming another one over it, so that nobody reads a half of
// it. What is read outlives a reload of the config.
type FileInventory struct {
	// Path is the file. Required.
	Path string `json:"path"`

	// Refresh is how often to look whether the file has changed. Where the
	// system tells of changes, they are noticed at once anyway. Default: 1m.
	Refresh caddy.Duration `json:"refresh,omitempty"`

	key    string // of the pooled file, once it is ours
	view   *inventory.View
	events eventSink
	logger *zap.Logger
}

// inventoryFiles are the files of all configs, by what determines them.
var inventoryFiles = caddy.NewUsagePool()

// pooledInventory is a file that is closed with the last config that uses it.
type pooledInventory struct{ *inventory.File }

// Destruct closes the file.
func (f pooledInventory) Destruct() error { return f.Close() }

// CaddyModule returns the Caddy module information.
func (*FileInventory) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  inventories + ".file",
		New: func() caddy.Module { return new(FileInventory) },
	}
}

// Provision reads the file, unless a config that ran before has done so and the
// file is unchanged.
func (i *FileInventory) Provision(ctx caddy.Context) error {
	i.logger = ctx.Logger()
	path := caddy.NewReplacer().ReplaceKnown(i.Path, "")
	if path == "" {
		return errors.New("inventory file: no path")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("inventory file: %w", err)
	}
	key := fmt.Sprint(path, "\n", time.Duration(i.Refresh))
	pooled, known, err := inventoryFiles.LoadOrNew(key, func() (caddy.Destructor, error) {
		file, err := inventory.OpenFile(path, time.Duration(i.Refresh))
		return pooledInventory{file}, err
	})
	if err != nil {
		return fmt.Errorf("inventory file: %w", err)
	}
	i.key = key
	file := pooled.(pooledInventory).File
	if known {
		if err := file.Refresh(); err != nil {
			return fmt.Errorf("inventory file: %w", err)
		}
	}
	if err := file.Unwatched(); err != nil {
		i.logger.Warn("the system tells of no changes to the inventory, so they are only looked for now and then", zap.String("file", path), zap.Error(err))
	}
	if i.events, err = newEventSink(ctx); err != nil {
		return err
	}
	i.view = file.View(i.reloaded)
	if err := i.register(ctx, path); err != nil {
		return fmt.Errorf("inventory file: registering metrics: %w", err)
	}
	status := i.view.Status()
	i.logger.Info("inventory loaded", zap.String("file", path), zap.Int("rows", status.Rows), zap.Time("read", status.Read))
	return nil
}

// register adds how the inventory stands to the config's metrics.
func (i *FileInventory) register(ctx caddy.Context, path string) error {
	registry, labels := ctx.GetMetricsRegistry(), prometheus.Labels{"file": path}
	return errors.Join(
		gaugeFunc(registry, "inventory_rows", "Devices in the inventory that is in use.", labels,
			func() float64 { return float64(i.view.Status().Rows) }),
		gaugeFunc(registry, "inventory_read_timestamp_seconds", "When the inventory that is in use was read.", labels,
			func() float64 { return float64(i.view.Status().Read.Unix()) }),
		gaugeFunc(registry, "inventory_reload_failed", "1 if the file, as it is now, could not be used, so that an earlier one is.", labels,
			func() float64 {
				if i.view.Status().Err != nil {
					return 1
				}
				return 0
			}),
	)
}

// reloaded says what came of reading the file again.
func (i *FileInventory) reloaded(load inventory.Load) {
	if load.Err != nil {
		i.logger.Error("inventory not reloaded: the last good one stays in use",
			zap.String("file", i.Path), zap.Error(load.Err), zap.Int("rows", load.Rows))
		i.events.emit(eventReloadFailed, map[string]any{"file": i.Path, "error": load.Err.Error()})
		return
	}
	i.logger.Info("inventory reloaded", zap.String("file", i.Path), zap.Int("rows", load.Rows), zap.Duration("took", load.Took))
}

// Cleanup lets go of the file.
func (i *FileInventory) Cleanup() error {
	if i.view != nil {
		i.view.Close()
	}
	if i.key == "" {
		return nil
	}
	_, err := inventoryFiles.Delete(i.key)
	return err
}

// Lookup returns the row of a MAC.
func (i *FileInventory) Lookup(ctx context.Context, mac deviceauth.MAC) (inventory.Row, bool, error) {
	return i.view.Lookup(ctx, mac)
}

// Require makes columns required, now and whenever the file is read again.
func (i *FileInventory) Require(columns ...string) error { return i.view.Require(columns...) }

// Unbound reports whether rows have profiles, but no vendor.
func (i *FileInventory) Unbound() bool { return i.view.Unbound() }

// UnmarshalCaddyfile reads the inventory. Syntax:
//
//	file <path> {
//		refresh <duration>
//	}
func (i *FileInventory) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the module's name
	if !d.AllArgs(&i.Path) {
		return d.ArgErr()
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if d.Val() != "refresh" {
			return d.Errf("devices: unrecognized option %q", d.Val())
		}
		if i.Refresh != 0 {
			return d.Err("devices: duplicate option refresh")
		}
		var err error
		if i.Refresh, err = duration(d, "refresh"); err != nil {
			return err
		}
	}
	return nil
}

// Interface guards.
var (
	_ caddy.Provisioner     = (*FileInventory)(nil)
	_ caddy.CleanerUpper    = (*FileInventory)(nil)
	_ caddyfile.Unmarshaler = (*FileInventory)(nil)
	_ inventory.Inventory   = (*FileInventory)(nil)
	_ columned              = (*FileInventory)(nil)
)
