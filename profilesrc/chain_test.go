package profilesrc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/device-profile/caddy-device-profile/profilesrc"
	"github.com/device-profile/caddy-device-profile/profilesrc/profilesrctest"
)

// answer is a source that always says the same.
type answer struct {
	content string
	err     error
}

func (a answer) Open(context.Context, profilesrc.Request) (*profilesrc.Profile, error) {
	if a.err != nil {
		return nil, a.err
	}
	return &profilesrc.Profile{Body: io.NopCloser(strings.NewReader(a.content)), Size: -1, Source: "answer"}, nil
}

var (
	missing = answer{err: fmt.Errorf("one: %w", fs.ErrNotExist)}
	down    = answer{err: fmt.Errorf("two: %w", profilesrc.ErrUnavailable)}
	broken  = answer{err: errors.New("three: nonsense")}
)

func TestChain(t *testing.T) {
	has := answer{content: "profile"}
	later := answer{content: "another"}
	for name, tt := range map[string]struct {
		sources              []profilesrc.Source
		content              string
		missing, unavailable bool
		mentions             []string
	}{
		"ok/first":                     {sources: []profilesrc.Source{has, later}, content: "profile"},
		"ok/second":                    {sources: []profilesrc.Source{missing, has}, content: "profile"},
		"ok/one down, one broken":      {sources: []profilesrc.Source{down, broken, has}, content: "profile"},
		"fail/none has it":             {sources: []profilesrc.Source{missing, missing}, missing: true, mentions: []string{"one"}},
		"fail/one down":                {sources: []profilesrc.Source{missing, down}, unavailable: true, mentions: []string{"two"}},
		"fail/one broken":              {sources: []profilesrc.Source{broken, missing}, mentions: []string{"three"}},
		"fail/one down and one broken": {sources: []profilesrc.Source{broken, down}, unavailable: true, mentions: []string{"two", "three"}},
		"fail/no source":               {},
	} {
		t.Run(name, func(t *testing.T) {
			profile, err := profilesrc.NewChain(tt.sources...).Open(t.Context(), nameOf(t, "a.cfg"))
			if tt.content != "" {
				if err != nil {
					t.Fatal(err)
				}
				if got, _ := io.ReadAll(profile.Body); string(got) != tt.content {
					t.Errorf("got %q, want %q", got, tt.content)
				}
				return
			}
			if err == nil {
				t.Fatal("no error")
			}
			if errors.Is(err, fs.ErrNotExist) != tt.missing || errors.Is(err, profilesrc.ErrUnavailable) != tt.unavailable {
				t.Errorf("got %v, want missing %v, unavailable %v", err, tt.missing, tt.unavailable)
			}
			for _, word := range tt.mentions {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%v does not mention %s", err, word)
				}
			}
		})
	}
}

func TestChainConformance(t *testing.T) {
	profilesrctest.TestSource(t, func(t *testing.T, files map[string][]byte) profilesrc.Source {
		// One half of the files is in the first source, one in the second.
		halves := []fstest.MapFS{{"x": {}}, {"x": {}}}
		i := 0
		for name, data := range files {
			halves[i%2][name] = &fstest.MapFile{Data: data}
			i++
		}
		var sources []profilesrc.Source
		for _, half := range halves {
			source, err := profilesrc.NewFilesFS("half", half, "")
			if err != nil {
				t.Fatal(err)
			}
			sources = append(sources, source)
		}
		return profilesrc.NewChain(sources...)
	})
}
