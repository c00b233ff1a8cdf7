package integration

import (
	"crypto"
	"io"
	"os/exec"
	"strconv"
	"testing"

	"github.com/device-profile/caddy-device-profile/internal/lab"
	"github.com/device-profile/caddy-device-profile/internal/testenv"
)

const sha1 = crypto.SHA1

func itoa(n int) string { return strconv.Itoa(n) }

// curl runs curl for a path of the lab's site and returns what came back,
// headers included.
func curl(t *testing.T, s *server, path string, more ...string) reply {
	t.Helper()
	args := append([]string{
		"-sS", "-i", "--path-as-is", "--max-time", "20", "--cacert", s.lab.Path("site/ca.pem"),
		"--resolve", lab.Site + ":" + itoa(s.port) + ":127.0.0.1",
	}, more...)
	args = append(args, "https://"+lab.Site+":"+itoa(s.port)+path)
	out, _ := exec.CommandContext(timeout(t), testenv.Need(t, "curl"), args...).CombinedOutput()
	return parseReply(string(out))
}

// as returns curl's options for a certificate of the lab.
func (s *server) as(cert string) []string {
	return []string{"--cert", s.lab.Path(cert + ".pem"), "--key", s.lab.Path(cert + ".key")}
}

func plainHTTP(t *testing.T, port int, path string) reply {
	t.Helper()
	out, _ := exec.CommandContext(timeout(t), testenv.Need(t, "curl"), "-sS", "-i", "--max-time", "20",
		"--resolve", lab.Site+":"+itoa(port)+":127.0.0.1", "http://"+lab.Site+":"+itoa(port)+path).CombinedOutput()
	return parseReply(string(out))
}

func readAll(t testing.TB, r io.Reader) string {
	t.Helper()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
