package sitecert

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/certmagic"
)

// processFolder is the storage of a process that TestProcesses starts, in its
// environment.
const processFolder = "SITECERT_TEST_FOLDER"

// TestMain lets the test's program be one of several processes on one storage:
// it waits for a line on its standard input, opens the site and prints its CSR.
func TestMain(m *testing.M) {
	folder := os.Getenv(processFolder)
	if folder == "" {
		os.Exit(m.Run())
	}
	fmt.Fprintln(os.Stderr, "ready")
	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
		panic(err)
	}
	c := Config{Subject: Subject{FQDN: fqdn}, KeySize: 1024, Storage: &certmagic.FileStorage{Path: folder}}
	for _, part := range []string{"first", "again"} {
		s, err := Open(context.Background(), c)
		if err != nil {
			fmt.Println(part, err)
			os.Exit(1)
		}
		if part == "again" {
			fmt.Print(s.CSR())
		}
	}
}

// TestProcesses starts two processes at the same moment, fifty times.
func TestProcesses(t *testing.T) {
	for i := range 50 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel() // whoever comes second waits for the lock, a second long
			startTwo(t, t.TempDir())
		})
	}
}

func startTwo(t *testing.T, folder string) {
	var outputs [2]bytes.Buffer
	var starts [2]func()
	var waits [2]func() error
	for i := range outputs {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), processFolder+"="+folder)
		cmd.Stdout = &outputs[i]
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := stderr.Read(make([]byte, len("ready\n"))); err != nil {
			t.Fatal(err)
		}
		starts[i] = func() { fmt.Fprintln(stdin, "go") }
		waits[i] = cmd.Wait
	}
	for _, start := range starts {
		start()
	}
	for i, wait := range waits {
		if err := wait(); err != nil {
			t.Fatalf("%v: %s", err, outputs[i].String())
		}
	}
	if a, b := outputs[0].String(), outputs[1].String(); a != b || !strings.HasPrefix(a, "-----BEGIN CERTIFICATE REQUEST-----") {
		t.Fatalf("the processes have not the same CSR:\n%s\n%s", a, b)
	}
	keys, err := filepath.Glob(filepath.Join(folder, "device_profile/sites", fqdn, "keys", "*"))
	if err != nil || len(keys) != 1 {
		t.Fatalf("got keys %q, %v, want one", keys, err)
	}
	if info, err := os.Stat(keys[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the key's file has mode %v, %v, want 0600", info.Mode(), err)
	}
}
