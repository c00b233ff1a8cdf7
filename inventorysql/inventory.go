package inventorysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/sony/gobreaker/v2"
	"golang.org/x/sync/singleflight"

	"github.com/device-profile/caddy-device-profile/deviceauth"
	"github.com/device-profile/caddy-device-profile/inventory"
)

// The defaults of Config.
const (
	DefaultTimeout        = 3 * time.Second
	DefaultRefresh        = 30 * time.Second
	DefaultGracePeriod    = 7 * 24 * time.Hour
	DefaultRemembered     = 200_000
	DefaultMaxConnections = 10
)

// After so many faults in a row, the database is left alone for a pause, so that
// nobody waits for it each time.
const (
	faults = 3
	pause  = 2 * time.Second
)

// Config says how devices are looked up.
type Config struct {
	// Query has one parameter, the MAC as 12 lower-case hex digits, and returns at
	// most one row. Its columns are those of a file's inventory: profile, state,
	// vendor, and attributes. A column mac is ignored. Required.
	Query string
	// Timeout is by when the database must have answered. Default: DefaultTimeout.
	Timeout time.Duration
	// Refresh is how old an answer may get before the database is asked again.
	// Default: DefaultRefresh.
	Refresh time.Duration
	// GracePeriod is how old the last known row may get that is used while the
	// database can't answer. Default: DefaultGracePeriod.
	GracePeriod time.Duration
	// Remembered is how many devices are remembered. Default: DefaultRemembered.
	Remembered int
	// MaxConnections bounds the connections to the database.
	// Default: DefaultMaxConnections.
	MaxConnections int
	// Down is told why the database is left alone, and with nil that it is back.
	// Default: nobody is.
	Down func(error)
	// Now is the clock. Default: time.Now.
	Now func() time.Time
}

// Inventory looks devices up in a database, and remembers what it said.
//
// Rows of listed devices are remembered for the grace period, so that an outage of
// the database is none for them. That a device is not listed is remembered for a
// refresh, and not used in an outage: whether it is listed by then, nobody knows.
type Inventory struct {
	db      *sql.DB
	config  Config
	entries *lru.Cache[deviceauth.MAC, entry] // of listed devices
	missing *lru.Cache[deviceauth.MAC, time.Time]
	flights singleflight.Group
	breaker *gobreaker.CircuitBreaker[answer]
	fault   atomic.Pointer[error] // the last one
}

// entry is a row and when the database gave it.
type entry struct {
	row inventory.Row
	at  time.Time
}

