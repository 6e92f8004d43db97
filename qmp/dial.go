package qmp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Dial connects to a QMP socket of QEMU. As QEMU may be still starting it
// tries until the context ends when the socket is missing, refuses or hangs
// up before its greeting; anything else fails at once. The context bounds the
// connecting only. A logger of nil is silent.
//
// QEMU serves one connection at a time on a socket; the next ones wait for
// their greeting until the first is closed.
func Dial(ctx context.Context, socketPath string, log hclog.Logger) (*Client, error) {
	return dial(ctx, socketPath, false, log)
}

// DialOutOfBand is Dial, with out-of-band commands negotiated where QEMU
// offers them: Yank then gets through while QEMU's main loop hangs. It fails
// if QEMU does not offer them.
func DialOutOfBand(ctx context.Context, socketPath string, log hclog.Logger) (*Client, error) {
	return dial(ctx, socketPath, true, log)
}

func dial(ctx context.Context, path string, outOfBand bool, log hclog.Logger) (*Client, error) {
	const first, most = 2 * time.Millisecond, 50 * time.Millisecond
	for wait := first; ; wait = min(2*wait, most) {
		c, err := dialOnce(ctx, path, outOfBand, log)
		if err == nil || !stillStarting(err) {
			return c, err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("%w (last try: %w)", ctx.Err(), err)
		}
	}
}

func dialOnce(ctx context.Context, path string, outOfBand bool, log hclog.Logger) (*Client, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("connect to QMP monitor: %w", err)
	}
	return New(ctx, newSocket(conn, path, outOfBand, log), log)
}

func stillStarting(err error) bool {
	for _, e := range []error{
		os.ErrNotExist, syscall.ECONNREFUSED, syscall.EAGAIN, // EAGAIN: its queue is full
		io.EOF, syscall.ECONNRESET, syscall.EPIPE,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
