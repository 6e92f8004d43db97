package daemon_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/hostd/config"
	"github.com/stillpoint-ft/stillpoint/hostd/fault"
	"github.com/stillpoint-ft/stillpoint/hostd/yamlfile"
)

// send a frame with a text to the guest.
func (n network) send(t *testing.T, text string) {
	t.Helper()
	b := append([]byte{0x52, 0x54, 0, 1, 2, 3, 0x52, 0x54, 0, 9, 9, 9, 0x88, 0xb5}, fmt.Sprintf("%-60s", text)...)
	for {
		_, err := unix.Write(n.fd, b)
		if err == nil {
			return
		}
		if !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EAGAIN) {
			t.Fatal(err)
		}
	}
}

// quietNetwork keeps the kernel from sending on interfaces that are made from now on.
func quietNetwork(t *testing.T) {
	t.Helper()
	err := os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

// readTap takes what is in a tap now.
func readTap(t *testing.T, tap *os.File) (frames [][]byte) {
	t.Helper()
	for {
		ready := []unix.PollFd{{Fd: int32(tap.Fd()), Events: unix.POLLIN}}
		if n, err := unix.Poll(ready, 0); n == 0 || err != nil {
			return frames
		}
		b := make([]byte, 1<<16)
		n, err := tap.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, b[:n])
	}
}

// TestOldFramesAreNotReplayed: a guest that stands still under load misses frames that
// the log has had; then it gets on, and epochs commit. A takeover long after that hands
// in nothing of that time.
func TestOldFramesAreNotReplayed(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	quietNetwork(t)
	makeUplink(t, "up-m", "net-m")
	tap := openTap(t, "tap-m") // of both hosts, so that none of them removes it
	a, b := pairOfHostsWith(t, func(c *config.Config) { c.Limits.InputDelay = yamlfile.Duration(50 * time.Millisecond) })
	a.startWired("m", "max-epoch: 20ms")
	if err := a.protect("m", "b"); err != nil {
		t.Fatal(err)
	}
	net := listenOn(t, "net-m")
	const burst, most = 100, 3000 // what the gate's socket has room for; what is enough
	sent := 0
	a.await("frames that the guest is too slow for", func() bool {
		for n := 0; n < burst && sent < most; n++ {
			sent++
			net.send(t, fmt.Sprintf("old %d.", sent))
		}
		return a.machine("m").Input.Dropped > 0
	})
	got := 0
	a.await("the guest to have read all", func() bool {
		got += len(readTap(t, tap))
		in := a.machine("m").Input
		return in.Held == 0 && int(in.Delivered) == got
	})
	for range 3 { // the last of the cuts that knew of a tail
		was := a.machine("m").Epoch
		a.await("an epoch", func() bool { return a.machine("m").Epoch > was })
	}
	t.Logf("of %d frames the guest got %d", sent, got)
	if got == 0 {
		t.Error("it got none")
	}
	if err := syscall.Kill(int(a.machine("m").QemuPid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	old := 0
	b.await("the new primary to hand in what arrives", func() bool {
		net.send(t, "new")
		heard := false
		for _, f := range readTap(t, tap) {
			old += bytes.Count(f, []byte("old "))
			heard = heard || bytes.Contains(f, []byte("new"))
		}
		role := b.machine("m").Role // it may be protected again by now
		return heard && role != "standby" && role != "taking-over"
	})
	if old > 0 {
		t.Errorf("%d frames were handed in again that the guest had long had, or missed", old)
	}
}

// TestACheckpointWaitsForWhatWasHandedIn: a guest that is slow to read its card has read
// all of it before it is asked to come to rest.
func TestACheckpointWaitsForWhatWasHandedIn(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	quietNetwork(t)
	makeUplink(t, "up-m", "net-m")
	tap := openTap(t, "tap-m")
	a, _ := pairOfHosts(t)
	net := listenOn(t, "net-m")
	const frames = 5
	var armed, left atomic.Int64
	left.Store(-1)
	read := make(chan struct{})
	var reading sync.Mutex
	take := func() int {
		reading.Lock()
		defer reading.Unlock()
		return len(readTap(t, tap))
	}
	a.restartWith(func(label string, _ uint64) {
		switch {
		case label == fault.Requested && armed.CompareAndSwap(1, 2):
			was := a.machine("m").Input.Delivered
			for n := range frames {
				net.send(t, fmt.Sprintf("handed in %d.", n))
			}
			a.await("the frames to be handed in", func() bool { return a.machine("m").Input.Delivered == was+frames })
			go func() {
				defer close(read)
				for n := 0; n < frames && left.Load() < 0; n += take() {
					<-time.After(5 * time.Millisecond) // that the guest is slow is the point
				}
			}()
		case label == fault.Quiescing && armed.CompareAndSwap(2, 3):
			left.Store(int64(take()))
		}
	}, func() {})
	a.startWired("m", "max-epoch: 20ms")
	if err := a.protect("m", "b"); err != nil {
		t.Fatal(err)
	}
	armed.Store(1)
	a.await("a checkpoint", func() bool { return left.Load() >= 0 })
	<-read
	if n := left.Load(); n > 0 {
		t.Errorf("the guest is asked to come to rest with %d of %d frames that it has not read", n, frames)
	}
}
