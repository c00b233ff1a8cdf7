package deviceauth

// MAC is a device's 48-bit hardware address.
type MAC [6]byte

// ParseMAC reads 12 hex digits in either case, bare or with one kind of
// separator: "000e08aabbcc", "00:0E:08:AA:BB:CC", "00-0e-08-aa-bb-cc",
// "000e.08aa.bbcc".
func ParseMAC(s string) (MAC, error) { panic("not yet") }

// String returns 12 lower-case hex digits, e.g. "000e08aabbcc".
func (m MAC) String() string { panic("not yet") }
