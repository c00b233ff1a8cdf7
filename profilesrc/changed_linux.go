package profilesrc

import (
	"io/fs"
	"syscall"
	"time"
)

// changeTime returns when a file's content, owner or mode changed last. Unlike
// its modification time, nobody can set it back. Zero if there is none.
func changeTime(info fs.FileInfo) time.Time {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return time.Time{}
	}
	return time.Unix(stat.Ctim.Unix())
}
