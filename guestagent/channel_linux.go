package guestagent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// errNoChannel says that the machine has no such virtio-serial port.
var errNoChannel = errors.New("no such virtio-serial port")

// openChannel opens the virtio-serial port of a name. Where udev makes no
// links, the name is looked up in sysfs.
func openChannel(name string) (io.ReadWriteCloser, error) {
	path := filepath.Join("/dev/virtio-ports", name)
	if _, err := os.Stat(path); err != nil {
		if path, err = findChannel("/sys/class/virtio-ports", name); err != nil {
			return nil, err
		}
	}
	// Not blocking, so that Go's poller serves it and Close ends a Read.
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open agent channel %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// findChannel returns the device file of the port whose name attribute is name.
func findChannel(class, name string) (string, error) {
	files, err := filepath.Glob(filepath.Join(class, "*", "name"))
	if err != nil {
		return "", fmt.Errorf("look for agent channel: %w", err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err == nil && strings.TrimSpace(string(content)) == name {
			return filepath.Join("/dev", filepath.Base(filepath.Dir(file))), nil
		}
	}
	return "", fmt.Errorf("%w: %s", errNoChannel, name)
}
