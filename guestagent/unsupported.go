//go:build !linux

package guestagent

import (
	"errors"
	"fmt"
	"io"
	"runtime"
)

// errUnsupported is what the parts say that a kernel other than Linux has not.
var errUnsupported = fmt.Errorf("not supported on %s: %w", runtime.GOOS, errors.ErrUnsupported)

func openChannel(name string) (io.ReadWriteCloser, error) {
	return nil, fmt.Errorf("open agent channel %s: %w", name, errUnsupported)
}

func openInterface(string, PortOptions, int) (Device, error) { return nil, errUnsupported }
