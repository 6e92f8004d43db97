package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/scene"
	"github.com/stillpoint-ft/stillpoint/hostd/fault"
	"golang.org/x/sys/unix"
)

// TestImageEqualsRAM is what tells a right QEMU from a wrong one: the replica
// is the stopped primary's memory, byte for byte, after every checkpoint.
func TestImageEqualsRAM(t *testing.T) {
	const checkpoints = 100
	s := newStage(t, 5*time.Minute, scene.Options{Faults: true})
	primary, err := s.A.Faults(fault.Copied + "@20")
	s.must(err)
	standby, err := s.B.Faults(fault.Applied + "@20")
	s.must(err)
	s.must(s.A.Start(s.ctx, primary.Env()...))
	s.must(s.B.Start(s.ctx, standby.Env()...))
	m := s.NAT()
	m.Append += " stillpoint.dirty=100"
	s.protected(m)
	traffic := s.traffic(scene.TrafficOptions{Rate: udpRate, TCPRate: tcpRate, Stream: 1})
	ram, replica := s.mapRAM(s.A), s.mapRAM(s.B)
	image := make([]byte, len(ram))
	for n := range checkpoints {
		copied, err := primary.Await(s.ctx, fault.Copied)
		s.must(err)
		copy(image, ram)
		s.must(copied.Go())
		applied, err := standby.Await(s.ctx, fault.Applied)
		s.must(err)
		if applied.Epoch != copied.Epoch {
			t.Fatalf("epoch %d was copied, epoch %d applied", copied.Epoch, applied.Epoch)
		}
		if page, differs := firstDifference(image, replica); differs {
			t.Fatalf("checkpoint %d, epoch %d: page %#x of the replica differs", n, applied.Epoch, page)
		}
		s.must(applied.Go())
	}
	primary.Close()
	standby.Close()
	s.flows(traffic, 10)
	s.verdict(traffic)
}

// mapRAM maps a host's RAM file of the machine.
func (s *stage) mapRAM(h *lab.Host) []byte {
	s.t.Helper()
	const size = 256 << 20
	f, err := os.Open(filepath.Join(h.RAMDir, scene.Machine+".ram"))
	s.must(err)
	defer f.Close()
	b, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	s.must(err)
	s.t.Cleanup(func() { unix.Munmap(b) })
	return b
}

func firstDifference(a, b []byte) (page int, differs bool) {
	const size = 4096
	for at := 0; at < len(a); at += size {
		if !bytes.Equal(a[at:at+size], b[at:at+size]) {
			return at, true
		}
	}
	return 0, len(a) != len(b)
}
