package e2e

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/pace"
	"github.com/stillpoint-ft/stillpoint/e2e/scene"
	"github.com/stillpoint-ft/stillpoint/hostd/fault"
)

// TestImageEqualsRAM is what tells a right QEMU from a wrong one: the replica
// is the stopped primary's memory, byte for byte, after every checkpoint.
func TestImageEqualsRAM(t *testing.T) { onEachQEMU(t, imageEqualsRAM) }

func imageEqualsRAM(t *testing.T, qemu string) {
	const checkpoints = 50
	s := newStage(t, 5*time.Minute, scene.Options{QEMU: qemu, Faults: true})
	primary, err := s.A.Faults(fault.Copied + "@20")
	s.must(err)
	standby, err := s.B.Faults(fault.Applied + "@20")
	s.must(err)
	s.must(s.A.Start(s.ctx, primary.Env()...))
	s.must(s.B.Start(s.ctx, standby.Env()...))
	m := s.NAT()
	m.Append += " stillpoint.dirty=100"
	s.protected(m)
	traffic := s.traffic(scene.TrafficOptions{Rate: s.udp, TCPRate: s.tcp, Stream: 1})
	s.sameImages(s.A, s.B, primary, standby, checkpoints)
	primary.Close()
	standby.Close()
	s.flows(traffic, 10)
	s.verdict(traffic)
}

// TestImageAfterEachProtection: the same, when the pair has come back after the
// loss of a standby, of a daemon, and of a primary.
func TestImageAfterEachProtection(t *testing.T) {
	const checkpoints = 6
	cycles := pace.Here().Count(6, 2)
	s := newStage(t, 5*time.Minute, scene.Options{Faults: true})
	faults := map[*lab.Host]*lab.Faults{}
	env := map[string][]string{}
	for _, h := range s.Hosts {
		f, err := h.Faults(fault.Copied+"@3", fault.Applied+"@3")
		s.must(err)
		faults[h], env[h.Name] = f, f.Env()
	}
	s.must(s.StartWith(s.ctx, env))
	m := s.NAT()
	m.Append += " stillpoint.dirty=100"
	pass := s.passing(faults)
	s.protected(m)
	traffic := s.traffic(scene.TrafficOptions{Rate: s.udp, TCPRate: s.tcp, Stream: 1})
	p, b := s.A, s.B
	for n := range cycles {
		_, err := p.WaitRole(s.ctx, scene.Machine, "protected")
		s.must(err)
		s.flows(traffic, 50)
		pass()
		s.sameImages(p, b, faults[p], faults[b], checkpoints)
		pass = s.passing(faults)
		switch n % 3 {
		case 0: // the primary leaves COLO and is protected anew
			_, err = b.KillQEMU(scene.Machine)
			s.must(err)
		case 1:
			_, err = b.Kill()
			s.must(err)
			s.must(b.Start(s.ctx, env[b.Name]...))
		case 2:
			_, err = p.KillQEMU(scene.Machine)
			s.must(err)
			p, b = b, p
		}
		_, err = p.WaitRole(s.ctx, scene.Machine, "solo", "seeding")
		s.must(err)
	}
	_, err := p.WaitRole(s.ctx, scene.Machine, "protected")
	s.must(err)
	s.flows(traffic, 50)
	s.verdict(traffic)
	pass()
}

// TestImageOfTheFirstEpochs: the replica is right from the first epoch on. A
// takeover may come at once.
func TestImageOfTheFirstEpochs(t *testing.T) { onEachQEMU(t, imageOfTheFirstEpochs) }

func imageOfTheFirstEpochs(t *testing.T, qemu string) {
	const cycles, checkpoints = 8, 3
	s := newStage(t, 5*time.Minute, scene.Options{QEMU: qemu, Faults: true})
	faults := map[*lab.Host]*lab.Faults{}
	for h, op := range map[*lab.Host]string{s.A: fault.Copied + "@1", s.B: fault.Applied + "@1"} {
		f, err := h.Faults(op)
		s.must(err)
		faults[h] = f
		s.must(h.Start(s.ctx, f.Env()...))
	}
	s.must(s.Boot(s.ctx, s.NAT()))
	protected := make(chan error, 1)
	go func() { // ends with the stage
		_, err := s.A.Protect(s.ctx, scene.Machine, s.B.Name)
		protected <- err
	}()
	for range cycles {
		s.sameImages(s.A, s.B, faults[s.A], faults[s.B], checkpoints)
		pass := s.passing(faults)
		_, err := s.B.KillQEMU(scene.Machine)
		s.must(err)
		_, err = s.A.WaitRole(s.ctx, scene.Machine, "solo", "seeding")
		s.must(err)
		pass()
	}
	pass := s.passing(faults)
	s.must(<-protected)
	pass()
}

// passing lets all daemons pass their steps until the function it returns is
// called.
func (s *stage) passing(faults map[*lab.Host]*lab.Faults) (end func()) {
	ctx, cancel := context.WithCancel(s.ctx)
	var all sync.WaitGroup
	for _, f := range faults {
		all.Go(func() { _ = f.Pass(ctx) })
	}
	return func() { cancel(); all.Wait() }
}

// sameImages compares the primary's stopped memory with the standby's replica,
// checkpoint after checkpoint.
func (s *stage) sameImages(p, b *lab.Host, primary, standby *lab.Faults, checkpoints int) {
	s.t.Helper()
	image := s.mapped(-1) // before QEMU waits: it may take seconds on a busy machine
	var ram, replica []byte
	for n := range checkpoints {
		copied, err := primary.Await(s.ctx, fault.Copied)
		s.must(err)
		if n == 0 { // the standby's file is there by now
			ram, replica = s.mapRAM(p), s.mapRAM(b)
		}
		copy(image, ram)
		s.must(copied.Go())
		applied, err := standby.Await(s.ctx, fault.Applied)
		s.must(err)
		for applied.Epoch < copied.Epoch { // of the epoch before
			s.must(applied.Go())
			applied, err = standby.Await(s.ctx, fault.Applied)
			s.must(err)
		}
		if applied.Epoch != copied.Epoch {
			s.t.Fatalf("epoch %d was copied, epoch %d applied", copied.Epoch, applied.Epoch)
		}
		if page, differs := firstDifference(image, replica); differs {
			s.t.Fatalf("checkpoint %d, epoch %d: page %#x of the replica differs", n, applied.Epoch, page)
		}
		s.must(applied.Go())
	}
	for _, memory := range [][]byte{image, ram, replica} {
		s.must(unix.Munmap(memory))
	}
}

// mapRAM maps a host's RAM file of the machine.
func (s *stage) mapRAM(h *lab.Host) []byte {
	s.t.Helper()
	f, err := os.Open(filepath.Join(h.RAMDir, scene.Machine+".ram"))
	s.must(err)
	defer f.Close()
	return s.mapped(int(f.Fd()))
}

// mapped is a file of a machine's size, or as much memory of this test's own,
// which the race detector does not see: it is large.
func (s *stage) mapped(fd int) []byte {
	s.t.Helper()
	const size = 256 << 20
	access, kind := unix.PROT_READ, unix.MAP_SHARED
	if fd < 0 {
		access, kind = unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS
	}
	b, err := unix.Mmap(fd, 0, size, access, kind|unix.MAP_POPULATE)
	s.must(err)
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
