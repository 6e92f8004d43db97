package agenttest

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/stillpoint-ft/stillpoint/guestagent"
	"github.com/stillpoint-ft/stillpoint/proto/agent"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _ guestagent.Device = (*Memory)(nil)

func open(t *testing.T, a *guestagent.Agent, name string) *guestagent.Port {
	t.Helper()
	port, err := a.OpenPort(name, guestagent.PortOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// echo sends everything back until its port is closed.
func echo(port *guestagent.Port) {
	packets := make([]*guestagent.Packet, 4)
	for {
		n, err := port.RxWait(0, packets, -1)
		if err != nil {
			return
		}
		port.Free(0, packets[port.TxBurst(0, packets[:n]):n])
	}
}

func TestProgramRestsAndGoesOn(t *testing.T) {
	card := NewMemory("eth0", 1, 1, 8)
	a, host := Start(t, guestagent.Config{}, card)
	go echo(open(t, a, "eth0"))
	for round := uint64(1); round <= 20; round++ {
		card.Inject(0, []byte("before"))
		if sent := card.AwaitSent(1, time.Minute); len(sent) != 1 || string(sent[0]) != "before" {
			t.Fatalf("round %d: sent %q", round, sent)
		}
		point, err := host.Quiesce(time.Minute)
		if err != nil || len(point.Ports) != 1 || point.Ports[0] != (Counters{2*round - 1, 2*round - 1}) {
			t.Fatalf("round %d: %+v, %v", round, point, err)
		}
		card.Inject(0, []byte("meanwhile"))
		if sent := card.Sent(); card.Waiting(0) != 1 || len(sent) != 0 {
			t.Fatalf("round %d: %d wait, sent %q", round, card.Waiting(0), sent)
		}
		if err := host.Resume(); err != nil {
			t.Fatal(err)
		}
		if sent := card.AwaitSent(1, time.Minute); len(sent) != 1 || string(sent[0]) != "meanwhile" {
			t.Fatalf("round %d: sent %q afterwards", round, sent)
		}
	}
	if s := a.Stats(); s.StillPoints != 20 || s.Stale != 0 || s.Skipped != 0 {
		t.Errorf("%+v", s)
	}
}

func TestProgramThatHoldsAPacketIsBusy(t *testing.T) {
	card := NewMemory("eth0", 1, 1, 8)
	a, host := Start(t, guestagent.Config{}, card)
	port := open(t, a, "eth0")
	card.Inject(0, []byte("held"))
	packets := make([]*guestagent.Packet, 1)
	port.RxBurst(0, packets)
	_, err := host.Quiesce(time.Millisecond)
	var busy *BusyError
	if !errors.As(err, &busy) || busy.Count != (guestagent.Count{Held: 1}) || !strings.Contains(err.Error(), "1 packets held") {
		t.Errorf("got %v", err)
	}
	port.Free(0, packets)
	if err := host.Resume(); err != nil {
		t.Error(err)
	}
	if _, err := host.Quiesce(time.Minute); err != nil {
		t.Error(err)
	}
}

func TestTakeoverRunsTheCallbacksFirst(t *testing.T) {
	card := NewMemory("eth0", 1, 1, 8)
	a, host := Start(t, guestagent.Config{}, card)
	port := open(t, a, "eth0")
	var told []string
	a.OnTakeover(func(tk guestagent.Takeover) {
		told = append(told, fmt.Sprint(tk.Generation, a.Gate().Closed()))
	})
	if _, err := host.Quiesce(time.Minute); err != nil {
		t.Fatal(err)
	}
	card.Inject(0, []byte("waits"))
	for range 2 {
		if err := host.TakeOver(); err != nil {
			t.Fatal(err)
		}
	}
	if len(told) != 2 || told[0] != "2 true" || told[1] != "3 true" {
		t.Errorf("told %q", told)
	}
	packets := make([]*guestagent.Packet, 1)
	if n, err := port.RxWait(0, packets, -1); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	port.Free(0, packets)
	if _, err := host.Quiesce(time.Minute); err != nil {
		t.Error(err)
	}
}

func TestStillPointThatEndedByItself(t *testing.T) {
	_, host := Start(t, guestagent.Config{MaxClosed: 20 * time.Millisecond})
	for expired := false; !expired; { // a crowded machine may not even see the still point
		if _, err := host.Quiesce(time.Minute); err == nil {
			for !host.isExpired() {
				time.Sleep(time.Millisecond) // between two looks
			}
			expired = errors.Is(host.Resume(), ErrExpired)
		}
	}
}

func TestNobodyAnswers(t *testing.T) {
	host := NewHost()
	defer host.Close()
	host.patience = time.Millisecond
	if _, err := host.Quiesce(time.Millisecond); !errors.Is(err, ErrNoAgent) {
		t.Error(err)
	}
	if err := host.Resume(); !errors.Is(err, ErrNoAgent) {
		t.Error(err)
	}
	if err := host.TakeOver(); !errors.Is(err, ErrNoAgent) {
		t.Error(err)
	}
}

func TestAgentComesBack(t *testing.T) {
	host := NewHost()
	defer host.Close()
	for range 3 {
		a, err := guestagent.Start(host.Configure(guestagent.Config{}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := host.Quiesce(time.Minute); err != nil {
			t.Error(err)
		}
		a.Close()
		for gone := false; !gone; time.Sleep(time.Millisecond) { // between two looks
			host.mu.Lock()
			gone = host.end == nil
			host.mu.Unlock()
		}
	}
}

func TestNewConnectionEndsTheFormer(t *testing.T) {
	host := NewHost()
	first, err := host.Open()
	if err != nil {
		t.Fatal(err)
	}
	second, err := host.Open()
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(first); len(text) != agent.HeaderSize || err != nil {
		t.Errorf("%x, %v", text, err)
	}
	if _, err := first.Write([]byte("x")); err != io.ErrClosedPipe {
		t.Error(err)
	}
	host.Close()
	if text, err := io.ReadAll(second); len(text) != agent.HeaderSize || err != nil {
		t.Errorf("%x, %v", text, err)
	}
	if _, err := host.Open(); err != io.ErrClosedPipe {
		t.Error(err)
	}
}

func TestCardsOfTheTest(t *testing.T) {
	a, _ := Start(t, guestagent.Config{}, NewMemory("eth0", 1, 2, 8))
	for _, c := range []struct {
		name string
		o    guestagent.PortOptions
		want string
	}{
		{"eth0", guestagent.PortOptions{TxQueues: 2}, ""},
		{"eth0", guestagent.PortOptions{TxQueues: 3}, "open interface eth0: card of the test has 1 receive and 2 transmit queues, and 1 and 3 are asked for"},
		{"eth1", guestagent.PortOptions{}, "open interface eth1: the test has no card of that name"},
	} {
		if _, err := a.OpenPort(c.name, c.o); err == nil && c.want != "" || err != nil && err.Error() != c.want {
			t.Errorf("%s with %+v: %v", c.name, c.o, err)
		}
	}
}

// failing is a test that fails.
type failing struct {
	testing.TB
	said string
}

func (f *failing) Helper()                        {}
func (f *failing) Fatalf(format string, a ...any) { f.said = fmt.Sprintf(format, a...) }

func TestAgentThatDoesNotStart(t *testing.T) {
	f := &failing{}
	if Start(f, guestagent.Config{BufferSize: 1 << 20}); !strings.Contains(f.said, "more than makes sense") {
		t.Errorf("said %q", f.said)
	}
}

func TestMemory(t *testing.T) {
	m := NewMemory("eth0", 2, 1, 2)
	a, _ := Start(t, guestagent.Config{BufferSize: 8}, m)
	port := open(t, a, "eth0")
	for i, want := range []bool{true, true, false} {
		if got := m.Inject(1, make([]byte, 8+i)); got != want {
			t.Errorf("frame %d: %v", i, got)
		}
	}
	packets := make([]*guestagent.Packet, 4)
	if n := port.RxBurst(1, packets); n != 1 {
		t.Fatalf("%d received", n)
	}
	m.Accept(0)
	if n := port.TxBurst(0, packets[:1]); n != 0 {
		t.Errorf("%d sent", n)
	}
	if sent := m.AwaitSent(1, time.Millisecond); len(sent) != 0 {
		t.Errorf("sent %q", sent)
	}
	port.Free(0, packets[:1])
	if s := port.Stats(); s.Received != 3 || s.Drops != (guestagent.Drops{Full: 1, Oversize: 1}) {
		t.Errorf("%+v", s)
	}
	if n, err := port.RxWait(0, packets, time.Millisecond); n != 0 || err != nil {
		t.Error(n, err)
	}
	port.Close()
	if err := m.Wait(0, -1); !errors.Is(err, guestagent.ErrClosed) {
		t.Error(err)
	}
}
