package caddymodule

import (
	"errors"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func TestDropHTTP3(t *testing.T) {
	why := errors.New("no QUIC here")
	for _, tt := range []struct {
		name                  string
		protocols             []string
		listen                [][]string
		want                  []string
		wantListen            [][]string
		wantErr, wantWarnings bool
	}{
		{name: "defaults", protocols: []string{"h1", "h2", "h3"}, want: []string{"h1", "h2"}, wantWarnings: true},
		{name: "off already", protocols: []string{"h1", "h2"}, want: []string{"h1", "h2"}},
		{
			name: "of one address", protocols: []string{"h1"}, listen: [][]string{nil, {"h3", "h2"}},
			want: []string{"h1"}, wantListen: [][]string{nil, {"h2"}}, wantWarnings: true,
		},
		{name: "alone", protocols: []string{"h3"}, wantErr: true},
		{name: "alone at one address", protocols: []string{"h1"}, listen: [][]string{{"h3"}}, wantErr: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			core, logs := observer.New(zapcore.WarnLevel)
			srv := &caddyhttp.Server{Protocols: tt.protocols, ListenProtocols: tt.listen}
			err := dropHTTP3(srv, why, zap.New(core))
			if tt.wantErr {
				if !errors.Is(err, why) {
					t.Fatalf("got error %v, want one that says why", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, srv.Protocols); diff != "" {
				t.Errorf("protocols (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.wantListen, srv.ListenProtocols); diff != "" {
				t.Errorf("protocols by address (-want +got):\n%s", diff)
			}
			if got := logs.Len() > 0; got != tt.wantWarnings {
				t.Errorf("warned: %v, want %v", got, tt.wantWarnings)
			}
		})
	}
}
