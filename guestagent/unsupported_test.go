//go:build !linux

package guestagent

import (
	"errors"
	"runtime"
	"strings"
	"testing"
)

func TestOtherKernelsAreToldApart(t *testing.T) {
	a, err := Start(Config{})
	if err != nil {
		t.Fatal(err) // no host is no error, whatever the reason
	}
	defer a.Close()
	_, err = a.OpenPort("eth0", PortOptions{})
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "open interface eth0: not supported on "+runtime.GOOS) {
		t.Error(err)
	}
	if _, err := openChannel(DefaultChannel); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}
