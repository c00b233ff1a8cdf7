// Package sitecert keeps a site's private key and the certificate that a
// phone vendor's CA signs for it: it makes key and CSR, checks and installs the
// certificate that comes back, prepares renewals, and hands out what is to be
// served. All state is in a certmagic.Storage, under its lock, so that any
// number of instances share one key.
package sitecert
