package caddymodule

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/device-profile/caddy-device-profile/deviceauth"
	"github.com/device-profile/caddy-device-profile/inventory"
)

// fakeInventory has the rows of these tests.
type fakeInventory struct {
	rows []inventory.Row
	err  error
}

func (f fakeInventory) Lookup(_ context.Context, mac deviceauth.MAC) (inventory.Row, bool, error) {
	for _, row := range f.rows {
		if row.MAC == mac {
			return row, true, f.err
		}
	}
	return inventory.Row{}, false, f.err
}

func TestAdmit(t *testing.T) {
	row := inventory.Row{MAC: phone.MAC, State: inventory.Active, Profile: "a.xml"}
	blocked, bound, elsewhere := row, row, row
	blocked.State, bound.Vendor, elsewhere.Vendor = inventory.Blocked, "cisco_spa", "polycom"
	for name, tt := range map[string]struct {
		inventory inventory.Inventory
		device    *deviceauth.Device
		want      deviceauth.Reason
		status    int
	}{
		"ok/no inventory":     {nil, device("", ""), "", 0},
		"ok/listed":           {fakeInventory{rows: []inventory.Row{row}}, phone, "", 0},
		"ok/its vendor":       {fakeInventory{rows: []inventory.Row{bound}}, phone, "", 0},
		"fail/unlisted":       {fakeInventory{rows: []inventory.Row{row}}, device("000e08ddeeff", ""), reasonUnknownDevice, 403},
		"fail/no MAC":         {fakeInventory{rows: []inventory.Row{row}}, device("", ""), reasonUnknownDevice, 403},
		"fail/blocked":        {fakeInventory{rows: []inventory.Row{blocked}}, phone, reasonBlocked, 403},
		"fail/another vendor": {fakeInventory{rows: []inventory.Row{elsewhere}}, phone, reasonUnknownDevice, 403},
		"fail/can't tell":     {fakeInventory{err: errors.New("down")}, phone, reasonInventoryUnavailable, 503},
		// A module that knows no states must not let phones through by that.
		"fail/state of none": {fakeInventory{rows: []inventory.Row{{MAC: phone.MAC}}}, phone, reasonBlocked, 403},
	} {
		t.Run(name, func(t *testing.T) {
			h, v := &Handler{inventory: tt.inventory}, &visit{device: tt.device}
			err := h.admit(t.Context(), v)
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			refusal, ok := errors.AsType[*deviceauth.Refusal](err)
			if !ok || refusal.Reason != tt.want || statusOf(refusal.Reason) != tt.status {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// TestRuleWithRow holds what a row of the inventory does to a rule's paths.
func TestRuleWithRow(t *testing.T) {
	row := inventory.Row{Profile: "acme/one.xml", Attrs: []inventory.Attr{{Column: "tenant", Value: "acme"}, {Column: "bad", Value: "../x"}, {Column: "slash", Value: "a/b"}}}
	noProfile := row
	noProfile.Profile = ""
	for _, tt := range []struct {
		name, path, profile string // the rule
		row                 inventory.Row
		request, want       string
	}{
		{"ok/own profile", "/{device.mac}.xml", "", row, "/000e08aabbcc.xml", "acme/one.xml"},
		{"ok/own profile by the rule's", "/config.xml", "/{device.mac}.xml", row, "/config.xml", "acme/one.xml"},
		{"ok/own profile by serial", "/{device.serial}.xml", "", row, "/CBT1.xml", "acme/one.xml"},
		{"ok/no profile in the row", "/{device.mac}.xml", "", noProfile, "/000e08aabbcc.xml", "/000e08aabbcc.xml"},
		{"ok/firmware", "/firmware/*", "", row, "/firmware/a.bin", "/firmware/a.bin"},
		{"ok/one of several files", "/{device.mac}-*.cfg", "", row, "/000e08aabbcc-web.cfg", "/000e08aabbcc-web.cfg"},
		{"ok/file of a model", "/spa{device.model}.cfg", "", row, "/spa525g2.cfg", "/spa525G2.cfg"},
		{"ok/common file of a vendor", "/000000000000.cfg", "/{device.vendor}/common.cfg", row, "/000000000000.cfg", "/cisco_spa/common.cfg"},
		{"ok/attribute", "/config.xml", "/{device.attr.tenant}/common.xml", row, "/config.xml", "/acme/common.xml"},
		{"ok/attribute in the request", "/{device.attr.tenant}/*", "", row, "/acme/logo.bmp", "/acme/logo.bmp"},

		{"fail/another path", "/{device.mac}.xml", "", row, "/acme/one.xml", ""},
		{"fail/another phone's", "/{device.mac}.xml", "", row, "/000e08ddeeff.xml", ""},
		{"fail/another tenant", "/{device.attr.tenant}/*", "", row, "/other/logo.bmp", ""},
		{"fail/another phone's within the tenant", "/{device.attr.tenant}/*", "", row, "/acme/000e08ddeeff.xml", ""},
		{"fail/no value", "/config.xml", "/{device.attr.site}.xml", row, "/config.xml", ""},
		{"fail/no value in the request", "/{device.attr.site}.xml", "", row, "/.xml", ""},
		{"fail/no value beside a star", "/*", "/{device.attr.site}x/*", row, "/a", ""},
		{"fail/dots", "/config.xml", "/{device.attr.bad}", row, "/config.xml", ""},
		{"fail/slash", "/config.xml", "/{device.attr.slash}", row, "/config.xml", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rule := compileRule(t, tt.path, tt.profile)
			got, ok := rule.match(asker{phone, tt.row}, tt.request)
			if ok != (tt.want != "") || got != tt.want {
				t.Errorf("serve %s %s gives %q, %v for %s; want %q", tt.path, tt.profile, got, ok, tt.request, tt.want)
			}
			if usesRow := got == row.Profile || len(rule.attrs) > 0; ok && usesRow && !rule.usesDevice {
				t.Error("the profile depends on the row, but would be remembered for everybody")
			}
		})
	}
}

// What an inventory has a source told is part of who asks.
func TestRequestWithRow(t *testing.T) {
	h := &Handler{sourceAttrs: []string{"tenant"}}
	ask := func(attrs ...inventory.Attr) string {
		v := &visit{device: phone, row: inventory.Row{Attrs: attrs}, rule: compileRule(t, "/a", "")}
		return h.request(v).Identity
	}
	tenant := inventory.Attr{Column: "tenant", Value: "acme"}
	if ask(tenant) == ask() || ask(tenant) != ask(tenant, inventory.Attr{Column: "site", Value: "x"}) {
		t.Error("the identity is not that of device and tenant")
	}
}

func TestPlaceholdersOfRow(t *testing.T) {
	v := &visit{}
	if got, known := v.placeholder("device.attr.tenant"); got != "" || !known {
		t.Errorf("before the device is verified: %v, %v", got, known)
	}
	v.device, v.row = phone, inventory.Row{Attrs: []inventory.Attr{{Column: "tenant", Value: "acme"}}}
	if got, _ := v.placeholder("device.attr.tenant"); got != "acme" {
		t.Errorf("got %v", got)
	}
	if got, known := v.placeholder("device.attr.site"); got != "" || !known {
		t.Errorf("a value that is not there: %v, %v", got, known)
	}
}

func TestProvisionInventory(t *testing.T) {
	dir := configFolder(t)
	for name, text := range map[string]string{
		"devices.csv": "mac,tenant\n000413aabbcc,acme\n", "devices.jsonl": `{"mac":"000413aabbcc","tenant":"acme"}`,
		"bad.csv": "mac,profile\n000413aabbcc,../x\n", "devices": "mac\n000413aabbcc\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("DEVICES", dir+"/devices.csv")
	for name, options := range map[string]string{
		"CSV":               "devices DIR/devices.csv",
		"JSON lines":        "devices DIR/devices.jsonl {\nrefresh 10s\n}",
		"no extension":      "devices DIR/devices",
		"environment":       "devices {env.DEVICES}",
		"module":            "devices file DIR/devices.csv",
		"column in a rule":  "devices DIR/devices.csv\nserve /x /{device.attr.tenant}",
		"column in headers": "devices DIR/devices.csv\nsource http http://127.0.0.1 {\nheader_up X {device.attr.tenant}\n}",
	} {
		t.Run("ok/"+name, func(t *testing.T) {
			if err := validate(t, dir, siteWith(goodOptions+options)); err != nil {
				t.Error(err)
			}
		})
	}
	for name, tt := range map[string]struct{ options, cause string }{
		"missing file":             {"devices DIR/none.csv", "none.csv"},
		"folder":                   {"devices DIR/profiles", "no regular file"},
		"bad file":                 {"devices DIR/bad.csv", `bad.csv:2:14: profile name "../x"`},
		"unknown column":           {"devices DIR/devices.csv\nserve /x /{device.attr.tenent}", "no column tenent"},
		"unknown column in header": {"devices DIR/devices.csv\nsource http http://127.0.0.1 {\nheader_up X {device.attr.site}\n}", "no column site"},
		"column without inventory": {"serve /x /{device.attr.tenant}", "without devices"},
	} {
		t.Run("fail/"+name, func(t *testing.T) {
			err := validate(t, dir, siteWith(goodOptions+tt.options))
			if err == nil || !strings.Contains(err.Error(), tt.cause) {
				t.Errorf("got %v, want an error that mentions %q", err, tt.cause)
			}
		})
	}
	inventoryFiles.Range(func(key, _ any) bool {
		t.Errorf("%q is still open", key)
		return true
	})
}

// A config that follows another one takes over what is loaded, unless the file has
// changed.
func TestInventoryOverReloads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "devices.csv")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("mac,tenant\n000413aabbcc,acme\n")
	ctx := quietContext(t)
	load := func() (*FileInventory, error) {
		i := &FileInventory{Path: path}
		return i, i.Provision(ctx)
	}
	first, err := load()
	if err != nil {
		t.Fatal(err)
	}
	second, err := load()
	if err != nil {
		t.Fatal(err)
	}
	if a, b := first.view.Status(), second.view.Status(); !a.Read.Equal(b.Read) {
		t.Error("the file was read again, though it had not changed")
	}
	write("mac,tenant\n000413aabbcc,acme\n000413ddeeff,acme\n")
	third, err := load()
	if err != nil {
		t.Fatal(err)
	}
	if got := third.view.Status().Rows; got != 2 {
		t.Errorf("%d rows of the changed file", got)
	}
	write("mac,tenant\nnonsense,x\n")
	fourth, err := load()
	if err == nil {
		t.Error("a bad file is accepted by a new config")
	}
	for _, i := range []*FileInventory{first, second, fourth} {
		if err := i.Cleanup(); err != nil {
			t.Error(err)
		}
	}
	if _, ok, err := third.Lookup(t.Context(), deviceauth.MAC{0, 4, 0x13, 0xaa, 0xbb, 0xcc}); !ok || err != nil {
		t.Error("the inventory ended with other configs")
	}
	if err := third.Cleanup(); err != nil {
		t.Error(err)
	}
}
