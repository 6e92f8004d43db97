package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"

	"google.golang.org/grpc"

	"github.com/stillpoint-ft/stillpoint/hostd/spec"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// Daemon is who carries the verbs out. Its methods are called concurrently. Errors are
// those of Refuse.
type Daemon interface {
	StartMachine(ctx context.Context, s spec.Machine) (status.View, error)
	StopMachine(ctx context.Context, name string) (status.View, error)
	Protect(ctx context.Context, name, standby string, wait bool) (status.View, error)
	Unprotect(ctx context.Context, name string) (status.View, error)
	Switchover(ctx context.Context, name string) (status.View, error)
	Takeover(ctx context.Context, name string) (status.View, error)
	Scrub(ctx context.Context, name string) (status.Scrub, error)
	// Status of the host, and of one machine, or of all if the name is empty.
	Status(name string) (status.Host, error)
	Events() *status.Events
}

// Listen opens the unix socket of the API, for the daemon's user only.
func Listen(path string) (net.Listener, error) {
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return nil, fmt.Errorf("another hostd serves %s", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove the stale control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen for commands: %w", err)
	}
	return l, os.Chmod(path, 0o600)
}

// Serve answers commands to the daemon of a host until the context ends, and those that are under way.
func Serve(ctx context.Context, l net.Listener, host string, d Daemon, more ...grpc.ServerOption) error {
	server := grpc.NewServer(append(more, grpc.WaitForHandlers(true), grpc.MaxRecvMsgSize(control.MaxMessage), grpc.MaxSendMsgSize(control.MaxMessage))...)
	control.RegisterHostdServer(server, New(host, d))
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	err := server.Serve(l)
	if ctx.Err() != nil {
		return nil
	}
	return err
}
