package profilesrc

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// disk keeps answers in a folder, a file each: a line of JSON about the answer,
// then its content. A file's time is when a source confirmed it last.
type disk struct {
	root      *os.Root
	namespace string
	max       int64

	mu    sync.Mutex
	files map[string]diskFile
	size  int64
}

type diskFile struct {
	size int64
	time time.Time
}

// diskHeader is the first line of a file.
type diskHeader struct {
	Key             string    `json:"key"`
	SHA256          string    `json:"sha256"` // of the content
	ETag            string    `json:"etag,omitempty"`
	Validator       string    `json:"validator,omitempty"`
	ModTime         time.Time `json:"mod_time,omitzero"`
	ContentType     string    `json:"content_type,omitempty"`
	ContentEncoding string    `json:"content_encoding,omitempty"`
	Source          string    `json:"source"`
}

// unfinished is the end of the name of a file that is being written.
const unfinished = ".unfinished"

// openDisk opens the folder, making it if need be.
func openDisk(config StoreConfig) (*disk, error) {
	if err := os.MkdirAll(config.Folder, 0o700); err != nil {
		return nil, fmt.Errorf("making the cache folder: %w", err)
	}
	root, err := os.OpenRoot(config.Folder)
	if err != nil {
		return nil, fmt.Errorf("opening the cache folder: %w", err)
	}
	d := &disk{root: root, namespace: config.Namespace, max: config.MaxSize, files: make(map[string]diskFile)}
	if err := d.scan(); err != nil {
		root.Close()
		return nil, fmt.Errorf("reading the cache folder: %w", err)
	}
	return d, nil
}

// scan takes stock of the folder.
func (d *disk) scan() error {
	entries, err := fs.ReadDir(d.root.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), unfinished) {
			_ = d.root.Remove(e.Name()) // of a process that died
			continue
		}
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || len(e.Name()) != hex.EncodedLen(sha256.Size) {
			continue // not one of ours
		}
		d.count(e.Name(), diskFile{info.Size(), info.ModTime()})
	}
	d.evict()
	return nil
}

// fileName tells nothing about the key.
func (d *disk) fileName(key string) string {
	sum := sha256.Sum256([]byte(d.namespace + "\n" + key))
	return hex.EncodeToString(sum[:])
}

// get returns an answer, or nil. A damaged file is dropped.
func (d *disk) get(key string, log *slog.Logger) *entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	name := d.fileName(key)
	file, ok := d.files[name]
	if !ok {
		return nil
	}
	data, err := d.root.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		d.forget(name) // another process has dropped it
		return nil
	}
	if err != nil {
		log.Error("a cached profile can't be read", "file", name, "error", err)
		return nil
	}
	e, err := decode(key, data)
	if err != nil {
		log.Error("a cached profile is damaged, and dropped", "file", name, "error", err)
		_ = d.root.Remove(name)
		d.forget(name)
		return nil
	}
	e.fetched = file.time
	return e
}

func decode(key string, data []byte) (*entry, error) {
	line, body, ok := bytes.Cut(data, []byte("\n"))
	if !ok {
		return nil, errors.New("it has no first line")
	}
	var h diskHeader
	if err := json.Unmarshal(line, &h); err != nil {
		return nil, errors.New("its first line is no JSON")
	}
	sum := sha256.Sum256(body)
	if h.Key != key || h.SHA256 != hex.EncodeToString(sum[:]) {
		return nil, errors.New("its content is not what its first line says")
	}
	return &entry{data: body, profile: Profile{
		Size: int64(len(body)), ModTime: h.ModTime, ETag: h.ETag, Validator: h.Validator,
		ContentType: h.ContentType, ContentEncoding: h.ContentEncoding, Source: h.Source,
	}}, nil
}

func encode(key string, e *entry) ([]byte, error) {
	sum := sha256.Sum256(e.data)
	p := e.profile
	line, err := json.Marshal(diskHeader{
		Key: key, SHA256: hex.EncodeToString(sum[:]), ETag: p.ETag, Validator: p.Validator, ModTime: p.ModTime,
		ContentType: p.ContentType, ContentEncoding: p.ContentEncoding, Source: p.Source,
	})
	return append(append(line, '\n'), e.data...), err
}

// put writes an answer. What goes wrong is logged: the profile itself is served
// all the same.
func (d *disk) put(key string, e *entry, log *slog.Logger) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name := d.fileName(key)
	if err := d.write(name, key, e); err != nil {
		_ = d.root.Remove(name + unfinished)
		log.Error("a profile can't be kept on disk", "error", err)
		return
	}
	d.evict()
}

// write replaces the file at once or not at all.
func (d *disk) write(name, key string, e *entry) error {
	data, err := encode(key, e)
	if err != nil {
		return err
	}
	file, err := d.root.OpenFile(name+unfinished, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync() // or a power cut could leave an empty file under the name
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := d.root.Chtimes(name+unfinished, e.fetched, e.fetched); err != nil {
		return err
	}
	if err := d.root.Rename(name+unfinished, name); err != nil {
		return err
	}
	d.count(name, diskFile{int64(len(data)), e.fetched})
	return nil
}

// touch notes that a source has confirmed the answer.
func (d *disk) touch(key string, confirmed time.Time, log *slog.Logger) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name := d.fileName(key)
	file, ok := d.files[name]
	if !ok {
		return
	}
	if err := d.root.Chtimes(name, confirmed, confirmed); err != nil {
		log.Error("a cached profile can't be confirmed on disk", "file", name, "error", err)
		return
	}
	file.time = confirmed
	d.files[name] = file
}

// remove forgets an answer.
func (d *disk) remove(key string, log *slog.Logger) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name := d.fileName(key)
	if _, ok := d.files[name]; !ok {
		return
	}
	if err := d.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Error("a cached profile can't be deleted", "file", name, "error", err)
	}
	d.forget(name)
}

// evict deletes the answers that were confirmed longest ago, until the rest is
// within bounds.
func (d *disk) evict() {
	if d.size <= d.max {
		return
	}
	names := slices.SortedFunc(maps.Keys(d.files), func(a, b string) int { return d.files[a].time.Compare(d.files[b].time) })
	for _, name := range names {
		if d.size <= d.max*9/10 {
			return // some room, so that not every new answer has to sort them
		}
		_ = d.root.Remove(name)
		d.forget(name)
	}
}

func (d *disk) count(name string, file diskFile) {
	d.forget(name)
	d.files[name] = file
	d.size += file.size
}

func (d *disk) forget(name string) {
	d.size -= d.files[name].size
	delete(d.files, name)
}
