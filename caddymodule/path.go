package caddymodule

import (
	"net/http"
	"strings"
	"unicode/utf8"
)

// maxRequestPath bounds the request path in bytes. No profile's name is longer.
const maxRequestPath = 512

// requestPath returns the decoded path that a request asks for. It fails for
// paths that mean different things to different readers: those with dot
// segments, empty segments, encoded slashes, backslashes or control characters,
// and those that are too long.
func requestPath(r *http.Request) (string, bool) {
	path := r.URL.Path
	if !strings.HasPrefix(path, "/") || len(path) > maxRequestPath {
		return "", false
	}
	// RawPath is set if the path was not encoded in the one usual way.
	if strings.Contains(strings.ToLower(r.URL.RawPath), "%2f") {
		return "", false
	}
	return path, cleanPath(path)
}

// cleanPath reports whether path is free of everything by which a path can
// leave the place it seems to be in.
func cleanPath(path string) bool {
	if !utf8.ValidString(path) || strings.Contains(path, "//") {
		return false
	}
	for _, c := range path {
		if c < ' ' || c == 0x7f || c == '\\' {
			return false
		}
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}
	return true
}

// safeSegment reports whether value, which comes from a certificate, may
// become part of a path.
func safeSegment(value string) bool {
	return value != "" && !strings.Contains(value, "/") && cleanPath(value)
}
