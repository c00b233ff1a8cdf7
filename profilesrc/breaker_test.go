package profilesrc_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/device-profile/caddy-device-profile/profilesrc"
)

// sourceFunc is a source of one function.
type sourceFunc func(ctx context.Context, req profilesrc.Request) (*profilesrc.Profile, error)

func (f sourceFunc) Open(ctx context.Context, req profilesrc.Request) (*profilesrc.Profile, error) {
	return f(ctx, req)
}

// TestBreaker holds that a source that is down is left alone, but for one
// request now and then.
func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, answer := 0, error(nil)
		var outcomes, changes []string
		b := profilesrc.NewBreaker("tftp:x", sourceFunc(func(context.Context, profilesrc.Request) (*profilesrc.Profile, error) {
			asked++
			return nil, answer
		}), profilesrc.Observer{
			Asked: func(source, outcome string, _ time.Duration) { outcomes = append(outcomes, outcome) },
			Down:  func(source string, down bool) { changes = append(changes, fmt.Sprint(source, " down: ", down)) },
		})
		ask := func(times int) {
			t.Helper()
			asked = 0
			for range times {
				if _, err := b.Open(t.Context(), nameOf(t, "a.cfg")); answer != nil && err == nil || errors.Is(answer, profilesrc.ErrUnavailable) && !errors.Is(err, profilesrc.ErrUnavailable) {
					t.Errorf("got %v for %v", err, answer)
				}
			}
		}
		want := func(times int) {
			t.Helper()
			if asked != times {
				t.Errorf("asked %d times, want %d", asked, times)
			}
		}

		// Having nothing, or nonsense, is no reason to leave it alone.
		for _, answer = range []error{fs.ErrNotExist, errors.New("nonsense"), profilesrc.ErrNotModified, context.Canceled, nil} {
			ask(10)
			want(10)
		}
		outcomes = nil
		answer = profilesrc.ErrUnavailable
		ask(5)
		want(3)
		if diff := cmp.Diff([]string{"unavailable", "unavailable", "unavailable", "skipped", "skipped"}, outcomes); diff != "" {
			t.Error(diff)
		}
		time.Sleep(6 * time.Second)
		ask(5)
		want(1) // the probe, in vain
		time.Sleep(6 * time.Second)
		answer = nil
		ask(5)
		want(5)
		if diff := cmp.Diff([]string{"tftp:x down: true", "tftp:x down: false"}, changes); diff != "" {
			t.Error(diff)
		}
	})
}

// A server that answers with an error at once is not waited for, and may have
// other profiles: it is asked on.
func TestBreakerWithErrors(t *testing.T) {
	asked := 0
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.WriteHeader(http.StatusInternalServerError)
	})
	b := profilesrc.NewBreaker("http:x", newHTTP(t, profilesrc.HTTPConfig{URL: url}), profilesrc.Observer{})
	for range 5 {
		if _, err := b.Open(t.Context(), nameOf(t, "a.cfg")); verdict(err) != "unavailable" {
			t.Errorf("got %v", err)
		}
	}
	if asked != 5 {
		t.Errorf("asked %d times, want 5", asked)
	}
}
