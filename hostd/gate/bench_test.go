package gate

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/netdev"
)

// still is a wire through which nothing moves by itself, so that calls can be
// counted.
type still struct {
	*wire
	tap, uplink         *netdev.Socket
	tapFile, uplinkFile int // their descriptors
}

func newStill(t testing.TB, c way) *still {
	s := &still{wire: wireOf(t, Options{HeldOutput: 1 << 20, HeldInput: 1 << 20}, bind)}
	s.tap, s.uplink = s.ports[0].tap.(*netdev.Tap).Socket, s.ports[0].uplink.(*netdev.Socket)
	s.tap.Now(func(fd int) { s.tapFile = fd })
	s.uplink.Now(func(fd int) { s.uplinkFile = fd })
	c.set(s)
	return s
}

// way is one that frames go through the gate.
type way struct {
	name   string
	output bool
	set    func(*still)
	take   func(*still) error // what waits before the gate
	// waits: the frames wait at the gate, and leave together.
	waits bool
	// epoch is how often an epoch of it allocates, however many frames it has.
	epoch float64
}

var ways = []way{
	{"output passes", true, func(s *still) { s.Pass() }, (*still).drainOutput, false, 0},
	{"output is held and released", true, func(s *still) { s.Hold() }, (*still).commitOutput, true, 1},
	{"input is handed in", false, func(s *still) { s.OpenInput() }, (*still).drainInput, false, 0},
	{"input is logged", false, func(s *still) { s.OpenInput(); s.StartLog(LogSync, 1<<40) }, (*still).logInput, true, 0},
	{"input is logged meanwhile", false, func(s *still) { s.OpenInput(); s.StartLog(LogAsync, 1<<40) }, (*still).logInput, true, 0},
	{"input waits", false, func(s *still) {}, (*still).holdInput, true, 0},
}

// far is where the frames come from; from and to are the gate's own ends.
func (c way) far(s *still) *end {
	if c.output {
		return s.guest
	}
	return s.network
}

func (c way) from(s *still) *netdev.Socket {
	if c.output {
		return s.tap
	}
	return s.uplink
}

func (c way) to(s *still) *netdev.Socket {
	if c.output {
		return s.uplink
	}
	return s.tap
}

func (s *still) drainOutput() error { return s.drainTap(0, s.tapFile) }
func (s *still) drainInput() error  { return s.drainUplink(0, s.uplinkFile) }

func (s *still) commitOutput() error {
	s.epoch++
	s.Cut(s.epoch)
	s.Release(s.epoch, never())
	return nil
}

func (s *still) logInput() error {
	err := s.drainInput()
	first, n := s.TakeLog(func(Frame) bool { return true })
	s.Stored(first + uint64(n) - 1)
	return err
}

func (s *still) holdInput() error {
	s.HoldInput()
	err := s.drainInput()
	s.OpenInput()
	return err
}

// passed counts the frames that have gone either way.
func (s *still) passed() uint64 { return s.stats.released.Load() + s.stats.delivered.Load() }

// pass brings n frames to the gate and through it; it returns how long the gate
// took.
func (s *still) pass(t testing.TB, c way, frame []byte, n int) time.Duration {
	for range n {
		if err := c.far(s).send(frame); err != nil {
			t.Fatal(err)
		}
	}
	before := s.passed()
	start := time.Now()
	err := c.take(s)
	took := time.Since(start)
	if got := s.passed() - before; err != nil || got != uint64(n) {
		t.Fatalf("%d frames of %d passed (%v)", got, n, err)
	}
	return took
}

var bursts = []int{1, 8, 32}

// TestSystemCallsPerFrame: one to receive each frame of a burst and one to find
// that it was the last; one to send each, or all that have waited.
func TestSystemCallsPerFrame(t *testing.T) {
	for _, c := range ways {
		t.Run(c.name, func(t *testing.T) {
			s, frame := newStill(t, c), frame(guestMAC, 1)
			from, to := c.from(s), c.to(s)
			for _, burst := range bursts {
				reads := from.Reads()
				writes := to.Writes()
				s.pass(t, c, frame, burst)
				readsAfter := from.Reads()
				if got := readsAfter - reads; got != uint64(burst)+1 {
					t.Errorf("%d calls to receive %d frames", got, burst)
				}
				calls := uint64(burst)
				if c.waits {
					calls = 1
				}
				writesAfter := to.Writes()
				if got := writesAfter - writes; got != calls {
					t.Errorf("%d calls to send %d frames, want %d", got, burst, calls)
				}
			}
		})
	}
}

func TestFramesAllocateNothing(t *testing.T) {
	for _, c := range ways {
		t.Run(c.name, func(t *testing.T) {
			s, frame := newStill(t, c), frame(guestMAC, 1)
			pass := func() { s.pass(t, c, frame, 32) }
			pass()
			pass()
			if n := testing.AllocsPerRun(50, pass); n > c.epoch {
				t.Errorf("%v allocations for 32 frames", n)
			}
		})
	}
}

// BenchmarkFrames tells what the gate takes for a frame, without its far ends.
func BenchmarkFrames(b *testing.B) {
	for _, c := range ways {
		for _, burst := range bursts {
			b.Run(fmt.Sprintf("%s/burst=%d", strings.ReplaceAll(c.name, " ", "-"), burst), func(b *testing.B) {
				s, frame, took, n := newStill(b, c), frame(guestMAC, 1), time.Duration(0), 0
				b.SetBytes(int64(burst * len(frame)))
				b.ReportAllocs()
				for b.Loop() {
					took += s.pass(b, c, frame, burst)
					n += burst
				}
				b.ReportMetric(float64(took)/float64(n), "gate-ns/frame")
			})
		}
	}
}
