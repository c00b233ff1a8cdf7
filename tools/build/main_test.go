package main

import (
	"debug/buildinfo"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/xcaddy"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/modfile"
)

// recipes are those of the checkout, with what they need of the environment.
var recipes = []struct {
	name, file, experiment string
}{
	{"standard", "../../xcaddy.json", ""},
	{"fast", "../../xcaddy-fast.json", "boringcrypto"},
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
	want := &xcaddy.Builder{
		Plugins:      []xcaddy.Dependency{{PackagePath: mod.Module.Mod.Path, Version: "v0.0.0"}},
		Replacements: []xcaddy.Replace{xcaddy.NewReplace(mod.Module.Mod.Path, root)},
		BuildFlags:   "-trimpath -ldflags '-s -w'",
	}
	for _, require := range mod.Require {
		if require.Mod.Path == "github.com/caddyserver/caddy/v2" {
			want.CaddyVersion = require.Mod.Version
		}
	}
	for _, r := range recipes {
		got, err := readRecipe(r.file)
		if err != nil {
			t.Fatal(err)
		}
		want.Cgo = r.experiment != ""
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
			if r.experiment != "" {
				if _, err := exec.LookPath("gcc"); err != nil {
					t.Skip("cgo needs a C compiler: ", err)
				}
				t.Setenv("GOEXPERIMENT", r.experiment)
			}
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
			if out, err := exec.Command(binary, "device", "demo").CombinedOutput(); err != nil {
				t.Errorf("the binary's demo: %v\n%s", err, out)
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
