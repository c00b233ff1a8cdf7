package inventory

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/device-profile/caddy-device-profile/deviceauth"
	"github.com/device-profile/caddy-device-profile/internal/testenv"
)

const million = 1_000_000

func fleetMAC(i int) deviceauth.MAC {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(0x0004f2000000+i))
	return deviceauth.MAC(b[2:])
}

func parseFleet(t testing.TB, text string) *Table {
	t.Helper()
	table, err := Parse("devices.csv", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// A million rows stay small. The bound is above what was measured (see the
// README); it is to notice if a row becomes several allocations.
func TestMemoryPerRow(t *testing.T) {
	text := fleet(million, 1)
	before := testenv.Heap()
	table := parseFleet(t, text)
	perRow := float64(testenv.Heap()-before) / million
	t.Logf("%.0f bytes a row, of %d in the file", perRow, len(text)/million)
	if table.Len() != million || perRow > 160 {
		t.Errorf("%d rows of %.0f bytes", table.Len(), perRow)
	}
	runtime.KeepAlive(text)
}

// TestReloadUnderLookups replaces a file of a million rows while everybody looks
// things up: each lookup gets a whole row, of the old file or the new one.
func TestReloadUnderLookups(t *testing.T) {
	path := filepath.Join(t.TempDir(), "devices.csv")
	write(t, path, fleet(million, 0))
	file, view, loads := open(t, path)
	var stop atomic.Bool
	var lookups atomic.Int64
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			for i := worker; !stop.Load(); i = (i + 7919) % million {
				row, ok, err := view.Lookup(context.Background(), fleetMAC(i))
				want := fmt.Sprintf("tenants/t%04d/%s.cfg", i%5000, row.MAC)
				if err != nil || !ok || row.Profile != want || row.Attr("tenant") != fmt.Sprintf("tenant-%04d", i%5000) || len(row.Attr("template")) != 2 {
					t.Errorf("device %d: got %v, %v, %v", i, row, ok, err)
					return
				}
				lookups.Add(1)
			}
		})
	}
	for version := 1; version <= 2; version++ {
		replace(t, path, fleet(million, version))
		if load := loads.next(t); load.Err != nil || load.Rows != million {
			t.Errorf("reload %d: %+v", version, load)
		}
		row, _, _ := view.Lookup(context.Background(), fleetMAC(0))
		if got := row.Attr("template"); got != fmt.Sprintf("v%d", version) {
			t.Errorf("reload %d: the old row %s is still there", version, got)
		}
	}
	if err := os.WriteFile(path, []byte("mac\nnonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if load := loads.next(t); load.Err == nil || load.Rows != million {
		t.Errorf("a bad file: %+v", load)
	}
	stop.Store(true)
	all.Wait()
	if lookups.Load() == 0 {
		t.Error("nobody looked anything up")
	}
	if err := file.Refresh(); err == nil {
		t.Error("a bad file is not complained of again")
	}
}

// BenchmarkLookup looks up devices all over inventories of several sizes, and says
// what a row takes in memory.
func BenchmarkLookup(b *testing.B) {
	for _, rows := range []int{10_000, 100_000, million} {
		b.Run(fmt.Sprint(rows), func(b *testing.B) {
			text := fleet(rows, 1)
			before := testenv.Heap()
			table := parseFleet(b, text)
			held := testenv.Heap() - before
			b.ReportAllocs()
			for i := 0; b.Loop(); i = (i + 7919) % rows {
				if _, ok := table.Lookup(fleetMAC(i)); !ok {
					b.Fatal(i)
				}
			}
			b.ReportMetric(float64(held)/float64(rows), "B/row")
			runtime.KeepAlive(text)
		})
	}
}

func BenchmarkParse(b *testing.B) {
	csv := fleet(million, 1)
	var lines strings.Builder
	for i := range million {
		fmt.Fprintf(&lines, `{"mac":"0004f2%06x","profile":"tenants/t%04d/0004f2%06x.cfg","state":"active","tenant":"tenant-%04d"}`+"\n", i, i%5000, i, i%5000)
	}
	for name, text := range map[string]string{"csv": csv, "json": lines.String()} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				parseFleet(b, text)
			}
		})
	}
}
