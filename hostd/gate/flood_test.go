package gate

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/netns"
)

// flood is an uplink that always has another frame, and the tap beside it, which takes
// all.
type flood struct {
	received atomic.Uint64
	frame    []byte
	closed   chan struct{}
	once     sync.Once
}

func (f *flood) Open(string) (Wire, error)   { return f, nil }
func (f *flood) OpenTap(string) (Tap, error) { return &swallow{done: make(chan struct{})}, nil }
func (f *flood) Await(drain func(fd int) error) error {
	defer func() { <-f.closed }()
	return drain(0)
}
func (f *flood) Now(drain func(fd int)) { drain(0) }
func (f *flood) Receive(_ int, b []byte) (int, bool, error) {
	f.received.Add(1)
	return copy(b, f.frame), false, nil
}
func (f *flood) Offer(b [][]byte) (int, int, bool, error) { return len(b), 0, false, nil }
func (f *flood) Overrun() uint64                          { return 0 }
func (f *flood) Close()                                   { f.once.Do(func() { close(f.closed) }) }

type swallow struct {
	done  chan struct{}
	once  sync.Once
	taken uint64
}

func (s *swallow) Await(func(fd int) error) error           { <-s.done; return nil }
func (s *swallow) Now(func(fd int))                         {}
func (s *swallow) Receive(int, []byte) (int, bool, error)   { return 0, true, nil }
func (s *swallow) Offer(b [][]byte) (int, int, bool, error) { return len(b), 0, false, nil }
func (s *swallow) HandIn(b [][]byte) (int, error)           { s.taken += uint64(len(b)); return len(b), nil }
func (s *swallow) Taken() (uint64, error)                   { return s.taken, nil }
func (s *swallow) Overrun() uint64                          { return 0 }
func (s *swallow) Empty() error                             { return nil }
func (s *swallow) Close()                                   { s.once.Do(func() { close(s.done) }) }

// TestAFloodHoldsUpNoCheckpoint: who wants the input gets it after two batches of a
// flood at most, and a gate closes under it.
func TestAFloodHoldsUpNoCheckpoint(t *testing.T) {
	f := &flood{frame: frame(peerMAC, 1), closed: make(chan struct{})}
	g, err := Open(Options{Ports: []Port{{Name: "in"}}, HeldOutput: 1 << 20, HeldInput: 1 << 20, Wires: f, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	g.OpenInput()
	g.StartLog(LogAsync, 1<<20)
	netns.Eventually(t, "the flood has begun", func() bool { return f.received.Load() > 1000 })
	for range 200 {
		g.in.next.Lock() // as the first thing that Lock does: from here on it is this call's turn
		before := f.received.Load()
		g.in.held.Lock()
		during := f.received.Load() - before
		g.in.next.Unlock()
		g.in.Unlock()
		if during > drainBatch {
			t.Fatalf("%d frames were received meanwhile", during)
		}
		g.HoldInput()
		if _, err := g.CutInput(); err != nil {
			t.Fatal(err)
		}
		g.OpenInput()
	}
	closed := make(chan struct{})
	go func() { g.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(time.Minute):
		t.Fatal("the gate does not close")
	}
}
