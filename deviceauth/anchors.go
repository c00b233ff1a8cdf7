package deviceauth

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// anchorExtensions are the files that are read in a folder of trust anchors.
var anchorExtensions = []string{".pem", ".crt", ".cer"}

// maxAnchorFile bounds a file of trust anchors in bytes.
const maxAnchorFile = 4 << 20

// ReadAnchors reads the trust anchors that pattern names: a file, a folder of
// files (*.pem, *.crt, *.cer), or a glob. Each file must hold at least one CA
// certificate, in PEM or DER, and nothing that is not one. Errors name the file.
func ReadAnchors(pattern string) ([]*x509.Certificate, error) {
	files, err := anchorFiles(pattern)
	if err != nil {
		return nil, err
	}
	var anchors []*x509.Certificate
	for _, file := range files {
		data, err := readBounded(file)
		if err != nil {
			return nil, err
		}
		found, err := ParseAnchors(file, data)
		if err != nil {
			return nil, err
		}
		anchors = append(anchors, found...)
	}
	return anchors, nil
}

func anchorFiles(pattern string) ([]string, error) {
	info, err := os.Stat(pattern)
	if err == nil && !info.IsDir() {
		return []string{pattern}, nil
	}
	if err == nil {
		return folderFiles(pattern)
	}
	if !errors.Is(err, os.ErrNotExist) || !strings.ContainsAny(pattern, "*?[") {
		return nil, fmt.Errorf("reading CA certificates: %w", err)
	}
	files, err := filepath.Glob(pattern)
	if err != nil {
		return nil, fmt.Errorf("reading CA certificates: %s: %w", pattern, err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("reading CA certificates: no file matches %s", pattern)
	}
	return files, nil
}

func folderFiles(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, fmt.Errorf("reading CA certificates: %w", err)
	}
	var files []string
	for _, entry := range entries {
		if slices.Contains(anchorExtensions, strings.ToLower(filepath.Ext(entry.Name()))) {
			files = append(files, filepath.Join(folder, entry.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("reading CA certificates: folder %s holds no *.pem, *.crt or *.cer file", folder)
	}
	return files, nil
}

func readBounded(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("reading CA certificates: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("reading CA certificates: %s is no regular file", file)
	}
	if info.Size() > maxAnchorFile {
		return nil, fmt.Errorf("reading CA certificates: %s is larger than %d bytes", file, maxAnchorFile)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading CA certificates: %w", err)
	}
	return data, nil
}

// ParseAnchors reads trust anchors from PEM or DER data; text around PEM blocks
// is ignored. name stands in errors.
func ParseAnchors(name string, data []byte) ([]*x509.Certificate, error) {
	ders, err := derBlocks(data, "certificate", "CERTIFICATE", "X509 CERTIFICATE")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	anchors := make([]*x509.Certificate, len(ders))
	for i, der := range ders {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%s: certificate %d: %w", name, i+1, err)
		}
		if err := CheckAnchor(cert); err != nil {
			return nil, fmt.Errorf("%s: certificate %d: %w", name, i+1, err)
		}
		anchors[i] = cert
	}
	return anchors, nil
}

// derBlocks returns the DER of the things in data, which is PEM of the given
// types, or DER. what they are stands in errors.
func derBlocks(data []byte, what string, types ...string) ([][]byte, error) {
	const begin = "-----BEGIN "
	if bytes.Count(data, []byte(begin)) == 0 {
		if len(data) > 0 && data[0] == 0x30 { // an ASN.1 sequence: DER
			return [][]byte{data}, nil
		}
		return nil, fmt.Errorf("holds no %s", what)
	}
	var ders [][]byte
	blocks := 0
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		blocks++
		switch {
		case slices.Contains(types, block.Type):
			ders = append(ders, block.Bytes)
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			return nil, errors.New("holds a private key, which has no place here")
		default:
			return nil, fmt.Errorf("PEM block %d is not a %s", blocks, what)
		}
	}
	// The PEM reader passes over damaged blocks in silence.
	if begun := bytes.Count(data, []byte(begin)); begun != blocks {
		return nil, fmt.Errorf("%d PEM blocks begin, but only %d are whole: is the file truncated?", begun, blocks)
	}
	return ders, nil
}

// CheckAnchor returns an error unless cert may be a trust anchor: a CA
// certificate, or a self-signed version 1 root.
func CheckAnchor(cert *x509.Certificate) error {
	if reason := caFault(cert); reason != "" {
		return fmt.Errorf("%s: %s, so it can't be a trust anchor", cert.Subject, reason)
	}
	return nil
}

// caFault says why cert may not sign certificates, or nothing.
func caFault(cert *x509.Certificate) string {
	if cert.Version == 1 {
		if !bytes.Equal(cert.RawSubject, cert.RawIssuer) || checkSignature(cert, cert) != nil {
			return "is of version 1 and not self-signed"
		}
		return ""
	}
	if !cert.BasicConstraintsValid || !cert.IsCA {
		return "is not a CA certificate"
	}
	if cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return "may not sign certificates by its key usage"
	}
	return ""
}
