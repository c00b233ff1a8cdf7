package caddymodule

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/device-profile/caddy-device-profile/profilesrc"
)

// answer sends the profile. A profile that can seek gets all of HTTP: ranges,
// conditional requests, no copying. Others are streamed.
func (v *visit) answer(w http.ResponseWriter, r *http.Request, p *profilesrc.Profile) error {
	defer p.Body.Close()
	v.source, v.stale, v.age = p.Source, p.Stale, p.Age
	content := p.Body.(io.Reader)
	mediaType := p.ContentType
	if mediaType == "" {
		mediaType = fixedType(v.name.String())
	}
	if mediaType == "" {
		head, whole, err := peek(content)
		if err != nil {
			return v.refuse(w, fmt.Errorf("reading profile %s from %s: %w", v.name, p.Source, err))
		}
		mediaType, content = sniffType(head), whole
	}
	header := w.Header()
	header.Set("Content-Type", mediaType)
	setIfAny(header, "ETag", p.ETag)
	setIfAny(header, "Content-Encoding", p.ContentEncoding)
	if p.Cached {
		header.Set("Age", strconv.FormatInt(int64(p.Age.Seconds()), 10))
	}
	rec := caddyhttp.NewResponseRecorder(w, nil, nil)
	if seeker, ok := p.Body.(io.ReadSeeker); ok {
		http.ServeContent(rec, r, "", p.ModTime, seeker)
	} else {
		v.stream(rec, r, p, content)
	}
	v.status, v.bytes = rec.Status(), int64(rec.Size())
	return nil
}

// stream sends a profile that cannot seek.
func (v *visit) stream(w http.ResponseWriter, r *http.Request, p *profilesrc.Profile, content io.Reader) {
	if !p.ModTime.IsZero() {
		w.Header().Set("Last-Modified", p.ModTime.UTC().Format(http.TimeFormat))
	}
	if p.Size >= 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(p.Size, 10))
	}
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	n, err := io.Copy(w, content)
	if err == nil && p.Size >= 0 && n != p.Size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		v.broken = fmt.Errorf("sending profile %s from %s: %w", v.name, p.Source, err)
	}
}

// peek returns the first bytes of body, and a reader of all of it. A body that
// can peek or seek is its own.
func peek(body io.Reader) (head []byte, whole io.Reader, err error) {
	peeker, ok := body.(interface{ Peek(n int) ([]byte, error) })
	if !ok {
		if seeker, ok := body.(io.ReadSeeker); ok {
			return peekAndSeek(seeker)
		}
		buffered := bufio.NewReader(body)
		peeker, body = buffered, buffered
	}
	head, err = peeker.Peek(sniffLen)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return head, body, err
}

func peekAndSeek(body io.ReadSeeker) (head []byte, whole io.Reader, err error) {
	head = make([]byte, sniffLen)
	n, err := io.ReadFull(body, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, nil, err
	}
	_, err = body.Seek(0, io.SeekStart)
	return head[:n], body, err
}

func setIfAny(header http.Header, name, value string) {
	if value != "" {
		header.Set(name, value)
	}
}
