package deviceauth

// SignatureStrength orders the hashes of certificate signatures.
type SignatureStrength int

// The strengths, strongest first, so that the zero value is the default.
const (
	SHA256 SignatureStrength = iota
	SHA1
	MD5
)
