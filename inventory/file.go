package inventory

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/device-profile/caddy-device-profile/deviceauth"
)

// DefaultPoll is how often a file is looked at by default.
const DefaultPoll = time.Minute

// File is an inventory in a file, which is read again when it changes. Those who
// look things up do so in a View of it.
//
// A change is noticed at once where the system tells of changes to the file's
// folder, and otherwise by looking now and then. The file is read once it has
// stopped changing. What was read before stays in use until a whole new file has
// been found good, and for as long as none is.
type File struct {
	path string

	mu     sync.Mutex // held while reading, but by no Lookup
	seen   fs.FileInfo
	table  *Table
	read   time.Time // when table was
	fault  error     // why the file, as it is now, is not in table
	views  []*View
	events *watcher

	cancel context.CancelFunc
	done   chan struct{}
}

// OpenFile reads the file at path and begins to watch it. poll is how often it is
// looked at beside that, 0 for DefaultPoll. A file that is missing or bad is an
// error.
func OpenFile(path string, poll time.Duration) (*File, error) {
	if poll < 0 {
		return nil, fmt.Errorf("%s: is to be looked at every %v", path, poll)
	}
	if poll == 0 {
		poll = DefaultPoll
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &File{path: path, events: newWatcher(path), cancel: cancel, done: make(chan struct{})}
	if err := f.Refresh(); err != nil {
		cancel()
		f.events.close()
		return nil, err
	}
	go f.watch(ctx, poll)
	return f, nil
}

// Close ends the watching.
func (f *File) Close() error {
	f.cancel()
	<-f.done
	return f.events.close()
}

// Unwatched says why changes are found by looking now and then alone. It is nil if
// the system tells of them.
func (f *File) Unwatched() error { return f.events.fault }

// Refresh reads the file if it has changed. It returns why the file, as it is now,
// is not in use.
func (f *File) Refresh() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if err == nil && sameFile(info, f.seen) {
		return f.fault
	}
	start := time.Now()
	table, info, err := parseFile(f.path)
	if errors.Is(err, errChanging) {
		return err // the watching goes on until it has settled
	}
	if err != nil {
		f.seen = nil
		if _, ok := errors.AsType[*ParseError](err); ok {
			f.seen = info // it would be no better if it were read again
		}
		f.fail(err, time.Since(start))
		return err
	}
	f.events.follow()
	f.seen, f.table, f.read, f.fault = info, table, start, nil
	for _, v := range f.views {
		v.adopt(table, start, time.Since(start))
	}
	return nil
}

// fail tells the views, but not of the same again and again.
func (f *File) fail(err error, took time.Duration) {
	again := f.fault != nil && f.fault.Error() == err.Error()
	f.fault = err
	if again {
		return
	}
	for _, v := range f.views {
		v.fail(err, took)
	}
}

// changed reports how the file is now, if it has changed since it was read.
func (f *File) changed() (fs.FileInfo, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	return info, err != nil || !sameFile(info, f.seen)
}

func sameFile(a, b fs.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

var errChanging = errors.New("was changed while it was read")

// parseFile reads a file, and how it was meanwhile.
func parseFile(path string) (*Table, fs.FileInfo, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s: is no regular file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	if info, err = file.Stat(); err != nil {
		return nil, nil, err
	}
	table, parseErr := Parse(path, file)
	after, err := file.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !sameFile(info, after) {
		return nil, nil, fmt.Errorf("%s: %w", path, errChanging)
	}
	return table, info, parseErr
}

// Load is what came of reading an inventory again.
type Load struct {
	// Rows is how many rows are in use now.
	Rows int
	// Took is how long reading took.
	Took time.Duration
	// Err says why what is in use was not replaced. It is nil if it was.
	Err error
}

// Status says what a view has in use.
type Status struct {
	// Rows is how many rows are in use.
	Rows int
	// Read is when they were read.
	Read time.Time
	// Err says why the file, as it is now, is not in use. It is nil if it is.
	Err error
}

// View looks things up in a file. It can require columns; it then stays with what
// it has while the file doesn't have them.
type View struct {
	file     *File
	table    atomic.Pointer[Table]
	notify   func(Load)
	required []string // guarded by file.mu, as is what follows
	status   Status
}

// View returns a view of the file as it was read last. notify is told what came
// of reading it again, and must not call the file or the view; nil tells nobody.
func (f *File) View(notify func(Load)) *View {
	if notify == nil {
		notify = func(Load) {}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	v := &View{file: f, notify: notify, status: Status{Rows: f.table.Len(), Read: f.read, Err: f.fault}}
	v.table.Store(f.table)
	f.views = append(f.views, v)
	return v
}

// Close ends the view's being told.
func (v *View) Close() {
	v.file.mu.Lock()
	defer v.file.mu.Unlock()
	v.file.views = slices.DeleteFunc(v.file.views, func(other *View) bool { return other == v })
}

// Lookup returns the row of a MAC. It waits for nothing.
func (v *View) Lookup(_ context.Context, mac deviceauth.MAC) (Row, bool, error) {
	row, ok := v.table.Load().Lookup(mac)
	return row, ok, nil
}

// Status says what is in use.
func (v *View) Status() Status {
	v.file.mu.Lock()
	defer v.file.mu.Unlock()
	return v.status
}

// Require makes columns required, now and whenever the file is read again.
func (v *View) Require(columns ...string) error {
	v.file.mu.Lock()
	defer v.file.mu.Unlock()
	v.required = append(v.required, columns...)
	return v.missing(v.table.Load())
}

// Unbound reports whether rows have profiles, but no vendor whose CA must
// vouch for their device.
func (v *View) Unbound() bool {
	table := v.table.Load()
	return table.profile && !table.vendors
}

// missing says which required column the table has not.
func (v *View) missing(table *Table) error {
	for _, column := range v.required {
		if !slices.Contains(table.columns, column) {
			return fmt.Errorf("%s: has no column %s, which is used; there are: %s", v.file.path, column, strings.Join(table.Columns(), " "))
		}
	}
	return nil
}

func (v *View) adopt(table *Table, read time.Time, took time.Duration) {
	if err := v.missing(table); err != nil {
		v.fail(err, took)
		return
	}
	v.table.Store(table)
	v.status = Status{Rows: table.Len(), Read: read}
	v.notify(Load{Rows: table.Len(), Took: took})
}

func (v *View) fail(err error, took time.Duration) {
	v.status.Err = err
	v.notify(Load{Rows: v.status.Rows, Took: took, Err: err})
}

// Interface guard.
var _ Inventory = (*View)(nil)
