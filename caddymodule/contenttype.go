package caddymodule

import (
	"bytes"
	"net/http"
	"path"
	"strings"
)

// sniffLen is how many bytes of a profile tell its type, as in net/http.
const sniffLen = 512

// fixedTypes are the types of files that are what their name says.
var fixedTypes = map[string]string{
	".xml": "text/xml",
	".bin": "application/octet-stream",
}

// fixedType returns the type that a profile's name alone tells, or "".
func fixedType(name string) string {
	return fixedTypes[strings.ToLower(path.Ext(name))]
}

// sniffType returns the type that a profile's first bytes tell. What vendors
// call .cfg or .htm may be XML, HTML, plain text, gzip or ciphertext.
func sniffType(head []byte) string {
	text := bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")), " \t\r\n")
	detected := http.DetectContentType(text)
	if strings.HasPrefix(detected, "text/xml") {
		return "text/xml"
	}
	if strings.HasPrefix(detected, "text/plain") && bytes.HasPrefix(text, []byte("<")) {
		return "text/xml" // a root element without a declaration
	}
	return detected
}
