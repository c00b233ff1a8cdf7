package inventory

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is for how long a file must not have changed before it is read: a file
// that is written in place is only half there meanwhile.
const settle = 200 * time.Millisecond

// watcher tells when something happens in the folders where a file is, and where
// the link leads that it may be. It watches folders, since a file that is replaced
// by another one of its name would take its watch along.
type watcher struct {
	path   string
	notify *fsnotify.Watcher // nil if the system can't
	fault  error
}

func newWatcher(path string) *watcher {
	w := &watcher{path: path}
	if w.notify, w.fault = fsnotify.NewWatcher(); w.fault != nil {
		return w
	}
	w.fault = w.notify.Add(filepath.Dir(path))
	return w
}

// follow watches the folders of today: links change, and folders are replaced.
func (w *watcher) follow() {
	if w.notify == nil {
		return
	}
	folders := []string{filepath.Dir(w.path)}
	if target, err := filepath.EvalSymlinks(w.path); err == nil {
		folders = append(folders, filepath.Dir(target))
	}
	for _, folder := range w.notify.WatchList() {
		if !slices.Contains(folders, folder) {
			w.notify.Remove(folder) //nolint:errcheck // it may be gone
		}
	}
	for _, folder := range folders {
		w.notify.Add(folder) //nolint:errcheck // looking now and then makes up for it
	}
}

func (w *watcher) close() error {
	if w.notify == nil {
		return nil
	}
	return w.notify.Close()
}

// channels are nil if the system can't tell of changes, and so never ready.
func (w *watcher) channels() (<-chan fsnotify.Event, <-chan error) {
	if w.notify == nil {
		return nil, nil
	}
	return w.notify.Events, w.notify.Errors
}

// watch reads the file whenever it has changed, until ctx ends.
func (f *File) watch(ctx context.Context, every time.Duration) {
	defer close(f.done)
	events, faults := f.events.channels()
	poll := time.NewTicker(every)
	defer poll.Stop()
	settled := time.NewTimer(settle) // what happened between reading and now
	defer settled.Stop()
	waiting := true
	look := func() {
		if !waiting {
			waiting = true
			settled.Reset(settle)
		}
	}
	before, _ := f.changed()
	for {
		select {
		case <-ctx.Done():
			return
		case <-events:
			look()
		case <-faults: // some events were lost
			look()
		case <-poll.C:
			f.events.follow()
			look()
		case <-settled.C:
			waiting = false
			now, changed := f.changed()
			switch {
			case !changed:
			case now == nil || sameFile(now, before):
				if errors.Is(f.Refresh(), errChanging) { // of all else, the views are told
					look()
				}
			default:
				look() // it may still be being written
			}
			before = now
		}
	}
}
