package gopacketsource

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/gopacket/gopacket"

	"github.com/stillpoint-ft/stillpoint/guestagent"
	"github.com/stillpoint-ft/stillpoint/guestagent/agenttest"
)

var (
	_ gopacket.PacketDataSource         = (*Source)(nil)
	_ gopacket.ZeroCopyPacketDataSource = (*Source)(nil)
)

// start runs an agent without a host, with one port.
func start(t *testing.T, d guestagent.Device) (*guestagent.Agent, *guestagent.Port) {
	t.Helper()
	agent, err := guestagent.Start(guestagent.Config{Channel: "none.stillpoint"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { agent.Close() })
	port, err := agent.OpenDevice(d)
	if err != nil {
		t.Fatal(err)
	}
	return agent, port
}

func TestReadAndForward(t *testing.T) {
	card := agenttest.NewMemory("eth0", 1, 1, 8)
	agent, port := start(t, card)
	source := New(port, 0, 0)
	card.Inject(0, []byte("first"))
	card.Inject(0, []byte("second"))

	first, ci, err := source.ReadPacketData()
	if err != nil || string(first) != "first" || ci.Length != 5 || ci.CaptureLength != 5 || ci.Timestamp.IsZero() {
		t.Fatalf("%q %+v %v", first, ci, err)
	}
	if held := agent.Gate().Count().Held; held != 1 {
		t.Errorf("%d packets held", held)
	}
	if err := source.WritePacketData([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	second, _, err := source.ZeroCopyReadPacketData()
	if err != nil || string(second) != "second" || string(first) != "first" {
		t.Fatalf("%q after %q, %v", second, first, err)
	}
	second[0] = 'S'
	if !source.Forward(port, 0) {
		t.Error("not forwarded")
	}
	if sent := card.Sent(); len(sent) != 2 || string(sent[0]) != "answer" || string(sent[1]) != "Second" {
		t.Errorf("sent %q", sent)
	}
	if count := agent.Gate().Count(); count != (guestagent.Count{}) {
		t.Errorf("in the end %+v", count)
	}
}

func TestClosedPortIsTheEnd(t *testing.T) {
	_, port := start(t, agenttest.NewMemory("eth0", 1, 1, 8))
	source := New(port, 0, 0)
	port.Close()
	if _, _, err := source.ReadPacketData(); err != io.EOF {
		t.Error(err)
	}
}

// broken is a device that fails.
type broken struct{ guestagent.Device }

var errBroken = errors.New("broken")

func (broken) Receive(int, []*guestagent.Packet) int { return 0 }
func (broken) Wait(int, time.Duration) error         { return errBroken }

func TestBrokenDeviceIsNotTheEnd(t *testing.T) {
	_, port := start(t, broken{agenttest.NewMemory("eth0", 1, 1, 8)})
	if _, _, err := New(port, 0, 0).ReadPacketData(); !errors.Is(err, errBroken) || err.Error() != "read from eth0: broken" {
		t.Error(err)
	}
}
