// Package opensslrsa makes the handshakes of device_profile's sites be signed by
// OpenSSL's RSA rather than Go's. That is all it takes to use it: a build that
// imports it. It is a Go module of its own, since it needs cgo to be built and
// libcrypto.so.3 to run; without either, Go signs, which the log says.
//
// On processors with AVX-512 IFMA, OpenSSL signs about three times as fast.
//
// Keys of sites that have them in the TPM, say, or elliptic curves, are not
// touched, nor are other sites. RSA key exchange, which old phones need, stays with
// Go, whose decryption is safe against padding oracles whatever the version of
// OpenSSL.
package opensslrsa
