// Package inventorysql adds an inventory module to device_profile, `sql`, that
// looks devices up in a database: PostgreSQL or SQLite. It is a Go module of its
// own, so that only those who want it carry the databases' drivers.
//
// Inventory can be used without Caddy; the module that makes it one of Caddy's is
// SQL.
package inventorysql
