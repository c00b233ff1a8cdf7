package inventorysql

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/google/go-cmp/cmp"

	_ "github.com/device-profile/caddy-device-profile/caddymodule"
	"github.com/device-profile/caddy-device-profile/deviceauth"
	"github.com/device-profile/caddy-device-profile/deviceauth/deviceauthtest"
	"github.com/device-profile/caddy-device-profile/internal/lab"
	"github.com/device-profile/caddy-device-profile/inventory"
)

const query = "SELECT profile, state, vendor, tenant, line FROM phones WHERE mac = $1"

func mac(n int) deviceauth.MAC { return deviceauth.MAC{0, 4, 0xf2, 0, byte(n >> 8), byte(n)} }

// fill makes the table of these tests.
func fill(t *testing.T, db *sql.DB, phones int) {
	t.Helper()
	run(t, db, "CREATE TABLE phones (mac varchar(12), profile text, state text, vendor text, tenant text, line integer)")
	for n := range phones {
		run(t, db, "INSERT INTO phones VALUES ($1, $2, 'active', NULL, 'acme', $3)", mac(n).String(), fmt.Sprintf("own/%d.cfg", n), n)
	}
}

func run(t *testing.T, db *sql.DB, statement string, args ...any) {
	t.Helper()
	if _, err := db.Exec(statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func newInventory(t *testing.T, db *sql.DB, config Config) *Inventory {
	t.Helper()
	if config.Query == "" {
		config.Query = query
	}
	i, err := New(db, config)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// testDatabase holds what a database is asked, and what is made of its answers.
func testDatabase(t *testing.T, db *sql.DB) {
	fill(t, db, 3)
	now := time.Now()
	i := newInventory(t, db, Config{Now: func() time.Time { return now }})
	lookup := func(n int) (inventory.Row, bool, error) { return i.Lookup(t.Context(), mac(n)) }
	want := inventory.Row{MAC: mac(2), Profile: "own/2.cfg", State: inventory.Active, Attrs: []inventory.Attr{{Column: "tenant", Value: "acme"}, {Column: "line", Value: "2"}}}
	if got, ok, err := lookup(2); err != nil || !ok || !cmp.Equal(got, want) {
		t.Errorf("got %v, %v:\n%s", ok, err, cmp.Diff(want, got))
	}
	if _, ok, err := lookup(7); ok || err != nil {
		t.Errorf("an unlisted device: %v, %v", ok, err)
	}

	// What was said is believed for a while, and no longer.
	run(t, db, "UPDATE phones SET state = 'blocked'")
	run(t, db, "INSERT INTO phones (mac) VALUES ($1)", mac(7).String())
	if got, _, _ := lookup(2); got.State != inventory.Active {
		t.Error("not remembered")
	}
	now = now.Add(DefaultRefresh)
	if got, ok, err := lookup(2); err != nil || !ok || got.State != inventory.Blocked {
		t.Errorf("after a while: %v, %v, %v", got, ok, err)
	}
	if got, ok, err := lookup(7); err != nil || !ok || got.State != inventory.Active || got.Profile != "" {
		t.Errorf("listed meanwhile: %v, %v, %v", got, ok, err)
	}

	// A row that makes no sense is no row, and no fault of the database.
	for n, bad := range map[string]string{
		"profile": "UPDATE phones SET profile = '../x'", "state": "UPDATE phones SET profile = '', state = 'off'",
		"more than one": "INSERT INTO phones SELECT * FROM phones", "tenant": "UPDATE phones SET state = '', tenant = 'a\tb'",
	} {
		now = now.Add(DefaultRefresh)
		run(t, db, bad)
		for range 2 * faults {
			if _, ok, err := lookup(2); ok || !errors.Is(err, errBadRow) {
				t.Errorf("%s: got %v, %v", n, ok, err)
			}
		}
		run(t, db, "DELETE FROM phones")
		run(t, db, "INSERT INTO phones (mac) VALUES ($1)", mac(2).String())
	}
	if _, ok, err := lookup(2); !ok || err != nil {
		t.Errorf("mended: %v, %v", ok, err)
	}
	run(t, db, "DELETE FROM phones")
	now = now.Add(DefaultRefresh)
	if _, ok, err := lookup(2); ok || err != nil {
		t.Errorf("removed: %v, %v", ok, err)
	}
}

func TestSQLite(t *testing.T) {
	db := open(t, "sqlite", filepath.Join(t.TempDir(), "devices.db"))
	defer db.Close()
	testDatabase(t, db)
}

func TestPostgres(t *testing.T) {
	db := open(t, "pgx", newPostgres(t).dsn())
	defer db.Close()
	testDatabase(t, db)
}

// The last known row is used in an outage, but not for ever.
func TestGracePeriod(t *testing.T) {
	db := open(t, "sqlite", filepath.Join(t.TempDir(), "devices.db"))
	fill(t, db, 1)
	now := time.Now()
	i := newInventory(t, db, Config{Now: func() time.Time { return now }, GracePeriod: time.Hour})
	for n := range 2 {
		if _, ok, err := i.Lookup(t.Context(), mac(n)); ok != (n == 0) || err != nil {
			t.Fatal(ok, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour - time.Second)
	if _, ok, err := i.Lookup(t.Context(), mac(0)); !ok || err != nil {
		t.Errorf("in the grace period: %v, %v", ok, err)
	}
	if _, _, err := i.Lookup(t.Context(), mac(1)); err == nil {
		t.Error("that a device was not listed is still believed")
	}
	now = now.Add(time.Second)
	if _, ok, err := i.Lookup(t.Context(), mac(0)); ok || err == nil {
		t.Errorf("after the grace period: %v, %v", ok, err)
	}
}

// TestKillPostgres kills the database while a fleet is asking: known devices are
// served, unknown ones get 503 and not 403, and all is well again by itself.
func TestKillPostgres(t *testing.T) {
	server := newPostgres(t)
	db := open(t, "pgx", server.dsn())
	defer db.Close()
	const fleet = 100
	fill(t, db, 2*fleet)
	h, phones := handler(t, server.dsn(), 2*fleet+1)
	known, stranger := phones[:fleet], phones[2*fleet]
	fresh := phones[fleet : 2*fleet] // listed, but not seen before the outage
	for _, p := range known {
		if status := p.ask(h); status != 200 {
			t.Fatalf("%s: %d", p.mac, status)
		}
	}
	if status := stranger.ask(h); status != 403 {
		t.Fatalf("a stranger: %d", status)
	}

	var stop atomic.Bool
	var all sync.WaitGroup
	for _, p := range known {
		all.Go(func() {
			for !stop.Load() {
				if status := p.ask(h); status != 200 {
					t.Errorf("%s: %d", p.mac, status)
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	server.kill(t)
	time.Sleep(1100 * time.Millisecond) // all is due to be asked for again
	for _, p := range append(fresh, stranger) {
		if status := p.ask(h); status != 503 {
			t.Errorf("%s in the outage: %d, want 503", p.mac, status)
		}
	}
	server.start(t)
	within(t, "a listed device is served again", func() bool { return fresh[0].ask(h) == 200 })
	for _, p := range append(fresh, known...) {
		if status := p.ask(h); status != 200 {
			t.Errorf("%s after the outage: %d", p.mac, status)
		}
	}
	if status := stranger.ask(h); status != 403 {
		t.Errorf("a stranger after the outage: %d, want 403", status)
	}
	stop.Store(true)
	all.Wait()
}

// testPhone asks a handler.
type testPhone struct {
	mac  deviceauth.MAC
	sent []*x509.Certificate
}

// handler is device_profile over a database, and phones for it.
func handler(t *testing.T, dsn string, n int) (caddyhttp.MiddlewareHandler, []testPhone) {
	t.Helper()
	l, err := lab.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ctx, err := caddy.ProvisionContext(&caddy.Config{Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{Level: "PANIC"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(ctx)
	t.Cleanup(cancel)
	devices, err := json.Marshal(map[string]any{"inventory": "sql", "driver": "postgres", "dsn": dsn, "query": query, "refresh": "1s"})
	if err != nil {
		t.Fatal(err)
	}
	module, err := ctx.LoadModuleByID("http.handlers.device_profile", json.RawMessage(`{
		"trusts": [{"vendor": "polycom", "pem_files": ["`+l.Path("device-ca/polycom")+`"]}],
		"devices": `+string(devices)+`,
		"serve": [{"path": "/{device.mac}.cfg"}]
	}`))
	if err != nil {
		t.Fatal(err)
	}
	phones := make([]testPhone, n)
	for i := range phones {
		id, err := l.PolycomIssuing.Issue(pkix.Name{CommonName: mac(i).String()}, deviceauthtest.Key(l.VVX.Key))
		if err != nil {
			t.Fatal(err)
		}
		phones[i] = testPhone{mac(i), id.Certificates()}
	}
	return module.(caddyhttp.MiddlewareHandler), phones
}

// ask asks for the phone's own profile, and returns the status.
func (p testPhone) ask(h caddyhttp.MiddlewareHandler) int {
	req := httptest.NewRequest(http.MethodGet, "https://"+lab.Site+"/"+p.mac.String()+".cfg", nil)
	req.TLS = &tls.ConnectionState{Version: tls.VersionTLS12, PeerCertificates: p.sent}
	ctx := context.WithValue(req.Context(), caddy.ReplacerCtxKey, caddyhttp.NewTestReplacer(req))
	req = req.WithContext(context.WithValue(ctx, caddyhttp.OriginalRequestCtxKey, *req))
	rec := httptest.NewRecorder()
	err := h.ServeHTTP(rec, req, caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusOK)
		return nil
	}))
	if failed, ok := errors.AsType[caddyhttp.HandlerError](err); ok {
		return failed.StatusCode
	}
	return rec.Code
}

func TestProvision(t *testing.T) {
	file := filepath.Join(t.TempDir(), "devices.db")
	db := open(t, "sqlite", file)
	defer db.Close()
	fill(t, db, 1)
	nobody := fmt.Sprintf("postgres://prov:hunter2@127.0.0.1:%d/x", freePort(t))
	for name, tt := range map[string]struct {
		module SQL
		cause  string // "" if it is accepted
	}{
		"ok/sqlite":             {SQL{Driver: "sqlite", DSN: file, Query: query}, ""},
		"ok/postgres not there": {SQL{Driver: "postgres", DSN: nobody, Query: query}, ""},
		"fail/no file":          {SQL{Driver: "sqlite", DSN: file + "x", Query: query}, "unable to open"},
		"fail/no table":         {SQL{Driver: "sqlite", DSN: file, Query: "SELECT * FROM fax WHERE mac = $1"}, "fax"},
		"fail/no query":         {SQL{Driver: "sqlite", DSN: file}, "no query"},
		"fail/no DSN":           {SQL{Driver: "sqlite", Query: query}, "no DSN"},
		"fail/driver":           {SQL{Driver: "oracle", DSN: file, Query: query}, `"oracle"`},
		"fail/column twice":     {SQL{Driver: "sqlite", DSN: file, Query: "SELECT tenant, tenant FROM phones WHERE mac = $1"}, "tenant is there twice"},
		"fail/column":           {SQL{Driver: "sqlite", DSN: file, Query: `SELECT tenant AS "the tenant" FROM phones WHERE mac = $1`}, "the tenant"},
		"fail/negative":         {SQL{Driver: "sqlite", DSN: file, Query: query, Remember: -1}, "negative"},
	} {
		t.Run(name, func(t *testing.T) {
			err := tt.module.Provision(caddy.Context{})
			if tt.cause == "" && err != nil || tt.cause != "" && (err == nil || !strings.Contains(err.Error(), tt.cause)) {
				t.Errorf("got %v, want %q", err, tt.cause)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error tells the password: %v", err)
			}
			if err := tt.module.Cleanup(); err != nil {
				t.Error(err)
			}
		})
	}
	inventories.Range(func(_, _ any) bool {
		t.Error("a database is still open")
		return true
	})
}

func TestCaddyfile(t *testing.T) {
	var s SQL
	if err := s.UnmarshalCaddyfile(caddyfile.NewTestDispenser("sql postgres {env.DB} {\nquery \"SELECT 1\"\ntimeout 1s\nrefresh 2s\ngrace_period 1d\nremember 5\nmax_connections 6\n}")); err != nil {
		t.Fatal(err)
	}
	want := SQL{
		Driver: "postgres", DSN: "{env.DB}", Query: "SELECT 1", Timeout: caddy.Duration(time.Second), Refresh: caddy.Duration(2 * time.Second),
		GracePeriod: caddy.Duration(24 * time.Hour), Remember: 5, MaxConnections: 6,
	}
	if got, wanted := fmt.Sprintf("%+v", s), fmt.Sprintf("%+v", want); got != wanted {
		t.Errorf("got %s, want %s", got, wanted)
	}
	for text, cause := range map[string]string{
		"sql":                                 "argument",
		"sql mysql x":                         "mysql",
		"sql sqlite x":                        "no query",
		"sql sqlite x {\nquery\n}":            "argument",
		"sql sqlite x {\nquery a\nquery b\n}": "duplicate option query",
		"sql sqlite x {\nquery a\ntimeout never\n}": "never",
		"sql sqlite x {\nquery a\nremember 0\n}":    `"0"`,
		"sql sqlite x {\nquery a\npool 7\n}":        "unrecognized",
	} {
		if err := new(SQL).UnmarshalCaddyfile(caddyfile.NewTestDispenser(text)); err == nil || !strings.Contains(err.Error(), cause) {
			t.Errorf("%q: got %v, want %q", text, err, cause)
		}
	}
	if err := new(SQL).Cleanup(); err != nil {
		t.Error(err)
	}
}
