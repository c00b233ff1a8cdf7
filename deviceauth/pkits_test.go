package deviceauth

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	dt "github.com/device-profile/caddy-device-profile/deviceauth/deviceauthtest"
)

// pkitsGroups are the groups of NIST's path validation test suite that are
// about what this package decides: signatures, dates, names, basic
// constraints, key usage, name constraints.
var pkitsGroups = []string{"4.1.", "4.2.", "4.3.", "4.6.", "4.7.", "4.13."}

// pkitsTime lies within the validity of the suite's certificates.
var pkitsTime = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// TestPKITS runs the suite that ships with Go. Its outcome, where it is not the
// suite's own, is in docs/conformance.md, and nowhere else.
func TestPKITS(t *testing.T) {
	dir := pkitsDir(t)
	var cases []struct {
		Name           string
		CertPath       []string
		ShouldValidate bool
	}
	data, err := os.ReadFile(filepath.Join(dir, "vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	run := 0
	var refused, accepted []string
	for _, c := range cases {
		if !slices.ContainsFunc(pkitsGroups, func(g string) bool { return strings.HasPrefix(c.Name, g) }) {
			continue
		}
		run++
		err := verifyPKITS(t, dir, c.CertPath)
		number, _, _ := strings.Cut(c.Name, " ")
		switch {
		case c.ShouldValidate && err != nil:
			t.Logf("must pass, is refused: %s: %v", c.Name, err)
			refused = append(refused, number)
		case !c.ShouldValidate && err == nil:
			t.Logf("must fail, is accepted: %s", c.Name)
			accepted = append(accepted, number)
		}
	}
	if run < 80 {
		t.Fatalf("only %d cases in the suite", run)
	}
	t.Logf("%d cases", run)
	if diff := cmp.Diff(documented(t, "Refused, though valid"), refused); diff != "" {
		t.Errorf("valid cases that are refused (-docs/conformance.md +now):\n%s", diff)
	}
	if diff := cmp.Diff(documented(t, "Decided by CRLs alone"), accepted); diff != "" {
		t.Errorf("invalid cases that are accepted (-docs/conformance.md +now):\n%s", diff)
	}
}

func verifyPKITS(t *testing.T, dir string, names []string) error {
	t.Helper()
	var chain []*x509.Certificate
	for _, name := range names {
		der, err := os.ReadFile(filepath.Join(dir, "certs", name))
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return err // what can't be read never gets as far as a handshake
		}
		chain = append(chain, cert)
	}
	verifier, err := NewVerifier(Config{
		Trusts: []Trust{{Vendor: "pkits", Anchors: chain[:1], Identity: Identity{NoMAC: true}}},
		Now:    func() time.Time { return pkitsTime },
	})
	if err != nil {
		t.Fatal(err)
	}
	sent := slices.Clone(chain[1:])
	slices.Reverse(sent)
	_, err = verifier.Verify(sent)
	var refusal *Refusal
	if err != nil && !errors.As(err, &refusal) {
		t.Errorf("%v: undecided: %v", names, err)
	}
	return err
}

// TestPKITSCRLSigners holds that the CAs of the cases that CRLs alone decide
// can't vouch for a CRL. The suite's own CRLs don't ship with Go.
func TestPKITSCRLSigners(t *testing.T) {
	dir := pkitsDir(t)
	for number, name := range map[string]string{
		"4.7.4": "keyUsageCriticalcRLSignFalseCACert.crt",
		"4.7.5": "keyUsageNotCriticalcRLSignFalseCACert.crt",
	} {
		if !slices.Contains(documented(t, "Decided by CRLs alone"), number) {
			t.Errorf("%s is not in docs/conformance.md", number)
		}
		der, err := os.ReadFile(filepath.Join(dir, "certs", name))
		if err != nil {
			t.Fatal(err)
		}
		ca := dt.Must(x509.ParseCertificate(der))
		namesake := dt.Must(dt.NewRoot(pkix.Name{}, dt.RawSubject(ca.RawSubject)))
		trust := Trust{Vendor: "pkits", Anchors: []*x509.Certificate{ca}, CRLs: dt.Must(ParseCRLs(number, dt.Must(namesake.CRL())))}
		if err := trust.Check(); !errors.Is(err, errCRLSigning) {
			t.Errorf("%s: got %v, want %v", number, err, errCRLSigning)
		}
	}
}

// pkitsDir finds the suite in the Go toolchain that runs the test.
func pkitsDir(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(strings.TrimSpace(string(out)), "src/crypto/x509/testdata/nist-pkits")
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("this Go toolchain ships no test data: %v", err)
	}
	return dir
}

var pkitsRow = regexp.MustCompile(`(?m)^\| (4\.\d+\.\d+)`)

// documented returns the cases in the table below a heading of
// docs/conformance.md.
func documented(t *testing.T, heading string) []string {
	t.Helper()
	data, err := os.ReadFile("../docs/conformance.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(data), "## "+heading)
	if !ok {
		t.Fatalf("docs/conformance.md has no section %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var numbers []string
	for _, row := range pkitsRow.FindAllStringSubmatch(section, -1) {
		numbers = append(numbers, row[1])
	}
	return numbers
}
