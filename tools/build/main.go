// Command build makes the custom Caddy that xcaddy.json describes, with the
// plugin as it is in this checkout:
//
//	go run -C tools ./build [-o <file>]
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/caddyserver/xcaddy"
)

func main() {
	recipe := flag.String("recipe", "../xcaddy.json", "the build's recipe")
	output := flag.String("o", "../caddy", "the binary to make")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := build(ctx, *recipe, *output); err != nil {
		log.Fatal(err)
	}
}

func build(ctx context.Context, recipe, output string) error {
	b, err := readRecipe(recipe)
	if err != nil {
		return err
	}
	return b.Build(ctx, output)
}

// readRecipe reads a recipe. Folders in its replacements are relative to the
// recipe's own.
func readRecipe(file string) (*xcaddy.Builder, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	decoder := json.NewDecoder(f)
	decoder.DisallowUnknownFields()
	b := new(xcaddy.Builder)
	if err := decoder.Decode(b); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	base, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return nil, err
	}
	for i, r := range b.Replacements {
		if folder := string(r.New); strings.HasPrefix(folder, ".") {
			b.Replacements[i].New = xcaddy.ReplacementPath(filepath.Join(base, folder))
		}
	}
	return b, nil
}
