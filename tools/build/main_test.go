package main

import (
	"debug/buildinfo"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/xcaddy"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/modfile"
)

// recipes are those of the checkout.
var recipes = []struct {
	name, file string
	experiment string   // of Go's, which is in the environment
	modules    []string // beside the plugin itself, by folder; they need cgo
}{
	{name: "standard", file: "../../xcaddy.json"},
	{name: "fast", file: "../../xcaddy-fast.json", modules: []string{"opensslrsa"}},
	{name: "fast, with BoringSSL", file: "../../xcaddy-fast.json", experiment: "boringcrypto", modules: []string{"opensslrsa"}},
}

// TestRecipesAreGoMod holds that the recipes build what is tested: the same
// plugin and the same Caddy as in go.mod.
func TestRecipesAreGoMod(t *testing.T) {
	data, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := modfile.Parse("go.mod", data, nil)
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	version := ""
	for _, require := range mod.Require {
		if require.Mod.Path == "github.com/caddyserver/caddy/v2" {
			version = require.Mod.Version
		}
	}
	for _, r := range recipes {
		want := &xcaddy.Builder{CaddyVersion: version, BuildFlags: "-trimpath -ldflags '-s -w'"}
		want.Cgo = len(r.modules) > 0
		for _, folder := range append([]string{""}, r.modules...) {
			module := path.Join(mod.Module.Mod.Path, folder)
			want.Plugins = append(want.Plugins, xcaddy.Dependency{PackagePath: module, Version: "v0.0.0"})
			want.Replacements = append(want.Replacements, xcaddy.NewReplace(module+"@v0.0.0", filepath.Join(root, folder)))
		}
		got, err := readRecipe(r.file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-go.mod +recipe):\n%s", r.file, diff)
		}
	}
}

// TestBuild builds by the recipes, and compares the modules in the binaries with
// those that the checkout registers.
func TestBuild(t *testing.T) {
	registered := registeredModules(t)
	for _, r := range recipes {
		t.Run(r.name, func(t *testing.T) {
			if len(r.modules) > 0 {
				if _, err := exec.LookPath("gcc"); err != nil {
					t.Skip("cgo needs a C compiler: ", err)
				}
			}
			t.Setenv("GOEXPERIMENT", r.experiment)
			binary := filepath.Join(t.TempDir(), "caddy")
			if err := build(t.Context(), r.file, binary); err != nil {
				t.Fatal(err)
			}
			if got := experiment(t, binary); got != r.experiment {
				t.Errorf("the binary was built with experiment %q, want %q", got, r.experiment)
			}
			built := pluginModules(t, exec.Command(binary, "list-modules", "--skip-standard"))
			if !slices.Equal(built, registered) {
				t.Errorf("the binary has %v, the checkout registers %v", built, registered)
			}
			if len(built) == 0 {
				t.Error("the binary lists no module of the plugin")
			}
			lab := filepath.Join(t.TempDir(), "lab")
			if out, err := exec.Command(binary, "device", "demo", "--dir", lab).CombinedOutput(); err != nil {
				t.Errorf("the binary's demo: %v\n%s", err, out)
			}
			log, err := os.ReadFile(filepath.Join(lab, "caddy.log"))
			if err != nil {
				t.Fatal(err)
			}
			if os.Getenv("CI") != "true" && strings.Contains(string(log), "other RSA can't be used") {
				t.Skip("there is no OpenSSL 3 here")
			}
			if got, want := strings.Contains(string(log), `"rsa":"OpenSSL 3.`), slices.Contains(r.modules, "opensslrsa"); got != want {
				t.Errorf("OpenSSL signs: %v, want %v", got, want)
			}
		})
	}
}

// experiment returns the Go experiments that a binary was built with.
func experiment(t *testing.T, binary string) string {
	t.Helper()
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range info.Settings {
		if s.Key == "GOEXPERIMENT" {
			return s.Value
		}
	}
	return ""
}

// registeredModules asks the checkout's own command for the plugin's modules.
func registeredModules(t *testing.T) []string {
	t.Helper()
	cmd := exec.Command("go", "run", "./cmd/caddy", "list-modules", "--skip-standard")
	cmd.Dir = "../.."
	return pluginModules(t, cmd)
}

// pluginModules returns the module IDs that a list-modules command prints.
func pluginModules(t *testing.T, cmd *exec.Cmd) []string {
	t.Helper()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) == 1 && strings.Contains(fields[0], ".") {
			ids = append(ids, fields[0])
		}
	}
	slices.Sort(ids)
	return ids
}
