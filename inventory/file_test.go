package inventory

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func multi(text string, err error) io.Reader {
	return io.MultiReader(strings.NewReader(text), failing{err})
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// replace puts a new file in the place of an old one.
func replace(t testing.TB, path, text string) {
	t.Helper()
	write(t, path+".new", text)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// loads is what a view was told.
type loads chan Load

// next waits for what is told next. How long is no matter, but for ever.
func (l loads) next(t testing.TB) Load {
	t.Helper()
	select {
	case load := <-l:
		return load
	case <-time.After(2 * time.Minute):
		t.Fatal("nothing was told")
		return Load{}
	}
}

// open opens a file that changes are told of, if at all, by the system alone.
func open(t testing.TB, path string) (*File, *View, loads) {
	return openPolling(t, path, time.Hour)
}

func openPolling(t testing.TB, path string, poll time.Duration) (*File, *View, loads) {
	t.Helper()
	file, err := OpenFile(path, poll)
	if err != nil {
		t.Fatal(err)
	}
	told := make(loads, 100)
	view := file.View(func(load Load) { told <- load })
	t.Cleanup(func() {
		view.Close()
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	})
	return file, view, told
}

// tenantOf is what the view says of the device of these tests.
func tenantOf(t testing.TB, view *View) string {
	t.Helper()
	got, _, err := view.Lookup(context.Background(), mac(t, row))
	if err != nil {
		t.Fatal(err)
	}
	return got.Attr("tenant")
}

func listed(tenant string) string { return "mac,tenant\n" + row + "," + tenant + "\n" }

func wantTenant(t *testing.T, view *View, told loads, want string) {
	t.Helper()
	for {
		load := told.next(t)
		if got := tenantOf(t, view); load.Err == nil && got == want {
			return
		}
	}
}

// TestFileChanges changes a file in every way that files are changed.
func TestFileChanges(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "devices.csv")
	write(t, path, listed("a"))
	_, view, told := open(t, path)

	write(t, path, listed("b"))
	wantTenant(t, view, told, "b")

	replace(t, path, listed("c"))
	wantTenant(t, view, told, "c")

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if load := told.next(t); load.Err == nil || load.Rows != 1 || tenantOf(t, view) != "c" || view.Status().Err == nil {
		t.Errorf("a file that is gone: %+v, %+v", load, view.Status())
	}
	write(t, path, listed("d"))
	wantTenant(t, view, told, "d")
	if status := view.Status(); status.Err != nil || status.Rows != 1 || status.Read.IsZero() {
		t.Errorf("status %+v", status)
	}
}

// A file that comes back as it was is in use again.
func TestFileComesBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "devices.csv")
	write(t, path, listed("a"))
	file, view, told := open(t, path)
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	told.next(t)
	if err := file.Refresh(); err == nil {
		t.Error("a missing file is not complained of")
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	wantTenant(t, view, told, "a")
	if err := file.Refresh(); err != nil || view.Status().Err != nil {
		t.Error(err, view.Status())
	}
}

// Kubernetes replaces the files of a ConfigMap all at once, by a link to their
// folder that is renamed over the one before.
func TestFileBehindLinks(t *testing.T) {
	dir := t.TempDir()
	publish := func(version, tenant string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, version, "devices.csv"), listed(tenant))
		link(t, version, filepath.Join(dir, "..tmp"))
		if err := os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	publish("..1", "a")
	path := filepath.Join(dir, "devices.csv")
	link(t, filepath.Join("..data", "devices.csv"), path)
	_, view, told := open(t, path)
	publish("..2", "b")
	if err := os.RemoveAll(filepath.Join(dir, "..1")); err != nil {
		t.Fatal(err)
	}
	wantTenant(t, view, told, "b")
	write(t, filepath.Join(dir, "..2", "devices.csv"), listed("c")) // where the link leads
	wantTenant(t, view, told, "c")
}

func link(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

// Where the system tells of nothing, looking now and then finds changes: here, of
// links in the middle of the path.
func TestFilePolled(t *testing.T) {
	dir := t.TempDir()
	for _, version := range []string{"1", "2"} {
		if err := os.MkdirAll(filepath.Join(dir, version, "etc"), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, version, "etc", "devices.csv"), listed(version))
	}
	link(t, "1", filepath.Join(dir, "current"))
	_, view, told := openPolling(t, filepath.Join(dir, "current", "etc", "devices.csv"), 50*time.Millisecond)
	link(t, "2", filepath.Join(dir, "next"))
	if err := os.Rename(filepath.Join(dir, "next"), filepath.Join(dir, "current")); err != nil {
		t.Fatal(err)
	}
	wantTenant(t, view, told, "2")
}

// Every bad file is refused at first, and later keeps the last good one.
func TestBadFiles(t *testing.T) {
	for name, tt := range badFiles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "devices.csv")
			write(t, path, tt.text)
			if _, err := OpenFile(path, 0); err == nil || !strings.Contains(err.Error(), tt.cause) {
				t.Errorf("at first: %v", err)
			}
			write(t, path, listed("good"))
			file, view, told := open(t, path)
			replace(t, path, tt.text)
			if load := told.next(t); load.Err == nil || !strings.Contains(load.Err.Error(), tt.cause) || load.Rows != 1 {
				t.Errorf("later: %+v", load)
			}
			if got := tenantOf(t, view); got != "good" {
				t.Errorf("the last good file is gone, tenant %q", got)
			}
			if err := file.Refresh(); err == nil {
				t.Error("read again, the file is no longer bad")
			}
			replace(t, path, listed("better"))
			wantTenant(t, view, told, "better")
		})
	}
	for name, path := range map[string]string{"missing": filepath.Join(t.TempDir(), "none"), "folder": t.TempDir()} {
		t.Run(name, func(t *testing.T) {
			if _, err := OpenFile(path, 0); err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := OpenFile("x", -1); err == nil {
		t.Error("a negative poll is accepted")
	}
}

// A view stays with what it has while the file lacks what it requires; other
// views go on.
func TestRequiredColumns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "devices.csv")
	write(t, path, listed("a"))
	file, view, told := open(t, path)
	if err := view.Require("tenant"); err != nil {
		t.Error(err)
	}
	other := file.View(nil)
	defer other.Close()
	if err := other.Require("site"); err == nil || !strings.Contains(err.Error(), "no column site") || !strings.Contains(err.Error(), "tenant") {
		t.Errorf("got %v", err)
	}
	free := file.View(nil)
	defer free.Close()
	replace(t, path, "mac,site\n"+row+",x\n")
	if load := told.next(t); load.Err == nil || !strings.Contains(load.Err.Error(), "no column tenant") || tenantOf(t, view) != "a" {
		t.Errorf("got %+v", load)
	}
	if err := file.Refresh(); err != nil { // by then, all views are told
		t.Error(err)
	}
	if got, _, _ := free.Lookup(context.Background(), mac(t, row)); got.Attr("site") != "x" {
		t.Error("another view is held back")
	}
	replace(t, path, listed("b"))
	wantTenant(t, view, told, "b")
}
