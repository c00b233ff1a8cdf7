package caddymodule

import (
	"context"
	"errors"
	"fmt"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/device-profile/caddy-device-profile/profilesrc"
)

func init() {
	caddy.RegisterModule(new(FilesSource))
}

// FilesSource serves profiles from a folder, or from one of Caddy's file
// systems. Nothing outside of the folder can be reached, neither by name nor by
// symbolic link. Only regular files are served; profile names are compared as
// the file system does.
type FilesSource struct {
	// Root is the folder that holds the profiles. Within a file system of
	// Caddy's, it is a path in there. Required without FileSystem.
	Root string `json:"root,omitempty"`

	// FileSystem is the name of a file system from the `filesystem` global
	// option. Default: the disk.
	FileSystem string `json:"fs,omitempty"`

	// Memory bounds, in bytes, what is remembered of files of up to 64 KiB in the
	// folder. A file is still looked at each time, and read again if it has
	// changed. -1 for none. Default: 8 MiB.
	Memory int64 `json:"memory,omitempty"`

	files *profilesrc.Files
}

const memoryWithFS = "source files: memory is for folders on disk, not for file systems"

// CaddyModule returns the Caddy module information.
func (*FilesSource) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.device_profile.sources.files",
		New: func() caddy.Module { return new(FilesSource) },
	}
}

// Provision opens the folder.
func (s *FilesSource) Provision(ctx caddy.Context) error {
	repl := caddy.NewReplacer()
	root := repl.ReplaceKnown(s.Root, "")
	if s.FileSystem == "" {
		if root == "" {
			return errors.New("source files: no folder")
		}
		files, err := profilesrc.OpenFiles(profilesrc.FilesConfig{Folder: root, Memory: s.Memory})
		if err != nil {
			return fmt.Errorf("source files: %w", err)
		}
		s.files = files
		return nil
	}
	if s.Memory > 0 {
		return errors.New(memoryWithFS)
	}
	name := repl.ReplaceKnown(s.FileSystem, "")
	// The app that declares them may not be loaded yet.
	if _, err := ctx.AppIfConfigured("caddy.filesystems"); err != nil && !errors.Is(err, caddy.ErrNotConfigured) {
		return fmt.Errorf("source files: %w", err)
	}
	fsys, ok := ctx.FileSystems().Get(name)
	if !ok {
		return fmt.Errorf("source files: no file system is called %q; declare it with the filesystem global option", name)
	}
	files, err := profilesrc.NewFilesFS(name, fsys, root)
	if err != nil {
		return fmt.Errorf("source files: %w", err)
	}
	s.files = files
	return nil
}

// Cleanup closes the folder.
func (s *FilesSource) Cleanup() error {
	if s.files == nil {
		return nil
	}
	return s.files.Close()
}

// Open returns a profile's file.
func (s *FilesSource) Open(ctx context.Context, req profilesrc.Request) (*profilesrc.Profile, error) {
	return s.files.Open(ctx, req)
}

// String returns the source's name for logs.
func (s *FilesSource) String() string { return s.files.String() }

// Shared reports that a file is the same for every device.
func (s *FilesSource) Shared() bool { return s.files.Shared() }

// UnmarshalCaddyfile reads the source. Syntax:
//
//	files [<root>] {
//		fs     <name>
//		memory <size>|off
//	}
func (s *FilesSource) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the source's name
	if d.NextArg() {
		s.Root = d.Val()
	}
	if d.NextArg() {
		return d.ArgErr()
	}
	for d.NextBlock(0) {
		option := d.Val()
		var err error
		switch {
		case option == "fs" && s.FileSystem == "":
			s.FileSystem, err = oneWord(d)
		case option == "memory" && s.Memory == 0:
			s.Memory, err = sizeOrOff(d, option)
		case option == "fs" || option == "memory":
			err = d.Errf("source files: duplicate option %s", option)
		default:
			err = d.Errf("source files: unrecognized option %q", option)
		}
		if err != nil {
			return err
		}
	}
	if s.FileSystem != "" && s.Memory > 0 {
		return d.Err(memoryWithFS)
	}
	if s.Root == "" && s.FileSystem == "" {
		return d.Err("source files: neither a folder nor a file system")
	}
	return nil
}

// Interface guards.
var (
	_ caddy.Provisioner     = (*FilesSource)(nil)
	_ caddy.CleanerUpper    = (*FilesSource)(nil)
	_ caddyfile.Unmarshaler = (*FilesSource)(nil)
	_ profilesrc.Source     = (*FilesSource)(nil)
)
