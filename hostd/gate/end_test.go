package gate

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/hostd/netdev"
)

// end is the far end of one of a gate's interfaces.
type end struct{ *netdev.Socket }

func endpoint(t testing.TB, name string) *end {
	t.Helper()
	s, err := netdev.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	return &end{s}
}

// send waits until the kernel takes a frame.
func (e *end) send(frame []byte) error {
	deadline := time.Now().Add(5 * time.Second)
	for {
		_, _, full, err := e.Offer([][]byte{frame})
		if !full || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("send a frame of %d bytes: %w", len(frame), unix.ETIMEDOUT)
		}
		runtime.Gosched()
	}
}

// next is the next frame, whatever it is, or nil where none comes.
func (e *end) next(limit time.Duration) (frame []byte) {
	b := make([]byte, netdev.MaxFrame)
	for deadline := time.Now().Add(limit); ; {
		again := false
		e.Now(func(fd int) {
			var n int
			var err error
			if n, again, err = e.Receive(fd, b); err == nil {
				frame = b[:n]
			}
			if again {
				unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(time.Until(deadline).Milliseconds()))
			}
		})
		if len(frame) > 0 || time.Now().After(deadline) {
			return frame
		}
	}
}

// readFrame is the next of the frames that frame makes.
func readFrame(t *testing.T, e *end, limit time.Duration) []byte {
	t.Helper()
	for deadline := time.Now().Add(limit); ; {
		got := e.next(time.Until(deadline))
		if got == nil {
			return nil
		}
		if len(got) > vnetHeader+ethernetHead && binary.BigEndian.Uint16(got[vnetHeader+12:]) == 0x88b5 {
			return got
		}
	}
}

// peek is the number of the next frame that has arrived; 0 if there is none. Frames
// of others are read over.
func peek(t *testing.T, s *end) (n int) {
	t.Helper()
	b := make([]byte, 2048)
	s.Now(func(fd int) {
		for {
			got, _, err := unix.Recvfrom(fd, b, unix.MSG_PEEK|unix.MSG_DONTWAIT)
			if err != nil {
				return
			}
			if at := bytes.Index(b[:got], []byte("frame ")); at >= 0 {
				fmt.Sscanf(string(b[at:at+10]), "frame %d", &n)
				return
			}
			unix.Recvfrom(fd, b, unix.MSG_DONTWAIT)
		}
	})
	return n
}
