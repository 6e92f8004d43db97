package guestagent_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/stillpoint-ft/stillpoint/guestagent"
	"github.com/stillpoint-ft/stillpoint/guestagent/agenttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memoryPort is a port of an agent that has no host.
func memoryPort(t *testing.T) (*guestagent.Agent, *guestagent.Port, *agenttest.Memory) {
	t.Helper()
	a, err := guestagent.Start(guestagent.Config{Open: func() (io.ReadWriteCloser, error) { return nil, io.EOF }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	m := agenttest.NewMemory("mem", 1, 1, 8)
	port, err := a.OpenDevice(m)
	if err != nil {
		t.Fatal(err)
	}
	return a, port, m
}

// A receiver that waits does not hold up the still point, and a packet that
// arrives in the pause stays in the device until the gate opens.
func TestWaitingReceiverParks(t *testing.T) {
	a, port, m := memoryPort(t)
	got := make(chan int, 1)
	go func() {
		packets := make([]*guestagent.Packet, 4)
		n, _ := port.RxWait(0, packets, -1)
		port.Free(0, packets[:n])
		got <- n
	}()
	a.Gate().Close()
	guestagent.WaitStill(t, a.Gate())
	m.Inject(0, []byte("one"))
	m.Inject(0, []byte("two"))
	select {
	case n := <-got:
		t.Fatalf("%d packets in the pause", n)
	case <-time.After(20 * time.Millisecond): // nothing to wait for
	}
	if m.Waiting(0) != 2 || a.Gate().Count() != (guestagent.Count{}) {
		t.Errorf("%d wait, %+v", m.Waiting(0), a.Gate().Count())
	}
	a.Gate().Open()
	if n := <-got; n != 2 {
		t.Errorf("%d packets after the pause", n)
	}
}

func TestRxWaitTimesOut(t *testing.T) {
	a, port, _ := memoryPort(t)
	for range 2 { // with the gate open, then closed
		if n, err := port.RxWait(0, make([]*guestagent.Packet, 1), time.Millisecond); n != 0 || err != nil {
			t.Error(n, err)
		}
		a.Gate().Close()
	}
}

func TestCloseEndsWaiting(t *testing.T) {
	for _, closed := range []bool{false, true} {
		a, port, _ := memoryPort(t)
		if closed {
			a.Gate().Close()
		}
		ended := make(chan error, 1)
		go func() { _, err := port.RxWait(0, make([]*guestagent.Packet, 1), -1); ended <- err }()
		port.Close()
		if err := <-ended; !errors.Is(err, guestagent.ErrClosed) {
			t.Error(err)
		}
	}
}

func TestUnsentStaysHeld(t *testing.T) {
	a, port, m := memoryPort(t)
	for range 4 {
		m.Inject(0, []byte("x"))
	}
	packets := make([]*guestagent.Packet, 4)
	port.RxBurst(0, packets)
	m.Accept(1)
	if n := port.TxBurst(0, packets); n != 1 || a.Gate().Count().Held != 3 {
		t.Errorf("%d sent, %+v", n, a.Gate().Count())
	}
	port.Free(0, packets[1:])
	if s := port.Stats(); s.Sent != 1 || s.Taken != 4 || s.Received != 4 || a.Gate().Count() != (guestagent.Count{}) {
		t.Errorf("%+v, %+v", s, a.Gate().Count())
	}
}

func TestAllocAndDeriveAtClosedGate(t *testing.T) {
	a, port, m := memoryPort(t)
	m.Inject(0, []byte("request"))
	packets := make([]*guestagent.Packet, 1)
	port.RxBurst(0, packets)
	a.Gate().Close()
	if port.Alloc(0) != nil {
		t.Error("a packet out of nothing at a closed gate")
	}
	answer := port.Derive(0, packets[0])
	answer.Set([]byte("answer"))
	port.Free(0, packets)
	if c := a.Gate().Count(); c.Held != 1 {
		t.Errorf("%+v while the answer is held", c)
	}
	port.TxBurst(0, []*guestagent.Packet{answer})
	if sent := m.Sent(); len(sent) != 1 || string(sent[0]) != "answer" || a.Gate().Count() != (guestagent.Count{}) {
		t.Errorf("%q, %+v", sent, a.Gate().Count())
	}
}

func TestSource(t *testing.T) {
	a, port, m := memoryPort(t)
	s := port.Source(0, 0)
	m.Inject(0, []byte("first"))
	p, err := s.Next()
	if err != nil || string(p.Data) != "first" || s.Port() != port || a.Gate().Count().Held != 1 {
		t.Fatalf("%+v %v, %+v", p, err, a.Gate().Count())
	}
	a.Gate().Close()
	if err := s.WritePacketData([]byte("answer")); err != nil { // as one is held
		t.Fatal(err)
	}
	s.Release()
	guestagent.WaitStill(t, a.Gate())
	wrote := make(chan error, 1)
	go func() { wrote <- s.WritePacketData([]byte("own idea")) }()
	select {
	case <-wrote:
		t.Error("wrote at a closed gate")
	case <-time.After(10 * time.Millisecond): // nothing to wait for
	}
	a.Gate().Open()
	if err := <-wrote; err != nil {
		t.Error(err)
	}
	m.Inject(0, []byte("second"))
	p, err = s.Next()
	if err != nil || string(p.Data) != "second" || !s.Forward(port, 0) || s.Forward(port, 0) {
		t.Errorf("%+v, %v", p, err)
	}
	if err := s.WritePacketData(make([]byte, 1<<16)); err == nil {
		t.Error("no error for a frame too long")
	}
	if sent := m.Sent(); len(sent) != 3 || a.Gate().Count() != (guestagent.Count{}) {
		t.Errorf("%q, %+v", sent, a.Gate().Count())
	}
	port.Close()
	if _, err := s.Next(); !errors.Is(err, guestagent.ErrClosed) {
		t.Error(err)
	}
}

// wide is a device with more queues than makes sense.
type wide struct{ *agenttest.Memory }

func (wide) Info() guestagent.DeviceInfo { return guestagent.DeviceInfo{Name: "wide", RxQueues: 2000} }

func TestDeviceThatIsRefusedIsClosed(t *testing.T) {
	a, _, _ := memoryPort(t)
	m := agenttest.NewMemory("wide", 1, 1, 1)
	if _, err := a.OpenDevice(wide{m}); err == nil || !strings.Contains(err.Error(), "2000 receive") {
		t.Error(err)
	}
	if err := m.Wait(0, -1); !errors.Is(err, guestagent.ErrClosed) {
		t.Error(err)
	}
	a.Close()
	m = agenttest.NewMemory("late", 1, 1, 1)
	if _, err := a.OpenDevice(m); !errors.Is(err, guestagent.ErrClosed) {
		t.Error(err)
	}
	if err := m.Wait(0, -1); !errors.Is(err, guestagent.ErrClosed) {
		t.Error(err)
	}
}

// A source that waited when its port was closed holds nothing: neither to release nor to
// answer.
func TestSourceAfterItsPort(t *testing.T) {
	_, port, _ := memoryPort(t)
	s := port.Source(0, 0)
	ended := make(chan error, 1)
	go func() { _, err := s.Next(); ended <- err }()
	select {
	case err := <-ended:
		t.Fatal(err)
	case <-time.After(10 * time.Millisecond): // it waits, most likely
	}
	port.Close()
	if err := <-ended; !errors.Is(err, guestagent.ErrClosed) {
		t.Error(err)
	}
	if s.Forward(port, 0) {
		t.Error("forwarded nothing")
	}
	if _, err := s.Next(); !errors.Is(err, guestagent.ErrClosed) {
		t.Error(err)
	}
}
