package profilesrc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"syscall"
)

// Files serves the regular files of a folder or of a file system. Nothing
// outside of it can be reached, neither by name nor by symbolic link.
type Files struct {
	label string
	fsys  fs.FS    // nil for a folder
	root  *os.Root // nil for a file system
}

// OpenFiles returns the source of a folder on disk. Close it after use.
func OpenFiles(folder string) (*Files, error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, fmt.Errorf("opening the profile folder: %w", err)
	}
	return &Files{label: "files", root: root}, nil
}

// NewFilesFS returns the source of a folder within a file system; folder "" is
// all of it. name is what the file system is called in logs.
func NewFilesFS(name string, fsys fs.FS, folder string) (*Files, error) {
	if folder != "" {
		sub, err := fs.Sub(fsys, path.Clean(folder))
		if err != nil {
			return nil, fmt.Errorf("file system %s: %w", name, err)
		}
		fsys = sub
	}
	info, err := fs.Stat(fsys, ".")
	if err != nil {
		return nil, fmt.Errorf("file system %s: %w", name, err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("file system %s: %s is no folder", name, folder)
	}
	return &Files{label: "files:" + name, fsys: fsys}, nil
}

// String returns the source's name for logs.
func (f *Files) String() string { return f.label }

// Shared reports that the answer is the same for every device that asks for a
// name.
func (f *Files) Shared() bool { return true }

// Close closes the folder. Profiles that are open stay so.
func (f *Files) Close() error {
	if f.root == nil {
		return nil
	}
	return f.root.Close()
}

// Open opens the file that the request names. Everything but a regular file
// counts as missing.
func (f *Files) Open(ctx context.Context, req Request) (*Profile, error) {
	if err := ctx.Err(); err != nil {
		return nil, f.fault(req, fmt.Errorf("%w: %w", ErrUnavailable, err))
	}
	file, err := f.open(req.Name.String())
	if err != nil {
		return nil, f.fault(req, err)
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, f.fault(req, err)
	}
	if !info.Mode().IsRegular() {
		file.Close()
		return nil, f.fault(req, fmt.Errorf("is no regular file: %w", fs.ErrNotExist))
	}
	tag := fileTag(info)
	if known := req.Known; known != nil && known.Source == f.label && tag != "" && known.ETag == tag {
		file.Close()
		return nil, ErrNotModified
	}
	return &Profile{
		Body:    file.(io.ReadCloser),
		Size:    info.Size(),
		ModTime: info.ModTime(),
		ETag:    tag,
		Source:  f.label,
	}, nil
}

// open opens a file, without waiting for a writer if it is a FIFO.
func (f *Files) open(name string) (fs.File, error) {
	if f.root == nil {
		return f.fsys.Open(name)
	}
	return f.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// fault names the source and the profile, but no path on disk.
func (f *Files) fault(req Request, err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathErr.Err
	}
	// A name that goes through a file, is too long for the disk, or is that of a
	// socket, is missing.
	if errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ENAMETOOLONG) || errors.Is(err, syscall.ENXIO) {
		err = fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return fmt.Errorf("source %s: %s: %w", f.label, req.Name, err)
}

// fileTag is a strong entity tag: a file that changes gets another time or size.
func fileTag(info fs.FileInfo) string {
	t := info.ModTime()
	if t.IsZero() || t.Unix() == 0 {
		return "" // a file system without times
	}
	return `"` + strconv.FormatInt(t.UnixNano(), 36) + "-" + strconv.FormatInt(info.Size(), 36) + `"`
}