// New returns an inventory of a database, which it closes when it is closed.
func New(db *sql.DB, config Config) (*Inventory, error) {
	if config.Query == "" {
		return nil, errors.New("there is no query")
	}
	if config.Timeout < 0 || config.Refresh < 0 || config.GracePeriod < 0 || config.Remembered < 0 || config.MaxConnections < 0 {
		return nil, errors.New("a duration or number is negative")
	}
	setDefault(&config.Timeout, DefaultTimeout)
	setDefault(&config.Refresh, DefaultRefresh)
	setDefault(&config.GracePeriod, DefaultGracePeriod)
	setDefault(&config.Remembered, DefaultRemembered)
	setDefault(&config.MaxConnections, DefaultMaxConnections)
	if config.Down == nil {
		config.Down = func(error) {}
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	entries, err := lru.New[deviceauth.MAC, entry](config.Remembered)
	if err != nil {
		return nil, err
	}
	// Of its own, lest a stream of unlisted devices push out those that are.
	missing, err := lru.New[deviceauth.MAC, time.Time](config.Remembered)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(config.MaxConnections)
	db.SetMaxIdleConns(config.MaxConnections)
	db.SetConnMaxIdleTime(5 * time.Minute)
	i := &Inventory{db: db, config: config, entries: entries, missing: missing}
	i.breaker = i.newBreaker()
	return i, nil
}

func setDefault[T comparable](value *T, to T) {
	var zero T
	if *value == zero {
		*value = to
	}
}

// Close closes the database.
func (i *Inventory) Close() error { return i.db.Close() }

// Check asks the database for a device that there is none of, to find a query or a
// database that is wrong.
func (i *Inventory) Check(ctx context.Context) error {
	_, _, err := i.ask(ctx, deviceauth.MAC{})
	return err
}

// Lookup returns the row of a MAC, from memory if it is fresh there. However many
// ask for one MAC at once, the database is asked once.
func (i *Inventory) Lookup(ctx context.Context, mac deviceauth.MAC) (inventory.Row, bool, error) {
	now := i.config.Now()
	known, isKnown := i.entries.Get(mac)
	if isKnown && now.Sub(known.at) < i.config.Refresh {
		return known.row, true, nil
	}
	if at, ok := i.missing.Get(mac); ok && now.Sub(at) < i.config.Refresh {
		return inventory.Row{}, false, nil
	}
	row, ok, err := i.share(ctx, mac)
	if err != nil && isKnown && now.Sub(known.at) < i.config.GracePeriod && !errors.Is(err, errBadRow) {
		return known.row, true, nil
	}
	return row, ok, err
}

// answer is what the database said.
type answer struct {
	row inventory.Row
	ok  bool
}

// share asks the database together with everybody else who asks for the MAC.
func (i *Inventory) share(ctx context.Context, mac deviceauth.MAC) (inventory.Row, bool, error) {
	done := i.flights.DoChan(mac.String(), func() (any, error) {
		row, ok, err := i.askAndRemember(context.WithoutCancel(ctx), mac)
		return answer{row, ok}, err
	})
	select {
	case result := <-done:
		got := result.Val.(answer)
		return got.row, got.ok, result.Err
	case <-ctx.Done():
		return inventory.Row{}, false, ctx.Err()
	}
}

func (i *Inventory) askAndRemember(ctx context.Context, mac deviceauth.MAC) (inventory.Row, bool, error) {
	at := i.config.Now()
	got, err := i.breaker.Execute(func() (answer, error) {
		row, ok, err := i.ask(ctx, mac)
		if isFault(err) {
			i.fault.Store(&err)
		}
		return answer{row, ok}, err
	})
	switch {
	case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
		return got.row, false, fmt.Errorf("the database is left alone for a while: %w", *i.fault.Load())
	case err != nil:
	case got.ok:
		i.missing.Remove(mac)
		i.entries.Add(mac, entry{got.row, at})
	default:
		i.entries.Remove(mac)
		i.missing.Add(mac, at)
	}
	return got.row, got.ok, err
}

// isFault reports whether an error says that the database can't answer.
func isFault(err error) bool { return err != nil && !errors.Is(err, errBadRow) }

// newBreaker leaves the database alone once it did not answer, but for one try now
// and then, and tells when that begins and ends.
func (i *Inventory) newBreaker() *gobreaker.CircuitBreaker[answer] {
	return gobreaker.NewCircuitBreaker[answer](gobreaker.Settings{
		Timeout:      pause,
		ReadyToTrip:  func(counts gobreaker.Counts) bool { return counts.ConsecutiveFailures >= faults },
		IsSuccessful: func(err error) bool { return !isFault(err) },
		OnStateChange: func(_ string, from, to gobreaker.State) {
			switch {
			case from == gobreaker.StateClosed && to == gobreaker.StateOpen:
				i.config.Down(*i.fault.Load())
			case to == gobreaker.StateClosed:
				i.config.Down(nil)
			}
		},
	})
}

// errBadRow is an answer that makes no sense.
var errBadRow = errors.New("the database's answer is no row of an inventory")

// ask asks the database.
func (i *Inventory) ask(ctx context.Context, mac deviceauth.MAC) (inventory.Row, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, i.config.Timeout)
	defer cancel()
	rows, err := i.db.QueryContext(ctx, i.config.Query, mac.String())
	if err != nil {
		return inventory.Row{}, false, fmt.Errorf("asking the database: %w", err)
	}
	defer rows.Close()
	columns, err := columnsOf(rows)
	if err != nil {
		return inventory.Row{}, false, err
	}
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return inventory.Row{}, false, fmt.Errorf("asking the database: %w", err)
		}
		return inventory.Row{}, false, nil
	}
	row, err := scan(rows, columns)
	if err != nil {
		return row, false, err
	}
	row.MAC = mac
	if rows.Next() {
		return row, false, fmt.Errorf("%w: there is more than one for %s", errBadRow, mac)
	}
	if err := rows.Err(); err != nil {
		return row, false, fmt.Errorf("asking the database: %w", err)
	}
	return row, true, nil
}

// columnsOf returns the names of the columns, as an inventory has them.
func columnsOf(rows *sql.Rows) ([]string, error) {
	names, err := rows.Columns()
	if err != nil {
		return nil, fmt.Errorf("asking the database: %w", err)
	}
	seen := make(map[string]bool)
	for n, name := range names {
		column, err := inventory.Column(name)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errBadRow, err)
		}
		if seen[column] {
			return nil, fmt.Errorf("%w: the column %s is there twice", errBadRow, column)
		}
		seen[column] = true
		names[n] = column
	}
	return names, nil
}

// scan reads a row. NULL is as good as empty.
func scan(rows *sql.Rows, columns []string) (inventory.Row, error) {
	row := inventory.Row{State: inventory.Active}
	values := make([]sql.NullString, len(columns))
	targets := make([]any, len(columns))
	for n := range values {
		targets[n] = &values[n]
	}
	if err := rows.Scan(targets...); err != nil {
		return row, fmt.Errorf("%w: %w", errBadRow, err)
	}
	for n, column := range columns {
		if column == "mac" {
			continue // the one that was asked for
		}
		if err := row.Set(column, values[n].String); err != nil {
			return row, fmt.Errorf("%w: %w", errBadRow, err)
		}
	}
	return row, nil
}

// Interface guard.
var _ inventory.Inventory = (*Inventory)(nil)
