package quiesce

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/stillpoint-ft/stillpoint/guestagent"
	"github.com/stillpoint-ft/stillpoint/guestagent/agenttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cable joins a host's and a guest's end with a new pipe for each connection,
// as QEMU joins a socket and a virtio-serial port.
type cable struct {
	ends chan net.Conn // the guest's
	mu   sync.Mutex
	last net.Conn
}

func newCable() *cable { return &cable{ends: make(chan net.Conn, 16)} }

func (c *cable) dial(context.Context) (net.Conn, error) {
	host, guest := net.Pipe()
	c.mu.Lock()
	c.last = host
	c.mu.Unlock()
	c.ends <- guest
	return host, nil
}

func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last.Close()
}

// open gives the guest the newest connection.
func (c *cable) open() (io.ReadWriteCloser, error) {
	select {
	case end := <-c.ends:
		return end, nil
	default:
		return nil, io.ErrNoProgress
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(limit) {
			t.Fatal("never: ", what)
		}
		time.Sleep(200 * time.Microsecond) // between two looks, not for an effect
	}
}

// host runs a session until the test ends or stop is called.
func host(t *testing.T, o Options) (s *Session, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s = New(hclog.NewNullLogger(), o)
	ended := make(chan struct{})
	go func() { defer close(ended); s.Run(ctx) }()
	stop = func() { cancel(); <-ended }
	t.Cleanup(stop)
	return s, stop
}

func startGuest(t *testing.T, c *cable) (*guestagent.Agent, *guestagent.Port, *agenttest.Memory) {
	t.Helper()
	a, err := guestagent.Start(guestagent.Config{Open: c.open, Retry: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	m := agenttest.NewMemory("in", 1, 1, 64)
	port, err := a.OpenDevice(m)
	if err != nil {
		t.Fatal(err)
	}
	return a, port, m
}

func connected(s *Session) func() bool {
	return func() bool { return s.State().Presence == Connected }
}

func TestJoinedCheckpoints(t *testing.T) {
	c := newCable()
	s, _ := host(t, Options{Dial: c.dial})
	a, port, m := startGuest(t, c)
	until(t, "connected", connected(s))
	until(t, "ports known", func() bool { p := s.State().Ports; return len(p) == 1 && p[0].Name == "in" })
	packets := make([]*guestagent.Packet, 8)
	for epoch := uint64(1); epoch <= 50; epoch++ {
		m.Inject(0, []byte("a packet before"))
		answer, err := s.Quiesce(context.Background(), epoch, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if len(answer.RxPackets) != 1 || answer.RxPackets[0] != 2*epoch-1 || answer.TxPackets[0] != 2*(epoch-1) {
			t.Fatalf("epoch %d: %+v", epoch, answer)
		}
		m.Inject(0, []byte("a packet in the pause"))
		if n := port.RxBurst(0, packets); n != 0 || m.Waiting(0) != 2 {
			t.Fatalf("%d packets handed out in the pause", n)
		}
		s.Resume(epoch, false, 1)
		n, err := port.RxWait(0, packets, -1)
		if n != 2 || err != nil {
			t.Fatalf("%d packets after the pause, %v", n, err)
		}
		port.TxBurst(0, packets[:n])
	}
	if st := a.Stats(); st.StillPoints != 50 || st.Missed != 0 || st.Expired != 0 {
		t.Errorf("%+v", st)
	}
}

func TestJoinedBusyApplication(t *testing.T) {
	c := newCable()
	s, _ := host(t, Options{Dial: c.dial})
	_, port, m := startGuest(t, c)
	until(t, "connected", connected(s))
	m.Inject(0, []byte("held"))
	packets := make([]*guestagent.Packet, 1)
	port.RxWait(0, packets, -1)
	busy := func() bool { // on a crowded machine the guest may say so too late
		_, err := s.Quiesce(context.Background(), 1, 200*time.Millisecond)
		s.Resume(1, false, 1)
		return errors.Is(err, ErrBusy)
	}
	until(t, "busy", busy)
	port.Free(0, packets)
	if _, err := s.Quiesce(context.Background(), 2, 5*time.Second); err != nil {
		t.Error(err)
	}
}

// A new host takes over a guest that the old one left at a still point.
func TestJoinedTakeover(t *testing.T) {
	c := newCable()
	s, stop := host(t, Options{Dial: c.dial})
	a, port, m := startGuest(t, c)
	until(t, "connected", connected(s))
	if _, err := s.Quiesce(context.Background(), 1, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	m.Inject(0, []byte("waits"))
	called := make(chan int, 1)
	a.OnTakeover(func(tk guestagent.Takeover) {
		if n := port.RxBurst(0, make([]*guestagent.Packet, 1)); n != 0 || tk.Generation != 9 {
			t.Errorf("in the callback: %d packets, generation %d", n, tk.Generation)
		}
		called <- m.Waiting(0)
	})
	stop()
	next, _ := host(t, Options{Dial: c.dial, Heartbeat: 10 * time.Millisecond})
	next.Resume(1, true, 9)
	packets := make([]*guestagent.Packet, 1)
	if n, err := port.RxWait(0, packets, -1); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	port.Free(0, packets)
	if n := <-called; n != 1 {
		t.Errorf("%d packets waited during the callback", n)
	}
	until(t, "another checkpoint", func() bool {
		_, err := next.Quiesce(context.Background(), 2, time.Second)
		next.Resume(2, false, 9)
		return err == nil
	})
}

func TestJoinedReconnects(t *testing.T) {
	c := newCable()
	s, _ := host(t, Options{Dial: c.dial})
	startGuest(t, c)
	for epoch := uint64(1); epoch <= 3; epoch++ {
		until(t, "a checkpoint", func() bool {
			_, err := s.Quiesce(context.Background(), epoch, time.Second)
			s.Resume(epoch, false, 1)
			return err == nil
		})
		c.cut()
	}
}
