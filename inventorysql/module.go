package inventorysql

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	_ "github.com/jackc/pgx/v5/stdlib" // driver pgx
	"go.uber.org/zap"
	_ "modernc.org/sqlite" // driver sqlite

	"github.com/device-profile/caddy-device-profile/deviceauth"
	"github.com/device-profile/caddy-device-profile/inventory"
)

func init() {
	caddy.RegisterModule(new(SQL))
}

const moduleID = "http.device_profile.inventories.sql"

// SQL is an inventory in a PostgreSQL or SQLite database. A query looks up each
// device by its MAC; the columns of the row that it returns are those of a file's
// inventory: `profile`, `state`, `vendor`, and `{device.attr.<column>}` for all
// others. No row means that the device is not listed.
//
// What the database said is remembered: for `refresh`, it is not asked again; and
// while it is down, listed devices are served by what it said last, for
// `grace_period`. Devices that it was not asked about lately get 503
// `inventory_unavailable` then, and not 403. It is asked again by itself. What is
// remembered outlives reloads of the config, but not a restart.
//
// A query that the database refuses is an error at start. A PostgreSQL that can't
// be reached at start is none: Caddy starts, and says so in the log.
type SQL struct {
	// Driver is `postgres` or `sqlite`. Required.
	Driver string `json:"driver"`

	// DSN is how to connect: a PostgreSQL URL or keyword string, or the file of an
	// SQLite database, which is opened to be read alone unless it is a `file:` URL.
	// Required. Take it from a placeholder such as {env.DEVICES_DB} if there is a
	// password in it.
	DSN string `json:"dsn"`

	// Query returns the device's row, if there is one. Its one parameter, `$1`, is
	// the MAC as 12 lower-case hex digits. Required.
	Query string `json:"query"`

	// Timeout is by when the database must have answered. Default: 3s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// Refresh is how old an answer may get before the database is asked again.
	// Default: 30s.
	Refresh caddy.Duration `json:"refresh,omitempty"`

	// GracePeriod is how old the last known row may get that is used while the
	// database is down. Default: 7d.
	GracePeriod caddy.Duration `json:"grace_period,omitempty"`

	// Remember is how many devices are remembered. Default: 200000.
	Remember int `json:"remember,omitempty"`

	// MaxConnections bounds the connections to the database. Default: 10.
	MaxConnections int `json:"max_connections,omitempty"`

	key       string // of the pooled inventory, once it is ours
	inventory *Inventory
}

// inventories are those of all configs, by what determines them.
var inventories = caddy.NewUsagePool()

// pooled is an inventory that is closed with the last config that uses it.
type pooled struct{ *Inventory }

// Destruct closes the inventory.
func (p pooled) Destruct() error { return p.Close() }

// CaddyModule returns the Caddy module information.
func (*SQL) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: moduleID, New: func() caddy.Module { return new(SQL) }}
}

// Provision connects to the database and tries the query.
func (s *SQL) Provision(caddy.Context) error {
	config := *s
	config.DSN = caddy.NewReplacer().ReplaceKnown(s.DSN, "")
	raw, err := json.Marshal(config)
	if err != nil {
		return err
	}
	key := fmt.Sprintf("%x", sha256.Sum256(raw)) // there may be a password in it
	shared, _, err := inventories.LoadOrNew(key, func() (caddy.Destructor, error) {
		i, err := config.open()
		return pooled{i}, err
	})
	if err != nil {
		return fmt.Errorf("inventory sql: %w", err)
	}
	s.key, s.inventory = key, shared.(pooled).Inventory
	return s.check()
}

// open connects to the database; s has no placeholders left.
func (s *SQL) open() (*Inventory, error) {
	db, err := s.database()
	if err != nil {
		return nil, err
	}
	i, err := New(db, Config{
		Query: s.Query, Timeout: time.Duration(s.Timeout), Refresh: time.Duration(s.Refresh), GracePeriod: time.Duration(s.GracePeriod),
		Remembered: s.Remember, MaxConnections: s.MaxConnections, Down: logDown,
	})
	if err != nil {
		db.Close()
	}
	return i, err
}

