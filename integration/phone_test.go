package integration

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/device-profile/caddy-device-profile/internal/lab"
	"github.com/device-profile/caddy-device-profile/internal/testenv"
)

// phone is a real TLS client that plays a phone.
type phone struct {
	cert string // name of the certificate's files in the lab, "" for none
	// version is the only one that the phone speaks: "1.0" to "1.3".
	version string
	cipher  string // key exchange and cipher: "RSA-AES128", …; "" for any
	sni     string // the server name sent, "" for none
	sha1    bool   // sign the handshake with SHA-1 alone
	path    string
	host    string // of the request. Default: the lab's site
	method  string // Default: GET
	session string // file to keep the TLS session in, or to resume it from
	resume  bool
}

// reply is what came back.
type reply struct {
	status int // 0 if there was none: the handshake failed
	body   string
	output string // all that the program printed
}

var statusLine = regexp.MustCompile(`HTTP/(?:1\.[01]|2) (\d{3})[^\r\n]*\r?\n`)

// client is a TLS library's command-line client.
type client struct {
	name    string
	command func(t *testing.T, s *server, p phone) *exec.Cmd
}

var clients = []client{{"openssl", opensslCommand}, {"gnutls", gnutlsCommand}}

// ask plays the phone with the client.
func (c client) ask(t *testing.T, s *server, p phone) reply {
	t.Helper()
	cmd := c.command(t, s, p)
	method, host := p.method, p.host
	if method == "" {
		method = "GET"
	}
	if host == "" {
		host = lab.Site
	}
	cmd.Stdin = strings.NewReader(fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", method, p.path, host))
	out, _ := cmd.CombinedOutput() // both exit with an error where the server closes first
	return parseReply(string(out))
}

func parseReply(output string) reply {
	r := reply{output: output}
	at := statusLine.FindStringSubmatchIndex(output)
	if at == nil {
		return r
	}
	r.status, _ = strconv.Atoi(output[at[2]:at[3]])
	if _, body, ok := strings.Cut(output[at[1]:], "\r\n\r\n"); ok {
		r.body = body
	}
	return r
}

// want checks the status and, of a refusal, the reason.
func (r reply) want(t *testing.T, status int, reason string) {
	t.Helper()
	got, _, _ := strings.Cut(r.body, "\n")
	if r.status != status || reason != "" && strings.TrimSpace(got) != reason {
		t.Errorf("got %d %q, want %d %q\n%s", r.status, got, status, reason, r.output)
	}
}

func timeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

var opensslCiphers = map[string]string{
	"RSA-AES128": "AES128-SHA", "RSA-AES256": "AES256-SHA", "": "ALL",
}

func opensslCommand(t *testing.T, s *server, p phone) *exec.Cmd {
	args := []string{
		"s_client", "-quiet", "-connect", s.address(), "-CAfile", s.lab.Path("site/ca.pem"),
		"-" + strings.ReplaceAll("tls"+strings.TrimSuffix(p.version, ".0"), ".", "_"),
		"-cipher", opensslCiphers[p.cipher] + ":@SECLEVEL=0",
	}
	if p.sni == "" {
		args = append(args, "-noservername")
	} else {
		args = append(args, "-servername", p.sni)
	}
	if p.cert != "" {
		args = append(args, "-cert", s.lab.Path(p.cert+".pem"), "-cert_chain", s.lab.Path(p.cert+".pem"), "-key", s.lab.Path(p.cert+".key"))
	}
	if p.sha1 {
		args = append(args, "-sigalgs", "RSA+SHA1")
	}
	switch {
	case p.session != "" && p.resume:
		args = append(args, "-sess_in", p.session)
	case p.session != "":
		args = append(args, "-sess_out", p.session)
	}
	return exec.CommandContext(timeout(t), testenv.Need(t, "openssl"), args...)
}

var gnutlsCiphers = map[string]string{
	"":           "",
	"RSA-AES128": ":-KX-ALL:+RSA:-CIPHER-ALL:+AES-128-CBC",
	"RSA-AES256": ":-KX-ALL:+RSA:-CIPHER-ALL:+AES-256-CBC",
	"RSA-RC4":    ":-KX-ALL:+RSA:-CIPHER-ALL:+ARCFOUR-128",
	"RSA-3DES":   ":-KX-ALL:+RSA:-CIPHER-ALL:+3DES-CBC",
}

func gnutlsCommand(t *testing.T, s *server, p phone) *exec.Cmd {
	priority := "NORMAL:%COMPAT:%VERIFY_ALLOW_SIGN_WITH_SHA1:%VERIFY_ALLOW_BROKEN:+SHA1:+MD5:+SIGN-ALL:+SIGN-RSA-SHA1:+RSA:-VERS-ALL:+VERS-TLS" + p.version + gnutlsCiphers[p.cipher]
	if p.sha1 {
		priority += ":-SIGN-ALL:+SIGN-RSA-SHA1"
	}
	args := []string{"--port", strconv.Itoa(s.port), "--no-ca-verification", "--logfile", "/dev/null", "--priority", priority}
	if p.sni == "" {
		args = append(args, "--disable-sni")
	} else {
		args = append(args, "--sni-hostname", p.sni)
	}
	if p.cert != "" {
		args = append(args, "--x509certfile", s.lab.Path(p.cert+".pem"), "--x509keyfile", s.lab.Path(p.cert+".key"))
	}
	return exec.CommandContext(timeout(t), testenv.Need(t, "gnutls-cli"), append(args, "127.0.0.1")...)
}
