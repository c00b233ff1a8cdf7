package profilesrc

import (
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/maypok86/otter/v2"
)

// DefaultFilesMemory is the default of FilesConfig.Memory.
const DefaultFilesMemory = 8 << 20

// settled is how long ago a file must have changed last to be remembered. Within
// a tick of the file system's clock, it could change again and look the same.
const settled = 2 * time.Second

// smallFiles remembers small files, those that are asked for most. What is
// remembered counts for as long as a look at the file finds it unchanged: that is
// one system call for a file in the folder itself, where reading it takes four.
type smallFiles struct {
	entries *otter.Cache[string, *seenFile]
}

// seenFile is a file as it was read. It doesn't change.
type seenFile struct {
	info    fs.FileInfo
	profile Profile // all but the body
	data    []byte
}

// newSmallFiles returns nil if nothing is to be remembered.
func newSmallFiles(memory int64) (*smallFiles, error) {
	setDefault(&memory, DefaultFilesMemory)
	if memory < 0 {
		return nil, nil
	}
	entries, err := otter.New(&otter.Options[string, *seenFile]{
		MaximumWeight: uint64(memory),
		Weigher: func(name string, f *seenFile) uint32 {
			return uint32(len(name) + len(f.data) + entryOverhead) //nolint:gosec // a small file
		},
	})
	if err != nil {
		return nil, fmt.Errorf("making a memory of files: %w", err)
	}
	return &smallFiles{entries}, nil
}

// get returns the profile of a file that is as it was, or nil.
func (s *smallFiles) get(name string, root *os.Root) *Profile {
	if s == nil {
		return nil
	}
	f, ok := s.entries.GetIfPresent(name)
	if !ok {
		return nil
	}
	info, err := root.Stat(name)
	if err != nil || !f.isStill(info) {
		s.entries.Invalidate(name)
		return nil
	}
	p := f.profile
	p.Body = newMemory(f.data)
	return &p
}

// isStill reports whether a look at a file finds nothing that has changed.
func (f *seenFile) isStill(info fs.FileInfo) bool {
	return os.SameFile(f.info, info) && f.info.Size() == info.Size() && f.info.Mode() == info.Mode() &&
		f.info.ModTime().Equal(info.ModTime()) && changeTime(f.info).Equal(changeTime(info))
}

// put remembers a file, unless it had changed just before somebody looked at it.
func (s *smallFiles) put(name string, f *seenFile, looked time.Time) {
	if s == nil {
		return
	}
	changed := f.info.ModTime()
	if t := changeTime(f.info); t.After(changed) {
		changed = t
	}
	if looked.Sub(changed) < settled {
		return
	}
	f.profile.Body = nil
	s.entries.Set(name, f)
}
