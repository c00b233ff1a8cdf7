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
	"time"
)

// smallFile is up to which size, in bytes, a file is read at once.
const smallFile = 64 << 10

// FilesConfig says which files a source of a folder on disk has.
type FilesConfig struct {
	// Folder holds the profiles.
	Folder string
	// Memory bounds, in bytes, what is remembered of files of up to 64 KiB. They
	// are still looked at each time, and read again if they have changed.
	// Default: DefaultFilesMemory. Negative: nothing is.
	Memory int64
	// Now is the clock. Default: time.Now.
	Now func() time.Time
}

// Files serves the regular files of a folder or of a file system. Nothing
// outside of it can be reached, neither by name nor by symbolic link.
type Files struct {
	label string
	fsys  fs.FS       // nil for a folder
	root  *os.Root    // nil for a file system
	small *smallFiles // nil if none are remembered
	now   func() time.Time
}

// OpenFiles returns the source of a folder on disk. Close it after use.
func OpenFiles(config FilesConfig) (*Files, error) {
	small, err := newSmallFiles(config.Memory)
	if err != nil {
		return nil, err
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	root, err := os.OpenRoot(config.Folder)
	if err != nil {
		return nil, fmt.Errorf("opening the profile folder: %w", err)
	}
	return &Files{label: "files", root: root, small: small, now: config.Now}, nil
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
	return &Files{label: "files:" + name, fsys: fsys, now: time.Now}, nil
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
// counts as missing. What is small is in memory by then, whole.
func (f *Files) Open(ctx context.Context, req Request) (*Profile, error) {
	if err := ctx.Err(); err != nil {
		return nil, f.fault(req, fmt.Errorf("%w: %w", ErrUnavailable, err))
	}
	name := req.Name.String()
	if p := f.small.get(name, f.root); p != nil {
		if f.knows(req, p) {
			return nil, ErrNotModified
		}
		return p, nil
	}
	file, err := f.open(name)
	if err != nil {
		return nil, f.fault(req, err)
	}
	looked := f.now()
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, f.fault(req, err)
	}
	if !info.Mode().IsRegular() {
		file.Close()
		return nil, f.fault(req, fmt.Errorf("is no regular file: %w", fs.ErrNotExist))
	}
	p := &Profile{
		Body:    file.(io.ReadCloser),
		Size:    info.Size(),
		ModTime: info.ModTime(),
		ETag:    fileTag(info),
		Source:  f.label,
	}
	if f.knows(req, p) {
		file.Close()
		return nil, ErrNotModified
	}
	if p.Size > smallFile {
		return p, nil
	}
	data, err := readWhole(p)
	if err != nil {
		return nil, f.fault(req, err)
	}
	p.Body = newMemory(data)
	f.small.put(name, &seenFile{info: info, profile: *p, data: data}, looked)
	return p, nil
}

// knows reports whether the asker has the profile already.
func (f *Files) knows(req Request, p *Profile) bool {
	return req.Known != nil && req.Known.Source == f.label && p.ETag != "" && req.Known.ETag == p.ETag
}

// readWhole reads a file at once. One that can't be read to its end now, perhaps
// because it is being written, is no profile: a phone would take the half for the
// whole.
func readWhole(p *Profile) ([]byte, error) {
	defer p.Body.Close()
	data := make([]byte, p.Size)
	if _, err := io.ReadFull(p.Body, data); err != nil {
		return nil, fmt.Errorf("reading %d bytes: %w: %w", p.Size, errNotThisOne, err)
	}
	return data, nil
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
