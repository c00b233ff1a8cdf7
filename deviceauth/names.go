package deviceauth

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"
)

// nameKey brings a DER distinguished name into a form in which names are equal
// that differ only in string type, case or white space (RFC 5280, section 7.1).
// Device CAs re-encode names, and crypto/x509 compares bytes.
func nameKey(raw []byte) string {
	var rdns pkix.RDNSequence
	if rest, err := asn1.Unmarshal(raw, &rdns); err != nil || len(rest) > 0 {
		return ownKey(raw)
	}
	var b strings.Builder
	for _, rdn := range rdns {
		attributes := make([]string, len(rdn))
		for i, attribute := range rdn {
			if attribute.Value == nil { // a string type that Go can't read
				return ownKey(raw)
			}
			attributes[i] = attribute.Type.String() + "=" + valueKey(attribute.Value)
		}
		slices.Sort(attributes) // an RDN is a set
		fmt.Fprintf(&b, "%q", attributes)
	}
	return b.String()
}

// ownKey is for names that can be compared byte by byte only.
func ownKey(raw []byte) string { return "\x00" + string(raw) }

func valueKey(value any) string {
	text, ok := value.(string)
	if !ok {
		return fmt.Sprintf("%T:%v", value, value)
	}
	return strings.ToLower(strings.Join(strings.Fields(text), " "))
}