func (s *SQL) database() (*sql.DB, error) {
	if s.DSN == "" {
		return nil, errors.New("there is no DSN")
	}
	switch s.Driver {
	case "postgres":
		return sql.Open("pgx", s.DSN)
	case "sqlite":
		dsn := s.DSN
		if !strings.HasPrefix(dsn, "file:") {
			dsn = "file:" + dsn + "?mode=ro&_pragma=busy_timeout(1000)" // or a slip in the name would make a file
		}
		return sql.Open("sqlite", dsn)
	}
	return nil, fmt.Errorf("driver %q is neither postgres nor sqlite", s.Driver)
}

// check tries the query, if the database can be reached.
func (s *SQL) check() error {
	ctx, cancel := context.WithTimeout(context.Background(), s.inventory.config.Timeout)
	defer cancel()
	if err := s.inventory.db.PingContext(ctx); err != nil && s.Driver == "postgres" {
		logDown(err)
		return nil
	}
	if err := s.inventory.Check(ctx); err != nil {
		return fmt.Errorf("inventory sql: %w", err)
	}
	return nil
}

// logDown logs with whatever logger Caddy has then: the inventory outlives configs.
func logDown(err error) {
	logger := caddy.Log().Named(moduleID)
	if err == nil {
		logger.Info("inventory's database up again")
		return
	}
	logger.Error("inventory's database down: devices are served by what it said last", zap.Error(err))
}

// Cleanup lets go of the database.
func (s *SQL) Cleanup() error {
	if s.key == "" {
		return nil
	}
	_, err := inventories.Delete(s.key)
	return err
}

// Lookup returns the row of a MAC.
func (s *SQL) Lookup(ctx context.Context, mac deviceauth.MAC) (inventory.Row, bool, error) {
	return s.inventory.Lookup(ctx, mac)
}

// UnmarshalCaddyfile reads the inventory. Syntax:
//
//	sql postgres|sqlite <dsn> {
//		query           <query>
//		timeout         <duration>
//		refresh         <duration>
//		grace_period    <duration>
//		remember        <number>
//		max_connections <number>
//	}
func (s *SQL) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the module's name
	if !d.AllArgs(&s.Driver, &s.DSN) {
		return d.ArgErr()
	}
	if s.Driver != "postgres" && s.Driver != "sqlite" {
		return d.Errf("devices sql: driver %q is neither postgres nor sqlite", s.Driver)
	}
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		var value string
		if !d.AllArgs(&value) {
			return d.ArgErr()
		}
		if seen[option] {
			return d.Errf("devices sql: duplicate option %s", option)
		}
		seen[option] = true
		if err := s.set(option, value); err != nil {
			return d.Errf("devices sql: %s: %w", option, err)
		}
	}
	if s.Query == "" {
		return d.Err("devices sql: no query")
	}
	return nil
}

func (s *SQL) set(option, value string) (err error) {
	switch option {
	case "query":
		s.Query = value
	case "timeout":
		s.Timeout, err = duration(value)
	case "refresh":
		s.Refresh, err = duration(value)
	case "grace_period":
		s.GracePeriod, err = duration(value)
	case "remember":
		s.Remember, err = number(value)
	case "max_connections":
		s.MaxConnections, err = number(value)
	default:
		err = errors.New("unrecognized option")
	}
	return err
}

func duration(word string) (caddy.Duration, error) {
	value, err := caddy.ParseDuration(word)
	if err != nil || value <= 0 {
		return 0, fmt.Errorf("%q is not a duration", word)
	}
	return caddy.Duration(value), nil
}

func number(word string) (int, error) {
	value, err := strconv.Atoi(word)
	if err != nil || value <= 0 {
		return 0, fmt.Errorf("%q is not a number above zero", word)
	}
	return value, nil
}

// Interface guards.
var (
	_ caddy.Provisioner     = (*SQL)(nil)
	_ caddy.CleanerUpper    = (*SQL)(nil)
	_ caddyfile.Unmarshaler = (*SQL)(nil)
	_ inventory.Inventory   = (*SQL)(nil)
)
