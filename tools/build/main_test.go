package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
)

// TestRecipeIsGoMod holds that the recipe builds what is tested: the same plugin
// and the same Caddy as in go.mod.
func TestRecipeIsGoMod(t *testing.T) {
	recipe, err := readRecipe("../../xcaddy.json")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := modfile.Parse("go.mod", data, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, require := range mod.Require {
		if require.Mod.Path == "github.com/caddyserver/caddy/v2" && require.Mod.Version != recipe.CaddyVersion {
			t.Errorf("Caddy is %s in xcaddy.json, %s in go.mod", recipe.CaddyVersion, require.Mod.Version)
		}
	}
	if len(recipe.Plugins) != 1 || recipe.Plugins[0].PackagePath != mod.Module.Mod.Path {
		t.Errorf("plugins are %v in xcaddy.json, the module is %s in go.mod", recipe.Plugins, mod.Module.Mod.Path)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if len(recipe.Replacements) != 1 || string(recipe.Replacements[0].Old) != mod.Module.Mod.Path || string(recipe.Replacements[0].New) != root {
		t.Errorf("replacements are %v, want %s by %s", recipe.Replacements, mod.Module.Mod.Path, root)
	}
}

// TestBuild builds by the recipe, and compares the modules in the binary with
// those that the checkout registers.
func TestBuild(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "caddy")
	if err := build(t.Context(), "../../xcaddy.json", binary); err != nil {
		t.Fatal(err)
	}
	built := pluginModules(t, exec.Command(binary, "list-modules", "--skip-standard"))
	if registered := registeredModules(t); !slices.Equal(built, registered) {
		t.Errorf("the binary has %v, the checkout registers %v", built, registered)
	}
	if len(built) == 0 {
		t.Error("the binary lists no module of the plugin")
	}
	if out, err := exec.Command(binary, "device", "demo").CombinedOutput(); err != nil {
		t.Errorf("the binary's demo: %v\n%s", err, out)
	}
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
