package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"

	"github.com/pin/tftp/v3"
)

// backEnds are provisioning servers behind the ones measured. They run in this
// process, so that what they cost is not counted.
type backEnds struct {
	http, tftp string // ports
	stop       func()
}

func startBackEnds(f *fleet) (*backEnds, error) {
	profiles, err := os.OpenRoot(filepath.Join(f.dir, "profiles"))
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, profiles.Close())
	}
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, listener.Close(), profiles.Close())
	}
	webServer := &http.Server{Handler: http.FileServerFS(profiles.FS())}
	tftpServer := tftp.NewServer(func(name string, to io.ReaderFrom) error {
		data, err := profiles.ReadFile(name)
		if err != nil {
			return err
		}
		_, err = to.ReadFrom(bytes.NewReader(data))
		return err
	}, nil)
	go webServer.Serve(listener) //nolint:errcheck // ends with the server
	go tftpServer.Serve(packets) //nolint:errcheck // ends with the server
	return &backEnds{
		http: strconv.Itoa(listener.Addr().(*net.TCPAddr).Port),
		tftp: strconv.Itoa(packets.LocalAddr().(*net.UDPAddr).Port),
		stop: func() {
			_ = webServer.Shutdown(context.Background()) // nobody is left
			tftpServer.Shutdown()
			profiles.Close()
		},
	}, nil
}
