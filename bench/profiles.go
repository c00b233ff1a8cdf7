package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// profileSeconds is how long a CPU profile watches.
const profileSeconds = 5

// takeProfiles writes a CPU profile of each server that is in Go for each kind of
// visit, which are played for as long as that takes.
func (o *options) takeProfiles(f *fleet, peers []*peer) error {
	for _, p := range peers {
		for i := range kinds {
			if k := &kinds[i]; p.pprof && k.rows == 0 && wanted(o.kinds, k.name) && p.can(k) {
				n := k.count(o.visits)
				if k.fresh {
					n = 500 * profileSeconds // about as many as can come
				}
				phones, err := f.phones(max(n, atOnce))
				if err == nil {
					err = o.takeProfile(p, k, phones, n)
				}
				if err != nil {
					return fmt.Errorf("profiling %s: %s: %w", p.title, k.title, err)
				}
			}
		}
	}
	return nil
}

// takeProfile plays n visits again and again while a CPU profile is taken.
func (o *options) takeProfile(p *peer, k *kind, phones []*phone, n int) (err error) {
	if err := os.MkdirAll(o.profiles, 0o755); err != nil {
		return err
	}
	players, err := newPlayers(p.address, k, phones, n)
	defer func() { err = errors.Join(err, players.leave()) }()
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		done <- download(fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", p.admin, profileSeconds), filepath.Join(o.profiles, p.name+"-"+k.name+".pprof"))
	}()
	for {
		if err := players.play(); err != nil {
			return err
		}
		select {
		case err := <-done:
			return err
		default:
		}
	}
}

func download(url, file string) error {
	client := &http.Client{Timeout: (profileSeconds + 30) * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return writeFile(file, func(w io.Writer) error {
		_, err := io.Copy(w, resp.Body)
		return err
	})
}
