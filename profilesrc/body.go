package profilesrc

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// heldBack is how much of a body from a back end is fetched before Open returns,
// in bytes. What goes wrong within that is an error of Open, which can be
// answered and logged, rather than a transfer that breaks off.
const heldBack = 1 << 20

// errTooLarge means that a back end sent more than it may.
var errTooLarge = errors.New("is larger than max_size")

// hold reads the beginning of the profile's body, up to heldBack bytes. A body
// that ends by then is kept in memory, where it can be sought; of a longer one,
// the rest is streamed.
func hold(p *Profile) error {
	data, err := io.ReadAll(io.LimitReader(p.Body, heldBack+1))
	if err != nil {
		p.Body.Close()
		return err
	}
	if len(data) > heldBack {
		p.Body = &streamed{io.MultiReader(bytes.NewReader(data), p.Body), p.Body}
		return nil
	}
	body := p.Body
	p.keep(data)
	return body.Close()
}

// keep makes data the profile's body. Without an entity tag of the back end, the
// profile gets one of its content.
func (p *Profile) keep(data []byte) {
	p.Body, p.Size = newMemory(data), int64(len(data))
	if p.ETag == "" {
		sum := sha256.Sum256(data)
		p.ETag = `"` + hex.EncodeToString(sum[:12]) + `"`
	}
}

// memory is a body in memory.
type memory struct {
	*bytes.Reader
	data []byte
}

func newMemory(data []byte) memory { return memory{bytes.NewReader(data), data} }

// Peek returns the first n bytes, or io.EOF with what there is.
func (m memory) Peek(n int) ([]byte, error) {
	if n > len(m.data) {
		return m.data, io.EOF
	}
	return m.data[:n], nil
}

// Close does nothing.
func (memory) Close() error { return nil }

// streamed is a body of which the beginning was read already.
type streamed struct {
	io.Reader
	body io.Closer
}

// Close closes the rest of the body.
func (s *streamed) Close() error { return s.body.Close() }

// capped refuses to read more than a number of bytes.
type capped struct {
	io.ReadCloser
	left int64
}

// Read reads, until there is too much.
func (c *capped) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	if c.left -= int64(n); c.left < 0 {
		return 0, errTooLarge
	}
	return n, err
}

// printable makes what a back end sent fit for one line of a log.
func printable(text string) string {
	return fmt.Sprintf("%.80q", text)
}
