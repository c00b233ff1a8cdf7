package inventory

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"

	"github.com/device-profile/caddy-device-profile/deviceauth"
)

// Table holds the rows of an inventory in memory, unchangeable. All rows are packed
// into one string, and the index has no pointers, so that a million rows are
// small, and nothing for the garbage collector to look at.
type Table struct {
	index   map[deviceauth.MAC]uint32 // where in packed the row begins
	packed  string
	columns []string
	vendors bool // there is a vendor column
	profile bool // there is a row with a profile
}

// Len returns the number of rows.
func (t *Table) Len() int { return len(t.index) }

// Columns returns the names of the attributes, sorted.
func (t *Table) Columns() []string { return slices.Sorted(slices.Values(t.columns)) }

// Lookup returns the row of a MAC, if there is one.
func (t *Table) Lookup(mac deviceauth.MAC) (Row, bool) {
	at, ok := t.index[mac]
	if !ok {
		return Row{}, false
	}
	return t.unpack(mac, t.packed[at:]), true
}

var errDuplicate = errors.New("is listed twice")

// builder makes a table.
type builder struct {
	Table
	packed  []byte
	numbers map[string]uint64 // the columns'
}

func newBuilder() *builder {
	return &builder{Table: Table{index: make(map[deviceauth.MAC]uint32)}, numbers: make(map[string]uint64)}
}

// column makes an attribute's column known, and returns its number.
func (b *builder) column(name string) uint64 {
	n, ok := b.numbers[name]
	if !ok {
		n = uint64(len(b.columns))
		b.numbers[name] = n
		b.columns = append(b.columns, name)
	}
	return n
}

// add packs a row: its state, profile, vendor and the number of its attributes,
// then each attribute's column and value.
func (b *builder) add(row *Row) error {
	if _, ok := b.index[row.MAC]; ok {
		return errDuplicate
	}
	b.index[row.MAC] = uint32(len(b.packed)) // maxFile keeps it below
	state := byte(0)
	if row.State == Blocked {
		state = 1
	}
	b.packed = append(b.packed, state)
	b.appendString(row.Profile)
	b.appendString(row.Vendor)
	b.packed = binary.AppendUvarint(b.packed, uint64(len(row.Attrs)))
	for _, a := range row.Attrs {
		b.packed = binary.AppendUvarint(b.packed, b.column(a.Column))
		b.appendString(a.Value)
	}
	b.profile = b.profile || row.Profile != ""
	return nil
}

func (b *builder) appendString(s string) {
	b.packed = binary.AppendUvarint(b.packed, uint64(len(s)))
	b.packed = append(b.packed, s...)
}

// table returns what was built.
func (b *builder) table() *Table {
	t := b.Table
	t.packed = string(b.packed)
	t.index = maps.Clone(t.index) // without the room that growing has left
	return &t
}

// unpack reads a row that add has packed.
func (t *Table) unpack(mac deviceauth.MAC, packed string) Row {
	row := Row{MAC: mac, State: Active}
	if packed[0] == 1 {
		row.State = Blocked
	}
	p := unpacker(packed[1:])
	row.Profile, row.Vendor = p.text(), p.text()
	if n := p.number(); n > 0 {
		row.Attrs = make([]Attr, n)
		for i := range row.Attrs {
			row.Attrs[i] = Attr{t.columns[p.number()], p.text()}
		}
	}
	return row
}

// unpacker is what is left to unpack.
type unpacker string

func (p *unpacker) number() (n int) {
	for i, shift := 0, 0; ; i, shift = i+1, shift+7 {
		c := (*p)[i]
		n |= int(c&0x7f) << shift
		if c < 0x80 {
			*p = (*p)[i+1:]
			return n
		}
	}
}

func (p *unpacker) text() string {
	n := p.number()
	s := (*p)[:n]
	*p = (*p)[n:]
	return string(s)
}
